"""The model of any file: a checkpoint of scripts/train.py or a model file."""

import pickle
from pathlib import Path

from torch import nn

from lm.file.checkpoint import load_model


def load_any(path: Path) -> tuple[nn.Module, int]:
    """The PyTorch model of a checkpoint (.pt) or a model file (.gguf), and how many bytes of text it saw in training."""
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; expected a checkpoint of scripts/train.py or a .gguf file")
    try:
        if path.suffix == ".gguf":
            from lm.file import gguf_file  # needs the package gguf, which a machine that only trains need not have

            seen = gguf_file.read(path)[0].get("general.training_bytes", 0)
            return gguf_file.load(path), int(seen)
        model, content = load_model(path)
        return model, int(content["bytes_seen"])
    except (pickle.UnpicklingError, RuntimeError, EOFError, KeyError, ValueError) as fault:
        if str(fault).startswith(str(path)):
            raise
        raise ValueError(f"{path}: expected a checkpoint of scripts/train.py or a .gguf file: {fault}") from fault
