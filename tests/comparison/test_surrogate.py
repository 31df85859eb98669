"""The surrogate: it orders settings as the run's backbone does, its noise is honest, and it says how good it is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from trimpot.adapters.spaces import make_ellipsoid
from trimpot.engine.bucket import Bucket, draw_bucket
from trimpot.engine.evaluation import Evaluation
from trimpot.ground.errors import ModelError, StoreError
from trimpot.runs import session
from trimpot.setup.config import load_config
from trimpot.setup.plugins import plugins
from trimpot.storage import SqliteStore
from trimpot.surrogate.adapter import Surrogate, belief, make_surrogate
from trimpot.surrogate.fitting import fit, table_of

SPACE = {"name": "ellipsoid", "num_knobs": 8, "condition": 20.0, "noise": 0.3}
CONFIG = {
    "adapter": SPACE,
    "objectives": "value",
    "prompts": "numbers",
    "optimizer": "cma-es",
    "generations": 16,
    "bucket_size": 6,
    "validation": {"num_prompts": 24, "every": 2},
    "test": {"num_prompts": 8},
}
BUCKET = Bucket(tuple(f"number {n}" for n in range(40)), tuple(range(40)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run on an ellipsoid."""
    folder = tmp_path_factory.mktemp("surrogate")
    return folder / session.start(load_config(CONFIG), folder)


@pytest.fixture(scope="module")
def surrogate(folder: Path) -> Surrogate:
    made = plugins().make("adapters", "surrogate", {"run": str(folder)})
    assert isinstance(made, Surrogate)
    return made


def test_it_orders_settings_as_the_backbone_does(surrogate: Surrogate) -> None:
    """Near where the run has searched, against the exact expected score, which it never saw."""
    backbone = make_ellipsoid(num_knobs=8, condition=20.0, noise=0.3)
    steps = np.random.default_rng(0).standard_normal((400, 8))
    population = surrogate.space.defaults + 0.15 * steps
    exact = backbone.exact(population)  # type: ignore[attr-defined]
    assert np.corrcoef(surrogate.exact(population), exact)[0, 1] > 0.9
    assert surrogate.space.fingerprint == backbone.space.fingerprint


def test_far_from_the_data_it_falls(surrogate: Surrogate) -> None:
    """No search can win by leaving what was measured."""
    directions = np.random.default_rng(1).standard_normal((50, 8))
    far = surrogate.space.defaults + 40 * directions / np.linalg.norm(directions, axis=1, keepdims=True)
    assert surrogate.exact(far).max() < surrogate.exact(surrogate.space.defaults[None])[0]


def test_its_noise_is_the_run_s(surrogate: Surrogate) -> None:
    """On an ellipsoid a prompt moves every score by 0.3, and a seed moves it again by as much in a smooth way."""
    [scores] = surrogate.generate(surrogate.space.defaults[None], draw_bucket(BUCKET.prompts, 4000, 5))
    expected = surrogate.exact(surrogate.space.defaults[None])[0]
    assert np.mean(scores) == pytest.approx(expected, abs=0.05)
    assert 0.2 < np.std(scores) < 0.7


def test_an_output_depends_on_its_candidate_prompt_and_seed_alone(surrogate: Surrogate) -> None:
    population = surrogate.space.defaults + 0.1 * np.random.default_rng(2).standard_normal((3, 8))
    whole = list(surrogate.generate(population, BUCKET))
    for row, scores in zip(population, whole, strict=True):
        for index in (0, 17, 39):
            alone = Bucket((BUCKET.prompts[index],), (BUCKET.seeds[index],))
            assert list(surrogate.generate(row[None], alone)) == [[scores[index]]]


def test_without_noise_it_scores_the_same_on_every_prompt(surrogate: Surrogate, folder: Path) -> None:
    silent = make_surrogate(run=str(folder), noise=0.0)
    [scores] = silent.generate(surrogate.space.defaults[None], BUCKET)
    assert set(scores) == {float(surrogate.exact(surrogate.space.defaults[None])[0])}


def test_it_says_how_far_to_believe_it(surrogate: Surrogate) -> None:
    told = surrogate.describe()
    assert told["id"] == "surrogate" and told["of"] == "ellipsoid"
    assert 0.5 < told["r_squared"] < 1 and told["r_squared"] - 0.1 < told["reliability"] <= 1
    assert f"explains {told['r_squared']:.0%} of the differences" in belief(told)
    assert belief({"id": "ellipsoid"}) == ""


def test_where_there_is_only_noise_it_explains_nothing() -> None:
    """R squared is of buckets left out, so that a flexible model cannot flatter itself."""
    generator, space = np.random.default_rng(0), make_ellipsoid(num_knobs=8).space
    evaluations = [
        Evaluation(
            space.to_setting(space.defaults + 0.2 * generator.standard_normal(8)),
            Bucket(("a", "b", "c"), (generation, 1, 2)),
            None,
            {"value": tuple(generator.standard_normal(3))},
            {"value": 1.0},
        )
        for generation in range(20)
        for _ in range(10)
    ]
    table = table_of(evaluations, space)
    assert fit(table, space.spreads).r_squared < 0.05
    assert table.reliability < 0.2
    assert table.noise == pytest.approx(1.0, abs=0.1)


def test_what_cannot_be_fitted_is_said_in_a_sentence(folder: Path) -> None:
    with pytest.raises(StoreError, match=r"no run 'elipsoid-1' in .*; did you mean 'ellipsoid-1'\?"):
        make_surrogate(run=str(folder.parent / "elipsoid-1"))
    with pytest.raises(ModelError, match="has recorded too little"):
        table_of([], make_ellipsoid(num_knobs=8).space)
    with SqliteStore(folder.parent) as store:
        unfinished = store.add_run("open", "identity", load_config(CONFIG).model_dump(mode="json"), {})
    with pytest.raises(ModelError, match="run open-1 has not finished"):
        make_surrogate(run=str(folder.parent / unfinished))
    blind = {**SPACE, "noise": 50.0}
    noisy = session.start(load_config({**CONFIG, "adapter": blind, "generations": 4, "name": "noisy"}), folder.parent)
    with pytest.raises(ModelError, match="run noisy-1 is too short or too noisy for a surrogate"):
        make_surrogate(run=str(folder.parent / noisy))


def test_a_run_can_be_calibrated_on_it(surrogate: Surrogate, folder: Path, tmp_path: Path) -> None:
    config = {**CONFIG, "adapter": {"name": "surrogate", "run": str(folder)}, "generations": 3}
    run = session.start(load_config(config), tmp_path)
    with SqliteStore(tmp_path) as store:
        outcome = store.run(run).outcome
    assert outcome is not None and outcome["baseline"]["grid"].keys() == {"neutral"}
