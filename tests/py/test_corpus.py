"""From text files to training data: documents, each once, held out by what they say, and articles of a dump."""

import bz2
import lzma
import zipfile

import pytest

import prepare_data
from lm.text import corpus, wiki
from lm.text.corpus import Counts
from lm.text.data import read_text
from lm.text.encoding import encode, text_files

END = "<|endoftext|>\n"


def written(tmp_path, documents, name="out.txt", valid=None, share=0.0, seen=None):
    counts = Counts()
    seen = set() if seen is None else seen
    corpus.write(corpus.repaired(documents, counts), tmp_path / name, valid, share, seen, counts)
    return counts


def test_preparing_clean_text_changes_nothing(tmp_path, stories):
    (tmp_path / "a.txt").write_bytes(stories)
    counts = written(tmp_path, corpus.separated(corpus.lines(tmp_path / "a.txt")))
    assert (tmp_path / "out.txt").read_bytes() == stories
    assert counts == Counts(documents=stories.count(b"<|end"), train_bytes=len(stories))


def test_a_prepared_text_is_what_training_makes_of_the_text_itself(tmp_path, stories):
    (tmp_path / "a.txt").write_bytes(stories)
    written(tmp_path, corpus.separated(corpus.lines(tmp_path / "a.txt")), "out.bin")
    assert read_text(tmp_path / "out.bin").tobytes() == encode(stories).tobytes()


def test_files_and_compressed_files_are_joined_with_every_document_ended(tmp_path):
    (tmp_path / "1.txt").write_bytes(b"One.")
    (tmp_path / "2.txt.xz").write_bytes(lzma.compress(b"Two.\r\n<|endoftext|>\r\n"))
    (tmp_path / "3.txt").write_bytes(b"Three.\n<|endoftext|>")
    (tmp_path / "4.txt").write_bytes(b"")
    (tmp_path / "ignored.md").write_bytes(b"no")
    documents = [d for path in text_files([tmp_path]) for d in corpus.separated(corpus.lines(path))]
    counts = written(tmp_path, documents)
    assert (tmp_path / "out.txt").read_text(encoding="utf-8") == f"One.\n{END}Two.\n{END}Three.\n{END}"
    assert (counts.documents, counts.repaired_lines) == (3, 1)


def test_a_document_that_was_there_is_left_out_whatever_white_space_surrounds_it(tmp_path):
    seen = {corpus.fingerprint("known\n")}
    documents = [["a\n"], ["\n", "a\n", "\n"], ["known"], ["b"], [" \n"], []]
    counts = written(tmp_path, documents, seen=seen)
    assert (tmp_path / "out.txt").read_text(encoding="utf-8") == f"a\n{END}b\n{END}"
    assert (counts.documents, counts.duplicates) == (2, 2)


def test_the_same_documents_are_held_out_whatever_else_is_there_and_in_any_order(tmp_path):
    documents = [[f"document {i}\n"] for i in range(500)]
    first = written(tmp_path, documents, "train.bin", tmp_path / "valid.bin", 0.2)
    assert 60 < first.valid_documents < 140  # 100 expected, deviation 9
    held_out = (tmp_path / "valid.bin").read_bytes()
    written(tmp_path, [*reversed(documents), ["another\n"]], "train.bin", tmp_path / "again.bin", 0.2)
    again = set((tmp_path / "again.bin").read_bytes().split(b"\xff"))
    assert set(held_out.split(b"\xff")) == again - {b"another\n"}
    train = set((tmp_path / "train.bin").read_bytes().split(b"\xff"))
    assert not (train & again) - {b""}


def test_a_file_without_documents_is_refused_and_nothing_is_left_behind(tmp_path):
    with pytest.raises(ValueError, match=r"out\.txt would be empty"):
        written(tmp_path, [[" \n"]])
    with pytest.raises(ValueError, match=r"valid\.bin would be empty: of 1 documents"):
        written(tmp_path, [["a\n"]], "train.bin", tmp_path / "valid.bin", 1e-9)
    with pytest.raises(ValueError, match=r"out\.csv: expected a name that ends in \.bin"):
        written(tmp_path, [["a\n"]], "out.csv")
    assert not list(tmp_path.iterdir())


def test_bytes_that_are_not_utf8_are_refused_with_file_and_place(tmp_path):
    (tmp_path / "bad.txt").write_bytes("é\n".encode() + b"ok \xff\n")
    with pytest.raises(ValueError, match=r"bad\.txt is not UTF-8 text: byte 6 is 0xff"):
        list(corpus.lines(tmp_path / "bad.txt"))


def test_a_text_without_certain_documents_leaves_out_those_of_prepared_and_plain_files(tmp_path):
    (tmp_path / "a.txt").write_text(f"one\n{END}two\n", encoding="utf-8")
    (tmp_path / "a.bin").write_bytes(b"one\n\xfftwo\n\xff")
    for name in ("a.txt", "a.bin"):
        assert list(corpus.documents_of(tmp_path / name)) == ["one\n", "two\n"]


