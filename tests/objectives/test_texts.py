"""Rewards of texts: every one keeps the contract, gives the numbers that its definition says, and refuses the rest."""

from __future__ import annotations

import functools
import json
import math
import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from trimpot.engine.answer import FLOOR, Answer, Likelihood
from trimpot.engine.seams import Objective
from trimpot.ground.errors import ConfigError, Notice, ScoreError, TrimpotError
from trimpot.objectives.text import REWARDS
from trimpot.setup.plugins import Plugins
from trimpot.testing import ObjectiveContract

SHOTS = "Q: 1 + 1\nA: 2\n\nQ: {}\nA:"


def likely(text: str, logprob: float, tokens: int = 1, greedy: bool = False) -> Likelihood:
    return Likelihood(text, logprob, tokens, greedy)


def chosen(yes: float, no: float, **more: Any) -> Answer:
    """An answer of an adapter that computed likelihoods of ` yes` and ` no, never`, the first of which is right."""
    options = (likely(" yes", yes, 1, yes > no), likely(" no, never", no, 3))
    return Answer(max(options, key=lambda each: each.logprob).text, reference=options[0], options=options, **more)


RECORD = {"answer": " yes", "options": [" yes", " no, never"], "pattern": "^y", "schema": {"type": "object"}}
RECORD |= {"tests": "assert double(2) == 4"}
SPOKEN = [" yes", "no", "Yes, surely."]
CHOSEN = [chosen(-0.5, -6.0, divergence=0.25), chosen(-3.0, -1.5, divergence=0.0), chosen(-2.0, -2.5, divergence=1.5)]
LONG = ["a b c d a b c d a b c d", "one", "one two three"]

#: Name, options, outputs, and variants that must not be taken for the same reward.
CASES: list[tuple[str, dict[str, Any], Sequence[Any], Sequence[dict[str, Any]]]] = [
    ("exact-match", {}, SPOKEN, [{"ignore": []}, {"take": "first-line"}]),
    ("contains", {}, SPOKEN, [{"ignore": ["case"]}]),
    ("regex", {"pattern": "y"}, SPOKEN, [{"pattern": "n"}, {"pattern": "y", "whole": True}, {}]),
    ("regex", {}, ["yes", "no", "maybe"], [{"pattern": "n"}]),
    ("multiple-choice", {}, CHOSEN, [{"normalise": "bytes"}, {"measure": "probability"}]),
    ("multiple-choice", {"measure": "probability"}, CHOSEN, [{}]),
    ("margin", {}, CHOSEN, [{"normalise": "tokens"}]),
    ("log-likelihood", {}, CHOSEN, [{"normalise": "bytes"}]),
    ("perplexity", {}, CHOSEN, []),
    ("bits-per-byte", {}, CHOSEN, []),
    ("kl-to-neutral", {}, CHOSEN, []),
    ("json", {}, ['{"a": 1}', "[1,", "not json"], [{"fenced": False}, {"by_prompt": True}]),
    ("json", {"by_prompt": True}, ['{"a": 1}', "[1]", "{"], [{}]),
    ("length", {}, LONG, [{"unit": "characters"}, {"unit": "log-words"}]),
    ("repetition", {}, LONG, [{"n": 3}]),
    ("distinct-n", {}, LONG, [{"n": 3}]),
    ("refusals", {}, ["I can\u2019t help with that.", "Gladly.", "Yes, I can."], []),
    (
        "unit-tests",
        {"allow_execution": True},
        ["def double(x): return 2 * x", "def double(x): return x", "broken ("],
        [{"allow_execution": True, "with_prompt": True}],
    ),
]


@functools.cache
def known() -> Plugins:
    return Plugins()


def made(name: str, options: Mapping[str, Any], record: Mapping[str, Any] = RECORD) -> Objective:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Notice)
        found: Objective = known().make("objectives", name, dict(options))
    found.prepare({SHOTS.format(number): record for number in range(6)})
    return found


@pytest.fixture(scope="module", params=CASES, ids=lambda case: "-".join([case[0], *map(str, case[1].values())]))
def case(request: pytest.FixtureRequest) -> Any:
    return request.param


