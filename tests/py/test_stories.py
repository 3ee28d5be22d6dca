"""The measures of stories are what reading finds, and the table in models/README.md is of the shipped models."""

import json
from dataclasses import replace

import pytest

import score_stories
from conftest import ROOT
from lm.measure import stories
from lm.measure.stories import Story
from lm.text.tables import between

GOOD = Story(
    "Lily",
    "Once upon a time, there was a little girl named Lily.",
    " She had a cat. The cat ran. Lily was happy.",
    True,
)
LOST = Story(
    "Tom",
    "Once upon a time, there was a little boy named Tom.",
    " Tom sat. He sat down. He sat down. They went home and saw",
    False,
)


def test_a_hero_is_kept_who_is_named_in_the_last_third_of_the_story():
    assert stories.kept(GOOD) and not stories.kept(LOST)
    assert not stories.kept(replace(GOOD, text=" She saw a dog. The dog saw Lilyan."))


def test_sentences_and_words_that_were_said_before_are_counted():
    assert stories.repeated_sentences(GOOD) == 0
    assert stories.repeated_sentences(LOST) == pytest.approx(1 / 3)
    found = stories.measure([GOOD, LOST])
    assert found["words"] == (10 + 13) / 2
    assert found["distinct_words"] == pytest.approx(1000 * 18 / 23)
    assert (found["stories"], found["named"], found["kept"], found["ended"]) == (2, 1, 0.5, 0.5)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("He shot the gun and killed it.", ["shot", "gun", "killed"]),
        ("The stupid dog DIED.", ["stupid", "died"]),
        ("She assembled a class in the grass; it was a killer whale, a skill.", ["killer"]),
        ("They hugged and said hello. The shell was soft.", []),
    ],
)
def test_words_that_a_childrens_page_must_not_say_are_found_as_whole_words(text, words):
    assert stories.unsuitable(replace(GOOD, text=text)) == words


def test_a_story_ends_when_the_model_ends_it_after_a_sentence():
    for text, ended, wanted in (
        (" She slept.", True, 1),
        (' "Bye!"', True, 1),
        (" She sl", True, 0),
        (" She slept.", False, 0),
    ):
        assert stories.measure([replace(GOOD, text=text, ended=ended)])["ended"] == wanted


@pytest.mark.parametrize("model", ["models/tinystories-3m5.gguf", "tests/golden/tiny_tokens.gguf"])
def test_the_engine_writes_the_same_stories_again(monkeypatch, model):
    monkeypatch.setattr(stories, "NAMES", ("Lily", "Tom"))
    monkeypatch.setattr(stories, "SEEDS", 2)
    monkeypatch.setattr(stories, "LENGTH", 30)
    first, again = (stories.write(ROOT / model) for _ in range(2))
    assert first == again and len({story.text for story in first}) > 2
    assert all(len(story.text.encode()) <= 3 * 30 for story in first), "U+FFFD may stand for a byte"
    assert [story.hero for story in first] == ["Lily", "Lily", "Tom", "Tom"]
    assert first[0].beginning == GOOD.beginning


def test_there_are_a_hundred_stories_with_a_seed_each():
    assert len(stories.beginnings()) * stories.SEEDS == 100
    assert len({beginning for _, beginning in stories.beginnings()}) == len(stories.NAMES)


def storytellers() -> list[str]:
    """Without the float model, which is shipped for what SuperFloat costs in bits: its stories are not scored."""
    manifest = json.loads((ROOT / "models" / "manifest.json").read_text(encoding="utf-8"))
    return [entry["file"] for entry in manifest["models"] if "-float-" not in entry["file"]]


def test_the_readme_has_the_table_of_the_shipped_models():
    results = json.loads((ROOT / "models" / "stories.json").read_text(encoding="utf-8"))
    assert set(results) == {file.removesuffix(".gguf") for file in storytellers()}
    assert all(found["stories"] == 100 for found in results.values())
    readme = (ROOT / "models" / "README.md").read_text(encoding="utf-8")
    assert score_stories.BEGIN + score_stories.table(results) + score_stories.END in readme, "score_stories.py --write"


def test_the_quoted_stories_are_what_the_shipped_models_write(monkeypatch):
    quoted = (ROOT / "models" / "STORIES.md").read_text(encoding="utf-8")
    assert quoted.count("> *Once upon a time") == score_stories.QUOTES * len(storytellers())
    monkeypatch.setattr(stories, "NAMES", ("Lily",))
    monkeypatch.setattr(stories, "SEEDS", 1)
    for file in storytellers():
        (story,) = stories.write(ROOT / "models" / file)
        section = quoted.partition(f"## {file.removesuffix('.gguf')}\n")[2].partition("\n## ")[0]
        assert score_stories.quote(story) in section, f"{file}: score_stories.py --write"


def test_a_text_without_a_place_for_the_table_is_refused():
    assert between("a <b> old <e> c", "<b>", "<e>", "new") == "a <b>new<e> c"
    with pytest.raises(ValueError, match="expected the line <e> for the table"):
        between("a <b>", "<b>", "<e>", "new")
