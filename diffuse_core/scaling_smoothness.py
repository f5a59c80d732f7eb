"""How smooth the components are: chosen by observations that the fit has not seen."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from diffuse_core.scaling_problem import Parameters, Problem
from diffuse_core.scaling_solver import curvature_at, fit

SIZES = tuple(10.0 ** (0.5 * k) for k in range(1, -9, -1))
"""Sizes of penalised combinations that are tried, rough to smooth."""

START = 3
"""Index in `SIZES` of what is tried first."""

_FOLDS = ((50_000, 5), (200_000, 3))
_FEWEST_FOLDS = 2
_STEPS = 2
_CLEARLY = 3.0


class Trials:
    """Scores of sets of sizes on held-out observations; each is computed once.

    Every observation is held out once, in one of a few folds. A score is the mean of
    (n - prediction)^2 / variance, with variances that stay the same in all trials.

    Args:
        problem: Rows and terms.
        sizes: Start: a size for each term.
        seed: Of the folds.
    """

    def __init__(self, problem: Problem, sizes: tuple[float, ...], seed: int) -> None:
        n = len(problem.rows)
        folds = next((k for limit, k in _FOLDS if n <= limit), _FEWEST_FOLDS)
        fold = np.random.default_rng(seed).integers(0, folds, n)
        self._problem = problem
        self._folds = []
        self._scores: dict[tuple[float, ...], np.ndarray] = {}
        self._found: dict[tuple[float, ...], list[Parameters]] = {}
        for k in range(folds):
            train = Problem(problem.rows, problem.terms, problem.keep * (fold != k))
            outcome = fit(train, problem.start(), sizes)
            variance = train.variances(train.state(outcome.parameters))
            test = (problem.keep > 0) & (fold == k)
            at = curvature_at(train, outcome.parameters, train.keep / variance)
            self._folds.append((train, variance, test, at))
            self._found.setdefault(sizes, []).append(outcome.parameters)
        self._scores[sizes] = self._score(self._found[sizes])

    def __len__(self) -> int:
        return len(self._scores)

    def __call__(self, sizes: tuple[float, ...], near: tuple[float, ...]) -> float:
        """The score of `sizes`, fitted from the result of `near`."""
        if sizes not in self._scores:
            self._found[sizes] = [
                fit(
                    train, parameters, sizes, _STEPS, train.keep / variance, curvature
                ).parameters
                for (train, variance, _, curvature), parameters in zip(
                    self._folds, self._found[near], strict=True
                )
            ]
            self._scores[sizes] = self._score(self._found[sizes])
        return float(np.mean(self._scores[sizes]))

    def clearly_worse(self, one: tuple[float, ...], other: tuple[float, ...]) -> bool:
        """Whether `one` predicts worse than `other` beyond three standard errors."""
        d = self._scores[one] - self._scores[other]
        return bool(np.mean(d) > _CLEARLY * np.std(d) / np.sqrt(len(d)))

    def parameters(self, sizes: tuple[float, ...]) -> Parameters:
        """Of one of the folds: a start for the fit to all observations."""
        return self._found[sizes][0]

    def _score(self, found: list[Parameters]) -> np.ndarray:
        parts = []
        for (train, variance, test, _), parameters in zip(
            self._folds, found, strict=True
        ):
            state = train.state(parameters)
            n, s, _ = train.sums(state, train.keep / variance)
            known = test & train.per_row(s > 0)
            s = train.per_row(s)[known]
            a = state.a[known]
            residual = state.y[known] - a * train.per_row(n)[known] / s
            parts.append(residual**2 / (variance[known] + a**2 / s))
        return np.concatenate(parts)


def choose_sizes(
    problem: Problem,
    seed: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[list[float], list[dict[str, float]], Parameters]:
    """The size for each term that predicts held-out observations best.

    One term after the other, the sizes of the others kept: first over every other size,
    then to those beside the best.

    Args:
        problem: Rows and terms. Terms with a size of their own keep it.
        seed: Of the folds.
        progress: Called with (trials done, trials to expect).

    Returns:
        Sizes; per term size -> score for all that was tried, as text and number; start
        values for a fit with these sizes.
    """
    given = [term.component.smoothness for term in problem.terms]
    best = tuple(SIZES[START] if size is None else size for size in given)
    free = [i for i, size in enumerate(given) if size is None]
    trials = Trials(problem, best, seed)
    expected = 1 + (len(SIZES) // 2 + 2) * len(free)
    curves: list[dict[str, float]] = [{} for _ in given]
    for reach, stride in ((len(SIZES), 2), (1, 1)):
        for i in free:
            start = SIZES.index(best[i])
            for direction in (1, -1):
                last = best
                for step in range(1, reach + 1):
                    level = start + direction * step * stride
                    if not 0 <= level < len(SIZES):
                        break
                    trial = (*best[:i], SIZES[level], *best[i + 1 :])
                    curves[i][f"{best[i]:.3g}"] = trials(best, best)
                    curves[i][f"{SIZES[level]:.3g}"] = trials(trial, last)
                    progress(min(len(trials), expected), expected)
                    last = trial
                    if trials.clearly_worse(trial, best):
                        break
                    if trials(trial, best) < trials(best, best):
                        best = trial
    progress(expected, expected)
    return list(best), curves, trials.parameters(best)