class TestTextObjectives(ObjectiveContract):
    """Every reward of texts but the judge, which has its own server below."""

    @pytest.fixture
    def objective(self, case: Any) -> Objective:
        return made(case[0], case[1])

    @pytest.fixture
    def examples(self, case: Any) -> list[tuple[Any, str]]:
        return [(output, SHOTS.format(number)) for number, output in enumerate(case[2])]

    @pytest.fixture
    def others(self, case: Any) -> list[Objective]:
        return [made(case[0], options) for options in case[3]]

    @pytest.fixture
    def unscorable(self, case: Any) -> list[Any]:
        return [Image.new("RGB", (4, 4)), [Image.new("RGB", (4, 4))], np.zeros(3), 3.0, None, b"bytes", {"text": "a"}]


def test_every_reward_of_the_table_keeps_the_contract_here() -> None:
    assert {name for name, *_ in CASES} | {"judge"} == set(REWARDS)


def worth(name: str, output: Any, record: Mapping[str, Any] = RECORD, **options: Any) -> float:
    return float(made(name, options, record).score([output], [SHOTS.format(0)])[0])


NUMBERS = [
    # the answer, what the model said, the options, the score
    ("exact-match", " Yes", "yes.", {}, 1),
    ("exact-match", "yes", "yes\n", {}, 1),
    ("exact-match", "yes", "Yes", {"ignore": []}, 0),
    ("exact-match", "yes", " yes", {"ignore": ["case"]}, 0),
    ("exact-match", "the cat", "A cat", {"ignore": ["case", "articles", "whitespace"]}, 1),
    ("exact-match", "a  b", "a b", {"ignore": ["whitespace"]}, 1),
    ("exact-match", "5", "5\n\nQ: 3 + 3\nA: 6", {"take": "first-line"}, 1),
    ("exact-match", "5", "5\n\nQ: 3 + 3\nA: 6", {}, 0),
    ("exact-match", "so: 5", "Let me think.\nSo: 5", {"take": "last-line"}, 1),
    ("exact-match", "1000", "It is 1,000.00 dollars, not 7", {"take": "first-number"}, 1),
    ("exact-match", "#### 72", "48 / 2 = 24, and 48 + 24 = 72.", {"take": "last-number"}, 1),
    ("exact-match", "-5", "-5.0", {"take": "first-number"}, 1),
    ("exact-match", "5", "-5", {"take": "first-number"}, 0),
    ("exact-match", "5", "none", {"take": "first-number"}, 0),
    ("exact-match", "5", "", {}, 0),
    ("contains", "Paris", "The capital is PARIS, of course", {}, 1),
    ("contains", "Paris", "The capital is PARIS", {"ignore": []}, 0),
    ("contains", "Paris", "", {}, 0),
]


@pytest.mark.parametrize(("name", "answer", "said", "options", "score"), NUMBERS)
def test_an_answer_is_compared_in_the_form_asked_for(
    name: str, answer: str, said: str, options: dict[str, Any], score: float
) -> None:
    assert worth(name, said, {"answer": answer}, **options) == score
    assert worth(name, Answer(said, ended=True), {"answer": answer}, **options) == score


def test_without_a_generated_text_an_exact_match_is_teacher_forced() -> None:
    for greedy in (True, False):
        output = Answer("what greedy says", reference=likely("5", -1.0, 1, greedy))
        assert worth("exact-match", output, {"answer": "5"}) == greedy


