"""Lists the models of dials.diffuse, where they come from and which plug-ins failed.

A `*` marks the models that are selected by default. The exit status is 1 if a plug-in
can't be used.

Examples::

  dials.diffuse_plugins

  dials.diffuse_plugins -v

  dials.diffuse_plugins json=plugins.json
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from dials.util import Sorry, tabulate
from dials.util.options import ArgumentParser

from diffuse_core import config
from diffuse_core.command_line import common
from diffuse_core.descriptors import KINDS, Kind
from diffuse_core.errors import PluginError
from diffuse_core.registry import Failure, Registry

PHIL = """
json = None
  .type = path
  .help = "File for the list, in JSON."
"""

_CHOOSE = {
    "many": "any number",
    "one": "one",
    "ordered": "any number, in your order",
}


@common.command
def run(args: Sequence[str] | None = None) -> None:
    """Entry point of `dials.diffuse_plugins`."""
    parser = ArgumentParser(
        usage="dials.diffuse_plugins [-v] [json=FILE]",
        phil=config.parse(PHIL),
        epilog=__doc__,
    )
    params, options, rest = parser.parse_args(
        args, show_diff_phil=False, return_unhandled=True
    )
    if rest:
        raise Sorry(f"dials.diffuse_plugins can't use {rest[0]!r}; see -h.")
    registry = Registry.discover()
    scopes = {kind: [scope for _, scope in registry.scopes(kind)] for kind in KINDS}
    failures = [*registry.failures, *_broken(registry)]
    tables = _tables(registry)
    for kind in KINDS.values():
        print(_heading(kind))
        print("\n".join(tables[kind.name]) or "   none")
        if options.verbose:
            for scope in scopes[kind.name]:
                print(_parameters(scope))
        print()
    print("* selected by default")
    if params.json:
        common.write_json(params.json, _as_dict(registry, failures))
    if failures:
        print("\nThese plug-ins can't be used:")
        for failure in failures:
            print(f"  {failure.source}\n      {failure.reason}")
        sys.exit(1)


def _broken(registry: Registry) -> list[Failure]:
    """Models whose class can't be used: a run finds that out when it selects them."""
    found = []
    for kind in KINDS:
        for model in registry.models(kind):
            try:
                model.factory()
            except PluginError as error:
                found.append(Failure(model.source, str(error)))
    return found


def _heading(kind: Kind) -> str:
    return f"{kind.name}: {_CHOOSE[kind.choose]} with {kind.name}.{kind.selector}"


def _tables(registry: Registry) -> dict[str, list[str]]:
    """Lines of the models of each kind, with columns that are aligned throughout."""
    models = [model for kind in KINDS for model in registry.models(kind)]
    rows = [
        [
            "*" if model.plugin.default else "",
            model.plugin.name,
            " ".join(model.plugin.summary.split()),
            f"{model.source.distribution} {model.source.version}".strip(),
        ]
        for model in models
    ]
    lines = tabulate(rows, tablefmt="plain").splitlines()
    tables: dict[str, list[str]] = {kind: [] for kind in KINDS}
    for model, line in zip(models, lines, strict=True):
        tables[model.kind].append(line)
    return tables


def _parameters(scope) -> str:
    if not scope.objects:
        return f"\n    {scope.name}: no parameters"
    return "\n" + scope.as_str(prefix="    ", attributes_level=1).rstrip()


def _as_dict(registry: Registry, failures: Sequence[Failure]) -> dict:
    return {
        "models": [
            {
                "kind": kind,
                "name": model.plugin.name,
                "summary": model.plugin.summary,
                "default": model.plugin.default,
                "phil": model.plugin.phil,
                **vars(model.source),
            }
            for kind in KINDS
            for model in registry.models(kind)
        ],
        "failures": [{"reason": f.reason, **vars(f.source)} for f in failures],
    }


if __name__ == "__main__":
    run()
