"""Shows what masks, corrections or backgrounds do, before a long run.

Writes a table of each selected model, and of all together, and a picture of the
detector as it is seen from the sample: the share of pixels that masks keep, the
response of corrections, the counts per second of backgrounds. Takes the files and the
parameters that dials.diffuse takes, and one image: the middle of the first experiment
unless you name another. Masks that look at several images together see those that
follow it.

Examples::

  dials.diffuse_show refined.expt kind=correction

  dials.diffuse_show refined.expt refined.refl kind=mask image=17

  dials.diffuse_show refined.expt kind=background background.models=compton
"""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np

from dials.util import tabulate

from diffuse_core import boundary, config, inputs, show
from diffuse_core.command_line import common
from diffuse_core.errors import ConfigError
from diffuse_core.models import Image, RunInputs
from diffuse_core.panels import n_together
from diffuse_core.plan import ImageSource

logger = logging.getLogger("dials.diffuse")

NAME = "dials.diffuse_show"
KINDS = ("mask", "correction", "background")
UNITS = {"mask": "kept", "correction": "response", "background": "counts/s"}
MOST_GROUPS = 8


@common.command
def run(args=None) -> None:
    """Entry point of `dials.diffuse_show`."""
    options = common.parse(
        args,
        NAME,
        "refined.expt [refined.refl] kind=mask|correction|background [name=value ...]",
        __doc__,
        ("show",),
        ("pictures", "json"),
        KINDS,
    )
    params = options.params
    kind = params.show.kind
    names = [m.plugin.name for m in config.selected(options.registry, params, kind)]
    if not names:
        raise ConfigError(
            f"No {kind} model is selected: set {kind}.models; dials.diffuse_plugins "
            "lists them."
        )
    experiments, reflections = inputs.load(*inputs.sort_files(options.files))
    run = RunInputs(experiments, reflections, boundary.setups_of(experiments))
    image, number = _image(run, params.show)
    detector = experiments[params.show.experiment].detector
    setup = run.setups[params.show.experiment]
    panels = [
        boundary.panel_geometry(run.first_of_setup(setup), setup, index)
        for index in range(len(detector))
    ]

    def models(of_kind: str) -> list:
        return config.build_models(options.registry, params, run, of_kind)

    pairs = list(zip(names, models(kind), strict=True))
    if kind == "mask":
        shown = show.masks(pairs, panels, image, _following(run, image, pairs))
    elif kind == "correction":
        shown = show.corrections(pairs, panels, image)
    else:
        others = [("", model) for model in models("correction")]
        responses = show.corrections(others, panels, image)[-1].values
        responses = [r.astype(np.float32) for r in responses]
        shown = show.backgrounds(pairs, panels, image, responses)
    options.begin()
    logger.info("Experiment %d, image %d", params.show.experiment, number)
    logger.info("\n%s", _table(shown, kind))
    if params.output.pictures:
        from diffuse_core.report.detector import write_detector

        path = Path(params.output.pictures) / f"{kind}.png"
        titles = [_title(one, kind) for one in shown]
        write_detector(path, titles, [s.values for s in shown], panels, UNITS[kind])
        logger.info("Picture: %s", path)
    common.write_json(
        params.output.json,
        {
            "kind": kind,
            "unit": UNITS[kind],
            "experiment": params.show.experiment,
            "image": number,
            "models": [
                {
                    "name": one.name,
                    **show.figures(one),
                    "panels": [show.figures(one, [i]) for i in range(len(panels))],
                }
                for one in shown
            ],
        },
    )


def _image(run: RunInputs, params) -> tuple[Image, int]:
    """The image that the user wants, with its pixels, and its number."""
    if params.experiment >= len(run.experiments):
        raise ConfigError(
            f"show.experiment={params.experiment}: there are {len(run.experiments)} "
            "experiments, counted from 0."
        )
    experiment = run.experiments[params.experiment]
    size = len(experiment.imageset)
    first = experiment.scan.get_image_range()[0] if experiment.scan else 1
    number = first + size // 2 if params.image is None else params.image
    if not first <= number < first + size:
        raise ConfigError(
            f"show.image={number}: experiment {params.experiment} has images "
            f"{first} to {first + size - 1}."
        )
    return _with_pixels(run, params.experiment, number - first), number


def _with_pixels(run: RunInputs, experiment: int, index: int) -> Image:
    image = ImageSource(run, 1).image(experiment, index)
    counts, usable = boundary.read_image(run.experiments[experiment], index)
    return replace(image, counts=counts, usable=usable)


def _following(run: RunInputs, image: Image, masks) -> list[Image]:
    """The image and those after it that masks look at together with it."""
    n = max(n_together(model, image) for _, model in masks)
    stop = min(image.index + n, len(run.experiments[image.experiment].imageset))
    later = range(image.index + 1, stop)
    return [image, *(_with_pixels(run, image.experiment, index) for index in later)]


def _title(shown: show.Shown, kind: str) -> str:
    if kind == "mask":
        return f"{shown.name}: {100 * show.figures(shown)['mean']:.2f} % kept"
    return shown.name


def _table(shown: list[show.Shown], kind: str) -> str:
    n_panels = len(shown[0].values)
    groups: list[list[int]] = [list(range(n_panels))]
    if n_panels > 1:
        parts = np.array_split(np.arange(n_panels), min(n_panels, MOST_GROUPS))
        groups += [part.tolist() for part in parts]
    rows = []
    for one in shown:
        for group in groups:
            found = show.figures(one, group)
            which = f"{group[0]}" if len(group) == 1 else f"{group[0]}-{group[-1]}"
            name = one.name if group is groups[0] else ""
            if kind == "mask":
                rows.append([name, which, f"{100 * found['mean']:.3f}"])
            else:
                values = [f"{found[key]:.5g}" for key in ("min", "median", "max")]
                rows.append([name, which, *values])
    columns = ["kept (%)"] if kind == "mask" else ["min", "median", "max"]
    return tabulate(rows, headers=[kind, "panels", *columns])


if __name__ == "__main__":
    run()
