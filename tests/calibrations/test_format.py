"""The file: read for ever, described by a schema that is published, and nothing in it lost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from trimpot.adapters.transformer import TransformerAdapter
from trimpot.applying.recipe import recipe_of
from trimpot.calibrations.schema import schema, text
from trimpot.engine.calibration import CHECKSUM, Calibration
from trimpot.ground.errors import CalibrationError
from trimpot.setup.plugins import plugins

ROOT = Path(__file__).parents[2]
#: Files as they were written: the first, one with prompts counted, one with a checksum and a sample of the weights, and
#: one that no run made, with parents and without a gain. They are never written again.
KEPT = ("1-first", "1-prompts", "1-checksum", "1-parents")


def file_of(name: str) -> Path:
    return Path(__file__).parent / "files" / f"{name}.json"


def test_every_kept_file_is_in_the_table() -> None:
    assert {path.stem for path in (Path(__file__).parent / "files").iterdir()} == set(KEPT)


@pytest.mark.parametrize("name", KEPT)
def test_a_file_of_an_early_version_is_read_with_all_that_it_says(name: str, tmp_path: Path) -> None:
    made, values = Calibration.load(file_of(name)), json.loads(file_of(name).read_text(encoding="utf-8"))
    assert made.setting == values["setting"] and made.apply == values["apply"]
    assert made.num_steps == values["num_steps"] and made.provenance.run == values["provenance"]["run"]
    assert (made.gain is None) == (values["gain"] is None) == (name == "1-parents")
    if made.gain is not None:
        assert made.gain.mean == values["gain"]["mean"] and made.gain.num_prompts == values["gain"].get("num_prompts")
    made.save(tmp_path / "again.json")
    again = Calibration.load(tmp_path / "again.json")
    assert again == made
    assert _holds(json.loads((tmp_path / "again.json").read_text()), {**values, CHECKSUM: ...})


def _holds(found: Any, expected: Any) -> bool:
    """Whether everything expected is found, at its place."""
    if isinstance(expected, dict):
        return all(key in found and _holds(found[key], value) for key, value in expected.items())
    if isinstance(expected, list):
        return len(found) == len(expected) and all(map(_holds, found, expected))
    return expected is ... or found == expected


@pytest.mark.parametrize("name", KEPT)
def test_its_knobs_still_name_the_modules_that_they_scaled(name: str) -> None:
    """Names do not move: today's adapter makes of the setting the scales that the file has, by module path."""
    made = Calibration.load(file_of(name))
    granularity = made.backbone["granularity"]
    adapter = plugins().make("adapters", "shapes", {"granularity": granularity})
    assert isinstance(adapter, TransformerAdapter)
    assert set(adapter.space.names) == set(made.setting)
    for said, done in zip(recipe_of(made).members, adapter.layout.recipe(made.setting, made.setting), strict=True):
        assert said.scales == done["scales"] and said.weight == done["weight"]


def test_the_published_schema_is_that_of_the_code() -> None:
    assert (ROOT / "docs" / "calibration.schema.json").read_text(encoding="utf-8") == text(), (
        "write it anew: python -m trimpot.calibrations.schema > docs/calibration.schema.json"
    )


@pytest.mark.parametrize("name", KEPT)
def test_what_is_read_is_valid_by_the_schema(name: str) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    jsonschema.validate(json.loads(file_of(name).read_text(encoding="utf-8")), schema())


#: Changes to a file that both the schema and the reader must refuse.
WRONG: dict[str, Any] = {
    "another version": lambda v: v.update(schema_version=2),
    "a value that is text": lambda v: v["setting"].update({next(iter(v["setting"])): "1.0"}),
    "a value that is true": lambda v: v["setting"].update({next(iter(v["setting"])): True}),
    "no setting": lambda v: v.pop("setting"),
    "no provenance": lambda v: v.pop("provenance"),
    "half a step": lambda v: v.update(num_steps=4.5),
    "no steps": lambda v: v.update(num_steps=0),
    "a gain without a mean": lambda v: v["gain"].pop("mean"),
    "images below zero": lambda v: v["gain"].update(num_images=-1),
    "a member that sees nothing": lambda v: v["apply"]["members"][0].update(sees="nothing"),
    "a member without scales": lambda v: v["apply"]["members"][0].update(scales={}),
    "a scale beyond bounds": lambda v: v["apply"]["members"][0].update(weight=1e9),
    "an unknown word in what is applied": lambda v: v["apply"].update(surprise=1),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_the_schema_refuses_is_refused_when_read(name: str, tmp_path: Path) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    values = json.loads(file_of("1-checksum").read_text(encoding="utf-8"))
    del values[CHECKSUM]
    WRONG[name](values)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(values, schema())
    (tmp_path / "wrong.json").write_text(json.dumps(values))
    with pytest.raises(CalibrationError):
        recipe_of(Calibration.load(tmp_path / "wrong.json"))


def test_unknown_keys_are_kept_everywhere_but_in_what_is_applied(tmp_path: Path) -> None:
    values = json.loads(file_of("1-first").read_text(encoding="utf-8"))
    values["later"] = {"a": [1, None]}
    for part in (values["backbone"], values["gain"], values["by_steps"][0], values["provenance"]):
        part["later"] = "kept"
    (tmp_path / "later.json").write_text(json.dumps(values))
    Calibration.load(tmp_path / "later.json").save(tmp_path / "again.json")
    assert _holds(json.loads((tmp_path / "again.json").read_text()), values)


def test_the_page_names_every_key_of_the_file() -> None:
    page = (ROOT / "docs" / "calibration-format.md").read_text(encoding="utf-8")
    named = {name for part in schema()["$defs"].values() for name in part.get("properties", {})}
    for name in {*schema()["properties"], *named}:
        assert f"`{name}`" in page, f"docs/calibration-format.md does not name {name}"


def test_the_file_that_the_page_shows_can_be_read(tmp_path: Path) -> None:
    """It matches its checksum and the schema of today."""
    page = (ROOT / "docs" / "calibration-format.md").read_text(encoding="utf-8")
    shown = page.split("```json\n")[1].split("```")[0]
    (tmp_path / "shown.json").write_text(shown, encoding="utf-8")
    assert Calibration.load(tmp_path / "shown.json").setting == json.loads(shown)["setting"]
