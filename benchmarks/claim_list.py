"""The twelve claims, each with what is run for it and which numbers it is about."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from evidence import NOT_WORSE, Calibrated, Evidence, Part, analysed, calibrated, compared, examined, read
from numpy.typing import NDArray

Seeds = tuple[int, ...]
IMAGES = 3840  # of every search: 60 generations of 64, as in the preset
ABLATED = 5  # seeds of every prompt, as in Calibri
FACTORS = ("faithful", "vivid", "crisp", "clean")  # of the checker's score, watched where another is optimised
LOST = 0.05  # the share of the diversity that may be lost where it is said to be kept
BEST = "chosen on 128 validation images"


@dataclass(frozen=True)
class Claim:
    """A claim.

    Attributes:
        title: The claim in words.
        measure: What measures it, given the store's folder and the seeds; None if it is left open.
        margin: How much worse still counts as equal; None if the claim is about more or less.
        why: Why it is left open.
    """

    title: str
    measure: Callable[[Path, Seeds], Evidence] | None
    margin: float | None = None
    why: str = ""


def removed(folder: Path, seeds: Seeds) -> Evidence:
    """Some blocks, removed one at a time, raise the score."""
    found, told = _ablation(folder)
    parts = tuple(_part(f"without {name}", each["0"]) for name, each in found["numbers"]["scales"].items())
    return _ablated(found, told, parts, every=False)


def scales(folder: Path, seeds: Seeds) -> Evidence:
    """Each block has a scale that is better than 1."""
    found, told = _ablation(folder)
    parts = []
    for name, each in found["numbers"]["best"].items():
        if each["judged"] is None:  # 1 itself was best on the prompts that chose
            parts.append(Part(f"{name} at 1", 0.0, 0.0, 0.0))
        else:
            parts.append(_part(f"{name} at {each['scale']:g}", each["judged"]))
    told += "; a block's best scale is chosen on one half of the prompts and judged on the other"
    return _ablated(found, told, tuple(parts), every=True)


def _ablation(folder: Path) -> tuple[dict[str, Any], str]:
    pairs = ["granularity=block", "scales=0,0.5,0.75,1.25,1.5", f"seeds={ABLATED}", "test.num_prompts=64"]
    return analysed("ablation", "shapes", pairs, folder), f"`trimpot analyse ablation shapes {' '.join(pairs)}`"


def _ablated(found: Mapping[str, Any], told: str, parts: tuple[Part, ...], *, every: bool) -> Evidence:
    label = f"{found['numbers']['baseline']}, {BEST}"
    told += "; the seeds are those of images, as nothing is searched"
    seeds = tuple(range(ABLATED))
    return Evidence(told, label, parts, every, seeds, found["images"], found["runs"])


def granularities(folder: Path, seeds: Seeds) -> Evidence:
    """Block, layer and gate calibration all gain."""
    found, told = _granularity(folder, seeds)
    own = [each for each in found["numbers"]["gains"] if each["measured"] == "shapes"]
    parts = tuple(_part(each["granularity"], each) for each in own)
    label = f"{own[0]['uncalibrated']}, {BEST}"
    return Evidence(told, label, parts, True, seeds, found["images"], found["runs"])


def consistent(folder: Path, seeds: Seeds) -> Evidence:
    """Layer calibration is the most consistent across rewards."""
    found, told = _granularity(folder, seeds)
    runs = found["numbers"]["runs"]
    every = {kind: [read(folder, runs[f"{kind}-{seed}"]) for seed in seeds] for kind in ("block", "layer", "gate")}
    effects = {kind: [_effect(each) for each in several] for kind, several in every.items()}
    prompts = every["layer"][0].prompts
    parts = tuple(
        compared(f"layer less {kind}", effects["layer"], effects[kind], prompts) for kind in ("block", "gate")
    )
    zero = np.zeros(len(prompts))
    besides = tuple(
        compared(f"{kind}, against uncalibrated", several, [zero] * len(several), prompts)
        for kind, several in effects.items()
    )
    told += (
        f"; an image's number is its gain in {', '.join(FACTORS)}, none of which is optimised by itself, each in "
        "standard deviations between uncalibrated images, averaged over the four"
    )
    label = f"{every['layer'][0].label}, {BEST}"
    return Evidence(told, label, parts, True, seeds, found["images"], found["runs"], besides)


def _effect(run: Calibrated) -> NDArray[np.float64]:
    """Return the mean gain of every image in the rewards that were not optimised, in standard deviations."""
    gains = []
    for name in FACTORS:
        before, after = np.asarray(run.neutral.scores[name]), np.asarray(run.after.scores[name])
        gains.append((after - before) / before.std(ddof=1))
    mean: NDArray[np.float64] = np.mean(gains, axis=0)
    return mean


def finest(folder: Path, seeds: Seeds) -> Evidence:
    """Gate calibration gains the most in the optimised reward."""
    found, told = _granularity(folder, seeds)
    pairs = [
        each
        for each in found["numbers"]["granularities"]
        if each["granularity"] == "gate" and each["measured"] == "shapes"
    ]
    parts = tuple(_part(f"gate less {each['less']}", each) for each in pairs)
    label = f"{found['numbers']['gains'][0]['uncalibrated']}, {BEST} (gains of claim 3)"
    return Evidence(told, label, parts, True, seeds, found["images"], found["runs"])


def _granularity(folder: Path, seeds: Seeds) -> tuple[dict[str, Any], str]:
    watched = [
        f"objectives.{name}.{key}={value}"
        for name in FACTORS
        for key, value in (("name", "shapes"), ("factor", name), ("weight", 0))
    ]
    pairs = [f"images={IMAGES}", f"seeds={len(seeds)}", *watched]
    told = f"`trimpot analyse granularity shapes images={IMAGES} seeds={len(seeds)}`, watching {', '.join(FACTORS)} too"
    return analysed("granularity", "shapes", pairs, folder), told


def fewer_steps(folder: Path, seeds: Seeds) -> Evidence:
    """Few steps calibrated are at least equal to many uncalibrated."""
    found, told = _steps(folder, seeds)
    numbers = found["numbers"]
    best = numbers["neutral_best"]
    points = [each for each in numbers["points"] if each["kind"] == "calibrated, M = 1"]
    parts = [
        _part(
            f"calibrated at {each['steps']} steps less uncalibrated at {best['steps']}",
            {**each["to_neutral_best"], "by_seed": [one - best["score"] for one in each["by_seed"]]},
            least=-NOT_WORSE,
        )
        for each in points
    ]
    few = [each["steps"] for each in points].index(numbers["calibrated_for"])
    besides = (*parts[:few], *parts[few + 1 :])
    label = f"{best['setting']} at {best['steps']} steps: the guidance and the number of steps, {BEST}"
    return Evidence(told, label, (parts[few],), True, seeds, found["images"], found["runs"], besides)


def ensembles(folder: Path, seeds: Seeds) -> Evidence:
    """Calibrated ensembles gain at every number of steps."""
    found, told = _steps(folder, seeds)
    points = found["numbers"]["points"]
    neutral = {each["steps"]: each["score"] for each in points if each["kind"] == "neutral"}
    gains = {
        kind: tuple(
            _part(
                f"{kind.removeprefix('calibrated, ')} at {each['steps']} steps",
                {**each["gain"], "by_seed": [one - neutral[each["steps"]] for one in each["by_seed"]]},
            )
            for each in points
            if each["kind"] == kind
        )
        for kind in ("calibrated, M = 1", "calibrated, M = 2", "calibrated, M = 3")
    }
    single, *several = gains.values()
    parts = tuple(part for each in several for part in each)
    label = f"the best guidance at each number of steps, {BEST} at it"
    return Evidence(told, label, parts, True, seeds, found["images"], found["runs"], single)


def _steps(folder: Path, seeds: Seeds) -> tuple[dict[str, Any], str]:
    pairs = [f"images={IMAGES}", f"seeds={len(seeds)}", "steps=[4,8,20]", "ensembles=[1,2,3]"]
    return analysed("steps", "shapes", pairs, folder), f"`trimpot analyse steps shapes {' '.join(pairs)}`"


def diverse(folder: Path, seeds: Seeds) -> Evidence:
    """Calibration keeps the diversity of a prompt's pictures."""
    runs = [calibrated("shapes", folder, seed=seed) for seed in seeds]
    names, pairs = [run.name for run in runs], ["seeds=4", "test.num_prompts=148"]
    found = analysed("diversity", " ".join(names), pairs, folder)
    measures = tuple(found["numbers"]["diversity"])
    scores, prompts = examined(folder, found["analysis"], [*measures, "shapes"])
    parts = []
    for name in measures:
        neutral, *after = scores[name]
        least = -LOST * float(np.mean(neutral))
        parts.append(compared(f"{name}, calibrated less uncalibrated", after, [neutral] * len(after), prompts, least))
    neutral, *after = scores["shapes"]
    besides = (compared("the score of the same pictures", after, [neutral] * len(after), prompts),)
    command = f"`trimpot analyse diversity {' '.join(f'RUN{seed}' for seed in seeds)} {' '.join(pairs)}`"
    told = f"{command}, of the runs of `trimpot calibrate shapes seed=N`, {_seeds(seeds)}"
    images = found["images"] + sum(run.images for run in runs)
    label = f"{found['numbers']['baseline']}, {BEST}"
    return Evidence(told, label, tuple(parts), True, seeds, images, (*names, found["analysis"]), besides)


