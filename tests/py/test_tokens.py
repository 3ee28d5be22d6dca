"""Models whose tokens are pieces of text: their texts, their training, their model files, and the engine's answer to them."""

import json
import math
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from conftest import NATIVE
from lm.file import checkpoint, gguf_file, tokenizer_keys
from lm.measure import samples
from lm.measure.score import score
from lm.text import codec, data, encoding
from lm.train import loop
from tiny_run import TINY, losses, rows, settings
from tokenizer_texts import FOLDER

THREADS = 1
TOKENIZER = FOLDER / "gpt2" / "tokenizer.json"
SMALL = replace(TINY, vocab_size=1024)
STORY = "Tom saw a “naïve” dog 🐶.\n\nHe said <|endoftext|> aloud, 12345 times.\n"


@pytest.fixture(scope="module")
def pieces():
    return tokenizer_keys.codec_of_training(TOKENIZER)


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr("lm.text.files.cache", lambda: tmp_path / "cache")


def run_with_pieces(folder, **changes) -> loop.Run:
    """16 rows of the stories' first 8 KB, with pieces for tokens."""
    run = settings(folder, SMALL, **changes)
    text = folder / "stories.txt"
    text.write_bytes((Path(__file__).parents[1] / "data" / "stories.txt").read_bytes()[:16_000])
    return replace(run, data=loop.Data(train=[str(text)], valid=str(text), tokenizer=str(TOKENIZER)))


def test_a_text_in_pieces_is_each_document_in_pieces_and_comes_back(pieces):
    text = encoding.encode(f"{STORY}<|endoftext|>\n<|endoftext|>\nOne day".encode())
    tokens = pieces.encode(text)
    library = pieces.tokenizer
    wanted = [*library.encode(STORY).ids, pieces.end, pieces.end, *library.encode("One day").ids]
    assert tokens.tolist() == wanted and tokens.dtype == np.uint16
    assert b"".join(map(pieces.piece, wanted)) == f"{STORY}One day".encode(), "the name of a token in a text is text"
    assert pieces.bytes_in(tokens) == text.size, "an end is one byte, as it is for models of bytes"
    assert pieces.encode(text[:0]).tolist() == []


def test_a_text_is_made_tokens_once_and_document_by_document(tmp_path, pieces, monkeypatch):
    documents = "".join(f"Story {n} of many.\n" * (n % 7) + "<|endoftext|>\n" for n in range(99))
    (tmp_path / "t.txt").write_text(documents, encoding="utf-8")
    text = data.read_text(tmp_path / "t.txt")
    whole = pieces.encode(text)
    monkeypatch.setattr(data, "PART", 40)
    parts = list(data.whole_documents(text))
    assert len(parts) > 50 and np.array_equal(np.concatenate(parts), text)
    assert all(part[-1] == encoding.EOS and part.size >= 40 for part in parts[:-1])
    assert np.array_equal(data.read_tokens(tmp_path / "t.txt", pieces), whole)
    monkeypatch.setattr(codec.Pieces, "encode", None)
    assert np.array_equal(data.read_tokens(tmp_path / "t.txt", pieces), whole), "from the cache"
    (tmp_path / "t.txt").write_text("another text", encoding="utf-8")
    with pytest.raises(TypeError):
        data.read_tokens(tmp_path / "t.txt", pieces)


def test_a_document_ends_with_the_target_end_and_the_input_begin(pieces):
    other = codec.Pieces(pieces.keys | {"tokenizer.ggml.bos_token_id": 5})
    inputs, targets = data.inputs_and_targets(np.array([[7, other.end, 8]], np.uint16), other)
    assert (inputs.tolist(), targets.tolist()) == ([[7, 5]], [[other.end, 8]])


@pytest.mark.trains
def test_a_run_counts_bytes_of_text_and_reports_bits_per_byte(tmp_path, pieces, hold):
    run = run_with_pieces(tmp_path, total_bytes=2_000, decay_bytes=500, valid_bytes=999)
    loop.train(run, tmp_path / "run")
    stream = data.Stream(run.data.train, 8, 16, run.train.seed + 1, codec=pieces).batches(0)  # + 1: no early texts
    seen, previous = 0, 0
    for row in rows(tmp_path / "run" / "log.csv"):
        _, targets = next(stream)
        seen += sum(len(pieces.piece(token)) or 1 for token in targets.flatten().tolist())
        assert previous < 2_000 and int(row["bytes_seen"]) == seen, "it ends where the budget does"
        previous = seen
    assert seen >= 2_000
    first = rows(tmp_path / "run" / "log.csv")[0]
    expected = math.log2(1024) * 128 / int(first["bytes_seen"])
    hold("of the first loss apart", abs(float(first["train_bits"]) / expected - 1), below=0.2)

    model, content = checkpoint.load_model(tmp_path / "run" / "last.pt")
    assert content["bytes_seen"] == seen
    text = data.read_text(run.data.valid)[:999]
    tokens = pieces.encode(text)
    with torch.no_grad():
        logits, _ = model(torch.tensor([[pieces.begin, *tokens[:-1].tolist()]]))
    bits = -logits[0].double().log_softmax(-1)[range(tokens.size), tokens.astype(int)].sum() / math.log(2)
    found = score(model, text)
    assert found["bits_per_byte"] == pytest.approx(float(bits) / 999, rel=1e-5)
    assert (found["bytes"], found["tokens"]) == (999, tokens.size)
    assert float(rows(tmp_path / "run" / "log.csv")[-1]["valid_bits"]) == pytest.approx(
        found["bits_per_byte"], rel=1e-4
    )


