"""verify_checkpoint.py says what differs: in the structure, from the source, and in answers that were recorded here."""

import json
import math
import re

import gguf
import numpy as np
import pytest
import torch
from torch.nn import functional as F

import verify_checkpoint
from conftest import ROOT
from lm.file import convert, gguf_file, published, tokenizer_keys, weights
from lm.measure import known_answers
from lm.text import command
from published_checkpoints import (
    BITNET,
    HGRN_BIT,
    TOKENIZERS,
    bitmamba,
    bitnet,
    hgrn_bit,
    write_bitmamba,
    write_folder,
)

ONE_BLOCK = HGRN_BIT | {"num_hidden_layers": 1, "intermediate_size": 128}


@pytest.fixture(scope="module")
def converted(tmp_path_factory):
    """(model file, the source it was made of) of every architecture, by name."""
    folder = tmp_path_factory.mktemp("converted")
    gpt2 = tokenizer_keys.read_folder(TOKENIZERS / "gpt2", {})
    source = write_bitmamba(folder / "m.bin", bitmamba())
    settings, tensors = weights.open_bitmamba(source)
    kind = published.of_bitmamba(settings, tensors)
    convert.write(folder / "bitmamba.gguf", kind, tensors, gguf_file.Card("b"), gpt2)
    hub = write_folder(folder / "hub", hgrn_bit(ONE_BLOCK), ONE_BLOCK)
    tensors, _ = weights.open_folder(hub)
    llama = tokenizer_keys.read_folder(hub, ONE_BLOCK)
    convert.write(folder / "hgrnbit.gguf", published.of_config_json(ONE_BLOCK), tensors, gguf_file.Card("h"), llama)
    attention = write_folder(folder / "bitnet", bitnet(BITNET), BITNET)
    tensors, _ = weights.open_folder(attention)
    llama = tokenizer_keys.read_folder(attention, BITNET)
    convert.write(folder / "bitnet.gguf", published.of_config_json(BITNET), tensors, gguf_file.Card("n"), llama)
    return {
        "bitmamba": (folder / "bitmamba.gguf", source),
        "hgrnbit": (folder / "hgrnbit.gguf", hub),
        "bitnet": (folder / "bitnet.gguf", attention),
    }


def verify(capsys, *words):
    status = command.status(lambda: verify_checkpoint.main([str(word) for word in words]), "verify_checkpoint")
    out, err = capsys.readouterr()
    return status, out + err


@pytest.mark.parametrize("name", ["bitmamba", "hgrnbit", "bitnet"])
def test_a_converted_checkpoint_is_what_it_claims_to_be(converted, capsys, name):
    model, source = converted[name]
    status, said = verify(capsys, model, "--source", source)
    assert status == 0, said
    assert "nothing differs" in said and "BAD" not in said
    assert len(re.findall(r"^ok   (blk|output)", said, re.M)) == {"bitmamba": 5, "hgrnbit": 7, "bitnet": 14}[name], (
        "every matrix"
    )
    assert "none are known of a model of these sizes" in said


def recorded(path, text):
    """Answers of a model, computed here in another way than by the command."""
    model = gguf_file.load(path)
    tokenizer = known_answers.Tokenizer.from_file(str(TOKENIZERS / "gpt2" / "tokenizer.json"))
    tokens = tokenizer.encode(text, add_special_tokens=False).ids
    with torch.no_grad():
        whole = model(torch.tensor([tokens]))[0][0]
        nats = float(F.cross_entropy(whole[:-1], torch.tensor(tokens[1:])))
        stream = tokens[:5]
        for _ in range(6):
            stream.append(int(model(torch.tensor([stream]))[0][0, -1].argmax()))
    return {
        "name": "small",
        "source": "this test",
        "match": {"general.architecture": "bitmamba2", "bitmamba2.block_count": 2},
        "answers": [
            {"kind": "tokens", "text": text[:40], "tokens": tokenizer.encode(text[:40]).ids},
            {"kind": "greedy", "tokens": tokens[:5], "continuation": stream[5:]},
            {"kind": "perplexity", "text": "stories", "expected": math.exp(nats), "within": 0.001},
        ],
    }


def test_recorded_answers_are_found_again_and_wrong_ones_are_named(converted, capsys, tmp_path, stories):
    model, _ = converted["bitmamba"]
    text = stories[:2000].decode()
    (tmp_path / "stories.txt").write_text(text, encoding="utf-8")
    entry = recorded(model, text)
    (tmp_path / "answers.json").write_text(json.dumps([entry]), encoding="utf-8")
    words = (model, "--answers", tmp_path / "answers.json", "--text", f"stories={tmp_path / 'stories.txt'}")
    status, said = verify(capsys, *words)
    assert status == 0, said
    assert said.count("ok   ") == 4 + 3
    assert verify(capsys, *words[:3])[1].count("?    perplexity on stories: expected") == 1, "the text was not named"
    entry["answers"][0]["tokens"][0] += 1
    entry["answers"][1]["continuation"][-1] ^= 1
    entry["answers"][2]["expected"] *= 1.01
    (tmp_path / "answers.json").write_text(json.dumps([entry]), encoding="utf-8")
    status, said = verify(capsys, *words)
    assert status == 1 and "3 differ" in said
    for what in ("tokens of", "greedy after", "perplexity on stories"):
        assert re.search(rf"^BAD  {what}.*expected .*found", said, re.M), said