def aligned(folder: Path, seeds: Seeds) -> Evidence:
    """Calibration helps a checkpoint that is aligned already."""
    runs = [calibrated("shapes-aligned", folder, seed=seed) for seed in seeds]
    bases = [calibrated("shapes", folder, seed=seed) for seed in seeds]
    prompts = runs[0].prompts
    neutral, after = [run.neutral.values for run in runs], [run.after.values for run in runs]
    base, both = [run.neutral.values for run in bases], [run.after.values for run in bases]
    part = compared("calibrated less uncalibrated, both aligned", after, neutral, prompts)
    besides = (
        compared("aligned less base, both uncalibrated", neutral, base, prompts),
        compared("calibrated base less aligned", both, neutral, prompts),
    )
    ran = f"`trimpot calibrate shapes-aligned seed=N` and `trimpot calibrate shapes seed=N`, {_seeds(seeds)}"
    label = f"{runs[0].label} of the aligned checkpoint, {BEST} (of the base: {bases[0].label})"
    return _evidence(ran, label, (part,), seeds, [*runs, *bases], besides)


def stopped(folder: Path, seeds: Seeds) -> Evidence:
    """A search that stops at a plateau saves images and loses nothing."""
    long = {"generations": 150, "by_steps": {"steps": []}}
    full = [calibrated("shapes", folder, seed=seed, **long, **{"validation.patience": 1000}) for seed in seeds]
    early = [calibrated("shapes", folder, seed=seed, **long) for seed in seeds]
    prompts = full[0].prompts
    values = [[run.after.values for run in runs] for runs in (early, full)]
    saved = tuple(1 - one.searched / other.searched for one, other in zip(early, full, strict=True))
    parts = (
        compared("stopped less searched to the end", *values, prompts, least=-NOT_WORSE),
        Part("images of the search saved", float(np.mean(saved)), by_seed=saved),
    )
    neutral = [run.neutral.values for run in full]
    besides = (compared("searched to the end less uncalibrated", values[1], neutral, prompts),)
    ran = (
        "`trimpot calibrate shapes seed=N generations=150 by_steps.steps=[]`, which stops at a plateau (six checks "
        f"without a gain beyond noise), and the same with `validation.patience=1000`, {_seeds(seeds)}; they stopped: "
        + "; ".join(dict.fromkeys(run.stopped for run in early))
    )
    return _evidence(ran, f"{full[0].label}, {BEST}", parts, seeds, [*full, *early], besides)


