"""Writes tests/conformance: small models and the numbers by which any implementation of models/SPEC.md is checked.

The vectors are lists of inputs, or recipes for them, with what the engine answers; SPEC.md section 12 describes both.
Run it after building the native programs (cmake --preset native && cmake --build --preset native); a change of the
files it writes is a change of the specification.
"""

import argparse
import gzip
import hashlib
import json
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

from lm.arch import bitmamba2, bitnet, hgrnbit, hnetbit
from lm.file import gguf_file
from lm.text import command, files
from make_golden import ENGINE, every_width, random_model, run_engine

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "tests" / "conformance"
VERSION = "1.0"

# ---- recipes ---------------------------------------------------------------------------------------------------------


class Pcg:
    """PCG-XSH-RR 64/32, stream 54: the generator of SPEC.md section 9."""

    def __init__(self, seed: int):
        self.state = 0
        self.word()
        self.state = (self.state + seed) % 2**64
        self.word()

    def word(self) -> int:
        old, self.state = self.state, (self.state * 6364136223846793005 + 109) % 2**64
        mixed, turn = ((old >> 18 ^ old) >> 27) % 2**32, old >> 59
        return (mixed >> turn | mixed << (32 - turn)) % 2**32

    def number(self, bits: int, unsigned: bool) -> int:
        width, value = 32, self.word()
        if bits > 32:
            width, value = 64, value << 32 | self.word()
        if not unsigned and value >> (width - 1):
            value -= 1 << width
        return value >> (width - bits)


def items(item: dict | int | str, call: int, random: Pcg) -> Iterator[int]:
    """The numbers that one item of a recipe stands for."""
    if not isinstance(item, dict):
        yield int(item)
    elif "from" in item:
        yield int(item["from"]) + call * int(item["by"])
    elif "low" in item:
        for _ in range(item["count"]):
            yield item["low"] + random.word() % (item["high"] - item["low"] + 1)
    else:
        for _ in range(item["count"]):
            number = random.number(item["bits"], item.get("unsigned", False))
            yield number >> (random.word() % item["bits"] if item.get("varied") else 0)


def calls_of(vector: dict) -> list[list[int]]:
    """The inputs of every call of a vector."""
    if "cases" in vector:
        return [[int(number) for number in inputs] for inputs, _ in vector["cases"]]
    random = Pcg(vector["seed"])
    return [
        [number for item in vector["inputs"] for number in items(item, call, random)] for call in range(vector["calls"])
    ]


def to_signed(number: int) -> int:
    return (number + 2**63) % 2**64 - 2**63


def digest(outputs: list[list[int]]) -> str:
    """SHA-256 of the outputs of all calls, one after the other, as little-endian 64-bit numbers."""
    flat = [to_signed(number) for output in outputs for number in output]
    return hashlib.sha256(struct.pack(f"<{len(flat)}q", *flat)).hexdigest()


def as_json(number: int) -> int | str:
    """JavaScript reads numbers beyond 2^53 inexactly: those are texts."""
    return number if abs(number) < 2**53 else str(number)


# ---- what is asked ---------------------------------------------------------------------------------------------------

LOWEST, HIGHEST, MOST = -(2**31), 2**31 - 1, 2**64 - 1
EPSILON = 0x358637BD  # 1e-6 as float32


def some(count: int, bits: int, **more: bool) -> dict:
    return {"count": count, "bits": bits, **more}


def wide(count: int, bits: int) -> dict:
    return some(count, bits, varied=True)


def within(low: int, high: int, count: int = 1) -> dict:
    return {"count": count, "low": low, "high": high}


def steps(first: int, by: int) -> dict:
    return {"from": first, "by": by}


def scales(low: int = -40, high: int = 40) -> list[dict]:
    return [some(1, 64, unsigned=True, varied=True), within(low, high)]


