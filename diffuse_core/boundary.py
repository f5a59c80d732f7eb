"""From dxtbx objects to the arrays of the numeric layer, and nothing else.

q_lab = S R(datum axis, phi) F A hkl: S setting rotation, F fixed rotation, A = U B at
the image (`get_A_at_scan_point(i)` is the start of image i and holds no rotation of
the goniometer). A still's A is in the laboratory frame already.
"""

from __future__ import annotations

import logging

import numpy as np

from diffuse_core.compat import oscillation_width, trusted_limits

# isort: split
from dials.array_family import flex  # noqa: F401  (registers the flex types)
from dxtbx import flumpy
from scitbx import matrix

from diffuse_core.errors import ConfigError, InputError
from diffuse_core.geometry import BeamGeometry, PanelGeometry
from diffuse_core.models import Image
from diffuse_core.panels import Readout
from diffuse_core.rays import CUBIC, cubic, positions, rays
from diffuse_core.scan_points import along_scan
from diffuse_core.usable import Trusted, Usable

logger = logging.getLogger("dials.diffuse")

SMOOTH_STRATEGIES = ("SimplePxMmStrategy", "ParallaxCorrectedPxMmStrategy")
SMOOTH = 4
"""Pixels over which the parallax is taken as linear: it errs by 1e-6 pixels or so."""

FARTHEST = 1 / 32
"""Of the distance to the panel: over so much of it the parallax is taken as cubic."""


def is_still(experiment) -> bool:
    """True if the crystal doesn't rotate during an image."""
    return experiment.goniometer is None or oscillation_width(experiment.scan) == 0.0


def setups_of(experiments) -> tuple[int, ...]:
    """Index of the pair (detector, beam) of each experiment, in order of appearance."""
    pairs: list[tuple] = []
    result = []
    for experiment in experiments:
        pair = (experiment.detector, experiment.beam)
        if pair not in pairs:
            pairs.append(pair)
        result.append(pairs.index(pair))
    return tuple(result)


def beam_geometry(beam) -> BeamGeometry:
    """The beam; its mean direction if it varies along the scan."""
    return BeamGeometry(
        wavelength=beam.get_wavelength(),
        s0=tuple(beam.get_s0()),
        polarization_normal=tuple(beam.get_polarization_normal()),
        polarization_fraction=beam.get_polarization_fraction(),
    )


def panel_geometry(experiment, setup: int, index: int) -> PanelGeometry:
    """One panel of an experiment, computed in float64, stored as float32."""
    panel = experiment.detector[index]
    beam = beam_geometry(experiment.beam)
    n_fast, n_slow = panel.get_image_size()
    s, cosine, distance = rays(
        *_entries(panel),
        (n_slow, n_fast),
        np.array(panel.get_normal()),
        np.array(beam.s0),
        beam.wavelength,
    )
    return PanelGeometry(
        setup=setup,
        index=index,
        shape=(n_slow, n_fast),
        pixel_size=tuple(panel.get_pixel_size()),
        beam=beam,
        sensor_mu=panel.get_mu(),
        sensor_thickness=panel.get_thickness(),
        s=s,
        cos_incidence=cosine,
        distance=distance,
    )


def pixel_positions(panel) -> np.ndarray:
    """(n_slow, n_fast, 3) float64, mm: where rays to pixel centres enter the panel."""
    return positions(*_entries(panel), panel.get_image_size()[::-1])