#: Two rewards that pull apart: colour that fills the picture, and the checker, which wants a plain background. Their
#: units are standard deviations between the neutral model's images, rounded.
UNITS = {"shapes": 0.35, "saturation": 0.1}
ALL = {name: {"weight": 1.0} for name in UNITS}
CONTENDERS: dict[str, dict[str, Any]] = {
    "win rates with a frontier": {
        "objectives": ALL,
        "combine": {"name": "winrate", "references": 4, "temperature": UNITS, "frontier": True},
    },
    "win rates, averaged": {
        "objectives": ALL,
        "combine": {"name": "winrate", "references": 4, "temperature": UNITS},
    },
    "the sum of scores": {"objectives": ALL},
    "the sum in standard deviations": {
        "objectives": {name: {"weight": 1 / unit} for name, unit in UNITS.items()},
    },
}


def frontier(folder: Path, seeds: Seeds) -> Evidence:
    """Win rates with a frontier beat weighted sums."""
    found = {
        name: [calibrated("shapes", folder, seed=seed, by_steps={"steps": []}, **keys) for seed in seeds]
        for name, keys in CONTENDERS.items()
    }
    first, *others = CONTENDERS
    opponent = found[others[-1]][0].neutral
    prompts = opponent.bucket.prompts
    wins = {
        (name, reward): [_wins(run.after.scores[reward], opponent.scores[reward]) for run in runs]
        for name, runs in found.items()
        for reward in UNITS
    }
    means = {
        name: [np.mean([wins[name, reward][place] for reward in UNITS], axis=0) for place in range(len(seeds))]
        for name in found
    }
    parts = tuple(compared(f"less {name}", means[first], means[name], prompts) for name in others if "sum" in name)
    half = [np.full(len(prompts), 0.5)] * len(seeds)
    besides = (
        *(compared(f"less {name}", means[first], means[name], prompts) for name in others if "sum" not in name),
        *(
            compared(f"{name} by {reward}, less one half", wins[name, reward], half, prompts)
            for name in found
            for reward in UNITS
        ),
    )
    ran = (
        "`trimpot calibrate shapes seed=N` with `shapes` and `saturation` combined as `winrate` with `frontier: true`, "
        "as `winrate`, and as `weighted` with equal weights and with weights of one over a standard deviation, "
        f"{_seeds(seeds)}; an image's number is the share of rewards by which it wins against the uncalibrated image "
        "of its prompt and seed, a tie counting one half"
    )
    label = f"{found[others[-1]][0].label}, {BEST} by the sum in standard deviations: the opponent of all"
    return _evidence(ran, label, parts, seeds, [run for runs in found.values() for run in runs], besides)