def functions() -> Iterator[tuple]:
    """name, cases, then (calls, inputs) of each sweep."""
    edges = [(0, 0), (1, 1), (-1, 1), (3, 1), (-3, 1), (-7, 0), (2**62, 62), (-(2**62), 62), (2**62 - 1, 62), (5, 3)]
    yield "round_shift", edges, (2000, [wide(1, 62), within(0, 62)])
    pairs = [(LOWEST, LOWEST), (LOWEST, HIGHEST), (HIGHEST, HIGHEST), (200 << 16, 200 << 16), (-98304, 1), (1, 32768)]
    yield "multiply", [*pairs, (-1, 32768), (1, 32767)], (2000, [wide(1, 32), wide(1, 32)])
    yield "add", [*pairs, (LOWEST, -1), (HIGHEST, 1)], (500, [some(1, 32), some(1, 32)])
    squares = (2**32 - 1) ** 2
    yield "isqrt", [(n,) for n in (0, 1, 15, 16, squares - 1, squares, MOST)], (2000, scales()[:1])
    edges = [(0, 5), (1, 0), (3, 0), (2**32 - 1, 0), (2**32, 0), (2**33 - 1, 0), (2**32 + 2**0, 0), (MOST, -64)]
    yield "scale", edges, (1000, scales())
    edges = [(2**31, 0, 2**32 - 1, -32), (2**31, 0, 2**32 - 1, -31), (0, 0, 7, 3), (7, 3, 0, 0), (MOST, 0, MOST, 0)]
    yield "scale_add", edges, (2000, [*scales(), *scales()])
    yield "scale_multiply", [(MOST, 0, MOST, 0), (0, 0, 5, 0), (3, -2, 5, 9)], (2000, [*scales(), *scales()])
    thirds = [(1, 0, 3, 0), (0, 0, 3, 0), (MOST, 0, 1, 0), (2**32 - 1, 0, 2**31, 0), (2**31, 0, 2**32 - 1, 0)]
    yield "scale_divide", thirds, (2000, [*scales(), within(1, 2**32 - 1), within(-40, 40)])
    edges = [(0, 0), (2, 0), (1, 1), (1, -1), (1, -3), (4, 0), (MOST, 0), (2**62 - 1, 7)]
    yield "scale_sqrt", edges, (2000, scales())
    edges = [(1, 0, 62), (1, 0, 63), (1, -1, 0), (1, -2, 0), (3, -2, 0), (5, -1, 0), (0, 0, 9), (1, -33, 32)]
    yield "scale_to_fixed", edges, (1000, [*scales(-110, -10), within(0, 62)])
    edges = [(1, 0, 0, LOWEST), (1, 1, 0, HIGHEST), (1, 31, 0, 1), (1, 31, 0, -1), (1, 32, 0, -2), (0, 0, 0, 9)]
    edges += [(MOST, -70, 0, 12345), (1, -100, 31, LOWEST), (1, -32, 1, HIGHEST), (2**32 - 1, -32, 16, LOWEST)]
    yield "rescale", edges, (2000, [*scales(-100, -20), within(0, 31), wide(1, 32)])
    floats = [0, 0x80000000, 1, 0x80000001, 0x37000000, 0xB7000000, 0x3DCCCCCD, 0x3F800000, 0x46FFFFFF, 0x47000000]
    floats += [0xC7000000, 0xC7000001, 0x7F800000, 0xFF800000, 0x7FC00000, 0x3F7FFFFF, 0x00800000, 0x7F7FFFFF]
    random_floats = [(500, [within(a, b), within(0, 31)]) for a, b in ((2**29, 0x4F000000), (0xA0000000, 0xCF000000))]
    yield "f32_to_fixed", [(f, bits) for f in floats for bits in (16, 31)], *random_floats
    halves = [0x0000, 0x8000, 0x0001, 0x03FF, 0x0400, 0x8001, 0x3C00, 0x7BFF, 0xFBFF, 0x7C00, 0xFC00, 0x7E00]
    yield "f16_to_fixed", [(half, 24) for half in halves], (65536, [steps(0, 1), 16])
    yield "f32_to_scale", [(f,) for f in floats], (500, [some(1, 32, unsigned=True)])
    edges = [0, 1, -1, 65536, -65536, 1048575, 1048576, -1048575, -1048576, -1048577, 163840, -163840, LOWEST, HIGHEST]
    for name in ("sigmoid", "silu"):
        kinds = [(2000, [kind, wide(1, 32)]) for kind in (0, 1)] + [
            (20000, [kind, steps(-1100000, 110)]) for kind in (0, 1)
        ]
        yield name, [(kind, x) for kind in (0, 1) for x in edges], *kinds
    edges = [0, 1, 65535, 65536, 1 << 23, (1 << 24) - 1, 1 << 24, 32 << 24, (33 << 24) - 1, 33 << 24, 2**32 - 1]
    yield "exp2_negative", [(x,) for x in edges], (4000, [some(1, 30, unsigned=True)]), (4000, [steps(0, 16411)])
    edges = [1, 2, 3, 10, 2**31, 2**31 + 1, 2**32 - 1, 2**63, MOST]
    yield "log2", [(n,) for n in edges], (2000, [within(1, 2**32 - 1)]), (2000, [steps(1, 4611686018427387)])
    yield "random", [(seed, 4) for seed in (0, 1, 42, 2**53 - 1, MOST)], (1, [7, 1000])
    edges = [0, 1, 255, 256, 1 << 14, 1 << 24, 11629080, 22 << 24, 372130559, 372130560, 23 << 24, HIGHEST]
    yield "exp_negative", [(x,) for x in edges], (2000, [some(1, 31, unsigned=True)]), (4000, [steps(0, 93001)])
    edges = [0, 1, -1, 65536, -65536, -1136000, -1140000, 128 << 16, (128 << 16) - 1, -(128 << 16), LOWEST, HIGHEST]
    yield "softplus", [(x,) for x in edges], (2000, [wide(1, 32)]), (8000, [steps(-1200000, 300)])
    phases = [n << 28 for n in range(16)]
    edges = [phase + by for phase in phases for by in (-1, 0, 1) if phase + by >= 0]
    yield "sine", [(phase,) for phase in edges], (4000, [some(1, 32, unsigned=True)])


