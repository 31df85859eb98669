"""The rewards of pictures keep the contract of rewards, on tiny checkpoints of their architectures."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tiny_rewards import save_small
from trimpot.engine.seams import Objective
from trimpot.ground.errors import ConfigError, ScoreError
from trimpot.objectives.hosting import Host
from trimpot.objectives.image_statistics import STATISTICS
from trimpot.objectives.images import PromptTruncated
from trimpot.proofs.rewards import attending, sets_and_signals
from trimpot.proofs.rewards._tiny import PROMPTS, clip_state, pictures, save
from trimpot.proofs.rewards.clip import clip_config
from trimpot.setup.plugins import plugins
from trimpot.testing import ObjectiveContract

UNSCORABLE = ["a sound", None, np.zeros((8, 8, 3), dtype=np.uint8), [Image.new("RGB", (8, 8))] * 2]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for each architecture."""
    return save_small(tmp_path_factory.mktemp("tiny"))


def make(name: str, **options: Any) -> Objective:
    made = plugins().make("objectives", name, options)
    assert isinstance(made, Objective)
    return made


def options_of(name: str, tiny: Path) -> dict[str, Any]:
    """The options that point a reward at its tiny checkpoint."""
    folder = str(tiny / {"pickscore": "clip", "clipscore": "clip", "aesthetic": "clip-l"}.get(name, name))
    if name.endswith("-diversity"):
        return {"model": str(tiny / name.removesuffix("-diversity"))}
    beside = {"pickscore": "processor", "hpsv2": "clip", "mps": "clip", "imagereward": "tokenizer"}
    return {"model": folder, **({beside[name]: folder} if name in beside else {})}


class _OnTinyCheckpoints(ObjectiveContract):
    tolerance = 1e-5

    @pytest.fixture
    def name(self, request: pytest.FixtureRequest) -> str:
        return str(request.param)

    @pytest.fixture
    def objective(self, name: str, tiny: Path) -> Objective:
        return make(name, **options_of(name, tiny))

    @pytest.fixture
    def in_batches_of(self, name: str, tiny: Path) -> Callable[[int], Objective]:
        return lambda size: make(name, batch_size=size, **options_of(name, tiny))

    @pytest.fixture
    def others(self, name: str, tiny: Path) -> list[Objective]:
        changes: dict[str, Any] = {"heads": "half.pth"} if name == "lpips" else {"dtype": "bfloat16"}
        if name == "lpips":
            shutil.copy(tiny / "lpips" / "alex.pth", tiny / "lpips" / "half.pth")
        return [make(name, **{**options_of(name, tiny), **changes})]

    @pytest.fixture
    def unscorable(self) -> Sequence[Any]:
        return UNSCORABLE


@pytest.mark.parametrize("name", ["aesthetic", "clipscore", "hpsv2", "imagereward", "mps", "pickscore"], indirect=True)
class TestRewardsOfPictures(_OnTinyCheckpoints):
    """Each picture by itself."""

    tolerance = 2e-4  # of numbers up to 100, computed in float32 in batches of other sizes

    @pytest.fixture
    def examples(self) -> list[tuple[Any, str]]:
        return [*zip(pictures(), PROMPTS, strict=True), (pictures()[0], PROMPTS[1])]


@pytest.mark.parametrize("name", ["dino-diversity", "lpips"], indirect=True)
class TestDiversities(_OnTinyCheckpoints):
    """A prompt's pictures together."""

    @pytest.fixture
    def examples(self) -> list[tuple[Any, str]]:
        some = [picture.resize((48, 48)) for picture in pictures()]
        return list(zip(some, ("here", "there", "here", "there", "here"), strict=True))


@pytest.mark.parametrize("name", ["jpeg-size", *STATISTICS])
class TestSignals(ObjectiveContract):
    """What needs no model."""

    @pytest.fixture
    def objective(self, name: str) -> Objective:
        return make(name)

    @pytest.fixture
    def examples(self) -> list[tuple[Any, str]]:
        return [(picture, "") for picture in (*pictures(), Image.new("RGB", (9, 7), "white"), Image.new("L", (5, 5)))]

    @pytest.fixture
    def unscorable(self) -> Sequence[Any]:
        return UNSCORABLE


def test_conventions_are_multiples_of_each_other_and_say_which_they_are(tiny: Path) -> None:
    folder = str(tiny / "clip")
    scores, said = {}, set()
    for convention in ("logits", "per26"):
        pick = make("pickscore", convention=convention, model=folder, processor=folder)
        scores[convention] = pick.score(pictures(), PROMPTS)
        said.add(json.dumps(dict(pick.describe()), sort_keys=True))
    assert np.allclose(scores["logits"], 26 * scores["per26"], rtol=1e-12)
    assert len(said) == 2
    with pytest.raises(ConfigError, match="'logits' or 'per26'"):
        make("pickscore", convention="divided", model=folder, processor=folder)


