"""`tern chat`: turns as models/FORMAT.md has them, what is dropped when the context is full, and what is refused."""

import json
import subprocess

import pytest
import torch

from lm.arch import bitnet
from lm.file import gguf_file, tokenizer_keys
from test_tokenizers import BITNET_TEMPLATE, FOLDER, NATIVE

CONTEXT = 160


def model_file(path, settings):
    """A small random BitNet that reads pieces of bytes, with a token that ends a turn."""
    whole = json.loads((FOLDER / "gpt2" / "tokenizer.json").read_text(encoding="utf-8"))
    end = 1 + max(whole["model"]["vocab"].values())
    added = dict(whole["added_tokens"][0], id=end, content="<|eot_id|>", special=True)
    whole["added_tokens"].append(added)
    keys = tokenizer_keys.keys_of(json.dumps(whole), {"bos_token_id": 0, "eos_token_id": [0, end]}, settings)
    torch.manual_seed(1)
    sizes = {"hidden": 64, "intermediate": 96, "layers": 1, "heads": 4, "kv_heads": 2, "head_width": 16}
    network = bitnet.BitNet(bitnet.Config(vocab_size=end + 1, context=CONTEXT, tied=False, **sizes))
    torch.nn.init.normal_(network.lm_head.weight)  # so that the next token depends on the last ones
    gguf_file.write(path, network, gguf_file.Card("chat"), "TQ1_0", keys)
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return model_file(tmp_path_factory.mktemp("chat") / "model.gguf", {"chat_template": BITNET_TEMPLATE})


def chat(model, lines, *options):
    command = [NATIVE / "tern", "chat", "--model", model, "--seed", "3", "--max-tokens", "8", *options]
    done = subprocess.run(command, input="\n".join(lines), capture_output=True, text=True, encoding="utf-8")
    return done.returncode, done.stdout, done.stderr


def test_a_conversation_has_a_reply_for_each_line_and_is_the_same_again(model):
    code, out, err = chat(model, ["Hi", "", "And?", "/quit", "never read"])
    assert (code, err.count("> ")) == (0, 4)
    assert out and chat(model, ["Hi", "", "And?", "/quit"])[1] == out
    first = chat(model, ["Hi"])[1]
    assert out.startswith(first) and len(out) > len(first)
    assert chat(model, ["Hi", "/reset", "/quit"])[1] == first
    assert chat(model, ["Hi"], "--system", "Be brief.")[1] != first


def test_the_oldest_exchanges_go_when_the_context_is_full_and_it_says_so(model):
    code, _, err = chat(model, [f"Question number {n}?" for n in range(10)], "--system", "Be brief.")
    assert code == 0
    assert "context full: the oldest" in err and "exchanges are dropped" in err


def test_a_message_longer_than_the_context_is_refused_and_the_next_one_answered(model):
    code, out, err = chat(model, ["x y " * CONTEXT, "Hi"])
    assert code == 0 and "expected fewer than 159, the model's context" in err
    assert out == chat(model, ["Hi"])[1]


def test_a_model_without_turns_is_refused_with_the_reason(tmp_path):
    code, _, err = chat(model_file(tmp_path / "a.gguf", {}), ["Hi"])
    assert (
        code == 1 and "expected the key tokenizer.ternlm.chat.system, found none: the model was not made to chat" in err
    )
    code, _, err = chat(model_file(tmp_path / "b.gguf", {"chat_template": "{{ messages }}"}), ["Hi"])
    assert code == 1 and "its Jinja template is for model.chat() of the package" in err
