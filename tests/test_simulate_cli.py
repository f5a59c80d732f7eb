"""dials.diffuse_simulate as users call it."""

from __future__ import annotations

import pytest

from diffuse_core.simulate import recipe


def test_help_shows_examples(run_command, tmp_path):
    for arguments in ([], ["-h"]):
        done = run_command("dials.diffuse_simulate", *arguments, cwd=tmp_path)
        assert "dials.diffuse_simulate recipe.phil scan.n_images=180" in done.stdout
    assert not list(tmp_path.iterdir())


def test_a_recipe_becomes_a_folder(run_command, tmp_path):
    (tmp_path / "mine.phil").write_text(recipe("rotation_small"))
    done = run_command(
        "dials.diffuse_simulate",
        "mine.phil",
        "scan.n_images=2",
        "output.directory=here",
        cwd=tmp_path,
    )
    names = {path.name for path in (tmp_path / "here").iterdir()}
    images = {"simulated_00001.cbf", "simulated_00002.cbf"}
    assert names == images | {"simulated.expt", "simulated.refl", "truth.json"}
    assert str(tmp_path / "here" / "truth.json") in done.stdout
    log = (tmp_path / "dials.diffuse_simulate.log").read_text()
    assert "n_images = 2" in log
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("detector.name=kodak", "Not a possible choice for detector.name: kodak"),
        ("crystal.space_group=P4", "symmetry of crystal.space_group=P 4"),
        ("detector.experiments=no.expt", "no.expt does not exist"),
        ("nonsense=3", "There is no parameter nonsense"),
        ("nowhere.phil", "nowhere.phil is not a file"),
        ("scan.width=0", "scan.width"),
    ],
)
def test_mistakes_get_one_sentence(run_command, tmp_path, argument, message):
    done = run_command("dials.diffuse_simulate", argument, cwd=tmp_path, status=1)
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("Sorry: ")
    assert message in last
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "simulated").exists()
