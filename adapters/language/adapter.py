"""The adapter for language models: scales on a causal model's residual branches, and its likelihoods or texts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import groupby
from typing import Any, TypeVar

import torch
from torch import Tensor

from ...engine.answer import Answer, Likelihood
from ...engine.bucket import Bucket, PromptSet
from ...engine.knobs import Setting
from ...engine.seams import Adapter, Population
from ...ground.batches import Batches
from ...ground.devices import first_sentence, keep_freed_memory
from ...ground.errors import ModelError
from ...ground.plain import quoted
from ..layout import Layout
from ..likeness import weights_of
from ..liveness import dead_sites
from ..scaling import Scaling
from ..sites import find_sites
from .asking import Manner, Manners
from .generation import generated
from .items import Item, Limits, Wording, item_of
from .likelihood import Coarse, Passage, Predicted, caches, predicted
from .options import LanguageOptions, mistake
from .probing import check_causal, run_on_tokens, sharing

Row = tuple[int, str, int]  # candidate, prompt, seed
Shared = TypeVar("Shared")


class LanguageOutline(Adapter):
    """The knobs of a causal language model, which may be on the meta device; it makes no answers.

    Args:
        model: The model.
        source: The model's source, for `describe`: `id`, and `revision` or a digest of its weights.
        options: The adapter's options.

    Raises:
        ModelError: If no block of the model is covered, or options exclude each other.
    """

    makes = "text"
    mixes_buckets = True

    def __init__(self, model: Any, source: Mapping[str, Any], options: LanguageOptions) -> None:
        if problem := mistake(options):
            raise ModelError(problem)
        self.model, self.options, self._source = model, options, dict(source)
        sites = find_sites(model, options.blocks)
        example: dict[str, Any] = {"input_ids": torch.tensor([[1, 2, 3]], device=model.device)}
        example |= {"use_cache": False} if caches(model) else {}
        dead = run_on_tokens(model, lambda: dead_sites(model, sites, example))
        self._manners = Manners(options)
        self.layout = Layout(
            sites,
            ["all"],
            granularity=options.granularity,
            low=options.low,
            high=options.high,
            dead=dead,
            others=self._manners.knobs,
        )
        self.space, self.frozen = self.layout.space, self.layout.frozen
        self.holds = ("written",) if options.mode == "generate" else ("reference", "options")
        self.holds += ("divergence",) if options.divergence else ()
        self.uses_seed = options.mode == "generate" and options.temperature > 0
        self.outputs_per_call = options.batch_size  # not the size that fits memory: a resumed run repeats calls

    def generate(self, population: Population, bucket: Bucket) -> list[list[Answer]]:
        """Raise an error, because there are no weights. See `Adapter.generate`."""
        raise ModelError("an outline has no weights to answer with; leave out the option outline")

    def neutrals(self) -> dict[str, Setting]:
        """Return the untouched model with every way of asking. See `Adapter.neutrals`."""
        return self._manners.neutrals(self.space.to_setting(self.space.defaults))

    def tied(self, granularity: str) -> dict[str, list[str]]:
        """Map coarser knobs to the knobs of this space that they tie. See `Adapter.tied`."""
        return self.layout.tied(granularity)

    def describe(self) -> dict[str, Any]:
        """Return the model's source and the layout of its knobs. See `Adapter.describe`."""
        return {
            "id": self._source.get("id"),
            "source": self._source,
            "transformer": type(self.model).__name__,
            "granularity": self.layout.granularity,
            "frozen": list(self.frozen),
            **self._manners.describe(),
        }


