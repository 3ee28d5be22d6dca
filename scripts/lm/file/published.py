"""Which published checkpoints are read: their settings, what their tensors are called here, and the shapes these must have.

MatMul-free LM (ridgerchu/matmulfreellm, arXiv 2406.02528) and BitNet (as transformers has it: 2B-4T, Falcon-E, other llama
models with 1.58 bits) from their config.json, BitMamba-2 (Zhayr1/bitmamba.cpp) from the head of its .bin. What a checkpoint asks for that the architecture here does not compute is refused with its name.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from lm import arch
from lm.arch import bitmamba2, bitnet, hgrnbit
from lm.file import gguf_layout
from lm.file.weights import Checkpoint, unpacked

BOUNDS = "lower_bounds"  # [layers, E]: one tensor for all blocks
BIT_LINEAR_EPS = 1e-6  # of the norm inside their BitLinear, whatever config.json says of the others


@dataclass(frozen=True)
class Published:
    """config: of the model here; their_name: of a parameter here; shapes: of every parameter, by its name here;
    prepare: the tensors as they are stored -> the tensors."""

    config: object
    their_name: Callable[[str], str]
    shapes: dict[str, tuple[int, ...]]
    prepare: Callable[[Checkpoint], Checkpoint] = field(default=lambda checkpoint: checkpoint)

    @property
    def rows(self) -> list[tuple[str, str, str]]:
        """(GGUF tensor, parameter, kind) as lm.file.gguf_layout.rows gives them, in the order of the file."""
        narrow = {"vocab_size": 1, "hidden": 1}
        if self.config.architecture == "bitnet":
            narrow |= {"intermediate": 1, "heads": 1, "kv_heads": 1, "head_width": 4, "frequencies": ()}
        else:
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
    if kind == "bitnet" or (kind == "llama" and _quantization(values).get("quant_method") == "bitnet"):
        return of_bitnet(values)
    if kind != "hgrn_bit":
        raise ValueError(
            f"config.json: model_type is {kind!r}; expected 'hgrn_bit' (MatMul-free LM), 'bitnet', or 'llama' with a "
            "quantization_config of bitnet; BitMamba-2 comes as a .bin"
        )
    number, only = _checks(values)
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


def _checks(values: dict) -> tuple[Callable, Callable]:
    """-> number(key, otherwise, low=1), only(key, otherwise, known): settings of a config.json, or ValueError."""

    def number(key: str, otherwise: int | None, low: int = 1) -> int:
        value = values.get(key, otherwise)
        if not isinstance(value, int) or isinstance(value, bool) or value < low:
            raise ValueError(f"config.json: {key} is {value!r}; expected a whole number of at least {low}")
        return value

    def only(key: str, otherwise: object, known: tuple) -> None:
        value = values.get(key, otherwise)
        if value not in known:
            raise ValueError(f"config.json: {key} is {value!r}; only {' or '.join(map(repr, known))} is computed here")

    return number, only


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


# ---- BitNet, and llama models whose matrices are ternary


def _quantization(values: dict) -> dict:
    found = values.get("quantization_config")
    return found if isinstance(found, dict) else {}


def of_bitnet(values: dict) -> Published:
    """A config.json of model_type bitnet or llama. ValueError: a setting that the architecture here does not have.

    Which way a packed matrix has its scale is said by linear_class alone: AutoBitLinear multiplies by it, BitLinear, which
    is meant where nothing is said, divides.
    """
    number, only = _checks(values)
    own = values["model_type"] == "bitnet"
    only("hidden_act", "relu2" if own else "silu", ("relu2", "silu"))
    for key in ("attention_bias", "mlp_bias"):
        only(key, False, (False,))
    quantization = _quantization(values)
    kind = quantization.get("linear_class", "bitlinear")
    if kind not in ("bitlinear", "autobitlinear"):
        raise ValueError(
            f"config.json: quantization_config.linear_class is {kind!r}; expected 'autobitlinear', whose scales multiply, "
            "or 'bitlinear' (or nothing), whose scales divide: with the wrong one a model writes word salad"
        )
    if quantization.get("use_rms_norm"):
        raise ValueError("config.json: quantization_config.use_rms_norm is true; expected no norms inside the matrices")
    rope = values.get("rope_parameters") or values.get("rope_scaling") or {}
    if rope.get("rope_type", rope.get("type", "default")) != "default":
        raise ValueError(f"config.json: the rotation is scaled ({rope}); only the plain one is computed here")
    base = values.get("rope_theta", rope.get("rope_theta", 500000.0 if own else 10000.0))
    eps = values.get("rms_norm_eps", 1e-5 if own else 1e-6)
    if not all(isinstance(v, (int, float)) and not isinstance(v, bool) and v > 0 for v in (base, eps)):
        raise ValueError(f"config.json: rope_theta is {base!r}, rms_norm_eps {eps!r}; expected numbers above 0")
    heads, hidden = number("num_attention_heads", None), number("hidden_size", None)
    config = bitnet.Config(
        vocab_size=number("vocab_size", None, 2),
        hidden=hidden,
        intermediate=number("intermediate_size", None),
        layers=number("num_hidden_layers", None),
        heads=heads,
        kv_heads=heads if values.get("num_key_value_heads") is None else number("num_key_value_heads", None),
        head_width=hidden // heads if values.get("head_dim") is None else number("head_dim", None, 4),
        context=number("max_position_embeddings", 2048, 2),
        activation=values.get("hidden_act", "relu2" if own else "silu"),
        sub_norms=own,
        tied=bool(values.get("tie_word_embeddings", False)),
        rope_base=float(base),
        eps=float(eps),
    )

    def prepare(checkpoint: Checkpoint) -> Checkpoint:
        copies = {"lm_head.weight"} if config.tied else set()  # some files have the embedding twice
        kept = {name: weight for name, weight in checkpoint.items() if name not in copies}
        return unpacked(kept, divides=kind == "bitlinear")

    return Published(config, _bitnet_name, bitnet_shapes(config), prepare)


BITNET_NAMES = {
    "embeddings.": "embed_tokens.",
    ".attn_norm.": ".input_layernorm.",
    ".mlp_norm.": ".post_attention_layernorm.",
    ".attn.sub_norm.": ".self_attn.attn_sub_norm.",
    ".mlp.sub_norm.": ".mlp.ffn_sub_norm.",
    ".attn.": ".self_attn.",
}


def _bitnet_name(parameter: str) -> str:
    name = parameter
    for ours, theirs in BITNET_NAMES.items():
        name = name.replace(ours, theirs)
    return name if name.startswith("lm_head.") else f"model.{name}"


def bitnet_shapes(c: bitnet.Config) -> dict[str, tuple[int, ...]]:
    queries, keys = c.heads * c.head_width, c.kv_heads * c.head_width
    block = {
        "attn_norm.weight": (c.hidden,),
        "attn.q_proj.weight": (queries, c.hidden),
        "attn.k_proj.weight": (keys, c.hidden),
        "attn.v_proj.weight": (keys, c.hidden),
        "attn.o_proj.weight": (c.hidden, queries),
        "mlp_norm.weight": (c.hidden,),
        "mlp.gate_proj.weight": (c.intermediate, c.hidden),
        "mlp.up_proj.weight": (c.intermediate, c.hidden),
        "mlp.down_proj.weight": (c.hidden, c.intermediate),
    }
    if c.sub_norms:
        block |= {"attn.sub_norm.weight": (queries,), "mlp.sub_norm.weight": (c.intermediate,)}
    ends = {"embeddings.weight": (c.vocab_size, c.hidden), "norm.weight": (c.hidden,)}
    if not c.tied:
        ends["lm_head.weight"] = (c.vocab_size, c.hidden)
    return ends | {f"layers.{n}.{name}": shape for n in range(c.layers) for name, shape in block.items()}


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
