"""A lifted calibration has finer knobs and makes the same images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from applied import BUCKET, STEPS
from generated import pixels
from kin import adapter_of, calibration, random_setting
from trimpot.calibrations.lift import lift
from trimpot.engine.calibration import Calibration, Provenance
from trimpot.ground.errors import CalibrationError, TrimpotError

CASES = [
    ("sd3", {}),
    ("sd3", {"tie_members": True}),
    ("sd3-alone", {"output_weight": True}),
    ("sd3-three", {}),
    ("flux", {}),
    ("flux-two", {}),
    ("qwen", {}),
    ("pixart", {}),
]


@pytest.mark.parametrize(("coarse", "fine"), [("block", "layer"), ("block", "gate"), ("layer", "gate")])
@pytest.mark.parametrize(("case", "options"), CASES, ids=lambda each: str(each))
def test_no_image_changes(
    request: pytest.FixtureRequest, tmp_path: Path, case: str, options: dict[str, Any], coarse: str, fine: str
) -> None:
    folder = request.getfixturevalue(f"{case.partition('-')[0]}_folder")
    before = adapter_of(case, folder, granularity=coarse, **options)
    setting = random_setting(before, 3)
    images = pixels(before.generate(before.space.to_vector(setting)[None], BUCKET)[0])
    known = calibration(before, setting, "coarse-1")
    before.close()
    after = adapter_of(case, folder, granularity=fine, **options)
    if after.space.names == before.space.names:  # nothing that this granularity could tell apart
        with pytest.raises(CalibrationError, match=f"one knob a {fine} already"):
            lift(known, fine)
        return
    made = lift(known, fine)
    assert list(made.setting) == list(after.space.names) and len(made.setting) > len(setting)
    assert np.array_equal(pixels(after.generate(after.space.to_vector(made.setting)[None], BUCKET)[0]), images)
    # what is applied is what the finer adapter applies, by module path, and neutral stays what it was
    expected = after.export(made.setting, next(iter(after.neutrals().values())))
    assert made.apply == expected
    assert made.gain is None and made.by_steps == ()
    assert made.provenance.config["adapter"]["granularity"] == made.backbone["granularity"] == fine
    [parent] = made.provenance.parents
    assert (parent.run, parent.digest) == ("coarse-1", "digest of coarse-1")
    assert parent.how == f"lifted from {coarse} to {fine}"
    made.save(tmp_path / "lifted.json")
    assert Calibration.load(tmp_path / "lifted.json") == made
    after.close()


def test_lifting_twice_is_lifting_once(sd3_folder: Path) -> None:
    adapter = adapter_of("sd3", sd3_folder, granularity="block")
    known = calibration(adapter, random_setting(adapter, 3), "coarse-1")
    once, twice = lift(known, "gate"), lift(lift(known, "layer"), "gate")
    assert once.setting == twice.setting and once.apply == twice.apply
    assert [each.how for each in twice.provenance.parents] == [
        "lifted from block to layer",
        "lifted from layer to gate",
    ]


def test_what_cannot_be_lifted_is_refused(sd3_folder: Path) -> None:
    adapter = adapter_of("sd3", sd3_folder, granularity="layer")
    known = calibration(adapter, random_setting(adapter, 3), "layer-1")
    with pytest.raises(CalibrationError, match="one knob a layer already"):
        lift(known, "layer")
    with pytest.raises(CalibrationError, match="cannot lift to 'gaet'; did you mean 'gate'"):
        lift(known, "gaet")
    with pytest.raises(CalibrationError, match="cannot lift to 'block'"):
        lift(known, "block")
    with pytest.raises(CalibrationError, match="goes from coarse to fine"):
        lift(lift(known, "gate"), "layer")
    with pytest.raises(TrimpotError, match="absent"):
        lift(known, "gate", model="absent/nowhere/at-all")
    bare = Calibration(backbone={}, setting={"knob.0": 1.0}, provenance=Provenance(run="bare", created=""))
    with pytest.raises(CalibrationError, match="was not made on a diffusion pipeline"):
        lift(bare, "gate")
    nameless = known.model_copy(update={"provenance": Provenance(run="n", created="")})
    with pytest.raises(CalibrationError, match="does not say with which adapter"):
        lift(nameless, "gate")
    name = next(iter(known.setting))
    with pytest.raises(CalibrationError, match="say different things"):
        lift(known.model_copy(update={"setting": {**known.setting, name: 1.9}}), "gate")
    assert known.num_steps == STEPS
