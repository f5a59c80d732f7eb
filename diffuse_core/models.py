"""The contracts of the five kinds, and the values that models see.

E[n_j] = sum_p [ e_p G_j (B_j I_v + C_j) + b_p ]: masks decide which pixels p count,
corrections multiply into the exposure e_p, backgrounds add up to b_p, the mapper
names the voxel v, scaling components make B, G and C.

Conventions: s = s1 - s0 with |s| = 1/d in 1/A (no 2 pi anywhere); arrays of a panel
are (n_slow, n_fast); masks are True = keep; angles in degrees unless said otherwise.
A constructor of a model takes plain values, so that a test or a notebook can build
one by hand; `from_params` reads the same values from the model's PHIL scope.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from diffuse_core.errors import PluginError
from diffuse_core.geometry import PanelGeometry
from diffuse_core.grid import Grid
from diffuse_core.rows import Source


@dataclass(frozen=True, eq=False)
class RunInputs:
    """What a model may know of the run when it is built.

    Attributes:
        experiments: dxtbx ExperimentList of the run; `Image.experiment` counts in it.
        reflections: dials reflection table with `id` = index of the experiment, or
            None when no .refl was given.
        setups: Index of the setup (detector and beam, `PanelGeometry.setup`) of each
            experiment.
    """

    experiments: Any
    reflections: Any | None
    setups: tuple[int, ...]

    def first_of_setup(self, setup: int) -> Any:
        """The first experiment that was measured with this detector and beam."""
        return self.experiments[self.setups.index(setup)]


@dataclass(frozen=True, eq=False)
class Image:
    """One image and the orientation of the crystal in it.

    Attributes:
        experiment: Index of the experiment in the run.
        index: 0-based index of the image in the experiment's image set.
        phi: Rotation angle at the middle of the image (deg); 0 for a still.
        width: Rotation width (deg); 0 for a still.
        exposure: Exposure time (s).
        to_hkl: (3, 3) float64, A: fractional hkl = to_hkl @ (s + s_shift).
        s_shift: (3,) float64, 1/A: s0 of the setup minus s0 of this image; zero
            unless the beam varies along the scan.
        axis: (3,) float64: rotation axis in the crystal's Cartesian frame (the frame
            of B hkl); zero for a still.
        lattices: The `Image`s of all crystals on this image, this one included; they
            differ in `experiment`, `to_hkl` and `axis`. Empty where this is the only
            crystal.
        counts: Per panel, raw values (n_slow, n_fast) as stored in the file; photons
            are (raw - pedestal) / gain. Empty while the plan is made.
        usable: Per panel, bool (n_slow, n_fast): within the trusted range and the
            image set's own mask; made when it is asked for. Empty while the plan is
            made.
    """

    experiment: int
    index: int
    phi: float
    width: float
    exposure: float
    to_hkl: np.ndarray
    s_shift: np.ndarray
    axis: np.ndarray
    lattices: tuple[Image, ...] = ()
    counts: tuple[np.ndarray, ...] = ()
    usable: Sequence[np.ndarray] = ()

    def affine(self) -> np.ndarray:
        """(3, 4) float64: fractional hkl = affine[:, :3] @ s + affine[:, 3]."""
        return np.column_stack([self.to_hkl, self.to_hkl @ self.s_shift])


@dataclass(frozen=True, eq=False)
class LatticeRegion:
    """Neighbourhoods of lattice points that a mask leaves out, as the kernel reads it.

    A pixel is left out when a lattice point that no operator makes absent lies within
    the ellipsoid around the path that the pixel sweeps during the image: with d the
    shortest vector from the path to the point (1/A, Cartesian), |s| the length of the
    scattering vector, d_r and d_t the parts of d along and across s:

        d_r^2 / (r0^2 + r1^2 |s|^2) + d_t^2 / (t0^2 + t1^2 |s|^2) < 1,

    or when |hkl - round(hkl)| < floor.

    Attributes:
        affine: (3, 4) float64: s to fractional hkl.
        b: (3, 3) float64, 1/A: reciprocal basis, Cartesian = b @ hkl.
        axis: (3,) float64: rotation axis in the Cartesian frame of `b`.
        half_width: Half the rotation width of the image (rad).
        radial: (r0, r1): semi-axis along s, 1/A and dimensionless.
        tangential: (t0, t1): semi-axis across s, 1/A and dimensionless.
        floor: Radius in fractional index.
        rotations: (n, 3, 3) int64: symmetry operators that can make points absent.
        translations: (n, 3) int64: their translations in 1/`denominator`. hkl is
            absent when hkl @ R = hkl and hkl . t is not a whole number.
        denominator: Unit of the translations.
        offsets: (n, 3) float64: satellites lie at whole hkl plus one of these; the
            zero vector stands for the lattice points themselves. Satellites of absent
            points are left out too: their own absences are those of superspace.
    """

    affine: np.ndarray
    b: np.ndarray
    axis: np.ndarray
    half_width: float
    radial: tuple[float, float]
    tangential: tuple[float, float]
    floor: float
    rotations: np.ndarray
    translations: np.ndarray
    denominator: int = 12
    offsets: np.ndarray = field(default_factory=lambda: np.zeros((1, 3)))


class Model(ABC):
    """Base of all models.

    A model that the run shouldn't use silently (a response of 1 where the sensor is
    unknown) says so with `logging.getLogger("dials.diffuse")` in `from_params`.
    """

    @classmethod
    @abstractmethod
    def from_params(cls, params: Any, run: RunInputs) -> Model:
        """The model as the user configured it.

        Args:
            params: Extracted PHIL scope of this model alone.
            run: Experiments and reflections of the run.

        Raises:
            DiffuseError: A parameter can't be used.
        """


class MaskModel(Model):
    """Pixels to keep: a pixel counts if all selected masks keep it.

    The trusted range and the image set's own mask are always applied by the core.
    Override what the model needs; each method may leave the decision to others by
    returning None (or nothing).

    Attributes:
        together: Rotation (deg) over which `image_masks` wants consecutive images of a
            scan at once; 0: each on its own.
    """

    together: float = 0.0

    def panel_mask(self, geometry: PanelGeometry) -> np.ndarray | None:
        """(n_slow, n_fast) bool, True = keep, the same for every image of the setup."""
        return None

    def image_mask(self, image: Image, geometry: PanelGeometry) -> np.ndarray | None:
        """(n_slow, n_fast) bool, True = keep, for one image."""
        return None

    def image_masks(
        self, images: Sequence[Image], geometry: PanelGeometry
    ) -> Sequence[np.ndarray | None]:
        """What `image_mask` says of each of some consecutive images of a block.

        They are as many as rotate by `together`, fewer at the end of a block or where
        memory does not hold them, and one where it is 0 or for stills. For models that
        look at them together; the same array may stand for several images.
        """
        return [self.image_mask(image, geometry) for image in images]

    def lattice_regions(self, image: Image) -> Sequence[LatticeRegion]:
        """Regions around lattice points to leave out of one image."""
        return ()


class CorrectionModel(Model):
    """A response: the fraction of the ideal signal that is recorded.

    Responses multiply the expectation; nobody divides an image. Values are finite and
    above 0: a pixel that sees nothing belongs in a mask.
    """

    def panel_response(self, geometry: PanelGeometry) -> np.ndarray | float:
        """(n_slow, n_fast) float, or one number: the same for every image."""
        return 1.0

    def image_response(
        self, image: Image, geometry: PanelGeometry
    ) -> np.ndarray | float:
        """(n_slow, n_fast) float, or one number: a further factor for one image."""
        return 1.0


class BackgroundModel(Model):
    """Expected counts that have nothing to do with the crystal.

    Means and variances add. The variance is that of the *estimate* of the mean, 0 for
    a value that is known. The estimates of a panel and of a block serve many images, so
    their error is the same in all consecutive images in which a pixel stays in one
    voxel; different pixels, and what an image adds, are taken as independent.
    """

    def panel_background(
        self, geometry: PanelGeometry, response: np.ndarray
    ) -> tuple[np.ndarray | float, np.ndarray | float]:
        """Mean (counts/s per pixel) and variance ((counts/s)^2) for every image.

        Args:
            geometry: The panel.
            response: (n_slow, n_fast) float32: product of all panel responses, for
                backgrounds that pass the same path as the signal.
        """
        return 0.0, 0.0

    def block_background(
        self, images: Sequence[Image], geometry: PanelGeometry, response: np.ndarray
    ) -> tuple[np.ndarray | float, np.ndarray | float]:
        """A further mean and variance, per second, for all images of a block.

        One estimate that neighbouring blocks share for the most part: its error counts
        as that of `panel_background`, from block to block too.

        Args:
            images: The images of the block, whose pixels may not be there.
            geometry, response: As for `panel_background`.
        """
        return 0.0, 0.0

    def image_background(
        self, image: Image, geometry: PanelGeometry, response: np.ndarray
    ) -> tuple[np.ndarray | float, np.ndarray | float]:
        """A further mean and variance, per second, for one image."""
        return 0.0, 0.0


class IntensityBackground(Model):
    """A smooth intensity that is subtracted from a map on the absolute scale.

    By `diffuse_core.absolute.on_absolute_scale`, from Python: no command finds the
    absolute scale. A model may be a `BackgroundModel` as well.
    """

    @abstractmethod
    def intensity(self, s_norm: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and variance of the intensity at |s| (1/A), electron units."""


