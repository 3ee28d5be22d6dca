"""N-gram models and compressors are honest opponents: probabilities sum to one, and what they cost to download is what it takes."""

import json
import subprocess
import sys

import numpy as np
import pytest

from conftest import ROOT
from lm.measure import ngram
from lm.text.encoding import encode


@pytest.mark.parametrize("n", [1, 2, 5, 7])
def test_n_gram_probabilities_of_all_bytes_sum_to_one(stories, n):
    levels = ngram.train(encode(stories[:3000]), n)
    for context in (b"", b"On", b"he saw", b"\xff\x00\x7fnever seen"):
        last = [ngram.probabilities(levels, np.frombuffer(context + bytes([b]), np.uint8))[-1] for b in range(256)]
        assert sum(last) == pytest.approx(1)
        assert min(last) > 0


def test_an_n_gram_probability_is_what_the_formula_gives_by_hand():
    """Stream abab after document ends: bigrams $a 1, ab 2, ba 1; discount 2/(2+2) = 1/2 (two grams once, one twice).

    Continuation counts: a follows {$, b}: 2, b follows {a}: 1; discount 1/(1+2) = 1/3.
    """
    levels = ngram.train(np.frombuffer(b"abab", np.uint8), 2)
    base = {97: (2 - 1 / 3) / 3 + 1 / 3 * 2 / 3 / 256, 98: (1 - 1 / 3) / 3 + 1 / 3 * 2 / 3 / 256}
    expected = [0.5 + 0.5 * base[97], 1.5 / 2 + 0.5 / 2 * base[98]]
    assert ngram.probabilities(levels, np.frombuffer(b"ab", np.uint8)) == pytest.approx(expected)


def test_longer_grams_predict_better_and_cost_more(stories):
    text = encode(stories)
    known, new = text[:40_000], text[40_000:]
    levels = [ngram.train(known, n) for n in (1, 2, 3)]
    bits = [ngram.bits_per_byte(level, new) for level in levels]
    sizes = [ngram.packed_bytes(level) for level in levels]
    assert bits == sorted(bits, reverse=True) and sizes == sorted(sizes)


def test_the_packed_numbers_can_be_read_back():
    values = np.array([0, 1, 127, 128, 300, 2**40 + 5], np.uint64)
    data, planes, rest = ngram._varints(values), [], len(values)
    while rest:  # plane after plane: how many have more, and their next seven bits
        planes.append(np.frombuffer(data[:rest], np.uint8))
        data, rest = data[rest:], int((planes[-1] >= 128).sum())
    found, alive = np.zeros(len(values), np.uint64), np.arange(len(values))
    for place, plane in enumerate(planes):
        found[alive] |= (plane & 127).astype(np.uint64) << np.uint64(7 * place)
        alive = alive[plane >= 128]
    assert not data and (found == values).all()


def test_baselines_with_a_training_text_make_the_points_of_the_picture(tmp_path, stories):
    (tmp_path / "held_out.txt").write_bytes(stories[:3000])
    (tmp_path / "training.txt").write_bytes(stories[3000:9000])
    words = [
        sys.executable,
        ROOT / "scripts" / "baselines.py",
        tmp_path / "held_out.txt",
        "--train",
        tmp_path / "training.txt",
    ]
    done = subprocess.run([*words, "--out", tmp_path / "b.json"], capture_output=True, encoding="utf-8", cwd="/")
    assert done.returncode == 0, done.stderr
    content = json.loads((tmp_path / "b.json").read_text(encoding="utf-8"))
    assert (content["text"], content["training_text"]) == ("held_out.txt", "training.txt")
    points = {point["name"].split(",")[0]: point for point in content["points"]}
    assert [*points] == ["xz -9e", "ppmd", *(f"{n}-gram" for n in range(3, 8)), "ppmd after the training text"]
    assert points["xz -9e"]["download"] == 0 < points["5-gram"]["download"]
    assert points["ppmd after the training text"]["bits_per_byte"] < points["ppmd"]["bits_per_byte"]
