"""What is made is called by its name, and seeds are spoken of only where they count, in all that a person reads."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import trimpot
import yaml
from trimpot.engine.functions import FunctionAdapter
from trimpot.engine.knobs import Knob, KnobSpace
from trimpot.ground.errors import PluginError
from trimpot.publishing.folder import write_folder
from trimpot.reports.facts import gather
from trimpot.reports.notebook import card
from trimpot.runs.results import Files
from trimpot.storage import SqliteStore
from trimpot.watching.parts import run as run_parts
from trimpot.watching.reading import Folder
from typed import typed

PLUGIN = """
import numpy as np
import trimpot
from PIL import Image

KNOBS = [trimpot.Knob("aim", low=0, high=2), trimpot.Knob("double.00.attn", low=0, high=2)]


def worth_of(setting, prompt, seed):
    return 1 - (setting["aim"] - 1.6) ** 2 + 0.01 * (sum(map(ord, prompt)) % 7) + 0.0001 * (seed % 10)


@trimpot.adapter(KNOBS, makes="text", uses_seed=False)
def speaker(setting, prompt, seed):
    return f"{worth_of(setting, prompt, 0):.6f}"


@trimpot.adapter(KNOBS)
def counter(setting, prompt, seed):
    return float(worth_of(setting, prompt, seed))


@trimpot.adapter(KNOBS, uses_seed=False)
def scale(setting, prompt, seed):
    return float(worth_of(setting, prompt, 0))


@trimpot.adapter(KNOBS, makes="image", uses_seed=False)
def plate(setting, prompt, seed):
    level = int(200 * max(0.0, worth_of(setting, prompt, 0)))
    return Image.fromarray(np.full((4, 4), level, np.uint8) + np.arange(4, dtype=np.uint8))


@trimpot.adapter(KNOBS, makes="image")
def painter(setting, prompt, seed):
    level = int(200 * max(0.0, worth_of(setting, prompt, seed)))
    return Image.fromarray(np.full((4, 4), level, np.uint8) + np.arange(4, dtype=np.uint8))


@trimpot.objective
def level(outputs, prompts):
    return [float(np.asarray(each).mean()) if isinstance(each, Image.Image) else float(each) for each in outputs]


@trimpot.objective
def opposite(outputs, prompts):
    return [-value for value in level(outputs, prompts)]
