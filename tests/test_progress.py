"""Progress in a terminal and in a log: rates since the start, time left."""

from __future__ import annotations

import logging
import os
import pty
import subprocess
import sys

import pytest

from diffuse_core.command_line import progress
from diffuse_core.command_line.progress import progress_bar

BAR = """
import time
from diffuse_core.command_line.progress import progress_bar
with progress_bar("Integrating") as progress:
    progress(0, 40)
    for i in range(1, 5):
        time.sleep(0.3)
        progress(10 * i, 40, 10 * i * 1e6)
"""


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still unless it is told otherwise."""
    now = [1000.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(progress.sys.stderr, "isatty", lambda: False, raising=False)
    return now


def test_a_log_gets_lines_at_intervals(clock, caplog):
    caplog.set_level(logging.INFO, "dials.diffuse")
    with progress_bar("Integrating") as shown:
        shown(0, 3600)
        for i in range(1, 361):
            clock[0] += 1.0
            shown(10 * i, 3600, 10 * i * 2.5e6)
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 360 // 30
    assert lines[0] == (
        "Integrating: 300 of 3600 images (8 %), 10 images/s, 25 MB/s, 05:30 left"
    )


def test_rates_are_means_since_the_start(clock, caplog):
    """Eight blocks that end at once do not make the rate jump eightfold."""
    caplog.set_level(logging.INFO, "dials.diffuse")
    with progress_bar("Integrating", unit="block") as shown:
        shown(0, 100)
        clock[0] += 40.0
        for i in range(8):
            shown(i + 1, 100)
        clock[0] += 40.0
        for i in range(8):
            shown(i + 9, 100)
    lines = [record.getMessage() for record in caplog.records]
    assert lines == [
        "Integrating: 1 of 100 blocks (1 %), 0.025 blocks/s, 1:06:00 left",
        "Integrating: 9 of 100 blocks (9 %), 0.113 blocks/s, 13:28 left",
    ]


def test_nothing_to_do_is_no_error(clock, caplog):
    with progress_bar("Integrating") as shown:
        shown(0, 0)
    with progress_bar("Integrating"):
        pass
    assert not caplog.records


def test_a_terminal_gets_a_bar():
    leader, follower = pty.openpty()
    done = subprocess.run(
        [sys.executable, "-c", BAR], stderr=follower, stdout=subprocess.PIPE, text=True
    )
    os.close(follower)
    text = os.read(leader, 100_000).decode()
    os.close(leader)
    assert done.returncode == 0 and done.stdout == ""
    last = text.replace("\r\n", "").split("\r")[-1]
    assert "Integrating: 100%" in last and "40/40" in last
    rate = float(last.split("image/s")[0].split()[-1].lstrip(","))
    megabytes = float(last.split("MB/s")[0].split()[-1])
    assert 2 < rate < 40 / 1.2
    assert megabytes == pytest.approx(rate, rel=0.1)
