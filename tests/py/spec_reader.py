"""TernLM in plain Python, written from models/SPEC.md and models/FORMAT.md alone: integers, lists, no library.

Slow and short on purpose: it is the proof that those two pages say everything. Section numbers are those of SPEC.md.
Usage: spec_reader.py MODEL.gguf PROMPT [MAX_BYTES]   (greedy; prints the bytes that follow the prompt)
"""

import math
import struct
import sys
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import ROUND_FLOOR, Decimal, localcontext
from operator import mul as times
from pathlib import Path

Row = list[int]

# ---- 1, 2: rounding, saturation, formats -----------------------------------------------------------------------------

LOW, HIGH = -(1 << 31), (1 << 31) - 1


def rnd(a: int, n: int) -> int:
    return (a + (1 << n >> 1)) >> n


def sat(a: int) -> int:
    return LOW if a < LOW else HIGH if a > HIGH else a


def bits(a: int) -> int:
    return a.bit_length()


# ---- 3: Scale --------------------------------------------------------------------------------------------------------

Scale = tuple[int, int]  # m, e: m * 2^e


def scale(n: int, e: int = 0) -> Scale:
    if n == 0:
        return 0, 0
    drop = bits(n) - 32
    if drop <= 0:
        return n << -drop, e + drop
    m = rnd(n, drop)
    return (1 << 31, e + drop + 1) if m == 1 << 32 else (m, e + drop)


def mul(a: Scale, b: Scale) -> Scale:
    return scale(a[0] * b[0], a[1] + b[1])


