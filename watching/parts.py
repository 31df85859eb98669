"""The parts of the page as HTML. All text from a store is escaped here; a part without content is an empty string."""

from __future__ import annotations

import datetime
import shlex
import time
from collections import Counter
from collections.abc import Callable, Mapping
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ..engine.nouns import one_of, told_config
from ..ground.folders import store_option
from ..reports.console import duration
from ..reports.facts import Facts, decimals_for
from ..reports.gallery import Said
from ..reports.nouns import seeded
from ..reports.sections import answer_card, apply_section, same_seed
from ..reports.watched_sections import prompts_section, watched_section
from ..reports.words import alarm_verdict, caution, gain_text, headline, silence, verdict
from ..storage import AnalysisRow, RunRow
from .charts import curves, knobs
from .course import QUIET
from .reading import Scene, View

MOST_LISTED = 200
STAGES = {
    "": "loading the model",
    "baseline": "choosing the best neutral setting",
    "reference": "beginning the search",
    "sensitivity": "turning one knob at a time",
    "search": "searching",
    "test": "measuring on test prompts",
}


def address(kind: str, name: str) -> str:
    """Return the address of a page, with the name escaped for an address."""
    return f"/{kind}/{quote(name, safe='')}"


def link(kind: str, name: str) -> str:
    """Return a link to a page, named by its subject."""
    return f'<a href="{escape(address(kind, name), quote=True)}">{escape(name)}</a>'


