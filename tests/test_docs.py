"""The documentation keeps up: what exists is described, and what is described exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from pydantic import BaseModel
from trimpot.cli import app
from trimpot.engine import alarm, hooks
from trimpot.engine.schema import AdaptiveBucket, Sensitivity
from trimpot.prompts.compositional import DEFAULT
from trimpot.prompts.grammar import CATEGORIES
from trimpot.prompts.published import PUBLISHED
from trimpot.setup.config import Config, load_config
from trimpot.setup.plugins import plugins

ROOT = Path(__file__).parents[1]


def read(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


def keys(model: type[BaseModel], prefix: str = "") -> list[str]:
    """Every key of a configuration, dotted."""
    found = []
    for name, field in model.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel) and name not in ("adapter", "prompts", "optimizer"):
            found += keys(inner, f"{prefix}{name}.")
        else:
            found.append(prefix + name)
    return found


def test_every_key_is_described_with_its_default() -> None:
    """docs/configuration.md shows a configuration that validates, names every key, and shows true defaults."""
    whole, optional = re.findall(r"```yaml\n(.*?)```", read("docs/configuration.md"), re.DOTALL)
    shown = yaml.safe_load(whole)
    config = load_config(shown)
    for key in keys(Config):
        value: object = shown
        default: object = Config.model_construct(
            **{k: getattr(config, k) for k in ("adapter", "objectives", "prompts")}
        )
        for part in key.split("."):
            assert isinstance(value, dict) and part in value, f"{key} is not described"
            value = value[part]
            default = getattr(default, part)
        default = list(default) if isinstance(default, tuple) else default
        if (
            key.split(".")[0] not in ("name", "adapter", "objectives", "prompts", "optimizer")
            and key != "by_steps.steps"
        ):
            assert value == default, f"{key}: the documentation says {value}, the default is {default}"
    assert yaml.safe_load(optional) == {
        "adaptive_bucket": AdaptiveBucket().model_dump(),
        "sensitivity": Sensitivity().model_dump(),
    }


def test_every_reward_is_described() -> None:
    """docs/rewards.md names every built-in objective and combination, the thresholds of the alarm, and no others."""
    text = read("docs/rewards.md")
    for kind, heading in (("objectives", "objective"), ("combinations", "`combine`")):
        tables = re.findall(rf"^\| {heading} \|.*?\n\n", text, re.DOTALL | re.MULTILINE)
        rows = [row for table in tables for row in table.split("\n|")[2:]]
        named = {name for row in rows for name in re.findall(r"`([\w-]+)`", row.split("|")[0])}
        assert named == {each.name for each in plugins().registrations(kind) if each.origin == "trimpot"}
    said = " ".join(text.split())
    assert f"({alarm.SIGNIFICANCE}) and far: by more than {alarm.LARGE['falls']} standard" in said
    assert f"for a reward, {alarm.LARGE['moves']} for a statistic" in said and f"t-test, {alarm.RISE})" in said


def test_every_set_of_prompts_is_described() -> None:
    """docs/prompts.md names every built-in set, and of the published ones source, split rule, licence and paper."""
    text = read("docs/prompts.md")
    table = re.search(r"^\| you want \|.*?\n\n", text, re.DOTALL | re.MULTILINE)
    assert table is not None
    named = {name for row in table[0].split("\n|")[2:] for name in re.findall(r"`([\w-]+)`", row)} - {"prompts"}
    assert named == {each.name for each in plugins().registrations("prompts") if each.origin == "trimpot"}
    for name, row in PUBLISHED.items():
        cells = (row.title, f"{row.hub}; {row.home}", row.split, row.licence, row.citation)
        assert f"\n| `{name}` | {' | '.join(cells)} |\n" in text
        assert all(f"{most:,}" in text for most in row.most.values())
    total = [f"{len(CATEGORIES) * number:,}" for number in DEFAULT.values()]
    assert f"{total[0]} train, {total[1]} validate, {total[2]} test" in " ".join(text.split())


def test_every_hook_is_described() -> None:
    """docs/plugins.md lists the hooks with their arguments, and no others."""
    import inspect

    specified = {
        f"{name}({', '.join(inspect.signature(function).parameters)})"
        for name, function in vars(hooks).items()
        if inspect.isfunction(function) and hasattr(function, "trimpot_spec")
    }
    assert set(re.findall(r"^\| `(\w+\(.*?\))` \|", read("docs/plugins.md"), re.MULTILINE)) == specified


@pytest.mark.parametrize("command", [command.name or command.callback.__name__ for command in app.registered_commands])  # type: ignore[union-attr]
def test_every_command_has_an_example(command: str) -> None:
    """`trimpot COMMAND --help` ends with an example, and the README mentions the command."""
    [found] = [each for each in app.registered_commands if (each.name or each.callback.__name__) == command]  # type: ignore[union-attr]
    assert found.callback is not None
    assert f"Example:  trimpot {command}" in (found.callback.__doc__ or "")
    assert f"trimpot {command}" in read("README.md")


def test_links_lead_somewhere() -> None:
    """Relative links of README, CONTRIBUTING and docs name files that exist."""
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
    for page in pages:
        for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_the_drawn_house_stands() -> None:
    """Every folder and module that CONTRIBUTING draws exists."""
    drawing = read("CONTRIBUTING.md").split("## Habits")[0]
    for line in drawing.splitlines():
        match = re.match(r"\s*[├└]── (\w+/|\w+\.py)", line)
        if match:
            assert (ROOT / match[1]).exists(), match[1]
