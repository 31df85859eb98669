"""A calibration that is faulty, of something else, or nowhere: each command says one sentence and changes nothing."""

from __future__ import annotations

import copy
import hashlib
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trimpot
from applied import calibrated
from generated import candidates
from hub_server import Hub, known_hub
from trimpot.adapters import make_shapes
from trimpot.adapters.pipelines import PipelineAdapter
from trimpot.ground.errors import TrimpotError
from typed import typed

SMALL = {"num_inference_steps": 2, "granularity": "gate", "guidance_grid": [3]}
TINY = ["test.num_prompts=2", "validation.num_prompts=2", "by_steps.steps=[]"]
KNOB, SITE = "member1.joint.00.attn.image", "transformer_blocks.0.norm1[1]"


def scales(values: Any) -> list[dict[str, Any]]:
    return [member["scales"] for member in values["apply"]["members"]]


def every(values: Any, change: Callable[[dict[str, Any]], Any]) -> None:
    for each in scales(values):
        change(each)


#: What is done to a good file, and what must be said of it.
FAULTS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "another architecture": (lambda v: v["apply"].update(transformer="FluxTransformer2DModel"), "FluxTransformer2DM"),
    "a missing knob": (lambda v: v["setting"].pop(KNOB), "different things|other knobs"),
    "a surplus knob": (lambda v: v["setting"].update({"joint.99.attn": 1.3}), "different things|other knobs"),
    "a surplus knob that changes nothing": (lambda v: v["setting"].update(x=1.0), "different things|other knobs"),
    "a knob that is not applied": (lambda v: v["setting"].update({KNOB: 1.99}), "different things|its setting makes"),
    "a missing scale": (lambda v: every(v, lambda s: s.pop(SITE)), "different things|the scale of"),
    "a missing scale of one member": (lambda v: scales(v)[0].pop(SITE), "the same modules|the scale of"),
    "a surplus scale": (lambda v: every(v, lambda s: s.update({"x.9[1]": 1.1})), "different things|scale of"),
    "a scale beyond bounds": (lambda v: every(v, lambda s: s.update({SITE: 1e5})), "apply.members|scale of"),
    "a scale in words": (lambda v: every(v, lambda s: s.update({SITE: "1"})), "apply.members|scale of"),
    "a value in words": (lambda v: v["setting"].update({KNOB: "1"}), "is not a calibration: setting"),
    "no members": (lambda v: v["apply"].update(members=[]), "scale the same modules|other members"),
    "a later schema": (lambda v: v.update(schema_version=99), "schema version 99"),
}
#: What stands in the place of a file.
TEXTS = {
    "not a number": "NaN, where numbers must be finite",
    "infinity": "1e999, where numbers must be finite",
    "nothing": "it is not JSON, it is empty",
    "a list": "is not a calibration",
    "no JSON": "it is not JSON",
}
#: Where no calibration is; the hub has the repositories.
PLACES = {
    "absent.json": "no calibration 'absent.json'",
    "shapes-9": "no calibration 'shapes-9'",
    "bare": "holds no calibration.json",
    "somebody/other": "somebody/other has no calibration.json",
    "somebody/absent": "the hub shows no somebody/absent",
    "test.num_prompts=2": "the calibration is missing before 'test.num_prompts=2'",
}
READERS: dict[str, Callable[[str], list[str]]] = {
    "sample": lambda name: ["sample", name, "a red circle", "--seeds", "1"],
    "export native": lambda name: ["export", name, "--as", "native", "--to", "out"],
    "export baked": lambda name: ["export", name, "--as", "baked", "--to", "out"],
    "export ia3": lambda name: ["export", name, "--as", "ia3", "--to", "out"],
    "export comfyui": lambda name: ["export", name, "--as", "comfyui", "--to", "out"],
    "verify": lambda name: ["verify", name, "exported"],
    "push": lambda name: ["push", name, "somebody/x", "--to", "out"],
    "soup": lambda name: ["soup", name, "good.json", "--to", "out.json"],
    "soup, second": lambda name: ["soup", "good.json", name, "--to", "out.json"],
    "diff": lambda name: ["diff", name, "good.json", "--to", "out.html"],
    "lift": lambda name: ["lift", name, "--output", "out.json"],
}
#: These make the backbone first, which takes longer: they are asked for a few faults.
SEARCHING: dict[str, Callable[[str], list[str]]] = {
    "measure": lambda name: ["measure", name, *TINY],
    "start": lambda name: (
        ["calibrate", "shapes", f"start={name}", "generations=1", "workers=1", *TINY]
        + [f"adapter.{key}={json.dumps(value)}" for key, value in SMALL.items()]
    ),
}
FEW = ("another architecture", "a knob that is not applied", "a surplus scale")


