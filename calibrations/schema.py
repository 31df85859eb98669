"""The JSON Schema of a calibration file, made from the models that read it.

python -m trimpot.calibrations.schema > docs/calibration.schema.json
"""

from __future__ import annotations

import inspect
import json
import re
from typing import Any

from ..applying.recipe import Recipe
from ..engine.calibration import CHECKSUM, SCHEMA_VERSION, Calibration

DRAFT = "https://json-schema.org/draft/2020-12/schema"


def schema() -> dict[str, Any]:
    """Return the schema: the file's values, its checksum, and what `apply` holds for a diffusion pipeline."""
    whole, recipe = Calibration.model_json_schema(), Recipe.model_json_schema()
    definitions = {**whole.pop("$defs"), **recipe.pop("$defs"), "Recipe": recipe}
    for described in (whole, *definitions.values()):
        _describe(described)
    properties = dict(whole.pop("properties"))
    properties["apply"] = {
        "description": "What is scaled in a diffusion pipeline; empty or of another kind for any other backbone.",
        "anyOf": [{"$ref": "#/$defs/Recipe"}, {"type": "object", "not": {"required": ["transformer"]}}],
    }
    checksum = {"type": "string", "description": "A digest of all other values; a file without one is taken as it is."}
    return {
        "$schema": DRAFT,
        **{**whole, "title": f"trimpot calibration, schema version {SCHEMA_VERSION}"},
        "properties": {**properties, CHECKSUM: checksum},
        "$defs": definitions,
    }


def _describe(part: dict[str, Any]) -> None:
    """Move the descriptions of attributes from a docstring to the properties, and leave out generated titles."""
    first, _, attributes = inspect.cleandoc(part.get("description", "")).partition("\n\nAttributes:\n")
    part["description"] = " ".join(first.split())
    found = re.findall(r"^    (\w+): (.*(?:\n {8}.*)*)", attributes, re.MULTILINE)
    for name, words in found:
        part["properties"].get(name, {})["description"] = " ".join(words.split())
    for each in part["properties"].values():
        each.pop("title", None)


def text() -> str:
    """Return the schema as the text of its file."""
    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    print(text(), end="")
