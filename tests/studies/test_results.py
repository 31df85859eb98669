"""Results: what is counted, what is left out by the rule, the page and the table; copies and deletion of studies."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest
from studied import HOSTILE, begun, picture, rate, taste
from trimpot.engine.bucket import Bucket
from trimpot.engine.evaluation import Evaluation, Place
from trimpot.ground.errors import StoreError
from trimpot.storage import SqliteStore, Studies
from trimpot.storage.backup import back_up
from trimpot.storage.deletion import Deletion
from trimpot.studies.page import write_results
from trimpot.studies.rating import Rating
from trimpot.studies.results import results
from trimpot.studies.tables import COLUMNS
from trimpot.studies.words import headline, left_out


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of 40 prompts that seven raters have filled, of whom one always answers `left`."""
    where = tmp_path_factory.mktemp("study")
    study = begun(where, 40, raters=8, pairs=40)
    with SqliteStore(where / "store") as store:
        rating = Rating(store, study)
        for rater in rating._studies.raters(study)[:7]:
            careless = rater.number == 3
            rate(rating, rater, (lambda *_: "left") if careless else taste(rater.number, 0.6, 0.1))
        rate(rating, rating._studies.raters(study)[7], taste(99), most=3)
    return where / "store"


@pytest.fixture
def store(whole: Path) -> Iterator[SqliteStore]:
    with SqliteStore(whole, create=False) as opened:
        yield opened


def test_known_preferences_come_back_inside_their_intervals(store: SqliteStore) -> None:
    found = results(store, "a-study-1").verdicts
    for question in ("overall", "alignment"):
        [match] = found[question].matches
        assert match.wins.low < 0.6 < match.wins.high
        assert match.ties.low < 0.1 < match.ties.high
        assert match.losses.low < 0.3 < match.losses.high
        assert match.net.low < 0.3 < match.net.high and match.standing == "better"
        assert match.wins.value + match.ties.value + match.losses.value == pytest.approx(1)
        assert abs(found[question].alpha or 0) < 0.2, "these raters agree by chance only"


def test_shares_are_those_of_a_count_by_hand(store: SqliteStore) -> None:
    result = results(store, "a-study-1")
    rows = [each for each in result.rated if each.kind == "pair" and each.question == "overall" and each.rater != 3]
    [match] = result.verdicts["overall"].matches
    assert match.wins.num_answers == len(rows) == 6 * 40 + sum(each.rater == 8 for each in rows)
    for answer, share in (("a", match.wins), ("b", match.losses)):
        chosen = [each for each in rows if each.answer != "same" and "ab"[getattr(each, each.answer)] == answer]
        assert share.value == pytest.approx(len(chosen) / len(rows))


def test_who_does_not_look_is_left_out_by_the_rule_and_shown_with_and_without(store: SqliteStore) -> None:
    result = results(store, "a-study-1")
    assert [rater.number for rater in result.left_out] == [3]
    assert result.left_out[0].passed <= 2 and result.left_out[0].checks == 4
    assert "1 rater does not count, by the rule that was set before" in left_out(result)
    assert (
        result.of_all["overall"].matches[0].wins.num_answers
        == result.verdicts["overall"].matches[0].wins.num_answers + 40
    )
    assert json.loads(json.dumps(result.to_json()))["with_all_raters"]["overall"]["matches"]


def test_the_page_can_be_sent(store: SqliteStore) -> None:
    """It holds its pictures, asks for nothing, tells no link, and takes hostile prompts for text."""
    _, files = write_results(store, "a-study-1")
    page = files.page.read_text()
    assert "default-src 'none'" in page and not re.search(r"(src|href)=[\"']?(?!data:)[a-z/]", page)
    assert page.count("<img") > 4 and "data:image/png;base64," in page
    for rater in Studies(store).raters("a-study-1"):
        assert rater.token not in page and rater.token not in files.table.read_text()

    tags = list[str]()

    class Tags(HTMLParser):
        def handle_starttag(self, tag: str, attrs: object) -> None:
            tags.append(tag)

    Tags().feed(page)
    assert "img" in tags and "script" not in tags
    assert headline(results(store, "a-study-1")).replace("'", "&#x27;") in page
    for words in ("Overall preference", "Text alignment", "Korn and Graubard", "Krippendorff", "does not count"):
        assert words in page


