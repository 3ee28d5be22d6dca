"""Where a run begins that does not begin with random weights: a shallower model's blocks, the same model's weights, a flat model's.

A hierarchical model can begin with what a flat one has learned: its blocks at every level. The encoder gets the flat
model's first blocks, the decoder its last, the innermost level those between them (and the last of the encoder) again and
again. The stream that the decoder's blocks were trained on reaches them around the innermost level, through a residual
projection that begins as the identity, so the new model predicts nearly as well as the flat one without its middle
blocks, and the innermost level learns what they and more did.
"""

from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from lm import arch
from lm.arch import hgrnbit
from lm.file import checkpoint
from lm.text.encoding import encode

SAMPLE = 'One day, a little girl named Lily went to the park. She saw a big dog and said, "Hello!"\n'
CHUNKS_BEGIN_AT = 0.25  # size of what comes from the chunks beside what comes around them, before training


def grow(model: nn.Module, path: str | Path) -> int:
    """Fill a deeper model from a shallower one by repeating its blocks in order; returns the bytes that one had seen.

    Early in training a shallow model learns more per second, and the deeper one takes over what it learned
    (stacking: arXiv 2405.15319).
    """
    content = checkpoint.load(path)
    shallow = arch.config_from_dict(content["config"]["model"])
    if not {shallow.architecture, model.config.architecture} <= {"hgrnbit"}:
        names = f"{shallow.architecture} to {model.config.architecture}"
        raise ValueError(f"{path}: only hgrnbit grows by repeating blocks, not {names}; start from its weights instead")
    if replace(shallow, layers=model.config.layers) != model.config or model.config.layers % shallow.layers:
        raise ValueError(f"{path}: its settings {shallow} must differ in `layers` alone, and divide {model.config}")
    weights = {}
    for name, value in content["model"].items():
        if not name.startswith("layers."):
            weights[name] = value
            continue
        _, number, rest = name.split(".", 2)
        for layer in range(int(number), model.config.layers, shallow.layers):
            weights[f"layers.{layer}.{rest}"] = value
    model.load_state_dict(weights)
    return content["bytes_seen"]


def initialize(model: nn.Module, path: str | Path) -> int:
    """Gives the model the weights of a checkpoint; returns the bytes that they have seen.

    The checkpoint's settings have to be the model's, or its model a flat one whose blocks fit (see `obstacle`).
    """
    content = checkpoint.load(path)
    config = arch.config_from_dict(content["config"]["model"])
    if config.architecture == "hgrnbit" and model.config.architecture == "hnetbit":
        reason = obstacle(model.config, config)
        if reason:
            raise ValueError(f"{path}: {reason}")
        flat = arch.build(config)
        flat.load_state_dict(content["model"])
        fill(model, flat)
        return content["bytes_seen"]
    found = arch.config_to_dict(config)
    for name, value in arch.config_to_dict(model.config).items():
        if found.get(name) != value:
            raise ValueError(
                f"{path} has model.{name} = {found.get(name)!r}, the settings say {value!r}: not its weights"
            )
    model.load_state_dict(content["model"])
    return content["bytes_seen"]


def obstacle(config, flat: hgrnbit.Config) -> str | None:
    """Why the blocks of `flat` do not fit into a model of `config`; None if they do."""
    if config.architecture != "hnetbit" or len(config.hidden) != 2:
        return "only a hierarchical model of one stage begins with a flat one's blocks"
    for level in (0, 1):
        for name in ("hidden", "recurrent", "intermediate", "conv_kernel", "gate_norm", "sigmoid", "decay_span"):
            wanted, found = getattr(config.level(level), name), getattr(flat, name)
            if wanted != found:
                return f"level {level} needs blocks with {name} = {wanted!r}, the flat model has {found!r}"
    if flat.lower_bounds:
        return "the flat model has learned lower bounds, which a hierarchical one has not"
    if config.encoder[0] + config.decoder[0] > flat.layers:
        return (
            f"encoder and decoder need {config.encoder[0] + config.decoder[0]} blocks, the flat model has {flat.layers}"
        )
    if config.residual_start != 1:
        return f"model.residual_start has to be 1, found {config.residual_start}"
    return None


@torch.no_grad()
def fill(model: nn.Module, flat: nn.Module) -> None:
    """Gives `model` (HNetBit of one stage) the weights of `flat` (HGRNBit), where `obstacle` finds none."""
    c, depth, stage = model.config, flat.config.layers, model.stages[0]
    before, after = c.encoder[0], c.decoder[0]
    between = range(before - 1, depth - after)
    inner = [between[k % len(between)] for k in range(c.layers)]
    stacks = ((stage.encoder, range(before)), (model.main, inner), (stage.decoder, range(depth - after, depth)))
    for stack, blocks in stacks:
        for layer, block in zip(stack.layers, blocks):
            layer.load_state_dict(flat.layers[block].state_dict())
    model.embeddings.load_state_dict(flat.embeddings.state_dict())
    model.lm_head.load_state_dict(flat.lm_head.state_dict())
    stage.decoder.norm.weight.copy_(flat.norm.weight)

    # The decoder's blocks add to the stream what they learned to add to one of this size.
    tokens = torch.from_numpy(encode(SAMPLE.encode()).astype("int64"))[None]
    streams, _ = flat.hidden(tokens, flat.initial_states(1))
    size = float(streams[before].square().mean().sqrt())
    stage.encoder.norm.weight.fill_(size)
    model.main.norm.weight.fill_(CHUNKS_BEGIN_AT * size)
