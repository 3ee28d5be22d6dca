"""What a model file holds, per architecture: which key is which setting, which tensor is which parameter.

The tables here are the writer's side of models/FORMAT.md; tests/py/test_format.py compares the two.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

import numpy as np
import torch
from torch import Tensor, nn

from lm import arch
from lm.arch import bitmamba2, bitnet, hgrnbit, hnetbit
from lm.file import checksum
from lm.text.encoding import BOS, EOS

# key -> type, in the order of FORMAT.md; "u32[]" is an array
GENERAL_KEYS = {
    "general.architecture": "string",
    "general.alignment": "u32",
    "general.name": "string",
    "general.description": "string",
    "general.license": "string",
    "general.training_text": "string",
    "general.training_bytes": "u64",
    "general.source": "string",
    "general.source_sha256": "string",
    "general.file_type": "u32",
    "general.quantization_version": "u32",
}
TOKENIZER_KEYS = {
    "tokenizer.ggml.model": "string",
    "tokenizer.ggml.bos_token_id": "u32",
    "tokenizer.ggml.eos_token_id": "u32",
    "tokenizer.ggml.eot_token_id": "u32",
    "tokenizer.ggml.add_bos_token": "bool",
    "tokenizer.ggml.tokens": "string[]",
    "tokenizer.ggml.token_type": "i32[]",
    "tokenizer.ggml.merges": "string[]",
    "tokenizer.ggml.add_space_prefix": "bool",
    "tokenizer.ternlm.split": "string[]",
    "tokenizer.ternlm.ignore_merges": "bool",
    "tokenizer.huggingface.json": "string",
    "tokenizer.chat_template": "string",
    "tokenizer.ternlm.chat.system": "string",
    "tokenizer.ternlm.chat.user": "string",
    "tokenizer.ternlm.chat.assistant": "string",
    "tokenizer.ternlm.chat.reply": "string",
}
BYTES = {  # the tokenizer of a model that reads bytes
    "tokenizer.ggml.model": "byte",
    "tokenizer.ggml.bos_token_id": BOS,
    "tokenizer.ggml.eos_token_id": EOS,
}
ARCHITECTURE_KEYS = {
    "hgrnbit": {
        "hgrnbit.block_count": "u32",
        "hgrnbit.embedding_length": "u32",
        "hgrnbit.recurrent_length": "u32",
        "hgrnbit.feed_forward_length": "u32",
        "hgrnbit.vocab_size": "u32",
        "hgrnbit.norm_rms_epsilon": "f32",
        "hgrnbit.conv_kernel": "u32",
        "hgrnbit.gate_norm": "string",
        "hgrnbit.sigmoid": "string",
    },
    "hnetbit": {
        "hnetbit.embedding_length": "u32[]",
        "hnetbit.recurrent_length": "u32[]",
        "hnetbit.feed_forward_length": "u32[]",
        "hnetbit.encoder_block_count": "u32[]",
        "hnetbit.decoder_block_count": "u32[]",
        "hnetbit.block_count": "u32",
        "hnetbit.router_length": "u32[]",
        "hnetbit.target_chunk_length": "f32[]",
        "hnetbit.vocab_size": "u32",
        "hnetbit.norm_rms_epsilon": "f32",
        "hnetbit.conv_kernel": "u32",
        "hnetbit.gate_norm": "string",
        "hnetbit.sigmoid": "string",
    },
    "bitmamba2": {
        "bitmamba2.block_count": "u32",
        "bitmamba2.embedding_length": "u32",
        "bitmamba2.inner_length": "u32",
        "bitmamba2.head_count": "u32",
        "bitmamba2.vocab_size": "u32",
        "bitmamba2.norm_rms_epsilon": "f32",
        "bitmamba2.conv_kernel": "u32",
    },
    "bitnet": {
        "bitnet.block_count": "u32",
        "bitnet.embedding_length": "u32",
        "bitnet.feed_forward_length": "u32",
        "bitnet.head_count": "u32",
        "bitnet.head_count_kv": "u32",
        "bitnet.head_length": "u32",
        "bitnet.context_length": "u32",
        "bitnet.rope_frequencies": "u32[]",
        "bitnet.activation": "string",
        "bitnet.vocab_size": "u32",
        "bitnet.norm_rms_epsilon": "f32",
    },
}

# (GGUF tensor, parameter of the PyTorch model, kind). Some kinds stand for more than one tensor: "ternary" for
# NAME.in_norm.weight (the norm inside the BitLinear) and NAME.weight, "embedding" and "dense" for NAME.weight and
# NAME.scale, "block", "ssm_block", "attn_block" and "stage" for a table of which all names go behind NAME. N is the number
# of a block, S of a stage. "matrix": ternary without a norm. "exp": the file has exp(parameter).
TENSORS = {
    "hgrnbit": (
        ("token_embd", "embeddings.weight", "embedding"),
        ("blk.N", "layers.N", "block"),
        ("output_norm.weight", "norm.weight", "vector"),
        ("output", "lm_head", "ternary"),
    ),
    "hnetbit": (
        ("token_embd", "embeddings.weight", "embedding"),
        ("stage.S", "stages.S", "stage"),
        ("blk.N", "main.layers.N", "block"),
        ("main_norm.weight", "main.norm.weight", "vector"),
        ("output", "lm_head", "ternary"),
    ),
    "bitmamba2": (
        ("token_embd", "embeddings.weight", "embedding"),
        ("blk.N", "layers.N", "ssm_block"),
        ("output_norm.weight", "norm.weight", "vector"),
        ("output", "lm_head", "ternary"),
    ),
    "bitnet": (
        ("token_embd", "embeddings.weight", "embedding"),
        ("blk.N", "layers.N", "attn_block"),
        ("output_norm.weight", "norm.weight", "vector"),
        ("output", "lm_head.weight", "dense"),
    ),
}
STAGE_TENSORS = (
    ("enc.N", "encoder.layers.N", "block"),
    ("enc_norm.weight", "encoder.norm.weight", "vector"),
    ("router_q", "router_q.weight", "dense"),
    ("router_k", "router_k.weight", "dense"),
    ("pad", "pad", "vector"),
    ("residual", "residual.weight", "dense"),
    ("residual.bias", "residual.bias", "vector"),
    ("dec.N", "decoder.layers.N", "block"),
    ("dec_norm.weight", "decoder.norm.weight", "vector"),
)
BLOCK_TENSORS = (
    ("attn_norm.weight", "attn_norm.weight", "vector"),
    ("conv.weight", "attn.conv.weight", "conv"),
    ("lower_bound", "", "lower_bound"),
    ("attn_i", "attn.i_proj", "ternary"),
    ("attn_f", "attn.f_proj", "ternary"),
    ("attn_g", "attn.g_proj", "ternary"),
    ("gate_norm.weight", "attn.g_norm.weight", "vector"),
    ("attn_o", "attn.o_proj", "ternary"),
    ("ffn_norm.weight", "mlp_norm.weight", "vector"),
    ("ffn_gate_up", "mlp.gate_proj", "ternary"),
    ("ffn_down", "mlp.down_proj", "ternary"),
)
SSM_TENSORS = (
    ("ssm_in", "in_proj", "ternary"),
    ("conv.weight", "conv.weight", "conv"),
    ("conv.bias", "conv.bias", "vector"),
    ("ssm_dt.bias", "dt_bias", "vector"),
    ("ssm_rate", "a_log", "exp"),
    ("ssm_skip", "skip", "vector"),
    ("ssm_out", "out_proj", "ternary"),
)
ATTENTION_TENSORS = (
    ("attn_norm.weight", "attn_norm.weight", "vector"),
    ("attn_q.weight", "attn.q_proj.weight", "matrix"),
    ("attn_k.weight", "attn.k_proj.weight", "matrix"),
    ("attn_v.weight", "attn.v_proj.weight", "matrix"),
    ("attn_sub_norm.weight", "attn.sub_norm.weight", "vector"),
    ("attn_o.weight", "attn.o_proj.weight", "matrix"),
    ("ffn_norm.weight", "mlp_norm.weight", "vector"),
    ("ffn_gate.weight", "mlp.gate_proj.weight", "matrix"),
    ("ffn_up.weight", "mlp.up_proj.weight", "matrix"),
    ("ffn_sub_norm.weight", "mlp.sub_norm.weight", "vector"),
    ("ffn_down.weight", "mlp.down_proj.weight", "matrix"),
)
TABLES = {"block": BLOCK_TENSORS, "ssm_block": SSM_TENSORS, "attn_block": ATTENTION_TENSORS, "stage": STAGE_TENSORS}

PARTS = {"ternary": (".in_norm.weight", ".weight"), "embedding": (".weight", ".scale"), "dense": (".weight", ".scale")}


def keys_of(architecture: str) -> dict[str, str]:
    """Every key a file of this architecture can have, and its type."""
    return GENERAL_KEYS | ARCHITECTURE_KEYS[architecture] | TOKENIZER_KEYS | {checksum.KEY: "string"}


def tensor_names(architecture: str) -> list[str]:
    """Every tensor name a file can have, with N for the block and S for the stage."""

    def names(table: tuple, prefix: str) -> Iterator[str]:
        for name, _, kind in table:
            if kind in TABLES:
                yield from names(TABLES[kind], f"{prefix}{name}.")
            else:
                yield from (prefix + name + part for part in PARTS.get(kind, ("",)))

    return list(names(TENSORS[architecture], ""))


def rows(model: nn.Module, bounded: bool) -> Iterator[tuple[str, str, str]]:
    """(GGUF tensor, parameter, kind) of everything that this model has, with the numbers of blocks and stages.

    bounded: whether blocks have lower bounds. Of a "lower_bound" the parameter is the name of its block, see
    `keep_of_blocks`.
    """
    parameters = dict(model.named_parameters())

    def expand(table: tuple, at: str, parameter_at: str) -> Iterator[tuple[str, str, str]]:
        for name, parameter, kind in table:
            name, parameter = at + name, parameter_at + parameter
            if kind == "stage":
                for s in range(len(model.stages)):
                    yield from expand(STAGE_TENSORS, f"stage.{s}.", f"stages.{s}.")
            elif kind in TABLES:
                count = len(model.get_submodule(parameter.removesuffix(".N")))
                for inside, parameter_inside, inside_kind in TABLES[kind]:
                    for n in range(count):
                        block, parameter_block = name.replace("N", str(n)), parameter.replace("N", str(n))
                        if inside_kind == "lower_bound" and bounded:
                            yield f"{block}.{inside}", parameter_block, inside_kind
                        elif inside_kind == "ternary" or f"{parameter_block}.{parameter_inside}" in parameters:
                            yield f"{block}.{inside}", f"{parameter_block}.{parameter_inside}", inside_kind
            elif kind == "ternary" or (parameter in parameters and parameters[parameter].numel() > 0):
                # a tied head is no parameter, levels of one width have an empty pad
                yield name, parameter, kind

    return expand(TENSORS[model.config.architecture], "", "")


def keep_of_blocks(model: nn.Module) -> dict[str, Tensor]:
    """1 - lower bound of the forget gate [E], by the name of the block in the PyTorch model."""
    if model.config.architecture in ("bitmamba2", "bitnet"):
        return {}
    if model.config.architecture == "hgrnbit":
        return {f"layers.{n}": keep for n, keep in enumerate(model.keep_table().detach())}
    stacks = [(name, module) for name, module in model.named_modules() if isinstance(module, hnetbit.Stack)]
    return {f"{name}.layers.{n}": keep for name, stack in stacks for n, keep in enumerate(stack.keep)}


def set_keep_of_blocks(model: nn.Module, kept: dict[str, Tensor]) -> None:
    """The file has the bounds, not the setting they were made from; a block that `kept` does not name has none."""
    for name, keep in keep_of_blocks(model).items():
        keep.copy_(kept.get(name, torch.ones_like(keep)))
    if model.config.architecture == "hgrnbit":
        no_bound = torch.ones(model.config.recurrent)
        table = torch.stack([kept.get(f"layers.{n}", no_bound) for n in range(model.config.layers)])
        model.keep_table = lambda: table


# ---- settings


def keys_from_config(config: object) -> dict:
    """The values of the architecture's own keys."""
    if config.architecture == "bitmamba2":
        return {
            "bitmamba2.block_count": config.layers,
            "bitmamba2.embedding_length": config.hidden,
            "bitmamba2.inner_length": config.inner,
            "bitmamba2.head_count": config.heads,
            "bitmamba2.vocab_size": config.vocab_size,
            "bitmamba2.norm_rms_epsilon": config.eps,
            "bitmamba2.conv_kernel": config.conv_kernel,
        }
    if config.architecture == "bitnet":
        return {
            "bitnet.block_count": config.layers,
            "bitnet.embedding_length": config.hidden,
            "bitnet.feed_forward_length": config.intermediate,
            "bitnet.head_count": config.heads,
            "bitnet.head_count_kv": config.kv_heads,
            "bitnet.head_length": config.head_width,
            "bitnet.context_length": config.context,
            "bitnet.rope_frequencies": config.frequencies,
            "bitnet.activation": config.activation,
            "bitnet.vocab_size": config.vocab_size,
            "bitnet.norm_rms_epsilon": config.eps,
        }
    if config.architecture == "hgrnbit":
        sizes = {
            "block_count": config.layers,
            "embedding_length": config.hidden,
            "recurrent_length": config.recurrent,
            "feed_forward_length": config.intermediate,
        }
    else:
        sizes = {
            "embedding_length": config.hidden,
            "recurrent_length": config.recurrent,
            "feed_forward_length": config.intermediate,
            "encoder_block_count": config.encoder,
            "decoder_block_count": config.decoder,
            "block_count": config.layers,
            "router_length": config.router,
            "target_chunk_length": config.target,
        }
    common = {
        "vocab_size": config.vocab_size,
        "norm_rms_epsilon": config.eps,
        "conv_kernel": config.conv_kernel,
        "gate_norm": config.gate_norm,
        "sigmoid": config.sigmoid,
    }
    return {f"{config.architecture}.{key}": value for key, value in (sizes | common).items()}


