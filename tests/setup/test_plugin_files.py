"""Plugins that are one file: how they are named, what they are told apart by, and who executes them."""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import trimpot
import yaml
from command_line import typed
from plugin_file_here import FILE, RUN, SMALL, digest, done, executed, folder, refused, stopped, write
from served import ServerProcess
from tracked import of_tensorboard
from trimpot.ground.errors import PluginError, TrimpotError
from trimpot.setup.config import load_config
from trimpot.setup.plugin_files import files_in, module_of
from trimpot.setup.plugins import plugins

__all__ = ["folder"]
pytestmark = pytest.mark.usefixtures("folder")


def test_a_file_is_named_in_a_configuration_on_the_command_line_and_from_python(tmp_path: Path) -> None:
    """In every way it is the same part, wherever the file lies."""
    far = tmp_path / "elsewhere" / "deep"
    far.mkdir(parents=True)
    shutil.copy("line.py", far / "line.py")
    found = [
        digest("line.yaml"),
        digest(write("../elsewhere/deep/beside.yaml")),
        digest(write("../elsewhere/above.yaml", plugins=["deep/line.py"])),
        digest(write("whole.yaml", plugins=[str(far / "line.py")])),
        digest(write("without.yaml", plugins=[]), "plugins=line.py"),
        digest("without.yaml", "plugins=[../elsewhere/deep/line.py]"),
        digest(write("wrong.yaml", plugins="absent.py"), "plugins=./line.py"),
    ]
    without = {key: value for key, value in RUN.items() if key != "plugins"}
    given = ("line.py", ["line.py"], Path("line.py"), (far / "line.py",))
    calls: list[tuple[Any, dict[str, Any]]] = [(without, {"plugins": each}) for each in given]
    calls += [(RUN, {}), ("line.yaml", {})]
    found += [trimpot.calibrate(source, progress=False, **keys).summary["digest"] for source, keys in calls]
    assert len(found) == 13 and len(set(found)) == 1


def test_the_home_folder_is_understood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "here"))
    assert files_in("~/line.py", Path("/")) == [str(tmp_path / "here" / "line.py")]


def test_a_file_named_twice_counts_once() -> None:
    Path("again.py").symlink_to("line.py")
    assert done("knobs", "line", "--plugin", "line.py", "--plugin", "../here/line.py", "--plugin", "again.py")
    assert digest(write("twice.yaml", plugins=["line.py", "./line.py", "../here/line.py"])) == digest("line.yaml")
    assert files_in(["b.py", "a.py", "./b.py"], Path("/x")) == ["/x/b.py", "/x/a.py"]


def test_options_of_its_functions_are_checked_and_used(tmp_path: Path) -> None:
    def gain(**options: Any) -> float:
        shown = json.loads(done("calibrate", write(objectives={"mine": options}), "--json"))
        return float(shown["gain"]["mean"])

    assert gain(power=3.0) == pytest.approx(3 * gain())
    for options, said in (({"powr": 1}, "did you mean 'power'"), ({"way": "left"}, "'up'"), ({"power": "x"}, "power")):
        assert said in refused(typed("calibrate", write(objectives={"mine": options})))
    write("deep/line.yaml", plugins="../line.py", adapter={"name": "line", "table": "table.csv"})
    assert load_config("deep/line.yaml").adapter.options["table"] == str(tmp_path / "here" / "deep" / "table.csv")
    assert load_config("line.yaml", ["objectives=mine", "adapter.table=t.csv"]).adapter.options["table"] == str(
        tmp_path / "here" / "t.csv"
    )


def test_a_stopped_run_goes_on_to_the_same_end() -> None:
    whole = digest("line.yaml", "--store", "other")
    stopped()
    assert json.loads(done("resume", "--json"))["digest"] == whole
    longer = json.loads(done("resume", "line-1", "generations=+1", "--json"))
    assert longer["status"] == "finished" and longer["digest"] != whole
    stopped()
    assert trimpot.resume("line-2", progress=False).summary["digest"] == whole


def test_an_edited_file_is_another_part() -> None:
    whole = digest("line.yaml")
    stopped()
    text = FILE.replace("power * output", "power * output + 0.5")
    Path("line.py").write_text(text)
    said = refused(typed("resume", "line-2"))
    assert "was begun with another backbone, reward or prompts" in said and "reward 'mine' differ" in said
    assert "--allow-drift" in said
    with pytest.raises(TrimpotError, match="was begun with another"):
        trimpot.resume("line-2", progress=False)
    assert digest("line.yaml") != whole
    Path("line.py").write_text(FILE)
    assert json.loads(done("resume", "line-2", "--json"))["digest"] == whole
    stopped()
    Path("line.py").write_text(text)
    assert json.loads(done("resume", "line-4", "--allow-drift", "--json"))["status"] == "finished"


def test_line_endings_make_no_other_part() -> None:
    whole = digest("line.yaml")
    Path("line.py").write_bytes(FILE.replace("\n", "\r\n").encode())
    assert digest("line.yaml") == whole


