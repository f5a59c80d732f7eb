"""The conformance kit: it passes the built-in models and sees each kind of breach."""

from __future__ import annotations

import importlib
import pickle
import re
from dataclasses import dataclass

import numpy as np
import pytest
from scipy import sparse

from dials.algorithms.scaling.model.model import KBScalingModel
from dials.array_family import flex

from diffuse_core import boundary
from diffuse_core.descriptors import ModelPlugin
from diffuse_core.grid import Grid, keys_of
from diffuse_core.hookspecs import hookimpl
from diffuse_core.models import (
    BackgroundModel,
    Basis,
    CorrectionModel,
    IntensityBackground,
    LatticeRegion,
    Mapper,
    MaskModel,
    ScalingComponent,
)
from diffuse_core.plugins import BUILTIN
from diffuse_core.testing import (
    check_model,
    check_plugin,
    make_experiments,
    make_geometry,
    make_image,
    make_run,
)


@pytest.fixture(scope="module")
def run():
    """The synthetic run with a few reflections, and scaled by dials.scale."""
    table = flex.reflection_table()
    table["id"] = flex.int([0, 0, 1])
    table["panel"] = flex.size_t([0, 1, 0])
    table["bbox"] = flex.int6([(3, 8, 5, 9, 0, 2), (30, 50, 0, 4, 6, 9), (0, 9) * 3])
    table["miller_index"] = flex.miller_index([(1, 2, 3), (-2, 0, 5), (3, 1, 0)])
    table["xyzcal.px"] = flex.vec3_double([(5, 7, 1), (40, 2, 7.5), (4, 4, 0.5)])
    table.set_flags(flex.bool(3, True), table.flags.indexed | table.flags.integrated)
    made = make_run(table)
    for experiment in made.experiments:
        scale = {"parameters": flex.double([1.5]), "parameter_esds": None}
        model = KBScalingModel({"scale": scale}, {"corrections": ["scale"]})
        experiment.scaling_model = model
    return made


@pytest.mark.parametrize("name", BUILTIN)
def test_built_in_models_keep_their_contracts(name, run):
    check_plugin(importlib.import_module(name), run=run)


@pytest.mark.parametrize("panel", [0, 1])
def test_geometry_is_that_of_dxtbx(panel):
    ours = make_geometry(panel)
    theirs = boundary.panel_geometry(make_experiments()[0], 0, panel)
    for name in ("s", "cos_incidence", "distance", "two_theta"):
        np.testing.assert_allclose(
            getattr(ours, name), getattr(theirs, name), rtol=1e-6, atol=1e-6
        )
        assert not getattr(ours, name).flags.writeable
        assert not getattr(pickle.loads(pickle.dumps(ours)), name).flags.writeable
    assert ours.beam == theirs.beam
    for name in ("shape", "pixel_size", "sensor_mu", "sensor_thickness"):
        assert getattr(ours, name) == getattr(theirs, name)


@pytest.mark.parametrize(("number", "index"), [(0, 0), (0, 7), (1, 0)])
def test_image_is_that_of_dxtbx(number, index):
    ours = make_image(index, still=number == 1)
    theirs = boundary.image_of(make_experiments()[number], number, index)
    np.testing.assert_allclose(ours.to_hkl, theirs.to_hkl, atol=1e-12)
    np.testing.assert_allclose(ours.axis, theirs.axis, atol=1e-12)
    for name in ("experiment", "index", "phi", "width", "exposure"):
        assert getattr(ours, name) == pytest.approx(getattr(theirs, name), abs=1e-12)


class _Plain:
    """from_params for classes without parameters."""

    @classmethod
    def from_params(cls, params, run):
        return cls()


class Window(_Plain, CorrectionModel):
    def panel_response(self, geometry):
        return np.exp(-0.1 / geometry.cos_incidence)


class Film(Window):
    @classmethod
    def from_params(cls, params, run):
        return {1.5: cls()}[params.thickness]


