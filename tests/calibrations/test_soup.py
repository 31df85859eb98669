"""A soup departs from neutral by the weighted sum of its parents' departures, or is refused with what differs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trimpot
from applied import BUCKET
from generated import drawn
from kin import adapter_of, calibration, random_setting
from trimpot.adapters.pipelines import PipelineAdapter
from trimpot.calibrations.soup import soup
from trimpot.engine.calibration import Calibration, Provenance
from trimpot.ground.errors import CalibrationError


@pytest.fixture(scope="module", params=["sd3", "flux", "flux-two", "pixart"])
def adapter(request: pytest.FixtureRequest) -> PipelineAdapter:
    return adapter_of(request.param, request.getfixturevalue(f"{request.param.partition('-')[0]}_folder"))


@pytest.fixture(scope="module")
def pair(adapter: PipelineAdapter) -> tuple[Calibration, Calibration]:
    return tuple(calibration(adapter, random_setting(adapter, seed), f"run-{seed}") for seed in (1, 2))  # type: ignore


@pytest.mark.parametrize("weights", [(0.5, 0.5), (1.0, 0.0), (0.0, 0.0), (1.3, -0.4)])
def test_setting_and_scales_are_the_same_weighted_sum(
    adapter: PipelineAdapter, pair: tuple[Calibration, Calibration], weights: tuple[float, float]
) -> None:
    made = soup(pair, weights, name="mixed")
    neutral = adapter.space.defaults
    vectors = [adapter.space.to_vector(each.setting) for each in pair]
    expected = neutral + sum(w * (vector - neutral) for w, vector in zip(weights, vectors, strict=True))
    assert adapter.space.to_vector(made.setting) == pytest.approx(expected, abs=1e-12)
    applied = adapter.export(made.setting, adapter.space.to_setting(neutral))
    for said, done in zip(made.apply["members"], applied["members"], strict=True):
        assert said["scales"] == pytest.approx(done["scales"], abs=1e-12)
        assert said["weight"] == pytest.approx(done["weight"], abs=1e-12)
        assert (said["sees"], said["neutral_weight"]) == (done["sees"], done["neutral_weight"])


@pytest.mark.parametrize("case", ["sd3", "flux"])
def test_it_is_applied_as_the_two_are_applied_together(
    request: pytest.FixtureRequest, case: str, tmp_path: Path
) -> None:
    fresh = adapter_of(case, request.getfixturevalue(f"{case}_folder"))
    pair = [calibration(fresh, random_setting(fresh, seed), f"run-{seed}") for seed in (1, 2)]
    for each in (*pair, soup(pair, (0.6, 0.4), name="mixed")):
        each.save(tmp_path / f"{each.provenance.run}.json")
    fresh.close()
    with trimpot.load_calibration(fresh.pipe, tmp_path / "mixed.json") as applied:
        mixed = drawn(fresh.pipe, BUCKET, **applied.recommended)
    with trimpot.load_calibration(fresh.pipe, tmp_path / "run-1.json") as applied:
        alone = drawn(fresh.pipe, BUCKET, **applied.recommended)
        applied.add(tmp_path / "run-2.json", 0.4)
        applied.weights = {"run-1": 0.6, "run-2": 0.4}
        assert all(map(np.array_equal, drawn(fresh.pipe, BUCKET, **applied.recommended), mixed))
    assert not all(map(np.array_equal, alone, mixed))


def test_it_names_its_parents_and_claims_no_gain(pair: tuple[Calibration, Calibration]) -> None:
    made = soup(pair, (0.25, 0.75), name="mixed")
    assert made.gain is None and made.by_steps == () and made.objectives == {} and made.provenance.run == "mixed"
    assert [(each.run, each.digest, each.how) for each in made.provenance.parents] == [
        ("run-1", "digest of run-1", "weight 0.25"),
        ("run-2", "digest of run-2", "weight 0.75"),
    ]
    nested = soup((made, pair[0]), name="nested")
    assert [each.how for each in nested.provenance.parents] == ["weight 0.5"] * 2
    assert nested.provenance.parents[0].digest == made.identity != ""


def test_what_the_parents_do_not_agree_on_is_not_said_of_measuring(adapter: PipelineAdapter) -> None:
    one = calibration(adapter, random_setting(adapter, 1), "one", prompts={"name": "numbers"}, objectives={"a": {}})
    two = calibration(adapter, random_setting(adapter, 2), "two", prompts={"name": "numbers"}, objectives={"b": {}})
    config = soup((one, two), name="mixed").provenance.config
    assert set(config) == {"adapter", "prompts"}


def changed(one: Calibration, **changes: Any) -> Calibration:
    return Calibration.model_validate({**one.model_dump(), **changes})


#: What makes a parent unlike the other, and what must be said.
UNLIKE: dict[str, tuple[Any, str]] = {
    "weights": (lambda b, a: {"backbone": {**b, "source": {**b["source"], "weights": "0"}}}, "differ in weights "),
    "revision": (
        lambda b, a: {"backbone": {**b, "source": {"id": "x", "revision": "0"}}, "apply": {**a, "weights": None}},
        "differ in model .* and x",
    ),
    "lora": (
        lambda b, a: {"backbone": {**b, "source": {**b["source"], "lora": "anime"}}},
        "differ in LoRA none and anime",
    ),
    "transformer": (
        lambda b, a: {
            "backbone": {**b, "transformer": "OtherTransformer"},
            "apply": {**a, "transformer": "OtherTransformer"},
        },
        "transformer .* and OtherTransf",
    ),
    "steps": (lambda b, a: {"num_steps": 9}, "differ in steps 3 and 9"),
    "height": (lambda b, a: {"backbone": {**b, "height": 1024, "call": {"height": 1024}}}, "height .* and 1024"),
    "width": (lambda b, a: {"backbone": {**b, "width": 1024, "call": {"width": 1024}}}, "width .* and 1024"),
    "members": (
        lambda b, a: {"apply": {**a, "members": [*a["members"], {**a["members"][0], "sees": "conditional"}]}},
        "differ in members|say different things|sees all",
    ),
    "scheduler": (lambda b, a: {"backbone": {**b, "scheduler": {"class": "Other"}}}, "scheduler .* and Other"),
    "empty": (
        lambda b, a: {"apply": {**a, "empty": "nothing"}},
        "prompt for no prompt( none and nothing|, which none)",
    ),
}


@pytest.mark.parametrize("kind", UNLIKE)
def test_parents_that_differ_are_refused_with_what_differs(pair: tuple[Calibration, Calibration], kind: str) -> None:
    change, said = UNLIKE[kind]
    one, two = pair
    other = changed(two, **change(two.backbone, two.apply))
    with pytest.raises(CalibrationError, match=said) as caught:
        soup((one, other), name="mixed")
    assert "\n" not in str(caught.value)


def test_the_same_weights_elsewhere_are_the_same_model(pair: tuple[Calibration, Calibration]) -> None:
    one, two = pair
    moved = changed(two, backbone={**two.backbone, "id": "moved", "source": {**two.backbone["source"], "id": "moved"}})
    assert soup((one, moved), name="mixed").setting == soup((one, two), name="mixed").setting


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        ([0.5], "2 calibrations and 1 weights"),
        ([0.5, 0.2, 0.3], "2 calibrations and 3 weights"),
        ([0.5, float("nan")], "weight of run-2"),
        ([3.0, 0.5], "weight of run-1"),
        ([0.5, True], "weight of run-2"),
    ],
)
def test_weights_are_checked(pair: tuple[Calibration, Calibration], weights: list[float], said: str) -> None:
    with pytest.raises(CalibrationError, match=said):
        soup(pair, weights, name="mixed")


def test_too_few_other_neutrals_and_what_applies_nothing_are_refused(pair: tuple[Calibration, Calibration]) -> None:
    one, two = pair
    with pytest.raises(CalibrationError, match="at least two"):
        soup([one], name="mixed")
    members = [{**member, "neutral_weight": member["neutral_weight"] + 1} for member in two.apply["members"]]
    if two.apply["members"][0]["sees"] != "all":
        with pytest.raises(CalibrationError, match="another neutral guidance"):
            soup([one, changed(two, apply={**two.apply, "members": members})], name="mixed")
    bare = Calibration(backbone={}, setting={"knob.0": 1.0}, provenance=Provenance(run="bare", created=""))
    with pytest.raises(CalibrationError, match="was not made on a diffusion pipeline"):
        soup([one, bare], name="mixed")


def test_a_coarser_parent_is_refused_with_the_way_to_lift_it(request: pytest.FixtureRequest) -> None:
    folder = request.getfixturevalue("sd3_folder")
    fine, coarse = adapter_of("sd3", folder), adapter_of("sd3", folder, granularity="block")
    pair = [calibration(each, random_setting(each, 1), name) for each, name in ((fine, "fine"), (coarse, "coarse"))]
    with pytest.raises(CalibrationError, match=r"one a gate and one a block, such as .*trimpot lift"):
        soup(pair, name="mixed")


def test_a_soup_of_too_much_is_refused(request: pytest.FixtureRequest) -> None:
    adapter = adapter_of("flux", request.getfixturevalue("flux_folder"), high=90.0)
    huge = calibration(adapter, dict.fromkeys(adapter.space.names, 80.0), "huge")
    with pytest.raises(CalibrationError, match=r"apply.members"):
        soup([huge, huge], (1.0, 1.0), name="mixed")
