"""The page of a comparison: one HTML file that needs no other file and no network."""

from __future__ import annotations

import shlex
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

from ..engine.calibration import write_text
from ..engine.nouns import told_config, told_key
from ..ground.folders import store_option
from ..reports.console import duration
from ..reports.skeleton import chart, made_with, table, whole_page, write_page
from ..reports.words import signed
from ..storage import SqliteStore
from .figures import colours, figures
from .gains import SIGNIFICANCE
from .machine import as_csv
from .results import Results, gather
from .summary import SHARES, Summary
from .words import decimals_of, description, failures, headline, interval_text, verdict

Charts = dict[str, str]


class Files(NamedTuple):
    """The paths of a comparison's results.

    Attributes:
        page: The self-contained HTML page.
        table: The CSV table of every check of every run.
    """

    page: Path
    table: Path


def write_comparison(store: SqliteStore, name: str) -> tuple[Summary, Files]:
    """Write the page and the table of a comparison, finished or not.

    Raises:
        StoreError: If no comparison has this name.
        CalibrationError: If a file cannot be written.
    """
    summary = Summary(gather(store, name))
    folder = store.run_folder(name)
    files = Files(folder / "comparison.html", folder / "comparison.csv")
    write_text(files.table, as_csv(summary.results))
    write_page(files.page, render(summary, store.folder))
    return summary, files


def render(summary: Summary, folder: Path) -> str:
    """Return the page as HTML.

    Args:
        summary: The summary of the comparison.
        folder: The folder of the store, for the commands that the page shows.
    """
    charts = {name: chart(name, figure.to_json()) for name, figure in figures(summary).items()}
    parts = (
        _header(summary),
        _gains_section(summary, charts),
        _search_section(summary, charts),
        _targets_section(summary, charts),
        _tests_section(summary, charts),
        _contenders_section(summary),
        _origin_section(summary, folder),
    )
    return whole_page(summary.results.row.id, "\n".join(filter(None, parts)), interactive=bool(charts))


def _header(summary: Summary) -> str:
    results = summary.results
    row, total = results.row, len(results.courses)
    sentence = escape(headline(summary))
    if summary.leader is not None:  # emphasise the number
        found = summary.gains[summary.leader]
        text = escape(interval_text(found))
        sentence = sentence.replace(text, f'<b class="{"up" if found.value > 0 else "even"}">{text}</b>')
    warnings = "".join(f'<p class="verdict">{escape(text)}</p>' for text in failures(summary))
    status = "finished" if summary.num_finished == total else f"{summary.num_finished} of {total} runs"
    stats = {
        "contenders": str(len(results.labels)),
        f"{results.seeds} each": str(len(results.design.seeds)),
        f"{results.noun} of search each": f"{results.budget:,}",
        "knobs": str(results.num_knobs or ""),
        f"{results.noun} in all": f"{sum(each.num_images for each in results.courses.values()):,}",
        "time": duration(sum(each.seconds for each in results.courses.values())),
    }
    listed_stats = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in stats.items() if value
    )
    kind = "finished" if status == "finished" else "interrupted"
    begun = row.created[:16].replace("T", " ")
    space = next(iter(results.design.contenders.values())).adapter.name
    return (
        f'<header><p class="kicker">trimpot comparison on {escape(space)}, begun {escape(begun)} UTC</p>'
        f'<h1>{escape(row.id)}<span class="pill {kind}">{escape(status)}</span></h1>'
        f'<p class="lede">{sentence}</p><p>{escape(verdict(summary))}</p>{warnings}'
        f'<dl class="stats">{listed_stats}</dl></header>'
    )


