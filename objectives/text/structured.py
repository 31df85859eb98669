"""Whether a text is valid JSON, and of the form that a schema asks for."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from ...engine.seams import Output
from ...ground.errors import ConfigError, ScoreError
from ...ground.extras import require
from ...ground.plain import quoted
from .patterns import Pattern
from .texts import KeyedObjective, json_of, unfenced

REFERRING = ("$ref", "$dynamicRef", "$recursiveRef")


class ValidJson(KeyedObjective):
    """1 if a text is valid JSON, and valid by a schema if there is one, else 0.

    Args:
        schema: A file with a JSON schema; None asks for valid JSON only, unless `by_prompt`.
        by_prompt: Whether each prompt's record holds its own `schema`, an object or a JSON text.
        fenced: Whether the text may put its JSON in a block between lines of three backticks.

    Raises:
        ConfigError: If the schema cannot be read or is none, or both kinds of schemas are asked for.
        MissingError: If a schema is asked for and jsonschema is not installed.
    """

    def __init__(self, schema: Path | None, by_prompt: bool, fenced: bool) -> None:
        if schema is not None and by_prompt:
            raise ConfigError("objective 'json': schema and by_prompt exclude each other; leave one out")
        own = None if schema is None else _read(schema)
        super().__init__("json", ("schema",) if by_prompt else (), fenced=fenced, by_prompt=by_prompt, schema=own)
        if schema is not None or by_prompt:
            require("objective 'json' with a schema", "jsonschema")
        self._by_prompt, self._fenced = by_prompt, fenced
        self._own = None if schema is None else _validator(own, f"the schema {schema}", ConfigError)
        self._known: dict[str, Any] = {}

    def worth(self, output: Output, prompt: str) -> float:
        """See `TextObjective.worth`."""
        validator = self._validator_of(prompt) if self._by_prompt else self._own
        text = self.text(output)
        try:
            value = json_of(unfenced(text) if self._fenced else text)
        except ValueError:
            return 0.0
        return float(validator is None or bool(validator.is_valid(value)))

    def _validator_of(self, prompt: str) -> Any:
        said = self.said_of(prompt, "schema")
        key = said if isinstance(said, str) else json.dumps(said, sort_keys=True)
        if key not in self._known:
            whose = f"objective 'json': the `schema` of {quoted(prompt)}"
            try:
                schema = json_of(said) if isinstance(said, str) else said
            except ValueError as error:
                raise ScoreError(f"{whose} is no JSON: {error}") from None
            self._known[key] = _validator(schema, whose, ScoreError)
        return self._known[key]


def _read(path: Path) -> Any:
    try:
        return json_of(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"cannot read the schema {path}: {reason}") from None


def _validator(schema: Any, whose: str, error: type[ConfigError | ScoreError]) -> Any:
    import jsonschema  # type: ignore[import-untyped]

    if not isinstance(schema, (dict, bool)):
        raise error(f"{whose} is no JSON schema: it is a {type(schema).__name__}")
    kind = jsonschema.validators.validator_for(schema, default=jsonschema.Draft202012Validator)
    try:
        kind.check_schema(schema)
    except jsonschema.SchemaError as problem:
        raise error(f"{whose} is no JSON schema: {' '.join(problem.message.split())[:200]}") from None
    for reference in _references(schema):
        if not reference.startswith("#"):
            raise error(f"{whose} refers to {reference[:80]!r}, which is not read; put it into the schema itself")
    limited = jsonschema.validators.extend(kind, _within_limits(whose))
    return limited(schema)  # which would fetch only what was refused above


def _within_limits(whose: str) -> dict[str, Any]:
    """Return how a validator matches the expressions of a schema, so that none of them takes forever."""
    import jsonschema

    compiled = functools.lru_cache(256)(partial(Pattern, whose=f"{whose}: pattern", error=ScoreError))

    def pattern(validator: Any, wanted: str, instance: Any, schema: Any) -> Iterator[Any]:
        if validator.is_type(instance, "string") and not compiled(wanted).search(instance):
            yield jsonschema.ValidationError(f"it does not match {wanted!r}")

    def pattern_properties(validator: Any, wanted: Any, instance: Any, schema: Any) -> Iterator[Any]:
        for key, value in instance.items() if validator.is_type(instance, "object") else ():
            for each, inner in wanted.items():
                if compiled(each).search(key):
                    yield from validator.descend(value, inner, path=key, schema_path=each)

    return {"pattern": pattern, "patternProperties": pattern_properties}


def _references(schema: Any) -> list[str]:
    if isinstance(schema, dict):
        own = [schema[key] for key in REFERRING if isinstance(schema.get(key), str)]
        return own + [each for value in schema.values() for each in _references(value)]
    return [each for value in schema for each in _references(value)] if isinstance(schema, list) else []
