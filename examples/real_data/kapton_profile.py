"""The shadow of a Kapton tape on a still: azimuthal profiles with and without it.

    python kapton_profile.py refined.expt kapton.png

Divides the image by solid angle and polarization, takes medians of 4 x 4 pixels (Bragg
peaks disappear), fits a tape to the upper half of the detector and compares the
shadowed side (x < 0) with the other one, ring by ring, before and after.
"""

from __future__ import annotations

import sys

import numpy as np
from scipy.optimize import least_squares

from diffuse_core.boundary import panel_geometry, read_image
from diffuse_core.compat import load_experiments
from diffuse_core.plugins.correction.kapton import Tape, attenuation
from diffuse_core.plugins.correction.polarization import Polarization
from diffuse_core.plugins.correction.solid_angle import SolidAngle

RINGS = [(8, 12), (14, 18), (20, 24), (28, 32), (36, 40)]
NOMINAL = Tape("kapton_2019", 0.04, 0.025, 0.665, 0.55)
"""The tape that DIALS' own test assumes for this image."""
FITTED = Tape("kapton_2019", 0.0026, 0.0854, 0.270, 0.55)
"""What `fit` finds in the upper half of this image, at the nominal angle."""


class Still:
    """A still of one panel as medians of 4 x 4 pixels.

    Attributes:
        direction: (n, 3): unit vectors to them.
        two_theta, azimuth: (n,), deg; the azimuth is 0 along +x, 90 along +y.
        value: (n,): counts per solid angle and polarization.
        mu, beam: Attenuation of Kapton (1/mm) and direction of the beam.
    """

    def __init__(self, path: str) -> None:
        experiment = load_experiments(path, check_format=True)[0]
        geometry = panel_geometry(experiment, 0, 0)
        (counts,), (usable,) = read_image(experiment, 0)
        ideal = SolidAngle().panel_response(geometry)
        ideal = ideal * Polarization().panel_response(geometry)
        value = np.where(usable & (counts > 0), counts / ideal, np.nan)
        slow, fast = (n // 4 for n in value.shape)
        blocks = value[: slow * 4, : fast * 4].reshape(slow, 4, fast, 4)
        value = np.median(blocks.transpose(0, 2, 1, 3).reshape(slow, fast, 16), axis=2)
        keep = np.isfinite(value)
        self.value = value[keep]
        self.direction = geometry.direction[2::4, 2::4][:slow, :fast][keep]
        self.direction = self.direction.astype(float)
        self.two_theta = geometry.two_theta[2::4, 2::4][:slow, :fast][keep]
        x, y = self.direction[:, 0], self.direction[:, 1]
        self.azimuth = np.degrees(np.arctan2(y, x))
        self.mu = attenuation(geometry.beam.wavelength)
        self.beam = np.array(geometry.beam.s0) * geometry.beam.wavelength

    def corrected(self, tape: Tape | None) -> np.ndarray:
        """(n,): values divided by the transmission of the tape."""
        if tape is None:
            return self.value
        return self.value * np.exp(self.mu * tape.path(self.direction, self.beam))

    def ratios(self, tape: Tape | None, half: int) -> list[float]:
        """Shadowed side over the other, per ring, above (1) or below (-1) the beam."""
        value = self.corrected(tape)
        result = []
        for low, high in RINGS:
            ring = (self.two_theta > low) & (self.two_theta < high)
            ring &= self.azimuth * half > 0
            left = abs(self.azimuth) > 90
            medians = [np.median(value[ring & side]) for side in (left, ~left)]
            result.append(float(medians[0] / medians[1]))
        return result

    def profile(self, tape: Tape | None, low: float, high: float):
        """Azimuths (deg) and relative medians of one ring."""
        edges = np.arange(-180, 181, 4)
        ring = (self.two_theta > low) & (self.two_theta < high)
        bins = np.digitize(self.azimuth[ring], edges) - 1
        value = self.corrected(tape)[ring]
        median = np.array([np.median(value[bins == i]) for i in range(len(edges) - 1)])
        return (edges[:-1] + edges[1:]) / 2, median / np.median(median)


def fit(still: Still) -> Tape:
    """The tape that makes the rings of the upper half of the detector most even.

    Its angle is the nominal one: one half of the detector shows one end of the shadow.
    """
    part = (still.azimuth > 0) & (still.two_theta > 8) & (still.two_theta < 42)
    ring = np.round(still.two_theta[part]).astype(int)
    value = np.log(still.value[part])
    direction = still.direction[part]

    def tape(p) -> Tape:
        return Tape("kapton_2019", *map(float, np.abs(p)), NOMINAL.angle)

    def residuals(p):
        level = value + still.mu * tape(p).path(direction, still.beam)
        number = np.bincount(ring)
        return level - (np.bincount(ring, level) / np.maximum(number, 1))[ring]

    found = least_squares(
        residuals,
        [0.02, 0.05, 1.0],
        loss="soft_l1",
        f_scale=0.03,
        x_scale=[0.01, 0.01, 0.1],
        diff_step=1e-3,
    )
    return tape(found.x)


def picture(still: Still, path: str) -> None:
    """Azimuthal profiles of three rings: measured, nominal tape, fitted tape."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 3, figsize=(11, 3.4), sharey=True)
    for axis, (low, high) in zip(axes, RINGS[1:4], strict=True):
        for tape, label, style in (
            (None, "measured", {"color": "0.6", "linewidth": 2}),
            (NOMINAL, "nominal tape", {"color": "tab:blue"}),
            (FITTED, "fitted tape", {"color": "tab:red"}),
        ):
            axis.plot(*still.profile(tape, low, high), label=label, **style)
        axis.set_title(f"2 theta = {low} to {high} deg", fontsize=10)
        axis.set_xlabel("azimuth (deg)")
        axis.set_xticks([-180, -90, 0, 90, 180])
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("background / median")
    axes[0].legend(fontsize=8, loc="lower center")
    figure.tight_layout()
    figure.savefig(path, dpi=80)


def main(expt: str, png: str) -> None:
    """Prints the fitted tape and the ratios, and writes the picture."""
    still = Still(expt)
    print("fitted to the upper half:", fit(still))
    for name, tape in (("none", None), ("nominal", NOMINAL), ("fitted", FITTED)):
        for half, where in ((1, "upper"), (-1, "lower")):
            ratios = " ".join(f"{r:.3f}" for r in still.ratios(tape, half))
            print(f"{name:8s} {where} half, shadowed / other side: {ratios}")
    picture(still, png)


if __name__ == "__main__":
    main(*sys.argv[1:])
