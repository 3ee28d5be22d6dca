"""A text that is hard to tokenize, and the tokens that the Python library makes of it, for the tests of C++ and TypeScript.

Run by hand it writes tests/data/tokenizers/mixed.bin and expected.json anew.
"""

import hashlib
import json
import random
import unicodedata
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "tests" / "data" / "tokenizers"
STYLES = ("gpt2", "llama")
ROTATIONS = 7  # of the sample: a megabyte, in which characters are cut at the seams


def mixed() -> bytes:
    """The megabyte: the sample, each time beginning somewhere else."""
    sample = (FOLDER / "mixed.bin").read_bytes()
    starts = [n * 14_251 % len(sample) for n in range(ROTATIONS)]
    return b"".join(sample[start:] + sample[:start] for start in starts)


def as_text(raw: bytes) -> str:
    """What a program that wants text makes of bytes: U+FFFD for every maximal ill-formed part."""
    return raw.decode("utf-8", errors="replace")


def tokens_of(tokenizer: Tokenizer, raw: bytes, control: bool = False) -> np.ndarray:
    tokenizer.encode_special_tokens = not control
    return np.array(tokenizer.encode(as_text(raw), add_special_tokens=False).ids, np.uint32)


def digest(tokens: np.ndarray) -> dict:
    return {"tokens": int(tokens.size), "sha256": hashlib.sha256(tokens.astype("<u4").tobytes()).hexdigest()}


def expected(tokenizer: Tokenizer) -> dict:
    raw = mixed()
    return {"text": digest(tokens_of(tokenizer, raw)), "control": digest(tokens_of(tokenizer, raw, control=True))}


# ---- the sample


def make_sample() -> bytes:
    draw = random.Random(11)
    assigned = [c for c in map(chr, range(0x110000)) if unicodedata.category(c) not in ("Cn", "Cs", "Co")]
    by_kind = {kind: [c for c in assigned if unicodedata.category(c)[0] == kind] for kind in "LMNPSZC"}

    def between(low: int, high: int, count: int) -> str:
        return "".join(chr(draw.randint(low, high)) for _ in range(count))

    def words(low: int, high: int, longest: int = 8) -> str:
        return " ".join(between(low, high, draw.randint(1, longest)) for _ in range(12))

    emoji = ["👩‍👩‍👧‍👦", "🏳️‍🌈", "👍🏽", "🇩🇪🇯🇵", "❤️", "☺", "🫠", "1️⃣", "🧑🏿‍🚀", "🎉"]
    spaces = [" ", "  ", "\t", "\n", "\r\n", "\n\n\n", "\u00a0", "\u1680", "\u180e", "\u2003", "\u2028", "\u3000"]
    spaces += ["\u0085", "\ufeff", "\u200b", "\u200d", "   \n", "\x0b", "\x0c"]
    names = ["<|endoftext|>", "<s>", "</s>", "<unk>", "<0x41>", "<|im_start|>", "▁", "▁a", "Ġ", "Ċ"]
    short = ["'s", "'S", "'t", "'re", "'ll", "I'd", "don't", "’s", "'", "''ve"]
    pieces = [
        lambda: words(0x4E00, 0x9FA5),
        lambda: words(0x3041, 0x3096) + words(0x30A1, 0x30FA, 3) + words(0xAC00, 0xD7A3, 3),
        lambda: "".join(c + between(0x064B, 0x0652, draw.randint(0, 2)) for c in words(0x0621, 0x064A)),
        lambda: "".join(c + between(0x0300, 0x036F, draw.randint(0, 3)) for c in words(0x61, 0x7A)),
        lambda: words(0x0400, 0x045F) + words(0x0391, 0x03C9) + words(0x05D0, 0x05EA) + words(0x0904, 0x0939),
        lambda: "".join(draw.choice(emoji) + draw.choice(["", " "]) for _ in range(12)),
        lambda: "".join(draw.choice(spaces) for _ in range(draw.randint(1, 9))) + draw.choice(["x", "1", "!", ""]),
        lambda: between(0, 0x1F, 6) + between(0x7F, 0x9F, 6),
        lambda: (
            str(draw.randint(0, 10**12))
            + draw.choice(["½", "Ⅷ", "٣", "९", "①", "²", ".", ",", "%"])
            + words(0x30, 0x39, 5)
        ),
        lambda: draw.choice(names) + draw.choice(["", " ", "a", "\n"]),
        lambda: "".join(draw.choice(["he", "It", "we", " "]) + draw.choice(short) for _ in range(6)),
        lambda: "".join(draw.choice(by_kind[draw.choice("LLMNPSZC")]) for _ in range(24)),
        lambda: "".join(draw.choice(assigned) for _ in range(16)),
    ]
    lone = [
        lambda: draw.randbytes(draw.randint(1, 12)),
        lambda: "é漢🎉".encode()[: draw.randint(1, 8)],
        lambda: b"\xed\xa0\x80\xc0\xaf\xf4\x90\x80\x80\xe2\x82",
        lambda: bytes([draw.randint(0x80, 0xFF)]),
    ]
    story = (ROOT / "tests" / "data" / "stories.txt").read_bytes()
    code = (ROOT / "cpp" / "text" / "tokenizer.cc").read_bytes() + (
        ROOT / "tests" / "py" / "tokenizer_texts.py"
    ).read_bytes()
    out = []
    for _ in range(700):
        source = draw.choice([story, code])
        at = draw.randrange(len(source) - 200)
        out.append(source[at : at + draw.randint(1, 120)])
        out.append(draw.choice(pieces)().encode())
        if draw.random() < 0.3:
            out.append(draw.choice(lone)())
    return b"".join(out)


def main() -> None:
    (FOLDER / "mixed.bin").write_bytes(make_sample())
    found = {style: expected(Tokenizer.from_file(str(FOLDER / style / "tokenizer.json"))) for style in STYLES}
    (FOLDER / "expected.json").write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
