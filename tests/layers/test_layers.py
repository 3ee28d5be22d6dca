"""The layer check holds for this repository, and sees each kind of violation in a small made-up one."""

from pathlib import Path

import pytest
from check_layers import BELOW, violations

REPOSITORY = Path(__file__).resolve().parents[2]


def test_every_include_and_import_points_downwards() -> None:
    assert violations(REPOSITORY) == []


def test_every_folder_of_cpp_has_its_place_in_the_picture() -> None:
    assert {path.name for path in (REPOSITORY / "cpp").iterdir() if path.is_dir()} == set(BELOW)


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("cpp/base/result.h", '#include "fixed/fixed.h"'),
        ("cpp/kernels/scalar.cc", '#include "format/gguf.h"'),
        ("cpp/model/model.cc", '  #  include "text/sampler.h"'),
        ("cpp/session/session.cc", '#include "tools/options.h"'),
        ("cpp/model/model.cc", '#include "model.h"'),
        ("web/src/worker.ts", 'import create from "./wasm/tern-simd.js";'),
        ("web/src/model.ts", 'const module = await import("./wasm/tern-simd.js");'),
        ("web/src/model.ts", 'const url = new URL("./wasm/tern-simd.wasm", import.meta.url);'),
        ("web/demo/main.ts", 'import { Engine } from "../src/engine.js";'),
    ],
)
def test_a_violation_is_found(tmp_path: Path, file: str, line: str) -> None:
    (tmp_path / file).parent.mkdir(parents=True)
    (tmp_path / file).write_text(f"{line}\n")
    assert len(violations(tmp_path)) == 1


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("cpp/model/model.cc", '#include "format/gguf.h"'),
        ("cpp/tools/tern.cc", '#include "session/session.h"'),
        ("web/src/engine.ts", 'import create from "./wasm/tern-simd.js";'),
        ("web/demo/main.ts", 'import { load } from "ternlm";'),
    ],
)
def test_what_is_allowed_passes(tmp_path: Path, file: str, line: str) -> None:
    (tmp_path / file).parent.mkdir(parents=True)
    (tmp_path / file).write_text(f"{line}\n")
    assert violations(tmp_path) == []
