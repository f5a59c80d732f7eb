"""Steps of the crystallography: each one program of DIALS, run once for its inputs.

A step is finished when its record says so: the record is written after the program has
ended well, and holds a signature of everything that went in and the state of what came
out. A step whose signature and outputs are still the same is not run again.
"""

from __future__ import annotations

import hashlib
import importlib.util
import itertools
import json
import logging
import os
import re
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from diffuse_core.compat import dials_version
from diffuse_core.errors import DiffuseError
from diffuse_core.io.provenance import file_record

logger = logging.getLogger("dials.diffuse")

RECORDS = "steps.json"
KILLED = "it was ended by signal"
NEEDED_FOR_STILLS = ("xfel_mono_sim_ext", "serialtbx")
STAND_INS = Path(__file__).parent / "stand_ins"
_ERROR = re.compile(r"(?:\w+\.)*(?:Sorry|\w*Error|\w*Exception|Abort): ?(.*)")
_NOISE = re.compile(r"^(Please report|Traceback|\s|-+$|=+$|warnings\.warn)|Warning: ")


class StepError(DiffuseError):
    """A program of DIALS stopped; the message says why, and where its log is."""


@dataclass(frozen=True)
class Step:
    """What to run.

    Attributes:
        name: Of the step: names its log, job and .phil file.
        program: A key of `programs.MODULES`.
        inputs: Files, in the order in which the program wants them.
        outputs: Parameter of the program -> name of the file in the folder.
        defaults: PHIL that the user's parameters override; parameters that this
            version of the program doesn't have are passed over.
        patterns: Where the program names its outputs itself: patterns of their names,
            used instead of `outputs`.
        optional: The chain can do without it: if the program fails it is not tried
            again with the same input.
    """

    name: str
    program: str
    inputs: Sequence[str | os.PathLike]
    outputs: Mapping[str, str]
    defaults: str = ""
    patterns: Sequence[str] = ()
    optional: bool = False