def test_the_table_holds_every_answer_and_no_formula(store: SqliteStore) -> None:
    result, files = write_results(store, "a-study-1")
    rows = list(csv.DictReader(io.StringIO(files.table.read_text())))
    assert tuple(rows[0]) == COLUMNS and len(rows) == len(result.rated) == 7 * 88 + 3
    assert {row["prompt"] for row in rows} >= {HOSTILE[0], f"'{HOSTILE[3]}"}
    assert not any(cell[:1] in "=+-@" for row in rows for cell in row.values() if cell)
    won = [row for row in rows if row["choice"] == "a" and row["kind"] == "pair"]
    assert won and all(row[row["answer"]] == "a" for row in won)


def test_a_study_that_nobody_has_answered_has_a_page_too(tmp_path: Path) -> None:
    study = begun(tmp_path, 3, checks=0)
    with SqliteStore(tmp_path / "store") as store:
        result, files = write_results(store, study)
        assert headline(result) == "Nobody has answered yet." and "Nobody has answered yet." in files.page.read_text()
        rater = Studies(store).raters(study)[0]
        rate(Rating(store, study), rater, taste(0), most=1)
        result, files = write_results(store, study)
        assert [each.matches[0].standing for each in result.verdicts.values()] == ["uncertain"]
        assert "no interval" in files.page.read_text()
        with pytest.raises(StoreError, match="did you mean 'a-study-1'"):
            results(store, "a-study-2")


def test_a_backup_holds_studies_and_their_pictures(store: SqliteStore, tmp_path: Path) -> None:
    write_results(store, "a-study-1")
    back_up(store, tmp_path / "copy")
    with SqliteStore(tmp_path / "copy", create=False) as copy:
        assert results(copy, "a-study-1").to_json() == results(store, "a-study-1").to_json()
        assert (tmp_path / "copy" / "a-study-1" / "study.html").exists()
        for file in Studies(copy).files("a-study-1"):
            assert Studies(copy).image(file).mode == "RGB"


def test_a_deleted_run_leaves_what_a_study_shows_or_is_about_to(tmp_path: Path) -> None:
    study = begun(tmp_path, 3)
    with SqliteStore(tmp_path / "store") as store:
        studies = Studies(store)
        run = store.add_run("run", "identity", {}, {})
        bucket = Bucket(("x",) * 3, (1, 2, 3))
        store.record(run, [(Place("test", 0, 0), "key", Evaluation({"k": 1.0}, bucket, None, {"s": (0.0, 1.0, 2.0)}))])
        files = store.keeper([studies.image(studies.get(study).config["pictures"][0][0]), picture(77), picture(78)])
        store.record_outputs("key", files)
        studies.record_pictures({"drawn before its study began": files[1]})
        Deletion(store, [run]).carry_out()
        assert [(tmp_path / "store" / "images" / file).exists() for file in files] == [True, True, False]
        assert studies.picture("drawn before its study began") == files[1]


def test_a_deleted_study_is_gone_with_its_pictures_and_nothing_else(tmp_path: Path) -> None:
    first = begun(tmp_path, 4, names=("a", "b"))
    second = begun(tmp_path, 5, names=("c", "d"))  # whose pictures are the first's, and one pair more
    with SqliteStore(tmp_path / "store") as store:
        studies = Studies(store)
        rate(Rating(store, first), studies.raters(first)[0], taste(0), most=3)
        write_results(store, first)
        own, shared = studies.files(first) - studies.files(second), studies.files(second)
        deletion = Deletion(store, [first])
        loss = deletion.loss()
        assert (loss.num_studies, loss.num_answers, loss.num_kept_images, loss.runs) == (1, 3, len(own), ())
        deletion.carry_out()
        assert studies.names() == [second] and not (tmp_path / "store" / first).exists()
        assert {f"{path.parent.name}/{path.name}" for path in (tmp_path / "store" / "images").rglob("*.png")} == shared
        assert not store.records.read("answers") and len(store.records.read("raters")) == 3
        back_up(store, tmp_path / "copy")
        with pytest.raises(StoreError, match="no run, comparison, analysis or study"):
            Deletion(store, [first])
        with store.lock(second), pytest.raises(StoreError, match="another process is working on"):
            Deletion(store, [second])
