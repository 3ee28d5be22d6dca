"""Text becomes the bytes that engine and training agree on, and only certain damage is repaired."""

import json
import lzma
from pathlib import Path

import numpy as np
import pytest

from lm.text.corpus import articles, documents_of
from lm.text.data import read_text
from lm.text.encoding import EOS, encode, raw_bytes, repair, text_files

TEXTS = json.loads((Path(__file__).parents[1] / "data" / "texts.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("case", TEXTS, ids=lambda case: case["name"])
def test_a_text_file_is_read_as_the_cases_say_that_every_reader_shares(case, tmp_path):
    file = bytes.fromhex(case["file"])
    if "error" in case:
        with pytest.raises(ValueError, match=case["error"]):
            encode(file)
        return
    assert encode(file).tobytes().hex() == case["tokens"]
    assert raw_bytes(encode(file)) == case["raw_bytes"]
    if file:
        (tmp_path / "text.txt").write_bytes(file)
        assert read_text(tmp_path / "text.txt").tobytes().hex() == case["tokens"]


def test_documents_of_a_corpus_begin_behind_the_byte_order_mark_and_know_every_line_end(tmp_path):
    for name, text in {
        "lf": b"One.\n<|endoftext|>\nTwo.\n",
        "crlf": b"\xef\xbb\xbfOne.\r\n<|endoftext|>\r\nTwo.\r\n",
    }.items():
        (tmp_path / f"{name}.txt").write_bytes(text)
        assert list(documents_of(tmp_path / f"{name}.txt")) == ["One.\n", "Two.\n"]
    (tmp_path / "wiki.txt").write_bytes(b" = One = \r\n a\r\n = Two = \r\n b\r\n")
    assert len(list(documents_of(tmp_path / "wiki.txt", articles))) == 2


def test_a_separator_line_becomes_the_single_byte_255():
    assert EOS == 255
    assert encode(b"One.\n<|endoftext|>\nTwo.\n<|endoftext|>\n").tobytes() == b"One.\n\xffTwo.\n\xff"


def test_a_separator_without_newline_at_the_end_of_the_text_counts():
    assert encode(b"One.\n<|endoftext|>").tobytes() == b"One.\n\xff"


@pytest.mark.parametrize(
    "text", [b"", b"a<|endoftext|>\n", b"<|endoftext|> \n", b" <|endoftext|>\n", b"\x00\x80\xff\n"]
)
def test_everything_that_is_not_a_separator_line_stays_as_it_is(text):
    assert encode(text).tobytes() == text


def test_training_reads_a_text_packed_or_not_as_the_same_bytes(tmp_path, stories):
    (tmp_path / "a.txt").write_bytes(stories)
    (tmp_path / "a.txt.xz").write_bytes(lzma.compress(stories))
    for name in ("a.txt", "a.txt.xz"):
        assert np.array_equal(read_text(tmp_path / name), encode(stories))


REAL_TEXT = "“Don’t – stop” … she said ‘à café’ — naïve Ærø, 5 € and Ÿ"


def read_as_windows_1252(text):
    undefined = (0x81, 0x8D, 0x8F, 0x90, 0x9D)
    return "".join(chr(b) if b in undefined else bytes([b]).decode("cp1252") for b in text.encode())


def test_quotation_marks_and_letters_read_as_windows_1252_are_restored():
    damaged = read_as_windows_1252("“Don’t – stop” … ‘à café’ — naïve")
    assert damaged.startswith("â€œDonâ€™t")
    assert repair(damaged) == "“Don’t – stop” … ‘à café’ — naïve"


def test_a_closing_quotation_mark_that_lost_its_last_byte_is_restored():
    assert repair("Come in,â€ she said") == "Come in,” she said"


def test_real_typography_is_left_alone():
    assert repair(REAL_TEXT) == REAL_TEXT
    assert repair("café” and fiancé… and É»") == "café” and fiancé… and É»"


def test_carriage_returns_before_newlines_go():
    assert repair("a\r\nb\rc\n") == "a\nb\rc\n"


def test_a_folder_without_text_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no \.txt"):
        text_files([tmp_path])
    with pytest.raises(FileNotFoundError, match="nothing at"):
        text_files([tmp_path / "missing"])
