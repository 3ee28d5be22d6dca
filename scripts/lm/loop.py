"""The training loop: one config in, checkpoints and a CSV log out; killed and resumed, it goes on where it was."""

import csv
import math
import subprocess
import time
import tomllib
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from . import checkpoint
from .arch.hgrnbit import BOS, EOS, Config, HGRNBit
from .cpu_kernels import accelerate
from .data import Stream, inputs_and_targets, read_text
from .optim import make_optimizers, schedule


@dataclass(frozen=True)
class Data:
    train: list  # text files
    valid: str  # held-out text file
    early: list = ()  # more text files, left out while the learning rate decays (noisier text)


@dataclass(frozen=True)
class Train:
    total_bytes: int
    batch: int = 32
    length: int = 512  # bytes per row and step; the state is carried from step to step
    lr: float = 3e-3
    matrix_optimizer: str = "muon"  # or "adamw"
    matrix_lr: float = 0.02
    matrix_weight_decay: float = 0.05
    warmup_bytes: int = 1_000_000
    decay_bytes: int = 25_000_000
    clip: float = 1.0
    seed: int = 1
    valid_bytes: int = 131_072
    valid_every: int = 100  # steps
    save_every: int = 100  # steps


@dataclass(frozen=True)
class Run:
    model: Config
    data: Data
    train: Train

    @staticmethod
    def read(path: str | Path) -> "Run":
        """A TOML file with the sections [model], [data] and [train]; a key that is not known is an error."""
        values = tomllib.loads(Path(path).read_text())
        for section in values:
            if section not in ("model", "data", "train"):
                raise ValueError(f"{path}: [{section}] is not a section; known: model, data, train")
        parts = {"model": Config.from_dict(values.get("model", {}))}
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


def commit() -> str:
    found = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=Path(__file__).parent
    )
    return found.stdout.strip() or "unknown"


def bits_per_byte(model: HGRNBit, text: np.ndarray, batch: int = 16) -> float:
    """Mean bits per byte of `text`, read as `batch` rows in parallel (each starts with an empty state)."""
    rows = text[: len(text) // batch * batch].reshape(batch, -1)
    rows = np.concatenate((np.full((batch, 1), BOS, np.uint8), rows), 1)
    total, count, states = 0.0, 0, None
    with torch.no_grad():
        for start in range(0, (rows.shape[1] - 1) // 4 * 4, 1024):
            inputs, targets = inputs_and_targets(rows[:, start : min(start + 1024, (rows.shape[1] - 1) // 4 * 4) + 1])
            loss, states = model.loss(inputs, targets, states)
            total, count = total + loss.item() * targets.numel(), count + targets.numel()
    return total / count / math.log(2)


def sample(model: HGRNBit, prompt: bytes, length: int, temperature: float = 0.8, seed: int = 0) -> str:
    generator, states, out = torch.Generator().manual_seed(seed), model.initial_states(1), bytearray(prompt)
    plain, model.block_forward = (
        model.block_forward,
        type(model.layers[0]).__call__,
    )  # single bytes: no use for the fused block
    with torch.no_grad():
        logits, states = model(torch.tensor([[BOS, *prompt]]), states)
        logits = logits[:, -1]
        for _ in range(length):
            byte = int(torch.multinomial((logits[0] / temperature).softmax(0), 1, generator=generator))
            if byte == EOS:
                break
            out.append(byte)
            logits, states = model.step(torch.tensor([byte]), states)
    model.block_forward = plain
    return out.decode("utf-8", "replace")


def train(run: Run, out: Path, resume: bool) -> None:
    out.mkdir(parents=True, exist_ok=True)
    last = out / "last.pt"
    if last.exists() and not resume:
        raise ValueError(f"{last} exists: say --resume to go on, or choose another --out")
    torch.manual_seed(run.train.seed)
    model = HGRNBit(run.model)
    print(
        f"{sum(p.numel() for p in model.parameters()):,} parameters · commit {commit()} · seed {run.train.seed} · {accelerate(model)}"
    )
    print(run)
    optimizers = make_optimizers(model, run.train)
    step, bytes_seen, best, states, begun = 0, 0, math.inf, None, 0
    if resume and last.exists():
        saved = checkpoint.load(last)
        if saved["config"]["model"] != asdict(run.model):
            raise ValueError(f"{last} was trained with other [model] settings: {saved['config']['model']}")
        model.load_state_dict(saved["model"])
        for optimizer, state in zip(optimizers, saved["optimizers"]):
            optimizer.load_state_dict(state)
        step, bytes_seen, best, states, begun = (
            saved[k] for k in ("step", "bytes_seen", "best", "states", "stream_begun")
        )
    t = run.train
    decaying = bytes_seen > t.total_bytes - t.decay_bytes
    files = list(run.data.train) + ([] if decaying else list(run.data.early))
    stream = Stream(files, t.batch, t.length, t.seed)
    batches = stream.batches(step - begun)
    valid = read_text(run.data.valid)[: t.valid_bytes]
    log = open(out / "log.csv", "a", newline="")
    rows = csv.writer(log)
    bar = tqdm(total=t.total_bytes, initial=bytes_seen, unit="B", unit_scale=True, smoothing=0.02, mininterval=5)
    running, clock = None, time.time()
    while bytes_seen < t.total_bytes:
        factor = schedule(bytes_seen, t)
        if not decaying and bytes_seen > t.total_bytes - t.decay_bytes and run.data.early:
            decaying, begun = True, step
            batches = Stream(list(run.data.train), t.batch, t.length, t.seed + 1).batches(0)
        inputs, targets = next(batches)
        loss, states = model.loss(inputs, targets, states)
        states = [(s.detach(), tail.detach()) for s, tail in states]
        for optimizer in optimizers:
            optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), t.clip)
        if not math.isfinite(norm):
            raise RuntimeError(
                f"step {step}: the gradient is not finite; lower train.lr or train.matrix_lr, then --resume from {last}"
            )
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group.setdefault("initial_lr", group["lr"]) * factor
            optimizer.step()
        step, bytes_seen = step + 1, bytes_seen + inputs.numel()
        bits = loss.item() / math.log(2)
        running = bits if running is None else 0.98 * running + 0.02 * bits
        bar.update(inputs.numel())
        bar.set_postfix_str(f"{running:.3f} bits/byte", refresh=False)
        score = ""
        if step % t.valid_every == 0 or bytes_seen >= t.total_bytes:
            score = bits_per_byte(model, valid)
            tqdm.write(
                f"step {step} · {bytes_seen / 1e6:.1f} MB · train {running:.4f} · held out {score:.4f} bits/byte · {factor:.3f} lr"
            )
        rows.writerow(
            [
                step,
                bytes_seen,
                f"{bits:.5f}",
                f"{float(norm):.4f}",
                f"{factor:.5f}",
                score and f"{score:.5f}",
                f"{time.time() - clock:.1f}",
            ]
        )
        if step % t.save_every == 0 or bytes_seen >= t.total_bytes:
            log.flush()
            content = {
                "config": asdict(run), "model": model.state_dict(), "optimizers": [o.state_dict() for o in optimizers],
                "step": step, "bytes_seen": bytes_seen, "best": min(best, score or best), "states": states,
                "stream_begun": begun, "commit": commit(),
            }  # fmt: skip
            checkpoint.save(last, content)
            if score and score < best:
                best = score
                checkpoint.save(out / "best.pt", content)
        if step % (10 * t.valid_every) == 0:
            tqdm.write(sample(model, b"Once upon a time", 300))
    bar.close()
