#!/usr/bin/env python3
"""Training on a machine that is lent for minutes and knows nothing: a folder goes there, pieces of a checkpoint come back.

gpu_run.py pack CONFIG --out FOLDER [--begin OUT]     code and texts, below 60 MB; OUT: go on from what came back
python3 FOLDER/gpu_run.py train --out OUT --seconds 540      there; needs PyTorch, NumPy and tqdm
gpu_run.py join OUT last.pt                           pieces -> a checkpoint for export.py and evaluate.py

`train` stops in time, with the schedule's end at the end of the time if --finish is given, and goes on from the pieces in
OUT or in FOLDER, whichever is further. Pieces are written every --save-seconds, each file below 16 MB. `pack` and `join`
run here, `train` anywhere, a CPU included.
"""

from __future__ import annotations

import time

BEGAN = time.monotonic()  # before the imports, which take seconds

import argparse  # noqa: E402
import contextlib  # noqa: E402
import json  # noqa: E402
import lzma  # noqa: E402
import math  # noqa: E402
import os  # noqa: E402
import shutil  # noqa: E402
import tarfile  # noqa: E402
import tempfile  # noqa: E402
from dataclasses import replace  # noqa: E402
from pathlib import Path  # noqa: E402

import torch  # noqa: E402

from lm import arch  # noqa: E402
from lm.fast import gpu  # noqa: E402
from lm.file import checkpoint  # noqa: E402
from lm.file.models import load_any  # noqa: E402
from lm.text import command, files  # noqa: E402
from lm.text.data import read_text  # noqa: E402
from lm.train import pieces  # noqa: E402
from lm.train.distributed import World  # noqa: E402
from lm.train.loop import STAMP, Run, Trainer, commit  # noqa: E402
from lm.train.report import Report  # noqa: E402

HERE = Path(__file__).resolve().parent
LARGEST = 60_000_000  # bytes of a packed folder
LOGS = "run.tar.xz"
SETTINGS = "settings.json"
MARGIN = 5.0  # seconds kept for the end besides those that writing the pieces took


# ---- here: pack


def pack(arguments: argparse.Namespace) -> None:
    """Code, settings, texts as .bin.xz and, with --begin, pieces -> a folder. ValueError: it is too large."""
    run, out = Run.read(arguments.config, arguments.set), arguments.out
    if out.exists() and any(out.iterdir()):
        raise ValueError(f"{out} is not empty: name a new folder")
    if run.data.tokenizer:
        raise ValueError("data.tokenizer: a lent machine has no tokenizers; expected a model of bytes")
    names = {}
    for path in (*run.data.train, *run.data.early, run.data.valid):
        names.setdefault(path, f"text/{len(names)}-{Path(path).name.split('.')[0]}.bin")
    for path, name in names.items():
        tokens = read_text(path)
        tokens = tokens[: run.train.valid_bytes] if path == run.data.valid and path not in run.data.train else tokens
        files.write_bytes(out / f"{name}.xz", lzma.compress(tokens.tobytes(), preset=9))
    data = replace(
        run.data,
        train=[names[path] for path in run.data.train],
        early=[names[path] for path in run.data.early],
        valid=names[run.data.valid],
        weights={names[path]: weight for path, weight in run.data.weights.items()},
    )
    settings = replace(run, data=data)
    if run.train.teacher:
        teacher, seen = load_any(Path(run.train.teacher))
        known = {"config": {"model": arch.config_to_dict(teacher.config)}, "model": teacher.state_dict()}
        pieces.write(out / "teacher", {**known, "optimizers": [], "bytes_seen": seen, "position": {"step": 0}}, False)
        settings = replace(settings, train=replace(run.train, teacher="teacher.pt"))
    files.write_text(out / SETTINGS, json.dumps(settings.to_dict(), indent=2) + "\n")
    shutil.copytree(HERE / "lm", out / "lm", ignore=shutil.ignore_patterns("__pycache__"))
    files.write_text(out / "lm" / STAMP.name, commit() + "\n")
    shutil.copy(__file__, out / "gpu_run.py")
    if arguments.begin:
        found = pieces.facts(arguments.begin)
        if found is None:
            raise FileNotFoundError(f"{arguments.begin} has no {pieces.NAME}.json to go on from")
        for name in (f"{pieces.NAME}.json", LOGS, *found["pieces"]):
            shutil.copy(arguments.begin / name, out / name)
        print(f"goes on from step {found['step']:,}, {found['bytes_seen']:,} bytes seen")
    sizes = {path.relative_to(out): path.stat().st_size for path in out.rglob("*") if path.is_file()}
    largest = sorted(sizes, key=sizes.get, reverse=True)[:3]
    if sum(sizes.values()) > LARGEST:
        shutil.rmtree(out)
        said = ", ".join(f"{path} {sizes[path]:,}" for path in largest)
        raise ValueError(f"{sum(sizes.values()):,} bytes to send, expected at most {LARGEST:,}; largest: {said}")
    print(f"{out}: {len(sizes)} files, {sum(sizes.values()):,} bytes")


