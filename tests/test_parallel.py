"""Executors: the same results from all, deaths of workers, interrupts, no orphans."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from diffuse_core.errors import ConfigError, DiffuseError
from diffuse_core.executors import dask_cluster
from diffuse_core.parallel import run_tasks

TASKS = """
import logging, os, signal, time
from pathlib import Path

def prepare(spec):
    folder = Path(spec)
    (folder / f"prepared_{os.getpid()}").touch()
    return folder

def refuse(spec):
    raise ValueError("no models")

def square(folder, item):
    return item ** 2

def slow_square(folder, item):
    time.sleep(0.2)
    return item ** 2

def uneven(folder, item):
    time.sleep(1.0 if item == 0 else 0.02)
    return os.getpid()

def threads(folder, item):
    import numba
    return os.environ["OMP_NUM_THREADS"], numba.config.NUMBA_NUM_THREADS

def fails(folder, item):
    if item == 3:
        raise KeyError("the third")
    return item

def die(folder, item):
    if item == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return item

def die_once(folder, item):
    mark = folder / f"died_{item}"
    if item in (2, 5) and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.05)
    return item

def never_pickled(folder, item):
    return lambda: item

def forever(folder, item):
    (folder / f"working_{os.getpid()}").touch()
    while True:
        time.sleep(0.05)

def hello(item):
    return f"block {item} (images {10 * item} to {10 * item + 9})"
"""
SCRIPT = """
import signal, sys
import pool_tasks
from diffuse_core.parallel import run_tasks

def run(args):
    tasks = run_tasks(
        pool_tasks.prepare, pool_tasks.forever, args[0], range(4), 2, engine=args[1]
    )
    print(list(tasks))

if __name__ == "__main__":
    # As in a terminal; what a shell starts in the background ignores Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if sys.argv[2] == "SIGINT":
        from diffuse_core.command_line.common import command
        run = command(run)
    run([sys.argv[1], sys.argv[3]])
"""
ENGINES = [("serial", 1), ("processes", 2), ("dask", 2)]
WORKERS = ENGINES[1:]


@pytest.fixture
def tasks(tmp_path, monkeypatch):
    """Functions of a module that workers can import."""
    folder = tmp_path / "modules"
    folder.mkdir()
    (folder / "pool_tasks.py").write_text(TASKS)
    monkeypatch.syspath_prepend(folder)
    import pool_tasks

    yield pool_tasks
    sys.modules.pop("pool_tasks")


@pytest.fixture(autouse=True)
def dask_is_there(request):
    """Skips what asks for Dask where it isn't installed."""
    case = getattr(request.node, "callspec", None)
    if case and case.params.get("engine") == "dask":
        pytest.importorskip("distributed")


