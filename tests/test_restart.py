"""Runs that are killed, and engines that differ, end with the same bits."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

import h5py
import numpy as np
import pytest

from dials.util import Sorry
from dxtbx.model.experiment_list import ExperimentListFactory

from diffuse_core import boundary, orchestrator, plan, run
from diffuse_core.collection import collect
from diffuse_core.command_line import diffuse_integrate, diffuse_merge
from diffuse_core.errors import InputError
from diffuse_core.folder_lock import locked
from diffuse_core.io.files import read_map, read_merged
from diffuse_core.io.image_files import bytes_per_image, files_of
from diffuse_core.models import RunInputs
from diffuse_core.observations import DTYPES, block_files, read_observations
from diffuse_core.simulate import recipe, run_simulation

SERIAL = "parallel.engine=serial"
N_IMAGES = 40
MOMENTS = 10
DRIVER = """
# Starts a run in a process group of its own, again and again. A thread in it kills the
# group: a random time after the 0th to 3rd new block, but before many more are made,
# so that fast machines do not finish.
import json, os, random, signal, sys, threading, time
from pathlib import Path
from diffuse_core.command_line import diffuse_integrate

def attempt(arguments, log, wanted, delay):
    os.setsid()
    for stream in (1, 2):
        os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND), stream)
    threading.Thread(target=kill, args=(blocks(), wanted, delay), daemon=True).start()
    try:
        diffuse_integrate.run(arguments)
    except BaseException as error:
        print("failed:", repr(error), flush=True)
        os._exit(1)
    os._exit(0)

def blocks():
    return set(Path("diffuse_observations").glob("block_*"))

def kill(before, wanted, delay):
    while (made := len(blocks() - before)) < wanted:
        time.sleep(0.001)
    moment = time.monotonic() + delay
    while time.monotonic() < moment and len(blocks() - before) <= made:
        time.sleep(0.001)
    os.killpg(0, signal.SIGKILL)

def main(moments, seed, log, *arguments):
    chance = random.Random(int(seed))
    for number in range(int(moments)):
        engine = ["parallel.engine=serial", "parallel.nproc=2"][number % 3 == 2]
        wanted = chance.randrange(4)
        delay = chance.uniform(0, 0.05 if wanted else 0.55)
        child = os.fork()
        if not child:
            attempt([*arguments, engine], log, wanted, delay)
        status = os.waitpid(child, 0)[1]
        files = sorted(p.name for p in Path("diffuse_observations").glob("*"))
        print(json.dumps([engine, os.waitstatus_to_exitcode(status), files]))

if __name__ == "__main__":
    main(*sys.argv[1:])
