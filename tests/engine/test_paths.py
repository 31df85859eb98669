"""Relative paths obey one rule, whatever names a file: a file's are its own, what is typed is seen from here."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from trimpot.comparison.design import read_design
from trimpot.ground.errors import ConfigError
from trimpot.setup.config import load_config, read_values, typed_options
from trimpot.setup.parts import PARTS, parts_of
from trimpot.setup.paths import anchored_options
from trimpot.setup.plugins import plugins

PLACES = {kind: (place,) for place, kind in PARTS.items()} | {"objectives": ("objectives", "it")}
BASE: dict[str, Any] = {"adapter": "sphere", "objectives": "value", "prompts": "numbers"}


def options_that_are_paths(folder: Path) -> list[tuple[str, str, str, bool]]:
    """Kind, part and option of everything that names files, and whether it does so always."""
    found = []
    for kind in PLACES:
        for each in plugins().registrations(kind):
            for option in each.options:
                explicit = anchored_options({option.name: "./x"}, [option], folder)[option.name] != "./x"
                always = anchored_options({option.name: "absent/x"}, [option], folder)[option.name] != "absent/x"
                if explicit:
                    found.append((kind, each.name, option.name, always))
    return found


PATHS = options_that_are_paths(Path("/nowhere"))


def with_option(kind: str, name: str, option: str, value: str) -> dict[str, Any]:
    part = {"name": name, option: value}
    return {**BASE, **({"objectives": {"it": part}} if kind == "objectives" else {PLACES[kind][0]: part})}


def said(values: dict[str, Any], kind: str, option: str) -> str:
    return os.path.normpath(parts_of(values)[PLACES[kind]].options[option])


def test_every_option_that_names_weights_or_files_is_one() -> None:
    """The options of built-ins that are known to name local files or checkpoints; a new one belongs here."""
    names = {option for _, _, option, _ in PATHS}
    assert names == {
        *("model", "transformer", "lora", "processor", "clip", "tokenizer", "base", "vision", "detector", "head"),
        *("metadata", "schema", "train", "validation", "test", "run"),
        *("source", "hpdv3", "t2i_compbench"),  # of prompts by name
    }
    assert len(PATHS) >= 35
    always = {"metadata", "schema", "train", "validation", "test", "run"}
    assert {option for _, _, option, is_one in PATHS if is_one} == always


@pytest.mark.parametrize(("kind", "name", "option", "always"), PATHS, ids=lambda each: str(each))
def test_a_path_is_relative_to_its_file_or_to_where_it_is_typed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, name: str, option: str, always: bool
) -> None:
    project, here = tmp_path / "project", tmp_path / "here"
    for folder in (project / "owner" / "name", here / "other" / "name"):
        folder.mkdir(parents=True)
    monkeypatch.chdir(here)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    dotted = ".".join([*PLACES[kind], option])
    expected = {
        "./x": (project / "x", here / "x"),
        "../x": (tmp_path / "x",) * 2,
        "~/x": (tmp_path / "home" / "x",) * 2,
        "/x": (Path("/x"),) * 2,
        "owner/name": (project / "owner" / "name", here / "owner" / "name" if always else "owner/name"),
        "nobody/name": (project / "nobody" / "name", here / "nobody" / "name") if always else ("nobody/name",) * 2,
    }
    for value, (of_file, typed) in expected.items():
        (project / "my.yaml").write_text(yaml.safe_dump(with_option(kind, name, option, value)))
        assert said(read_values("../project/my.yaml")[0], kind, option) == str(of_file)
        assert said(read_values(with_option(kind, name, option, value))[0], kind, option) == str(typed)
        overridden = read_values("../project/my.yaml", [f"{dotted}={value}"])[0]
        assert said(overridden, kind, option) == str(typed)
        if kind in ("adapters", "objectives"):
            [found] = typed_options(kind, name, [f"{option}={value}"], plugins()).values()
            assert os.path.normpath(found) == str(typed)


def test_what_is_only_seen_from_here_is_refused_in_a_file_that_lies_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It could be meant for the local folder or for the hub's, and a wrong guess would be another model."""
    (tmp_path / "project").mkdir()
    (tmp_path / "owner" / "name").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "project" / "my.yaml"
    path.write_text(yaml.safe_dump({**BASE, "adapter": {"name": "flux", "model": "owner/name"}}))
    with pytest.raises(
        ConfigError, match=r"model 'owner/name' is in the working folder, but not in .*project"
    ) as caught:
        load_config(path)
    assert "\n" not in str(caught.value)


def test_the_start_obeys_the_same_rule(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/me")
    path = tmp_path / "project" / "my.yaml"
    path.write_text(yaml.safe_dump({**BASE, "start": "best.json"}))
    assert load_config(path).start == str(tmp_path / "project" / "best.json")
    assert load_config(path, ["start=best.json"]).start == str(tmp_path / "best.json")
    assert load_config({**BASE, "start": "~/best.json"}).start == "/home/me/best.json"
    with pytest.raises(ConfigError, match="names a home folder that is not known here"):
        load_config({**BASE, "start": "~nobody-at-all/best.json"})
    with pytest.raises(ConfigError, match="is no path"):
        load_config({**BASE, "start": "a\0b"})


def test_a_comparison_s_paths_are_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In its configuration, its overrides and its contenders; dotted or nested."""
    project = tmp_path / "project"
    project.mkdir()
    monkeypatch.chdir(tmp_path)
    files = {"train": "a.txt", "validation": "b.txt"}
    asked = {
        "config": {**BASE, "prompts": {"name": "files", **files, "test": "c.txt"}},
        "overrides": {"prompts.test": "d.txt"},
        "contenders": {"a": {"start": "best.json"}, "b": {"optimizer": "random"}},
        "images": 2000,
    }
    (project / "night.yaml").write_text(yaml.safe_dump(asked))
    design = read_design("project/night.yaml")
    expected = {"train": str(project / "a.txt"), "validation": str(project / "b.txt"), "test": str(project / "d.txt")}
    assert design.contenders["a"].prompts.options == design.contenders["b"].prompts.options == expected
    assert design.contenders["a"].start == str(project / "best.json")


def test_options_of_options_are_anchored_too(tmp_path: Path) -> None:
    """Lists and mappings of paths, as a plugin may have them."""
    from trimpot.setup.factory import Options

    def mine(*, files: list[Path], named: dict[str, Path] | None = None, words: list[str] | None = None) -> None: ...

    known = Options(mine, "objectives")
    given = {"files": ["a", "/b"], "named": {"c": "d"}, "words": ["./e"]}
    assert anchored_options(given, known, tmp_path) == {
        "files": [str(tmp_path / "a"), "/b"],
        "named": {"c": str(tmp_path / "d")},
        "words": ["./e"],
    }


@pytest.mark.parametrize("value", ["x" * 5000, "org/na\0me"])
def test_what_no_file_can_be_called_is_taken_for_a_name_on_the_hub(value: str, tmp_path: Path) -> None:
    """It is refused by whoever looks for it there."""
    options = {(kind, each.name): each.options for kind in PLACES for each in plugins().registrations(kind)}
    asked = [(kind, name, option) for kind, name, option, always in PATHS if not always]
    assert len(asked) >= 10
    for kind, name, option in asked:
        [found] = [each for each in options[kind, name] if each.name == option]
        assert anchored_options({option: value}, [found], tmp_path) == {option: value}