def test_a_stopped_run_with_pieces_goes_on_as_if_it_had_not_stopped(tmp_path):
    run = run_with_pieces(tmp_path, total_bytes=4_000, decay_bytes=0)
    loop.train(run, tmp_path / "whole")
    loop.train(replace(run, train=replace(run.train, total_bytes=2_000)), tmp_path / "parts")
    loop.train(run, tmp_path / "parts", resume=True)
    assert losses(tmp_path / "parts") == losses(tmp_path / "whole")


def test_another_number_of_pieces_or_another_tokenizer_is_refused(tmp_path):
    run = run_with_pieces(tmp_path, total_bytes=600, decay_bytes=0)
    with pytest.raises(
        ValueError, match=r"model\.vocab_size is 256, but .*tokenizer\.json has 1024 pieces: set it to 1024"
    ):
        loop.train(replace(run, model=TINY), tmp_path / "run")
    with pytest.raises(ValueError, match=r"model\.vocab_size is 1024, but 256 bytes are its tokens: set it to 256"):
        loop.train(replace(run, data=replace(run.data, tokenizer="")), tmp_path / "run")
    shutil.copytree(FOLDER / "llama", tmp_path / "llama")
    ends = {"bos_token": "<s>", "eos_token": "</s>"}
    (tmp_path / "llama" / "tokenizer_config.json").write_text(json.dumps(ends), encoding="utf-8")
    with pytest.raises(ValueError, match="pieces of characters; training wants pieces of bytes"):
        loop.train(replace(run, data=replace(run.data, tokenizer=str(tmp_path / "llama"))), tmp_path / "run")

    loop.train(run, tmp_path / "run")
    whole = json.loads(TOKENIZER.read_text(encoding="utf-8"))
    last, before = list(whole["model"]["vocab"])[-1], list(whole["model"]["vocab"])[-2]
    vocabulary = whole["model"]["vocab"]
    vocabulary[last], vocabulary[before] = vocabulary[before], vocabulary[last]
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "tokenizer.json").write_text(json.dumps(whole), encoding="utf-8")
    other = replace(run, data=replace(run.data, tokenizer=str(tmp_path / "other")))
    with pytest.raises(ValueError, match="another tokenizer"):
        loop.train(other, tmp_path / "run", resume=True)
    with pytest.raises(ValueError, match="another tokenizer"):
        loop.train(other, tmp_path / "new", init_from=tmp_path / "run" / "last.pt")


def test_a_teacher_of_as_many_other_tokens_is_refused(tmp_path):
    run = run_with_pieces(tmp_path, total_bytes=300, decay_bytes=0)
    loop.train(run, tmp_path / "run")
    content = checkpoint.load(tmp_path / "run" / "last.pt")
    checkpoint.save(tmp_path / "bytes.pt", content | {"tokenizer": None})
    for name, fault in (("run/last.pt", None), ("bytes.pt", "another tokenizer")):
        taught = replace(run, train=replace(run.train, teacher=str(tmp_path / name)))
        if fault is None:
            loop.train(taught, tmp_path / "taught")
        else:
            with pytest.raises(ValueError, match=fault):
                loop.train(taught, tmp_path / "other")


@pytest.mark.trains
def test_a_model_file_has_its_tokenizer_and_begins_another_run(tmp_path, pieces, hold):
    run = run_with_pieces(tmp_path, total_bytes=600, decay_bytes=0)
    loop.train(run, tmp_path / "run")
    model, _ = checkpoint.load_model(tmp_path / "run" / "last.pt")
    gguf_file.write(tmp_path / "m.gguf", model, gguf_file.Card("tiny"), "TQ1_0", model.codec.keys)
    keys, _ = gguf_file.read(tmp_path / "m.gguf")
    assert keys["tokenizer.ggml.bos_token_id"] == keys["tokenizer.ggml.eos_token_id"] == pieces.end
    assert keys["tokenizer.ggml.add_bos_token"] is True and keys["hgrnbit.vocab_size"] == 1024
    loaded = gguf_file.load(tmp_path / "m.gguf")
    assert loaded.codec.source == pieces.source
    text = data.read_text(run.data.valid)[:500]
    assert score(loaded, text)["bits_per_byte"] == pytest.approx(score(model, text)["bits_per_byte"], rel=1e-5)
    longer = replace(run, train=replace(run.train, total_bytes=700))
    loop.train(longer, tmp_path / "next", init_from=tmp_path / "m.gguf")
    before, after = (float(rows(tmp_path / name / "log.csv")[0]["train_bits"]) for name in ("run", "next"))
    hold("bits learned", before - after, above=0)


