"""The settings of a training run: one TOML file with [model], [data] and [train]; a key nobody knows is an error."""

import tomllib
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from .arch import config_from_dict, config_to_dict


@dataclass(frozen=True)
class Data:
    train: list[str]  # text files
    valid: str  # held-out text file
    early: list[str] = ()  # more text files, left out while the learning rate decays (noisier text)


@dataclass(frozen=True)
class Train:
    total_bytes: int
    batch: int = 32
    length: int = 512  # bytes per row and step; the state is carried from step to step
    lr: float = 3e-3  # AdamW: embedding, head, norms, convolution
    matrix_optimizer: str = "muon"  # or "adamw"
    matrix_lr: float = 0.02
    matrix_weight_decay: float = 0.05
    warmup_bytes: int = 1_000_000
    decay_bytes: int = 25_000_000  # the learning rate falls to zero over the last of these
    clip: float = 1.0
    seed: int = 1
    valid_bytes: int = 131_072
    valid_every: int = 100  # steps
    save_every: int = 100  # steps

    def __post_init__(self):
        if self.matrix_optimizer not in ("muon", "adamw"):
            raise ValueError(f'train.matrix_optimizer must be "muon" or "adamw", got {self.matrix_optimizer!r}')
        for name in ("total_bytes", "batch", "length", "valid_bytes", "valid_every", "save_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"train.{name} must be at least 1, got {getattr(self, name)}")
        if self.length % 4:
            raise ValueError(f"train.length must be a multiple of 4 (the fused blocks need it), got {self.length}")


@dataclass(frozen=True)
class Run:
    model: object  # the Config of an architecture, see lm.arch
    data: Data
    train: Train

    @staticmethod
    def read(path: str | Path) -> "Run":
        """Reads a TOML file; ValueError names the section or key that is wrong."""
        try:
            values = tomllib.loads(Path(path).read_text())
        except tomllib.TOMLDecodeError as fault:
            raise ValueError(f"{path}: not TOML: {fault}") from None
        for section in values:
            if section not in ("model", "data", "train"):
                raise ValueError(f"{path}: [{section}] is not a section; known: model, data, train")
        parts = {"model": config_from_dict(values.get("model", {}))}
        for name, kind in (("data", Data), ("train", Train)):
            known = {f.name for f in fields(kind)}
            for key in values.get(name, {}):
                if key not in known:
                    raise ValueError(f"{path}: {name}.{key} is not a setting; known: {', '.join(sorted(known))}")
            try:
                parts[name] = kind(**values.get(name, {}))
            except TypeError as fault:
                raise ValueError(f"{path}: [{name}]: {fault}") from None
        return Run(**parts)

    def to_dict(self) -> dict:
        """{model, data, train} of plain values: what a checkpoint keeps."""
        return {"model": config_to_dict(self.model), "data": asdict(self.data), "train": asdict(self.train)}
