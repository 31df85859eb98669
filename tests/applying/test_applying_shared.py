"""A calibrated transformer in other hands: pipelines made of its pipeline's components, copies, replaced layers."""

from __future__ import annotations

import copy
import gc
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
import trimpot
from applied import by_hand, calibrated, made
from generated import candidates
from pipeline_classes import NAMES, TABLE, UNCALLED, built, drawn
from trimpot.ground.errors import ModelError

GUIDANCE = {"sd3": "guidance_scale", "flux": "true_cfg_scale", "qwen": "true_cfg_scale"}
NEUTRAL = {"sd3": 3.0, "qwen": 4.0}
TWO = ["conditional", "unconditional"]
SHARED = [each for each in TABLE if "Flux" not in each[0] and "Edit" not in each[1] and each[1] not in UNCALLED]


@pytest.fixture
def fresh(tiny_folder: Callable[[str], Path], tmp_path: Path) -> Any:
    """A family's pipeline of the test's own, with a calibration file of some members, its sites, scales and weights."""

    def found(kind: str, sees: list[str]) -> Any:
        adapter = made(kind, tiny_folder(kind), members=sees)
        [vector] = candidates(adapter, 1)
        file = calibrated(adapter, adapter.space.to_setting(vector), tmp_path / f"{kind}.json")
        scales, weights = adapter.layout.tables(vector[None])
        adapter.close()
        return adapter.pipe, file, adapter.layout.sites, scales[0], weights[0]

    return found


def asked(kind: str, guidance: float, negative: str | None = None) -> dict[str, Any]:
    """Arguments of a call at some guidance; above 1, Qwen-Image and FLUX are also given a negative prompt."""
    empty = {"sd3": "", "flux": "", "qwen": " "}[kind]
    further = {"negative_prompt": empty if negative is None else negative} if guidance > 1 else {}
    return {GUIDANCE[kind]: guidance, **further}


@pytest.mark.filterwarnings("ignore")  # of diffusers, about parts that are missing
@pytest.mark.parametrize("way", ["components", "deepcopy"])
@pytest.mark.parametrize(("transformer", "name"), SHARED)
def test_a_pipeline_made_after_loading_is_calibrated_at_its_own_guidance(
    fresh: Any, transformer: str, name: str, way: str
) -> None:
    """Whatever the pipeline that it was loaded on was last asked for, in both orders and without a first call."""
    kind = NAMES[transformer]
    first, file, *_ = fresh(kind, TWO)
    plain = built(name, first, kind)
    expected = drawn(plain, kind, **asked(kind, NEUTRAL[kind]))
    applied = trimpot.load_calibration(first, file, strength=0.0)
    second = copy.deepcopy(plain) if way == "deepcopy" else built(name, first, kind)
    unguided = 1.0 if "ControlNet" not in name or kind != "sd3" else 2.0  # a ControlNet must be shown the empty prompt
    for before, now in ((None, 6.0), (unguided, 6.0), (6.0, unguided), (6.0, 6.0)):
        if before is not None:
            drawn(first, kind, **asked(kind, before))
        assert np.abs(drawn(second, kind, **asked(kind, now)) - expected).max() <= 1
    applied.remove()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["sd3", "qwen"])
def test_a_copy_is_calibrated_by_itself(fresh: Any, kind: str) -> None:
    """What is done to the original afterwards does not reach it; and it goes away when nobody has it any more."""
    first, file, *_ = fresh(kind, TWO)
    applied = trimpot.load_calibration(first, file)
    call = asked(kind, 3.0)
    expected = drawn(first, kind, **call)
    second = copy.deepcopy(first)
    applied.remove()
    assert np.abs(drawn(first, kind, **call) - expected).max() > 1
    np.testing.assert_array_equal(drawn(second, kind, **call), expected)
    kept = weakref.ref(second.transformer)
    del second
    gc.collect()
    assert kept() is None


