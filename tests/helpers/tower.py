"""A backbone of three blocks whose best scales are known, as a plugin file; it counts what it makes and can be stopped.

Block 0 is best at 1.25, block 1 at 0, block 2 at 1; the other blocks' scales do not change that. Of two members only
the first has a weight. What is made is counted in `made.txt`, an output a character; as many as `stop.txt` says are
made before the process is asked to stop.
"""

from __future__ import annotations

from pathlib import Path

import yaml

PLUGIN = """
from pathlib import Path

import numpy as np
from trimpot.engine.hooks import hookimpl
from trimpot.engine.knobs import Knob, KnobSpace
from trimpot.engine.seams import Adapter, Objective
from trimpot.ground.errors import ModelError

STOP, MADE = (Path(f"{name}.txt") for name in ("stop", "made"))  # not by name, or they would be parts of the code
BEST = (1.25, 0.0, 1.0)
BLOCKS = [f"member{m}.double.{b:02d}.{part}" for m in (1, 2) for b in range(3) for part in ("attn", "mlp")]


class Tower(Adapter):
    space = KnobSpace([*(Knob(name, low=-1.0, high=2.0) for name in BLOCKS), Knob("member1.weight", 0, 9, default=2.0)])
    outputs_per_call = 16

    def generate(self, population, bucket):
        for row in population:
            if STOP.exists() and len(MADE.read_text()) >= int(STOP.read_text()):
                raise KeyboardInterrupt
            with MADE.open("a") as file:
                file.write("." * len(bucket))
            yield [self._output(row, prompt, seed) for prompt, seed in zip(bucket.prompts, bucket.seeds)]

    def _output(self, row, prompt, seed):
        noise = np.random.default_rng([seed, len(prompt)]).standard_normal(2)
        scales = [np.mean([row[2 * b], row[2 * b + 1], row[6 + 2 * b], row[7 + 2 * b]]) for b in range(3)]
        lost = sum((scales[b] - BEST[b]) ** 2 for b in range(3))
        return float(1 - lost + 0.02 * noise[0] * row[0] - (row[12] - 2) ** 2 + noise[1])

    def tied(self, granularity):
        if granularity == "block":
            return {f"member{m}.double.{b:02d}": [n for n in BLOCKS if n.startswith(f"member{m}.double.{b:02d}")]
                    for m in (1, 2) for b in range(3)} | {"member1.weight": ["member1.weight"]}
        if granularity in ("layer", "gate"):
            return {name: [name] for name in self.space.names}
        raise ModelError(f"a tower knows no {granularity!r}")

    def neutrals(self):
        base = self.space.to_setting(self.space.defaults)
        return {f"weight {w}": {**base, "member1.weight": float(w)} for w in (2, 3)}

    def describe(self):
        return {"id": "tower"}


class Spread(Objective):
    scores_sets = True

    def score(self, outputs, prompts):
        sets = {prompt: [o for o, other in zip(outputs, prompts) if other == prompt] for prompt in prompts}
        return np.array([np.mean(np.abs(o - np.array(sets[prompt]))) for o, prompt in zip(outputs, prompts)])


class Half(Objective):
    def score(self, outputs, prompts):
        return np.array([-0.5 * output for output in outputs])


@hookimpl
def register_adapters(register):
    register("tower", Tower)


@hookimpl
def register_objectives(register):
    register("spread", Spread)
    register("half", Half)
"""
CONFIG = {
    "plugins": "tower.py",
    "adapter": "tower",
    "objectives": {"value": {}, "half": {"weight": 0}},
    "prompts": "numbers",
    "optimizer": {"name": "cma-es", "population_size": 4},
    "generations": 2,
    "bucket_size": 2,
    "validation": {"num_prompts": 6},
    "test": {"num_prompts": 24},
}
GROUPS, NEUTRALS = 3, 2
BASELINE = NEUTRALS * 6  # outputs of the neutral settings on validation prompts


def write(folder: Path) -> None:
    """Write the plugin and the configuration `tower.yaml` to a folder."""
    (folder / "tower.py").write_text(PLUGIN)
    (folder / "tower.yaml").write_text(yaml.safe_dump(CONFIG))
    (folder / "made.txt").touch()


def made() -> int:
    """How many outputs were made in the working folder so far."""
    return len(Path("made.txt").read_text())
