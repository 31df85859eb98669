"""Two things that differ never have one identity: every option, every key, every line of a plugin's code."""

from __future__ import annotations

import inspect
import itertools
import sys
import types
import typing
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from closed_form import SMALL, Height, Hill, MemoryStore, Notes, hill_run
from pydantic import BaseModel, TypeAdapter, ValidationError
from trimpot.engine.config import load_config
from trimpot.engine.errors import ConfigError
from trimpot.engine.hooks import hookimpl
from trimpot.engine.identity import (
    CHANGES_NO_NUMBER,
    KEYS_CHANGE_NO_NUMBER,
    code_digest,
    made_of,
    unnumbered_options,
)
from trimpot.engine.loop import calibrate
from trimpot.engine.plugins import KINDS, Plugins, plugins
from trimpot.engine.schema import Config
from trimpot.engine.seams import Objective

GIVEN_BY_THE_ENGINE = {"start", "seed"}
VALUES = [
    *(1, 2, 0.25, 0.5, 57, 76, 8, 16, True, False, "one", "two", "DE", "PSO"),
    *(["conditional"], ["conditional", "conditional"], ["single_object"], ["two_object"], [2.0], [2.0, 3.0]),
    *({"one": "two"}, {"one": "three"}, {"one": 1.0}, {"one": 2.0}, {"block": 2}),
]


def accepted(annotation: Any, folder: Path) -> list[Any]:
    """Two values that an option accepts and that differ."""
    if annotation is Path:
        for name in ("one", "two"):
            (folder / name).write_text(name)
        return [folder / "one", folder / "two"]
    hints = annotation if not isinstance(annotation, str) else Any
    choices = list(_literals(hints))
    adapter, found = TypeAdapter(hints), []
    for value in [*choices, *VALUES]:
        try:
            adapter.validate_python(value, strict=None)
        except (ValidationError, ConfigError):
            continue
        if all(value != other for other in found):
            found.append(value)
        if len(found) == 2:
            break
    return found


def _literals(annotation: Any) -> Iterator[Any]:
    if typing.get_origin(annotation) is typing.Literal:
        yield from typing.get_args(annotation)
    for inner in typing.get_args(annotation):
        yield from _literals(inner)


def every_option() -> list[Any]:
    found = []
    for kind in KINDS:
        for registration in plugins().registrations(kind):
            if registration.origin != "trimpot":
                continue
            hints = typing.get_type_hints(registration.factory, include_extras=True)
            for parameter in inspect.signature(registration.factory).parameters.values():
                if parameter.kind is parameter.KEYWORD_ONLY and parameter.name not in GIVEN_BY_THE_ENGINE:
                    option = (registration, parameter.name, hints.get(parameter.name, parameter.annotation))
                    found.append(pytest.param(*option, id=f"{kind}-{registration.name}-{parameter.name}"))
    return found


@pytest.mark.parametrize(("registration", "option", "annotation"), every_option())
def test_every_option_is_part_of_the_identity_or_declared_to_change_no_number(
    registration: Any, option: str, annotation: Any, tmp_path: Path
) -> None:
    one, two = accepted(annotation, tmp_path)
    kind, name = registration.kind, registration.name
    identities = [made_of(kind, name, "trimpot", registration.factory, None, {option: value}) for value in (one, two)]
    if option in unnumbered_options(kind, name):
        assert identities[0] == identities[1]
    else:
        assert identities[0] != identities[1]


def test_the_walk_over_options_is_long_and_the_list_of_exceptions_short() -> None:
    options = every_option()
    assert len(options) > 250
    known = {(p.values[0].kind, p.values[0].name, p.values[1]) for p in options}
    for (kind, name), reasons in CHANGES_NO_NUMBER.items():
        for option, reason in reasons.items():
            assert any(k == kind and name in ("*", n) and o == option for k, n, o in known) or option == "offload"
            assert len(reason) > 20


def keys(model: type[BaseModel], above: str = "") -> Iterator[tuple[str, Any]]:
    for name, field in model.model_fields.items():
        inner = [kind for kind in (field.annotation, *typing.get_args(field.annotation)) if inspect.isclass(kind)]
        sections = [kind for kind in inner if issubclass(kind, BaseModel) and kind.__name__ not in ("Part", "Reward")]
        if sections:
            yield from keys(sections[0], f"{above}{name}.")
        else:
            yield above + name, field


CHANGES: dict[str, Any] = {
    "adapter": "other-hill", "objectives": "other-height", "combine": "pareto", "prompts": "other-views",
    "optimizer": "random", "protocol": None, "name": "another", "start": None, "ladder": {}, "keep": "all",
    "group_size": 2, "by_steps.steps": [],
    "workers": 2, "workers.processes": 2, "workers.ray": 2, "workers.mixed": True,
}  # fmt: skip


PARTS = ("adapter", "objectives", "combine", "prompts", "start", "protocol", "by_steps.steps", "ladder")  # see below
ALONE = ("workers.address",)  # that can be given beside another key only


@pytest.mark.parametrize("key", [key for key, _ in keys(Config) if key not in (*PARTS, *ALONE)])
def test_every_key_of_a_configuration_is_part_of_a_run_s_identity_or_declared_to_change_no_number(key: str) -> None:
    field = dict(keys(Config))[key]
    base = {**SMALL, "bucket_size": 4, "optimizer": {"name": "cma-es", "population_size": 8}}
    if key.startswith("adaptive_bucket."):
        base["adaptive_bucket"] = {"largest": 60}
    if key.startswith("sensitivity."):
        base["sensitivity"] = {"num_prompts": 7}
    before = load_config(base)
    for value in [CHANGES.get(key), *accepted(typing.Annotated[(field.annotation, *field.metadata, None)], Path())]:
        if value is None:
            continue
        try:
            after = load_config(base, [f"{key}={value}"])
        except Exception:
            continue
        if after == before:
            continue
        assert (after.fingerprint == before.fingerprint) == (key.partition(".")[0] in KEYS_CHANGE_NO_NUMBER)
        return
    pytest.fail(f"no other value of {key} was found")


