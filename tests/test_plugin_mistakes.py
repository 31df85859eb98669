"""What authors of plugins get wrong: one sentence that names the plugin and its distribution, and exit code 1."""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path
from textwrap import dedent

import pytest
import trimpot.cli
from trimpot.engine.plugins import plugins

WHOLE = """
import numpy as np
import trimpot


class Good(trimpot.Objective):
    def score(self, outputs, prompts):
        return np.array(outputs)


class Line(trimpot.Adapter):
    space = trimpot.KnobSpace([trimpot.Knob("slope"), trimpot.Knob("offset", low=-1.0, high=1.0, default=0.0)])

    def generate(self, population, bucket):
        for slope, offset in population:
            yield [slope * len(prompt) + offset for prompt in bucket.prompts]

    def describe(self):
        return {"id": "line"}


class Still(trimpot.Optimizer):
    def __init__(self, space, *, start, seed):
        self.start = start

    def ask(self):
        return np.stack([self.start] * 4)

    def tell(self, population, fitness):
        pass

    def recommend(self):
        return self.start


class Sum(trimpot.Combination):
    def __init__(self, weights):
        self.weights = weights

    def values(self, scores, bucket, pool):
        return sum(weight * scores[name] for name, weight in self.weights.items())


def words():
    names = [f"word {number}" for number in range(30)]
    return trimpot.PromptSet(tuple(names[:10]), tuple(names[10:20]), tuple(names[20:]))
"""
SMALL = ["generations=2", "bucket_size=2", "validation.num_prompts=4", "test.num_prompts=4"]
USUAL = {"adapter": "sphere", "objectives": "value", "prompts": "numbers", "optimizer": "random", "combine": "weighted"}
KINDS = {
    "adapter": ("adapters", "Line"),
    "objectives": ("objectives", "Good"),
    "prompts": ("prompts", "words"),
    "optimizer": ("optimizers", "Still"),
    "combine": ("combinations", "Sum"),
}


def registering(key: str, factory: str, name: str = "'mine'") -> str:
    return f"\n@trimpot.hookimpl\ndef register_{KINDS[key][0]}(register):\n    register({name}, {factory})\n"


def changed(key: str, body: str) -> str:
    """The plugin with one class or function of it changed."""
    base = KINDS[key][1]
    method = dedent(body).strip().replace("\n", "\n    ")
    return f"{WHOLE}\nclass Mine({base}):\n    {method}\n{registering(key, 'Mine')}"


def factory(key: str, code: str) -> str:
    """The plugin with another factory, called `mine`."""
    return f"{WHOLE}\n{dedent(code).strip()}\n{registering(key, 'mine')}"


