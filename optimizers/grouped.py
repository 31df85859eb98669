"""Grouped search: many small comparisons, each on a fresh prompt and seed, instead of one large comparison.

A search that compares all candidates on the same few prompts overfits to these prompts in each generation. Grouped
search splits its candidates into groups. The candidates of a group share a bucket, on which the centre (the mean
itself) is scored too. A candidate's fitness is its score minus the mean score of its group, so that neither the
difficulty of a prompt nor the luck of a seed enters: the group-relative advantage of GRPO (Shao et al. 2024,
arXiv:2402.03300). The mirrored pairs are from Brockhoff et al. (2010, PPSN XI), the weights and learning rates from
CMA-ES (Hansen 2016, arXiv:1604.00772, table 1), the diagonal from sep-CMA-ES (Ros and Hansen 2008, PPSN X), and the
recommendation is the polynomial-decay average of Shamir and Zhang (2013, ICML).

Generation t, with n candidates, mean m, step size s and standard deviations D; products are elementwise:

    (1)  x = m + s y and m - s y, y = D z, z normal; clipped to the bounds, after which y is (x - m) / s for each
    (2)  a = score - mean score of its group
    (3)  s <- s (r half / drop)^(1/(t + 1))
    (4)  v_i = ln((n + 1)/2) - ln i for the i-th best a; w_i = v_i / sum of positive v, or v_i / |sum of negative v|
    (5)  m <- m + c(t) s sum_i w_i y_i,  c(t) = (1 + t/T)^-0.8
    (6)  p <- (1 - c_c) p + sqrt(c_c (2 - c_c) / sum_i w_i^2) sum_i w_i y_i
    (7)  D^2 <- (1 - c_1 - c_mu) D^2 + c_1 p^2 + c_mu sum_{w_i > 0} w_i y_i^2,  c_1 and c_mu times c(t) (d + 2)/3;
         here y_i is the longer step of a pair, so that D does not vanish at a bound. Then s is multiplied by the
         geometric mean of D / spread, and D and p are divided by it
    (8)  average <- average + (e + 1)/(t + e + 1) (m - average)

**The step finds itself.** Under noise, a step size that is adapted by path length goes to zero or to infinity. (3)
compares two differences of a generation's scores instead. `drop` is the average difference between the centre's score
and those of the candidates, which grows like s^2; the estimated effect of clipping is subtracted. `half` is the root
mean square of half the score difference of a pair, due to slope and noise, which grows at most like s. Where drop is
about half, so that r = 1, a pair tells the most about the best setting (docs/limit.md): shorter steps drown in noise,
longer ones see no slope. By (3) the step is the geometric mean of the steps at which the generations until now would
have had the ratio r. So a first step that is several times too short or too long is put right at once. But the step
does not follow what is measured near the best setting, where it would grow and pull towards settings that are good for
long steps, and it cannot run away. What fades is the learning (5), not the step.

Compared with CMA-ES, (3) is in place of cumulative step-size adaptation, the mean learns at a rate c(t) that fades, and
the covariance is diagonal; sampling, weights, (6) and (7) are those of CMA-ES. With few knobs, (5) would overshoot, so
that r is d/5 of it with d < 5.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ..engine.knobs import KnobSpace, Vector
from ..engine.seams import Optimizer, Population
from ..ground.errors import ConfigError
from .population import large_population_size

FADING = 0.8  # exponent of c(t)
FARTHEST = 4.0  # the largest r half / drop, and its reciprocal the smallest
FEW = 5  # knobs below which r is smaller
AVERAGING = 3  # e: the average covers roughly the last quarter of the generations


class GroupedSearch(Optimizer):
    """A search by mirrored pairs in groups, each group with its own prompt, that recommends an averaged mean.

    A candidate outside a bound is clipped, and its step is computed from its clipped position. Its mirror image keeps
    the full step, so that a mean at a bound can leave the bound.

    Args:
        space: Bounds and spreads; a knob's first standard deviation is `sigma0` times its spread.
        start: First mean, shape (num_knobs,).
        seed: Seeds a private generator.
        sigma0: First step size, in units of the spreads.
        population_size: Candidates per generation, without centres; by default `large_population_size`, rounded down
            to a whole number of groups.
        group_size: Candidates that share a bucket, without their centre; even, because pairs stay together.
        fade: T, the generations after which learning begins to fade; by default 20, or 40 from 100 knobs on.
        drop: r, the target for the candidates' average drop below the centre, in units of `half`.

    Raises:
        ConfigError: If the population is not a whole number of groups of pairs.
    """

    def __init__(
        self,
        space: KnobSpace,
        *,
        start: Vector,
        seed: int,
        sigma0: float = 0.25,
        population_size: int | None = None,
        group_size: int = 8,
        fade: float | None = None,
        drop: float = 1.0,
    ) -> None:
        num_knobs = len(space)
        size = population_size or group_size * max(1, large_population_size(num_knobs) // group_size)
        if group_size % 2 or size % group_size:
            raise ConfigError(
                f"optimizer 'grouped' cannot split {size} candidates into groups of {group_size}; "
                f"group_size must be even and divide population_size"
            )
        self.group_size = group_size + 1
        self._num_groups = size // group_size
        self._generator = np.random.default_rng(np.random.SeedSequence([seed, num_knobs]))
        self._low, self._high = space.bounds
        self._mean = np.array(start, dtype=np.float64)
        self._average = self._mean.copy()
        self._spreads = space.spreads
        self._widths = space.spreads
        self._sigma = sigma0
        self._path = np.zeros(num_knobs)
        self._fade = fade or (20.0 if num_knobs < 100 else 40.0)
        self._ratio = drop * min(1.0, num_knobs / FEW)
        self._generation = 0
        self._weights = _weights(size)
        self._rates = _rates(self._weights, num_knobs)

    def ask(self) -> Population:
        """Sample groups, each as its centre followed by its pairs. See `Optimizer.ask`."""
        num_pairs = (self.group_size - 1) // 2  # type: ignore[operator]
        steps = self._generator.standard_normal((self._num_groups, num_pairs, len(self._mean)))
        steps *= self._sigma * self._widths
        groups = np.empty((self._num_groups, 2 * num_pairs + 1, len(self._mean)))
        groups[:, 0] = self._mean
        groups[:, 1::2] = self._mean + steps  # (1)
        groups[:, 2::2] = self._mean - steps
        return np.clip(groups, self._low, self._high).reshape(-1, len(self._mean))

    def tell(self, population: Population, fitness: Vector) -> None:
        """Move mean, widths and step size. See `Optimizer.tell`.

        Args:
            population: The population that `ask` returned.
            fitness: Scores; the mean of each group may be subtracted or not.
        """
        if len(population) != len(fitness):
            raise ValueError(f"{len(population)} candidates need as many fitness values, not {len(fitness)}")
        groups = np.reshape(fitness, (self._num_groups, -1))
        candidates = groups[:, 1:]
        points = population.reshape(self._num_groups, -1, len(self._mean))[:, 1:]
        steps = (points - self._mean) / self._sigma
        advantages = (candidates - candidates.mean(axis=1, keepdims=True)).ravel()  # (2)
        self._steer(groups[:, 0], candidates, steps.reshape(-1, 2, len(self._mean)))
        weights = np.empty(len(advantages))
        weights[np.argsort(-advantages, kind="stable")] = self._weights  # (4)
        self._move(weights, steps.reshape(-1, len(self._mean)))
        self._generation += 1
        share = (AVERAGING + 1) / (self._generation + AVERAGING)
        self._average += share * (self._mean - self._average)  # (8)

    def recommend(self) -> Vector:
        """Return a weighted average of the means, with larger weights for later ones. See `Optimizer.recommend`."""
        recommended: Vector = np.clip(self._average, self._low, self._high)
        return recommended

    def stop_reason(self) -> str | None:
        """Return a reason to stop if the steps have become too small to matter, otherwise None."""
        largest = float(self._sigma * np.max(self._widths / self._spreads))
        return f"grouped search stopped: its steps have shrunk to {largest:.1g} spreads" if largest < 1e-9 else None

    @property
    def sigma(self) -> float:
        """The geometric mean of the knobs' standard deviations, in units of the spreads."""
        return float(self._sigma)

    def _steer(self, centres: Vector, candidates: NDArray[np.float64], pairs: NDArray[np.float64]) -> None:
        """Apply equation (3), limited to a factor of 4 and to steps that keep half the knobs within their bounds."""
        halves = ((candidates[:, 0::2] - candidates[:, 1::2]) / 2).ravel()
        lopsided = pairs.mean(axis=(0, 1))  # 0 without clipping, whose share in the drop grows like s, not s^2
        across = (pairs[:, 0] - pairs[:, 1]) / 2
        slopes = (halves[:, None] * across).sum(axis=0) / np.maximum(np.square(across).sum(axis=0), 1e-300)
        drop = float((centres - candidates.mean(axis=1)).mean() + (slopes * lopsided).sum())
        half = math.sqrt(float(np.square(halves).mean()))
        if half > 0:
            longer = min(FARTHEST, max(1 / FARTHEST, self._ratio * half / max(drop, 1e-300)))
            self._sigma *= longer ** (1 / (1 + self._generation))
            self._sigma = min(self._sigma, float(np.median((self._high - self._low) / self._widths)))

    def _move(self, weights: Vector, steps: NDArray[np.float64]) -> None:
        """Apply equations (5) to (7)."""
        mass, of_path, of_one, of_many = self._rates
        faded = float((1 + self._generation / self._fade) ** -FADING)
        of_one, of_many = faded * of_one, faded * of_many
        # Sum by numpy instead of BLAS, because the order of BLAS's additions can depend on its threads.
        step = (weights[:, None] * steps).sum(axis=0)
        longer = np.repeat(np.abs(steps.reshape(-1, 2, len(step))).max(axis=1), 2, axis=0)
        squares = (np.maximum(weights, 0)[:, None] * longer**2).sum(axis=0)
        self._mean = np.clip(self._mean + faded * self._sigma * step, self._low, self._high)  # (5)
        self._path = (1 - of_path) * self._path + np.sqrt(of_path * (2 - of_path) * mass) * step  # (6)
        kept = (1 - of_one - of_many) * self._widths**2
        self._widths = np.sqrt(kept + of_one * self._path**2 + of_many * squares)  # (7)
        overall = float(np.exp(np.log(self._widths / self._spreads).mean()))
        self._widths, self._path, self._sigma = self._widths / overall, self._path / overall, self._sigma * overall


