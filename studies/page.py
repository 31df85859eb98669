"""The page of a study's result: one HTML file that needs no other file and no network, and names no rater's link."""

from __future__ import annotations

import base64
import io
from collections import defaultdict
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

from ..engine.calibration import write_text
from ..reports.skeleton import table, whole_page, write_page
from ..reports.words import signed
from ..storage import SqliteStore, Studies
from .design import OVERALL, QUESTIONS
from .results import Match, Result, Verdicts, results
from .tables import as_csv
from .words import TITLES, headline, left_out, net, percent, progress, sentence

SHOWN, SIDE, SMALL = 4, 384, 160  # pairs from each end, and pixels of a shown picture
COLOURS = ("#149c8c", "#b9bfc9", "#e0823d")  # wins, ties, losses
_METHOD = """
<p class="note">Each rater saw pairs of pictures of the same text (and seed) without knowing where they come from; sides
and order were drawn for each. Shares have 95 % intervals that count raters and prompts, not answers: the variance is
clustered by both (Cameron, Gelbach and Miller 2011), the interval is that of Korn and Graubard (1998). <i>Wins minus
losses</i> decides what is said, by Student's t with the same variance; where several pairs of sets are compared, by
Holm's method. Strengths are those of Bradley and Terry, ties as half a win for each, in log-odds against the last set;
their intervals resample raters and prompts (Owen 2007). Krippendorff's alpha takes the three answers as ordered: 1 is
agreement, 0 is what chance gives. A reward agrees if it scores the chosen picture higher; ties are left out; a coin
agrees in 50 %.</p>"""


class Files(NamedTuple):
    """The paths of a study's results.

    Attributes:
        page: The self-contained HTML page.
        table: The CSV table of every answer.
    """

    page: Path
    table: Path


def write_results(store: SqliteStore, study: str) -> tuple[Result, Files]:
    """Write the page and the table of a study, finished or not.

    Raises:
        StoreError: If there is no such study, or a picture is gone.
        CalibrationError: If a file cannot be written.
    """
    result = results(store, study)
    folder = store.run_folder(study)
    files = Files(folder / "study.html", folder / "answers.csv")
    write_text(files.table, as_csv(result))
    write_page(files.page, render(result, Studies(store)))
    return result, files


def render(result: Result, studies: Studies) -> str:
    """Return the page as HTML.

    Args:
        result: The result.
        studies: The studies of the store, for the pictures.
    """
    parts = [_header(result)]
    parts += [_question(result, name, found) for name, found in result.verdicts.items()]
    parts += [_gallery(result, studies), _raters(result), _setting(result)]
    return whole_page(result.row.id, "\n".join(part for part in parts if part), interactive=False)


def _header(result: Result) -> str:
    design = result.design
    facts = {
        "sets of pictures": ", ".join(design.entrants),
        "prompts": f"{len({item.prompt for item in design.items})}",
        "raters": f"{sum(rater.num_pairs > 0 for rater in result.raters)} of {len(result.raters)}",
        "answers": f"{sum(each.kind == 'pair' for each in result.rated)}",
    }
    stats = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in facts.items())
    return (
        f'<header><p class="kicker">trimpot · human study · {escape(result.row.created[:10])}</p>'
        f'<h1>{escape(result.row.id)}</h1><p class="lede">{escape(headline(result))}</p>'
        f'<p class="note">{escape(progress(result))}</p><dl class="stats">{stats}</dl></header>'
    )


def _question(result: Result, name: str, found: Verdicts) -> str:
    design = result.design
    parts = [f"<section><h2>{escape(TITLES[name])}</h2>", f'<p class="note">“{escape(QUESTIONS[name])}”</p>']
    parts += [_bar(result, match) for match in found.matches]
    if len(found.matches) == 1 and name != OVERALL:
        parts.append(f"<p>{escape(sentence(design, found.matches[0], name))}</p>")
    parts.append(_shares(result, found))
    if found.strengths:
        order = sorted(range(len(design.entrants)), key=lambda each: -found.strengths[each].value)
        rows = []
        for each in order:
            value = found.strengths[each]
            interval = f"[{signed(value.low, 1)}, {signed(value.high, 1)}]" if each + 1 < len(design.entrants) else ""
            rows.append((design.entrants[each], signed(value.value, 1), interval, str(value.num_answers)))
        parts.append("<h3>Strengths</h3>" + table(("set", "log-odds", "95 % interval", "answers"), rows, main=1))
    same, twos = found.same
    if twos:
        alpha = (
            "not defined, since all answers are equal" if found.alpha is None else signed(found.alpha, 2).lstrip("+")
        )
        parts.append(
            f"<p>Two raters of one pair gave the same answer in {100 * same:.0f} % of {twos} cases; "
            f"Krippendorff's alpha is {alpha}.</p>"
        )
    if found.rewards:
        head = ("reward", "chooses as people do", "answers")
        told = [(each.name, percent(each.agreement), str(each.agreement.num_answers)) for each in found.rewards]
        parts.append("<h3>Rewards</h3>" + table(head, told, main=1))
    return "".join(parts) + "</section>"


