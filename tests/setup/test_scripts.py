"""The shell scripts on machines and in places that are not as they wish: what they refuse, what they survive, what they say."""

import json
import os
import re
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = {name: value for name, value in os.environ.items() if name not in ("TERN_TREE_HELD", "EM_CONFIG")}
ENVIRONMENT["PATH"] = ":".join(place for place in os.environ["PATH"].split(":") if "/.toolchain/" not in place)

# Everything that a path may have in it and that some shell, Python, CMake, ninja or URL would like to take apart.
AWKWARD = "an odd, old 'place' for $HOME & {me} [ü] (2)!"

NOWHERE = "http://127.0.0.1:9/"  # the port "discard": nobody listens
OFFLINE = {"npm_config_registry": NOWHERE, "npm_config_fetch_retries": "0", "npm_config_cache": "/nonexistent/cache"}
OFFLINE |= {"PIP_INDEX_URL": NOWHERE, "PIP_RETRIES": "1", "PIP_NO_CACHE_DIR": "1", "no_proxy": "*"}


def copy(folder: Path, *files: str) -> Path:
    """A checkout of its own with `scripts/` and `files`; links, where the file system can, so that it costs nothing."""
    for name in ("scripts", *files):
        source, target = ROOT / name, folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(["cp", "-a", "--reflink=auto", source, target], check=True)
    return folder


def run(checkout: Path, command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-c", command],
        cwd=checkout,
        env={**ENVIRONMENT, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )


def says(done: subprocess.CompletedProcess[str]) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", done.stdout + done.stderr)


def programs(folder: Path, **scripts: str) -> str:
    """A PATH that begins with made-up programs."""
    folder.mkdir()
    for name, body in scripts.items():
        program = folder / name.replace("_", "-")
        program.write_text(f"#!/bin/sh\n{body}\n", encoding="utf-8")
        program.chmod(0o755)
    return f"{folder}:{ENVIRONMENT['PATH']}"


# ---- Places ----
@pytest.mark.parametrize("character", [*':;"#%|<>*?`\\', "\n", "\t"])
@pytest.mark.parametrize("script", ["setup", "test", "demo"])
def test_a_path_that_the_build_tools_cannot_take_is_refused_before_anything_is_fetched(
    tmp_path: Path, script: str, character: str
) -> None:
    checkout = copy(tmp_path / f"a{character}b", "models/tinystories-3m5.gguf")
    calls = tmp_path / "calls"
    path = programs(
        tmp_path / "bin", **dict.fromkeys(("apt_get", "sudo", "npm", "node", "pip"), f"echo $0 >>'{calls}'")
    )
    done = run(checkout, f"./scripts/{script}", PATH=path)
    assert done.returncode == 1
    assert "the path of this checkout has the character" in says(done)
    assert not calls.exists()
    assert sorted(entry.name for entry in checkout.iterdir()) == ["models", "scripts"]


def test_what_the_scripts_generate_survives_an_awkward_path(tmp_path_of_tree: Path) -> None:
    toolchain, modules = ROOT / ".toolchain", ROOT / "node_modules"
    if not (toolchain / "debian").exists():
        pytest.skip("em++ is this machine's own: nothing is generated for it")
    checkout = tmp_path_of_tree / AWKWARD
    checkout.mkdir()
    for folder in (toolchain, modules):  # hard links: a symbolic link would lead to the plain path
        subprocess.run(["cp", "-al", folder, checkout], check=True)
    copy(
        checkout,
        "cpp",
        "web",
        "models",
        "tests/cpp",
        "CMakeLists.txt",
        "CMakePresets.json",
        "package.json",
        "package-lock.json",
    )
    shutil.rmtree(checkout / "web" / "dist", ignore_errors=True)

    done = run(checkout, "scripts/setup wasm node")
    assert done.returncode == 0, says(done)

    # The environment, in the shells that may source it.
    for shell in ("bash", "sh"):
        done = run(checkout, f"{shell} -c '. .toolchain/env.sh && command -v em++ && command -v tsc'")
        assert done.stdout.splitlines() == [f"{checkout}/.toolchain/bin/em++", f"{checkout}/node_modules/.bin/tsc"]

    # Emscripten with all that it calls: clang, binaryen, acorn, node, tsc.
    (checkout / "hello.cc").write_text(
        "#include <emscripten/bind.h>\nstatic int twice(int x) { return x * 2; }\n"
        'EMSCRIPTEN_BINDINGS(hello) { emscripten::function("twice", &twice); }\n',
        encoding="utf-8",
    )
    done = run(
        checkout,
        "source .toolchain/env.sh && em++ hello.cc -O3 -flto -lembind -sEMBIND_AOT=1 -sDYNAMIC_EXECUTION=0 -sMODULARIZE=1 "
        '-sEXPORT_ES6=1 -sENVIRONMENT=web,worker,node -o "$PWD/hello.js" --emit-tsd="$PWD/hello.d.ts" && '
        'node --input-type=module -e "console.log((await (await import(\\"./hello.js\\")).default()).twice(21))"',
    )
    assert done.returncode == 0, says(done)
    assert done.stdout.strip() == "42"
    assert "twice(" in (checkout / "hello.d.ts").read_text(encoding="utf-8")

    # CMake: in every command every path is one word, and right.
    for preset in ("wasm", "native"):
        done = run(
            checkout,
            f"source .toolchain/env.sh && cmake --preset {preset} >/dev/null && ninja -C build/{preset} -t commands",
        )
        assert done.returncode == 0, says(done)
        words = [word.replace("\\$", "$") for line in done.stdout.splitlines() for word in shlex.split(line)]
        assert [word for word in words if "odd" in word and str(checkout) not in word] == []
        assert f"{checkout}/cpp/base/result.cc" in words

    # ninja and the compiler.
    done = run(
        checkout,
        "ninja -C build/native CMakeFiles/tern_scalar.dir/cpp/base/result.cc.o",
    )
    assert done.returncode == 0, says(done)

    # Vite, when the modules are there to be bundled.
    if (checkout / "web" / "src" / "wasm" / "tern-simd.js").exists():
        done = run(checkout, 'source .toolchain/env.sh && npm run --silent build:demo -- --outDir "$PWD/build/demo"')
        assert done.returncode == 0, says(done)
        assert (checkout / "build" / "demo" / "index.html").exists()


@pytest.fixture
def tmp_path_of_tree() -> Iterator[Path]:
    """A folder on the file system of the repository, for what cannot be copied in a moment."""
    (ROOT / "build").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=ROOT / "build") as folder:
        yield Path(folder)


