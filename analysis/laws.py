"""Laws of the final loss against training tokens, L(D) = E + A·D^-b, one an arm.

The form is the natural one: what we know of the paper has its asymptotes and not its form. E is an
extrapolation, so it depends on the form, and its interval holds only if the form is right. It also
takes the rates at which runs were trained as known. So no verdict is drawn from E: that is for the
losses themselves (`analysis.comparisons.loss_differences`).

Intervals are percentiles of the paired bootstrap of `analysis.bootstrap`. Simulated (least squares,
400 data sets a case, truth known; three seeds, five durations from base/4 to 4 base, noise 0.005 to
0.02 nats a run, 80 % of its variance shared by the arms), 95 % intervals of E and of the difference
covered the truth in 93 to 95 % of cases (two seeds, one case: 94 to 95 %); plain bootstraps in 83
to 87 % (76 %). Where noise falls ninefold from the shortest duration to the longest, E's covered in
92 %.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import stats
from scipy.optimize import least_squares, nnls

from analysis.bootstrap import RESAMPLES, Floats, bootstrap, flat, paired_sample, percentiles
from paper_repro.errors import ConfigError
from paper_repro.statistics import CONFIDENCE, Interval

#: Residuals (nats) up to here count squared, larger ones linearly: twice what a seed usually
#: shifts a loss (0.01). Fixed, so that an outlier cannot raise it.
HUBER = 0.02

#: A law has three numbers; with as many durations it goes through any losses.
FEWEST_DURATIONS = 4

#: Curves steeper than this have reached their asymptote at the second duration.
LARGEST_EXPONENT = 5.0

#: Where fits start. The cost is not convex in b, and one start may end at a bound.
_STARTS = (0.1, 0.3, 1.0, 3.0)

#: When a fit ends: relative changes of the cost and the law, far below what seeds shift.
_TOLERANCE = 1e-10

#: Evaluations after which a fit ends anyway: it wanders in a valley where b hardly matters.
_LONGEST_FIT = 100

#: E (nats) below which a fit has run into its bound, E = 0.
_AT_BOUND = 1e-3


class Law(NamedTuple):
    """L(D) = asymptote + amplitude·D^-exponent, in nats a token, with D in tokens."""

    asymptote: float
    """E, nats."""
    amplitude: float
    """A, nats·tokens^b: what is above E, extrapolated to a single token."""
    exponent: float
    """b."""

    def __call__(self, tokens: ArrayLike) -> Floats:
        return self.asymptote + self.amplitude * np.asarray(tokens, float) ** -self.exponent


@dataclass(frozen=True)
class LawFit:
    """The law of one arm with intervals; they are unknown where a duration has one seed."""

    law: Law
    resampled: tuple[Law, ...]
    """The law in each resample; empty where intervals are unknown."""
    loss_range: float
    """Highest minus lowest loss that was fitted (means over seeds), nats."""
    misfit: float
    """Largest distance of the law from the mean over seeds at a duration, nats."""
    misfit_p: float
    """How probable such distances are if the law is right: the F-test for lack of fit, against the
    spread over seeds. NaN where there is no spread."""

    def interval(self, name: str) -> Interval:
        """A number of the law, by its name there."""
        return percentiles(getattr(self.law, name), self.resamples(name))

    def resamples(self, name: str) -> pd.Series:
        return pd.Series([getattr(law, name) for law in self.resampled], dtype=float)

    @property
    def asymptote(self) -> Interval:
        return self.interval("asymptote")

    @property
    def identified(self) -> bool:
        """Whether the losses say where E is: its interval is off the bound E = 0, and narrower than
        the range of the losses themselves."""
        width = self.asymptote.high - self.asymptote.low
        return self.asymptote.low > _AT_BOUND and width < self.loss_range

    @property
    def rejected(self) -> bool:
        """Whether the losses contradict the law. That they do not is weak support: the test sees
        only what stands out of the noise of single runs, while paired differences are finer."""
        return self.misfit_p < 1 - CONFIDENCE


@dataclass(frozen=True, eq=False)
class ArmLaws:
    """The laws of all arms of a comparison, from common resamples."""

    fits: Mapping[str, LawFit]
    """By arm; an arm with fewer than `FEWEST_DURATIONS` durations has none."""

    def difference(self, first: str, second: str) -> Interval:
        """E of one arm minus E of another, nats; paired, for both saw the same resamples."""
        one, other = self.fits[first], self.fits[second]
        resamples = one.resamples("asymptote") - other.resamples("asymptote")
        return percentiles(one.law.asymptote - other.law.asymptote, resamples)

    def table(self) -> pd.DataFrame:
        """One row an arm: E, A and b with intervals, whether E is identified, and the misfit."""
        return pd.DataFrame(
            {
                "arm": arm,
                **fit.interval("asymptote").columns("asymptote"),
                **fit.interval("amplitude").columns("amplitude"),
                **fit.interval("exponent").columns("exponent"),
                "identified": fit.identified,
                "misfit": fit.misfit,
                "misfit_p": fit.misfit_p,
            }
            for arm, fit in self.fits.items()
        )

    def differences(self) -> pd.DataFrame:
        """One row a pair of arms: E of the first minus E of the second."""
        return pd.DataFrame(
            {
                "first": first,
                "second": second,
                **self.difference(first, second).columns("difference"),
            }
            for first, second in itertools.combinations(self.fits, 2)
        )

    def statement(self, first: str, second: str) -> str:
        """One line on the asymptotes of two arms, or why they say nothing."""
        if undecided := self._undecided(first) or self._undecided(second):
            return undecided
        difference = self.difference(first, second)
        return (
            f"E({first}) − E({second}) = {difference.value:.3f} "
            f"[{difference.low:.3f}, {difference.high:.3f}] nats, if the law holds and the rates "
            "are right: an illustration"
        )

    def _undecided(self, arm: str) -> str:
        """Why the losses of an arm decide nothing; empty if they may."""
        fit = self.fits.get(arm)
        if fit is None:
            return f"Not decided: {arm} has fewer than {FEWEST_DURATIONS} durations, so no law."
        if fit.rejected:
            return (
                f"Not decided: the losses of {arm} do not follow a law of this form "
                f"(misfit {fit.misfit:.3f} nats, p = {fit.misfit_p:.2g})."
            )
        if fit.identified:
            return ""
        low, high = fit.asymptote.low, fit.asymptote.high
        why = f"is not identified, E in [{low:.3f}, {high:.3f}] nats: "
        if math.isnan(low):
            why = "has no interval (a duration with a single seed)"
        elif low <= _AT_BOUND:
            why += "it reaches the bound at 0"
        else:
            why += f"wider than the losses' own range of {fit.loss_range:.3f}"
        return f"Not decided at this scale: the asymptote of {arm} {why}."


def fit_law(tokens: ArrayLike, losses: ArrayLike) -> Law:
    """Fit a law to runs by least Huber loss with E, A and b at least 0.

    Args:
        tokens: training tokens of each run.
        losses: final loss of each run, nats a token.

    Raises:
        ConfigError: if there are fewer than `FEWEST_DURATIONS` durations.
    """
    durations, losses = np.asarray(tokens, float), np.asarray(losses, float)
    count = len(np.unique(durations))
    if count < FEWEST_DURATIONS:
        raise ConfigError(
            f"a law of loss against tokens has three numbers and needs at least "
            f"{FEWEST_DURATIONS} durations, got {count}"
        )
    return _fit(durations, losses, _STARTS)


def fit_arm_laws(losses: pd.DataFrame, resamples: int = RESAMPLES) -> ArmLaws:
    """Fit a law to every arm, with bootstrap intervals; the same losses give the same numbers.

    Args:
        losses: one row a run: `arm`, `seed`, `tokens` and `loss` (nats, finite).
        resamples: how many bootstrap fits an interval is made of.
    """
    sample = paired_sample(losses, "tokens", "loss")
    found = {str(arm): sample[arm].dropna() for arm in losses["arm"].unique() if arm in sample}
    durations = {arm: runs.groupby("tokens").ngroups for arm, runs in found.items()}
    fitted = {arm: runs for arm, runs in found.items() if durations[arm] >= FEWEST_DURATIONS}
    laws = {arm: fit_law(*flat(runs)) for arm, runs in fitted.items()}
    # A resample lies near the data, so starting at their law is enough.
    again = {arm: partial(_fit, starts=[law.exponent]) for arm, law in laws.items()}
    resampled = bootstrap(sample, again, resamples)
    return ArmLaws({arm: _law_fit(law, resampled[arm], fitted[arm]) for arm, law in laws.items()})


def _fit(tokens: Floats, losses: Floats, starts: Sequence[float]) -> Law:
    """The best of the fits that start at these exponents."""
    # About 1 at all durations: A at one token would be ill-conditioned.
    scale = float(np.exp(np.mean(np.log(tokens))))
    log_tokens = np.log(tokens / scale)

    def residuals(law: Floats) -> Floats:
        return np.asarray(law[0] + law[1] * np.exp(-law[2] * log_tokens) - losses)

    def jacobian(law: Floats) -> Floats:
        decay = np.exp(-law[2] * log_tokens)
        return np.stack([np.ones_like(decay), decay, -law[1] * log_tokens * decay], axis=1)

    fits = []
    for exponent in starts:
        terms = np.stack([np.ones_like(log_tokens), np.exp(-exponent * log_tokens)], axis=1)
        asymptote, amplitude = nnls(terms, losses)[0]
        fits.append(
            least_squares(
                residuals,
                [asymptote, amplitude, exponent],
                jac=jacobian,
                bounds=([0, 0, 0], [np.inf, np.inf, LARGEST_EXPONENT]),
                loss="huber",
                f_scale=HUBER,
                xtol=_TOLERANCE,
                ftol=_TOLERANCE,
                gtol=_TOLERANCE,
                max_nfev=_LONGEST_FIT,
            )
        )
    asymptote, amplitude, exponent = min(fits, key=lambda fit: float(fit.cost)).x.tolist()
    return Law(asymptote, amplitude * scale**exponent, exponent)


def _law_fit(law: Law, resampled: list[Law], losses: pd.Series) -> LawFit:
    means = losses.groupby("tokens").mean()
    return LawFit(
        law,
        tuple(resampled),
        loss_range=float(means.max() - means.min()),
        misfit=float((means - law(means.index)).abs().max()),
        misfit_p=_lack_of_fit(law, losses),
    )


def _lack_of_fit(law: Law, losses: pd.Series) -> float:
    """p of the F-test: squares between law and means over squares within durations."""
    means = losses.groupby("tokens").transform("mean")
    durations = losses.groupby("tokens").ngroups
    between_freedom, within_freedom = durations - 3, len(losses) - durations
    within = float(((losses - means) ** 2).sum())
    if within == 0:
        return math.nan
    between = float(((means - law(flat(means)[0])) ** 2).sum())
    ratio = (between / between_freedom) / (within / within_freedom)
    return float(stats.f.sf(ratio, between_freedom, within_freedom))