# ---- there: train


def unpack(work: Path) -> None:
    """The texts into the work folder, where training finds them."""
    for path in sorted((HERE / "text").glob("*.bin.xz")):
        target = work / "text" / path.name.removesuffix(".xz")
        with lzma.open(path) as packed, files.replacing(target) as partial, open(partial, "wb") as file:
            shutil.copyfileobj(packed, file, 1 << 20)
    if (HERE / "teacher").exists():
        pieces.join(HERE / "teacher", work / "teacher.pt")


def furthest(*folders: Path) -> Path | None:
    """The folder whose pieces have the most steps."""
    found = [(facts["step"], n, folder) for n, folder in enumerate(folders) if (facts := pieces.facts(folder))]
    return max(found)[2] if found else None


class TimedTrainer(Trainer):
    """A trainer whose checkpoints are pieces, written when their time has come and not when a step wants them."""

    def save(self, *names: str) -> None:
        pass

    def finish_in(self, seconds: float, bytes_per_second: float) -> None:
        """Makes train.total_bytes what can be read in that time; warm-up and decay keep their shares of it."""
        t = self.run.train
        total = self.at.bytes_seen + max(int(seconds * bytes_per_second), t.batch * t.length)
        shares = {
            name: value and value * total // t.total_bytes for name in BYTES if (value := getattr(t, name)) is not None
        }
        self.run = replace(self.run, train=replace(t, total_bytes=total, **shares))


BYTES = ("warmup_bytes", "decay_bytes")


def quicken(trainer: Trainer) -> list[str]:
    """Uses what this machine runs faster, each checked -> what is used."""
    used = [gpu.check_scan(trainer.world.device)]
    if trainer.world.device != "cpu":
        torch.set_float32_matmul_precision("high")
        used.append(gpu.compiled_blocks(trainer.model, trainer.world.device))
    return used


def fill(run: Run, world: World) -> Run:
    """The run with as many rows as fill the card, and no more parts than that needs."""

    def measure(rows: int) -> float | None:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        try:
            trainer = TimedTrainer(replace(run, train=replace(run.train, batch=rows, accumulate=1)), Path(), world)
            tokens = torch.zeros(rows, run.train.length, dtype=torch.long, device=world.device)
            trainer.gradients(tokens, tokens)
        except torch.cuda.OutOfMemoryError:
            return None
        return torch.cuda.max_memory_allocated() / torch.cuda.get_device_properties(world.device).total_memory

    rows = gpu.largest(measure, 8)
    return replace(run, train=replace(run.train, batch=rows, accumulate=1))


