#!/usr/bin/env python3
"""Scores a hundred stories that each model writes, with fixed beginnings and seeds (lm/measure/stories.py).

score_stories.py models/*.gguf                  prints a table
score_stories.py models/*.gguf --write          writes it to models/stories.json and models/README.md, and stories of
                                                each model to models/STORIES.md
score_stories.py MODEL.gguf --show 5            prints the first five stories, unselected
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from lm import ROOT
from lm.measure import stories
from lm.text import command, files
from lm.text.tables import between, markdown

RESULT, README = ROOT / "models" / "stories.json", ROOT / "models" / "README.md"
QUOTED = ROOT / "models" / "STORIES.md"
QUOTES = 5  # stories of each model, one about each of the first heroes
BEGIN, END = "<!-- table made by scripts/score_stories.py -->\n", "<!-- end of the table of stories -->\n"


def table(results: dict[str, dict]) -> str:
    """{model: measures} as Markdown, the model whose heroes stay most often first."""
    ranked = sorted(results.items(), key=lambda item: -item[1]["kept"])
    return markdown([("model", *stories.COLUMNS), *(stories.row(name, found) for name, found in ranked)]) + "\n"


def quotes(written: dict[str, list[stories.Story]]) -> str:
    """{model: its hundred stories} -> Markdown with the first story about each of the first heroes."""
    parts = [
        "# Stories\n\nThe first story of each model about each of the first five heroes, out of the hundred that were scored: not",
        "selected, with seeds "
        + ", ".join(str(stories.SEEDS * n) for n in range(QUOTES))
        + ", settings as in the README's",
        'section "How they read". What the model was given is in italics. Made by `scripts/score_stories.py`.\n',
    ]
    for model, told in written.items():
        parts.append(f"## {model}\n")
        parts += [f"{quote(story)}\n" for story in told[:: stories.SEEDS][:QUOTES]]
    return "\n".join(parts)


def quote(story: stories.Story) -> str:
    """The story as Markdown: a block of quotation, a paragraph a line."""
    text = story.text if story.ended else story.text + " …"
    return "\n>\n".join(f"> {line.strip()}" for line in f"*{story.beginning}*{text}".splitlines() if line.strip())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=Path, nargs="+", help=".gguf files")
    parser.add_argument("--show", type=int, default=0, metavar="N", help="print the first N stories of each")
    parser.add_argument("--write", action="store_true", help="keep the results beside the models and in their README")
    arguments = parser.parse_args()
    results, told = {}, {}
    for model in arguments.models:
        written = told[model.stem] = stories.write(model)
        results[model.stem] = {key: round(value, 4) for key, value in stories.measure(written).items()}
        for story in written[: arguments.show]:
            print(f"{model.stem}: {story.beginning}{story.text}\n")
    if arguments.write:
        files.write_text(RESULT, json.dumps(results, indent=2) + "\n")
        files.write_text(README, between(files.read_text(README), BEGIN, END, table(results)))
        files.write_text(QUOTED, quotes(told))
    print(table(results), end="")


if __name__ == "__main__":
    command.run(main)
