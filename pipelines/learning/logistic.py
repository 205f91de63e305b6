"""Logistic regression on sparse rows, several outcomes at once, by Newton's method with conjugate gradients.

Truncated Newton steps as in Lin, Weng & Keerthi (2008), damped where the loss would grow. Sums run in one
order whatever the number of cores, so that the same rows give the same bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

Floats = NDArray[np.float64]

_NEWTON, _CONJUGATE, _HALVINGS = 15, 12, 8


@dataclass(frozen=True)
class Logistic:
    """P(outcome k | row x) = sigmoid(x · weights[:, k] + bias[k]); shapes (columns, k) and (k,)."""

    weights: Floats
    bias: Floats

    def logits(self, rows: csr_matrix) -> Floats:
        """Return the logits, shape (n, k)."""
        found: Floats = rows @ self.weights + self.bias
        return found


def fit_logistic(rows: csr_matrix, targets: Floats, weights: Floats, strength: float) -> Logistic:
    """Minimise strength · Σ weight · cross-entropy + |w|² / 2, for each outcome by itself; biases are free.

    `rows` (n, columns); `targets` (n, k) in [0, 1], shares of votes included; `weights` (n, k) ≥ 0.
    Stops where the gradient has fallen to a thousandth, or after 15 Newton steps.
    """
    problem = _Problem(rows, rows.T.tocsr(), targets, strength * weights)
    total = np.maximum(problem.weights.sum(axis=0), 1e-12)
    mean = np.clip((problem.weights * targets).sum(axis=0) / total, 1e-6, 1 - 1e-6)
    found = np.vstack([np.zeros((rows.shape[1], targets.shape[1])), np.log(mean / (1 - mean))])
    first: Floats | None = None
    for _ in range(_NEWTON):
        logits = problem.logits(found)
        gradient, curvature = problem.slope(found, logits)
        size = np.sqrt((gradient**2).sum(axis=0))
        first = size if first is None else first
        if (size <= 1e-3 * np.maximum(first, 1e-12)).all():
            break
        step = _conjugate(problem, gradient, curvature)
        found = _damped(problem, found, logits, step)
    return Logistic(found[:-1], found[-1])


@dataclass(frozen=True)
class _Problem:
    """The loss over parameters (columns + 1, k), the bias last; all k problems side by side."""

    rows: csr_matrix
    turned: csr_matrix
    targets: Floats
    weights: Floats

    def logits(self, found: Floats) -> Floats:
        product: Floats = self.rows @ found[:-1] + found[-1]
        return product

    def back(self, values: Floats) -> Floats:
        return np.vstack([self.turned @ values, values.sum(axis=0)])

    def loss(self, found: Floats, logits: Floats) -> Floats:
        entropy = np.logaddexp(0.0, logits) - self.targets * logits
        return (self.weights * entropy).sum(axis=0) + 0.5 * (found[:-1] ** 2).sum(axis=0)

    def slope(self, found: Floats, logits: Floats) -> tuple[Floats, Floats]:
        """Return the gradient, and each row's curvature (n, k)."""
        chance = 1 / (1 + np.exp(-logits))
        gradient = self.back(self.weights * (chance - self.targets))
        gradient[:-1] += found[:-1]
        return gradient, self.weights * chance * (1 - chance)

    def bend(self, curvature: Floats, direction: Floats) -> Floats:
        """Multiply the Hessian with a direction."""
        product = self.back(curvature * self.logits(direction))
        product[:-1] += direction[:-1]
        product[-1] += 1e-9 * direction[-1]
        return product


def _conjugate(problem: _Problem, gradient: Floats, curvature: Floats) -> Floats:
    """Solve Hessian · step = -gradient, roughly."""
    step = np.zeros_like(gradient)
    rest = -gradient
    direction, size = rest.copy(), (rest**2).sum(axis=0)
    goal = 0.01 * size
    for _ in range(_CONJUGATE):
        if (size <= goal).all():
            break
        bent = problem.bend(curvature, direction)
        along = (direction * bent).sum(axis=0)
        length = np.divide(size, along, out=np.zeros_like(size), where=along > 0)
        step += length * direction
        rest -= length * bent
        grown = (rest**2).sum(axis=0)
        direction = rest + np.divide(grown, size, out=np.zeros_like(size), where=size > 0) * direction
        size = grown
    return step


def _damped(problem: _Problem, found: Floats, logits: Floats, step: Floats) -> Floats:
    """Go the whole step, or half of it, or … : so far that no outcome's loss grows."""
    before = problem.loss(found, logits)
    moved = problem.logits(step)
    share = np.ones(found.shape[1])
    for _ in range(_HALVINGS):
        grown = problem.loss(found + share * step, logits + share * moved) > before
        if not grown.any():
            break
        share = np.where(grown, share / 2, share)
    else:
        share = np.where(grown, 0.0, share)
    return found + share * step