@pytest.mark.parametrize("kind", ["sd3", "flux", "qwen"])
@pytest.mark.parametrize("sees", [["conditional"], TWO, ["conditional"] * 2])
def test_a_pipeline_goes_away_with_its_calibration(fresh: Any, kind: str, sees: list[str]) -> None:
    """A copy keeps nothing of the pipeline that it was copied from."""
    if kind == "flux" and "unconditional" in sees:
        sees = ["conditional"] * 2
    first, file, *_ = fresh(kind, sees)
    applied = trimpot.load_calibration(first, file)
    second = copy.deepcopy(first)
    kept = weakref.ref(first), weakref.ref(first.transformer)
    del first, applied
    gc.collect()
    assert [each() for each in kept] == [None, None]
    assert second.transformer._forward_pre_hooks


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch's compiler, about itself
@pytest.mark.parametrize("kind", ["sd3", pytest.param("qwen", marks=pytest.mark.slow)])
def test_guidance_is_asked_anew_where_the_transformer_is_compiled(fresh: Any, kind: str) -> None:
    """Hooks and all, after loading."""
    pipe, file, *_ = fresh(kind, TWO)
    calls = [asked(kind, 1.0), asked(kind, 3.0), asked(kind, 1.0)]
    applied = trimpot.load_calibration(pipe, file)
    expected = [drawn(pipe, kind, **call) for call in calls]
    torch._dynamo.reset()
    pipe.transformer.compile(backend="eager")
    for call, image in zip(calls, expected, strict=True):
        assert np.abs(drawn(pipe, kind, **call) - image).max() <= 1
    if kind == "qwen":
        with pytest.raises(ModelError, match="sees the empty prompt; pass no negative_prompt"):
            drawn(pipe, kind, **asked(kind, 3.0, "a dog"))
    torch._dynamo.reset()
    applied.remove()


@pytest.mark.parametrize("way", ["prompt", "embeddings"])
def test_an_empty_negative_prompt_is_known_to_the_bit(fresh: Any, way: str) -> None:
    """By its words, or by embeddings that are equal; one that is nearly empty is refused."""
    pipe, file, *_ = fresh("qwen", TWO)
    with trimpot.load_calibration(pipe, file):
        expected = drawn(pipe, "qwen", true_cfg_scale=1.0)
        if way == "prompt":
            found = drawn(pipe, "qwen", true_cfg_scale=3.0, negative_prompt=[" "])
            wrong: dict[str, Any] = {"negative_prompt": "  "}
        else:
            embeds, mask = pipe.encode_prompt(" ")
            mask = torch.ones(embeds.shape[:2], dtype=torch.long) if mask is None else mask
            given = {"negative_prompt_embeds": embeds, "negative_prompt_embeds_mask": mask}
            found = drawn(pipe, "qwen", true_cfg_scale=3.0, **given)
            wrong = {**given, "negative_prompt_embeds": embeds * 1.001}
        np.testing.assert_array_equal(found, expected)
        with pytest.raises(ModelError, match="sees the empty prompt"):
            drawn(pipe, "qwen", true_cfg_scale=3.0, **wrong)


@pytest.mark.parametrize(
    ("given", "empty"),
    [
        ({"negative_prompt": ""}, True),
        ({"negative_prompt": [""], "negative_prompt_2": ""}, True),
        ({"negative_prompt": "a dog"}, False),
        ({"negative_prompt": "", "negative_prompt_2": "a dog"}, False),
        ({"negative_prompt_embeds": 1.0, "negative_pooled_prompt_embeds": 1.0}, True),
        ({"negative_prompt_embeds": 1.001, "negative_pooled_prompt_embeds": 1.0}, False),
        ({"negative_prompt_embeds": 1.0, "negative_pooled_prompt_embeds": 1.001}, False),
    ],
)
def test_every_negative_prompt_is_looked_at(fresh: Any, given: dict[str, Any], empty: bool) -> None:
    """Of each text encoder, in words or embeddings, which here are those of the empty prompt times a number."""
    pipe, file, *_ = fresh("flux", TWO)
    with torch.no_grad():
        embeds, pooled, _ = pipe.encode_prompt("", None, max_sequence_length=16)
    known = {"negative_prompt_embeds": embeds, "negative_pooled_prompt_embeds": pooled}
    given = {name: known[name] * value if name in known else value for name, value in given.items()}
    with trimpot.load_calibration(pipe, file):
        expected = drawn(pipe, "flux")
        if empty:
            np.testing.assert_array_equal(drawn(pipe, "flux", true_cfg_scale=3.0, **given), expected)
        else:
            with pytest.raises(ModelError, match="sees the empty prompt"):
                drawn(pipe, "flux", true_cfg_scale=3.0, **given)


