"""Which published checkpoints are read: their settings, what their tensors are called here, and the shapes these must have.

MatMul-free LM (ridgerchu/matmulfreellm, arXiv 2406.02528) from its config.json, BitMamba-2 (Zhayr1/bitmamba.cpp) from the
head of its .bin. What a checkpoint asks for that the architecture here does not compute is refused with its name.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from lm import arch
from lm.arch import bitmamba2, hgrnbit
from lm.file import gguf_layout
from lm.file.weights import Checkpoint

BOUNDS = "lower_bounds"  # [layers, E]: one tensor for all blocks
BIT_LINEAR_EPS = 1e-6  # of the norm inside their BitLinear, whatever config.json says of the others


@dataclass(frozen=True)
class Published:
    """config: of the model here; their_name: of a parameter here; shapes: of every parameter, by its name here."""

    config: object
    their_name: Callable[[str], str]
    shapes: dict[str, tuple[int, ...]]

    @property
    def rows(self) -> list[tuple[str, str, str]]:
        """(GGUF tensor, parameter, kind) as lm.file.gguf_layout.rows gives them, in the order of the file."""
        narrow = {"vocab_size": 1, "hidden": 1}
        narrow |= {"inner": 1, "heads": 1} if hasattr(self.config, "inner") else {"recurrent": 1, "intermediate": 1}
        model = arch.build(replace(self.config, **narrow))  # the names come from a model with no width to speak of
        return list(gguf_layout.rows(model, bounded=getattr(self.config, "lower_bounds", False)))

    def parameters(self) -> list[str]:
        """The parameters here that must be in the checkpoint."""
        names = []
        for _, parameter, kind in self.rows:
            if kind == "ternary":
                names += [f"{parameter}.norm.weight", f"{parameter}.weight"]
            elif kind != "lower_bound":
                names.append(parameter)
        return names + ([BOUNDS] if getattr(self.config, "lower_bounds", False) else [])

    def check(self, checkpoint: Checkpoint) -> None:
        """ValueError lists the tensors that are missing, unknown, misshapen, or of numbers that are not weights."""
        wanted = {self.their_name(name): self.shapes[name] for name in self.parameters()}
        faults = {
            "are missing": [name for name in wanted if name not in checkpoint],
            "have no equivalent here": [name for name in checkpoint if name not in wanted],
            "do not fit the settings": [
                f"{name} {list(checkpoint[name].shape)}, expected {list(shape)}"
                for name, shape in wanted.items()
                if name in checkpoint and checkpoint[name].shape != shape
            ],
            "are packed in a way that is not known here (convert the checkpoint with its master weights)": [
                name for name in wanted if name in checkpoint and not checkpoint[name].floating
            ],
        }
        found = [f"these tensors {what}: {listed(names)}" for what, names in faults.items() if names]
        if found:
            raise ValueError("; ".join(found))


def listed(names: list[str]) -> str:
    shown = ", ".join(sorted(names)[:8])
    return shown if len(names) <= 8 else f"{shown} and {len(names) - 8} more"


# ---- MatMul-free LM


def of_config_json(values: dict) -> Published:
    """ValueError: another kind of model, or a setting that the architecture here does not have."""
    kind = values.get("model_type")
    if kind != "hgrn_bit":
        raise ValueError(
            f"config.json: model_type is {kind!r}; expected 'hgrn_bit' (MatMul-free LM); BitMamba-2 comes as a .bin"
        )

    def number(key: str, otherwise: int | None, low: int = 1) -> int:
        value = values.get(key, otherwise)
        if not isinstance(value, int) or isinstance(value, bool) or value < low:
            raise ValueError(f"config.json: {key} is {value!r}; expected a whole number of at least {low}")
        return value

    def only(key: str, otherwise: object, known: tuple) -> None:
        value = values.get(key, otherwise)
        if value not in known:
            raise ValueError(f"config.json: {key} is {value!r}; only {' or '.join(map(repr, known))} is computed here")

    only("hidden_act", "swish", ("swish", "silu"))
    only("tie_word_embeddings", False, (False,))
    only("rms_norm_eps", BIT_LINEAR_EPS, (BIT_LINEAR_EPS,))
    convolution = bool(values.get("use_short_conv", False))
    if convolution:
        only("share_conv_kernel", True, (True,))
    hidden = number("hidden_size", 2048)
    expand = values.get("expand_ratio", 1)
    intermediate = values.get("intermediate_size")
    if intermediate is None:  # two thirds of hidden_ratio times the width, on whole blocks of 256
        ratio = values.get("hidden_ratio") or 4
        intermediate = -(-int(hidden * ratio * 2 / 3) // 256) * 256
    config = hgrnbit.Config(
        vocab_size=number("vocab_size", 32000, 2),
        hidden=hidden,
        recurrent=int(hidden * expand),
        intermediate=intermediate,
        layers=number("num_hidden_layers", 24),
        conv_kernel=number("conv_size", 4, 2) if convolution else 0,
        lower_bounds=bool(values.get("use_lower_bound", True)),
    )
    return Published(config, _hgrnbit_name, hgrnbit_shapes(config))


def _hgrnbit_name(parameter: str) -> str:
    name = parameter.replace(".attn.conv.", ".attn.h_conv1d.")
    return name if name.startswith("lm_head.") else f"model.{name}"


def hgrnbit_shapes(c: hgrnbit.Config) -> dict[str, tuple[int, ...]]:
    linear = {
        "attn.i_proj": (c.recurrent, c.hidden),
        "attn.f_proj": (c.recurrent, c.hidden),
        "attn.g_proj": (c.recurrent, c.hidden),
        "attn.o_proj": (c.hidden, c.recurrent),
        "mlp.gate_proj": (2 * c.intermediate, c.hidden),
        "mlp.down_proj": (c.hidden, c.intermediate),
    }
    block = {
        "attn_norm.weight": (c.hidden,),
        "attn.g_norm.weight": (c.recurrent,),
        "mlp_norm.weight": (c.hidden,),
        **_bit_linears(linear),
    }
    if c.conv_kernel:
        block["attn.conv.weight"] = (c.hidden, 1, c.conv_kernel)
    bounds = {BOUNDS: (c.layers, c.recurrent)} if c.lower_bounds else {}
    return _whole(c, block) | bounds


# ---- BitMamba-2


def of_bitmamba(settings: dict[str, int], checkpoint: Checkpoint) -> Published:
    """settings: of the file's head; the number of convolution taps is in the shapes."""
    hidden, heads = settings["d_model"], settings["n_heads"]
    taps = checkpoint["layers.0.conv1d.weight"].shape[-1]
    config = bitmamba2.Config(
        vocab_size=settings["vocab_size"],
        hidden=hidden,
        inner=2 * hidden,
        heads=heads,
        layers=settings["n_layers"],
        conv_kernel=taps,
    )
    return of_bitmamba_config(config)