def _weights(size: int) -> Vector:
    """Return active weights from best to worst; positive weights sum to 1 and negative weights to -1."""
    raw: Vector = math.log((size + 1) / 2) - np.log(np.arange(1, size + 1))
    above = raw > 0
    weights: Vector = np.where(above, raw / raw[above].sum(), raw / -raw[~above].sum())
    return weights


def _rates(weights: Vector, num_knobs: int) -> tuple[float, float, float, float]:
    """Return 1 / sum of squared weights, c_c, c_1 and c_mu (Hansen 2016, equations 56 to 58; Ros and Hansen 2008).

    c_1 and c_mu are capped at 0.05 and 0.25: with few knobs and many candidates, one generation would otherwise
    replace all earlier information.
    """
    mass = 1 / float(np.square(weights[weights > 0]).sum())
    of_path = (4 + mass / num_knobs) / (num_knobs + 4 + 2 * mass / num_knobs)
    of_one = 2 / ((num_knobs + 1.3) ** 2 + mass)
    of_many = min(1 - of_one, 2 * (mass - 2 + 1 / mass) / ((num_knobs + 2) ** 2 + mass))
    faster = (num_knobs + 2) / 3
    return 1 / float(np.square(weights).sum()), of_path, min(0.05, of_one * faster), min(0.25, of_many * faster)
