"""models/FORMAT.md, the writer (scripts/lm/file/gguf_layout.py) and the reader (cpp/format, cpp/model) say the same."""

import re
from pathlib import Path

import gguf
import pytest

from lm.file import gguf_file, gguf_layout

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = (ROOT / "models" / "FORMAT.md").read_text(encoding="utf-8")


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
    return {text for source in sources for text in re.findall(r'"([^"\n]*)"', source.read_text(encoding="utf-8"))}


def documented_tensors(architecture):
    """The tensors of an architecture's table; a name that ends in .* stands for those of a block."""
    block = [row[0].removeprefix("blk.N.") for row in table("tensor") if row[0].startswith("blk.N.")]
    names = [row[0] for row in table("tensor" if architecture == "hgrnbit" else f"{architecture} tensor")]
    return {full for name in names for full in ([name[:-1] + b for b in block] if name.endswith(".*") else [name])}


def test_the_writer_knows_exactly_the_documented_keys_and_types():
    documented = {row[0]: row[1] for first in ("key", "tokenizer key") for row in table(first)}
    assert documented == gguf_layout.keys_of("hgrnbit")
    shared = {key: kind for key, kind in documented.items() if not key.startswith("hgrnbit.")}
    for name in ("hnetbit", "bitmamba2"):
        assert shared | {row[0]: row[1] for row in table(f"{name} key")} == gguf_layout.keys_of(name)


@pytest.mark.parametrize("architecture", ["hgrnbit", "hnetbit", "bitmamba2"])
def test_the_writer_knows_exactly_the_documented_tensors(architecture):
    assert documented_tensors(architecture) == set(gguf_layout.tensor_names(architecture))


MODEL_SOURCES = {path.stem: path.read_text(encoding="utf-8") for path in (ROOT / "cpp" / "model").glob("*.cc")}
READ = [name for name in ("hgrnbit", "hnetbit") if name in MODEL_SOURCES]


def keys_read(text, variable):
    return set(re.findall(rf'\b{variable}\.(?:integers?|real|choice)\("(\w+)"', text))


def keys_the_architecture_requires(architecture):
    """The keys of `Settings NAME(header, "PREFIX"); NAME.integer("KEY", ...)`, of blocks and of all models."""
    keys = set()
    for stem, text in MODEL_SOURCES.items():
        for variable, prefix in re.findall(r'Settings (\w+)\(header, "([\w.]+)"\)', text):
            if stem in READ and stem != architecture:
                continue
            read = keys_read(text, variable)
            if f"read_common({variable}," in text:
                read |= keys_read(MODEL_SOURCES["hgrn_block"], "settings")
            keys |= {prefix + key for key in read}
    return keys


@pytest.mark.parametrize("architecture", READ)
def test_the_reader_requires_exactly_the_keys_documented_as_required(architecture):
    documented = {row[0] for first in ("key", "tokenizer key") for row in table(first) if row[2] == "yes"}
    if architecture != "hgrnbit":
        own = {row[0] for row in table(f"{architecture} key") if row[2] == "yes"}
        documented = own | {key for key in documented if not key.startswith("hgrnbit.")}
    assert keys_the_architecture_requires(architecture) == documented


def test_the_reader_uses_no_key_that_is_not_documented():
    documented = {row[0] for name in ("key", "tokenizer key", "hnetbit key", "bitmamba2 key") for row in table(name)}
    used = {text for text in reader_strings() if re.fullmatch(r"(general|hgrnbit|hnetbit|tokenizer)(\.[a-z_]+)+", text)}
    assert used <= documented
    assert "general.alignment" in used


SUFFIXES = {
    "bit_linear": (".in_norm.weight", ".weight"),
    "embedding": (".weight", ".scale"),
    "dense": (".weight", ".scale"),
}
PREFIXES = {"": "", "blk": "", "at": "stage.S."}  # the variables of the C++ sources


def tensors_listed(text):
    """The names of `plan.KIND("NAME", ...)` and `plan.KIND(PREFIX + "NAME", ...)`, with all that a name stands for."""
    found = re.findall(r'\bplan_?\.(\w+)\((?:(\w+) \+ )?"([\w.]+)"', text)
    return {PREFIXES[prefix] + name + suffix for kind, prefix, name in found for suffix in SUFFIXES.get(kind, ("",))}


@pytest.mark.parametrize("architecture", READ)
def test_the_reader_expects_exactly_the_documented_tensors(architecture):
    source = MODEL_SOURCES[architecture]
    blocks = re.findall(r'list_tensors\(plan_, (?:(\w+) \+ )?"([\w.]+)"', source)
    assert ("", "blk.") in blocks
    inside = tensors_listed(MODEL_SOURCES["hgrn_block"])
    expected = {f"{PREFIXES[prefix]}{name}N.{tensor}" for prefix, name in blocks for tensor in inside}
    assert expected | tensors_listed(source) == documented_tensors(architecture)


@pytest.mark.parametrize("word", ["gate", "state", "table", "piecewise_linear"])
def test_values_of_choices_are_documented_and_known_to_the_reader(word):
    assert f"`{word}`" in DOCUMENT
    assert word in reader_strings()


def test_the_documented_block_sizes_are_those_of_the_gguf_package():
    for name, number in (("TQ1_0", 54), ("TQ2_0", 66)):
        assert f"{name}, {number} bytes" in DOCUMENT
        assert gguf.GGML_QUANT_SIZES[gguf_file.TERNARY_TYPES[name]] == (256, number)
    assert {f"{int(v)} for {k}" for k, v in gguf_file.FILE_TYPES.items()} <= set(re.findall(r"\d+ for TQ\w+", DOCUMENT))
