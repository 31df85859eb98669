"""How snippets are run where they stand for hours, a GPU or the hub: what is made smaller, and what is left out.

A command that no line of these tables names is run as it is written.
"""

from __future__ import annotations

#: What another test runs or checks: page, kinds of snippets (`command`, or a fence's language), and the test.
OWNED = (
    ("docs/results.md", ("command", "python", "sql"), "tests/test_docs_results.py"),
    ("docs/plugins.md", ("python", "toml"), "tests/test_docs_plugins.py"),
    ("docs/python.md", ("python",), "tests/test_docs_python.py"),
    ("docs/trackers.md", ("python", "yaml"), "tests/test_trackers.py"),
    ("docs/claims.md", ("command",), "benchmarks/claims.py"),
    ("docs/language-models.md", ("python",), "tests/applying/test_language.py"),
    ("docs/prompts.md", ("yaml",), "tests/prompts/test_page.py"),
    ("docs/compare.md", ("yaml",), "tests/comparison/test_design.py"),
    ("docs/configuration.md", ("yaml",), "tests/test_docs.py"),
    ("docs/calibration-format.md", ("json",), "tests/calibrations/test_format.py"),
    ("examples/trimpot-loudspeaker/README.md", ("command",), "tests/test_example.py"),
)

#: Overrides that make a calibration of the shipped model take a second.
SMALL = (
    "generations=1 optimizer.population_size=8 workers=1 adapter.num_inference_steps=2 adapter.guidance_grid=[3] "
    "validation.num_prompts=2 validation.every=1 test.num_prompts=2 by_steps.steps=[]"
)
#: Overrides that make an analysis of the shipped model take a few seconds.
FEW = "workers=1 adapter.num_inference_steps=2 adapter.guidance_grid=[3] validation.num_prompts=2 scales=0"
#: Overrides that make an analysis that calibrates the shipped model take a second a search.
SEARCHED = (
    "images=17 seeds=1 optimizer.population_size=8 adapter.num_inference_steps=2 adapter.guidance_grid=[3] "
    "validation.num_prompts=2 by_steps.num_validation=2 test.num_prompts=2 workers=1"
)
#: A tiny checkpoint of FLUX stands for the published one.
FLUX = (
    "name=FLUX.1-dev adapter.dtype=float32 adapter.height=32 adapter.width=32 adapter.num_inference_steps=2 "
    "adapter.max_sequence_length=16 objectives=jpeg-size prompts=shapes generations=1 optimizer.population_size=8 "
    "validation.num_prompts=2 validation.every=1 test.num_prompts=2"
)
#: A closed form that costs nothing stands for the backbone of a comparison.
SPHERE = (
    "adapter=sphere objectives=value prompts=numbers by_steps.steps=[] bucket_size=2 validation.num_prompts=2 "
    "test.num_prompts=4"
)

#: In a command: a pattern, and what replaces it.
SMALLER = (
    (r"\bCOMMAND\b", "calibrate"),
    (r"\bRUN\b", "shapes-1"),
    (r"\bFILE\b", "trimpot-runs/shapes-1/calibration.json"),
    (r"\bCONFIG\b", "shapes"),
    (r"\bDESTINATION\b", "backup"),
    (r"--objective X\b", "--objective entropy"),
    (r"/mnt/archive/runs", "backup"),
    (r"--port 8200", "--port 0"),
    (r"generations=\+\d+", "generations=+1"),
    (r"generations=\d+", ""),
    (r"workers=\w+", "workers=1"),  # tests/workshops counts workers
    (r"^(trimpot delete (?!.*--yes).*)", r"\1 --yes"),
    (r"^trimpot calibrate (?:MODEL|black-forest-labs/FLUX\.1-dev)\b(?: objectives=\S+| --\w+ [\d.]+\w*| --yes)*$",
     f"trimpot calibrate tiny-flux {FLUX} --yes"),
    (r"^trimpot calibrate MODEL (?!adapter\.lora).*", f"trimpot calibrate tiny-flux {FLUX} --yes"),
    (r"^(trimpot (?:plan|init) )MODEL\b", r"\1black-forest-labs/FLUX.1-dev"),
    (r"^(trimpot init [^ ]+)$", r"\1 --memory 24GB"),
    (r"^(trimpot plan shapes)$", r"\1 --rate 100"),
    (r"^(trimpot calibrate shapes\b.*)", rf"\1 {SMALL}"),
    (r"^trimpot calibrate FLUX\.1-dev\.yaml", f"trimpot calibrate tiny-flux {FLUX} --yes"),
    (r"^(trimpot compare shapes --contender \S+ --contender \S+).*$", rf"\1 {SPHERE} --seeds 2 --images 100"),
    (r"^(trimpot sample .*)--seeds \d+", r"\1--seeds 1"),
    (r"^trimpot measure somebody/shapes-calibrated\b", "trimpot measure shapes-1"),
    (r"^(trimpot measure \S+)(.*)--steps [\d,]+", r"\1\2--steps 3"),
    (r"test\.num_prompts=\d+", "test.num_prompts=3"),
    (r"^trimpot analyse ablation shapes\b.*", f"trimpot analyse ablation shapes {FEW} seeds=1 test.num_prompts=4"),
    (r"^trimpot analyse diversity shapes-1\b.*", "trimpot analyse diversity shapes-1 seeds=2 test.num_prompts=2"),
    (r"^trimpot analyse granularity shapes\b.*", f"trimpot analyse granularity shapes {SEARCHED} granularities=block"),
    (r"^(trimpot analyse rewards shapes) images=3840 ('.*?').*", rf"\1 \2 {SEARCHED} rewards=clean"),
    (r"^trimpot analyse steps shapes\b.*", f"trimpot analyse steps shapes {SEARCHED} ensembles=1 steps=3"),
)  # fmt: skip

