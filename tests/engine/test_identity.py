"""Two things that differ never have one identity: every option of every part, every key, every kind of plugin."""

from __future__ import annotations

import inspect
import itertools
import os
import typing
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pytest
from closed_form import SMALL, Height, Hill, hill_run, prompt_set
from pydantic import BaseModel, TypeAdapter, ValidationError
from trimpot.engine.code import Code
from trimpot.engine.hooks import hookimpl
from trimpot.engine.identity import CHANGES_NO_NUMBER, KEYS_CHANGE_NO_NUMBER, changing_no_number, made_of
from trimpot.engine.run import Run
from trimpot.engine.schema import Config
from trimpot.engine.seams import Adapter, Objective
from trimpot.ground.errors import ConfigError, TrimpotError
from trimpot.setup.assembly import libraries, origins_of, versions
from trimpot.setup.config import load_config
from trimpot.setup.plugins import KINDS, Plugins, Registration, plugins

GIVEN_BY_THE_ENGINE = {"start", "seed"}
KEY_OF = {"adapters": "adapter", "combinations": "combination", "optimizers": "optimizer"}
VALUES = [
    *(1, 2, 0.25, 0.5, 57, 76, 8, 16, 64, 128, True, False, "one", "two", "DE", "PSO"),
    *(["conditional"], ["conditional", "conditional"], ["single_object"], ["two_object"]),
    *([2.0], [2.0, 3.0], [0.5], [0.5, 1.0]),
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
    for value in [*choices, *([choice] for choice in choices), *VALUES]:
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
    for kind in (kind for kind in KINDS if kind not in KEYS_CHANGE_NO_NUMBER):
        for registration in plugins().registrations(kind):
            if registration.origin != "trimpot":
                continue
            hints = typing.get_type_hints(registration.factory, include_extras=True)
            for parameter in inspect.signature(registration.factory).parameters.values():
                if parameter.kind is parameter.KEYWORD_ONLY and parameter.name not in GIVEN_BY_THE_ENGINE:
                    option = (registration, parameter.name, hints.get(parameter.name, parameter.annotation))
                    found.append(pytest.param(*option, id=f"{kind}-{registration.name}-{parameter.name}"))
    return found


def of_parts(run: Run, kind: str, made: Mapping[str, Any]) -> Run:
    """A run one of whose parts is made of something else."""
    origins = dict(run.origins())
    if kind == "objectives":
        origins["objectives"] = {**origins["objectives"], "height": made}
    else:
        origins[KEY_OF[kind]] = made
    return replace(run, origins=lambda: origins)


@pytest.fixture(scope="module")
def run() -> Run:
    return hill_run()


@pytest.mark.parametrize(("registration", "option", "annotation"), every_option())
def test_every_option_is_part_of_the_identity_or_declared_to_change_no_number(
    registration: Registration, option: str, annotation: Any, run: Run, tmp_path: Path
) -> None:
    kind, name = registration.kind, registration.name
    values = accepted(annotation, tmp_path)
    made = [plugins().made_of(kind, name, None, given) for given in [{option: value} for value in values]]
    assert (made[0] == made[1]) == (option in changing_no_number(kind, name))
    if kind == "prompts":  # they count by the prompts they make, and have an identity only in a comparison's design
        return
    runs = [of_parts(run, kind, each) for each in made]
    assert (runs[0].identity == runs[1].identity) == (option in changing_no_number(kind, name))
    if kind == "optimizers":
        assert runs[0].context == runs[1].context == run.context, "a score does not depend on who asked for it"
    else:
        assert (runs[0].context == runs[1].context) == (option in changing_no_number(kind, name))


def test_the_walk_over_options_is_long_and_the_list_of_exceptions_short() -> None:
    options = every_option()
    assert len(options) > 250
    known = {(p.values[0].kind, p.values[0].name, p.values[1]) for p in options}
    for (kind, name), reasons in CHANGES_NO_NUMBER.items():
        for option, reason in reasons.items():
            assert any(k == kind and name in ("*", n) and o == option for k, n, o in known) or option == "offload"
            assert len(reason) > 20


def test_a_default_counts_as_if_it_were_given() -> None:
    given = [{}, {"direction": "incompressible"}, {"direction": "compressible"}]
    codes = [plugins().made_of("objectives", "jpeg-size", None, options) for options in given]
    assert codes[0] == codes[1] != codes[2]


@pytest.mark.parametrize("annotated", ["str", "Path", "list", "dict", "nothing"])
@pytest.mark.parametrize("written", ["absolute", "relative", "a bare word", "below"])
@pytest.mark.parametrize("what", ["file", "folder", "folder of pictures"])
def test_a_file_or_folder_counts_by_what_it_holds(
    annotated: str, written: str, what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Moved elsewhere it is the same; edited in place it is another."""

    def factory(*, source: Any = None) -> Objective:
        return Height()

    if annotated != "nothing":
        factory.__annotations__["source"] = {"str": str, "Path": Path, "list": list[str], "dict": dict[str, str]}[
            annotated
        ]
    found = []
    for place, content in (("a", b"one"), ("b", b"one"), ("b", b"two")):
        name = "below/refs" if written == "below" else "refs"
        home = tmp_path / place
        file = home / name if what == "file" else home / name / ("x.png" if "pictures" in what else "x.npy")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        monkeypatch.chdir(home)
        path = str(home / name) if written == "absolute" else name
        value = {"list": [path], "dict": {"key": path}}.get(annotated, path)
        referring = Registration("objectives", "referring", factory, "somebody", known_code=Code(frozenset(), {}))
        found.append(made_of(referring, None, {"source": value}))
    assert found[0] == found[1] != found[2]
    assert str(tmp_path) not in repr(found)


def test_what_an_option_s_words_are_called_like_in_the_working_folder_does_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = plugins().made_of("adapters", "sd3", None, {"granularity": "block", "model": "mine"})
    (tmp_path / "block").mkdir()
    (tmp_path / "mine").mkdir()
    assert plugins().made_of("adapters", "sd3", None, {"granularity": "block", "model": "mine"}) == before


def test_a_note_or_picture_beside_the_weights_of_a_built_in_part_does_not_count(tmp_path: Path) -> None:
    found = []
    for name in ("model.safetensors", "README.md", "sample.png", "config.json"):
        (tmp_path / name).write_text(name)
        found.append(plugins().made_of("adapters", "sd3", None, {"model": str(tmp_path)}))
    assert found[0] == found[1] == found[2] != found[3]


def keys(model: type[BaseModel], above: str = "") -> Iterator[tuple[str, Any]]:
    for name, field in model.model_fields.items():
        inner = [kind for kind in (field.annotation, *typing.get_args(field.annotation)) if inspect.isclass(kind)]
        sections = [
            kind
            for kind in inner
            if issubclass(kind, BaseModel) and kind.__name__ not in ("Part", "Reward", "Tracked", "WatchedReward")
        ]
        if sections:
            one = "cities." if typing.get_origin(field.annotation) is dict else ""
            yield from keys(sections[0], f"{above}{name}.{one}")
        else:
            yield above + name, field


ONE_FILE = Path(__file__).parents[2] / "examples" / "one-file" / "camera.py"
CHANGES: dict[str, Any] = {
    "name": "another", "start": "elsewhere/calibration.json", "ladder": "{block: 2, gate: 3}", "keep": "all",
    "group_size": 2, "by_steps.steps": "[3]", "trackers": "tensorboard", "plugins": f"[{ONE_FILE}]",
    "watch.cities.objectives": "value",
    "sensitivity.measured": "{knob.0: 2}",
}  # fmt: skip
BY_NAME = (
    "adapter",
    "objectives",
    "combine",
    "prompts",
    "optimizer",
    "watch.cities.prompts",
)  # parts, each with options of its own


@pytest.mark.parametrize("key", [key for key, _ in keys(Config) if key not in BY_NAME])
def test_every_key_of_a_configuration_is_part_of_a_run_s_identity_or_declared_to_change_no_number(
    key: str, run: Run
) -> None:
    """And none is part of what decides a score: another search finds the scores of the one before."""
    field = dict(keys(Config))[key]
    base = {**SMALL, "bucket_size": 4, "optimizer": {"name": "cma-es", "population_size": 8}}
    if key.startswith("adaptive_bucket."):
        base["adaptive_bucket"] = {"largest": 60}
    if key.startswith("watch."):
        base["watch"] = {"cities": {"prompts": "views"}}
    if key.startswith("sensitivity."):
        base["sensitivity"] = {"most": 7}
    if key == "workers.address":
        base["workers"] = {"ray": 2}
    if key == "protocol":
        base = {name: value for name, value in SMALL.items() if name in BY_NAME and name != "optimizer"}
    before = load_config(base)
    for value in [CHANGES.get(key), *accepted(Annotated[(field.annotation, *field.metadata, None)], Path())]:
        if value is None and key != "protocol":
            continue
        if key == "protocol":
            after = before.model_copy(update={"protocol": None})
        else:
            try:
                after = load_config(base, [f"{key}={value}"])
            except TrimpotError:
                continue
        if after == before:
            continue
        one, other = replace(run, config=before), replace(run, config=after)
        assert (one.identity == other.identity) == (key.partition(".")[0] in KEYS_CHANGE_NO_NUMBER)
        assert one.context == other.context
        return
    pytest.fail(f"no other value of {key} was found")


def test_a_weight_is_part_of_a_run_s_identity_and_of_what_decides_the_values_that_are_stored(run: Run) -> None:
    """Scores are stored without weights, so they serve runs of any; a combination's values are stored as they are."""
    other = replace(run, config=load_config({**SMALL, "objectives": {"height": {"weight": 2.0}}}))
    assert run.identity != other.identity and run.context == other.context
    one, two = (hill_run({"combine": "pareto", "objectives": {"height": {"weight": weight}}}) for weight in (1.0, 2.0))
    assert one.identity != two.identity and one.context != two.context


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
        replace(base, start=base.adapter.space.to_setting(base.adapter.space.defaults)),
        replace(base, prompts=replace(base.prompts, train=("another", *base.prompts.train))),
        replace(base, prompts=replace(base.prompts, metadata={base.prompts.train[0]: {"tag": "one"}})),
    ]
    identities = [run.identity for run in (base, *others)]
    assert len(set(identities)) == len(identities)
    contexts = [run.context for run in (base, others[0], others[1])]
    assert len(set(contexts)) == 3
    assert others[2].context == base.context, "scores do not depend on who searches"


def test_where_things_lie_is_no_part_of_a_run_s_identity(tmp_path: Path) -> None:
    """A moved project goes on: prompt files and the start count by what they hold."""
    configs = []
    for place in ("a", "b"):
        (tmp_path / place).mkdir()
        files = {name: tmp_path / place / f"{name}.txt" for name in ("train", "validation", "test")}
        for name, path in files.items():
            path.write_text(f"{name} one\n{name} two\n")
        prompts = {"name": "files", **{name: str(path) for name, path in files.items()}}
        configs.append(load_config({**SMALL, "prompts": prompts, "start": str(tmp_path / place / "calibration.json")}))
    assert configs[0].fingerprint == configs[1].fingerprint


# Descriptions


def telling(**says: Any) -> Hill:
    class Told(Hill):
        def describe(self) -> dict[str, Any]:
            return {"id": "hill", **says}

    return Told()


def test_descriptions_of_any_plain_kind_are_taken() -> None:
    told = telling(size=np.int64(3), kinds={"b", "a"}, file=Path("a/b"), most=np.inf)
    described = hill_run(adapter=told).description["adapter"]
    assert (described["size"], described["kinds"], described["file"]) == (3, ["a", "b"], "a/b")
    assert described["most"] == "Infinity"
    assert described["made_of"]["distribution"] == "tests"


@pytest.mark.parametrize(
    ("says", "sentence"),
    [
        ({"made_of": "wood"}, "has the key 'made_of', under which trimpot puts its code and options; rename it"),
        ({"model": str(object())}, "an address that is another in every process; say what is there"),
        ({"deep": [{"in": repr(len.__self__.__class__.mro)}]}, "an address that is another in every process"),
        ({"sizes": {1: "one", "1": "other"}}, "has two keys that both read '1'; give them names that differ"),
        ({"model": object()}, "holds object"),
    ],
)
def test_a_description_that_would_be_lost_or_never_the_same_is_refused(says: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError) as refused:
        hill_run(adapter=telling(**says)).description  # noqa: B018
    assert sentence in str(refused.value)


# Whose part it is


def registered(adapter: Any = Hill, objective: Any = Height) -> Plugins:
    class Plugin:
        @hookimpl
        def register_adapters(self, register: Any) -> None:
            register("hill", adapter)

        @hookimpl
        def register_objectives(self, register: Any) -> None:
            register("height", objective)

        @hookimpl
        def register_prompts(self, register: Any) -> None:
            register("views", prompt_set)

    known = Plugins()
    known.add(Plugin(), name="a plugin", origin="somebody")
    return known


def test_a_plugin_by_another_author_has_the_exceptions_that_it_declares_and_no_others() -> None:
    def factory(*, offload: str = "none", url: str = "", cache: str = "") -> Objective:
        return Height()

    class Declaring(Height):
        changes_no_number = {"cache": "files wait in it until they are asked for"}  # noqa: RUF012

    mine = Registration("objectives", "mine", factory, "somebody")
    for option, made, same in (
        ("offload", Height(), False),
        ("url", Height(), False),
        ("cache", Height(), False),
        ("url", Declaring(), False),
        ("cache", Declaring(), True),
    ):
        one, two = (made_of(mine, made, {option: value}) for value in ("a", "b"))
        assert (one == two) == same


def test_the_same_code_from_another_distribution_is_another_part() -> None:
    parts = [Registration("objectives", "mine", Height, origin) for origin in ("one", "two")]
    assert made_of(parts[0], Height(), {}) != made_of(parts[1], Height(), {})


def test_a_method_of_a_family_has_its_family_s_code_and_a_name_of_its_own() -> None:
    """The code is read once, as the plugin is imported: its author may edit it while it runs."""

    def family(*, method: typing.Literal["one", "two"] = "one") -> Objective:
        return Height()

    known = registered(objective=family)
    one, two = (known.get("objectives", f"height:{method}") for method in ("one", "two"))
    assert one.code is two.code is known.get("objectives", "height").code
    assert made_of(one, Height(), {}) != made_of(two, Height(), {})


def test_no_built_in_has_the_code_of_another_room() -> None:
    rooms = {
        kind: {plugins().made_of(kind, each.name, None, {})["code"] for each in plugins().registrations(kind)}
        for kind in ("adapters", "objectives", "optimizers")
    }
    for one, two in itertools.combinations(rooms.values(), 2):
        assert not one & two


def test_what_a_plugin_goes_through_is_among_the_versions_that_decide_a_score(run: Run) -> None:
    config, known = load_config(SMALL), registered()
    before = libraries(config, known)
    assert "numpy" in before, "the hill's module imports it"
    known.get("objectives", "height").__dict__["code"] = Code(frozenset(), {"a-library": "1.2"})
    assert libraries(config, known) == {**before, "a-library": "1.2"}
    newer = replace(run, versions={**run.versions, "a-library": "1.3"})
    assert newer.context != run.context and newer.identity == run.identity


def test_the_machine_is_among_the_versions() -> None:
    assert versions()["machine"]


def test_what_parts_are_made_of_is_known_before_they_are_made() -> None:
    """A comparison is told from another by it: nothing is loaded to find what was done already."""

    class Costly(Hill):
        def __init__(self) -> None:
            raise AssertionError("it was made")

    known = registered(adapter=Costly)
    base = origins_of(load_config(SMALL), known)
    for changes in (
        {"adapter": {"name": "hill", "size": 3}},
        {"objectives": {"height": {"scale": 3}}},
        {"optimizer": {"name": "cma-es", "sigma0": 0.3}},
        {"combine": {"name": "winrate", "references": 3}},
        {"start": "somewhere.json"},
    ):
        assert origins_of(load_config({**SMALL, **changes}), known) != base


def test_adapters_are_named(run: Run) -> None:
    assert isinstance(run.adapter, Adapter)
    assert run.description["adapter"]["name"] == run.description["adapter"]["made_of"]["name"] == "hill"
    assert os.sep not in str(run.description["adapter"]["made_of"]["options"])
