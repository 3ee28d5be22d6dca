"""The table of SuperFloat, with the training that it tells of: bits per byte by width, method, context and file size."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np
from torch import nn

from lm.file import superfloat, superfloat_plan
from lm.file.superfloat_plan import Plan
from lm.measure import superfloat as measure
from lm.text.tables import markdown
from lm.train import superfloat as training

CONTEXTS = (128, 256, 512, 1024)
TUNED = (3, 4, 5, 6, 7, 8)  # widths at which rounding costs anything
IN_CONTEXTS = (4, 6, 8, 16)


@dataclass(frozen=True)
class Settings:
    """Of the training in OPT and FPM."""

    train: list[str]
    train_bytes: int
    batch: int
    length: int
    lr: float
    seed: int
    widths: list[int]  # that are trained


def make(
    make_model: Callable[[], nn.Module], tokens: np.ndarray, settings: Settings, search_bytes: int, progress
) -> dict:
    """make_model(): the original, anew. -> float {bits, contexts}, rows by width, and pairs of files of one size."""
    model = make_model()
    own = measure.bits_per_byte(model, tokens)
    contexts = {str(n): measure.bits_in_contexts(model, tokens, n) for n in CONTEXTS}
    result = {
        "bytes": len(tokens),
        "training": asdict(settings) | {"train": None},
        "float": {"bits": own, "contexts": contexts},
    }
    result["widths"] = []
    for bits in progress(list(superfloat.WIDTHS)):
        row: dict = {"bits": bits}
        for name, scaled in (("vanilla", False), ("scaled", True)):
            row |= _measured(make_model(), superfloat_plan.one_width(model, bits, scaled, scaled), tokens, name)
        if bits in IN_CONTEXTS:
            at = make_model()
            superfloat_plan.put(at, superfloat_plan.quantize(at, superfloat_plan.one_width(at, bits)))
            row["contexts"] = {str(n): measure.bits_in_contexts(at, tokens, n) for n in CONTEXTS}
        if settings.train and bits in settings.widths:
            for name, mask in (("opt", training.opt), ("fpm", training.everything)):
                at = make_model()
                batches = training.batches_of(settings.train, settings.batch, settings.length, settings.seed)
                steps = max(1, settings.train_bytes // (settings.batch * settings.length))
                plan = superfloat_plan.one_width(at, bits)
                _, share = training.tune(at, plan, batches, steps, settings.lr, mask, others=name == "fpm")
                row |= {name: measure.bits_per_byte(at, tokens), f"{name}_share": share}
        result["widths"].append(row)
    costs = measure.measure_costs(model, tokens[:search_bytes], progress=progress)
    result["searched"] = []
    for row in result["widths"]:
        for name in ("vanilla", "scaled") if row["bits"] in TUNED else ():
            try:
                plan = measure.within(costs, row[f"{name}_bytes"])
            except ValueError:
                continue  # nothing is that small
            found = _measured(make_model(), plan, tokens, "searched")
            result["searched"].append(
                {"against": name, "bits": row["bits"], "loss": row[name] - own, "bytes": row[f"{name}_bytes"]}
                | {"searched_loss": found["searched"] - own, "searched_bytes": found["searched_bytes"]}
            )
    return result


def _measured(model: nn.Module, plan: Plan, tokens: np.ndarray, name: str) -> dict:
    stored = superfloat_plan.quantize(model, plan)
    superfloat_plan.put(model, stored)
    return {name: measure.bits_per_byte(model, tokens), f"{name}_bytes": superfloat_plan.model_bytes(model, stored)}


def markdown_of(result: dict) -> str:
    """Three tables: by width and method, by context, and at equal size."""
    own = result["float"]

    def cell(value: float | None) -> str:
        return "" if value is None else f"{value:.4f}"

    rows = [("width", "size", "vanilla", "vanilla, row scales", "perplexity", "OPT", "of the numbers", "FPM")]
    for row in result["widths"]:
        share = f"{row['opt_share']:.0%}" if "opt_share" in row else ""
        trained = cell(row.get("opt")), share, cell(row.get("fpm"))
        size, perplexity = f"{row['scaled_bytes'] / 1e6:.2f} MB", f"{2 ** row['scaled']:.4f}"
        rows.append((f"SF{row['bits']}", size, cell(row["vanilla"]), cell(row["scaled"]), perplexity, *trained))
    rows.append(("float", "", cell(own["bits"]), "", f"{2 ** own['bits']:.4f}", "", "", ""))
    contexts = [("context", "float", *(f"SF{bits}" for bits in IN_CONTEXTS))]
    by_width = {row["bits"]: row["contexts"] for row in result["widths"] if "contexts" in row}
    for n in CONTEXTS:
        cells = (cell(by_width[bits][str(n)]) for bits in IN_CONTEXTS)
        contexts.append((f"{n} bytes", cell(own["contexts"][str(n)]), *cells))
    pairs = [("one width", "size", "loses", "searched", "loses", "of that")]
    for pair in result["searched"]:
        if pair["loss"] < 0.0005:
            continue  # there is nothing to halve
        scales = " with row scales" if pair["against"] == "scaled" else ""
        sizes = (f"{pair[key] / 1e6:.3f} MB" for key in ("bytes", "searched_bytes"))
        size, searched = sizes
        share = f"{pair['searched_loss'] / pair['loss']:.0%}"
        pairs.append(
            (f"SF{pair['bits']}{scales}", size, cell(pair["loss"]), searched, cell(pair["searched_loss"]), share)
        )
    return "\n\n".join(markdown(table) for table in (rows, contexts, pairs))
