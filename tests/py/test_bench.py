"""The measuring program: a JSON line per measurement with the fields that scripts/bench reads, and options that are explained."""

import json
import re
import signal
import subprocess

import pytest

from conftest import NATIVE, ROOT
from lm.arch.hgrnbit import Config
from lm.file import random_model


def lines_of(native, *words):
    return [json.loads(line) for line in native("tern_bench", "--milliseconds", 10, *words).splitlines()]


def test_the_limits_and_the_work_between_products_are_rates(native):
    lines = lines_of(native, "--parts", "limits,activations")
    assert [line["bench"] for line in lines] == ["quantize_activations"] + ["limit_dot"] * 4 + ["limit_read"] * 3
    assert [line["level"] for line in lines[1:5]] == ["simd128", "relaxed", "relaxed_pairs", "table"]
    assert [line["memory"] for line in lines[5:]] == ["cache", "64 MB", "dram"]
    assert all(line["gmac_per_s"] > 0 for line in lines[1:5])
    assert all(line["gb_per_s"] > 0 for line in lines[5:])


def test_the_sampler_stands_beside_the_product_that_makes_its_logits(native):
    lines = lines_of(native, "--parts", "sampler")
    assert {line["bench"] for line in lines} == {"sampler"}
    assert [line["options"].split()[0] for line in lines] == ["greedy", "temperature", "top-k", "top-p", "top-k"]
    for line in lines:
        assert line["vocabulary"] == 128256
        assert line["share"] == pytest.approx(line["us"] / line["product_us"], abs=1e-4)


@pytest.mark.parametrize("vocabulary", [256, 700])
def test_a_model_is_decoded_read_and_taken_apart(native, tmp_path, vocabulary):
    path = tmp_path / "tiny.gguf"
    config = Config(hidden=32, recurrent=32, intermediate=64, layers=1, vocab_size=vocabulary)
    random_model.write(path, config, "TQ2_0")
    lines = lines_of(native, "--model", path, "--parts", "model,prompts,stream", "--stream-bytes", 2000)
    by_name = {line["bench"]: line for line in lines}
    assert set(by_name) == {"memory", "decode", "prefill", "breakdown", "prompt", "stream"}
    assert by_name["memory"]["peak_bytes"] > by_name["memory"]["packed_bytes"] > 0
    for name in ("decode", "prefill", "prompt"):
        assert by_name[name]["bytes_per_s"] > 0 and by_name[name]["vocabulary"] == vocabulary
        assert by_name[name]["model"] == str(path)
    assert [line["prompt_bytes"] for line in lines if line["bench"] == "prompt"] == [1, 4, 16, 64, 256, 1024]
    assert by_name["stream"]["bytes"] == 2000
    rates = by_name["stream"]
    for name in ("first", "last", "first_tenth_median", "last_tenth_median", "median"):
        assert rates["slowest"] <= rates[name] <= rates["fastest"], name
    for line in lines:
        if line["bench"] == "breakdown":
            shares = [line[part] for part in ("products", "quantize", "rescale", "other")]
            assert sum(shares) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (("--parts", "all"), 2, '--parts: expected some of limits, products, .*; found "all"'),
        (("--level", "fast"), 2, '--level: expected one that `tern_bench` lists, found "fast"'),
        (("--milliseconds", "1"), 2, "--milliseconds"),
        (("--model", "missing.gguf"), 1, "missing.gguf"),
    ],
)
def test_options_that_cannot_be_measured_are_explained(words, status, message):
    done = subprocess.run([NATIVE / "tern_bench", *words], capture_output=True, encoding="utf-8", cwd=ROOT)
    assert done.returncode == status
    assert done.stderr.startswith("tern_bench: ")
    assert re.search(message, done.stderr)


@pytest.mark.parametrize(("to", "fault"), [("/dev/full", "No space left on device"), ("&-", "Bad file descriptor")])
@pytest.mark.parametrize("words", ["--help", "--parts activations,products --milliseconds 10"])
def test_a_line_that_could_not_be_written_is_said_and_nothing_more_is_measured(words, to, fault):
    command = f'exec "$0" {words} >{to}'
    done = subprocess.run(["sh", "-c", command, NATIVE / "tern_bench"], stderr=subprocess.PIPE, encoding="utf-8")
    assert done.returncode == 1
    size = len(subprocess.run([NATIVE / "tern_bench", "--help"], capture_output=True).stdout)
    written = (
        rf"0 of {size if words == '--help' else '[0-9]{2,3}'} bytes were written"  # one line, not those of products
    )
    assert re.fullmatch(f"tern_bench: standard output: {fault}; {written}\n", done.stderr)


def test_a_reader_that_goes_away_ends_the_measuring():
    words = [NATIVE / "tern_bench", "--parts", "activations", "--milliseconds", "10"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, restore_signals=True) as process:
        process.stdout.close()
        assert (process.stderr.read(), process.wait()) == (b"", -signal.SIGPIPE)
