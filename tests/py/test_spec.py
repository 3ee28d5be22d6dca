"""models/SPEC.md says enough: a reader written from it alone (spec_reader.py) writes the engine's bytes."""

import ast
import hashlib
import json
import re
import struct
import sys
from pathlib import Path

import pytest

import spec_reader
from conftest import ROOT
from spec_reader import Model, Options, RefusedError, Sampler

SPEC = (ROOT / "models" / "SPEC.md").read_text(encoding="utf-8")
GOLDEN = ROOT / "tests" / "golden"
TINY = sorted(path.stem for path in GOLDEN.glob("tiny_*.gguf") if not path.stem.endswith("_tokens"))  # bytes


def options_of(json_options: dict) -> Options:
    """The options of a golden file, whose reals become the nearest 1/65536."""
    names = {"temperature": "temperature", "topP": "top_p", "minP": "min_p", "repetitionPenalty": "penalty"}
    options = Options(json_options.get("greedy", False), top_k=json_options.get("topK", 256))
    options.seed = json_options.get("seed", 0)
    options.raw = json_options.get("raw", False)
    for name, ours in names.items():
        if name in json_options:
            setattr(options, ours, round(json_options[name] * 65536))
    return options


def fnv1a(rows: list[list[int]]) -> str:
    value = 0xCBF29CE484222325
    for byte in b"".join(struct.pack(f"<{len(row)}i", *row) for row in rows):
        value = (value ^ byte) * 0x100000001B3 % 2**64
    return f"{value:016x}"


def bits_of_text(rows: list[list[int]], text: bytes) -> int:
    return sum(spec_reader.surprisal(row, byte) for row, byte in zip(rows, text))


@pytest.mark.parametrize("name", TINY)
def test_a_reader_written_from_the_spec_gives_the_logits_bits_and_bytes_of_the_engine(name, native):
    golden = json.loads((GOLDEN / f"{name}.json").read_text(encoding="utf-8"))
    model = Model((GOLDEN / f"{name}.gguf").read_bytes())
    prompt = bytes.fromhex(golden["prompt"])
    rows, masks = [], []
    for token in (model.bos, *prompt):
        rows.append(model.step(token))
        masks.append(model.mask)
    assert rows[-1] == golden["logits"]
    assert fnv1a(rows) == golden["logits_fnv1a"]
    if model.stages:
        assert bytes(masks).hex() == golden["boundaries"]

    # Plain drawing to 200 bytes or end of text, and every cut and the penalty at once.
    written = 0
    for made in (golden["generations"][1], golden["generations"][5]):
        out = spec_reader.generate(model, prompt, options_of(made["options"]), made["options"]["maxBytes"])
        assert out.hex() == made["bytes"], made["options"]
        written += len(out)
    assert written >= 100

    scored = bytes.fromhex(golden["score"]["text"])[:40]
    rows = spec_reader.start(model, scored)
    engine = json.loads(native("tern_golden", "--model", GOLDEN / f"{name}.gguf", "--prompt-hex", scored.hex()))
    assert str(bits_of_text(rows, scored)) == engine["score"]["bits_q32"]


def test_the_reader_knows_nothing_but_the_standard_library():
    tree = ast.parse(Path(spec_reader.__file__).read_text(encoding="utf-8"))
    found = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    found |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    found = {name.partition(".")[0] for name in found}
    assert found <= sys.stdlib_module_names
    assert not {"float", "numpy"} & {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}


@pytest.mark.parametrize("name", ["SIGMOID", "EXP2", "SINE", "LOG2"])
def test_the_tables_have_the_entries_and_the_digest_that_the_spec_gives(name):
    entries = getattr(spec_reader, name)
    count, ends, digest = re.search(rf"\| {name} \| (\d+) \| .* \| (.*) \| `(\w+)` \|", SPEC).groups()
    assert len(entries) == int(count)
    assert ", ".join(str(entries[i]) for i in (0, len(entries) // 2, -1)) == ends
    assert hashlib.sha256(struct.pack(f"<{len(entries)}I", *entries)).hexdigest() == digest


def examples() -> list[tuple[str, str]]:
    section = SPEC[SPEC.index("## 11.") : SPEC.index("## 12.")]
    return re.findall(r"^\| `([^`]+)` \| ([^|]+) \|", section, re.MULTILINE)


@pytest.mark.parametrize("expression,value", examples(), ids=[expression for expression, _ in examples()])
def test_the_worked_examples_of_the_spec_are_right(expression, value):
    assert eval(expression, dict(vars(spec_reader))) == eval(value)


def test_every_example_was_found():
    assert len(examples()) >= 25


def changed(name: str, old: bytes, new: bytes) -> bytes:
    data = (GOLDEN / f"{name}.gguf").read_bytes()
    assert data.count(old) >= 1 and len(old) == len(new)
    return data.replace(old, new, 1)


@pytest.mark.parametrize(
    "old,new,message",
    [
        (b"GGUF\x03", b"GGUF\x02", "version 2"),
        (b"GGUF", b"GGML", "not a GGUF"),
        (b"output_norm.weight", b"output_nurm.weight", "no tensor output_norm.weight"),
    ],
)
def test_the_reader_refuses_what_the_format_does_not_allow(old, new, message):
    with pytest.raises(RefusedError, match=message):
        Model(changed("tiny_state", old, new))


@pytest.mark.parametrize("bits", [0x7F800000, 0xFF800000, 0x7FC00000, 0x47000000, 0xC7000001])
def test_numbers_that_do_not_fit_are_refused(bits):
    with pytest.raises(RefusedError):
        spec_reader.to_raw(spec_reader.parts_of_f32(bits), 16)


def test_a_float16_is_the_float32_of_the_same_value():
    for bits, f32 in ((0x0001, 0x33800000), (0x03FF, 0x387FC000), (0x0400, 0x38800000), (0xB801, 0xBF002000)):
        for fraction_bits in (0, 16, 24, 31):
            assert spec_reader.to_raw(spec_reader.parts_of_f16(bits), fraction_bits) == spec_reader.to_raw(
                spec_reader.parts_of_f32(f32), fraction_bits
            )


def test_begin_of_text_is_never_drawn():
    logits = [-(1 << 31)] * 256
    logits[254] = (1 << 31) - 1
    for options in (Options(greedy=True), Options(), Options(top_p=1), Options(top_k=1), Options(min_p=65535)):
        assert Sampler(options).draw(logits) != 254
