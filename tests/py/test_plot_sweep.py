"""The picture of the sweep shows the numbers of its table, and the work per byte is what the matrices say."""

import json
import re

import pytest

import plot_sweep
from conftest import ROOT
from lm import arch
from lm.ternary import BitLinear


def test_the_committed_picture_is_of_the_committed_numbers():
    runs = json.loads((ROOT / "models" / "hnet-sweep.json").read_text())["runs"]
    shown = (ROOT / "models" / "hnet-sweep.svg").read_text()
    assert shown == plot_sweep.draw(runs), "run scripts/plot_sweep.py"
    texts = " ".join(re.findall(r"<text[^>]*>([^<]*)</text>", shown))
    flat, family, splits = plot_sweep.split(runs)
    assert len(flat) + len(family) + len(splits) == len(runs) + 1  # one of the family is in both panels
    for run in family:
        assert f"target {run['model']['target'][0]:g}, found {run['bytes_per_chunk']:.1f}" in texts
    for run in splits:
        assert f"{plot_sweep.depth(run)}, target {run['model']['target'][0]:g}" in texts


MODELS = [
    {"hidden": 48, "recurrent": 32, "intermediate": 80, "layers": 3},
    {
        **{"architecture": "hnetbit", "hidden": [32, 48], "recurrent": [48, 32], "intermediate": [80, 64]},
        **{"encoder": [2], "decoder": [1], "layers": 3, "router": [16], "target": [4.0]},
        **{"lr_multiplier": [1.0, 1.0], "decay_span": [16.0, 16.0]},
    },
]


@pytest.mark.parametrize("values", MODELS, ids=["flat", "hierarchical"])
def test_products_per_byte_counts_every_matrix_once_and_the_inner_ones_once_per_chunk(values):
    model = arch.build(arch.config_from_dict(values))
    matrices = {
        name: module.weight.numel()
        for name, module in model.named_modules()
        if isinstance(module, BitLinear) or name.split(".")[-1] in ("router_q", "router_k", "residual")
    }
    inner = sum(count for name, count in matrices.items() if name.startswith("main."))
    expected = sum(matrices.values()) - inner + inner / 4
    assert plot_sweep.products_per_byte(arch.config_to_dict(model.config), 4.0) == pytest.approx(expected)


def test_a_run_that_has_not_reached_its_end_is_refused(tmp_path):
    settings = {"model": MODELS[0], "train": {"total_bytes": 100}}
    (tmp_path / "run.json").write_text(json.dumps({"parameters": 1, "settings": settings}))
    (tmp_path / "log.csv").write_text("step,bytes_seen,valid_bits\n1,50,2.5\n")
    with pytest.raises(ValueError, match="not reached its end"):
        plot_sweep.read_run(tmp_path)


def test_a_sweep_without_a_flat_model_is_refused():
    with pytest.raises(ValueError, match="found 0 and 1"):
        plot_sweep.split([{"bytes_per_chunk": 4.0}])
