"""Wherever a name is typed on the command line, a wrong one is answered with a suggestion or a list."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml
from published import published_run
from studied import folders
from trimpot import reports
from trimpot.engine.calibration import Calibration
from trimpot.engine.schema import Config
from trimpot.exchange.roads import export as write_exported
from trimpot.setup.plugins import KINDS
from trimpot.storage import SqliteStore
from trimpot.studies.beginning import asked_for, begin
from typed import commands, parameters, typed

SPHERE = {
    "adapter": {"name": "sphere", "num_knobs": 4},
    "objectives": "value",
    "prompts": "numbers",
    "optimizer": {"name": "cma-es", "population_size": 4},
    "generations": 1,
    "validation": {"num_prompts": 2},
    "test": {"num_prompts": 2},
    "bucket_size": 2,
}
COMPARED = "-c cma-es -c random --seeds 1 --images 40"

#: For every argument and option that takes a name: what is typed, and what must be said. The first words are the
#: command; `{prompts}` is a table of prompts with the columns `caption` and `kind`.
NAMES: dict[tuple[str, str], list[tuple[str, str]]] = {
    ("analyse", "kind"): [("analyse ablatoin sphere.yaml", "'ablation'"), ("analyse diversty sphere-1", "'diversity'")],
    ("analyse", "targets"): [
        ("analyse ablation spere.yaml", "'sphere.yaml'"),
        ("analyse ablation spere-1", "'sphere-1'"),
        ("analyse ablation shape", "'shapes'"),
        ("analyse ablation sphere.yaml scale=0", "'scales'"),
        ("analyse diversity spere-1", "'sphere-1'"),
        ("analyse diversity sphere-1 measure=x", "'measures'"),
        ("analyse cost spere-1", "'sphere-1'"),
        ("analyse granularity sphere.yaml image=9", "'images'"),
    ],
    ("calibrate", "config"): [("calibrate spere.yaml", "'sphere.yaml'"), ("calibrate shape", "'shapes'")],
    ("calibrate", "overrides"): [("calibrate sphere.yaml {key}", "{meant}")],
    ("calibrate", "begin_at"): [("calibrate sphere.yaml --from spere-1", "'sphere-1'")],
    ("compare", "source"): [
        ("compare night-l", "'night-1'"),
        ("compare shape -c cma-es -c random --images 40", "'shapes'"),
    ],
    ("compare", "overrides"): [(f"compare sphere.yaml {COMPARED} {{key}}", "{meant}")],
    ("compare", "contender"): [
        ("compare sphere.yaml -c cma-e -c random --images 40", "'cma-es'"),
        ("compare sphere.yaml -c cma-es -c groupd-cma --images 40", "'grouped-cma'"),
    ],
    ("delete", "names"): [("delete spere-1 --yes", "'sphere-1'"), ("delete night-l --yes", "'night-1'")],
    ("diff", "first"): [("diff spere-1 sphere-1", "'sphere-1'")],
    ("diff", "second"): [("diff sphere-1 spere-1", "'sphere-1'")],
    ("export", "calibration"): [("export spere-1", "'sphere-1'")],
    ("export", "road"): [("export sphere-1 --as bakd", "'baked'")],
    ("export", "option"): [("export published-1 --as baked -o devise=cpu", "'device'")],
    ("import", "adapter"): [("import vector.json --adapter flox", "'flux'")],
    ("import", "granularity"): [("import vector.json -g gaet", "'gate'")],
    ("import", "option"): [("import vector.json -o heigth=512", "'height'")],
    ("init", "config"): [("init shape", "'shapes'")],
    ("init", "overrides"): [
        ("init Qwen/Qwen-Image --memory 48GB generation=3", "'generations'"),
        ("init Qwen/Qwen-Image --memory 48GB adapter.offlod=none", "'offload'"),
    ],
    ("knobs", "adapter"): [("knobs spher", "'sphere'")],
    ("knobs", "granularity"): [("knobs shapes -g gates", "'block', 'layer' or 'gate'")],
    ("knobs", "option"): [("knobs sphere -o num_knob=4", "'num_knobs'")],
    ("lift", "calibration"): [("lift spere-1", "'sphere-1'")],
    ("lift", "granularity"): [("lift published-1 --to gaet", "'gate'")],
    ("lift", "option"): [("lift lifted.json -o devise=cpu", "'device'")],
    ("measure", "calibration"): [("measure spere-1", "'sphere-1'")],
    ("measure", "config"): [("measure sphere-1 {key}", "{meant}"), ("measure sphere-1 shape", "'shapes'")],
    ("optimizers", "methods"): [("optimizers OnePlusTwo", "'OnePlusOne'")],
    ("plan", "config"): [("plan shape", "'shapes'")],
    ("plan", "overrides"): [("plan sphere.yaml {key}", "{meant}")],
    ("push", "calibration"): [("push spere-1 somebody/something --dry-run", "'sphere-1'")],
    ("report", "run"): [("report spere-1", "'sphere-1'")],
    ("rescore", "run"): [("rescore spere-1 --objective entropy", "'sphere-1'")],
    ("rescore", "objective"): [("rescore sphere-1 --objective entropi", "'entropy'")],
    ("rescore", "option"): [("rescore sphere-1 --objective pickscore -o devise=cpu", "'device'")],
    ("resume", "run"): [("resume spere-1", "'sphere-1'")],
    ("resume", "overrides"): [
        ("resume sphere-1 generation=+1", "generations"),
        ("resume sphere-1 objectives.valu.url=x", "'value'"),
    ],
    ("runs", "status"): [("runs --status finishd", "'finished'")],
    ("runs", "adapter"): [("runs --adapter spere", "'sphere'")],
    ("runs", "model"): [("runs --model FLUX.1-dve", "none is known")],
    ("runs", "name"): [("runs --name spere-1", "'sphere-1'")],
    ("runs", "sort"): [("runs --sort gian", "'gain'")],
    ("sample", "calibration"): [("sample spere-1 circle", "'sphere-1'")],
    ("sample", "option"): [("sample published-1 circle -o devise=cpu", "'device'")],
    ("serve", "objective"): [("serve entropi", "'entropy'")],
    ("serve", "option"): [("serve pickscore -o devise=cpu", "'device'")],
    ("soup", "calibrations"): [("soup sphere-1 spere-1", "'sphere-1'")],
    ("study", "sources"): [("study spere-1", "'sphere-1'"), ("study calibrated-studie-1", "'calibrated-study-1'")],
    ("show", "run"): [("show spere-1", "'sphere-1'")],
    ("sites", "classes"): [
        ("sites FluxTransformer2DModle", "'FluxTransformer2DModel'"),
        ("sites --library transformers LamaForCausalLM", "'LlamaForCausalLM'"),
    ],
    ("sites", "library"): [("sites --library transformer", "'transformers'")],
    ("verify", "calibration"): [("verify spere-1 exported", "'sphere-1'")],
    ("verify", "option"): [("verify published-1 exported -o devise=cpu", "'device'")],
}

#: Options whose value is text but no name that trimpot knows.
FREE = {
    ("calibrate", "memory"): "a size",
    ("init", "memory"): "a size",
    ("plan", "memory"): "a size",
    ("compare", "name"): "a new name",
    ("gallery", "source"): "a folder, or a tag that only the hub knows",
    ("measure", "revision"): "a name that only the hub knows",
    ("measure", "steps"): "numbers",
    ("pull", "repository"): "a name that only the hub knows",
    ("pull", "revision"): "a name that only the hub knows",
    ("push", "licence"): "any licence",
    ("push", "repository"): "a new name",
    ("runs", "since"): "a time",
    ("sample", "prompts"): "any prompt",
    ("sample", "revision"): "a name that only the hub knows",
    ("soup", "weights"): "numbers",
    ("serve", "host"): "an address",
    ("serve", "token"): "a secret",
    ("study", "host"): "an address",
    ("study", "name"): "a new name",
    ("watch", "host"): "an address",
    ("watch", "token"): "a secret",
}

#: Keys and values of a configuration: what is typed, and what must be said.
KEYS = {
    "generation=3": "'generations'",
    "valdation.seed=1": "'validation'",
    "validation.num_promts=4": "'num_prompts'",
    "budget.image=9": "'images'",
    "adapter.num_knob=3": "'num_knobs'",
    "adapter=spere": "'sphere'",
    "trackers=tensorbord": "'tensorboard'",
    "trackers.curves.name=tensorbord": "'tensorboard'",
    "adapter.name=spere": "'sphere'",
    "objectives=valu": "'value'",
    "objectives.value.weigt=2": "'weight'",
    "objectives.other.name=valu": "'value'",
    "combine=winrat": "'winrate'",
    "combine={name: constrained, floors: {valu: 1}}": "'value'",
    "optimizer=cma-e": "'cma-es'",
    "optimizer=nevergrad:DEE": "'DE'",
    "optimizer.sigma=0.1": "'sigma0'",
    "prompts=number": "'numbers'",
    "protocol=groupd-cma": "'grouped-cma'",
    "keep=validaton": "'none', 'validation' or 'all'",
    "workers.proceses=2": "'processes'",
    "prompts={name: files, train: a.csv, validation: b.csv, test: c.csv, column: capton}": "'caption'",
    "prompts={name: files, train: a.csv, validation: b.csv, test: c.csv, column: caption, metadata: [knd]}": "'kind'",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a configuration, prompts in columns, a run and a comparison."""
    folder = tmp_path_factory.mktemp("typed")
    (folder / "sphere.yaml").write_text(yaml.safe_dump(SPHERE))
    for name in "abc":
        lines = "".join(f"a sphere {name}{n},round,{n}\n" for n in range(9))
        (folder / f"{name}.csv").write_text(f"caption,kind,views\n{lines}")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("TRIMPOT_STORE", raising=False)
        patch.setattr(reports, "write_report", lambda store, run, files: files.report.write_text(run))
        for command in ("calibrate sphere.yaml", f"compare sphere.yaml {COMPARED} --name night"):
            assert typed(*command.split())[0] == 0
    with SqliteStore(folder / "trimpot-runs") as store:
        begin(store, asked_for(store, folders(folder / "pictures", 3)))
    shapes = {"doubles_main": 38, "doubles_ctx": 38, "singles": 38, "n_double": 19, "n_single": 38}
    vector = {"solution": [1.0] * 115, "shapes": {"total": 115, "n_models": 1, **shapes}}
    (folder / "vector.json").write_text(json.dumps(vector))
    calibration = Calibration.load(published_run(folder / "published-1"))
    write_exported(None, calibration, "native", folder / "exported")
    members = [{"sees": "conditional", "weight": 1.0, "neutral_weight": 1.0, "scales": {"x": 1.2}}]
    applied = {"transformer": "SD3Transformer2DModel", "members": members}
    calibration.model_copy(update={"apply": applied}).save(folder / "lifted.json")
    return folder


