"""The table of SuperFloat, with the training that it tells of: bits per byte by width, method, context and file size.

A row of every width, which can be made in several processes and joined.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cache

import numpy as np
from torch import nn

from lm.file import superfloat_plan
from lm.file.superfloat import Numbers
from lm.file.superfloat_plan import Plan
from lm.measure import superfloat as measure
from lm.measure.superfloat_fit import fit
from lm.text.data import read_text
from lm.text.tables import markdown
from lm.train import superfloat as training

CONTEXTS = (128, 256, 512, 1024)
COSTLY = (3, 4, 5, 6, 7, 8)  # widths at which rounding costs anything: fitted, ticketed and searched against
TRAINED = {False: (*COSTLY, 16), True: (*COSTLY, 10, 12, 16)}  # by OPT and FPM, without scales and with them
IN_CONTEXTS = (3, 4, 6, 8)
CONTEXT_METHODS = ("scaled", "scaled_opt", "scaled_fpm", "fit")
ANALYSED = 4


@dataclass(frozen=True)
class Settings:
    """Of what is measured on, and of the training in OPT, FPM and tickets."""

    train: list[str]
    train_bytes: int
    batch: int
    length: int
    lr: float
    seed: int
    search_bytes: int  # of the text to train on: widths are searched on them
    fit_bytes: int  # and matrices fitted to these
    context_bytes: int  # of the held-out text, for each context


def make(
    make_model: Callable[[], nn.Module],
    tokens: np.ndarray,
    settings: Settings,
    widths: Sequence[int],
    keep: Callable[[dict], None],
) -> None:
    """make_model(): the original, anew. keep() gets the table after every width: float {bits, contexts}, and the rows so far."""
    if not settings.train:
        raise ValueError("the table trains, fits and searches: name a text with --train")
    rows = Rows(make_model, tokens, settings)
    result = {
        "bytes": len(tokens),
        "settings": asdict(settings) | {"train": None},
        "float": {"bits": rows.own},
        "widths": [],
    }
    for bits in widths:
        result["widths"].append(rows.row(bits))
        keep(result)


def join(parts: Sequence[dict]) -> dict:
    """Tables of some widths each -> the table of all. ValueError when they are not of one model, text and settings."""
    first = parts[0]
    for part in parts:
        for key in ("bytes", "settings", "float"):
            if part[key] != first[key]:
                raise ValueError(f"tables of one model, text and settings can be joined, these differ in {key}")
    rows = {row["bits"]: row for part in parts for row in part["widths"]}
    return first | {"widths": [rows[bits] for bits in sorted(rows)]}


class Rows:
    def __init__(self, make_model: Callable[[], nn.Module], tokens: np.ndarray, settings: Settings):
        self.make_model, self.tokens, self.settings = make_model, tokens, settings
        self.own = measure.bits_per_byte(make_model(), tokens)
        longest = max(settings.search_bytes, settings.fit_bytes)
        self.practice = read_text(settings.train[0])[:longest]
        self.costs = cache(lambda: measure.measure_costs(make_model(), self.practice[: settings.search_bytes]))

    def in_contexts(self, model: nn.Module) -> dict[str, float]:
        tokens = self.tokens[: self.settings.context_bytes]
        return {str(n): measure.bits_in_contexts(model, tokens, n) for n in CONTEXTS}

    def row(self, bits: int) -> dict:
        """Keys: a method -> bits per byte; METHOD_bytes, METHOD_share (of the numbers, trained), contexts, searched, layers."""
        row: dict = {"bits": bits, "contexts": {}, "searched": []}
        for prefix, name, scaled in (("", "vanilla", False), ("scaled_", "scaled", True)):
            plan = superfloat_plan.one_width(self.make_model(), bits, scaled, scaled)
            row |= self._stored(name, plan, superfloat_plan.quantize)
            self._keep_contexts(row, name)
            if bits in TRAINED[scaled]:
                row |= self._tuned(f"{prefix}opt", plan, training.opt, row[name])
                self._keep_contexts(row, f"{prefix}opt")
                row |= self._tuned(f"{prefix}fpm", plan, training.everything, None)
                self._keep_contexts(row, f"{prefix}fpm")
        if bits in COSTLY:
            row |= self._stored("fit", plan, self._fitted)
            self._keep_contexts(row, "fit")
            layers = measure.analyse(self.make_model(), plan, self.practice)
            if bits == ANALYSED:
                row["layers"] = [vars(layer) for layer in layers]
                row["contexts"]["float"] = self.in_contexts(self.make_model())
            worst = [f"{layer.name}.weight" for layer in layers if layer.cluster == 0]
            row |= self._tuned("ticket", plan, training.ticket(worst), None) | {"ticket_layers": worst}
            row["searched"] = self._searched(row)
        return row

    def _fitted(self, model: nn.Module, plan: Plan) -> dict[str, Numbers]:
        return fit(model, plan, self.practice[: self.settings.fit_bytes])

    def _keep_contexts(self, row: dict, name: str) -> None:
        if row["bits"] in IN_CONTEXTS and name in CONTEXT_METHODS:
            row["contexts"][name] = self.in_contexts(self.model)

    def _stored(self, name: str, plan: Plan, how: Callable[[nn.Module, Plan], dict[str, Numbers]]) -> dict:
        self.model = self.make_model()
        stored = how(self.model, plan)
        superfloat_plan.put(self.model, stored)
        size = superfloat_plan.model_bytes(self.model, stored)
        return {name: measure.bits_per_byte(self.model, self.tokens), f"{name}_bytes": size}

    def _tuned(self, name: str, plan: Plan, mask: training.Mask, untrained: float | None) -> dict:
        """untrained: bits per byte where the mask is empty; None: it is not."""
        s = self.settings
        self.model = self.make_model()
        batches = training.batches_of(s.train, s.batch, s.length, s.seed)
        steps = max(1, s.train_bytes // (s.batch * s.length))
        _, share = training.tune(self.model, plan, batches, steps, s.lr, mask, others=mask is training.everything)
        score = untrained if untrained is not None and share == 0 else measure.bits_per_byte(self.model, self.tokens)
        return {name: score, f"{name}_share": share}

    def _searched(self, row: dict) -> list[dict]:
        pairs, found = [], {}
        for name in ("vanilla", "scaled"):
            try:
                plan = measure.within(self.costs(), row[f"{name}_bytes"])
            except ValueError:
                continue  # nothing is that small
            key = str(plan)
            if key not in found:
                found[key] = self._stored("searched", plan, superfloat_plan.quantize)
                found[key] |= self._stored("searched_fit", plan, self._fitted)
            result = found[key]
            pairs.append(
                {"against": name, "bits": row["bits"], "loss": row[name] - self.own, "bytes": row[f"{name}_bytes"]}
                | {"searched_loss": result["searched"] - self.own, "fit_loss": result["searched_fit"] - self.own}
                | {"searched_bytes": result["searched_bytes"]}
            )
        return pairs


def markdown_of(result: dict) -> str:
    """Five tables: by width and method without scales and with them, by context, at equal size, and the layers."""
    tables = [_by_method(result, False), _by_method(result, True), _by_context(result), _pairs(result), _layers(result)]
    return "\n\n".join(markdown(table) for table in tables)


def both(bits: float) -> str:
    """Bits per byte and perplexity."""
    return f"{bits:.4f} / {2**bits:.3f}"


def _by_method(result: dict, scaled: bool) -> list[tuple]:
    prefix, vanilla = ("scaled_", "scaled") if scaled else ("", "vanilla")
    more = ("ticket", "trained", "fitted") if scaled else ()
    rows = [("width", "size", "vanilla", "OPT", "trained", "FPM", *more)]
    for row in result["widths"]:
        cells = [f"SF{row['bits']}", f"{row[f'{vanilla}_bytes'] / 1e6:.2f} MB", both(row[vanilla])]
        opt = f"{prefix}opt"
        cells += (both(row[opt]), f"{row[f'{opt}_share']:.1%}", both(row[f"{prefix}fpm"])) if opt in row else ("",) * 3
        if scaled:
            costly = (
                (both(row["ticket"]), f"{row['ticket_share']:.0%}", both(row["fit"])) if "fit" in row else ("",) * 3
            )
            cells += costly
        rows.append(tuple(cells))
    rows.append(("float", "", both(result["float"]["bits"]), *[""] * (len(rows[0]) - 3)))
    return rows


def _by_context(result: dict) -> list[tuple]:
    names = {"float": ""} | dict(zip(CONTEXT_METHODS, ("vanilla", "OPT", "FPM", "fitted"), strict=True))
    rows = [
        ("float" if method == "float" else f"SF{row['bits']}", name, *(both(contexts[str(n)]) for n in CONTEXTS))
        for method, name in names.items()
        for row in result["widths"]
        if (contexts := row["contexts"].get(method))
    ]
    return [("width", "method", *(f"{n} bytes" for n in CONTEXTS)), *rows]


def pairs_of(result: dict) -> list[dict]:
    return [pair for row in result["widths"] for pair in row["searched"]]


def _pairs(result: dict) -> list[tuple]:
    rows = [("one width", "size", "loses", "searched", "loses", "of that", "and fitted", "of that")]
    for pair in pairs_of(result):
        scales = " with row scales" if pair["against"] == "scaled" else ""
        losses = pair["searched_loss"], pair["fit_loss"]
        shares = (f"{loss / pair['loss']:.0%}" for loss in losses)
        cells = (cell for loss, share in zip(losses, shares) for cell in (f"{loss:.4f}", share))
        size, searched = (f"{pair[key] / 1e6:.3f} MB" for key in ("bytes", "searched_bytes"))
        rows.append((f"SF{pair['bits']}{scales}", size, f"{pair['loss']:.4f}", searched, *cells))
    return rows


def _layers(result: dict) -> list[tuple]:
    layers = next(row["layers"] for row in result["widths"] if "layers" in row)
    return layer_rows(layers, ANALYSED)


def layer_rows(layers: list[dict], bits: int) -> list[tuple]:
    """Of measure.analyse's layers, as dictionaries."""
    rows = [("layer", "mean activation", f"in SF{bits}", "deviation", "cluster")]
    for layer in layers:
        values = f"{layer['original']:.4f}", f"{layer['quantised']:.4f}", f"{layer['deviation']:.2%}"
        rows.append((layer["name"], *values, str(layer["cluster"] + 1)))
    return rows
