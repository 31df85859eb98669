"""How snippets are run where they stand for hours, a GPU or the hub: what is made smaller, and what is left out and why.

A command that no line of these tables names is run as it is written.
"""

from __future__ import annotations

#: Overrides that make a calibration of the shipped model take a second.
SMALL = (
    "generations=2 optimizer.population_size=8 workers=1 adapter.num_inference_steps=2 adapter.guidance_grid=[3] "
    "validation.num_prompts=2 validation.every=1 test.num_prompts=2 by_steps.steps=[]"
)
FLUX = (
    "adapter.model=tiny-flux adapter.dtype=float32 adapter.height=32 adapter.width=32 adapter.num_inference_steps=2 "
    "objectives=jpeg-size generations=1 bucket_size=1 optimizer.population_size=4 validation.num_prompts=2 "
    "validation.every=1 test.num_prompts=2"
)
#: A closed form that costs nothing stands for the backbone of a comparison.
SPHERE = "adapter=sphere objectives=value prompts=numbers by_steps.steps=[] validation.num_prompts=4 test.num_prompts=4"

#: In a command: a pattern, and what replaces it.
SMALLER = (
    (r"\bCOMMAND\b", "calibrate"),
    (r"\bRUN\b", "shapes-1"),
    (r"\bCONFIG\b", "shapes"),
    (r"\bDESTINATION\b", "backup"),
    (r"\bGRANULARITY\b", "gate"),
    (r"--objective X\b", "--objective entropy"),
    (r"/mnt/archive/runs", "backup"),
    (r"--port 8200", "--port 0"),
    (r"generations=\+\d+", "generations=+1"),
    (r"generations=\d+", ""),
    (r"workers=\w+", "workers=1"),  # tests/workshops counts workers
    (r"--seeds \d+", "--seeds 2"),
    (r"--images \d+", "--images 300"),
    (r"^(trimpot calibrate shapes\b.*)", rf"\1 {SMALL}"),
    (r"^(trimpot calibrate (?:my|examples/flux|flux)\.yaml\b.*)", r"\1"),
    (r"^(trimpot calibrate \S*flux\.yaml\b.*)", rf"\1 {FLUX}"),
    (r"^(trimpot compare (?:shapes|night\.yaml|examples/compare-shapes\.yaml)\b.*)", rf"\1 {SPHERE}"),
    (r"^(trimpot compare (?!.*--images).*\.yaml\b.*)", r"\1 --seeds 2 --images 300"),
    (r"^(trimpot compare shapes (?!.*--images).*)", r"\1 --seeds 2 --images 300"),
    (r"^(trimpot (?:knobs|plan) .*)=\./my-flux\b", r"\1=tiny-flux"),
)

#: In Python: a text, and what stands for it.
STANDS_FOR = (
    ("black-forest-labs/FLUX.1-dev", "tiny-flux"),
    ("torch.bfloat16", "torch.float32"),
    ('"cuda"', '"cpu"'),
    ("=512", "=32"),
    (".show()", '.save("shown.png")'),
)

#: Commands that are not run here, and why.
LEFT_OUT = (
    (r"pip install -e \.$", "every other command runs from an installed wheel; README.md"),
    (r"pip install (-e )?'(trimpot|\.)\[", "downloads packages"),
    (r"pytest$", "this suite"),
    (r"pytest tests$", "run by tests/test_example.py"),
    (r"python (benchmarks|training)/", "run by hand: minutes to hours"),
    (r"python -m trimpot\.proofs\.rewards$", "its rows are tested one by one"),
    (r"uv run ", "downloads an environment"),
    (r"hf auth login", "needs an account"),
    (r"trimpot serve (?!jpeg-size)", "loads weights from the hub"),
    (r"trimpot sites$", "a minute; its rows are tested one by one"),
    (r"trimpot calibrate my\.yaml workers\.ray=", "needs a Ray cluster"),
    (r"trimpot resume shapes-1 objectives\.vila\.url=", "needs a run with a server that has moved"),
)

#: Commands that are shown because they fail.
FAILS = (r"trimpot knobs fluxx$",)

#: Blocks that are no commands, by their page and their beginning: why they need no run; `printed` if a command of the
#: page must print the text.
TEXTS = (
    ("README.md", "+0.1", "the end of README's first command at its full length: measured by hand"),
    ("README.md", "config ─►", "a drawing"),
    ("docs/backbones.md", "76 of 77", "the end of `trimpot sites`; tests/adapters"),
    ("docs/cost.md", "hours = ", "a formula"),
    ("docs/shapes.md", "a red circle", "prompts"),
    ("docs/shapes.md", "score = ", "a formula"),
    ("docs/tutorial.md", "114 knobs", "printed"),
)

#: Files that a page takes for granted, by the page.
FILES = {
    "my.yaml": "adapter: {name: shapes, num_inference_steps: 2, guidance_grid: [3]}\nobjectives: shapes\n"
    "prompts: shapes\ngenerations: 2\nbucket_size: 2\noptimizer: {name: cma-es, population_size: 4}\n"
    "validation: {num_prompts: 2, every: 1}\ntest: {num_prompts: 2}\n",
}

#: Python that makes what a page takes for granted.
FIRST = {
    "docs/rewards.md": "import torch; torch.save({'weight': torch.zeros(2)}, 'ImageReward.pt')",
    "docs/backbones.md": "import shutil; shutil.copy('trimpot-runs/shapes-1/calibration.json', 'calibration.json')",
}

#: Names that an excerpt takes from the rest of its file.
GIVEN = {
    "README.md": "import trimpot; BANDS = (125, 250); RESPONSE = SHAPES = None",
}
