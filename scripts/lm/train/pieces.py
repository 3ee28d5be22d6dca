"""A checkpoint in pieces that a narrow door lets through: masters in 16 bits, the optimizers' memory optional.

A folder gets NAME.000, NAME.001, ... and, last of all, NAME.json with their sizes and SHA-256: pieces that it does not list
are of another checkpoint, and a folder whose writer was killed still has the one before.
"""

import hashlib
import io
import json
from pathlib import Path

import torch
from torch import Tensor

from lm.file import checkpoint
from lm.text import files

NAME = "checkpoint"
PIECE = 15_900_000  # bytes: below 16 MB and below 16 MiB


def cast(value, dtype: torch.dtype):
    """Every floating-point tensor in a nest of dicts, lists and tuples in another type."""
    if isinstance(value, dict):
        return {key: cast(item, dtype) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(cast(item, dtype) for item in value)
    return value.to(dtype) if isinstance(value, Tensor) and value.is_floating_point() else value


def write(folder: Path, content: dict, optimizers: bool, piece: int = PIECE) -> list[Path]:
    """Writes what Trainer.content gave, in place of the checkpoint that is there -> the files."""
    content = {**content, "optimizers": content["optimizers"] if optimizers else []}
    made = io.BytesIO()
    torch.save(cast(content, torch.bfloat16), made)
    raw, step = made.getbuffer(), content["position"]["step"]
    parts = {f"{NAME}.{step}.{n:03}": raw[at : at + piece] for n, at in enumerate(range(0, len(raw), piece))}
    folder.mkdir(parents=True, exist_ok=True)
    for name, part in parts.items():
        files.write_bytes(folder / name, part)
    listed = {name: hashlib.sha256(part).hexdigest() for name, part in parts.items()}
    facts = {"step": step, "bytes_seen": content["bytes_seen"], "bytes": len(raw), "optimizers": optimizers}
    files.write_text(folder / f"{NAME}.json", json.dumps({**facts, "pieces": listed}, indent=2) + "\n")
    for old in folder.glob(f"{NAME}.*.*"):
        if old.name not in parts:
            old.unlink()
    return [folder / f"{NAME}.json", *(folder / name for name in parts)]


def facts(folder: Path) -> dict | None:
    """What NAME.json says; None when there is no checkpoint in the folder."""
    index = folder / f"{NAME}.json"
    return json.loads(files.read_text(index)) if index.exists() else None


def join(folder: Path, out: Path) -> dict:
    """Writes the pieces of a folder as one checkpoint in float32 -> its facts; ValueError names a piece that is not whole."""
    found = facts(folder)
    if found is None:
        raise FileNotFoundError(f"{folder} has no {NAME}.json; expected the folder that gpu_run train --out wrote to")
    raw = bytearray()
    for name, digest in found["pieces"].items():
        part = (folder / name).read_bytes() if (folder / name).exists() else b""
        if hashlib.sha256(part).hexdigest() != digest:
            raise ValueError(f"{folder / name}: missing or not whole; fetch it again")
        raw += part
    with files.replacing(out) as partial:
        partial.write_bytes(raw)
        content = checkpoint.load(partial)
    checkpoint.save(out, cast(content, torch.float32))
    return found
