"""The layer check holds for this repository, and sees each kind of violation in a small made-up one."""

from pathlib import Path

import pytest
from check_layers import BELOW, violations

REPOSITORY = Path(__file__).resolve().parents[2]


def test_every_include_and_import_points_downwards() -> None:
    assert violations(REPOSITORY) == []


def test_every_folder_of_cpp_has_its_place_in_the_picture() -> None:
    folders = [path.relative_to(REPOSITORY / "cpp") for path in (REPOSITORY / "cpp").rglob("*") if path.is_dir()]
    assert {path.as_posix() for path in folders} == set(BELOW)


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("cpp/base/result.h", '#include "fixed/fixed.h"'),
        ("cpp/kernels/dispatch.cc", '#include "format/gguf.h"'),
        ("cpp/kernels/dispatch.cc", '#include "kernels/lab/lab.h"'),
        ("cpp/kernels/simd/sse.h", '#include "kernels/ternary/packed.h"'),
        ("cpp/kernels/ternary/relaxed.cc", '#include "kernels/rows/rows.h"'),
        ("cpp/kernels/ternary/relaxed.cc", '#include "kernels/dispatch.h"'),
        ("cpp/tools/tern.cc", '#include "kernels/lab/lab.h"'),
        ("cpp/tools/tern.cc", '#include "tools/bench/bench.h"'),
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
        ("cpp/model/blocks.cc", '#include "kernels/rows/rows.h"'),
        ("cpp/tools/tern.cc", '#include "session/session.h"'),
        ("cpp/tools/bench/kernels.cc", '#include "kernels/lab/lab.h"'),
        ("web/src/engine.ts", 'import create from "./wasm/tern-simd.js";'),
        ("web/demo/main.ts", 'import { load } from "ternlm";'),
    ],
)
def test_what_is_allowed_passes(tmp_path: Path, file: str, line: str) -> None:
    (tmp_path / file).parent.mkdir(parents=True)
    (tmp_path / file).write_text(f"{line}\n")
    assert violations(tmp_path) == []
