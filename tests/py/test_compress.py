"""`tern compress` and `tern decompress`: the same data comes back, in the container that FORMAT.md describes."""

import base64
import json
import subprocess
from pathlib import Path

import pytest

import spec_reader

ROOT = Path(__file__).parents[2]
TERN = ROOT / "build" / "native" / "tern"
GOLDEN = ROOT / "tests" / "golden"
VECTORS = json.loads((ROOT / "tests/data/compressed.json").read_text(encoding="utf-8"))
STORIES = ROOT / "models/tinystories-3m5.gguf"


def run(command: str, model: Path, data: bytes, folder: Path) -> subprocess.CompletedProcess:
    (folder / "in").write_bytes(data)
    words = [TERN, command, "--model", model, "--in", folder / "in"]
    return subprocess.run(words, capture_output=True)


def there_and_back(model: Path, data: bytes, folder: Path) -> int:
    compressed = run("compress", model, data, folder)
    assert compressed.returncode == 0, compressed.stderr
    back = run("decompress", model, compressed.stdout, folder)
    assert back.returncode == 0, back.stderr
    assert back.stdout == data
    return len(compressed.stdout)


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: f"{vector['model']}, {len(vector['data'])}")
def test_the_vectors_are_what_tern_writes_and_what_the_reader_of_the_spec_reads(vector, tmp_path):
    model = ROOT / vector["model"]
    data, container = base64.b64decode(vector["data"]), base64.b64decode(vector["compressed"])
    assert run("compress", model, data, tmp_path).stdout == container
    assert run("decompress", model, container, tmp_path).stdout == data
    file = model.read_bytes()
    assert spec_reader.decompress(spec_reader.Model(file), file, container) == data


@pytest.mark.parametrize("name", sorted(path.stem for path in GOLDEN.glob("tiny_*.gguf")))
def test_any_bytes_come_back_from_every_kind_of_model(name, tmp_path):
    every = bytes(range(256)) * 3
    for data in (b"", b"\xff", every, "Once upon a time 🦊, ".encode() * 40):
        there_and_back(GOLDEN / f"{name}.gguf", data, tmp_path)


def test_several_blocks_come_back(tmp_path):
    there_and_back(GOLDEN / "tiny_state.gguf", bytes(7 * n * n % 251 for n in range(33_000)), tmp_path)


@pytest.mark.parametrize("name", ["tinystories-3m5", "tinystories-hnet-6m", "tinystories-tokens-4m5"])
def test_a_story_takes_about_the_bits_of_its_score(name, tmp_path):
    text = (ROOT / "tests/data/stories.txt").read_bytes()[:3000].replace(b"<|endoftext|>\n", b"")
    (tmp_path / "text.txt").write_bytes(text)
    model = ROOT / "models" / f"{name}.gguf"
    size = there_and_back(model, text, tmp_path)
    words = [TERN, "eval", "--model", model, "--text", tmp_path / "text.txt", "--samples", "0", "--json"]
    measured = json.loads(subprocess.run(words, capture_output=True, check=True).stdout)
    bits = int(measured["bits_q32"]) / 2**32
    assert bits / 8 < size < bits / 8 * 1.002 + 26  # a container has about 25 bytes besides the code


def test_what_is_damaged_cut_of_another_model_or_no_container_is_refused(tmp_path):
    data = b"Once upon a time there was a byte."
    good = run("compress", STORIES, data, tmp_path).stdout
    other = GOLDEN / "tiny_state.gguf"
    for model, container, message in [
        (other, good, b"found that of"),
        (STORIES, b"TNC\x02" + good[4:], b"version 1"),
        (STORIES, data, b"version 1"),
        (STORIES, b"", b"version 1"),
        (STORIES, good + b"\0", b"found more"),
        *[(STORIES, good[:size], b"ends before it should") for size in range(4, len(good))],
    ]:
        done = run("decompress", model, container, tmp_path)
        assert (done.returncode, message in done.stderr, done.stderr.count(b"\n")) == (1, True, 1), container
    for at in range(len(good)):
        damaged = good[:at] + bytes([good[at] ^ 16]) + good[at + 1 :]
        done = run("decompress", STORIES, damaged, tmp_path)
        if done.stdout != data or done.returncode != 0:  # the last bits of a code may be any
            assert (done.returncode, done.stderr.count(b"\n")) == (1, 1), damaged


def test_a_file_appears_when_whole_and_never_replaces_what_was_read(tmp_path):
    (tmp_path / "in").write_bytes(b"data")
    words = [TERN, "compress", "--model", STORIES, "--in", tmp_path / "in", "--out"]
    assert subprocess.run([*words, tmp_path / "out"]).returncode == 0
    assert (tmp_path / "out").read_bytes() == run("compress", STORIES, b"data", tmp_path).stdout
    assert subprocess.run([*words, tmp_path / "in"], capture_output=True).returncode == 2
    bad = [TERN, "decompress", "--model", STORIES, "--in", tmp_path / "in", "--out", tmp_path / "never"]
    assert subprocess.run(bad, capture_output=True).returncode == 1
    assert not (tmp_path / "never").exists()
