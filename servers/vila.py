# /// script
# requires-python = ">=3.9,<3.12"
# dependencies = [
#     "numpy==1.26.4",
#     "pillow==11.3.0",
#     "setuptools==75.8.0",
#     "tensorflow==2.15.1",
#     "tensorflow-hub==0.16.1",
#     "tf-keras==2.15.1",
# ]
# ///
"""Serve VILA-R (Ke et al., CVPR 2023), a score of a picture's aesthetics, from its TensorFlow model.

    uv run servers/vila.py --port 8200

The model reads a picture's file and resizes the picture itself. The score lies in [0, 1]; papers often print ten times
the score. The prompt is ignored.
"""

from __future__ import annotations

import argparse
import io
from typing import Any

from reward_server import Scorer, main

MODEL = "https://tfhub.dev/google/vila/image/1"


def load(options: argparse.Namespace) -> Scorer:
    """Load the model, and download it first if it is not cached."""
    import tensorflow
    import tensorflow_hub

    loaded = tensorflow_hub.load(options.model)
    predict = loaded.signatures["serving_default"]

    def score(outputs: list[Any], prompts: list[str]) -> list[float]:
        assert loaded is not None  # a signature does not keep the variables of its model alive
        found = []
        for image in outputs:
            file = io.BytesIO()
            image.convert("RGB").save(file, "PNG", compress_level=1)
            found.append(float(predict(tensorflow.constant(file.getvalue()))["predictions"].numpy().item()))
        return found

    return Scorer("vila", score, {"model": options.model, "range": [0, 1], "tensorflow": tensorflow.__version__})


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="vila.py", description=__doc__.splitlines()[0])
    parser.add_argument("--model", default=MODEL, help="a TensorFlow Hub address, or the folder of the saved model")
    main(load, parser)
