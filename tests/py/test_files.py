"""Files are UTF-8 whatever the locale, appear whole or not at all, and a write that fails says so; commands end as a shell expects."""

import ast
import json
import os
import re
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from conftest import ROOT
from lm.text import command, files

ASCII = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}  # open() means ASCII here


def without_encoding(source: str) -> list[int]:
    """The lines of calls that read or write text in the locale's encoding."""
    found = []
    for call in (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)):
        words = {word.arg: word.value for word in call.keywords}
        function = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
        owner = getattr(getattr(call.func, "value", None), "id", "")
        parts = (part for word in (*call.args, *words.values()) for part in ast.walk(word))
        modes = [part.value for part in parts if isinstance(part, ast.Constant) and part.value in MODES]
        text = {
            "open": owner not in ("lzma", "bz2", "archive", "os", "tarfile") and not any("b" in mode for mode in modes),
            "read_text": isinstance(call.func, ast.Attribute) and owner not in ("files", "data"),
            "write_text": isinstance(call.func, ast.Attribute) and owner != "files",
        }.get(
            function,
            any(
                isinstance(a := words.get(name), ast.Constant) and a.value is True
                for name in ("text", "universal_newlines")
            ),
        )
        if text and "encoding" not in words:
            found.append(call.lineno)
    return found


MODES = {kind + more for kind in "rwax" for more in ("", "b", "+", "+b", "b+")}


@pytest.mark.parametrize(
    ("source", "lines"),
    [
        ("open(path)\nopen(path, 'rb')\nopen(path, encoding='utf-8')", [1]),
        ("path.read_text()\npath.write_text('a')\nfiles.read_text(path)\npath.open('w')", [1, 2, 4]),
        ("run(words, text=True)\nrun(words, text=True, encoding='utf-8')\nrun(words)", [1]),
    ],
)
def test_a_call_without_an_encoding_is_found(source, lines):
    assert without_encoding(source) == lines


def test_every_text_is_read_and_written_with_an_encoding():
    sources = [
        *(ROOT / "scripts").rglob("*.py"),
        *(ROOT / "tests" / "py").glob("*.py"),
        *(ROOT / "tests").glob("l*/*.py"),
    ]
    found = {path.relative_to(ROOT): without_encoding(path.read_text(encoding="utf-8")) for path in sources}
    assert {str(path): lines for path, lines in found.items() if lines} == {}


def script(name, *words, **options):
    command = [sys.executable, ROOT / "scripts" / f"{name}.py", *map(str, words)]
    return subprocess.run(command, capture_output=True, encoding="utf-8", cwd="/", **options)


TINY = """
# Ein Lauf über „Märchen“
[model]
hidden = 24
recurrent = 24
intermediate = 32
layers = 1
[data]
train = ["{0}/tales.txt"]
valid = "{0}/tales.txt"
[train]
total_bytes = {1}
batch = 4
length = 16
warmup_bytes = 0
sample_every = 2
save_every = {2}
valid_bytes = 64
device = "cpu"
"""


@pytest.fixture
def run(tmp_path):
    """A folder with a text and run.toml, for a run of three steps."""
    (tmp_path / "tales.txt").write_text("Es war einmal ein Mädchen.\n<|endoftext|>\n" * 60, encoding="utf-8")
    (tmp_path / "run.toml").write_text(TINY.format(tmp_path, 3 * 64, 100), encoding="utf-8")
    return tmp_path


def test_a_run_under_an_ascii_locale_reads_and_writes_utf8(run):
    done = script("train", run / "run.toml", "--out", run / "out", env=ASCII)
    assert done.returncode == 0, done.stderr
    assert "--- step 2" in (run / "out" / "samples.txt").read_text(encoding="utf-8")


def test_a_file_that_cannot_be_written_is_as_it_was(tmp_path):
    files.write_text(tmp_path / "a.txt", "old")
    with pytest.raises(ValueError, match="no good"), files.replacing(tmp_path / "a.txt") as partial:
        partial.write_bytes(b"half")
        raise ValueError("no good")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("a.txt", b"old")]


def test_the_fault_of_another_file_keeps_its_name(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"missing\.txt"), files.replacing(tmp_path / "a.txt") as partial:
        partial.write_bytes((tmp_path / "missing.txt").read_bytes())
    assert not list(tmp_path.iterdir())


