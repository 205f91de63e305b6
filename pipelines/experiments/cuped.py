"""The difference between two arms: ratios by the delta method, narrowed by what was known before (CUPED).

An arm's ratio of means is, for many units, a mean of its linear terms (Deng, Knoblich & Lu 2018). The
difference in the covariate is 0 on average, whatever the arms do, so any multiple of it may be taken off; the
one that leaves least variance is their covariance over the covariate's variance (Deng, Xu, Kohavi & Walker 2013).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipelines.experiments.moments import Floats, Moments

_ROUNDING = 1e-9


@dataclass(frozen=True)
class Difference:
    """Treatment minus control, with its standard error; all of the shape of the moments' leading axes.

    Value and error are NaN where an arm has fewer than two units.

    `information` is n_c n_t / (n_c + n_t): the clock by which a comparison of two arms comes of age.
    """

    value: Floats
    error: Floats
    information: Floats


def compare(control: Moments, treatment: Moments) -> Difference:
    """Estimate the difference of means, or of ratios, adjusted by the covariate where there is one."""
    (at_c, spread_c, scale_c), (at_t, spread_t, scale_t) = _arm(control), _arm(treatment)
    apart, variance = at_t - at_c, spread_t + spread_c
    own, shared, covariate = variance[..., 0, 0], variance[..., 0, 1], variance[..., 1, 1]
    # Where at most one unit has a past, or all have the same, what is left of the variance is rounding alone.
    known = covariate > _ROUNDING * (scale_c + scale_t)
    slope = np.where(known, shared, 0) / np.where(known, covariate, 1)
    error = np.sqrt(np.maximum(own - np.where(known, slope * shared, 0), 0))
    value = apart[..., 0] - np.where(known, slope * apart[..., 1], 0)
    information = control.n * treatment.n / np.maximum(control.n + treatment.n, 1)
    return Difference(value, error, information)


def _arm(moments: Moments) -> tuple[Floats, Floats, Floats]:
    """Return an arm's metric and covariate, (..., 2), their covariance, (..., 2, 2), and of what size the terms were
    that the covariate's variance was added up from."""
    top, bottom, products = moments.mean[..., ::2], moments.mean[..., 1::2], moments.covariance
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = top / bottom
        mixed = products[..., ::2, 1::2] * ratio[..., None, :]
        below = products[..., 1::2, 1::2] * _outer(ratio)
        spread = products[..., ::2, ::2] - mixed - np.swapaxes(mixed, -1, -2) + below
        by = _outer(bottom) * moments.n[..., None, None]
        scale = (np.abs(products[..., ::2, ::2]) + 2 * np.abs(mixed) + np.abs(below)) / by
        return ratio, spread / by, scale[..., 1, 1]


def _outer(pair: Floats) -> Floats:
    return pair[..., :, None] * pair[..., None, :]
