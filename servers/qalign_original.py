# /// script
# requires-python = ">=3.10,<3.13"
# dependencies = [
#     "accelerate==0.25.0",
#     "icecream==2.1.3",
#     "numpy==1.26.4",
#     "pillow==11.3.0",
#     "protobuf==4.25.8",
#     "sentencepiece==0.1.99",
#     "tokenizers==0.15.2",
#     "torch==2.6.0",
#     "transformers==4.36.1",
# ]
# ///
"""Serve the original Q-Align (Wu et al., ICML 2024; q-future/one-align), a score of quality or aesthetics.

    uv run servers/qalign_original.py --revision COMMIT --port 8200

The checkpoint contains code for transformers 4.36, and the server runs this code. So you must name its commit, which
the model's page on the hub lists. The score is the mean of five levels, bad (1) to excellent (5), weighted with the
model's probabilities of their words. The model needs about 17 GB of GPU memory. The prompt is ignored.
"""

from __future__ import annotations

import argparse
import re
from typing import Any

from reward_server import Scorer, main


def revision(text: str) -> str:
    """Check that a revision is a commit, because a branch may change its code later."""
    if not re.fullmatch("[0-9a-f]{40}", text):
        raise argparse.ArgumentTypeError("it must be a commit of 40 hexadecimal digits, not a branch")
    return text


def load(options: argparse.Namespace) -> Scorer:
    """Load the model in half precision, which its code requires."""
    import torch
    import transformers

    model = transformers.AutoModelForCausalLM.from_pretrained(
        options.model,
        revision=options.revision,
        code_revision=options.revision,
        trust_remote_code=True,
        torch_dtype=torch.float16,
        device_map=options.device,
    )
    model.eval()

    def score(outputs: list[Any], prompts: list[str]) -> list[float]:
        images = [image.convert("RGB") for image in outputs]
        with torch.inference_mode():
            return model.score(images, task_=options.task, input_="image").float().cpu().tolist()

    return Scorer(
        f"qalign-{options.task}",
        score,
        {
            "model": options.model,
            "revision": options.revision,
            "task": options.task,
            "dtype": "float16",
            "range": [1, 5],
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        },
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="qalign_original.py", description=__doc__.splitlines()[0])
    parser.add_argument("--revision", type=revision, required=True, help="the model's commit: 40 hexadecimal digits")
    parser.add_argument("--model", default="q-future/one-align", help="a model of the hub, or a folder")
    parser.add_argument("--task", choices=("quality", "aesthetics"), default="quality", help="the aspect to score")
    parser.add_argument("--device", default="cuda", help="the device of the model")
    main(load, parser)