"""
PATIENCE = 600
"""Seconds until something hangs, on a busy machine."""


@pytest.fixture(scope="module")
def scan(tmp_path_factory):
    """A simulated scan of forty images, each to be a block."""
    text = f"{recipe('rotation_small')}\nscan.n_images = {N_IMAGES}\n"
    return run_simulation(text, tmp_path_factory.mktemp("scan"))


@pytest.fixture(scope="module")
def undisturbed(scan, tmp_path_factory):
    """The folder of a serial run."""
    folder = tmp_path_factory.mktemp("undisturbed")
    run_in(folder, diffuse_integrate.run, scan.expt_path, SERIAL)
    merge_in(folder)
    return folder


def run_in(folder: Path, command, *arguments) -> None:
    """Runs a command in this process with a folder as the current one."""
    before = os.getcwd()
    os.chdir(folder)
    try:
        command([str(a) for a in arguments])
    finally:
        os.chdir(before)


def merge_in(folder: Path) -> None:
    without = "output.pictures=None", "output.html=None", "leave_one_out=False"
    run_in(folder, diffuse_merge.run, "diffuse_observations", *without)


def figures_of(folder: Path) -> dict:
    text = (folder / "dials.diffuse_integrate.json").read_text()
    return json.loads(text)["integration"]


def same_block(one: Path, two: Path) -> None:
    a, b = (read_observations(path).columns for path in (one, two))
    for column in DTYPES:
        assert np.array_equal(a[column], b[column]), (one, column)


def same_results(folder: Path, reference: Path) -> None:
    """Observations, sums and map have the same bits."""
    one, two = (f / "diffuse_observations" for f in (folder, reference))
    names = sorted(p.name for p in two.iterdir())
    assert sorted(p.name for p in one.iterdir()) == names
    blocks = [name for name in names if name.endswith(".h5")]
    assert blocks
    for name in blocks:
        same_block(one / name, two / name)
    merge_in(folder)
    merged = [read_merged(f / "diffuse_merged.nxs") for f in (folder, reference)]
    maps = [read_map(f / "diffuse_map.nxs") for f in (folder, reference)]
    for name in ("index", "counts", "intensity", "sigma"):
        assert np.array_equal(*(getattr(m, name) for m in merged)), name
    for name in ("intensity", "sigma", "multiplicity"):
        assert np.array_equal(*(getattr(m, name) for m in maps), equal_nan=True), name


@pytest.mark.slow
def test_killed_at_ten_moments_and_restarted(scan, undisturbed, tmp_path):
    """Whole blocks or none at any moment, and in the end the same bits."""
    driver = tmp_path / "driver.py"
    driver.write_text(DRIVER)
    work = tmp_path / "work"
    work.mkdir()
    log = tmp_path / "attempts.log"
    done = subprocess.run(
        [sys.executable, driver, str(MOMENTS), "20", log, scan.expt_path],
        cwd=work,
        stdout=subprocess.PIPE,
        text=True,
        timeout=PATIENCE,
    )
    said = log.read_text()
    assert done.returncode == 0, said
    assert "failed" not in said and "Traceback" not in said, said
    attempts = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(attempts) == MOMENTS
    assert {status for _, status, _ in attempts} == {-signal.SIGKILL}
    blocks = [sum(n.startswith("block") for n in files) for *_, files in attempts]
    assert blocks == sorted(blocks) and 0 < blocks[-1] < N_IMAGES
    assert not any("run.json" in files for *_, files in attempts)
    folder = work / "diffuse_observations"
    for path in folder.glob("block_*"):
        same_block(path, undisturbed / "diffuse_observations" / path.name)
    with pytest.raises(InputError, match="no complete set"):
        block_files(folder)
    run_in(work, diffuse_integrate.run, scan.expt_path, SERIAL)
    assert figures_of(work)["reused"] == blocks[-1]
    same_results(work, undisturbed)


def workers_of(pid: int) -> list[int]:
    """Processes that multiprocessing spawned for a process, in any generation."""
    parents, spawned = {}, set()
    for entry in Path("/proc").iterdir():
        try:
            status = (entry / "stat").read_text().rpartition(")")[2].split()
            line = (entry / "cmdline").read_bytes()
        except (OSError, ValueError):
            continue
        if entry.name.isdigit() and status[0] != "Z":
            parents[int(entry.name)] = int(status[1])
            if b"spawn_main" in line:
                spawned.add(int(entry.name))
    found = {pid}
    while more := {c for c, p in parents.items() if p in found} - found:
        found |= more
    return sorted(found & spawned)


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["processes", "dask"])
def test_a_worker_killed_during_the_run(scan, undisturbed, tmp_path, engine):
    if engine == "dask":
        pytest.importorskip("distributed")
    command = subprocess.Popen(
        [
            Path(sysconfig.get_path("scripts")) / "dials.diffuse_integrate",
            scan.expt_path,
            f"parallel.engine={engine}",
            "parallel.nproc=2",
        ],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    folder = tmp_path / "diffuse_observations"
    try:
        end = time.monotonic() + PATIENCE
        workers: list[int] = []
        while not list(folder.glob("block_*")):
            assert command.poll() is None and time.monotonic() < end
            if len(workers) < 2:
                workers = workers_of(command.pid)
            time.sleep(0.001)
        victim = random.Random(4).choice(workers)
        os.kill(victim, signal.SIGKILL)
        unfinished = not (folder / "run.json").exists()
        said = command.communicate(timeout=PATIENCE)[0]
    finally:
        command.kill()
    assert command.returncode == 0, said
    assert "Traceback" not in said, said
    assert unfinished
    same_results(tmp_path, undisturbed)


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["processes", "dask"])
def test_two_workers_give_the_bits_of_a_serial_run(scan, undisturbed, tmp_path, engine):
    if engine == "dask":
        pytest.importorskip("distributed")
    two = (f"parallel.engine={engine}", "parallel.nproc=2")
    run_in(tmp_path, diffuse_integrate.run, scan.expt_path, *two)
    same_results(tmp_path, undisturbed)


def test_what_a_killed_run_or_worker_was_writing_is_removed(
    scan, tmp_path, monkeypatch
):
    integrate = orchestrator._integrate_blocks

    def killed(run, parallel, blocks):
        assert not any(path.exists() for path in earlier)
        unfinished = Path(run.spec.folder) / ".block_000000.h5.of_a_dead_worker.tmp"
        unfinished.touch()
        yield from integrate(run, parallel, blocks)
        assert unfinished.exists()

    folder = tmp_path / "diffuse_observations"
    folder.mkdir()
    names = (".block_000000.h5.1.tmp", ".run.json.99.tmp", ".99_experiments.expt")
    earlier = [folder / name for name in names]
    for path in earlier:
        path.touch()
    monkeypatch.setattr(orchestrator, "_integrate_blocks", killed)
    run_in(
        tmp_path, diffuse_integrate.run, scan.expt_path, "input.image_range=1,1", SERIAL
    )
    names = {path.name for path in folder.iterdir()}
    assert names == {"block_000000.h5", "experiments.expt", "run.json"}


def test_two_runs_in_one_folder(scan, tmp_path):
    arguments = (scan.expt_path, "input.image_range=1,1", SERIAL)
    (tmp_path / "diffuse_observations").mkdir()
    with locked(tmp_path / "diffuse_observations"):
        with pytest.raises(Sorry, match=r"Another run \(process .* wait until it ends"):
            run_in(tmp_path, diffuse_integrate.run, *arguments)
    run_in(tmp_path, diffuse_integrate.run, *arguments)
    with locked(tmp_path / "diffuse_observations"):
        merge_in(tmp_path)


def test_only_blocks_of_changed_images_are_done_again(tmp_path):
    text = f"{recipe('rotation_small')}\nscan.n_images = 4\n"
    scan = run_simulation(text, tmp_path / "scan")
    run_in(tmp_path, diffuse_integrate.run, scan.expt_path, SERIAL)
    images = sorted(scan.expt_path.parent.glob("*.cbf"))
    os.utime(images[2])
    run_in(tmp_path, diffuse_integrate.run, scan.expt_path, SERIAL)
    assert figures_of(tmp_path)["reused"] == 3
    size = images[2].stat().st_size
    assert figures_of(tmp_path)["read"] == pytest.approx(size, rel=0.01)
    os.utime(scan.expt_path)
    run_in(tmp_path, diffuse_integrate.run, scan.expt_path, SERIAL)
    assert figures_of(tmp_path)["reused"] == 0


@pytest.mark.slow
def test_a_changed_plug_in_is_never_mixed_with_its_past(scan, tmp_path, run_command):
    plugin = tmp_path / "half_detector.py"
    text = """
