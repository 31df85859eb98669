"""The sections of the page. All text from a run is escaped here; a section without content is an empty string."""

from __future__ import annotations

import base64
import io
import shlex
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from ..engine.nouns import one_of, told_config
from ..ground.folders import store_option
from .console import duration
from .facts import Facts, decimals_for
from .gallery import Picture, Said
from .knob_groups import group_knobs
from .prose import prose
from .skeleton import table
from .words import (
    alarm_verdict,
    caution,
    gain_text,
    headline,
    optimism,
    outcomes_by_prompt,
    signed,
    silence,
    taken_on,
    verdict,
)

LARGE_PIXELS = 640  # the page shows a reduced copy of a larger image
SMALL_PIXELS = 192  # a smaller image is enlarged with sharp pixels
Charts = Mapping[str, str]


def header(facts: Facts) -> str:
    """Return the header: name, status, the result in a sentence, and the size of the run."""
    row, totals = facts.row, facts.totals
    sentence = escape(headline(facts))
    if facts.comparisons:  # emphasise the number
        gain = escape(gain_text(facts.comparisons[0]["gain"], facts.decimals))
        kind = "up" if facts.comparisons[0]["gain"]["low"] > 0 and not facts.record.alarms else "even"
        sentence = sentence.replace(gain, f'<b class="{kind}">{gain}</b>')
    error = row.error if not facts.finished and row.error != facts.status else None
    rough = caution(facts.comparisons[0]["gain"]) if facts.comparisons else ""
    warnings = (alarm_verdict(facts), verdict(facts), rough, error)
    warning = "".join(f'<p class="verdict">{escape(text)}</p>' for text in warnings if text)
    steps = facts.comparisons[0]["num_steps"] if facts.comparisons else None
    stats = {
        facts.noun: f"{totals['num_images']:,}",
        "evaluations": f"{totals['num_evaluations']:,}",
        "generations": str(len(facts.generations)),
        "knobs": str(len(facts.neutral)) if facts.neutral else "",
        f"steps {one_of(facts.noun)}": str(steps) if steps else "",
        "time": duration(row.seconds),
        "stopped because": row.stop_reason or "",
    }
    listed = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in stats.items() if value
    )
    begun = row.created[:16].replace("T", " ") + " UTC"
    if row.parent:
        begun += f" at the result of {row.parent['run']}"
    resume = "" if facts.finished else _resume_note(facts)
    return (
        f'<header><p class="kicker">trimpot calibration of {escape(row.config["adapter"]["name"])}, begun '
        f"{escape(begun)}</p>"
        f'<h1>{escape(row.id)}<span class="pill {escape(facts.status)}">{escape(facts.status)}</span></h1>'
        f'<p class="lede">{sentence}</p>{warning}{resume}<dl class="stats">{listed}</dl></header>'
    )


def _resume_note(facts: Facts) -> str:
    if facts.status == "running":
        return '<p class="note">The run is at work; make this page again to see it further on.</p>'
    return '<p class="note">Everything recorded is kept. The command to go on stands at the end of this page.</p>'


def gallery_section(facts: Facts, pictures: Sequence[Picture]) -> str:
    """Return the section of before-and-after pictures."""
    if not pictures:
        return ""
    scores = _picture_scores(facts)
    cards = []
    for number, picture in enumerate(pictures):
        sides = []
        pair = scores.get((number, picture.prompt, picture.seed))
        for position, (title, path) in enumerate((("neutral", picture.neutral), ("calibrated", picture.calibrated))):
            score = ""
            if pair:
                up = ' class="up"' if position and pair[1] > pair[0] else ""
                score = f"<b{up}>{pair[position]:.2f}</b>"
            sides.append(f"<div>{image_tag(path, title)}<span>{title}{score}</span></div>")
        cards.append(
            f'<figure><div class="pair">{"".join(sides)}</div><figcaption>{prose(picture.prompt)}</figcaption></figure>'
        )
    return (
        f"<section><h2>Before and after</h2>"
        f'<p class="note">The first {len(pictures)} test prompts, not chosen{same_seed(facts)}.'
        f"{' The number is the score.' if scores else ''}</p>"
        f'<div class="gallery">{"".join(cards)}</div></section>'
    )


