#!/usr/bin/env python3
"""Stores a model in SuperFloat, numbers of 3 to 16 bits, and says what that costs.

    superfloat.py quantize last.pt --width 6 --text held_out.txt --out stories-sf6.gguf
    superfloat.py quantize last.pt --budget 0.01 ...        searched widths: the smallest file that loses at most that
    superfloat.py quantize last.pt --size 800000 ...        searched widths: the best file of at most so many bytes
    superfloat.py analyse last.pt --width 4 --text held_out.txt      the layers, those that deviate most first
    superfloat.py table last.pt --text held_out.txt --train train.txt --out models/superfloat.json
    superfloat.py join part.json... --out models/superfloat.json     tables of some widths (table --widths) in one

A model trained in float (model.ternary = false) becomes SFx wholly, of a ternary one embedding and norms do.
--method: vanilla rounds; fit rounds so that each matrix gives, over the text of --train, what the original's gave; opt trains, of
--train, only what left the range or is moved far by rounding; fpm trains everything; ticket trains the layers whose
activations deviate most.  Widths are searched on --train where it is given.
What it all means: models/FORMAT.md, lm/file/superfloat.py.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import fields
from pathlib import Path

import torch
from torch import nn
from tqdm import tqdm

from lm.fast.cpu_kernels import accelerate
from lm.file import gguf_file, superfloat_plan
from lm.file.models import load_any
from lm.file.superfloat import WIDTHS, Numbers
from lm.file.superfloat_plan import Plan
from lm.measure import superfloat as measure
from lm.measure.superfloat_fit import fit
from lm.text import codec, command, files
from lm.text.data import read_text
from lm.text.tables import markdown
from lm.train import superfloat as training
from lm.train import superfloat_table


def model_of(path: Path) -> tuple[nn.Module, int]:
    model, seen = load_any(path)
    if codec.of_model(model) is not codec.BYTES:
        raise ValueError(f"{path}: expected a model of bytes, found one of pieces")
    model.embeddings.exact = True
    if not model.config.ternary:  # the analysis watches ternary layers, which fused blocks hide
        accelerate(model)
    return model, seen


def trained(arguments: argparse.Namespace, model: nn.Module, plan: Plan) -> dict[str, Numbers]:
    """What to store by the method; the model then computes with it."""
    how = arguments.method
    if how == "vanilla":
        stored = superfloat_plan.quantize(model, plan)
        superfloat_plan.put(model, stored)
        return stored
    if not arguments.train:
        raise ValueError(f"--method {how} learns from a text: name one with --train")
    if how == "fit":
        return fit(model, plan, read_text(arguments.train[0])[: arguments.fit_bytes], tqdm)
    mask = {"opt": training.opt, "fpm": training.everything}.get(how)
    if how == "ticket":
        layers = measure.analyse(model, plan, read_text(arguments.text)[: measure.PART])
        worst = [layer.name for layer in layers if layer.cluster == 0]
        print(f"trains {', '.join(worst)}")
        mask = training.ticket([f"{name}.weight" for name in worst])
    batches = training.batches_of(arguments.train, arguments.batch, arguments.length, arguments.seed)
    steps = max(1, arguments.train_bytes // (arguments.batch * arguments.length))
    with_bar = (batch for batch, _ in zip(batches, tqdm(range(steps), how)))
    stored, share = training.tune(model, plan, with_bar, steps, arguments.lr, mask, others=how == "fpm")
    print(f"{how}: {share:.1%} of the numbers trained on {steps * arguments.batch * arguments.length:,} bytes")
    return stored


def quantize(arguments: argparse.Namespace) -> None:
    model, seen = model_of(arguments.checkpoint)
    tokens = read_text(arguments.text)[: arguments.bytes]
    own = measure.bits_per_byte(model, tokens)
    scaled = not arguments.no_row_scale
    if arguments.width is not None:
        plan = superfloat_plan.one_width(model, arguments.width, scaled, not arguments.no_row_scale)
    else:
        practice = read_text(arguments.train[0]) if arguments.train else tokens
        costs = measure.measure_costs(model, practice[: arguments.search_bytes], scaled=scaled, progress=tqdm)
        if arguments.budget is not None:
            plan, _ = measure.smallest(model, costs, tokens, arguments.budget)
        else:
            plan = measure.within(costs, arguments.size)
    if not arguments.clamp:
        superfloat_plan.refuse_clamping(model, plan)
    stored = trained(arguments, model, plan)
    found = measure.bits_per_byte(model, tokens)
    name = arguments.name or arguments.out.stem
    card = gguf_file.Card(
        name, arguments.description, arguments.license, arguments.training_text, arguments.training_bytes or seen
    )
    gguf_file.write(arguments.out, model, card, "TQ1_0", None, stored)
    rows = [("tensor", "numbers", "stored as", "bits a number")]
    for tensor, numbers in stored.items():
        kind = f"SF{numbers.bits}" + (" with scales" if numbers.scales is not None else "")
        rows.append((f"`{tensor}`", f"{numbers.codes.size:,}", kind, f"{8 * numbers.bytes / numbers.codes.size:.2f}"))
    print(markdown(rows))
    print(
        f"\n{arguments.out}: {arguments.out.stat().st_size:,} bytes, {superfloat_plan.bits_per_weight(stored):.2f} bits a number; "
        f"{found:.4f} bits per byte, {found - own:+.4f} to the {own:.4f} of {arguments.checkpoint.name}"
    )


def analyse(arguments: argparse.Namespace) -> None:
    model, _ = model_of(arguments.checkpoint)
    plan = superfloat_plan.one_width(model, arguments.width, not arguments.no_row_scale)
    layers = measure.analyse(model, plan, read_text(arguments.text), arguments.clusters)
    if arguments.json:
        print(json.dumps([vars(layer) for layer in layers], indent=2))
        return
    print(markdown(superfloat_table.layer_rows([vars(layer) for layer in layers], arguments.width)))


def table(arguments: argparse.Namespace) -> None:
    make = lambda: model_of(arguments.checkpoint)[0]  # noqa: E731
    tokens = read_text(arguments.text)[: arguments.bytes]
    names = (field.name for field in fields(superfloat_table.Settings))
    settings = superfloat_table.Settings(**{name: getattr(arguments, name) for name in names})

    def keep(result: dict) -> None:
        files.write_text(arguments.out, json.dumps(result, indent=1) + "\n")

    superfloat_table.make(make, tokens, settings, arguments.widths, keep)


def join(arguments: argparse.Namespace) -> None:
    result = superfloat_table.join([json.loads(files.read_text(part)) for part in arguments.parts])
    files.write_text(arguments.out, json.dumps(result, indent=1) + "\n")
    print(superfloat_table.markdown_of(result))


def arguments_of(words: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = parser.add_subparsers(required=True, metavar="COMMAND")
    for run, what in (
        (quantize, "write a file"),
        (analyse, "rank the layers"),
        (table, "bits per byte by width"),
        (join, "tables of some widths, in one"),
    ):
        kind = kinds.add_parser(run.__name__, help=what)
        kind.set_defaults(run=run)
        if run is join:
            kind.add_argument("parts", type=Path, nargs="+", help="what `table` wrote")
            kind.add_argument("--out", type=Path, required=True)
            continue
        kind.add_argument("checkpoint", type=Path, help=".pt of scripts/train.py, or a .gguf file")
        kind.add_argument("--text", type=Path, required=True, help="held-out text")
        kind.add_argument("--bytes", type=int, default=131072, help="of it, for scores (131072)")
        if run is not table:
            kind.add_argument("--no-row-scale", action="store_true", help="numbers end at 1, as in the paper's code")
        if run is analyse:
            kind.add_argument("--width", type=int, required=True)
            kind.add_argument("--clusters", type=int, default=3)
            kind.add_argument("--json", action="store_true")
            continue
        kind.add_argument("--train", nargs="+", default=[], help="texts to train on")
        kind.add_argument("--train-bytes", type=int, default=200_000, help="how much of them (200000)")
        kind.add_argument("--lr", type=float, default=3e-4, help="learning rate, falling to 0 (3e-4)")
        kind.add_argument("--batch", type=int, default=8)
        kind.add_argument("--length", type=int, default=256)
        kind.add_argument("--seed", type=int, default=1)
        kind.add_argument("--search-bytes", type=int, default=8192, help="of a text, to measure widths with (8192)")
        kind.add_argument(
            "--fit-bytes", type=int, default=32768, help="of the first --train, to fit matrices to (32768)"
        )
        kind.add_argument("--out", type=Path, required=True)
        if run is table:
            kind.add_argument("--widths", type=int, nargs="+", default=list(WIDTHS), help="rows to make (3 to 16)")
            kind.add_argument("--context-bytes", type=int, default=65536, help="of the text, for each context (65536)")
        if run is quantize:
            width = kind.add_mutually_exclusive_group(required=True)
            width.add_argument("--width", type=int, help="one for all tensors, 3 to 16")
            width.add_argument("--budget", type=float, help="bits per byte that may be lost")
            width.add_argument("--size", type=int, help="bytes of the file")
            kind.add_argument("--method", choices=("vanilla", "fit", "opt", "fpm", "ticket"), default="vanilla")
            kind.add_argument("--clamp", action="store_true", help="clamp what is beyond 1 where there are no scales")
            for name in ("name", "description", "license", "training-text"):
                kind.add_argument(f"--{name}", default="", help="for the file's card")
            kind.add_argument("--training-bytes", type=int, default=0, help="likewise; else what the checkpoint says")
    return parser.parse_args(words)


def main() -> None:
    arguments = arguments_of()
    torch.manual_seed(0)
    arguments.run(arguments)


if __name__ == "__main__":
    command.run(main)