def test_a_file_that_was_moved_is_named_where_it_is_now() -> None:
    whole = digest("line.yaml", "--store", "other")
    stopped()
    Path("new").mkdir()
    shutil.move("line.py", "new/line.py")
    said = refused(typed("resume"))
    assert f"there is no plugin file {Path('line.py').absolute()}; restore it, or name it where it is now" in said
    with pytest.raises(PluginError, match="there is no plugin file"):
        trimpot.resume("line-1", progress=False)
    assert json.loads(done("resume", "line-1", "plugins=new/line.py", "--json"))["digest"] == whole
    again = trimpot.resume("line-1", generations="+1", plugins=["new/line.py"], progress=False)
    assert again.status == "finished"


def test_a_file_of_another_name_is_another_part() -> None:
    stopped()
    shutil.move("line.py", "other.py")
    assert "was begun with another" in refused(typed("resume", "line-1", "plugins=other.py"))


def test_another_file_in_its_place_does_not_go_on_unnoticed() -> None:
    stopped()
    Path("new").mkdir()
    Path("new/line.py").write_text(FILE.replace("1.2", "1.3"))
    assert "the backbone" in refused(typed("resume", "line-1", "plugins=new/line.py"))
    assert "no adapter 'line'" in refused(typed("resume", "line-1", "plugins=[]"))


def test_a_finished_run_is_shown_without_its_file() -> None:
    """Nothing is executed for it either."""
    done("calibrate", "line.yaml")
    Path("line.py").write_text("raise SystemExit('executed')\n")
    for words in (["show", "line-1"], ["runs"], ["resume", "line-1"], ["show", "line-1", "--json"]):
        done(*words)
    assert trimpot.Result.load("line-1").gain is not None
    Path("line.py").unlink()
    Path("trimpot-runs/line-1/report.html").unlink()
    done("resume", "line-1")
    assert Path("trimpot-runs/line-1/report.html").exists()
    assert "there is no plugin file" in refused(typed("resume", "line-1", "generations=+1"))


def test_nothing_is_executed_that_was_not_named(tmp_path: Path) -> None:
    """Neither what lies beside the file or the configuration, nor the file itself where no part is made."""
    marked = FILE[: FILE.index("@trimpot.adapter")]
    others = ["conftest.py", "sitecustomize.py", "setup.py", "trimpot_mine.py", "plugin.py", "__init__.py", "a.py"]
    for name in others:
        Path(name).write_text(marked)
    before = set(sys.modules)
    stopped()
    once = executed("line.py")
    assert once == 1
    for words in (["show", "line-1"], ["runs"], ["plugins"], ["knobs", "sphere"], ["show", "line-1", "--json"]):
        done(*words)
    done("calibrate", write("sphere.yaml", plugins=[], adapter="sphere", objectives="value"))
    assert executed("line.py") == once and not any(executed(name) for name in others)
    new = {
        name
        for name in set(sys.modules) - before
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path))
    }
    assert {re.sub(r"_[0-9a-f]{12}$", "", name) for name in new} <= {"line"}


def test_a_file_is_executed_once_a_process_under_a_name_of_its_own() -> None:
    Path("odd name-1.py").write_text(FILE + "\nif __name__ == '__main__':\n    raise SystemExit('run as a program')\n")
    first, again = module_of(str(Path("odd name-1.py").absolute())), module_of(str(Path("odd name-1.py").absolute()))
    assert first is again and executed("odd name-1.py") == 1
    assert re.fullmatch(r"odd_name_1_[0-9a-f]{12}", first.__name__) and sys.modules[first.__name__] is first


def test_a_file_joins_in_for_one_run_alone() -> None:
    done("calibrate", "line.yaml")
    assert "no adapter 'line'" in refused(typed("calibrate", write("without.yaml", plugins=[])))
    assert "line" not in [each.name for each in plugins().registrations("adapters")]
    assert "line" not in done("plugins").split()


def test_two_workers_make_what_one_process_makes() -> None:
    assert digest("line.yaml", "workers=2", "--store", "other") == digest("line.yaml")


def test_commands_that_take_parts_take_a_file() -> None:
    assert re.findall(r"^\w+", done("knobs", "line", "--plugin", "line.py"), re.MULTILINE) == [
        "knob",
        "slope",
        "offset",
    ]
    shown = done("plugins", "--plugin", "line.py")
    assert re.search(r"line +A line\. \(line\.py\)", shown) and re.search(r"mine +The output itself\.", shown)
    listed = json.loads(done("plugins", "--plugin", "line.py", "--json"))["plugins"]
    assert "line.py" in json.dumps(listed)
    assert "outputs" in done("plan", "line.yaml")
    ended = typed("knobs", "lin", "--plugin", "line.py")
    assert "did you mean 'line'" in refused(ended)


def test_images_are_scored_again_by_a_reward_in_a_file() -> None:
    """The run itself knows nothing of it."""
    example = Path(__file__).parents[2] / "examples" / "one-file"
    shutil.copy(example / "camera.py", "camera.py")
    small = {**SMALL, "plugins": "camera.py", "adapter": "camera", "objectives": "jpeg-size", "prompts": "shapes"}
    done("calibrate", write("camera.yaml", **{**small, "keep": "validation"}))
    assert "no objective 'faithful'" in refused(typed("rescore", "camera-1", "--objective", "faithful"))
    shown = json.loads(done("rescore", "camera-1", "--objective", "faithful", "--plugin", "camera.py", "--json"))
    assert "faithful" in json.dumps(shown)