def test_articles_of_wikitext_begin_with_their_titles():
    text = [" \n", " = First = \n", " \n", " = = Section = = \n", "a\n", " = Second = \n", "b\n"]
    found = ["".join(article).split() for article in corpus.articles(text)]
    assert found == [[], ["=", "First", "=", "=", "=", "Section", "=", "=", "a"], ["=", "Second", "=", "b"]]


MARKUP = """{{Infobox|name=x|{{nested|y}}}}
[[File:cat.jpg|thumb|A [[cat]] asleep]]'''Cats''' are ''small'' [[animal|animals]].<ref name="a">Book {{cite}}</ref> See
[http://example.org the page]<ref name="a"/>.&nbsp;5 &lt; 6
{| class="wikitable"
| cell
{| inner
|}
|}
== Food ==
* [[Fish]]
* milk<!-- and more -->
__NOTOC__
[[Category:Pets]]
[[de:Katze]]
"""


def test_of_wiki_markup_the_text_is_left():
    assert wiki.plain(MARKUP) == "Cats are small animals. See\nthe page.\xa05 < 6\n\nFood\n\nFish\nmilk"


def test_of_a_dump_the_long_articles_are_read(tmp_path):
    def page(title, namespace, text, redirect=""):
        return (
            f"<page><title>{title}</title><ns>{namespace}</ns>{redirect}<revision><text>{text}</text></revision></page>"
        )

    long = "A sentence about it. " * 20
    inside = page("Cat", 0, f"'''Cat'''\n{long}") + page("Stub", 0, "short") + page("Talk:Cat", 1, long)
    inside += page("Kitty", 0, long, '<redirect title="Cat" />') + page("Dog", 0, long)
    dump = f'<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.11/">{inside}</mediawiki>'
    (tmp_path / "dump.xml.bz2").write_bytes(bz2.compress(dump.encode()))
    found = list(wiki.documents(tmp_path / "dump.xml.bz2"))
    assert [article[0] for article in found] == ["Cat\n", "Dog\n"]
    assert "".join(found[0]).startswith("Cat\n\nCat\nA sentence about it.")


@pytest.fixture
def downloaded(tmp_path, monkeypatch):
    """As if every file were there: what would be fetched lies in the folder already."""
    monkeypatch.setattr(prepare_data, "fetch", lambda source, folder: folder / source.name)

    def prepared(name):
        prepare_data.download(name, tmp_path, share=0.5)
        return {path.stem: set(path.read_bytes().split(b"\xff")) - {b""} for path in tmp_path.glob("*.bin")}

    return prepared


def test_of_tinystories_the_held_out_documents_are_left_out_of_the_others(tmp_path, downloaded):
    (tmp_path / "TinyStoriesV2-GPT4-train.txt").write_text(f"one\n{END}two\n{END}one\n{END}three", encoding="utf-8")
    (tmp_path / "TinyStoriesV2-GPT4-valid.txt").write_text(f"two\n{END}", encoding="utf-8")
    assert downloaded("tinystories") == {"tinystories_train": {b"one\n", b"three\n"}, "tinystories_valid": {b"two\n"}}


def test_of_wikitext_the_articles_of_the_three_parts_are_separate(tmp_path, downloaded):
    with zipfile.ZipFile(tmp_path / "wikitext-2-raw-v1.zip", "w") as archive:
        for part in ("train", "valid", "test"):
            text = f" \n = {part} = \n \n First .\n = = Section = = \n = Both = \n"
            archive.writestr(f"wikitext-2-raw/wiki.{part}.raw", text)
    found = downloaded("wikitext-2")
    assert set(found) == {"wikitext-2_train", "wikitext-2_valid", "wikitext-2_test"}
    assert found["wikitext-2_test"] == {b" = test = \n \n First .\n = = Section = = \n", b" = Both = \n"}
    assert found["wikitext-2_train"] == {b" = train = \n \n First .\n = = Section = = \n"}, "the other is held out"


def test_of_simple_wikipedia_articles_are_held_out(tmp_path, downloaded):
    text = "A sentence about it. " * 20
    inside = "".join(f"<page><title>T{i}</title><ns>0</ns><text>{i} {text}</text></page>" for i in range(40))
    name = "simplewiki-latest-pages-articles.xml.bz2"
    (tmp_path / name).write_bytes(bz2.compress(f"<mediawiki>{inside}</mediawiki>".encode()))
    found = downloaded("simplewiki")
    train, valid = found["simplewiki_train"], found["simplewiki_valid"]
    assert len(train) + len(valid) == 40 and not train & valid
    assert len(valid) > 5
