"""Checkpoints: written whole or not at all, and enough in them to go on exactly."""

import io
from pathlib import Path

import torch
from torch import nn

from lm import arch
from lm.file import pickled
from lm.text import codec
from lm.text.files import replacing


def save(path: Path, content: dict) -> None:
    """A killed run, or one on a full disk, never leaves half a checkpoint."""
    made = io.BytesIO()  # PyTorch's own writer ends the process when the disk is full
    torch.save(content, made)
    with replacing(path) as partial:
        partial.write_bytes(made.getbuffer())


def latest(folder: Path) -> Path | None:
    """What a run goes on from: last.pt, or where it was stopped before the first of them, the newest of the others."""
    last = folder / "last.pt"
    others = sorted(folder.glob("*.pt"), key=lambda path: path.stat().st_mtime)
    return last if last.exists() else others[-1] if others else None


def load(path: str | Path) -> dict:
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such checkpoint; scripts/train.py writes one to its --out folder")
    try:
        content = pickled.loaded(pickled.read(path))
    except (ValueError, OSError) as fault:
        raise ValueError(f"{path}: not a checkpoint of scripts/train.py: {fault}") from None
    for key in ("config", "model", "bytes_seen"):
        if not isinstance(content, dict) or key not in content:
            raise ValueError(f"{path}: not a checkpoint of scripts/train.py: it has no '{key}'")
    return content


@torch.no_grad()
def read_ends_as_beginnings(model: nn.Module) -> None:
    """Gives what ends a document the meaning of what begins one, so that a text with several can be fed as it is.

    Training never has the end as an input (see data.inputs_and_targets): its row of the embedding is untrained.
    """
    found = codec.of_model(model)
    if model.config.vocab_size > found.end:
        model.embeddings.weight[found.end] = model.embeddings.weight[found.begin]


def load_model(path: str | Path) -> tuple[nn.Module, dict]:
    """The model of a checkpoint, ready to evaluate or export, and the whole checkpoint."""
    content = load(path)
    model = arch.build(arch.config_from_dict(content["config"]["model"]))
    model.load_state_dict(content["model"])
    model.codec = codec.of_keys(content.get("tokenizer"))
    read_ends_as_beginnings(model)
    return model.eval(), content
