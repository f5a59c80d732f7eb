"""One run at a time in a folder of observations."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from diffuse_core.errors import ConfigError

try:
    import fcntl
except ImportError:
    fcntl = None

LOCK = ".lock"


@contextlib.contextmanager
def locked(folder: str | os.PathLike) -> Iterator[None]:
    """The folder is this process's alone; the system frees it however the process ends.

    Where the file system has no locks, nothing is locked.

    Raises:
        ConfigError: Another run has it.
    """
    path = Path(folder) / LOCK
    file, taken = _opened(path)
    with file:
        if not taken:
            file.seek(0)
            raise ConfigError(
                f"Another run ({file.read() or 'just started'}) writes to the folder "
                f"{folder}: wait until it ends, or give this one a folder of its own "
                "with output.observations."
            )
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}")
        file.flush()
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def check_free(folder: str | os.PathLike) -> None:
    """Refuses a folder that another run has now, before more is done.

    Raises:
        ConfigError: Another run has it.
    """
    if Path(folder).is_dir():
        with locked(folder):
            pass


def _opened(path: Path) -> tuple[IO[str], bool]:
    """The file, and whether it is locked; never one that another run has removed."""
    while True:
        file = open(path, "a+")  # noqa: SIM115
        if not _take(file):
            return file, False
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                return file, True
        file.close()


def _take(file) -> bool:
    """False if another process has the lock."""
    if fcntl is None:
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True