def same_seed(facts: Facts) -> str:
    """Return the end of a sentence on pairs of outputs, if a seed had a part in them."""
    return "; the same seed on both sides" if facts.seeded else ""


def answer_card(said: Said, values: tuple[float, float] | None) -> str:
    """Return a prompt with its neutral and its calibrated answer, and their values if these are known."""
    sides = []
    for position, (title, text) in enumerate((("neutral", said.neutral), ("calibrated", said.calibrated))):
        up = ' class="up"' if values and position and values[1] > values[0] else ""
        value = f"<b{up}>{values[position]:.2f}</b>" if values else ""
        shown = prose(text) if text.strip() else "<i>nothing</i>"
        sides.append(f'<div><span>{title}{value}</span><div class="said">{shown}</div></div>')
    return (
        f'<figure><figcaption class="said">{prose(said.prompt)}</figcaption>'
        f'<div class="pair">{"".join(sides)}</div></figure>'
    )


def answers_section(facts: Facts, answers: Sequence[Said]) -> str:
    """Return the section of answers before and after."""
    if not answers:
        return ""
    scores = {key[:2]: pair for key, pair in _picture_scores(facts).items()}
    cards = [answer_card(each, scores.get((number, each.prompt))) for number, each in enumerate(answers)]
    return (
        f"<section><h2>Before and after</h2>"
        f'<p class="note">The first {len(answers)} test prompts, not chosen, each with both answers.'
        f"{' The number is the score.' if scores else ''}</p>"
        f'<div class="answers">{"".join(cards)}</div></section>'
    )


def _picture_scores(facts: Facts) -> dict[tuple[int, str, int], tuple[float, float]]:
    if facts.record.pair is None:
        return {}
    before, after = facts.record.pair
    rows = zip(before.bucket.prompts, before.bucket.seeds, before.values, after.values, strict=True)
    return {(number, prompt, seed): (float(b), float(a)) for number, (prompt, seed, b, a) in enumerate(rows)}


def image_tag(path: Path, title: str, style: str = "") -> str:
    """Return a picture as an element of HTML that holds it, or nothing if the file is damaged.

    Args:
        path: The file.
        title: What the picture shows.
        style: Its style, for a page without this one's style sheet.
    """
    from PIL import Image

    kind = "png"
    try:
        data = path.read_bytes()
        with Image.open(io.BytesIO(data)) as image:
            if max(image.size) > LARGE_PIXELS:  # the folder keeps the full image; the page stays small
                image.thumbnail((LARGE_PIXELS, LARGE_PIXELS))
                kind, buffer = "jpeg", io.BytesIO()
                image.convert("RGB").save(buffer, "JPEG", quality=90)
                data = buffer.getvalue()
            width, height = image.size
    except OSError:  # the page is written even if a picture is damaged
        return ""
    small = ' class="small"' if max(width, height) <= SMALL_PIXELS else ""
    encoded = base64.b64encode(data).decode("ascii")
    own = f' style="{style};image-rendering:pixelated"' if style and small else f' style="{style}"' if style else small
    return f'<img{own} width="{width}" height="{height}" alt="{title}" src="data:image/{kind};base64,{encoded}">'


def search_section(facts: Facts, charts: Charts) -> str:
    """Return the section on the course of the search."""
    if "search" not in charts:
        return ""
    return (
        "<section><h2>The search</h2>"
        '<p class="note">Every generation is scored on prompts of its own, so training scores wander with them; '
        "validation always uses the same prompts, and the best of it was chosen. The dashed line is the best "
        f"neutral setting on those prompts.</p>{charts['search']}{_noise(facts)}{_silence(facts)}</section>"
    )


def _noise(facts: Facts) -> str:
    """Return a paragraph on the sources of the scores' variance; see `engine.noise`."""
    if facts.noise is None:
        return ""
    noise, prompts = facts.noise, facts.sizes["training"]
    share = noise.of_a_mean(prompts)
    return (
        f'<p class="note">Noise, from the scores of all {facts.noun}: candidates of a generation differ by '
        f"{noise.candidates:.3g} (standard deviation), prompts by {noise.prompts:.3g}, which a shared bucket cancels; "
        f"what is left scatters by {noise.scatter:.3g} from one to the next, and so by {share:.3g} in a candidate's "
        f"mean over {prompts}.</p>"
    )