@pytest.mark.parametrize(
    ("name", "options", "output", "score"),
    [
        ("multiple-choice", {}, chosen(-1.0, -2.0), 1),
        ("multiple-choice", {}, chosen(-2.0, -1.0), 0),
        ("multiple-choice", {"normalise": "bytes"}, chosen(-1.0, -2.0), 0),  # 4 bytes against 10
        ("multiple-choice", {"normalise": "tokens"}, chosen(-1.0, -2.0), 0),  # 1 token against 3
        ("multiple-choice", {}, chosen(-1.0, -1.0), 0),  # a tie is no choice
        ("multiple-choice", {}, chosen(-1.0, -2.0).failed(), 0),  # although its answer is the shorter option
        ("multiple-choice", {"measure": "probability"}, chosen(-1.0, -2.0).failed(), 0),
        ("margin", {}, chosen(-1.0, -2.0).failed(), FLOOR),
        ("multiple-choice", {"normalise": "tokens"}, chosen(-1.0, -2.0).failed(), 0),
        ("multiple-choice", {"measure": "probability"}, chosen(math.log(0.3), math.log(0.1)), 0.75),
        ("multiple-choice", {"measure": "probability"}, chosen(-5000.0, -1.0), 0),
        ("margin", {}, chosen(-1.0, -2.5), 1.5),
        ("margin", {"normalise": "bytes"}, chosen(-1.0, -2.5), 0),
        ("log-likelihood", {}, chosen(-1.0, -2.5), -1),
        ("log-likelihood", {"normalise": "bytes"}, chosen(-1.0, -2.5), -0.25),
        ("perplexity", {}, Answer("", reference=likely("abc", -2 * math.log(8), 2)), -8),
        ("bits-per-byte", {}, Answer("", reference=likely("äb", -6 * math.log(2), 2)), -2),
        ("perplexity", {}, Answer("", reference=likely("abc", FLOOR * 3, 3)), -math.exp(100)),
        ("kl-to-neutral", {}, Answer("", divergence=0.25), -0.25),
        ("length", {}, Answer("one two", (4, 5, 6), (0.0, 0.0, 0.0), True), 2),
        ("length", {"unit": "characters"}, "ä b", 3),
        ("length", {"unit": "tokens"}, Answer("one two", (4, 5, 6), (0.0, 0.0, 0.0), True), 3),
        ("length", {"unit": "tokens"}, Answer("", ended=True), 0),
        ("length", {"unit": "log-words"}, "one two three", 2 / 16),
        ("repetition", {"n": 2}, "a b a b a", 0.5),
        ("repetition", {"n": 2}, "a", 0),
        ("distinct-n", {"n": 1}, "a b a b", 0.5),
        ("refusals", {}, "As an AI, I must not.", 1),
        ("refusals", {}, "x " * 200 + "I cannot", 0),
        ("json", {}, 'Here it is:\n```json\n{"a": 1}\n```\nDone.', 1),
        ("json", {"fenced": False}, '```json\n{"a": 1}\n```', 0),
        ("json", {}, "NaN", 0),
        ("json", {}, "[" * 100_000, 0),
        ("json", {}, "", 0),
    ],
)
def test_a_score_is_what_its_definition_says(name: str, options: dict[str, Any], output: Any, score: float) -> None:
    assert worth(name, output, **options) == pytest.approx(score, abs=1e-12)


@pytest.mark.parametrize("name", ["length", "repetition", "distinct-n", "refusals"])
def test_where_nothing_was_generated_there_is_no_text_to_measure(name: str) -> None:
    for output in CHOSEN:
        assert worth(name, output) == 0


LACKING = [
    (
        "multiple-choice",
        {},
        "a text",
        "needs how likely each of its `options` is, which the output of .* does not hold",
    ),
    ("margin", {}, Answer("a", reference=likely("a", -1.0)), "let the adapter compute likelihoods .mode: likelihood"),
    ("log-likelihood", {}, Answer("a", ended=True), "needs how likely the answer is, which the output of"),
    ("perplexity", {}, "prose", "needs how likely the answer is"),
    ("bits-per-byte", {}, "prose", "needs how likely the answer is"),
    ("kl-to-neutral", {}, chosen(-1.0, -2.0), "needs the divergence from the neutral model"),
    ("length", {"unit": "tokens"}, "a b", "has no tokens; take unit: words"),
]


@pytest.mark.parametrize(("name", "options", "output", "said"), LACKING, ids=lambda each: str(each)[:30])
def test_what_an_output_does_not_hold_is_named(name: str, options: dict[str, Any], output: Any, said: str) -> None:
    with pytest.raises(ScoreError, match=f"objective '{name}'.*{said}|{said}") as caught:
        worth(name, output, **options)
    assert len(str(caught.value).splitlines()) == 1 and "Q: 1 + 1" in str(caught.value)


WITHOUT = [(name, options, output, key) for name, options, output, key in [
    ("exact-match", {}, "a", "answer"), ("contains", {}, "a", "answer"), ("regex", {}, "a", "pattern"),
    ("multiple-choice", {}, CHOSEN[0], "answer"), ("margin", {}, CHOSEN[0], "answer"),
    ("json", {"by_prompt": True}, "{}", "schema"), ("unit-tests", {"allow_execution": True}, "a", "tests"),
]]  # fmt: skip


