"""The ablation finds which blocks hurt and which scale of each is best, and says no more than its prompts allow."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import tower
from scipy import stats
from trimpot.analyses.ablation import Ablation, AblationOptions
from trimpot.analyses.groups import groups_of
from trimpot.engine.statistics import paired_p
from trimpot.setup.config import load_config
from trimpot.setup.plugins import plugins
from trimpot.storage import SqliteStore
from typed import typed


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TRIMPOT_STORE", raising=False)
    tower.write(tmp_path)


def analysed(*words: str) -> dict[str, Any]:
    said = typed("analyse", "ablation", "tower.yaml", *words, "--json")
    assert said.status == 0, said.err
    found: dict[str, Any] = json.loads(said.out)
    return found


def rows_of(name: str) -> list[dict[str, str]]:
    with (Path("trimpot-runs/ablation-tower-1") / name).open() as file:
        return list(csv.DictReader(file))


def test_it_finds_which_block_hurts_and_the_best_scale_of_each() -> None:
    numbers = analysed("seeds=2", "scales=0,0.5,1.25,1.5")["numbers"]
    removed = numbers["removed"]
    assert removed["double.01"]["mean"] == pytest.approx(1.0, abs=0.05) and removed["double.01"]["beyond_noise"]
    assert removed["double.00"]["mean"] == pytest.approx(-1.5, abs=0.05) and removed["double.00"]["beyond_noise"]
    assert removed["double.02"]["mean"] == pytest.approx(-1.0, abs=0.05)
    assert {name: each["scale"] for name, each in numbers["best"].items()} == {
        "double.00": 1.25,
        "double.01": 0.0,
        "double.02": 1.0,
    }
    assert numbers["best"]["double.02"]["judged"] is None
    for name, gain in (("double.00", 1 / 16), ("double.01", 1.0)):
        judged = numbers["best"][name]["judged"]
        assert judged["low"] - 0.01 <= gain <= judged["high"] + 0.01 and judged["num_prompts"] == 12
    assert numbers["baseline"] == "weight 2"


def test_its_sentence_tables_and_page_say_the_same() -> None:
    found = analysed("seeds=1", "scales=[0, 1.25]")
    assert found["headline"].startswith(
        "Of 3 blocks, 2 score lower without their output, beyond noise, and 1 higher (most double.01, +1.0"
    )
    assert "2 have a scale that scores higher than 1 beyond noise" in found["headline"]
    everything = rows_of("ablation.csv")
    assert len(everything) == 3 * 3 * 2  # combined, value and half; blocks; scales
    by = {(row["reward"], row["group"], row["scale"]): row for row in everything}
    removed = {row["group"]: row for row in rows_of("removed.csv")}
    for name, each in found["numbers"]["removed"].items():
        assert float(removed[name]["difference"]) == each["mean"] == float(by["combined", name, "0.0"]["difference"])
        assert float(by["half", name, "0.0"]["difference"]) == pytest.approx(-each["mean"] / 2)
        assert float(removed[name]["p_holm"]) >= float(removed[name]["p"])
    page = Path(found["page"]).read_text()
    assert found["headline"] in page and page.count('class="chart"') == 3
    assert "http://" not in page.partition("<script>")[0] and "Holm" in page


def test_every_setting_is_compared_on_all_prompts_and_seeds() -> None:
    analysed("seeds=3", "scales=0.5")
    with SqliteStore(Path("trimpot-runs"), create=False) as store:
        from trimpot.storage import Analyses

        history = [each for each in Analyses(store).history("ablation-tower-1") if each.place.stage == "test"]
    assert len(history) == 3 * (1 + tower.GROUPS)
    buckets = {each.place.generation: each.evaluation.bucket for each in history}
    assert len({bucket.prompts for bucket in buckets.values()}) == 1
    assert len({seed for bucket in buckets.values() for seed in bucket.seeds}) == 3 * 24
    settings = [dict(each.evaluation.setting) for each in history[1 : 1 + tower.GROUPS]]
    for number, setting in enumerate(settings):
        changed = {name for name, value in setting.items() if value == 0.5}
        assert changed == {name for name in setting if f"double.{number:02d}." in name}  # in both members
        assert all(value in (1.0, 2.0) for name, value in setting.items() if name not in changed)


def test_a_block_that_changes_nothing_does_not_differ() -> None:
    Path("tower.py").write_text(tower.PLUGIN.replace("2 for b in range(3))", "2 for b in range(2))"))
    numbers = analysed("seeds=1", "scales=0,1.5")["numbers"]
    dead = numbers["removed"]["double.02"]
    assert (dead["mean"], dead["p"], dead["p_holm"], dead["beyond_noise"]) == (0, 1, 1, False)
    assert numbers["best"]["double.02"] == {"scale": 1.0, "judged": None}


def test_noise_alone_is_found_to_be_noise() -> None:
    """Corrected for all that are tested: with 60 tests, three would differ at the 5 % level by chance."""
    alone = "return float(np.random.default_rng([seed, *np.frombuffer(row.tobytes(), np.uint32)]).standard_normal())"
    Path("tower.py").write_text(
        tower.PLUGIN.replace(
            "noise = np.random.default_rng([seed, len(prompt)])",
            f"{alone}\n        noise = np.random.default_rng([seed, len(prompt)])",
        )
    )
    scales = ",".join(str(round(-0.9 + 0.09 * n, 2)) for n in range(20))
    numbers = analysed("seeds=1", f"scales={scales}", "test.seed=4")["numbers"]
    tested = [each for row in numbers["scales"].values() for each in row.values()]
    assert len(tested) == 60 and sum(each["p"] < 0.05 for each in tested) > 0
    assert not any(each["beyond_noise"] for each in tested)


def test_the_p_value_is_that_of_a_paired_t_test_over_prompts() -> None:
    values, others = [0.3, 0.1, 0.4, 0.9], [0.1, 0.2, 0.1, 0.3]
    expected = stats.ttest_rel(values, others).pvalue
    assert paired_p(values, others, ["a", "b", "c", "d"]) == pytest.approx(expected)
    twice = paired_p([*values, *values], [*others, *others], [*"abcd", *"abcd"])
    assert twice == pytest.approx(expected)  # images of a prompt are no further prompts
    assert paired_p([1, 2], [1, 2], ["a", "b"]) == 1 and paired_p([1], [2], ["a"]) == 1
    assert paired_p([2, 3], [1, 2], ["a", "b"]) == 0


def test_the_groups_of_the_shipped_model_are_its_blocks_layers_and_gates() -> None:
    """In both members of the guidance together; the members' weights belong to none."""
    config = load_config("shapes")
    adapter = plugins().make("adapters", config.adapter.name, config.adapter.options)
    for granularity, count in (("block", 12), ("layer", 24), ("gate", 51)):
        groups = groups_of(adapter, granularity)  # type: ignore[arg-type]
        assert len(groups) == count and [group.depth for group in groups] == sorted(group.depth for group in groups)
        knobs = [knob for group in groups for knob in group.knobs]
        assert len(set(knobs)) == len(knobs)
        assert set(adapter.space.names) - set(knobs) == {name for name in adapter.space.names if "weight" in name}


