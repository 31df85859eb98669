"""Every reward that runs a model takes the same options for it and obeys them; those that run none refuse them."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerator import accelerator, where
from tiny_rewards import CASES, NEEDS_NO_MODEL, Case, save_all
from trimpot.engine.seams import Objective
from trimpot.ground.errors import ConfigError, MissingError, ScoreError
from trimpot.objectives.hosting import Host, Hosting
from trimpot.proofs.rewards import _chats
from trimpot.setup.plugins import plugins

OPTIONS = set(Hosting.model_fields)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for each architecture."""
    return save_all(tmp_path_factory.mktemp("tiny"))


Make = Callable[..., Any]


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


@pytest.fixture
def make(case: Case, tiny: Path) -> Make:
    """Makes the reward as a configuration makes it."""

    def made(**options: Any) -> Objective:
        places = {option: str(tiny / place) for option, place in case.places.items()}
        reward = plugins().make("objectives", case.name, {**places, **case.options, **options})
        assert isinstance(reward, Objective)
        return reward

    return made


def scores(reward: Objective, case: Case) -> Any:
    pictures = _chats.pictures(*[(64, 64)] * len(case.prompts))
    return reward.score(pictures, case.prompts)


def held(reward: Any) -> list[torch.Tensor]:
    """Every weight that a reward holds."""
    found: list[torch.Tensor] = []
    for each in reward.host._held:
        found += list(each.values() if isinstance(each, dict) else each.state_dict().values())
    return found


def places(reward: Any) -> set[str]:
    return {str(where(tensor)) for tensor in held(reward)}


def test_every_reward_is_one_or_the_other() -> None:
    """A new one must be added to the table, or be known to run no model."""
    ours = {entry.name for entry in plugins().registrations("objectives") if entry.origin == "trimpot"}
    assert ours == {case.name for case in CASES.values()} | NEEDS_NO_MODEL
    for entry in plugins().registrations("objectives"):
        if entry.origin == "trimpot":
            takes = (OPTIONS - {"batch_size"}) & set(inspect.signature(entry.factory).parameters)
            missing = {"quantization"} if entry.name == "lpips" else set()
            assert takes == (set() if entry.name in NEEDS_NO_MODEL else OPTIONS - {"batch_size"} - missing), entry.name


@pytest.mark.parametrize("name", sorted(NEEDS_NO_MODEL))
@pytest.mark.parametrize("option", sorted(OPTIONS - {"batch_size"}))
def test_a_reward_without_a_model_refuses_options_for_one(name: str, option: str) -> None:
    with pytest.raises(ConfigError, match=f"takes no option '{option}'"):
        plugins().make("objectives", name, {option: "cpu"})