class Mapper(Model):
    """The voxel of a pixel: exactly one per run.

    Attributes:
        grid: The voxels.
        oversample: Sub-divisions of a pixel along fast and slow and of the rotation of
            an image; (1, 1, 1) sends the whole pixel to the voxel of its centre. With
            more, each sub-pixel carries an equal share of counts and exposure.
    """

    grid: Grid
    oversample: tuple[int, int, int] = (1, 1, 1)

    def affine(self, image: Image) -> np.ndarray | None:
        """(3, 4) float64: s to continuous grid coordinates; voxel centres are integers.

        None if the mapping isn't affine: then `voxels` is used.
        """
        return None

    def voxels(self, image: Image, geometry: PanelGeometry) -> np.ndarray:
        """(n_slow, n_fast) int64 voxel keys (`Grid.keys`), -1 = outside."""
        raise PluginError(
            f"The mapping {type(self).__name__} gives neither affine() nor voxels()."
        )


@dataclass(frozen=True, eq=False)
class Domain:
    """The observations that a scaling component is bound to.

    Attributes:
        sources: All experiments of the data; the column "source" counts in them.
        limits: Per source: column -> (lowest, highest) of its rows. Empty for a source
            that has no rows or that the component does not apply to.
        blocks: Per source: the numbers of its blocks that have rows, ascending.
    """

    sources: tuple[Source, ...]
    limits: tuple[Mapping[str, tuple[float, float]], ...]
    blocks: tuple[tuple[int, ...], ...]

    def used(self) -> list[int]:
        """Indices of the sources that the component applies to and that have rows."""
        return [i for i, limits in enumerate(self.limits) if limits]


