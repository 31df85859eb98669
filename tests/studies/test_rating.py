"""Answers: kept at once, once, and only to what was shown; nothing that is sent tells what a picture is."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from studied import begun, rate, taste
from trimpot.storage import SqliteStore, Studies
from trimpot.studies.design import QUESTIONS
from trimpot.studies.rating import Rating

LEFT = {"position": 0, "question": "overall", "answer": "left", "key": ""}


@pytest.fixture
def rating(tmp_path: Path) -> Iterator[Rating]:
    study = begun(tmp_path, 12)
    with SqliteStore(tmp_path / "store") as store:
        yield Rating(store, study)


def sent(state: dict[str, Any], answer: str = "left", **more: Any) -> dict[str, Any]:
    return {**{name: state[name] for name in ("position", "question", "key")}, "answer": answer, **more}


def raters(rating: Rating) -> Any:
    return rating._studies.raters(rating.study)


def test_an_answer_moves_on_through_both_questions_of_every_pair(rating: Rating) -> None:
    first = raters(rating)[0]
    seen = []
    state = rating.state(first)
    while not state["finished"]:
        seen.append((state["position"], state["question"]))
        state = rating.answer(first, sent(state)).content
    assert seen == [(position, question) for position in range(14) for question in QUESTIONS]
    assert state == {"stored": True, "done": 14, "of": 14, "finished": True}
    assert rating.state(raters(rating)[1])["done"] == 0


def test_the_same_answer_again_changes_nothing_and_another_one_is_refused(rating: Rating) -> None:
    first = raters(rating)[0]
    state = rating.state(first)
    assert rating.answer(first, sent(state)).status == 200
    again = rating.answer(first, sent(state))
    assert again.status == 200 and "answered before" in again.content["again"]
    other = rating.answer(first, sent(state, "right"))
    assert other.status == 409 and "the first picture stays your answer" in other.content["error"]
    assert [(each.position, each.answer) for each in rating._studies.answers(first.id)] == [(0, "left")]
    assert again.content["question"] == other.content["question"] == "alignment", "both go on where the rater is"


@pytest.mark.parametrize(
    "change",
    [
        {"key": ""},
        {"key": None},
        {"key": "0" * 32},
        {"key": "é"},
        {"position": 1},
        {"position": 13},
        {"question": "alignment"},
    ],
    ids=str,
)
def test_an_answer_to_what_was_never_shown_is_refused(rating: Rating, change: dict[str, Any]) -> None:
    first, other = raters(rating)[:2]
    for _ in range(2):  # also with a pair of another rater's
        reply = rating.answer(first, {**sent(rating.state(first)), **change})
        assert reply.status == 409 and "not been shown to you" in reply.content["error"]
        change = {"key": rating.state(other)["key"]}
    assert not rating._studies.answers(first.id)


@pytest.mark.parametrize(
    "given",
    [
        None, [], "left", 4, {}, {"answer": "left"}, {**LEFT, "answer": "both"}, {**LEFT, "question": "beauty"},
        *({**LEFT, "position": at} for at in (-1, 14, 0.5, "0", None, True, 10**400, math.nan)),
        *({**LEFT, "seconds": each} for each in (-1, math.inf, "1")),
        {**LEFT, "question": ["overall"]}, {**LEFT, "answer": {"left": 1}},
    ],
    ids=lambda each: str(each)[:60],
)  # fmt: skip
def test_what_is_no_answer_is_refused_in_a_sentence(rating: Rating, given: object) -> None:
    first = raters(rating)[0]
    reply = rating.answer(first, given)
    assert reply.status == 400 and reply.content["error"] and "\n" not in reply.content["error"]
    assert reply.content["position"] == 0 and not rating._studies.answers(first.id)


def test_a_token_is_a_rater_of_its_own_study_only(tmp_path: Path) -> None:
    one = begun(tmp_path, 5, names=("a", "b"))
    other = begun(tmp_path, 6, names=("c", "d"))
    with SqliteStore(tmp_path / "store") as store:
        token = Studies(store).raters(one)[0].token
        found = Rating(store, one).rater(token)
        assert found is not None and found.number == 1
        for wrong in ("", "x", token[:-1], f"{token} ", "é" * 24, "%" * 9999, "\udcff"):
            assert Rating(store, one).rater(wrong) is None
        assert Rating(store, other).rater(token) is None
        assert len({each.token for name in (one, other) for each in Studies(store).raters(name)}) == 6


def test_a_picture_has_another_name_for_everybody_and_everywhere(rating: Rating) -> None:
    """Nothing in a state but the prompt says what is shown, and no name occurs twice."""
    names: list[str] = []
    for each in raters(rating):
        state = rating.state(each)
        while not state["finished"]:
            assert set(state) <= {
                "stored", "done", "of", "finished", "position", "question", "prompt", "pictures", "key", "next"
            }  # fmt: skip
            if state["question"] == "overall":
                names += state["pictures"]
                files = [rating.picture(each, name) for name in state["pictures"]]
                assert files == [rating.design.file(each.plan[state["position"]], side) for side in ("left", "right")]
            state = rating.answer(each, sent(state)).content
    assert len(set(names)) == len(names) == 3 * 14 * 2
    assert all(len(name) == 36 and name.endswith(".png") for name in names)


def test_a_picture_is_sent_when_it_is_its_turn_and_to_nobody_else(rating: Rating) -> None:
    first, other = raters(rating)[:2]
    state = rating.state(first)
    assert all(rating.picture(first, name) for name in (*state["pictures"], *state["next"]))
    assert not any(rating.picture(other, name) for name in state["pictures"])
    from trimpot.studies.rating import picture_name

    assert rating.picture(first, picture_name(first.token, 2, "left")) is None
    for wrong in ("", "../trimpot.sqlite", "x.png", "é.png"):
        assert rating.picture(first, wrong) is None


def test_all_pictures_are_plain_and_of_one_form(rating: Rating) -> None:
    """PNG of a pair's common size with no chunk but its pixels."""
    for item in range(12):
        for files in rating.design.pictures:
            content = rating._studies.image_bytes(files[item])
            kinds, at = [], 8
            while at < len(content):
                length = int.from_bytes(content[at : at + 4], "big")
                kinds.append(content[at + 4 : at + 8])
                at += 12 + length
            assert set(kinds) == {b"IHDR", b"IDAT", b"IEND"}


