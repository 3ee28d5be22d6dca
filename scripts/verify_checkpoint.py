#!/usr/bin/env python3
"""Checks a converted checkpoint: its structure, its source's codes and scales, and what is known of its answers.

verify_checkpoint.py bitmamba-255m.gguf --source bitmamba_255m.bin --text wikitext2=wiki.test.raw

Known answers: models/known-answers.json; they are computed with PyTorch. Exit status: 0 when nothing differs, else 1.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import gguf

import convert as convert_command
from lm import ROOT
from lm.file import gguf_file
from lm.measure import known_answers
from lm.measure.known_answers import Finding
from lm.text import command


def report(finding: Finding) -> bool:
    """Prints one line -> whether it is a difference."""
    word = {True: "ok  ", False: "BAD ", None: "?   "}[finding.good]
    print(f"{word} {finding.what}: {finding.says}")
    return finding.good is False


def run(arguments: argparse.Namespace) -> int:
    path = arguments.model
    if not path.exists():
        raise ValueError(f"{path}: no such file; scripts/convert.py writes one")
    texts = dict(text.partition("=")[::2] for text in arguments.text)
    differ = sum([report(finding) for finding in known_answers.structure(path)])
    if arguments.source:
        source = convert_command.local(arguments.source, (*convert_command.WANTED, *convert_command.TEXTS))
        kind, tensors, _, _ = convert_command.opened(source)
        tensors = kind.prepare(tensors)
        kind.check(tensors)
        differ += sum([report(finding) for finding in known_answers.against_source(path, kind, tensors)])
    entry = known_answers.answers_for(
        gguf_file.keys_of(gguf.GGUFReader(path)), known_answers.read_answers(arguments.answers)
    )
    if entry is None:
        print("?    answers: none are known of a model of these sizes")
    else:
        print(f"     answers of {entry['name']} ({entry['source']})")
        texts = {name: Path(file) for name, file in texts.items()}
        differ += sum([report(finding) for finding in known_answers.check_answers(path, entry, texts)])
    print("nothing differs" if not differ else f"{differ} differ")
    return 1 if differ else 0


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="a file that scripts/convert.py wrote")
    parser.add_argument("--source", help="what it was converted from: folder, .bin or hf:owner/name")
    parser.add_argument("--text", action="append", default=[], metavar="NAME=FILE", help="a text that answers name")
    parser.add_argument("--answers", type=Path, default=ROOT / "models" / "known-answers.json")
    arguments = parser.parse_args(words)
    return run(arguments)


if __name__ == "__main__":
    command.run(main)
