"""Two calibrations side by side: which knobs differ, by how much, and where."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from kin import adapter_of, calibration, random_setting
from trimpot.calibrations.contrast import contrast, write_contrast
from trimpot.calibrations.lift import lift
from trimpot.engine.calibration import Calibration, Provenance
from trimpot.ground.errors import CalibrationError


def test_the_knobs_that_differ_most_come_first(sd3_folder: Path, tmp_path: Path) -> None:
    adapter = adapter_of("sd3", sd3_folder)
    setting = random_setting(adapter, 1)
    names = list(setting)
    other = {**setting, names[3]: setting[names[3]] - 0.5, names[7]: setting[names[7]] + 0.25}
    found = contrast(calibration(adapter, setting, "a<b>"), calibration(adapter, other, "two"))
    assert [pair.name for pair in found.largest_first[:2]] == [names[3], names[7]]
    assert found.largest_first[0].change == pytest.approx(-0.5)
    assert found.distance == pytest.approx(math.sqrt((0.5**2 + 0.25**2) / len(names)))
    assert found.by == "knob" and found.made_on == ()
    write_contrast(tmp_path / "diff.html", found)
    page = (tmp_path / "diff.html").read_text(encoding="utf-8")
    assert page.count('class="chart"') == 3 and "a&lt;b&gt;" in page and "<b>" not in page.partition("<script")[0]
    assert "http://" not in page.partition("<script")[0] and names[3] in page


def test_other_granularities_are_compared_by_module(sd3_folder: Path) -> None:
    coarse = adapter_of("sd3", sd3_folder, granularity="block")
    known = calibration(coarse, random_setting(coarse, 1), "coarse")
    found = contrast(known, lift(known, "gate"))
    assert found.by == "module" and found.distance == 0.0
    assert {pair.name for pair in found.pairs} >= {"member1.weight", "member2.weight"}


def test_what_the_two_were_made_on_is_said(sd3_folder: Path) -> None:
    adapter = adapter_of("sd3", sd3_folder)
    one = calibration(adapter, random_setting(adapter, 1), "one")
    found = contrast(one, one.model_copy(update={"num_steps": 20}))
    assert found.made_on == ("steps 3 and 20",) and found.to_json()["made_on"] == ["steps 3 and 20"]


def test_settings_without_modules_are_compared_by_knob_or_refused() -> None:
    def bare(name: str, **setting: float) -> Calibration:
        return Calibration(backbone={}, setting=setting, provenance=Provenance(run=name, created=""))

    assert contrast(bare("a", x=1.0), bare("b", x=3.0)).distance == 2.0
    with pytest.raises(CalibrationError, match="a and b have other knobs"):
        contrast(bare("a", x=1.0), bare("b", y=3.0))


def test_models_without_a_module_in_common_are_refused(sd3_folder: Path, flux_folder: Path) -> None:
    pair = [adapter_of("sd3", sd3_folder), adapter_of("flux", flux_folder)]
    one, two = (calibration(each, random_setting(each, 1), name) for each, name in zip(pair, "ab", strict=True))
    with pytest.raises(CalibrationError, match="scale no module in common"):
        contrast(one, two)