#: What is wrong, the key that names the part, the plugin's source, and what is said.
MISTAKES = {
    # what is named
    "an instance as the factory": ("objectives", WHOLE + registering("objectives", "Good()"), "not a Good that is"),
    "a text as the factory": ("objectives", WHOLE + registering("objectives", "'Good'"), "not a str that is made"),
    "nothing as the factory": ("adapter", WHOLE + registering("adapter", "None"), "not a NoneType that is"),
    "a name that is no text": ("adapter", WHOLE + registering("adapter", "Line", "3"), "under the name 3; a name is"),
    "an empty name": ("adapter", WHOLE + registering("adapter", "Line", "''"), "under the name ''; a name is a word"),
    "a name with a space": ("adapter", WHOLE + registering("adapter", "Line", "'a b'"), "under the name 'a b'"),
    "a name with a colon": ("adapter", WHOLE + registering("adapter", "Line", "'a:b'"), "under the name 'a:b'"),
    "a name twice": (
        "adapter",
        WHOLE + registering("adapter", "Line") + "    register('mine', Line)\n",
        "registers adapters 'mine' twice",
    ),
    "arguments of register in the wrong order": (
        "adapter",
        WHOLE + "\n@trimpot.hookimpl\ndef register_adapters(register):\n    register(Line, 'mine')\n",
        "under the name <class",
    ),
    # hooks
    "the mark forgotten": (
        "adapter",
        WHOLE + registering("adapter", "Line").replace("@trimpot.hookimpl\n", ""),
        "its register_adapters is not marked as a hook; write @trimpot.hookimpl above it",
    ),
    "a hook misspelled": (
        "adapter",
        WHOLE + registering("adapter", "Line").replace("register_adapters", "register_adapter"),
        "a hook 'register_adapter' that there is not; did you mean 'register_adapters'",
    ),
    "a hook's argument misspelled": (
        "adapter",
        WHOLE + registering("adapter", "Line").replace("(register)", "(registry)"),
        "PluginValidationError.*registry",
    ),
    "a watching hook's argument misspelled": (
        "adapter",
        WHOLE + "\n@trimpot.hookimpl\ndef generation_told(run, gen):\n    pass\n",
        "PluginValidationError.*gen",
    ),
    "no hook at all": ("adapter", WHOLE, "implements no hook; write one, such as register_adapters"),
    "a hook that raises": (
        "adapter",
        WHOLE + "\n@trimpot.hookimpl\ndef register_adapters(register):\n    raise OSError('no\\ndevice')\n",
        "OSError: no device",
    ),
    # importing
    "an import that is not there": ("adapter", "import not_there_at_all", "ModuleNotFoundError: No module named"),
    "a syntax error": ("adapter", "def f(:\n", "SyntaxError"),
    "an exit while importing": ("adapter", "import sys; sys.exit(3)", "SystemExit: 3"),
    "an odd exception while importing": ("adapter", "raise BaseException('odd')", "BaseException: odd"),
    # factories
    "an asynchronous factory": ("objectives", factory("objectives", "async def mine(): ..."), "its factory is async"),
    "a factory that yields": ("objectives", factory("objectives", "def mine():\n    yield Good()"), "let it return"),
    "a factory that raises": (
        "objectives",
        factory("objectives", "def mine():\n    raise OSError('no\\nweights')"),
        "failed: OSError: no weights",
    ),
    "a factory that ends the process": (
        "objectives",
        factory("objectives", "def mine():\n    import sys\n    sys.exit(0)"),
        "failed: SystemExit: 0",
    ),
    "a factory that returns nothing": ("objectives", factory("objectives", "def mine(): ..."), "made nothing; let"),
    "a factory that returns a class": ("objectives", factory("objectives", "mine = lambda: Good"), "the class Good"),
    "a factory that returns something else": (
        "objectives",
        factory("objectives", "mine = lambda: Line()"),
        "is no trimpot.Objective; inherit from it",
    ),
    "a class that does not inherit": (
        "objectives",
        factory("objectives", "class mine:\n    def score(self, outputs, prompts): ..."),
        "is no trimpot.Objective; inherit from it",
    ),
    "an abstract class": (
        "objectives",
        factory("objectives", "class mine(trimpot.Objective):\n    def scores(self): ..."),
        "abstract class mine.*score",
    ),
    "an option that is needed by position": (
        "objectives",
        factory("objectives", "def mine(power, /): ..."),
        "has 'power' by position only",
    ),
    "an annotation that cannot be read": (
        "objectives",
        factory("objectives", "def mine(*, power: 'Nowhere' = 1): ..."),
        "annotations cannot be read: NameError",
    ),
    "a combination that takes no weights": (
        "combine",
        factory("combine", "def mine(): ..."),
        "is given the weights first: too many positional",
    ),
    "an optimizer that takes no seed": (
        "optimizer",
        factory("optimizer", "def mine(space, *, start): ..."),
        "is given the knob space first, and start and seed by keyword: .*'seed'",
    ),
    "an optimizer that takes no space": ("optimizer", factory("optimizer", "def mine(*, start, seed): ..."), "space"),
    "prompts as a list": ("prompts", factory("prompts", "mine = lambda: ['a', 'b']"), "which is no trimpot.PromptSet"),
    # adapters
    "an adapter without a space": (
        "adapter",
        factory("adapter", "class mine(trimpot.Adapter):\n    generate = Line.generate\n    describe = Line.describe"),
        "has None as its space; set `space`",
    ),
    "a space that is a list": ("adapter", changed("adapter", "space = [1, 2]"), r"has \[1, 2\] as its space"),
    "a space with an infinite bound": (
        "adapter",
        changed(
            "adapter",
            """
            def __init__(self):
                self.space = trimpot.KnobSpace([trimpot.Knob("a", high=float("inf"))])
            """,
        ),
        "knob 'a': high must be finite",
    ),
    "steps that are none": ("adapter", changed("adapter", "num_steps = '20'"), "has num_steps '20'"),
    "outputs of an unknown kind": ("adapter", changed("adapter", "makes = 'picture'"), "makes 'picture'; set"),
    "no neutral setting": ("adapter", changed("adapter", "def neutrals(self): return {}"), "as neutral settings"),
    "a neutral setting of other knobs": (
        "adapter",
        changed("adapter", "def neutrals(self): return {'a': {'x': 1}}"),
        "neutral setting 'a' must map knobs of its space to values",
    ),
    "a description that is no mapping": (
        "adapter",
        changed("adapter", "def describe(self): return 'line'"),
        "describes itself by 'line'; let describe",
    ),
    "a description that raises": (
        "objectives",
        changed("objectives", "def describe(self): 1 / 0"),
        "asked to describe itself, failed: ZeroDivisionError",
    ),
    "a description of objects": (
        "objectives",
        changed("objectives", "def describe(self): return {'model': object()}"),
        "of itself.*holds object",
    ),
    "too few candidates": (
        "adapter",
        changed("adapter", "def generate(self, population, bucket): return []"),
        "made outputs of 0 candidates, not 1",
    ),
    "too few outputs": (
        "adapter",
        changed("adapter", "def generate(self, population, bucket): return [[1.0] for _ in population]"),
        "the adapter made 1 outputs for",
    ),
    "no outputs at all": ("adapter", changed("adapter", "def generate(self, population, bucket): ..."), "failed on"),
    "an adapter that ends the process": (
        "adapter",
        changed("adapter", "def generate(self, population, bucket): raise SystemExit('enough')"),
        "failed on prompts such as .*SystemExit: enough",
    ),
    **{
        f"{size} outputs a call": (
            "adapter",
            changed("adapter", f"outputs_per_call = {size}"),
            re.escape(f"takes {size} outputs a call; let outputs_per_call be 1 or more"),
        )
        for size in ("0", "-1", "1.5", "None", "True", "'4'")
    },
    # optimizers
    "a population of the wrong shape": (
        "optimizer",
        changed("optimizer", "def ask(self): return self.start"),
        r"asked for numbers of shape \(57,\)",
    ),
    "a population outside the bounds": (
        "optimizer",
        changed("optimizer", "def ask(self): return np.stack([self.start + 9] * 4)"),
        r"asked for 10 for a knob with bounds \[-1, 2\]",
    ),
    "a population of NaN": (
        "optimizer",
        changed("optimizer", "def ask(self): return np.full((4, len(self.start)), np.nan)"),
        "asked for nan",
    ),
    "no population": ("optimizer", changed("optimizer", "def ask(self): ..."), r"asked for numbers of shape \(\)"),
    "an empty population": ("optimizer", changed("optimizer", "def ask(self): return self.start[:0, None]"), "shape"),
    "a tell that raises": (
        "optimizer",
        changed("optimizer", "def tell(self, population, fitness): raise RuntimeError('I fell\\nover')"),
        "failed: RuntimeError: I fell over",
    ),
    "a recommendation of nothing": (
        "optimizer",
        changed("optimizer", "def recommend(self): ..."),
        r"recommends must have shape \(57,\)",
    ),
    "a reason that is no sentence": (
        "optimizer",
        changed("optimizer", "def stop_reason(self): return True"),
        "gives True as its reason to stop",
    ),
    "groups of no candidates": ("optimizer", changed("optimizer", "group_size = 0"), "has group_size 0"),
    # combinations
    "values of the wrong shape": (
        "combine",
        changed("combine", "def values(self, scores, bucket, pool): return [1.0]"),
        "the combination of objectives must have shape",
    ),
    "values that are not finite": (
        "combine",
        changed("combine", "def values(self, scores, bucket, pool): return np.full(len(bucket), np.inf)"),
        "must be finite",
    ),
    "a combination that raises": (
        "combine",
        changed("combine", "def values(self, scores, bucket, pool): return scores['beauty']"),
        "failed: KeyError: 'beauty'",
    ),
    "fitness of the wrong shape": (
        "combine",
        changed("combine", "def fitness(self, evaluations, pool): return 1.0"),
        "the fitness of its group must have shape",
    ),
}


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    """Installs a distribution `trimpot-mine` with the entry point `mine` in this process."""
    folder = tmp_path / "site-packages"

    def install(source: str, value: str = "mine_plugin") -> None:
        information = folder / "trimpot_mine-1.0.dist-info"
        information.mkdir(parents=True)
        (folder / "mine_plugin.py").write_text(source)
        (information / "METADATA").write_text("Metadata-Version: 2.1\nName: trimpot-mine\nVersion: 1.0\n")
        (information / "entry_points.txt").write_text(f"[trimpot]\nmine = {value}\n")
        monkeypatch.syspath_prepend(str(folder))
        importlib.invalidate_caches()
        plugins.cache_clear()

    monkeypatch.chdir(tmp_path)
    yield install
    sys.modules.pop("mine_plugin", None)
    plugins.cache_clear()


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int | str | None:
    """The command line in this process; gives its exit code."""
    monkeypatch.setattr(sys, "argv", ["trimpot", *arguments])
    with pytest.raises(SystemExit) as ended:
        trimpot.cli.main()
    return ended.value.code