def test_the_defaults_are_those_of_the_paper() -> None:
    options = AblationOptions()
    assert (options.scales, options.seeds, options.granularity) == ((0.0, 0.5, 0.75, 1.25, 1.5), 5, "block")
    assert not Ablation.searches


# As the sensitivity of a search


def test_a_search_takes_the_sensitivity_and_measures_nothing_itself() -> None:
    analysed("seeds=1", "scales=0.75,1.25")
    file = Path("trimpot-runs/ablation-tower-1/sensitivity.json")
    measured = json.loads(file.read_text())["knobs"]
    assert measured["member1.double.01.attn"] > measured["member1.double.02.mlp"] > 0
    assert measured["member1.double.01.attn"] == measured["member2.double.01.mlp"]
    assert "member1.weight" not in measured
    said = typed("calibrate", "tower.yaml", f"sensitivity.file={file}")
    assert said.status == 0, said.err
    file.rename("elsewhere.json")
    assert typed("resume", "tower-1", "generations=+1").status == 0  # the run holds the numbers themselves
    with SqliteStore(Path("trimpot-runs"), create=False) as store:
        assert not [each for each in store.history("tower-1") if each.place.stage == "sensitivity"]
        assert store.run("tower-1").config["sensitivity"]["measured"] == measured
    assert typed("calibrate", "tower.yaml", "name=plain").status == 0
    with SqliteStore(Path("trimpot-runs"), create=False) as store:
        searched = [
            [each.evaluation.setting for each in store.history(run) if each.place.stage == "search"]
            for run in ("tower-1", "plain-1")
        ]
    assert searched[0] != searched[1]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["sensitivity.file=nowhere.json"], "cannot read .*nowhere.json: No such file"),
        (["sensitivity.file=tower.yaml"], "is no sensitivity that `trimpot analyse ablation` has written"),
        (["sensitivity.file=3"], "should be the path of a file, not 3"),
        (
            ["sensitivity.file=other.json"],
            "measured on other knobs, such as 'knob.9'; make the ablation with this very",
        ),
        (["sensitivity.file=negative.json"], "at least 0"),
        (["sensitivity={file: other.json, measured: {a: 1}}"], "say the same"),
        (["sensitivity={measured: {member1.weight: 1}, step: 0.5}"], "leave step out"),
        (["sensitivity.measured={}"], "1 or more entries"),
    ],
)
def test_a_sensitivity_that_cannot_be_used_is_refused(words: list[str], said: str) -> None:
    Path("other.json").write_text('{"trimpot": "sensitivity", "knobs": {"knob.9": 1}}')
    Path("negative.json").write_text('{"trimpot": "sensitivity", "knobs": {"member1.weight": -1}}')
    import re

    done = typed("calibrate", "tower.yaml", *words)
    assert done.status == 1 and done.err.count("\n") == 1 and re.search(said, done.err), done.err
    assert not Path("trimpot-runs").exists()