def moment(iso: str) -> str:
    """Return a time as an element whose text says how long ago it was, kept up to date by the script."""
    try:
        when = datetime.datetime.fromisoformat(iso)
    except ValueError:
        return escape(iso)
    text = when.astimezone(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
    return f'<time data-at="{when.timestamp():.0f}" title="{text}">{text}</time>'


def pill(status: str) -> str:
    """Return a status as a pill."""
    return f'<span class="pill {escape(status, quote=True)}">{escape(status)}</span>'


def bar(share: float, label: str) -> str:
    """Return a bar of progress."""
    return f'<progress max="100" value="{100 * share:.1f}" aria-label="{escape(label, quote=True)}"></progress>'


def overview(scene: Scene, folder: Path) -> dict[str, str]:
    """Return the parts of the page of all runs."""
    title = f"Runs of {folder}"
    if scene.problem is not None:
        return {"title": title, "head": _trouble(title, scene.problem), "list": ""}
    if not scene.rows and not scene.analyses and not scene.told:
        return {"title": title, "head": _empty(folder), "list": ""}
    inside = {run for members in scene.comparisons.values() for run in members.values()}
    listed = [row for row in reversed(scene.rows.values()) if row.id not in inside or row.status == "running"]
    listed.sort(key=lambda row: row.status != "running")
    counts = Counter(row.status for row in scene.rows.values())
    said = ", ".join(f"{count} {status}" for status, count in counts.items())
    wrong = "".join(f'<p class="verdict">{escape(sentence)}</p>' for sentence in scene.told)
    head = f'<header><h1>Runs</h1><p class="lede">{escape(said) or "None can be read"}.</p>{wrong}</header>'
    cards = "".join(_card(row, scene) for row in listed[:MOST_LISTED])
    more = f'<p class="note">and {len(listed) - MOST_LISTED} earlier ones</p>' if len(listed) > MOST_LISTED else ""
    compared = "".join(
        f"<li><h3>{link('comparison', name)}</h3><p>{escape(_finished(members, scene))}</p></li>"
        for name, members in reversed(scene.comparisons.items())
    )
    compared = f'<h2>Comparisons</h2><ul class="runs">{compared}</ul>' if compared else ""
    asked = "".join(_analysis(row, count, scene, folder) for row, count in reversed(scene.analyses))
    asked = f'<h2>Analyses</h2><ul class="runs">{asked}</ul>' if asked else ""
    return {"title": title, "head": head, "list": f'<ul class="runs">{cards}</ul>{more}{compared}{asked}'}


def _empty(folder: Path) -> str:
    command = f"trimpot calibrate shapes{store_option(folder)}"
    return (
        f'<header><h1>Runs</h1><p class="lede">There is no run in {escape(str(folder))} yet. This page shows the first '
        f"one as soon as it begins.</p></header><h2>Begin one</h2><pre>{escape(command)}</pre>"
    )


def _trouble(title: str, sentence: str) -> str:
    said = sentence[:1].upper() + sentence[1:]
    return f'<header><h1>{escape(title)}</h1><p class="verdict">{escape(said)}.</p></header>'


def _finished(members: Mapping[tuple[str, int], str], scene: Scene) -> str:
    done = sum(1 for run in members.values() if run in scene.rows and scene.rows[run].outcome is not None)
    contenders = len({contender for contender, _ in members})
    return f"{contenders} contenders; {done} of {len(members)} runs that have begun are finished"


def _analysis(row: AnalysisRow, num_evaluations: int, scene: Scene, folder: Path) -> str:
    """Return an analysis of the list, with its answer, or what it has evaluated and the command to go on."""
    name = escape(row.id)
    if (folder / row.id / "analysis.html").exists():
        name = f'<a href="{escape(address("report", row.id), quote=True)}">{name}</a>'
    lines = [f"{escape(row.kind)}, begun {moment(row.created)}"]
    if row.outcome is not None:
        lines.append(escape(str(row.outcome.get("headline", ""))))
    else:
        runs = [run.outcome is not None for run in scene.rows.values() if run.id.startswith(f"{row.id}.")]
        told = [f"{sum(runs)} of {len(runs)} runs that have begun are finished"] if runs else []
        lines.append(
            ", ".join([*told, f"{num_evaluations:,} evaluations so far"] if num_evaluations or not runs else told)
        )
    go_on = ""
    if row.status in ("interrupted", "failed"):
        lines += [escape(row.error)] if row.error else []
        go_on = f"<pre>{escape(f'trimpot resume {shlex.quote(row.id)}{store_option(folder)}')}</pre>"
    return f"<li><h3>{name} {pill(row.status)}</h3>{''.join(f'<p>{line}</p>' for line in lines if line)}{go_on}</li>"


def _card(row: RunRow, scene: Scene) -> str:
    """Return a run of the list."""
    adapter = row.config.get("adapter", {})
    what = [str(adapter.get("name", ""))]
    if adapter.get("model"):
        what.append(str(adapter["model"]))
    lines = [f"{escape(' '.join(what))}, begun {moment(row.created)}"]
    progress = ""
    view = scene.views.get(row.id)
    if row.outcome is not None:
        lines.append(_gain(row))
    elif row.id in scene.wrong:
        lines.append(f"<b>it cannot be shown:</b> {escape(scene.wrong[row.id])}")
    elif view is not None:
        progress = bar(view.progress.share, f"progress of {row.id}")
        lines.append(_short(view))
    status = "damaged" if row.id in scene.wrong else row.status
    return (
        f"<li><h3>{link('run', row.id)} {pill(status)}</h3>{progress}"
        f"{''.join(f'<p>{line}</p>' for line in lines if line)}</li>"
    )


def _gain(row: RunRow) -> str:
    found = row.outcome["comparisons"] if row.outcome else []
    if not found:
        return ""
    gain = found[0]["gain"]
    kind = "up" if gain["low"] > 0 and not (row.outcome or {}).get("alarms") else ""
    text = gain_text(gain, decimals_for(gain["high"] - gain["low"]))
    alarms = len((row.outcome or {}).get("alarms", ()))
    raised = f"; <b>{alarms} {'alarm' if alarms == 1 else 'alarms'}</b>" if alarms else ""
    return f'gain <b class="{kind}">{escape(text)}</b> in {duration(row.seconds)}{raised}'


def _short(view: View) -> str:
    facts, parts = view.facts, []
    if facts.generations:
        parts.append(f"generation {len(facts.generations)} of {view.row.config['generations']}")
    elif view.row.status == "running":
        parts.append(STAGES[view.course.stage])
    else:
        parts.append(f"{view.course.num_images:,} {facts.noun}")
    if facts.shown is not None:
        parts.append(f"best on validation <b>{facts.shown.score:.3f}</b> (neutral {facts.record.checks[0].score:.3f})")
    if view.row.status == "running" and view.progress.seconds_left is not None:
        parts.append(f"at most {duration(view.progress.seconds_left)} left")
    if facts.record.alarms:
        parts.append("<b>ALARM</b>")
    return ", ".join(parts)


def run(scene: Scene, folder: Path, name: str) -> dict[str, str]:
    """Return the parts of the page of a run."""
    empty = dict.fromkeys(RUN_PARTS, "")
    row, view = scene.rows.get(name), scene.views.get(name)
    if view is None or row is None:
        said = scene.problem or scene.wrong.get(name)
        if said is None and row is not None:
            said = "it cannot be looked into"
        absent = "" if said or scene.told else f"there is no run {name} in {folder}"
        said = said or absent or scene.told[0]
        return {"title": name, **empty, "head": _trouble(name, said), "absent": absent}
    share = "" if row.outcome is not None else f"{view.progress.share:.0%} · "
    facts = view.facts
    return {
        "title": f"{share}{name}",
        **empty,
        "head": _head(view),
        "curves": _drawn(view, "curves", lambda: _curves(view), facts.record.checks, facts.generations),
        "pictures": _pictures(view),
        "knobs": _drawn(view, "knobs", lambda: knobs(facts, view.course), *_turned(view)),
        "watched": _drawn(view, "watched", lambda: _watched(view), *_compared(facts)),
        "workers": _workers(view),
        "next": _next(view, folder),
        "config": _drawn(view, "config", lambda: _config(view), row.config),
    }


RUN_PARTS = ("head", "curves", "pictures", "knobs", "watched", "workers", "next", "config")


def _drawn(view: View, part: str, draw: Callable[[], str], *shown: object) -> str:
    """Return a part of a run's page; it is drawn again only if what it shows has changed."""
    before = view.drawn.get(part)
    if before is None or before[0] != shown:
        view.drawn[part] = before = (shown, draw())
    return before[1]


def _curves(view: View) -> str:
    return curves(view.facts) if view.row.config["generations"] else ""


def _turned(view: View) -> tuple[object, ...]:
    """Return the settings that the knobs are drawn from."""
    return view.facts.neutral, view.facts.shown, view.course.now(), view.facts.finished


def _compared(facts: Facts) -> tuple[object, ...]:
    """Return what the intervals of watched scores are of, and what is said beside them."""
    return facts.validation_pair, facts.record.pair, facts.record.alarms, facts.on_watched, facts.noun


def _watched(view: View) -> str:
    return watched_section(view.facts) + prompts_section(view.facts, {})


def _head(view: View) -> str:
    """Return name, status and how it is known, the result or the progress in words, and the sizes."""
    row, facts, progress = view.row, view.facts, view.progress
    adapter = row.config["adapter"]
    notes = (
        alarm_verdict(facts),
        verdict(facts),
        caution(facts.comparisons[0]["gain"]) if facts.comparisons else "",
        silence(row.outcome),
        row.error if row.outcome is None and row.status == "failed" else "",
        *view.notes,
    )
    said = "".join(f'<p class="verdict">{escape(note)}</p>' for note in notes if note)
    shown = "" if row.outcome is not None else bar(progress.share, "progress of the run")
    steps = view.facts.comparisons[0]["num_steps"] if facts.comparisons else None
    stats = {
        "stage": STAGES[view.course.stage] if row.status == "running" else "",
        "generations": f"{len(facts.generations)} of {row.config['generations']}" if row.config["generations"] else "",
        facts.noun: f"{progress.images:,}{f' of {progress.most_images:,} at most' if progress.estimated else ''}",
        "left, at most": _left(view),
        f"{facts.noun} a second": f"{progress.speed.images:.3g}" if progress.speed and row.status == "running" else "",
        "knobs": str(len(facts.neutral)) if facts.neutral else "",
        f"steps {one_of(facts.noun)}": str(steps) if steps else "",
        "time": duration(row.seconds),
        "stopped because": row.stop_reason or "",
    }
    return (
        f'<header><p class="kicker">trimpot calibration of {escape(str(adapter["name"]))}, begun '
        f"{moment(row.created)}{_descent(row)}</p><h1>{escape(row.id)} {pill(row.status)}</h1>"
        f'<p class="lede">{escape(headline(facts))}</p>{said}<p class="note">{_decided(view)}</p>'
        f"{shown}{_stats(stats)}</header>"
    )


def _descent(row: RunRow) -> str:
    return f" at the result of {escape(str(row.parent['run']))}" if row.parent else ""


def _left(view: View) -> str:
    known = view.row.status == "running" and view.progress.seconds_left is not None
    return duration(view.progress.seconds_left or 0.0) if known else ""


def _decided(view: View) -> str:
    """Return how the status is known."""
    row, last = view.row, view.course.last
    since = f"its last result came {moment(last)}" if last else "nothing is recorded yet"
    if row.status == "running":
        quiet = _quiet(view)
        return f"A process holds this run&#x27;s lock and works on it; {since}.{quiet}"
    if row.status == "finished":
        return f"It has its result and its report; {since}."
    if row.status == "unreported":
        return (
            f"It has its result, and no process works on it; the report is still to be written. {since.capitalize()}."
        )
    ended = "It stopped with an error" if row.status == "failed" else "No process works on it"
    return f"{ended}; {since}. Everything recorded is kept."


def _quiet(view: View) -> str:
    speed, last = view.progress.speed, view.course.last
    if speed is None or last is None:
        return ""
    waited = time.time() - datetime.datetime.fromisoformat(last).timestamp()
    if waited <= max(QUIET, 5 * speed.pause):
        return ""
    return f" That is long ago for it: until now, results came at most {duration(speed.pause)} apart."


def _pictures(view: View) -> str:
    """Return the latest pictures beside neutral's."""
    if not view.pictures:
        return ""
    if view.pictures[0].said:
        said = [answer_card(Said(*each[:3]), each.values) for each in view.pictures]
        return (
            f"<section><h2>Answers</h2><p class=note>The first {len(said)} {escape(view.pictured)}, not chosen.</p>"
            f'<div class="answers">{"".join(said)}</div></section>'
        )
    cards = []
    for pair in view.pictures:
        sides = []
        for position, (title, source) in enumerate((("neutral", pair.neutral), ("calibrated", pair.calibrated))):
            value = ""
            if pair.values is not None:
                up = ' class="up"' if position and pair.values[1] > pair.values[0] else ""
                value = f"<b{up}>{pair.values[position]:.2f}</b>"
            src = escape("/" + quote(source), quote=True)
            sides.append(f'<div><img src="{src}" alt="{title}" loading="lazy"><span>{title}{value}</span></div>')
        cards.append(
            f'<figure><div class="pair">{"".join(sides)}</div><figcaption>{escape(pair.prompt)}</figcaption></figure>'
        )
    return (
        f"<section><h2>Pictures</h2><p class=note>The first {len(view.pictures)} {escape(view.pictured)}, not chosen"
        f'{same_seed(view.facts)}.</p><div class="gallery">{"".join(cards)}</div></section>'
    )


def _workers(view: View) -> str:
    """Return who works, and how much of the time."""
    workers, speed = view.row.config.get("workers") or {}, view.progress.speed
    processes, actors = workers.get("processes", 1), workers.get("ray")
    count: Any = actors if actors is not None else processes
    kind = "of Ray" if actors is not None else "processes of this machine" if processes != 1 else ""
    who = "one process" if count == 1 and actors is None else f"{'all GPUs' if count == 'auto' else count} ({kind})"
    told = {"workers": who}
    if speed is not None and view.row.outcome is None:
        busy = speed.generating + speed.scoring
        share = f"{min(1.0, busy / count):.0%} of their time" if isinstance(count, int) else f"as {busy:.1f} at work"
        told["busy"] = share
        if busy:
            told["of it generating"] = f"{speed.generating / busy:.0%}"
            told["of it scoring"] = f"{speed.scoring / busy:.0%}"
        told["taken from the last"] = duration(speed.seconds)
    noise = view.facts.noise
    if noise is not None:
        size = view.facts.sizes["training"]
        told["candidates differ by"] = f"{noise.candidates:.3g}"
        told["prompts differ by"] = f"{noise.prompts:.3g}"
        told[f"{one_of(view.facts.noun)} scatters by"] = f"{noise.scatter:.3g}"
        told[f"a mean over {size} by"] = f"{noise.of_a_mean(size):.3g}"
    why = (
        '<p class="note">Noise, in standard deviations, from the scores of the latest generations: prompts differ, '
        "which a shared bucket cancels; what is left scatters.</p>"
        if noise is not None
        else ""
    )
    return f"<section><h2>Work and noise</h2>{_stats(told)}{why}</section>"


def _stats(told: Mapping[str, str]) -> str:
    """Return names with values as a list; those without a value are left out."""
    listed = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in told.items() if value
    )
    return f'<dl class="stats">{listed}</dl>'


