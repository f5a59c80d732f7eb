"""The models that come with the program; installed as diffuse_core.plugins."""

from __future__ import annotations

BUILTIN: tuple[str, ...] = (
    "diffuse_core.plugins.masking.anvil",
    "diffuse_core.plugins.masking.bragg",
    "diffuse_core.plugins.masking.mask_file",
    "diffuse_core.plugins.masking.pixel_statistics",
    "diffuse_core.plugins.masking.poisson_outlier",
    "diffuse_core.plugins.masking.resolution",
    "diffuse_core.plugins.masking.shadow",
    "diffuse_core.plugins.masking.shoebox",
    "diffuse_core.plugins.masking.untrusted",
    "diffuse_core.plugins.correction.absorber",
    "diffuse_core.plugins.correction.air",
    "diffuse_core.plugins.correction.exposure",
    "diffuse_core.plugins.correction.flat_field",
    "diffuse_core.plugins.correction.gain",
    "diffuse_core.plugins.correction.kapton",
    "diffuse_core.plugins.correction.lorentz",
    "diffuse_core.plugins.correction.polarization",
    "diffuse_core.plugins.correction.sensor",
    "diffuse_core.plugins.correction.solid_angle",
    "diffuse_core.plugins.background.compton",
    "diffuse_core.plugins.background.constant",
    "diffuse_core.plugins.background.dials_model",
    "diffuse_core.plugins.background.images",
    "diffuse_core.plugins.background.radial",
    "diffuse_core.plugins.mapping.hkl_grid",
    "diffuse_core.plugins.mapping.lab_grid",
    "diffuse_core.plugins.mapping.q_grid",
    "diffuse_core.plugins.mapping.radial",
)
