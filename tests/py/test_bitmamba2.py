"""The PyTorch model of BitMamba-2: it computes the published formulas, streaming equals the parallel pass."""

import json
import math

import pytest
import torch

from lm.arch import build
from lm.arch.bitmamba2 import Config
from lm.file import convert, gguf_file, published, tokenizer_keys, weights
from lm.measure.score import score
from lm.text.encoding import encode
from published_checkpoints import TOKENIZERS, bitmamba, write_bitmamba

CONFIGS = [
    Config(vocab_size=40, hidden=24, inner=48, heads=4, layers=2),
    Config(vocab_size=40, hidden=16, inner=24, heads=1, layers=3, conv_kernel=2),
]
# As in test_hgrnbit: two float paths may differ by one int8 code of one activation.
NEARLY = {"rtol": 0.0, "atol": 0.05}


def random_model(config, seed=5):
    """Every parameter random, so that no factor hides as 1 or 0."""
    torch.manual_seed(seed)
    model = build(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name:
                parameter.uniform_(0.5, 1.5)
            elif name.endswith(("bias", "a_log", "skip")):
                parameter.normal_(0.0, 0.7)
    return model.eval()


@pytest.fixture(params=CONFIGS, ids=["four-heads", "one-head"])
def model(request):
    return random_model(request.param)


@pytest.fixture
def tokens():
    return torch.randint(0, 40, (2, 40), generator=torch.Generator().manual_seed(2))


# ---- the formulas once more, number by number


def bit_linear(x, norm, weight, eps):
    """[cols] -> [rows]: RMSNorm, int8 codes, ternary codes with one fp16 scale."""
    mean_square = sum(v * v for v in x) / len(x)
    x = [v / math.sqrt(mean_square + eps) * g for v, g in zip(x, norm)]
    step = max(max(abs(v) for v in x), 1e-5) / 127
    codes = [round(v / step) for v in x]
    magnitude = max(sum(abs(w) for row in weight for w in row) / (len(weight) * len(x)), 1e-5)
    scale = float(torch.tensor(magnitude).half())
    return [sum(max(-1, min(1, round(w / scale))) * c for w, c in zip(row, codes)) * scale * step for row in weight]


def silu(x):
    return x / (1 + math.exp(-x))


def scalar_logits(model, tokens):
    """The definition for one text: logits after each token."""
    c, p = model.config, {name: value.tolist() for name, value in model.state_dict().items()}
    memory = [[0.0] * c.inner for _ in range(c.layers)]
    history = [[[0.0] * (c.conv_kernel - 1) for _ in range(c.inner)] for _ in range(c.layers)]
    out = []
    for token in tokens:
        row = p["embeddings.weight"][token]
        step = max(max(abs(v) for v in row), 1e-5) / 127
        h = [round(v / step) * step for v in row]
        for n in range(c.layers):
            at = f"layers.{n}."
            u = bit_linear(h, p[at + "in_proj.norm.weight"], p[at + "in_proj.weight"], c.eps)
            z, x, rest = u[: c.inner], u[c.inner : 2 * c.inner], u[2 * c.inner :]
            y = []
            for channel in range(c.inner):
                head = channel // (c.inner // c.heads)
                b, gain = rest[head], rest[c.heads + head]
                dt = math.log(1 + math.exp(rest[2 * c.heads + head] + p[at + "dt_bias"][head]))
                taps = [*history[n][channel], x[channel]]
                history[n][channel] = taps[1:]
                weights = p[at + "conv.weight"][channel][0]
                a = silu(sum(w * v for w, v in zip(weights, taps)) + p[at + "conv.bias"][channel])
                decay = math.exp(-math.exp(p[at + "a_log"][head]) * dt)
                memory[n][channel] = decay * memory[n][channel] + a * b * dt
                y.append((memory[n][channel] * gain + a * p[at + "skip"][channel]) * silu(z[channel]))
            delta = bit_linear(y, p[at + "out_proj.norm.weight"], p[at + "out_proj.weight"], c.eps)
            h = [v + d for v, d in zip(h, delta)]
        mean_square = sum(v * v for v in h) / len(h)
        normed = [v / math.sqrt(mean_square + c.eps) * g for v, g in zip(h, p["norm.weight"])]
        out.append(bit_linear(normed, p["lm_head.norm.weight"], p["lm_head.weight"], c.eps))
    return torch.tensor(out)


@torch.no_grad()
def test_it_computes_the_published_formulas(model, tokens):
    expected = scalar_logits(model, tokens[0].tolist())
    logits, _ = model(tokens[:1])
    assert expected.abs().amax() > 1
    torch.testing.assert_close(logits[0], expected, **NEARLY)


@torch.no_grad()
def test_stepping_token_by_token_equals_the_parallel_pass(model, tokens):
    parallel, final = model(tokens)
    states = model.initial_states(tokens.shape[0])
    for t in range(tokens.shape[1]):
        logits, states = model.step(tokens[:, t], states)
        torch.testing.assert_close(logits, parallel[:, t], **NEARLY)
    for stepped, whole in zip(states, final):
        torch.testing.assert_close(stepped, whole, **NEARLY)


@torch.no_grad()
def test_a_text_in_two_parts_with_the_state_carried_over_equals_the_whole_text(model, tokens):
    whole, _ = model(tokens)
    for cut in (1, 2, 17):
        first, states = model(tokens[:, :cut])
        second, _ = model(tokens[:, cut:], states)
        torch.testing.assert_close(torch.cat((first, second), 1), whole, **NEARLY)


@torch.no_grad()
def test_a_token_changes_no_prediction_before_it_and_the_one_right_after_it(model, tokens):
    before, _ = model(tokens)
    changed = tokens.clone()
    changed[:, 20] = (changed[:, 20] + 1) % 40
    after, _ = model(changed)
    torch.testing.assert_close(after[:, :20], before[:, :20], **NEARLY)
    assert (after[:, 20] - before[:, 20]).abs().amax() > 0.2


def test_every_parameter_learns(model, tokens):
    loss, _, statistics = model.loss(tokens[:, :-1], tokens[:, 1:])
    loss.backward()
    assert statistics["nats"] == pytest.approx(float(loss))
    assert [name for name, parameter in model.named_parameters() if not parameter.grad.any()] == []


@pytest.mark.parametrize(("setting", "value"), [("layers", 0), ("heads", 7), ("conv_kernel", 1), ("state", 3)])
def test_a_setting_out_of_range_is_refused_by_name(setting, value):
    with pytest.raises(ValueError, match=rf"model\.{setting}"):
        Config.from_dict({setting: value})


@torch.no_grad()
def test_a_model_comes_back_from_its_file_and_computes_the_same(tmp_path, model, tokens):
    pieces = {
        f"tokenizer.ggml.{key}": value
        for key, value in {
            "model": "gpt2",
            "bos_token_id": 0,
            "eos_token_id": 0,
            "tokens": [chr(97 + n) for n in range(40)],
            "token_type": [1] * 40,
            "merges": ["a b"],
        }.items()
    }
    gguf_file.write(tmp_path / "model.gguf", model, gguf_file.Card("tiny"), "TQ1_0", pieces)
    loaded = gguf_file.load(tmp_path / "model.gguf")
    assert loaded.config == model.config
    torch.testing.assert_close(loaded(tokens)[0], model(tokens)[0], **NEARLY)


def test_a_file_needs_as_many_pieces_as_the_model_has_tokens(tmp_path, model):
    with pytest.raises(ValueError, match=r"the model has 40 tokens, but no tokenizer, so 256 bytes"):
        gguf_file.write(tmp_path / "model.gguf", model, gguf_file.Card("tiny"), "TQ1_0")
    with pytest.raises(ValueError, match=r"40 tokens, but a tokenizer of 2 pieces"):
        gguf_file.write(
            tmp_path / "model.gguf", model, gguf_file.Card("x"), "TQ1_0", {"tokenizer.ggml.tokens": ["a", "b"]}
        )
    assert not (tmp_path / "model.gguf").exists()


def test_the_engine_predicts_text_with_a_converted_checkpoint_as_pytorch_does(tmp_path, native, stories):
    """With a head so large that random guesses are sure of themselves. Logits one by one: test_golden.py, test_public.py."""
    sure = [(name, tensor * 6 if name == "lm_head.weight" else tensor) for name, tensor in bitmamba()]
    settings, tensors = weights.open_bitmamba(write_bitmamba(tmp_path / "m.bin", sure))
    kind = published.of_bitmamba(settings, tensors)
    pieces = tokenizer_keys.read_folder(TOKENIZERS / "gpt2", {})
    convert.write(tmp_path / "m.gguf", kind, tensors, gguf_file.Card("m"), pieces)
    (tmp_path / "text.txt").write_bytes(stories[:3000])
    words = ("--model", tmp_path / "m.gguf", "--text", tmp_path / "text.txt", "--samples", 0, "--json")
    engine = json.loads(native("tern", "eval", *words))
    pytorch = score(gguf_file.load(tmp_path / "m.gguf"), encode(stories[:3000]))
    print(f"\nengine {engine['bits_per_byte']:.5f}, PyTorch {pytorch['bits_per_byte']:.5f} bits per byte")
    assert engine["tokens"] == pytorch["tokens"] < 2000
    assert engine["bits_per_byte"] == pytest.approx(pytorch["bits_per_byte"], rel=0.003)