def alive(pid: int) -> bool:
    """Whether a process exists and isn't a zombie."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


def wait_until(condition, seconds: float) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


@pytest.mark.parametrize(("engine", "nproc"), ENGINES)
def test_every_item_once_and_prepared_once_per_worker(tasks, tmp_path, engine, nproc):
    found = run_tasks(
        tasks.prepare, tasks.slow_square, tmp_path, range(9), nproc, engine=engine
    )
    assert sorted(found) == [i**2 for i in range(9)]
    workers = {int(p.name.split("_")[1]) for p in tmp_path.glob("prepared_*")}
    assert len(workers) == nproc
    assert (os.getpid() in workers) == (engine == "serial")
    assert not [pid for pid in workers - {os.getpid()} if alive(pid)]


def test_no_items_no_workers(tasks, tmp_path):
    for engine, nproc in ENGINES:
        assert not list(
            run_tasks(tasks.prepare, tasks.square, tmp_path, [], nproc, engine=engine)
        )
    assert not list(tmp_path.glob("prepared_*"))


@pytest.mark.parametrize(("engine", "nproc"), WORKERS)
def test_a_slow_item_does_not_hold_up_the_others(tasks, tmp_path, engine, nproc):
    pids = list(
        run_tasks(
            tasks.prepare, tasks.uneven, tmp_path, range(12), nproc, engine=engine
        )
    )
    slow = pids[-1]
    assert pids.count(slow) < 6


@pytest.mark.parametrize(("engine", "nproc"), WORKERS)
def test_threads_times_workers_are_cores(tasks, tmp_path, monkeypatch, engine, nproc):
    monkeypatch.setattr("diffuse_core.parallel.available_cores", lambda: 6)
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    before = dict(os.environ)
    found = run_tasks(
        tasks.prepare, tasks.threads, tmp_path, [1, 2], nproc, engine=engine
    )
    assert set(found) == {("3", 3)}
    assert dict(os.environ) == before


@pytest.mark.parametrize(("engine", "nproc"), ENGINES)
def test_errors_come_as_they_are(tasks, tmp_path, engine, nproc):
    with pytest.raises(KeyError, match="the third"):
        list(
            run_tasks(
                tasks.prepare, tasks.fails, tmp_path, range(9), nproc, engine=engine
            )
        )
    with pytest.raises(ValueError, match="no models"):
        list(
            run_tasks(
                tasks.refuse, tasks.square, tmp_path, range(9), nproc, engine=engine
            )
        )


def test_an_error_shows_where_it_was_raised(tasks, tmp_path):
    with pytest.raises(KeyError) as caught:
        list(run_tasks(tasks.prepare, tasks.fails, tmp_path, range(9), 2))
    assert "in fails" in str(caught.value.__cause__)


def test_a_result_that_cannot_be_sent_is_an_error(tasks, tmp_path):
    with pytest.raises(RuntimeError, match="can't be sent"):
        list(run_tasks(tasks.prepare, tasks.never_pickled, tmp_path, range(3), 2))


@pytest.mark.parametrize(("engine", "nproc"), WORKERS)
def test_a_dead_worker_is_replaced_and_its_item_done_again(
    tasks, tmp_path, engine, nproc
):
    found = run_tasks(
        tasks.prepare, tasks.die_once, tmp_path, range(9), nproc, engine=engine
    )
    assert sorted(found) == list(range(9))
    assert len(list(tmp_path.glob("died_*"))) == 2
    assert len(list(tmp_path.glob("prepared_*"))) > nproc


@pytest.mark.parametrize(("engine", "nproc"), WORKERS)
def test_an_item_that_kills_two_workers_is_named(tasks, tmp_path, engine, nproc):
    with pytest.raises(DiffuseError, match=r"block 3 \(images 30 to 39\)") as caught:
        list(
            run_tasks(
                tasks.prepare,
                tasks.die,
                tmp_path,
                range(9),
                nproc,
                engine=engine,
                name=tasks.hello,
            )
        )
    if engine == "processes":
        assert "SIGKILL" in str(caught.value)
    workers = [int(p.name.split("_")[1]) for p in tmp_path.glob("prepared_*")]
    wait_until(lambda: not any(map(alive, workers)), 10)


@pytest.mark.parametrize(("engine", "nproc"), WORKERS)
def test_closing_early_ends_the_workers(tasks, tmp_path, engine, nproc):
    found = run_tasks(
        tasks.prepare, tasks.slow_square, tmp_path, range(99), nproc, engine=engine
    )
    next(found)
    found.close()
    workers = [int(p.name.split("_")[1]) for p in tmp_path.glob("prepared_*")]
    assert workers and not any(map(alive, workers))


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["processes", "dask"])
@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_worker_outlives_the_command(tasks, tmp_path, engine, end):
    """Ctrl-C goes to the whole foreground group; other signals to one process."""
    script = tmp_path / "command.py"
    script.write_text(SCRIPT)
    command = subprocess.Popen(
        [sys.executable, script, tmp_path, end.name, engine],
        env={**os.environ, "PYTHONPATH": str(Path(tasks.__file__).parent)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        wait_until(lambda: len(list(tmp_path.glob("working_*"))) == 2, 300)
        workers = [int(p.name.split("_")[1]) for p in tmp_path.glob("working_*")]
        assert all(map(alive, workers))
        started = time.monotonic()
        if end == signal.SIGINT:
            os.killpg(command.pid, end)
        else:
            command.send_signal(end)
        out, error = command.communicate(timeout=30)
        wait_until(lambda: not any(map(alive, workers)), 10)
        assert time.monotonic() - started < 10
    finally:
        command.kill()
        for pid in (int(p.name.split("_")[1]) for p in tmp_path.glob("working_*")):
            if alive(pid):
                os.kill(pid, signal.SIGKILL)
    if end == signal.SIGINT:
        assert command.returncode == 130
        assert len(error.strip().splitlines()) == 1, error
        assert "Interrupted" in error
    else:
        assert command.returncode == -end


def test_dask_listens_on_loopback_only(tasks, tmp_path):
    distributed = pytest.importorskip("distributed")
    with dask_cluster._local(distributed, 1, 1) as client:
        addresses = [client.scheduler.address, *client.nthreads()]
        assert all(a.startswith("tls://127.0.0.1:") for a in addresses)
        inodes = {
            os.readlink(f"/proc/{os.getpid()}/fd/{fd}")
            for fd in os.listdir(f"/proc/{os.getpid()}/fd")
            if os.path.exists(f"/proc/{os.getpid()}/fd/{fd}")
        }
        listening = []
        for table, loopback in (("tcp", "0100007F"), ("tcp6", "0" * 24 + "01000000")):
            lines = Path(f"/proc/net/{table}").read_text().splitlines()[1:]
            for line in lines:
                fields = line.split()
                if fields[3] == "0A" and f"socket:[{fields[9]}]" in inodes:
                    listening.append(fields[1])
                    assert fields[1].startswith(loopback), fields[1]
        assert listening


def test_dask_made_for_a_run_asks_for_a_key(tasks, tmp_path):
    """Loopback is open to every user of the machine."""
    distributed = pytest.importorskip("distributed")
    with dask_cluster._local(distributed, 1, 1) as client:
        address = client.scheduler.address
        for known in (address, address.replace("tls", "tcp")):
            assert stranger(known) == ["trying"]


def stranger(address: str) -> list[str]:
    """What a program without the key says, that has ten seconds after two of Dask's.

    A process of its own: distributed may hang when it gives up.
    """
    program = """
