"""The vectors of tests/conformance are what spec_reader.py, which knows SPEC.md only, computes too."""

import hashlib
import json
import struct

import pytest

import spec_reader as spec
from conftest import ROOT
from make_conformance import FOLDER, MODELS, calls_of, digest, functions, operations
from test_spec import bits_of_text

SIGMOIDS = (spec.sigmoid_table, spec.sigmoid_piecewise_linear)


class Inputs(list):
    """The numbers of a call, taken from the front."""

    def row(self, count: int) -> list[int]:
        taken, self[:] = self[:count], self[count:]
        assert len(taken) == count
        return taken

    def next(self) -> int:
        return self.row(1)[0]

    def scale(self) -> spec.Scale:
        return spec.scale(*self.row(2))

    def scale_of_f32(self) -> spec.Scale:
        return spec.to_scale(spec.parts_of_f32(self.next()))

    def sigmoid(self):
        return SIGMOIDS[self.next()]


def or_refused(count: int, compute) -> list[int]:
    """1 and the numbers, or all 0 if a file with this would be refused."""
    try:
        return [1, *compute()]
    except spec.RefusedError:
        return [0] * (count + 1)


def rms_norm(i: Inputs) -> list[int]:
    epsilon, n = i.scale_of_f32(), i.next()
    return spec.rms_norm(i.row(n), i.row(n), epsilon)


def quantize(i: Inputs) -> list[int]:
    epsilon, n = i.scale_of_f32(), i.next()
    x, weight = i.row(n), i.row(n)
    codes, scale = spec.quantize(x, weight, spec.root_mean_square(x, epsilon))
    return [*codes, *scale]


def bit_linear(i: Inputs) -> list[int]:
    epsilon, scale, rows, cols = i.scale_of_f32(), spec.to_scale(spec.parts_of_f16(i.next())), i.next(), i.next()
    x, norm = i.row(cols), i.row(cols)
    layer = spec.Ternary([i.row(cols) for _ in range(rows)], scale, norm)
    return spec.bit_linear(layer, x, spec.root_mean_square(x, epsilon))


def superfloat_linear(i: Inputs) -> list[int]:
    epsilon, x, rows, cols = i.scale_of_f32(), *i.row(3)
    v, norm = i.row(cols), i.row(cols)
    numbers = [i.row(cols) for _ in range(rows)]
    layer = spec.SuperFloat(x, numbers, [i.scale_of_f32() for _ in range(rows)], norm)
    return spec.bit_linear(layer, v, spec.root_mean_square(v, epsilon))


def superfloat_row(i: Inputs) -> list[int]:
    x = i.next()
    return spec.superfloat_row(x, bytes(i.row(x)))


def dense_linear(i: Inputs) -> list[int]:
    rows, cols, has_bias = i.row(3)
    x = i.row(cols)
    weight = [i.row(cols) for _ in range(rows)]
    layer = spec.Dense(weight, [i.scale_of_f32() for _ in range(rows)], i.row(rows) if has_bias else None)
    return spec.dense_linear(layer, *spec.quantize_plain(x))


def convolution(i: Inputs) -> list[int]:
    sigmoid, taps, n = i.sigmoid(), i.next(), i.next()
    weights = [i.row(n) for _ in range(taps)]
    return spec.convolution(weights, [i.row(n) for _ in range(taps)], sigmoid)


def recurrence(i: Inputs) -> list[int]:
    sigmoid, has_keep, n = i.sigmoid(), i.next(), i.next()
    rows = [i.row(n) for _ in range(3)]
    keep = i.row(n) if has_keep else [None] * n
    return [spec.recurrence(*channel, sigmoid) for channel in zip(*rows, keep)]


def biased_convolution(i: Inputs) -> list[int]:
    taps, n = i.next(), i.next()
    weights = [i.row(n) for _ in range(taps)]
    return spec.convolution(weights, [i.row(n) for _ in range(taps)], spec.sigmoid_table, i.row(n))


def state_space(i: Inputs) -> list[int]:
    head, n = (i.scale_of_f32(), *i.row(4)), i.next()
    pairs = [spec.state_space(*channel, *head) for channel in zip(*[i.row(n) for _ in range(4)])]
    return [number for both in zip(*pairs) for number in both]


def gated_product(i: Inputs) -> list[int]:
    sigmoid, n = i.sigmoid(), i.next()
    return spec.gated_product(i.row(2 * n), sigmoid)


