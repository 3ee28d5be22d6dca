"""Writes and reads model files: GGUF with the keys and tensors of models/FORMAT.md (the tables: gguf_layout.py).

Ternary codes are packed here, from the codes themselves, so that no weight is ever quantised a second time.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import gguf
import numpy as np
import torch
from gguf import GGUFValueType
from torch import nn

from lm import arch
from lm.arch.ternary import BitLinear, embedding_codes, weight_codes
from lm.file import checksum, gguf_layout, superfloat
from lm.text import codec

ALIGNMENT = 32
BLOCK = 256  # weights per TQ1_0 / TQ2_0 block

TERNARY_TYPES = {
    "TQ1_0": gguf.GGMLQuantizationType.TQ1_0,
    "TQ2_0": gguf.GGMLQuantizationType.TQ2_0,
}
FILE_TYPES = {
    "TQ1_0": gguf.LlamaFileType.MOSTLY_TQ1_0,
    "TQ2_0": gguf.LlamaFileType.MOSTLY_TQ2_0,
}

VALUE_TYPES = {
    "string": GGUFValueType.STRING,
    "u32": GGUFValueType.UINT32,
    "u64": GGUFValueType.UINT64,
    "i32": GGUFValueType.INT32,
    "bool": GGUFValueType.BOOL,
    "f32": GGUFValueType.FLOAT32,
}


@dataclass(frozen=True)
class Card:
    """What a person wants to know about a model file; goes into its general.* keys."""

    name: str
    description: str = ""
    license: str = ""
    training_text: str = ""
    training_bytes: int = 0
    source: str = ""
    source_sha256: str = ""


# ---- ternary blocks


def pack_tq1_0(codes: np.ndarray) -> np.ndarray:
    """[..., 256] codes in {-1, 0, 1} -> [..., 52] bytes: five base-3 digits a byte, see FORMAT.md."""
    digits = (codes + 1).astype(np.uint16)
    lead = digits.shape[:-1]
    power = np.array([81, 27, 9, 3, 1], dtype=np.uint16)[:, None]
    first = (digits[..., :160].reshape(*lead, 5, 32) * power).sum(axis=-2)
    second = (digits[..., 160:240].reshape(*lead, 5, 16) * power).sum(axis=-2)
    last = (digits[..., 240:].reshape(*lead, 4, 4) * power[:4]).sum(axis=-2)
    number = np.concatenate([first, second, last], axis=-1)  # 0..242
    return ((number * 256 + 242) // 243).astype(np.uint8)


def pack_tq2_0(codes: np.ndarray) -> np.ndarray:
    """[..., 256] codes in {-1, 0, 1} -> [..., 64] bytes: two bits a code, see FORMAT.md."""
    bits = (codes + 1).astype(np.uint8).reshape(*codes.shape[:-1], 2, 4, 32)
    shift = np.array([0, 2, 4, 6], dtype=np.uint8)[:, None]
    return np.bitwise_or.reduce(bits << shift, axis=-2).reshape(*codes.shape[:-1], 64)


def ternary_blocks(codes: np.ndarray, scale: float, ternary_type: str) -> np.ndarray:
    """[rows, cols] codes and their one scale -> [rows, bytes of a row]; columns are padded with code 0."""
    rows, cols = codes.shape
    if not np.isin(codes, (-1, 0, 1)).all():
        raise ValueError("ternary codes must be -1, 0 or 1")
    with np.errstate(over="ignore"):
        half = np.float16(scale)
    if float(half) != float(scale) or not np.isfinite(half) or half < 0:
        raise ValueError(f"the scale of a ternary matrix must be a non-negative fp16 number, found {scale!r}")
    padded = np.pad(codes.astype(np.int8), ((0, 0), (0, -cols % BLOCK)))
    blocks = padded.reshape(rows, -1, BLOCK)
    body = {"TQ1_0": pack_tq1_0, "TQ2_0": pack_tq2_0}[ternary_type](blocks)
    tail = np.broadcast_to(np.array([half]).view(np.uint8), (*body.shape[:-1], 2))
    return np.concatenate([body, tail], axis=-1).reshape(rows, -1)


# ---- writing


def write(
    path: Path,
    model: nn.Module,
    card: Card,
    ternary_type: str,
    tokenizer: dict | None = None,
    stored: dict[str, superfloat.Numbers] | None = None,
) -> None:
    """Writes the model with its card; TQ1_0 is the smallest on disk, TQ2_0 the simplest to decode.

    tokenizer: the keys of one (lm.tokenizer_keys), for a model whose tokens are not bytes.
    stored: of the tensors of these names, what the file has in place of the model's own numbers.
    """
    if ternary_type not in TERNARY_TYPES:
        raise ValueError(f"the ternary type must be one of {', '.join(TERNARY_TYPES)}, found {ternary_type!r}")
    stored = stored or {}
    for name, parameter, kind in gguf_layout.rows(model, bounded=False):
        if kind == "ternary" and f"{name}.weight" not in stored and not model.get_submodule(parameter).ternary:
            raise ValueError(
                f"{name} is not ternary (model.ternary = false): such a model teaches (train.teacher), or becomes a file by "
                "scripts/superfloat.py"
            )
    with checksum.whole_file(path) as partial:
        writer = gguf.GGUFWriter(partial, model.config.architecture)
        add_keys(writer, model.config, card, ternary_type, tokenizer, file_type(model, ternary_type, stored))
        for name, array, raw_type in with_superfloat(_tensors(model, ternary_type), stored):
            writer.add_tensor(name, array, raw_dtype=raw_type)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()


def file_type(model: nn.Module, ternary_type: str, stored: dict[str, superfloat.Numbers]) -> int:
    """What most numbers are."""
    counts = dict.fromkeys(superfloat.WIDTHS, 0)
    for numbers in stored.values():
        counts[numbers.bits] += numbers.codes.size
    if 2 * sum(counts.values()) < sum(parameter.numel() for parameter in model.parameters()):
        return int(FILE_TYPES[ternary_type])
    return superfloat.FIRST_TYPE + max(counts, key=lambda bits: counts[bits])


def add_keys(
    writer: gguf.GGUFWriter,
    config: object,
    card: Card,
    ternary_type: str,
    tokenizer: dict | None = None,
    kind: int | None = None,
) -> None:
    """kind: of the file, where it is not the ternary type's."""
    pieces = 256 if tokenizer is None else len(tokenizer["tokenizer.ggml.tokens"])
    if config.vocab_size != pieces:
        what = "no tokenizer, so 256 bytes" if tokenizer is None else f"a tokenizer of {pieces} pieces"
        raise ValueError(f"the model has {config.vocab_size} tokens, but {what}: both must have the same number")
    values = {
        "general.alignment": ALIGNMENT,
        "general.name": card.name,
        "general.description": card.description,
        "general.license": card.license,
        "general.training_text": card.training_text,
        "general.training_bytes": card.training_bytes,
        "general.source": card.source,
        "general.source_sha256": card.source_sha256,
        "general.file_type": int(FILE_TYPES[ternary_type]) if kind is None else kind,
        "general.quantization_version": gguf.GGML_QUANT_VERSION,
        **gguf_layout.keys_from_config(config),
        **(tokenizer or gguf_layout.BYTES),
        checksum.KEY: checksum.ZEROS,
    }
    types = gguf_layout.keys_of(config.architecture)
    for key, value in values.items():  # general.architecture is the writer's own first key
        if value == "":
            continue
        if types[key].endswith("[]"):
            writer.add_key_value(key, list(value), GGUFValueType.ARRAY, sub_type=VALUE_TYPES[types[key][:-2]])
        else:
            writer.add_key_value(key, value, VALUE_TYPES[types[key]])


