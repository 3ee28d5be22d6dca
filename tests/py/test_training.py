"""Training: a model that learns, and a killed run that goes on as if nothing had happened."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from lm import arch
from lm.arch import hnetbit
from lm.arch.hgrnbit import Config
from lm.fast import cpu_kernels
from lm.file import checkpoint
from lm.text.data import Stream
from lm.text.encoding import BOS
from lm.train import beginnings, loop, states
from make_golden import random_model
from tiny_run import ALPHABET, TINY, apart, losses, rows, settings

THREADS = 1  # the fused gradients are sums over threads: with one their order is fixed; and small steps are quicker


@pytest.mark.trains
def test_a_trained_model_predicts_the_next_byte_and_not_the_one_after(tmp_path, hold):
    loop.train(settings(tmp_path, total_bytes=120 * 128, save_every=120), tmp_path / "run")
    model, content = checkpoint.load_model(tmp_path / "run" / "last.pt")
    assert content["bytes_seen"] == 120 * 128
    text = torch.tensor([BOS, *ALPHABET * 3])
    with torch.no_grad():
        logits, _ = model(text[None, :-2])
    bits = [F.cross_entropy(logits[0, 1:], text[1 + ahead : len(text) - 2 + ahead]) / math.log(2) for ahead in (1, 2)]
    hold("bits of the next letter", float(bits[0]), below=1)
    hold("bits of the one after it", float(bits[1]), above=4)


def test_carried_states_of_any_nesting_can_be_cut_off_split_and_joined():
    x = torch.arange(6.0, requires_grad=True).reshape(3, 2) * 3
    whole = [(x, None), [[x + 1], True, 4]]
    cut = states.detached(whole)
    assert torch.equal(cut[0][0], x) and not cut[0][0].requires_grad and isinstance(cut[0], tuple)
    assert cut[0][1] is None and cut[1][1:] == [True, 4]
    parts = [states.rows(cut, 0, 1), states.rows(cut, 1, 2)]
    assert torch.equal(parts[1][1][0][0], x[1:] + 1)
    again = states.joined(parts)
    assert torch.equal(again[0][0], x) and torch.equal(again[1][0][0], x + 1)
    assert isinstance(again[0], tuple) and again[0][1] is None and again[1][1:] == [True, 4]


class KilledError(Exception):
    pass


FUSED = Config(hidden=32, recurrent=32, intermediate=48, layers=1, conv_kernel=2)


HIERARCHICAL = hnetbit.Config(hidden=(24, 40), recurrent=(24, 40), intermediate=(32, 56), layers=1, router=(8,))


@pytest.mark.parametrize("model", [TINY, FUSED, HIERARCHICAL], ids=["plain", "fused", "hierarchical"])
def test_a_run_killed_at_every_checkpoint_has_the_losses_of_an_uninterrupted_one(tmp_path, monkeypatch, model):
    early = tmp_path / "early.txt"  # left out during the last 8 of 32 steps: the resumed run has to know that, too
    early.write_bytes((ALPHABET[::-1] * 4 + b"\n<|endoftext|>\n") * 60)
    run = settings(tmp_path, model, save_every=13, valid_every=10, accumulate=2)
    run = replace(run, data=replace(run.data, early=[str(early)]))
    before = cpu_kernels.rng_state()
    loop.train(run, tmp_path / "whole")
    cpu_kernels.set_rng_state(before)

    save = checkpoint.save

    def save_and_die(path, content):
        save(path, content)
        if path.name == "last.pt":
            raise KilledError

    monkeypatch.setattr(checkpoint, "save", save_and_die)
    for resume, step in ((False, 13), (True, 26), (True, 32)):
        with pytest.raises(KilledError):
            loop.train(run, tmp_path / "parts", resume)
        assert checkpoint.load(tmp_path / "parts" / "last.pt")["position"]["step"] == step
        cpu_kernels.set_rng_state(999)  # another process would not remember it either

    whole, parts = losses(tmp_path / "whole"), losses(tmp_path / "parts")
    assert len(whole) == 32
    assert parts == whole
    statistics = tuple(rows(tmp_path / "whole" / "log.csv")[0])[11:]
    assert ("chunk_0" in statistics) == (model is HIERARCHICAL)
    assert [row["valid_bits"] for row in rows(tmp_path / "parts" / "log.csv")] == [
        row["valid_bits"] for row in rows(tmp_path / "whole" / "log.csv")
    ]


def test_the_rows_after_the_last_checkpoint_are_trained_and_logged_again(tmp_path, monkeypatch):
    run = settings(tmp_path, total_bytes=24 * 128, save_every=10)
    loop.train(run, tmp_path / "whole")
    update, count = loop.Trainer.update, []

    def update_or_die(self, *batch):
        count.append(1)
        if len(count) == 18:
            raise KilledError
        return update(self, *batch)

    monkeypatch.setattr(loop.Trainer, "update", update_or_die)
    with pytest.raises(KilledError):
        loop.train(run, tmp_path / "parts")
    assert max(losses(tmp_path / "parts")) == 17
    loop.train(run, tmp_path / "parts", resume=True)
    assert losses(tmp_path / "parts") == losses(tmp_path / "whole")


def test_a_resumed_run_with_changed_settings_is_refused_by_name(tmp_path):
    run = settings(tmp_path, total_bytes=4 * 128)
    loop.train(run, tmp_path / "run")
    for other, fault in (
        (replace(run, model=replace(TINY, intermediate=64)), r"model\.intermediate = 32"),
        (replace(run, train=replace(run.train, lr=0.1)), r"train\.lr = 0\.02"),
    ):
        with pytest.raises(ValueError, match=fault):
            loop.train(other, tmp_path / "run", resume=True)
    assert json.loads((tmp_path / "run" / "run.json").read_text(encoding="utf-8"))["settings"]["train"]["lr"] == 0.02, (
        "as it was"
    )
    longer = replace(run, train=replace(run.train, total_bytes=6 * 128))
    loop.train(longer, tmp_path / "run", resume=True)
    assert max(losses(tmp_path / "run")) == 6


@pytest.mark.trains
def test_a_batch_in_parts_has_the_losses_of_the_whole(tmp_path, hold):
    whole, parts = (settings(tmp_path, total_bytes=12 * 128, accumulate=n) for n in (1, 4))
    loop.train(whole, tmp_path / "whole")
    loop.train(parts, tmp_path / "parts")
    # Sums in another order: differences of 1e-7 that a few steps of training let grow.
    hold("bits apart", apart(tmp_path / "whole", tmp_path / "parts"), below=0.01)


@pytest.mark.trains
def test_bf16_learns_and_is_not_float32(tmp_path, hold):
    run = settings(tmp_path, total_bytes=10 * 128)
    loop.train(run, tmp_path / "float32")
    loop.train(replace(run, train=replace(run.train, precision="bf16")), tmp_path / "bf16")
    exact, rounded = ([float(bits) for bits in losses(tmp_path / name).values()] for name in ("float32", "bf16"))
    assert exact != rounded
    hold("of the loss apart", max(abs(a / b - 1) for a, b in zip(rounded, exact, strict=True)), below=0.1)
    hold("bits learned", rounded[0] - rounded[-1], above=1)


def test_the_best_the_last_and_the_wanted_checkpoints_are_kept(tmp_path):
    run = settings(tmp_path, total_bytes=20 * 128, valid_every=5, keep_every=8, save_every=20)
    loop.train(run, tmp_path / "run")
    found = {path.name: checkpoint.load(path) for path in (tmp_path / "run").glob("*.pt")}
    assert set(found) == {"best.pt", "last.pt", "step-8.pt", "step-16.pt"}
    assert found["step-8.pt"]["position"]["step"] == 8
    assert found["last.pt"]["position"]["step"] == 20
    scores = {int(r["step"]): float(r["valid_bits"]) for r in rows(tmp_path / "run" / "log.csv") if r["valid_bits"]}
    assert sorted(scores) == [5, 10, 15, 20]
    assert found["best.pt"]["position"]["step"] == min(scores, key=scores.get)
    assert found["best.pt"]["position"]["best"] == min(scores.values())


def test_a_run_records_seed_commit_and_settings(tmp_path):
    run = settings(tmp_path, total_bytes=2 * 128, seed=77)
    loop.train(run, tmp_path / "run")
    record = json.loads((tmp_path / "run" / "run.json").read_text(encoding="utf-8"))
    assert (record["seed"], record["device"], record["processes"]) == (77, "cpu", 1)
    assert record["settings"]["train"]["seed"] == 77
    assert record["commit"] == checkpoint.load(tmp_path / "run" / "last.pt")["commit"] == loop.commit()


def test_a_new_schedule_begins_with_the_weights_of_another_run(tmp_path):
    run = settings(tmp_path, total_bytes=8 * 128)
    loop.train(run, tmp_path / "first")
    slower = replace(run, train=replace(run.train, lr=1e-9, matrix_lr=1e-9, total_bytes=128))
    loop.train(slower, tmp_path / "second", init_from=tmp_path / "first" / "last.pt")
    first, second = (checkpoint.load(tmp_path / name / "last.pt") for name in ("first", "second"))
    assert (second["bytes_seen"], second["position"]["bytes_seen"]) == (9 * 128, 128)
    for name, weight in first["model"].items():
        torch.testing.assert_close(second["model"][name], weight, rtol=0, atol=1e-6)
    wider = replace(run, model=replace(TINY, hidden=48))
    with pytest.raises(ValueError, match=r"first.last\.pt has model\.hidden = 24, the settings say 48"):
        loop.train(wider, tmp_path / "third", init_from=tmp_path / "first" / "last.pt")


def test_a_save_that_fails_leaves_the_old_checkpoint_and_nothing_else(tmp_path, monkeypatch):
    checkpoint.save(tmp_path / "last.pt", {"config": 1, "model": 2, "bytes_seen": 3})

    def full_disk(path, content):
        path.write_text("half", encoding="utf-8")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full_disk)
    with pytest.raises(
        OSError, match=r"No space left on device after 4 bytes; what was there is as it was: .*last\.pt"
    ):
        checkpoint.save(tmp_path / "last.pt", {})
    assert [path.name for path in tmp_path.iterdir()] == ["last.pt"]
    assert checkpoint.load(tmp_path / "last.pt")["bytes_seen"] == 3


def test_a_checkpoint_of_another_architecture_is_refused_by_name(tmp_path):
    run = settings(tmp_path, total_bytes=128)
    loop.train(run, tmp_path / "run")
    content = checkpoint.load(tmp_path / "run" / "last.pt")
    content["config"]["model"]["architecture"] = "transformer"
    checkpoint.save(tmp_path / "other.pt", content)
    with pytest.raises(ValueError, match=r"model\.architecture must be one of .*'transformer'"):
        checkpoint.load_model(tmp_path / "other.pt")
    hierarchical = replace(run, model=HIERARCHICAL)
    for start, fault in (("grow_from", r"hgrnbit.*hnetbit"), ("init_from", r"blocks with conv_kernel = 4, .* has 2")):
        with pytest.raises(ValueError, match=rf"last\.pt.*{fault}"):
            loop.train(hierarchical, tmp_path / start, **{start: tmp_path / "run" / "last.pt"})
    with pytest.raises(ValueError, match=r"last\.pt was trained with model\.architecture = 'hgrnbit'"):
        loop.train(hierarchical, tmp_path / "run", resume=True)


def test_a_deeper_model_grows_from_a_shallower_one_by_repeating_its_blocks(tmp_path):
    shallow = random_model(replace(TINY, layers=2), seed=7)
    content = {"config": {"model": arch.config_to_dict(shallow.config)}, "model": shallow.state_dict(), "bytes_seen": 5}
    checkpoint.save(tmp_path / "shallow.pt", content)
    deep = random_model(replace(TINY, layers=4), seed=8)
    assert beginnings.grow(deep, tmp_path / "shallow.pt") == 5
    for layer in range(4):
        for found, expected in zip(deep.layers[layer].parameters(), shallow.layers[layer % 2].parameters()):
            assert torch.equal(found, expected)
    assert torch.equal(deep.embeddings.weight, shallow.embeddings.weight)
    for wrong in (replace(TINY, layers=3), replace(TINY, layers=4, hidden=48)):
        with pytest.raises(ValueError, match="must differ in `layers` alone"):
            beginnings.grow(random_model(wrong, seed=0), tmp_path / "shallow.pt")


def test_an_existing_run_is_not_overwritten_without_being_told_to_resume(tmp_path):
    run = settings(tmp_path, total_bytes=16 * 128)
    loop.train(run, tmp_path / "run")
    with pytest.raises(ValueError, match="--resume"):
        loop.train(run, tmp_path / "run")


def test_a_run_with_nothing_to_go_on_from_says_so_and_names_those_beside_it(tmp_path):
    run = settings(tmp_path, total_bytes=2 * 128)
    loop.train(run, tmp_path / "stories")
    with pytest.raises(
        FileNotFoundError, match=r"storeis has no checkpoint to go on from; .*that can go on: .*stories$"
    ):
        loop.train(run, tmp_path / "storeis", resume=True)
    assert not (tmp_path / "storeis").exists()


def test_a_run_stopped_between_its_best_and_its_first_last_checkpoint_goes_on_from_the_best(tmp_path, capsys):
    run = settings(tmp_path, total_bytes=4 * 128, decay_bytes=0, valid_every=2)
    loop.train(run, tmp_path / "whole")
    loop.train(replace(run, train=replace(run.train, total_bytes=2 * 128)), tmp_path / "parts")
    (tmp_path / "parts" / "last.pt").unlink()
    with pytest.raises(ValueError, match=r"best\.pt exists: say --resume to go on from it"):
        loop.train(run, tmp_path / "parts")
    loop.train(run, tmp_path / "parts", resume=True)
    assert f"goes on from {tmp_path / 'parts' / 'best.pt'}: step 2, 256 bytes seen" in capsys.readouterr().out
    assert losses(tmp_path / "parts") == losses(tmp_path / "whole")


@torch.no_grad()
@pytest.mark.parametrize("config", [TINY, HIERARCHICAL], ids=["flat", "hierarchical"])
def test_training_on_windows_predicts_what_byte_by_byte_inference_predicts(config, tmp_path):
    run = settings(tmp_path)
    batches = Stream(run.data.train, batch=3, length=20, seed=5).batches(0)
    model, windows = random_model(config, seed=2), [next(batches) for _ in range(4)]
    carried, trained = None, []
    for inputs, _ in windows:
        logits, carried = model(inputs, carried)
        trained.append(logits)
    streamed, now = [], model.initial_states(3)
    for byte in torch.cat([inputs for inputs, _ in windows], 1).unbind(1):
        logits, now = model.step(byte, now)
        streamed.append(logits)
    # Sums in another order now and then round an activation to the next int8 code (see test_hgrnbit.py); a lost state,
    # or one of another row, is off by about 1 from the border on.
    torch.testing.assert_close(torch.cat(trained, 1), torch.stack(streamed, 1), rtol=0, atol=0.1)


def test_a_file_that_is_no_checkpoint_is_refused(tmp_path):
    torch.save({"weights": 1}, tmp_path / "x.pt")
    with pytest.raises(ValueError, match="not a checkpoint"):
        checkpoint.load(tmp_path / "x.pt")
    with pytest.raises(FileNotFoundError, match="no such checkpoint"):
        checkpoint.load(tmp_path / "missing.pt")


def test_a_run_that_has_seen_all_its_text_stays_as_it_is(tmp_path, capsys):
    run = settings(tmp_path, total_bytes=2 * 128)
    loop.train(run, tmp_path / "run")
    before = {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir() if path.is_file()}
    loop.train(replace(run, train=replace(run.train, total_bytes=128)), tmp_path / "run", resume=True)
    assert {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir() if path.is_file()} == before
    assert "last.pt has seen 256 bytes" in capsys.readouterr().out
    deeper = replace(run, model=replace(TINY, layers=2))
    with pytest.raises(ValueError, match=r"last\.pt has seen 256 bytes .* train\.total_bytes must be more, got 256"):
        loop.train(deeper, tmp_path / "deeper", grow_from=tmp_path / "run" / "last.pt")


def test_a_run_without_a_checkpoint_does_not_name_one_when_it_fails(tmp_path):
    run = settings(tmp_path, lr=1e30, matrix_lr=1e30)
    with pytest.raises(
        RuntimeError, match=r"gradient is not finite; lower train\.lr or train\.matrix_lr and begin a new run$"
    ):
        loop.train(run, tmp_path / "run")
