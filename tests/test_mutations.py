"""A hundred thousand inputs after accidents: each is used as it is, or refused in one sentence; none is a traceback."""

from __future__ import annotations

import json
import random
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_models
import torch
from applied import calibrated, made
from damage import mutate, put, told
from generated import candidates
from mutated import mutations
from mutated_configurations import mutated_configurations
from mutated_requests import TOKEN
from mutated_requests import accident as after_request
from prompt_lists import accident as after_prompts
from safetensors.torch import save
from served import serving
from trimpot import load_calibration
from trimpot.adapters.lora import merge_lora
from trimpot.engine.calibration import Calibration
from trimpot.engine.loop import calibrate
from trimpot.ground.errors import CalibrationError, ModelError, StoreError, TrimpotError
from trimpot.servers.reward_server import Scorer
from trimpot.setup.assembly import assemble
from trimpot.setup.config import load_config
from trimpot.setup.plugins import plugins
from trimpot.storage import SqliteStore
from trimpot.storage.database import FILE_NAME

Accident = Callable[[int], str]
NUMBERS = {"calibration": 20_000, "configuration": 15_000, "database": 20_000, "prompts": 25_000, "lora": 10_000,
           "request": 10_000}  # fmt: skip


def sentence(error: TrimpotError) -> str:
    """How an input was refused."""
    assert str(error) and "\n" not in str(error)
    return "refused"


def calibrations(folder: Path) -> Iterator[Accident]:
    """A calibration file is refused with the pipeline untouched, or applied; now and then its images are made."""
    adapter = made("sd3", tiny_models.tiny_sd3(folder / "tiny-sd3"))
    adapter.close()
    [vector] = candidates(adapter, 1)
    file = calibrated(adapter, adapter.space.to_setting(vector), folder / "calibration.json")
    text = file.read_text()
    contents = mutations(text, NUMBERS["calibration"], seed=7)

    def one(number: int) -> str:
        file.write_bytes(next(contents))
        try:
            Calibration.load(file)
            with load_calibration(adapter.pipe, file):
                if number % 50 == 0:
                    call = {"height": 16, "width": 16, "max_sequence_length": 4, "num_inference_steps": 1}
                    images = adapter.pipe("a cat", output_type="np", guidance_scale=1.0, **call).images
                    assert np.isfinite(images).all()
            found = "applied"
        except CalibrationError as error:
            found = sentence(error)
        assert not any(m._forward_hooks or m._forward_pre_hooks for m in adapter.pipe.transformer.modules())
        return found

    yield one


def configurations(folder: Path) -> Iterator[Accident]:
    """A configuration is a run, or one sentence."""
    inputs = mutated_configurations(seed=7)

    def one(_number: int) -> str:
        content, typed = next(inputs)
        (path := folder / "my.yaml").write_bytes(content)
        try:
            run = assemble("", load_config(path, typed), plugins())
        except TrimpotError as error:
            return sentence(error)
        assert load_config(run.config.model_dump(mode="json")) == run.config
        return "a run"

    yield one


def databases(folder: Path) -> Iterator[Accident]:
    """A store says all that it said, or that it is damaged."""
    from closed_form import Notes, hill_run

    with SqliteStore(folder) as store:
        run = hill_run({"generations": 1, "bucket_size": 2})
        name = store.add_run("hill", run.identity, run.config.model_dump(mode="json"), run.versions, run.prompts)
        calibrate(hill_run({"generations": 1, "bucket_size": 2}, run_id=name), store, Notes())
    content, expected, generator = (folder / FILE_NAME).read_bytes(), told(folder), random.Random(7)

    def one(_number: int) -> str:
        put(folder, mutate(content, generator) or content)  # SQLite takes an empty file for a store not yet begun
        found = told(folder)
        if isinstance(found, StoreError):
            return sentence(found)
        assert found == expected, "silently another result"
        return "the same"

    yield one


def prompt_lists(folder: Path) -> Iterator[Accident]:
    """A prompt file is prompts, or one sentence."""

    def one(number: int) -> str:
        after_prompts(folder, 1_000_000 + number)
        return "read or refused"

    yield one


def loras(folder: Path) -> Iterator[Accident]:
    """A LoRA is merged to finite weights, or refused with the transformer as it was."""
    transformer = tiny_models.tiny_sd3_transformer()
    before = {name: value.clone() for name, value in transformer.state_dict().items()}
    generator, numbers = random.Random(7), torch.Generator().manual_seed(7)
    layer = transformer.transformer_blocks[0].attn.to_q
    content = save(
        {
            f"transformer.transformer_blocks.0.attn.to_q.lora_{side}.weight": torch.randn(shape, generator=numbers)
            for side, shape in (("A", (2, layer.in_features)), ("B", (layer.out_features, 2)))
        },
        metadata={"lora_adapter_metadata": json.dumps({"transformer.r": 2, "transformer.lora_alpha": 4})},
    )
    path = folder / "lora.safetensors"

    def one(_number: int) -> str:
        path.write_bytes(mutate(content, generator))
        try:
            merge_lora(transformer, path)
        except ModelError as error:
            assert all(torch.equal(value, before[name]) for name, value in transformer.state_dict().items())
            return sentence(error)
        assert all(bool(torch.isfinite(value).all()) for value in transformer.state_dict().values())
        transformer.load_state_dict(before)
        return "merged"

    yield one


def requests(_folder: Path) -> Iterator[Accident]:
    """A request is answered soon, by scores or one sentence."""
    scorer = Scorer("count", lambda outputs, prompts: [float(len(prompt)) for prompt in prompts], {})
    with serving(scorer, token=TOKEN) as server:

        def one(number: int) -> str:
            statuses = after_request(server, 1_000_000 + number)
            assert 500 not in statuses
            return "answered"

        yield one


FORMATS: dict[str, Callable[[Path], Iterator[Accident]]] = {
    "calibration": calibrations, "configuration": configurations, "database": databases, "prompts": prompt_lists,
    "lora": loras, "request": requests,
}  # fmt: skip


def run(name: str, number: int, folder: Path) -> Counter[str]:
    """What became of so many inputs of a format."""
    outcomes: Counter[str] = Counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # notices of what was left out are as they should be
        for one in FORMATS[name](folder):
            outcomes.update(one(index) for index in range(number))
    assert sum(outcomes.values()) == number
    return outcomes


@pytest.mark.parametrize("name", FORMATS)
def test_some_inputs_after_accidents(name: str, tmp_path: Path) -> None:
    run(name, 60, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", FORMATS)
def test_a_hundred_thousand_inputs_after_accidents(name: str, tmp_path: Path, capfd: Any) -> None:
    assert sum(NUMBERS.values()) == 100_000
    outcomes = run(name, NUMBERS[name], tmp_path)
    with capfd.disabled():
        print(f"\n{name}: {dict(outcomes)}")
    assert "Traceback" not in capfd.readouterr().err
