"""The training loop: settings in, checkpoints and logs out; killed and resumed, it goes on where it was."""

import contextlib
import json
import math
import subprocess
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from lm import arch
from lm.fast import cpu_kernels
from lm.file import checkpoint
from lm.file.tokenizer_keys import codec_of_training
from lm.text import codec, files
from lm.text.data import Stream
from lm.train import beginnings, states
from lm.train.distributed import World
from lm.train.optim import make_optimizers, schedule
from lm.train.report import Report
from lm.train.settings import Data, Run, Train, refuse_changes

__all__ = ["Data", "Run", "Train", "train"]


STAMP = Path(__file__).parents[1] / "COMMIT"


def commit() -> str:
    """The commit of the code, with a + when files were changed since; a packed copy has it in a file."""
    if STAMP.exists():
        return files.read_text(STAMP).strip()
    git = ["git", "describe", "--always", "--dirty=+", "--exclude=*"]
    found = subprocess.run(git, capture_output=True, encoding="utf-8", cwd=Path(__file__).parent)
    return found.stdout.strip() or "unknown"


@dataclass
class Position:
    """Where a run is: with the weights and the optimizers, all that a checkpoint needs."""

    step: int = 0
    bytes_seen: int = 0  # by the schedule; includes those of a shallower model that this one grew from
    bytes_before: int = 0  # seen by the weights of --init-from, whose schedule is over
    phase_begun: int = 0  # the step at which the current choice of files began
    best: float = math.inf
    states: list | None = None  # of the whole batch; None in a run that has not begun
    teacher_states: list | None = None  # likewise, of the teacher


def codec_of(run: Run) -> codec.Bytes | codec.Pieces:
    """What the run's tokens are. ValueError when the model has another number of them."""
    found = codec_of_training(Path(run.data.tokenizer)) if run.data.tokenizer else codec.BYTES
    if found.size != run.model.vocab_size:
        what = f"{run.data.tokenizer} has {found.size} pieces" if run.data.tokenizer else "256 bytes are its tokens"
        raise ValueError(f"model.vocab_size is {run.model.vocab_size}, but {what}: set it to {found.size}")
    return found