class NegativeResponse(_Plain, CorrectionModel):
    def panel_response(self, geometry):
        return geometry.cos_incidence - 0.9


class NotFinite(_Plain, CorrectionModel):
    def image_response(self, image, geometry):
        return np.full(geometry.shape, np.nan)


class Transposed(_Plain, CorrectionModel):
    def panel_response(self, geometry):
        return geometry.distance.T


class Text(_Plain, CorrectionModel):
    def panel_response(self, geometry):
        return "much"


class WritesToInput(_Plain, CorrectionModel):
    def panel_response(self, geometry):
        s = geometry.s
        s *= 2.0
        return np.ones(geometry.shape)


class ForcesInput(_Plain, MaskModel):
    def image_mask(self, image, geometry):
        image.to_hkl.setflags(write=True)
        image.to_hkl[0, 0] = 0.0


class Random(_Plain, CorrectionModel):
    def panel_response(self, geometry):
        return 1.0 + np.random.default_rng().random(geometry.shape)


class Reused(_Plain, CorrectionModel):
    def panel_response(self, geometry):
        if not hasattr(self, "buffer"):
            self.buffer = np.empty(geometry.shape)
        self.buffer[:] = geometry.cos_incidence
        return self.buffer


class NotPicklable(_Plain, CorrectionModel):
    def __init__(self):
        self.factor = lambda: 1.0


class IntegerMask(_Plain, MaskModel):
    def panel_mask(self, geometry):
        return np.ones(geometry.shape, np.uint8)


class NeedsCounts(_Plain, MaskModel):
    def image_mask(self, image, geometry):
        return image.counts[geometry.index] < 10


class OneForAll(_Plain, MaskModel):
    def image_masks(self, images, geometry):
        return [np.ones(geometry.shape, bool)]


class Regions(_Plain, MaskModel):
    affine_shape = (3, 4)

    def lattice_regions(self, image):
        yield LatticeRegion(
            affine=np.zeros(self.affine_shape),
            b=np.eye(3),
            axis=np.zeros(3),
            half_width=0.0,
            radial=(0.01, 0.0),
            tangential=(0.01, 0.0),
            floor=0.2,
            rotations=np.zeros((0, 3, 3), np.int64),
            translations=np.zeros((0, 3), np.int64),
        )


class WrongRegions(Regions):
    affine_shape = (3, 3)


class MeanOnly(_Plain, BackgroundModel):
    def panel_background(self, geometry, response):
        return np.zeros(geometry.shape)


class NegativeVariance(_Plain, BackgroundModel):
    def image_background(self, image, geometry, response):
        return 0.1, -1.0


class Flat(_Plain, IntensityBackground):
    def intensity(self, s_norm):
        return np.ones_like(s_norm), 0.0


class ShortIntensity(_Plain, IntensityBackground):
    def intensity(self, s_norm):
        return s_norm[:1], 0.0


class GridMapper(_Plain, Mapper):
    grid = Grid("s", (0.01, 0.01, 0.01))
    scale = 100.0

    def affine(self, image):
        return np.column_stack([100.0 * np.eye(3), np.zeros(3)])

    def voxels(self, image, geometry):
        index = np.rint(self.scale * geometry.s.reshape(-1, 3)).astype(np.int64)
        return keys_of(index).reshape(geometry.shape)


class Disagreeing(GridMapper):
    scale = 110.0


class NoVoxels(_Plain, Mapper):
    grid = Grid("s", (0.01, 0.01, 0.01))


class NoGrid(GridMapper):
    grid = None


@dataclass
class LineBasis(Basis):
    columns: int = 2

    def __post_init__(self):
        self.initial = np.ones(2)

    def basis(self, coordinates):
        ones = np.ones((len(coordinates), self.columns))
        return sparse.csr_matrix(ones)

    def penalty(self):
        return sparse.csr_matrix((0, 2))