def calibrate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str) -> int | str | None:
    lines = [f"{name}: {'mine' if name == key else usual}" for name, usual in USUAL.items()]
    (tmp_path / "my.yaml").write_text("\n".join(lines))
    return run(monkeypatch, "calibrate", "my.yaml", *SMALL)


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_sentence_that_names_the_plugin(
    installed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], mistake: str
) -> None:
    key, source, said = MISTAKES[mistake]
    installed(source)
    assert calibrate(tmp_path, monkeypatch, key) == 1
    told = capsys.readouterr().err
    assert told.startswith("trimpot: ") and told.count("\n") == 1 and "Traceback" not in told
    assert re.search(said, told), told
    assert "mine" in told and "trimpot-mine" in told, told


@pytest.mark.parametrize("key", KINDS)
def test_the_whole_plugin_without_a_mistake_works(
    installed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], key: str
) -> None:
    """So that the mistakes above are the ones that are told."""
    installed(WHOLE + registering(key, KINDS[key][1]))
    assert calibrate(tmp_path, monkeypatch, key) == 0, capsys.readouterr().err


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("mine_plugin:absent", "AttributeError: module 'mine_plugin' has no attribute 'absent'"),
        ("absent_module", "ModuleNotFoundError: No module named 'absent_module'"),
        ("mine_plugin:WHOLE", "implements no hook"),
    ],
)
def test_an_entry_point_that_leads_nowhere_is_named(
    installed,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    value: str,
    said: str,
) -> None:
    installed("WHOLE = 3\n", value)
    assert calibrate(tmp_path, monkeypatch, "adapter") == 1
    assert re.search(rf"could not load the plugin 'mine' \(trimpot-mine\): .*{said}", capsys.readouterr().err)
    assert run(monkeypatch, "plugins") == 0
    assert said[:12] in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("code", "options", "given"),
    [
        ("class mine(Good):\n    def __init__(self, *, power: float = 1.0): self.given = power", {"power": 2}, 2.0),
        ("class mine(Good):\n    def __init__(self, power: float = 1.0): self.given = power", {"power": "2"}, 2.0),
        ("class mine(Good):\n    given = None", {}, None),
        ("def mine(**options):\n    made = Good()\n    made.given = options\n    return made", {"a": 1}, {"a": 1}),
        ("def mine(*rest, power=1):\n    made = Good()\n    made.given = power\n    return made", {"power": "x"}, "x"),
        ("def first(power: int, *, more: int = 1):\n    made = Good()\n    made.given = power, more\n    return made\n"
         "import functools\nmine = functools.partial(first, 3)", {"more": 2}, (3, 2)),
        ("from dataclasses import dataclass\n@dataclass\nclass mine(Good):\n    given: int = 1", {"given": 5}, 5),
        ("class Maker:\n    def __call__(self, *, power: int = 1):\n        made = Good()\n        made.given = power\n"
         "        return made\nmine = Maker()", {"power": "4"}, 4),
    ],
)  # fmt: skip
def test_whatever_can_be_called_is_a_factory(installed, code: str, options: dict[str, object], given: object) -> None:
    """Classes, partial functions, dataclasses and callable objects, with their annotations as schema."""
    installed(factory("objectives", code))
    assert plugins().make("objectives", "mine", options).given == given


