"""Compiled transformers: the same images, other values without compiling again, and a way back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from generated import candidates, pixels
from trimpot.adapters import make_flux, make_qwen_image, make_sd3
from trimpot.adapters.diffusion import DiffusionAdapter
from trimpot.adapters.scaling import is_compiled
from trimpot.engine.bucket import Bucket

BUCKET = Bucket(("a cat", "two dogs"), (11, 12))

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch's compiler, about itself


@pytest.fixture
def eager_backend(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Trace and guard as ever, but spare the code generation, which takes minutes on a small machine."""
    monkeypatch.setattr(torch.nn.Module, "compile", _traced(torch.nn.Module.compile))
    monkeypatch.setattr(torch, "compile", _traced(torch.compile))
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    yield
    torch._dynamo.reset()


def _traced(compile_: Any) -> Any:
    return lambda *args, **kwargs: compile_(*args, **{**kwargs, "backend": "eager"})


@pytest.mark.slow
def test_compiled_code_makes_the_same_images(sd3_folder: Path) -> None:
    """With the real code generation, in blocks."""
    plain, fast = (
        make_sd3(model=str(sd3_folder), dtype="float32", device="cpu", num_inference_steps=2, compile=how)
        for how in ("off", "regional")
    )
    population = candidates(fast, 2)
    for images, others in zip(fast.generate(population, BUCKET), plain.generate(population, BUCKET), strict=True):
        for image, other in zip(pixels(images), pixels(others), strict=True):
            assert np.abs(image - other).max() <= 1
    torch._dynamo.reset()


def num_graphs() -> int:
    return int(torch._dynamo.utils.counters["stats"]["unique_graphs"])


@pytest.mark.usefixtures("eager_backend")
@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("sd3", "regional"),
        ("flux", "full"),
        pytest.param("sd3", "full", marks=pytest.mark.slow),
        pytest.param("flux", "regional", marks=pytest.mark.slow),
        pytest.param("qwen", "regional", marks=pytest.mark.slow),
        pytest.param("qwen", "full", marks=pytest.mark.slow),
    ],
)
def test_values_change_without_compiling_again(request: pytest.FixtureRequest, name: str, how: str) -> None:
    """Candidates one after another run through the graphs of the first, and give what they give uncompiled."""
    make = {"sd3": make_sd3, "flux": make_flux, "qwen": make_qwen_image}[name]
    folder: Path = request.getfixturevalue(f"{name}_folder")
    plain, fast = (
        make(model=str(folder), dtype="float32", device="cpu", num_inference_steps=2, compile=each)
        for each in ("off", how)
    )
    assert isinstance(fast, DiffusionAdapter)
    assert is_compiled(fast.pipe.transformer) and not is_compiled(plain.pipe.transformer)
    population = candidates(fast, 4)
    fast.generate(population[:1], BUCKET)
    compiled = num_graphs()
    assert 0 < compiled <= 6
    for candidate in population[1:]:
        [images], [expected] = (each.generate(candidate[None], BUCKET) for each in (fast, plain))
        for image, other in zip(pixels(images), pixels(expected), strict=True):
            assert np.abs(image - other).max() <= 1
    assert num_graphs() == compiled
    assert torch._dynamo.utils.counters["graph_break"] == {}