def test_known_logits_are_compared_with_what_pytorch_computes(converted, capsys, tmp_path):
    model, _ = converted["bitnet"]
    tokens = [1, 5, 9, 700]
    with torch.no_grad():
        logits = gguf_file.load(model)(torch.tensor([tokens]))[0][0]
    answer = {"kind": "logits", "tokens": tokens, "means": logits.mean(1).tolist(), "first": logits[0, :3].tolist()}
    entry = {"name": "small", "source": "this test", "match": {"bitnet.block_count": 2}}
    for off, says in ((0, "ok   logits of"), (0.2, "BAD  logits of")):
        answer["first"][2] += off
        (tmp_path / "answers.json").write_text(
            json.dumps([entry | {"answers": [answer | {"within": 0.1}]}]), encoding="utf-8"
        )
        status, said = verify(capsys, model, "--answers", tmp_path / "answers.json")
        assert (status, says in said) == (int(off > 0), True), said


def rewritten(path, out, change):
    """The same file with the tensors (name -> bytes as they are stored) that `change` leaves."""
    reader = gguf.GGUFReader(path)
    tensors = {t.name: (np.array(t.data), t.tensor_type) for t in reader.tensors}
    change(tensors)
    writer = gguf.GGUFWriter(out, reader.fields["general.architecture"].contents())
    for key, field in reader.fields.items():
        if key.startswith("GGUF.") or key == "general.architecture":
            continue
        kinds = [gguf.GGUFValueType(kind) for kind in field.types]
        writer.add_key_value(key, field.contents(), kinds[0], sub_type=kinds[1] if len(kinds) > 1 else None)
    for name, (data, kind) in tensors.items():
        writer.add_tensor(name, data, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return out


def with_scale(data, factor):
    """Packed TQ1_0 rows with another scale."""
    blocks = data.reshape(-1, 54).copy()
    scale = blocks[0, -2:].copy().view(np.float16)[0]
    blocks[:, -2:] = np.array([np.float16(float(scale) * factor)]).view(np.uint8)
    return blocks.reshape(data.shape)


def test_a_matrix_that_was_quantised_a_second_time_is_recognised(converted, capsys, tmp_path):
    model, source = converted["hgrnbit"]
    codes, _ = known_answers.codes_of({t.name: t for t in gguf.GGUFReader(model).tensors}["blk.0.attn_f.weight"], 64)
    kept = np.count_nonzero(codes) / codes.size

    def twice(tensors):
        data, kind = tensors["blk.0.attn_f.weight"]
        tensors["blk.0.attn_f.weight"] = (with_scale(data, kept), kind)

    status, said = verify(capsys, rewritten(model, tmp_path / "m.gguf", twice), "--source", source)
    assert status == 1 and "1 differ" in said
    assert re.search(r"^BAD  blk\.0\.attn_f: scale .*it was quantised a second time$", said, re.M), said


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda t: t.pop("output_norm.weight"), r"BAD  tensors: .*'output_norm\.weight'"),
        (lambda t: t.update(extra=t["output_norm.weight"]), r"BAD  tensors: .*'extra'"),
        (
            lambda t: t.update({"output_norm.weight": (np.full(64, np.nan, np.float32), t["output_norm.weight"][1])}),
            r"BAD  numbers: .*output_norm\.weight \(not finite\)",
        ),
        (
            lambda t: t.update({"output_norm.weight": (np.ones(63, np.float32), t["output_norm.weight"][1])}),
            r"BAD  tensors: .*'output_norm\.weight'",
        ),
        (lambda t: t["output.weight"][0].reshape(-1, 54)[3:, -1].__iadd__(1), r"output\.weight: expected one scale"),
    ],
    ids=["missing", "unknown", "nan", "narrow", "two-scales"],
)
def test_a_structure_that_does_not_fit_is_named(converted, capsys, tmp_path, change, fault):
    status, said = verify(capsys, rewritten(converted["hgrnbit"][0], tmp_path / "m.gguf", change))
    assert status == 1 and re.search(fault, said), said


def test_what_is_no_converted_checkpoint_is_refused(converted, capsys, tmp_path):
    for words, fault in (
        ((tmp_path / "none.gguf",), "no such file"),
        (
            (ROOT / "tests" / "golden" / "tiny_hnet.gguf",),
            "expected general.architecture hgrnbit or bitmamba2 or bitnet, found hnetbit",
        ),
        ((converted["hgrnbit"][0], "--source", tmp_path), "expected config.json in it"),
    ):
        status, said = verify(capsys, *words)
        assert status == 1 and fault in said
    (tmp_path / "answers.json").write_text('[{"match": {"a": 1}, "answers": [{"kind": "taste"}]}]', encoding="utf-8")
    status, said = verify(capsys, converted["hgrnbit"][0], "--answers", tmp_path / "answers.json")
    assert status == 1 and "expected answers of the kinds tokens, greedy, logits, perplexity, found taste" in said


def test_the_answers_that_ship_are_of_the_published_sizes():
    entries = known_answers.read_answers(ROOT / "models" / "known-answers.json")
    keys = {"general.architecture": "bitmamba2", "bitmamba2.block_count": 24, "bitmamba2.embedding_length": 1024}
    assert known_answers.answers_for(keys, entries)["name"] == "BitMamba-2 255M"
    assert known_answers.answers_for(keys | {"bitmamba2.block_count": 25}, entries) is None