@pytest.mark.parametrize("kind", ["sd3", "qwen"])
def test_an_ensemble_that_no_pipeline_calls_is_refused(fresh: Any, kind: str) -> None:
    """Nobody could say whether its rows are guided."""
    from trimpot.adapters.families import FAMILIES

    pipe, file, *_ = fresh(kind, TWO)
    family = next(each for each in FAMILIES.values() if NAMES[each.transformer] == kind)
    example = family.example(pipe.transformer.config)
    with trimpot.load_calibration(pipe, file), torch.no_grad(), pytest.raises(ModelError, match="call the pipeline"):
        pipe.transformer(**example, return_dict=False)


def test_a_pipeline_that_does_not_say_whether_it_guides_is_refused(fresh: Any) -> None:
    """One of a user's own, which guides its own way."""
    pipe, file, *_ = fresh("sd3", TWO)

    class Silent(diffusers.StableDiffusion3Pipeline):  # type: ignore[misc]
        do_classifier_free_guidance = None

    silent = Silent(**pipe.components)
    silent.set_progress_bar_config(disable=True)
    with trimpot.load_calibration(pipe, file), pytest.raises(ModelError, match="a Silent does not say whether"):
        drawn(silent, "sd3")


CALLS = [("sd3", 1.0), ("sd3", 3.0), ("flux", 1.0), ("flux", 3.0), ("qwen", 1.0), ("qwen", 3.0)]


@pytest.mark.parametrize("negative", [None, "a dog"])
@pytest.mark.parametrize(("kind", "guidance"), CALLS)
def test_members_that_all_see_the_prompt_leave_guidance_to_the_pipeline(
    fresh: Any, kind: str, guidance: float, negative: str | None
) -> None:
    """Each pass of the pipeline is the weighted sum of its members, whatever prompt it is of."""
    pipe, file, sites, scales, weights = fresh(kind, ["conditional"] * 2)
    model, plain = pipe.transformer, pipe.transformer.forward
    call = asked(kind, guidance, negative)
    stock = drawn(pipe, kind, **call)

    def summed(**given: Any) -> Any:
        outputs = []
        for each in scales:
            with by_hand(model, sites, each):
                outputs.append(plain(**given)[0])
        return (sum(float(weight) * output for weight, output in zip(weights, outputs, strict=True)),)

    model.forward = summed
    try:
        expected = drawn(pipe, kind, **call)
    finally:
        model.forward = plain
    with trimpot.load_calibration(pipe, file) as applied:
        found = drawn(pipe, kind, **call)
        applied.strength = 0.0
        assert np.abs(drawn(pipe, kind, **call) - stock).max() <= 1
    assert np.abs(found - expected).max() <= 1
    assert np.abs(found - stock).max() > 1


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("sees", [["conditional"], TWO])
def test_a_transformer_that_is_called_past_its_hooks_is_refused(fresh: Any, sees: list[str]) -> None:
    """As one is that was wrapped when the calibration was loaded, and is not any more."""
    peft = pytest.importorskip("peft")
    pipe, file, *_ = fresh("sd3", sees)
    inner = pipe.transformer
    pipe.transformer = peft.get_peft_model(inner, peft.LoraConfig(r=2, target_modules=["to_q"]))
    applied = trimpot.load_calibration(pipe, file)
    for before in (False, True):
        if before:
            drawn(pipe, "sd3")
        wrapped, pipe.transformer = pipe.transformer, inner
        with pytest.raises(ModelError, match="outside a call of the transformer, so its scales are unknown"):
            drawn(pipe, "sd3")
        pipe.transformer = wrapped
    applied.remove()
    pipe.transformer = inner
    drawn(pipe, "sd3")


def test_skipped_layers_are_left_to_the_pipeline_too(fresh: Any) -> None:
    pipe, file, *_ = fresh("sd3", ["conditional"] * 2)
    skip = {"skip_guidance_layers": [1], "skip_layer_guidance_start": 0.0, "skip_layer_guidance_stop": 1.0}
    call = {**asked("sd3", 3.0), **skip}
    expected = drawn(pipe, "sd3", **call)
    assert np.abs(drawn(pipe, "sd3", **asked("sd3", 3.0)) - expected).max() > 1
    with trimpot.load_calibration(pipe, file, strength=0.0):
        assert np.abs(drawn(pipe, "sd3", **call) - expected).max() <= 1
