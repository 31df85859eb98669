"""The page of an analysis: one HTML file that needs no other file and no network; and its tables and numbers."""

from __future__ import annotations

import json
import shlex
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

from ..engine.calibration import write_text
from ..ground.errors import StoreError
from ..ground.folders import store_option
from ..reports.console import duration
from ..reports.skeleton import chart, made_with, table, whole_page, write_page
from ..storage import Analyses, AnalysisRow, SqliteStore
from .analysis import Findings, Part


class Files(NamedTuple):
    """The paths of an analysis's results.

    Attributes:
        page: The self-contained HTML page.
        numbers: The findings as JSON.
        tables: The CSV tables, and further files.
    """

    page: Path
    numbers: Path
    tables: tuple[Path, ...]


def draw(store: SqliteStore, name: str, to: Path | None = None) -> Files:
    """Write the page, the numbers and the tables of a finished analysis.

    Args:
        store: The open store.
        name: The analysis.
        to: Where to write the page; None for the analysis's folder.

    Raises:
        StoreError: If there is no such analysis, or it has found nothing yet.
        CalibrationError: If a file cannot be written.
    """
    row = Analyses(store).get(name)
    findings = findings_of(row)
    folder = store.run_folder(name)
    tables = {f"{each.name}.csv": each.as_csv() for part in findings.parts for each in part.tables}
    others = {**tables, **findings.files}
    files = Files(to or folder / "analysis.html", folder / "analysis.json", tuple(folder / each for each in others))
    for path, text in zip(files.tables, others.values(), strict=True):
        write_text(path, text)
    write_text(files.numbers, json.dumps(dict(findings.numbers), indent=1, ensure_ascii=False) + "\n")
    write_page(files.page, render(store, row, findings))
    return files


def findings_of(row: AnalysisRow) -> Findings:
    """Return what an analysis has found.

    Raises:
        StoreError: If it has not finished.
    """
    if row.outcome is None:
        raise StoreError(f"analysis {row.id} has found nothing yet; go on with `trimpot resume {row.id}` first")
    return Findings.from_json(row.outcome)


def summary(store: SqliteStore, name: str) -> dict[str, Any]:
    """Return the summary of an analysis, finished or not, for programs."""
    row, history = Analyses(store).get(name), Analyses(store).history(name)
    folder = store.folder / name
    page = folder / "analysis.html"
    findings = Findings.from_json(row.outcome) if row.outcome else None
    return {
        "analysis": row.id,
        "kind": row.kind,
        "status": row.status,
        "created": row.created,
        "num_evaluations": len(history),
        "outputs": findings.outputs if findings else "outputs",
        "num_images": sum(each.evaluation.num_images for each in history),
        "num_images_made": sum(each.evaluation.num_images for each in history if each.fresh),
        "runs": list(findings.runs) if findings else [],
        "seconds": row.seconds,
        "headline": findings.headline if findings else None,
        "numbers": dict(findings.numbers) if findings else None,
        "page": str(page) if page.exists() else None,
        "tables": [str(path) for path in sorted(folder.glob("*.csv"))],
        "error": row.error,
        "config": row.config,
        "versions": row.versions,
    }


def render(store: SqliteStore, row: AnalysisRow, findings: Findings) -> str:
    """Return the page as HTML."""
    interactive = any(part.figures for part in findings.parts)
    parts = [_header(store, row, findings)]
    parts += [_section(part, number) for number, part in enumerate(findings.parts)]
    parts += [_origin(row, store.folder)]
    return whole_page(row.id, "\n".join(parts), interactive=interactive)


def _header(store: SqliteStore, row: AnalysisRow, findings: Findings) -> str:
    history = Analyses(store).history(row.id)
    images = sum(each.evaluation.num_images for each in history)
    made = sum(each.evaluation.num_images for each in history if each.fresh)
    stats = dict(findings.stats)
    if images:
        stats |= {findings.outputs: f"{images:,}", "of these found in the store": f"{images - made:,}"}
    if findings.runs:
        stats["runs it rests on"] = f"{len(findings.runs):,}"
    stats["time"] = duration(row.seconds)
    listed = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in stats.items())
    said = "".join(f"<p>{escape(text)}</p>" for text in findings.sentences)
    warned = "".join(f'<p class="verdict">{escape(text)}</p>' for text in findings.cautions)
    of = ", ".join(str(target["name"]) for target in row.config["targets"]) or "a store"
    begun = row.created[:16].replace("T", " ")
    return (
        f'<header><p class="kicker">trimpot {escape(row.kind)} of {escape(of)}, begun {escape(begun)} UTC</p>'
        f'<h1>{escape(row.id)}<span class="pill finished">finished</span></h1>'
        f'<p class="lede">{escape(findings.headline)}</p>{said}{warned}<dl class="stats">{listed}</dl></header>'
    )


def _section(part: Part, number: int) -> str:
    figures = "".join(chart(f"{number}-{index}", figure) for index, figure in enumerate(part.figures))
    tables = "".join(
        table(*each.shown, main=each.main)
        + f'<p class="note">All numbers: <code>{escape(each.name)}.csv</code>, beside this page.</p>'
        for each in part.tables
        if each.shown
    )
    return f'<section><h2>{escape(part.title)}</h2><p class="note">{escape(part.note)}</p>{figures}{tables}</section>'


def _origin(row: AnalysisRow, folder: Path) -> str:
    import yaml

    asked = {"options": row.config["options"], "targets": [each["config"] for each in row.config["targets"]]}
    return made_with(
        str(row.config.get("command") or ""),
        ("To write this page again:", f"trimpot report {shlex.quote(row.id)}{store_option(folder)}"),
        sorted(row.versions.items()),
        ("What was asked, in full", yaml.safe_dump(asked, sort_keys=False, allow_unicode=True)),
    )