def test_a_reward_in_a_file_is_served() -> None:
    command = [sys.executable, "-m", "trimpot", "serve", "mine", "--plugin", "line.py", "-o", "power=3"]
    with ServerProcess(*command) as server:
        remote = {"mine": {"name": "remote", "url": server.url}}
        away = json.loads(done("calibrate", write("remote.yaml", objectives=remote), "--json"))
    here = json.loads(done("calibrate", write("here.yaml", objectives={"mine": {"power": 3}}), "--json"))
    assert away["gain"] == here["gain"]


@pytest.mark.parametrize("design", ["typed", "a file", "a file that holds the configuration"])
def test_a_comparison_takes_the_file_of_its_configuration(design: str) -> None:
    design_file = {"contenders": ["random", "cma-es"], "seeds": 2, "images": 60, "config": "line.yaml"}
    if design == "typed":
        words = ["line.yaml", "-c", "random", "-c", "cma-es", "--seeds", "2", "--images", "60"]
    else:
        held = {key: value for key, value in RUN.items() if key not in ("generations", "optimizer")}
        Path("deep").mkdir()
        held = {**held, "plugins": "../line.py"}
        whole = {**design_file, "config": held if "holds" in design else "../line.yaml"}
        Path("deep/night.yaml").write_text(yaml.safe_dump(whole))
        words = ["deep/night.yaml"]
    if design != "a file that holds the configuration":
        write(**{"generations": None, "optimizer": None})
    shown = json.loads(done("compare", *words, "--json"))
    assert "random" in json.dumps(shown) and "cma-es" in json.dumps(shown)


def test_contenders_are_judged_by_the_same_files() -> None:
    whole = {"contenders": {"a": {"plugins": "line.py"}, "b": {}}, "seeds": 1, "images": 60, "config": "line.yaml"}
    Path("night.yaml").write_text(yaml.safe_dump(whole))
    assert "plugins" in refused(typed("compare", "night.yaml"))


EVERYTHING = (
    FILE
    + """
from closed_form import hill_plugin, prompt_set
from live_parts import Line, Mine, Still, Sum

HEARD = []


class Own(Mine):
    \"\"\"A class.\"\"\"


@trimpot.hookimpl
def register_adapters(register):
    register("own", Line)

@trimpot.hookimpl
def register_objectives(register):
    register("own", Own)

@trimpot.hookimpl
def register_optimizers(register):
    register("own", Still)

@trimpot.hookimpl
def register_combinations(register):
    register("own", Sum)

@trimpot.hookimpl
def register_prompts(register):
    register("own", prompt_set)

@trimpot.hookimpl
def run_started(run, work_done):
    HEARD.append(run.id)
"""
)


def test_a_file_may_hold_what_a_package_may_and_functions_beside_it() -> None:
    Path("line.py").write_text(EVERYTHING)
    own = dict.fromkeys(("adapter", "objectives", "optimizer", "combine", "prompts"), "own")
    done("calibrate", write(**own))
    done("calibrate", write(**{**own, "adapter": "line", "objectives": {"own": {}, "mine": {}}}))
    assert module_of(str(Path("line.py").absolute())).HEARD == ["own-1", "line-1"]


def test_a_combination_in_a_file_decides_for_trackers_too() -> None:
    """Which read a run's record while it is at work; who looks at it later executes nothing."""
    Path("line.py").write_text(
        FILE + "\n@trimpot.hookimpl\ndef register_combinations(register):\n    from live_parts import Strict\n"
        "    register('strict', Strict)\n"
    )
    ended = typed(
        "calibrate", write(combine="strict", trackers="tensorboard", validation={"num_prompts": 4, "every": 1})
    )
    assert ended.returncode == 0 and "cannot be made" not in ended.stderr, ended.stderr
    ended = typed("show", "line-1", "--json")
    assert not ended.stderr
    checks = json.loads(ended.stdout)["outcome"]["checks"]
    assert [each["admitted"] for each in checks] == [True, False, False]
    curves = of_tensorboard(next(Path("trimpot-runs").rglob("events.out.*")).parent)
    best, neutral = ([value for _, value in curves[f"validation/{name}"]] for name in ("best", "neutral"))
    assert len(best) >= 2 and best == neutral


def test_two_files_of_one_name_are_two() -> None:
    """Both are used where they register different names."""
    Path("other").mkdir()
    Path("other/line.py").write_text(FILE.replace("def mine", "def yours").replace("def line", "def curve"))
    done("calibrate", write(plugins=["line.py", "other/line.py"], objectives={"mine": {}, "yours": {}}))
    Path("other/line.py").write_text(FILE)
    said = refused(typed("calibrate", "line.yaml"))
    other = Path("other/line.py").absolute()
    assert f"the plugin file {other} cannot be used: two plugins register adapters 'line': line.py and another" in said