@pytest.mark.parametrize(("name", "options", "output", "key"), WITHOUT)
@pytest.mark.parametrize("record", [{}, {"note": 1}], ids=["none", "others"])
def test_what_a_record_does_not_hold_is_named(
    name: str, options: dict[str, Any], output: Any, key: str, record: dict[str, Any]
) -> None:
    objective = made(name, options, record)
    assert key in objective.needs and objective.takes_metadata
    with pytest.raises(ScoreError, match=f"objective '{name}' needs the `{key}` of every prompt, and the record of"):
        objective.score([output], [SHOTS.format(0)])
    with pytest.raises(ScoreError, match=f"the `{key}` of .* is a int; give text|the `schema` of .* is no JSON schema"):
        made(name, options, {**RECORD, key: 3}).score([output], [SHOTS.format(0)])


@pytest.mark.parametrize(
    ("name", "options", "record", "said"),
    [
        ("exact-match", {}, {"answer": "..."}, "nothing is left of the answer of"),
        ("exact-match", {"take": "first-number"}, {"answer": "five"}, "nothing is left of the answer of"),
        ("contains", {}, {"answer": "!"}, "nothing is left of the answer of"),
        ("regex", {}, {"pattern": "("}, "the `pattern` of .* is no regular expression: missing"),
        ("json", {"by_prompt": True}, {"schema": "{"}, "the `schema` of .* is no JSON:"),
        ("json", {"by_prompt": True}, {"schema": {"type": "objekt"}}, "the `schema` of .* is no JSON schema:"),
        ("json", {"by_prompt": True}, {"schema": {"$ref": "http://x/y"}}, "refers to 'http://x/y', which is not read"),
    ],
)
def test_a_record_that_cannot_be_used_is_named(
    name: str, options: dict[str, Any], record: dict[str, Any], said: str
) -> None:
    with pytest.raises(ScoreError, match=said) as caught:
        worth(name, "{}", record, **options)
    assert len(str(caught.value).splitlines()) == 1


def test_options_that_cannot_be_used_are_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "bad.json").write_text("{")
    for name, options, said in [
        ("regex", {"pattern": "("}, "option pattern '\\(' is no regular expression"),
        ("json", {"schema": tmp_path / "none.json"}, "cannot read the schema .*none.json: No such file"),
        ("json", {"schema": tmp_path / "bad.json"}, "cannot read the schema .*bad.json: Expecting"),
        ("json", {"schema": tmp_path / "bad.json", "by_prompt": True}, "schema and by_prompt exclude each other"),
        ("unit-tests", {}, "executes code that a model writes .* set allow_execution: true"),
    ]:
        with pytest.raises(ConfigError, match=said):
            known().make("objectives", name, options)


ENDLESS = "(a|aa)+$"
NEVER = [
    ("regex", {"pattern": ENDLESS}, {}),
    ("regex", {"pattern": ENDLESS, "whole": True}, {}),
    ("regex", {}, {"pattern": ENDLESS}),
    ("json", {"by_prompt": True}, {"schema": {"pattern": ENDLESS}}),
    ("json", {"by_prompt": True}, {"schema": {"patternProperties": {ENDLESS: {}}}}),
]


@pytest.mark.parametrize(("name", "options", "record"), NEVER)
def test_an_expression_that_never_ends_is_stopped_and_named(
    name: str, options: dict[str, Any], record: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trimpot.objectives.text.patterns.SECONDS", 0.05)
    text = "a" * 60 + "b"
    said = json.dumps({text: 1} if "patternProperties" in str(record) else text) if name == "json" else text
    with pytest.raises(
        ScoreError, match=r"'\(a\|aa\)\+\$' takes more than 0.05 s on the text .*; write it so"
    ) as caught:
        worth(name, said, record, **options)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("pattern", "text", "matches"),
    [
        (r"\d{2,3}", "a 42", 1.0), (r"^yes", "no\nyes", 0.0), (r"(?m)^yes", "no\nyes", 1.0), (r"(?i)YES", "yes", 1.0),
        (r"(\w+) \1", "so so", 1.0), (r"a(?=b)", "ab", 1.0), (r"(?<!a)b", "ab", 0.0), (r"\{e\}", "{e}", 1.0),
        (r"(?P<n>x)(?P=n)", "xx", 1.0), (r"a.c", "a\nc", 0.0), (r"(?s)a.c", "a\nc", 1.0), ("", "", 1.0),
        (r"\bß\b", "ß", 1.0), (r"[\]\[]", "[", 1.0),
    ],
)  # fmt: skip
def test_an_expression_means_what_it_means_in_python(pattern: str, text: str, matches: float) -> None:
    assert (re.search(pattern, text) is not None) == matches == worth("regex", text, {}, pattern=pattern)


