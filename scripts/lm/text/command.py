"""How every command of scripts/ ends: what is wrong in one line, and the exit status that a shell expects."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from subprocess import CalledProcessError
from typing import NoReturn

FAULTS = (OSError, ValueError, RuntimeError, CalledProcessError)  # of PyTorch as well: a full GPU is a RuntimeError


def run(main: Callable[[], object]) -> NoReturn:
    """Exits with 0; with 1 and `NAME: what is wrong`; with 130 after Ctrl-C, 141 when nobody reads the output any more.

    What the terminal's encoding does not have is printed as \\xNN: a story must not end a run.
    """
    name, status = Path(sys.argv[0]).stem, 0
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")
    try:
        main()
        sys.stdout.flush()  # the last of it may meet a full disk
    except BrokenPipeError:
        status = 141  # 128 + SIGPIPE
    except KeyboardInterrupt as stop:
        status = 130  # 128 + SIGINT
        print(f"{name}: {stop.args[0] if stop.args else 'stopped'}", file=sys.stderr)
    except FAULTS as fault:
        status = 1
        print(f"{name}: {fault}", file=sys.stderr)
    if status:  # what is still in the buffer goes nowhere, without a second message
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.__stdout__.fileno())
    sys.exit(status)