def test_clipscore_is_not_below_zero_where_published_so(tiny: Path) -> None:
    folder = str(tiny / "clip")
    raw = make("clipscore", convention="flow-grpo", model=folder).score(
        pictures() * 5, [p for p in PROMPTS for _ in PROMPTS]
    )
    clipped = make("clipscore", convention="torchmetrics", model=folder).score(
        pictures() * 5, [p for p in PROMPTS for _ in PROMPTS]
    )
    assert raw.min() < -0.5
    assert clipped.min() == 0 < clipped.max()


def test_half_precision_is_near(tiny: Path) -> None:
    folder = str(tiny / "clip")
    full, half = (
        make("pickscore", model=folder, processor=folder, dtype=dtype).score(pictures(), PROMPTS)
        for dtype in ("float32", "bfloat16")
    )
    assert 0 < np.abs(full - half).max() < 3  # of logits between -100 and 100


def test_a_prompt_longer_than_the_tower_is_told_of(tiny: Path) -> None:
    folder = str(tiny / "clip")
    pick = make("pickscore", model=folder, processor=folder)
    with pytest.warns(PromptTruncated, match="pickscore reads 77 tokens of a prompt, but .* has 102"):
        scores = pick.score(pictures()[:2] * 2, ["x" * 100, "x" * 200, "y" * 100, "x" * 100])
    again = pick.score(pictures()[:2] * 2, ["x" * 100, "x" * 200, "y" * 100, "x" * 100])
    assert np.array_equal(scores, again)
    assert pick.score(pictures()[:1], ["x" * 300])[0] == pytest.approx(scores[0], abs=1e-4)


def test_what_no_checkpoint_can_be_is_said_in_one_sentence(tiny: Path, tmp_path: Path) -> None:
    lacking = {
        "aesthetic": ({"model": str(tiny / "clip")}, "embeddings of width 768, but those of .* have 24"),
        "imagereward": ({"model": str(tiny / "hpsv2"), "file": "HPS_v2.1_compressed.pt"}, "is no ImageReward"),
        "mps": ({"model": str(tmp_path), "clip": str(tiny / "mps")}, "lacks the cross model"),
        "lpips": ({"model": str(tiny / "lpips"), "backbone": "alex.pth"}, r"features\.0\.weight is missing"),
        "hpsv2": ({"model": str(tmp_path), "clip": str(tiny / "hpsv2")}, r"has no file HPS_v2\.1_compressed\.pt"),
        "dino-diversity": ({"model": str(tiny / "clip")}, "cannot load|lacks"),
    }
    config = clip_config("gelu")
    save({f"model.{name}": value for name, value in clip_state(config).items()}, tmp_path / "mps.safetensors")
    for name, (options, reason) in lacking.items():
        with pytest.raises(ScoreError, match=reason) as caught:
            make(name, **options)
        assert "\n" not in str(caught.value), name


@pytest.mark.parametrize("text", ["{", "[]", "{}"])
def test_a_text_configuration_that_says_nothing_is_refused(tiny: Path, tmp_path: Path, text: str) -> None:
    for path in (tiny / "imagereward").iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "med_config.json").write_text(text)
    with pytest.raises(ScoreError, match=r"med_config\.json is no configuration of ImageReward's text tower"):
        make("imagereward", model=str(tmp_path), tokenizer=str(tmp_path))


def test_mps_masks_as_its_threshold_says(tiny: Path) -> None:
    folder = str(tiny / "mps")
    near, far = (
        make("mps", model=folder, clip=folder, threshold=threshold).score(pictures(), PROMPTS)
        for threshold in (0.01, 0.3)
    )
    assert np.abs(near - far).max() > 1e-2
    with pytest.raises(ScoreError, match=r"threshold is 1\.0"):
        make("mps", model=folder, clip=folder, threshold=1.0)