def test_parts_prompts_and_start_are_part_of_a_run_s_identity() -> None:
    class Moved(Hill):
        def describe(self) -> dict[str, Any]:
            return {"id": "moved hill"}

    base = hill_run()
    others = [
        hill_run(adapter=Moved()),
        hill_run({"combine": "pareto"}),
        hill_run({"optimizer": {"name": "cma-es", "mirrored": True}}),
        hill_run({"ladder": {}, "by_steps": {"num_prompts": 5}}),
    ]
    identities = [run.identity for run in (base, *others)]
    assert len(set(identities)) == len(identities)
    contexts = [run.context for run in (base, others[0], others[1])]
    assert len(set(contexts)) == 3
    assert others[2].context == base.context, "scores do not depend on who searches"


# Code


def plugin(folder: Path, name: str, text: str) -> Any:
    """A plugin's module, as if it had been imported from a file."""
    (folder / f"{name}.py").write_text(text)
    spec = importlib_spec(name, folder / f"{name}.py")
    module = types.ModuleType(name)
    module.__spec__, module.__file__ = spec, str(folder / f"{name}.py")
    sys.modules[name] = module
    exec(compile(text, module.__file__, "exec"), module.__dict__)
    return module


def importlib_spec(name: str, path: Path) -> Any:
    import importlib.util

    return importlib.util.spec_from_file_location(name, path)


REWARD = """
from trimpot import Objective
import numpy as np

class Mine(Objective):
    def score(self, outputs, prompts):
        return np.array([helped(each) for each in outputs])

def helped(output):
    return 100 + float(output)
"""


def test_a_reward_whose_code_was_edited_is_another_reward(tmp_path: Path) -> None:
    digests = []
    for number, text in enumerate([REWARD, REWARD.replace("100", "500"), REWARD, REWARD + "\n# a note\n"]):
        folder = tmp_path / str(number)
        folder.mkdir()
        module = plugin(folder, "my_reward", text)
        digests.append(code_digest(module.Mine, module.Mine()))
        del sys.modules["my_reward"]
    assert digests[0] == digests[2], "where it lies does not matter"
    assert len(set(digests)) == 3


@pytest.mark.parametrize("edited", ["100", "Objective)", "helped(each)"])
def test_code_without_a_file_counts_as_it_was_compiled(edited: str) -> None:
    made = []
    for text in (REWARD, REWARD.replace(edited, {"100": "500", "Objective)": "Objective, object)"}.get(edited, "7.0"))):
        space: dict[str, Any] = {"__name__": "__main__"}
        exec(compile(text, "<notebook>", "exec"), space)
        made.append(code_digest(space["Mine"], space["Mine"]()))
    if edited == "helped(each)":
        assert made[0] != made[1]


def test_an_edited_reward_is_scored_anew_and_never_found_in_the_store(tmp_path: Path) -> None:
    """Between two processes an author edits a line; the store must not answer for the reward that was."""
    text = REWARD.replace("float(output)", "-np.square(output).sum()")
    store, best = MemoryStore(), []
    for number, edited in enumerate((text, text.replace("100", "500"), text)):
        (folder := tmp_path / str(number)).mkdir()
        module = plugin(folder, "my_reward", edited)
        notes = Notes()
        outcome = calibrate(replace(hill_run(objective=module.Mine()), id=f"run-{number}"), store, notes)
        best.append((outcome.comparisons[0].neutral // 100, len(store.evaluations)))
        del sys.modules["my_reward"]
    assert [score for score, _ in best] == [best[0][0], best[0][0] + 4, best[0][0]]
    assert best[1][1] == 2 * best[0][1] and best[2][1] == best[1][1], (
        "the third run finds all that the first one scored"
    )


def test_descriptions_of_any_plain_kind_are_taken() -> None:
    class Told(Hill):
        def describe(self) -> dict[str, Any]:
            return {"id": "hill", "size": np.int64(3), "kinds": {"b", "a"}, "file": Path("a/b"), "most": np.inf}

    described = hill_run(adapter=Told()).description["adapter"]
    assert (described["size"], described["kinds"], described["file"]) == (3, ["a", "b"], "a/b")
    assert described["most"] == "Infinity"


def test_no_built_in_has_the_code_of_another_room() -> None:
    rooms = {
        kind: {
            made_of(kind, each.name, "trimpot", each.factory, None, {})["code"]
            for each in plugins().registrations(kind)
        }
        for kind in ("adapters", "objectives", "optimizers")
    }
    for one, two in itertools.combinations(rooms.values(), 2):
        assert not one & two


def test_a_plugin_by_another_author_has_no_option_that_changes_no_number() -> None:
    def factory(*, offload: str = "none", url: str = "") -> Objective:
        return Height()

    class Remoteness:
        @hookimpl
        def register_objectives(self, register: Any) -> None:
            register("remote-like", factory)

    known = Plugins()
    known.add(Remoteness(), name="remoteness", origin="somebody")
    one, two = (known.made_of("objectives", "remote-like", Height(), {"url": url}) for url in ("a", "b"))
    assert one != two
