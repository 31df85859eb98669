"""A vector of the published code, imported, makes the images of the published arithmetic, written here once more."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import trimpot
from generated import drawn, pixels
from trimpot.adapters.checkpoints import load_pipeline
from trimpot.engine.bucket import Bucket
from trimpot.engine.calibration import Calibration
from trimpot.exchange.vectors import FORMATS, read_vector
from trimpot.ground.errors import CalibrationError, ConfigError
from trimpot.setup.plugins import plugins

BUCKET = Bucket(("a cat", "two dogs"), (21, 22))
CALL = {"num_inference_steps": 2, "height": 16, "width": 16}


def random_vector(count: int, weights: list[float], seed: int = 0) -> list[float]:
    """Scales around 1, then weights, in bfloat16 as the published code holds them."""
    drawn_ = 0.7 + 0.6 * torch.rand(count, generator=torch.Generator().manual_seed(seed))
    return torch.cat([drawn_, torch.tensor(weights)]).to(torch.bfloat16).tolist()


def written(folder: Path, solution: list[float], shapes: dict[str, int]) -> Path:
    path = folder / "cmaes_step_0040.json"
    path.write_text(json.dumps({"step": 40, "solution": solution, "shapes": shapes, "sigma": 0.2}))
    return path


@contextmanager
def hooked(changes: dict[torch.nn.Module, Callable[[Any], Any]]) -> Iterator[None]:
    handles = [m.register_forward_hook(lambda _m, _a, out, f=change: f(out)) for m, change in changes.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def times(factors: dict[int, float]) -> Callable[[Any], Any]:
    """Multiply some items of a tuple; anything else is returned as it is, as the published hooks do."""

    def change(output: Any) -> Any:
        if not isinstance(output, (tuple, list)):
            return output
        return tuple(item * factors.get(index, 1.0) for index, item in enumerate(output))

    return change


def flux_published(model: Any, solution: list[float], members: int, granularity: str) -> Iterator[Any]:
    """The published order for FLUX: doubles of image, doubles of text, singles, each by member, then the weights."""
    double, single = len(model.transformer_blocks), len(model.single_transformer_blocks)
    rest, width = iter(solution), {"gate": 2, "layer": 2, "block": 1}[granularity]
    image = [[[next(rest) for _ in range(width)] for _ in range(double)] for _ in range(members)]
    text = image
    if granularity == "gate":
        text = [[[next(rest) for _ in range(2)] for _ in range(double)] for _ in range(members)]
    singles = [[next(rest) for _ in range(single)] for _ in range(members)]
    for member in range(members):
        changes = {}
        for index, block in enumerate(model.transformer_blocks):
            for norm, values in ((block.norm1, image), (block.norm1_context, text)):
                changes[norm] = times({1: values[member][index][0], 4: values[member][index][-1]})
        for index, block in enumerate(model.single_transformer_blocks):
            changes[block.norm] = times({1: singles[member][index]})
        yield changes, solution[-members:][member]


@pytest.mark.parametrize(("granularity", "members"), [("gate", 1), ("gate", 2), ("layer", 1), ("block", 2)])
def test_flux(flux_folder: Path, tmp_path: Path, granularity: str, members: int) -> None:
    pipe, _ = load_pipeline("FluxPipeline", str(flux_folder), dtype="float32", device="cpu")
    model = pipe.transformer
    double, single = len(model.transformer_blocks), len(model.single_transformer_blocks)
    each = {"gate": 4, "layer": 2, "block": 1}[granularity] * double + single
    shapes = {"total": members * (each + 1), "n_models": members, "n_double": double, "n_single": single}
    shapes |= {"doubles_main": members * double * (1 if granularity == "block" else 2), "singles": members * single}
    if granularity == "gate":
        shapes["doubles_ctx"] = members * double * 2
    solution = random_vector(members * each, [0.875, 0.25][:members])
    path = written(tmp_path, solution, shapes)

    found = read_vector(path, adapter="flux", granularity=granularity, model=str(flux_folder), **CALL)
    assert (found.told, found.calibration.gain) == ((), None)
    assert len(found.calibration.setting) == len(solution)

    original = model.forward

    def published(*args: Any, **kwargs: Any) -> Any:
        total = None
        for changes, weight in flux_published(model, solution, members, granularity):
            with hooked(changes):
                (out,) = original(*args, **{**kwargs, "return_dict": False})
            total = weight * out if total is None else total + weight * out
        return (total,)

    call = {**CALL, "max_sequence_length": 16}
    model.forward = published
    expected = drawn(pipe, BUCKET, **call)
    model.forward = original
    found.calibration.save(file := tmp_path / "calibration.json")
    with _quiet():
        applied = trimpot.load_calibration(pipe, file)
    for one, other in zip(drawn(pipe, BUCKET, **call), expected, strict=True):
        assert np.abs(one - other).max() <= 1
    applied.strength = 0.0
    neutral = drawn(pipe, BUCKET, **call)
    applied.remove()
    for one, other in zip(neutral, drawn(pipe, BUCKET, **call), strict=True):
        assert np.abs(one - other).max() <= 1


@contextmanager
def _quiet() -> Iterator[None]:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def test_sd3(sd3_folder: Path, tmp_path: Path) -> None:
    """Its own guidance loop: the conditional prediction of member 1 and the unconditional of member 2, each weighed."""
    pipe, _ = load_pipeline("StableDiffusion3Pipeline", str(sd3_folder), dtype="float32", device="cpu")
    blocks = list(pipe.transformer.transformer_blocks)
    context = [block for block in blocks if not block.context_pre_only]
    dual = [block for block in blocks if block.use_dual_attention]
    shapes = {"n_models": 2, "n_blocks": len(blocks), "n_context": len(context), "n_attn2": len(dual)}
    shapes |= {"main": 4 * len(blocks), "context": 4 * len(context), "attn2": 2 * len(dual)}
    count = shapes["main"] + shapes["context"] + shapes["attn2"]
    solution = random_vector(count, [3.0, -1.875])
    path = written(tmp_path, solution, {**shapes, "total": count + 2})

    rest = iter(solution)
    main = [[(next(rest), next(rest)) for _ in blocks] for _ in range(2)]
    text = [[(next(rest), next(rest)) for _ in context] for _ in range(2)]
    second = [[next(rest) for _ in dual] for _ in range(2)]

    def member(index: int) -> dict[Any, Any]:
        changes: dict[Any, Any] = {}
        for block, (attn, mlp) in zip(blocks, main[index], strict=True):
            more = {6: second[index][dual.index(block)]} if block in dual else {}
            changes[block.norm1] = times({1: attn, 4: mlp, **more})
        for block, (attn, mlp) in zip(context, text[index], strict=True):
            changes[block.norm1_context] = times({1: attn, 4: mlp})
        return changes

    original = pipe.transformer.forward

    def published(hidden_states: Any, **kwargs: Any) -> Any:
        halves = []
        for index, half in enumerate((1, 0)):  # the pipeline stacks unconditional rows before conditional ones
            own = {k: v.chunk(2)[half] if isinstance(v, torch.Tensor) else v for k, v in kwargs.items()}
            with hooked(member(index)):
                (out,) = original(hidden_states.chunk(2)[half], **{**own, "return_dict": False})
            halves.append(solution[-2:][index] * out)
        combined = halves[0] + halves[1]
        return (torch.cat([combined, combined]),)

    call = {**CALL, "max_sequence_length": 4}
    pipe.transformer.forward = published
    expected = drawn(pipe, BUCKET, guidance_scale=5.0, **call)
    pipe.transformer.forward = original
    found = read_vector(path, model=str(sd3_folder), **CALL)
    found.calibration.save(file := tmp_path / "calibration.json")
    with _quiet():
        applied = trimpot.load_calibration(pipe, file)
    for guidance in (1.0, 5.0):
        images = drawn(pipe, BUCKET, guidance_scale=guidance, **call)
        assert max(np.abs(one - other).max() for one, other in zip(images, expected, strict=True)) <= 1
    assert applied.recommended["num_inference_steps"] == 2


@pytest.mark.parametrize("as_meant", [False, True])
def test_qwen_s_forgotten_scales_are_forgotten_unless_they_are_meant(
    qwen_folder: Path, tmp_path: Path, as_meant: bool
) -> None:
    pipe, _ = load_pipeline("QwenImagePipeline", str(qwen_folder), dtype="float32", device="cpu")
    blocks = list(pipe.transformer.transformer_blocks)
    shapes = {"n_models": 2, "n_blocks": len(blocks), "total": 8 * len(blocks) + 2}
    solution = random_vector(8 * len(blocks), [4.0, -2.875])
    path = written(tmp_path, solution, shapes)
    found = read_vector(path, adapter="qwen-image", as_meant=as_meant, model=str(qwen_folder), **CALL)
    assert (f"{4 * len(blocks)} scales of mlp.image, mlp.text are set to 1" in " ".join(found.told)) == (not as_meant)
    scales = [solution[4 * at : 4 * at + 4] for at in range(2 * len(blocks))]
    assert found.calibration.apply["empty"] == ""

    original = pipe.transformer.forward
    members = [scales[: len(blocks)], scales[len(blocks) :]]

    def scaled(index: int) -> dict[Any, Any]:
        changes: dict[Any, Any] = {}
        for block, (image, text, image_mlp, text_mlp) in zip(blocks, members[index], strict=True):
            changes[block.attn] = times({0: image, 1: text})
            if as_meant:
                changes[block.img_mlp] = lambda out, factor=image_mlp: out * factor
                changes[block.txt_mlp] = lambda out, factor=text_mlp: out * factor
        return changes

    # The published loop weighs both predictions and rescales their sum to the norm of the conditional prediction; the
    # stock pipeline does the rescaling, given a negative prediction from which its own guidance makes that sum.
    kept: list[Any] = []

    def published(*args: Any, **kwargs: Any) -> Any:
        index = len(kept)
        with hooked(scaled(index)):
            (out,) = original(*args, **{**kwargs, "return_dict": False})
        kept.append(out)
        if index == 0:
            return (out,)
        combined = solution[-2] * kept[0] + solution[-1] * kept[1]
        negative = 2 * kept[0] - combined  # of which the pipeline makes `negative + 2 * (kept[0] - negative)`
        kept.clear()
        return (negative,)

    call: dict[str, Any] = dict(CALL)
    pipe.transformer.forward = published
    expected = drawn(pipe, BUCKET, negative_prompt="", true_cfg_scale=2.0, **call)
    pipe.transformer.forward = original
    found.calibration.save(file := tmp_path / "calibration.json")
    with _quiet():
        trimpot.load_calibration(pipe, file)
    images = drawn(pipe, BUCKET, true_cfg_scale=1.0, **call)
    assert max(np.abs(one - other).max() for one, other in zip(images, expected, strict=True)) <= 2


def test_an_imported_qwen_vector_is_measured_with_the_prompt_that_it_was_made_with(
    qwen_folder: Path, tmp_path: Path
) -> None:
    """The adapter that its file names makes the images that the file makes when it is applied."""
    from trimpot.runs.measuring import measure
    from trimpot.runs.results import Files

    num_blocks = 3
    solution = random_vector(8 * num_blocks, [4.0, -2.875])
    path = written(tmp_path, solution, {"n_models": 2, "n_blocks": num_blocks, "total": 8 * num_blocks + 2})
    own = {"model": str(qwen_folder), "dtype": "float32", "device": "cpu", **CALL}
    made = read_vector(path, **own).calibration
    assert made.provenance.config["adapter"]["empty"] == made.apply["empty"] == made.backbone["empty"] == ""
    made.save(file := tmp_path / "imported.json")

    options = {key: value for key, value in made.provenance.config["adapter"].items() if key != "name"}
    adapter = plugins().make("adapters", "qwen-image", options)
    [expected] = adapter.generate(adapter.space.to_vector(made.setting)[None], BUCKET)
    adapter.close()
    with _quiet():
        applied = trimpot.load_calibration(adapter.pipe, file)
    images = drawn(adapter.pipe, BUCKET, **applied.recommended)
    assert max(np.abs(one - other).max() for one, other in zip(images, pixels(expected), strict=True)) <= 1
    applied.remove()

    for name in ("train", "validation", "test"):
        (tmp_path / f"{name}.txt").write_text(f"a {name} of cats\na dog with a {name}\n")
    lists = ", ".join(f"{name}: {tmp_path}/{name}.txt" for name in ("train", "validation", "test"))
    asked = [f"prompts={{name: files, {lists}}}", "objectives=jpeg-size"]
    small = ["test.num_prompts=2", "validation.num_prompts=2", "adapter.guidance_grid=[7]"]
    name = measure(file, None, [*asked, *small], folder=tmp_path / "runs")
    found = Calibration.load(Files.of(tmp_path / "runs" / name).calibration)
    assert found.gain is not None and found.setting == made.setting and found.apply["empty"] == ""
    with pytest.raises(ConfigError, match="its prompt for no prompt is '', and the adapter's is the pipeline's own"):
        measure(file, None, [*asked, *small, "adapter.empty=null"], folder=tmp_path / "runs")


def test_the_counts_of_the_papers_are_those_of_the_spaces() -> None:
    """58, 77 and 115 for FLUX with its output weight, 216 for SD3.5, 482 for Qwen-Image."""
    from trimpot.adapters import make_flux, make_qwen_image, make_sd3

    counts = [len(make_flux(outline=True, granularity=g, output_weight=True).space) for g in ("block", "layer", "gate")]
    assert counts == [58, 77, 115]
    assert len(make_sd3(outline=True).space) == 216
    assert len(make_qwen_image(outline=True, dead="keep").space) == 482


FLUX_SHAPES = {"total": 115, "n_models": 1, "doubles_main": 38, "doubles_ctx": 38, "singles": 38, "n_double": 19}
FLUX_SHAPES["n_single"] = 38


@pytest.mark.parametrize(
    ("values", "options", "told"),
    [
        ([], {}, "holds no solution with its shapes"),
        ({"solution": [1.0]}, {}, "holds no solution with its shapes"),
        ({"solution": [1.0, None], "shapes": {"total": 2}}, {}, "coordinate 1 of the solution is None"),
        ({"solution": [1e400] * 115, "shapes": FLUX_SHAPES}, {}, "not a finite number"),
        ({"solution": [1.0] * 114, "shapes": FLUX_SHAPES}, {}, "has 114 coordinates, and its shapes say 115"),
        ({"solution": [1.0] * 115, "shapes": {**FLUX_SHAPES, "n_double": -1}}, {}, "its shapes must be counts"),
        (
            {"solution": [1.0] * 115, "shapes": {**FLUX_SHAPES, "n_double": 18}},
            {},
            "those of no model of the published",
        ),
        (
            {"solution": [1.0] * 115, "shapes": FLUX_SHAPES},
            {"adapter": "sd3"},
            "is a vector of flux with one knob a gate",
        ),
        ({"solution": [1.0] * 115, "shapes": FLUX_SHAPES}, {"granularity": "block"}, "is a vector of flux"),
        ({"solution": [1.0] * 115, "shapes": FLUX_SHAPES}, {"adapter": "flox"}, "did you mean 'flux'"),
        ({"solution": [1.0] * 114 + [0.0], "shapes": FLUX_SHAPES}, {}, "the output weight of member 1 is exactly 0"),
        ({"solution": [1.0] * 114 + [40.0], "shapes": FLUX_SHAPES}, {}, "the output weight 40 lies beyond"),
    ],
)
def test_what_is_no_published_vector_is_one_sentence(
    tmp_path: Path, values: Any, options: dict[str, Any], told: str
) -> None:
    path = tmp_path / "cmaes_step_1.json"
    path.write_text(json.dumps(values))
    with pytest.raises(CalibrationError) as error:
        read_vector(path, **options)
    assert told in str(error.value)


def test_the_published_flux_vector_needs_no_download_and_starts_a_search(tmp_path: Path) -> None:
    solution = [1.0 + at / 1000 for at in range(114)] + [1.0]
    found = read_vector(written(tmp_path, solution, FLUX_SHAPES)).calibration
    rounded = torch.tensor(solution).to(torch.bfloat16).tolist()
    assert found.setting["double.00.attn.image"] == rounded[0]
    assert found.setting["double.00.mlp.image"] == rounded[1]
    assert found.setting["double.00.attn.text"] == rounded[38]
    assert found.setting["single.37"] == rounded[113]
    assert found.setting["member1.weight"] == 1.0
    found.save(tmp_path / "calibration.json")
    assert Calibration.load(tmp_path / "calibration.json") == found
    assert {each.granularity for each in FORMATS if each.adapter == "flux"} == {"gate", "layer", "block"}
