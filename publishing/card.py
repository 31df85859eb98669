"""The model card of a calibration: what it is, what it gains, how that was measured, and how it is used."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from ..engine.calibration import Calibration, GainRecord
from ..engine.nouns import noun
from ..reports.gallery import Picture, Said

PIPELINES = {"image": "text-to-image", "video": "text-to-video", "text": "text-generation"}
TAGS = ("trimpot", "calibri", "calibration")


def model_card(
    calibration: Calibration, pictures: Sequence[Picture], name: str, licence: str | None, answers: Sequence[Said] = ()
) -> str:
    """Return the card as Markdown with metadata in front.

    Args:
        calibration: The calibration.
        pictures: Before-and-after pictures, which lie in the card's folder under `images`.
        name: The hub id, or a name until there is one.
        licence: The licence of the base model; None if it is unknown.
        answers: Answers before and after, of a language model.
    """
    parts = [
        f"# {_text(name)}",
        _what(calibration),
        "## Gain\n\n" + _gain(calibration),
        _watched(calibration),
        "## Use\n\n" + _use(calibration, name),
        _gallery(calibration, pictures) + _answers(answers),
        "## How it was made\n\n" + _made(calibration),
    ]
    return _front(calibration, licence) + "\n\n".join(part for part in parts if part) + "\n"


def _front(calibration: Calibration, licence: str | None) -> str:
    """Return the card's metadata in YAML, which `huggingface_hub` writes."""
    from huggingface_hub import ModelCardData

    source = calibration.backbone.get("source")
    base = source.get("id") if isinstance(source, Mapping) and source.get("revision") else None
    frames = "num_frames" in (calibration.backbone.get("call") or {})
    data = ModelCardData(
        base_model=base,
        license=licence,
        library_name="trimpot",
        pipeline_tag="text-to-video" if frames else PIPELINES.get(calibration.provenance.makes or ""),
        tags=list(TAGS),
    )
    if base:
        data["base_model_relation"] = "adapter"
    return f"---\n{data.to_yaml()}\n---\n\n"


def _what(calibration: Calibration) -> str:
    backbone = calibration.backbone
    steps = f" at {calibration.num_steps} steps" if calibration.num_steps else ""
    transformer = backbone.get("transformer")
    of_class = f" (`{_text(str(transformer))}`)" if transformer else ""
    return (
        f"A calibration of {_text(str(backbone.get('id')))}{of_class}{steps}: "
        f"{len(calibration.setting)} scalar knobs, tuned by black-box search with trimpot, after *Calibri*. "
        "The base model's weights are unchanged."
    )


def _gain(calibration: Calibration) -> str:
    if calibration.gain is None:
        return "Nobody has measured the gain of this calibration: `trimpot measure` does, on prompts of your own."
    rewards = ", ".join(f"`{_text(name)}`" for name in _rewards(calibration))
    label = _text(calibration.neutral_label)
    best = f"at its best guidance ({label})" if calibration.num_steps else f"at its best ({label})"
    lines = [
        f"{_verdict(calibration, calibration.gain)} The score is {rewards}; neutral is the base model {best}. "
        "The difference is paired, on prompts that the search never "
        "saw; the unit of the 95 % interval is the prompt.",
        "",
        "| steps | neutral | calibrated | difference |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| {each.num_steps or ''} | {each.neutral:.3f} | {each.calibrated:.3f} | {each.gain.told} |"
        for each in calibration.by_steps
    ]
    return "\n".join(lines)


def _watched(calibration: Calibration) -> str:
    """Return what calibrating changed on watched prompts; empty if none were watched."""
    if not calibration.watched:
        return ""
    lines = [
        "## Elsewhere",
        "",
        "Other prompts, which were not optimised: what the calibration changes there. A loss is negative; intervals "
        "are those of the paired change, 95 %.",
        "",
        "| prompts | objective | neutral | calibrated | change |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {_text(each.prompts)} | {_text(each.objective)} | {each.neutral:.3f} | {each.calibrated:.3f} | "
        f"{each.gain.told} |"
        for each in calibration.watched
    ]
    return "\n".join(lines)


