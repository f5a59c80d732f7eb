"""Time of integration against the time of reading the same images, in one run.

    python bench/integration.py [n_images]

Simulates images of a Pilatus 6M, then times per image, in one process: dxtbx's
`get_raw_data` alone, with `get_mask`, the whole integration (default models,
3 x 3 x 3 divisions), and the compiled kernel alone, with its rate in pixels per second.
The machine may be shared: the ratios count.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from diffuse_core import boundary, config
from diffuse_core.compat import load_experiments
from diffuse_core.integrate import Integrator
from diffuse_core.models import RunInputs
from diffuse_core.panels import Models
from diffuse_core.plan import ImageSource, PanelCache, make_blocks
from diffuse_core.registry import Registry
from diffuse_core.simulate import run_simulation

RECIPE = """
detector {
  name = pilatus_6m
  distance = 300
}
scan.width = 0.1
crystal {
  unit_cell = 79 79 38 90 90 90
  space_group = P43212
}
"""


def default_models(run: RunInputs) -> Models:
    """The models that a run without parameters selects."""
    registry = Registry.discover({})
    params = config.master_scope(registry, (), config.INTEGRATE_KINDS).extract()
    kinds = {
        kind: config.build_models(registry, params, run, kind)
        for kind in config.INTEGRATE_KINDS
    }
    return Models(
        kinds["mask"], kinds["correction"], kinds["background"], kinds["mapping"][0]
    )


def main(n_images: int) -> None:
    """Prints seconds per image and ratios."""
    with tempfile.TemporaryDirectory() as folder:
        files = run_simulation(f"{RECIPE}\nscan.n_images = {n_images}", Path(folder))
        experiments = load_experiments(str(files.expt_path), check_format=True)
        images = experiments[0].imageset

        def read(function):
            start = time.perf_counter()
            for index in range(n_images):
                function(index)
                images.clear_cache()
            return (time.perf_counter() - start) / n_images

        raw = read(images.get_raw_data)
        both = read(lambda i: (images.get_raw_data(i), images.get_mask(i)))
        run = RunInputs(experiments, None, boundary.setups_of(experiments))
        models = default_models(run)
        panels = PanelCache(run, models)
        source = ImageSource(run, models.mapper.oversample[2])
        integrator = Integrator(models, panels)
        blocks = make_blocks(experiments, [0], 1.0)
        integrator.integrate_block(0, source.exposures(blocks[0]))
        start = time.perf_counter()
        for block in blocks[1:]:
            integrator.integrate_block(0, source.exposures(block))
        done = sum(b.stop - b.start for b in blocks[1:])
        whole = (time.perf_counter() - start) / done
        ready = list(source.exposures(blocks[0]))
        start = time.perf_counter()
        integrator.integrate_block(0, ready)
        kernel = (time.perf_counter() - start) / len(ready)
    pixels = np.prod(ready[0].image.counts[0].shape)
    print(f"get_raw_data              {1000 * raw:8.1f} ms an image")
    print(f"get_raw_data and get_mask {1000 * both:8.1f} ms  ratio {both / raw:.2f}")
    print(f"integration               {1000 * whole:8.1f} ms  ratio {whole / raw:.2f}")
    rate = pixels / kernel / 1e6
    print(f"integration, images read  {1000 * kernel:8.1f} ms  {rate:.0f} Mpixel/s")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 30)
