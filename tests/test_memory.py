"""Memory of a worker: below what is said before, whatever images and grid are."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

from diffuse_core.memory import PROGRAM, worker_memory

SIX = [(2527, 2463)]

# VmHWM: ru_maxrss of a child starts with the memory of the process that forked it.
RUN = """
import sys
from dataclasses import replace
import numpy as np
from diffuse_core.chunk import IMAGES
from diffuse_core.grid import Grid
from diffuse_core.integrate import Integrator
from diffuse_core.memory import worker_memory
from diffuse_core.models import Mapper
from diffuse_core.panels import Exposure, Models, Readout, prepare_panel
from diffuse_core.testing import make_geometry, make_image

n_images, divisions = int(sys.argv[1]), float(sys.argv[2])
tile = (40, 40)


class Divided(Mapper):
    grid = Grid("hkl", (1 / divisions,) * 3)

    @classmethod
    def from_params(cls, params, run):
        return cls()

    def affine(self, image):
        return divisions * image.affine()


small = make_geometry()
shape = tuple(n * t for n, t in zip(small.shape, tile))
y, x = np.mgrid[0 : shape[0], 0 : shape[1]].astype(np.float32)
s = np.repeat(np.repeat(small.s, tile[0], 0), tile[1], 1)
s[..., 0] += 1e-5 * x
s[..., 1] += 1e-5 * y
flat = np.ones(shape, np.float32)
geometry = replace(small, shape=shape, s=s, cos_incidence=flat, distance=flat)
models = Models([], [], [], Divided())
panels = [prepare_panel(geometry, Readout(0.0, 1.0), models)]


def exposures():
    for i in range(n_images):
        image = replace(
            make_image(i),
            counts=(np.ones(shape, np.int32),),
            usable=(np.ones(shape, bool),),
        )
        yield Exposure(image, (image,))


rows, tally = Integrator(models, lambda _: panels).integrate_rows(0, exposures())
n = sum(len(part["key"]) for part in rows.parts())
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
peak = 1024 * int(status["VmHWM"].split()[0])
said = worker_memory([shape], n_images, IMAGES, ahead=False, background=False)
print(n, tally["used"], peak, said)
"""


FAULTS = """
import resource
import numpy as np
from diffuse_core.memory import reuse_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        np.ones(25_000_000, np.uint8)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

np.ones(40_000_000, np.uint8)
reuse_freed_memory()
faults()
print(faults())
"""


GIVEN_BACK = """
import numpy as np
from diffuse_core.block_rows import BlockRows
from diffuse_core.memory import reuse_freed_memory

def resident():
    status = dict(line.split(":", 1) for line in open("/proc/self/status"))
    return int(status["VmRSS"].split()[0]) // 1024

def fill(n):
    rows = BlockRows(limit=400_000)
    for i in range(4):
        rows.add(n * i + np.arange(n), 0, np.ones((n, 9)))
    return sum(len(part["key"]) for part in rows.parts())

reuse_freed_memory()
fill(10)
before = resident()
print(fill(300_000), resident() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
def test_rows_that_went_to_files_leave_no_memory_behind():
    """1.2 million rows of 82 bytes, of which 40 MB or more are in memory at once."""
    done = subprocess.run(
        [sys.executable, "-c", GIVEN_BACK], capture_output=True, text=True, check=True
    )
    rows, left = map(int, done.stdout.split())
    assert rows == 1_200_000
    assert left < 20


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
def test_memory_of_an_image_serves_the_next():
    """20 arrays of 25 MB: far fewer faults than the 6000 pages of one."""
    done = subprocess.run(
        [sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) < 1000


@pytest.mark.slow
@pytest.mark.parametrize(("images", "divisions"), [(2, 1), (2, 5000)])
def test_peak_is_below_what_is_said(images, divisions):
    """2.8 million pixels; with 5000 divisions each of them is a row in every image."""
    done = subprocess.run(
        [sys.executable, "-c", RUN, str(images), str(divisions)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    rows, used, peak, said = map(int, done.stdout.split())
    assert used == images * 36 * 48 * 1600
    assert (rows > 0.9 * used) == (divisions > 1)
    assert peak < said


def test_it_does_not_grow_with_the_block_beyond_a_chunk():
    def of(images):
        return worker_memory(SIX, images, 12, ahead=True, background=False)

    assert of(5) < of(12) == of(100) == of(10_000)


def test_images_that_crystals_share_are_counted():
    def of(images, kept):
        return worker_memory(
            SIX, images, 12, ahead=True, background=False, kept=kept
        ) - worker_memory(SIX, images, 12, ahead=True, background=False)

    image = 4 * 2527 * 2463
    assert of(100, 256 * 2**20) == 256 * 2**20
    assert of(1, 256 * 2**20) == image
    assert of(100, 0) == 0


def test_acceptance():
    """6M images: 1.5 GiB; and images of 16M have room on small machines."""
    six = worker_memory(SIX, 10, 12, ahead=True, background=False)
    assert PROGRAM < six < 1.5 * 2**30
    sixteen = worker_memory([(4362, 4148)], 10, 12, ahead=True, background=False)
    assert sixteen < 3 * 2**30