def test_a_link_stays_a_link_and_a_device_a_device(tmp_path):
    (tmp_path / "link.txt").symlink_to("a.txt")
    files.write_text(tmp_path / "link.txt", "new")
    assert (tmp_path / "link.txt").is_symlink() and (tmp_path / "a.txt").read_text(encoding="utf-8") == "new"
    (tmp_path / "null").symlink_to("/dev/null")
    files.write_text(tmp_path / "null", "gone")
    assert Path("/dev/null").is_char_device() and (tmp_path / "null").is_symlink()
    (tmp_path / "full").symlink_to("/dev/full")
    with pytest.raises(OSError, match=r"No space left on device after 0 bytes: .*full"):
        files.write_text(tmp_path / "full", "new")


def at_most(size):
    """For a process whose files must not grow beyond `size` bytes: what a full disk looks like."""

    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    return limit


@pytest.mark.parametrize(
    ("name", "words", "out"),
    [
        ("export", ["--checkpoint", "{}/last.pt", "--out", "{}/model.gguf"], "model.gguf"),
        ("make_random_model", ["{}/model.gguf", "--hidden", "64", "--layers", "1"], "model.gguf"),
        ("prepare_data", ["{}/tales.txt", "--out", "{}/all.bin"], "all.bin"),
        ("plot", ["models", "--folder", "{}"], "bits-per-byte.svg"),
        ("train", ["{}/run.toml", "--resume", "--out", "{}"], "best.pt"),
    ],
)
def test_a_full_disk_ends_a_command_with_the_files_name_and_leaves_nothing_half(run, name, words, out):
    if name in ("export", "train"):
        assert script("train", run / "run.toml", "--out", run).returncode == 0
        longer = (run / "run.toml").read_text(encoding="utf-8").replace("total_bytes = 192", "total_bytes = 256")
        (run / "run.toml").write_text(longer, encoding="utf-8")
    if name == "prepare_data":
        (run / "tales.txt").write_text("\n".join(f"Märchen {n}\n<|endoftext|>" for n in range(2000)), encoding="utf-8")
    for file in ("manifest.json", "baselines.json") if name == "plot" else ():
        (run / file).write_bytes((ROOT / "models" / file).read_bytes())
    before = {path: path.read_bytes() for path in run.glob("*") if path.suffix in (".pt", ".gguf")}
    done = script(name, *(word.format(run) for word in words), preexec_fn=at_most(8192))
    assert done.returncode == 1, done.stdout
    said = done.stderr.strip().splitlines()[-1]
    assert said.startswith(f"{name}: ") and out in said
    assert re.search(r"(File too large|written) after [\d,]+ bytes", said) and "Traceback" not in done.stderr
    assert {path: path.read_bytes() for path in run.glob("*") if path.suffix in (".pt", ".gguf")} == before
    assert not [path for path in run.rglob("*") if "partial" in path.name or path.name == "all.bin"]


@pytest.mark.parametrize("name", ["tensorboard/events", "samples.txt"])
def test_what_grows_with_a_run_is_named_when_the_disk_is_full(run, name):
    (run / "run.toml").write_text(TINY.format(run, 30 * 64, 100), encoding="utf-8")
    if name == "samples.txt":
        files.write_bytes(run / "out" / name, bytes(4000))
    done = script("train", run / "run.toml", "--out", run / "out", preexec_fn=at_most(4000))
    assert done.returncode == 1, done.stdout
    said = done.stderr.strip().splitlines()[-1]
    assert re.fullmatch(rf"train: .*File too large after 4,000 bytes: '{run}/out/{name}.*'", said), said


@pytest.mark.parametrize(
    ("to", "fault"), [("/dev/full", "[Errno 28] No space left on device"), ("&-", "[Errno 9] Bad file descriptor")]
)
@pytest.mark.parametrize("words", [["tales.txt", "--json"], ["tales.txt"], ["--help"]], ids=" ".join)
def test_output_to_a_full_disk_or_a_closed_stream_is_a_failure(run, words, to, fault):
    command = ["sh", "-c", f'exec "$0" "$@" >{to}', sys.executable, ROOT / "scripts" / "baselines.py", *words]
    done = subprocess.run(command, stderr=subprocess.PIPE, encoding="utf-8", cwd=run)
    assert (done.returncode, done.stderr) == (1, f"baselines: {fault}\n")


