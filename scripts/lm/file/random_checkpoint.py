"""Random checkpoints in the published formats and shapes, written in pieces: what conversion, and a page with the result, are measured with.

The numbers know nothing and have the spread of trained ones: every product gives outputs about as large as its inputs.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import numpy as np

from lm.file import published, random_model, weights

CHUNK = 1 << 22  # numbers that are made at once
SHARD = 5_000_000_000  # bytes of a file of weights, as the hub's libraries cut them
PIECES = 32000
PRESETS = {
    **{f"MMfreeLM-{size}": random_model.PRESETS[size] for size in ("370M", "1.3B", "2.7B")},
    **{name: config for name, config in random_model.PRESETS.items() if name.startswith("BitMamba")},
}


def write(folder: Path, preset: str, seed: int = 0, **sizes: int) -> Path:
    """Writes what convert.py takes -> the folder of MatMul-free LM, or BitMamba-2's .bin in it, with a tokenizer.json beside.

    sizes: other ones than the preset's, by the names of its Config.
    """
    config = replace(PRESETS[preset], **sizes)
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.Generator(np.random.SFC64(seed))
    if config.architecture == "bitmamba2":
        _write_tokenizer(folder, config.vocab_size, "gpt2")
        return _write_bin(folder / f"{preset}.bin", config, random)
    settings = config_json(config, sizes.get("vocab_size", PIECES))
    (folder / "config.json").write_text(json.dumps(settings), encoding="utf-8")
    _write_tokenizer(folder, settings["vocab_size"], "llama")
    _write_shards(folder, published.of_config_json(settings), random)
    return folder


def _write_tokenizer(folder: Path, pieces: int, style: str) -> None:
    (folder / "tokenizer.json").write_text(random_model.tokenizer_json(pieces, style), encoding="utf-8")


def shapes_of(kind: published.Published) -> dict[str, tuple[int, ...]]:
    return {kind.their_name(name): kind.shapes[name] for name in kind.parameters()}


def values(random: np.random.Generator, name: str, shape: tuple[int, ...], layers: int) -> Iterator[np.ndarray]:
    """float32, all of the tensor's numbers in order, in pieces."""
    count = math.prod(shape)
    if name.endswith(("norm.weight", ".D")):
        yield np.ones(count, np.float32)
    elif name.endswith("conv1d.bias"):
        yield np.zeros(count, np.float32)
    elif name.endswith(("dt_bias", "A_log")):
        yield random_model.mamba_rates(name.rpartition(".")[2], count)
    else:
        spread = 1.0  # of embeddings and bounds
        if name.endswith("conv1d.weight"):
            spread = shape[-1] ** -0.5
        elif is_ternary(name):
            spread = unit_scale(name, shape, layers) / math.sqrt(2 / math.pi)  # whose mean magnitude is the scale
        for begin in range(0, count, CHUNK):
            yield random.standard_normal(min(CHUNK, count - begin), np.float32) * np.float32(spread)


def is_ternary(name: str) -> bool:
    return name.endswith(("_proj.weight", "lm_head.weight"))


def unit_scale(name: str, shape: tuple[int, ...], layers: int) -> float:
    branches = {"o_proj": 2 * layers, "down_proj": 2 * layers, "out_proj": layers}
    return random_model.unit_scale(shape[1], branches.get(name.split(".")[-2], 1))


# ---- MatMul-free LM


def config_json(config: object, pieces: int) -> dict:
    return {
        "architectures": ["HGRNBitForCausalLM"],
        "model_type": "hgrn_bit",
        "vocab_size": pieces,
        "hidden_size": config.hidden,
        "num_hidden_layers": config.layers,
        "num_heads": 1,
        "expand_ratio": 1,
        "use_short_conv": False,
        "use_lower_bound": True,
        "hidden_ratio": 4,
        "intermediate_size": None,
        "hidden_act": "swish",
        "rms_norm_eps": 1e-6,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
    }


def _write_shards(folder: Path, kind: published.Published, random: np.random.Generator) -> None:
    """model.safetensors in bf16, or with an index what does not fit into one file."""
    shapes = shapes_of(kind)
    shards, size = [{}], 0
    for name, shape in shapes.items():
        size += 2 * math.prod(shape)
        if size > SHARD and shards[-1]:
            shards.append({})
            size = 2 * math.prod(shape)
        shards[-1][name] = shape
    names = [f"model-{n + 1:05}-of-{len(shards):05}.safetensors" for n in range(len(shards))]
    if len(shards) == 1:
        names = ["model.safetensors"]
    else:
        places = {tensor: name for name, shard in zip(names, shards) for tensor in shard}
        index = json.dumps({"metadata": {}, "weight_map": places})
        (folder / "model.safetensors.index.json").write_text(index, encoding="utf-8")
    for name, shard in zip(names, shards):
        with (folder / name).open("wb") as file:
            _write_safetensors(file, shard, kind.config.layers, random)


def _write_safetensors(file: BinaryIO, shapes: dict, layers: int, random: np.random.Generator) -> None:
    head, end = {}, 0
    for name, shape in shapes.items():
        begin, end = end, end + 2 * math.prod(shape)
        head[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [begin, end]}
    text = json.dumps(head).encode()
    text += b" " * (-len(text) % 8)
    file.write(struct.pack("<Q", len(text)) + text)
    for name, shape in shapes.items():
        for part in values(random, name, shape, layers):
            file.write(((part.view(np.uint32) + 0x8000) >> 16).astype("<u2").tobytes())  # bf16


# ---- BitMamba-2


def _write_bin(path: Path, config: object, random: np.random.Generator) -> Path:
    kind = published.of_bitmamba_config(config)
    shapes = shapes_of(kind)
    with path.open("wb") as file:
        head = (weights.BITMAMBA_MAGIC, config.vocab_size, config.hidden, config.layers, config.heads)
        file.write(struct.pack("<5i", *head))
        for name in weights.bitmamba_order(config.layers):
            shape = shapes[name]
            if is_ternary(name):
                divisor = 1 / unit_scale(name, shape, config.layers)
                file.write(struct.pack("<3if", 2, *shape, divisor))
                file.write(random_model.random_codes(random, math.prod(shape) // 4).tobytes())
            else:
                file.write(struct.pack(f"<{2 + len(shape)}i", 0, len(shape), *shape))
                for part in values(random, name, shape, config.layers):
                    file.write(part.tobytes())
    return path
