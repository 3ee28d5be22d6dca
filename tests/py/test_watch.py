"""What a run tells: tables that go back to a checkpoint, shares and flips of the codes, TensorBoard's file format."""

import struct
import sys
import types

import pytest
import torch

from lm import checkpoint, loop
from lm.data import read_text
from lm.events import EventFile, crc32c
from lm.score import score
from lm.watch import TERNARY, Table, TernaryWatch, wandb_run
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
    (tmp_path / "log.csv").write_text("step,loss\n1,2\n")
    Table(tmp_path / "log.csv", ("step",), step=0).close()
    assert (tmp_path / "log.csv").read_text().split() == ["step"]


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


def test_a_run_writes_its_tables_samples_and_events(tmp_path):
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
    assert any(float(row["flips"]) > 0 for row in ternary)
    assert (tmp_path / "run" / "samples.txt").read_text().startswith("--- step 4\nOnce upon a time")
    (events,) = (tmp_path / "run" / "tensorboard").iterdir()
    content = events.read_bytes()
    for tag in (b"train_bits", b"valid_bits", b"lr_factor", b"flips/lm_head", b"sample"):
        assert tag in content


def records(content: bytes) -> list[bytes]:
    """The data of an event file's records, their checksums checked."""

    def masked(data):
        crc = crc32c(data)
        return struct.pack("<I", ((crc >> 15) + (crc << 17 & 0xFFFFFFFF) + 0xA282EAD8) & 0xFFFFFFFF)

    found = []
    while content:
        (length,) = struct.unpack("<Q", content[:8])
        assert content[8:12] == masked(content[:8])
        data = content[12 : 12 + length]
        assert content[12 + length : 16 + length] == masked(data)
        found.append(data)
        content = content[16 + length :]
    return found


def test_crc32c_has_the_published_values():
    # RFC 3720, B.4, and the check value of the CRC catalogue
    assert crc32c(b"123456789") == 0xE3069283
    assert crc32c(bytes(32)) == 0x8A9136AA
    assert crc32c(bytes(range(32))) == 0x46DD794E


def test_an_event_file_holds_version_scalars_and_texts_as_tensorboard_reads_them(tmp_path):
    file = EventFile(tmp_path)
    file.scalars(300, {"loss": 1.5})
    file.text(2, "sample", "é")
    file.close()
    (path,) = tmp_path.iterdir()
    version, scalars, text = (data[9:] for data in records(path.read_bytes()))  # without the time
    # field << 3 | type: 0x10 step, 0x1A version, 0x2A summary; inside: 0x0A value, 0x0A tag, 0x15 float
    assert version == b"\x10\x00\x1a\x0dbrain.Event:2"
    assert scalars == b"\x10\xac\x02\x2a\x0d\x0a\x0b\x0a\x04loss\x15" + struct.pack("<f", 1.5)
    tensor = b"\x08\x07\x12\x04\x12\x02\x08\x01\x42\x02" + "é".encode()
    value = b"\x0a\x06sample\x4a\x08\x0a\x06\x0a\x04text\x42" + bytes([len(tensor)]) + tensor
    assert text == b"\x10\x02\x2a" + bytes([len(value) + 2]) + b"\x0a" + bytes([len(value)]) + value


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