def _tensors(model: nn.Module, ternary_type: str):
    """Yields (name, array, raw type or None). Small tensors come before the matrix that needs them."""
    parameters, keep = model.state_dict(), gguf_layout.keep_of_blocks(model)
    bounded = any(bool((values < 1).any()) for values in keep.values())
    for name, parameter, kind in gguf_layout.rows(model, bounded):
        if kind == "ternary":
            codes, scale = weight_codes(parameters[f"{parameter}.weight"])
            yield f"{name}.in_norm.weight", _f32(parameters[f"{parameter}.norm.weight"]), None
            yield (
                f"{name}.weight",
                ternary_blocks(codes.cpu().numpy(), scale, ternary_type),
                TERNARY_TYPES[ternary_type],
            )
        elif kind == "matrix":
            codes, scale = weight_codes(parameters[parameter])
            yield name, ternary_blocks(codes.cpu().numpy(), scale, ternary_type), TERNARY_TYPES[ternary_type]
        elif kind in ("embedding", "dense"):
            codes, scale = embedding_codes(parameters[parameter])
            yield f"{name}.scale", _f32(scale), None
            yield f"{name}.weight", codes.cpu().numpy(), None
        elif kind == "conv":
            yield name, _f32(parameters[parameter]).squeeze(1), None
        elif kind == "lower_bound":
            yield name, _f32(1 - keep[parameter]), None
        elif kind == "exp":
            yield name, _f32(parameters[parameter].double().exp()), None
        else:
            yield name, _f32(parameters[parameter]), None


def with_superfloat(tensors, stored: dict[str, superfloat.Numbers]):
    """(name, array, raw type) as given, but SFx for NAME.weight and its scales for NAME.scale where `stored` has it."""
    for name, array, raw_type in tensors:
        numbers = stored.get(name)
        if numbers is not None:
            if numbers.scales is not None:
                yield name.removesuffix("weight") + "scale", superfloat.as_stored(numbers.scales), None
            packed = superfloat.pack(numbers)
            yield name, packed[0] if np.ndim(array) == 1 else packed, superfloat.TYPES[numbers.bits]
        elif name.removesuffix("scale") + "weight" not in stored or not name.endswith(".scale"):
            yield name, array, raw_type


