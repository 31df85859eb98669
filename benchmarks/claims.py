"""The papers' claims, tested in miniature on the shipped model: one command a claim, and the table of docs/claims.md.

    python benchmarks/claims.py 9 [--seeds 3] [--store DIR] [--write]
    python benchmarks/claims.py all --write

Each number names a claim, and `all` every one. A claim's runs and analyses are ordinary ones of the store: what has
finished is read, what was stopped goes on, and images are shared, so a harness that was killed goes on where it
stopped. `--write` puts the numbers into docs/claims.json and draws the table of docs/claims.md again; `table` does the
latter alone.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from claim_list import CLAIMS
from evidence import LEFT, Evidence, Part

DOCS = Path(__file__).parents[1] / "docs"
BEGIN, END = "<!-- table: begin -->", "<!-- table: end -->"
SHOWN = 4  # a claim with more parts is told by how many lie where, and by one of them
YET = "not measured yet"


def number(part: Part) -> str:
    """Return a number with its interval, and in brackets what every seed gave."""
    if part.low is None or part.high is None:
        text = f"{part.mean:.0%}"
        seeds = ", ".join(f"{each:.0%}" for each in part.by_seed)
    else:
        text = f"{part.mean:+.3f} [{part.low:+.3f}, {part.high:+.3f}]"
        seeds = ", ".join(f"{each:+.3f}" for each in part.by_seed)
    text = text.replace("-", "\N{MINUS SIGN}")
    return f"{text} ({seeds.replace('-', chr(0x2212))})" if seeds else text


def numbers(evidence: Evidence) -> str:
    """Return the numbers of a claim as one cell of the table."""
    if len(evidence.parts) <= SHOWN:
        return "<br>".join(f"{part.label}: {number(part)}" for part in evidence.parts)
    sides = [part.side for part in evidence.parts]
    one = (min if evidence.every else max)(evidence.parts, key=lambda part: part.mean - part.least)
    which = "lowest" if evidence.every else "highest"
    return (
        f"{sides.count(1)} of {len(sides)} on the claimed side, {sides.count(-1)} on the other; {which}: "
        f"{one.label}, {number(one)}"
    )


def table(found: Mapping[str, Any]) -> str:
    """Return the table of all claims in Markdown, and below it what was run."""
    head = ["", "claim", "numbers", "best uncalibrated", "verdict"]
    rows, ran = [], []
    for key, claim in CLAIMS.items():
        told = claim.title if claim.margin is None else f"{claim.title}, within {claim.margin:g}"
        command = f"`python benchmarks/claims.py {key} --seeds 3`"
        if claim.measure is None:
            rows.append([key, told, claim.why, "", LEFT])
        elif key not in found:
            rows.append([key, told, YET, "", ""])
            ran.append(f"- **{key}.** {command}")
        else:
            evidence = Evidence.from_json(found[key])
            rows.append([key, told, numbers(evidence), evidence.uncalibrated, f"**{evidence.verdict}**"])
            besides = "".join(f" Besides: {part.label}: {number(part)}." for part in evidence.besides)
            ran.append(f"- **{key}.** {command}: {evidence.ran}; {evidence.images:,} images.{besides}")
    lines = [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows)]
    return "\n".join([*lines, "", "What was run:", "", *ran])


def drawn(page: str, found: Mapping[str, Any]) -> str:
    """Return a page with the table between its markers."""
    before, rest = page.split(BEGIN)
    return f"{before}{BEGIN}\n\n{table(found)}\n\n{END}{rest.split(END)[1]}"


def recorded(docs: Path = DOCS) -> dict[str, Any]:
    """Return the numbers of the claims that were measured, by the claim's number."""
    path = docs / "claims.json"
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return found


def write(new: Mapping[str, Any], docs: Path = DOCS) -> None:
    """Add numbers to those recorded, and draw the table again."""
    merged = {**recorded(docs), **new}
    ordered = {key: merged[key] for key in CLAIMS if key in merged}
    (docs / "claims.json").write_text(json.dumps(ordered, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    page = docs / "claims.md"
    page.write_text(drawn(page.read_text(encoding="utf-8"), ordered), encoding="utf-8")


def main() -> None:
    """Test claims, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("claims", nargs="+", choices=[*CLAIMS, "all", "table"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--store", type=Path, default=Path("trimpot-runs/claims"))
    parser.add_argument("--write", action="store_true", help="put the numbers into docs/")
    options = parser.parse_args()
    if "table" in options.claims:
        write({})
    for key in CLAIMS if "all" in options.claims else [each for each in options.claims if each != "table"]:
        claim = CLAIMS[key]
        print(f"{key}. {claim.title}", flush=True)
        if claim.measure is None:
            print(f"   {LEFT}: {claim.why}")
            continue
        evidence = claim.measure(options.store, tuple(range(options.seeds)))
        for part in (*evidence.parts, *evidence.besides):
            print(f"   {part.label}: {number(part)}")
        print(f"   {evidence.ran}; best uncalibrated: {evidence.uncalibrated}; {evidence.images:,} images")
        print(f"   {evidence.verdict}", flush=True)
        if options.write:
            write({key: evidence.to_json()})


if __name__ == "__main__":
    main()
