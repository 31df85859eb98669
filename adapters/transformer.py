"""The knobs of a transformer's adapter; an adapter without weights needs nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from typing import TYPE_CHECKING, Any

from ..engine.bucket import Bucket
from ..engine.seams import Adapter, Output, Population
from ..ground.errors import ModelError
from .layout import Layout, Sees
from .options import DiffusionOptions, KnobOptions
from .sites import Site, find_sites

if TYPE_CHECKING:
    from torch import nn
    from typing_extensions import Self

    from ..engine.knobs import Setting


class TransformerAdapter(Adapter):
    """The base class of all transformer adapters. It lists and counts knobs; generating needs a pipeline.

    Args:
        transformer: The transformer, or several by the prefix of their knobs' names (empty for the first). The meta
            device is sufficient.
        source: The transformer's source, for `describe`: `id`, and `revision` or a digest of its weights.
        options: The adapter's options, with all defaults filled in.
        members: What each member of the ensemble sees.
        example: Inputs of one forward pass, used to find knobs that cannot reach the output; None skips the search.
        measured: Whether the example is real and the transformer can run on it, which finds more of these knobs.
        guided: Whether neutral weights follow the guidance.
        empty: The prompt that an unconditional member sees; None for that of the pipeline's family.

    Attributes:
        frozen: Knobs that cannot reach the output and are left out of the space.

    Raises:
        ModelError: If the transformer is not covered.
    """

    def __init__(
        self,
        transformer: nn.Module | Mapping[str, nn.Module],
        source: Mapping[str, Any],
        options: KnobOptions,
        members: Sequence[Sees],
        *,
        example: Mapping[str, Any] | None = None,
        measured: bool = False,
        guided: bool = False,
        empty: str | None = None,
    ) -> None:
        models = transformer if isinstance(transformer, Mapping) else {"": transformer}
        sites: list[Site] = []
        dead: list[int] = []
        for prefix, model in models.items():
            found = find_sites(model, options.blocks)
            if options.dead == "freeze" and example is not None:
                from .liveness import dead_sites

                dead += [len(sites) + index for index in dead_sites(model, found, example, measured=measured)]
            sites += [site.within(prefix) for site in found]
        self.options = options
        self.transformer = models[""]
        self._models = models
        self.layout = Layout(
            sites,
            members,
            guidance=options.guidance_scale if guided else None,
            granularity=options.granularity,
            tie_members=isinstance(options, DiffusionOptions) and options.tie_members,
            low=options.low,
            high=options.high,
            dead=dead,
            output_weight=isinstance(options, DiffusionOptions) and options.output_weight,
        )
        self.space = self.layout.space
        self.frozen = self.layout.frozen
        self.num_steps = options.num_inference_steps
        self._source = dict(source)
        self._own_empty = {} if empty is None else {"empty": empty}
        self._grid: tuple[float, ...] = ()
        if guided and isinstance(options, DiffusionOptions) and options.guidance_scale is not None:
            self._grid = tuple(dict.fromkeys((options.guidance_scale, *(options.guidance_grid or ()))))

    def generate(self, population: Population, bucket: Bucket) -> list[list[Output]]:
        """Raise an error, because there are no weights. See `Adapter.generate`."""
        raise ModelError("an outline has no weights to generate with; leave out the option outline")

    def neutrals(self) -> dict[str, Setting]:
        """Return the untouched model's setting at every guidance of the grid. See `Adapter.neutrals`."""
        if not self._grid:
            return {"neutral": self.space.to_setting(self.space.defaults)}
        return {f"guidance {guidance:g}": self.layout.guided(guidance) for guidance in self._grid}

    def with_steps(self, num_steps: int) -> Self:
        """Return the same adapter with another number of steps. See `Adapter.with_steps`."""
        other = copy(self)
        other.num_steps = num_steps
        return other

    def tied(self, granularity: str) -> dict[str, list[str]]:
        """Map coarser knobs to the knobs of this space that they tie. See `Adapter.tied`."""
        return self.layout.tied(granularity)

    def export(self, setting: Setting, neutral: Setting) -> dict[str, Any]:
        """Return each member's weight and its scales by module. See `Adapter.export`."""
        blocks = {"blocks": dict(self.options.blocks)} if self.options.blocks else {}
        from .likeness import weights_of

        members = self.layout.recipe(setting, neutral)
        kind, weights = type(self.transformer).__name__, weights_of(self._models, adapted=True)
        return {"transformer": kind, **blocks, "weights": weights, "members": members, **self._own_empty}

    def describe(self) -> dict[str, Any]:
        """Return the transformer's source and the layout of its knobs. See `Adapter.describe`."""
        return {
            "id": self._source.get("id"),
            "source": self._source,
            "transformer": type(self.transformer).__name__,
            "granularity": self.layout.granularity,
            "members": list(self.layout.members),
            "frozen": list(self.frozen),
            "guidance_grid": list(self._grid),
            **self._own_empty,
        }
