"""Finds includes and imports that point upwards in the layer picture of cpp/README.md; run as a test and by hand."""

import re
import sys
from pathlib import Path

# A folder of cpp/ may include itself and these.  model/ cannot see text/, kernels/ cannot see files.  A folder with a
# line of its own inside another is a room: what may include the folder may not include the room unless it says so.
BELOW = {"base": set()}
BELOW["fixed"] = {"base"}
BELOW["kernels/simd"] = {"base"}
BELOW["kernels/ternary"] = {"base", "kernels/simd"}
BELOW["kernels/dense"] = BELOW["kernels/rows"] = BELOW["kernels/ternary"] | {"fixed", "kernels/ternary"}
KERNELS = {"kernels", "kernels/simd", "kernels/ternary", "kernels/dense", "kernels/rows"}
BELOW["kernels"] = {"base", "fixed"} | KERNELS
BELOW["kernels/lab"] = BELOW["kernels"]
BELOW["format"] = BELOW["text"] = BELOW["kernels"]
BELOW["model"] = BELOW["kernels"] | {"format", "model"}
BELOW["model/layers"] = BELOW["model"]
BELOW["model/arch"] = BELOW["model"] | {"model/layers"}
BELOW["session"] = BELOW["model"] | {"text"}
BELOW["bindings"] = BELOW["session"] | {"session"}
BELOW["tools"] = BELOW["bindings"] | {"model/layers"}
BELOW["tools/bench"] = BELOW["tools"] | {"tools", "kernels/lab"}  # alone sees the kernels that lost

# The rooms of web/src, and the files beside them, which any room may use.
ROOMS_BELOW = {".": set(), "engine": {"."}}
ROOMS_BELOW["host"] = ROOMS_BELOW["engine"] | {"engine"}
ROOMS_BELOW["link"] = ROOMS_BELOW["host"] | {"host"}
ROOMS_BELOW["constraints"] = {"."}  # loaded only where it is asked for
ROOMS_BELOW["store"] = {"."}  # so is that
ROOMS_BELOW["api"] = ROOMS_BELOW["link"] | {"link", "constraints", "store"}
ROOMS_BELOW["entries"] = ROOMS_BELOW["api"] | {"api"}

# A room of scripts/lm may import itself and those before it; scripts/*.py import any, and nothing imports them.
ROOMS = ("text", "arch", "fast", "file", "measure", "train")

INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"', re.M)
LM_IMPORT = re.compile(r"^\s*(?:from|import)\s+lm(?:\.(\w+))?(?:[.\w]*\s+import\s+\(?([\w, ]+))?", re.M)
IMPORT = re.compile(r"""(?:\bfrom\s*|\bimport\s*\(?\s*|\bnew URL\(\s*)["']([^"']+)["']""")


def sources(folder: Path, *suffixes: str) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.suffix in suffixes)


def place(path: str) -> str | None:
    """The layer or room of a path inside cpp/: the longest folder of it that has a line above."""
    folders = [folder.as_posix() for folder in Path(path).parents]
    return next((folder for folder in folders if folder in BELOW), None)


def cpp_violations(root: Path) -> list[str]:
    found = []
    for path in sources(root / "cpp", ".h", ".cc", ".inc"):
        layer = place(path.relative_to(root / "cpp").as_posix())
        for target in INCLUDE.findall(path.read_text(encoding="utf-8")):
            below = place(target)
            if below is None or (below != layer and below not in BELOW.get(layer, set())):
                found.append(f'{path.relative_to(root)} includes "{target}", which is not a file of a layer below')
    return found


def web_violations(root: Path) -> list[str]:
    found = []
    for path in sources(root / "web", ".ts", ".js", ".html"):
        inside = path.relative_to(root / "web").parts
        if inside[0] == "dist" or inside[:2] == ("src", "wasm"):
            continue
        for target in IMPORT.findall(path.read_text(encoding="utf-8")):
            if inside[0] == "src":
                found += source_violation(path, target, root)
            public = ("ternlm", "../src/index.js", "../src/index.ts")
            if inside[0] == "demo" and "src/" in target and target not in public:
                found.append(f"{path.relative_to(root)} imports {target}, not the package's public entry")
    return found


def source_violation(path: Path, target: str, root: Path) -> list[str]:
    here, name = path.relative_to(root), path.relative_to(root / "web/src").as_posix()
    if "wasm/" in target:
        allowed = ("engine/engine.ts", "engine/own-wasm.ts", "entries/vectors.ts")
        return [] if name in allowed else [f"{here} imports {target}, which only {' and '.join(allowed)} may"]
    if name == "index.ts" or not target.startswith("."):
        return []
    room = name.split("/")[0] if "/" in name else "."
    other = (path.parent / target).resolve().relative_to((root / "web/src").resolve())
    below = other.parts[0] if len(other.parts) > 1 else "."
    if below == room or below in ROOMS_BELOW.get(room, set()):
        return []
    return [f"{here} imports {target}, which is not a file of a room below"]


def python_violations(root: Path) -> list[str]:
    found = []
    for path in sources(root / "scripts" / "lm", ".py"):
        room = path.relative_to(root / "scripts" / "lm").parts[0]
        allowed = ROOMS[: ROOMS.index(room) + 1] if room in ROOMS else ()
        for package, names in LM_IMPORT.findall(path.read_text(encoding="utf-8")):
            rooms = [package] if package else [name.strip() for name in names.split(",")]
            for target in rooms:
                if target not in ("ROOT", *allowed):
                    found.append(f"{path.relative_to(root)} imports lm.{target}, which is not a room before lm.{room}")
    return found


def violations(root: Path) -> list[str]:
    return cpp_violations(root) + web_violations(root) + python_violations(root)


if __name__ == "__main__":
    problems = violations(Path(__file__).resolve().parents[2])
    print("\n".join(problems) or "every include and import points downwards")
    sys.exit(bool(problems))
