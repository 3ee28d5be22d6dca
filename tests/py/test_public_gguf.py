"""BitNet from GGUF files: the same numbers as from the checkpoint, whatever the type and the architecture's name there."""

import struct

import gguf
import numpy as np
import pytest
import torch

from lm.arch.bitnet import Config
from lm.file import gguf_file, public_gguf
from lm.file.published import bitnet_shapes
from test_public import through_a_file

ROTATED = {"attn.q_proj.weight": "heads", "attn.k_proj.weight": "kv_heads"}


def config(kind):
    return Config(
        vocab_size=40,
        hidden=256,
        intermediate=256,
        layers=2,
        heads=8,
        kv_heads=2,
        head_width=32,
        context=512,
        activation="relu2" if kind in ("bitnet-25", "bitnet-b1.58") else "silu",
        sub_norms=kind != "llama",
        tied=kind != "llama",
        rope_base=500000.0,
        eps=1e-5,
    )


@pytest.fixture(scope="module")
def numbers():
    """Of every parameter that any of the configurations has: codes and scale, or an array."""
    random = np.random.default_rng(3)
    shapes = bitnet_shapes(config("bitnet-25")) | bitnet_shapes(config("llama"))
    made = {}
    for name, shape in shapes.items():
        if len(shape) == 1:
            made[name] = random.uniform(0.5, 1.5, shape).astype(np.float32)
        elif "layers" in name:
            made[name] = random.integers(-1, 2, shape).astype(np.int8), float(np.float16(random.uniform(0.05, 0.1)))
        else:
            made[name] = random.standard_normal(shape).astype(np.float32)
    return made


def i2_s(codes, scale, order="x86"):
    """As a build of microsoft/BitNet writes it; x86: with ACT_PARALLEL."""
    together = {"x86": 32, "x86-rows": codes.shape[1], "arm": 16}[order]
    groups = (codes.reshape(-1, 4, together) + 1).astype(np.uint8)
    packed = groups[:, 0] << 6 | groups[:, 1] << 4 | groups[:, 2] << 2 | groups[:, 3]
    return np.concatenate([packed.reshape(-1), np.array([scale], np.float32).view(np.uint8), np.zeros(28, np.uint8)])


def q6_k(values, _):
    """Blocks of 256 numbers as ggml's block_q6_K: the low four bits, the high two, 16 scales, and one for all.

    Element 128 h + 32 j + l has its low bits in byte 64 h + 32 (j % 2) + l, high nibble for j of 2 and more, and its high
    ones in bits 2 j of byte 32 h + l.
    """
    blocks = values.reshape(-1, 16, 16)
    largest = np.abs(blocks).max(2)
    one = (largest.max(1) / 31 / 127).astype(np.float16)
    scales = np.ceil(largest / 31 / one.astype(np.float32)[:, None]).clip(1, 127)
    codes = np.rint(blocks / (scales * one.astype(np.float32)[:, None])[..., None]).clip(-32, 31) + 32
    codes = codes.astype(np.uint8).reshape(-1, 2, 4, 32)
    low = np.concatenate(
        [codes[:, :, 0] & 15 | (codes[:, :, 2] & 15) << 4, codes[:, :, 1] & 15 | (codes[:, :, 3] & 15) << 4], 2
    )
    high = codes[:, :, 0] >> 4 | codes[:, :, 1] >> 4 << 2 | codes[:, :, 2] >> 4 << 4 | codes[:, :, 3] >> 4 << 6
    parts = [
        low.reshape(-1, 128),
        high.reshape(-1, 64),
        scales.astype(np.int8).view(np.uint8),
        one.view(np.uint8).reshape(-1, 2),
    ]
    return np.concatenate(parts, 1).reshape(len(values), -1)


def permuted(rows, heads):
    """Channels c and c + W/2 of a head side by side, as llama.cpp has them."""
    return rows.reshape(heads, 2, -1, rows.shape[1]).swapaxes(1, 2).reshape(rows.shape)