class LanguageAdapter(LanguageOutline):
    """A causal language model with knobs on its residual branches.

    Hooks are attached once and are active only while outputs are made; at other times the model is untouched.

    Args:
        model: The model, on its device and in its dtype.
        tokenizer: Its tokenizer.
        source: See `LanguageOutline`.
        options: The adapter's options.

    Raises:
        ModelError: If no block of the model is covered, or options exclude each other or do not fit.
    """

    def __init__(self, model: Any, tokenizer: Any, source: Mapping[str, Any], options: LanguageOptions) -> None:
        super().__init__(model, source, options)
        chat = any(each.chat for each in self._manners.formats)
        self._wording = Wording(tokenizer, limits(model, options), chat=chat, system=options.system)
        self._pad = padding(model, tokenizer)
        check_causal(model)
        writes = options.mode == "generate"
        self._sharing = sharing(model, self._pad, "front" if writes else "end")
        if writes and self._sharing == "any" and getattr(model, "_is_stateful", False):
            self._sharing = "length"  # a recurrent state has no mask
        self._items: dict[str, Item] = {}
        self._passages: dict[tuple[str, Manner], tuple[list[str], list[Passage]]] = {}
        self._free: dict[tuple[str, Manner], Passage] = {}
        self._neutral: dict[tuple[str, Manner], Coarse] = {}
        self._batches = Batches(options.batch_size, partial(_no_room, options))
        self._scaling = Scaling(model, self.layout.sites)
        if model.device.type == "cpu":
            keep_freed_memory()

    def take_metadata(self, metadata: Mapping[str, Mapping[str, Any]]) -> None:
        """Read the answers and options of prompts. See `Adapter.take_metadata`."""
        if self.options.mode == "likelihood":
            self._items |= {prompt: item_of(prompt, about) for prompt, about in metadata.items()}
            self._passages.clear()

    @property
    def takes_metadata(self) -> bool:
        """Whether answers are read; see `Adapter.takes_metadata`."""
        return self.options.mode == "likelihood" or self._manners.shows

    def take_prompts(self, prompts: PromptSet) -> None:
        """Choose the examples among the training prompts. See `Adapter.take_prompts`."""
        self._manners.take(prompts)
        for known in (self._passages, self._free, self._neutral):
            known.clear()

    def check_prompts(self, prompts: Sequence[str]) -> None:
        """Turn all prompts into tokens, and refuse those that cannot be used. See `Adapter.check_prompts`.

        Raises:
            ModelError: If a prompt has no answer, or too many tokens, or options are biased and there are none.
        """
        for prompt in dict.fromkeys(prompts):
            for manner in self._manners.all:
                if self.options.mode == "likelihood":
                    self._asked(prompt, manner)
                else:
                    self._wording.context(self._manners.asked(prompt, manner))
        if self._manners.biased:
            options = dict.fromkeys(option for prompt in prompts for option in self._item(prompt).options)
            if not options:
                raise ModelError("bias_grid is for prompts with options, and no prompt has any; leave it out")
            for manner in self._manners.all:
                for option in options:
                    self._unprompted(option, manner)

    def generate(self, population: Population, bucket: Bucket) -> list[list[Answer]]:
        """Make the answers of candidates on one bucket. See `Adapter.generate`."""
        return self.generate_each(population, [bucket] * len(population))

    def generate_each(self, population: Population, buckets: Sequence[Bucket]) -> list[list[Answer]]:
        """Make answers, with any candidates, prompts and seeds in one pass. See `Adapter.generate_each`."""
        table, _ = self.layout.tables(population)
        scales = torch.from_numpy(table[:, 0]).float().to(self.model.device)  # (population_size, num_sites)
        rows: list[Row] = [
            (candidate, prompt, seed)
            for candidate, bucket in enumerate(buckets)
            for prompt, seed in zip(bucket.prompts, bucket.seeds, strict=True)
        ]
        manners = [self._manners.of(self.space.to_setting(vector)) for vector in population]
        with self._scaled() as scale:
            if self.options.mode == "generate":
                answers = iter(self._texts(rows, manners, scales, scale))
            else:
                answers = iter(self._likelihoods(rows, manners, scales, scale))
        return [[next(answers) for _ in bucket.prompts] for bucket in buckets]

    def _texts(self, rows: Sequence[Row], manners: Sequence[Manner], scales: Tensor, scale: Any) -> list[Answer]:
        """Generate a text for each row."""
        asked = [self._manners.asked(prompt, manners[candidate]) for candidate, prompt, _ in rows]
        lengths = {each: len(self._wording.context(each)) for each in dict.fromkeys(asked)}
        sizes = [lengths[each] for each in asked]
        order = sorted(range(len(rows)), key=sizes.__getitem__)  # rows of like length fill up little

        def work(batch: Sequence[int]) -> list[Answer]:
            made: list[Answer] = []
            for places in self._shared(batch, sizes.__getitem__):
                scale(scales[[rows[at][0] for at in places]])
                prompts, seeds = [asked[at] for at in places], [rows[at][2] for at in places]
                made += generated(self.model, self._wording, prompts, seeds, self._pad, self.options)
            return made

        return _unsorted(self._batches.map(order, work), order)

    def _likelihoods(self, rows: Sequence[Row], manners: Sequence[Manner], scales: Tensor, scale: Any) -> list[Answer]:
        """Compute the likelihoods of each row's texts, each text in a row of its own."""
        ways = [replace(each, bias=0.0) for each in manners]  # the bias changes no token
        if self.options.divergence:
            for prompt, way in dict.fromkeys((prompt, ways[candidate]) for candidate, prompt, _ in rows):
                self._neutral_of(prompt, way, scale)
        asked: list[tuple[int, Passage, tuple[str, Manner] | None]] = [
            (candidate, passage, (prompt, ways[candidate]) if self.options.divergence and not which else None)
            for candidate, prompt, _ in rows
            for which, passage in enumerate(self._asked(prompt, ways[candidate])[1])
        ]
        unprompted = dict.fromkeys(
            (candidate, option)
            for candidate, prompt, _ in rows
            for option in (self._item(prompt).options if manners[candidate].bias else ())
        )
        asked += [(candidate, self._unprompted(text, ways[candidate]), None) for candidate, text in unprompted]
        order = sorted(range(len(asked)), key=lambda at: asked[at][1].length)

        def work(batch: Sequence[tuple[int, Passage, Any]]) -> list[tuple[Predicted, float | None]]:
            made: list[Predicted] = []
            for group in self._shared(batch, lambda each: each[1].length):
                scale(scales[[candidate for candidate, _, _ in group]])
                compared = [bool(key) for *_, key in group]
                made += predicted(self.model, [passage for _, passage, _ in group], self._pad, compared)
            return [
                (one, None if one.table is None else self._neutral[key].divergence(one.table))
                for one, (_, _, key) in zip(made, batch, strict=True)
            ]

        found = iter(_unsorted(self._batches.map([asked[at] for at in order], work), order))
        made = [[next(found) for _ in self._asked(prompt, ways[candidate])[1]] for candidate, prompt, _ in rows]
        biases: list[dict[str, float]] = [{} for _ in manners]
        for candidate, text in unprompted:
            biases[candidate][text] = manners[candidate].bias * float(next(found)[0].logprobs.sum())
        return [
            self._answer(prompt, ways[candidate], each, biases[candidate])
            for (candidate, prompt, _), each in zip(rows, made, strict=True)
        ]

    def _shared(self, batch: Sequence[Shared], size: Callable[[Shared], int]) -> list[list[Shared]]:
        """Divide a batch, sorted by size, into rows that can share a pass."""
        if self._sharing == "any":
            return [list(batch)]
        groups = [list(group) for _, group in groupby(batch, key=size)]
        return groups if self._sharing == "length" else [[row] for group in groups for row in group]

    def _unprompted(self, text: str, manner: Manner) -> Passage:
        """Return the passage of an option where nothing is asked."""
        if (text, manner) not in self._free:
            given, said = self._wording.continued(self._manners.asked(self._manners.content_free, manner), text)
            self._free[text, manner] = Passage(tuple(given), tuple(said))
        return self._free[text, manner]

    def _answer(
        self,
        prompt: str,
        manner: Manner,
        made: Sequence[tuple[Predicted, float | None]],
        biases: Mapping[str, float],
    ) -> Answer:
        """Put together what was computed of a prompt's texts."""
        item = self._item(prompt)
        texts, passages = self._asked(prompt, manner)
        known = {
            text: Likelihood(text, float(one.logprobs.sum()), len(passage.text), one.best == passage.text)
            for text, passage, (one, _) in zip(texts, passages, made, strict=True)
        }
        options = tuple(replace(known[each], bias=biases.get(each, 0.0)) for each in item.options)
        first, divergence = made[0]
        if options:
            said = max(options, key=lambda each: each.unbiased).text
        else:
            said = "" if item.answer is None else self._said(item.answer, first, passages[0])
        return Answer(
            said,
            reference=known[texts[0]] if item.answer is not None or not options else None,
            options=options,
            divergence=divergence,
        )

    def _said(self, answer: str, made: Predicted, passage: Passage) -> str:
        """Return the most likely tokens at the places of an answer: the answer itself if they are its own."""
        return answer if made.best == passage.text else self._wording.text(made.best)

    def _neutral_of(self, prompt: str, manner: Manner, scale: Any) -> None:
        """Compute, once, what the neutral model predicts at the places of a prompt's first text, in a pass alone."""
        if (prompt, manner) not in self._neutral:
            scale(None)
            [made] = predicted(self.model, self._asked(prompt, manner)[1][:1], self._pad, [True])
            assert made.table is not None, "it was asked for"
            self._neutral[prompt, manner] = Coarse.of(made.table)

    def _item(self, prompt: str) -> Item:
        return self._items.get(prompt) or Item(prompt)

    def _asked(self, prompt: str, manner: Manner) -> tuple[list[str], list[Passage]]:
        """Return the texts of a prompt whose likelihoods are computed, the answer first, and their tokens.

        Raises:
            ModelError: If the prompt has neither an answer nor options, and is not prose.
        """
        if (prompt, manner) not in self._passages:
            texts = list(self._item(prompt).texts)
            if texts:
                asked = self._manners.asked(prompt, manner)
                pairs = [self._wording.continued(asked, text) for text in texts]
            elif self.options.prose:
                texts, pairs = [prompt], [self._wording.prose(prompt)]
            else:
                raise ModelError(
                    f"the prompt {quoted(prompt)} has neither an answer nor options, whose likelihood could be "
                    "computed; give records with an answer, or set mode: generate, or prose: true for texts alone"
                )
            passages = [Passage(tuple(given), tuple(text)) for given, text in pairs]
            self._passages[prompt, manner] = texts, passages
        return self._passages[prompt, manner]

    @contextmanager
    def _scaled(self) -> Iterator[Any]:
        """Give a function that sets the scales of the next pass's rows; in the end the model is untouched again."""
        try:
            yield self._scaling.set
        finally:
            self._scaling.set(None)

    @property
    def largest_batch(self) -> int | None:
        """See `Adapter.largest_batch`."""
        return self._batches.size

    @largest_batch.setter
    def largest_batch(self, size: int | None) -> None:
        self._batches.size = size or self.options.batch_size

    def export(self, setting: Setting, neutral: Setting) -> dict[str, Any]:
        """Return the scales by module, and the way of asking. See `Adapter.export`."""
        blocks = {"blocks": dict(self.options.blocks)} if self.options.blocks else {}
        weights = weights_of({"": self.model}, adapted=True)
        members, asking = self.layout.recipe(setting, neutral), self._manners.export(setting, neutral)
        return {"transformer": type(self.model).__name__, **blocks, "weights": weights, "members": members, **asking}

    def describe(self) -> dict[str, Any]:
        """Return everything that can change an answer. See `Adapter.describe`."""
        options = self.options
        said: dict[str, Any] = {
            **super().describe(),
            "dtype": str(self.model.dtype).removeprefix("torch."),
            "mode": options.mode,
            **self._wording.describe(),
        }
        if options.mode == "likelihood":
            return {**said, "prose": options.prose, "divergence": options.divergence}
        chosen = ("max_new_tokens", "temperature", "top_k", "top_p", "stop")
        return {**said, **options.model_dump(mode="json", include=set(chosen))}

    def close(self) -> None:
        """Remove the hooks; this adapter can no longer make answers."""
        self._scaling.remove()


