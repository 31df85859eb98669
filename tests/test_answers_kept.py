"""Answers of a backbone of texts: watched, kept, scored later, and shown before and after, by their own name."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from closed_form import SMALL
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from prompt_lists import write
from trimpot.engine.answer import Answer, Likelihood
from trimpot.engine.bucket import Bucket
from trimpot.engine.hooks import hookimpl
from trimpot.engine.knobs import Knob, KnobSpace
from trimpot.engine.seams import Adapter
from trimpot.ground.errors import ConfigError, StoreError
from trimpot.reports import write_report
from trimpot.reports.gallery import read_answers, read_pictures
from trimpot.reports.nouns import noun
from trimpot.reports.prose import LONGEST, prose
from trimpot.runs import rescoring, session
from trimpot.runs.rescoring import rescore
from trimpot.runs.results import Files, summary
from trimpot.setup.config import load_config
from trimpot.setup.plugins import Plugins
from trimpot.storage import SqliteStore
from trimpot.storage.kept import Keeper, read_output
from trimpot.watching import parts
from trimpot.watching.reading import Folder

HOSTILE = '<script>alert("x")</script>\u202egnirts\x1b[31m & more\n\n  indented'


class Sums(Adapter):
    """Adds, right where a knob is near 1.4, and says hostile things otherwise."""

    makes = "text"
    uses_seed = False
    space = KnobSpace([Knob("aim"), Knob("other")])

    def generate(self, population: NDArray[np.float64], bucket: Bucket) -> Iterator[list[Answer]]:
        for aim, _ in population:
            answers = []
            for prompt in bucket.prompts:
                number = int(prompt.split()[-3])
                right = abs(aim - 1.4) < 0.02 * (number % 20)
                text = str(number + 1) if right else HOSTILE
                likely = Likelihood(str(number + 1), -abs(float(aim) - 1.4) - 0.01 * (number % 20), 1, right)
                answers.append(Answer(text, ended=True, reference=likely))
            yield answers

    def describe(self) -> dict[str, Any]:
        return {"id": "sums"}


@pytest.fixture(scope="module")
def known() -> Iterator[Plugins]:
    class Plugin:
        @hookimpl
        def register_adapters(self, register: Any) -> None:
            register("sums", lambda: Sums())

    made = Plugins()
    made.add(Plugin(), name="sums-plugin", origin="tests")
    with pytest.MonkeyPatch.context() as patch:
        for module in (session, rescoring):
            patch.setattr(module, "plugins", lambda: made)
        yield made


def config(folder: Path, lacking: int | None = None, **changed: Any) -> dict[str, Any]:
    rows = [
        (f"Q: 1 + 1\nA: 2\n\nQ: {number} + 1", {} if number == lacking else {"answer": str(number + 1), "tag": tag})
        for number, tag in zip(range(90), ("even", "odd") * 45, strict=True)
    ]
    pools = {name: rows[begin : begin + 30] for name, begin in (("train", 0), ("validation", 30), ("test", 60))}
    files = {name: str(write(folder, "jsonl", some, name)) for name, some in pools.items()}
    named = {"adapter": "sums", "prompts": {"name": "files", "column": "prompt", **files}}
    sizes = {"generations": 4, "validation": {"num_prompts": 10, "every": 2}, "test": {"num_prompts": 20}}
    objectives = {"log-likelihood": {}, "exact-match": {"weight": 0}}
    return {**SMALL, **named, "objectives": objectives, "bucket_size": 8, "keep": "all", **sizes, **changed}


@pytest.fixture(scope="module")
def finished(known: Plugins, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    folder = tmp_path_factory.mktemp("answers")
    return folder, session.start(load_config(config(folder)), folder, ())


def test_a_run_of_answers_speaks_of_answers_and_shows_them_as_a_person_reads_them(finished: tuple[Path, str]) -> None:
    folder, run = finished
    files = Files.of(folder / run)
    with SqliteStore(folder) as store:
        write_report(store, run, files)
        told = summary(store, store.run(run))
    page = files.report.read_text(encoding="utf-8")
    body = re.sub(r"(?s)<(script|style)>.*?</\1>|<script type.*?</script>", "", page)
    assert told["makes"] == "text" and "answers" in body
    assert not re.search(r"\bimages?\b|\bseeds?\b(?!_)", re.sub(r"(?s)<pre>.*?</pre>|<details>.*?</details>", "", body))
    assert "<script>alert" not in body and "\u202e" not in body and "\x1b" not in body
    assert "&lt;script&gt;alert(&quot;x&quot;)&lt;/script&gt;gnirts &amp; more\n\n  indented" in body
    assert "Q: 1 + 1\nA: 2\n\nQ: " in body
    said = read_answers(files.images)
    assert len(said) == 8 and all(HOSTILE in (each.neutral, each.calibrated) or each.neutral for each in said)
    assert read_pictures(files.images) == []


def test_the_live_page_shows_answers(finished: tuple[Path, str]) -> None:
    """Kept ones of the latest recommendation, or those of the first test prompts."""
    folder, run = finished
    page = Folder(folder).made("run", run, lambda scene: parts.run(scene, folder, run))["pictures"]
    assert "Q: 1 + 1\nA: 2\n\nQ: " in page and "<img" not in page and "<script>" not in page and "seed" not in page


def test_the_tag_of_a_record_breaks_scores_down(finished: tuple[Path, str]) -> None:
    folder, run = finished
    with SqliteStore(folder) as store:
        outcome = store.run(run).outcome
        assert outcome is not None
        tags = outcome["tags"]
    assert set(tags) == {"log-likelihood", "exact-match"} and set(tags["exact-match"].values()) == {"even", "odd"}


def test_statistics_of_texts_are_always_watched(finished: tuple[Path, str]) -> None:
    folder, run = finished
    with SqliteStore(folder) as store:
        [neutral] = store.recorded(run, "baseline", 0).values()
        assert {"length", "repetition", "distinct-n", "refusals", "exact-match"} < set(neutral.scores)
        [judged] = store.recorded(run, "validation", 2).values()
        assert set(judged.scores) == set(neutral.scores)


def test_kept_answers_are_scored_later_by_any_reward_of_texts(known: Plugins, finished: tuple[Path, str]) -> None:
    """Likelihoods included; a reward that the run watched gives what it gave then."""
    folder, run = finished
    again = rescore(run, "exact-match", {}, folder)
    assert again.makes == "text" and again.num_lacking == 0 and again.test is not None and again.num_scored >= 3
    with SqliteStore(folder) as store:
        pair = [store.recorded(run, "test", 0)[position].scores["exact-match"] for position in (0, 1)]
    assert (again.test.neutral, again.test.calibrated) == tuple(float(np.mean(scores)) for scores in pair)
    assert rescore(run, "perplexity", {}, folder).test is not None
    assert rescore(run, "length", {"unit": "characters"}, folder).test is not None


def test_a_damaged_answer_is_refused(known: Plugins, tmp_path: Path) -> None:
    run = session.start(load_config(config(tmp_path, generations=2)), tmp_path, ())
    for path in (tmp_path / "images").rglob("*.json"):
        path.write_bytes(path.read_bytes().replace(b'"text"', b'"tixt"'))
    with pytest.raises(StoreError, match=r"the kept answer .*\.json is gone or damaged .*; it cannot be scored"):
        rescore(run, "length", {}, tmp_path)


def test_a_reward_that_needs_what_a_record_lacks_stops_the_run_before_it_begins(known: Plugins, tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"'exact-match' needs the `answer` of every prompt, and 1 of 90 prompts have none, such as"
    ) as caught:
        session.start(load_config(config(tmp_path, lacking=75)), tmp_path / "runs", ())
    assert "75 + 1" in str(caught.value) and len(str(caught.value).splitlines()) == 1


TEXTS = st.text(max_size=40)
LIKELY = st.builds(
    Likelihood, TEXTS, st.floats(allow_nan=False, allow_infinity=False), st.integers(0, 99), st.booleans()
)
ANSWERS = st.builds(
    Answer,
    TEXTS,
    st.lists(st.integers(0, 2**20), max_size=4).map(tuple),
    st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=4).map(tuple),
    st.sampled_from([True, False, None]),
    st.none() | LIKELY,
    st.lists(LIKELY, max_size=3).map(tuple),
    st.none() | st.floats(allow_nan=False, allow_infinity=False),
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(outputs=st.lists(ANSWERS | st.text(), max_size=4))
def test_an_answer_is_kept_bit_for_bit_under_a_name_of_its_content(tmp_path: Path, outputs: list[Any]) -> None:
    names = Keeper(tmp_path)(outputs)
    assert [read_output(tmp_path, name) for name in names] == outputs
    assert len(set(names)) == len({repr(output) for output in outputs})


@pytest.mark.parametrize(
    "bad", [b"{", b"[]", b"3", b"null", b'{"text": "a"}', b'{"text":"a","tokens":[],"logprobs":[],"more":1}']
)
def test_a_file_that_holds_no_answer_is_refused(tmp_path: Path, bad: bytes) -> None:
    [name] = Keeper(tmp_path)(["a text"])
    (tmp_path / name).write_bytes(bad)
    with pytest.raises(StoreError, match="is gone or damaged"):
        read_output(tmp_path, name)


@pytest.mark.parametrize("text", [HOSTILE, HOSTILE * 100, "a\tb", "\ud800", "<details open>", "&lt;"])
def test_no_text_is_obeyed_by_a_page(text: str) -> None:
    shown = prose(text)
    left = re.sub(r"</?(?:details|summary|b)>", "", shown) if len(text) > LONGEST else shown
    assert "<" not in left and "\u202e" not in left and "\x1b" not in left and shown.encode("utf-8")
    assert ("<details>" in shown) == (len(text) > LONGEST)


def test_a_gallery_that_somebody_else_wrote_is_no_gallery(tmp_path: Path) -> None:
    for said in ("text", [1], [{"prompt": "p"}], [{"prompt": "p", "neutral": 1, "calibrated": "c"}], {"a": 1}):
        (tmp_path / "index.json").write_text(json.dumps({"images": [], "answers": said}))
        assert read_answers(tmp_path) == []


def test_every_medium_has_a_name() -> None:
    assert [noun(makes) for makes in ("image", "video", "text", None)] == ["images", "videos", "answers", "outputs"]