def _next(view: View, folder: Path) -> str:
    """Return the command that goes on with the run."""
    row = view.row
    report = folder / row.id / "report.html"
    page = f'<p><a href="{escape(address("report", row.id), quote=True)}">The report</a></p>' if report.exists() else ""
    if row.outcome is not None:
        return apply_section(view.facts, folder / row.id / "calibration.json", folder) + page
    command = f"trimpot resume {shlex.quote(row.id)}{store_option(folder)}"
    when = (
        "The run is at work. Should it stop, this command goes on where it was, to the same result."
        if row.status == "running"
        else "The run continues where it stopped, and ends at the same result as if it never had."
    )
    return f"<section><h2>Go on</h2><p>{when}</p><pre>{escape(command)}</pre></section>"


def _config(view: View) -> str:
    import yaml

    config = yaml.safe_dump(told_config(view.row.config, view.facts.noun), sort_keys=False, allow_unicode=True)
    return f'<details id="configuration"><summary>Configuration</summary><pre>{escape(config)}</pre></details>'


def comparison(scene: Scene, folder: Path, name: str) -> dict[str, str]:
    """Return the parts of the page of a comparison."""
    members = scene.comparisons.get(name)
    if members is None:
        absent = "" if scene.problem else f"there is no comparison {name} in {folder}"
        return {"title": name, "head": _trouble(name, scene.problem or absent), "list": "", "absent": absent}
    rows = []
    for (contender, seed), run_name in sorted(members.items()):
        row = scene.rows.get(run_name)
        view = scene.views.get(run_name)
        how = row.status if row is not None else "not readable"
        told = (
            "" if row is None else _gain(row) if row.outcome is not None else _short(view) if view is not None else ""
        )
        rows.append(
            f"<li><h3>{escape(contender)}, {'seed' if row is None or seeded(row.outcome) else 'search'} {seed} "
            f"{pill(how)}</h3>"
            f"{bar(view.progress.share, run_name) if view is not None and row and row.outcome is None else ''}"
            f"<p>{link('run', run_name)}</p>{f'<p>{told}</p>' if told else ''}</li>"
        )
    page = folder / name / "comparison.html"
    report = f'<p><a href="{escape(address("report", name), quote=True)}">The page of results</a></p>'
    head = (
        f'<header><p class="kicker">comparison</p><h1>{escape(name)}</h1>'
        f'<p class="lede">{escape(_finished(members, scene))}.</p>{report if page.exists() else ""}</header>'
    )
    go_on = ""
    if any(row is None or row.outcome is None for row in map(scene.rows.get, members.values())):
        command = f"trimpot compare {shlex.quote(name)}{store_option(folder)}"
        go_on = f"<h2>Go on</h2><pre>{escape(command)}</pre>"
    return {"title": name, "head": head, "list": f'<ul class="runs">{"".join(rows)}</ul>{go_on}'}
