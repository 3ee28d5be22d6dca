"""Checkpoints: written whole or not at all, and enough in them to go on exactly."""

import os
from pathlib import Path

import torch
from torch import nn

from lm import arch
from lm.file import pickled
from lm.text.encoding import BOS, EOS


def save(path: Path, content: dict) -> None:
    """Write beside the target, then rename: a killed run never leaves half a checkpoint."""
    partial = path.with_suffix(f".{os.getpid()}.partial")
    try:
        torch.save(content, partial)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)  # of a save that failed, on a full disk for example


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
    """Gives EOS as an input the meaning of BOS, so that a text with several documents can be fed as it is.

    Training never has EOS as an input (see data.inputs_and_targets): its row of the embedding is untrained.
    """
    if model.config.vocab_size > EOS:
        model.embeddings.weight[EOS] = model.embeddings.weight[BOS]


def load_model(path: str | Path) -> tuple[nn.Module, dict]:
    """The model of a checkpoint, ready to evaluate or export, and the whole checkpoint."""
    content = load(path)
    model = arch.build(arch.config_from_dict(content["config"]["model"]))
    model.load_state_dict(content["model"])
    read_ends_as_beginnings(model)
    return model.eval(), content