class LossOf(nn.Module):
    """`model.loss` as a forward pass, which is what DistributedDataParallel wraps."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, *arguments):
        return self.model.loss(*arguments)


class Trainer:
    def __init__(self, run: Run, out: Path, world: World):
        torch.manual_seed(run.train.seed)
        self.run, self.out, self.world, self.at = run, out, world, Position()
        self.codec = codec_of(run)
        self.model = arch.build(run.model).to(world.device)
        self.model.codec = self.codec
        cpu_kernels.keep_memory()
        self.how = cpu_kernels.accelerate(self.model)
        self.optimizers = make_optimizers(self.model, run.train)
        self.first, self.rows = world.share(run.train.batch)
        if self.rows % run.train.accumulate:
            raise ValueError(
                f"train.accumulate must divide the {self.rows} rows of a process, got {run.train.accumulate}"
            )
        self.teacher = self.hire() if run.train.teacher else None
        self.loss_of = world.wrap(LossOf(self.model), getattr(self.model, "skips_parameters", False))
        self.parts: list = [None] * run.train.accumulate  # carried states of each part of this process's rows

    def hire(self):
        """The teacher; its module is imported only here, because it needs the package gguf."""
        from lm.train.teacher import Teacher

        t = self.run.train
        how = (t.teacher_weight, t.teacher_temperature)
        teacher = Teacher(t.teacher, self.run.model, self.world.device, *how, parts=t.accumulate)
        if codec.of_model(teacher.model).source != self.codec.source:
            raise ValueError(
                f"train.teacher {t.teacher} has another tokenizer than data.tokenizer: its tokens are others"
            )
        return teacher

    def describe(self) -> None:
        """Prints what is trained, how and from which code, and writes it to run.json."""
        facts = {
            "parameters": sum(p.numel() for p in self.model.parameters()),
            "commit": commit(),
            "seed": self.run.train.seed,
            "processes": self.world.size,
            "device": self.world.device,
            "torch": torch.__version__,
        }
        how = [self.how, self.teacher.describe()] if self.teacher else [self.how]
        print(" · ".join(f"{key} {value}" for key, value in facts.items()), *how, self.run, sep="\n")
        files.write_text(self.out / "run.json", json.dumps({**facts, "settings": self.run.to_dict()}, indent=2) + "\n")

    def restore(self, path: Path) -> None:
        saved = checkpoint.load(path)
        refuse_changes(Run.from_dict(saved["config"]).to_dict(), self.run.to_dict(), path)
        if codec.of_keys(saved.get("tokenizer")).source != self.codec.source:
            raise ValueError(f"{path} has another tokenizer than data.tokenizer: its tokens are others")
        self.model.load_state_dict(saved["model"])
        for optimizer, state in zip(self.optimizers, saved["optimizers"]):  # none in pieces without them
            optimizer.load_state_dict(state)
        if "random" in saved:
            torch.set_rng_state(saved["random"])
            cpu_kernels.set_rng_state(saved["rounding"])
        self.at = Position(**saved["position"])
        self.parts = self.own_parts(self.at.states)
        if self.teacher:
            self.teacher.states = self.own_parts(self.at.teacher_states)

    def own_parts(self, of_all) -> list:
        """The states of each part of this process's rows, from those of the whole batch."""
        count = self.rows // len(self.parts)
        own = [states.rows(of_all, self.first + k * count, count) for k in range(len(self.parts))]
        return [states.mapped(part, lambda x: x.to(self.world.device)) for part in own]

    def content(self) -> dict:
        """A checkpoint. All processes have to call it."""
        self.at.states = self.world.gathered(states.joined(self.parts))
        if self.teacher:
            self.at.teacher_states = self.world.gathered(states.joined(self.teacher.states))
        return {
            "config": self.run.to_dict(),
            "model": self.model.state_dict(),
            "tokenizer": self.codec.keys,
            "optimizers": [o.state_dict() for o in self.optimizers],
            "position": vars(self.at),
            "bytes_seen": self.at.bytes_before + self.at.bytes_seen,
            "random": torch.get_rng_state(),
            "rounding": cpu_kernels.rng_state(),
            "seed": self.run.train.seed,
            "commit": commit(),
        }

    def save(self, *names: str) -> None:
        """Writes the checkpoint under each of the names. All processes have to call it."""
        content = self.content()
        for name in names if self.world.writes else ():
            checkpoint.save(self.out / name, content)

    def decaying(self) -> bool:
        return self.at.bytes_seen > self.run.train.total_bytes - self.run.train.decay

    def batches(self):
        """(inputs, targets) of this process's rows, and the bytes of the whole batch, for ever, from where the run is.

        The early files end where the decay begins.
        """
        data, t = self.run.data, self.run.train
        while True:
            late = self.decaying() or not data.early
            files = [*data.train] if late else [*data.train, *data.early]
            stream = Stream(files, t.batch, t.length, t.seed + late, data.weights, self.codec)
            for inputs, targets in stream.batches(self.at.step - self.at.phase_begun):
                if not late and self.decaying():
                    self.at.phase_begun = self.at.step
                    break
                own = (x[self.first : self.first + self.rows].to(self.world.device) for x in (inputs, targets))
                yield *own, self.codec.bytes_in(targets.numpy())

    def autocast(self):
        if self.run.train.precision == "float32":
            return contextlib.nullcontext()
        return torch.autocast(self.world.device.split(":")[0], dtype=torch.bfloat16)

    def gradients(self, inputs: Tensor, targets: Tensor) -> tuple[float, dict]:
        """Leaves the batch's gradient in the parameters -> (mean nats per token, the model's statistics of its last part)."""
        parts, nats, statistics = len(self.parts), torch.zeros((), device=self.world.device), {}
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        for k, (x, y) in enumerate(zip(inputs.chunk(parts), targets.chunk(parts))):
            lesson = self.teacher.lesson(k, x) if self.teacher else None
            with self.world.communicates(self.loss_of, k == parts - 1):
                with self.autocast():
                    loss, after, found = self.loss_of(x, y, self.parts[k], lesson)
                (loss / parts).backward()
            self.parts[k] = states.detached(after)
            statistics = dict(found)
            nats += statistics.pop("nats") / parts
        return float(self.world.mean(nats)), {name: float(value) for name, value in statistics.items()}

    def update(self, inputs: Tensor, targets: Tensor, size: int) -> dict:
        """One step of the optimizers on a batch of so many bytes -> its row of log.csv, as far as it is known."""
        t = self.run.train
        factor = schedule(self.at.bytes_seen, t)
        nats, statistics = self.gradients(inputs, targets)
        norm = float(nn.utils.clip_grad_norm_(self.model.parameters(), t.clip or math.inf))
        if not math.isfinite(norm):
            last = self.out / "last.pt"
            raise RuntimeError(
                f"step {self.at.step}: the gradient is not finite; lower train.lr or train.matrix_lr and begin a new run"
                + (f" with --init-from {last}" if last.exists() else "")
            )
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["initial_lr"] * factor
            optimizer.step()
        self.at.step += 1
        self.at.bytes_seen += size
        bits = nats / math.log(2) * t.batch * t.length / size
        row = {"step": self.at.step, "bytes_seen": self.at.bytes_seen, "train_bits": f"{bits:.5f}"}
        row |= {"gradient_norm": f"{norm:.4f}", "lr_factor": f"{factor:.5f}"}
        return row | {name: f"{value:.5g}" for name, value in statistics.items()}

    def fit(self) -> None:
        """Trains to total_bytes. Process 0 watches, scores and writes; the others only compute."""
        t, at = self.run.train, self.at
        batches, report = self.batches(), Report(self) if self.world.writes else None
        with contextlib.closing(report) if report else contextlib.nullcontext():
            while at.bytes_seen < t.total_bytes:
                self.advance(batches, report)

    def advance(self, batches, report: Report | None) -> None:
        """One step, and what is due after it."""
        t, at = self.run.train, self.at
        if report:
            report.before_step()
        row = self.update(*next(batches))
        done = at.bytes_seen >= t.total_bytes
        validated, kept, saved = (
            every and at.step % every == 0 for every in (t.valid_every, t.keep_every, t.save_every)
        )
        improved = report.after_step(row, validated or done) if report else False
        if validated or kept or saved or done:  # the same for all processes, which send their states here
            names = (("best.pt", improved), (f"step-{at.step}.pt", kept), ("last.pt", saved or done))
            self.save(*(name for name, wanted in names if wanted))


