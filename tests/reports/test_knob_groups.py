from __future__ import annotations

from trimpot.reports.knob_groups import group_knobs


def test_members_are_panels_and_branches_are_lines() -> None:
    names = [f"member{m}.joint.{b:02d}.{line}" for m in (1, 2) for b in range(13) for line in ("attn", "mlp")]
    groups = group_knobs([*names, "member1.weight", "member2.weight"])
    assert {panel: list(lines) for panel, lines in groups.by_depth.items()} == {
        "member1": ["attn", "mlp"],
        "member2": ["attn", "mlp"],
    }
    assert groups.by_depth["member2"]["mlp"][7] == (7, "member2.joint.07.mlp")
    assert groups.single == ["member1.weight", "member2.weight"]


def test_single_blocks_stand_behind_double_ones() -> None:
    groups = group_knobs(["double.00.attn.image", "double.18.attn.image", "single.00", "single.37"])
    assert groups.starts == {"double": 0, "single": 19}
    assert groups.by_depth[""]["single"] == [(19, "single.00"), (56, "single.37")]
    assert groups.by_depth[""]["attn.image"][-1][0] == 18


def test_every_knob_is_drawn_once_whatever_its_name() -> None:
    names = ["slope", "joint.03", "layer7.scale", "5", "member1.weight", "a.b.c", "x.12.y.13"]
    groups = group_knobs(names)
    drawn = [name for lines in groups.by_depth.values() for line in lines.values() for _, name in line]
    assert sorted(drawn + groups.single) == sorted(names)
    assert "slope" in groups.single
