"""What all commands share: options, log, working PHIL, error messages, progress."""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dials.util
from dials.util import Sorry
from dials.util.options import ArgumentParser

import diffuse_core
from diffuse_core import config
from diffuse_core.command_line.log_file import start_log
from diffuse_core.command_line.progress import progress_bar
from diffuse_core.command_line.recipes import for_this_command
from diffuse_core.compat import dials_version
from diffuse_core.descriptors import KINDS
from diffuse_core.errors import DiffuseError
from diffuse_core.parallel import available_cores
from diffuse_core.raw_images.phil import program_scopes
from diffuse_core.registry import Registry

__all__ = [
    "Options",
    "command",
    "parse",
    "processes",
    "progress_bar",
    "working",
    "write_json",
    "write_text",
]

logger = logging.getLogger("dials.diffuse")


def command(function: Callable) -> Callable:
    """Decorator: errors that are the user's to mend become one sentence, exit 1;
    Ctrl-C one sentence and exit 130."""

    @functools.wraps(function)
    def wrapped(args: Sequence[str] | None = None):
        with dials.util.show_mail_handle_errors():
            try:
                return function(args)
            except DiffuseError as error:
                raise Sorry(str(error)) from None
            except KeyboardInterrupt:
                print(
                    "Interrupted: the same command continues where this one stopped.",
                    file=sys.stderr,
                )
                raise SystemExit(128 + signal.SIGINT) from None

    return wrapped


@dataclass(frozen=True, eq=False)
class Options:
    """A parsed command line.

    Attributes:
        params: Extracted parameters.
        working: The working PHIL as a libtbx scope.
        files: Arguments that are neither parameters nor .phil files.
        registry: The plug-ins.
        begin: To be called when the run can't be refused any more: from then on it
            writes what an earlier run may have left, first of all its log and working
            PHIL. A second call does nothing.
    """

    params: Any
    working: Any
    files: list[str]
    registry: Registry
    begin: Callable[[], None]


def parse(
    args: Sequence[str] | None,
    name: str,
    usage: str,
    help_text: str,
    sections: tuple[str, ...],
    outputs: tuple[str, ...],
    kinds: tuple[str, ...] = (),
    more: Callable[[Sequence[str]], Any] | None = None,
    exists: Callable[[str], bool] = os.path.exists,
) -> Options:
    """Reads the command line, starts the log.

    Args:
        args: Arguments, or None for those of the process.
        name: Name of the command: default of its log, .phil and .json.
        usage: Usage line, after the name.
        help_text: The command's description with examples.
        sections: Scopes of master.phil that the command reads.
        outputs: Parameters of `output` that the command reads; phil and log always.
        kinds: Kinds of models that the command selects.
        more: Given the arguments, a scope of further parameters.
        exists: Whether an argument names something that is there.

    Raises:
        Sorry: A parameter is unknown or has a wrong value.
        SystemExit: Help was asked for, or nothing was given.
    """
    registry = Registry.discover()
    scope = config.master_scope(registry, (*sections, "output"), kinds)
    keep = {*outputs, "phil", "log"}
    for section in scope.objects:
        if section.name == "output":
            section.objects = [o for o in section.objects if o.name in keep]
    scope = scope.fetch(
        config.parse(
            "".join(
                f"output.{kind} = {name}.{kind}\n"
                for kind in ("phil", "log", "json", "html")
                if kind in keep
            )
        )
    )
    given = list(sys.argv[1:] if args is None else args)
    if more is not None:
        scope.adopt_scope(more(given))
    parser = ArgumentParser(
        usage=f"{name} [options] {usage}", phil=scope, epilog=help_text
    )
    try:
        with tempfile.TemporaryDirectory() as folder:
            own, foreign = for_this_command(
                given,
                scope,
                lambda: _parameters_of_all_commands(registry, given),
                folder,
            )
            params, options, files = parser.parse_args(
                own, show_diff_phil=False, return_unhandled=True
            )
    except Sorry as error:
        text = " ".join(config.explain(registry, str(error)).split())
        raise Sorry(text) from None
    except RuntimeError as error:
        raise Sorry(" ".join(str(error).split())) from error
    _check_arguments(files, exists)
    if not files:
        parser.print_help()
        raise SystemExit(0)
    open_log = start_log(options.verbose, params.output.log)
    logger.info("dials.diffuse %s, %s", diffuse_core.__version__, dials_version())
    for failure in registry.failures:
        logger.warning(
            "The plug-in %s failed to load: %s", failure.source, failure.reason
        )
    difference = parser.diff_phil.as_str()
    if difference.strip():
        logger.info("Parameters that differ from the defaults:\n%s", difference)
    if foreign:
        logger.info(
            "Parameters of other commands, not used here: %s", " ".join(foreign)
        )
    working = config.only_selected(registry, scope.format(params), params)

    @functools.cache
    def begin() -> None:
        open_log()
        write_text(params.output.phil, working.as_str())

    return Options(params, working, files, registry, begin)


def _parameters_of_all_commands(registry: Registry, arguments: Sequence[str]):
    scope = config.master_scope(registry, None, KINDS)
    scope.adopt_scope(program_scopes(arguments))
    return scope


def _check_arguments(files: Sequence[str], exists: Callable[[str], bool]) -> None:
    for name in files:
        if name.startswith("-"):
            raise Sorry(f"There is no option {name}; see -h.")
        if name.endswith("="):
            raise Sorry(f"The parameter {name[:-1]} has no value; {name}None is empty.")
        if "=" in name and not exists(name):
            raise Sorry(f"There is no parameter {name.split('=')[0]}; see -c -e2.")
        if not exists(name):
            raise Sorry(f"The file {name} does not exist.")


def processes(params) -> None:
    """Replaces `parallel.nproc=Auto` by the number of cores of this job."""
    if not isinstance(params.parallel.nproc, int):
        params.parallel.nproc = available_cores()


@contextlib.contextmanager
def working(begin: Callable[[], None], description: str, unit: str = "image"):
    """`progress_bar` of the work of a run, which begins with its first progress.

    Args:
        begin: Called then, and at the end; see `Options`.
        description, unit: As for `progress_bar`.
    """
    with progress_bar(description, unit) as show:

        def progress(*args: float) -> None:
            begin()
            show(*args)

        yield progress
    begin()


def write_text(path: str | None, text: str) -> None:
    """Writes a text file whole or not at all."""
    if not path:
        return
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    temporary.write_text(text)
    os.replace(temporary, target)


def write_json(path: str | None, figures: dict) -> None:
    """Writes all figures of a run."""
    write_text(path, json.dumps(figures, indent=2) + "\n")