def test_the_cross_model_gives_its_authors_numbers() -> None:
    """Printed by the module of the repository Kwai-Kolors/MPS, commit be9027f, in float64 on the same inputs."""
    import torch
    from trimpot.objectives.mps import cross

    state = attending.cross_state(width=24, head=8, heads=3, depth=2)
    rng = np.random.default_rng(9)
    query, context = rng.standard_normal((1, 17, 24)), rng.standard_normal((1, 12, 24))
    mask = np.where(rng.random((1, 12)) > 0.5, 0, -np.inf)
    found = cross(
        {name: torch.tensor(value) for name, value in state.items()},
        torch.tensor(query),
        torch.tensor(context),
        torch.tensor(mask)[:, None],
    ).numpy()
    printed = [3.0432805, 4.6932386, -0.1207403, -4.2677793, -2.2444998, -1.4580245]
    assert np.allclose(found[0, 0, :6], printed, rtol=0, atol=1e-6)
    assert found.sum() == pytest.approx(-143.7031121, abs=1e-5)


def test_lpips_gives_its_authors_numbers(tiny: Path) -> None:
    """Printed by the package lpips 0.1.4 with this backbone and these heads."""
    from trimpot.objectives.lpips import Lpips
    from trimpot.objectives.pretrained import Weights

    net = Lpips(Weights(str(tiny / "lpips")), backbone="alexnet-owt-7be5be79.pth", heads="alex.pth", host=Host())
    outputs, _ = sets_and_signals._both_sets()
    rows = net.features(outputs[:9]).double().numpy()
    found = [((rows[0] - rows[other]) ** 2).sum() for other in (2, 4, 6, 8, 1, 3)]
    assert np.allclose(found, [0.947266, 1.077367, 1.09173, 1.214907, 1.798222, 1.810849], rtol=0, atol=2e-6)


def test_the_shipped_aesthetic_head_says_where_it_came_from_and_is_the_map_it_was() -> None:
    """The numbers were printed by the published five layers on embeddings of one axis each."""
    import trimpot.objectives.aesthetic as module

    said = json.loads((Path(module.__file__).parent / "aesthetic.json").read_text())
    assert said["licence"] == "Apache-2.0"
    assert said["sha256"] == "21dd590f3ccdc646f0d53120778b296013b096a035a2718c9cb0d511bff0f1e0"
    weight, bias = module.shipped_head()
    assert weight.shape == (768,)
    assert [bias + weight[axis] for axis in (0, 100, 767)] == pytest.approx([4.545052, 4.899345, 5.451654], abs=2e-6)


def test_affine_layers_collapse_into_one() -> None:
    from trimpot.objectives.aesthetic import collapsed

    rng = np.random.default_rng(0)
    widths = (768, 1024, 128, 64, 16, 1)
    layers = [(rng.standard_normal((b, a)) / a**0.5, rng.standard_normal(b)) for a, b in pairwise(widths)]
    weight, bias = collapsed(layers)
    for x in rng.standard_normal((20, 768)):
        y = x
        for matrix, shift in layers:
            y = matrix @ y + shift
        assert x @ weight + bias == pytest.approx(y[0], abs=1e-10)


def test_pictures_that_are_equal_have_no_diversity(tiny: Path) -> None:
    same = [pictures()[0].resize((48, 48))] * 3
    for name in ("dino-diversity", "lpips"):
        assert np.abs(make(name, **options_of(name, tiny)).score(same, ["a"] * 3)).max() < 1e-6
    with pytest.raises(ScoreError, match="one size, at least 32 pixels high and wide, but got 48x48, 80x80"):
        make("lpips", **options_of("lpips", tiny)).score([same[0], same[0].resize((80, 80))], "aa")


def test_statistics_of_pictures_whose_statistics_are_plain_to_see() -> None:
    halves = Image.new("RGB", (10, 10), "white")
    halves.paste((0, 0, 0), (0, 0, 5, 10))
    red = Image.new("RGB", (4, 4), (255, 0, 0))
    expected = {
        "edge-density": [1 / 9, 0.0],
        "entropy": [1 / 8, 0.0],
        "saturation": [0.0, 1.0],
        "dark-share": [0.5, 0.0],
        "bright-share": [0.5, 0.0],
    }
    for name, values in expected.items():
        assert make(name).score([halves, red], ["", ""]).tolist() == pytest.approx(values)
    assert make("edge-density").score([Image.new("RGB", (1, 9))], [""])[0] == 0
    grey = Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16))
    assert make("entropy").score([grey], [""])[0] == pytest.approx(1.0)


def test_more_in_a_picture_is_a_larger_file_and_a_smaller_reward_of_compression() -> None:
    flat, noise = Image.new("RGB", (64, 64)), pictures()[4].effect_spread(20)
    small, large = make("jpeg-size").score([flat, noise], ["", ""])
    assert 0.5 < small < large < 20
    assert make("jpeg-size", direction="compressible").score([flat, noise], ["", ""]).tolist() == [
        -small / 500,
        -large / 500,
    ]
