"""The architectures that can be trained, by their name in `[model] architecture` and in a model file.

Each is a module here, imported when it is asked for, with two classes.

Config, a frozen dataclass: the keys of [model].
    architecture: ClassVar[str]              its name
    vocab_size: int
    from_dict(values) -> Config              ValueError names a key nobody knows or a value out of range

Model(config), an nn.Module: all that training, scoring and sampling know of an architecture.
    config, embeddings (lm.arch.ternary.Embedding), lm_head (.BitLinear)
    initial_states(batch) -> states          nested lists and tuples of tensors (first dimension: row of the batch), None
                                             and plain values: what is carried from one window of a text to the next
    model(tokens [B,T], states=None) -> (logits [B,T,V], states)       logits of the byte after each position
    step(token [B], states) -> (logits [B,V], states)                  the same, one byte at a time
    loss(tokens, targets, states=None, lesson=None) -> (loss, states, statistics)
                                             lm.arch.losses.byte_loss, plus terms of its own (a penalty, say). Statistics are a
                                             dict of scalars to be logged; "nats" is the mean cross entropy per byte.
    block_forward(block, ...)                what calls each of its HGRN-bit blocks; lm.fast.cpu_kernels replaces it
    lr_multiplier(name) -> float             optional: factor on the learning rate of the parameter of that name
    skips_parameters: bool                   optional: whether a step may leave parameters without a gradient
"""

import importlib
from dataclasses import asdict
from types import ModuleType

NAMES = ("hgrnbit", "hnetbit", "bitmamba2", "bitnet")  # each the name of a module here
DEFAULT = "hgrnbit"


def module_of(name: str) -> ModuleType:
    """The module of an architecture; ValueError when there is none of that name."""
    if name not in NAMES:
        raise ValueError(f"model.architecture must be one of {', '.join(NAMES)}, got {name!r}")
    return importlib.import_module(f".{name}", __package__)


def config_from_dict(values: dict):
    """The Config of the architecture that values["architecture"] names; hgrnbit without the key, as in old checkpoints."""
    values = dict(values)
    return module_of(values.pop("architecture", DEFAULT)).Config.from_dict(values)


def config_to_dict(config) -> dict:
    """What `config_from_dict` reads."""
    return {"architecture": config.architecture, **asdict(config)}


def build(config):
    """An untrained model."""
    return module_of(config.architecture).Model(config)