BUILD = "source scripts/tools/common.sh && build native"


@pytest.fixture
def small_checkout(tmp_path: Path) -> Path:
    """A checkout whose build is one object."""
    checkout = copy(tmp_path / "first", "CMakePresets.json")
    (checkout / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.23)\nproject(small CXX)\nadd_executable(small small.cc)\n", encoding="utf-8"
    )
    (checkout / "small.cc").write_text("int main() {}\n", encoding="utf-8")
    return checkout


def test_a_checkout_that_was_moved_or_copied_is_configured_and_built_anew(small_checkout: Path) -> None:
    assert run(small_checkout, BUILD).returncode == 0
    assert "no work to do" in says(run(small_checkout, BUILD))
    moved = small_checkout.rename(small_checkout.with_name("second"))
    done = run(moved, BUILD)
    assert done.returncode == 0, says(done)
    assert "making it anew" in says(done)
    assert "no work to do" in says(run(moved, BUILD))


def test_a_build_whose_emscripten_has_gone_is_configured_anew(small_checkout: Path) -> None:
    toolchain = small_checkout / "gone.cmake"
    toolchain.write_text("", encoding="utf-8")
    assert run(small_checkout, f"cmake --preset native -DCMAKE_TOOLCHAIN_FILE={toolchain}").returncode == 0
    toolchain.unlink()
    done = run(small_checkout, BUILD)
    assert done.returncode == 0, says(done)
    assert "making it anew" in says(done)


def test_the_python_of_a_checkout_that_was_moved_is_made_anew(tmp_path: Path) -> None:
    checkout = copy(tmp_path / "first")
    (checkout / "requirements.txt").write_text("# nothing\n", encoding="utf-8")
    done = run(checkout, "scripts/tools/python.sh")
    assert done.returncode == 0, says(done)
    assert says(run(checkout, "scripts/tools/python.sh")) == ""
    moved = checkout.rename(tmp_path / "second")
    done = run(moved, "scripts/tools/python.sh && .venv/bin/pip --version")
    assert done.returncode == 0, says(done)


def test_a_python_that_is_a_link_to_that_of_another_checkout_is_left_alone(tmp_path: Path) -> None:
    checkout = copy(tmp_path / "worktree", "requirements.txt")
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "stamp").write_text("another place")
    (checkout / ".venv").symlink_to(theirs)
    done = run(checkout, "scripts/tools/python.sh")
    assert done.returncode == 0, says(done)
    assert [path.name for path in theirs.iterdir()] == ["stamp"]


