"""One run at a time in a folder; a lock never outlives its process."""

from __future__ import annotations

import errno
import os
import subprocess
import sys

import pytest

from diffuse_core import folder_lock
from diffuse_core.errors import ConfigError
from diffuse_core.folder_lock import locked

pytest.importorskip("fcntl")

HOLD = """
import sys, time
from diffuse_core.folder_lock import locked
with locked(sys.argv[1]):
    print("locked", flush=True)
    time.sleep(60)
"""


def test_the_second_is_refused_and_told_who_is_there(tmp_path):
    with locked(tmp_path):
        with pytest.raises(ConfigError, match=rf"process {os.getpid()} .* wait until"):
            with locked(tmp_path):
                pass
    with locked(tmp_path):
        pass


def test_a_killed_process_leaves_no_lock(tmp_path):
    other = subprocess.Popen(
        [sys.executable, "-c", HOLD, tmp_path], stdout=subprocess.PIPE, text=True
    )
    with other:
        assert other.stdout.readline() == "locked\n"
        with pytest.raises(ConfigError, match=f"process {other.pid}"):
            with locked(tmp_path):
                pass
        other.kill()
    with locked(tmp_path):
        assert f"process {os.getpid()}" in (tmp_path / folder_lock.LOCK).read_text()


def test_children_do_not_keep_it(tmp_path):
    """Workers may outlive their command for a moment."""
    with locked(tmp_path):
        child = subprocess.Popen(
            [sys.executable, "-c", "input()"], stdin=subprocess.PIPE, close_fds=False
        )
    with child, locked(tmp_path):
        child.stdin.close()


def test_an_error_inside_frees_it(tmp_path):
    with pytest.raises(KeyError), locked(tmp_path):
        raise KeyError
    with locked(tmp_path):
        pass


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_no_obstacle(tmp_path, monkeypatch, code):
    def flock(file, operation):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(folder_lock.fcntl, "flock", flock)
    done = []
    with locked(tmp_path):
        done.append(True)
    assert done
