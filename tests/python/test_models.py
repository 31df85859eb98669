"""A model's name is enough from Python too: what is chosen is what the command chooses, with the same keys."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trimpot
from trimpot.proofs.rewards._tiny import save_clip
from typed import typed

SMALL: dict[str, Any] = {
    "adapter.num_inference_steps": 2,
    "generations": 1,
    "optimizer.population_size": 8,
    "validation.num_prompts": 2,
    "test.num_prompts": 3,
}
FURTHER: list[tuple[dict[str, Any], dict[str, Any]]] = [  # as Python gives them, and the same as they are typed
    ({}, {}),
    ({"name": "mine", "seed": 3}, {"name": "mine", "seed": 3}),
    ({"adapter": {"height": 16, "width": 16}}, {"adapter.height": 16, "adapter.width": 16}),
    ({"optimizer.sigma0": 1e-05}, {"optimizer.sigma0": 0.00001}),
    ({"validation": {"num_prompts": 3}}, {"validation": {"num_prompts": 3}}),
    ({"objectives": {"entropy": {}}}, {"objectives": {"entropy": {}}}),
    ({"objectives.entropy": {"weight": 0}}, {"objectives.entropy": {"weight": 0}}),
    ({"prompts": "shapes"}, {"prompts": "shapes"}),
]


def words_of(keys: dict[str, Any]) -> list[str]:
    return [
        f"{key}={json.dumps(value) if not isinstance(value, float) else f'{value:.5f}'}" for key, value in keys.items()
    ]


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> list[trimpot.Config]:
    """Configurations of the runs that would have begun."""
    found: list[trimpot.Config] = []

    def begin(config: trimpot.Config, *_: Any) -> str:
        found.append(config)
        raise trimpot.ModelError("enough")

    monkeypatch.setattr("trimpot.runs.python.start", begin)
    return found


@pytest.mark.parametrize("name", ["pixart", "wan"])  # of images and of videos
@pytest.mark.parametrize("number", range(len(FURTHER)))
def test_what_is_chosen_for_a_model_is_what_the_command_chooses(
    tiny_folder: Callable[[str], Path], begun: list[trimpot.Config], name: str, number: int
) -> None:
    folder, (keys, same) = tiny_folder(name), FURTHER[number]
    with pytest.raises(trimpot.ModelError, match="enough"):
        trimpot.calibrate(folder, **keys)
    said = typed("plan", str(folder), *words_of(same), "--rate", "1", "--json")
    assert said.status == 0, said.err
    assert begun == [trimpot.load_config(json.loads(said.out)["values"])]


@pytest.mark.usefixtures("short_reports")
def test_a_folder_is_calibrated_by_its_path_alone(tiny_folder: Callable[[str], Path], tmp_path: Path) -> None:
    clip = tmp_path / "clip"
    save_clip(clip)
    objectives = {"pickscore": {"model": clip, "processor": clip}, "entropy": {"weight": 0}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tiny tokenizers truncate prompts
        result = trimpot.calibrate(tiny_folder("pixart"), store=tmp_path / "runs", objectives=objectives, **SMALL)
    assert (result.run, result.status) == ("tiny-pixart-1", "finished")
    assert result.summary["config"]["adapter"]["name"] == "diffusers"
    assert result.calibration is not None and result.calibration.is_file()


@pytest.mark.parametrize("given", ["", "no/where/at/all", "/no/where", "a\0b", "shaps"])
def test_what_is_no_model_gets_the_sentence_that_it_gets_when_it_is_typed(given: str, tmp_path: Path) -> None:
    with pytest.raises(trimpot.TrimpotError) as error:
        trimpot.calibrate(given, store=tmp_path / "runs")
    said = typed("calibrate", given, "--store", str(tmp_path / "runs"))
    assert said.status == 1
    assert "".join(str(error.value).split()) in "".join(said.err.split())
    assert not (tmp_path / "runs").exists()
