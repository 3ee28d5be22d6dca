"""What a run tells: tables that go back to a checkpoint, shares and flips of the codes, TensorBoard's events."""

import struct
import sys
import types

import pytest
import torch
from tensorboardX.proto.event_pb2 import Event, SessionLog

from lm.file import checkpoint
from lm.measure.score import score
from lm.text.data import read_text
from lm.train import loop
from lm.train.watch import TERNARY, Events, Table, TernaryWatch, wandb_run
from make_golden import random_model
from tiny_run import TINY, rows, settings

THREADS = 1  # small steps are quicker with one


def test_a_table_goes_back_to_a_step_and_takes_new_columns(tmp_path):
    table = Table(tmp_path / "log.csv", ("step", "loss"), step=0)
    for step in range(1, 6):
        table.add({"step": step, "loss": step / 2})
    table.close()
    table = Table(tmp_path / "log.csv", ("step", "loss", "chunks"), step=3)
    table.add({"step": 4, "loss": 9, "chunks": 0.25})
    table.close()
    found = [tuple(row.values()) for row in rows(tmp_path / "log.csv")]
    assert found == [("1", "0.5", ""), ("2", "1.0", ""), ("3", "1.5", ""), ("4", "9", "0.25")]
    assert [path.name for path in tmp_path.iterdir()] == ["log.csv"]


def test_a_run_that_begins_anew_begins_a_new_table(tmp_path):
    (tmp_path / "log.csv").write_text("step,loss\n1,2\n", encoding="utf-8")
    Table(tmp_path / "log.csv", ("step",), step=0).close()
    assert (tmp_path / "log.csv").read_text(encoding="utf-8").split() == ["step"]


def test_the_shares_of_the_codes_and_those_that_a_step_flips_are_counted():
    model = random_model(TINY, seed=3)
    watch = TernaryWatch(model)
    matrix = model.layers[0].mlp.down_proj.weight
    with torch.no_grad():
        matrix.copy_(torch.ones_like(matrix))  # all +1
        watch.remember()
        matrix[:6] = -1  # 6 of 24 rows
    found = {row["matrix"]: row for row in watch.rows()}
    assert set(found) == {"lm_head"} | {
        f"layers.0.{name}"
        for name in ("attn.i_proj", "attn.f_proj", "attn.g_proj", "attn.o_proj", "mlp.gate_proj", "mlp.down_proj")
    }
    assert found["layers.0.mlp.down_proj"] == {
        "matrix": "layers.0.mlp.down_proj",
        "minus": 0.25,
        "zero": 0.0,
        "plus": 0.75,
        "flips": 0.25,
    }
    for row in found.values():
        assert row["minus"] + row["zero"] + row["plus"] == pytest.approx(1)
    assert found["lm_head"]["flips"] == 0


@pytest.mark.trains
def test_a_run_writes_its_tables_samples_and_events(tmp_path, hold):
    run = settings(tmp_path, total_bytes=6 * 128, valid_every=3, sample_every=4, ternary_every=3)
    loop.train(run, tmp_path / "run")
    log = rows(tmp_path / "run" / "log.csv")
    model, _ = checkpoint.load_model(tmp_path / "run" / "last.pt")
    later = score(model, read_text(run.data.valid)[: run.train.valid_bytes])["bits_per_byte"]
    assert float(log[-1]["valid_bits"]) == pytest.approx(later, abs=1e-6), "with document ends in the text"
    assert [row["valid_bits"] != "" for row in log] == [False, False, True, False, False, True]
    last = log[-1]
    assert float(last["valid_perplexity"]) == pytest.approx(2 ** float(last["valid_bits"]))
    assert 0 <= float(last["valid_top1"]) <= float(last["valid_top5"]) <= 1
    assert all(float(row["bytes_per_second"]) > 0 and float(row["gradient_norm"]) > 0 for row in log)
    ternary = rows(tmp_path / "run" / "ternary.csv")
    assert [row["step"] for row in ternary] == ["3"] * 7 + ["6"] * 7
    assert tuple(ternary[0]) == TERNARY
    hold("of a matrix flipped", max(float(row["flips"]) for row in ternary), above=0)
    assert (tmp_path / "run" / "samples.txt").read_text(encoding="utf-8").startswith("--- step 4\nOnce upon a time")
    tags = {value.tag for event in events_of(tmp_path / "run" / "tensorboard") for value in event.summary.value}
    assert {"train_bits", "valid_bits", "lr_factor", "flips/lm_head"} <= tags
    assert any("sample" in tag for tag in tags)


def events_of(folder) -> list:
    """The events of a folder's files: records of a length, its checksum, the data and the data's checksum."""
    found = []
    for path in sorted(folder.iterdir()):
        content = path.read_bytes()
        while content:
            (length,) = struct.unpack("<Q", content[:8])
            found.append(Event.FromString(content[12 : 12 + length]))
            content = content[16 + length :]
    return found


def test_an_event_file_holds_scalars_and_texts_and_where_a_run_went_on(tmp_path):
    file = Events(tmp_path, step=299)
    file.scalars(300, {"loss": 1.5, "lr": 0.25})
    file.text(300, "sample", "é")
    file.close()
    version, start, loss, rate, text = events_of(tmp_path)
    assert version.file_version == "brain.Event:2"
    assert (start.step, start.session_log.status) == (300, SessionLog.START)
    assert [(e.step, e.summary.value[0].tag, e.summary.value[0].simple_value) for e in (loss, rate)] == [
        (300, "loss", 1.5),
        (300, "lr", 0.25),
    ]
    assert text.summary.value[0].tensor.string_val[0].decode() == "é"


def test_a_run_without_tensorboardx_writes_all_else(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    loop.train(settings(tmp_path, total_bytes=2 * 128, sample_every=1), tmp_path / "run")
    assert not (tmp_path / "run" / "tensorboard").exists()
    assert len(rows(tmp_path / "run" / "log.csv")) == 2


class RecordingWandb(types.ModuleType):
    """Stands in for the package: keeps what it is told."""

    def __init__(self):
        super().__init__("wandb")
        self.told = []

    def init(self, **settings):
        self.settings = settings
        return self

    def log(self, values, step):
        self.told.append((step, values))

    def finish(self):
        self.told.append("finished")


def test_weights_and_biases_is_told_what_the_log_is_told(tmp_path, monkeypatch):
    stand_in = RecordingWandb()
    monkeypatch.setitem(sys.modules, "wandb", stand_in)
    loop.train(settings(tmp_path, total_bytes=2 * 128, wandb="stories", ternary_every=0), tmp_path / "run")
    assert stand_in.settings["project"] == "stories"
    assert stand_in.settings["config"]["train"]["lr"] == 0.02
    assert [told[0] for told in stand_in.told[:-1]] == [1, 2]
    assert stand_in.told[1][1]["valid_bits"] > 0
    assert stand_in.told[-1] == "finished"


def test_weights_and_biases_without_the_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ValueError, match=r'train\.wandb = "stories" needs the package wandb'):
        wandb_run("stories", "run", {})
    assert wandb_run("", "run", {}) is None
