"""Every reward equals an independent computation of it, on a tiny checkpoint of its architecture."""

from __future__ import annotations

from pathlib import Path

import pytest
from trimpot.objectives.text import REWARDS
from trimpot.proofs.rewards import Proof, proofs
from trimpot.proofs.rewards.__main__ import main
from trimpot.setup.plugins import plugins

# What is tested elsewhere: the checker of the embedded world, rewards that are somebody else's number, and of texts.
ELSEWHERE = {"shapes", "shapes-diversity", "remote", "value", *REWARDS}


@pytest.mark.parametrize("proof", proofs(), ids=lambda proof: proof.objective)
def test_a_reward_equals_an_independent_computation(proof: Proof, tmp_path: Path) -> None:
    assert proof.run(tmp_path) <= proof.tolerance


def test_every_reward_has_a_proof() -> None:
    named = {proof.objective.partition(" ")[0] for proof in proofs()}
    ours = {entry.name for entry in plugins().registrations("objectives") if entry.origin == "trimpot"}
    assert ours - ELSEWHERE <= named


def test_the_table_says_what_differs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    right = Proof("right", "a paper", "by hand", lambda folder: 1e-9, 1e-6)
    wrong = Proof("wrong", "a paper", "by hand", lambda folder: 0.5, 1e-6)
    undefined = Proof("undefined", "a paper", "by hand", lambda folder: float("nan"), 1e-6)
    for some, code in (((right,), 0), ((right, wrong), 1), ((undefined,), 1)):
        monkeypatch.setattr("trimpot.proofs.rewards.__main__.proofs", lambda some=some: list(some))
        assert main() == code
    rows = capsys.readouterr().out.splitlines()
    assert [row.split()[-1] for row in rows] == [
        "verdict",
        "equal",
        "verdict",
        "equal",
        "DIFFERS",
        "verdict",
        "DIFFERS",
    ]
