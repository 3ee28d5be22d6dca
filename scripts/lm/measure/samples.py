"""Texts that a model writes, and how varied and how repetitive they are: the same numbers as cpp/tools/sample_metrics.h.

A word is a longest run of bytes that are not ASCII white space; case and punctuation count. N-grams lie within one
sample. A share of nothing is 0.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import nn

from lm.text import codec
from lm.text.encoding import EOS

PROMPTS = (b"", b"Once upon a time", b"The ", b"One day")  # sample n continues prompt n mod 4, as in cpp/tools/eval.cc
LENGTH = 512  # most bytes of a sample
MAX_GRAM = 4


@torch.no_grad()
def generate(model: nn.Module, prompts: Sequence[bytes], length: int = LENGTH, temperature: float = 1.0) -> list[bytes]:
    """What the model writes after each prompt, at most `length` bytes; the token that ends a text is not part of it.

    Text n is drawn with PyTorch's generator and seed n: the same on every run, but not the bytes that the engine draws.
    """
    reads = codec.of_model(model)
    prompts = [reads.encode(np.frombuffer(prompt, np.uint8)).tolist() for prompt in prompts]
    device = next(model.parameters()).device
    generators = [torch.Generator().manual_seed(seed) for seed in range(len(prompts))]
    texts, ended = [bytearray() for _ in prompts], [False] * len(prompts)
    token = torch.full((len(prompts),), reads.begin, device=device)
    states, position = model.initial_states(len(prompts)), 0
    while not all(ended):
        logits, states = model.step(token, states)
        scaled = logits.float().cpu() / temperature
        if reads.begin != reads.end:
            scaled[:, reads.begin] = -torch.inf
        for n, prompt in enumerate(prompts):
            if position < len(prompt):
                token[n] = prompt[position]
                continue
            drawn = int(torch.multinomial(scaled[n].softmax(0), 1, generator=generators[n]))
            piece = reads.piece(drawn)
            ended[n] = ended[n] or drawn == reads.end or len(texts[n]) + len(piece) > length
            if not ended[n]:
                texts[n] += piece
                token[n] = drawn
        position += 1
    return [bytes(text) for text in texts]


def standard_samples(model: nn.Module, count: int) -> list[bytes]:
    """The samples that evaluation measures: the fixed prompts in turn, at temperature 1 with nothing cut."""
    return generate(model, [PROMPTS[n % len(PROMPTS)] for n in range(count)]) if count else []


def split_documents(tokens: np.ndarray) -> list[bytes]:
    """The documents of a text (see lm.text.encoding); empty ones are not counted."""
    return [document for document in tokens.tobytes().split(bytes([EOS])) if document]


def measure(samples: Sequence[bytes]) -> dict:
    """-> samples (how many), utf8_valid (share that is UTF-8, up to a character that the end cuts off),

    distinct_words and distinct_bytes [4]: different n-grams among all, n = 1..4, over all samples together (distinct-n,
    Li et al. 2016, arXiv 1510.03055), repetition: share of 4-grams of words that were there before in the same sample
    (seq-rep-4, Welleck et al. 2020, arXiv 1908.04319). Of no samples nothing but their number.
    """
    if not samples:
        return {"samples": 0}
    words = [sample.split() for sample in samples]
    repeats = [list(_grams(text, MAX_GRAM)) for text in words]
    return {
        "utf8_valid": _share(sum(map(_is_valid, samples)), len(samples)),
        "samples": len(samples),
        "distinct_words": [_distinct(words, n) for n in range(1, MAX_GRAM + 1)],
        "distinct_bytes": [_distinct(samples, n) for n in range(1, MAX_GRAM + 1)],
        "repetition": _share(sum(len(grams) - len(set(grams)) for grams in repeats), sum(map(len, repeats))),
    }


def _grams(sequence: bytes | list[bytes], n: int) -> Iterator[tuple]:
    return zip(*(sequence[i:] for i in range(n)))


def _distinct(sequences: Sequence, n: int) -> float:
    grams = [gram for sequence in sequences for gram in _grams(sequence, n)]
    return _share(len(set(grams)), len(grams))


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


def _is_valid(sample: bytes) -> bool:
    try:
        codecs.getincrementaldecoder("utf-8")().decode(sample)
    except UnicodeDecodeError:
        return False
    return True
