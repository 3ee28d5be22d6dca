"""Batches: one label shift, rows that continue, every document once in an epoch, texts larger than the memory."""

import numpy as np
import pytest
import torch

from lm.text.data import Documents, Stream, inputs_and_targets, read_text
from lm.text.encoding import BOS, EOS


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
    path.write_text("".join(f"Story {i} of many.\n<|endoftext|>\n" for i in range(200)), encoding="utf-8")
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
    with pytest.raises(ValueError, match=r"data\.train is empty"):
        Stream([], batch=1, length=4, seed=0)


def test_documents_of_several_texts_can_be_read_in_any_order_from_any_byte(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"one\n<|endoftext|>\ntwo, not ended")
    (tmp_path / "b.bin").write_bytes(b"three\n\xfffour\n\xff")
    found = Documents([str(tmp_path / "a.txt"), str(tmp_path / "b.bin")])
    assert (len(found), found.drawn_tokens(np.ones(2))) == (4, 32)
    reordered = found.in_order(np.array([3, 0, 2, 1]))
    whole = b"four\n\xffone\n\xffthree\n\xfftwo, not ended"
    for begin in range(32):
        for end in range(begin + 1, 33):
            assert reordered[begin:end].tobytes() == whole[begin:end]


def test_a_prepared_text_stays_on_disk(tmp_path):
    (tmp_path / "a.bin").write_bytes(b"text\n\xff")
    text = read_text(tmp_path / "a.bin")
    assert isinstance(text, np.memmap)
    assert text.tobytes() == b"text\n\xff"


@pytest.mark.parametrize(
    ("content", "fault"),
    [(b"", "the file is empty"), (b"ok\n\xff\n", "not UTF-8 at byte 3"), (None, "no such text file")],
)
def test_a_text_that_cannot_be_read_is_refused_by_name(tmp_path, content, fault):
    path = tmp_path / "text.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises((ValueError, OSError), match=rf"text\.txt: {fault}"):
        read_text(path)


def test_a_folder_in_place_of_a_text_is_refused(tmp_path):
    with pytest.raises(OSError, match="a folder, expected a text file"):
        read_text(tmp_path)