def _silence(facts: Facts) -> str:
    sentence = silence(facts.row.outcome)
    return f'<p class="note">{sentence}</p>' if sentence else ""


def knobs_section(facts: Facts, charts: Charts) -> str:
    """Return the section on the setting that is shown."""
    if facts.shown is None or not ("knobs" in charts or "singles" in charts):
        return ""
    state = "chosen" if facts.finished else "best on validation so far"
    when = f"after {facts.shown.generation} generations" if facts.shown.generation else "the neutral setting"
    if not facts.row.config["generations"]:
        state, when = "measured", "as it was given"
    parts = [f'<section><h2>The knobs</h2><p class="note">The setting {state} ({when}).']
    if "knobs" in charts:
        parts.append(" By depth in the model; the dashed line is the neutral value.")
    parts.append(f"</p>{charts.get('knobs', '')}")
    if "singles" in charts:
        names = group_knobs(facts.shown.setting).single
        weights = all(name.endswith(".weight") for name in names)
        if "knobs" in charts:
            parts.append(f"<h3>{'Output weights' if weights else 'Knobs without a depth'}</h3>")
        parts.append(charts["singles"])
        if facts.neutral is not None and len(names) <= 40:
            rows = [[name, f"{facts.neutral[name]:.4g}", f"{facts.shown.setting[name]:.4g}"] for name in names]
            parts.append(table(["", "neutral", "calibrated"], rows))
    return "".join(parts) + "</section>"


def steps_section(facts: Facts, charts: Charts) -> str:
    """Return the section that compares both sides by number of steps and shows the neutral settings tried."""
    parts = []
    if len(facts.comparisons) > 1:
        first = facts.comparisons[0]["num_steps"]
        rows = [
            [
                f"{each['num_steps']}" + (" (calibrated for)" if each["num_steps"] == first else ""),
                str(each["baseline"]["label"]),
                f"{each['neutral']:.{facts.decimals}f}",
                f"{each['calibrated']:.{facts.decimals}f}",
                gain_text(each["gain"], facts.decimals),
                gain_text(each["gain_at_calibrated_steps"], facts.decimals),
                taken_on(each["gain"], facts.noun),
            ]
            for each in sorted(facts.comparisons, key=lambda comparison: comparison["num_steps"])
        ]
        across = f"calibrated at {first} steps against neutral here"
        head = ["steps", "neutral at its best", "neutral", "calibrated", "gain", across, "on"]
        parts.append(
            "<section><h2>By number of steps</h2>"
            '<p class="note">The neutral side is chosen anew at every number of steps. Bars on the calibrated '
            "curve are the 95 % interval of the paired gain. The orange points hold the calibration at "
            f"{first} steps against neutral at more or fewer.</p>"
            f'<div class="side">{charts.get("steps", "")}{charts.get("gains", "")}</div>{table(head, rows)}</section>'
        )
    if "grid" in charts:
        parts.append(
            "<section><h2>The neutral side</h2>"
            '<p class="note">Every neutral setting that was tried, on validation prompts. Calibration is held '
            f"against the best (star), not against a default.</p>{charts['grid']}</section>"
        )
    return "".join(parts)


def test_section(facts: Facts, charts: Charts) -> str:
    """Return the section on the paired differences whose mean is the gain."""
    if "differences" not in charts:
        return ""
    return (
        "<section><h2>Prompt by prompt</h2>"
        f'<p class="note">{escape(outcomes_by_prompt(facts))} The gain is the mean of these differences.</p>'
        f"{charts['differences']}</section>"
    )


def objectives_section(facts: Facts) -> str:
    """Return the table of single objectives, if there are several."""
    gains = facts.objective_gains()
    if len(gains) < 2:
        return ""
    rows = [
        [name, _part(facts, name), f"{before:.4g}", f"{after:.4g}",
         gain_text({"mean": gain.mean, "low": gain.low, "high": gain.high}, decimals_for(gain.high - gain.low))]
        for name, (before, after, gain) in gains.items()
    ]  # fmt: skip
    rows_of_objectives = table(["", "weight", "neutral", "calibrated", "gain"], rows)
    return f"<section><h2>Objectives one by one</h2>{rows_of_objectives}</section>"