@pytest.mark.parametrize("kind", ["cuda", "mps"])
def test_a_reward_computes_on_its_device(case: Case, make: Make, kind: str) -> None:
    """On a second device too, without ever mixing tensors of two; weights stay there."""
    expected = scores(make(device="cpu", dtype="float32"), case)
    device = f"{kind}:{1 if kind == 'cuda' else 0}"
    with accelerator(kind, 2):
        reward = make(device=device, dtype="float32")
        assert places(reward) == {device}
        found = scores(reward, case)
        assert places(reward) == {device}
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_weights_wait_in_main_memory_between_turns(case: Case, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are on the device while the reward scores, and scores are what they are without offloading."""
    expected = scores(make(device="cpu", dtype="float32"), case)
    with accelerator("cuda"):
        reward = make(device="cuda", offload="model", dtype="float32")
        assert places(reward) == {"cpu"}
        seen: list[set[str]] = []
        watched = Host.map

        def looking(self: Host, *args: Any, **kwargs: Any) -> Any:
            seen.append(places(reward))
            return watched(self, *args, **kwargs)

        monkeypatch.setattr(Host, "map", looking)
        for _ in range(2):
            np.testing.assert_allclose(scores(reward, case), expected, atol=1e-5)
            assert places(reward) == {"cpu"}
        assert seen and all(each == {"cuda:0"} for each in seen)


def test_weights_are_of_the_dtype_asked_for(case: Case, make: Make) -> None:
    """All of a model's but for what a reward says it computes in float32: heads of a few numbers."""
    reward = make(device="cpu", dtype="bfloat16")
    floating = [tensor for tensor in held(reward) if tensor.is_floating_point()]
    of_dtype = sum(tensor.numel() for tensor in floating if tensor.dtype == torch.bfloat16)
    assert of_dtype > 0.5 * sum(tensor.numel() for tensor in floating)
    assert reward.describe()["dtype"] == "bfloat16"
    assert np.isfinite(scores(reward, case)).all()


@pytest.mark.parametrize("quantization", ["torchao-int8", pytest.param("torchao-float8", marks=pytest.mark.slow)])
def test_linear_layers_are_quantized_when_asked(case: Case, make: Make, quantization: str) -> None:
    """What is asked for is done, told of, and scores; a reward without linear layers does not take the option."""
    pytest.importorskip("torchao")
    if case.unquantized:
        with pytest.raises(ConfigError, match="takes no option 'quantization'"):
            make(device="cpu", quantization=quantization)
        return
    reward = make(device="cpu", quantization=quantization, dtype="bfloat16")
    layers = [
        layer
        for each in reward.host._held
        if isinstance(each, torch.nn.Module)
        for layer in each.modules()
        if isinstance(layer, torch.nn.Linear)
    ]
    assert sum(type(layer.weight.data) is not torch.Tensor for layer in layers) > 0.5 * len(layers)
    assert reward.describe()["quantization"] == quantization
    assert "quantization" not in make(device="cpu").describe()
    assert np.isfinite(scores(reward, case)).all()


def test_a_batch_that_runs_out_of_memory_is_halved(case: Case, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Scores are what they are with room enough; where one picture does not fit, a sentence says what to choose."""
    reward = make(device="cpu", dtype="float32", batch_size=4)
    expected, sizes, fits = scores(reward, case), [], 1
    watched = Host.map

    def crowded(self: Host, rows: Any, work: Any, **kwargs: Any) -> Any:
        def tight(some: Any) -> Any:
            sizes.append(len(some))
            if len(some) > fits:
                raise RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`")
            return work(some)

        return watched(self, rows, tight, **kwargs)

    monkeypatch.setattr(Host, "map", crowded)
    reward = make(device="cpu", dtype="float32", batch_size=4)
    np.testing.assert_allclose(scores(reward, case), expected, atol=2e-4)
    assert max(sizes) > 1
    fits = 0
    with pytest.raises(ScoreError, match=r"not enough memory for one picture at a time; choose .*dtype: bfloat16"):
        scores(reward, case)


REFUSED = [
    ({"device": "gpu"}, "no device 'gpu' here; choose cpu"),
    ({"device": "cuda:7"}, "no device 'cuda:7' here"),
    ({"device": "meta"}, "no device 'meta' here"),
    ({"device": "cpu", "offload": "model"}, "no GPU is used; choose offload: none"),
    ({"device": "cpu", "quantization": "bitsandbytes-8bit"}, "needs bitsandbytes; install it|needs a GPU"),
]


@pytest.mark.parametrize(("options", "sentence"), REFUSED)
def test_what_cannot_be_had_is_said_before_anything_is_loaded(
    case: Case, options: dict[str, Any], sentence: str
) -> None:
    """The folders are not there, and nobody looks for them."""
    if case.unquantized and "quantization" in options:
        pytest.skip("it has nothing to quantize")
    with pytest.raises((ScoreError, MissingError), match=sentence) as caught:
        plugins().make("objectives", case.name, {**dict.fromkeys(case.places, "/nowhere"), **case.options, **options})
    assert "\n" not in str(caught.value)


def test_two_rewards_take_turns_on_one_device_and_each_may_have_its_own(tiny: Path) -> None:
    """A backbone on one device, rewards on others: what is said for one counts for it alone."""
    folder = str(tiny / "clip")
    with accelerator("cuda", 2):
        waiting = plugins().make("objectives", "clipscore", {"model": folder, "device": "cuda:1", "offload": "model"})
        staying = plugins().make("objectives", "clipscore", {"model": folder, "device": "cuda"})
        case = CASES["clipscore"]
        np.testing.assert_allclose(scores(waiting, case), scores(staying, case), atol=1e-5)
        assert (places(waiting), places(staying)) == ({"cpu"}, {"cuda:0"})


def test_a_device_without_room_for_a_waiting_model_is_one_sentence(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What got there goes back, so that the next call finds the device as it was; advice leaves out what is chosen."""
    case = CASES["clipscore"]
    with accelerator("cuda"):
        options = {"model": str(tiny / "clip"), "device": "cuda", "offload": "model", "dtype": "bfloat16"}
        reward = plugins().make("objectives", "clipscore", options)
        to = torch.nn.Module.to

        def full(self: torch.nn.Module, device: Any) -> Any:
            to(self, device)
            if torch.device(device).type == "cuda":
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

        monkeypatch.setattr(torch.nn.Module, "to", full)
        with pytest.raises(ScoreError, match="not enough memory to hold this reward's model on cuda") as caught:
            scores(reward, case)
        assert "offload" not in str(caught.value) and "dtype" not in str(caught.value)
        assert "quantization" in str(caught.value)
        assert places(reward) == {"cpu"}
        monkeypatch.undo()
    with accelerator("cuda"):
        assert np.isfinite(scores(reward, case)).all()


def test_calls_that_overlap_share_one_stay_on_the_device(tiny: Path) -> None:
    """Weights go when the last has done with them, also where a call fails."""
    with accelerator("cuda"):
        host = Host(Hosting(device="cuda", offload="model"))
        layer = host.hold(torch.nn.Linear(2, 2))
        with host.awake():
            with pytest.raises(ZeroDivisionError), host.awake():
                raise ZeroDivisionError
            assert str(layer.weight.device) == "cuda:0"
        assert str(layer.weight.device) == "cpu"