def config_from_keys(keys: dict, names: Collection[str] = ()) -> object:
    """The Config of a file's model, which has tensors of these names. What only training needs (rates, weights of losses) has its default value."""
    name = keys.get("general.architecture")
    if name not in arch.NAMES:
        raise ValueError(f"expected general.architecture {' or '.join(arch.NAMES)}, found {name}")
    own = {key.removeprefix(f"{name}."): value for key, value in keys.items() if key.startswith(f"{name}.")}
    common = {
        "vocab_size": own["vocab_size"],
        "eps": float(np.format_float_positional(np.float32(own["norm_rms_epsilon"]))),  # 1e-6, not 9.99...e-7
    }
    if name == "bitnet":
        return bitnet.Config(
            hidden=own["embedding_length"],
            intermediate=own["feed_forward_length"],
            layers=own["block_count"],
            heads=own["head_count"],
            kv_heads=own["head_count_kv"],
            head_width=own["head_length"],
            context=own["context_length"],
            activation=own["activation"],
            sub_norms="blk.0.attn_sub_norm.weight" in names,
            tied="output.weight" not in names,
            frequencies=tuple(own["rope_frequencies"]),
            **common,
        )
    common["conv_kernel"] = own["conv_kernel"]
    if name == "bitmamba2":
        return bitmamba2.Config(
            hidden=own["embedding_length"],
            inner=own["inner_length"],
            heads=own["head_count"],
            layers=own["block_count"],
            **common,
        )
    common |= {"gate_norm": own["gate_norm"], "sigmoid": own["sigmoid"]}
    sizes = {
        "hidden": own["embedding_length"],
        "recurrent": own["recurrent_length"],
        "intermediate": own["feed_forward_length"],
        "layers": own["block_count"],
    }
    if name == "hgrnbit":
        return hgrnbit.Config(**sizes, **common)
    levels = len(own["embedding_length"])
    stages = {
        "encoder": own["encoder_block_count"],
        "decoder": own["decoder_block_count"],
        "router": own["router_length"],
        "target": own.get("target_chunk_length", [hnetbit.Config.target[0]] * (levels - 1)),
        "lr_multiplier": [1.0] * levels,
        "decay_span": [0.0] * levels,
    }
    return hnetbit.Config.from_dict(sizes | stages | common)
