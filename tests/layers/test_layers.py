"""The layer check holds for this repository, and sees each kind of violation in a small made-up one."""

from pathlib import Path

import pytest
from check_layers import BELOW, ROOMS, ROOMS_BELOW, violations

REPOSITORY = Path(__file__).resolve().parents[2]


def test_every_include_and_import_points_downwards() -> None:
    assert violations(REPOSITORY) == []


def test_every_folder_of_cpp_has_its_place_in_the_picture() -> None:
    folders = [path.relative_to(REPOSITORY / "cpp") for path in (REPOSITORY / "cpp").rglob("*") if path.is_dir()]
    assert {path.as_posix() for path in folders} == set(BELOW)


def test_every_room_of_web_src_has_its_place_in_the_picture() -> None:
    rooms = {path.name for path in (REPOSITORY / "web/src").iterdir() if path.is_dir()} - {"wasm"}
    assert rooms | {"."} == set(ROOMS_BELOW)


def test_every_room_of_lm_has_its_place_in_the_picture() -> None:
    rooms = (path for path in (REPOSITORY / "scripts" / "lm").iterdir() if path.is_dir() and path.name != "__pycache__")
    assert {path.name for path in rooms} == set(ROOMS)


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
        ("web/src/api/model.ts", 'import { checkConformance } from "../entries/conformance.js";'),
        ("web/src/entries/conformance.ts", 'import { packed } from "../wasm/vectors.js";'),
        ("web/demo/main.ts", 'import { Engine } from "../src/engine/engine.js";'),
        ("scripts/lm/text/corpus.py", "from lm import arch"),
        ("scripts/lm/arch/scan.py", "    from lm.fast.cpu_kernels import accelerate"),
        ("scripts/lm/file/gguf_file.py", "import lm.train.loop"),
        ("scripts/lm/corpus.py", "from lm.text import encoding"),
    ],
)
def test_a_violation_is_found(tmp_path: Path, file: str, line: str) -> None:
    (tmp_path / file).parent.mkdir(parents=True)
    (tmp_path / file).write_text(f"{line}\n", encoding="utf-8")
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
        ("web/src/entries/conformance.ts", 'import type { Model } from "../api/model.js";'),
        ("web/src/entries/vectors.ts", 'import { packed } from "../wasm/vectors.js";'),
        ("web/demo/main.ts", 'import { load } from "ternlm";'),
        ("scripts/lm/train/loop.py", "from lm import ROOT, arch"),
        ("scripts/lm/measure/score.py", "from lm.arch.hgrnbit import Config"),
    ],
)
def test_what_is_allowed_passes(tmp_path: Path, file: str, line: str) -> None:
    (tmp_path / file).parent.mkdir(parents=True)
    (tmp_path / file).write_text(f"{line}\n", encoding="utf-8")
    assert violations(tmp_path) == []