def _entries(panel) -> tuple[np.ndarray, tuple[float, float], np.ndarray]:
    """`shifts`, `pixel_size` and `frame` of `rays.positions`.

    dxtbx takes a microsecond a pixel, and the parallax varies so slowly that few of
    them tell it; with a distortion map all pixels are asked for.
    """
    size = np.array(panel.get_pixel_size())
    shape = panel.get_image_size()[::-1]
    step = asked = 1
    if panel.get_px_mm_strategy().name() in SMOOTH_STRATEGIES:
        step = SMOOTH
        asked = max(step, int(FARTHEST * panel.get_distance() / size.max()))
    fewest = CUBIC if asked > step else 2
    slow, fast = (np.linspace(0.5, n - 0.5, max(fewest, -(-n // asked))) for n in shape)
    centres = np.stack(np.meshgrid(fast, slow), axis=-1)
    entered = panel.pixel_to_millimeter(flumpy.vec_from_numpy(centres.reshape(-1, 2)))
    shifts = flumpy.to_numpy(entered).reshape(centres.shape) - centres * size
    if asked > step:
        n_slow, n_fast = (max(2, -(-n // step)) for n in shape)
        shifts = cubic(cubic(shifts, n_slow, 0), n_fast, 1)
    frame = np.column_stack(
        [panel.get_fast_axis(), panel.get_slow_axis(), panel.get_origin()]
    )
    return shifts, tuple(size), frame


def readouts(experiment) -> list[Readout]:
    """How raw values of each panel become photons."""
    return [Readout(p.get_pedestal(), p.get_gain()) for p in experiment.detector]


def image_of(experiment, number: int, index: int, part=(0.5, 1.0)) -> Image:
    """The orientation of one image, without its pixels.

    Args:
        experiment: dxtbx Experiment.
        number: Its index in the run.
        index: 0-based index in the experiment's image set.
        part: Where in the image's rotation width (0 start, 1 end) the orientation is
            wanted, and which share of the width it stands for.
    """
    where, share = part
    crystal = experiment.crystal
    exposure = exposure_time(experiment, index)
    if is_still(experiment):
        setting = _square(crystal.get_A())
        return Image(
            experiment=number,
            index=index,
            phi=0.0,
            width=0.0,
            exposure=exposure,
            to_hkl=np.linalg.inv(setting),
            s_shift=np.zeros(3),
            axis=np.zeros(3),
        )
    scan, goniometer = experiment.scan, experiment.goniometer
    z = index + where
    phi = scan.get_angle_from_array_index(scan.get_array_range()[0] + z)
    a = along_scan(
        crystal.num_scan_points, z, crystal.get_A_at_scan_point, crystal.get_A, (3, 3)
    )
    setting = along_scan(
        goniometer.num_scan_points,
        z,
        goniometer.get_setting_rotation_at_scan_point,
        goniometer.get_setting_rotation,
        (3, 3),
    )
    fixed = _square(goniometer.get_fixed_rotation())
    datum = matrix.col(goniometer.get_rotation_axis_datum()).normalize()
    rotation = _square(datum.axis_and_angle_as_r3_rotation_matrix(phi, deg=True))
    beam = experiment.beam
    s0 = along_scan(
        beam.num_scan_points, z, beam.get_s0_at_scan_point, beam.get_s0, (3,)
    )
    return Image(
        experiment=number,
        index=index,
        phi=phi,
        width=oscillation_width(scan) * share,
        exposure=exposure,
        to_hkl=np.linalg.inv(setting @ rotation @ fixed @ a),
        s_shift=np.array(beam.get_s0()) - s0,
        axis=_square(crystal.get_U()).T @ fixed.T @ np.array(datum.elems),
    )


def hkl_at(experiment, panel: int, xyz) -> np.ndarray:
    """(3,) float64: fractional hkl at a position as DIALS gives it (`xyzcal.px`).

    Args:
        experiment: dxtbx Experiment.
        panel: Index of the panel.
        xyz: Fast, slow (pixels, parallax included), array index of the image.
    """
    model = experiment.detector[panel]
    x, y, z = (float(v) for v in xyz)
    direction = matrix.col(
        model.get_lab_coord(model.pixel_to_millimeter((x, y)))
    ).normalize()
    if is_still(experiment):
        image = image_of(experiment, 0, 0)
    else:
        z -= experiment.scan.get_array_range()[0]
        image = image_of(experiment, 0, int(z), (z - int(z), 1.0))
    s1 = np.array(direction.elems) / experiment.beam.get_wavelength()
    s = s1 - np.array(experiment.beam.get_s0())
    return image.to_hkl @ (s + image.s_shift)


def exposure_time(experiment, index: int) -> float:
    """Exposure time of an image (s); 1 where the file doesn't tell it.

    Where a scan was imported with a template, dxtbx knows the time of its first image
    alone, and stores 0 for the others: they get that of the first.
    """
    scan = experiment.scan
    if scan is None:
        return 1.0
    times = scan.get_exposure_times()
    if 0 <= index < len(times) and times[index] > 0:
        return times[index]
    return next((time for time in times if time > 0), 1.0)


def lacks_exposure(experiments) -> bool:
    """True if the images of some experiment have no exposure time."""
    return any(
        e.scan is None or max(e.scan.get_exposure_times(), default=0.0) <= 0
        for e in experiments
    )


def image_size(detector) -> int:
    """Pixels of all panels."""
    return sum(int(np.prod(panel.get_image_size())) for panel in detector)


class ImageReader:
    """Reads the images of one experiment; what their masks share is made once.

    Args:
        experiment: dxtbx Experiment with images.
    """

    def __init__(self, experiment) -> None:
        self._images = experiment.imageset
        self._trusted: list[Trusted] = []

    def __call__(self, index: int) -> tuple[tuple, Usable]:
        """Raw values and what may be used of them.

        Args:
            index: 0-based index of the image in the image set.

        Returns:
            Per panel: raw values (n_slow, n_fast), int32 or float64; bool mask: trusted
            range, untrusted areas, mask of the format and of the .expt, shadows.

        Raises:
            InputError: The image can't be read.
        """
        images = self._images
        try:
            raw = tuple(_raw_values(panel) for panel in images.get_raw_data(index))
            trusted = self._trusted_at(index)
        except Exception as error:
            raise InputError(
                f"Image {index + 1} of the experiment, {images.get_path(index)}, can't "
                f"be read ({type(error).__name__}: {error}): restore it, or leave it "
                "out with input.image_range."
            ) from error
        moving = None
        if images.has_dynamic_mask():
            moving = _whole_mask(images, index)
        return raw, Usable(trusted, raw, moving)

    def _trusted_at(self, index: int) -> Trusted:
        """As `imageset.get_mask`: areas are those of the detector of the first image,
        ranges those of the image's own."""
        images = self._images
        if not self._trusted:
            keep = [
                flumpy.to_numpy(panel.get_untrusted_rectangle_mask())
                for panel in images.get_detector(0)
            ]
            lookup = images.external_lookup.mask.data
            if not lookup.empty():
                for one, extra in zip(keep, _tiles(lookup), strict=True):
                    one &= extra
            for one in keep:
                one.setflags(write=False)
            self._trusted.append(Trusted(tuple(keep), _limits(images.get_detector(0))))
        first = self._trusted[0]
        return Trusted(first.keep, _limits(images.get_detector(index)))


def _limits(detector) -> tuple[tuple[float, float], ...]:
    return tuple(trusted_limits(panel) for panel in detector)


def _tiles(image) -> list[np.ndarray]:
    return [flumpy.to_numpy(image.tile(i).data()) for i in range(image.n_tiles())]


def _whole_mask(images, index: int) -> tuple[np.ndarray, ...]:
    return tuple(flumpy.to_numpy(panel) for panel in images.get_mask(index))


def read_image(experiment, index: int) -> tuple[tuple, Usable]:
    """One image, as `ImageReader` reads it."""
    return ImageReader(experiment)(index)


def _raw_values(panel) -> np.ndarray:
    values = flumpy.to_numpy(panel)
    return values if values.dtype == np.int32 else values.astype(np.float64)


def laue_group(space_group):
    """cctbx space group of the Laue class: point group with inversion."""
    return space_group.build_derived_laue_group()


def to_asymmetric_unit(space_group, index: np.ndarray) -> np.ndarray:
    """(n, 3) int64: one representative of each set of Laue-equivalent grid points.

    The conditions of the asymmetric unit are homogeneous, so they hold for voxel
    indices (n steps per Miller index) as they do for Miller indices.

    Args:
        space_group: cctbx space group; its Laue class is applied.
        index: (n, 3) integer voxel indices; the steps of axes that the group mixes
            must be equal.
    """
    from cctbx import miller

    index = np.ascontiguousarray(index, np.int32)
    flexed = flex.miller_index(
        *(flex.int(np.ascontiguousarray(index[:, i])) for i in range(3))
    )
    miller.map_to_asu(laue_group(space_group).type(), False, flexed)
    return (
        np.array(flexed.as_vec3_double(), dtype=float).reshape(-1, 3).astype(np.int64)
    )


def laue_operators(space_group) -> list[np.ndarray]:
    """(3, 3) integer matrices R of the Laue group: equivalents are index @ R."""
    return [
        np.rint(_square(op.r().as_double())).astype(np.int64)
        for op in laue_group(space_group).all_ops()
    ]


def point_operators(space_group) -> list[np.ndarray]:
    """(3, 3) integer matrices R of the point group, without Friedel's law."""
    group = space_group.build_derived_point_group()
    return [np.rint(_square(op.r().as_double())).astype(np.int64) for op in group]


def index_operator(text: str) -> np.ndarray:
    """(3, 3) int64 matrix of an operator on Miller indices: hkl' = matrix @ hkl.

    Args:
        text: For example "k,h,-l".

    Raises:
        ConfigError: It is no such operator, or gives fractional indices.
    """
    from cctbx import sgtbx

    try:
        change = sgtbx.change_of_basis_op(text)
    except (RuntimeError, ValueError) as error:
        raise ConfigError(
            f"{text!r} is not an operator on indices: write it like k,h,-l."
        ) from error
    matrix = _square(change.c_inv().r().as_double()).T
    whole = np.rint(matrix).astype(np.int64)
    if np.abs(matrix - whole).max() > 1e-6:
        raise ConfigError(
            f"The operator {text} gives fractional indices: it can't be used here."
        )
    return whole


def space_group_of_hall(hall: str):
    """cctbx space group of a Hall symbol."""
    from cctbx import sgtbx

    return sgtbx.space_group(hall)


def mean_cell(cells, space_group) -> tuple[float, ...]:
    """Mean of unit cells, with the constraints of the lattice restored.

    Args:
        cells: (n, 6): a, b, c (A), alpha, beta, gamma (deg).
    """
    from cctbx import uctbx

    mean = uctbx.unit_cell(tuple(np.mean(cells, axis=0)))
    return space_group.average_unit_cell(mean).parameters()


def mixed_axes(space_group) -> set[tuple[int, int]]:
    """Pairs of index axes that the Laue group turns into one another."""
    return {
        (min(i, j), max(i, j))
        for r in laue_operators(space_group)
        for i, j in np.argwhere(r).tolist()
        if i != j
    }


def _square(nine) -> np.ndarray:
    return np.array(nine, float).reshape(3, 3)
