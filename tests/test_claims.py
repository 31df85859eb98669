"""docs/claims.md: its table is what the recorded numbers say, and a verdict follows from them by one rule."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def claims() -> ModuleType:
    """The harness, which is no part of the package."""
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        import claims
    finally:
        sys.path.pop(0)
    return claims


def test_the_page_shows_the_recorded_numbers(claims: ModuleType) -> None:
    """Drawn again, it does not change: neither file was edited without the other."""
    page = (ROOT / "docs" / "claims.md").read_text(encoding="utf-8")
    assert claims.drawn(page, claims.recorded()) == page
    for key, claim in claims.CLAIMS.items():
        assert page.count(f"| {key} | {claim.title}") == 1


def test_all_twelve_claims_have_a_row(claims: ModuleType) -> None:
    assert list(claims.CLAIMS) == [str(number) for number in range(1, 13)]
    assert [key for key, claim in claims.CLAIMS.items() if claim.measure is None] == ["10"]


def test_recorded_verdicts_follow_from_the_numbers(claims: ModuleType) -> None:
    """And every number has three seeds behind it, and says what it was compared with."""
    for key, found in claims.recorded().items():
        evidence = claims.Evidence.from_json(found)
        assert evidence.verdict == found["verdict"], key
        assert len(evidence.seeds) >= 3 and evidence.images > 0 and evidence.runs, key
        assert evidence.uncalibrated and evidence.parts, key


def test_numbers_survive_being_written(claims: ModuleType, tmp_path: Path) -> None:
    part = claims.Part("calibrated", 0.1, 0.05, 0.15, (0.1, 0.1, 0.1), 0.0, True)
    evidence = claims.Evidence("a run", "guidance 3", (part,), True, (0, 1, 2), 10, ("shapes-1",), (part,))
    (tmp_path / "claims.md").write_text(f"# A page\n\n{claims.BEGIN}\n{claims.END}\n\nMore.\n")
    claims.write({"9": evidence.to_json()}, tmp_path)
    assert claims.Evidence.from_json(claims.recorded(tmp_path)["9"]) == evidence
    text = (tmp_path / "claims.md").read_text()
    assert "calibrated: +0.100 [+0.050, +0.150] (+0.100, +0.100, +0.100)" in text and "**holds**" in text
    claims.write({}, tmp_path)
    assert (tmp_path / "claims.md").read_text() == text


SIDES = {
    "whole above": ((0.1, 0.05, 0.15), 1),
    "whole below": ((-0.1, -0.15, -0.05), -1),
    "across": ((0.1, -0.05, 0.25), 0),
    "at the border": ((0.1, 0.0, 0.2), 0),
}


@pytest.mark.parametrize("case", SIDES)
def test_a_number_lies_where_its_whole_interval_and_most_seeds_lie(claims: ModuleType, case: str) -> None:
    (mean, low, high), side = SIDES[case]
    assert claims.Part("", mean, low, high).side == side
    assert claims.Part("", mean, low, high, (mean, mean, -mean)).side == side
    assert claims.Part("", mean, low, high, (mean, -mean, -mean)).side == 0
    assert claims.Part("", mean, low, high, (mean, -mean)).side == 0, "half of the seeds are not most"
    assert claims.Part("", mean, low, high, beyond_noise=False).side == 0
    assert claims.Part("", mean + 1, low + 1, high + 1, (mean + 1,), least=1).side == side


@pytest.mark.parametrize(("by_seed", "side"), [((0.2, 0.1), 1), ((0.0, 0.0), -1), ((0.2, 0.0), 0)])
def test_a_number_without_an_interval_needs_every_seed(
    claims: ModuleType, by_seed: tuple[float, ...], side: int
) -> None:
    assert claims.Part("images saved", 0.1, by_seed=by_seed).side == side


@pytest.mark.parametrize(
    ("sides", "of_all", "of_some"),
    [
        ((1, 1, 1), "holds", "holds"),
        ((1, 0, 1), "cannot be told", "holds"),
        ((1, -1, 0), "does not", "holds"),
        ((0, -1, 0), "does not", "cannot be told"),
        ((-1, -1, -1), "does not", "does not"),
    ],
)
def test_a_claim_of_all_and_a_claim_of_some(
    claims: ModuleType, sides: tuple[int, ...], of_all: str, of_some: str
) -> None:
    parts = tuple(claims.Part("", side, side - 0.5, side + 0.5) for side in sides)
    for every, verdict in ((True, of_all), (False, of_some)):
        assert claims.Evidence("", "", parts, every, (0, 1, 2), 1, ()).verdict == verdict
