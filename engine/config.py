"""What a run is asked to do, validated before anything is loaded.

A configuration is a YAML file, a preset shipped with the package, or a mapping; dotted overrides such as
`optimizer.sigma0=0.1` change single keys. Unknown keys are errors that name the nearest known one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from .errors import ConfigError, near_misses
from .knobs import digest


class Section(BaseModel):
    """A mapping with known keys only."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Part(BaseModel):
    """A plugin by name, with its options.

    Attributes:
        name: The registered name.
    """

    model_config = ConfigDict(extra="allow", frozen=True)
    name: str

    @property
    def options(self) -> dict[str, Any]:
        """Everything but the name; checked against the plugin's own parameters when it is made."""
        return dict(self.model_extra or {})


class Reward(BaseModel):
    """An objective's part in the fitness.

    Attributes:
        name: The registered objective; defaults to the key it stands under.
        weight: Factor of its score in the fitness; 0 only watches it.
    """

    model_config = ConfigDict(extra="allow", frozen=True)
    name: str | None = None
    weight: float = Field(default=1.0, allow_inf_nan=False)

    @property
    def options(self) -> dict[str, Any]:
        """Options of the objective itself."""
        return dict(self.model_extra or {})


def _by_name(value: object) -> object:
    return {"name": value} if isinstance(value, str) else value


def _cma_es_unless_named(value: object) -> object:
    return {"name": "cma-es", **value} if isinstance(value, Mapping) else value


def _by_key(value: object) -> object:
    if isinstance(value, str):
        return {value: {}}
    if isinstance(value, Mapping):
        return {key: {} if entry is None else entry for key, entry in value.items()}
    return value


NamedPart = Annotated[Part, BeforeValidator(_by_name)]


class Validation(Section):
    """How recommendations are judged while the search runs.

    Attributes:
        num_prompts: Validation prompts, one seed each; the same for every check.
        every: Generations between two checks.
        patience: Checks without a better score after which the search stops.
        seed: Draws prompts and seeds; apart from the run's seed, so that runs can be compared.
    """

    num_prompts: int = Field(default=64, ge=2)
    every: int = Field(default=4, ge=1)
    patience: int = Field(default=6, ge=1)
    seed: int = Field(default=1, ge=0)


class Test(Section):
    """How the gain is measured, once, at the end.

    Attributes:
        num_prompts: Test prompts, each with a fresh seed.
        seed: Draws prompts and seeds.
    """

    num_prompts: int = Field(default=256, ge=2)
    seed: int = Field(default=2, ge=0)


class BySteps(Section):
    """The same comparison at other numbers of denoising steps.

    Attributes:
        steps: Step counts besides the calibrated one.
        num_prompts: Test prompts at each, the first of the test bucket.
        num_validation: Validation prompts on which the neutral setting is chosen at each.
    """

    steps: tuple[Annotated[int, Field(ge=1)], ...] = ()
    num_prompts: int = Field(default=128, ge=2)
    num_validation: int = Field(default=48, ge=2)