@pytest.mark.parametrize("pattern", ["(?:yes){e<=1}", "a{e}", "[[:alpha:]]", "[a&&b]", "[[a]"])
def test_an_expression_that_two_libraries_read_otherwise_is_refused(pattern: str) -> None:
    with pytest.raises(ConfigError, match="can be understood in two ways"):
        known().make("objectives", "regex", {"pattern": pattern})


@pytest.mark.parametrize("name", ["jpeg-size", "entropy", "shapes", "value"])
def test_a_reward_of_something_else_refuses_texts_in_one_sentence(name: str) -> None:
    for output in ("a text", Answer("a text", ended=True)):
        with pytest.raises((TrimpotError, TypeError, ValueError, AttributeError)) as caught:
            known().make("objectives", name, {}).score([output], ["a red circle"])
        assert name == "shapes" or isinstance(caught.value, TrimpotError)


# ---------------------------------------------------------------------------------------------------------------
# Code that is run.

ESCAPES = {
    "network": "import socket; socket.socket()",
    "raw network": "import _socket; _socket.socket()",
    "process": "import subprocess; subprocess.run(['true'])",
    "system": "import os; os.system('true')",
    "fork": "import os; os.fork()",
    "exec": "import os; os.execv('/bin/true', ['true'])",
    "spawn": "import os; os.posix_spawn('/bin/true', ['true'], {})",
    "kill": "import os; os.kill(os.getppid(), 0)",
    "foreign functions": "import ctypes",
    "reading a file": "open('/etc/passwd').read()",
    "reading the parent": "import os; open(f'/proc/{os.getppid()}/environ').read()",
    "writing outside": "open(OUTSIDE, 'w')",
    "removing outside": "import os; os.remove(OUTSIDE)",
    "a directory outside": "import os; os.mkdir(OUTSIDE + '.d')",
    "renaming outside": "import os; open('mine', 'w').close(); os.rename('mine', OUTSIDE)",
    "a link to outside": "import os; os.symlink(OUTSIDE, 'link'); open('link', 'w')",
    "memory": "x = bytearray(8 << 30)",
    "a large file": "open('x', 'wb').write(bytes(64 << 20))",
    "ends with 0": "import os; os._exit(0)",
    "leaves": "raise SystemExit(0)",
    "prints": "print('passed')",
}


@pytest.mark.parametrize("name", ESCAPES)
def test_what_the_code_may_not_do_fails_its_tests(name: str, tmp_path: Path) -> None:
    """Each would pass if it were not stopped, but for those that end before the test, which say nothing."""
    outside = tmp_path / "outside"
    outside.write_text("whole")
    code = f"OUTSIDE = {str(outside)!r}\n{ESCAPES[name]}\n"
    tests = "raise AssertionError" if name == "prints" else "pass"
    assert worth("unit-tests", code, {"tests": tests}, allow_execution=True) == 0
    assert outside.read_text() == "whole" and [each.name for each in tmp_path.iterdir()] == ["outside"]


def test_code_works_with_the_standard_library_in_a_folder_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "x")
    code = (
        "```python\nimport os, json, re, math, collections, itertools, dataclasses, random, tempfile, decimal\n"
        "open('a', 'w').write('b')\nassert os.listdir('.') == ['a'] and 'SECRET' not in os.environ\n"
        "with tempfile.TemporaryFile() as file: file.write(b'x')\n```"
    )
    assert worth("unit-tests", code, {"tests": "assert json.loads('1') == 1"}, allow_execution=True) == 1


def test_code_that_never_ends_fails_in_time() -> None:
    assert worth("unit-tests", "while True: pass", {"tests": "pass"}, allow_execution=True, timeout=0.3) == 0


def test_the_prompt_may_be_the_beginning_of_the_code() -> None:
    objective = made("unit-tests", {"allow_execution": True, "with_prompt": True})
    prompt = "def double(x):\n"
    objective.prepare({prompt: {"tests": "assert double(2) == 4"}})
    assert list(objective.score(["    return 2 * x", "    return x"], [prompt] * 2)) == [1, 0]


def test_that_code_is_run_is_said_loudly() -> None:
    with pytest.warns(Notice, match="EXECUTES CODE THAT THE MODEL WRITES on this machine"):
        known().make("objectives", "unit-tests", {"allow_execution": True})