def _verdict(calibration: Calibration, gain: GainRecord) -> str:
    taken = f"{gain.num_images} {noun(calibration.provenance.makes)}" + (
        f" of {gain.num_prompts} prompts" if gain.num_prompts else ""
    )
    if gain.low is not None and gain.low > 0:
        return f"**{gain.told}** on {taken}."
    if gain.high is not None and gain.high < 0:
        return f"**It is worse than neutral: {gain.told}** on {taken}."
    return f"No gain beyond noise: {gain.told} on {taken}."


def _use(calibration: Calibration, name: str) -> str:
    """Return how the calibration is used, which depends on what the backbone makes."""
    if calibration.provenance.makes == "text":
        return (
            "```python\nimport trimpot\nfrom transformers import AutoModelForCausalLM\n\n"
            f"model = AutoModelForCausalLM.from_pretrained({json.dumps(str(calibration.backbone.get('id')))})\n"
            f"trimpot.load_calibration(model, {json.dumps(name)})\n```\n\n"
            "Every call of the model, `generate` included, is then calibrated."
        )
    if calibration.provenance.makes is None:
        return "`calibration.json` holds the value of every knob; `trimpot measure` measures it on prompts of your own."
    return (
        "```python\nimport trimpot\n\n"
        f"pipe = trimpot.load_pipeline({json.dumps(name)})\n"
        f"calibration = trimpot.load_calibration(pipe, {json.dumps(name)})\n"
        'pipe("a prompt", **calibration.recommended).images[0].save("calibrated.png")\n```\n\n'
        f'or, without Python: `trimpot sample {name} "a prompt" --seeds 4 --compare`'
    )


def _gallery(calibration: Calibration, pictures: Sequence[Picture]) -> str:
    if not pictures:
        return ""
    seed = "; the same seed on both sides" if calibration.provenance.uses_seed else ""
    lines = [
        "## Before and after",
        "",
        f"The first {len(pictures)} test prompts, not chosen{seed}.",
    ]
    lines += ["", "| prompt | neutral | calibrated |", "|---|---|---|"]
    for each in pictures:
        sides = " | ".join(f"![{side.stem}](images/{side.name})" for side in (each.neutral, each.calibrated))
        lines.append(f"| {_text(each.prompt)} | {sides} |")
    return "\n".join(lines)


def _answers(answers: Sequence[Said]) -> str:
    if not answers:
        return ""
    lines = ["## Before and after", "", f"The first {len(answers)} test prompts, not chosen."]
    lines += ["", "| prompt | neutral | calibrated |", "|---|---|---|"]
    lines += [f"| {' | '.join(map(_text, each))} |" for each in answers]
    return "\n".join(lines)


def _made(calibration: Calibration) -> str:
    made = calibration.provenance
    rewards = [
        f"- `{_text(name)}`: {_text(_fingerprint(calibration.objectives.get(name, {})))}"
        for name in _rewards(calibration)
    ]
    return "\n".join(
        [
            f"Run `{_text(made.run)}` of {made.created}, digest `{_text(made.digest)}`: "
            f"{made.num_images:,} {noun(made.makes)}, ended because {_text(made.stop_reason)}. "
            "`reproduce.yaml` is the configuration, with the versions of all packages that can change a number.",
            "",
            "Rewards:",
            "",
            *rewards,
        ]
    )


def _rewards(calibration: Calibration) -> list[str]:
    """Return the names of the optimised rewards, without watched ones."""
    configured = calibration.provenance.config.get("objectives")
    if not isinstance(configured, Mapping):
        return list(calibration.objectives)
    return [name for name, each in configured.items() if not isinstance(each, Mapping) or each.get("weight", 1) != 0]


def _fingerprint(described: Mapping[str, Any]) -> str:
    """Return what a reward says of itself and of its code, as JSON."""
    made_of = described.get("made_of")
    code = made_of if isinstance(made_of, Mapping) else {}
    found = {key: code[key] for key in ("name", "distribution", "version", "code") if key in code}
    found |= {key: value for key, value in described.items() if key not in ("made_of", "convention", "range")}
    return json.dumps(found, ensure_ascii=False)


def _text(text: str) -> str:
    """Escape what Markdown, its tables and HTML would obey."""
    escaped = re.sub(r"([\\`*_\[\]|])", r"\\\1", text).replace("<", "&lt;").replace(">", "&gt;")
    return " ".join(escaped.split())
