"""Evaluates model files, with PyTorch and with the engine, and lays the numbers out as tables."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from lm import ROOT
from lm.fast.cpu_kernels import accelerate
from lm.file import gguf_file
from lm.file.models import load_any
from lm.measure import samples
from lm.measure.score import score
from lm.text.tables import markdown

TERN = ROOT / "build" / "native" / "tern"


def evaluate(path: Path, tokens: np.ndarray, count: int, given: Sequence[bytes] | None = None, progress=iter) -> dict:
    """With PyTorch: the score of `tokens` and the measures of `count` samples, or of the `given` ones."""
    model, seen = load_any(path)
    if next(model.parameters()).device.type == "cpu":
        accelerate(model)
    report = {"model": str(path), "computed_by": "PyTorch", "bytes_seen": seen}
    report |= score(model, tokens, progress=progress)
    return report | samples.measure(samples.standard_samples(model, count) if given is None else given)


def evaluate_in_engine(path: Path, tokens: np.ndarray, count: int, sample_file: Path | None) -> dict:
    """What `tern eval` says about a .gguf file: the same numbers from integers, and their exact total bits_q32."""
    if not TERN.exists():
        raise FileNotFoundError(f"{TERN} is missing: cmake --preset native && cmake --build --preset native")
    with tempfile.TemporaryDirectory() as folder:
        text = Path(folder) / "text.bin"
        text.write_bytes(tokens.tobytes())
        command = [TERN, "eval", "--json", "--model", path, "--text", text, "--samples", count]
        command += ["--sample-file", sample_file] if sample_file else []
        done = subprocess.run([str(word) for word in command], capture_output=True, encoding="utf-8")
    if done.returncode != 0:
        raise ValueError(done.stderr.strip().splitlines()[-1])
    seen = int(gguf_file.read(path)[0].get("general.training_bytes", 0))
    return {"model": str(path), "computed_by": "engine", "bytes_seen": seen, **json.loads(done.stdout)}


def _shares(values: Sequence[float]) -> str:
    return " ".join(f"{value:.4f}" for value in values)


def sheet(report: dict) -> str:
    """One model: a line per number, as `tern eval` prints it."""
    lines = [
        ("bits per byte", f"{report['bits_per_byte']:.4f}"),
        ("perplexity per byte", f"{report['perplexity']:.4f}"),
        ("bits per raw byte", f"{report['bits_per_raw_byte']:.4f}"),
        ("top-1 accuracy", f"{report['top1']:.4f}"),
        ("top-5 accuracy", f"{report['top5']:.4f}"),
        ("bytes", str(report["bytes"])),
        ("raw bytes", str(report["raw_bytes"])),
        ("bytes per second", f"{report['bytes_per_second']:.0f}"),
    ]
    if report["samples"]:
        lines += [
            ("samples", str(report["samples"])),
            ("valid UTF-8", f"{report['utf8_valid']:.4f}"),
            ("distinct 1-4, words", _shares(report["distinct_words"])),
            ("distinct 1-4, bytes", _shares(report["distinct_bytes"])),
            ("repeated word 4-grams", f"{report['repetition']:.4f}"),
        ]
    return "\n".join(f"{name:<22} {value}" for name, value in lines)


def comparison(reports: Sequence[dict]) -> str:
    """Several models: a Markdown table, best bits per byte first."""
    columns = {
        "model": lambda r: f"`{Path(r['model']).parent.name}/{Path(r['model']).name}`",
        "by": lambda r: r["computed_by"],
        "text seen": lambda r: f"{r['bytes_seen'] / 1e6:.1f} MB",
        "bits per byte": lambda r: f"{r['bits_per_byte']:.4f}",
        "perplexity": lambda r: f"{r['perplexity']:.4f}",
        "top-1": lambda r: f"{r['top1']:.2%}",
        "top-5": lambda r: f"{r['top5']:.2%}",
        "UTF-8": lambda r: f"{r['utf8_valid']:.0%}" if r["samples"] else "",
        "distinct 1-4, words": lambda r: " ".join(f"{x:.2f}" for x in r.get("distinct_words", ())),
        "repeated": lambda r: f"{r['repetition']:.2%}" if r["samples"] else "",
        "bytes/s": lambda r: f"{r['bytes_per_second']:,.0f}",
    }
    rows = [[cell(report) for cell in columns.values()] for report in sorted(reports, key=lambda r: r["bits_per_byte"])]
    return markdown([list(columns), *rows])
