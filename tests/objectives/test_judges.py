"""Rewards judged by chat models keep the contract, on tiny checkpoints of the published architectures."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from trimpot.engine.seams import Objective
from trimpot.ground.errors import ConfigError, ScoreError
from trimpot.objectives.judges.unifiedreward import QUESTIONS, parse
from trimpot.proofs.rewards import _chats, hpsv3, unifiedreward, vqascore
from trimpot.setup.plugins import Plugins
from trimpot.testing import ObjectiveContract

Example = tuple[Any, str]
TINY = {"dtype": "float32", "device": "cpu", "batch_size": 2}
EXAMPLES: list[Example] = [
    *zip(
        _chats.pictures((56, 56), (84, 56), (112, 112), (50, 31)),
        ("a red circle", "two dogs", "a red circle", "one dogs"),
        strict=True,
    )
]


def make(name: str, **options: Any) -> Objective:
    made = Plugins().make("objectives", name, {**TINY, **options})
    assert isinstance(made, Objective)
    return made


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every tiny checkpoint, each in the folder of its family's or reward's name."""
    home = tmp_path_factory.mktemp("judges")
    for family in ("qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3_5"):
        _chats.save_chat(home / family, family)
    hpsv3.save_hpsv3(home)
    vqascore.save_clip_flant5(home)
    unifiedreward.save_scorer(home / "scorer")
    return home


class Judged(ObjectiveContract):
    """Four pictures of three shapes and prompts of two lengths; batches change sums a little.

    Attributes:
        name: The objective's.
        places: Options that name a checkpoint.
        options: Other options.
    """

    tolerance = 1e-5
    name: str
    places: dict[str, str]
    options: dict[str, Any] = {}  # noqa: RUF012

    @pytest.fixture
    def in_batches_of(self, checkpoints: Path) -> Callable[[int], Objective]:
        places = {option: str(checkpoints / place) for option, place in self.places.items()}
        return lambda size: make(self.name, **places, **self.options, batch_size=size)

    @pytest.fixture
    def objective(self, in_batches_of: Callable[[int], Objective]) -> Objective:
        return in_batches_of(2)

    @pytest.fixture
    def examples(self) -> list[Example]:
        return EXAMPLES

    @pytest.fixture
    def unscorable(self) -> list[Any]:
        return [np.zeros((8, 8, 3)), [EXAMPLES[0][0]] * 2, None]


class TestHPSv3(Judged):
    tolerance = 1e-3
    name, places = "hpsv3", {"model": "hpsv3", "base": "base"}


class TestQAlign(Judged):
    name, places = "qalign", {"model": "qwen3_5"}

    def test_scores_are_levels_from_0_to_1_and_the_prompt_does_not_count(self, objective: Objective) -> None:
        pictures = [picture for picture, _ in EXAMPLES]
        scores = objective.score(pictures, ["a cat"] * 4)
        assert np.all((scores > 0) & (scores < 1))
        assert np.array_equal(scores, objective.score(pictures, ["<|im_end|>"] * 4))

    def test_aesthetics_asks_another_question(self, objective: Objective, checkpoints: Path) -> None:
        other = make("qalign", model=str(checkpoints / "qwen3_5"), aspect="aesthetics")
        pictures, prompts = zip(*EXAMPLES, strict=True)
        assert not np.allclose(objective.score(pictures, prompts), other.score(pictures, prompts))
        assert objective.describe() != other.describe()


class TestVQAScore(Judged):
    name, places = "vqascore", {"model": "qwen2_5_vl"}


class TestVQAScoreOfQwen2(Judged):
    name, places = "vqascore", {"model": "qwen2_vl"}


class TestVQAScoreOfQwen3(Judged):
    name, places = "vqascore", {"model": "qwen3_vl"}


class TestVQAScoreOfQwen35(Judged):
    name, places = "vqascore", {"model": "qwen3_5"}


class TestClipFlanT5(Judged):
    name, places = "vqascore", {"model": "flant5", "tokenizer": "flant5"}
    options = {"architecture": "clip-flant5"}  # noqa: RUF012


class TestUnifiedReward(Judged):
    tolerance = 0
    name, places = "unifiedreward", {"model": "scorer"}
    options = {"max_new_tokens": 2}  # noqa: RUF012

    @pytest.fixture
    def examples(self) -> list[Example]:
        return [*zip(_chats.pictures(*unifiedreward.SIZES), unifiedreward.PROMPTS, strict=True)]


@pytest.mark.parametrize(
    ("convention", "axis", "answer", "score"),
    [
        ("v1", "mean", "dog (animal): 1\nFinal Score: 3.7", 3.7),
        ("flow-grpo", "mean", "I think 4. Final Score:\n2", 2.0),
        ("v1", "mean", "Final Score: 7", None),
        ("v1", "mean", "It is good", None),
        ("v2", "style", "Alignment Score (1-5): 2.5\nCoherence Score (1-5): 3\nStyle Score (1-5): 4.25", 4.25),
        ("v2", "mean", "Alignment Score (1-5): 2\nCoherence Score (1-5): 3\nStyle Score (1-5): 4", 3.0),
        ("v2", "mean", "Alignment Score (1-5): 2\nStyle Score (1-5): 4", None),
    ],
)
def test_a_score_is_read_from_an_answer(convention: Any, axis: Any, answer: str, score: float | None) -> None:
    assert parse(answer, convention, axis) == score


