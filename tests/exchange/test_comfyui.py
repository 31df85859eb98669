"""An export for ComfyUI: a folder that scales ComfyUI's own modules, and refuses what it cannot.

Equality with diffusers is proved on ComfyUI's own models by `python -m trimpot.proofs.comfyui`, which the last tests
run if `COMFYUI_PATH` is set. The other tests use a stand-in with the same module paths.
"""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from applied import calibrated, made
from command_line import typed
from torch import Tensor, nn
from trimpot.adapters.sites import find_sites
from trimpot.engine.calibration import Calibration, Provenance
from trimpot.exchange import comfyui_node
from trimpot.exchange.comfyui import LINES, mapped, parse_line, place_of
from trimpot.exchange.roads import difference, export, road_of
from trimpot.ground.errors import CalibrationError
from trimpot.proofs.comfyui.proof import CASES, GUIDED, cases, imported
from trimpot.proofs.comfyui.twins import TWINS
from trimpot.proofs.transformers import EXAMPLES

FLUX = [
    "transformer_blocks.0.norm1[1]",
    "transformer_blocks.1.norm1_context[4]",
    "single_transformer_blocks.0.norm[1]",
]
QWEN = ["transformer_blocks.0.attn[0]", "transformer_blocks.0.txt_mlp"]
SCALES = (0.5, 2.0, 1.25)
WEIGHTS = {1: [1.0], 2: [2.5, -1.25], 3: [2.5, -1.25, -0.5]}
NEUTRAL = {1: [1.0], 2: [1.5, -0.5], 3: [1.5, -0.5, 0.0]}


def calibration(
    sees: Sequence[str] = ("all",),
    addresses: Sequence[str] = FLUX,
    transformer: str = "FluxTransformer2DModel",
    run: str = "test-1",
) -> Calibration:
    members = [
        {
            "sees": each,
            "weight": WEIGHTS[len(sees)][at],
            "neutral_weight": NEUTRAL[len(sees)][at],
            "scales": {address: scale + at for address, scale in zip(addresses, SCALES, strict=False)},
        }
        for at, each in enumerate(sees)
    ]
    return Calibration(
        backbone={"id": "somebody/model", "height": 512, "width": 768, "guidance_scale": 3.5},
        num_steps=15,
        setting={"a": 1.0},
        apply={"transformer": transformer, "members": members},
        objectives={},
        neutral_label="neutral",
        gain=None,
        by_steps=(),
        provenance=Provenance(
            run=run,
            created="2026-01-01T00:00:00+00:00",
            digest="0",
            stop_reason="done",
            num_evaluations=1,
            num_images=1,
            versions={},
            config={},
        ),
    )


class Modulation(nn.Module):
    def __init__(self, parts: int) -> None:
        super().__init__()
        self.lin = nn.Linear(2, 2 * parts)


