#!/usr/bin/env python3
"""Makes one clean text file for training from text files, or downloads the public TinyStories set first.

prepare_data.py texts/ more.txt.xz --out data/train.txt
prepare_data.py --download tinystories --folder data/       # 2.2 GB; licence CDLA-Sharing-1.0
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import urllib.error
import urllib.request
from pathlib import Path

from tqdm import tqdm

from lm.text import prepare, text_files

PUBLIC_SETS = {
    "tinystories": (
        "https://huggingface.co/datasets/roneneldan/TinyStories/resolve/main/",
        ("TinyStoriesV2-GPT4-train.txt", "TinyStoriesV2-GPT4-valid.txt"),
    ),
}


def download(url: str, path: Path) -> None:
    """Fetches url to path and prints size and SHA-256; a file that is already there is only measured."""
    if not path.exists():
        partial = path.with_name(path.name + ".part")
        with urllib.request.urlopen(url) as response, open(partial, "wb") as file:
            size = int(response.headers.get("Content-Length", 0)) or None
            with tqdm(total=size, unit="B", unit_scale=True, desc=path.name) as bar:
                while chunk := response.read(1 << 20):
                    file.write(chunk)
                    bar.update(len(chunk))
        if size is not None and partial.stat().st_size != size:
            raise OSError(f"{url}: expected {size} bytes, got {partial.stat().st_size}; run the command again")
        partial.rename(path)
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    print(f"{path}: {path.stat().st_size:,} bytes, sha256 {digest}")


def prepare_and_report(inputs: list[Path], out: Path) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    counts = prepare(text_files(inputs), out)
    print(f"{out}: {counts.bytes:,} bytes, {counts.documents:,} documents, {counts.repaired_lines:,} lines repaired")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("inputs", nargs="*", type=Path, help=".txt or .txt.xz files, or folders of them")
    parser.add_argument("--out", type=Path, help="text file to write")
    parser.add_argument("--download", choices=sorted(PUBLIC_SETS), help="fetch a public set and prepare its files")
    parser.add_argument("--folder", type=Path, default=Path("data"), help="where downloads go")
    arguments = parser.parse_args()
    if bool(arguments.download) == bool(arguments.inputs) or bool(arguments.inputs) != bool(arguments.out):
        parser.error("give text files and --out, or --download")
    try:
        if arguments.download:
            base, names = PUBLIC_SETS[arguments.download]
            arguments.folder.mkdir(parents=True, exist_ok=True)
            for name in names:
                text = arguments.folder / name
                download(base + name, text)
                prepare_and_report([text], text.with_suffix(".clean.txt"))
        else:
            prepare_and_report(arguments.inputs, arguments.out)
    except (OSError, ValueError, urllib.error.URLError) as error:
        print(f"prepare_data: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
