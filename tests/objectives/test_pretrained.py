"""Weights are loaded whole or not at all, described so that others can find them, and never run as code."""

from __future__ import annotations

import json
import pickle
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file
from trimpot.ground.errors import ScoreError
from trimpot.ground.weights import weights_digest
from trimpot.objectives.pretrained import Weights, part, renamed
from trimpot.proofs.rewards._tiny import save_clip

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny CLIP."""
    folder = tmp_path_factory.mktemp("pretrained") / "tiny-clip"
    save_clip(folder)
    return folder


def test_a_model_comes_ready_to_score(clip: Path) -> None:
    model = Weights(str(clip)).load("CLIPModel", dtype="float32")
    assert not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())
    saved = load_file(clip / "model.safetensors")
    assert all(np.array_equal(saved[name], tensor.numpy()) for name, tensor in model.state_dict().items())


def test_a_checkpoint_that_lacks_weights_is_refused(clip: Path, tmp_path: Path) -> None:
    """It would load with random numbers in their place."""
    state = load_file(clip / "model.safetensors")
    del state["visual_projection.weight"], state["text_projection.weight"]
    (tmp_path / "config.json").write_text((clip / "config.json").read_text())
    save_file(state, tmp_path / "model.safetensors")
    with pytest.raises(ScoreError, match=r"lacks 2 weights such as text_projection\.weight$"):
        Weights(str(tmp_path)).load("CLIPModel")


def test_a_checkpoint_of_other_sizes_is_refused(clip: Path, tmp_path: Path) -> None:
    config = json.loads((clip / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "projection_dim": 10}))
    (tmp_path / "model.safetensors").write_bytes((clip / "model.safetensors").read_bytes())
    with pytest.raises(ScoreError, match=r"text_projection\.weight is \(24, 32\) instead of \(10, 32\)$"):
        Weights(str(tmp_path)).load("CLIPModel")


def test_a_state_dict_in_hand_is_held_to_the_same(clip: Path) -> None:
    weights = Weights(str(clip))
    state, config = weights.tensors("model.safetensors"), weights.load("CLIPConfig")
    assert torch.equal(weights.assemble("CLIPModel", config, state).logit_scale, state["logit_scale"])
    del state["logit_scale"]
    with pytest.raises(ScoreError, match="lacks 1 weights such as logit_scale"):
        weights.assemble("CLIPModel", config, state)


@pytest.mark.parametrize("model", ["./nowhere", "/nowhere/at/all", "some/deep/folder", "folder/head.pth"])
def test_a_folder_that_is_not_there_is_not_asked_of_the_hub(model: str) -> None:
    with pytest.raises(ScoreError, match=f"^no checkpoint folder {model}; give a folder that is there, or a hub id$"):
        Weights(model).load("CLIPModel")


def test_a_hub_that_cannot_be_reached_is_said_in_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    weights = Weights("nobody/no-such-model")
    for attempt in (lambda: weights.load("CLIPModel"), lambda: weights.file("head.pt")):
        with pytest.raises(ScoreError, match="hub cannot be reached and nobody/no-such-model is not wholly") as caught:
            attempt()
        assert "\n" not in str(caught.value)


def test_an_impossible_id_and_a_missing_file_are_said_in_one_sentence(clip: Path) -> None:
    with pytest.raises(ScoreError, match="cannot load bad name!! as a CLIPModel") as caught:
        Weights("bad name!!").load("CLIPModel")
    assert "\n" not in str(caught.value)
    with pytest.raises(ScoreError, match=r"has no file head\.pt; give the folder that holds it"):
        Weights(str(clip)).file("head.pt")


def test_a_pickle_is_not_run(tmp_path: Path) -> None:
    """A file from a stranger may hold code; it stays unread."""

    class Trap:
        def __reduce__(self) -> tuple[object, ...]:
            return Path.touch, (tmp_path / "sprung",)

    torch.save({"state_dict": Trap()}, tmp_path / "trap.pt")
    (tmp_path / "plain.pt").write_bytes(pickle.dumps(Trap()))
    for name in ("trap.pt", "plain.pt"):
        with pytest.raises(ScoreError, match=f"{name} of .* is no file of plain tensors"):
            Weights(str(tmp_path)).tensors(name)
    assert not (tmp_path / "sprung").exists()


def test_tensors_are_read_from_both_formats_and_nothing_else_is(tmp_path: Path) -> None:
    torch.save({"epoch": 3, "state_dict": {"a": torch.arange(3.0)}}, tmp_path / "wrapped.pt")
    torch.save({"a": torch.arange(3.0)}, tmp_path / "bare.pth")
    save_file({"a": np.arange(3.0, dtype=np.float32)}, tmp_path / "safe.safetensors")
    torch.save([1, 2], tmp_path / "list.pt")
    torch.save({"a": 1}, tmp_path / "numbers.pt")
    weights = Weights(str(tmp_path))
    for name in ("wrapped.pt", "bare.pth", "safe.safetensors"):
        assert torch.equal(weights.tensors(name)["a"], torch.arange(3.0))
    for name in ("list.pt", "numbers.pt"):
        with pytest.raises(ScoreError, match="is no state dict"):
            weights.tensors(name)


def test_a_folder_is_described_by_its_files(clip: Path, tmp_path: Path) -> None:
    copy = tmp_path / clip.name
    copy.mkdir()
    for path in clip.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    assert Weights(str(copy)).describe() == Weights(str(clip)).describe() == {
        "id": clip.name,
        "weights": weights_digest(clip),
    }  # fmt: skip
    changed = bytearray((copy / "model.safetensors").read_bytes())
    changed[-1] ^= 1
    (copy / "model.safetensors").write_bytes(changed)
    assert Weights(str(copy)).describe() != Weights(str(clip)).describe()


def test_a_single_file_counts_by_its_content_and_kind_and_not_by_its_name(tmp_path: Path) -> None:
    for name, content in (("a.pt", b"one"), ("b.pt", b"one"), ("c.md", b""), ("d.bin", b"one"), ("e.pt", b"two")):
        (tmp_path / name).write_bytes(content)
    a, b, d, e = (weights_digest(tmp_path / name) for name in ("a.pt", "b.pt", "d.bin", "e.pt"))
    assert a == b and len({a, d, e, weights_digest(tmp_path)}) == 4
    before = weights_digest(tmp_path)
    (tmp_path / "c.md").write_bytes(b"a note")
    assert weights_digest(tmp_path) == before


def test_a_folder_that_is_linked_counts_too(tmp_path: Path) -> None:
    seen = set()
    for content in (b"one", b"two"):
        (elsewhere := tmp_path / content.decode()).mkdir()
        (elsewhere / "model.safetensors").write_bytes(content)
        (folder := tmp_path / f"of {content.decode()}").mkdir()
        (folder / "transformer").symlink_to(elsewhere, target_is_directory=True)
        seen.add(weights_digest(folder))
    assert len(seen) == 2


@pytest.mark.parametrize("name", ["model.safetensors", "merges.txt", "vocab", "config.yaml", "spiece.model"])
def test_every_byte_of_every_file_that_loading_may_read_counts(name: str, tmp_path: Path) -> None:
    """Fine-tunes of one base differ in the middle of large files."""
    seen = set()
    for place in (0, 1_500_000, 2_999_999, None):
        content = bytearray(3_000_000)
        if place is not None:
            content[place] = 1
        (tmp_path / name).write_bytes(content)
        seen.add(weights_digest(tmp_path))
    assert len(seen) == 4


def test_a_branch_is_described_by_the_commit_that_the_cache_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    refs = tmp_path / "models--some--model" / "refs"
    refs.mkdir(parents=True)
    (refs / "main").write_text(COMMIT)
    assert Weights("some/model").describe() == {"id": "some/model", "revision": COMMIT}
    assert Weights("some/model", COMMIT[::-1]).describe()["revision"] == COMMIT[::-1]
    assert Weights("some/model", "v2").describe()["revision"] == "v2"


def test_loading_leaves_the_library_as_talkative_as_it_was(clip: Path) -> None:
    import transformers

    before = transformers.logging.get_verbosity()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Weights(str(clip)).load("CLIPModel")
    assert transformers.logging.get_verbosity() == before


def test_state_dicts_are_cut_and_renamed() -> None:
    state = {"blip.a.1.w": 1, "blip.b": 2, "mlp.a": 3}
    assert part(state, "blip.") == {"a.1.w": 1, "b": 2}
    table = ((r"^blip\.", ""), (r"^a\.(\d)\.", r"layers.\1."))
    assert renamed(state, table) == {"layers.1.w": 1, "b": 2, "mlp.a": 3}
