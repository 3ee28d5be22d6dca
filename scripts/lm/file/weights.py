"""The tensors of a published checkpoint, one at a time: safetensors, what torch.save wrote (in shards, too), BitMamba's .bin.

A checkpoint is a dictionary from names to Weights, each with a shape and a `load`; nothing is in memory before that.
"""

from __future__ import annotations

import hashlib
import json
import math
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from lm.file import pickled
from lm.text import files

WRAPPERS = ("module.", "_orig_mod.")  # of DistributedDataParallel and torch.compile
INSIDE = ("model_state_dict", "state_dict", "model")  # where training scripts keep the weights of a checkpoint
HALF = "it is incomplete (a download that stopped half-way?): get it once more"


@dataclass(frozen=True)
class Weight:
    """load() -> a floating-point tensor of this shape; or, when `packed`, (codes int8 in {-1, 0, 1}, scale)."""

    shape: tuple[int, ...]
    load: Callable[[], Tensor | tuple[np.ndarray, float]]
    packed: bool = False
    floating: bool = True


Checkpoint = dict[str, Weight]


def open_folder(folder: Path) -> tuple[Checkpoint, list[Path]]:
    """The tensors of a folder as it comes from the hub, and its weight files in the order of their names."""
    found = []
    for stem, suffix in (("model", "safetensors"), ("pytorch_model", "bin")):
        whole, index = folder / f"{stem}.{suffix}", folder / f"{stem}.{suffix}.index.json"
        if index.exists():
            files = sorted(set(_weight_map(index).values()))
            found = [folder / file for file in files]
            break
        if whole.exists():
            found = [whole]
            break
    if not found:
        raise ValueError(
            f"{folder}: expected model.safetensors or pytorch_model.bin in it (or their .index.json), found neither"
        )
    missing = [path.name for path in found if not path.exists()]
    if missing:
        raise ValueError(f"{folder}: {index.name} names {', '.join(missing)}, which is not there: get the rest")
    tensors: Checkpoint = {}
    for path in found:
        tensors |= open_file(path)
    if index.exists():
        lost = sorted(set(map(unwrapped, _weight_map(index))) - set(tensors))
        if lost:
            raise ValueError(f"{folder}: {index.name} promises tensors that no file has: {', '.join(lost[:12])}")
    return tensors, found


def open_file(path: Path) -> Checkpoint:
    """The tensors of one file; ValueError names a file that is damaged or has half of its bytes."""
    tensors = _safetensors(path) if path.suffix == ".safetensors" else _torch(path)
    return {unwrapped(name): weight for name, weight in tensors.items()}


def unwrapped(name: str) -> str:
    while name.startswith(WRAPPERS):
        name = name.split(".", 1)[1]
    return name


def _weight_map(index: Path) -> dict[str, str]:
    try:
        return dict(json.loads(files.read_text(index))["weight_map"])
    except (ValueError, KeyError, TypeError) as fault:
        raise ValueError(f"{index}: expected a JSON object with a weight_map: {fault!r}") from None


def _safetensors(path: Path) -> Checkpoint:
    def load(name: str) -> Tensor:
        with safe_open(path, "pt") as file:  # opened anew for each tensor: what was read before leaves memory
            return file.get_tensor(name)

    try:
        with safe_open(path, "pt") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118  (not a dictionary)
            return {
                name: Weight(
                    tuple(part.get_shape()),
                    lambda name=name: load(name),
                    floating=part.get_dtype() in ("F16", "BF16", "F32", "F64"),
                )
                for name, part in slices.items()
            }
    except SafetensorError as fault:
        raise ValueError(f"{path}: not a safetensors file, or {HALF} ({fault})") from None


def _torch(path: Path) -> Checkpoint:
    content = pickled.read(path)
    for key in INSIDE:
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
            break
    if not isinstance(content, dict) or not all(isinstance(v, pickled.StoredTensor) for v in content.values()):
        raise ValueError(f"{path}: expected a state_dict (alone or under {', '.join(INSIDE)}), found something else")
    return {name: Weight(t.shape, t.load, floating=t.dtype.is_floating_point) for name, t in content.items()}


# ---- four rows of a ternary matrix in a byte, as transformers packs BitNet


def unpacked(checkpoint: Checkpoint, divides: bool) -> Checkpoint:
    """The same with its packed matrices as codes and scales: bits 2i and 2i + 1 of row r are code + 1 of row i rows + r.

    divides: by NAME_scale, not times it. ValueError: a packed matrix without its scale.
    """
    packed = {name for name, weight in checkpoint.items() if name.endswith(".weight") and not weight.floating}
    lost = sorted(name for name in packed if f"{name}_scale" not in checkpoint)
    if lost:
        raise ValueError(f"{lost[0]} is packed; expected its scale {lost[0]}_scale beside it, found none")
    out = {name: w for name, w in checkpoint.items() if name.removesuffix("_scale") not in packed or name in packed}
    for name in packed:
        rows, cols = checkpoint[name].shape
        load = _FourRows(name, checkpoint[name], checkpoint[f"{name}_scale"], divides)
        out[name] = Weight((4 * rows, cols), load, packed=True)
    return out


