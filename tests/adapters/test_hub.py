"""Checkpoints on the hub: known by their commit, found without the network, and refusals said in a sentence."""

from __future__ import annotations

import json
import shutil
import threading
import warnings
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

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


class _Refusing(BaseHTTPRequestHandler):
    """A hub that answers as the real one does to those it does not let in."""

    answers: dict[str, tuple[int, str]] = {"gated": (403, "GatedRepo"), "absent": (401, "RepoNotFound")}  # noqa: RUF012
    answers |= {"empty": (404, "EntryNotFound"), "moved": (404, "RevisionNotFound")}

    def do_HEAD(self) -> None:
        name = next((each for each in self.answers if each in self.path), "absent")
        status, code = self.answers[name]
        body = json.dumps({"error": code}).encode()
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_HEAD  # noqa: N815

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def refusing_hub(hub_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    from huggingface_hub import constants

    server = ThreadingHTTPServer(("127.0.0.1", 0), _Refusing)
    address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}")
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("owner/gated", "owner/gated is gated: accept its licence at .*owner/gated and log in with `hf auth login`"),
        ("owner/absent", "the hub shows no owner/absent; correct the id, or log in"),
        ("owner/empty", r"owner/empty has no model_index\.json"),
        ("owner/moved", "owner/moved has no revision"),
        ("not an id/x", "neither a folder here nor a hub id"),
    ],
)
@pytest.mark.usefixtures("refusing_hub")
def test_what_the_hub_refuses_is_said_in_a_sentence(model: str, message: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the hub's client may warn that no token is set
        with pytest.raises(ModelError, match=message) as error:
            load_pipeline(None, model, Loading())
    assert is_one_sentence(error)