def write(path, kind, numbers, ternary, embedding=gguf.GGMLQuantizationType.F16, extra=(), order="x86"):
    c = config(kind)
    writer = gguf.GGUFWriter(path, kind)
    whole = {
        "block_count": c.layers,
        "embedding_length": c.hidden,
        "feed_forward_length": c.intermediate,
        "attention.head_count": c.heads,
        "attention.head_count_kv": c.kv_heads,
        "context_length": c.context,
        "rope.dimension_count": c.head_width,
    }
    for key, value in whole.items():
        writer.add_uint32(f"{kind}.{key}", value)
    writer.add_float32(f"{kind}.rope.freq_base", c.rope_base)
    writer.add_float32(f"{kind}.attention.layer_norm_rms_epsilon", c.eps)
    for key, value in extra:
        writer.add_string(f"{kind}.{key}", value)
    patched = []
    for name, shape in bitnet_shapes(c).items():
        theirs, value = public_gguf._their_name(name), numbers[name]
        if not isinstance(value, tuple):
            if len(shape) == 1:
                writer.add_tensor(theirs, value)
            else:
                quantize = q6_k if embedding == gguf.GGMLQuantizationType.Q6_K else gguf.quants.quantize
                writer.add_tensor(theirs, quantize(value, embedding), raw_dtype=embedding)
            continue
        codes, scale = value
        inside = name.split(".", 2)[2]
        if kind == "llama" and inside in ROTATED:
            codes = permuted(codes, getattr(c, ROTATED[inside]))
        if ternary == "I2_S":  # the writer does not know it: announced as bytes of one row, and then named
            writer.add_tensor(theirs, i2_s(codes, scale, order), raw_dtype=gguf.GGMLQuantizationType.I8)
            patched.append((theirs, codes.shape))
        else:
            blocks = gguf_file.ternary_blocks(codes, scale, ternary)
            writer.add_tensor(theirs, blocks, raw_dtype=gguf_file.TERNARY_TYPES[ternary])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return patched


def as_i2_s(path, patched):
    """Gives the tensors that were announced as bytes their two dimensions and the type 36."""
    data = path.read_bytes()
    grown = 0
    for name, (rows, cols) in patched:
        field = struct.pack("<Q", len(name)) + name.encode()
        at = data.index(field) + len(field)
        dims, length, kind = struct.unpack_from("<IQI", data, at)
        assert (dims, kind) == (1, 24) and length == rows * cols // 4 + 32
        data = data[:at] + struct.pack("<IQQI", 2, cols, rows, 36) + data[at + 16 :]
        grown += 8
    first = min(entry.at for entry in public_gguf.directory(path)[1].values())
    path.write_bytes(data)
    moved = min(entry.at for entry in public_gguf.directory(path)[1].values())
    path.write_bytes(data[:moved] + data[first + grown :])


def file(path, kind, numbers, ternary, **more):
    patched = write(path, kind, numbers, ternary, **more)
    if patched:
        as_i2_s(path, patched)
    return path


@pytest.mark.parametrize("ternary", ["I2_S", "TQ1_0", "TQ2_0"])
@pytest.mark.parametrize("kind", public_gguf.ARCHITECTURES)
def test_a_file_has_the_codes_scales_and_settings_that_it_was_made_of(tmp_path, numbers, kind, ternary):
    published, tensors = public_gguf.open_gguf(file(tmp_path / "m.gguf", kind, numbers, ternary))
    assert published.config == config(kind)
    published.check(published.prepare(tensors))
    for name in published.shapes:
        value, found = numbers[name], tensors[published.their_name(name)].load()
        if isinstance(value, tuple):
            assert np.array_equal(found[0], value[0]), name
            assert found[1] == value[1]
        else:
            assert np.allclose(found.numpy(), value, atol=2e-3), name


@torch.no_grad()
def test_a_llama_file_whose_rows_are_permuted_gives_the_logits_of_one_whose_are_not(tmp_path, numbers):
    logits = []
    for kind in ("llama", "bitnet"):
        published, tensors = public_gguf.open_gguf(file(tmp_path / f"{kind}.gguf", kind, numbers, "TQ2_0"))
        model = through_a_file(published, tensors, tmp_path / f"{kind}-ours.gguf")
        model.layers[0].attn.sub_norm = model.layers[1].attn.sub_norm = None
        model.layers[0].mlp.sub_norm = model.layers[1].mlp.sub_norm = None
        model.lm_head = None  # so that both have the head of the tied one
        logits.append(model(torch.arange(40)[None])[0])
    torch.testing.assert_close(*logits, rtol=0, atol=1e-4)


@pytest.mark.parametrize("embedding", ["F16", "Q8_0", "Q6_K"])
def test_embeddings_of_other_types_are_read(tmp_path, numbers, embedding):
    path = file(tmp_path / "m.gguf", "bitnet-25", numbers, "TQ1_0", embedding=gguf.GGMLQuantizationType[embedding])
    found = public_gguf.open_gguf(path)[1]["token_embd.weight"].load().numpy()
    assert np.allclose(found, numbers["embeddings.weight"], atol=0.08 if embedding == "Q6_K" else 0.02)


