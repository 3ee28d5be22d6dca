"""The training loop: settings in, checkpoints and a CSV log out; killed and resumed, it goes on where it was."""

import csv
import math
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from tqdm import tqdm

from . import arch, checkpoint
from .arch.hgrnbit import BOS, EOS
from .cpu_kernels import accelerate
from .data import Stream, read_text
from .optim import make_optimizers, schedule
from .score import score
from .settings import Data, Run, Train

__all__ = ["Data", "Run", "Train", "sample", "train"]

LOG = ("step", "bytes_seen", "train_bits", "gradient_norm", "lr_factor", "valid_bits", "seconds")


def commit() -> str:
    git = ["git", "rev-parse", "--short", "HEAD"]
    found = subprocess.run(git, capture_output=True, text=True, cwd=Path(__file__).parent)
    return found.stdout.strip() or "unknown"


def detached(states):
    """The same nest of lists and tuples with every tensor cut off from the steps that made it."""
    if isinstance(states, (list, tuple)):
        return type(states)(detached(part) for part in states)
    return states.detach() if isinstance(states, Tensor) else states


@torch.no_grad()
def sample(model: nn.Module, prompt: bytes, length: int, temperature: float = 0.8, seed: int = 0) -> str:
    """The prompt and up to `length` bytes after it, as text."""
    generator, out = torch.Generator().manual_seed(seed), bytearray(prompt)
    logits, states = model(torch.tensor([[BOS, *prompt]]))
    logits = logits[:, -1]
    for _ in range(length):
        byte = int(torch.multinomial((logits[0] / temperature).softmax(0), 1, generator=generator))
        if byte == EOS:
            break
        out.append(byte)
        logits, states = model.step(torch.tensor([byte]), states)
    return out.decode("utf-8", "replace")


@dataclass
class Position:
    """Where a run is: with the weights and the optimizers, all that a checkpoint needs."""

    step: int = 0
    bytes_seen: int = 0
    phase_begun: int = 0  # the step at which the current choice of files began
    best: float = math.inf
    states: list | None = None


class Trainer:
    def __init__(self, run: Run, out: Path):
        torch.manual_seed(run.train.seed)
        self.run, self.out, self.at = run, out, Position()
        self.model = arch.build(run.model)
        self.optimizers = make_optimizers(self.model, run.train)
        size = sum(p.numel() for p in self.model.parameters())
        print(f"{size:,} parameters · commit {commit()} · seed {run.train.seed} · {accelerate(self.model)}\n{run}")

    def restore(self, path: Path) -> None:
        saved = checkpoint.load(path)
        before = arch.config_to_dict(arch.config_from_dict(saved["config"]["model"]))
        for name, value in arch.config_to_dict(self.run.model).items():
            if name not in before or before[name] != value:
                was = before.get(name)
                raise ValueError(f"{path} was trained with model.{name} = {was}, the settings say {value}")
        self.model.load_state_dict(saved["model"])
        for optimizer, state in zip(self.optimizers, saved["optimizers"]):
            optimizer.load_state_dict(state)
        self.at = Position(**saved["position"])

    def save(self) -> None:
        content = {
            "config": self.run.to_dict(),
            "model": self.model.state_dict(),
            "optimizers": [o.state_dict() for o in self.optimizers],
            "position": vars(self.at),
            "bytes_seen": self.at.bytes_seen,
            "commit": commit(),
        }
        checkpoint.save(self.out / "last.pt", content)

    def decaying(self) -> bool:
        return self.at.bytes_seen > self.run.train.total_bytes - self.run.train.decay_bytes

    def batches(self):
        """(inputs, targets) for ever, from where the run is; the early files end where the decay begins."""
        data, t = self.run.data, self.run.train
        while True:
            late = self.decaying() or not data.early
            files = [*data.train] if late else [*data.train, *data.early]
            stream = Stream(files, t.batch, t.length, t.seed + late)
            for batch in stream.batches(self.at.step - self.at.phase_begun):
                if not late and self.decaying():
                    self.at.phase_begun = self.at.step
                    break
                yield batch

    def update(self, inputs: Tensor, targets: Tensor) -> tuple[float, float]:
        """One step of the optimizers: (bits per byte of the batch, norm of the gradient)."""
        loss, states, *statistics = self.model.loss(inputs, targets, self.at.states)
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = float(torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.run.train.clip))
        if not math.isfinite(norm):
            raise RuntimeError(
                f"step {self.at.step}: the gradient is not finite; lower train.lr or train.matrix_lr, then --resume"
            )
        factor = schedule(self.at.bytes_seen, self.run.train)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["initial_lr"] * factor
            optimizer.step()
        self.at.states = detached(states)
        self.at.step += 1
        self.at.bytes_seen += inputs.numel()
        nats = statistics[0].get("nats", loss) if statistics else loss
        return float(nats) / math.log(2), norm

    def fit(self) -> None:
        t, at = self.run.train, self.at
        valid = read_text(self.run.data.valid)[: t.valid_bytes]
        batches, running, clock = self.batches(), None, time.time()
        bar = tqdm(total=t.total_bytes, initial=at.bytes_seen, unit="B", unit_scale=True, smoothing=0.02, mininterval=5)
        new = not (self.out / "log.csv").exists()
        with open(self.out / "log.csv", "a", newline="") as file, bar:
            log = csv.writer(file)
            if new:
                log.writerow(LOG)
            while at.bytes_seen < t.total_bytes:
                factor = schedule(at.bytes_seen, t)
                bits, norm = self.update(*next(batches))
                running = bits if running is None else 0.98 * running + 0.02 * bits
                bar.update(at.bytes_seen - bar.n)
                bar.set_postfix_str(f"{running:.3f} bits/byte", refresh=False)
                done, held_out = at.bytes_seen >= t.total_bytes, ""
                if done or at.step % t.valid_every == 0:
                    held_out = score(self.model, valid)["bits_per_byte"]
                    scores = f"train {running:.4f} · held out {held_out:.4f} bits/byte · {factor:.3f} lr"
                    tqdm.write(f"step {at.step} · {at.bytes_seen / 1e6:.1f} MB · {scores}")
                    at.best = min(at.best, held_out)
                seconds = f"{time.time() - clock:.1f}"
                log.writerow([at.step, at.bytes_seen, f"{bits:.5f}", f"{norm:.4f}", f"{factor:.5f}", held_out, seconds])
                if done or at.step % t.save_every == 0:
                    file.flush()
                    self.save()
                if at.step % (10 * t.valid_every) == 0:
                    tqdm.write(sample(self.model, b"Once upon a time", 300))


def train(run: Run, out: Path, resume: bool, grow_from: Path | None = None) -> None:
    """Trains to run.train.total_bytes. `grow_from` starts from a shallower model whose blocks are repeated."""
    last = out / "last.pt"
    if last.exists() and not resume:
        raise ValueError(f"{last} exists: say --resume to go on, or choose another --out")
    out.mkdir(parents=True, exist_ok=True)
    trainer = Trainer(run, out)
    if last.exists():
        trainer.restore(last)
    elif grow_from:
        trainer.at.bytes_seen = checkpoint.grow(trainer.model, grow_from)
    trainer.fit()
