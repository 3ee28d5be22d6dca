"""models/FORMAT.md, the writer (scripts/lm/file/gguf_layout.py) and the reader (cpp/format, cpp/model) say the same."""

import re
import subprocess
from pathlib import Path

import gguf
import pytest

from conftest import NATIVE
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
    sources = [path for room in ("format", "model") for path in (ROOT / "cpp" / room).rglob("*.cc")]
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
    for name in ("hnetbit", "bitmamba2", "bitnet"):
        assert shared | {row[0]: row[1] for row in table(f"{name} key")} == gguf_layout.keys_of(name)


@pytest.mark.parametrize("architecture", ["hgrnbit", "hnetbit", "bitmamba2", "bitnet"])
def test_the_writer_knows_exactly_the_documented_tensors(architecture):
    assert documented_tensors(architecture) == set(gguf_layout.tensor_names(architecture))


def rewrite(source, target, but):
    """Writes a model file once more, without the key or tensor of this name, and without its checksum."""
    reader = gguf.GGUFReader(source)
    writer = gguf.GGUFWriter(target, "")  # its architecture comes with the other keys
    for key, field in reader.fields.items():
        if not key.startswith("GGUF.") and key not in (but, "tern.sha256"):
            inside = field.types[-1] if field.types[0] == gguf.GGUFValueType.ARRAY else None
            writer.add_key_value(key, field.contents(), field.types[0], sub_type=inside)
    for tensor in reader.tensors:
        if tensor.name != but:
            writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def refusal(path):
    """What the engine says of a file that it does not read."""
    done = subprocess.run(
        [NATIVE / "tern", "inspect", "--model", path], capture_output=True, text=True, encoding="utf-8"
    )
    assert done.returncode in (0, 1), done.stderr
    return done.stderr if done.returncode == 1 else None


def missed(source, folder):
    """The keys, and the tensors with the numbers as N and S, without which a file is refused with their name."""
    assert refusal(source) is None
    reader, found = gguf.GGUFReader(source), set()
    names = [key for key in reader.fields if not key.startswith("GGUF.")] + [tensor.name for tensor in reader.tensors]
    for name in names:
        rewrite(source, folder / "changed.gguf", but=name)
        said = refusal(folder / "changed.gguf")
        if said is not None:
            assert f'"{name}"' in said
            found.add(re.sub(r"^stage\.\d+", "stage.S", re.sub(r"\b(blk|enc|dec)\.\d+", r"\1.N", name)))
    return found


def documented_as_required(architecture, rest):
    """Its keys that say yes, and of its tensors those whose column says always, or something else that `rest` fulfils."""
    own = "" if architecture == "hgrnbit" else f"{architecture} "
    keys = {row[0] for first in ("key", "tokenizer key", f"{own}key") for row in table(first) if row[2] == "yes"}
    keys = {key for key in keys if own == "" or not key.startswith("hgrnbit.")}
    present = {row[0]: row[3] for first in ("tensor", f"{own}tensor") for row in table(first)}

    def is_required(tensor):
        if tensor not in present:  # of a block
            tensor = "blk.N." + tensor.split(".N.")[1]
        return present[tensor] in ("always", *rest)

    return keys | {tensor for tensor in documented_tensors(architecture) if is_required(tensor)}


@pytest.mark.parametrize(
    ("architecture", "file", "rest"),
    [
        ("hgrnbit", "tiny_gate", ("with I8", "K > 0", "all blocks or none")),
        ("hgrnbit", "tiny_state", ("with I8",)),
        ("hnetbit", "tiny_hnet", ("with I8", "K > 0", "all blocks or none", "the widths differ")),
        ("hnetbit", "tiny_hnet_2_stages", ("with I8", "the widths differ")),
        ("bitmamba2", "tiny_mamba", ("with I8",)),
        ("bitnet", "tiny_bitnet", ("both in all blocks or none",)),
        ("bitnet", "tiny_falcon", ("untied",)),
    ],
)
def test_the_reader_misses_exactly_what_is_documented_as_required(architecture, file, rest, tmp_path):
    found = missed(ROOT / "tests" / "golden" / f"{file}.gguf", tmp_path)
    assert found == documented_as_required(architecture, rest)


def test_the_reader_uses_no_key_that_is_not_documented():
    documented = {
        row[0] for name in ("key", "tokenizer key", "hnetbit key", "bitmamba2 key", "bitnet key") for row in table(name)
    }
    used = {
        text
        for text in reader_strings()
        if re.fullmatch(r"(general|hgrnbit|hnetbit|bitmamba2|bitnet|tokenizer)(\.[a-z_]+)+", text)
    }
    of_others = {"bitnet.attention.head_count"}  # tells a file of llama.cpp, which is refused
    assert used <= documented | of_others
    assert "general.alignment" in used


@pytest.mark.parametrize("word", ["gate", "state", "table", "piecewise_linear", "relu2", "silu"])
def test_values_of_choices_are_documented_and_known_to_the_reader(word):
    assert f"`{word}`" in DOCUMENT
    assert word in reader_strings()


def test_the_documented_block_sizes_are_those_of_the_gguf_package():
    for name, number in (("TQ1_0", 54), ("TQ2_0", 66)):
        assert f"{name}, {number} bytes" in DOCUMENT
        assert gguf.GGML_QUANT_SIZES[gguf_file.TERNARY_TYPES[name]] == (256, number)
    assert {f"{int(v)} for {k}" for k, v in gguf_file.FILE_TYPES.items()} <= set(re.findall(r"\d+ for TQ\w+", DOCUMENT))