def _f32(tensor: torch.Tensor) -> np.ndarray:
    return np.ascontiguousarray(tensor.detach().cpu().float().numpy())


# ---- reading


def keys_of(reader: gguf.GGUFReader) -> dict:
    return {key: field.contents() for key, field in reader.fields.items() if not key.startswith("GGUF.")}


def read(path: Path) -> tuple[dict, dict[str, np.ndarray]]:
    """-> (key values, tensors as float32 arrays with the columns last, padding included).

    ValueError if the file carries a checksum that is wrong.
    """
    checksum.check(path)
    reader = gguf.GGUFReader(path)
    keys, tensors = keys_of(reader), {}
    for tensor in reader.tensors:
        ternary = tensor.tensor_type in TERNARY_TYPES.values()
        values = gguf.quants.dequantize(tensor.data, tensor.tensor_type) if ternary else tensor.data
        if tensor.tensor_type in superfloat.TYPES.values():
            bits = int(tensor.tensor_type) - superfloat.FIRST_TYPE
            values = superfloat.Numbers(superfloat.unpack(np.atleast_2d(tensor.data), bits), bits, None).values
            values = values[0] if tensor.data.ndim == 1 else values
        tensors[tensor.name] = np.array(values, dtype=np.float32)
    for name in superfloat_tensors(reader):
        scale = tensors.get(name.removesuffix("weight") + "scale")
        if scale is not None:
            tensors[name] = tensors[name] * (scale if tensors[name].ndim == 1 else scale[:, None])
    return keys, tensors


def superfloat_tensors(reader: gguf.GGUFReader) -> set[str]:
    """The names of the tensors that are SFx."""
    return {tensor.name for tensor in reader.tensors if tensor.tensor_type in superfloat.TYPES.values()}


def load(path: Path) -> nn.Module:
    """A PyTorch model that computes with exactly the codes, scales and constants of a file that write() made."""
    keys, tensors = read(path)
    exact = superfloat_tensors(gguf.GGUFReader(path))
    try:
        model = arch.build(gguf_layout.config_from_keys(keys, tensors))
    except ValueError as fault:
        raise ValueError(f"{path}: {fault}") from None
    found = {name: torch.from_numpy(values) for name, values in tensors.items()}
    bounded = any(name.endswith(".lower_bound") for name in tensors)
    parameters, keep = {}, {}
    for name, parameter, kind in gguf_layout.rows(model, bounded):
        if kind == "ternary":
            linear = model.get_submodule(parameter)
            cols = linear.weight.shape[1]
            linear.ternary, linear.rounds = f"{name}.weight" not in exact, True
            matrix = found[f"{name}.weight"][:, :cols]
            parameters[f"{parameter}.norm.weight"] = found[f"{name}.in_norm.weight"][:cols]
            parameters[f"{parameter}.weight"] = _masters(matrix) if linear.ternary else matrix
        elif kind == "matrix":
            parameters[parameter] = _masters(found[name][:, : model.get_parameter(parameter).shape[1]])
        elif kind in ("embedding", "dense"):
            scale = None if f"{name}.weight" in exact else found.get(f"{name}.scale")
            values = found[f"{name}.weight"] * (1 if scale is None else scale[:, None])
            parameters[parameter] = values[:, : model.get_parameter(parameter).shape[1]]
            model.embeddings.exact |= kind == "embedding" and scale is None
        elif kind == "conv":
            parameters[parameter] = found[name][:, None]
        elif kind == "lower_bound":
            keep[parameter] = 1 - found[name]
        elif kind == "exp":
            parameters[parameter] = found[name].double().log().float()
        else:
            parameters[parameter] = found[name][: model.get_parameter(parameter).numel()]
    empty = {name: value for name, value in model.state_dict().items() if value.numel() == 0}  # a pad of no width
    model.load_state_dict(parameters | empty)
    gguf_layout.set_keep_of_blocks(model, keep)
    if hasattr(model.config, "ternary") and not all(m.ternary for m in model.modules() if isinstance(m, BitLinear)):
        model.config = replace(model.config, ternary=False)
    model.codec = codec.of_keys(keys)
    return model.eval()


def _masters(ternary: torch.Tensor) -> torch.Tensor:
    """scale * codes -> master weights that weight_codes() turns into the same codes and the same scale.

    The scale is the mean of |w|, so the weights that are not 0 have to be larger, by the share of those that are.
    """
    nonzero = int(ternary.count_nonzero())
    return ternary * (ternary.numel() / max(nonzero, 1))
