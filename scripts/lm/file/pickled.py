"""Reads what torch.save wrote without executing anything in it: tensors and plain values, under any version of PyTorch.

A pickle is a program. `torch.load(weights_only=True)` runs a small, safe part of it, but PyTorch 1.13 then refuses numbers;
so the same rule is here once more: the names of an allow list, each replaced by a function of ours, and nothing else.
Data stays in the file until it is asked for: a checkpoint larger than memory can be read tensor by tensor.
"""

from __future__ import annotations

import collections
import pickle
import zipfile
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

STORAGES = {
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}


@dataclass(frozen=True)
class StoredTensor:
    """A tensor that is still in its file."""

    path: Path
    record: str  # of the zip archive, with the elements of its storage
    dtype: torch.dtype
    elements: int  # of the storage
    offset: int  # in elements
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    def load(self) -> Tensor:
        """ValueError: the file has fewer bytes than the tensor needs."""
        size = torch.empty((), dtype=self.dtype).element_size()
        last = self.offset + sum((n - 1) * step for n, step in zip(self.shape, self.stride)) + 1
        if 0 in self.shape:
            return torch.empty(self.shape, dtype=self.dtype)
        if min(self.offset, *self.stride, 0) < 0 or last > self.elements:
            raise ValueError(f"{self.path}: a tensor reaches beyond its storage of {self.elements} elements")
        with zipfile.ZipFile(self.path) as archive, archive.open(self.record) as data:
            data.seek(self.offset * size)
            raw = bytearray(data.read((last - self.offset) * size))
        if len(raw) != (last - self.offset) * size:
            raise ValueError(f"{self.path}: {self.record} has fewer bytes than its tensor needs")
        return torch.frombuffer(raw, dtype=self.dtype).as_strided(self.shape, self.stride)


class _Reader(pickle.Unpickler):
    """Builds dictionaries, lists, numbers, texts and StoredTensors; any other name in the file is an error."""

    def __init__(self, data, path: Path, prefix: str):
        super().__init__(data)
        self.path, self.prefix = path, prefix

    def find_class(self, module: str, name: str):
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if (module, name) in (("torch._utils", "_rebuild_tensor_v2"), ("torch._utils", "_rebuild_tensor")):
            return _rebuild
        if (module, name) == ("torch._utils", "_rebuild_parameter"):
            return lambda tensor, *_: tensor
        if module in ("torch", "torch.storage") and name in STORAGES:
            return STORAGES[name]
        raise ValueError(f"{self.path}: it names {module}.{name}; expected tensors and plain values only")

    def persistent_load(self, key):
        kind, dtype, record, _, elements = key
        if kind != "storage" or not isinstance(dtype, torch.dtype):
            raise ValueError(f"{self.path}: expected the storage of a tensor, found {kind!r}")
        return StoredTensor(self.path, f"{self.prefix}/data/{record}", dtype, elements, 0, (elements,), (1,))


def _rebuild(storage: StoredTensor, offset: int, shape: tuple, stride: tuple, *_) -> StoredTensor:
    return StoredTensor(
        storage.path, storage.record, storage.dtype, storage.elements, offset, tuple(shape), tuple(stride)
    )


def read(path: Path) -> object:
    """What the file holds, with a StoredTensor for each tensor. ValueError: damaged, incomplete, or more than plain values."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            roots = [name.removesuffix("/data.pkl") for name in names if name.endswith("/data.pkl")]
            if len(roots) != 1:
                raise ValueError(f"{path}: not written by torch.save: it has no data.pkl")
            if f"{roots[0]}/byteorder" in names and archive.read(f"{roots[0]}/byteorder") != b"little":
                raise ValueError(f"{path}: written on a big-endian machine; expected little-endian numbers")
            with archive.open(f"{roots[0]}/data.pkl") as data:
                return _Reader(data, path, roots[0]).load()
    except zipfile.BadZipFile:
        raise ValueError(
            f"{path}: not a whole file of torch.save: its end is missing (a download that stopped half-way?), "
            "or it was written by PyTorch before 1.6"
        ) from None
    except (pickle.UnpicklingError, EOFError, AttributeError, IndexError, TypeError, KeyError) as fault:
        raise ValueError(f"{path}: damaged: {fault}") from None


def loaded(value: object) -> object:
    """The same with every tensor in memory."""
    if isinstance(value, StoredTensor):
        return value.load()
    if isinstance(value, dict):
        return {key: loaded(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(loaded(item) for item in value)
    return value