def tags_section(facts: Facts) -> str:
    """Return the tables of objectives by tag of the prompt."""
    parts = []
    for name, moved in facts.by_tag.items():
        rows = [
            [tag, f"{before:.4g}", f"{after:.4g}",
             gain_text({"mean": gain.mean, "low": gain.low, "high": gain.high}, decimals_for(gain.high - gain.low))]
            for tag, (before, after, gain) in moved.items()
        ]  # fmt: skip
        parts.append(f"<h3>{escape(name)}</h3>{table(['', 'neutral', 'calibrated', 'gain'], rows)}")
    return f"<section><h2>By kind of prompt</h2>{''.join(parts)}</section>" if parts else ""


def _part(facts: Facts, name: str) -> str:
    """Return the role of an objective in the run: its weight, or a word if it has none."""
    reward = facts.row.config["objectives"].get(name)
    if reward is None:
        return "optimised"
    if reward["weight"]:
        return f"{reward['weight']:g}"
    return "watched" if name in facts.record.watched else "constraint"


def scores_section(facts: Facts) -> str:
    """Return the table of training, validation and test scores."""
    if not facts.record.checks and not facts.generations:
        return ""
    first = facts.comparisons[0] if facts.comparisons else None
    decimals = facts.decimals

    def number(value: float | None) -> str:
        return "not yet" if value is None else f"{value:.{decimals}f}"

    neutral_check = facts.record.checks[0].score if facts.record.checks else None
    chosen_score = facts.shown.score if facts.shown else None
    before: list[float | None] = [facts.reference, neutral_check, first["neutral"] if first else None]
    after: list[float | None] = [facts.best_training, chosen_score, first["calibrated"] if first else None]
    gap = [
        "" if low is None or high is None else signed(high - low, decimals)
        for low, high in zip(before, after, strict=True)
    ]
    head = ["", *(f"{stage} ({facts.sizes[stage]} {facts.noun})" for stage in ("training", "validation", "test"))]
    rows = [
        ["neutral", *map(number, before)],
        ["calibrated; best of all candidates in training", *map(number, after)],
        ["difference", *gap],
    ]
    return (
        f"<section><h2>What each score is worth</h2>{table(head, rows, main=3)}"
        f'<p class="note">{escape(optimism(facts))}</p></section>'
    )


def apply_section(facts: Facts, calibration: Path, folder: Path) -> str:
    """Return the section with the commands to use next."""
    store = store_option(folder)
    name = shlex.quote(facts.row.id)
    if not facts.finished:
        return (
            "<section><h2>Go on</h2><p>The run continues where it stopped and ends at the same result as if it "
            f"never had.</p><pre>{escape(f'trimpot resume {name}{store}')}</pre></section>"
        )
    stands = facts.standing
    show = f"<pre>{escape(f'trimpot show {name}{store}')}</pre>"
    if not stands.may_be_applied:
        more = escape(f"trimpot resume {name} generations=+100{store}")
        go_on = f"<pre>{more}</pre>" if facts.row.config["generations"] else ""  # a measurement has no search to extend
        return f"<section><h2>Go on</h2><p>{escape(stands.sentence)}</p>{show}{go_on}</section>"
    parts = [f"<section><h2>Use it</h2>{show}"]
    if facts.comparisons[0]["num_steps"] and calibration.exists():
        steps = facts.comparisons[0]["num_steps"]
        parts.append(
            f"<p>On a stock diffusers pipeline, at {steps} steps:</p>"
            f"<pre>{escape(f'trimpot.load_calibration(pipe, {str(calibration)!r})')}</pre>"
        )
    return "".join(parts) + "</section>"


def configuration_section(facts: Facts) -> str:
    """Return the section on everything that could change a number: configuration, versions and digest."""
    import yaml

    row = facts.row
    config = yaml.safe_dump(told_config(row.config, facts.noun), sort_keys=False, allow_unicode=True)
    versions = [[name, version] for name, version in row.versions.items()]
    return (
        "<section><h2>Made with</h2>"
        f"{table(['package', 'version'], versions)}"
        '<p class="note">Digest of all settings and scores so far: '
        f"<code>{escape(facts.totals['digest'])}</code>. The same configuration with the same versions gives the "
        "same digest.</p>"
        f"<details open><summary>Configuration</summary><pre>{escape(config)}</pre></details></section>"
    )
