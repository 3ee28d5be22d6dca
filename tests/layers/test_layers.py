"""The layer check holds for this repository, and sees each kind of violation in a small made-up one."""

from pathlib import Path

import pytest
from check_layers import BELOW, ROOMS_BELOW, violations

REPOSITORY = Path(__file__).resolve().parents[2]


def test_every_include_and_import_points_downwards() -> None:
    assert violations(REPOSITORY) == []


def test_every_folder_of_cpp_has_its_place_in_the_picture() -> None:
    folders = [path.relative_to(REPOSITORY / "cpp") for path in (REPOSITORY / "cpp").rglob("*") if path.is_dir()]
    assert {path.as_posix() for path in folders} == set(BELOW)


def test_every_room_of_web_src_has_its_place_in_the_picture() -> None:
    rooms = {path.name for path in (REPOSITORY / "web/src").iterdir() if path.is_dir()} - {"wasm"}
    assert rooms | {"."} == set(ROOMS_BELOW)


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
        ("web/src/host/worker.ts", 'import create from "../wasm/tern-simd.js";'),
        ("web/src/api/model.ts", 'const module = await import("../wasm/tern-simd.js");'),
        ("web/src/api/model.ts", 'const url = new URL("../wasm/tern-simd.wasm", import.meta.url);'),
        ("web/src/host/jobs.ts", 'import type { Request } from "../link/connection.js";'),
        ("web/src/engine/engine.ts", 'import { Job } from "../host/jobs.js";'),
        ("web/src/errors.ts", 'import { load } from "./api/model.js";'),
        ("web/demo/main.ts", 'import { Engine } from "../src/engine/engine.js";'),
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
        ("web/src/engine/engine.ts", 'import create from "../wasm/tern-simd.js";'),
        ("web/src/engine/engine.ts", 'import { TernError } from "../errors.js";'),
        ("web/src/link/start.ts", 'const { Host } = await import("../host/host.js");'),
        ("web/src/index.ts", 'export { load } from "./api/model.js";'),
        ("web/demo/main.ts", 'import { load } from "ternlm";'),
    ],
)
def test_what_is_allowed_passes(tmp_path: Path, file: str, line: str) -> None:
    (tmp_path / file).parent.mkdir(parents=True)
    (tmp_path / file).write_text(f"{line}\n")
    assert violations(tmp_path) == []