def train(arguments: argparse.Namespace) -> None:
    deadline, out = BEGAN + arguments.seconds, arguments.out.resolve()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        os.chdir(work)  # the settings name texts relative to it, the same in every call
        unpack(work)
        source, changes = furthest(out, HERE), list(arguments.set)
        if source:
            found = pieces.join(source, work / "last.pt")
            if (source / LOGS).exists():
                with tarfile.open(source / LOGS) as logs:
                    logs.extractall(work, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
            before = checkpoint.load(work / "last.pt")["config"]["train"]
            kept = ("batch", "total_bytes", *BYTES)  # as the run began, whatever card it is on now
            changes = [f"train.{name}={before[name]}" for name in kept if before[name] is not None] + changes
        run = Run.read(HERE / SETTINGS, changes)
        world = World.join(run.train.device)
        if not source and arguments.fill and world.device != "cpu":
            run = fill(run, world)
        trainer = TimedTrainer(run, work, world)
        if source:
            trainer.restore(work / "last.pt")
            memory = "with" if found["optimizers"] else "without"
            print(f"goes on from {source}: step {found['step']:,}, {found['bytes_seen']:,} bytes, {memory} optimizers")
        print(*quicken(trainer), sep="\n")
        trainer.describe()
        done = fit(trainer, out, deadline, arguments)
        os.chdir(out)
    print(f"{'finished' if done else 'out of time'}: step {trainer.at.step:,}, {trainer.at.bytes_seen:,} bytes seen")


def fit(trainer: TimedTrainer, out: Path, deadline: float, arguments: argparse.Namespace) -> bool:
    """Trains until the deadline or the end -> whether that is reached. Pieces are in `out` afterwards."""
    at, report, batches = trainer.at, Report(trainer), trainer.batches()
    begun, first, step = time.monotonic(), trainer.at.bytes_seen, 0.0
    saved, writing, margin = -math.inf, 0.0, min(MARGIN, arguments.seconds / 10)

    def write() -> float:
        start = time.monotonic()
        if report.watch is not None:
            report.watch.flush()
        pack_logs(Path.cwd(), out)
        pieces.write(out, trainer.content(), arguments.optimizers, arguments.piece_bytes)
        return time.monotonic() - start

    with contextlib.closing(report):
        while at.bytes_seen < trainer.run.train.total_bytes:
            now = time.monotonic()
            left = deadline - now - 2 * writing - step - margin
            if left < 0:
                break
            if arguments.finish and now - begun > arguments.seconds / 20 and at.bytes_seen > first:
                trainer.finish_in(left, (at.bytes_seen - first) / (now - begun))
                arguments.finish = False
            trainer.advance(batches, report)
            step = max(step, time.monotonic() - now)
            if (
                time.monotonic() - saved > arguments.save_seconds
            ):  # the first step's, too: what writing costs is known then
                writing, saved = write(), time.monotonic()
        write()
    rate = (at.bytes_seen - first) / max(time.monotonic() - begun, 1e-9)
    print(json.dumps({"bytes_per_second": round(rate), **pieces.facts(out)}))
    return at.bytes_seen >= trainer.run.train.total_bytes


def pack_logs(work: Path, out: Path) -> None:
    with files.replacing(out / LOGS) as partial, tarfile.open(partial, "w:xz") as logs:
        for name in ("log.csv", "ternary.csv", "samples.txt", "run.json"):
            if (work / name).exists():
                logs.add(work / name, name)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = parser.add_subparsers(required=True, metavar="COMMAND")
    here = kinds.add_parser("pack", help="make the folder that goes there")
    here.set_defaults(run=pack)
    here.add_argument("config", type=Path, help="a TOML file, see scripts/configs")
    here.add_argument("--begin", type=Path, metavar="OUT", help="pieces that came back, to go on from")
    there = kinds.add_parser("train", help="train until the time is over")
    there.set_defaults(run=train)
    there.add_argument("--seconds", type=float, required=True, help="of this call, from its start to its end")
    there.add_argument("--save-seconds", type=float, default=120, help="between two checkpoints (120)")
    there.add_argument("--finish", action="store_true", help="set train.total_bytes so that the schedule ends in time")
    there.add_argument("--fill", action="store_true", help="as many rows a step as fill the card, when a run begins")
    there.add_argument("--optimizers", action="store_true", help="keep the optimizers' memory, twice as much again")
    there.add_argument("--piece-bytes", type=int, default=pieces.PIECE, help=f"of a file at most ({pieces.PIECE:,})")
    for kind in (here, there):
        kind.add_argument("--out", type=Path, required=True, help="folder to write")
        kind.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE", help="changes a setting")
    back = kinds.add_parser("join", help="make a checkpoint of what came back")
    back.set_defaults(run=lambda a: print(f"{a.checkpoint}: step {pieces.join(a.out, a.checkpoint)['step']:,}"))
    back.add_argument("out", type=Path, help="folder with pieces")
    back.add_argument("checkpoint", type=Path, help="the .pt file to write")
    arguments = parser.parse_args()
    arguments.run(arguments)


if __name__ == "__main__":
    command.run(main)
