"""Techniques of training that are settings: a teacher, weight decay, float weights, weighted texts."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import tiny_run
from lm.arch import build, config_to_dict, hnetbit
from lm.arch.hgrnbit import Config
from lm.arch.losses import Lesson, byte_loss
from lm.fast.cpu_kernels import accelerate
from lm.file import checkpoint, gguf_file
from lm.text.data import Stream
from lm.train import loop
from lm.train.teacher import Teacher
from make_golden import random_model
from tiny_run import ALPHABET, TINY, losses, rows, settings

THREADS = 1  # small steps are quicker with one
HIERARCHICAL = hnetbit.Config(hidden=(24, 40), recurrent=(24, 40), intermediate=(32, 56), layers=1, router=(8,))
FUSED = Config(hidden=32, recurrent=32, intermediate=48, layers=2, conv_kernel=2)


def saved(path, model):
    content = {"config": {"model": config_to_dict(model.config)}, "model": model.state_dict(), "bytes_seen": 5_000_000}
    checkpoint.save(path, content)
    return str(path)


# ---- a teacher


def test_the_loss_with_a_teacher_is_the_weighted_sum_that_the_paper_gives():
    torch.manual_seed(0)
    student, teacher, targets = torch.randn(2, 3, 7) * 3, torch.randn(2, 3, 7) * 3, torch.randint(7, (2, 3))
    loss, statistics = byte_loss(student, targets, Lesson(teacher, weight=0.3, temperature=2.0))
    p, q = (x.double().div(2).softmax(-1) for x in (teacher, student))
    distance = (p * (p.log() - q.log())).sum(-1).mean()
    nats = -student.double().log_softmax(-1).gather(2, targets[..., None]).mean()
    assert float(loss) == pytest.approx(float(0.7 * nats + 0.3 * 4 * distance), rel=1e-5)
    assert float(statistics["nats"]) == pytest.approx(float(nats), rel=1e-5)
    assert float(statistics["teacher_bits"]) == pytest.approx(float(distance) / np.log(2), rel=1e-5)


@pytest.mark.trains
def test_the_gradient_of_a_lesson_leads_to_the_teachers_distribution(hold):
    torch.manual_seed(tiny_run.SEED)
    wanted, targets = torch.randn(1, 2, 9), torch.zeros(1, 2, dtype=torch.long)
    logits = torch.zeros(1, 2, 9, requires_grad=True)
    optimizer = torch.optim.Adam([logits], lr=0.1)
    for _ in range(300):
        optimizer.zero_grad()
        byte_loss(logits, targets, Lesson(wanted, weight=1.0, temperature=1.0))[0].backward()
        optimizer.step()
    hold("of a probability apart", float((logits.detach().softmax(-1) - wanted.softmax(-1)).abs().max()), below=1e-3)


@pytest.mark.trains
@pytest.mark.parametrize("student", [TINY, FUSED, HIERARCHICAL], ids=["plain", "fused", "hierarchical"])
def test_a_student_with_weight_one_comes_to_predict_what_its_teacher_predicts_and_not_the_text(tmp_path, student, hold):
    """The text is the alphabet; the teacher has learned the alphabet backwards."""
    run = settings(tmp_path, total_bytes=60 * 128, lr=0.02)
    backwards = tmp_path / "backwards.txt"
    backwards.write_bytes((tmp_path / "alphabet.txt").read_bytes().replace(b"abcdefghijklmnop", b"ponmlkjihgfedcba"))
    loop.train(replace(run, data=loop.Data([str(backwards)], str(backwards))), tmp_path / "teacher")
    teacher = str(tmp_path / "teacher" / "last.pt")
    taught = replace(run.train, teacher=teacher, teacher_weight=1.0)
    loop.train(replace(run, model=student, train=taught), tmp_path / "student")
    found = [float(row["teacher_bits"]) for row in rows(tmp_path / "student" / "log.csv")]
    hold("of the distance left", found[-1] / found[0], below=0.1)
    models = (checkpoint.load_model(tmp_path / name / "last.pt")[0] for name in ("student", "teacher"))
    with torch.no_grad():
        said, wanted = (model(torch.tensor([list(ALPHABET * 2)]))[0].argmax(-1) for model in models)
    # Of 256 bytes; which of two likely ones is first, rounding decides.
    hold("of the bytes another one", float((said != wanted).float().mean()), below=0.5)
    text = [float(bits) for bits in losses(tmp_path / "student").values()]
    hold("bits of the text's bytes", text[-1], above=4)  # which the log still says


def test_a_run_with_a_teacher_goes_on_exactly_and_its_teacher_reads_on(tmp_path):
    teacher = saved(tmp_path / "teacher.pt", random_model(TINY, seed=3))
    run = settings(tmp_path, accumulate=2, total_bytes=8 * 128, teacher=teacher)
    loop.train(run, tmp_path / "whole")
    loop.train(replace(run, train=replace(run.train, total_bytes=4 * 128, decay_bytes=512)), tmp_path / "parts")
    first = checkpoint.load(tmp_path / "parts" / "last.pt")
    assert first["position"]["teacher_states"][0][0].abs().sum() > 0, "carried from window to window"
    loop.train(replace(run, train=replace(run.train, decay_bytes=512)), tmp_path / "parts", resume=True)
    whole, parts = (rows(tmp_path / name / "log.csv") for name in ("whole", "parts"))
    assert len(parts) == 8
    # The first part has its decay earlier, so only the steps before it are the same; what the teacher says of them is.
    assert parts[0]["teacher_bits"] == whole[0]["teacher_bits"]
    again = [row["teacher_bits"] for row in parts]
    loop.train(replace(run, train=replace(run.train, total_bytes=4 * 128, decay_bytes=512)), tmp_path / "more")
    loop.train(replace(run, train=replace(run.train, decay_bytes=512)), tmp_path / "more", resume=True)
    assert [row["teacher_bits"] for row in rows(tmp_path / "more" / "log.csv")] == again


def test_a_teacher_gets_no_gradient_and_reads_model_files(tmp_path):
    model = random_model(FUSED, seed=3)
    gguf_file.write(tmp_path / "teacher.gguf", model, gguf_file.Card(name="t", training_bytes=2_000_000), "TQ1_0")
    teacher = Teacher(str(tmp_path / "teacher.gguf"), TINY, "cpu", 0.5, 1.0, parts=1)
    assert "teacher: hgrnbit" in teacher.describe() and "2.0 MB of text seen" in teacher.describe()
    tokens = torch.randint(97, 123, (2, 12))
    first, second = (teacher.lesson(0, part).logits for part in tokens.chunk(2, 1))
    assert not second.requires_grad and not any(p.requires_grad for p in teacher.model.parameters())
    with torch.no_grad():
        whole, _ = model(tokens)
    torch.testing.assert_close(torch.cat((first, second), 1), whole, rtol=0, atol=0.1)


def test_a_teacher_that_cannot_teach_is_refused_by_name(tmp_path):
    run = settings(tmp_path, total_bytes=128, teacher=str(tmp_path / "none.pt"))
    with pytest.raises(FileNotFoundError, match=r"none\.pt: no such file"):
        loop.train(run, tmp_path / "run")
    other = saved(tmp_path / "wide.pt", build(replace(TINY, vocab_size=300)))
    with pytest.raises(ValueError, match=r"wide\.pt predicts one of 300 symbols, the model to train one of 256"):
        loop.train(replace(run, train=replace(run.train, teacher=other)), tmp_path / "run")
    content = checkpoint.load(other)
    content["config"]["model"]["architecture"] = "transformer"
    checkpoint.save(tmp_path / "strange.pt", content)
    strange = str(tmp_path / "strange.pt")
    with pytest.raises(ValueError, match=r"strange\.pt.*model\.architecture must be one of .*'transformer'"):
        loop.train(replace(run, train=replace(run.train, teacher=strange)), tmp_path / "run")


# ---- float weights


@pytest.mark.trains
def test_a_float_model_rounds_nothing_learns_and_has_no_file(tmp_path, hold):
    config = replace(TINY, ternary=False)
    torch.manual_seed(0)
    model = build(config)
    x = torch.randn(2, 5, TINY.hidden)
    linear = model.layers[0].attn.i_proj
    torch.testing.assert_close(linear(x), linear.norm(x) @ linear.weight.t())
    assert "ternary weights only" in accelerate(build(replace(FUSED, ternary=False)))
    loop.train(settings(tmp_path, config, total_bytes=40 * 128, ternary_every=10), tmp_path / "run")
    hold("bits per byte", float(list(losses(tmp_path / "run").values())[-1]), below=1)
    assert rows(tmp_path / "run" / "ternary.csv") == []
    trained, _ = checkpoint.load_model(tmp_path / "run" / "last.pt")
    with pytest.raises(ValueError, match=r"not ternary .*scripts/superfloat.py"):
        gguf_file.write(tmp_path / "m.gguf", trained, gguf_file.Card(name="m"), "TQ1_0")


# ---- weight decay


@pytest.mark.trains
def test_weight_decay_shrinks_the_masters_of_the_ternary_matrices_alone(tmp_path, hold):
    norms = {}
    for decay in (0.0, 2.0):
        run = settings(tmp_path, total_bytes=16 * 128, decay_bytes=0, matrix_weight_decay=decay)
        loop.train(run, tmp_path / str(decay))
        model, _ = checkpoint.load_model(tmp_path / str(decay) / "last.pt")
        masters = (model.layers[0].mlp.down_proj.weight, model.embeddings.weight)
        norms[decay] = tuple(float(master.detach().norm()) for master in masters)
    (matrix, table), (matrix_before, table_before) = norms[2.0], norms[0.0]
    hold("of a matrix gone", 1 - matrix / matrix_before, above=0.2)
    hold("of the embeddings changed", abs(table / table_before - 1), below=0.05)


# ---- weighted texts


@pytest.fixture
def two_texts(tmp_path):
    for name, count in (("a", 200), ("b", 100)):
        text = "".join(f"{name} story {n:03}\n<|endoftext|>\n" for n in range(count))
        (tmp_path / f"{name}.txt").write_text(text, encoding="utf-8")
    return [str(tmp_path / "a.txt"), str(tmp_path / "b.txt")]


def epochs(stream, number):
    batches = stream.batches(0)
    for _ in range(number):
        targets = torch.cat([next(batches)[1] for _ in range(stream.steps_per_epoch)], 1)
        yield targets[0].numpy().astype(np.uint8).tobytes().split(b"\xff")[1:-1]


def test_a_text_is_read_as_often_in_an_epoch_as_its_weight_says(two_texts):
    stream = Stream(two_texts, batch=1, length=4, seed=3, weights={two_texts[0]: 0.25, two_texts[1]: 2.5})
    halves = []
    for read in epochs(stream, 2):
        a, b = ([document for document in read if document.startswith(name)] for name in (b"a", b"b"))
        assert len(a) == len(set(a)) and abs(len(a) - 50) <= 3
        assert abs(len(b) - 250) <= 3 and len(set(b)) >= 98
        halves.append({document for document in a})
    assert len(halves[0] & halves[1]) < 30, "each epoch draws its own quarter"


def test_a_weight_of_one_reads_what_no_weight_reads(two_texts):
    plain, weighted = (Stream(two_texts, 2, 8, seed=1, weights=weights) for weights in (None, {two_texts[1]: 1}))
    for found, expected in zip(list(epochs(weighted, 2)), list(epochs(plain, 2))):
        assert found == expected


def test_reading_weighted_texts_from_a_later_step_gives_what_reading_on_gives(two_texts):
    stream = Stream(two_texts, batch=2, length=8, seed=0, weights={two_texts[1]: 0.3})
    step = 2 * stream.steps_per_epoch + 3
    reading_on = stream.batches(0)
    for _ in range(step):
        next(reading_on)
    for found, expected in zip(next(stream.batches(step)), next(reading_on)):
        assert torch.equal(found, expected)


# ---- checkpoints from before


def test_a_checkpoint_from_before_these_settings_goes_on_as_it_would_have(tmp_path):
    run = settings(tmp_path, total_bytes=8 * 128, decay_bytes=0)
    loop.train(run, tmp_path / "whole")
    loop.train(replace(run, train=replace(run.train, total_bytes=4 * 128)), tmp_path / "parts")
    content = checkpoint.load(tmp_path / "parts" / "last.pt")
    for section, key in (("model", "ternary"), ("data", "weights"), ("train", "teacher")):
        del content["config"][section][key]
    del content["config"]["train"]["teacher_weight"], content["config"]["train"]["teacher_temperature"]
    del content["position"]["teacher_states"]
    content["config"]["train"] |= {"byte_dropout": 0.0, "hidden_dropout": 0.1}  # settings that are no more
    checkpoint.save(tmp_path / "parts" / "last.pt", content)
    with pytest.raises(ValueError, match=r"train\.hidden_dropout is not a setting"):
        loop.train(run, tmp_path / "parts", resume=True)
    content["config"]["train"]["hidden_dropout"] = 0.0
    checkpoint.save(tmp_path / "parts" / "last.pt", content)
    loop.train(run, tmp_path / "parts", resume=True)
    assert losses(tmp_path / "parts") == losses(tmp_path / "whole")
