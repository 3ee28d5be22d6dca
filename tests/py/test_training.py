"""Training: one label shift, batches that continue, and a killed run that goes on as if nothing had happened."""

import csv
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch

from lm import checkpoint, loop
from lm.arch.hgrnbit import BOS, EOS, Config
from lm.data import Stream, inputs_and_targets
from lm.optim import make_optimizers
from make_golden import random_model

# Width 24 keeps the fused CPU block out (it needs multiples of 16): its stochastic rounding is not repeatable.
TINY = Config(hidden=24, recurrent=24, intermediate=32, layers=1, conv_kernel=2)


def test_a_target_is_the_byte_after_its_input_and_no_later_one():
    window = np.arange(20, dtype=np.uint8).reshape(2, 10)
    inputs, targets = inputs_and_targets(window)
    assert torch.equal(inputs, torch.from_numpy(window[:, :-1].astype(np.int64)))
    assert torch.equal(targets, inputs + 1)


def test_the_end_of_a_document_is_predicted_as_eos_and_fed_as_bos():
    inputs, targets = inputs_and_targets(np.array([[97, EOS, 98]], dtype=np.uint8))
    assert inputs.tolist() == [[97, BOS]]
    assert targets.tolist() == [[EOS, 98]]


@pytest.fixture
def documents(tmp_path):
    path = tmp_path / "documents.txt"
    path.write_text("".join(f"Story {i} of many.\n<|endoftext|>\n" for i in range(200)))
    return str(path)


def test_a_batch_continues_the_rows_of_the_batch_before_it(documents):
    batches = Stream([documents], batch=3, length=32, seed=0).batches(0)
    first, second = next(batches), next(batches)
    after_first = first[1][:, -1].clone()
    after_first[after_first == EOS] = BOS
    assert torch.equal(after_first, second[0][:, 0])


def test_an_epoch_holds_every_document_once_in_another_order(documents):
    stream = Stream([documents], batch=1, length=100, seed=0)
    batches = stream.batches(0)
    epochs = [
        torch.cat([next(batches)[1] for _ in range(stream.steps_per_epoch)], 1)[0].numpy().astype(np.uint8).tobytes()
        for _ in range(2)
    ]
    read = [set(epoch.split(b"\xff")[1:-1]) for epoch in epochs]
    everything = {f"Story {i} of many.\n".encode() for i in range(200)}
    for documents_read in read:
        assert documents_read <= everything
        assert len(documents_read) >= len(everything) - 8  # the cut ends of the epoch
    assert epochs[0] != epochs[1]


def test_reading_from_a_later_step_gives_what_reading_on_would_give(documents):
    stream = Stream([documents], batch=2, length=16, seed=0)
    target = stream.steps_per_epoch + 3  # in the second epoch
    reading_on = stream.batches(0)
    for _ in range(target):
        next(reading_on)
    for found, expected in zip(next(stream.batches(target)), next(reading_on)):
        assert torch.equal(found, expected)


def test_too_little_text_is_refused_with_the_numbers(documents):
    with pytest.raises(ValueError, match=r"too few for one batch of 64 x 512"):
        Stream([documents], batch=64, length=512, seed=0)


ALPHABET = b"abcdefghijklmnop"


def settings(tmp_path, **changes):
    text = tmp_path / "alphabet.txt"
    text.write_bytes((ALPHABET * 4 + b"\n<|endoftext|>\n") * 60)
    values = {
        "total_bytes": 64 * 64,
        "batch": 8,
        "length": 16,
        "lr": 0.02,
        "warmup_bytes": 128,
        "decay_bytes": 1024,
        "valid_bytes": 256,
        "valid_every": 1000,
        "save_every": 16,
        **changes,
    }
    return loop.Run(TINY, loop.Data(train=[str(text)], valid=str(text)), loop.Train(**values))


def losses(folder):
    with (folder / "log.csv").open() as log:
        return {int(row["step"]): row["train_bits"] for row in csv.DictReader(log)}


def test_a_trained_model_predicts_the_next_byte_and_not_the_one_after(tmp_path):
    loop.train(settings(tmp_path, total_bytes=120 * 128, save_every=120), tmp_path / "run", resume=False)
    model, content = checkpoint.load_model(tmp_path / "run" / "last.pt")
    assert content["bytes_seen"] == 120 * 128
    logits, _ = model(torch.tensor([[BOS, *ALPHABET * 2]]))
    predicted = bytes(logits[0].argmax(-1).tolist())
    assert predicted[1:-1] == (ALPHABET * 2)[1:], "after each letter comes the next one"


def test_carried_states_of_any_nesting_are_cut_off_from_the_step_that_made_them():
    x = torch.ones(2, requires_grad=True) * 3
    states = [(x, None), None, [[x], True, 4]]
    cut = loop.detached(states)
    assert cut[0][0] is not x and not cut[0][0].requires_grad and torch.equal(cut[0][0], x)
    assert cut[0][1] is cut[1] is None and cut[2][1:] == [True, 4]
    assert isinstance(cut[0], tuple) and not cut[2][0][0].requires_grad


