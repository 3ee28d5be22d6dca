"""models/FORMAT.md, the writer (scripts/lm/gguf_file.py) and the reader (cpp/format, cpp/model) say the same."""

import re
from pathlib import Path

import gguf
import pytest

from lm import gguf_file

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = (ROOT / "models" / "FORMAT.md").read_text()


def table(first_column):
    """The rows of the table whose header starts with `first_column`, as lists of cells."""
    lines = DOCUMENT.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith(f"| {first_column} |"))
    rows = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            return rows
        rows.append([cell.strip().strip("`") for cell in line.strip("|").split("|")])
    return rows


def reader_strings():
    """Every string literal of the C++ reader and of the architectures."""
    sources = [*(ROOT / "cpp" / "format").glob("*.cc"), *(ROOT / "cpp" / "model").glob("*")]
    return {text for source in sources for text in re.findall(r'"([^"\n]*)"', source.read_text())}


def test_the_writer_knows_exactly_the_documented_keys_and_types():
    assert {row[0]: row[1] for row in table("key")} == gguf_file.KEYS


def test_the_writer_knows_exactly_the_documented_tensors():
    assert sorted(row[0] for row in table("tensor")) == sorted(gguf_file.tensor_names())


MODEL_SOURCES = {path.stem: path.read_text() for path in (ROOT / "cpp" / "model").glob("*.cc")}


def keys_read(text, variable):
    return set(re.findall(rf'\b{variable}\.(?:integer|real|choice)\("(\w+)"', text))


def keys_the_architecture_requires():
    """The keys of `Settings NAME(header, "PREFIX"); NAME.integer("KEY", ...)`, and of blocks if it reads theirs."""
    keys = set()
    for text in MODEL_SOURCES.values():
        for variable, prefix in re.findall(r'Settings (\w+)\(header, "([\w.]+)"\)', text):
            read = keys_read(text, variable)
            if f"read_common({variable}," in text:
                read |= keys_read(MODEL_SOURCES["hgrn_block"], "settings")
            keys |= {prefix + key for key in read}
    return keys


def test_the_reader_requires_exactly_the_keys_documented_as_required():
    assert keys_the_architecture_requires() == {row[0] for row in table("key") if row[2] == "yes"}


def test_the_reader_uses_no_key_that_is_not_documented():
    documented = {row[0] for row in table("key")}
    used = {text for text in reader_strings() if re.fullmatch(r"(general|hgrnbit|tokenizer)(\.[a-z_]+)+", text)}
    assert used <= documented
    assert "general.alignment" in used


def tensors_listed(text, prefix=""):
    """The names of `plan.KIND("NAME", ...)`, with all that a name stands for."""
    names = set()
    for kind, name in re.findall(r'\bplan_?\.(\w+)\((?:blk \+ )?"([\w.]+)"', text):
        suffixes = {"bit_linear": (".in_norm.weight", ".weight"), "embedding": (".weight", ".scale")}.get(kind, ("",))
        names |= {prefix + name + suffix for suffix in suffixes}
    return names


def test_the_reader_expects_exactly_the_documented_tensors():
    source = MODEL_SOURCES["hgrnbit"]
    assert re.findall(r'list_tensors\(plan_, "([\w.]+)"', source) == ["blk."]
    expected = tensors_listed(source) | tensors_listed(MODEL_SOURCES["hgrn_block"], "blk.N.")
    assert expected == {row[0] for row in table("tensor")}


@pytest.mark.parametrize("word", ["gate", "state", "table", "piecewise_linear"])
def test_values_of_choices_are_documented_and_known_to_the_reader(word):
    assert f"`{word}`" in DOCUMENT
    assert word in reader_strings()


def test_the_documented_block_sizes_are_those_of_the_gguf_package():
    for name, number in (("TQ1_0", 54), ("TQ2_0", 66)):
        assert f"{name}, {number} bytes" in DOCUMENT
        assert gguf.GGML_QUANT_SIZES[gguf_file.TERNARY_TYPES[name]] == (256, number)
    assert {f"{int(v)} for {k}" for k, v in gguf_file.FILE_TYPES.items()} <= set(re.findall(r"\d+ for TQ\w+", DOCUMENT))
