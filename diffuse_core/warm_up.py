"""Compiles what the commands need, ahead of the first run.

    python -m diffuse_core.warm_up

Simulates two images and takes them through all of `dials.diffuse` in a temporary
folder. numba keeps the code beside the modules, or in the user's own cache where it may
not write there.
"""

from __future__ import annotations

import contextlib
import io
import os
import tempfile
from pathlib import Path

from diffuse_core.command_line import diffuse, diffuse_compare
from diffuse_core.simulate import recipe, run_simulation


def main() -> None:
    """Entry point."""
    print("Compiling, once for this installation (about a minute) ...", flush=True)
    before = os.getcwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            text = f"{recipe('rotation_small')}\nscan.n_images = 2\n"
            files = run_simulation(text, Path(folder))
            with contextlib.redirect_stdout(io.StringIO()):
                diffuse.run(
                    [
                        str(files.expt_path),
                        str(files.refl_path),
                        "scaling.fit=True",
                        "parallel.engine=serial",
                    ]
                )
                diffuse_compare.run(["diffuse_merged.nxs", str(files.truth_path)])
        finally:
            os.chdir(before)
    print("All is compiled.")


if __name__ == "__main__":
    main()