class ScalingComponent(Model):
    """A factor or an offset of the scaling model: a local basis and a penalty.

    Linear in its parameters, value = basis(coordinates) @ parameters, or the
    exponential of that. `RunInputs.experiments` are those of `Domain.sources`.

    Attributes:
        role: "crystal" (B, multiplies the crystal's scattering), "path" (G, multiplies
            everything) or "offset" (C, adds an intensity, counts/s/sr per unit flux).
        columns: Columns of the observations that are the coordinates, out of source,
            block, panel, x, y (pixels), phi (deg), s (1/A).
        exponential: Whether the value is the exponential of basis @ parameters.
        smoothness: Size of the penalised combinations of parameters (`Basis.penalty`)
            that is expected: the penalty is the square of their ratio to it. For an
            offset in units of the mean intensity. None: chosen by held-out
            observations.
    """

    role: str
    columns: tuple[str, ...]
    exponential: bool = False
    smoothness: float | None = None

    def applies(self, source: Source) -> bool:
        """Whether the component has to do with an experiment; elsewhere it is 1, or 0
        for an offset."""
        return True

    @abstractmethod
    def bind(self, domain: Domain) -> Basis:
        """The basis for the rows of a domain."""


class Basis(ABC):
    """A basis of functions on the range of the data: a dataclass.

    Its fields are numbers, text, arrays, or lists and dictionaries of these, so that a
    fitted scaling model can be written as text and made again.

    Attributes:
        initial: (n_parameters,) float64: start values.
    """

    initial: np.ndarray

    @abstractmethod
    def basis(self, coordinates: np.ndarray) -> Any:
        """scipy.sparse CSR (n, n_parameters): weights of the parameters.

        Args:
            coordinates: (n, n_columns) float64.
        """

    @abstractmethod
    def penalty(self) -> Any:
        """scipy.sparse (n_rows, n_parameters): combinations of parameters minus
        `initial` that are expected to be small, see `ScalingComponent.smoothness`."""

    def gauge(self) -> Any:
        """scipy.sparse (n_rows, n_parameters): means of parameters that stay at their
        start, since the data can't tell them from other parts of the model."""
        from scipy import sparse

        return sparse.csr_matrix((0, len(self.initial)))