def rotate(i: Inputs) -> list[int]:
    position, width = i.row(2)
    frequencies = i.row(width // 2)
    return spec.rotate(i.row(width), frequencies, position)


def flat(row: spec.Scaled) -> list[int]:
    return [*row[0], *row[1]]


def codes_of(i: Inputs) -> list[int]:
    most, n = i.row(2)
    return flat(spec.codes_of(i.row(n), most))


def normed_codes(i: Inputs) -> list[int]:
    epsilon, has_norm, fraction_bits, s, n = i.scale_of_f32(), i.next(), i.next(), i.scale(), i.next()
    x = i.row(n)
    return flat(spec.normed_codes((x, s), (i.row(n), fraction_bits) if has_norm else None, epsilon))


def attend(i: Inputs) -> list[int]:
    width, count, s = i.next(), i.next(), i.scale()
    query = i.row(width)
    positions = [(i.row(width), i.row(width), i.scale(), i.scale()) for _ in range(count)]
    key, value, key_s, value_s = (list(column) for column in zip(*positions))
    return flat(spec.attend(query, s, key, key_s, value, value_s))


def gated(i: Inputs) -> list[int]:
    activation, gate_s, up_s, n = ("relu2", "silu")[i.next()], i.scale(), i.scale(), i.next()
    return flat(spec.gated((i.row(n), gate_s), (i.row(n), up_s), activation))


def wide_linear(i: Inputs) -> list[int]:
    rows, cols = i.row(2)
    x, codes = i.row(cols), [i.row(cols) for _ in range(rows)]
    return spec.wide_linear(codes, [i.scale_of_f32() for _ in range(rows)], x)


def boundary_probability(i: Inputs) -> list[int]:
    n = i.next()
    return [spec.boundary_probability(i.row(n), i.row(n)) or 0]


def blend(i: Inputs) -> list[int]:
    p, n = i.row(2)
    return spec.blend(p, i.row(n), i.row(n))


def ternary_block(i: Inputs) -> list[int]:
    kind, *block = i.row(len(i))
    try:
        codes = spec.ternary_block(kind, bytes(block))
        spec.ternary_scale(bytes(block[-2:]))
    except spec.RefusedError:
        return [0]
    return [1, block[-2] | block[-1] << 8, *codes]


def draw(i: Inputs) -> list[int]:
    greedy, *options, draws = i.row(8)
    sampler = spec.Sampler(spec.Options(bool(greedy), *options))
    logits = i.row(256)
    for _ in range(draws):
        sampler.recent.append(sampler.draw(logits))
    return sampler.recent


def expectation(i: Inputs) -> list[int]:
    most, logits = i.next(), i.row(256)
    entropy, probabilities = spec.expectation(logits)
    top = sorted(range(256), key=lambda token: (-logits[token], token))[:most]
    return [entropy, *(number for token in top for number in (token, probabilities[token]))]


def random(i: Inputs) -> list[int]:
    generator = spec.Random(i.next())
    return [generator.next() for _ in range(i.next())]


EVALUATE = {
    "round_shift": lambda i: [spec.rnd(i.next(), i.next())],
    "multiply": lambda i: [spec.multiply(i.next(), i.next())],
    "add": lambda i: spec.add_rows(i.row(1), i.row(1)),
    "isqrt": lambda i: [spec.math.isqrt(i.next())],
    "scale": lambda i: i.scale(),
    "scale_add": lambda i: spec.add(i.scale(), i.scale()),
    "scale_multiply": lambda i: spec.mul(i.scale(), i.scale()),
    "scale_divide": lambda i: spec.div(i.scale(), i.scale()),
    "scale_sqrt": lambda i: spec.sqrt(i.scale()),
    "scale_to_fixed": lambda i: [spec.to_fixed(i.scale(), i.next())],
    "rescale": lambda i: [spec.apply(spec.rescale(i.scale(), i.next()), i.next())],
    "f32_to_fixed": lambda i: or_refused(1, lambda: [spec.to_raw(spec.parts_of_f32(i.next()), i.next())]),
    "f16_to_fixed": lambda i: or_refused(1, lambda: [spec.to_raw(spec.parts_of_f16(i.next()), i.next())]),
    "f32_to_scale": lambda i: or_refused(2, lambda: i.scale_of_f32()),
    "sigmoid": lambda i: [i.sigmoid()(i.next())],
    "silu": lambda i: (lambda sigmoid: [spec.silu(i.next(), sigmoid)])(i.sigmoid()),
    "exp2_negative": lambda i: [spec.exp2_negative(i.next())],
    "exp_negative": lambda i: [spec.exp_negative(i.next())],
    "softplus": lambda i: [spec.softplus(i.next())],
    "sine": lambda i: [spec.sine(i.next())],
    "log2": lambda i: [spec.log2(i.next())],
    "random": random,
    "root_mean_square": lambda i: (lambda e: spec.root_mean_square(i.row(i.next()), e))(i.scale_of_f32()),
    "rms_norm": rms_norm,
    "quantize": quantize,
    "bit_linear": bit_linear,
    "superfloat_linear": superfloat_linear,
    "superfloat_row": superfloat_row,
    "dense_linear": dense_linear,
    "convolution": convolution,
    "biased_convolution": biased_convolution,
    "recurrence": recurrence,
    "state_space": state_space,
    "gated_product": gated_product,
    "rotate": rotate,
    "codes_of": codes_of,
    "normed_codes": normed_codes,
    "attend": attend,
    "gated": gated,
    "wide_linear": wide_linear,
    "boundary_probability": boundary_probability,
    "blend": blend,
    "ternary_block": ternary_block,
    "softmax_weights": lambda i: (lambda t: spec.softmax_weights(i.row(256), t))(i.next()),
    "surprisal": lambda i: (lambda byte: [spec.surprisal(i.row(256), byte)])(i.next()),
    "expectation": expectation,
    "draw": draw,
}


def read(tier: str) -> list[dict]:
    content = json.loads((FOLDER / f"{tier}.json").read_text(encoding="utf-8"))
    assert f"Specification {content['spec']}" in (ROOT / "models" / "SPEC.md").read_text(encoding="utf-8")
    return content["vectors"]


@pytest.mark.parametrize("name", sorted(EVALUATE))
def test_the_reader_of_the_spec_gives_the_vectors_of(name):
    vectors = [vector for tier in ("functions", "operations") for vector in read(tier) if vector["name"] == name]
    assert vectors
    for vector in vectors:
        answers = [list(EVALUATE[name](Inputs(inputs))) for inputs in calls_of(vector)]
        if "cases" in vector:
            assert answers == [[int(number) for number in outputs] for _, outputs in vector["cases"]]
        else:
            assert answers[0][:4] == [int(number) for number in vector["first"]], vector["inputs"][:3]
            assert digest(answers) == vector["sha256"], vector["inputs"][:3]


def test_every_operation_that_the_engine_answers_has_vectors():
    names = {vector["name"] for tier in ("functions", "operations") for vector in read(tier)}
    assert names == set(EVALUATE) == {name for tier in (functions(), operations()) for name, *_ in tier}


@pytest.mark.parametrize("vector", read("streams"), ids=lambda vector: vector["model"])
def test_the_reader_of_the_spec_writes_the_stream_of(vector):
    data = (FOLDER / vector["model"]).read_bytes()
    assert hashlib.sha256(data).hexdigest() == vector["sha256"]
    model, prompt = spec.Model(data), bytes.fromhex(vector["prompt"])
    rows, masks = [], []
    for token in (model.bos, *prompt):
        rows.append(model.step(token))
        masks.append(model.mask)
    assert bytes(masks).hex() == vector["boundaries"]
    logits = b"".join(struct.pack(f"<{len(row)}i", *row) for row in rows)
    assert hashlib.sha256(logits).hexdigest() == vector["logits_sha256"]
    assert str(bits_of_text(rows, prompt)) == vector["bits_q32"]
    for made in vector["generations"]:
        options = dict(made["options"])
        most = options.pop("max_bytes")
        assert spec.generate(model, prompt, spec.Options(**options), most).hex() == made["bytes"]


def test_the_models_are_of_every_architecture_and_switch_every_setting():
    assert {path.stem for path in FOLDER.glob("*.gguf")} == set(MODELS)
    keys = [spec.File((FOLDER / f"{name}.gguf").read_bytes()).keys for name in MODELS]
    assert {key["general.architecture"] for key in keys} == {"hgrnbit", "hnetbit", "bitmamba2", "bitnet"}
    for setting, values in {"sigmoid": 2, "gate_norm": 2, "conv_kernel": 3}.items():
        assert len({key.get(f"{key['general.architecture']}.{setting}") for key in keys} - {None}) == values


def test_the_vectors_are_small_enough_to_ship():
    import gzip

    assert sum(len(gzip.compress(path.read_bytes(), 9)) for path in FOLDER.iterdir()) < 100_000
