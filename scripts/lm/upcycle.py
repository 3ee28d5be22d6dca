"""A hierarchical model that begins with what a flat one has learned: its blocks at every level.

The encoder gets the flat model's first blocks, the decoder its last, the innermost level those between them (and the last
of the encoder) again and again. The stream that the decoder's blocks were trained on reaches them around the innermost
level, through a residual projection that begins as the identity, so the new model predicts nearly as well as the flat
one without its middle blocks, and the innermost level learns what they and more did.
"""

import torch
from torch import nn

from .arch import hgrnbit
from .text import encode

SAMPLE = 'One day, a little girl named Lily went to the park. She saw a big dog and said, "Hello!"\n'
CHUNKS_BEGIN_AT = 0.25  # size of what comes from the chunks beside what comes around them, before training


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
