"""Checkpoints on the hub: known by their commit, found without the network, and refusals said in a sentence."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from hub import COMMIT, cached
from safetensors.torch import load_file, save_file
from trimpot.adapters.checkpoints import Loading, load_pipeline
from trimpot.ground.errors import ModelError


def is_one_sentence(error: pytest.ExceptionInfo[ModelError]) -> bool:
    return "\n" not in str(error.value) and not str(error.value).endswith(".")


@pytest.fixture
def other(sd3_folder: Path, tmp_path: Path) -> Path:
    """A transformer folder of the same sizes with other weights."""
    folder = tmp_path / "other"
    shutil.copytree(sd3_folder / "transformer", folder)
    weights = folder / "diffusion_pytorch_model.safetensors"
    save_file({name: value * 0.5 for name, value in load_file(weights).items()}, weights, metadata={"format": "pt"})
    return folder


@pytest.mark.parametrize("revision", [None, "main", COMMIT])
def test_a_cached_checkpoint_is_known_by_its_commit_without_the_network(
    sd3_folder: Path, hub_cache: Path, offline: None, revision: str | None
) -> None:
    cached(hub_cache, "owner/tiny", sd3_folder)
    loading = Loading(dtype="float32", revision=revision)
    pipe, source = load_pipeline(None, "owner/tiny", loading)
    assert source == {"id": "owner/tiny", "revision": COMMIT}
    saved = load_file(sd3_folder / "transformer" / "diffusion_pytorch_model.safetensors")
    assert torch.equal(pipe.transformer.proj_out.weight, saved["proj_out.weight"])


def test_a_transformer_from_the_hub_is_known_by_its_commit(
    sd3_folder: Path, other: Path, hub_cache: Path, offline: None
) -> None:
    cached(hub_cache, "owner/tiny", sd3_folder)
    cached(hub_cache, "owner/other", other)
    single = "owner/other/diffusion_pytorch_model.safetensors"
    for model in ("owner/tiny", str(sd3_folder)):
        for name in ("owner/other", single):
            pipe, source = load_pipeline(None, model, Loading(dtype="float32", transformer=name))
            assert source["transformer"] == {"id": name, "revision": COMMIT}
            saved = load_file(other / "diffusion_pytorch_model.safetensors")
            assert torch.equal(pipe.transformer.proj_out.weight, saved["proj_out.weight"])


def test_without_network_and_cache_it_says_what_to_do(hub_cache: Path, offline: None) -> None:
    with pytest.raises(
        ModelError, match="the hub cannot be reached and owner/tiny is not wholly in its cache"
    ) as error:
        load_pipeline(None, "owner/tiny", Loading())
    assert is_one_sentence(error)


def test_a_half_cached_checkpoint_says_what_to_do(sd3_folder: Path, hub_cache: Path, offline: None) -> None:
    cached(hub_cache, "owner/tiny", sd3_folder)
    with pytest.raises(ModelError, match=r"no revision 'v9'|cannot be reached"):
        load_pipeline(None, "owner/tiny", Loading(revision="v9"))
