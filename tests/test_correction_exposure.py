"""Relative exposures from a column file reach the right images."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from diffuse_core.errors import ConfigError
from diffuse_core.models import RunInputs
from diffuse_core.plugins.correction.exposure import Exposure


class Images:
    def __init__(self, n):
        self.n = n

    def __len__(self):
        return self.n


def beam(transmission):
    return SimpleNamespace(get_transmission=lambda: transmission)


def params(**given):
    return SimpleNamespace(
        **{"file": None, "steps": None, "beam_transmission": False, **given}
    )


def run_of_scan_and_still():
    scan = SimpleNamespace(get_image_range=lambda: (11, 13))
    experiments = [
        SimpleNamespace(scan=scan, imageset=Images(3), beam=beam(0.2)),
        SimpleNamespace(scan=None, imageset=Images(1), beam=beam(1.0)),
    ]
    return RunInputs(experiments, None, (0, 0))


def image(experiment, index):
    return SimpleNamespace(experiment=experiment, index=index)


def test_three_columns_name_the_experiment(tmp_path):
    path = tmp_path / "monitor.txt"
    path.write_text("# monitor\n0 11 1.0\n0 12 0.5\n0 13 0.25\n1 1 2.0\n")
    model = Exposure.from_params(params(file=str(path)), run_of_scan_and_still())
    found = [model.image_response(image(0, i), None) for i in range(3)]
    assert found == [1.0, 0.5, 0.25]
    assert model.image_response(image(1, 0), None) == 2.0


def test_two_columns_serve_every_experiment(tmp_path):
    path = tmp_path / "monitor.txt"
    path.write_text("1 3.0\n11 1.0\n12 0.5\n13 0.25\n")
    model = Exposure.from_params(params(file=str(path)), run_of_scan_and_still())
    assert model.image_response(image(0, 2), None) == 0.25
    assert model.image_response(image(1, 0), None) == 3.0


@pytest.mark.parametrize(
    "text,expected",
    [
        ("11 1\n12 1\n", "no line for image 13 of experiment 0"),
        ("11 1\n12 0\n13 1\n1 1\n", "above 0"),
        ("11\n12\n", "two or three columns"),
        ("eleven 1\n", "can't be read"),
    ],
)
def test_unusable_files_are_refused(tmp_path, text, expected):
    path = tmp_path / "monitor.txt"
    path.write_text(text)
    with pytest.raises(ConfigError, match=expected):
        Exposure.from_params(params(file=str(path)), run_of_scan_and_still())


def test_without_a_file_it_does_nothing_and_says_so(caplog):
    model = Exposure.from_params(params(), run_of_scan_and_still())
    assert model.image_response(image(0, 1), None) == 1.0
    assert "does nothing without correction.exposure.file" in caplog.text


def test_steps_of_an_attenuator_become_its_transmission(tmp_path):
    path = tmp_path / "steps.txt"
    path.write_text("1 0\n11 0\n12 2\n13 1\n")
    model = Exposure.from_params(
        params(file=str(path), steps=[1.0, 0.3, 0.1]), run_of_scan_and_still()
    )
    found = [model.image_response(image(0, i), None) for i in range(3)]
    assert found == [1.0, 0.1, 0.3]


@pytest.mark.parametrize("step", ["3", "-1", "0.5"])
def test_steps_that_do_not_exist_are_refused(tmp_path, step):
    path = tmp_path / "steps.txt"
    path.write_text(f"1 0\n11 0\n12 {step}\n13 1\n")
    with pytest.raises(ConfigError, match="steps from 0 to 2"):
        Exposure.from_params(
            params(file=str(path), steps=[1.0, 0.3, 0.1]), run_of_scan_and_still()
        )


def test_transmission_of_the_beam_multiplies_the_file(tmp_path):
    path = tmp_path / "monitor.txt"
    path.write_text("1 3.0\n11 1.0\n12 0.5\n13 0.25\n")
    run = run_of_scan_and_still()
    alone = Exposure.from_params(params(beam_transmission=True), run)
    both = Exposure.from_params(params(file=str(path), beam_transmission=True), run)
    assert alone.image_response(image(0, 1), None) == 0.2
    assert both.image_response(image(0, 1), None) == pytest.approx(0.1)
    assert both.image_response(image(1, 0), None) == 3.0


def test_a_beam_without_transmission_is_refused():
    run = run_of_scan_and_still()
    run.experiments[1].beam = beam(0.0)
    with pytest.raises(ConfigError, match="beam of experiment 1 has the transmission"):
        Exposure.from_params(params(beam_transmission=True), run)
