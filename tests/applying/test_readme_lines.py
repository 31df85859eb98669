"""README's lines, typed into a fresh process on README's own result, give the gain that README claims."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
GAIN = """
import json, torch
import numpy as np
from trimpot.engine.bucket import draw_bucket
from trimpot.objectives.shapes import prompts
from trimpot.setup.plugins import plugins

bucket = draw_bucket(prompts("test"), 384, 2)
reward = plugins().make("objectives", "shapes", {})
pipe.set_progress_bar_config(disable=True)
scores = []
for calibration.strength in (0.0, 1.0):
    made = []
    for begin in range(0, 384, 48):
        part = slice(begin, begin + 48)
        generators = [torch.Generator().manual_seed(seed) for seed in bucket.seeds[part]]
        made += pipe(list(bucket.prompts[part]), generator=generators, **calibration.recommended).images
    scores.append(np.array(reward.score(made, list(bucket.prompts))))
print(json.dumps([float(np.mean(each)) for each in scores]))
"""


@pytest.mark.slow
def test_the_apply_lines_give_the_gain_of_the_first_run(tmp_path: Path) -> None:
    """As they stand, up to the line that draws; then the pipeline draws all test prompts with the call they show."""
    command = [sys.executable, "-c", "from trimpot.cli import main; main()", "calibrate", "shapes", "--json"]
    done = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True)
    gain = json.loads(done.stdout)["gain"]
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    [block] = [each for each in re.findall(r"```python\n(.*?)```", readme, re.S) if "load_pipeline" in each]
    lines = block.partition("calibration.strength")[0].replace(".show()", '.save("red.png")')
    done = subprocess.run(
        [sys.executable, "-W", "error::trimpot.Notice", "-c", lines + GAIN],
        cwd=tmp_path,
        check=True,
        capture_output=True,
        text=True,
    )
    neutral, calibrated = json.loads(done.stdout.splitlines()[-1])
    assert gain["low"] <= calibrated - neutral <= gain["high"]
    assert calibrated - neutral == pytest.approx(gain["mean"], abs=1e-3)
    claimed = re.search(r"\n    \+(0\.\d+) \[\+(0\.\d+), \+(0\.\d+)\] on 384 images", readme)
    assert claimed and float(claimed[2]) <= calibrated - neutral <= float(claimed[3])
    assert (tmp_path / "red.png").exists()
