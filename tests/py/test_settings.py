"""Settings: a key that is wrong is named, and a run that goes on keeps what it was trained with."""

from dataclasses import replace

import pytest

from conftest import ROOT
from lm.train.settings import CHANGEABLE, Run, Train, refuse_changes
from tiny_run import TINY, settings

TEXTS = "[data]\ntrain = ['a']\nvalid = 'b'\n"
TRAIN = TEXTS + "[train]\ntotal_bytes = 1\n"


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("[model]\nhiden = 3\n", r"model\.hiden"),
        ('[model]\narchitecture = "hgrn"\n', r"model\.architecture must be one of .*hgrnbit.*'hgrn'"),
        ("[modell]\n", r"\[modell\]"),
        (TRAIN + "speed = 2\n", r"train\.speed"),
        (TEXTS, r"\[train\].*total_bytes"),
        ("[data]\ntrain = []\n[train]\ntotal_bytes = 1\n", r"\[data\].*valid"),
        (TRAIN + "schedule = 'step'\n", r"train\.schedule must be .wsd. or .cosine."),
        (TRAIN + "batch = 6\naccumulate = 4\n", r"train\.batch .* train\.accumulate"),
        (TRAIN + "byte_dropout = 0.1\n", r"train\.byte_dropout is not a setting"),
        (TRAIN + "hidden_dropout = -0.1\n", r"train\.hidden_dropout"),
        (TRAIN + "matrix_weight_decay = -1\n", r"train\.matrix_weight_decay must not be neg"),
        (
            TEXTS + "[train]\ntotal_bytes = 9\nwarmup_bytes = 10\n",
            r"train\.warmup_bytes must be at most train\.total_b.*, 9",
        ),
        (TEXTS + "[train]\ntotal_bytes = '5'\n", r"train\.total_bytes must be a whole number, got .5."),
        (TRAIN + "batch = 2.5\n", r"train\.batch must be a whole number, got 2\.5"),
        (TRAIN + "lr = true\n", r"train\.lr must be a number, got True"),
        (TRAIN + "lr = nan\n", r"train\.lr must be a number, got nan"),
        (TRAIN + "lr = -1\n", r"train\.lr must be above 0, got -1"),
        (TRAIN + "seed = -3\n", r"train\.seed must not be negative, got -3"),
        (TRAIN + "decay_bytes = '2'\n", r"train\.decay_bytes must be a whole number, got .2."),
        (
            "[data]\ntrain = 'a'\nvalid = 'b'\n[train]\ntotal_bytes = 1\n",
            r"data\.train must be a list, each entry a text",
        ),
        (
            TEXTS + "weights = { a = 'b' }\n[train]\ntotal_bytes = 1\n",
            r"data\.weights must be a table, each value a number",
        ),
        ("[model]\nlayers = 'x'\n", r"model\.layers must be a whole number"),
        ("train = 3\n", r"train must be a section, \[train\]"),
        (TRAIN + "teacher_weight = 1.5\n", r"train\.teacher_weight must be from 0 to 1"),
        (TRAIN + "teacher_temperature = 0\n", r"train\.teacher_temperature must be above 0"),
        (TEXTS + "weights = { c = 2 }\n[train]\ntotal_bytes = 1\n", r"data\.weights names .c., which is not in .*: a"),
        (TEXTS + "weights = { a = -2 }\n[train]\ntotal_bytes = 1\n", r"data\.weights of .a. must be above 0"),
        ("[model\n", "not TOML"),
    ],
)
def test_a_wrong_config_file_is_refused_by_name(tmp_path, text, fault):
    (tmp_path / "run.toml").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=rf"run\.toml: .*{fault}"):
        Run.read(tmp_path / "run.toml")


def test_single_settings_can_be_changed_on_the_command_line(tmp_path):
    (tmp_path / "run.toml").write_text(TRAIN, encoding="utf-8")
    changes = ["train.lr=1e-3", "train.schedule=cosine", 'data.train=["c", "d"]', "model.layers = 3", "train.teacher="]
    run = Run.read(tmp_path / "run.toml", changes)
    assert (run.train.lr, run.train.schedule, run.data.train) == (0.001, "cosine", ["c", "d"])
    assert (run.model.layers, run.train.teacher) == (3, "")
    for change, fault in (("lr=1", r"SECTION\.KEY=VALUE.*'lr=1'"), ("train.lrr=1", r"train\.lrr is not a setting")):
        with pytest.raises(ValueError, match=rf"run\.toml: .*{fault}"):
            Run.read(tmp_path / "run.toml", [change])


@pytest.mark.parametrize("path", sorted((ROOT / "scripts" / "configs").glob("*.toml")), ids=lambda path: path.stem)
def test_every_config_in_the_repository_can_be_read(path):
    run = Run.read(path)
    assert Run.from_dict(run.to_dict()).to_dict() == run.to_dict()


def test_a_checkpoint_from_before_a_setting_existed_has_its_default(tmp_path):
    old = settings(tmp_path).to_dict()
    del old["model"]["architecture"], old["train"]["schedule"]
    assert Run.from_dict(old) == settings(tmp_path)


@pytest.mark.parametrize(
    ("section", "change", "named"),
    [
        ("train", {"lr": 0.5}, r"train\.lr = 0\.02, the settings say 0\.5"),
        ("train", {"seed": 9}, r"train\.seed = 1"),
        ("data", {"early": ["x.txt"]}, r"data\.early"),
        ("model", {"intermediate": 64}, r"model\.intermediate = 32"),
    ],
)
def test_a_run_that_goes_on_may_not_change_what_it_was_trained_with(tmp_path, section, change, named):
    run = settings(tmp_path)
    other = replace(run, **{section: replace(getattr(run, section), **change)})
    with pytest.raises(ValueError, match=rf"last\.pt .*{named}.*--init-from"):
        refuse_changes(run.to_dict(), other.to_dict(), "last.pt")


def test_another_architecture_is_named_before_its_settings(tmp_path):
    run = settings(tmp_path).to_dict()
    other = {**run, "model": {"architecture": "other", "stages": 2}}
    with pytest.raises(ValueError, match=r"model\.architecture = 'other', the settings say 'hgrnbit'"):
        refuse_changes(other, run, "last.pt")


def test_a_run_that_goes_on_may_change_how_long_it_is_and_what_is_watched(tmp_path):
    run = settings(tmp_path)
    other = replace(run, train=replace(run.train, total_bytes=10**6, valid_every=7, keep_every=5))
    refuse_changes(run.to_dict(), other.to_dict(), "last.pt")
    known = {f"train.{key}" for key in vars(Train(total_bytes=1))} | {"data.valid", "data.tokenizer"}
    assert known >= CHANGEABLE, "a key that may change is misspelt"


def test_model_settings_are_those_of_the_named_architecture():
    run = Run.from_dict({"model": {"hidden": 24}, "data": {"train": [], "valid": ""}, "train": {"total_bytes": 1}})
    assert run.to_dict()["model"]["architecture"] == TINY.architecture == "hgrnbit"