import sys, distributed
print("trying", flush=True)
distributed.Client(sys.argv[1], timeout=2)
print("in", flush=True)
"""
    command = [sys.executable, "-c", program, address]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        said = [process.stdout.readline().strip()]
        try:
            rest = process.communicate(timeout=12)[0]
        except subprocess.TimeoutExpired:
            process.kill()
            rest = process.communicate()[0]
    return said + rest.split()


def test_dask_of_an_address_is_used_and_left_running(tasks, tmp_path):
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address=None
    ) as cluster:
        for turn in (1, 2):
            found = run_tasks(
                tasks.prepare,
                tasks.slow_square,
                tmp_path / str(turn),
                range(6),
                1,
                engine="dask",
                address=cluster.scheduler_address,
            )
            (tmp_path / str(turn)).mkdir()
            assert sorted(found) == [i**2 for i in range(6)]
            assert len(list((tmp_path / str(turn)).glob("prepared_*"))) == 2
        with distributed.Client(cluster, set_as_default=False) as client:
            kept = client.run(lambda: dict(dask_cluster._kept))
            assert list(kept.values()) == [{}, {}]
        scheduler = tmp_path / "scheduler.json"
        scheduler.write_text(json.dumps({"address": cluster.scheduler_address}))
        found = run_tasks(
            tasks.prepare,
            tasks.square,
            tmp_path,
            range(3),
            1,
            engine="dask",
            address=str(scheduler),
        )
        assert sorted(found) == [0, 1, 4]


def test_dask_that_does_not_answer_is_one_sentence(tasks, tmp_path, monkeypatch):
    pytest.importorskip("distributed")
    monkeypatch.setattr(dask_cluster, "_CONNECT", 1.0)
    with pytest.raises(ConfigError, match="parallel.dask.address=tcp://127.0.0.1:9"):
        list(
            run_tasks(
                tasks.prepare,
                tasks.square,
                tmp_path,
                range(3),
                2,
                engine="dask",
                address="tcp://127.0.0.1:9",
            )
        )


@pytest.mark.parametrize("name", ["distributed", "cryptography"])
def test_missing_dask_is_one_sentence(tasks, tmp_path, monkeypatch, name):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ConfigError, match=f"needs the Python package '{name}'"):
        list(
            run_tasks(tasks.prepare, tasks.square, tmp_path, range(3), 2, engine="dask")
        )


def test_dask_is_imported_only_when_selected():
    code = (
        "import sys, diffuse_core.orchestrator, diffuse_core.parallel;"
        "print([m for m in ('dask', 'distributed') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.slow
def test_a_scheduler_that_goes_away_is_one_sentence(tasks, tmp_path):
    distributed = pytest.importorskip("distributed")
    file = tmp_path / "scheduler.json"
    modules = str(Path(tasks.__file__).parent)
    cluster = [
        subprocess.Popen(
            [sys.executable, "-m", "dask", *command, "--host", "127.0.0.1"],
            env={**os.environ, "PYTHONPATH": modules},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for command in (
            ["scheduler", "--port", "0", "--no-dashboard", f"--scheduler-file={file}"],
            ["worker", f"--scheduler-file={file}", "--nthreads", "1", "--no-nanny"],
        )
    ]
    try:
        wait_until(file.exists, 300)
        found = run_tasks(
            tasks.prepare,
            tasks.slow_square,
            tmp_path,
            range(200),
            1,
            engine="dask",
            address=str(file),
        )
        next(found)
        cluster[0].kill()
        with pytest.raises(DiffuseError, match="went away"):
            list(found)
    finally:
        for process in cluster:
            process.kill()
            process.wait()
    assert distributed.client._get_global_client() is None
