"""The documentation keeps up: what exists is described, and what is described exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from pydantic import BaseModel
from trimpot.cli import app
from trimpot.engine import hooks
from trimpot.engine.config import Config, load_config

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
    block = re.search(r"```yaml\n(.*?)```", read("docs/configuration.md"), re.DOTALL)
    assert block is not None
    shown = yaml.safe_load(block[1])
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
        if key.split(".")[0] in ("generations", "bucket_size", "seed", "validation", "test"):
            assert value == default, f"{key}: the documentation says {value}, the default is {default}"


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