class Double(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.img_mod, self.txt_mod = Modulation(6), Modulation(6)


class Single(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.modulation = Modulation(3)


class Flux(nn.Module):
    """A stand-in for ComfyUI's class of this name: modules at the same paths, whose outputs it returns side by side."""

    def __init__(self, doubles: int = 2, singles: int = 1) -> None:
        super().__init__()
        self.double_blocks = nn.ModuleList(Double() for _ in range(doubles))
        self.single_blocks = nn.ModuleList(Single() for _ in range(singles))
        generator = torch.Generator().manual_seed(0)
        for parameter in self.parameters():
            parameter.data = torch.randn(parameter.shape, generator=generator)

    def forward(self, x: Tensor) -> Tensor:
        called = [module for module in self.modules() if isinstance(module, nn.Linear)]
        return torch.cat([module(x[:, :2]) for module in called], dim=-1)


class Base:
    def __init__(self, model: nn.Module) -> None:
        self.diffusion_model: Any = model


class Patcher:
    """A stand-in for the few methods of ComfyUI's ModelPatcher that the node calls, and for its sampler's step."""

    def __init__(self, model: nn.Module) -> None:
        self.model = Base(model)
        self.model_options: dict[str, Any] = {}
        self.wrappers: dict[str, dict[str, list[Any]]] = {}

    def clone(self) -> Patcher:
        made = Patcher(self.model.diffusion_model)
        made.model_options = copy.deepcopy(self.model_options)
        made.wrappers = {kind: {key: list(each) for key, each in keys.items()} for kind, keys in self.wrappers.items()}
        return made

    def add_wrapper_with_key(self, kind: str, key: str, wrapper: Any) -> None:
        self.wrappers.setdefault(kind, {}).setdefault(key, []).append(wrapper)

    def get_wrappers(self, kind: str, key: str) -> list[Any]:
        return self.wrappers.get(kind, {}).get(key, [])

    def set_model_sampler_cfg_function(self, function: Any, disable_cfg1_optimization: bool) -> None:
        self.model_options["sampler_cfg_function"] = function
        self.model_options["disable_cfg1_optimization"] = disable_cfg1_optimization

    def run(self, x: Tensor, kinds: Sequence[int] | None = (0,)) -> Tensor:
        """The model's prediction of the clean latents at sigma 1: x less the velocity."""

        def original(x: Tensor, _t: Tensor, _options: Any) -> Tensor:
            return x - self.model.diffusion_model(x)

        class Executor:
            class_obj = self.model

            def __call__(self, *args: Any) -> Tensor:
                return original(*args)

        options = {"wrappers": self.wrappers} | ({} if kinds is None else {"cond_or_uncond": list(kinds)})
        [wrapper] = self.wrappers["apply_model"]["trimpot"]
        return torch.as_tensor(wrapper(Executor(), x, torch.ones(len(x)), options))


def applied(sees: Sequence[str] = ("all",), strength: float = 1.0, model: nn.Module | None = None) -> Patcher:
    found = json.loads(json.dumps(mapped(calibration(sees))))
    made = comfyui_node.Calibrated(found, strength).attach(Patcher(model or Flux()))
    assert isinstance(made, Patcher)
    return made


def velocity(x: Tensor, scales: Sequence[float]) -> Tensor:
    """What the stand-in returns with scaled gates, by its layout: 2 double blocks of 2 x 12 columns, then 6 more."""
    made = Flux()(x)
    for begin, scale in zip((4, 24 + 12 + 10, 48 + 4), scales, strict=True):
        made[:, begin : begin + 2] *= scale
    return made


INPUT = torch.randn(4, 54, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("strength", [-1.0, 0.0, 0.5, 1.0, 2.0])
def test_the_gates_are_scaled_by_the_strength_and_nothing_else(strength: float) -> None:
    patcher = applied(strength=strength)
    found = INPUT - patcher.run(INPUT)
    expected = velocity(INPUT, [1 + strength * (scale - 1) for scale in SCALES])
    assert torch.allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("kinds", [[0, 1], [1, 0], [0], [1], [1, 1, 0, 0]])
def test_each_row_has_the_scales_of_the_member_that_sees_what_it_sees(kinds: list[int]) -> None:
    found = INPUT - applied(GUIDED).run(INPUT, kinds)
    for row in range(4):
        kind = kinds[row * len(kinds) // 4]
        expected = velocity(INPUT[row : row + 1], [scale + kind for scale in SCALES])
        assert torch.allclose(found[row : row + 1], expected, atol=1e-5)


def test_members_that_all_see_the_prompt_are_summed_by_weight() -> None:
    found = INPUT - applied(("conditional", "conditional")).run(INPUT, [1, 0])
    each = [velocity(INPUT, [scale + at for scale in SCALES]) for at in range(2)]
    assert torch.allclose(found, 2.5 * each[0] - 1.25 * each[1], atol=1e-4)


@pytest.mark.parametrize("sees", [GUIDED, ("conditional", "unconditional", "conditional")])
@pytest.mark.parametrize("strength", [0.0, 0.5, 1.0])
def test_the_weights_replace_the_guidance(sees: tuple[str, ...], strength: float) -> None:
    patcher = applied(sees, strength).clone()  # as the nodes that follow do
    made = patcher.run(INPUT, [0, 1])
    velocities = INPUT - made
    guide = patcher.model_options["sampler_cfg_function"]
    found = guide({"cond": velocities[:2], "uncond": velocities[2:]})
    expected = 0
    for at, kind in enumerate(sees):
        rows = INPUT[2:] if kind == "unconditional" else INPUT[:2]
        weight = NEUTRAL[len(sees)][at] + strength * (WEIGHTS[len(sees)][at] - NEUTRAL[len(sees)][at])
        expected = expected + weight * velocity(rows, [1 + strength * (scale + at - 1) for scale in SCALES])
    assert torch.allclose(found, torch.as_tensor(expected), atol=1e-4)
    assert patcher.model_options["disable_cfg1_optimization"]


def test_a_rescaled_sum_has_the_norm_of_each_token() -> None:
    latents = torch.randn(1, 4, 1, 5, 6)  # an odd height: the last row is a patch of half its size
    made = comfyui_node._with_norm_of(3 * latents + 1, latents)
    for top in (0, 2, 4):
        for left in (0, 2, 4):
            patch = (..., slice(top, top + 2), slice(left, left + 2))
            assert float(made[patch].norm()) == pytest.approx(float(latents[patch].norm()), rel=1e-5)
    assert not comfyui_node._with_norm_of(torch.zeros_like(latents), latents).any()


def test_the_model_is_untouched_between_calls_and_after_a_failure() -> None:
    model = Flux()
    patcher = applied(model=model)
    patcher.run(INPUT)
    assert not any(module._forward_hooks for module in model.modules())
    with pytest.raises(RuntimeError):
        patcher.run(torch.ones(4, 1))
    assert not any(module._forward_hooks for module in model.modules())


def test_another_model_is_refused() -> None:
    def refused(model: nn.Module, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            applied(model=model)

    refused(nn.Linear(1, 1), "is for the model class Flux, and the model is a Linear")
    refused(Flux(doubles=3), "with 2 double_blocks, and the model has 3")
    refused(Flux(singles=0), "with 1 single_blocks, and the model has 0")
    without = Flux()
    del without.double_blocks[1].txt_mod
    refused(without, "lacks a module that the calibration scales")


def test_a_gate_that_a_model_lacks_is_refused_and_no_hook_stays() -> None:
    """As of a second attention, which other models of the same depth do not have."""
    found = mapped(calibration())
    found["sites"][0]["part"] = 6
    model = Flux()
    patcher = comfyui_node.Calibrated(found, 1.0).attach(Patcher(model))
    with pytest.raises(ValueError, match=r"for another model: double_blocks\.0\.img_mod\.lin has no part 6"):
        patcher.run(INPUT)
    assert not any(module._forward_hooks for module in model.modules())


def test_what_would_not_be_used_is_refused() -> None:
    def refused(patcher: Any, message: str, kinds: Sequence[int] | None = (0, 1)) -> None:
        with pytest.raises(ValueError, match=message):
            patcher.run(INPUT, kinds)

    guided = applied(GUIDED)
    refused(guided, "which rows see the prompt", None)
    refused(guided, "which rows see the prompt", [0, 2])
    compiled = applied()
    compiled.add_wrapper_with_key("apply_model", "torch.compile", None)
    refused(compiled, "the model is compiled")
    inside = applied()
    inside.model.diffusion_model.part = nn.Module()
    inside.model.diffusion_model.part._modules["_orig_mod"] = None
    refused(inside, "the model is compiled")
    replaced = applied()
    replaced.model.diffusion_model.forward = lambda x: torch.zeros(len(x), 54)
    refused(replaced, "no module that the calibration scales has run")
    with pytest.raises(ValueError, match="has a calibration already"):
        comfyui_node.Calibrated(mapped(calibration()), 1.0).attach(applied())
    other = Patcher(Flux())
    other.model_options["sampler_cfg_function"] = print
    with pytest.raises(ValueError, match="another node has replaced the guidance"):
        comfyui_node.Calibrated(mapped(calibration(GUIDED)), 1.0).attach(other)
    with pytest.raises(ValueError, match="update ComfyUI"):
        comfyui_node.Calibrated(mapped(calibration()), 1.0).attach(object())


def test_a_step_without_the_weights_is_refused() -> None:
    patcher = applied(GUIDED)
    [step] = patcher.wrappers["predict_noise"]["trimpot"]
    guide = patcher.model_options["sampler_cfg_function"]
    args = {"cond": torch.ones(1), "uncond": torch.ones(1)}

    def guided(kinds: Sequence[int]) -> Callable[[], Any]:
        return lambda: (patcher.run(INPUT, kinds), guide(args))

    step(guided([0, 1]))
    with pytest.raises(ValueError, match="weights were not used"):
        step(lambda: patcher.run(INPUT, [0, 1]))
    with pytest.raises(ValueError, match="empty negative prompt"):
        step(guided([0]))


def _without(found: dict[str, Any], name: str) -> None:
    del found[name]


DAMAGE: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "another format": (lambda found: found.update(format="x"), "no calibration for ComfyUI"),
    "another version": (lambda found: found.update(version=2), "another version"),
    **{
        f"no {name}": (lambda found, name=name: _without(found, name), "damaged")
        for name in ("model", "blocks", "sites")
    },
    **{
        f"without {name}": (lambda found, name=name: _without(found, name), "damaged")
        for name in ("members", "rescaled")
    },
    "no members": (lambda found: found.update(members=[]), "damaged"),
    "a text as scale": (lambda found: found["members"][0]["scales"].__setitem__(0, "2"), "damaged"),
    "not a number": (lambda found: found["members"][0]["scales"].__setitem__(0, float("nan")), "damaged"),
    "infinite weight": (lambda found: found["members"][0].update(weight=float("inf")), "damaged"),
    "a number beyond all floats": (lambda found: found["members"][0].update(weight=10**400), "damaged"),
    "a path of nothing": (lambda found: found["sites"][0].update(module=""), "damaged"),
    "blocks as a list": (lambda found: found.update(blocks=[1]), "damaged"),
    "one scale too few": (lambda found: found["members"][0]["scales"].pop(), "damaged"),
    "unknown member": (lambda found: found["members"][0].update(sees="none"), "damaged"),
    "only a negative prompt": (lambda found: found["members"][0].update(sees="unconditional"), "damaged"),
    "a rescaled single member": (lambda found: found.update(rescaled=True), "damaged"),
    "a number as module": (lambda found: found["sites"][0].update(module=1), "damaged"),
    "a negative part": (lambda found: found["sites"][0].update(part=-1), "damaged"),
    "a text as part": (lambda found: found["sites"][0].update(part="1"), "damaged"),
    "a text as depth": (lambda found: found["blocks"].update(double_blocks="2"), "damaged"),
    "sites as text": (lambda found: found.update(sites="x"), "damaged"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_file_is_one_sentence(name: str, tmp_path: Path) -> None:
    found = mapped(calibration())
    file = tmp_path / "some.trimpot.json"
    file.write_text(json.dumps(found))
    assert comfyui_node.read(file) == found
    damage, message = DAMAGE[name]
    damage(found)
    file.write_text(json.dumps(found))
    with pytest.raises(ValueError, match=message):
        comfyui_node.read(file)


def test_no_json_is_one_sentence(tmp_path: Path) -> None:
    for content in (b"{", b"\xff", b"[]", b"[" * 100_000):
        (tmp_path / "file").write_bytes(content)
        with pytest.raises(ValueError, match=r"cannot be read|no calibration for ComfyUI"):
            comfyui_node.read(tmp_path / "file")
    with pytest.raises(ValueError, match="cannot be read"):
        comfyui_node.read(tmp_path / "none")


def test_a_folder_works_where_neither_trimpot_nor_diffusers_is(tmp_path: Path) -> None:
    """As ComfyUI imports it, and with the calibrations of two exports in one list."""
    for run in ("first", "a/second one"):
        folder = export(None, calibration(run=run), "comfyui", tmp_path / run[0])
        assert road_of(folder) == "comfyui"
        assert sorted(path.name for path in folder.iterdir()) == ["README.md", "__init__.py", "calibrations"]
    code = textwrap.dedent(
        f"""
        import sys
        for name in ("trimpot", "diffusers", "transformers", "comfy"):
            sys.modules[name] = None
        import importlib.util
        spec = importlib.util.spec_from_file_location("node", {str(tmp_path / "f" / "__init__.py")!r})
        node = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(node)
        kind = node.NODE_CLASS_MAPPINGS["TrimpotCalibration"]
        names = kind.INPUT_TYPES()["required"]["file"][0]
        assert names == ["a/a-second-one", "f/first"], names
        assert len(kind.IS_CHANGED(file=names[0])) == 64
        for file, strength, message in (("f/none", 1.0, "no calibration"), (names[1], 2.5, "from -1 to 2"),
                                        (names[1], float("nan"), "from -1 to 2"), (names[1], 1.0, "update ComfyUI")):
            try:
                kind().apply(None, file, strength)
            except ValueError as error:
                assert message in str(error), error
            else:
                raise AssertionError(message)
        """
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_readme_of_a_folder_says_how_it_was_measured(tmp_path: Path) -> None:
    text = (export(None, calibration(), "comfyui", tmp_path / "a") / "README.md").read_text()
    assert "somebody/model" in text and "15 steps, 768 x 512 pixels" in text and "guidance 3.5" in text
    adapted = calibration()
    adapted.backbone["source"] = {"lora": {"id": "somebody/lora"}}
    text = (export(None, adapted, "comfyui", tmp_path / "d") / "README.md").read_text()
    assert "with the lora somebody/lora: load it in ComfyUI too" in text
    text = (export(None, calibration(GUIDED), "comfyui", tmp_path / "b") / "README.md").read_text()
    assert "negative prompt ''" in text
    guided = calibration(GUIDED, QWEN, "QwenImageTransformer2DModel")
    text = (export(None, guided, "comfyui", tmp_path / "c") / "README.md").read_text()
    assert "negative prompt ' '" in text


@pytest.mark.parametrize("transformer", LINES)
def test_every_site_of_a_family_has_a_place_of_its_own(transformer: str) -> None:
    addresses = [site.address for site in find_sites(EXAMPLES[transformer].build())]
    places = [place_of(transformer, address) for address in addresses]
    assert len(set(places)) == len(addresses)
    _, patterns = parse_line(transformer)
    used = {_starred(address) for address in addresses}
    assert used == set(patterns), "a pattern of the line is never used"


def _starred(address: str) -> str:
    return ".".join("*" if part.isdigit() else part for part in address.split("."))


def test_every_family_is_proved() -> None:
    assert {twin.transformer for twin in TWINS.values()} == set(LINES)
    assert all(set(cases(family)) <= set(CASES) for family in TWINS)


def test_what_comfyui_cannot_hold_is_refused_with_the_road_that_works(tmp_path: Path) -> None:
    def refused(made: Calibration, message: str) -> None:
        with pytest.raises(CalibrationError, match=f"{message}.*native"):
            export(None, made, "comfyui", tmp_path / "out")
        assert not list(tmp_path.iterdir())

    others = sorted(set(EXAMPLES) - set(LINES))
    assert len(others) > 50
    for transformer in others:
        refused(calibration(transformer=transformer), f"a {transformer} cannot be exported for ComfyUI")
    for address in ("transformer_blocks.0.ff", "transformer_blocks.0.norm1[2]", "x_embedder", "norm1[1]"):
        refused(calibration(addresses=[address]), "of a site line of your own")
    refused(
        calibration(addresses=["blocks.0.ffn", "transformer_2.blocks.0.ffn"], transformer="WanTransformer3DModel"),
        "scales two transformers",
    )
    three = ("conditional", "unconditional", "conditional")
    refused(calibration(three, QWEN, "QwenImageTransformer2DModel"), "rescaled to the norm of one")
    refused(calibration(GUIDED, ["blocks.0.ffn"], "WanTransformer3DModel"), "no ensembles of a WanTransformer3DModel")


def test_the_command_writes_a_folder_without_loading_the_model(tmp_path: Path) -> None:
    calibration().save(tmp_path / "calibration.json")  # of a model that is nowhere
    done = typed("export", "calibration.json", "--as", "comfyui", "--to", "node", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "node" / "calibrations" / "test-1.trimpot.json").is_file()
    done = typed("export", "calibration.json", "--as", "comfyui", "--to", "other", "-o", "device=cpu", cwd=tmp_path)
    assert done.returncode != 0
    assert "needs no pipeline" in done.stderr
    assert not (tmp_path / "other").exists()


def test_verifying_names_the_proof_before_a_model_is_loaded(tmp_path: Path) -> None:
    calibration().save(tmp_path / "calibration.json")
    export(None, calibration(), "comfyui", tmp_path / "node")
    with pytest.raises(CalibrationError, match=r"python -m trimpot\.proofs\.comfyui"):
        difference(None, tmp_path / "calibration.json", tmp_path / "node")
    done = typed("verify", "calibration.json", "node", cwd=tmp_path)
    assert done.returncode != 0
    assert "trimpot.proofs.comfyui" in done.stderr


def test_a_real_calibration_is_mapped_whole(tmp_path: Path, sd3_folder: Path) -> None:
    adapter = made("sd3", sd3_folder)
    file = calibrated(adapter, adapter.space.to_setting(adapter.space.defaults), tmp_path / "calibration.json")
    adapter.close()
    folder = export(None, Calibration.load(file), "comfyui", tmp_path / "node")
    node = imported(folder)
    [path] = node.files().values()
    found = node.read(path)
    assert len(found["sites"]) == len(find_sites(adapter.pipe.transformer))
    assert [member["sees"] for member in found["members"]] == list(GUIDED)


needs_comfyui = pytest.mark.skipif("COMFYUI_PATH" not in os.environ, reason="COMFYUI_PATH is not set")


@needs_comfyui
@pytest.mark.parametrize("family", TWINS)
def test_comfyui_with_the_node_makes_what_diffusers_makes(family: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "trimpot.proofs.comfyui", family], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@needs_comfyui
def test_comfyui_refuses_what_would_not_be_used() -> None:
    """With its own guiders, samplers and the node that compiles."""
    code = textwrap.dedent(
        """
        from trimpot.proofs.comfyui.proof import CASES, Proof, prepare
        from trimpot.proofs.comfyui.twins import TWINS
        prepare()
        import torch
        import comfy.samplers
        from comfy_api.torch_helpers import set_torch_compile_wrapper
        proof, case = Proof(TWINS["sd3"]), CASES["guided"]

        def refused(message, model, guider=None):
            try:
                proof.sample(model, case, guider)
            except ValueError as error:
                assert message in str(error), error
            else:
                raise AssertionError(message)
            assert not any(module._forward_hooks for module in proof.base.modules())

        plain = proof.sample(proof.patcher, case)
        positive = [[proof.prompts[0], {"pooled_output": proof.pooled[0]}]]
        basic = comfy.samplers.CFGGuider(proof.applied(case))
        basic.inner_set_conds({"positive": positive})
        refused("empty negative prompt", None, basic)
        other = proof.applied(case)
        other.set_model_sampler_cfg_function(lambda args: args["cond"])
        refused("weights were not used", other)
        for order in ("before", "after"):
            model = proof.patcher.clone()
            if order == "before":
                set_torch_compile_wrapper(model, backend="eager")
                kept, proof.patcher = proof.patcher, model
                model = proof.applied(case)
                proof.patcher = kept
            else:
                model = proof.applied(case)
                set_torch_compile_wrapper(model, backend="eager")
            refused("the model is compiled", model)
        assert torch.equal(proof.sample(proof.patcher, case), plain), "the model is not as it was"
        """
    )
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
