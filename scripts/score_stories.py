#!/usr/bin/env python3
"""Scores a hundred stories that each model writes, with fixed beginnings and seeds (lm/measure/stories.py).

score_stories.py models/*.gguf                  prints a table
score_stories.py models/*.gguf --write          writes it to models/stories.json and models/README.md
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
BEGIN, END = "<!-- table made by scripts/score_stories.py -->\n", "<!-- end of the table of stories -->\n"


def table(results: dict[str, dict]) -> str:
    """{model: measures} as Markdown, the model whose heroes stay most often first."""
    ranked = sorted(results.items(), key=lambda item: -item[1]["kept"])
    return markdown([("model", *stories.COLUMNS), *(stories.row(name, found) for name, found in ranked)]) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=Path, nargs="+", help=".gguf files")
    parser.add_argument("--show", type=int, default=0, metavar="N", help="print the first N stories of each")
    parser.add_argument("--write", action="store_true", help="keep the results beside the models and in their README")
    arguments = parser.parse_args()
    results = {}
    for model in arguments.models:
        written = stories.write(model)
        results[model.stem] = {key: round(value, 4) for key, value in stories.measure(written).items()}
        for story in written[: arguments.show]:
            print(f"{model.stem}: {story.beginning}{story.text}\n")
    if arguments.write:
        files.write_text(RESULT, json.dumps(results, indent=2) + "\n")
        files.write_text(README, between(files.read_text(README), BEGIN, END, table(results)))
    print(table(results), end="")


if __name__ == "__main__":
    command.run(main)