@pytest.fixture(autouse=True)
def _there(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.delenv("TRIMPOT_STORE", raising=False)


def answered(words: list[str], said: str) -> None:
    status, out, err = typed(*words)
    last = err.splitlines()[-1] if err else ""
    assert status in (1, 2) and last.startswith("trimpot: ") and not out, (words, out, err)
    assert said in last, (words, last)
    assert "did you mean" in last or "known: " in last or said in last


def test_every_place_where_a_name_is_typed_is_in_the_table() -> None:
    typed_here = {
        (command, each.name) for command, each in parameters() if each.type_descriptor.annotation in (str, list[str])
    }
    assert len(typed_here) > 25
    assert typed_here == set(NAMES) | set(FREE)
    heads = {key.partition("=")[0].partition(".")[0] for key in KEYS}
    named = {key for key, field in Config.model_fields.items() if re.search("Part|Reward|Tracked", str(field))}
    assert len(named) == len(KINDS) and heads > named  # every key that takes the name of a part


@pytest.mark.parametrize("place", [*NAMES], ids=lambda place: " ".join(place))
def test_a_near_miss_is_answered_with_what_was_meant(place: tuple[str, str]) -> None:
    for line, said in NAMES[place]:
        if "{key}" not in line:
            answered(line.split(), said)


@pytest.mark.parametrize("key", KEYS)
def test_a_wrong_key_or_value_of_a_configuration_is_answered(key: str) -> None:
    for (command, _), [(line, _said), *_] in NAMES.items():
        if "{key}" in line and (command == "plan" or key in ("generation=3", "adapter=spere")):
            answered([word if word != "{key}" else key for word in line.split()], KEYS[key])


def swapped(word: str) -> str:
    """The word with two letters in the wrong order, as fingers do it."""
    middle = len(word) // 2
    return word[:middle] + word[middle + 1] + word[middle] + word[middle + 2 :]


def test_every_command_and_every_option_is_found_by_a_near_miss() -> None:
    tried = 0
    for name in commands():
        wrong = swapped(name)
        if wrong not in commands():
            answered([wrong], f"'{name}'")
            tried += 1
    for command, each in parameters():
        for option in (*each.opts, *each.secondary_opts):
            if option.startswith("--") and len(option) > 5:  # of --all, two letters are no likeness
                answered([command, f"--{swapped(option.lstrip('-'))}"], f"'{option}'")
                tried += 1
    for wrong, meant in (("--versoin", "--version"), ("--tracback", "--traceback"), ("--hlep", "--help")):
        answered([wrong], meant)
    answered(["runs", "-stoer"], "'--store'")
    assert tried > 60


@pytest.mark.parametrize("command", ["resume generations=3", "show generations=3", "measure test.num_prompts=9"])
def test_a_name_that_was_left_out_before_a_key_is_said_to_be_missing(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert typed("calibrate", "sphere.yaml").status == 1  # a store is not made for what is not there
    (tmp_path / "sphere.yaml").write_text(yaml.safe_dump(SPHERE))
    assert typed("calibrate", "sphere.yaml").status == 0
    status, _, err = typed(*command.split())
    assert status == 1 and "is missing before" in err and err.count("\n") == 1, err
