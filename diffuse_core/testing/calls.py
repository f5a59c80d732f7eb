"""What the core calls of a model of each kind, and what must come back."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import sparse

from diffuse_core.geometry import PanelGeometry
from diffuse_core.grid import Grid, keys_of
from diffuse_core.models import (
    BackgroundModel,
    Basis,
    CorrectionModel,
    Domain,
    Image,
    IntensityBackground,
    LatticeRegion,
    Mapper,
    MaskModel,
    Model,
    ScalingComponent,
)
from diffuse_core.rows import Source
from diffuse_core.scale_model import state_of

ROLES = ("crystal", "path", "offset")
LIMITS = {
    "phi": (0.0, 90.0),
    "x": (0.0, 48.0),
    "y": (0.0, 36.0),
    "s": (0.02, 0.8),
    "panel": (0.0, 1.0),
    "block": (0.0, 9.0),
}
"""Ranges of the columns that a scaling component may ask for."""


class Call(NamedTuple):
    """One call of a model: what a message calls it, the call, the check of its value.

    The check raises AssertionError with half a sentence that follows the name.
    """

    what: str
    run: Callable[[], Any]
    check: Callable[[Any], None]


def calls_of(
    model: Model, geometries: Sequence[PanelGeometry], images: Sequence[Image]
) -> Iterator[Call]:
    """All calls of a model, for every panel and image where that matters."""
    if isinstance(model, IntensityBackground):
        yield _intensity(model, geometries)
    elif isinstance(model, ScalingComponent):
        yield from _scaling(model)
    else:
        if isinstance(model, Mapper):
            yield Call("grid and oversample", lambda: None, lambda _: _mapper(model))
        for geometry in geometries:
            yield from _of_panel(model, geometry)
            for image in images:
                yield from _of_image(model, image, geometry)
            if isinstance(model, (BackgroundModel, MaskModel)):
                yield from _of_blocks(model, images, geometry)
        for image in images:
            if isinstance(model, MaskModel):
                yield _regions(model, image)


def require(condition: bool, text: str) -> None:
    """AssertionError(text) unless the condition holds."""
    if not condition:
        raise AssertionError(text)


def _of_panel(model: Model, geometry: PanelGeometry) -> Iterator[Call]:
    where = f"(panel {geometry.index})"
    shape = geometry.shape
    if isinstance(model, MaskModel):
        yield Call(
            f"panel_mask{where}",
            lambda: model.panel_mask(geometry),
            lambda value: _mask(value, shape),
        )
    elif isinstance(model, CorrectionModel):
        yield Call(
            f"panel_response{where}",
            lambda: model.panel_response(geometry),
            lambda value: _response(value, shape),
        )
    elif isinstance(model, BackgroundModel):
        yield Call(
            f"panel_background{where}",
            lambda: model.panel_background(geometry, _a_response(shape)),
            lambda value: _background(value, shape),
        )


def _of_image(model: Model, image: Image, geometry: PanelGeometry) -> Iterator[Call]:
    counts = "" if image.counts else " without counts"
    kind = "still" if image.width == 0 else "image"
    where = f"({kind} {image.index}{counts}, panel {geometry.index})"
    shape = geometry.shape
    if isinstance(model, MaskModel):
        yield Call(
            f"image_mask{where}",
            lambda: model.image_mask(image, geometry),
            lambda value: _mask(value, shape),
        )
    elif isinstance(model, CorrectionModel):
        yield Call(
            f"image_response{where}",
            lambda: model.image_response(image, geometry),
            lambda value: _response(value, shape),
        )
    elif isinstance(model, BackgroundModel):
        yield Call(
            f"image_background{where}",
            lambda: model.image_background(image, geometry, _a_response(shape)),
            lambda value: _background(value, shape),
        )
    elif isinstance(model, Mapper):
        yield Call(
            f"affine and voxels{where}",
            lambda: (model.affine(image), _voxels(model, image, geometry)),
            lambda value: _mapping(value, geometry),
        )


def _of_blocks(
    model: Model, images: Sequence[Image], geometry: PanelGeometry
) -> Iterator[Call]:
    for still in (False, True):
        block = [image for image in images if (image.width == 0) == still]
        if not block:
            continue
        what = "of a still" if still else "of a scan"
        if isinstance(model, MaskModel):
            yield Call(
                f"image_masks(images {what}, panel {geometry.index})",
                lambda block=block: list(model.image_masks(block, geometry)),
                lambda value, block=block: _masks(value, len(block), geometry.shape),
            )
            continue
        yield Call(
            f"block_background(block {what}, panel {geometry.index})",
            lambda block=block: model.block_background(
                block, geometry, _a_response(geometry.shape)
            ),
            lambda value: _background(value, geometry.shape),
        )


def _a_response(shape: tuple[int, int]) -> np.ndarray:
    response = np.linspace(0.5, 1.0, shape[0] * shape[1], dtype=np.float32)
    response = response.reshape(shape)
    response.setflags(write=False)
    return response


def _regions(model: MaskModel, image: Image) -> Call:
    def check(regions) -> None:
        for region in regions:
            require(
                isinstance(region, LatticeRegion),
                f"must give LatticeRegion objects, not {type(region).__name__}",
            )
            n = len(region.rotations)
            for name, shape, kind in (
                ("affine", (3, 4), "f"),
                ("b", (3, 3), "f"),
                ("axis", (3,), "f"),
                ("rotations", (n, 3, 3), "i"),
                ("translations", (n, 3), "i"),
            ):
                _array(getattr(region, name), shape, kind, f"LatticeRegion.{name}")
            sizes = np.array(
                [*region.radial, *region.tangential, region.floor, region.half_width]
            )
            require(
                sizes.shape == (6,) and bool(np.all(np.isfinite(sizes) & (sizes >= 0))),
                "must give finite sizes that aren't negative",
            )

    what = f"lattice_regions(image {image.index})"
    return Call(what, lambda: list(model.lattice_regions(image)), check)


def _intensity(model: IntensityBackground, geometries: Sequence[PanelGeometry]) -> Call:
    s_norm = np.concatenate([g.s_norm.ravel() for g in geometries]).astype(float)
    s_norm.setflags(write=False)
    return Call(
        "intensity",
        lambda: model.intensity(s_norm),
        lambda value: _background(value, s_norm.shape),
    )


def _scaling(model: ScalingComponent) -> Iterator[Call]:
    columns = tuple(model.columns)
    domain, rows = _domain(model)
    n_points = len(rows["source"])

    def run():
        unknown = sorted(set(columns) - set(rows))
        require(not unknown, f"asks for columns that don't exist: {', '.join(unknown)}")
        require(bool(domain.used()), "applies neither to scans nor to stills")
        points = np.column_stack([rows[name] for name in columns]).astype(float)
        points.setflags(write=False)
        basis = model.bind(domain)
        require(
            isinstance(basis, Basis), f"must give a Basis, not {type(basis).__name__}"
        )
        require(
            dataclasses.is_dataclass(basis), "must give a Basis that is a dataclass"
        )
        again = type(basis)(**json.loads(json.dumps(state_of(basis))))
        return (
            np.asarray(basis.initial),
            basis.basis(points),
            basis.penalty(),
            basis.gauge(),
            again.basis(points),
        )

    def check(value) -> None:
        initial, weights, penalty, gauge, again = value
        require(
            model.role in ROLES,
            f"needs a role out of {', '.join(ROLES)}, not {model.role!r}",
        )
        _array(initial, (initial.size,), "f", "initial")
        for matrix, name in (
            (weights, "basis"),
            (penalty, "penalty"),
            (gauge, "gauge"),
        ):
            require(sparse.issparse(matrix), f"must give a scipy.sparse {name}")
            require(
                matrix.shape[1] == initial.size,
                f"must give a {name} with one column per parameter",
            )
            require(bool(np.isfinite(matrix.data).all()), f"must give a finite {name}")
        require(weights.format == "csr", "must give the basis as CSR")
        require(
            weights.shape[0] == n_points, "must give a basis with one row per point"
        )
        require(
            abs(weights - again).sum() <= 1e-9 * abs(weights).sum(),
            "gives a basis that is another one when it is written and made again",
        )

    yield Call(f"bind({', '.join(columns)})", run, check)


def _domain(model: ScalingComponent) -> tuple[Domain, dict[str, np.ndarray]]:
    """The synthetic run as a scaling component sees it, and rows of its sources."""
    sources = (
        Source("scan", "observations", 0, False, LIMITS["phi"]),
        Source("still", "observations", 1, True, (0.0, 0.0)),
    )
    applies = [model.applies(source) for source in sources]
    limits = tuple(
        {**LIMITS, "phi": source.phi} if use else {}
        for source, use in zip(sources, applies, strict=True)
    )
    rng = np.random.default_rng(1)
    rows = {
        name: np.concatenate([[low, high], rng.uniform(low, high, 50)])
        for name, (low, high) in LIMITS.items()
    }
    rows["source"] = rng.choice(
        np.flatnonzero(applies) if any(applies) else [0], 52
    ).astype(float)
    still = rows["source"] == 1
    for name in ("panel", "block"):
        rows[name] = np.rint(rows[name])
    rows["phi"][still] = 0.0
    rows["block"][still] = 10.0
    return Domain(sources, limits, (tuple(range(10)), (10,))), rows


def _mask(value, shape: tuple[int, int]) -> None:
    if value is not None:
        _array(value, shape, "b", "the mask")


def _masks(values, n: int, shape: tuple[int, int]) -> None:
    require(len(values) == n, f"must give {n} masks, not {len(values)}")
    for value in values:
        _mask(value, shape)


def _response(value, shape: tuple[int, ...]) -> None:
    _number_or_array(value, shape, "the response")
    values = np.asarray(value)
    require(
        bool((values > 0).all()), f"must be above 0 everywhere, not {values.min():.4g}"
    )


def _background(value, shape: tuple[int, ...]) -> None:
    require(isinstance(value, tuple) and len(value) == 2, "must give (mean, variance)")
    for part, name in zip(value, ("the mean", "the variance"), strict=True):
        _number_or_array(part, shape, name)
    require(bool((np.asarray(value[1]) >= 0).all()), "gives a negative variance")


def _mapper(model: Mapper) -> None:
    require(
        isinstance(getattr(model, "grid", None), Grid), "must be set: grid is no Grid"
    )
    steps = np.asarray(model.grid.steps, float)
    require(
        steps.shape == (3,) and bool((np.isfinite(steps) & (steps > 0)).all()),
        "must be set: the grid needs three steps above 0",
    )
    divisions = model.oversample
    require(
        len(divisions) == 3 and all(int(n) == n and n >= 1 for n in divisions),
        "must be set: oversample needs three whole numbers of at least 1",
    )


def _voxels(model: Mapper, image: Image, geometry: PanelGeometry) -> np.ndarray | None:
    if type(model).voxels is Mapper.voxels and model.affine(image) is not None:
        return None
    return model.voxels(image, geometry)


def _mapping(value, geometry: PanelGeometry) -> None:
    affine, voxels = value
    if affine is not None:
        _array(affine, (3, 4), "f", "affine")
    if voxels is not None:
        _array(voxels, geometry.shape, "i", "voxels")
        require(voxels.dtype == np.int64, f"must be int64, not {voxels.dtype}")
    if affine is not None and voxels is not None:
        grid = geometry.s.reshape(-1, 3) @ affine[:, :3].T + affine[:, 3]
        keys = keys_of(np.rint(grid).astype(np.int64)).reshape(geometry.shape)
        agree = np.mean((keys == voxels) | (voxels == -1))
        require(agree > 0.99, f"agree only for {100 * agree:.0f} % of the pixels")


def _number_or_array(value, shape: tuple[int, ...], name: str) -> None:
    if isinstance(value, np.ndarray) and value.ndim:
        _array(value, shape, "f", name)
        return
    try:
        finite = bool(np.isfinite(float(value)))
    except (TypeError, ValueError):
        finite = False
    require(finite, f"must give a finite number or an array as {name}, not {value!r}")


def _array(value, shape: tuple[int, ...], kind: str, name: str) -> None:
    dtype = {"b": "bool", "f": "float", "i": "integer"}[kind]
    require(
        isinstance(value, np.ndarray),
        f"must give {name} as a NumPy array, not {type(value).__name__}",
    )
    require(
        value.shape == shape, f"must give {name} with shape {shape}, not {value.shape}"
    )
    require(
        value.dtype.kind in kind.replace("i", "iu"),
        f"must give {name} as {dtype}, not {value.dtype}",
    )
    require(bool(np.isfinite(value).all()), f"gives {name} that isn't finite")