def _bar(result: Result, match: Match) -> str:
    design = result.design
    first, second = design.entrants[match.first], design.entrants[match.second]
    shares = [each.value for each in (match.wins, match.ties, match.losses)]
    names = (first, "no difference", second)
    fields = "".join(
        f'<span title="{escape(f"{name}: {share:.1%}", quote=True)}" style="flex:{share:.4f} 0 0;background:{colour};'
        f'min-width:0;overflow:hidden"></span>'
        for name, share, colour in zip(names, shares, COLOURS, strict=True)
        if share
    )
    legend = "".join(
        f'<span style="display:inline-flex;align-items:center;gap:.5em"><i style="width:.8em;height:.8em;flex:none;'
        f'border-radius:3px;background:{colour}"></i>{escape(name)} {share:.1%}</span>'
        for name, share, colour in zip(names, shares, COLOURS, strict=True)
    )
    told = ", ".join(f"{name} {share:.1%}" for name, share in zip(names, shares, strict=True))
    return (
        f'<div role="img" aria-label="{escape(told, quote=True)}" style="display:flex;gap:2px;height:26px;'
        f'margin:16px 0 6px;border-radius:6px;overflow:hidden">{fields}</div>'
        f'<p class="note" style="display:flex;flex-wrap:wrap;gap:2px 22px;margin-top:0">{legend}</p>'
    )


def _shares(result: Result, found: Verdicts) -> str:
    head = ("", "chosen", "no difference", "other chosen", "wins minus losses", "answers")
    rows = [
        (
            f"{result.design.entrants[each.first]} against {result.design.entrants[each.second]}",
            percent(each.wins),
            percent(each.ties),
            percent(each.losses),
            net(each.net),
            str(each.wins.num_answers),
        )
        for each in found.matches
    ]
    return table(head, rows, main=4)


def _gallery(result: Result, studies: Studies) -> str:
    """Show the pairs of the first match on which raters chose most clearly, from both ends."""
    design, votes = result.design, defaultdict[tuple[int, int, int], list[int]](list)
    for each in result.counting(OVERALL):
        first, second = min(each.left, each.right), max(each.left, each.right)
        value = 0 if each.choice is None else 1 if each.choice == first else -1
        votes[first, second, each.item].append(value)
    if not votes:
        return ""
    ranked = sorted(votes, key=lambda pair: (-sum(votes[pair]), pair))
    most = [pair for pair in ranked if sum(votes[pair]) > 0][:SHOWN]
    least = [pair for pair in reversed(ranked) if sum(votes[pair]) < 0][:SHOWN]
    if not most and not least:
        return ""
    figures = []
    for first, second, item in [*most, *reversed(least)]:
        given = votes[first, second, item]
        sides = "".join(
            f"<div>{_picture(studies.image(design.pictures[entrant][item]), design.entrants[entrant])}"
            f"<span>{escape(design.entrants[entrant])}<b>{given.count(sign)} of {len(given)}</b></span></div>"
            for entrant, sign in ((first, 1), (second, -1))
        )
        text = escape(design.items[item].prompt)
        figures.append(f'<figure><div class="pair">{sides}</div><figcaption>{text}</figcaption></figure>')
    return (
        "<section><h2>What people saw</h2>"
        '<p class="note">The pairs on which raters agreed most, from both ends; how many preferred each picture.</p>'
        f'<div class="gallery">{"".join(figures)}</div></section>'
    )


def _picture(image: Any, name: str) -> str:
    small = max(image.size) <= SMALL
    shown = image.copy()
    if not small:
        shown.thumbnail((SIDE, SIDE))
    buffer = io.BytesIO()
    kind = "png" if small else "jpeg"
    shown.save(buffer, kind, **({} if small else {"quality": 88}))
    data = base64.b64encode(buffer.getvalue()).decode()
    return (
        f'<img{" class=small" if small else ""} alt="{escape(name, quote=True)}" src="data:image/{kind};base64,{data}">'
    )


def _raters(result: Result) -> str:
    rows = [
        (
            f"{rater.number}",
            f"{rater.num_pairs} of {rater.num_shown}",
            f"{rater.passed} of {rater.checks}",
            "yes" if rater.counts else "no",
        )
        for rater in result.raters
    ]
    parts = ["<section><h2>Raters</h2>", f"<p>{escape(left_out(result))}</p>"]
    if result.left_out:
        told = []
        for name, found in result.of_all.items():
            for match in found.matches:
                versus = f"{result.design.entrants[match.first]} against {result.design.entrants[match.second]}"
                with_rule = result.verdicts[name].matches if name in result.verdicts else ()
                own = next(
                    (each for each in with_rule if (each.first, each.second) == (match.first, match.second)), None
                )
                told.append((f"{TITLES[name]}: {versus}", net(own.net) if own else "nobody counts", net(match.net)))
        head = ("wins minus losses", "raters that count", "all raters")
        parts.append(table(head, told, main=1))
    listing = table(("rater", "pairs answered", "checks right", "counts"), rows)
    parts.append(f"<details><summary>All {len(rows)} raters</summary>{listing}</details></section>")
    return "".join(parts)


def _setting(result: Result) -> str:
    origin = result.design.sources.get("origin") or {}
    rows = [
        (name, *(str(told.get(key, "")) for key in ("run", "steps", "neutral", "gain")))
        for name, told in origin.items()
    ]
    made = table(("set", "run", "steps", "neutral setting", "gain by its reward"), rows) if rows else ""
    same = sum(check.kind == "same" for check in result.design.checks)
    checks = (
        f"<p class='note'>Among the pairs, each rater saw {len(result.design.checks)} checks: {same} with one picture "
        f"twice, where the right answer is <i>no difference</i>, and {len(result.design.checks) - same} with a picture "
        f"beside one of shuffled pixels, where it is the picture. Sides and orders were drawn from the seed "
        f"{result.design.seed}.</p>"
        if result.design.checks
        else ""
    )
    return f"<section><h2>How this was done</h2>{made}{checks}{_METHOD}</section>"
