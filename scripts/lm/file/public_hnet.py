"""Checkpoints of the public HNet-bit code (jcv-dev/hnet_bit, before: simplified_slm) become a model of arch/hnetbit.py.

What is handled:
- any number of stages, found in the names of the tensors; widths of any size; a recurrent state wider than the model
  (their expand_ratio); their num_heads, which only reshapes a recurrence that works element by element
- the shared short convolution; DistributedDataParallel and torch.compile prefixes; bf16 and fp16 weights
- matrices that an earlier export already made ternary keep their codes and scale instead of being quantised again
What differs afterwards: routers and residual projections, float there, become int8 rows, and their activations int8.
What is refused, with the names of the tensors: separate convolutions per projection, biases, attention layers, learned
lower bounds, packed weights, missing or misshapen tensors.

A published fault that no import can undo: their data loader shifts the labels and so does their model, and what was
trained with both predicts the byte after the next one.  `shift_of` measures which byte a model predicts.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from lm.arch.hnetbit import Config, HNetBit
from lm.arch.ternary import weight_codes
from lm.file.weights import open_file, open_folder
from lm.text.encoding import BOS


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a file of safetensors or torch.save, or of a folder as it comes from the hub."""
    tensors = open_folder(path)[0] if path.is_dir() else open_file(path)
    return {name: weight.load() for name, weight in tensors.items()}


# ---- names


def our_name(name: str, stages: int) -> str | None:
    """The parameter of HNetBit that a tensor of theirs becomes; None if there is none."""
    if name in ("embeddings.weight", "lm_head.weight", "lm_head.norm.weight"):
        return name
    if not name.startswith("backbone."):
        return None
    rest, s = name.removeprefix("backbone."), 0
    while s < stages and rest.startswith("main_network."):
        rest, s = rest.removeprefix("main_network."), s + 1
    if rest == "pad_dimension" and s > 0:
        return f"stages.{s - 1}.pad"
    if s == stages:
        return f"main.{_inside(rest.removeprefix('main_network.'))}" if rest.startswith("main_network.") else None
    part, _, inside = rest.partition(".")
    if part in ("encoder", "decoder"):
        return f"stages.{s}.{part}.{_inside(inside)}"
    others = {
        "routing_module.q_proj_layer.weight": "router_q.weight",
        "routing_module.k_proj_layer.weight": "router_k.weight",
        "residual_proj.weight": "residual.weight",
        "residual_proj.bias": "residual.bias",
    }
    return f"stages.{s}.{others[rest]}" if rest in others else None


def _inside(name: str) -> str:
    """A tensor inside a stack: the same name but for the convolution."""
    return name.replace(".attn.h_conv1d.weight", ".attn.conv.weight")


def config_of(weights: dict[str, Tensor], eps: float) -> Config:
    """The settings, from names and shapes."""
    stages = 0
    while "backbone." + "main_network." * stages + "routing_module.q_proj_layer.weight" in weights:
        stages += 1
    if stages == 0:
        raise ValueError(
            "expected backbone.routing_module.q_proj_layer.weight, found none: only hierarchical models are read here"
        )
    named = {our_name(name, stages): value for name, value in weights.items()}

    def stack(prefix: str) -> tuple[int, tuple[int, int, int]]:
        """Blocks of a stack and (hidden, recurrent, intermediate)."""
        blocks = {
            name.split("layers.")[1].split(".")[0] for name in named if name and name.startswith(f"{prefix}.layers.")
        }
        o = named.get(f"{prefix}.layers.0.attn.o_proj.weight")
        down = named.get(f"{prefix}.layers.0.mlp.down_proj.weight")
        if o is None or down is None:
            raise ValueError(f"expected blocks with attn.o_proj and mlp.down_proj in {prefix}, found none")
        return len(blocks), (*o.shape, down.shape[1])

    encoders = [stack(f"stages.{s}.encoder") for s in range(stages)]
    decoders = [stack(f"stages.{s}.decoder") for s in range(stages)]
    layers, inner = stack("main")
    hidden, recurrent, intermediate = zip(*[sizes for _, sizes in encoders], inner)
    conv = named.get("stages.0.encoder.layers.0.attn.conv.weight")
    return Config(
        hidden=hidden,
        recurrent=recurrent,
        intermediate=intermediate,
        encoder=tuple(blocks for blocks, _ in encoders),
        decoder=tuple(blocks for blocks, _ in decoders),
        layers=layers,
        router=hidden[:-1],
        target=(2.5,) * stages,  # their default; only for information
        lr_multiplier=(1.0,) * (stages + 1),
        decay_span=(0.0,) * (stages + 1),
        conv_kernel=conv.shape[-1] if conv is not None else 0,
        eps=eps,
    )


