"""What a model's tokens are: the bytes of a text, or pieces of it that byte-pair merging makes.

A text is bytes in either case, as lm/text/encoding.py makes them: uint8, 255 after a document.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np

from lm.text.encoding import BOS, EOS

TEXT, UNKNOWN, CONTROL, BYTE = 1, 2, 3, 6  # of the types of pieces, see models/FORMAT.md
SPACE = "▁"  # in pieces of characters


class Bytes:
    """A token is a byte."""

    size, begin, end = 256, BOS, EOS
    keys: dict | None = None
    source = ""

    def encode(self, text: np.ndarray) -> np.ndarray:
        return text

    def piece(self, token: int) -> bytes:
        return bytes([token])

    def bytes_in(self, tokens: np.ndarray) -> int:
        """Bytes of the text that they stand for; a document's end is one."""
        return tokens.size


class Pieces:
    """A token is a piece of text: the tokenizer of a model file, by the keys of models/FORMAT.md."""

    def __init__(self, keys: dict):
        self.keys = {key: value for key, value in keys.items() if key.startswith("tokenizer.")}
        self.source = keys.get("tokenizer.huggingface.json", "")  # tokenizer.json
        self.begin, self.end = (int(keys[f"tokenizer.ggml.{name}_token_id"]) for name in ("bos", "eos"))
        self.size = len(keys["tokenizer.ggml.tokens"])
        self.type = np.uint16 if self.size <= 1 << 16 else np.uint32

    @cached_property
    def pieces(self) -> list[bytes]:
        """[size] the text that each stands for."""
        of_bytes = self.keys["tokenizer.ggml.model"] == "gpt2"
        types = self.keys["tokenizer.ggml.token_type"]
        return [_bytes_of(*piece, of_bytes) for piece in zip(self.keys["tokenizer.ggml.tokens"], types)]

    @cached_property
    def lengths(self) -> np.ndarray:
        """[size] bytes of text of each; 1 for what ends a document."""
        lengths = np.array([len(piece) for piece in self.pieces])
        lengths[self.end] = 1
        return lengths

    @cached_property
    def tokenizer(self):
        from tokenizers import Tokenizer  # a machine that works with bytes need not have it

        made = Tokenizer.from_str(self.source)
        made.encode_special_tokens = True  # the name of a control token in a text is text
        return made

    def encode(self, text: np.ndarray) -> np.ndarray:
        """Each document by itself, and the token that ends it where it has ended."""
        *ended, rest = text.tobytes().split(bytes([EOS]))
        whole = [document.decode("utf-8", "replace") for document in (*ended, rest)]
        end, tokens = np.array([self.end], self.type), []
        for made in self.tokenizer.encode_batch_fast(whole, add_special_tokens=False):
            tokens += [np.array(made.ids, self.type), end]
        return np.concatenate(tokens[:-1])

    def piece(self, token: int) -> bytes:
        return self.pieces[token]

    def bytes_in(self, tokens: np.ndarray) -> int:
        """Bytes of the text that they stand for; a document's end is one."""
        return int(self.lengths[tokens].sum())


BYTES = Bytes()


def of_keys(keys: dict | None) -> Bytes | Pieces:
    """The codec of a model file's keys, of a checkpoint's (None: bytes)."""
    return BYTES if keys is None or keys["tokenizer.ggml.model"] == "byte" else Pieces(keys)


def of_model(model: object) -> Bytes | Pieces:
    """The codec of a model's tokens: its attribute `codec`, and bytes where it has none."""
    return getattr(model, "codec", BYTES)


def byte_characters() -> list[str]:
    """[256] the character that stands for a byte in pieces of bytes (GPT-2, its encoder.py)."""
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = iter(range(256, 512))
    return [chr(n) if n in shown else chr(next(hidden)) for n in range(256)]


_BYTE_OF = {character: byte for byte, character in enumerate(byte_characters())}


def _bytes_of(piece: str, kind: int, of_bytes: bool) -> bytes:
    """The text that a piece stands for; none for a control token."""
    if kind in (UNKNOWN, CONTROL):
        return b""
    if kind == BYTE:
        return bytes([int(piece[3:5], 16)])
    if kind == TEXT and of_bytes:
        return bytes(_BYTE_OF[character] for character in piece)
    return piece.replace(SPACE, " ").encode() if kind == TEXT else piece.encode()
