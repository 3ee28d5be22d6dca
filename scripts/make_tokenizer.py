#!/usr/bin/env python3
"""Trains a byte-pair tokenizer on a text: tokenizer.json, as the converter, the package and the Hugging Face libraries read it.

make_tokenizer.py --text stories.txt --pieces 2048 --style gpt2 --out runs/tokenizer/tokenizer.json
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from lm.file.tokenizer_keys import BYTES, SPACE
from lm.text import command, files

END_OF_TEXT = "<|endoftext|>"


def byte_level() -> tuple[Tokenizer, trainers.BpeTrainer, dict]:
    """GPT-2's: pieces of bytes, never across the border of a word; one control token."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    return (
        tokenizer,
        trainers.BpeTrainer,
        {
            "special_tokens": [END_OF_TEXT],
            "initial_alphabet": pre_tokenizers.ByteLevel.alphabet(),
        },
    )


def byte_fallback() -> tuple[Tokenizer, trainers.BpeTrainer, dict]:
    """LLaMA's: pieces of characters, a space for every word in front of it, and a piece for every byte."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend(SPACE), normalizers.Replace(" ", SPACE)])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement=SPACE, prepend_scheme="never")  # only for training
    parts = [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    tokenizer.decoder = decoders.Sequence(parts)
    return tokenizer, trainers.BpeTrainer, {"special_tokens": ["<unk>", "<s>", "</s>", *BYTES], "limit_alphabet": 200}


STYLES = {"gpt2": byte_level, "llama": byte_fallback}


def train(lines: list[str], style: str, pieces: int) -> Tokenizer:
    """ValueError: fewer pieces than the style begins with."""
    tokenizer, trainer, options = STYLES[style]()
    fewest = 257 if style == "gpt2" else 259
    if pieces <= fewest:
        raise ValueError(f"expected more than {fewest} pieces, which {style} begins with, found {pieces}")
    tokenizer.train_from_iterator(lines, trainer(vocab_size=pieces, show_progress=False, **options))
    if tokenizer.get_vocab_size() != pieces:
        raise ValueError(f"the text is enough for {tokenizer.get_vocab_size()} pieces, not for {pieces}")
    if style == "llama":
        whole = json.loads(tokenizer.to_str())
        # The trainer knows byte pieces only as control tokens, which the text "<0x41>" would become.
        whole["added_tokens"] = [token for token in whole["added_tokens"] if token["content"] not in BYTES]
        whole["pre_tokenizer"] = None
        tokenizer = Tokenizer.from_str(json.dumps(whole))
        begin = tokenizer.token_to_id("<s>")
        tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", begin)])
    return tokenizer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--text", type=Path, required=True, help="UTF-8; a line <|endoftext|> ends a document")
    parser.add_argument(
        "--pieces", type=int, required=True, help="how many, with the 257 or 259 each style begins with"
    )
    parser.add_argument("--style", choices=sorted(STYLES), default="gpt2")
    parser.add_argument("--out", type=Path, required=True, help="the tokenizer.json to write")
    arguments = parser.parse_args()
    lines = files.read_text(arguments.text).splitlines(keepends=True)
    tokenizer = train([line for line in lines if line.strip() != END_OF_TEXT], arguments.style, arguments.pieces)
    files.write_text(arguments.out, tokenizer.to_str(pretty=False))
    print(f"{arguments.out}: {arguments.pieces} pieces")


if __name__ == "__main__":
    command.run(main)
