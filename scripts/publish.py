#!/usr/bin/env python3
"""Measures a model file in models/ and writes its entry in the manifest, the table and the picture there.

    publish.py models/NAME.gguf --text held_out.txt [--default]

Everything but the score is read from the file itself; the score is what `tern eval` says.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path

import numpy as np
import torch

from lm import arch
from lm.file import checksum, gguf_file
from lm.measure import plots
from lm.measure.evaluation import evaluate_in_engine
from lm.text import command, files
from lm.text.data import read_text
from lm.text.tables import between, markdown


def count_parameters(model: torch.nn.Module) -> int:
    """As `tern inspect` counts: weights, embedding, norms, convolution; not padding, scales and bounds."""
    return sum(values.numel() for values in model.parameters())


WORK_BYTES = 32768  # of the text, to see how often a chunk begins


def products_per_token(model: torch.nn.Module, tokens: np.ndarray) -> float:
    """Multiply-adds of the matrices per token; where a stage runs once per chunk, with chunks as long as they are in the text."""
    with torch.no_grad():
        inputs = torch.from_numpy(tokens[: WORK_BYTES + 1].astype(np.int64))[None]
        statistics = model.loss(inputs[:, :-1], inputs[:, 1:])[2] if model.config.architecture == "hnetbit" else {}
    return plots.products_per_byte(arch.config_to_dict(model.config), float(statistics.get("chunk_0", 1)))


CARD = ("general.name", "general.license", "general.training_text", "general.training_bytes")


def entry(model: Path, text: Path, default: bool) -> dict:
    """One element of the manifest's `models`; a file of an older export gets its checksum first."""
    checksum.add(model)
    keys, _ = gguf_file.read(model)
    missing = [key for key in CARD if key not in keys]
    if missing:
        raise ValueError(f"{model} has no key {missing[0]}; export it with --name, --license and --training-text")
    content = model.read_bytes()
    tokens = read_text(text)
    score = evaluate_in_engine(model, tokens, 0, None)
    computed = gguf_file.load(model)
    products = products_per_token(computed, tokens) * score["tokens"] / score["bytes"]
    return {
        "file": model.name,
        "sha256": hashlib.sha256(content).hexdigest(),
        "bytes": len(content),
        "name": keys["general.name"],
        "architecture": keys["general.architecture"],
        "parameters": count_parameters(computed),
        "license": keys["general.license"],
        "trained_on": keys["general.training_text"],
        "bytes_seen": int(keys["general.training_bytes"]),
        "products_per_byte": round(products),
        "bits_per_byte": round(score["bits_per_byte"], 4),
        "evaluated_on": text.name,
        "default": default,
    }


TABLE_BEGIN, TABLE_END = "<!-- table made by scripts/publish.py -->\n", "<!-- end of table -->\n"


def table(manifest: dict) -> str:
    """The models of a manifest as a Markdown table."""
    rows = [("file", "parameters", "size", "trained on", "text seen", "bits per byte", "licence")]
    for model in manifest["models"]:
        name = f"`{model['file']}`" + (" (default)" if model["default"] else "")
        score = f"{model['bits_per_byte']:.3f} on {model['evaluated_on']}"
        size, seen = f"{model['bytes'] / 1e6:.2f} MB", f"{model['bytes_seen'] / 1e6:.0f} MB"
        rows.append((name, f"{model['parameters']:,}", size, model["trained_on"], seen, score, model["license"]))
    return markdown(rows) + "\n"


def write_table(readme: Path, manifest: dict) -> None:
    files.write_text(readme, between(files.read_text(readme), TABLE_BEGIN, TABLE_END, table(manifest)))


def publish(model: Path, text: Path, default: bool) -> dict:
    """Adds or replaces the model's entry; at most one entry stays the default."""
    manifest_file = model.parent / "manifest.json"
    manifest = json.loads(files.read_text(manifest_file)) if manifest_file.exists() else {"models": []}
    new = entry(model, text, default)
    others = [old for old in manifest["models"] if old["file"] != new["file"]]
    if default:
        others = [{**old, "default": False} for old in others]
    manifest["models"] = sorted([*others, new], key=lambda e: (not e["default"], e["file"]))
    files.write_text(manifest_file, json.dumps(manifest, indent=2) + "\n")
    if (model.parent / "README.md").exists():
        write_table(model.parent / "README.md", manifest)
    if (model.parent / "baselines.json").exists():
        plots.write_models(model.parent)
    return new


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path, help="a .gguf file; the manifest is written beside it")
    parser.add_argument("--text", type=Path, required=True, help="held-out text for the score")
    parser.add_argument("--default", action="store_true", help="the demo page loads this model")
    arguments = parser.parse_args()
    print(json.dumps(publish(arguments.model, arguments.text, arguments.default), indent=2))


if __name__ == "__main__":
    command.run(main)
