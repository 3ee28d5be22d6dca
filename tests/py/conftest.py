"""What the Python tests share: where things are, a held-out text, a tiny random model and its file."""

import math
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
    """For tests marked `trains`: see tests/README.md."""
    parser.addoption("--seed", type=int, default=1, help="seed of the runs that the tests train (1)")
    parser.addoption("--threads", type=int, help="of PyTorch, in place of what a test file wants")
    parser.addoption("--margin", type=float, default=1, help="by which factor their limits are stricter (1)")


def pytest_configure(config):
    tiny_run.SEED = config.getoption("--seed")


@pytest.hookimpl(tryfirst=True)  # before any fixture, which may train
def pytest_runtest_setup(item):
    """Random numbers that do not depend on earlier tests; two threads, or what the test's file says in THREADS; as many in
    the programs that a test starts.
    """
    torch.manual_seed(tiny_run.SEED)
    number = item.config.getoption("--threads") or getattr(item.module, "THREADS", 2)
    torch.set_num_threads(number)
    os.environ["OMP_NUM_THREADS"] = str(number)


@pytest.fixture
def hold(request):
    """hold(what, found, below=B) or above=A: compares what chance has a part in with a limit; `-m trains` lists them all."""
    margin = request.config.getoption("--margin")

    def compare(what: str, found: float, below: float = math.inf, above: float = -math.inf, where: str = ""):
        limit = f"below {below:g}" if below < math.inf else f"above {above:g}"
        request.node.user_properties.append((what, f"{found:.4g}, {limit}"))
        assert margin * above < found < below / margin, f"{what}: {found:.4g}, expected {limit} {where}"

    return compare


def pytest_terminal_summary(terminalreporter, config):
    if config.option.markexpr != "trains":
        return
    terminalreporter.section("what was compared with a limit")
    for outcome in ("passed", "failed"):
        for report in terminalreporter.getreports(outcome):
            for what, how in report.user_properties if report.when == "call" else ():
                terminalreporter.line(f"{report.nodeid.partition('::')[2]}: {what}: {how}")


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