def test_two_readers_of_one_link_give_every_answer_once(tmp_path: Path) -> None:
    study = begun(tmp_path, 8)
    with SqliteStore(tmp_path / "store") as one, SqliteStore(tmp_path / "store") as two:
        devices = [Rating(one, study), Rating(two, study)]
        rater = devices[0]._studies.raters(study)[0]
        states, replies = [each.state(rater) for each in devices], Counter[int]()
        while not states[0]["finished"]:
            both = [
                each.answer(rater, sent(state, answer))
                for each, state, answer in zip(devices, states, ("left", "right"), strict=True)
            ]
            replies.update(reply.status for reply in both)
            states = [each.state(rater) for each in devices]
        assert replies == {200: 20, 409: 20}
        assert {each.answer for each in Studies(one).answers(rater.id)} == {"left"}


def test_a_study_goes_on_where_it_was_left_in_another_process(tmp_path: Path) -> None:
    study = begun(tmp_path, 8)
    with SqliteStore(tmp_path / "store") as store:
        rating = Rating(store, study)
        rate(rating, rating._studies.raters(study)[0], taste(0), most=7)
        before = rating.state(rating._studies.raters(study)[0])
    with SqliteStore(tmp_path / "store", create=False) as store:
        rating = Rating(store, study)
        rater = rating._studies.raters(study)[0]
        assert rating.state(rater) == before and before["position"] == 3
        assert rating.answer(rater, sent(before)).status == 200, "a page that was open before goes on"
