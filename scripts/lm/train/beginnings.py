"""Where a run begins that does not begin with random weights: a shallower model's blocks, the same model's weights, a flat model's.

A hierarchical model can begin with what a flat one has learned: its blocks at every level. The encoder gets the flat
model's first blocks, the decoder its last, the innermost level those between them (and the last of the encoder) again and
again. The stream that the decoder's blocks were trained on reaches them around the innermost level, through a residual
projection that begins as the identity, so the new model predicts nearly as well as the flat one without its middle
blocks, and the innermost level learns what they and more did.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from lm import arch
from lm.arch import hgrnbit
from lm.arch.ternary import BitLinear, weight_codes
from lm.file import checkpoint
from lm.text import codec
from lm.text.codec import Bytes, Pieces
from lm.text.encoding import encode

SAMPLE = 'One day, a little girl named Lily went to the park. She saw a big dog and said, "Hello!"\n'
BESIDE_THE_EDGE = 0.01  # share of half the scale that no spread master is in, so that float32 rounds all as intended
LONGEST_TAIL = 5.0  # of the exponential distribution's mean
CHUNKS_BEGIN_AT = 0.25  # size of what comes from the chunks beside what comes around them, before training


# ---- what a run begins with


@dataclass(frozen=True)
class Source:
    """A model that another one begins with."""

    path: Path
    config: object
    weights: dict[str, Tensor]  # a state_dict
    seen: int  # bytes of text
    codec: Bytes | Pieces  # what its tokens are


# Settings that a model file does not have: it has the bounds of the forget gates themselves, and no rates or losses.
NOT_IN_FILES = ("decay_span", "lower_bounds", "target", "ratio_weight", "lr_multiplier", "residual_start", "router_lr")


def read(path: str | Path, wanted: object) -> Source:
    """A checkpoint, or a model file whose masters are spread again; what a file does not say is as `wanted`, a Config.

    ValueError when the bounds of a file's forget gates are not those of the wanted settings.
    """
    path = Path(path)
    if path.suffix != ".gguf":
        content = checkpoint.load(path)
        config = arch.config_from_dict(content["config"]["model"])
        return Source(path, config, content["model"], content["bytes_seen"], codec.of_keys(content.get("tokenizer")))
    from lm.file import gguf_file, gguf_layout  # need the package gguf, which a machine that only trains need not have

    keys, _ = gguf_file.read(path)
    loaded = gguf_file.load(path)
    values = {name: getattr(wanted, name) for name in NOT_IN_FILES if hasattr(wanted, name)}
    if wanted.architecture == "hnetbit" and loaded.config.architecture == "hgrnbit":
        values = {"decay_span": wanted.decay_span[0]}
    config = replace(loaded.config, **{k: v for k, v in values.items() if hasattr(loaded.config, k)})
    model, bounds = arch.build(config), gguf_layout.keep_of_blocks(loaded)
    if getattr(config, "lower_bounds", False):
        model.lower_bounds.data.copy_(learned_bounds(bounds))
    for name, keep in gguf_layout.keep_of_blocks(model).items():
        if not torch.allclose(keep, bounds[name], rtol=0, atol=1e-5):
            bound = "learned bounds" if getattr(config, "lower_bounds", False) else f"decay_span = {config.decay_span}"
            raise ValueError(f"{path}: the forget gates of {name} have other bounds than model.{bound} gives them")
    generator = torch.Generator().manual_seed(0)
    for linear in (module for module in loaded.modules() if isinstance(module, BitLinear) and module.ternary):
        linear.weight.data.copy_(spread(*weight_codes(linear.weight), generator))
    weights = {**model.state_dict(), **loaded.state_dict()}
    return Source(path, config, weights, int(keys.get("general.training_bytes", 0)), loaded.codec)


def read_for(model: nn.Module, path: str | Path) -> Source:
    """The same, for a model whose tokens have to be the same."""
    source = read(path, model.config)
    if source.codec.source != codec.of_model(model).source:
        raise ValueError(f"{path} has another tokenizer than data.tokenizer: its tokens are others")
    return source


def learned_bounds(bounds: dict[str, Tensor]) -> Tensor:
    """1 - bound [E] of each block -> the parameter [blocks, E] of which HGRNBit.keep_table makes them.

    A bound is the sum of the shares of the blocks up to it but for the first, whose share is what is left of 1.
    """
    kept = torch.stack([bounds[f"layers.{n}"] for n in range(len(bounds))])
    later = kept[:-1] - kept[1:]
    return torch.cat((kept[-1:], later)).clamp(min=1e-8).log()


def spread(codes: Tensor, scale: float, generator: torch.Generator) -> Tensor:
    """Masters that weight_codes turns into the same codes [rows, cols] and scale, spread as training spreads them.

    The zeros evenly up to where they would be rounded to one, the others from there on with an exponential tail as long as
    the scale, the mean of |w|, wants it. (In units of the scale, median and 95 % of the sizes: 0.25 and 0.48, 1.14 and 3.1;
    after 1.5 MB of training they were 0.27 and 0.48, 1.15 and 3.0.) Masters that are all alike would all change their code
    in the same step.
    """
    edge, zero = 0.5 * scale, codes == 0
    place = torch.rand(codes.shape, generator=generator, dtype=torch.float64)
    inside = (2 * place - 1) * (edge * (1 - BESIDE_THE_EDGE))
    excess = (-torch.log1p(-place)).clamp(max=LONGEST_TAIL).masked_fill(zero, 0)
    outside = edge * (1 + BESIDE_THE_EDGE)
    others = codes.numel() - int(zero.sum())
    missing = scale * codes.numel() - float(inside[zero].abs().sum()) - outside * others
    magnitude = outside + excess * (missing / max(float(excess.sum()), 1e-30))
    masters = torch.where(zero, inside, codes * magnitude).float()
    found, found_scale = weight_codes(masters)
    if others and (found_scale != scale or not torch.equal(found, codes)):
        raise ValueError(f"codes with the scale {scale} cannot be spread: they became {found_scale}")
    return masters


def grow(model: nn.Module, path: str | Path) -> int:
    """Fill a deeper model from a shallower one by repeating its blocks in order; returns the bytes that one had seen.

    Early in training a shallow model learns more per second, and the deeper one takes over what it learned
    (stacking: arXiv 2405.15319).
    """
    source, deep = read_for(model, path), model.config
    if not {source.config.architecture, deep.architecture} <= {"hgrnbit"}:
        names = f"{source.config.architecture} to {deep.architecture}"
        raise ValueError(f"{path}: only hgrnbit grows by repeating blocks, not {names}; start from its weights instead")
    if replace(source.config, layers=deep.layers) != deep or deep.layers % source.config.layers:
        raise ValueError(f"{path}: its settings {source.config} must differ in `layers` alone, and divide {deep}")
    if deep.lower_bounds:
        raise ValueError(f"{path}: learned lower bounds rise from block to block and cannot be repeated")
    weights = {}
    for name, value in source.weights.items():
        if not name.startswith("layers."):
            weights[name] = value
            continue
        _, number, rest = name.split(".", 2)
        for layer in range(int(number), deep.layers, source.config.layers):
            weights[f"layers.{layer}.{rest}"] = value
    model.load_state_dict(weights)
    return source.seen


def initialize(model: nn.Module, path: str | Path) -> int:
    """Gives the model the weights of a checkpoint or a model file; returns the bytes that they have seen.

    Its settings have to be the model's, or its model a flat one whose blocks fit (see `obstacle`).
    """
    source = read_for(model, path)
    if source.config.architecture == "hgrnbit" and model.config.architecture == "hnetbit":
        reason = obstacle(model.config, source.config)
        if reason:
            raise ValueError(f"{path}: {reason}")
        flat = arch.build(source.config)
        flat.load_state_dict(source.weights)
        fill(model, flat)
        return source.seen
    found = arch.config_to_dict(source.config)
    for name, value in arch.config_to_dict(model.config).items():
        if found.get(name) != value:
            raise ValueError(
                f"{path} has model.{name} = {found.get(name)!r}, the settings say {value!r}: not its weights"
            )
    model.load_state_dict(source.weights)
    return source.seen


# ---- a hierarchical model of a flat one


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