def test_a_class_as_a_factory_is_its_own_schema(installed) -> None:
    code = "class mine(Good):\n    def __init__(self, *, power: float, deep: bool = False): ..."
    installed(factory("objectives", code))
    known = plugins()
    assert known.options("objectives", "mine") == ["power", "deep"]
    assert known.mistakes("objectives", "mine", {"powr": 1, "deep": 3}) == [
        "objective 'mine' needs the option 'power'",
        "objective 'mine' takes no option 'powr'; did you mean 'power'?",
        "objective 'mine': option 'deep': Input should be a valid boolean, unable to interpret input, not 3",
    ]


@pytest.mark.parametrize("error", ["RuntimeError('down')", "SystemExit(2)"])
def test_a_watcher_that_fails_is_named_and_the_run_goes_on(
    installed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: str
) -> None:
    watching = f"\n@trimpot.hookimpl\ndef generation_told(generation):\n    raise {error}\n"
    installed(WHOLE + registering("objectives", "Good") + watching)
    with pytest.warns(UserWarning, match=r"plugin mine \(trimpot-mine\) failed while watching"):
        assert calibrate(tmp_path, monkeypatch, "objectives") == 0


def test_a_command_that_cannot_be_added_stops_nothing_else(
    installed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    installed("import trimpot\n\n@trimpot.hookimpl\ndef register_commands(cli):\n    cli.no_such_thing()\n")
    assert run(monkeypatch, "plugins") == 0
    assert "could not import mine of trimpot-mine: AttributeError" in " ".join(capsys.readouterr().out.split())


def test_what_a_plugin_registered_before_its_mistake_is_not_kept(installed) -> None:
    installed(WHOLE + "\n@trimpot.hookimpl\ndef register_adapters(register):\n    register('good', Line)\n"
              "    register('bad', 3)\n")  # fmt: skip
    known = plugins()
    assert [broken.name for broken in known.broken] == ["mine"]
    assert "good" not in [each.name for each in known.registrations("adapters")]
    assert not [plugin for plugin in known.manager.get_plugins() if getattr(plugin, "__name__", "") == "mine_plugin"]


def test_there_are_many_mistakes_to_make() -> None:
    assert len(MISTAKES) >= 60
