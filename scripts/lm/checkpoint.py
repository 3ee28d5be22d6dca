"""Checkpoints: written whole or not at all, and enough in them to go on exactly."""

import os
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from . import arch, upcycle
from .arch.hgrnbit import BOS, EOS
from .file import pickled


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


def grow(model: nn.Module, path: str | Path) -> int:
    """Fill a deeper model from a shallower one by repeating its blocks in order; returns the bytes that one had seen.

    Early in training a shallow model learns more per second, and the deeper one takes over what it learned
    (stacking: arXiv 2405.15319).
    """
    content = load(path)
    shallow = arch.config_from_dict(content["config"]["model"])
    if not {shallow.architecture, model.config.architecture} <= {"hgrnbit"}:
        names = f"{shallow.architecture} to {model.config.architecture}"
        raise ValueError(f"{path}: only hgrnbit grows by repeating blocks, not {names}; start from its weights instead")
    if replace(shallow, layers=model.config.layers) != model.config or model.config.layers % shallow.layers:
        raise ValueError(f"{path}: its settings {shallow} must differ in `layers` alone, and divide {model.config}")
    weights = {}
    for name, value in content["model"].items():
        if not name.startswith("layers."):
            weights[name] = value
            continue
        _, number, rest = name.split(".", 2)
        for layer in range(int(number), model.config.layers, shallow.layers):
            weights[f"layers.{layer}.{rest}"] = value
    model.load_state_dict(weights)
    return content["bytes_seen"]


def initialize(model: nn.Module, path: str | Path) -> int:
    """Gives the model the weights of a checkpoint; returns the bytes that they have seen.

    The checkpoint's settings have to be the model's, or its model a flat one whose blocks fit (see `upcycle`).
    """
    content = load(path)
    config = arch.config_from_dict(content["config"]["model"])
    if config.architecture == "hgrnbit" and model.config.architecture == "hnetbit":
        reason = upcycle.obstacle(model.config, config)
        if reason:
            raise ValueError(f"{path}: {reason}")
        flat = arch.build(config)
        flat.load_state_dict(content["model"])
        upcycle.fill(model, flat)
        return content["bytes_seen"]
    found = arch.config_to_dict(config)
    for name, value in arch.config_to_dict(model.config).items():
        if found.get(name) != value:
            raise ValueError(
                f"{path} has model.{name} = {found.get(name)!r}, the settings say {value!r}: not its weights"
            )
    model.load_state_dict(content["model"])
    return content["bytes_seen"]


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