def test_samples_are_pieces_that_end_where_the_text_does(pieces):
    class Says(torch.nn.Module):
        """After the prompt: three pieces, and the end."""

        codec = pieces

        def __init__(self, tokens, prompt):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1))
            self.tokens, self.prompt = tokens, prompt

        def initial_states(self, batch):
            return []

        def step(self, token, fed):
            fed = [*fed, int(token[0])]
            assert fed == [pieces.begin, *self.prompt, *self.tokens][: len(fed)]
            logits = torch.zeros(1, pieces.size)
            logits[0, [*self.prompt, *self.tokens, pieces.end][len(fed) - 1]] = 1000
            return logits, fed

    prompt, said = pieces.encode(np.frombuffer(b"One day", np.uint8)).tolist(), "a café 🐶"
    tokens = pieces.encode(np.frombuffer(said.encode(), np.uint8)).tolist()
    assert samples.generate(Says(tokens, prompt), [b"One day"], length=99) == [said.encode()]
    assert samples.generate(Says(tokens, prompt), [b"One day"], length=2) == [b"a"], "no piece is cut"


# ---- in the engine


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """(a model file that has learned a little of the stories, their text)"""
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lm.text.files.cache", lambda: folder / "cache")
        run = run_with_pieces(folder, total_bytes=40_000, decay_bytes=20_000, batch=16, save_every=1000)
        loop.train(run, folder / "run")
    model, _ = checkpoint.load_model(folder / "run" / "last.pt")
    gguf_file.write(folder / "m.gguf", model, gguf_file.Card("tiny"), "TQ1_0", model.codec.keys)
    return folder / "m.gguf", Path(run.data.valid)


@pytest.mark.trains
def test_the_engine_needs_as_many_bits_for_a_text_in_pieces_as_pytorch(native, trained, tmp_path, hold):
    path, text = trained
    (tmp_path / "t.txt").write_text(text.read_text(encoding="utf-8")[:9_000] + STORY, encoding="utf-8")
    arguments = ("--model", path, "--text", tmp_path / "t.txt", "--samples", 2, "--json")
    engine = json.loads(native("tern", "eval", *arguments))
    pytorch = score(gguf_file.load(path), data.read_text(tmp_path / "t.txt"))
    for name in ("bytes", "raw_bytes", "tokens"):
        assert engine[name] == pytorch[name]
    assert engine["tokens"] < engine["bytes"] / 2
    hold("of the bits per byte apart", abs(engine["bits_per_byte"] / pytorch["bits_per_byte"] - 1), below=0.003)
    assert engine["bits_per_byte"] * engine["bytes"] == pytest.approx(int(engine["bits_q32"]) / 2**32, rel=1e-4)
    for name in ("top1", "top5"):
        hold(f"{name} apart", abs(engine[name] - pytorch[name]), below=0.01)
    assert engine["samples"] == 2


@pytest.mark.trains
def test_the_engine_continues_a_prompt_with_whole_characters_and_no_more_bytes_than_asked(native, trained):
    path, _ = trained
    flat = ("--temperature", 50, "--model", path, "--prompt", "One “day”")  # any piece: parts of characters, too
    whole = native("tern", "generate", *flat, "--seed", 1, "--max-bytes", 300)
    assert whole.startswith("One “day”") and len(whole) > 100 and "\ufffd" in whole
    command = [NATIVE / "tern", "generate", *flat, "--seed", 1, "--raw", "--max-bytes"]
    for size in (1, 7, 300):
        raw = subprocess.run([*map(str, command), str(size)], capture_output=True).stdout.rstrip(b"\n")
        assert size - 9 < len(raw) - len("One “day”".encode()) <= size
    assert f"{raw.decode(errors='replace')}\n" == whole, "the same pieces"
    together = native("tern", "generate", *flat, "--seed", 1, "--max-bytes", 90, "--num-samples", 3)
    alone = [native("tern", "generate", *flat, "--seed", seed, "--max-bytes", 90) for seed in (1, 2, 3)]
    assert together == "".join(f"--- seed {seed}\n{text}" for seed, text in zip((1, 2, 3), alone))


@pytest.mark.trains
def test_what_the_engine_draws_ends_where_a_document_does(native, trained, hold):
    """One token begins and ends a text: it may be drawn."""
    path, _ = trained
    texts = native("tern", "generate", "--model", path, "--seed", 1, "--num-samples", 40, "--max-bytes", 4_000)
    lengths = [len(text) for text in texts.split("--- seed ")[1:]]
    hold("characters of the shortest of 40 texts", min(lengths), below=3000)  # 4 KB have a document's end or more


@pytest.mark.trains
def test_the_name_of_a_control_token_in_a_prompt_is_text(native, trained):
    path, _ = trained
    said = native("tern", "generate", "--model", path, "--prompt", "<|endoftext|>", "--greedy", "--max-bytes", 1)
    assert said.startswith("<|endoftext|>")
    drawn = ("--model", path, "--seed", 1, "--num-samples", 8, "--max-bytes", 40)  # one alone may come to the same
    begin, after = (native("tern", "generate", *drawn, "--prompt", prompt) for prompt in ("", "<|endoftext|>"))
    assert after.replace("<|endoftext|>", "") != begin
