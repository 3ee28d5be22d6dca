"""SuperFloat: numbers of 3 to 16 bits in a file, in the engine and in training."""

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

import spec_reader
from conftest import NATIVE, ROOT
from lm import arch
from lm.arch.hgrnbit import Config
from lm.file import checkpoint, gguf_file, superfloat, superfloat_plan
from lm.measure import superfloat as measure
from lm.measure import superfloat_fit, superfloat_plot
from lm.text.encoding import encode
from lm.train import loop, superfloat_table
from lm.train import superfloat as training
from tiny_run import settings

WIDTHS = list(superfloat.WIDTHS)
FLOAT = Config(hidden=40, recurrent=44, intermediate=52, layers=2, conv_kernel=4, ternary=False)


def random_model(seed=1):
    torch.manual_seed(seed)
    return arch.build(FLOAT).eval()


def text(folder, size=3000):
    path = folder / "held_out.txt"
    path.write_bytes((ROOT / "tests" / "data" / "stories.txt").read_bytes()[:size])
    return path


@pytest.mark.parametrize("bits", WIDTHS)
def test_every_number_of_a_width_is_stored_and_read_as_itself(bits):
    most = 2 ** (bits - 1) - 1
    codes = np.arange(-most, most + 1, dtype=np.int32)[: 4 * 1001].reshape(1, -1)
    packed = superfloat.pack(superfloat.Numbers(codes, bits, None))
    assert packed.shape == (1, -(-codes.size // 8) * bits)
    assert np.array_equal(superfloat.unpack(packed, bits)[:, : codes.size], codes)
    assert spec_reader.superfloat_row(bits, packed[0].tobytes())[: codes.size] == codes[0].tolist()


def test_a_row_lies_as_the_format_page_says():
    numbers = superfloat.Numbers(np.array([[1, -1, 3, 0, -3, 2, -2, 0]]), 3, None)
    # From the lowest bit: 100 101 110 000 111 010 011 000, the sign above the magnitude.
    assert superfloat.pack(numbers).tolist() == [[0b11101001, 0b01110000, 0b00011001]]


@pytest.mark.parametrize("scaled", [False, True])
def test_a_wider_number_is_nearer(scaled):
    values = np.random.default_rng(5).uniform(-0.9, 0.9, (6, 37)).astype(np.float32)
    errors = [np.abs(superfloat.quantize(values, bits, scaled).values - values).max() for bits in WIDTHS]
    for bits, error in zip(WIDTHS, errors, strict=True):  # half of a step; without scales SF3 ends at 0.75
        assert error <= (2.0**-bits * 1.21 if scaled else max(2.0**-bits, 0.9 - (1 - 2.0 ** (1 - bits)))) * 1.001
    assert errors == sorted(errors, reverse=True)


def test_smaller_scales_are_taken_where_they_come_nearer():
    values = np.random.default_rng(5).normal(size=(6, 400)).astype(np.float32)

    def error(clip):
        return np.square(superfloat.quantize(values, 3, True, clip).values - values).sum(1)

    assert (error(True) <= error(False)).all()
    assert error(True).sum() < 0.9 * error(False).sum()


@pytest.mark.parametrize("scaled", [False, True])
def test_rounding_for_a_text_moves_the_sums_over_it_less_than_the_nearest_numbers_do(scaled):
    generator = np.random.default_rng(5)
    values = generator.normal(size=(12, 40)).astype(np.float32) / 8
    inputs = generator.normal(size=(500, 12)) @ generator.normal(size=(12, 40)) + generator.normal(size=(500, 40)) / 4
    rounding = superfloat.Rounding(inputs.T @ inputs)

    def moved(found):
        return float(np.square((found.values - values) @ inputs.T).mean())

    nearest, spared = (superfloat.quantize(values, 4, scaled, scaled, by) for by in (None, rounding))
    assert moved(spared) < moved(nearest) / 2
    most = 2**3 - 1
    assert np.abs(spared.codes).max() <= most and spared.bits == 4 and (spared.scales is not None) == scaled


@pytest.mark.parametrize("bits", [2, 17, 0])
def test_a_width_that_has_no_numbers_is_refused_with_those_that_do(bits):
    with pytest.raises(ValueError, match=rf"SF{bits} has no numbers: a width is 3 .* to 16"):
        superfloat_plan.one_width(random_model(), bits)


def test_numbers_beyond_one_need_a_scale_and_the_message_says_how_many_they_are():
    model = random_model()
    with torch.no_grad():
        model.norm.weight.fill_(0.5)
        model.norm.weight[:10] = 1.5
        for name, parameter in model.named_parameters():
            if name != "norm.weight":
                parameter.clamp_(-0.5, 0.5)
    with pytest.raises(ValueError, match=r"output_norm\.weight reaches 1\.5, .*25\.0% of its numbers would be clamped"):
        superfloat_plan.refuse_clamping(model, superfloat_plan.one_width(model, 8, scaled=False))
    superfloat_plan.refuse_clamping(model, superfloat_plan.one_width(model, 8, scaled=True))


def test_a_damaged_checkpoint_is_refused():
    with pytest.raises(ValueError, match="finite"):
        superfloat.quantize(np.array([[1.0, np.nan]]), 8, True)


@pytest.mark.parametrize("bits", [3, 8, 9, 16])
def test_a_file_has_what_was_stored_and_the_engine_reads_it(tmp_path, bits):
    model = random_model()
    stored = superfloat_plan.quantize(model, superfloat_plan.one_width(model, bits))
    path = tmp_path / "m.gguf"
    gguf_file.write(path, model, gguf_file.Card("m"), "TQ1_0", None, stored)
    read, names = gguf_file.load(path), superfloat_plan.targets(model)
    assert not read.config.ternary
    parameters = dict(read.named_parameters())
    for name, numbers in stored.items():
        expected = torch.from_numpy(numbers.values).reshape(parameters[names[name]].shape)
        assert torch.equal(parameters[names[name]], expected), name
    done = subprocess.run(
        [NATIVE / "tern", "inspect", "--json", "--model", path], capture_output=True, encoding="utf-8"
    )
    assert done.returncode == 0, done.stderr
    types = {tensor["name"]: tensor["type"] for tensor in json.loads(done.stdout)["tensors"]}
    assert types["blk.1.ffn_down.weight"] == types["token_embd.weight"] == f"SF{bits}"
    estimate = superfloat_plan.model_bytes(model, stored)
    assert estimate < path.stat().st_size < estimate + 8000


@pytest.mark.parametrize("bits", [4, 6, 8, 12])
def test_the_engine_and_pytorch_agree_on_the_bits_per_byte(tmp_path, bits):
    model = random_model()
    stored = superfloat_plan.quantize(model, superfloat_plan.one_width(model, bits))
    path, held_out = tmp_path / "m.gguf", text(tmp_path, 1500)
    gguf_file.write(path, model, gguf_file.Card("m"), "TQ1_0", None, stored)
    command = [NATIVE / "tern", "eval", "--json", "--samples", "0", "--model", path, "--text", held_out]
    done = subprocess.run(command, capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    found = measure.bits_per_byte(gguf_file.load(path), encode(held_out.read_bytes()))
    assert json.loads(done.stdout)["bits_per_byte"] == pytest.approx(found, rel=1e-3)


def test_the_engine_refuses_what_the_format_does_not_allow(tmp_path):
    model = random_model()
    stored = superfloat_plan.quantize(model, superfloat_plan.one_width(model, 8))
    path = tmp_path / "m.gguf"

    def refusal(changed):
        gguf_file.write(path, model, gguf_file.Card("m"), "TQ1_0", None, changed)
        done = subprocess.run([NATIVE / "tern", "inspect", "--model", path], capture_output=True, encoding="utf-8")
        assert done.returncode == 1
        return done.stderr

    name = "blk.0.ffn_down.weight"
    longer = np.pad(stored[name].codes, ((0, 0), (0, 4)), constant_values=1)
    assert "expected zeros in the padding after column 52" in refusal(
        stored | {name: superfloat.Numbers(longer, 8, stored[name].scales)}
    )
    wrong = np.full_like(stored[name].scales, np.inf)
    assert "finite scales" in refusal(stored | {name: replace(stored[name], scales=wrong)})


def test_the_layers_are_ranked_and_cut_into_clusters():
    model = random_model()
    plan = superfloat_plan.one_width(model, 8)
    plan["output.weight"] = superfloat_plan.Choice(3)
    layers = measure.analyse(model, plan, encode(b"Once upon a time, " * 8))
    assert len(layers) == 13
    assert [layer.deviation for layer in layers] == sorted((layer.deviation for layer in layers), reverse=True)
    assert layers[0].name == "output"
    assert [layer.name for layer in layers if layer.cluster == 0] == ["output"]
    assert all(layer.original > 0 and layer.quantised > 0 for layer in layers)
    assert measure.cluster([0.5, 0.49, 0.1, 0.09, 0.01], 3) == [0, 0, 1, 1, 2]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A float model that has learned the alphabet, and its text."""
    folder = tmp_path_factory.mktemp("float")
    config = Config(hidden=24, recurrent=24, intermediate=32, layers=1, conv_kernel=2, ternary=False)
    run = settings(folder, config, total_bytes=60 * 128)
    loop.train(run, folder / "run")
    return folder / "run" / "last.pt", folder / "alphabet.txt"


@pytest.mark.trains
def test_training_on_the_rounded_numbers_wins_back_what_rounding_lost(trained, hold):
    path, alphabet = trained
    tokens, bits = encode(alphabet.read_bytes())[:600], {}
    for name, mask in (("opt", training.opt), ("fpm", training.everything)):
        model, _ = checkpoint.load_model(path)
        bits["float"] = measure.bits_per_byte(model, tokens)
        plan = superfloat_plan.one_width(model, 3)
        with superfloat_plan.with_numbers(model, superfloat_plan.quantize(model, plan)):
            bits["vanilla"] = measure.bits_per_byte(model, tokens)
        batches = training.batches_of([str(alphabet)], 8, 16, 1)
        stored, share = training.tune(model, plan, batches, 60, 5e-3, mask, others=name == "fpm")
        bits[name] = measure.bits_per_byte(model, tokens)
        assert share == 1 if name == "fpm" else 0.2 < share < 1
        values = dict(model.named_parameters())
        for tensor, numbers in stored.items():
            parameter = values[superfloat_plan.targets(model)[tensor]]
            assert torch.equal(parameter, torch.from_numpy(numbers.values).reshape(parameter.shape))
    assert bits["vanilla"] > bits["float"]
    for name in ("opt", "fpm"):
        hold(
            f"{name}, share of the loss that is left",
            (bits[name] - bits["float"]) / (bits["vanilla"] - bits["float"]),
            below=0.5,
        )


def test_matrices_that_are_fitted_to_a_text_lose_less_than_half_of_what_rounding_loses():
    tokens = encode((ROOT / "tests" / "data" / "stories.txt").read_bytes())
    lost = {}
    for name in ("own", "vanilla", "fit"):
        model = gguf_file.load(ROOT / "models" / "tinystories-float-1m-sf8.gguf")
        plan = superfloat_plan.one_width(model, 3)
        if name == "vanilla":
            superfloat_plan.put(model, superfloat_plan.quantize(model, plan))
        if name == "fit":
            stored = superfloat_fit.fit(model, plan, tokens[:6144])
            assert list(stored) == list(plan)
            values, names = dict(model.named_parameters()), superfloat_plan.targets(model)
            for tensor, numbers in stored.items():
                parameter = values[names[tensor]]
                assert torch.equal(parameter, torch.from_numpy(numbers.values).reshape(parameter.shape)), tensor
                assert numbers.bits == 3
        lost[name] = measure.bits_per_byte(model, tokens[8192:12288])
    assert 0 < lost["fit"] - lost["own"] < (lost["vanilla"] - lost["own"]) / 2


def test_what_cannot_be_fitted_is_refused():
    model = random_model()
    with pytest.raises(ValueError, match="at least 1024 bytes, got 1023"):
        superfloat_fit.fit(model, superfloat_plan.one_width(model, 8), np.zeros(1023, np.uint8))


@pytest.mark.trains
def test_what_is_not_trained_stays(trained):
    model, _ = checkpoint.load_model(trained[0])
    plan = superfloat_plan.one_width(model, 4)
    before = superfloat_plan.quantize(model, plan)
    batches = training.batches_of([str(trained[1])], 8, 16, 1)
    after, _ = training.tune(model, plan, batches, 3, 1e-2, training.ticket(["output.weight"]), others=False)
    changed = {name for name in plan if not np.array_equal(before[name].codes, after[name].codes)}
    assert changed and changed <= {"output.weight", "output.in_norm.weight"}


@pytest.mark.trains
def test_searched_widths_keep_a_budget_or_say_what_would(trained):
    model, _ = checkpoint.load_model(trained[0])
    tokens = encode(trained[1].read_bytes())[:600]
    costs = measure.measure_costs(model, tokens, widths=(3, 4, 6, 8))
    narrow = superfloat_plan.quantize(model, superfloat_plan.one_width(model, 3))
    own = measure.bits_per_byte(model, tokens)
    with superfloat_plan.with_numbers(model, narrow):
        budget = (measure.bits_per_byte(model, tokens) - own) / 2
    plan, loss = measure.smallest(model, costs, tokens, budget)
    assert budget > 0 and loss <= budget
    stored = superfloat_plan.quantize(model, plan)
    assert len({numbers.bits for numbers in stored.values()}) > 1, "they differ"
    sizes = [
        superfloat_plan.model_bytes(model, superfloat_plan.quantize(model, superfloat_plan.one_width(model, b)))
        for b in (3, 8)
    ]
    assert sizes[0] <= superfloat_plan.model_bytes(model, stored) < sizes[1]
    with pytest.raises(ValueError, match=r"no width meets a budget of -1 .* loses .*; allow that much"):
        measure.smallest(model, costs, tokens, -1.0)
    small = measure.within(costs, sizes[1] - 500)
    assert superfloat_plan.model_bytes(model, superfloat_plan.quantize(model, small)) <= sizes[1] - 500
    with pytest.raises(ValueError, match=r"no width makes a file of 10 bytes: SF3 everywhere takes [\d,]+"):
        measure.within(costs, 10)


@pytest.mark.trains
def test_a_ternary_model_keeps_its_matrices(tmp_path):
    loop.train(settings(tmp_path, total_bytes=8 * 128), tmp_path / "run")
    command = [
        sys.executable,
        ROOT / "scripts" / "superfloat.py",
        "quantize",
        tmp_path / "run" / "last.pt",
        "--width",
        "6",
    ]
    out = tmp_path / "m.gguf"
    done = subprocess.run(
        [*command, "--text", tmp_path / "alphabet.txt", "--bytes", "600", "--out", out],
        capture_output=True,
        text=True,
        encoding="utf-8",
    )
    assert done.returncode == 0, done.stderr
    model = gguf_file.load(out)
    assert model.config.ternary and model.layers[0].mlp.down_proj.ternary
    assert model.embeddings.exact
    bad = subprocess.run(
        [*command[:-1], "17", "--text", tmp_path / "alphabet.txt", "--out", out],
        capture_output=True,
        text=True,
        encoding="utf-8",
    )
    assert bad.returncode == 1
    assert "SF17 has no numbers" in bad.stderr


@pytest.mark.trains
def test_the_table_has_every_method_and_its_parts_are_joined(trained, tmp_path):
    path, alphabet = trained
    command = [sys.executable, ROOT / "scripts" / "superfloat.py"]

    def run(*words):
        done = subprocess.run([*command, *map(str, words)], capture_output=True, encoding="utf-8")
        return done.returncode, done.stdout, done.stderr

    small = ["--bytes", 2048, "--train-bytes", 512, "--batch", 2, "--length", 64, "--search-bytes", 256]
    small += ["--fit-bytes", 1024, "--context-bytes", 1024, "--text", alphabet, "--train", alphabet]
    for bits in (4, 16):
        code, _, fault = run("table", path, *small, "--widths", bits, "--out", tmp_path / f"{bits}.json")
        assert code == 0, fault
    whole = tmp_path / "whole.json"
    code, page, fault = run("join", tmp_path / "16.json", tmp_path / "4.json", "--out", whole)
    assert code == 0, fault
    result = json.loads(whole.read_text(encoding="utf-8"))
    assert [row["bits"] for row in result["widths"]] == [4, 16]
    four, sixteen = result["widths"]
    assert {"vanilla", "opt", "fpm", "scaled", "scaled_opt", "scaled_fpm", "ticket", "fit"} <= set(four)
    assert "fit" not in sixteen
    assert sixteen["scaled_opt_share"] == 0 and sixteen["scaled_opt"] == sixteen["scaled"], "nothing is moved far"
    assert {pair["against"] for pair in four["searched"]} == {"vanilla", "scaled"} and not sixteen["searched"]
    assert all(pair["searched_bytes"] <= pair["bytes"] for pair in four["searched"])
    assert page.count("| SF4 |") == 2 + 4 + 1 and page.count("| SF16 |") == 2
    assert f"{four['fit']:.4f} / {2 ** four['fit']:.3f}" in page, "bits per byte and perplexity"
    other = json.loads((tmp_path / "4.json").read_text(encoding="utf-8"))
    other["settings"]["lr"] = 1.0
    (tmp_path / "other.json").write_text(json.dumps(other), encoding="utf-8")
    code, _, fault = run("join", tmp_path / "16.json", tmp_path / "other.json", "--out", whole)
    assert code == 1 and "these differ in settings" in fault


def test_the_committed_table_and_picture_are_of_the_committed_numbers_and_meet_the_goal():
    result = json.loads((ROOT / "models" / "superfloat.json").read_text(encoding="utf-8"))
    page = (ROOT / "models" / "EXPERIMENTS.md").read_text(encoding="utf-8")
    for part in superfloat_table.markdown_of(result).split("\n\n"):
        assert part in page, "run scripts/superfloat.py table"
    drawn = (ROOT / "models" / "superfloat.svg").read_text(encoding="utf-8")
    assert drawn == superfloat_plot.drawn(ROOT / "models"), "run scripts/plot.py superfloat"
    pairs = superfloat_table.pairs_of(result)
    assert {(pair["bits"], pair["against"]) for pair in pairs} >= {(bits, "scaled") for bits in range(3, 9)}
    for pair in pairs:
        assert pair["searched_bytes"] <= pair["bytes"]
        if pair["loss"] > 0.002:  # there is something to halve
            assert pair["fit_loss"] <= pair["loss"] / 2
