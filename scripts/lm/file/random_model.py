"""Model files with random weights in any shape, written tensor by tensor: what speed and memory are measured with.

The weights know nothing, but their statistics are those of a trained network: every product gives outputs about as large
as its inputs, so no number format saturates and no channel dies. The same seed gives the same bytes.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache, partial
from itertools import chain, islice, product
from pathlib import Path

import gguf
import numpy as np
from gguf import GGMLQuantizationType

from lm import arch
from lm.arch import bitmamba2, bitnet
from lm.arch.hgrnbit import Config
from lm.file import checksum, gguf_file, gguf_layout, tokenizer_keys
from lm.file.tokenizer_keys import BYTES, SPACE, byte_characters

# Flat presets of public byte-level models (3.5M, 20M, 85M), of the MatMul-free language models (370M, 1.3B, 2.7B) with
# bytes as tokens, and of BitMamba-2 (50,257 tokens) and BitNet (128,256).
PRESETS = {
    "3.5M": Config(hidden=256, recurrent=256, intermediate=768, layers=4),
    "20M": Config(hidden=512, recurrent=512, intermediate=1536, layers=6),
    "85M": Config(hidden=768, recurrent=768, intermediate=2048, layers=12),
    "370M": Config(hidden=1024, recurrent=1024, intermediate=2816, layers=24, conv_kernel=0),
    "1.3B": Config(hidden=2048, recurrent=2048, intermediate=5632, layers=24, conv_kernel=0),
    "2.7B": Config(hidden=2560, recurrent=2560, intermediate=6912, layers=32, conv_kernel=0),
    "BitMamba-2-255M": bitmamba2.Config(50257, hidden=1024, inner=2048, heads=16, layers=24),
    "BitMamba-2-1B": bitmamba2.Config(50257, hidden=2048, inner=4096, heads=32, layers=32),
    "BitNet-2B-4T": bitnet.Config(
        128256, hidden=2560, intermediate=6912, layers=30, heads=20, kv_heads=5, head_width=128, context=4096
    ),
}

HEAD = 64  # width of an attention head of the llama models
NUMBERS = {  # the types that are not packed
    GGMLQuantizationType.F32: np.dtype(np.float32),
    GGMLQuantizationType.F16: np.dtype(np.float16),
    GGMLQuantizationType.I8: np.dtype(np.int8),
}
LLAMA_TYPES = ("TQ1_0", "TQ2_0", "Q4_0", "Q8_0")


@dataclass(frozen=True)
class Tensor:
    """What a file stores under one name; `array` makes the rows, which exist only while they are written."""

    name: str
    shape: tuple[int, ...]  # rows first, as NumPy has it; of packed types the bytes of a row
    kind: GGMLQuantizationType
    array: Callable[[], np.ndarray]


# ---- random blocks


@cache
def _any_byte(ternary_type: str, digits: int) -> np.ndarray:
    """[256] a packed byte for every random byte, each combination of codes nearly as often as any other."""
    count = 3**digits
    number = np.arange(256) * count // 256
    if ternary_type == "TQ1_0":
        number = number * 3 ** (5 - digits)
        return ((number * 256 + 242) // 243).astype(np.uint8)
    return sum(((number // 3**place % 3) << (2 * place)) for place in range(digits)).astype(np.uint8)


def _bytes(random: np.random.Generator, *shape: int) -> np.ndarray:
    count = math.prod(shape)
    return np.frombuffer(random.bytes(count), np.uint8).reshape(shape)


def random_codes(random: np.random.Generator, count: int) -> np.ndarray:
    """[count] bytes of four codes each, two bits a code."""
    return _any_byte("TQ2_0", 4)[_bytes(random, count)]


def ternary_rows(random: np.random.Generator, rows: int, cols: int, scale: float, ternary_type: str) -> np.ndarray:
    """[rows, bytes of a row] random codes, each of the three a third, and their one scale; padding has code 0."""
    whole, rest = divmod(cols, gguf_file.BLOCK)
    parts = []
    if whole:
        if ternary_type == "TQ1_0":
            body = _any_byte("TQ1_0", 5)[_bytes(random, rows, whole, 52)]
            body[..., 48:] = _any_byte("TQ1_0", 4)[_bytes(random, rows, whole, 4)]
        else:
            body = _any_byte("TQ2_0", 4)[_bytes(random, rows, whole, 64)]
        tail = np.broadcast_to(np.array([scale], np.float16).view(np.uint8), (rows, whole, 2))
        parts.append(np.concatenate([body, tail], axis=-1).reshape(rows, -1))
    if rest:
        codes = (_bytes(random, rows, rest).astype(np.int16) * 3 // 256 - 1).astype(np.int8)
        parts.append(gguf_file.ternary_blocks(codes, scale, ternary_type))
    return np.concatenate(parts, axis=1)


def block_rows(random: np.random.Generator, rows: int, cols: int, scale: float, kind: str) -> np.ndarray:
    """The same for all types of llama.cpp that are measured beside ours: for Q4_0 and Q8_0 any codes will do."""
    if kind in gguf_file.TERNARY_TYPES:
        return ternary_rows(random, rows, cols, scale, kind)
    width, spread = {"Q4_0": (16, 5.65), "Q8_0": (32, 90.5)}[kind]  # how much wider spread than ternary codes
    blocks = np.empty((rows, cols // 32, 2 + width), np.uint8)
    blocks[..., :2] = np.array([scale / spread], np.float16).view(np.uint8)
    blocks[..., 2:] = _bytes(random, rows, cols // 32, width)
    return blocks.reshape(rows, -1)


def mamba_rates(name: str, heads: int) -> np.ndarray:
    """[heads] steps of 0.001 to 0.1 (dt_bias, before softplus), or rates of 1 to 16 (A_log, before exp): where training begins."""
    values = np.log(np.expm1(np.geomspace(0.001, 0.1, heads)) if name == "dt_bias" else np.linspace(1, 16, heads))
    return values.astype(np.float32)


def unit_scale(cols: int, branches: int = 1) -> float:
    """The fp16 scale at which codes of variance 2/3 turn inputs of mean square 1 into outputs of mean square 1/branches."""
    return float(np.float16(1 / math.sqrt(cols * 2 / 3 * branches)))


# ---- our architectures


LETTERS = " etaoinshrdlucmfwypvbgkqjxzTIAESNHR.,'-\"!?0123456789"


def tokenizer_json(pieces: int, style: str) -> str:
    """A made-up tokenizer.json: all bytes, and all strings of two and then three letters as far as `pieces` go.

    style: gpt2 (pieces of bytes, one control token, the last) or llama (of characters, with <unk>, <s> and </s> and the
    letters). What makes a piece of two others is a merge, so there are twice as many as pieces, as in published ones.
    """
    llama = style == "llama"
    start = ["<unk>", "<s>", "</s>", *BYTES] if llama else byte_characters()
    end = [] if llama else ["<|endoftext|>"]
    name = {" ": SPACE} if llama else {" ": byte_characters()[ord(" ")]}
    letters = [name.get(letter, letter) for letter in LETTERS]
    start += letters if llama else []
    made = pieces - len(start) - len(end)
    fewest, most = pieces - made + 1, pieces - made + len(letters) ** 2 + len(letters) ** 3
    if not fewest <= pieces <= most:
        raise ValueError(f"a vocabulary has 256 tokens, or {fewest} to {most}; found {pieces}")
    count = next(n for n in range(2, len(letters) + 1) if n**2 + n**3 >= made)
    strings = chain.from_iterable(product(letters[:count], repeat=length) for length in (2, 3))
    words = ["".join(string) for string in islice(strings, made)]
    known = {*letters, *words}
    cuts = ((word[:at], word[at:]) for word in words for at in range(1, len(word)))
    control = start[:3] if llama else end
    tokens = {piece: number for number, piece in enumerate([*start, *words, *end])}
    whole = {
        "version": "1.0",
        "added_tokens": [
            {"id": tokens[piece], "content": piece, "special": True, "normalized": False}
            | dict.fromkeys(("single_word", "lstrip", "rstrip"), False)
            for piece in control
        ],
        "normalizer": None,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        "model": {
            "type": "BPE",
            "byte_fallback": llama,
            "vocab": tokens,
            "merges": [f"{left} {right}" for left, right in cuts if left in known and right in known],
        },
    }
    if llama:
        parts = [
            {"type": "Prepend", "prepend": SPACE},
            {"type": "Replace", "pattern": {"String": " "}, "content": SPACE},
        ]
        whole |= {"normalizer": {"type": "Sequence", "normalizers": parts}, "pre_tokenizer": None, "decoder": None}
        whole["model"]["unk_token"] = start[0]
    return json.dumps(whole, ensure_ascii=False)


def tokenizer(config: object) -> dict | None:
    """The keys of a made-up tokenizer, and of BitNet the turns of a chat; None where tokens are bytes."""
    if config.vocab_size == 256:
        return None
    keys = tokenizer_keys.keys_of(tokenizer_json(config.vocab_size, "gpt2"), {}, {})
    turns = tokenizer_keys.BITNET_TURNS if config.architecture == "bitnet" else {}
    return keys | {f"tokenizer.ternlm.chat.{name}": turn for name, turn in turns.items()}


def tensors_of(
    config: Config | bitmamba2.Config | bitnet.Config, ternary_type: str, random: np.random.Generator
) -> Iterator[Tensor]:
    """The tensors that gguf_file.write() would write for this configuration, in its order."""
    raw = gguf_file.TERNARY_TYPES[ternary_type]
    row_bytes = gguf.GGML_QUANT_SIZES[raw][1]
    if config.architecture == "bitnet":
        queries, keys, wide = config.heads * config.head_width, config.kv_heads * config.head_width, config.intermediate
        inputs = {"attn_o": queries, "ffn_down": wide}
        outputs = {"attn_q": queries, "attn_k": keys, "attn_v": keys, "ffn_gate": wide, "ffn_up": wide}
        vectors, convolved, branches = {"attn_sub_norm": queries, "ffn_sub_norm": wide}, 0, 2 * config.layers
    elif isinstance(config, Config):
        inner, wide = config.recurrent, config.intermediate
        inputs = {"attn_o": inner, "ffn_down": wide}
        outputs = {**dict.fromkeys(("attn_i", "attn_f", "attn_g"), inner), "ffn_gate_up": 2 * wide}
        vectors, convolved, branches = {"gate_norm": inner}, config.hidden, 2 * config.layers
    else:
        inner, heads = config.inner, config.heads
        inputs, outputs = {"ssm_out": inner}, {"ssm_in": 2 * inner + 3 * heads}
        vectors, convolved, branches = {"ssm_skip": inner}, inner, config.layers
    outputs["output"] = config.vocab_size
    # The names come from a model of the same depth with no width to speak of.
    widths = {"hidden", "recurrent", "intermediate", "inner", "heads", "kv_heads", "vocab_size"} & vars(config).keys()
    heads = {"head_width": 4, "frequencies": ()} if config.architecture == "bitnet" else {}
    small = arch.build(replace(config, **dict.fromkeys(widths, 1), **heads))
    for name, _, kind in gguf_layout.rows(small, bounded=False):
        part = name.split(".")[2 if name.startswith("blk.") else 0]
        if kind in ("ternary", "matrix"):
            cols, rows = inputs.get(part, config.hidden), outputs.get(part, config.hidden)
            scale = unit_scale(cols, branches if part in inputs else 1)
            if kind == "ternary":
                yield _ones(f"{name}.in_norm.weight", cols)
            shape = (rows, -(-cols // gguf_file.BLOCK) * row_bytes)
            array = partial(ternary_rows, random, rows, cols, scale, ternary_type)
            yield Tensor(f"{name.removesuffix('.weight')}.weight", shape, raw, array)
        elif kind in ("embedding", "dense"):
            shape = (config.vocab_size, config.hidden)
            scales = partial(np.full, shape[:1], 1 / 64, np.float32)
            yield Tensor(f"{name}.scale", shape[:1], GGMLQuantizationType.F32, scales)
            codes = partial(_embedding_codes, random, shape)
            yield Tensor(f"{name}.weight", shape, GGMLQuantizationType.I8, codes)
        elif kind == "conv":
            shape = (convolved, config.conv_kernel)
            taps = partial(_normal, random, shape, config.conv_kernel**-0.5)
            yield Tensor(name, shape, GGMLQuantizationType.F32, taps)
        elif part == "conv":
            yield _vector(name, np.zeros(convolved))
        elif part == "ssm_dt":
            yield _vector(name, mamba_rates("dt_bias", config.heads))
        elif part == "ssm_rate":
            yield _vector(name, np.exp(mamba_rates("A_log", config.heads)))
        else:
            yield _ones(name, vectors.get(part, config.hidden))


def _vector(name: str, values: np.ndarray) -> Tensor:
    return Tensor(name, values.shape, GGMLQuantizationType.F32, lambda: values.astype(np.float32))


def _ones(name: str, size: int) -> Tensor:
    return Tensor(name, (size,), GGMLQuantizationType.F32, partial(np.ones, size, np.float32))


def _normal(random: np.random.Generator, shape: tuple[int, ...], deviation: float) -> np.ndarray:
    return (random.standard_normal(shape) * deviation).astype(np.float32)


def _embedding_codes(random: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    codes = _bytes(random, *shape).view(np.int8)
    return np.maximum(codes, -127)


# ---- the architecture of the programs that we are compared with


def llama_tensors(config: Config, kind: str, random: np.random.Generator) -> Iterator[Tensor]:
    """A llama model with exactly the products of the hgrnbit model of the same widths and, but for bytes, the same vocabulary."""
    hidden, wide = config.hidden, config.intermediate
    raw = GGMLQuantizationType[kind]
    block, block_bytes = gguf.GGML_QUANT_SIZES[raw]
    f16 = GGMLQuantizationType.F16

    def matrix(name: str, rows: int, cols: int, branches: int = 1) -> Tensor:
        array = partial(block_rows, random, rows, cols, unit_scale(cols, branches), kind)
        return Tensor(f"{name}.weight", (rows, cols // block * block_bytes), raw, array)

    shape = (len(llama_vocabulary(config.vocab_size)[0]), hidden)
    yield Tensor("token_embd.weight", shape, f16, lambda: _normal(random, shape, 1).astype(np.float16))
    for n in range(config.layers):
        yield _ones(f"blk.{n}.attn_norm.weight", hidden)
        for name in ("attn_q", "attn_k", "attn_v"):
            yield matrix(f"blk.{n}.{name}", hidden, hidden)
        yield matrix(f"blk.{n}.attn_output", hidden, hidden, 2 * config.layers)
        yield _ones(f"blk.{n}.ffn_norm.weight", hidden)
        yield matrix(f"blk.{n}.ffn_gate", wide, hidden)
        yield matrix(f"blk.{n}.ffn_up", wide, hidden)
        yield matrix(f"blk.{n}.ffn_down", hidden, wide, 2 * config.layers)
    yield _ones("output_norm.weight", hidden)
    yield matrix("output", shape[0], hidden)


def llama_vocabulary(pieces: int) -> tuple[list[bytes], list[int]]:
    """Every byte as a token after the three that llama.cpp wants, then words until there are so many -> (texts, types)."""
    special = [b"<unk>", b"<s>", b"</s>"]
    kinds = [gguf.TokenType.UNKNOWN, gguf.TokenType.CONTROL, gguf.TokenType.CONTROL]
    single = [f"<0x{byte:02X}>".encode() for byte in range(256)]
    words = [f"word{number}".encode() for number in range(len(special + single), pieces)]
    kinds += [gguf.TokenType.BYTE] * len(single) + [gguf.TokenType.NORMAL] * len(words)
    return special + single + words, [int(kind) for kind in kinds]


def llama_keys(writer: gguf.GGUFWriter, config: Config, kind: str) -> None:
    writer.add_file_type(getattr(gguf.LlamaFileType, f"MOSTLY_{kind}"))
    writer.add_context_length(4096)
    writer.add_embedding_length(config.hidden)
    writer.add_block_count(config.layers)
    writer.add_feed_forward_length(config.intermediate)
    writer.add_head_count(config.hidden // HEAD)
    writer.add_head_count_kv(config.hidden // HEAD)
    writer.add_rope_dimension_count(HEAD)
    writer.add_layer_norm_rms_eps(1e-5)
    texts, kinds = llama_vocabulary(config.vocab_size)
    writer.add_vocab_size(len(texts))
    writer.add_tokenizer_model("llama")
    writer.add_token_list(texts)
    writer.add_token_scores([0.0] * len(texts))
    writer.add_token_types(kinds)
    writer.add_unk_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_add_bos_token(False)


# ---- the file


def write(path: Path, config: object, kind: str, architecture: str = "", seed: int = 0, name: str = "") -> None:
    """Writes the file, in the architecture of its config, or llama; at any time one tensor is in memory. ValueError: a type or width that does not fit."""
    with checksum.whole_file(path) as unfinished:
        architecture = architecture or config.architecture
        _write(gguf.GGUFWriter(unfinished, architecture), config, kind, architecture, seed, name or path.stem)


def _write(writer: gguf.GGUFWriter, config: object, kind: str, architecture: str, seed: int, name: str) -> None:
    random = np.random.Generator(np.random.SFC64(seed))
    if architecture == "llama":
        if not isinstance(config, Config):
            raise ValueError("a llama model has the products of an hgrnbit model: expected a preset of one")
        if kind not in LLAMA_TYPES:
            raise ValueError(f"the type of a llama model must be one of {', '.join(LLAMA_TYPES)}, found {kind}")
        multiple = math.lcm(HEAD, gguf.GGML_QUANT_SIZES[GGMLQuantizationType[kind]][0])
        for what in ("hidden", "intermediate"):
            if getattr(config, what) % multiple:
                raise ValueError(
                    f"a llama model in {kind} needs --{what} in multiples of {multiple}, found {getattr(config, what)}"
                )
        writer.add_name(name)
        llama_keys(writer, config, kind)
        tensors = list(llama_tensors(config, kind, random))
    else:
        if kind not in gguf_file.TERNARY_TYPES:
            raise ValueError(f"the type must be one of {', '.join(gguf_file.TERNARY_TYPES)}, found {kind}")
        gguf_file.add_keys(writer, config, gguf_file.Card(name, "Random weights."), kind, tokenizer(config))
        tensors = list(tensors_of(config, kind, random))
    for t in tensors:
        item = NUMBERS.get(t.kind, np.dtype(np.uint8))
        writer.add_tensor_info(t.name, t.shape, item, math.prod(t.shape) * item.itemsize, t.kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for t in tensors:
        writer.write_tensor_data(np.ascontiguousarray(t.array()))
    writer.close()