def test_what_names_places_follows_a_checkout_that_was_moved(tmp_path: Path) -> None:
    checkout = copy(tmp_path / "first")
    (checkout / ".toolchain" / "debian").mkdir(parents=True)
    write = "source scripts/tools/common.sh && write_environment"
    assert run(checkout, write).returncode == 0
    moved = checkout.rename(tmp_path / "second")
    assert run(moved, write).returncode == 0
    written = (moved / ".toolchain" / "env.sh").read_text(encoding="utf-8")
    assert str(checkout) not in written
    assert str(moved) in written


def test_nothing_that_emscripten_is_called_through_names_the_checkout() -> None:
    toolchain = ROOT / ".toolchain"
    if not (toolchain / "debian").exists():
        pytest.skip("em++ is this machine's own")
    generated = [*(toolchain / "binaryen" / "bin").iterdir(), toolchain / "stamp", toolchain / "package.json"]
    assert [file for file in generated if str(ROOT) in file.read_text(encoding="utf-8")] == []
    for link in (toolchain / "bin", toolchain / "bin" / "node_modules" / "acorn"):
        assert link.exists()
        assert not os.readlink(link).startswith("/")


# ---- What is the matter ----
@pytest.mark.parametrize("script", ["setup", "test", "demo"])
def test_a_tree_that_cannot_be_written_to_is_named(script: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        checkout = copy(Path(folder) / "tree", "models/tinystories-3m5.gguf")
        (checkout / ".venv").mkdir()
        command = f"chmod -R a-w '{checkout}' && ./scripts/{script}"
        if os.geteuid() == 0:  # for whom everything can be written to: as nobody, then
            subprocess.run(["chown", "-R", "65534:65534", checkout], check=True)
            command = f"setpriv --reuid=65534 --regid=65534 --clear-groups bash -c {shlex.quote(command)}"
        done = run(checkout, command)
        assert done.returncode == 1
        assert f"{checkout} cannot be written to by" in says(done).replace("/.", "")
        assert "python3-venv" not in says(done)
        subprocess.run(["chmod", "-R", "u+w", checkout], check=True)


def test_folders_of_somebody_else_are_named() -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can make a folder of somebody else")
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        checkout = copy(Path(folder) / "tree")
        (checkout / ".venv").mkdir()  # as after sudo ./scripts/setup
        os.chown(checkout, 65534, 65534)
        done = run(checkout, "setpriv --reuid=65534 --regid=65534 --clear-groups ./scripts/setup native")
        assert done.returncode == 1
        assert f"{checkout}/.venv cannot be written to by nobody (it belongs to root" in says(done)


def test_npm_without_a_network_is_told_from_a_lock_that_disagrees(tmp_path: Path) -> None:
    own_node = [".toolchain/node"] if (ROOT / ".toolchain/node").exists() else []  # where the machine's is too old
    checkout = copy(tmp_path / "tree", *own_node)
    package = {"name": "t", "version": "1.0.0"}
    needs = {"dependencies": {"left-pad": "1.3.0"}}
    (checkout / "package.json").write_text(json.dumps(package | needs), encoding="utf-8")
    locked = {"": package | needs, "node_modules/left-pad": {"version": "1.3.0"}}
    lock = {"name": "t", "version": "1.0.0", "lockfileVersion": 3, "packages": locked}
    cache = {"npm_config_cache": str(tmp_path / "cache")}

    (checkout / "package-lock.json").write_text(json.dumps(lock), encoding="utf-8")
    done = run(checkout, "scripts/tools/node.sh packages", **OFFLINE | cache)
    assert done.returncode == 1
    assert "npm ci failed: the server cannot be reached" in says(done)
    assert "disagree" not in says(done)

    (checkout / "package-lock.json").write_text(json.dumps(lock | {"packages": {"": package}}), encoding="utf-8")
    done = run(checkout, "scripts/tools/node.sh packages", **OFFLINE | cache)
    assert done.returncode == 1
    assert "package.json and package-lock.json disagree" in says(done)


def test_apt_without_a_network_says_so(tmp_path: Path) -> None:
    checkout = copy(tmp_path / "tree")
    path = programs(
        tmp_path / "bin",
        apt_get='echo "Temporary failure resolving the mirror"; exit 100',
        sudo='exec "$@"',
        dirname='exec /usr/bin/dirname "$@"',
    )
    packages = checkout / "scripts" / "tools" / "packages.sh"
    table = packages.read_text(encoding="utf-8").replace("have shellcheck", "false")
    packages.write_text(table, encoding="utf-8")
    done = run(checkout, "scripts/setup lint", PATH=path)
    assert done.returncode == 1
    assert "apt-get could not install shellcheck" in says(done)
    assert "the server cannot be reached" in says(done)


def test_a_node_that_is_too_old_is_noticed_before_anything_else_is_fetched(tmp_path: Path) -> None:
    checkout = copy(tmp_path / "tree")
    calls = tmp_path / "calls"
    path = programs(tmp_path / "bin", node="echo v18.19.0", npm="exit 0", apt_get=f"echo apt-get $* >>'{calls}'")
    done = run(checkout, "scripts/setup native wasm node python lint browsers fuzz", PATH=path, **OFFLINE)
    assert done.returncode == 1
    assert "this machine's Node.js (v18.19.0) is too old" in says(done)
    assert "could not be fetched from PyPI: the server cannot be reached" in says(done)
    assert not calls.exists()


def test_the_versions_of_node_that_suit_are_those_that_the_packages_name(tmp_path: Path) -> None:
    checkout = copy(tmp_path / "tree")
    ask = 'source scripts/tools/common.sh; for v in "$@"; do if node_suits "$v"; then echo "$v"; fi; done'
    versions = "v18.19.0 v20.18.9 v20.19.0 v21.9.0 v22.12.0 v22.13.0 v22.20.0 v23.9.0 v24.0.0 v25.1.0 v100.0.0"
    done = run(checkout, f"bash -c {shlex.quote(ask)} ask {versions} ''")
    assert done.stdout.split() == ["v20.19.0", "v22.13.0", "v22.20.0", "v24.0.0", "v25.1.0", "v100.0.0"]


# ---- Two at a time ----
def test_two_scripts_in_one_tree_take_turns_and_say_who_is_at_work(tmp_path: Path) -> None:
    checkout = copy(tmp_path / "tree")
    begin = "source scripts/tools/common.sh && hold_tree"
    first = subprocess.Popen(
        ["bash", "-c", f"{begin} scripts/test && echo ready && read -r line && echo written >result"],
        cwd=checkout,
        env=ENVIRONMENT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        encoding="utf-8",
    )
    assert first.stdin is not None
    assert first.stdout is not None
    assert first.stdout.readline() == "ready\n"
    second = subprocess.Popen(
        ["bash", "-c", f"{begin} scripts/demo && cat result"],
        cwd=checkout,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )
    assert second.stderr is not None
    assert f"scripts/test (process {first.pid}, since " in second.stderr.readline()
    assert second.poll() is None
    first.communicate("go on\n")
    assert second.communicate()[0] == "written\n"


def test_what_a_script_starts_works_under_its_lock(tmp_path: Path) -> None:
    checkout = copy(tmp_path / "tree")
    inner = "source scripts/tools/common.sh && hold_tree inner && echo through"
    done = run(checkout, f"source scripts/tools/common.sh && hold_tree outer && bash -c '{inner}' && cat build/lock")
    assert done.stdout.startswith("through\nouter (process ")


def test_a_tree_that_was_released_is_free_while_the_script_goes_on(tmp_path: Path) -> None:
    checkout = copy(tmp_path / "tree")
    inner = "source scripts/tools/common.sh && hold_tree inner && echo through"
    done = run(checkout, f"source scripts/tools/common.sh && hold_tree outer && release_tree && bash -c '{inner}'")
    assert (done.stdout, done.stderr) == ("through\n", "")


# ---- Names that must agree ----
def test_every_suite_asks_for_parts_that_setup_knows_and_every_package_belongs_to_one() -> None:
    setup = (ROOT / "scripts" / "setup").read_text(encoding="utf-8")
    parts = set(re.findall(r"[a-z]+", re.search(r"expected (native.*?)\"", setup).group(1))) - {"or"}
    suites = (ROOT / "scripts" / "test").read_text(encoding="utf-8")
    asked = {part for line in re.findall(r"\) echo ([a-z ]+) ;;", suites) for part in line.split()}
    assert asked <= parts
    table = (ROOT / "scripts" / "tools" / "packages.sh").read_text(encoding="utf-8")
    assert set(re.findall(r"^([a-z]+) +\| [a-z0-9-]+ *\|", table, re.M)) <= parts


def test_no_script_names_a_registry() -> None:
    hosts = re.compile(r"\b(pypi\.org|pythonhosted|npmjs|deb\.debian\.org|registry\.)")
    assert [
        path
        for path in (ROOT / "scripts").rglob("*")
        if path.is_file() and hosts.search(path.read_bytes().decode(errors="replace"))
    ] == []