from diffuse_core.descriptors import ModelPlugin
from diffuse_core.hookspecs import hookimpl
from diffuse_core.models import MaskModel

class Half(MaskModel):
    @classmethod
    def from_params(cls, params, run):
        return cls()

    def panel_mask(self, geometry):
        return geometry.two_theta > 5

@hookimpl
def diffuse_mask_models():
    return [ModelPlugin("half_detector", Half, "Leaves out the middle.")]
"""
    counts = []
    for limit in ("> 5", "> 5", "> 8"):
        plugin.write_text(text.replace("> 5", limit))
        run_command(
            "dials.diffuse_integrate",
            scan.expt_path,
            "input.image_range=1,2",
            "mask.models=default+half_detector",
            SERIAL,
            cwd=tmp_path,
            env={"DIALS_DIFFUSE_PLUGINS": str(plugin)},
        )
        figures = figures_of(tmp_path)
        counts.append((figures["reused"], figures["used"]))
    assert counts[0][1] == counts[1][1] > counts[2][1]
    assert [reused for reused, _ in counts] == [0, 2, 0]


def test_files_with_data_count_as_images(tmp_path):
    """An Eiger's master file links to its data; both make the size of an image."""
    for number in (1, 2):
        with h5py.File(tmp_path / f"data_{number}.h5", "w") as h5:
            h5["data"] = np.arange(1000 * number)
    with h5py.File(tmp_path / "virtual.h5", "w") as h5:
        layout = h5py.VirtualLayout((2000,), int)
        layout[:] = h5py.VirtualSource(str(tmp_path / "data_2.h5"), "data", (2000,))
        h5.create_virtual_dataset("data", layout)
    master = tmp_path / "master.h5"
    with h5py.File(master, "w") as h5:
        h5["entry/data/data_000001"] = h5py.ExternalLink("data_1.h5", "data")
        h5["entry/data/data_000002"] = h5py.ExternalLink("missing.h5", "data")
        h5["entry/self"] = h5py.SoftLink("/entry/data")
    names = [Path(name).name for name in files_of(str(master))]
    assert names == ["master.h5", "data_1.h5"]
    names = [Path(name).name for name in files_of(str(tmp_path / "virtual.h5"))]
    assert names == ["virtual.h5", "data_2.h5"]

    class Images:
        def reader(self):
            return self

        def paths(self):
            return [str(master)]

        def __len__(self):
            return 10

    class Experiment:
        imageset = Images()

    sizes = [(tmp_path / n).stat().st_size for n in ("master.h5", "data_1.h5")]
    assert bytes_per_image(Experiment()) == pytest.approx(sum(sizes) / 10)