def _wins(scores: Any, others: Any) -> NDArray[np.float64]:
    difference = np.subtract(scores, others)
    return np.where(difference > 0, 1.0, np.where(difference < 0, 0.0, 0.5))


def _evidence(
    ran: str, label: str, parts: tuple[Part, ...], seeds: Seeds, runs: list[Calibrated], besides: tuple[Part, ...] = ()
) -> Evidence:
    every = {run.name: run.images for run in runs}
    return Evidence(ran, label, parts, True, seeds, sum(every.values()), tuple(every), besides)


def _part(label: str, found: Mapping[str, Any], least: float = 0.0) -> Part:
    """Return a number that an analysis tested."""
    return Part(
        label,
        float(found["mean"]),
        float(found["low"]),
        float(found["high"]),
        tuple(found.get("by_seed", ())),
        least,
        found.get("beyond_noise"),
    )


def _seeds(seeds: Seeds) -> str:
    return f"seeds {', '.join(map(str, seeds))}"


CLAIMS: dict[str, Claim] = {
    "1": Claim("Some blocks do harm: removed, one at a time, they raise the score", removed),
    "2": Claim("Each block has a scale that is better than 1", scales),
    "3": Claim("Calibrating blocks, layers and gates gains, each of them", granularities),
    "4": Claim("Layers gain the most consistently across rewards", consistent),
    "5": Claim("Gates gain the most in the optimised reward", finest),
    "6": Claim("Few steps, calibrated, at least equal many uncalibrated ones", fewer_steps, NOT_WORSE),
    "7": Claim("Calibrated ensembles gain at every number of steps", ensembles),
    "8": Claim(f"The pictures of a prompt stay as diverse, by {100 - 100 * LOST:g} % at least", diverse),
    "9": Claim("A checkpoint that is aligned with the reward already gains too", aligned),
    "10": Claim(
        "CMA-ES finds better knobs than a search by gradients",
        None,
        why="a search by policy gradients on the same knobs is not built yet",
    ),
    "11": Claim("A search can be stopped at a plateau: images are saved and nothing is lost", stopped, NOT_WORSE),
    "12": Claim("Win rates with a frontier beat weighted sums of rewards", frontier),
}
