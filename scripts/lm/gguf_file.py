"""Writes and reads model files: GGUF with the keys and tensors of models/FORMAT.md.

The tables KEYS and TENSORS are the writer's side of FORMAT.md; a test compares the two. Ternary codes are packed here,
from the codes themselves, so that no weight is ever quantised a second time.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np
import torch

from lm.arch.hgrnbit import BOS, EOS, Config, HGRNBit
from lm.ternary import embedding_codes, weight_codes

ARCHITECTURE = "hgrnbit"
ALIGNMENT = 32
BLOCK = 256  # weights per TQ1_0 / TQ2_0 block

TERNARY_TYPES = {
    "TQ1_0": gguf.GGMLQuantizationType.TQ1_0,
    "TQ2_0": gguf.GGMLQuantizationType.TQ2_0,
}
FILE_TYPES = {
    "TQ1_0": gguf.LlamaFileType.MOSTLY_TQ1_0,
    "TQ2_0": gguf.LlamaFileType.MOSTLY_TQ2_0,
}

# key -> type, in the order of FORMAT.md
KEYS = {
    "general.architecture": "string",
    "general.alignment": "u32",
    "general.name": "string",
    "general.description": "string",
    "general.license": "string",
    "general.training_text": "string",
    "general.training_bytes": "u64",
    "general.file_type": "u32",
    "general.quantization_version": "u32",
    "hgrnbit.block_count": "u32",
    "hgrnbit.embedding_length": "u32",
    "hgrnbit.recurrent_length": "u32",
    "hgrnbit.feed_forward_length": "u32",
    "hgrnbit.vocab_size": "u32",
    "hgrnbit.norm_rms_epsilon": "f32",
    "hgrnbit.conv_kernel": "u32",
    "hgrnbit.gate_norm": "string",
    "hgrnbit.sigmoid": "string",
    "tokenizer.ggml.model": "string",
    "tokenizer.ggml.bos_token_id": "u32",
    "tokenizer.ggml.eos_token_id": "u32",
}

# (GGUF tensor, parameter of the PyTorch model, kind); N is the block number. A "ternary" row stands for two tensors,
# NAME.in_norm.weight (the norm inside the BitLinear) and NAME.weight.
TENSORS = (
    ("token_embd", "embeddings.weight", "embedding"),
    ("blk.N.attn_norm.weight", "layers.N.attn_norm.weight", "vector"),
    ("blk.N.conv.weight", "layers.N.attn.conv.weight", "conv"),
    ("blk.N.lower_bound", "1 - keep_table()[N]", "lower_bound"),
    ("blk.N.attn_i", "layers.N.attn.i_proj", "ternary"),
    ("blk.N.attn_f", "layers.N.attn.f_proj", "ternary"),
    ("blk.N.attn_g", "layers.N.attn.g_proj", "ternary"),
    ("blk.N.gate_norm.weight", "layers.N.attn.g_norm.weight", "vector"),
    ("blk.N.attn_o", "layers.N.attn.o_proj", "ternary"),
    ("blk.N.ffn_norm.weight", "layers.N.mlp_norm.weight", "vector"),
    ("blk.N.ffn_gate_up", "layers.N.mlp.gate_proj", "ternary"),
    ("blk.N.ffn_down", "layers.N.mlp.down_proj", "ternary"),
    ("output_norm.weight", "norm.weight", "vector"),
    ("output", "lm_head", "ternary"),
)


@dataclass(frozen=True)
class Card:
    """What a person wants to know about a model file; goes into its general.* keys."""

    name: str
    description: str = ""
    license: str = ""
    training_text: str = ""
    training_bytes: int = 0


def tensor_names() -> list[str]:
    """Every tensor name a file can have, with N for the block number: the first column of FORMAT.md."""
    names = []
    for name, _, kind in TENSORS:
        if kind == "ternary":
            names += [f"{name}.in_norm.weight", f"{name}.weight"]
        elif kind == "embedding":
            names += [f"{name}.weight", f"{name}.scale"]
        else:
            names.append(name)
    return names


# ---- ternary blocks


def pack_tq1_0(codes: np.ndarray) -> np.ndarray:
    """[..., 256] codes in {-1, 0, 1} -> [..., 52] bytes: five base-3 digits a byte, see FORMAT.md."""
    digits = (codes + 1).astype(np.uint16)
    lead = digits.shape[:-1]
    power = np.array([81, 27, 9, 3, 1], dtype=np.uint16)[:, None]
    first = (digits[..., :160].reshape(*lead, 5, 32) * power).sum(axis=-2)
    second = (digits[..., 160:240].reshape(*lead, 5, 16) * power).sum(axis=-2)
    last = (digits[..., 240:].reshape(*lead, 4, 4) * power[:4]).sum(axis=-2)
    number = np.concatenate([first, second, last], axis=-1)  # 0..242
    return ((number * 256 + 242) // 243).astype(np.uint8)


def pack_tq2_0(codes: np.ndarray) -> np.ndarray:
    """[..., 256] codes in {-1, 0, 1} -> [..., 64] bytes: two bits a code, see FORMAT.md."""
    bits = (codes + 1).astype(np.uint8).reshape(*codes.shape[:-1], 2, 4, 32)
    shift = np.array([0, 2, 4, 6], dtype=np.uint8)[:, None]
    return np.bitwise_or.reduce(bits << shift, axis=-2).reshape(*codes.shape[:-1], 64)


def ternary_blocks(codes: np.ndarray, scale: float, ternary_type: str) -> np.ndarray:
    """[rows, cols] codes and their one scale -> [rows, bytes of a row]; columns are padded with code 0."""
    rows, cols = codes.shape
    if not np.isin(codes, (-1, 0, 1)).all():
        raise ValueError("ternary codes must be -1, 0 or 1")
    with np.errstate(over="ignore"):
        half = np.float16(scale)
    if float(half) != float(scale) or not np.isfinite(half) or half < 0:
        raise ValueError(f"the scale of a ternary matrix must be a non-negative fp16 number, found {scale!r}")
    padded = np.pad(codes.astype(np.int8), ((0, 0), (0, -cols % BLOCK)))
    blocks = padded.reshape(rows, -1, BLOCK)
    body = {"TQ1_0": pack_tq1_0, "TQ2_0": pack_tq2_0}[ternary_type](blocks)
    tail = np.broadcast_to(np.array([half]).view(np.uint8), (*body.shape[:-1], 2))
    return np.concatenate([body, tail], axis=-1).reshape(rows, -1)


# ---- writing


def write(path: Path, model: HGRNBit, card: Card, ternary_type: str) -> None:
    """Writes the model with its card; TQ1_0 is the smallest on disk, TQ2_0 the simplest to decode."""
    if ternary_type not in TERNARY_TYPES:
        raise ValueError(f"the ternary type must be one of {', '.join(TERNARY_TYPES)}, found {ternary_type!r}")
    # The writer opens the file only at the end: a failed export leaves no half-written model behind.
    writer = gguf.GGUFWriter(path, ARCHITECTURE)
    _add_keys(writer, model.config, card, ternary_type)
    for name, array, raw_type in _tensors(model, ternary_type):
        writer.add_tensor(name, array, raw_dtype=raw_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add_keys(writer: gguf.GGUFWriter, config: Config, card: Card, ternary_type: str) -> None:
    values = {
        "general.alignment": ALIGNMENT,
        "general.name": card.name,
        "general.description": card.description,
        "general.license": card.license,
        "general.training_text": card.training_text,
        "general.training_bytes": card.training_bytes,
        "general.file_type": int(FILE_TYPES[ternary_type]),
        "general.quantization_version": gguf.GGML_QUANT_VERSION,
        "hgrnbit.block_count": config.layers,
        "hgrnbit.embedding_length": config.hidden,
        "hgrnbit.recurrent_length": config.recurrent,
        "hgrnbit.feed_forward_length": config.intermediate,
        "hgrnbit.vocab_size": config.vocab_size,
        "hgrnbit.norm_rms_epsilon": config.eps,
        "hgrnbit.conv_kernel": config.conv_kernel,
        "hgrnbit.gate_norm": config.gate_norm,
        "hgrnbit.sigmoid": config.sigmoid,
        "tokenizer.ggml.model": "byte",
        "tokenizer.ggml.bos_token_id": BOS,
        "tokenizer.ggml.eos_token_id": EOS,
    }
    add = {
        "string": writer.add_string,
        "u32": writer.add_uint32,
        "u64": writer.add_uint64,
        "f32": writer.add_float32,
    }
    for key, value in values.items():  # general.architecture is the writer's own first key
        if value != "":
            add[KEYS[key]](key, value)


def _tensors(model: HGRNBit, ternary_type: str):
    """Yields (name, array, raw type or None). Small tensors come before the matrix that needs them."""
    config, parameters = model.config, model.state_dict()
    lower_bounds = 1 - model.keep_table().detach()  # [layers, E]
    for template, parameter_template, kind in TENSORS:
        if (kind == "conv" and config.conv_kernel == 0) or (kind == "lower_bound" and not lower_bounds.any()):
            continue
        blocks = range(config.layers) if ".N." in template else (0,)
        for n in blocks:
            name = template.replace(".N.", f".{n}.")
            parameter = parameter_template.replace(".N.", f".{n}.")
            if kind == "ternary":
                codes, scale = weight_codes(parameters[f"{parameter}.weight"])
                yield f"{name}.in_norm.weight", _f32(parameters[f"{parameter}.norm.weight"]), None
                packed = ternary_blocks(codes.cpu().numpy(), scale, ternary_type)
                yield f"{name}.weight", packed, TERNARY_TYPES[ternary_type]
            elif kind == "embedding":
                codes, scale = embedding_codes(parameters[parameter])
                yield f"{name}.scale", _f32(scale), None
                yield f"{name}.weight", codes.cpu().numpy(), None
            elif kind == "conv":
                yield name, _f32(parameters[parameter]).reshape(config.hidden, config.conv_kernel), None
            elif kind == "lower_bound":
                yield name, _f32(lower_bounds[n]), None
            else:
                yield name, _f32(parameters[parameter]), None


def _f32(tensor: torch.Tensor) -> np.ndarray:
    return np.ascontiguousarray(tensor.detach().cpu().float().numpy())


# ---- reading


def read(path: Path) -> tuple[dict, dict[str, np.ndarray]]:
    """-> (key values, tensors as float32 arrays with the columns last, padding included)."""
    reader = gguf.GGUFReader(path)
    keys = {key: field.contents() for key, field in reader.fields.items() if not key.startswith("GGUF.")}
    tensors = {}
    for tensor in reader.tensors:
        ternary = tensor.tensor_type in TERNARY_TYPES.values()
        values = gguf.quants.dequantize(tensor.data, tensor.tensor_type) if ternary else tensor.data
        tensors[tensor.name] = np.array(values, dtype=np.float32)
    return keys, tensors


def load(path: Path) -> HGRNBit:
    """A PyTorch model that computes with exactly the codes, scales and constants of a file that write() made."""
    keys, tensors = read(path)
    if keys.get("general.architecture") != ARCHITECTURE:
        raise ValueError(f"{path}: expected architecture {ARCHITECTURE}, found {keys.get('general.architecture')}")
    model = HGRNBit(_config(keys))
    config = model.config
    parameters, keep = {}, torch.ones(config.layers, config.recurrent)
    for template, parameter_template, kind in TENSORS:
        for n in range(config.layers) if ".N." in template else (0,):
            name, parameter = (text.replace(".N.", f".{n}.") for text in (template, parameter_template))
            if kind == "ternary":
                norm = torch.from_numpy(tensors[f"{name}.in_norm.weight"])
                parameters[f"{parameter}.norm.weight"] = norm
                parameters[f"{parameter}.weight"] = _masters(
                    torch.from_numpy(tensors[f"{name}.weight"])[:, : len(norm)]
                )
            elif kind == "embedding":
                rows = tensors[f"{name}.weight"] * tensors[f"{name}.scale"][:, None]
                parameters[parameter] = torch.from_numpy(rows)
            elif kind == "conv" and config.conv_kernel:
                parameters[parameter] = torch.from_numpy(tensors[name])[:, None]
            elif kind == "lower_bound" and name in tensors:
                keep[n] = 1 - torch.from_numpy(tensors[name])
            elif kind == "vector":
                parameters[parameter] = torch.from_numpy(tensors[name])
    model.load_state_dict(parameters)
    model.keep_table = lambda: keep  # the file has the bounds, not the setting they were made from
    return model.eval()


def _config(keys: dict) -> Config:
    return Config(
        vocab_size=keys["hgrnbit.vocab_size"],
        hidden=keys["hgrnbit.embedding_length"],
        recurrent=keys["hgrnbit.recurrent_length"],
        intermediate=keys["hgrnbit.feed_forward_length"],
        layers=keys["hgrnbit.block_count"],
        conv_kernel=keys["hgrnbit.conv_kernel"],
        gate_norm=keys["hgrnbit.gate_norm"],
        sigmoid=keys["hgrnbit.sigmoid"],
        eps=float(np.format_float_positional(np.float32(keys["hgrnbit.norm_rms_epsilon"]))),  # 1e-6, not 9.99...e-7
    )


def _masters(ternary: torch.Tensor) -> torch.Tensor:
    """scale * codes -> master weights that weight_codes() turns into the same codes and the same scale.

    The scale is the mean of |w|, so the weights that are not 0 have to be larger, by the share of those that are.
    """
    nonzero = int(ternary.count_nonzero())
    return ternary * (ternary.numel() / max(nonzero, 1))
