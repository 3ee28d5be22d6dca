"""How well a model predicts a text: the same numbers, by the same definition, as `tern eval`."""

from __future__ import annotations

import math
import time

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from lm.text import codec
from lm.text.encoding import raw_bytes


@torch.no_grad()
def score(model: nn.Module, text: np.ndarray, part: int = 2048, progress=iter) -> dict[str, float]:
    """Every token is predicted from all tokens before it, BOS first; the state is never reset between documents.

    Where the context of a model is full, the text goes on in a new one, BOS first.
    text: uint8, see lm/text/encoding.py. part: tokens per forward pass; the result does not depend on it.
    -> bits_per_byte, bits_per_raw_byte and raw_bytes (a document end counts as the 14 bytes of its line), perplexity (per
    byte), top1 and top5 (share of tokens among the most probable), bytes, tokens, bytes_per_second.
    """
    if text.size == 0:
        raise ValueError("the text to score is empty")
    reads = codec.of_model(model)
    tokens = reads.encode(text)
    device, began = next(model.parameters()).device, time.perf_counter()
    stream = torch.from_numpy(np.concatenate(([reads.begin], tokens)).astype(np.int64))
    states, nats, top1, top5 = None, 0.0, 0, 0
    context = getattr(model.config, "context", None)
    part = context - 1 if context else part  # BOS is one of its tokens
    for start in progress(range(0, tokens.size, part)):
        inputs = stream[start : min(start + part, tokens.size)].to(device)
        targets = stream[start + 1 : start + 1 + inputs.numel()].to(device)
        if context:
            inputs, states = inputs.clone(), None
            inputs[0] = reads.begin
        logits, states = model(inputs[None], states)
        nats += float(F.cross_entropy(logits[0].double(), targets, reduction="sum"))
        best = logits[0].topk(5).indices == targets[:, None]
        top1 += int(best[:, 0].sum())
        top5 += int(best.sum())
    bits = nats / math.log(2) / text.size
    return {
        "bits_per_byte": bits,
        "bits_per_raw_byte": bits * text.size / raw_bytes(text),
        "raw_bytes": raw_bytes(text),
        "perplexity": 2**bits,
        "top1": top1 / tokens.size,
        "top5": top5 / tokens.size,
        "bytes": int(text.size),
        "tokens": int(tokens.size),
        "bytes_per_second": text.size / max(time.perf_counter() - began, 1e-9),
    }
