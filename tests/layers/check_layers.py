"""Finds includes and imports that point upwards in the layer picture of cpp/README.md; run as a test and by hand."""

import re
import sys
from pathlib import Path

# A folder of cpp/ may include itself and these.  model/ cannot see text/, kernels/ cannot see files.
BELOW = {"base": set()}
BELOW["fixed"] = {"base"}
BELOW["kernels"] = {"base", "fixed"}
BELOW["format"] = BELOW["text"] = {"base", "fixed", "kernels"}
BELOW["model"] = {"base", "fixed", "kernels", "format"}
BELOW["session"] = {"base", "fixed", "kernels", "format", "text", "model"}
BELOW["bindings"] = BELOW["tools"] = BELOW["session"] | {"session"}

INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"', re.M)
IMPORT = re.compile(r"""(?:\bfrom\s*|\bimport\s*\(?\s*|\bnew URL\(\s*)["']([^"']+)["']""")


def sources(folder: Path, *suffixes: str) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.suffix in suffixes)


def cpp_violations(root: Path) -> list[str]:
    found = []
    for path in sources(root / "cpp", ".h", ".cc", ".inc"):
        layer = path.relative_to(root / "cpp").parts[0]
        for target in INCLUDE.findall(path.read_text()):
            below = target.split("/")[0]
            if "/" not in target or (below != layer and below not in BELOW.get(layer, set())):
                found.append(f'{path.relative_to(root)} includes "{target}", which is not a file of a layer below')
    return found


def web_violations(root: Path) -> list[str]:
    found = []
    for path in sources(root / "web", ".ts", ".js", ".html"):
        inside = path.relative_to(root / "web").parts
        if inside[0] == "dist" or inside[:2] == ("src", "wasm"):
            continue
        for target in IMPORT.findall(path.read_text()):
            if inside[0] == "src" and "wasm/" in target and inside != ("src", "engine.ts"):
                found.append(f"{path.relative_to(root)} imports {target}, which only engine.ts may")
            public = ("ternlm", "../src/index.js", "../src/index.ts")
            if inside[0] == "demo" and "src/" in target and target not in public:
                found.append(f"{path.relative_to(root)} imports {target}, not the package's public entry")
    return found


def violations(root: Path) -> list[str]:
    return cpp_violations(root) + web_violations(root)


if __name__ == "__main__":
    problems = violations(Path(__file__).resolve().parents[2])
    print("\n".join(problems) or "every include and import points downwards")
    sys.exit(bool(problems))