@pytest.fixture(scope="module")
def adapter() -> PipelineAdapter:
    made = make_shapes(**SMALL)
    assert isinstance(made, PipelineAdapter)
    return made


@pytest.fixture(scope="module")
def good(adapter: PipelineAdapter, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The values of a good file."""
    [vector] = candidates(adapter, 1)
    file = tmp_path_factory.mktemp("good") / "calibration.json"
    values = json.loads(calibrated(adapter, adapter.space.to_setting(vector), file).read_text())
    adapter.close()
    parts = {"adapter": {"name": "shapes", **SMALL}, "objectives": "shapes", "prompts": {"name": "compositional"}}
    values["provenance"]["config"] = {**parts, "objectives": {"shapes": {}}}
    return values


@pytest.fixture(scope="module")
def here(good: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A working folder with a good file, an export of it, every faulty one, and a hub."""
    folder = tmp_path_factory.mktemp("here")
    (folder / "good.json").write_text(json.dumps(good))
    for name in ("bare", "exported"):
        (folder / name).mkdir()
    (folder / "exported" / "calibration.json").write_text(json.dumps(good))
    for name, (change, _) in FAULTS.items():
        change(values := copy.deepcopy(good))
        (folder / f"{name}.json").write_text(json.dumps(values))
    was, text = f'"{KNOB}": {json.dumps(good["setting"][KNOB])}', json.dumps(good)
    texts = {"not a number": text.replace(was, f'"{KNOB}": NaN'), "infinity": text.replace(was, f'"{KNOB}": 1e999')}
    for name, content in {**texts, "nothing": "", "a list": "[]", "no JSON": '{"setting": '}.items():
        (folder / f"{name}.json").write_text(content)
    with pytest.MonkeyPatch.context() as patch, known_hub(patch, folder.parent / "hub-cache") as hub:
        patch.chdir(folder)
        patch.delenv("TRIMPOT_STORE", raising=False)
        _filled(hub)
        yield folder


def _filled(hub: Hub) -> None:
    hub.commit("somebody/other", {"README.md": b"# other\n"})


def listed(folder: Path) -> dict[str, str]:
    """All files with what they hold, but for an empty store."""
    files = sorted(path for path in folder.rglob("*") if "trimpot-runs" not in path.parts)
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "" for path in files}


def state(pipe: Any) -> tuple[str, int]:
    """A transformer's weights and the number of its hooks."""
    model = pipe.transformer
    weights = b"".join(value.numpy().tobytes() for value in model.state_dict().values())
    hooks = sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules())
    return hashlib.sha256(weights).hexdigest(), hooks


CASES = {
    **{f"{name}.json": said for name, (_, said) in FAULTS.items()},
    **{f"{name}.json": said for name, said in TEXTS.items()},
    **PLACES,
}


def refused(words: list[str], said: str, here: Path) -> None:
    before = listed(here)
    status, out, err = typed(*words)
    assert status in (1, 2) and not out, (words, out)
    assert err.startswith("trimpot: ") and err.count("\n") == 1 and "Traceback" not in err, err
    assert re.search(said, err), (words, err)
    assert listed(here) == before, words


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("command", READERS)
def test_every_command_refuses_it_in_one_sentence_and_writes_nothing(here: Path, command: str, name: str) -> None:
    refused(READERS[command](name), CASES[name], here)


@pytest.mark.parametrize("name", FEW)
@pytest.mark.parametrize("command", SEARCHING)
def test_neither_a_measurement_nor_a_search_begins_with_it(here: Path, command: str, name: str) -> None:
    refused(SEARCHING[command](f"{name}.json"), CASES[f"{name}.json"], here)


@pytest.mark.parametrize("name", CASES)
def test_a_pipeline_is_untouched_by_it(adapter: PipelineAdapter, here: Path, name: str) -> None:
    before = state(adapter.pipe)
    for use in (trimpot.load_pipeline, lambda file: trimpot.load_calibration(adapter.pipe, file)):
        with pytest.raises(TrimpotError) as caught:
            use(name)
        assert "\n" not in str(caught.value)
    assert state(adapter.pipe) == before


def test_the_file_without_a_fault_is_taken(adapter: PipelineAdapter, here: Path) -> None:
    """So that what is refused above is refused for its fault."""
    with trimpot.load_calibration(adapter.pipe, "good.json"):
        pass
    for command in ("export native", "export comfyui", "soup", "diff"):
        words = READERS[command]("good.json")
        words[-1] = f"{command.replace(' ', '-')}-{words[-1]}"
        assert typed(*words).status == 0, typed(*words).err
