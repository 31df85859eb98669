"""The driver's proxies for the parts that workers hold. They forward each call to a worker and hold no weights."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..engine.bucket import Bucket, PromptSet
from ..engine.knobs import Setting
from ..engine.seams import Adapter, Objective, Output, Population
from ..setup.config import Config
from .bench import Outline
from .crew import Crew
from .seats import Hello


class DistantAdapter(Adapter):
    """The backbone of a crew.

    Args:
        crew: The crew, of which any worker answers.
        outline: The values that are known without asking a worker.
    """

    def __init__(self, crew: Crew, outline: Outline) -> None:
        self._crew = crew
        self.space, self.num_steps, self.makes, self.frozen = (
            outline.space,
            outline.num_steps,
            outline.makes,
            outline.frozen,
        )
        self.uses_seed = outline.uses_seed
        self.outputs_per_call, self.mixes_buckets = outline.outputs_per_call, outline.mixes_buckets

    def generate(self, population: Population, bucket: Bucket) -> Iterable[Sequence[Output]]:
        """Let one worker generate outputs. See `Adapter.generate`."""
        made: list[list[Output]] = self._ask("generate", population, bucket)
        return made

    def describe(self) -> Mapping[str, Any]:
        """See `Adapter.describe`."""
        described: Mapping[str, Any] = self._ask("describe")
        return described

    def neutrals(self) -> Mapping[str, Setting]:
        """See `Adapter.neutrals`."""
        settings: Mapping[str, Setting] = self._ask("neutrals")
        return settings

    def with_steps(self, num_steps: int) -> DistantAdapter:
        """See `Adapter.with_steps`."""
        other = copy(self)
        other.num_steps = num_steps
        return other

    def tied(self, granularity: str) -> Mapping[str, Sequence[str]]:
        """See `Adapter.tied`."""
        ties: Mapping[str, Sequence[str]] = self._ask("tied", granularity)
        return ties

    def export(self, setting: Setting, neutral: Setting) -> Mapping[str, Any]:
        """See `Adapter.export`."""
        exported: Mapping[str, Any] = self._ask("export", setting, neutral)
        return exported

    def _ask(self, method: str, *args: Any) -> Any:
        return self._crew.call("adapter", self.num_steps, method, *args).result()


class DistantObjective(Objective):
    """A reward of a crew.

    Args:
        crew: The crew, of which any worker answers.
        name: The reward's name in the run.
        scores_sets: See `Objective`.
        takes_metadata: See `Objective`.
    """

    def __init__(self, crew: Crew, name: str, scores_sets: bool, takes_metadata: bool) -> None:
        self._crew, self._name = crew, name
        self.scores_sets, self._takes_metadata = scores_sets, takes_metadata

    @property
    def takes_metadata(self) -> bool:
        """See `Objective.takes_metadata`."""
        return self._takes_metadata

    def score(self, outputs: Sequence[Output], prompts: Sequence[str]) -> NDArray[np.float64]:
        """Let one worker score outputs. See `Objective.score`."""
        scores: NDArray[np.float64] = self._ask("score", outputs, prompts)
        return scores

    def tag(self, prompt: str) -> str | None:
        """See `Objective.tag`."""
        tag: str | None = self._ask("tag", prompt)
        return tag

    def describe(self) -> Mapping[str, Any]:
        """See `Objective.describe`."""
        described: Mapping[str, Any] = self._ask("describe")
        return described

    def _ask(self, method: str, *args: Any) -> Any:
        return self._crew.call("objective", self._name, method, *args).result()


@dataclass(frozen=True)
class DistantParts:
    """The parts of a run that a crew holds; see `setup.assembly.Parts`."""

    config: Config
    adapter: Adapter
    objectives: Mapping[str, Objective]
    prompts: PromptSet
    versions: Mapping[str, str]
    made_of: Mapping[str, Any]

    def origins(self) -> Mapping[str, Any]:
        """The origins of the parts; see `engine.identity`."""
        return self.made_of


def parts_of(crew: Crew, hello: Hello, config: Config, prompts: PromptSet) -> DistantParts:
    """Return the parts of a crew that has been opened.

    Args:
        crew: The crew that holds the parts.
        hello: The answer of the first worker.
        config: The configuration that names the parts.
        prompts: The prompts of the run.
    """
    outline: Outline = crew.call("outline").result()
    objectives = {name: DistantObjective(crew, name, *known) for name, known in outline.objectives.items()}
    adapter = DistantAdapter(crew, outline)
    return DistantParts(config, adapter, objectives, prompts, hello.versions, outline.origins)