def _gains_section(summary: Summary, charts: Charts) -> str:
    if "gains" not in charts:
        return ""
    rows = []
    for label, found in summary.gains.items():
        decimals = decimals_of(found)
        values = sorted(summary.results.gains(label))
        middle = (values[(len(values) - 1) // 2] + values[len(values) // 2]) / 2
        rows.append(
            [
                label,
                interval_text(found),
                signed(middle, decimals),
                f"{signed(values[0], decimals)} to {signed(values[-1], decimals)}",
                str(len(values)),
            ]
        )
    results = summary.results
    head = ["", "gain, interquartile mean", "median", "lowest to highest", results.seeds]
    and_seeds = " and seeds" if results.seed == "seed" else ""
    return (
        "<section><h2>What a search is worth</h2>"
        '<p class="note">The gain of what each search chose over the best neutral setting, on test prompts'
        f"{and_seeds} that decided nothing. A ring is one {results.seed}; the diamond is their interquartile mean "
        f"with its 95 % bootstrap interval, which says how much another draw of {results.seeds} and of prompts would "
        "move it on this very space.</p>"
        f"{charts['gains']}{table(head, rows, main=1)}</section>"
    )


def _search_section(summary: Summary, charts: Charts) -> str:
    if "chosen" not in charts:
        return ""
    seeds = summary.results.seeds
    return (
        "<section><h2>On the way</h2>"
        '<p class="note">Validation score of the best recommendation so far, which is what would be kept if the search '
        f"stopped there; interquartile mean over {seeds}, with 95 % bootstrap bands of other {seeds} on the same "
        "prompts. Being the best of several checks, it flatters a little: only the gain above was measured afresh.</p>"
        f"{charts['chosen']}"
        "<h3>What was recommended</h3>"
        '<p class="note">The same for the latest recommendation as it is, whether or not an earlier one was better: '
        "how steadily a search can be followed.</p>"
        f"{charts['recommended']}</section>"
    )


def _targets_section(summary: Summary, charts: Charts) -> str:
    if "targets" not in charts:
        return ""
    outputs = summary.results.noun
    rows = []
    for label in summary.gains:
        cells = [label]
        for share in SHARES:
            found = summary.expected(label, share)
            assert found is not None, "there are targets where there is a figure"
            images, reached = found
            cells.append(f"{images:,.0f} ({reached} of {len(summary.results.of(label))})" if reached else "never")
        rows.append(cells)
    head = ["", *(f"{share:.0%} of the way ({_score(summary.target(share))})" for share in SHARES)]
    return (
        f"<section><h2>{outputs.capitalize()} to a target</h2>"
        '<p class="note">Fifty targets lie at equal steps between the common start and the best validation score that '
        f"any run reached. A curve shows how many of all runs' targets were reached by so many {outputs}: "
        "further left and higher is better. Dotted, past the budget, is a search that is begun again "
        "whenever it ends short of its target, simulated from these runs.</p>"
        f"{charts['targets']}{table(head, rows)}"
        f'<p class="note">Expected {outputs} to a target with restarts: all that was spent for it, over the runs that '
        "reached it. In brackets, how many did.</p></section>"
    )


def _tests_section(summary: Summary, charts: Charts) -> str:
    if not summary.pairs:
        return ""
    rows = [
        [
            f"{pair.first} \N{MINUS SIGN} {pair.second}",
            interval_text(pair.difference),
            _p(pair.p),
            _p(pair.adjusted) + ("" if pair.adjusted >= SIGNIFICANCE else " *"),
        ]
        for pair in summary.pairs
    ]
    results = summary.results
    head = ["", "difference in gain", "p, Wilcoxon", "p, Holm"]
    ranks = ""
    if summary.ranking is not None and "ranks" in charts:
        found = summary.ranking
        ranks = (
            f'<p class="note">Average ranks over {results.counted(found.num_seeds)}, 1 being best. Contenders under '
            f"one bar cannot be told apart by Nemenyi's critical difference at the 5 % level; Friedman's test that all "
            f"are alike has p {_p(found.p, equals=True)}.</p>{charts['ranks']}"
        )
    return (
        "<section><h2>Who is ahead</h2>"
        f"{ranks}"
        f'<p class="note">Contenders share the training prompts of a {results.seed}, so they are compared '
        f"{results.seed} by {results.seed}, on the "
        f"{summary.num_paired} that all of them have finished. Holm's correction is for all pairs; a star marks the "
        "5 % level. What is tested is this one space: another may rank them otherwise.</p>"
        f"{table(head, rows)}</section>"
    )


def _contenders_section(summary: Summary) -> str:
    cards = [
        f'<div><h3><span style="color:{colour}">\N{BLACK CIRCLE}</span> {escape(label)}</h3>'
        f'<p class="note">{escape("; ".join(description(summary, label)))}.</p></div>'
        for label, colour in colours(summary).items()
    ]
    return f'<section><h2>The contenders</h2><div class="side">{"".join(cards)}</div></section>'


def _origin_section(summary: Summary, folder: Path) -> str:
    import yaml

    results = summary.results
    again = f"trimpot compare {shlex.quote(results.row.id)}{store_option(folder)}"
    return made_with(
        str(results.row.config.get("command") or ""),
        ("To go on with it, or to make this page again:", again),
        sorted({item for each in results.courses.values() for item in (each.versions or {}).items()}),
        ("The comparison as a file", yaml.safe_dump(_asked(results), sort_keys=False, allow_unicode=True)),
    )


def _asked(results: Results) -> dict[str, Any]:
    """Return the comparison's file, with every key by the name that fits the outputs."""
    asked = {told_key(key, results.noun): value for key, value in results.design.asked.items()}
    return {**asked, "config": told_config(asked["config"], results.noun)}


def _score(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}".replace("-", "\N{MINUS SIGN}")


def _p(value: float, *, equals: bool = False) -> str:
    """Return a p-value as text with two significant digits."""
    text = "<\N{NO-BREAK SPACE}0.0001" if value < 0.0001 else f"{value:.2g}"
    return f"=\N{NO-BREAK SPACE}{text}" if equals and value >= 0.0001 else text