def test_a_model_with_learning_rates_of_its_own_gets_them(tmp_path):
    model = random_model(TINY, seed=0)
    model.lr_multiplier = lambda name: 0.5 if "embeddings" in name or "down_proj.weight" in name else 1.0
    adamw, muon = make_optimizers(model, settings(tmp_path, lr=0.2, matrix_lr=0.4).train)
    rates = {id(p): g["lr"] for o in (adamw, muon) for g in o.param_groups for p in g["params"]}
    named = dict(model.named_parameters())
    assert len(rates) == len(named)
    assert rates[id(named["embeddings.weight"])] == 0.1
    assert rates[id(named["lm_head.weight"])] == 0.2, "the head is not a matrix of the blocks: AdamW"
    assert rates[id(named["layers.0.mlp.down_proj.weight"])] == 0.2
    assert rates[id(named["layers.0.mlp.gate_proj.weight"])] == 0.4


class KilledError(Exception):
    pass


def test_a_run_killed_at_every_checkpoint_has_the_losses_of_an_uninterrupted_one(tmp_path, monkeypatch):
    early = tmp_path / "early.txt"  # left out during the last 8 of 32 steps: the resumed run has to know that, too
    early.write_bytes((ALPHABET[::-1] * 4 + b"\n<|endoftext|>\n") * 60)
    run = settings(tmp_path, save_every=13)
    run = replace(run, data=replace(run.data, early=[str(early)]))
    loop.train(run, tmp_path / "whole", resume=False)

    save = checkpoint.save

    def save_and_die(path, content):
        save(path, content)
        raise KilledError

    monkeypatch.setattr(checkpoint, "save", save_and_die)
    for resume, step in ((False, 13), (True, 26), (True, 32)):
        with pytest.raises(KilledError):
            loop.train(run, tmp_path / "parts", resume)
        assert checkpoint.load(tmp_path / "parts" / "last.pt")["position"]["step"] == step

    whole, parts = losses(tmp_path / "whole"), losses(tmp_path / "parts")
    assert len(whole) == 32
    assert parts == whole


def test_a_resumed_run_with_other_model_settings_is_refused_by_name(tmp_path):
    run = settings(tmp_path, total_bytes=16 * 128)
    loop.train(run, tmp_path / "run", resume=False)
    other = replace(run, model=replace(TINY, intermediate=64))
    with pytest.raises(ValueError, match=r"model\.intermediate = 32"):
        loop.train(other, tmp_path / "run", resume=True)


def test_a_deeper_model_grows_from_a_shallower_one_by_repeating_its_blocks(tmp_path):
    shallow = random_model(replace(TINY, layers=2), seed=7)
    content = {"config": {"model": asdict(shallow.config)}, "model": shallow.state_dict(), "bytes_seen": 5}
    checkpoint.save(tmp_path / "shallow.pt", content)
    deep = random_model(replace(TINY, layers=4), seed=8)
    assert checkpoint.grow(deep, tmp_path / "shallow.pt") == 5
    for layer in range(4):
        for found, expected in zip(deep.layers[layer].parameters(), shallow.layers[layer % 2].parameters()):
            assert torch.equal(found, expected)
    assert torch.equal(deep.embeddings.weight, shallow.embeddings.weight)
    for wrong in (replace(TINY, layers=3), replace(TINY, layers=4, hidden=48)):
        with pytest.raises(ValueError, match="must differ in `layers` alone"):
            checkpoint.grow(random_model(wrong, seed=0), tmp_path / "shallow.pt")


def test_an_existing_run_is_not_overwritten_without_being_told_to_resume(tmp_path):
    run = settings(tmp_path, total_bytes=16 * 128)
    loop.train(run, tmp_path / "run", resume=False)
    with pytest.raises(ValueError, match="--resume"):
        loop.train(run, tmp_path / "run", resume=False)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("[model]\nhiden = 3\n", r"model\.hiden"),
        ('[model]\narchitecture = "hgrn"\n', r"model\.architecture must be one of hgrnbit.*'hgrn'"),
        ("[modell]\n", r"\[modell\]"),
        ("[data]\ntrain = []\nvalid = ''\n[train]\ntotal_bytes = 1\nspeed = 2\n", r"train\.speed"),
        ("[data]\ntrain = []\nvalid = ''\n", r"\[train\].*total_bytes"),
        ("[data]\ntrain = []\n[train]\ntotal_bytes = 1\n", r"\[data\].*valid"),
    ],
)
def test_a_wrong_config_file_is_refused_by_name(tmp_path, text, fault):
    (tmp_path / "run.toml").write_text(text)
    with pytest.raises(ValueError, match=fault):
        loop.Run.read(tmp_path / "run.toml")


def test_a_file_that_is_no_checkpoint_is_refused(tmp_path):
    torch.save({"weights": 1}, tmp_path / "x.pt")
    with pytest.raises(ValueError, match="not a checkpoint"):
        checkpoint.load(tmp_path / "x.pt")
    with pytest.raises(FileNotFoundError, match="no such checkpoint"):
        checkpoint.load(tmp_path / "missing.pt")
