"""What the Python tests share: where things are, a held-out text, a tiny random model and its file."""

import os
import subprocess
from pathlib import Path

import pytest
import torch

import tiny_run

ROOT = Path(__file__).resolve().parents[2]
NATIVE = Path(os.environ.get("TERN_BUILD", ROOT / "build" / "native"))  # set it to test another build, say build/asan


@pytest.fixture(scope="session")
def stories() -> bytes:
    return (ROOT / "tests" / "data" / "stories.txt").read_bytes()


def pytest_addoption(parser):
    """Tests marked `trains` have to pass with any seed and number of threads: tests/README.md says with which they did."""
    parser.addoption("--seed", type=int, default=1, help="seed of the runs that the tests train (1)")
    parser.addoption("--threads", type=int, help="of PyTorch, in place of what a test file wants")


def pytest_configure(config):
    tiny_run.SEED = config.getoption("--seed")


@pytest.fixture(autouse=True)
def threads(request):
    """Two, or what the test's file says in THREADS."""
    torch.set_num_threads(request.config.getoption("--threads") or getattr(request.module, "THREADS", 2))


@pytest.fixture(scope="session")
def native():
    """Runs a program of the native build and returns its output; the build is part of ./scripts/test."""

    def run(program: str, *arguments: object) -> str:
        path = NATIVE / program
        assert path.exists(), f"{path} is missing: cmake --preset native && cmake --build --preset native"
        done = subprocess.run([path, *map(str, arguments)], capture_output=True, encoding="utf-8")
        assert done.returncode == 0, f"{program} failed: {done.stderr}"
        return done.stdout

    return run