@dataclass
class Forgetful(LineBasis):
    slope: float = 1.0

    def __post_init__(self):
        super().__post_init__()
        self.kept, self.slope = self.slope, 1.0

    def basis(self, coordinates):
        return super().basis(coordinates) * self.kept


class Line(_Plain, ScalingComponent):
    role = "crystal"
    columns = ("phi",)

    def bind(self, domain):
        return LineBasis()


class WrongRole(Line):
    role = "beam"


class Forgets(Line):
    def bind(self, domain):
        return Forgetful(slope=2.0)


class NoColumn(Line):
    columns = ("phi", "dose")


class WrongBasis(Line):
    def bind(self, domain):
        return LineBasis(columns=3)


def check(model: type, kind: str, phil: str = ""):
    plugin = ModelPlugin("example", model, "An example.", phil=phil)
    return check_model(plugin, kind)


@pytest.mark.parametrize(
    ("model", "kind"),
    [
        (Window, "correction"),
        (Regions, "mask"),
        (Flat, "background"),
        (GridMapper, "mapping"),
        (Line, "scaling"),
    ],
)
def test_a_good_model_passes(model, kind):
    assert isinstance(check(model, kind), model)


@pytest.mark.parametrize(
    ("model", "kind", "message"),
    [
        (NegativeResponse, "correction", "must be above 0 everywhere"),
        (NotFinite, "correction", "isn't finite"),
        (Transposed, "correction", "with shape (36, 48), not (48, 36)"),
        (Text, "correction", "must give a finite number or an array"),
        (WritesToInput, "correction", "work on a copy"),
        (ForcesInput, "mask", "changes its inputs"),
        (Random, "correction", "a second call gives another result"),
        (Reused, "correction", "is changed by later calls"),
        (NotPicklable, "correction", "can't be pickled"),
        (IntegerMask, "mask", "as bool, not uint8"),
        (NeedsCounts, "mask", "image_mask(image 7 without counts, panel 0) fails"),
        (OneForAll, "mask", "must give 3 masks, not 1"),
        (WrongRegions, "mask", "LatticeRegion.affine with shape (3, 4)"),
        (MeanOnly, "background", "must give (mean, variance)"),
        (NegativeVariance, "background", "negative variance"),
        (ShortIntensity, "background", "the mean with shape"),
        (Disagreeing, "mapping", "agree only for"),
        (NoVoxels, "mapping", "gives neither affine() nor voxels()"),
        (NoGrid, "mapping", "grid is no Grid"),
        (WrongRole, "scaling", "not 'beam'"),
        (WrongBasis, "scaling", "a basis with one column per parameter"),
        (Forgets, "scaling", "when it is written and made again"),
        (NoColumn, "scaling", "columns that don't exist: dose"),
        (Window, "mask", "must be a subclass of diffuse_core.models.MaskModel"),
    ],
)
def test_a_breach_is_named(model, kind, message):
    with pytest.raises(AssertionError, match=re.escape(message)) as caught:
        check(model, kind)
    assert str(caught.value).startswith(f"The {kind} model 'example'")


def test_a_parameter_needs_type_and_help():
    with pytest.raises(AssertionError, match="thickness needs a .type and a .help"):
        check(Window, "correction", "thickness = 1\n.type = float")


def test_parameters_that_a_model_needs_can_be_given():
    class Module:
        __name__ = "my_module"

        @hookimpl
        def diffuse_correction_models(self):
            phil = "thickness = None\n.type = float\n.help = mm"
            yield ModelPlugin("film", Film, "A film.", phil=phil)

    with pytest.raises(AssertionError, match="'film' can't be made: .*KeyError"):
        check_plugin(Module())
    with pytest.raises(AssertionError, match="offers no model fim"):
        check_plugin(Module(), phil={"film": "thickness = 1.5", "fim": ""})


def test_a_module_without_models_fails():
    with pytest.raises(AssertionError, match="no function that is marked"):
        check_plugin(object())