#: In Python: a pattern, and what stands for it; `small` are the options of SMALL.
STANDS_FOR = (
    (r"black-forest-labs/FLUX\.1-dev", "tiny-flux"),
    (r"torch\.bfloat16", "torch.float32"),
    (r'"cuda"', '"cpu"'),
    (r"somebody/another-calibration", "trimpot-runs/shapes-1/calibration.json"),
    (r"\.show\(\)", '.save("shown.png")'),
    (r"(?s)(trimpot\.calibrate\(\"shapes\".*?), generations=\d+", r"\1, **small"),
)

#: Commands that are not run here, and why.
LEFT_OUT = (
    (r"pip install ", "downloads packages; every other command runs from an installed wheel"),
    (r"(pytest|pytest tests|pytest (-m slow )?\S+\.py)$", "this suite"),
    (r"python (benchmarks|training)/", "run by hand: minutes to hours"),
    (r"python -m trimpot\.(proofs\.rewards|defaults)$", "its rows are tested one by one"),
    (r"python -m trimpot\.calibrations\.schema ", "what it prints is compared by tests/calibrations/test_format.py"),
    (r"(tensorboard|trackio|wandb) ", "a tracker's own program; what it reads is tested by tests/test_trackers.py"),
    (r"sphinx-build ", "built by tests/test_docs_site.py"),
    (r"hf auth login", "needs an account"),
    (r"trimpot pull \S+/\S+$", "needs the hub; tests/publishing"),
    (r"trimpot push \S+ \S+/\S+$", "needs an account; tests/publishing"),
    (r"trimpot serve (?!jpeg-size)", "loads weights from the hub"),
    (r"trimpot measure cmaes_step_0040", "needs the model of the vector; tests/publishing"),
    (r"trimpot watch\b", "answers until it is stopped; tests/watching"),
    (r"trimpot study ", "answers until it is stopped, or needs answers; tests/studies"),
    (r"trimpot sites( --library transformers)?$", "a minute; its rows are tested one by one"),
    (r"trimpot knobs .*GRANULARITY", "tests/test_docs_examples.py"),
    (r"trimpot (sample|export|verify) sums-1\b", "needs a calibrated language model; tests/exchange/test_language.py"),
    (r"trimpot measure \S+ prompts\.shots=", "needs a model of 93 MB; tests/test_smollm2.py"),
    (r"trimpot (calibrate|analyse ablation|measure) smollm2-addition", "needs a model of 93 MB; tests/test_smollm2.py"),
    (r"trimpot calibrate \S+ workers\.ray=", "needs a Ray cluster"),
    (r"trimpot calibrate my\.safetensors ", "tests/defaults/test_single_file.py"),
    (r"trimpot calibrate MODEL adapter\.lora=", "tests/defaults/test_commands.py"),
    (r"trimpot compare compare-shapes-1$", "goes on with a comparison; tests/comparison"),
    (r"trimpot compare \S+\.yaml$", "hours; the files are checked by tests/comparison and tests/test_docs_examples.py"),
    (r"trimpot resume RUN plugins=NEW/PLACE/", "needs a file that has moved; tests/setup/test_plugin_files.py"),
    (r"trimpot resume shapes-1 objectives\.vila\.url=", "needs a run with a server that has moved"),
    (r"trimpot --install-completion$", "changes the shell's own files; tests/test_cli.py"),
)