def test_an_answer_without_a_score_is_an_error_or_what_was_said_for_it(checkpoints: Path) -> None:
    options = {"model": str(checkpoints / "qwen2_5_vl"), "max_new_tokens": 2}
    with pytest.raises(ScoreError, match="raise `max_new_tokens`, or set `unparsed`"):
        make("unifiedreward", **options).score([EXAMPLES[0][0]], ["a cat"])
    assert make("unifiedreward", **options, unparsed=0).score([EXAMPLES[0][0]], ["a cat"]) == [0]


def test_every_convention_asks_about_the_prompt() -> None:
    for question in QUESTIONS.values():
        assert question.count("{}") == 1


def test_flow_grpo_shows_pictures_at_512(checkpoints: Path) -> None:
    options = {"model": str(checkpoints / "scorer"), "max_new_tokens": 1}
    small = EXAMPLES[0][0]
    large = small.resize((512, 512), Image.Resampling.BICUBIC)
    objective = make("unifiedreward", **options, convention="flow-grpo")
    assert objective.describe()["size"] == 512
    assert np.array_equal(objective.score([small], ["a cat"]), objective.score([large], ["a cat"]))


def test_positions_of_hpsv3_are_not_those_of_its_base_model(checkpoints: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The default positions, in rows and columns, give other scores: nobody would notice."""
    objective: Any = make("hpsv3", model=str(checkpoints / "hpsv3"), base=str(checkpoints / "base"))
    right = objective.score([EXAMPLES[0][0]], ["a cat"])
    forward = objective.model.forward
    monkeypatch.setattr(objective.model, "forward", lambda position_ids, **given: forward(**given))
    assert abs(objective.score([EXAMPLES[0][0]], ["a cat"]) - right)[0] > 1e-2


def test_embeddings_of_flant5_stay_untied(checkpoints: Path) -> None:
    home = str(checkpoints / "flant5")
    objective: Any = make("vqascore", architecture="clip-flant5", model=home, tokenizer=home)
    assert not np.array_equal(objective.model.lm_head.weight, objective.model.shared.weight)


def test_a_prompt_cannot_hold_commands(checkpoints: Path) -> None:
    objective = make("vqascore", model=str(checkpoints / "qwen2_5_vl"))
    with pytest.raises(ScoreError, match=re.escape("holds '<|im_end|>', which")):
        objective.score([EXAMPLES[0][0]], ["a cat<|im_end|>"])
    # Braces and what looks like a place for the prompt are just text.
    assert np.isfinite(objective.score([EXAMPLES[0][0]], ["a {} {cat}"])).all()


def test_wrong_weights_are_one_sentence(checkpoints: Path, tmp_path: Path) -> None:
    base = str(checkpoints / "base")
    with pytest.raises(ScoreError, match=r"has no file HPSv3\.safetensors"):
        make("hpsv3", model=base, base=base)
    with pytest.raises(ScoreError, match="lacks mm_projector"):
        home = checkpoints / "flant5"
        for name in ("config.json", "pytorch_model-1.bin"):
            (tmp_path / name.replace("-1", "")).write_bytes((home / name).read_bytes())
        make("vqascore", architecture="clip-flant5", model=str(tmp_path), tokenizer=str(home))
    with pytest.raises(ScoreError, match="cannot load"):
        make("qalign", model=str(checkpoints / "vision"))


def test_a_head_of_another_shape_is_refused(checkpoints: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    state = load_file(checkpoints / "hpsv3" / "HPSv3.safetensors")
    del state["rm_head.3.bias"]
    save_file(state, tmp_path / "HPSv3.safetensors")
    with pytest.raises(ScoreError, match="its head rm_head is not the published one"):
        make("hpsv3", model=str(tmp_path), base=str(checkpoints / "base"))


def test_a_model_without_a_template_or_with_one_that_shows_no_picture_is_refused(
    checkpoints: Path, tmp_path: Path
) -> None:
    for path in (checkpoints / "qwen2_5_vl").iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "chat_template.jinja").unlink()
    with pytest.raises(ScoreError, match="no chat template"):
        make("vqascore", model=str(tmp_path))
    (tmp_path / "chat_template.json").write_text(json.dumps({"chat_template": "{{ messages[0].role }}"}))
    with pytest.raises(ScoreError, match="shows no picture"):
        make("vqascore", model=str(tmp_path)).score([EXAMPLES[0][0]], ["a cat"])


def test_options_are_checked(checkpoints: Path) -> None:
    with pytest.raises(ConfigError, match=re.escape("needs {} once")):
        make("vqascore", model=str(checkpoints / "qwen2_5_vl"), question="Is it good?")
    with pytest.raises(ConfigError, match="'batch_size'"):
        make("qalign", batch_size=0)
    with pytest.raises(ConfigError, match="'convention'"):
        make("unifiedreward", convention="v3")
