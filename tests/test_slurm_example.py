"""The script for SLURM: its job script, and the whole of it with local jobs instead."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from diffuse_core.command_line import diffuse
from diffuse_core.io.files import read_map, read_merged
from diffuse_core.simulate import recipe, run_simulation

SCRIPT = Path(__file__).resolve().parents[1] / "examples" / "slurm" / "reduce.py"

pytest.importorskip("dask_jobqueue", reason="dask-jobqueue is not installed")


def run_script(cwd: Path, *arguments) -> str:
    done = subprocess.run(
        [sys.executable, SCRIPT, *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_job_script_asks_for_what_was_wanted(tmp_path):
    text = run_script(
        tmp_path,
        "--show",
        *("--jobs", "10", "--cores", "64", "--memory", "200GB"),
        *("--walltime", "04:00:00", "--queue", "short", "--account", "beamline"),
        *("--setup", "source /opt/dials/activate", "--directive=--exclusive"),
        *("--interface", "lo"),
    )
    lines = text.splitlines()
    assert lines[0].startswith("#!")
    for directive in ("-p short", "-A beamline", "-n 1", "-t 04:00:00", "--exclusive"):
        assert f"#SBATCH {directive}" in lines
    assert "#SBATCH --cpus-per-task=64" in lines
    assert "#SBATCH --mem=187G" in lines
    (worker,) = (line for line in lines if "dask_worker" in line)
    assert lines.index("source /opt/dials/activate") < lines.index(worker)
    assert worker.startswith(sys.executable)
    assert " tls://127.0.0.1:" in worker
    for option in ("--nthreads 1", "--nworkers 64", "--nanny", "--interface lo"):
        assert f" {option}" in worker


@pytest.mark.slow
def test_local_jobs_give_the_map_of_a_serial_run(tmp_path, monkeypatch):
    scan = run_simulation(recipe("rotation_small"), tmp_path / "scan")
    files = (str(scan.expt_path), str(scan.refl_path))
    for name in ("jobs", "serial"):
        (tmp_path / name).mkdir()
    text = run_script(
        tmp_path / "jobs",
        *("--cluster", "local", "--jobs", "2", "--cores", "1", "--interface", "lo"),
        *("--folder", tmp_path),
        *files,
        "output.pictures=None",
    )
    assert "Dask: " in text
    monkeypatch.chdir(tmp_path / "serial")
    diffuse.run([*files, "parallel.engine=serial", "output.pictures=None"])
    merged = [
        read_merged(tmp_path / n / "diffuse_merged.nxs") for n in ("jobs", "serial")
    ]
    assert np.array_equal(*(m.counts for m in merged))
    maps = [read_map(tmp_path / n / "diffuse_map.nxs") for n in ("jobs", "serial")]
    for name in ("intensity", "sigma", "multiplicity"):
        assert np.array_equal(*(getattr(m, name) for m in maps), equal_nan=True)
    assert not list(tmp_path.glob("*.pem"))