class Config(Section):
    """One calibration.

    Attributes:
        name: Prefix of the run's name; defaults to the adapter's.
        adapter: The backbone and its options.
        objectives: The rewards by name; a single name stands for itself with weight 1.
        prompts: Where prompts come from; `files` takes `train`, `validation` and `test` paths.
        optimizer: The searcher and its options.
        generations: The most generations to search.
        bucket_size: Prompts in a bucket, shared by all candidates of a generation.
        seed: Drives the optimizer and the training buckets.
        validation: How recommendations are judged.
        test: How the gain is measured.
        by_steps: The comparison at other step counts.
    """

    name: str | None = Field(default=None, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    adapter: NamedPart
    objectives: Annotated[dict[str, Reward], BeforeValidator(_by_key)] = Field(min_length=1)
    prompts: NamedPart
    optimizer: Annotated[NamedPart, BeforeValidator(_cma_es_unless_named)] = Part(name="cma-es")
    generations: int = Field(default=200, ge=1)
    bucket_size: int = Field(default=16, ge=1)
    seed: int = Field(default=0, ge=0)
    validation: Validation = Validation()
    test: Test = Test()
    by_steps: BySteps = BySteps()

    @model_validator(mode="after")
    def _something_to_optimize(self) -> Config:
        if all(reward.weight == 0 for reward in self.objectives.values()):
            raise ValueError("every objective has weight 0, so there is nothing to optimize")
        return self

    @property
    def weights(self) -> dict[str, float]:
        """Objective name to its weight in the fitness, watched ones left out."""
        return {name: reward.weight for name, reward in self.objectives.items() if reward.weight}

    @property
    def fingerprint(self) -> str:
        """A digest of every key that can change a number."""
        return digest(self.model_dump(mode="json", exclude={"name"}))


def presets() -> list[str]:
    """Names of the configurations shipped with the package."""
    folder = resources.files("trimpot.presets")
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def load_config(source: str | Path | Mapping[str, Any], overrides: Sequence[str] = ()) -> Config:
    """Read and validate a configuration.

    Args:
        source: A preset's name, the path of a YAML file, or the mapping itself.
        overrides: `key=value` pairs with dotted keys; values are read as YAML.

    Raises:
        ConfigError: In one sentence, if it cannot be found, read or run as written.
    """
    values, where = (dict(source), "config") if isinstance(source, Mapping) else _read(source)
    for override in overrides:
        _apply(values, override)
    _anchor(values, Path.cwd())
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        raise ConfigError(f"{where}: {_sentence(error)}") from None


def parse_options(pairs: Sequence[str]) -> dict[str, Any]:
    """Read `key=value` pairs into a mapping, values as YAML.

    Raises:
        ConfigError: If one is not of this form.
    """
    values: dict[str, Any] = {}
    for pair in pairs:
        _apply(values, pair)
    return values


def _read(source: str | Path) -> tuple[dict[str, Any], str]:
    import yaml

    path = Path(source)
    if path.suffix in (".yaml", ".yml") or path.is_file():
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
            raise ConfigError(f"cannot read the configuration {path}: {reason}") from None
    elif str(source) in presets():
        text = (resources.files("trimpot.presets") / f"{source}.yaml").read_text(encoding="utf-8")
    else:
        raise ConfigError(f"no preset or file {str(source)!r}; {near_misses(str(source), presets())}")
    try:
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" in line {mark.line + 1}" if mark else ""
        raise ConfigError(f"{source} is not valid YAML{line}: {getattr(error, 'problem', error)}") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{source} must be a mapping of keys to values, with at least 'adapter' and 'objectives'")
    _anchor(values, path.parent.absolute())
    return values, str(source)


def _anchor(values: dict[str, Any], folder: Path) -> None:
    """Make the paths of prompt files absolute, so that a run can be resumed from anywhere."""
    prompts = values.get("prompts")
    if isinstance(prompts, dict) and prompts.get("name") == "files":
        paths = {key: str(folder / value) for key, value in prompts.items() if key != "name" and isinstance(value, str)}
        values["prompts"] = {**prompts, **paths}


def _apply(values: dict[str, Any], override: str) -> None:
    import yaml

    key, equals, text = override.partition("=")
    if not equals or not key:
        raise ConfigError(f"override {override!r} is not of the form key=value, such as optimizer.sigma0=0.1")
    *parents, last = key.split(".")
    section = values
    for parent in parents:
        inner = section.get(parent)
        if isinstance(inner, str):
            inner = {"name": inner} if section is values and parent != "objectives" else {inner: {}}
        if inner is None:
            inner = {}
        if not isinstance(inner, dict):
            raise ConfigError(f"override {override!r}: {parent!r} is a single value and has no key {last!r}")
        section[parent] = dict(inner)
        section = section[parent]
    try:
        section[last] = yaml.safe_load(text)
    except yaml.YAMLError:
        raise ConfigError(f"override {override!r}: {text!r} is not a YAML value") from None


def _sentence(error: ValidationError) -> str:
    """The first validation error as one sentence, with near misses for unknown keys."""
    first = error.errors()[0]
    path = [str(part) for part in first["loc"]]
    key = ".".join(path)
    if first["type"] == "extra_forbidden":
        model: Any = Config
        for part in path[:-1]:
            model = model.model_fields[part].annotation
        return f"unknown key {key!r}; {near_misses(path[-1], model.model_fields)}"
    if first["type"] == "missing":
        return f"key {key!r} is missing"
    message = first["msg"].removeprefix("Value error, ")
    return f"{key!r}: {message}, not {first['input']!r}" if path else message
