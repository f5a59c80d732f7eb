"""The crystallography before the diffuse chain: images to indexed experiments.

`chain.reduce_images` drives DIALS' own programs; every other module is one part of it.
"""

from __future__ import annotations
