"""A damaged file beside the node for ComfyUI is one sentence."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from comfyui_stand_in import calibration
from trimpot.exchange import comfyui_node
from trimpot.exchange.comfyui import mapped


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
