"""Small random checkpoints in the published formats, for tests: the names and layouts of the public code, not of ours."""

import json
import shutil
import struct

import numpy as np
import torch
from safetensors.torch import save_file

from conftest import ROOT

TOKENIZERS = ROOT / "tests" / "data" / "tokenizers"
PIECES = 1024

# What configuration_hgrn_bit.py writes for a small model; the intermediate size follows from the width.
HGRN_BIT = {
    "architectures": ["HGRNBitForCausalLM"],
    "model_type": "hgrn_bit",
    "vocab_size": PIECES,
    "hidden_size": 64,
    "num_hidden_layers": 3,
    "num_heads": 1,
    "expand_ratio": 1,
    "use_short_conv": False,
    "conv_size": 4,
    "share_conv_kernel": True,
    "use_lower_bound": True,
    "hidden_ratio": 4,
    "intermediate_size": None,
    "hidden_act": "swish",
    "rms_norm_eps": 1e-6,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "tie_word_embeddings": False,
}


def hgrn_bit(settings: dict, seed: int = 3, dtype=torch.bfloat16) -> dict[str, torch.Tensor]:
    """state_dict of HGRNBitForCausalLM with every number random; norms and bounds, too."""
    random = torch.Generator().manual_seed(seed)
    width, vocab = settings["hidden_size"], settings["vocab_size"]
    inner = width * settings["expand_ratio"]
    between = settings["intermediate_size"] or 256 * ((int(width * 8 / 3) + 255) // 256)
    state = {"model.embeddings.weight": torch.randn(vocab, width, generator=random)}
    if settings["use_lower_bound"]:
        state["model.lower_bounds"] = torch.randn(settings["num_hidden_layers"], inner, generator=random)

    def linear(name: str, rows: int, cols: int) -> None:
        state[f"{name}.weight"] = torch.randn(rows, cols, generator=random) * cols**-0.5
        state[f"{name}.norm.weight"] = torch.rand(cols, generator=random) + 0.5

    def norm(name: str, size: int) -> None:
        state[f"{name}.weight"] = torch.rand(size, generator=random) + 0.5

    for n in range(settings["num_hidden_layers"]):
        at = f"model.layers.{n}."
        norm(f"{at}attn_norm", width)
        norm(f"{at}mlp_norm", width)
        norm(f"{at}attn.g_norm", inner)
        for gate in "ifg":
            linear(f"{at}attn.{gate}_proj", inner, width)
        linear(f"{at}attn.o_proj", width, inner)
        linear(f"{at}mlp.gate_proj", 2 * between, width)
        linear(f"{at}mlp.down_proj", width, between)
        if settings["use_short_conv"]:
            state[f"{at}attn.h_conv1d.weight"] = torch.randn(width, 1, settings["conv_size"], generator=random) * 0.5
    norm("model.norm", width)
    linear("lm_head", vocab, width)
    return {name: value.to(dtype) for name, value in state.items()}


def write_folder(folder, state, settings=HGRN_BIT, how="safetensors", tokenizer="llama"):
    """A folder as it comes from the hub; how: safetensors, shards, bin or bin-shards."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(settings), encoding="utf-8")
    shutil.copy(TOKENIZERS / tokenizer / "tokenizer.json", folder)
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n# A model\n", encoding="utf-8")
    save, stem, suffix = (save_file, "model", "safetensors")
    if how.startswith("bin"):
        save, stem, suffix = torch.save, "pytorch_model", "bin"
    if "shards" not in how:
        save(state, folder / f"{stem}.{suffix}")
        return folder
    names = sorted(state)
    parts = [names[0::2], names[1::2]]
    files = [f"{stem}-0000{n + 1}-of-00002.{suffix}" for n in range(2)]
    for part, file in zip(parts, files):
        save({name: state[name] for name in part}, folder / file)
    placed = {name: file for part, file in zip(parts, files) for name in part}
    (folder / f"{stem}.{suffix}.index.json").write_text(
        json.dumps({"metadata": {}, "weight_map": placed}), encoding="utf-8"
    )
    return folder


# ---- BitNet

BITNET = {
    "model_type": "bitnet",
    "vocab_size": PIECES,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "hidden_act": "relu2",
    "rms_norm_eps": 1e-5,
    "rope_theta": 500000.0,
    "tie_word_embeddings": True,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "quantization_config": {"quant_method": "bitnet", "linear_class": "autobitlinear"},
}


def bitnet(settings: dict, seed: int = 6) -> dict[str, torch.Tensor]:
    """A packed state_dict of BitNetForCausalLM with every number random; the embedding beside it as a head, as some have."""
    random = torch.Generator().manual_seed(seed)
    hidden, inner = settings["hidden_size"], settings["intermediate_size"]
    keys = hidden * settings["num_key_value_heads"] // settings["num_attention_heads"]
    state = {"model.embed_tokens.weight": torch.randn(settings["vocab_size"], hidden, generator=random)}
    shapes = {
        "self_attn.q_proj": (hidden, hidden),
        "self_attn.k_proj": (keys, hidden),
        "self_attn.v_proj": (keys, hidden),
        "self_attn.o_proj": (hidden, hidden),
        "mlp.gate_proj": (inner, hidden),
        "mlp.up_proj": (inner, hidden),
        "mlp.down_proj": (hidden, inner),
    }
    norms = {"input_layernorm": hidden, "self_attn.attn_sub_norm": hidden}
    norms |= {"post_attention_layernorm": hidden, "mlp.ffn_sub_norm": inner}
    for n in range(settings["num_hidden_layers"]):
        at = f"model.layers.{n}."
        for name, (rows, cols) in shapes.items():
            codes = torch.randint(0, 3, (4, rows // 4, cols), generator=random, dtype=torch.uint8)
            state[f"{at}{name}.weight"] = codes[0] | codes[1] << 2 | codes[2] << 4 | codes[3] << 6
            state[f"{at}{name}.weight_scale"] = torch.rand(1, generator=random).bfloat16() + 0.5
        for name, size in norms.items():
            state[f"{at}{name}.weight"] = torch.rand(size, generator=random) + 0.5
    state["model.norm.weight"] = torch.rand(hidden, generator=random) + 0.5
    return state | {"lm_head.weight": state["model.embed_tokens.weight"].clone()}


# ---- BitMamba-2


def bitmamba(width=32, layers=2, heads=4, vocab=PIECES, seed=4) -> list[tuple[str, torch.Tensor]]:
    """The float tensors of a checkpoint in the order of the .bin."""
    random = torch.Generator().manual_seed(seed)
    inner = 2 * width

    def normal(*shape, deviation=1.0):
        return torch.randn(*shape, generator=random) * deviation

    def uniform(size):
        return torch.rand(size, generator=random) + 0.5

    tensors = [("embed.weight", normal(vocab, width))]
    for n in range(layers):
        at = f"layers.{n}."
        tensors += [
            (f"{at}in_proj.norm.weight", uniform(width)),
            (f"{at}in_proj.weight", normal(2 * inner + 3 * heads, width, deviation=width**-0.5)),
            (f"{at}conv1d.weight", normal(inner, 1, 4, deviation=0.5)),
            (f"{at}conv1d.bias", normal(inner, deviation=0.3)),
            (f"{at}dt_bias", normal(heads)),
            (f"{at}A_log", normal(heads, deviation=0.7)),
            (f"{at}D", uniform(inner)),
            (f"{at}out_proj.norm.weight", uniform(inner)),
            (f"{at}out_proj.weight", normal(width, inner, deviation=inner**-0.5)),
        ]
    tensors += [("norm_f.weight", uniform(width)), ("lm_head.norm.weight", uniform(width))]
    return [*tensors, ("lm_head.weight", normal(vocab, width, deviation=width**-0.5))]


def write_bitmamba(path, tensors, width=32, layers=2, heads=4, vocab=PIECES):
    """The packed .bin: matrices of BitLinear as codes and 1 / scale, all else in float32."""
    with path.open("wb") as file:
        file.write(struct.pack("<5i", 0x42495432, vocab, width, layers, heads))
        for name, tensor in tensors:
            values = tensor.numpy().astype(np.float32)
            if name.endswith(("_proj.weight", "lm_head.weight")):
                divisor = np.float32(1) / np.float32(
                    np.float16(np.abs(values).mean())
                )  # a scale that is a number of the file, too
                codes = (np.clip(np.rint(values * divisor), -1, 1) + 1).astype(np.uint8).reshape(len(values), -1, 4)
                packed = codes[..., 0] | codes[..., 1] << 2 | codes[..., 2] << 4 | codes[..., 3] << 6
                file.write(struct.pack("<3if", 2, *values.shape, divisor) + packed.astype(np.uint8).tobytes())
            else:
                file.write(struct.pack(f"<{2 + values.ndim}i", 0, values.ndim, *values.shape) + values.tobytes())
    return path