def of_bitmamba_config(config: bitmamba2.Config) -> Published:
    return Published(config, _bitmamba_name, bitmamba2_shapes(config))


def _bitmamba_name(parameter: str) -> str:
    whole = {"embeddings.weight": "embed.weight", "norm.weight": "norm_f.weight"}
    if parameter in whole:
        return whole[parameter]
    start, _, last = parameter.rpartition(".")
    parts = {"a_log": f"{start}.A_log", "skip": f"{start}.D"}
    return parts.get(last, parameter.replace(".conv.", ".conv1d."))


def bitmamba2_shapes(c: bitmamba2.Config) -> dict[str, tuple[int, ...]]:
    linear = {"in_proj": (2 * c.inner + 3 * c.heads, c.hidden), "out_proj": (c.hidden, c.inner)}
    block = {
        **_bit_linears(linear),
        "conv.weight": (c.inner, 1, c.conv_kernel),
        "conv.bias": (c.inner,),
        "dt_bias": (c.heads,),
        "a_log": (c.heads,),
        "skip": (c.inner,),
    }
    return _whole(c, block)


# ---- shared


def _bit_linears(linear: dict[str, tuple[int, int]]) -> dict[str, tuple[int, ...]]:
    norms = {f"{name}.norm.weight": shape[1:] for name, shape in linear.items()}
    return {f"{name}.weight": shape for name, shape in linear.items()} | norms


def _whole(c: object, block: dict[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """A model of c.layers such blocks between an embedding, a norm and a ternary head."""
    ends = {"embeddings.weight": (c.vocab_size, c.hidden), "norm.weight": (c.hidden,)}
    ends |= _bit_linears({"lm_head": (c.vocab_size, c.hidden)})
    return ends | {f"layers.{n}.{name}": shape for n in range(c.layers) for name, shape in block.items()}
