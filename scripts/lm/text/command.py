"""How every command of scripts/ ends: what is wrong in one line, and the exit status that a shell expects."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from subprocess import CalledProcessError
from typing import NoReturn

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


def reopen_closed() -> None:
    """A standard stream that is closed is not given to the next file; writing to stdout fails, stderr is heard by nobody."""
    for descriptor, how in enumerate((os.O_RDONLY, os.O_RDONLY, os.O_WRONLY)):
        try:
            os.fstat(descriptor)
        except OSError:
            os.set_inheritable(os.open(os.devnull, how), True)  # gets the lowest number that is free, hence this one
    sys.stdout = sys.stdout or open(1, "w", encoding="utf-8", closefd=False)
    sys.stderr = sys.stderr or open(2, "w", encoding="utf-8", closefd=False)


def run(main: Callable[[], int | None]) -> NoReturn:
    """Exits with the status of main(). What the terminal's encoding lacks is printed as \\xNN: a story must not end a run."""
    reopen_closed()
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")
    found = status(main, Path(sys.argv[0]).stem)
    if found:  # what is still in the buffer goes nowhere, without a second message
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(found)
