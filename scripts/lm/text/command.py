"""How every command of scripts/ ends: what is wrong in one line, and the exit status that a shell expects."""

import io
import os
import sys
from collections.abc import Callable
from pathlib import Path
from subprocess import CalledProcessError
from typing import NoReturn, TextIO

FAULTS = (OSError, ValueError, RuntimeError, CalledProcessError)  # of PyTorch, too: a full GPU is a RuntimeError


def status(main: Callable[[], int | None], name: str) -> int:
    """Runs main() -> what it returns, or 0; 2 after a wrong option; 1 after `name: what is wrong`; 130 after Ctrl-C;
    141 when nobody reads the output any more.
    """
    try:
        try:
            found = main()
        except SystemExit as end:  # argparse, after --help or a wrong option
            found = end.code
        sys.stdout.flush()  # the last of it may meet a full disk
    except BrokenPipeError:
        return 141  # 128 + SIGPIPE
    except KeyboardInterrupt as stop:
        print(f"{name}: {stop.args[0] if stop.args else 'stopped'}", file=sys.stderr)
        return 130  # 128 + SIGINT
    except FAULTS as fault:
        print(f"{name}: {fault}", file=sys.stderr)
        return 1
    return found or 0


class Output(io.TextIOWrapper):
    """A standard stream that loses no fault: the first one is told again at the end, since argparse keeps quiet about it.

    Always with a buffer: without one (PYTHONUNBUFFERED) the rest of a write that was cut short is forgotten. What the
    terminal's encoding lacks is printed as \\xNN: a story must not end a run.
    """

    def __init__(self, descriptor: int, like: TextIO | None):
        """like: the stream that is replaced; None where it was closed."""
        buffer = io.BufferedWriter(io.FileIO(descriptor, "w", closefd=False))
        by_line = like is None or like.line_buffering or like.write_through
        encoding = "utf-8" if like is None else like.encoding
        super().__init__(buffer, encoding, "backslashreplace", line_buffering=by_line)
        self.fault: OSError | None = None

    def write(self, text: str) -> int:
        try:
            return super().write(text)
        except OSError as fault:
            self.fault = self.fault or fault
            raise

    def flush(self) -> None:
        if self.fault:
            raise self.fault
        super().flush()


def reopen() -> None:
    """A standard stream that is closed is not given to the next file; writing to stdout fails, stderr is heard by nobody."""
    for descriptor, how in enumerate((os.O_RDONLY, os.O_RDONLY, os.O_WRONLY)):
        try:
            os.fstat(descriptor)
        except OSError:
            os.set_inheritable(os.open(os.devnull, how), True)  # gets the lowest number that is free, hence this one
    sys.stdout, sys.stderr = Output(1, sys.stdout), Output(2, sys.stderr)


def run(main: Callable[[], int | None]) -> NoReturn:
    """Exits with the status of main()."""
    reopen()
    found = status(main, Path(sys.argv[0]).stem)
    if found:  # what is still in the buffer goes nowhere, without a second message
        sys.stdout.fault = None
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(found)
