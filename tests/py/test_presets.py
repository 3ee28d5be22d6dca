"""The stories that the page begins with are what it says of them, whole, and fit for small children."""

import hashlib
import json
import re

import pytest

from conftest import ROOT
from lm.measure import stories
from lm.measure.stories import Story

PRESETS = json.loads((ROOT / "web" / "demo" / "presets.json").read_text(encoding="utf-8"))
MODEL = ROOT / "models" / "tinystories-3m5.gguf"


@pytest.mark.parametrize("preset", PRESETS, ids=[preset["name"] for preset in PRESETS])
def test_a_preset_has_its_bytes_keeps_its_hero_and_says_nothing_unsuitable(native, tmp_path, preset):
    options, prompt, out = preset["options"], preset["prompt"], tmp_path / "story.txt"
    words = ["--temperature", options["temperature"], "--top-k", options["topK"], "--top-p", options["topP"]]
    native(
        *("tern", "generate", "--model", MODEL, "--prompt", prompt, "--seed", preset["seed"]),
        *("--max-bytes", preset["bytes"] + 100, "--output", out, *words),
    )
    told = out.read_bytes().removeprefix(prompt.encode()).removesuffix(b"\n")
    assert len(told) == preset["bytes"]  # and it ended there by itself
    assert hashlib.sha256(told).hexdigest() == preset["sha256"]

    story = Story(preset["hero"], prompt, told.decode(), True)
    assert stories.kept(story) and not stories.unsuitable(story)
    assert re.search(r"[.!?][\"”]?\s*$", story.text) and stories.repeated_sentences(story) == 0