def test_a_closed_stream_is_not_the_next_file_and_a_closed_stderr_is_no_fault(run):
    command = f'exec "{sys.executable}" "{ROOT}/scripts/baselines.py" tales.txt --json --out kept.json'
    for closed, status in ((">&- 2>&-", 1), ("<&- 2>&-", 0)):
        done = subprocess.run(["sh", "-c", f"{command} {closed}"], cwd=run, stdout=subprocess.PIPE, encoding="utf-8")
        assert done.returncode == status
        assert json.loads((run / "kept.json").read_text(encoding="utf-8"))["bytes"] == 1740
    assert json.loads(done.stdout)["bytes"] == 1740


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_fault_is_not_lost_by_who_keeps_quiet_about_it_nor_the_rest_of_a_write(tmp_path, unbuffered):
    """Python 3.11.7's argparse keeps quiet; an unbuffered stream forgets what did not fit."""
    (tmp_path / "talk.py").write_text(
        "from contextlib import suppress\nfrom lm.text import command\n"
        "def main():\n    with suppress(OSError):\n        print('x' * 20000)\n"
        "command.run(main)\n",
        encoding="utf-8",
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT / "scripts"), "PYTHONUNBUFFERED": unbuffered}
    for to, limit, fault in (("/dev/full", None, "No space left on device"), ("out", at_most(8192), "File too large")):
        with open(tmp_path / to, "wb") as out:
            words, how = [sys.executable, tmp_path / "talk.py"], {"stdout": out, "preexec_fn": limit}
            done = subprocess.run(words, stderr=subprocess.PIPE, encoding="utf-8", env=environment, **how)
        assert (done.returncode, fault in done.stderr) == (1, True), (to, done.stderr)


def test_every_command_ends_in_this_way():
    commands = [path.read_text(encoding="utf-8") for path in (ROOT / "scripts").glob("*.py")]
    assert all(text.endswith('if __name__ == "__main__":\n    command.run(main)\n') for text in commands)


def test_a_reader_that_goes_away_is_no_fault_to_be_told(run):
    arguments = [sys.executable, ROOT / "scripts" / "baselines.py", run / "tales.txt"]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8") as process:
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait() == 141


def test_what_the_terminal_cannot_show_does_not_end_a_command(run):
    done = script("baselines", run / "tales.txt", "--train", run / "no 🦉.txt", env=ASCII)
    assert done.returncode == 1
    assert "no such text file" in done.stderr and "Traceback" not in done.stderr


def interrupted(run, save_every, step):
    """train.py, sent Ctrl-C after it has logged the step -> (exit status, last line of stderr)."""
    text = TINY.format(run, 100_000 * 64, save_every).replace("sample_every = 2", "sample_every = 0")
    (run / "run.toml").write_text(text, encoding="utf-8")
    arguments = [sys.executable, ROOT / "scripts" / "train.py", run / "run.toml", "--out", run / "out"]
    heed = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)  # noqa: E731  (ignored in what a shell has put aside)
    pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "encoding": "utf-8", "preexec_fn": heed}
    with subprocess.Popen(arguments, **pipes) as process:
        log, deadline = run / "out" / "log.csv", time.monotonic() + 120
        while not (log.exists() and f"\n{step}," in log.read_text(encoding="utf-8")) and time.monotonic() < deadline:
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=300)[1]
    return process.returncode, said.strip().splitlines()[-1]


def test_ctrl_c_before_the_first_checkpoint_names_none(run):
    status, said = interrupted(run, save_every=1_000_000, step=3)
    assert status == 130
    assert said.startswith("train: stopped at step ") and said.endswith("there is nothing to go on from")
    assert "last.pt" not in said


def test_ctrl_c_names_the_checkpoint_and_the_step_that_a_resumed_run_goes_on_from(run):
    status, said = interrupted(run, save_every=5, step=12)
    assert status == 130
    assert f"{run / 'out' / 'last.pt'} has step " in said
    step = int(said.split("has step ")[1].split(",")[0])
    assert step % 5 == 0 and step >= 10
    text = (
        (run / "run.toml")
        .read_text(encoding="utf-8")
        .replace("total_bytes = 6400000", f"total_bytes = {64 * step + 64}")
    )
    (run / "run.toml").write_text(text, encoding="utf-8")
    done = script("train", run / "run.toml", "--out", run / "out", "--resume")
    assert done.returncode == 0, done.stderr
    assert f"goes on from {run / 'out' / 'last.pt'}: step {step}, {64 * step:,} bytes seen" in done.stdout


def test_status_of_a_command_is_what_a_shell_expects(capsys):
    def raises(fault):
        raise fault

    for fault, wanted in ((ValueError("bad"), 1), (KeyboardInterrupt(), 130), (BrokenPipeError(), 141)):
        assert command.status(lambda fault=fault: raises(fault), "name") == wanted
    assert capsys.readouterr().err == "name: bad\nname: stopped\n"
    assert command.status(lambda: None, "name") == 0