#: Commands that are shown because they fail.
FAILS = (r"trimpot knobs fluxx$",)

#: Blocks that are no commands, by their page and their beginning: why they need no run; `printed` if a command of the
#: page must print the text.
TEXTS = (
    ("README.md", "+0.1", "the end of README's first command at its full length: measured by hand"),
    ("README.md", "config ─►", "a drawing"),
    ("docs/applying.md", "COMFYUI_PATH=", "needs a copy of ComfyUI"),
    ("docs/backbones.md", "76 of 77", "the end of `trimpot sites`; tests/adapters"),
    ("docs/language-models.md", '{"prompt"', "records; tests/adapters/test_language.py"),
    ("docs/language-models.md", "14 + 57", "what the preset asks; tests/prompts/test_questions.py"),
    ("docs/language-models.md", "model = AutoModelForCausalLM", "needs the hub; tests/applying"),
    ("docs/language-models.md", "175 of 184", "the end of `trimpot sites --library transformers`; tests/adapters"),
    ("docs/prompts.md", '{"prompt"', "records; tests/prompts/test_records.py"),
    ("docs/cost.md", "hours = ", "a formula"),
    ("docs/limit.md", "h = ", "a formula"),
    ("docs/limit.md", "loss(N) = ", "a formula"),
    ("docs/limit.md", "N = ", "a formula"),
    ("docs/models.md", "Weights are loaded", "tests/defaults/test_fit.py"),
    ("docs/shapes.md", "a red circle", "prompts"),
    ("docs/shapes.md", "score = ", "a formula"),
    ("docs/tutorial.md", "114 knobs", "printed"),
    ("docs/watching.md", "ssh ", "needs another machine"),
    ("docs/tutorial.md", "trimpot.load_calibration(", "needs the hub; tests/applying"),
)

#: What the store of every page begins with: what these commands make, and an interrupted run `my-1`.
STORE = (
    f"trimpot calibrate shapes {SMALL}",
    f"trimpot calibrate shapes {SMALL} seed=1",
    f"trimpot calibrate shapes {SMALL} name=blocks adapter.granularity=block",
    f"trimpot calibrate tiny-flux {FLUX} --yes",
)

#: Files that a page takes for granted.
FILES = {
    "my.yaml": "adapter: {name: shapes, num_inference_steps: 2, guidance_grid: [3]}\nobjectives: shapes\n"
    "prompts: shapes\ngenerations: 2\nbucket_size: 2\noptimizer: {name: cma-es, population_size: 4}\n"
    "validation: {num_prompts: 2, every: 1}\ntest: {num_prompts: 2}\nby_steps: {steps: []}\n",
}

PUBLISHED_VECTOR = """
import json
parts = {"n_double": 19, "n_single": 38, "doubles_main": 38, "doubles_ctx": 38, "singles": 38}
vector = {"solution": [1.0] * 115, "shapes": {"total": 115, "n_models": 1, **parts}}
json.dump(vector, open("cmaes_step_0040.json", "w"))
"""

#: Python that makes what a page takes for granted.
FIRST = {
    "README.md": PUBLISHED_VECTOR,
    "docs/applying.md": PUBLISHED_VECTOR,
    "docs/rewards.md": "import torch; torch.save({'weight': torch.zeros(2)}, 'ImageReward.pt')",
    "docs/backbones.md": "import shutil; shutil.copy('trimpot-runs/shapes-1/calibration.json', 'calibration.json')",
}

#: What an excerpt takes from the rest of its program, by the page and the excerpt's beginning.
GIVEN = (
    ("docs/applying.md", "calibration.add(", "import trimpot; pipe = trimpot.load_pipeline('shapes-1'); "
     "calibration = trimpot.load_calibration(pipe, 'shapes-1')"),
    ("docs/my-model.md", "class Oven(", "import trimpot; from oven import KNOBS"),
)  # fmt: skip

#: Commands that are run once for all pages, since they need nothing of their page but the store that all begin with.
ONCE = (
    r"trimpot (calibrate (?:shapes|tiny-flux|my\.yaml)|compare|resume|plan|knobs|optimizers|plugins|show|runs|init|"
    r"sample shapes-1)\b(?!.*plugins=)"
)