def train(
    run: Run, out: Path, resume: bool = False, grow_from: Path | None = None, init_from: Path | None = None
) -> None:
    """Trains to run.train.total_bytes.

    resume: go on from the checkpoint in `out`; FileNotFoundError when there is none.
    grow_from: a checkpoint of a shallower model, whose blocks are repeated and whose schedule goes on.
    init_from: a checkpoint of the same model, whose weights begin a new schedule.
    """
    before = checkpoint.latest(out)
    if resume and before is None:
        others = sorted(str(path.parent) for path in out.parent.glob("*/last.pt"))
        beside = f"; runs that can go on: {', '.join(others)}" if others else ""
        raise FileNotFoundError(f"{out} has no checkpoint to go on from{beside}")
    if before is not None and not resume:
        raise ValueError(f"{before} exists: say --resume to go on from it, or choose another --out")
    out.mkdir(parents=True, exist_ok=True)
    world, done, trainer = World.join(run.train.device), False, None
    try:
        trainer = Trainer(run, out, world)
        if before is not None:
            trainer.restore(before)
            world.say(f"goes on from {before}: step {trainer.at.step:,}, {trainer.at.bytes_seen:,} bytes seen")
        elif grow_from:
            trainer.at.bytes_seen = seen = beginnings.grow(trainer.model, grow_from)
            world.say(f"begins with the repeated blocks of {grow_from}, which has seen {seen:,} bytes")
            if seen >= run.train.total_bytes:
                raise ValueError(
                    f"{grow_from} has seen {seen} bytes and its schedule goes on: train.total_bytes must be more, got "
                    f"{run.train.total_bytes}"
                )
        elif init_from:
            trainer.at.bytes_before = seen = beginnings.initialize(trainer.model, init_from)
            world.say(f"begins with the weights of {init_from}, which have seen {seen:,} bytes")
        if trainer.at.bytes_seen < run.train.total_bytes:
            if world.writes:
                trainer.describe()
            trainer.fit()
        else:  # run.json keeps the settings it was trained with
            world.say(f"{before} has seen {trainer.at.bytes_seen:,} bytes, as many as train.total_bytes wants")
        done = True
    except KeyboardInterrupt:
        raise KeyboardInterrupt(stopped(trainer, out)) from None
    finally:
        trainer = None  # what holds on to the processes' connection ends before it
        world.leave(done)


def stopped(trainer: Trainer | None, out: Path) -> str:
    """What to tell whoever pressed Ctrl-C: what there is to go on from."""
    at, saved = trainer.at.step if trainer else 0, checkpoint.latest(out)
    if saved is None:
        return f"stopped at step {at}, before the first checkpoint (train.save_every): there is nothing to go on from"
    step = checkpoint.load(saved)["position"]["step"]
    return f"stopped at step {at}; {saved} has step {step}, from which scripts/train.py --resume goes on"
