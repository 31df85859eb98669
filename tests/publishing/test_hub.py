"""A calibration is pushed with the hub's own client, pulled elsewhere, and is the same."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from hub_server import Hub, known_hub
from published import published_run
from trimpot.applying.located import located_calibration
from trimpot.engine.calibration import Calibration
from trimpot.ground.errors import CalibrationError
from typer.testing import CliRunner


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    monkeypatch.chdir(tmp_path)
    with known_hub(monkeypatch, tmp_path / "cache") as served:
        yield served


def run(*arguments: str) -> dict[str, object]:
    from trimpot.cli import app

    found = CliRunner().invoke(app, [*arguments, "--json"])
    if found.exception and not isinstance(found.exception, SystemExit):
        raise found.exception
    assert found.exit_code == 0, found.output
    return dict(json.loads(found.stdout))


def test_what_is_pushed_is_pulled(hub: Hub, tmp_path: Path) -> None:
    file = published_run(tmp_path / "trimpot-runs" / "shapes-1")
    told = run("push", "shapes-1", "somebody/shapes-calibrated")
    assert told["pushed"] == f"{hub.address}/somebody/shapes-calibrated"
    kept = hub.files["somebody/shapes-calibrated"]
    assert {"README.md", "calibration.json", "reproduce.yaml", "images/00-neutral.png"} <= set(kept)
    assert not any("sqlite" in name or name.startswith(".") for name in kept)
    told = run("pull", "somebody/shapes-calibrated", "--to", "pulled")
    folder = Path(str(told["folder"]))
    assert Calibration.load(folder / "calibration.json") == Calibration.load(file)
    for name, content in kept.items():
        assert (folder / name).read_bytes() == content
    assert Calibration.load(located_calibration("somebody/shapes-calibrated")) == Calibration.load(file)


def test_a_private_repository_is_made_private(hub: Hub, tmp_path: Path) -> None:
    published_run(tmp_path / "trimpot-runs" / "shapes-1")
    run("push", "shapes-1", "somebody/secret", "--private")
    assert hub.private == {"somebody/secret"}


def test_without_a_login_only_the_folder_is_written(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    published_run(tmp_path / "trimpot-runs" / "shapes-1")
    told = run("push", "shapes-1", "somebody/shapes-calibrated")
    assert told == {"folder": "shapes-calibrated", "pushed": None}
    assert not hub.files
    config = yaml.safe_load(Path("shapes-calibrated/reproduce.yaml").read_text())
    assert config["adapter"]["name"] == "shapes"


def test_all_that_carry_the_tag_are_on_one_page(hub: Hub, tmp_path: Path) -> None:
    published_run(tmp_path / "trimpot-runs" / "shapes-1")
    for name in ("one", "two"):
        run("push", "shapes-1", f"somebody/{name}", "--to", name)
    hub.commit("somebody/other", {"README.md": b"---\ntags:\n- other\n---\n# other\n"})
    told = run("gallery", "trimpot", "--to", "page.html")
    assert sorted(told["calibrations"]) == ["somebody/one", "somebody/two"]  # type: ignore[call-overload]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("push", "shapes-1", "shapes-calibrated"), "is no repository of the hub; give owner/name"),
        (("push", "shapes-9", "somebody/x"), "no calibration 'shapes-9'"),
        (("push", "shapes-1", "stranger/x"), "you may not write to stranger/x"),
        (("push", "shapes-1", "somebody/trimpot-runs"), "trimpot-runs exists already"),
        (("pull", "somebody/absent"), "the hub shows no somebody/absent"),
        (("pull", "somebody/other"), "somebody/other holds no calibration.json"),
        (("gallery", "no/such/folder"), "there is no folder no/such/folder"),
    ],
)
def test_what_the_hub_refuses_is_one_sentence(hub: Hub, tmp_path: Path, arguments: tuple[str, ...], told: str) -> None:
    published_run(tmp_path / "trimpot-runs" / "shapes-1")
    hub.commit("somebody/other", {"README.md": b"# other\n"})
    with pytest.raises(CalibrationError) as error:
        run(*arguments)
    assert told in str(error.value)


def test_an_unknown_token_and_no_network_are_one_sentence(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    published_run(tmp_path / "trimpot-runs" / "shapes-1")
    monkeypatch.setenv("HF_TOKEN", "hf_" + "b" * 34)
    with pytest.raises(CalibrationError, match="log in with `hf auth login`"):
        run("push", "shapes-1", "somebody/x")
    monkeypatch.setattr("huggingface_hub.utils._http._DEFAULT_RETRY_ON_EXCEPTIONS", ())
    monkeypatch.setattr("huggingface_hub.hf_api.constants.ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(CalibrationError, match="the hub cannot be reached for somebody/y"):
        run("push", "shapes-1", "somebody/y")
