#!/usr/bin/env python3
"""A whole experiment in one command: check the data, train, export, evaluate in PyTorch and in the engine, report.

    run_experiment.py scripts/configs/tinystories-3m5.toml                 # to runs/tinystories-3m5
    run_experiment.py my.toml --out runs/mine --license MIT --training-text "My stories (CC0)"

In the run's folder: checkpoints, logs, NAME.gguf, curves.html, report.md and report.json. The same command goes on where a
stopped one was; a finished training is only evaluated again.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from lm.file import gguf_file
from lm.file.checkpoint import latest, load_model
from lm.measure import deviation, evaluation, plots
from lm.text import command, files
from lm.text.data import read_text
from lm.text.encoding import EOS
from lm.text.tables import markdown
from lm.train.loop import Run, train

TRACED_BYTES = 256  # of the held-out text, for the report on single operations


def check_data(run: Run) -> list[dict]:
    """Reads every text that the run names; the first that cannot be read is an error that names it."""
    found = []
    for part, paths in (("train", run.data.train), ("early", run.data.early), ("held out", [run.data.valid])):
        for path in paths:
            tokens = read_text(path)
            found.append({"part": part, "file": str(path), "bytes": len(tokens), "documents": count_documents(tokens)})
    return found


def count_documents(tokens: np.ndarray, piece: int = 1 << 24) -> int:
    ended = sum(int((tokens[k : k + piece] == EOS).sum()) for k in range(0, len(tokens), piece))
    return ended + int(tokens[-1] != EOS)


def export(checkpoint: Path, out: Path, arguments: argparse.Namespace) -> dict:
    """Writes the model file -> facts about it."""
    model, content = load_model(checkpoint)
    card = gguf_file.Card(
        name=out.stem,
        license=arguments.license,
        training_text=arguments.training_text,
        training_bytes=int(content["bytes_seen"]),
    )
    gguf_file.write(out, model, card, arguments.type, model.codec.keys)
    facts = {"file": out.name, "bytes": out.stat().st_size, "checkpoint": checkpoint.name}
    return facts | {
        "parameters": sum(p.numel() for p in model.parameters()),
        "step": content["position"]["step"],
        "bytes_seen": content["bytes_seen"],
        "commit": content["commit"],
    }


def evaluate(model: Path, checkpoint: Path, tokens: np.ndarray, arguments: argparse.Namespace) -> list[dict]:
    """The checkpoint and the model file in PyTorch, the model file in the engine, on the same bytes."""
    reports = [evaluation.evaluate(path, tokens, arguments.samples) for path in (checkpoint, model)]
    if arguments.engine:
        reports.append(evaluation.evaluate_in_engine(model, tokens, arguments.samples, None))
    return reports


def curves(folder: Path) -> str:
    """Draws the run's curves -> the row of the comparison table."""
    runs = [plots.read_run(folder)]
    files.write_text(folder / "curves.html", plots.report(runs))
    return plots.runs_table(runs)


def page(report: dict, table: str) -> str:
    """The report for a reader."""
    model, texts = report["model"], report["data"]
    lines = [f"# {model['file']}", ""]
    lines += [
        f"{model['parameters']:,} parameters, {model['bytes']:,} bytes; step {model['step']:,} (`{model['checkpoint']}`) "
        f"after {model['bytes_seen'] / 1e6:.1f} MB of text; code at commit {model['commit']}."
    ]
    lines += ["", "## Evaluation", "", evaluation.comparison(report["evaluation"])]
    if "fixed_against_float" in report:
        lines += ["", f"Integers against float: {report['fixed_against_float']:+.3%} bits per byte."]
    if "deviation" in report:
        lines += ["", "## Where integers differ from float", "", deviation.tables(report["deviation"])]
    lines += ["", "## Training", "", table, "", "Curves: [curves.html](curves.html)", ""]
    rows = [(t["part"], t["file"], f"{t['bytes']:,}", f"{t['documents']:,}") for t in texts]
    lines += ["## Data", "", markdown([("part", "text", "bytes", "documents"), *rows])]
    lines += ["", "## Settings", "", "```json", json.dumps(report["settings"], indent=2), "```", ""]
    return "\n".join(lines)


def experiment(arguments: argparse.Namespace) -> Path:
    """Runs all of it -> the report for a reader."""
    run = Run.read(arguments.config, arguments.set)
    if not getattr(run.model, "ternary", True):
        raise ValueError(
            "model.ternary = false has no model file: train it with scripts/train.py, and use it as train.teacher"
        )
    missing = [path for path in (evaluation.TERN, deviation.TRACE) if not path.exists()]
    if arguments.engine and missing:
        raise FileNotFoundError(
            f"{missing[0]} is missing: cmake --preset native && cmake --build --preset native, or say --no-engine"
        )
    folder = arguments.out or Path("runs") / arguments.config.stem
    data = check_data(run)
    for text in data:
        print(f"{text['part']}: {text['file']}, {text['bytes']:,} bytes, {text['documents']:,} documents")
    train(run, folder, resume=latest(folder) is not None, init_from=arguments.init_from)
    checkpoint, model = folder / f"{arguments.checkpoint}.pt", folder / f"{folder.resolve().name}.gguf"
    report = {"settings": run.to_dict(), "data": data, "model": export(checkpoint, model, arguments)}
    tokens = np.array(read_text(run.data.valid)[: arguments.bytes])
    report["evaluation"] = evaluate(model, checkpoint, tokens, arguments)
    if arguments.engine:
        float_bits, fixed_bits = (r["bits_per_byte"] for r in report["evaluation"][1:])
        report["fixed_against_float"] = fixed_bits / float_bits - 1
    if arguments.engine and not run.data.tokenizer:  # tern_trace reads bytes
        held_out = folder / "held_out.bin"
        files.write_bytes(held_out, tokens.tobytes())
        report["deviation"] = deviation.analyse(model, held_out, TRACED_BYTES)
    files.write_text(folder / "report.json", json.dumps(report, indent=2) + "\n")
    files.write_text(folder / "report.md", page(report, curves(folder)))
    return folder / "report.md"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path, help="a TOML file, see scripts/configs")
    parser.add_argument("--out", type=Path, help="folder of the run (runs/NAME of the config)")
    parser.add_argument(
        "--set", action="append", default=[], metavar="SECTION.KEY=VALUE", help="changes a setting, as often as wanted"
    )
    parser.add_argument("--init-from", type=Path, help="begin with the weights of a checkpoint")
    parser.add_argument("--checkpoint", choices=("best", "last"), default="best", help="which to export (best)")
    parser.add_argument("--bytes", type=int, help="evaluate on the first N bytes of the held-out text only")
    parser.add_argument("--samples", type=int, default=8, help="texts to generate and measure (8)")
    parser.add_argument("--type", choices=sorted(gguf_file.TERNARY_TYPES), default="TQ1_0", help="of the model file")
    parser.add_argument("--license", default="MIT", help="SPDX name of the licence of the weights")
    parser.add_argument("--training-text", default="", help="what it was trained on, and that text's licence")
    parser.add_argument("--no-engine", dest="engine", action="store_false", help="evaluate in PyTorch only")
    arguments = parser.parse_args()
    report = experiment(arguments)
    print(f"\n{files.read_text(report).split('## Where')[0].split('## Data')[0]}{report}")


if __name__ == "__main__":
    command.run(main)
