"""What authors of plugins get wrong: one sentence that names the plugin and its distribution, and exit code 1."""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path

import pytest
import trimpot.cli
from plugin_mistakes import MISTAKES
from plugin_sources import KINDS, WHOLE, factory, registering
from trimpot.setup.plugins import plugins

SMALL = ["generations=2", "bucket_size=2", "validation.num_prompts=4", "test.num_prompts=4"]
USUAL = {"adapter": "sphere", "objectives": "value", "prompts": "numbers", "optimizer": "random", "combine": "weighted"}


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
        "objective 'mine': option 'deep': should be true or false, not 3",
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
