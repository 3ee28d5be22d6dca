"""The settings of a training run: one TOML file with [model], [data] and [train]; a key nobody knows is an error."""

import json
import tomllib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from lm.arch import config_from_dict, config_to_dict
from lm.arch.keys import check_keys
from lm.text import files


@dataclass(frozen=True)
class Data:
    train: list[str]  # text files, see data.read_text
    valid: str  # held-out text file
    tokenizer: str = (
        ""  # a tokenizer.json or its folder: tokens are its pieces, model.vocab_size of them, and not bytes
    )
    early: list[str] = ()  # more text files, left out while the learning rate falls (noisier text)
    weights: dict[str, float] = field(
        default_factory=dict
    )  # how often an epoch reads a text: 1 unless it is named here;
    # 2.5: every document twice, and half of them, drawn anew for every epoch, once more

    def __post_init__(self):
        for name, weight in self.weights.items():
            if name not in (*self.train, *self.early):
                known = ", ".join((*self.train, *self.early))
                raise ValueError(f'data.weights names "{name}", which is not in data.train or data.early: {known}')
            if not 0 < weight <= 1000:
                raise ValueError(f'data.weights of "{name}" must be above 0 and at most 1000, got {weight!r}')


@dataclass(frozen=True)
class Train:
    total_bytes: int  # of text, whatever the tokens are
    batch: int = 32  # rows of a step, over all processes
    length: int = 512  # tokens per row and step; the state is carried from step to step
    accumulate: int = 1  # the rows of a process go through the model in this many parts: less memory, same gradient
    lr: float = 3e-3  # AdamW: embedding, head, norms, convolution
    matrix_optimizer: str = "muon"  # the ternary matrices: "muon" (with matrix_lr) or "adamw" (with lr)
    matrix_lr: float = 0.02
    matrix_weight_decay: float = 0.05  # of the masters of the ternary matrices, times their learning rate
    schedule: str = "wsd"  # after the warm-up: "wsd" (constant, then linear over decay_bytes) or "cosine"
    warmup_bytes: int | None = None  # unless given: 2 % of total_bytes
    decay_bytes: int | None = None  # unless given: half of total_bytes; 0 = no decay (wsd only)
    final_factor: float = 0.0  # what the schedule ends at, as a factor on the learning rates
    clip: float = 1.0  # largest Euclidean norm of the gradient; 0 = no clipping
    teacher: str = ""  # .pt or .gguf whose predictions are learned besides the text (lm/train/teacher.py)
    teacher_weight: float = 0.5  # of the distance to them in the loss; the text has the rest
    teacher_temperature: float = 1.0  # both predictions are softened by it before they are compared
    precision: str = "float32"  # "bf16": autocast for what runs in plain PyTorch
    device: str = "auto"  # "cpu", "cuda", or "auto": cuda where there is one
    seed: int = 1
    valid_bytes: int = 131_072
    valid_every: int = 100  # steps
    sample_every: int = 1000  # steps; 0 = never
    ternary_every: int = 100  # steps between two counts of codes and of flips; 0 = never
    save_every: int = 100  # steps; last.pt
    keep_every: int = 0  # steps; step-N.pt, which stays; 0 = none
    wandb: str = ""  # project at Weights & Biases to report to, besides the files; needs the package wandb

    def __post_init__(self):
        for name, known in CHOICES.items():
            if getattr(self, name) not in known:
                names = " or ".join(f'"{value}"' for value in known)
                raise ValueError(f"train.{name} must be {names}, got {getattr(self, name)!r}")
        for name in ("total_bytes", "batch", "length", "accumulate", "valid_bytes", "valid_every", "save_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"train.{name} must be at least 1, got {getattr(self, name)}")
        if not 0 <= self.final_factor < 1:
            raise ValueError(f"train.final_factor must be at least 0 and less than 1, got {self.final_factor}")
        at_least_0 = ("matrix_weight_decay", "clip", "warmup_bytes", "decay_bytes", "seed")
        for name in (*at_least_0, "sample_every", "ternary_every", "keep_every"):
            if (getattr(self, name) or 0) < 0:
                raise ValueError(f"train.{name} must not be negative, got {getattr(self, name)}")
        if self.warmup > self.total_bytes:
            raise ValueError(
                f"train.warmup_bytes must be at most train.total_bytes, {self.total_bytes}, or the learning rate is "
                f"never reached; got {self.warmup_bytes}"
            )
        for name in ("lr", "matrix_lr", "teacher_temperature"):
            if getattr(self, name) <= 0:
                raise ValueError(f"train.{name} must be above 0, got {getattr(self, name)}")
        if not 0 <= self.teacher_weight <= 1:
            raise ValueError(f"train.teacher_weight must be from 0 to 1, got {self.teacher_weight}")
        if self.length % 4:
            raise ValueError(f"train.length must be a multiple of 4 (the fused blocks need it), got {self.length}")
        if self.batch % self.accumulate:
            raise ValueError(
                f"train.batch must be a multiple of train.accumulate, got {self.batch} and {self.accumulate}"
            )

    @property
    def warmup(self) -> int:
        """Bytes over which the learning rate rises."""
        return self.total_bytes // 50 if self.warmup_bytes is None else self.warmup_bytes

    @property
    def decay(self) -> int:
        """Bytes over which it falls at the end."""
        return self.total_bytes // 2 if self.decay_bytes is None else self.decay_bytes


CHOICES = {
    "matrix_optimizer": ("muon", "adamw"),
    "schedule": ("wsd", "cosine"),
    "precision": ("float32", "bf16"),
    "device": ("auto", "cpu", "cuda"),
}

RETIRED = ("byte_dropout", "hidden_dropout")  # of [train], in older checkpoints: off, or the run cannot go on

# A run that goes on may change these: they change what is still to come, or only what is watched and where it runs.
CHANGEABLE = {
    *(
        "data.valid",
        "data.tokenizer",
        "train.total_bytes",
        "train.decay_bytes",
        "train.accumulate",
        "train.device",
        "train.precision",
    ),
    *("train.wandb",),
    *("train.valid_bytes", "train.valid_every", "train.sample_every", "train.ternary_every"),
    *("train.save_every", "train.keep_every"),
}


@dataclass(frozen=True)
class Run:
    model: object  # the Config of an architecture, see lm.arch
    data: Data
    train: Train

    @staticmethod
    def read(path: str | Path, changes: Sequence[str] = ()) -> "Run":
        """Reads a TOML or JSON file and applies changes such as "train.lr=1e-3"; ValueError names the file and the fault."""
        try:
            values = (json if Path(path).suffix == ".json" else tomllib).loads(files.read_text(path))
            require_sections(values)
            for change in changes:
                section, key, value = parse_change(change)
                values.setdefault(section, {})[key] = value
            return Run.from_dict(values)
        except ValueError as fault:
            what = "not TOML: " if isinstance(fault, tomllib.TOMLDecodeError) else ""
            raise ValueError(f"{path}: {what}{fault}") from None

    @staticmethod
    def from_dict(values: dict) -> "Run":
        require_sections(values)
        parts = {"model": config_from_dict(values.get("model", {}))}
        for name, kind in (("data", Data), ("train", Train)):
            section = {key: x for key, x in values.get(name, {}).items() if key not in RETIRED or x != 0}
            check_keys(name, kind, section)
            try:
                parts[name] = kind(**section)
            except TypeError as fault:
                raise ValueError(f"[{name}]: {fault}") from None
        return Run(**parts)

    def to_dict(self) -> dict:
        """{model, data, train} of plain values: what a checkpoint keeps and `from_dict` reads."""
        return {"model": config_to_dict(self.model), "data": asdict(self.data), "train": asdict(self.train)}


def require_sections(values: dict) -> None:
    for name, section in values.items():
        if name not in ("model", "data", "train"):
            raise ValueError(f"[{name}] is not a section; known: model, data, train")
        if not isinstance(section, dict):
            raise ValueError(f"{name} must be a section, [{name}] and lines below it, got {section!r}")


def parse_change(change: str) -> tuple[str, str, object]:
    """ "train.lr=1e-3" -> ("train", "lr", 0.001). The value is TOML, or else a text, so that a word needs no quotes."""
    name, equals, value = change.partition("=")
    section, dot, key = name.strip().partition(".")
    if not (equals and dot and section and key):
        raise ValueError(f"a change is SECTION.KEY=VALUE, for example train.lr=1e-3, got {change!r}")
    try:
        return section, key, tomllib.loads(f"x = {value}")["x"]
    except tomllib.TOMLDecodeError:
        return section, key, value.strip()


def refuse_changes(before: dict, now: dict, where: object) -> None:
    """ValueError names the first setting that a run which goes on may not change; both as `Run.to_dict` gives them.

    where: the checkpoint, for the message.
    """
    for section in ("model", "data", "train"):
        for key in {**before[section], **now[section]}:
            old, new = before[section].get(key), now[section].get(key)
            old, new = (list(value) if isinstance(value, tuple) else value for value in (old, new))
            if old != new and f"{section}.{key}" not in CHANGEABLE:
                raise ValueError(
                    f"{where} was trained with {section}.{key} = {old!r}, the settings say {new!r}: put it back, or begin "
                    f"a new run from these weights with --init-from and another --out"
                )