# ---- weights


def model_of(weights: dict[str, Tensor], eps: float = 1e-6) -> HNetBit:
    """The model of a state_dict of theirs; ValueError lists the tensors that are unknown, missing or misshapen."""
    packed = [name for name, value in weights.items() if not value.is_floating_point()]
    if packed:
        raise ValueError(
            f"expected floating-point weights, found packed ones; import the checkpoint: {_listed(packed)}"
        )
    config = config_of(weights, eps)
    model = HNetBit(config)
    names = {name: our_name(name, len(config.router)) for name in weights}
    wanted = model.state_dict()
    unknown = [name for name, ours in names.items() if ours not in wanted]
    if unknown:
        raise ValueError(f"these tensors have no equivalent in hnetbit: {_listed(unknown)}")
    missing = [n for n, value in wanted.items() if n not in names.values() and value.numel() > 0]
    if missing:
        raise ValueError(f"these tensors (by their names in lm/arch/hnetbit.py) are missing: {_listed(missing)}")
    misshapen = [
        f"{name} {list(weights[name].shape)}, expected {list(wanted[ours].shape)}"
        for name, ours in names.items()
        if weights[name].shape != wanted[ours].shape
    ]
    if misshapen:
        raise ValueError(f"these tensors do not fit together: {_listed(misshapen)}")
    for name, ours in names.items():
        wanted[ours] = weights[name].float()
        if wanted[ours].ndim == 2 and f"{ours.removesuffix('weight')}norm.weight" in wanted:
            wanted[ours] = keep_if_ternary(wanted[ours])
    model.load_state_dict(wanted)
    return model.eval()


def keep_if_ternary(w: Tensor) -> Tensor:
    """A matrix that already has the values -s, 0 and s: the masters that are quantised to the same codes and scale s.

    The scale of a matrix is the mean of |w|, which zeros make smaller than s.
    """
    magnitudes = w.abs()
    top = magnitudes.max()
    if top == 0 or not bool(((magnitudes == 0) | (magnitudes == top)).all()):
        return w
    masters = w * (w.numel() / int(w.count_nonzero()))
    codes, scale = weight_codes(masters)
    if not torch.equal(codes, w.sign().to(torch.int8)) or abs(scale - float(top)) > float(top) / 1024:
        raise ValueError(f"a ternary matrix of scale {float(top)} would change: its scale became {scale}")
    return masters


def _listed(names: list[str]) -> str:
    shown = ", ".join(sorted(names)[:12])
    return shown if len(names) <= 12 else f"{shown} and {len(names) - 12} more"


@torch.no_grad()
def shift_of(model: HNetBit, tokens: np.ndarray) -> tuple[float, float]:
    """Bits per byte of the text's bytes as the next one, as it should be, and as the one after the next."""
    stream = torch.from_numpy(np.concatenate(([BOS], tokens)).astype(np.int64))
    logits, _ = model(stream[None, :-2])
    nats = [F.cross_entropy(logits[0], stream[k : len(stream) - 2 + k]) for k in (1, 2)]
    return tuple(float(value) / float(np.log(2)) for value in nats)
