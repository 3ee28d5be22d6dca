"""What a run tells while it trains: log.csv, ternary.csv, samples.txt, TensorBoard's event files, Weights & Biases.

log.csv has a row for each step; ternary.csv one for each ternary matrix every train.ternary_every steps. A run that goes
on after a stop drops the rows after the checkpoint that it goes on from, so no step is in a file twice.
"""

import csv
import importlib
import time
from contextlib import suppress
from pathlib import Path

from torch import Tensor, nn

from lm.arch.ternary import BitLinear, weight_codes
from lm.text.files import naming, replacing

LOG = (
    "step",
    "bytes_seen",
    "train_bits",  # bits per byte of the step's batch
    "gradient_norm",  # before clipping
    "lr_factor",
    "valid_bits",  # this and the next three: only every train.valid_every steps
    "valid_perplexity",  # per byte
    "valid_top1",
    "valid_top5",
    "bytes_per_second",
    "seconds",  # of this process since it began
)
TERNARY = ("step", "matrix", "minus", "zero", "plus", "flips")  # shares of the codes; flips: share changed by this step


class Table:
    """A CSV file that grows by rows and can be taken back to a step. OSError names the file and its size when it cannot."""

    def __init__(self, path: Path, columns: tuple[str, ...], step: int):
        """Keeps the rows up to `step` of a file that is there; columns that it lacks stay empty in them."""
        kept = []
        if path.exists() and step > 0:
            with open(path, newline="", encoding="utf-8") as file:
                reader = csv.DictReader(file)
                columns = (*columns, *(c for c in reader.fieldnames or () if c not in columns))
                kept = [row for row in reader if (row["step"] or "").isdigit() and int(row["step"]) <= step]
        with replacing(path) as partial:
            self.file = open(partial, "w", newline="", encoding="utf-8")
            self.writer = csv.DictWriter(self.file, columns, restval="", extrasaction="ignore")
            self.writer.writeheader()
            self.writer.writerows(kept)
            self.file.flush()
        self.path = path

    def add(self, row: dict) -> None:
        with naming(self.path):
            self.writer.writerow(row)

    def flush(self) -> None:
        with naming(self.path):
            self.file.flush()

    def close(self) -> None:
        with naming(self.path):
            self.file.close()


class Events:
    """An event file of TensorBoard; a run that goes on has several, of which later steps replace earlier ones.

    tensorboardX's own SummaryWriter writes in a thread that dies unheard on a full disk, and then the run waits for it.
    """

    def __init__(self, folder: Path, step: int):
        from tensorboardX import event_file_writer, proto, summary

        folder.mkdir(parents=True, exist_ok=True)
        self.summary, self.event = summary, proto.event_pb2
        self.file = event_file_writer.EventsWriter(str(folder / "events"))
        self.path = Path(self.file._file_name)
        start = self.event.SessionLog(status=self.event.SessionLog.START)
        self._write(step + 1, session_log=start)  # what was written from this step on is no more

    def _write(self, step: int, **what) -> None:
        with naming(self.path):
            self.file.write_event(self.event.Event(wall_time=time.time(), step=step, **what))

    def scalars(self, step: int, values: dict[str, float]) -> None:
        for tag, value in values.items():
            self._write(step, summary=self.summary.scalar(tag, value))

    def text(self, step: int, tag: str, text: str) -> None:
        self._write(step, summary=self.summary.text(tag, text))
        with naming(self.path):
            self.file.flush()

    def close(self) -> None:
        with naming(self.path):
            self.file.close()


class Samples:
    """A text file that grows by what the model says."""

    def __init__(self, path: Path):
        self.path, self.file = path, open(path, "a", encoding="utf-8")

    def add(self, step: int, text: str) -> None:
        with naming(self.path):
            self.file.write(f"--- step {step}\n{text}\n")
            self.file.flush()

    def close(self) -> None:
        with naming(self.path):
            self.file.close()


class TernaryWatch:
    """The share of -1, 0 and +1 in each ternary matrix, and the share that one step changed."""

    def __init__(self, model: nn.Module):
        self.matrices = {name: m.weight for name, m in model.named_modules() if isinstance(m, BitLinear) and m.ternary}
        self.before: dict[str, Tensor] = {}

    def remember(self) -> None:
        """Called right before the step whose flips are to be counted."""
        self.before = {name: weight_codes(weight)[0] for name, weight in self.matrices.items()}

    def rows(self) -> list[dict]:
        """Called right after it: one row of ternary.csv for each matrix, without the step."""
        rows = []
        for name, weight in self.matrices.items():
            codes, _ = weight_codes(weight)
            shares = {key: float((codes == code).float().mean()) for code, key in enumerate(TERNARY[2:5], -1)}
            flips = float((codes != self.before[name]).float().mean())
            rows.append({"matrix": name, **shares, "flips": flips})
        return rows


def wandb_run(project: str, name: str, settings: dict):
    """A run at Weights & Biases; None without a project. ValueError when the package is missing."""
    if not project:
        return None
    try:
        wandb = importlib.import_module("wandb")
    except ImportError:
        raise ValueError(
            f'train.wandb = "{project}" needs the package wandb: install it, or leave the setting out'
        ) from None
    return wandb.init(project=project, name=name, config=settings, resume="allow")


class Watch:
    """Everything that is written about a run besides its checkpoints; `statistics` are a model's own columns."""

    def __init__(self, out: Path, run, step: int, statistics: tuple[str, ...]):
        self.log = Table(out / "log.csv", (*LOG, *statistics), step)
        self.ternary = Table(out / "ternary.csv", TERNARY, step)
        self.samples = Samples(out / "samples.txt")
        self.events = None
        with suppress(ImportError):  # a machine that only trains need not have tensorboardX
            self.events = Events(out / "tensorboard", step)
        self.remote = wandb_run(run.train.wandb, out.name, run.to_dict())

    def _show(self, step: int, values: dict) -> None:
        values = {name: float(value) for name, value in values.items() if value != ""}
        if self.events is not None:
            self.events.scalars(step, values)
        if self.remote is not None:
            self.remote.log(values, step=step)

    def step(self, row: dict) -> None:
        """A row of log.csv; values may be missing."""
        self.log.add(row)
        self._show(row["step"], {name: value for name, value in row.items() if name != "step"})

    def matrices(self, step: int, rows: list[dict]) -> None:
        for row in rows:
            self.ternary.add({"step": step, **{k: v if k == "matrix" else f"{v:.6f}" for k, v in row.items()}})
        self._show(step, {f"{key}/{row['matrix']}": row[key] for row in rows for key in TERNARY[2:]})

    def sample(self, step: int, text: str) -> None:
        self.samples.add(step, text)
        if self.events is not None:
            self.events.text(step, "sample", text)

    def flush(self) -> None:
        self.log.flush()
        self.ternary.flush()

    def close(self) -> None:
        for file in (self.log, self.ternary, self.samples, self.events):
            if file is not None:
                file.close()
        if self.remote is not None:
            self.remote.finish()
