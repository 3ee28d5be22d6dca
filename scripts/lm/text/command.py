"""How every command of scripts/ ends: what is wrong in one line, and the exit status that a shell expects."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from subprocess import CalledProcessError
from typing import NoReturn

FAULTS = (OSError, ValueError, RuntimeError, CalledProcessError)  # of PyTorch, too: a full GPU is a RuntimeError


def status(main: Callable[[], object], name: str) -> int:
    """Runs main() -> 0; 1 after `name: what is wrong`; 130 after Ctrl-C; 141 when nobody reads the output any more."""
    try:
        main()
        sys.stdout.flush()  # the last of it may meet a full disk
    except BrokenPipeError:
        return 141  # 128 + SIGPIPE
    except KeyboardInterrupt as stop:
        print(f"{name}: {stop.args[0] if stop.args else 'stopped'}", file=sys.stderr)
        return 130  # 128 + SIGINT
    except FAULTS as fault:
        print(f"{name}: {fault}", file=sys.stderr)
        return 1
    return 0


def run(main: Callable[[], object]) -> NoReturn:
    """Exits with the status of main(). What the terminal's encoding lacks is printed as \\xNN: a story must not end a run."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")
    found = status(main, Path(sys.argv[0]).stem)
    if found:  # what is still in the buffer goes nowhere, without a second message
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(found)
