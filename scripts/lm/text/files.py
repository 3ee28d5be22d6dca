"""Files: text is UTF-8 whatever the locale, a file appears whole or not at all, and a failed write says how much of it there was."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def cache() -> Path:
    """The folder of this user for what is made once and can be made again."""
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "ternlm"


@contextmanager
def naming(path: Path, shown: Path | None = None, kept: str = "") -> Iterator[None]:
    """The system's fault in writing `path` gets its name (or the `shown` one), how much of it there is, and what was kept."""
    try:
        yield
    except OSError as fault:
        if fault.filename not in (None, str(path)):
            raise  # of another file
        written = path.stat().st_size if path.exists() else 0
        what = fault.strerror or fault  # NumPy gives no number
        raise OSError(fault.errno, f"{what} after {written:,} bytes{kept}", str(shown or path)) from None


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A name beside `path` to write to. When the block ends well it becomes `path`; else it goes, and `path` is as it was.

    Folders that are missing are made. A link stays one; what is neither file nor folder (/dev/stdout) is written to.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and not path.is_file() and not path.is_dir():
        with naming(path):
            yield path
        return
    target = path.resolve()
    partial = target.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        with naming(partial, path, "; what was there is as it was" if path.exists() else ""):
            yield partial
            os.replace(partial, target)
    finally:
        partial.unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes) -> None:
    with replacing(path) as partial:
        partial.write_bytes(content)


def write_text(path: Path, content: str) -> None:
    """As UTF-8, lines ended by a newline on every system."""
    write_bytes(path, content.encode())


def read_text(path: Path) -> str:
    """A UTF-8 text; ValueError names the first byte that is none. A byte order mark is no part of it."""
    raw = Path(path).read_bytes()
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as fault:
        raise ValueError(f"{path}: not UTF-8 at byte {fault.start}; convert it first") from None