def _unsorted(made: Sequence[Any], order: Sequence[int]) -> list[Any]:
    """Return results of sorted rows in the rows' own order."""
    back: list[Any] = [None] * len(made)
    for at, one in zip(order, made, strict=True):
        back[at] = one
    return back


def limits(model: Any, options: LanguageOptions) -> Limits:
    """Return how many tokens a model and the options allow.

    Raises:
        ModelError: If the options allow longer prompts than the model.
    """
    most = _most_tokens(model)
    if most is not None and options.max_prompt_tokens is not None and options.max_prompt_tokens > most:
        raise ModelError(
            f"max_prompt_tokens is {options.max_prompt_tokens}, and the model takes at most {most} tokens; lower it"
        )
    writes = options.mode == "generate"
    return Limits(
        model.get_input_embeddings().weight.shape[0],
        most,
        options.max_prompt_tokens,
        options.max_answer_tokens,
        options.max_new_tokens if writes else 0,
    )


def _most_tokens(model: Any) -> int | None:
    """Return the most tokens that a model can be given, or None if its configuration names no limit."""
    config = model.config.get_text_config(decoder=True)
    named = (getattr(config, name, None) for name in ("max_position_embeddings", "max_seq_len"))
    most = next((each for each in named if isinstance(each, int) and each > 0), None)
    for module in model.modules():  # some tables begin to count behind the place for padding
        if isinstance(module, torch.nn.Embedding) and module.num_embeddings == most and module.padding_idx is not None:
            return most - module.padding_idx - 1
    return most


def padding(model: Any, tokenizer: Any) -> int:
    """Return a token to fill rows with; it is masked, so that any token of the vocabulary will do."""
    found = tokenizer.pad_token_id
    size = model.get_input_embeddings().weight.shape[0]
    return int(found) if found is not None and found < size else 0


def _no_room(options: LanguageOptions, error: BaseException) -> ModelError:
    ways = ["a shorter prompt"] if options.mode == "likelihood" else ["fewer max_new_tokens"]
    ways = (["dtype: bfloat16"] if options.dtype == "float32" else []) + ways
    if options.quantization is None:
        ways.insert(0, "quantization")
    return ModelError(
        f"there is not enough memory for one text at a time; choose {' or '.join(ways)} ({first_sentence(error)})"
    )