@dataclass(frozen=True)
class _FourRows:
    name: str
    weight: Weight
    scale: Weight
    divides: bool

    def __call__(self) -> tuple[np.ndarray, float]:
        scale = self.scale.load()
        if scale.numel() != 1 or not (math.isfinite(float(scale)) and float(scale) > 0):
            raise ValueError(f"{self.name}_scale: expected one positive number, found {scale.flatten().tolist()[:4]}")
        bytes_ = self.weight.load().numpy()
        codes = np.concatenate([bytes_ >> shift & 3 for shift in (0, 2, 4, 6)])
        if (codes == 3).any():
            raise ValueError(f"{self.name} has the code 3; expected 0, 1 and 2 (-1, 0 and +1)")
        return codes.astype(np.int8) - np.int8(1), 1 / float(scale) if self.divides else float(scale)


# ---- BitMamba-2

BITMAMBA_MAGIC = 0x42495432


def bitmamba_order(layers: int) -> list[str]:
    """The tensors of a .bin, which has no names in it."""
    inside = ("in_proj.norm.weight", "in_proj.weight", "conv1d.weight", "conv1d.bias", "dt_bias", "A_log", "D")
    inside = (*inside, "out_proj.norm.weight", "out_proj.weight")
    blocks = [f"layers.{n}.{name}" for n in range(layers) for name in inside]
    return ["embed.weight", *blocks, "norm_f.weight", "lm_head.norm.weight", "lm_head.weight"]


def is_bitmamba(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == struct.pack("<I", BITMAMBA_MAGIC)


def open_bitmamba(path: Path) -> tuple[dict[str, int], Checkpoint]:
    """Settings (vocab_size, d_model, n_layers, n_heads) and tensors of Zhayr1/bitmamba.cpp's packed .bin.

    Of a ternary matrix the file has 1 / scale and codes + 1, four a byte from its lowest bits, rows on whole bytes.
    """
    size = path.stat().st_size
    with path.open("rb") as file:

        def numbers(count: int) -> tuple[int, ...]:
            raw = file.read(4 * count)
            if len(raw) < 4 * count:
                raise ValueError(f"{path}: ends at byte {size} in the middle of a tensor: {HALF}")
            return struct.unpack(f"<{count}i", raw)

        magic, *header = numbers(5)
        if magic != BITMAMBA_MAGIC:
            raise ValueError(f"{path}: expected a BitMamba-2 file (it begins with 2TIB), found {magic:#010x}")
        settings = dict(zip(("vocab_size", "d_model", "n_layers", "n_heads"), header))
        if min(header) < 1 or settings["n_layers"] > 256:
            raise ValueError(f"{path}: settings out of range: {settings}")
        tensors: Checkpoint = {}
        for name in bitmamba_order(settings["n_layers"]):
            (kind,) = numbers(1)
            if kind == 2:
                rows, cols = numbers(2)
                (divisor,) = struct.unpack("<f", struct.pack("<i", *numbers(1)))
                shape, count, item = (rows, cols), rows * -(-cols // 4), np.uint8
            elif kind == 0:
                (dimensions,) = numbers(1)
                if not 1 <= dimensions <= 4:
                    raise ValueError(f"{path}: {name} has {dimensions} dimensions; expected 1 to 4")
                shape, item = numbers(dimensions), np.float32
                count = int(np.prod(shape, dtype=np.int64))
            else:
                raise ValueError(f"{path}: {name} is of kind {kind}; expected 0 (float) or 2 (ternary)")
            if min(shape) < 1:
                raise ValueError(f"{path}: {name} has the shape {list(shape)}")
            at, end = file.tell(), file.tell() + count * np.dtype(item).itemsize
            if end > size:
                raise ValueError(f"{path}: has {size} bytes, but {name} ends at byte {end}: {HALF}")
            if kind == 2:
                tensors[name] = Weight(shape, _Packed(path, name, at, shape, divisor), packed=True)
            else:
                tensors[name] = Weight(shape, _Floats(path, at, shape))
            file.seek(end)
        if file.tell() != size:
            raise ValueError(f"{path}: {size - file.tell()} bytes follow the last tensor; expected none")
    return settings, tensors


@dataclass(frozen=True)
class _Packed:
    path: Path
    name: str
    at: int
    shape: tuple[int, int]
    divisor: float

    def __call__(self) -> tuple[np.ndarray, float]:
        rows, cols = self.shape
        if not (np.isfinite(self.divisor) and self.divisor > 0):
            raise ValueError(f"{self.path}: {self.name} is divided by {self.divisor}; expected a positive number")
        width = -(-cols // 4)
        packed = np.fromfile(self.path, np.uint8, rows * width, offset=self.at).reshape(rows, width)
        codes = np.empty((rows, width, 4), np.int8)
        for place in range(4):
            codes[..., place] = packed >> (2 * place) & 3
        codes = codes.reshape(rows, -1)[:, :cols]
        if (codes == 3).any():
            raise ValueError(f"{self.path}: {self.name} has the code 3; expected 0, 1 and 2 (-1, 0 and +1)")
        return codes - np.int8(1), 1 / self.divisor


@dataclass(frozen=True)
class _Floats:
    path: Path
    at: int
    shape: tuple[int, ...]

    def __call__(self) -> Tensor:
        count = int(np.prod(self.shape, dtype=np.int64))
        return torch.from_numpy(np.fromfile(self.path, np.float32, count, offset=self.at).reshape(self.shape))


def sha256(files: list[Path]) -> str:
    """Of the files' bytes, one file after the other."""
    digest = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            while piece := file.read(1 << 20):
                digest.update(piece)
    return digest.hexdigest()
