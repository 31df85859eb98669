"""What the hub refuses is said in the same sentence, whoever asks it: a pipeline, a LoRA, a reward."""

from __future__ import annotations

import json
import threading
import warnings
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import tiny_models
from hub import COMMIT
from trimpot.adapters.checkpoints import Loading, load_pipeline
from trimpot.adapters.lora import merge_lora
from trimpot.defaults.proposal import propose
from trimpot.ground.errors import ConfigError, ModelError, ScoreError, TrimpotError
from trimpot.ground.hub import commit_of, hub_file, hub_folder
from trimpot.objectives.pretrained import Weights
from trimpot.prompts.published import PUBLISHED
from trimpot.setup.plugins import plugins

ASKERS: dict[str, tuple[type[TrimpotError], Callable[[str], object]]] = {
    "a pipeline": (ModelError, lambda name: load_pipeline(None, name, Loading())),
    "a name alone": (ModelError, lambda name: propose(name, memory="24GB")),
    "a LoRA": (ModelError, lambda name: merge_lora(tiny_models.tiny_sd3_transformer(), name)),
    "a reward's model": (ScoreError, lambda name: Weights(name).load("CLIPModel")),
    "a reward's tokenizer": (ScoreError, lambda name: Weights(name).load("AutoTokenizer")),
    "a reward's file": (ScoreError, lambda name: Weights(name).file("head.pt")),
    "a file": (ScoreError, lambda name: hub_file(name, "head.pt", error=ScoreError)),
    "a folder": (ModelError, lambda name: hub_folder(name, ["*.json"], "main", error=ModelError)),
    **{
        f"the prompts {name}": (ConfigError, lambda source, name=name: prompts(name, source=source))
        for name in (*PUBLISHED, "geneval")
    },
    "the paper's training prompts": (ConfigError, lambda name: prompts("calibri", t2i_compbench=name)),
}


def prompts(name: str, **options: str) -> object:
    return plugins().make("prompts", name, options)


REFUSALS = {
    "owner/gated": "owner/gated is gated: accept its licence at .*/owner/gated and log in with `hf auth login`",
    "owner/absent": "the hub shows no (data set )?owner/absent; correct the id, or log in",
    "owner/moved": "owner/moved has no revision",
    "not an id/x": "neither a folder here nor a hub id",
}


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
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield
    server.shutdown()
    server.server_close()
    thread.join()


def assert_told(asker: str, name: str, message: str) -> None:
    kind, ask = ASKERS[asker]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the hub's client may warn that no token is set
        with pytest.raises(kind, match=message) as error:
            ask(name)
    assert "\n" not in str(error.value) and not str(error.value).endswith(".")


@pytest.mark.parametrize("name", REFUSALS)
@pytest.mark.parametrize("asker", ASKERS)
@pytest.mark.usefixtures("refusing_hub")
def test_what_the_hub_refuses_is_said_in_one_sentence_to_everyone(asker: str, name: str) -> None:
    assert_told(asker, name, REFUSALS[name])


@pytest.mark.parametrize("asker", ASKERS)
@pytest.mark.usefixtures("hub_cache", "offline")
def test_without_network_and_cache_everyone_is_told_what_to_do(asker: str) -> None:
    unreachable = "the hub cannot be reached and owner/tiny is not wholly in its cache; check the network, or give"
    assert_told(asker, "owner/tiny", unreachable)


@pytest.mark.usefixtures("refusing_hub")
def test_the_licence_of_gated_prompts_is_on_the_page_of_the_data_set() -> None:
    assert_told("the prompts parti", "owner/gated", "https://huggingface.co/datasets/owner/gated and log in")


@pytest.mark.usefixtures("refusing_hub")
def test_a_file_that_a_repository_does_not_have_is_named() -> None:
    assert_told("a pipeline", "owner/empty", r"owner/empty has no model_index\.json at main")
    assert_told("a name alone", "owner/empty", r"owner/empty has no model_index\.json at main; if it is a transformer")
    assert_told("a reward's file", "owner/empty", r"owner/empty has no head\.pt at main")


def test_a_file_out_of_the_cache_has_no_commit(tmp_path: Path) -> None:
    assert commit_of(tmp_path / "snapshots" / COMMIT / "a.json", error=ModelError) == COMMIT
    with pytest.raises(ScoreError, match="is no file of the hub's cache; give the folder itself"):
        commit_of(tmp_path / "a.json", error=ScoreError)
