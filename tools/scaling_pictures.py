"""Draws docs/scaling/planted.png: B, G and C, planted and found.

python tools/scaling_pictures.py               about a minute
python tools/scaling_pictures.py --folder DIR  into another folder

Simulates the recipe scales_small, integrates and scales it as
tests/test_scaling_images.py does.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import tempfile
from pathlib import Path

import numpy as np
from picture_drawing import CURVES, figure, save

from diffuse_core.command_line import diffuse_integrate, diffuse_scale
from diffuse_core.scale_model import ScaleModel
from diffuse_core.simulate import recipe, run_simulation
from diffuse_core.testing.planted_scales import (
    INTEGRATE,
    RECIPE,
    SCALE,
    Compared,
    PlantedScales,
    compare,
)

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "scaling"


def compared() -> Compared:
    """The scales of a simulated scan, found and planted."""
    before = os.getcwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            run_simulation(recipe(RECIPE), "simulated")
            with contextlib.redirect_stdout(io.StringIO()):
                diffuse_integrate.run(list(INTEGRATE))
                diffuse_scale.run(list(SCALE))
            model = ScaleModel.read("diffuse_scales.json")
            return compare(PlantedScales("simulated"), model, 41)
        finally:
            os.chdir(before)


def draw(c: Compared):
    """The figure."""
    drawn = figure(6.4, 6.6)
    top, middle, bottom = drawn.subfigures(3, 1, height_ratios=(1, 1.15, 1))
    axes = top.subplots()
    axes.plot(c.phi, c.crystal[1], color="0.75", lw=6, label="planted")
    axes.plot(c.phi, c.crystal[0], color=CURVES[0], lw=1.5, label="found")
    axes.set(xlabel="phi (deg)", ylabel="B", title="The crystal")
    axes.legend()
    at = len(c.phi) // 3
    low, high = (f(c.path[1][at]) for f in (np.min, np.max))
    for side, values, title in zip(
        middle.subplots(1, 3),
        (c.path[1][at], c.path[0][at], 10 * (c.path[0][at] / c.path[1][at] - 1) + 1),
        ("G planted", "G found", "difference x 10"),
        strict=True,
    ):
        mesh = side.scatter(
            c.x, c.y, c=values, s=9, marker="s", vmin=low, vmax=high, cmap="viridis"
        )
        side.set(title=title, aspect="equal", xticks=[], yticks=[])
    middle.colorbar(mesh, ax=middle.axes, label=f"at {c.phi[at]:.0f}°")
    axes = bottom.subplots()
    for s, colour in zip((0.1, 0.25, 0.45), CURVES, strict=False):
        near = np.abs(c.s - s) < 0.01
        found, planted = (values[:, near].mean(axis=1) for values in c.offset)
        axes.plot(c.phi, planted, color=colour, lw=6, alpha=0.3)
        axes.plot(c.phi, found, color=colour, lw=1.5, label=f"|s| = {s} 1/Å")
    axes.set(
        xlabel="phi (deg)",
        ylabel="C / B less its mean",
        title="What is added (units of the mean; broad: planted)",
    )
    axes.legend()
    return drawn


def main() -> None:
    """Writes the picture."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--folder", type=Path, default=FOLDER)
    save(draw(compared()), parser.parse_args().folder / "planted.png")


if __name__ == "__main__":
    main()