def test_images_that_crystals_share_are_read_once(tmp_path, monkeypatch):
    """And give the observations that each crystal gets when they are read again."""
    text = f"{recipe('rotation_small')}\nscan.n_images = 6\n"
    scan = run_simulation(text, tmp_path / "scan")
    experiments = ExperimentListFactory.from_json_file(str(scan.expt_path), False)
    second = ExperimentListFactory.from_json_file(str(scan.expt_path), False)[0]
    second.identifier = "second"
    second.crystal.rotate_around_origin((0.0, 1.0, 0.0), 40.0, deg=True)
    second.imageset = experiments[0].imageset
    alone = plan.ImageSource(RunInputs(experiments, None, [0]), 1)
    experiments.append(second)
    together = plan.ImageSource(RunInputs(experiments, None, [0, 0]), 1)
    assert (alone.kept, together.kept) == (0, plan.KEPT)
    experiments.as_file(str(tmp_path / "two.expt"))
    read = []
    original = boundary.ImageReader.__call__

    def counted(self, index):
        read.append(index)
        return original(self, index)

    monkeypatch.setattr(boundary.ImageReader, "__call__", counted)
    expected = {}
    for name, limit in (("once", plan.KEPT), ("some", 600_000), ("twice", 0)):
        (tmp_path / name).mkdir()
        monkeypatch.setattr(plan, "KEPT", limit)
        arguments = (tmp_path / "two.expt", SERIAL, "block.width=3")
        run_in(tmp_path / name, diffuse_integrate.run, *arguments)
        expected[name] = sorted(read)
        read.clear()
        for path in (tmp_path / name / "diffuse_observations").glob("block_*"):
            same_block(path, tmp_path / "once" / "diffuse_observations" / path.name)
    assert expected["once"] == list(range(6))
    assert expected["twice"] == sorted([*range(6), *range(6)])
    assert expected["some"] == sorted([*range(6), 2, 5])


def test_a_block_of_another_run_is_not_merged(tmp_path):
    """A worker that outlived its command may leave one; integrating again mends it."""
    text = f"{recipe('rotation_small')}\nscan.n_images = 3\n"
    scan = run_simulation(text, tmp_path / "scan")
    folders = []
    for name, d_min in (("one", 2.0), ("two", 3.0)):
        (tmp_path / name).mkdir()
        more = (SERIAL, f"mask.resolution.d_min={d_min}")
        run_in(tmp_path / name, diffuse_integrate.run, scan.expt_path, *more)
        folders.append(tmp_path / name / "diffuse_observations")
    late = folders[1] / "block_000001.h5"
    late.write_bytes((folders[0] / late.name).read_bytes())
    with pytest.raises(InputError, match=r"block_000001\.h5 .* run dials"):
        collect([str(folders[1])])
    run_in(tmp_path / "two", diffuse_integrate.run, scan.expt_path, *more)
    assert figures_of(tmp_path / "two")["reused"] == 2
    assert len(collect([str(folders[1])]).files) == 3


def test_block_files_that_nobody_sees_are_reported(tmp_path, monkeypatch):
    """As from a worker on a node with another file system."""
    text = f"{recipe('rotation_small')}\nscan.n_images = 3\n"
    scan = run_simulation(text, tmp_path / "scan")
    original = run.Run.integrate

    def elsewhere(self, block):
        tally = original(self, block)
        if block.number == 1:
            os.remove(run.block_path(self.spec.folder, block))
        return tally

    monkeypatch.setattr(run.Run, "integrate", elsewhere)
    monkeypatch.setattr(orchestrator, "NETWORK_DELAY", 0.0)
    with pytest.raises(Sorry, match=r"block_000001\.h5.*file system that all nodes"):
        run_in(tmp_path, diffuse_integrate.run, scan.expt_path, SERIAL)