def shaped(numbers, shares):
    """The same with matrices whose columns have these shares of zeros, and norms that follow them: as if trained."""
    random, made = np.random.default_rng(5), dict(numbers)
    for name, value in numbers.items():
        cols = shares[: len(value)] if not isinstance(value, tuple) else shares[: value[0].shape[1]]
        if isinstance(value, tuple):
            zero = random.uniform(size=value[0].shape) < cols
            made[name] = np.where(zero, 0, random.choice([-1, 1], value[0].shape)).astype(np.int8), value[1]
        elif value.ndim == 1:
            made[name] = (0.5 + cols).astype(np.float32)
    return made


@pytest.mark.parametrize("order", public_gguf.ORDERS)
def test_matrices_tell_in_which_order_a_build_wrote_them(tmp_path, numbers, order):
    made = shaped(numbers, np.random.default_rng(6).uniform(0.25, 0.45, 1000))
    path = file(tmp_path / "m.gguf", "bitnet-25", made, "I2_S", order=order)
    for asked in ("auto", order):
        published, tensors = public_gguf.open_gguf(path, asked)
        for name, value in made.items():
            if isinstance(value, tuple):
                codes, scale = tensors[published.their_name(name)].load()
                assert np.array_equal(codes, value[0]) and scale == value[1], name


def test_matrices_that_do_not_tell_are_read_in_the_published_order_and_doubtful_ones_refused(tmp_path, numbers):
    path = file(tmp_path / "m.gguf", "bitnet-25", numbers, "I2_S")
    assert public_gguf.i2_s_order(path, public_gguf.directory(path)[1]) == "x86"
    alike = np.repeat(
        np.random.default_rng(7).uniform(0.2, 0.6, 8), 128
    )  # within each 128 columns, where both keep a weight
    path = file(tmp_path / "doubtful.gguf", "bitnet-25", shaped(numbers, alike), "I2_S", order="arm")
    with pytest.raises(
        ValueError, match=r"the order (x86 or arm|arm or x86) and do not say which: decide with --i2-s-order"
    ):
        public_gguf.open_gguf(path)
    assert public_gguf.open_gguf(path, "arm")


def test_a_matrix_that_does_not_fit_the_order_is_refused_by_name(tmp_path, numbers):
    path = file(tmp_path / "m.gguf", "bitnet-25", numbers, "I2_S")
    data = path.read_bytes()
    at = data.index(b"blk.0.attn_q.weight") + len("blk.0.attn_q.weight") + 4
    path.write_bytes(data[:at] + struct.pack("<QQ", 64, 1024) + data[at + 16 :])
    fault = r"blk\.0\.attn_q\.weight is 1024 x 64; expected rows by 1 and columns by 128 in I2_S of the order x86: try"
    with pytest.raises(ValueError, match=fault):
        public_gguf.open_gguf(path)[1]["blk.0.attn_q.weight"].load()


def test_what_cannot_be_read_is_refused_by_name(tmp_path, numbers):
    path = file(tmp_path / "m.gguf", "bitnet-25", numbers, "I2_S")
    data = path.read_bytes()

    def refused(changed, fault):
        path.write_bytes(changed)
        with pytest.raises(ValueError, match=fault):
            for weight in public_gguf.open_gguf(path)[1].values():
                weight.load()

    refused(data[:-40], r"ends at byte \d+: get it once more")
    refused(data[:300], "in the middle of its directory")
    _, entries = public_gguf.directory(path) if path.write_bytes(data) else (None, None)
    at = entries["blk.1.attn_v.weight"].at
    refused(data[:at] + b"\xff" + data[at + 1 :], r"blk\.1\.attn_v\.weight has the code 3, which I2_S")
    end = at + 64 * 256 // 4
    infinite = struct.pack("<f", float("inf"))
    refused(data[:end] + infinite + data[end + 4 :], r"scale of blk\.1\.attn_v\.weight is inf")
    refused(data.replace(b"bitnet-25", b"bitnet-26"), "general.architecture is 'bitnet-26'; expected bitnet-25")
    file(path, "llama", numbers, "TQ1_0", extra=[("rope.scaling.type", "yarn")])
    refused(path.read_bytes(), "the rotation is scaled")