class Steps:
    """Runs steps in one folder.

    Args:
        folder: For all files and logs.
        user: Program -> PHIL text with the parameters that the user gave.
    """

    def __init__(self, folder: str | os.PathLike, user: Mapping[str, str]) -> None:
        self.folder = Path(folder).absolute()
        self.user = dict(user)
        self.folder.mkdir(parents=True, exist_ok=True)

    def run(self, step: Step) -> list[Path]:
        """The output files of a step, in the order of `outputs` or sorted by name.

        Raises:
            StepError: The program stopped, or left an output out.
        """
        signature = self._signature(step)
        record = self._records().get(step.name)
        if record and record["signature"] == signature and _as_recorded(record):
            if "error" in record:
                raise StepError(record["error"])
            logger.info("dials.%s: done by an earlier run", step.program)
            return [Path(output["path"]) for output in record["outputs"]]
        self._note(step.name, None)
        for path in self._outputs(step):
            path.unlink(missing_ok=True)
        logger.info("dials.%s ... (log: %s)", step.program, self.log_of(step.name))
        started = time.monotonic()
        error = self._execute(step)
        outputs = self._outputs(step)
        lost = [path.name for path in outputs if not path.exists()]
        if error is None and (lost or not outputs):
            error = f"it ended without writing {', '.join(lost) or 'a result'}"
        record = {
            "signature": signature,
            "seconds": round(time.monotonic() - started),
            "outputs": [],
        }
        if error is not None:
            record["error"] = (
                f"dials.{step.program} stopped: {error.rstrip('.')}; its log is "
                f"{self.log_of(step.name)}, its parameters are set with "
                f"dials.{step.program}.NAME=VALUE."
            )
            if step.optional and not error.startswith(KILLED):
                self._note(step.name, record)
            raise StepError(record["error"])
        record["outputs"] = [file_record(str(path)) for path in outputs]
        self._note(step.name, record)
        return outputs

    def once(
        self, name: str, inputs: Sequence[Path], outputs: Sequence[Path], work
    ) -> None:
        """Calls `work`, unless it has made these outputs of these inputs already."""
        records = [file_record(str(path)) for path in inputs]
        record = self._records().get(name)
        if record and record["signature"] == records and _as_recorded(record):
            return
        self._note(name, None)
        work()
        made = [file_record(str(path)) for path in outputs]
        self._note(name, {"signature": records, "outputs": made})

    def _outputs(self, step: Step) -> list[Path]:
        if step.patterns:
            return sorted(p for s in step.patterns for p in self.folder.glob(s))
        return [self.folder / name for name in step.outputs.values()]

    def log_of(self, name: str) -> str:
        """Path of the log of a step, as short as it can be written."""
        return os.path.relpath(self.folder / f"{name}.log")

    def _signature(self, step: Step) -> str:
        record = {
            "program": step.program,
            "dials": dials_version(),
            "inputs": [file_record(str(path)) for path in step.inputs],
            "outputs": [dict(step.outputs), list(step.patterns)],
            "defaults": step.defaults,
            "user": self.user.get(step.program, ""),
        }
        return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()

    def _execute(self, step: Step) -> str | None:
        """Runs the program; None, or why it stopped."""
        job = self.folder / f"{step.name}.json"
        fixed = [
            f'{parameter} = "{self.folder / name}"\n'
            for parameter, name in step.outputs.items()
        ]
        content = {
            "program": step.program,
            "inputs": [os.path.abspath(path) for path in step.inputs],
            "defaults": step.defaults,
            "user": self.user.get(step.program, ""),
            "fixed": "".join(fixed),
        }
        job.write_text(json.dumps(content, indent=1))
        log = self.folder / f"{step.name}.log"
        reading, writing = os.pipe()
        module = "diffuse_core.raw_images.program"
        try:
            with open(log, "wb") as output:
                process = subprocess.Popen(
                    [sys.executable, "-m", module, str(job), str(reading)],
                    cwd=self.folder,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    pass_fds=(reading,),
                    start_new_session=True,
                    env=_environment(),
                )
            os.close(reading)
            reading = None
            status = process.wait()
        finally:
            os.close(writing)
            if reading is not None:
                os.close(reading)
        if status == 0:
            return None
        return reason_in(log.read_text(errors="replace"), status)

    def _records(self) -> dict:
        try:
            return json.loads((self.folder / RECORDS).read_text())
        except (OSError, ValueError):
            return {}

    def _note(self, name: str, record: dict | None) -> None:
        records = self._records()
        records.pop(name, None)
        if record is not None:
            records[name] = record
        temporary = self.folder / f".{RECORDS}.{os.getpid()}.tmp"
        temporary.write_text(json.dumps(records, indent=1))
        os.replace(temporary, self.folder / RECORDS)


def reason_in(log: str, status: int) -> str:
    """Why a program stopped, from the end of what it printed."""
    lines = [line.rstrip() for line in log.splitlines() if line.strip()]
    for line in reversed(lines[-60:]):
        found = _ERROR.match(line)
        if found and found.group(1) and "support@" not in line:
            return found.group(1).strip()
    if status < 0:
        return f"{KILLED} {-status}"
    indented = len(list(itertools.takewhile(_is_indented, reversed(lines))))
    if indented and "Traceback" not in log[-2000:]:
        return lines[-indented].strip().rstrip(":")
    told = [line.strip() for line in lines if not _NOISE.search(line)]
    return told[-1] if told else f"exit status {status}"


def _is_indented(line: str) -> bool:
    return line.startswith("   ")


def _as_recorded(record: dict) -> bool:
    try:
        return all(file_record(old["path"]) == old for old in record["outputs"])
    except OSError:
        return False


def _environment() -> dict[str, str]:
    """The caller's, with a stand-in for a module that Debian's DIALS 3.12 lacks.

    Without xfel_mono_sim_ext it indexes no still, although nothing of it is used. Newer
    versions have serialtbx in its place.
    """
    environment = {**os.environ, "MPLBACKEND": "Agg", "PYTHONUNBUFFERED": "1"}
    if not any(importlib.util.find_spec(name) for name in NEEDED_FOR_STILLS):
        path = environment.get("PYTHONPATH")
        paths = [path] if path else []
        environment["PYTHONPATH"] = os.pathsep.join([*paths, str(STAND_INS)])
    return environment
