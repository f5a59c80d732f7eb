"""Draws docs/pictures/KIND_NAME.png for every built-in model.

python tools/model_pictures.py                 all of them (about two minutes)
python tools/model_pictures.py mask_bragg ...  these
python tools/model_pictures.py --folder DIR    into another folder
python tools/model_pictures.py --list          the names

Pictures show what a model does to simulated images or to a made-up detector, see
picture_scene.py. The same versions of the libraries give the same files.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

import picture_backgrounds
import picture_corrections
import picture_mappings
import picture_masks
import picture_scaling
from picture_drawing import save
from picture_scene import Scene

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "pictures"


def pictures() -> dict[str, Callable]:
    """Name of a picture -> function that draws it, given the scene."""
    modules = (
        picture_masks,
        picture_corrections,
        picture_backgrounds,
        picture_mappings,
        picture_scaling,
    )
    return {
        f"{module.KIND}_{name}": function
        for module in modules
        for name, function in module.PICTURES.items()
    }


def main(arguments: list[str] | None = None) -> int:
    """Writes the pictures that are asked for."""
    known = pictures()
    parser = argparse.ArgumentParser(description="Draws the pictures of the models.")
    parser.add_argument("name", nargs="*", default=list(known))
    parser.add_argument("--folder", type=Path, default=FOLDER)
    parser.add_argument("--list", action="store_true", help="list the names")
    options = parser.parse_args(arguments)
    if options.list:
        print("\n".join(known))
        return 0
    unknown = sorted(set(options.name) - set(known))
    if unknown:
        parser.error(f"no picture {', '.join(unknown)}; --list shows the names")
    warnings.filterwarnings("ignore", message="The input coordinates to pcolormesh")
    with tempfile.TemporaryDirectory() as folder:
        scene = Scene(Path(folder))
        for name in options.name:
            path = options.folder / f"{name}.png"
            save(known[name](scene), path)
            print(f"{path.name}: {path.stat().st_size / 1000:.0f} kB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