"""
CONFIG = {
    "plugins": "makers.py",
    "objectives": {"level": {}, "opposite": {"weight": 0}},
    "prompts": "numbers",
    "optimizer": {"name": "cma-es", "population_size": 4},
    "generations": 50,
    "bucket_size": 2,
    "validation": {"num_prompts": 8, "every": 2},
    "test": {"num_prompts": 10},
    "keep": "all",
}
#: What a maker's outputs are called, and words that nothing which a person reads may say of them.
MAKERS = {
    "speaker": ("answers", r"images?|pictures?|videos?|outputs?|seeds?"),
    "counter": ("outputs", r"images?|pictures?|videos?|answers?"),
    "scale": ("outputs", r"images?|pictures?|videos?|answers?|seeds?"),
    "plate": ("images", r"videos?|answers?|outputs?|seeds?"),
    "painter": ("images", r"videos?|answers?|outputs?"),
}
COMPARED = ("speaker", "painter")  # the others are called by the same code
SLOW = ("counter", "plate")  # second cases of what the others show
COMMANDS = (
    "plan {0}.yaml",
    "plan {0}.yaml --rate 2",
    "calibrate {0}.yaml budget.outputs=28",
    "resume {0}-1 budget.images=+8",
    "show {0}-1",
    "runs",
    "analyse cost",
)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TRIMPOT_STORE", raising=False)
    (tmp_path / "makers.py").write_text(PLUGIN)
    for maker in MAKERS:
        (tmp_path / f"{maker}.yaml").write_text(yaml.safe_dump({**CONFIG, "adapter": maker}))
    yield tmp_path


def read_by_people(page: str) -> str:
    """The text of a page, the labels of its figures, and nothing that is typed, stored or drawn."""
    labels = []
    for figure in re.findall(r'(?s)<script type="application/json">(.*?)</script>', page):
        labels += re.findall(r'"(?:text|hovertemplate|name|ticktext)":\s*("(?:[^"\\]|\\.)*")', figure)
    body = re.sub(r"(?s)<script.*?</script>|<style.*?</style>|<pre>.*?</pre>|<code>.*?</code>", " ", page)
    text = html.unescape(re.sub(r"(?s)<svg.*?</svg>|<[^>]*>", " ", body))
    return text + "\n" + "\n".join(json.loads(label) for label in labels)


def pages(store: Path, run: str) -> Iterator[tuple[str, str]]:
    """Everything that shows a finished run, by name."""
    for page in store.rglob("*.html"):
        yield str(page.relative_to(store)), read_by_people(page.read_text(encoding="utf-8"))
    parts = Folder(store).made("run", run, lambda scene: run_parts(scene, store, run))
    yield "the live page", read_by_people(" ".join(parts.values()))
    with SqliteStore(store) as opened:
        yield "the card of a notebook", read_by_people(card(gather(opened, run), Files.of(store / run), "go on"))
    published = write_folder(store / run / "calibration.json", store.parent / "published", "somebody/something")
    text = (published / "README.md").read_text(encoding="utf-8").partition("\n---\n")[2]
    yield "the model card", re.sub(r"(?s)```.*?```|`[^`]*`|\]\([^)]*\)", " ", text)


@pytest.mark.parametrize(
    "maker", [pytest.param(each, marks=pytest.mark.slow if each in SLOW else ()) for each in MAKERS]
)
def test_nothing_that_a_person_reads_calls_what_is_made_by_another_name(maker: str, here: Path) -> None:
    called, never = MAKERS[maker]
    commands = [command.format(maker) for command in COMMANDS]
    if maker in COMPARED:
        ablated = f"analyse ablation {maker}.yaml granularity=knob scales=0.5 seeds=1 test.num_prompts=8"
        commands[6:6] = [f"compare {maker}.yaml -c cma-es -c random --seeds 2 --outputs 18", ablated]
    read = {}
    for command in commands:
        said = typed(*command.split())
        assert said.status == 0, (command, said.err)
        read[command] = said.out + said.err
    read |= dict(pages(here / "trimpot-runs", f"{maker}-1"))
    read["deletion"] = typed("delete", f"{maker}-1", "--yes").out
    assert all(called in read[where] for where in (*commands[:5], "the model card", f"{maker}-1/report.html"))
    wrong = {
        where: found
        for where, text in read.items()
        if (found := re.findall(rf"(?i).{{0,40}}(?<![\w./-])(?:{never})(?![\w./=-]).{{0,40}}", text))
    }
    assert wrong == {}
    assert "ALARM" in read[commands[2]]


ONCE = "uses no seed, so a prompt has one output only"
TWICE = {
    "several seeds a prompt": ("seeds_per_prompt=2", rf"{ONCE}; leave out seeds_per_prompt: 2"),
    "a larger bucket": ("bucket_size=8", rf"{ONCE}.* bucket_size is 8 with 6 train prompts; .* at most 6"),
    "more validation prompts": ("validation.num_prompts=9", rf"{ONCE}.*validation.num_prompts is 9 with"),
    "more test prompts": ("test.num_prompts=9", rf"{ONCE}.*test.num_prompts is 9 with 6 test prompts"),
}
BEGINNING = {
    "calibrate": "calibrate {0} {1}",
    "plan": "plan {0} {1}",
    "compare": "compare {0} {1} -c cma-es -c random --seeds 1 --outputs 40",
    "an analysis": "analyse ablation {0} {1} granularity=knob scales=0.5 seeds=1",
}


@pytest.mark.parametrize(
    ("kind", "asked"),
    [(kind, asked) for kind in BEGINNING for asked in TWICE if (kind, asked) != ("an analysis", "a larger bucket")],
)
def test_a_prompt_is_not_made_twice_by_a_backbone_that_uses_no_seed(kind: str, asked: str, here: Path) -> None:
    override, told = TWICE[asked]
    pools = {}
    for name in ("train", "validation", "test"):
        (here / f"{name}.txt").write_text("".join(f"{name} {number}\n" for number in range(6)))
        pools[name] = f"{name}.txt"
    sizes = {"validation": {"num_prompts": 6}, "test": {"num_prompts": 6}}
    asked_of = {**CONFIG, **sizes, "adapter": "scale", "prompts": {"name": "files", **pools}}
    (here / "own.yaml").write_text(yaml.safe_dump(asked_of))
    said = typed(*BEGINNING[kind].format("own.yaml", override).split())
    assert said.status == 1 and re.search(told, " ".join(said.err.split())), said.err
    assert not (here / "trimpot-runs").exists() or typed("runs").out == ""


@pytest.mark.parametrize("given", [None, 1, "no", 0], ids=repr)
def test_a_function_says_whether_it_uses_its_seed(given: object) -> None:
    knobs = [Knob("aim")]
    assert FunctionAdapter(lambda setting, prompt, seed: 0.0, {}, KnobSpace(knobs), None).uses_seed
    with pytest.raises(PluginError, match=r"is told uses_seed=.*; say True or False"):
        trimpot.adapter(knobs, uses_seed=given)  # type: ignore[arg-type]


def test_a_backbone_that_denies_its_seed_is_found_out(here: Path) -> None:
    honest = "return float(worth_of(setting, prompt, 0))"
    (here / "makers.py").write_text(PLUGIN.replace(honest, "return float(seed % 1000)"))
    said = typed("calibrate", "scale.yaml", "budget.outputs=28")
    assert said.status == 1 and "it says that it uses no seed: set uses_seed to True if it does" in said.err
    assert "asked for the same candidate and prompt again" in said.err


@pytest.mark.parametrize(
    ("maker", "told"), [("scale", r"for prompt 'number \d+'; scores"), ("counter", r"\(seed \d+\); scores")]
)
def test_a_score_that_is_refused_names_a_seed_where_there_is_one(maker: str, told: str, here: Path) -> None:
    (here / "makers.py").write_text(PLUGIN.replace("return [-value for", "return [value * float('nan') for"))
    said = typed("calibrate", f"{maker}.yaml", "budget.outputs=28")
    assert said.status == 1 and re.search(told, " ".join(said.err.split())), said.err