def operations() -> Iterator[tuple]:
    """As functions()."""
    rows = [(n, bits) for n in (1, 3, 37, 129) for bits in (4, 20, 32)]
    yield "root_mean_square", [], *[(20, [EPSILON, n, some(n, bits)]) for n, bits in rows]
    yield (
        "rms_norm",
        [],
        *[(10, [EPSILON, n, some(n, bits), some(n, 19)]) for n, bits in rows],
        (5, [1, 64, *[0] * 128]),
    )
    small = [(20, [EPSILON, 37, some(37, 20), some(37, bits)]) for bits in (1, 2, 32)]
    weights = [(10, [EPSILON, n, some(n, bits), some(n, 19)]) for n, bits in rows]
    yield (
        "quantize",
        [],
        *weights,
        *small,
        (1, [EPSILON, 2, 0, 0, 65536, 65536]),
        (50, [EPSILON, 9, wide(9, 32), wide(9, 32)]),
    )
    linears = [(20, 40), (7, 300), (256, 16), (1, 1), (33, 17)]
    halves = (0x2A66, 0x0000, 0x0001, 0x3C00)
    yield (
        "bit_linear",
        [],
        *[
            (2, [EPSILON, half, r, c, some(c, bits), some(c, 18), within(-1, 1, r * c)])
            for (r, c), half, bits in zip(linears * 2, halves * 3, (20, 24, 12, 32, 6) * 2)
        ],
    )
    yield (
        "dense_linear",
        [],
        *[
            (
                2,
                [
                    r,
                    c,
                    bias,
                    some(c, bits),
                    within(-128, 127, r * c),
                    within(0x38000000, 0x40000000, r),
                    *[some(r, 20)] * bias,
                ],
            )
            for (r, c), bias, bits in zip(linears, (0, 1, 1, 0, 1), (20, 24, 12, 32, 6))
        ],
    )
    yield (
        "convolution",
        [],
        *[
            (5, [kind, taps, 11, some(11 * taps, 28 if bits == 32 else 18), some(11 * taps, bits)])
            for kind, taps, bits in ((0, 2, 20), (1, 3, 20), (0, 4, 32), (1, 8, 32), (0, 8, 18))
        ],
    )
    yield (
        "recurrence",
        [],
        *[
            (5, [kind, keep, 23, some(23, 32), wide(23, 32), wide(23, 32), *[within(1, 2**31, 23)] * keep])
            for kind in (0, 1)
            for keep in (0, 1)
        ],
    )
    yield "gated_product", [], *[(5, [kind, 50, wide(50, 32), wide(50, 32)]) for kind in (0, 1)]
    halfway = [
        (2, 65536, 0, 0, 65536),
        (2, 65536, 0, -65536, 65536),
        (1, LOWEST, HIGHEST),
        (1, 1, -1),
        (3, *[LOWEST] * 3, *[1] * 3),
    ]
    yield (
        "boundary_probability",
        halfway,
        *[(30, [n, some(n, bits), some(n, bits)]) for n in (1, 2, 24, 129) for bits in (3, 20, 32)],
    )
    yield (
        "blend",
        [],
        (10, [within(2**30, 2147268900), 20, some(20, 32), some(20, 32)]),
        (5, [2147268900, 20, wide(20, 32), some(20, 32)]),
    )
    yield "ternary_block", [], *[(1, [kind, *block]) for kind, block in ternary_blocks()]
    yield "softmax_weights", [], *[(3, [t, some(256, bits)]) for t in (1, 6554, 65536, 6553600) for bits in (4, 21, 32)]
    yield "surprisal", [], *[(20, [within(0, 255), some(256, bits)]) for bits in (4, 21, 32)]
    options = [  # greedy, temperature, top-k, top-p, min-p, penalty, seed
        [0, 65536, 256, 65536, 0, 65536, 1],
        [1, 65536, 256, 65536, 0, 65536, 2],
        [1, 65536, 256, 65536, 0, 98304, 3],
        [0, 52429, 40, 65536, 0, 65536, 4],
        [0, 45875, 256, 58982, 0, 65536, 5],
        [0, 85197, 256, 65536, 3277, 65536, 6],
        [0, 58982, 50, 62259, 655, 78643, str(MOST)],
        [0, 65536, 1, 1, 65535, 655360, 7],
        [0, 1, 256, 65536, 0, 65536, 8],
        [0, 6553600, 256, 32768, 1, 131072, 9],
    ]
    yield "draw", [], *[(2, [*each, 300, some(256, bits)]) for each in options for bits in (3, 20, 32)]
    yield (
        "biased_convolution",
        [],
        *[
            (5, [taps, 11, some(11 * taps, 28 if bits == 32 else 18), some(11 * taps, bits), some(11, bits)])
            for taps, bits in ((2, 20), (4, 32), (8, 18))
        ],
    )
    small = [within(0x3C000000, 0x42000000), some(1, 20), some(1, 19), some(1, 18), some(1, 18)]
    yield (
        "state_space",
        [],
        (40, [*small, 9, some(9, 24), some(9, 18), some(9, 19), some(9, 18)]),
        (20, [within(0, 0x4F000000), *[wide(1, 32)] * 4, 9, some(9, 32), wide(9, 32), wide(9, 32), wide(9, 32)]),
    )
    yield from attention_operations()
    flat = [(9, *[5] * 256), (256, *[LOWEST] * 255, HIGHEST), (3, *range(256))]
    yield "expectation", flat, *[(20, [within(0, 256), some(256, bits)]) for bits in (4, 18, 21, 32)]
    yield from superfloat_operations()