def div(a: Scale, b: Scale) -> Scale:
    return scale(((a[0] << 32) + b[0] // 2) // b[0], a[1] - b[1] - 32)


def add(a: Scale, b: Scale) -> Scale:
    if a[0] == 0:
        return b
    if b[0] == 0:
        return a
    if a[1] < b[1]:
        a, b = b, a
    apart = a[1] - b[1]
    if apart > 31:
        return a
    return scale((a[0] << 31) + (b[0] << (31 - apart)), a[1] - 31)


def sqrt(a: Scale) -> Scale:
    if a[0] == 0:
        return a
    shift = 32 - a[1] % 2
    square = a[0] << shift
    root = math.isqrt(square)
    if square - root * root > root:
        root += 1
    return scale(root, (a[1] - shift) // 2)


def to_fixed(a: Scale, fraction_bits: int) -> int:
    n = a[1] + fraction_bits
    return min(1 << 62, a[0] << n if n >= 0 else rnd(a[0], -n))


Factor = tuple[int, int]  # m, n: x -> x * m / 2^n


def rescale(s: Scale, fraction_bits: int) -> Factor:
    if s[0] == 0:
        return 0, 0
    m, carry = rnd(s[0], 1), 0
    if m == 1 << 31:
        m, carry = m >> 1, 1
    n = -(s[1] + 1 + carry + fraction_bits)
    if n > 62:
        return 0, 0
    return (m, n) if n >= 0 else ((1 << 31) - 1, 0)


def apply(r: Factor, x: int) -> int:
    return sat(rnd(x * r[0], r[1]))


# ---- 4: functions ----------------------------------------------------------------------------------------------------


def table(count: int, formula) -> Row:
    """`count` entries, each the exact real number times 2^31, rounded."""
    with localcontext() as context:
        context.prec = 50
        half = Decimal("0.5")
        return [int((formula(Decimal(i)) * 2**31 + half).to_integral_value(rounding=ROUND_FLOOR)) for i in range(count)]


PI = Decimal("3.14159265358979323846264338327950288419716939937511")


def sine_of(x: Decimal) -> Decimal:
    term, total, n = x, Decimal(0), 1
    while abs(term) > Decimal(10) ** -40:
        total += term
        term *= -x * x / ((n + 1) * (n + 2))
        n += 2
    return total


SIGMOID = table(1025, lambda i: 1 / (1 + (16 - i / 32).exp()))
EXP2 = table(257, lambda i: (-i / 256 * Decimal(2).ln()).exp())
SINE = table(1025, lambda i: sine_of(i * PI / 2048))
LOG2 = table(1025, lambda i: (1 + i / 1024).ln() / Decimal(2).ln())


def line(entries: Row, i: int, f: int, n: int) -> int:
    return entries[i] + rnd((entries[i + 1] - entries[i]) * f, n)


def sigmoid_table(x: int) -> int:
    if x <= -(16 << 16):
        return SIGMOID[0]
    if x >= 16 << 16:
        return SIGMOID[1024]
    at = x + (16 << 16)
    return line(SIGMOID, at >> 11, at & 2047, 11)


def sigmoid_piecewise_linear(x: int) -> int:
    at = min(max(x + 163840, 0), 327680)
    return ((at << 16) + 5) // 10


SIGMOIDS = {"table": sigmoid_table, "piecewise_linear": sigmoid_piecewise_linear}


def silu(x: int, sigmoid) -> int:
    return rnd(x * sigmoid(x), 31)


def multiply(a: int, b: int) -> int:
    return sat(rnd(a * b, 16))


def exp2_negative(x: int) -> int:
    if x >> 24 > 32:
        return 0
    return rnd(line(EXP2, x >> 16 & 255, x & 65535, 16), x >> 24)


def log2(n: int) -> int:
    lead = 64 - bits(n)
    below = (n << lead) - (1 << 63)
    fraction = (below & ((1 << 53) - 1)) >> 23
    return ((63 - lead) << 32) + (line(LOG2, below >> 53, fraction, 30) << 1)


def exp_negative(x: int) -> int:
    octaves = rnd(x * 3098164009, 23)
    if octaves >> 32 > 31:
        return 0
    y = rnd((octaves & 0xFFFFFF) * 1488522236, 32)
    series = (1 << 31) - y + rnd(y * y, 32)
    return min(rnd(EXP2[octaves >> 24 & 255] * series, 31 + (octaves >> 32)), (1 << 31) - 1)


def softplus(x: int) -> int:
    log = log2((1 << 31) + exp_negative(sat(abs(x) << 8))) - (31 << 32)
    return sat((max(x, 0) << 8) + rnd((log >> 1) * 1488522236, 38))


def sine(phase: int) -> int:
    at = phase & ((1 << 30) - 1)
    if phase >> 30 & 1:
        at = (1 << 30) - at
    i = min(at >> 20, 1023)
    size = line(SINE, i, at - (i << 20), 20)
    return rnd(-size if phase >> 31 else size, 1)


# ---- 5: numbers of a file --------------------------------------------------------------------------------------------


class RefusedError(ValueError):
    """The file has something that FORMAT.md or SPEC.md does not allow."""


def refuse_unless(good: bool, what: str) -> None:
    if not good:
        raise RefusedError(what)


def parts_of_f32(raw: int) -> tuple[int, int]:
    """A float32's bits -> v, k: the number is v * 2^k."""
    negative, exponent, v = raw >> 31, raw >> 23 & 255, raw & 0x7FFFFF
    refuse_unless(exponent != 255, "a number that is not finite")
    k = -149
    if exponent:
        v, k = v | 0x800000, exponent - 150
    return (-v if negative else v), k


def parts_of_f16(raw: int) -> tuple[int, int]:
    negative, exponent, v = raw >> 15, raw >> 10 & 31, raw & 0x3FF
    refuse_unless(exponent != 31, "a number that is not finite")
    k = -24
    if exponent:
        v, k = v | 0x400, exponent - 25
    return (-v if negative else v), k


def to_raw(parts: tuple[int, int], fraction_bits: int) -> int:
    v, k = parts
    n = k + fraction_bits
    raw = v << n if n >= 0 else rnd(v, -n)
    refuse_unless(raw == sat(raw), "a number that does not fit its format")
    return raw


def to_scale(parts: tuple[int, int]) -> Scale:
    refuse_unless(parts[0] >= 0, "a negative scale")
    return scale(*parts)


# ---- FORMAT.md: the container ----------------------------------------------------------------------------------------

F32, F16, I8, TQ1_0, TQ2_0 = 0, 1, 24, 34, 35
SF = {1000 + x: x for x in range(3, 17)}
VALUES = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "I", 7: "B", 10: "Q", 11: "q", 12: "Q"}  # floats as bits
BLOCKS = {F32: (1, 4), F16: (1, 2), I8: (1, 1), TQ1_0: (256, 54), TQ2_0: (256, 66)}  # elements, bytes
BLOCKS |= {kind: (8, x) for kind, x in SF.items()}


class File:
    """The keys of a GGUF file, and its tensors as rows of bytes."""

    def __init__(self, data: bytes):
        self.data, self.at = data, 0
        refuse_unless(data[:4] == b"GGUF", "this is not a GGUF file")
        _, version, tensors, keys = self.take("<IIQQ")
        refuse_unless(version == 3, f"GGUF version {version}")
        self.keys = {}
        for _ in range(keys):
            name = self.string()
            self.keys[name] = self.value(self.take("<I")[0])
        self.entries = {}
        for _ in range(tensors):
            name, dims = self.string(), self.take("<I")[0]
            shape = self.take(f"<{dims}Q")
            self.entries[name] = (shape, *self.take("<IQ"))
        alignment = self.keys.get("general.alignment", 32)
        self.start = -(-self.at // alignment) * alignment
        self.unread = set(self.entries)

    def take(self, form: str) -> tuple:
        values = struct.unpack_from(form, self.data, self.at)
        self.at += struct.calcsize(form)
        return values

    def string(self) -> str:
        (length,) = self.take("<Q")
        return self.take(f"<{length}s")[0].decode()

    def value(self, kind: int):
        if kind == 8:
            return self.string()
        if kind == 9:
            item, count = self.take("<IQ")
            return [self.value(item) for _ in range(count)]
        return self.take("<" + VALUES[kind])[0]

    def tensor(self, name: str, columns: int, rows: int, *kinds: int) -> tuple[int, list[bytes]]:
        """Its type, and the bytes of each row."""
        refuse_unless(name in self.entries, f"no tensor {name}")
        shape, kind, offset = self.entries[name]
        refuse_unless(kind in kinds, f"{name}: type {kind}")
        elements, size = BLOCKS[kind]
        padded = -(-columns // elements) * elements
        refuse_unless((shape[0], math.prod(shape[1:])) == (padded, rows), f"{name}: shape {shape}")
        size = padded // elements * size
        self.unread.discard(name)
        first = self.start + offset
        return kind, [self.data[first + r * size : first + (r + 1) * size] for r in range(rows)]


# ---- 5: tensors ------------------------------------------------------------------------------------------------------


def parts_of_row(kind: int, row: bytes) -> list[tuple[int, int]]:
    if kind == F32:
        return [parts_of_f32(raw) for (raw,) in struct.iter_unpack("<I", row)]
    return [parts_of_f16(raw) for (raw,) in struct.iter_unpack("<H", row)]


def superfloat_row(x: int, row: bytes) -> Row:
    word, integers = int.from_bytes(row, "little"), []
    for _ in range(len(row) * 8 // x):
        size = word & ((1 << (x - 1)) - 1)
        integers.append(-size if word >> (x - 1) & 1 else size)
        word >>= x
    return integers


def superfloat_scales(file: File, name: str, x: int, rows: int) -> list[Scale]:
    scales = read_scales(file, name, rows) if name in file.entries else [scale(1)] * rows
    return [(m, e - (x - 1) if m else 0) for m, e in scales]


def superfloat_rows(x: int, lines: list[bytes], columns: int) -> list[Row]:
    rows = [superfloat_row(x, line) for line in lines]
    refuse_unless(not any(any(row[columns:]) for row in rows), "numbers in the padding")
    return [row[:columns] for row in rows]


def read_weights(file: File, name: str, columns: int) -> Row:
    kind, (row,) = file.tensor(name, columns, 1, F32, F16, *(SF if name.endswith("norm.weight") else ()))
    if kind in SF:
        (s,) = superfloat_scales(file, name.removesuffix("weight") + "scale", SF[kind], 1)
        return [apply(rescale(s, 16), m) for m in superfloat_rows(SF[kind], [row], columns)[0]]
    return [to_raw(parts, 16) for parts in parts_of_row(kind, row)]


def read_norm(file: File, name: str, columns: int) -> tuple[Row, int]:
    """Weights with as many fraction bits as the largest leaves room for."""
    kind, (row,) = file.tensor(name, columns, 1, F32, F16)
    numbers = parts_of_row(kind, row)
    tops = [bits(abs(v)) - 1 + k for v, k in numbers if v]  # floor(log2(.))
    fraction_bits = min(46, 30 - max(tops)) if tops else 46
    refuse_unless(fraction_bits >= 0, f"{name}: a weight of 2^31 or more")
    return [to_raw(parts, fraction_bits) for parts in numbers], fraction_bits


def read_taps(file: File, name: str, taps: int, channels: int) -> list[Row]:
    """[K][channels], oldest first."""
    kind, rows = file.tensor(name, taps, channels, F32, F16)
    by_channel = [[to_raw(parts, 16) for parts in parts_of_row(kind, row)] for row in rows]
    refuse_unless(all(abs(tap) < 1 << 28 for row in by_channel for tap in row), f"{name}: a tap of 4096 or more")
    return [[row[k] for row in by_channel] for k in range(taps)]


def read_keep(file: File, name: str, columns: int) -> Row:
    kind, (row,) = file.tensor(name, columns, 1, F32)
    bounds = [to_raw(parts, 31) for parts in parts_of_row(kind, row)]
    refuse_unless(min(bounds) >= 0, f"{name}: a negative bound")
    return [(1 << 31) - bound for bound in bounds]


def read_scales(file: File, name: str, columns: int) -> list[Scale]:
    kind, (row,) = file.tensor(name, columns, 1, F32, F16)
    return [to_scale(parts) for parts in parts_of_row(kind, row)]


def read_codes(row: bytes) -> Row:
    return list(struct.unpack(f"{len(row)}b", row))


def read_embedding(file: File, rows: int, columns: int) -> list[Row]:
    kind, lines = file.tensor("token_embd.weight", columns, rows, I8, F16, F32, *SF)
    if kind in (F16, F32):
        return [[to_raw(parts, 16) for parts in parts_of_row(kind, row)] for row in lines]
    codes, scales = read_integers(file, "token_embd", kind, lines, columns)
    return [[apply(rescale(s, 16), code) for code in row] for s, row in zip(scales, codes)]


def read_integers(file: File, name: str, kind: int, lines: list[bytes], columns: int) -> tuple[list[Row], list[Scale]]:
    """Of I8 or SFx: the integers of every row, and its Scale."""
    if kind == I8:
        return [read_codes(line) for line in lines], read_scales(file, f"{name}.scale", len(lines))
    scales = superfloat_scales(file, f"{name}.scale", SF[kind], len(lines))
    return superfloat_rows(SF[kind], lines, columns), scales


def digits_of(number: int, count: int) -> Row:
    """The first `count` of five base-3 digits, the most significant first."""
    return [number // 3 ** (4 - k) % 3 for k in range(count)]


TRITS = {-(-256 * n // 243): n for n in range(243)}


def ternary_block(kind: int, block: bytes) -> Row:
    codes = [0] * 256
    if kind == TQ1_0:
        for first, bytes_, count, base in ((0, 32, 5, 0), (32, 16, 5, 160), (48, 4, 4, 240)):
            for m in range(bytes_):
                refuse_unless(block[first + m] in TRITS, "a byte that encodes no digits")
                number = TRITS[block[first + m]]
                refuse_unless(count == 5 or number % 3 == 0, "a last digit that is not 0")
                for k, digit in enumerate(digits_of(number, count)):
                    codes[base + m + k * bytes_] = digit - 1
    else:
        for half in range(2):
            for m in range(32):
                for n in range(4):
                    codes[128 * half + m + 32 * n] = (block[32 * half + m] >> 2 * n & 3) - 1
        refuse_unless(max(codes) <= 1, "a code that is not -1, 0 or 1")
    return codes


def ternary_scale(last_bytes: bytes) -> Scale:
    (raw,) = struct.unpack("<H", last_bytes)
    refuse_unless(raw >> 15 == 0, "a ternary scale with a sign")
    return to_scale(parts_of_f16(raw))


@dataclass
class Ternary:
    rows: list[Row]
    scale: Scale
    in_norm: Row | None = None


def read_matrix(file: File, name: str, rows: int, columns: int) -> Ternary:
    padded = -(-columns // 256) * 256
    kind, lines = file.tensor(f"{name}.weight", padded, rows, TQ1_0, TQ2_0)
    size = BLOCKS[kind][1]
    matrix, scales = [], set()
    for row in lines:
        blocks = [row[at : at + size] for at in range(0, len(row), size)]
        scales |= {block[-2:] for block in blocks}
        codes = [code for block in blocks for code in ternary_block(kind, block)]
        refuse_unless(not any(codes[columns:]), f"{name}: weights in the padding")
        matrix.append(codes[:columns])
    refuse_unless(len(scales) == 1, f"{name}: {len(scales)} scales")
    return Ternary(matrix, ternary_scale(scales.pop()))


@dataclass
class SuperFloat:
    x: int
    rows: list[Row]
    scales: list[Scale]
    in_norm: Row | None = None


def read_ternary(file: File, name: str, rows: int, columns: int) -> Ternary | SuperFloat:
    kind = file.entries.get(f"{name}.weight", ((), -1))[1]
    if kind in SF:
        _, lines = file.tensor(f"{name}.weight", columns, rows, kind)
        layer = SuperFloat(SF[kind], *read_integers(file, name, kind, lines, columns))
    else:
        layer = read_matrix(file, name, rows, columns)
    layer.in_norm = read_weights(file, f"{name}.in_norm.weight", columns)
    return layer


@dataclass
class Dense:
    rows: list[Row]
    scales: list[Scale]
    bias: Row | None = None


def read_dense(file: File, name: str, rows: int, columns: int) -> Dense:
    kind, lines = file.tensor(f"{name}.weight", columns, rows, I8, *(kind for kind, x in SF.items() if x <= 8))
    bias = read_weights(file, f"{name}.bias", rows) if f"{name}.bias" in file.entries else None
    return Dense(*read_integers(file, name, kind, lines, columns), bias)


# ---- 6: operations on rows -------------------------------------------------------------------------------------------


def dot(a: Row, b: Row) -> int:
    return sum(map(times, a, b))


def add_rows(h: Row, x: Row) -> Row:
    return [sat(a + b) for a, b in zip(h, x)]


def root_mean_square(x: Row, epsilon: Scale) -> Scale:
    n = len(x)
    shift = max(0, 2 * bits(max(map(abs, x))) + bits(n) - 63)
    total = sum((v * v) >> shift for v in x)
    return sqrt(add(div(scale(total, shift - 32), scale(n)), epsilon))


def rms_norm(x: Row, weight: Row, epsilon: Scale) -> Row:
    divide = rescale(div(scale(1), root_mean_square(x, epsilon)), 6)
    return [sat(rnd(apply(divide, v) * w, 22)) for v, w in zip(x, weight)]


def quantize(x: Row, weight: Row, rms: Scale, fraction_bits: int = 16) -> tuple[Row, Scale]:
    least = to_fixed(div(rms, scale(100000)), 16 + fraction_bits)
    products = [a * b for a, b in zip(x, weight)]
    largest = max(least, max(map(abs, products)))
    size = bits(largest)
    if size == 0:
        return [0] * len(x), (0, 0)

    def fit(a: int) -> int:
        return a >> (size - 31) if size > 31 else a << (31 - size)

    m = fit(largest)
    r = (127 << 54) // m
    codes = [rnd((fit(v) if v >= 0 else -fit(-v)) * r, 54) for v in products]
    return codes, div(scale(m, size - 31 - 16 - fraction_bits), mul(scale(127), rms))


def bit_linear(layer: Ternary | SuperFloat, x: Row, rms: Scale) -> Row:
    codes, s = quantize(x, layer.in_norm, rms)
    if isinstance(layer, SuperFloat):
        return superfloat_linear(layer, codes, s)
    r = rescale(mul(s, layer.scale), 16)
    return [apply(r, dot(row, codes)) for row in layer.rows]


def superfloat_linear(layer: SuperFloat, codes: Row, s: Scale) -> Row:
    y = []
    for row, row_scale in zip(layer.rows, layer.scales):
        m, e = mul(row_scale, s)
        if layer.x <= 8:
            y.append(apply(rescale((m, e), 16), dot(row, codes)))
        else:
            low = apply(rescale((m, e), 16), dot([w & 255 for w in row], codes))
            high = apply(rescale((m, e + 8 if m else 0), 16), dot([w >> 8 for w in row], codes))
            y.append(sat(low + high))
    return y


def dense_linear(layer: Dense, codes: Row, s: Scale) -> Row:
    y = [apply(rescale(mul(own, s), 16), dot(row, codes)) for own, row in zip(layer.scales, layer.rows)]
    return add_rows(y, layer.bias) if layer.bias else y


def quantize_plain(x: Row) -> tuple[Row, Scale]:
    return quantize(x, [65536] * len(x), scale(1))


def convolution(taps: list[Row], window: list[Row], sigmoid, bias: Row | None = None) -> Row:
    sums = [sum(tap[c] * row[c] for tap, row in zip(taps, window)) for c in range(len(window[0]))]
    return [silu(sat(rnd(total, 16) + b), sigmoid) for total, b in zip(sums, bias or [0] * len(sums))]


def recurrence(s: int, i: int, z: int, keep: int | None, sigmoid) -> int:
    k = sigmoid(sat(-z))
    if keep is not None:
        k = rnd(k * keep, 31)
    u = sat(silu(i, sigmoid) << 4)
    return sat(s + rnd(k * (u - s), 31))


def state_space(
    s: int, a: int, z: int, skip: int, rate: Scale, dt: int, dt_bias: int, b: int, c: int
) -> tuple[int, int]:
    t = softplus(sat(dt + dt_bias))
    decay = exp_negative(apply(rescale(rate, 0), t))
    m, n = rescale(scale(t * abs(b), -40), 4)
    s = sat(rnd(s * decay, 31) + sat(rnd(a * (m if b >= 0 else -m), n)))
    return s, multiply(sat(sat(rnd(s * c, 20)) + multiply(skip, a)), silu(z, sigmoid_table))


def output_gate(g: Row, s: Row, weight: Row, epsilon: Scale, gate_norm: str, sigmoid) -> Row:
    if gate_norm == "gate":
        a = rms_norm(g, weight, epsilon)
        return [multiply(silu(rnd(v, 4), sigmoid), w) for v, w in zip(s, a)]
    a = rms_norm(s, weight, (epsilon[0], epsilon[1] + 8))
    return [multiply(silu(v, sigmoid), w) for v, w in zip(g, a)]


def gated_product(gate_up: Row, sigmoid) -> Row:
    half = len(gate_up) // 2
    return [multiply(silu(gate, sigmoid), up) for gate, up in zip(gate_up[:half], gate_up[half:])]


Scaled = tuple[Row, Scale]  # integers, and what one of them is worth


def cut(v: Row, s: Scale) -> Scaled:
    """The highest 31 bits of the largest magnitude."""
    drop = max(0, bits(max(map(abs, v))) - 31)
    return [abs(a) >> drop if a >= 0 else -(abs(a) >> drop) for a in v], (s[0], s[1] + drop if s[0] else 0)


def codes_of(x: Row, most: int) -> Scaled:
    largest = max(map(abs, x))
    if largest == 0:
        return [0] * len(x), (0, 0)
    r = rescale(div(scale(most), scale(largest)), 0)
    return [apply(r, v) for v in x], div(scale(largest), scale(most))


def normed_codes(row: Scaled, norm: tuple[Row, int] | None, epsilon: Scale) -> Scaled:
    x, s = row
    if s[0] == 0:
        return [0] * len(x), (0, 0)
    unit = s[0], s[1] + 16
    if norm is None:
        return quantize(x, [65536] * len(x), div(scale(1), unit))
    return quantize(x, norm[0], root_mean_square(x, div(epsilon, mul(unit, unit))), norm[1])


def ternary_linear(layer: Ternary, codes: Row, s: Scale) -> Scaled:
    return [dot(row, codes) for row in layer.rows], mul(s, layer.scale)


def as_acts(x: Row, s: Scale) -> Row:
    r = rescale(s, 16)
    return [apply(r, v) for v in x]


def rotate(x: Row, frequencies: Row, position: int) -> Row:
    half = len(x) // 2
    low, high = [], []
    for a, b, frequency in zip(x[:half], x[half:], frequencies):
        phase = position * frequency % 2**32
        cosine, sin = sine((phase + 2**30) % 2**32), sine(phase)
        low.append(rnd(a * cosine - b * sin, 22))
        high.append(rnd(b * cosine + a * sin, 22))
    return low + high


def attend(query: Row, s: Scale, key: list[Row], key_s: list[Scale], value: list[Row], value_s: list[Scale]) -> Scaled:
    width = len(query)
    octaves = div(mul(s, (3098164009, -31)), sqrt(scale(width)))
    score = [apply(rescale(mul(own, octaves), 16), dot(query, codes)) for codes, own in zip(key, key_s)]
    largest = max(score)
    share = [exp2_negative(min(largest - own, 0xFFFFFF) << 8) for own in score]
    exponents = [own[1] for own in value_s if own[0]]
    if not exponents:
        return [0] * width, (0, 0)
    top = max(exponents)
    a = [rnd(part * (own[0] >> (top - own[1])), 39) if own[0] else 0 for part, own in zip(share, value_s)]
    return [dot(a, [codes[c] for codes in value]) for c in range(width)], div(scale(1, top + 39), scale(sum(share)))


def gated(gate: Scaled, up: Scaled, activation: str) -> Scaled:
    if activation == "relu2":
        return cut([max(g, 0) ** 2 * u for g, u in zip(gate[0], up[0])], mul(mul(gate[1], gate[1]), up[1]))
    acts = as_acts(*gate)
    return cut([silu(g, sigmoid_table) * u for g, u in zip(acts, up[0])], mul(scale(1, -16), up[1]))


def wide_linear(rows: list[Row], scales: list[Scale], x: Row) -> Row:
    codes, s = codes_of(x, 1023)
    return [apply(rescale(mul(own, s), 0), dot(row, codes)) for own, row in zip(scales, rows)]


def boundary_probability(q: Row, k: Row) -> int | None:
    d = dot(q, k)
    if d >= 0:
        return None
    lengths = sqrt(mul(scale(dot(q, q)), scale(dot(k, k))))
    return (1 << 30) + min(to_fixed(div(scale(-d), lengths), 30), 1 << 30)


def blend(p: int, y: Row, z: Row) -> Row:
    return [sat(b + rnd(p * (sat(a << 4) - b), 31)) for a, b in zip(y, z)]


# ---- 7: networks -----------------------------------------------------------------------------------------------------


@dataclass
class Common:
    """The settings that all blocks share."""

    epsilon: Scale
    taps: int
    gate_norm: str
    sigmoid: object
    bounds: bool


class Block:
    def __init__(self, file: File, at: str, common: Common, hidden: int, recurrent: int, inner: int):
        self.common, self.recurrent, self.hidden = common, recurrent, hidden
        self.attn_norm = read_weights(file, f"{at}.attn_norm.weight", hidden)
        self.conv = read_taps(file, f"{at}.conv.weight", common.taps, hidden) if common.taps else None
        self.keep = read_keep(file, f"{at}.lower_bound", recurrent) if common.bounds else [None] * recurrent
        self.attn_i = read_ternary(file, f"{at}.attn_i", recurrent, hidden)
        self.attn_f = read_ternary(file, f"{at}.attn_f", recurrent, hidden)
        self.attn_g = read_ternary(file, f"{at}.attn_g", recurrent, hidden)
        self.gate_norm = read_weights(file, f"{at}.gate_norm.weight", recurrent)
        self.attn_o = read_ternary(file, f"{at}.attn_o", hidden, recurrent)
        self.ffn_norm = read_weights(file, f"{at}.ffn_norm.weight", hidden)
        self.ffn_gate_up = read_ternary(file, f"{at}.ffn_gate_up", 2 * inner, hidden)
        self.ffn_down = read_ternary(file, f"{at}.ffn_down", hidden, inner)
        self.reset()

    def reset(self) -> None:
        self.s = [0] * self.recurrent
        self.window = [[0] * self.hidden for _ in range(self.common.taps)]

    def step(self, h: Row) -> Row:
        sigmoid, epsilon = self.common.sigmoid, self.common.epsilon
        a = rms_norm(h, self.attn_norm, epsilon)
        if self.conv:
            self.window = [*self.window[1:], a]
            a = convolution(self.conv, self.window, sigmoid)
        rms = root_mean_square(a, epsilon)
        i, z, g = (bit_linear(layer, a, rms) for layer in (self.attn_i, self.attn_f, self.attn_g))
        self.s = [recurrence(*channel, sigmoid) for channel in zip(self.s, i, z, self.keep)]
        o = output_gate(g, self.s, self.gate_norm, epsilon, self.common.gate_norm, sigmoid)
        h = add_rows(h, bit_linear(self.attn_o, o, root_mean_square(o, epsilon)))
        a = rms_norm(h, self.ffn_norm, epsilon)
        y = gated_product(bit_linear(self.ffn_gate_up, a, root_mean_square(a, epsilon)), sigmoid)
        return add_rows(h, bit_linear(self.ffn_down, y, root_mean_square(y, epsilon)))


class StateSpaceBlock:
    def __init__(self, file: File, at: str, epsilon: Scale, taps: int, hidden: int, inner: int, heads: int):
        refuse_unless(inner % heads == 0, f"{inner} channels for {heads} heads")
        self.epsilon, self.taps, self.inner, self.heads = epsilon, taps, inner, heads
        self.ssm_in = read_ternary(file, f"{at}.ssm_in", 2 * inner + 3 * heads, hidden)
        self.conv = read_taps(file, f"{at}.conv.weight", taps, inner)
        self.conv_bias = read_weights(file, f"{at}.conv.bias", inner)
        self.dt_bias = read_weights(file, f"{at}.ssm_dt.bias", heads)
        self.rate = read_scales(file, f"{at}.ssm_rate", heads)
        self.skip = read_weights(file, f"{at}.ssm_skip", inner)
        self.ssm_out = read_ternary(file, f"{at}.ssm_out", hidden, inner)
        self.reset()

    def reset(self) -> None:
        self.s = [0] * self.inner
        self.window = [[0] * self.inner for _ in range(self.taps)]

    def step(self, h: Row) -> Row:
        inner, heads = self.inner, self.heads
        u = bit_linear(self.ssm_in, h, root_mean_square(h, self.epsilon))
        z, x, own = u[:inner], u[inner : 2 * inner], u[2 * inner :]
        b, c, dt = own[:heads], own[heads : 2 * heads], own[2 * heads :]
        self.window = [*self.window[1:], x]
        a = convolution(self.conv, self.window, sigmoid_table, self.conv_bias)
        head = [(self.rate[g], dt[g], self.dt_bias[g], b[g], c[g]) for g in range(heads) for _ in range(inner // heads)]
        pairs = [state_space(*channel, *own) for *channel, own in zip(self.s, a, z, self.skip, head)]
        self.s, y = [s for s, _ in pairs], [y for _, y in pairs]
        return add_rows(h, bit_linear(self.ssm_out, y, root_mean_square(y, self.epsilon)))


class AttentionBlock:
    def __init__(self, file: File, at: str, epsilon: Scale, key: dict, sub_norms: bool):
        hidden, inner = key["embedding_length"], key["feed_forward_length"]
        self.epsilon, self.frequencies, self.activation = epsilon, key["rope_frequencies"], key["activation"]
        self.heads, self.kv_heads, self.width = key["head_count"], key["head_count_kv"], key["head_length"]
        queries, keys = self.heads * self.width, self.kv_heads * self.width
        self.attn_norm = read_norm(file, f"{at}.attn_norm.weight", hidden)
        self.q = read_matrix(file, f"{at}.attn_q", queries, hidden)
        self.k = read_matrix(file, f"{at}.attn_k", keys, hidden)
        self.v = read_matrix(file, f"{at}.attn_v", keys, hidden)
        self.attn_sub_norm = read_norm(file, f"{at}.attn_sub_norm.weight", queries) if sub_norms else None
        self.o = read_matrix(file, f"{at}.attn_o", hidden, queries)
        self.ffn_norm = read_norm(file, f"{at}.ffn_norm.weight", hidden)
        self.gate = read_matrix(file, f"{at}.ffn_gate", inner, hidden)
        self.up = read_matrix(file, f"{at}.ffn_up", inner, hidden)
        self.ffn_sub_norm = read_norm(file, f"{at}.ffn_sub_norm.weight", inner) if sub_norms else None
        self.down = read_matrix(file, f"{at}.ffn_down", hidden, inner)
        self.reset()

    def reset(self) -> None:
        self.memory = [([], [], [], []) for _ in range(self.kv_heads)]  # keys, their Scales, values, their Scales

    def head(self, row: Row, n: int) -> Row:
        return row[n * self.width : (n + 1) * self.width]

    def remember(self, k: Scaled, v: Scaled) -> None:
        for g, (keys, key_s, values, value_s) in enumerate(self.memory):
            codes, own = codes_of(rotate(self.head(k[0], g), self.frequencies, len(keys)), 127)
            keys.append(codes)
            key_s.append(mul(own, (k[1][0], k[1][1] - 8)))
            codes, own = codes_of(self.head(v[0], g), 127)
            values.append(codes)
            value_s.append(mul(own, v[1]))

    def attention(self, q: Scaled) -> Scaled:
        rows = []
        for n in range(self.heads):
            memory = self.memory[n // (self.heads // self.kv_heads)]
            turned = rotate(self.head(q[0], n), self.frequencies, len(memory[0]) - 1)
            codes, own = codes_of(turned, 32767)
            rows.append(cut(*attend(codes, mul(own, (q[1][0], q[1][1] - 8)), *memory)))
        peaks = [mul(f, scale(max(map(abs, y)))) for y, f in rows]
        units = [e + 1 for m, e in peaks if m]
        if not units:
            return [0] * len(q[0]), (0, 0)
        unit = max(units)
        return [apply(rescale(f, -unit), v) for y, f in rows for v in y], scale(1, unit)

    def step(self, h: Row) -> Row:
        one = scale(1, -16)
        codes = normed_codes((h, one), self.attn_norm, self.epsilon)
        q, k, v = (ternary_linear(layer, *codes) for layer in (self.q, self.k, self.v))
        self.remember(k, v)
        codes = normed_codes(self.attention(q), self.attn_sub_norm, self.epsilon)
        h = add_rows(h, as_acts(*ternary_linear(self.o, *codes)))
        codes = normed_codes((h, one), self.ffn_norm, self.epsilon)
        gate, up = (ternary_linear(layer, *codes) for layer in (self.gate, self.up))
        codes = normed_codes(gated(gate, up, self.activation), self.ffn_sub_norm, self.epsilon)
        return add_rows(h, as_acts(*ternary_linear(self.down, *codes)))


def run(blocks: list[Block], h: Row) -> Row:
    for block in blocks:
        h = block.step(h)
    return h


MOST_PROBABLE = 2147268900


class Stage:
    def __init__(self, file: File, at: str, common: Common, widths: tuple, router: int, wider: int, counts: tuple):
        self.hidden = widths[0]
        encoder, decoder = counts
        self.encoder = [Block(file, f"{at}.enc.{n}", common, *widths) for n in range(encoder)]
        self.enc_norm = read_weights(file, f"{at}.enc_norm.weight", self.hidden)
        self.router_q = read_dense(file, f"{at}.router_q", router, self.hidden)
        self.router_k = read_dense(file, f"{at}.router_k", router, self.hidden)
        self.pad = read_weights(file, f"{at}.pad", wider) if wider else []
        self.residual = read_dense(file, f"{at}.residual", self.hidden, self.hidden)
        self.decoder = [Block(file, f"{at}.dec.{n}", common, *widths) for n in range(decoder)]
        self.dec_norm = read_weights(file, f"{at}.dec_norm.weight", self.hidden)
        self.router = router
        self.reset()

    def reset(self) -> None:
        self.started, self.q, self.z = False, [0] * self.router, [0] * self.hidden
        for block in self.encoder + self.decoder:
            block.reset()


class Model:
    """A file's network and the state of one text."""

    def __init__(self, data: bytes):
        file = File(data)
        kind = file.keys["general.architecture"]
        refuse_unless(kind in ("hgrnbit", "hnetbit", "bitmamba2", "bitnet"), f"architecture {kind}")
        key = {name.removeprefix(kind + "."): value for name, value in file.keys.items()}
        self.vocabulary = key["vocab_size"]
        self.bos, self.eos = key["tokenizer.ggml.bos_token_id"], key["tokenizer.ggml.eos_token_id"]
        self.epsilon = epsilon = to_scale(parts_of_f32(key["norm_rms_epsilon"]))
        refuse_unless(to_fixed(epsilon, 200) > 0 and to_fixed(epsilon, 40) < 1 << 40, "epsilon")
        self.stages, hidden, self.context = [], key["embedding_length"], key.get("context_length")
        if kind == "bitnet":
            refuse_unless(key["head_count"] % key["head_count_kv"] == 0, "heads that are no groups")
            refuse_unless(len(key["rope_frequencies"]) * 2 == key["head_length"], "frequencies")
            refuse_unless(key["activation"] in ("relu2", "silu"), "activation")
            sub_norms = any(name.endswith("_sub_norm.weight") for name in file.entries)
            blocks = range(key["block_count"])
            self.blocks = [AttentionBlock(file, f"blk.{n}", epsilon, key, sub_norms) for n in blocks]
        elif kind == "bitmamba2":
            sizes = (key["conv_kernel"], hidden, key["inner_length"], key["head_count"])
            self.blocks = [StateSpaceBlock(file, f"blk.{n}", epsilon, *sizes) for n in range(key["block_count"])]
        else:
            self.read_levels(file, kind, key)
        outermost, innermost = (hidden[0], hidden[-1]) if kind == "hnetbit" else (hidden, hidden)
        self.embedding = read_embedding(file, self.vocabulary, outermost)
        last_norm = "main_norm" if kind == "hnetbit" else "output_norm"
        self.last_norm = read_weights(file, f"{last_norm}.weight", innermost)
        if kind == "bitnet":
            table = "output" if "output.weight" in file.entries else "token_embd"
            self.output = read_dense(file, table, self.vocabulary, hidden)
        else:
            self.output = read_ternary(file, "output", self.vocabulary, outermost)
        refuse_unless(not file.unread, f"tensors that {kind} does not have: {sorted(file.unread)}")

    def read_levels(self, file: File, kind: str, key: dict) -> None:
        common = Common(
            self.epsilon,
            key["conv_kernel"],
            key["gate_norm"],
            SIGMOIDS[key["sigmoid"]],
            any(name.endswith(".lower_bound") for name in file.entries),
        )
        lengths = [key[f"{name}_length"] for name in ("embedding", "recurrent", "feed_forward")]
        levels = [tuple(lengths)] if kind == "hgrnbit" else list(zip(*lengths))
        self.stages = [
            Stage(
                file,
                f"stage.{s}",
                common,
                levels[s],
                key["router_length"][s],
                levels[s + 1][0] - levels[s][0],
                (key["encoder_block_count"][s], key["decoder_block_count"][s]),
            )
            for s in range(len(levels) - 1)
        ]
        self.blocks = [Block(file, f"blk.{n}", common, *levels[-1]) for n in range(key["block_count"])]

    def reset(self) -> None:
        for part in self.stages + self.blocks:
            part.reset()

    def step(self, token: int) -> Row:
        """Runs one token; the logits of the next."""
        self.mask = 0  # bit s: a chunk of stage s begins
        x = self.level(0, self.embedding[token])
        if isinstance(self.output, Dense):
            return wide_linear(self.output.rows, self.output.scales, x)
        return bit_linear(self.output, x, root_mean_square(x, self.epsilon))

    def level(self, n: int, x: Row) -> Row:
        epsilon = self.epsilon
        if n == len(self.stages):
            return rms_norm(run(self.blocks, x), self.last_norm, epsilon)
        stage = self.stages[n]
        e = rms_norm(run(stage.encoder, x), stage.enc_norm, epsilon)
        codes, s = quantize_plain(e)
        q, k, r = (dense_linear(layer, codes, s) for layer in (stage.router_q, stage.router_k, stage.residual))
        p = boundary_probability(stage.q, k) if stage.started else MOST_PROBABLE
        stage.started, stage.q = True, q
        if p is not None:
            self.mask |= 1 << n
            y = self.level(n + 1, e + stage.pad)[: stage.hidden]
            stage.z = blend(min(p, MOST_PROBABLE), y, stage.z)
        x = [sat(rnd(z, 4) + a) for z, a in zip(stage.z, r)]
        return rms_norm(run(stage.decoder, x), stage.dec_norm, epsilon)


# ---- 9: the sampler --------------------------------------------------------------------------------------------------


class Random:
    def __init__(self, seed: int):
        self.state = 0
        self.next()
        self.state = (self.state + seed) % 2**64
        self.next()

    def next(self) -> int:
        old = self.state
        self.state = (old * 6364136223846793005 + 109) % 2**64
        word, turn = ((old >> 18 ^ old) >> 27) % 2**32, old >> 59
        return (word >> turn | word << (32 - turn)) % 2**32


@dataclass
class Options:
    """Reals in units of 1/65536."""

    greedy: bool = False
    temperature: int = 65536
    top_k: int = 256
    top_p: int = 65536
    min_p: int = 0
    penalty: int = 65536
    seed: int = 0
    raw: bool = False


def softmax_weights(logits: Row, temperature: int) -> Row:
    f = rescale(div(scale(3098164009, -31), scale(temperature, -16)), 8)
    largest = max(logits)
    return [exp2_negative(apply(f, min(largest - logit, HIGH))) for logit in logits]


# Unicode 15, table 3-7: the bytes of each kind of character.
TAIL = range(0x80, 0xC0)
CHARACTERS = (
    (range(0x80),),
    (range(0xC2, 0xE0), TAIL),
    (range(0xE0, 0xE1), range(0xA0, 0xC0), TAIL),
    (range(0xE1, 0xED), TAIL, TAIL),
    (range(0xED, 0xEE), range(0x80, 0xA0), TAIL),
    (range(0xEE, 0xF0), TAIL, TAIL),
    (range(0xF0, 0xF1), range(0x90, 0xC0), TAIL, TAIL),
    (range(0xF1, 0xF4), TAIL, TAIL, TAIL),
    (range(0xF4, 0xF5), range(0x80, 0x90), TAIL, TAIL),
)


def continuations(text: bytes, eos: int) -> set[int]:
    """The bytes that keep a text well-formed."""
    for n in (1, 2, 3):
        begun = [c for c in CHARACTERS if len(c) > n <= len(text) and all(map(range.__contains__, c, text[-n:]))]
        if begun:
            return {byte for character in begun for byte in character[n]}
    return {byte for character in CHARACTERS for byte in character[0]} | {eos}


@dataclass
class Sampler:
    options: Options
    bos: int | None = 254  # None: it also ends a text
    recent: Row = field(default_factory=list)

    def __post_init__(self) -> None:
        self.random = Random(self.options.seed)

    def penalised(self, logit: int) -> int:
        penalty = self.options.penalty
        return sat(rnd(logit * penalty, 16)) if logit <= 0 else ((logit << 16) + penalty // 2) // penalty

    def draw(self, logits: Row, allowed: set[int] | None = None) -> int:
        options, seen = self.options, set(self.recent[-256:])
        logits = [self.penalised(logit) if token in seen else logit for token, logit in enumerate(logits)]
        out = {token for token in range(len(logits)) if allowed is not None and token not in allowed} | {self.bos}
        for token in out:
            logits[token] = LOW
        likeliest = max((token for token in range(len(logits)) if token not in out), key=lambda token: logits[token])
        if options.greedy:
            return likeliest
        weights = softmax_weights(logits, options.temperature)
        for token in out:
            weights[token] = 0
        order = sorted(range(len(logits)), key=lambda token: (token in out, -logits[token], token))
        kept = options.top_k
        if options.top_p < 65536:
            total, so_far, kept = sum(weights[token] for token in order[:kept]), 0, 0
            while so_far << 16 < total * options.top_p:
                so_far += weights[order[kept]]
                kept += 1
        for token in order[kept:]:
            weights[token] = 0
        least = weights[likeliest] * options.min_p
        weights = [weight if weight << 16 >= least else 0 for weight in weights]
        high, low = self.random.next(), self.random.next()
        d = ((high << 32 | low) * sum(weights)) >> 64
        token = 0
        while d >= weights[token]:
            d -= weights[token]
            token += 1
        return token


# ---- 8: text ---------------------------------------------------------------------------------------------------------


def surprisal(logits: Row, byte: int) -> int:
    octaves = (max(logits) - logits[byte]) * 3098164009
    return log2(sum(softmax_weights(logits, 65536))) - (31 << 32) + rnd(octaves, 15)


def expectation(logits: Row) -> tuple[int, Row]:
    weights = softmax_weights(logits, 65536)
    total = sum(weights)
    moment = sum(weight * (max(logits) - logit) for weight, logit in zip(weights, logits))
    entropy = rnd(log2(total) - (31 << 32), 8) + rnd((moment << 8) // total * 3098164009, 31)
    return entropy, [((weight << 31) + total // 2) // total for weight in weights]


# ---- 8: coding, and the container of FORMAT.md ------------------------------------------------------------------------


def shares(logits: Row) -> Row:
    weights = softmax_weights(logits, 65536)
    return [1 + weight * (2**32 - len(weights)) // sum(weights) for weight in weights]


MASK = 2**64 - 1


class Interval:
    def __init__(self) -> None:
        self.low, self.range = 0, 2**64 - 1

    def narrow(self, parts: Row, token: int) -> None:
        unit = self.range >> 32
        self.low, self.range = self.low + unit * sum(parts[:token]), unit * parts[token]

    def known(self) -> Iterator[int]:
        """Its first bytes, which go."""
        while True:
            if self.low >> 56 != self.low + self.range - 1 >> 56:
                if self.range >= 2**40:
                    return
                self.range = -self.low % 2**40
            yield self.low >> 56
            self.low, self.range = self.low << 8 & MASK, self.range << 8 & MASK


class Text:
    """What the model has read, and expects; begun anew where its context is full."""

    def __init__(self, model: Model) -> None:
        self.model, self.length = model, 0
        self.begin()

    def begin(self) -> None:
        self.model.reset()
        self.length, self.logits = 1, self.model.step(self.model.bos)

    def expect(self) -> Row:
        if self.length == self.model.context:
            self.begin()
        return shares(self.logits)

    def read(self, token: int) -> None:
        self.length, self.logits = self.length + 1, self.model.step(token)


def decode(text: Text, code: bytes, count: int) -> bytes:
    rest = iter(code)
    value, found, interval = 0, bytearray(), Interval()
    for _ in range(8):
        value = value << 8 | next(rest, 0)
    for _ in range(count):
        parts = text.expect()
        target, token, after = (value - interval.low) // (interval.range >> 32), 0, parts[0]
        while after <= target:
            token += 1
            after += parts[token]
        interval.narrow(parts, token)
        for _ in interval.known():
            value = (value << 8 | next(rest, 0)) & MASK
        found.append(token)
        text.read(token)
    return bytes(found)


def decompress(model: Model, file: bytes, container: bytes) -> bytes:
    """`file`: that of the model, whose tokens are bytes."""
    at, fingerprint = 12, 0xCBF29CE484222325
    for byte in file:
        fingerprint = (fingerprint ^ byte) * 0x100000001B3 & MASK

    def varint() -> int:
        nonlocal at
        value, shift = 0, 0
        while True:
            byte, at = container[at], at + 1
            value, shift = value | (byte & 127) << shift, shift + 7
            if byte < 128:
                return value

    if container[:12] != b"TNC\x01" + fingerprint.to_bytes(8, "little"):
        raise RefusedError("not data compressed by this model")
    text, data = Text(model), b""
    while count := varint():
        size = varint()
        data, at = data + decode(text, container[at : at + size], count), at + size
    if (varint(), int.from_bytes(container[at:], "little")) != (len(data), zlib.crc32(data)) or at + 4 != len(
        container
    ):
        raise RefusedError("damaged")
    return data


def start(model: Model, prompt: bytes) -> list[Row]:
    """Logits after begin-of-text and after each byte of the prompt."""
    model.reset()
    return [model.step(token) for token in (model.bos, *prompt)]


def generate(model: Model, prompt: bytes, options: Options, most: int) -> bytes:
    logits = start(model, prompt)[-1]
    sampler = Sampler(options, model.bos if model.bos != model.eos else None, list(prompt))
    out = bytearray()
    while len(out) < most and (model.context is None or 1 + len(prompt) + len(out) < model.context):
        token = sampler.draw(logits, None if options.raw else continuations(prompt + out, model.eos))
        if token == model.eos:
            break
        out.append(token)
        sampler.recent.append(token)
        logits = model.step(token)
    return bytes(out)


if __name__ == "__main__":
    path, prompt_text, *most_bytes = sys.argv[1:]
    written = generate(
        Model(Path(path).read_bytes()), prompt_text.encode(), Options(greedy=True), int((most_bytes or [64])[0])
    )
    sys.stdout.buffer.write(written + b"\n")
