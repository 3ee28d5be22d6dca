"""Fetches public data sets: goes on where an earlier attempt stopped, and checks what arrived."""

from __future__ import annotations

import hashlib
import re
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from lm.text import files

PIECE = 1 << 20


@dataclass(frozen=True)
class Source:
    """A file to fetch. `sums` is the address of a published list of SHA-1 sums, whose line ends in `sums_name`."""

    url: str
    sums: str = ""
    sums_name: str = ""

    @property
    def name(self) -> str:
        return self.url.rsplit("/", 1)[-1]


def digest(path: Path, algorithm: str) -> str:
    """Hexadecimal checksum of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def _open(url: str, first: int):
    """The response from byte `first` on, and the byte it does begin with (0: the server knows no ranges)."""
    headers = {"User-Agent": "ternlm-prepare-data", **({"Range": f"bytes={first}-"} if first else {})}
    response = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=60)
    found = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
    return response, int(found.group(1)) if response.status == 206 and found else 0


def _receive(url: str, partial: Path) -> None:
    """Appends what is missing of the file; OSError when the connection ends too early."""
    have = partial.stat().st_size if partial.exists() else 0
    try:
        response, begin = _open(url, have)
    except urllib.error.HTTPError as fault:
        if fault.code == 416 and have:  # nothing is missing
            return
        raise OSError(f"{url}: the server answered {fault.code} {fault.reason}") from None
    except urllib.error.URLError as fault:
        raise OSError(f"{url}: {fault.reason}; is there a network?") from None
    if begin:
        print(f"{partial}: goes on after {begin:,} bytes")
    with files.naming(partial), response, open(partial, "r+b" if begin else "wb") as file:
        file.seek(begin)
        length = response.headers.get("Content-Length")
        whole = begin + int(length) if length else None
        with tqdm(total=whole, initial=begin, unit="B", unit_scale=True, desc=partial.stem) as bar:
            while piece := response.read(PIECE):
                bar.update(file.write(piece))
        file.truncate()
        size = file.tell()
    if whole is not None and size != whole:
        raise OSError(f"{url}: the connection ended after {size} of {whole} bytes; run the command again to go on")


def _published(source: Source) -> str:
    """The SHA-1 that the publisher states; empty when it states none."""
    if not source.sums:
        return ""
    with _open(source.sums, 0)[0] as response:
        for line in response.read().decode().splitlines():
            if line.endswith(source.sums_name):
                return line.split()[0]
    raise OSError(f"{source.sums} has no line for {source.sums_name}")


def fetch(source: Source, folder: Path) -> Path:
    """The file in `folder`, downloaded unless it is there. Its SHA-256 is kept beside it and checked from then on."""
    folder.mkdir(parents=True, exist_ok=True)
    path, record = folder / source.name, folder / f"{source.name}.sha256"
    if not path.exists():
        partial = path.with_name(f"{path.name}.part")
        _receive(source.url, partial)
        published = _published(source)
        if published and published != digest(partial, "sha1"):
            partial.unlink()
            raise OSError(
                f"{source.url}: SHA-1 {published} was promised, something else arrived; run the command again"
            )
        partial.rename(path)
        files.write_text(record, f"{digest(path, 'sha256')}  {path.name}\n")
    found = digest(path, "sha256")
    if record.exists() and files.read_text(record).split()[0] != found:
        raise OSError(f"{path}: SHA-256 {found} is not the one in {record.name}: delete the file to download it again")
    print(f"{path}: {path.stat().st_size:,} bytes, sha256 {found}")
    return path