def attention_operations() -> Iterator[tuple]:
    """As functions()."""
    edges = [(127, 2, 0, 0), (127, 3, LOWEST, HIGHEST, 1), (32767, 2, 1, -1), (1023, 2, 3, HIGHEST)]
    rows = [(20, [most, 33, some(33, bits)]) for most in (127, 1023, 32767) for bits in (4, 20, 32)]
    yield "codes_of", edges, *rows
    tiny, small = within(-130, -20), within(-60, -40)
    factor = some(1, 32, unsigned=True)
    yield (
        "normed_codes",
        [(EPSILON, 1, 46, 0, 0, 2, 5, 6, 7, 8), (EPSILON, 0, 16, 1, -16, 2, 0, 0)],
        *[(10, [EPSILON, 1, f, factor, small, 21, wide(21, 32), wide(21, 32)]) for f in (0, 16, 30, 46)],
        (10, [EPSILON, 1, 46, factor, tiny, 21, wide(21, 32), wide(21, 20)]),
        (10, [EPSILON, 0, 16, factor, small, 21, wide(21, 32)]),
        (10, [EPSILON, 0, 16, factor, tiny, 21, wide(21, 32)]),
    )
    yield "rotate", [], (20, [within(0, 4095), 8, some(4, 32, unsigned=True), some(8, 22)])
    for width, count in ((4, 1), (8, 3), (16, 40)):
        position = [within(-127, 127, 2 * width), factor, within(-56, -48), factor, within(-60, -40)]
        query = [factor, within(-56, -48), within(-32767, 32767, width)]
        yield "attend", [], (8, [width, count, *query, *position * count])
    far = [within(-127, 127, 8), factor, within(-40, -34), factor, within(-130, -40)]
    yield "attend", [], (8, [4, 20, factor, within(-50, -44), within(-32767, 32767, 4), *far * 20])
    scales = [factor, within(-50, -30), factor, within(-90, -30)]
    yield "gated", [], *[(10, [kind, *scales, 30, wide(30, 21), wide(30, 21)]) for kind in (0, 1)]
    yield (
        "wide_linear",
        [],
        *[
            (2, [r, c, some(c, bits), within(-128, 127, r * c), within(0x38000000, 0x40000000, r)])
            for (r, c), bits in zip([(20, 40), (7, 300), (1, 1), (33, 17)], (20, 24, 12, 32))
        ],
    )


