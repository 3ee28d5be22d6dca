"""models/FORMAT.md, the writer (scripts/lm/gguf_file.py) and the reader (cpp/format, cpp/model) say the same."""

import re
from pathlib import Path

from lm import gguf_file

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = (ROOT / "models" / "FORMAT.md").read_text()
# What the file says for people; the reader passes it on without knowing the names.
CARD_ONLY = {"description", "license", "training_text", "training_bytes", "file_type", "quantization_version"}


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
