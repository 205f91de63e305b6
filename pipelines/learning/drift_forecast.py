"""What a daily series would have done next: the noise that drift must rise above.

A day's rows are not independent (the same people come back, popularity moves, weekends differ), so tests
that count rows fire on nothing. Here the days are the observations. A summary of a day is modelled as

    value(day) = level + weekly season + roaming + dependent day effects + independent noise,

a Gaussian process whose mixing weights, correlation and scale are not estimated but averaged over: a grid
of structures, each with its marginal likelihood on the reference days, the scale integrated out (Student-t).
"Roaming" is a path whose pace changes slowly: it forgives what was on its way in the reference already.
A reference that wandered gives wide forecasts, a quiet one narrow ones, never narrower than independent
sampling of that many rows would be.

Two questions are asked of one Cholesky factor:

- `tail`: how surprising is the mean of a window? A p-value from the posterior predictive distribution.
- `evidence`: has the level shifted on some day, or begun to move, and not come back? The likelihood ratio
  of "since day t" to "went on as before", averaged over t by Shiryaev's geometric prior; the least of
  those of all credible structures. Under each of them it is a martingale (an e-process), so that by
  Ville's inequality the chance that it ever reaches 1/alpha is at most alpha, however often one looks
  (Ramdas, Grünwald, Vovk, Shafer 2023, "Game-theoretic statistics and safe anytime-valid inference"; for
  changes, Shin, Ramdas, Rinaldo 2024, "E-detectors").
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import product

import numpy as np
from scipy.stats import t as student

# The structures averaged over, as shares of the scale: AR(1) correlation and share, season, pace a day.
CORRELATED = ((0.0, 0.0), *product((0.5, 0.8, 0.95), (0.5, 0.9)))
SEASONS = (0.0, 1.0, 6.0)
PACES = (0.0, 0.1, 1.0)
SIZES = (1.0, 5.0)  # of a shift, or of its growth a day: standard deviations of its prior, in scales
INDEPENDENT = 0.1  # prior chance that days do not depend on each other
DIFFUSE = 1e5  # variance of what is unknown beforehand: the level
CREDIBLE = 0.05  # a structure of so much of the weight of the best is to be reckoned with
PACE_DAYS = 10.0  # how long a pace lasts: what rises need not rise for ever
PRIOR_DAYS = 2.0  # the prior of the scale, independent sampling, weighs as much as this many days
PRIOR_SERIES = 10.0  # the prior of the structures weighs as much as this many series
CAUTION = 1.5  # by which the variance of the reference is multiplied for `evidence`: it was estimated
HEAVY = 8.0  # degrees of freedom of a p-value, at most, for each day of its window: days have heavy tails
CLIP = 6.0  # for `evidence`: standard deviations a day may lie off both its forecast and the day before


@dataclass(frozen=True)
class Daily:
    """Daily summaries of columns that were seen on the same days: D days, the first R the reference.

    `day` (D,) day numbers, ascending; `rows` (D,) rows behind each value; `value` (D, m) in units of one
    row's standard deviation; `reference` R; `learned` (D,) marks days whose rows the model learned from:
    their level may differ by an unknown offset (None: no such offset). `inflation` (m,): how many times the
    noise of independent rows is at least to be expected.
    """

    day: np.ndarray
    rows: np.ndarray
    value: np.ndarray
    reference: int
    learned: np.ndarray | None = None
    inflation: np.ndarray | float = 1.0


class Forecast:
    """The forecast of daily series from their reference days."""

    def __init__(self, daily: Daily, run_days: int = 60) -> None:
        self.daily = daily
        self.run_days = run_days
        kernel, self._log_prior, self._roams = _kernels(daily)
        self._chol = np.linalg.cholesky(kernel)
        typical = float(np.median(daily.rows[: daily.reference]))
        self._sampling = np.broadcast_to(daily.inflation, daily.value.shape[1:]) / typical
        self._free = daily.reference - (1 if daily.learned is None else 2)
        self._z = _solve(self._chol, daily.value[None])  # (G, D, m) whitened
        self._learn_prior()

    @property
    def degrees(self) -> float:
        """Degrees of freedom of the scale after the reference."""
        return PRIOR_DAYS + self._free

    def _learn_prior(self) -> None:
        """Let the series tell each other which structures are common (empirical Bayes, two rounds)."""
        prior = np.exp(self._log_prior)
        for _ in range(2):
            found = _normalised(self._log_likelihood()[:, self.daily.reference - 1]).sum(axis=1)
            self._log_prior = np.log((PRIOR_SERIES * prior + found) / (PRIOR_SERIES + found.sum()))

    @cached_property
    def _weights(self) -> np.ndarray:
        """Posterior of each structure after the reference, (G, m)."""
        return _normalised(self._log_likelihood()[:, self.daily.reference - 1])

    @cached_property
    def on_its_way(self) -> np.ndarray:
        """Say which series were still on their way somewhere in the reference, (m,)."""
        return np.asarray(self._weights[self._roams].sum(axis=0) > 0.5)

    @cached_property
    def _scale(self) -> np.ndarray:
        """Posterior variance scale, never below independent sampling, (G, m)."""
        r = self.daily.reference
        squares = PRIOR_DAYS * self._sampling + (self._z[:, :r] ** 2).sum(1)
        return np.asarray(np.maximum(squares / self.degrees, self._sampling))

    def _log_likelihood(self) -> np.ndarray:
        """Log marginal likelihood of each prefix of days, up to constants of the prefix, (G, D, m)."""
        squares = PRIOR_DAYS * self._sampling + np.cumsum(self._z**2, axis=1)
        half = 0.5 * (self.degrees + np.arange(len(self.daily.day)) - self.daily.reference + 1)
        fit: np.ndarray = self._half_logdet[..., None] + half[None, :, None] * np.log(squares)
        likelihood: np.ndarray = self._log_prior[:, None, None] - fit
        return likelihood

    @property
    def _half_logdet(self) -> np.ndarray:
        return np.cumsum(np.log(np.diagonal(self._chol, axis1=1, axis2=2)), axis=1)

    def predicted(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Predict weighted sums of the current days, k of them: means and scales, each (G, k, m).

        `weights` has shape (k, D - R).
        """
        r = self.daily.reference
        mean = weights @ (self._chol[:, r:, :r] @ self._z[:, :r])
        spread = np.linalg.norm(weights @ self._chol[:, r:, r:], axis=-1)
        return mean, spread[..., None] * np.sqrt(self._scale)[:, None]

    def tail(self, window: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Judge the mean of the window's days (mask over all D): two-sided p-values and shifts, (m,)."""
        r = self.daily.reference
        weights = window[r:] / noise(self.daily)[r:]
        weights = (weights / weights.sum())[None]
        mean, scale = self.predicted(weights)
        seen = weights @ self.daily.value[r:]
        p = 2 * student.sf(np.abs(seen[None] - mean) / scale, min(self.degrees, HEAVY * window.sum()))
        posterior = self._weights[:, None]
        shift = (seen - (posterior * mean).sum(0))[0]
        return (posterior * p).sum(0)[0], shift

    def evidence(self) -> tuple[np.ndarray, np.ndarray]:
        """Weigh "it moved, and did not come back" after each current day: e-values and shifts, (T, m)."""
        r, days = self.daily.reference, len(self.daily.day) - self.daily.reference
        mean, scale = self.predicted(np.eye(days))
        posterior = self._weights[:, None]
        centre = (posterior * mean).sum(0)
        spread = np.sqrt((posterior * (scale**2 + (mean - centre) ** 2)).sum(0))
        tame = self.daily.value.copy()
        tame[r:] = _tamed(self.daily.value[r:], centre, CLIP * spread)
        total = self._shifted(_solve(self._chol, tame[None])[:, r:])
        return total, _since_rest(self.daily.value[r:] - centre)

    def _shifted(self, z: np.ndarray) -> np.ndarray:
        """Average, over the day it began, the likelihood ratios of a shift in whitened days z (G, T, m).

        Each structure that the reference leaves credible is asked by itself, with the scale that it had
        there (were it learned on, a large change would look like large noise); the least convinced answers.
        """
        r, days = self.daily.reference, z.shape[1]
        z = z / np.sqrt(CAUTION * self._scale[:, None])
        since = self.daily.day[:, None] - self.daily.day[None, r:] + 1.0
        forms = [_solve(self._chol, form[None])[:, r:] for form in ((since > 0) * 1.0, np.maximum(since, 0))]
        elapsed = self.daily.day[r:] - self.daily.day[r]
        later = (1 - 1 / self.run_days) ** np.append(elapsed, elapsed[-1] + 1)
        prior = later[:-1] - later[1:]  # Shiryaev: the change comes each day with chance 1/run_days
        total = np.broadcast_to(later[1:, None], z.shape).copy()
        for start in range(days):
            for form, size in product(forms, SIZES):  # each (G, T, starts): a step or a slope
                v = size * form[:, start:, start, None]
                power = 1 + np.cumsum(v**2, axis=1)
                gain = 0.5 * np.cumsum(v * z[:, start:], axis=1) ** 2 / power - 0.5 * np.log(power)
                total[:, start:] += prior[start] / (len(forms) * len(SIZES)) * np.exp(np.minimum(gain, 300))
        credible = self._weights >= CREDIBLE * self._weights.max(axis=0)
        return np.asarray(np.where(credible[:, None], total, np.inf).min(axis=0))


def _since_rest(gap: np.ndarray) -> np.ndarray:
    """Average what the days lie off their forecast, (T, m), over the stretch up to each that is off most."""
    sums = np.cumsum(np.concatenate([np.zeros((1, gap.shape[1])), gap]), axis=0)
    last = np.arange(1, len(gap) + 1)
    lengths = last[:, None] - np.arange(len(gap))[None]  # (T, starts)
    means = (sums[1:, None] - sums[None, :-1]) / np.maximum(lengths, 1)[..., None]
    strength = np.where(
        lengths[..., None] > 0, np.abs(means) * np.sqrt(np.maximum(lengths, 0))[..., None], -1.0
    )
    best = strength.argmax(axis=1)[:, None]
    return np.asarray(np.take_along_axis(means, best, axis=1)[:, 0])


def noise(daily: Daily) -> np.ndarray:
    """How much noisier a day is for having fewer rows than a typical reference day, (D,), at least 1."""
    typical = np.median(daily.rows[: daily.reference])
    return np.asarray(np.maximum(typical / np.maximum(daily.rows, 1), 1.0))


def _tamed(values: np.ndarray, centre: np.ndarray, reach: np.ndarray) -> np.ndarray:
    """Bring in days that lie out of reach of both their forecast and the day before: odd ones, (T, m).

    A shift that lasts is brought in on its first day only, a creeping one never.
    """
    before = np.concatenate([centre[:1], values[:-1]])
    low, high = np.minimum(centre, before) - reach, np.maximum(centre, before) + reach
    return np.asarray(np.clip(values, low, high))


def _kernels(daily: Daily) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Covariances (G, D, D) of the structures in units of the scale; their log prior; which roam (G,)."""
    day = daily.day.astype(float)
    gap = np.abs(day[:, None] - day[None])
    white = np.diag(noise(daily))
    weekly = (gap % 7 == 0).astype(float)
    roaming = _roaming(daily.day)
    common = np.full_like(gap, DIFFUSE)
    if daily.learned is not None:
        common = common + DIFFUSE * np.outer(daily.learned, daily.learned)
    seasons = SEASONS if daily.day[daily.reference - 1] - daily.day[0] >= 13 else SEASONS[:1]
    kernels, priors, roams = [], [], []
    for (rho, share), season, pace in product(CORRELATED, seasons, PACES):
        dependent = rho**gap if share else 0.0
        kernels.append((1 - share) * white + share * dependent + season * weekly + pace**2 * roaming + common)
        prior = INDEPENDENT if share == 0 else (1 - INDEPENDENT) / (len(CORRELATED) - 1)
        prior *= 0.5 if season == 0 else 0.5 / (len(SEASONS) - 1)
        priors.append(prior * (0.8 if pace == 0 else 0.2 / (len(PACES) - 1)))
        roams.append(pace > 0)
    kernel = np.stack(kernels) + 1e-9 * np.eye(len(day))
    return kernel, np.log(np.array(priors)), np.array(roams)


def _roaming(day: np.ndarray) -> np.ndarray:
    """Covariance (D, D) of a path whose pace, of variance 1, changes slowly, as of a window that fills."""
    whole = np.arange(day[0], day[-1] + 1)
    pace = np.exp(-np.abs(whole[:, None] - whole[None]) / PACE_DAYS)
    path = pace.cumsum(axis=0).cumsum(axis=1)
    return np.asarray(path[np.ix_(day - day[0], day - day[0])])


def _normalised(log_weights: np.ndarray) -> np.ndarray:
    shifted = np.exp(log_weights - log_weights.max(axis=0, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=0, keepdims=True))


def _solve(chol: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Solve lower-triangular systems, batched: (G, D, D) and (1 or G, D, m)."""
    return np.asarray(np.linalg.solve(chol, np.broadcast_to(right, (len(chol), *right.shape[1:]))))