def superfloat_operations() -> Iterator[tuple]:
    """As functions()."""
    yield "superfloat_row", [], *[(4, [x, within(0, 255, x)]) for x in range(3, 17)]
    shapes = zip([(20, 40), (7, 300), (1, 1), (33, 17)] * 4, range(3, 17), (20, 24, 12, 32, 6) * 3)
    yield (
        "superfloat_linear",
        [],
        *[
            (
                1,
                [
                    *(EPSILON, x, r, c, some(c, bits), some(c, 18)),
                    *(within(1 - 2 ** (x - 1), 2 ** (x - 1) - 1, r * c), within(0x30000000, 0x3F000000, r)),
                ],
            )
            for (r, c), x, bits in shapes
        ],
        (1, [EPSILON, 16, 2, 64, some(64, 20), some(64, 18), *[-32767] * 64, *[32767] * 64, 0x3F000000, 0x7F000000]),
    )


def ternary_blocks() -> Iterator[tuple[int, list[int]]]:
    """Whole blocks of both types, and broken ones."""
    random = Pcg(2026)
    scale = [0x66, 0x2A]
    trits = [-(-256 * (random.word() % 243) // 243) for _ in range(48)]
    last = [-(-256 * (random.word() % 81 * 3) // 243) for _ in range(4)]
    yield 34, [*trits, *last, *scale]
    skipped = min(set(range(256)) - {-(-256 * n // 243) for n in range(243)})
    yield 34, [*trits[:-1], skipped, *last, *scale]
    yield 34, [*trits, *last[:-1], 2, *scale]  # a fifth digit
    pairs = [sum((random.word() % 3) << shift for shift in (0, 2, 4, 6)) for _ in range(64)]
    yield 35, [*pairs, *scale]
    yield 35, [*pairs[:-1], 0b11000000, *scale]
    yield 35, [*pairs, 0x00, 0x80]  # the scale -0


# ---- the models ------------------------------------------------------------------------------------------------------

MODELS = {
    "flat": (
        hgrnbit.Config(hidden=12, recurrent=20, intermediate=16, layers=2, conv_kernel=4, lower_bounds=True),
        "TQ1_0",
        31,
    ),
    "flat_linear": (
        hgrnbit.Config(
            hidden=8,
            recurrent=12,
            intermediate=20,
            layers=2,
            conv_kernel=0,
            gate_norm="state",
            sigmoid="piecewise_linear",
        ),
        "TQ2_0",
        32,
    ),
    "stages_1": (
        hnetbit.Config(hidden=(8, 12), recurrent=(12, 16), intermediate=(16, 8), layers=1, router=(8,), conv_kernel=3),
        "TQ1_0",
        33,
    ),
    "stages_2": (
        hnetbit.Config(
            hidden=(8, 8, 12),
            recurrent=(12, 8, 16),
            intermediate=(12, 16, 8),
            encoder=(1, 1),
            decoder=(1, 1),
            layers=1,
            router=(8, 6),
            target=(4.0, 2.0),
            lr_multiplier=(1.0, 1.0, 1.0),
            decay_span=(0.0, 0.0, 0.0),
            conv_kernel=0,
            gate_norm="state",
            sigmoid="piecewise_linear",
        ),
        "TQ2_0",
        34,
    ),
}
MODELS["state_space"] = (bitmamba2.Config(hidden=6, inner=15, heads=3, layers=2), "TQ1_0", 35)
MODELS["attention"] = (
    bitnet.Config(hidden=8, intermediate=12, layers=2, heads=4, kv_heads=2, head_width=4, context=200),
    "TQ1_0",
    36,
)
MODELS["attention_silu"] = (
    bitnet.Config(
        hidden=8,
        intermediate=12,
        layers=1,
        heads=2,
        kv_heads=2,
        head_width=8,
        context=300,
        activation="silu",
        sub_norms=False,
        tied=False,
    ),
    "TQ2_0",
    37,
)
MODELS["superfloat"] = (
    hgrnbit.Config(hidden=12, recurrent=20, intermediate=16, layers=2, conv_kernel=4, ternary=False),
    "TQ1_0",
    38,
)
PROMPT = "A byte is 8 bits; ein Byte sind 8 Bit; байт — это 8 бит. ".encode() + b"\xff\xfe\x00\x80"
GENERATIONS = (
    {"greedy": True, "raw": True, "max_bytes": 32},
    {"seed": 1, "raw": True, "max_bytes": 200},
    {"temperature": 52429, "top_k": 40, "seed": 2, "raw": True, "max_bytes": 64},
    {"temperature": 45875, "top_p": 58982, "seed": 3, "raw": True, "max_bytes": 64},
    {
        "temperature": 58982,
        "top_k": 50,
        "top_p": 62259,
        "min_p": 655,
        "penalty": 78643,
        "seed": 4,
        "raw": True,
        "max_bytes": 64,
    },
    {"greedy": True, "max_bytes": 32},
    {"temperature": 131072, "top_k": 100, "seed": 5, "max_bytes": 200},
)
ENGINE_OPTIONS = {
    "penalty": "repetition-penalty",
    "max_bytes": "max-bytes",
    "top_k": "top-k",
    "top_p": "top-p",
    "min_p": "min-p",
}
REALS = ("temperature", "top_p", "min_p", "penalty")  # in units of 1/65536


def engine_spec(options: dict) -> str:
    words = []
    for name, value in options.items():
        text = f"{value / 65536:.16f}" if name in REALS else str(value).lower()
        words.append(f"{ENGINE_OPTIONS.get(name, name)}={text}")
    return ",".join(words)


def stream_vector(name: str, path: Path) -> dict:
    specs = [word for options in GENERATIONS for word in ("--generate", engine_spec(options))]
    out = run_engine(ENGINE, path, PROMPT, "--all-logits", *specs)
    logits = b"".join(struct.pack(f"<{len(row)}i", *row) for row in out["all_logits"])
    return {
        "model": path.name,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "prompt": PROMPT.hex(),
        "logits_sha256": hashlib.sha256(logits).hexdigest(),
        "boundaries": out["boundaries"],
        "bits_q32": out["score"]["bits_q32"],
        "generations": [
            {"options": options, "bytes": made["hex"], "boundaries": made["boundaries"], "finish": made["finish"]}
            for options, made in zip(GENERATIONS, out["generations"])
        ],
    }


# ---- writing ---------------------------------------------------------------------------------------------------------


def evaluate(program: Path, asked: list[tuple[str, list[int]]]) -> list[list[int]]:
    """What the engine answers to each call."""
    lines = "".join(f"{name} {' '.join(str(to_signed(number)) for number in inputs)}\n" for name, inputs in asked)
    done = subprocess.run([program, "--evaluate"], input=lines, capture_output=True, encoding="utf-8")
    if done.returncode != 0:
        raise RuntimeError(f"{program.name} --evaluate failed: {done.stderr.strip()}")
    return [[int(word) for word in line.split()] for line in done.stdout.splitlines()]


def vectors(tier: Iterator[tuple]) -> list[dict]:
    made = []
    for name, cases, *sweeps in tier:
        if cases:
            answers = evaluate(ENGINE, [(name, list(case)) for case in cases])
            pairs = [[[as_json(n) for n in case], [as_json(n) for n in out]] for case, out in zip(cases, answers)]
            made.append({"name": name, "cases": pairs})
        for calls, inputs in sweeps:
            inputs = [item if isinstance(item, (dict, str)) else as_json(item) for item in inputs]
            vector = {"name": name, "calls": calls, "seed": len(made) + 1, "inputs": inputs}
            answers = evaluate(ENGINE, [(name, call) for call in calls_of(vector)])
            vector["first"] = [as_json(number) for number in answers[0][:4]]
            made.append(vector | {"sha256": digest(answers)})
    return made


def write(name: str, content: list[dict]) -> None:
    """One line per vector: short in a diff, and still readable."""
    lines = ",\n".join(json.dumps(vector, separators=(",", ":")) for vector in content)
    files.write_text(FOLDER / f"{name}.json", f'{{"spec":"{VERSION}","vectors":[\n{lines}\n]}}\n')


def make_all() -> None:
    FOLDER.mkdir(exist_ok=True)
    streams = []
    for name, (config, ternary_type, seed) in MODELS.items():
        path = FOLDER / f"{name}.gguf"
        model, card = random_model(config, seed), gguf_file.Card(name, "Random weights.", "MIT")
        stored = every_width(model) if name == "superfloat" else None
        gguf_file.write(path, model, card, ternary_type, None, stored)
        streams.append(stream_vector(name, path))
    write("functions", vectors(functions()))
    write("operations", vectors(operations()))
    write("streams", streams)
    sizes = {path.name: len(gzip.compress(path.read_bytes(), 9)) for path in sorted(FOLDER.iterdir())}
    print(*(f"{name}: {size:,}" for name, size in sizes.items()), f"all: {sum(sizes.values()):,} bytes gzip", sep="\n")


def main() -> None:
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    make_all()


if __name__ == "__main__":
    command.run(main)
