"""Laws of the final loss against training tokens, L(D) = E + A·D^-b, one an arm, and whether the
asymptotes E of two arms can be told apart.

The form is the natural one: what we know of the paper has its asymptotes and not its form. E is an
extrapolation, so it depends on the form, and its interval holds only if the form is right.

Intervals are percentiles of a bootstrap over seeds. At each duration seeds are drawn with
replacement, independently of the other durations, and the same draw serves every arm: runs of two
arms that share a seed share their data, so the difference of two asymptotes is paired. (A shift
that a seed has at every duration is so counted as noise of each; that errs on the wide side.)

A plain bootstrap of few seeds is too narrow, so a loss enters a resample with its deviation from
the mean of its duration times sqrt(n / (n - 1)), for resampling n values loses that much of their
spread, and times t/z, the ratio of the 97.5 % points of Student's t with Σ(n - 1) degrees of
freedom and of the normal, which pays for estimating the spread. For linear estimates that is the
t-interval. Simulated (least squares, 400 data sets a case, truth known; three seeds, five durations
from base/4 to 4 base, noise 0.005 to 0.02 nats a run, 80 % of its variance shared by the arms),
95 % intervals of E and of the difference covered the truth in 93 to 95 % of cases (two seeds, one
case: 94 to 95 %); plain ones in 83 to 87 % (76 %). Where noise falls ninefold from the shortest
duration to the longest, E's covered in 92 %.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import stats
from scipy.optimize import least_squares, nnls

from paper_repro.errors import ConfigError
from paper_repro.statistics import CONFIDENCE, Interval

Floats = NDArray[np.float64]

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

#: Enough that the ends of a 95 % interval are known to about 0.7 % of probability.
RESAMPLES = 500

#: E (nats) below which a fit has run into its bound, E = 0.
_AT_BOUND = 1e-3


@dataclass(frozen=True)
class Law:
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
    asymptote: Interval
    amplitude: Interval
    exponent: Interval
    loss_range: float
    """Highest minus lowest loss that was fitted (means over seeds), nats."""
    misfit: float
    """Largest distance of the law from the mean over seeds at a duration, nats."""
    misfit_p: float
    """How probable such distances are if the law is right: the F-test for lack of fit, against the
    spread over seeds. NaN where there is no spread."""

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
    resampled_asymptotes: Mapping[str, Floats]
    """E in each resample, by arm; empty where intervals are unknown."""

    def difference(self, first: str, second: str) -> Interval:
        """E of one arm minus E of another, nats; paired, for both saw the same resamples."""
        value = self.fits[first].law.asymptote - self.fits[second].law.asymptote
        resamples = self.resampled_asymptotes
        if not (len(resamples[first]) and len(resamples[second])):
            return Interval(value, math.nan, math.nan)
        return _percentiles(value, resamples[first] - resamples[second])

    def told_apart(self, first: str, second: str) -> bool:
        """Whether two asymptotes differ at this scale: both are identified, neither law is
        rejected, and the interval of their difference excludes 0."""
        difference = self.difference(first, second)
        return all(
            self.fits[arm].identified and not self.fits[arm].rejected for arm in (first, second)
        ) and (difference.low > 0 or difference.high < 0)

    def table(self) -> pd.DataFrame:
        """One row an arm: E, A and b with intervals, whether E is identified, and the misfit.

        A has four digits: its interval spans decades, and further ones depend on the CPU.
        """
        return pd.DataFrame(
            {
                "arm": arm,
                **fit.asymptote.columns("asymptote"),
                **{
                    name: float(f"{value:.4g}")
                    for name, value in fit.amplitude.columns("amplitude").items()
                },
                **fit.exponent.columns("exponent"),
                "identified": fit.identified,
                "misfit": fit.misfit,
                "misfit_p": fit.misfit_p,
            }
            for arm, fit in self.fits.items()
        )

    def differences(self) -> pd.DataFrame:
        """One row a pair of arms: E of the first minus E of the second, and if they differ."""
        return pd.DataFrame(
            {
                "first": first,
                "second": second,
                **self.difference(first, second).columns("difference"),
                "told_apart": self.told_apart(first, second),
            }
            for first, second in itertools.combinations(self.fits, 2)
        )

    def statement(self, first: str, second: str) -> str:
        """One line that says whether the asymptotes of two arms differ, and if not, why not."""
        fits = [self.fits.get(arm) for arm in (first, second)]
        for arm, fit in zip((first, second), fits, strict=True):
            if fit is None:
                return f"Not decided: {arm} has fewer than {FEWEST_DURATIONS} durations, so no law."
            if fit.rejected:
                return (
                    f"Not decided: the losses of {arm} do not follow a law of this form "
                    f"(misfit {fit.misfit:.3f} nats, p = {fit.misfit_p:.2g})."
                )
            if not fit.identified:
                return f"Not decided at this scale: {_why_unidentified(arm, fit)}."
        difference = self.difference(first, second)
        numbers = (
            f"E({first}) − E({second}) = {difference.value:.3f} "
            f"[{difference.low:.3f}, {difference.high:.3f}] nats"
        )
        if not self.told_apart(first, second):
            return f"Not decided at this scale: {numbers} includes 0."
        lower = first if difference.high < 0 else second
        return f"The asymptotes differ, if the law holds: {numbers}; {lower} has the lower one."


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

    So that arms stay paired, a seed that an arm lacks at a duration is left out there in all arms
    that have the duration.

    Args:
        losses: one row a run: `arm`, `seed`, `tokens` and `loss` (nats, finite).
        resamples: how many bootstrap fits an interval is made of.
    """
    blocks = _paired(losses)
    arms = list(dict.fromkeys(losses["arm"]))
    durations = {arm: [tokens for tokens, block in blocks.items() if arm in block] for arm in arms}
    fitted = [arm for arm in arms if len(durations[arm]) >= FEWEST_DURATIONS]
    laws = {arm: fit_law(*_runs(blocks, arm)) for arm in fitted}
    resampled: dict[str, list[Law]] = {arm: [] for arm in fitted}
    inflation = _inflation(blocks)
    certain = [arm for arm in fitted if all(tokens in inflation for tokens in durations[arm])]
    rng = np.random.default_rng(0)
    for _ in range(resamples if certain else 0):
        drawn = _resample(blocks, inflation, rng)
        for arm in certain:
            # A resample lies near the data, so starting at their law is enough.
            resampled[arm].append(_fit(*_runs(drawn, arm), [laws[arm].exponent]))
    return ArmLaws(
        fits={arm: _law_fit(laws[arm], resampled[arm], blocks, arm) for arm in fitted},
        resampled_asymptotes={
            arm: np.array([law.asymptote for law in resampled[arm]]) for arm in fitted
        },
    )


Blocks = Mapping[int, Mapping[str, Floats]]
"""The losses at each duration by arm; all arms of a duration have the same seeds in one order."""


def _paired(losses: pd.DataFrame) -> Blocks:
    blocks = {}
    for tokens, runs in losses.groupby("tokens"):
        block = runs.pivot(index="seed", columns="arm", values="loss").dropna()
        if len(block):
            blocks[int(str(tokens))] = {str(arm): block[arm].to_numpy(dtype=float) for arm in block}
    return blocks


def _runs(blocks: Blocks, arm: str) -> tuple[Floats, Floats]:
    """Tokens and losses of an arm's runs."""
    found = {tokens: block[arm] for tokens, block in blocks.items() if arm in block}
    tokens = np.repeat(np.array(list(found), float), [len(losses) for losses in found.values()])
    return tokens, np.concatenate(list(found.values()))


def _inflation(blocks: Blocks) -> Mapping[int, float]:
    """The factors on deviations from the mean, by duration, that the module explains."""
    counts = {tokens: len(next(iter(block.values()))) for tokens, block in blocks.items()}
    tail = (1 + CONFIDENCE) / 2
    student = stats.t.ppf(tail, sum(count - 1 for count in counts.values()))
    uncertain_spread = float(student / stats.norm.ppf(tail))
    return {
        tokens: uncertain_spread * math.sqrt(count / (count - 1))
        for tokens, count in counts.items()
        if count > 1
    }


def _resample(
    blocks: Blocks, inflation: Mapping[int, float], rng: np.random.Generator
) -> dict[int, dict[str, Floats]]:
    """Draw seeds at each duration that has several."""
    drawn: dict[int, dict[str, Floats]] = {}
    for tokens, factor in inflation.items():
        count = len(next(iter(blocks[tokens].values())))
        seeds = rng.integers(count, size=count)
        drawn[tokens] = {
            arm: losses.mean() + factor * (losses[seeds] - losses.mean())
            for arm, losses in blocks[tokens].items()
        }
    return drawn


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


def _law_fit(law: Law, resampled: list[Law], blocks: Blocks, arm: str) -> LawFit:
    found = {tokens: block[arm] for tokens, block in blocks.items() if arm in block}
    means = np.array([losses.mean() for losses in found.values()])
    return LawFit(
        law,
        _percentiles(law.asymptote, np.array([other.asymptote for other in resampled])),
        _percentiles(law.amplitude, np.array([other.amplitude for other in resampled])),
        _percentiles(law.exponent, np.array([other.exponent for other in resampled])),
        loss_range=float(means.max() - means.min()),
        misfit=float(np.abs(means - law(list(found))).max()),
        misfit_p=_lack_of_fit(law, found),
    )


def _lack_of_fit(law: Law, losses: Mapping[int, Floats]) -> float:
    """p of the F-test: squares between law and means over squares within durations."""
    counts = np.array([len(runs) for runs in losses.values()])
    distances = np.array([runs.mean() for runs in losses.values()]) - law(list(losses))
    within = sum(float(((runs - runs.mean()) ** 2).sum()) for runs in losses.values())
    between_freedom, within_freedom = len(losses) - 3, int((counts - 1).sum())
    if within == 0:
        return math.nan
    between = float((counts * distances**2).sum())
    ratio = (between / between_freedom) / (within / within_freedom)
    return float(stats.f.sf(ratio, between_freedom, within_freedom))


def _why_unidentified(arm: str, fit: LawFit) -> str:
    asymptote = fit.asymptote
    if math.isnan(asymptote.low):
        return f"the asymptote of {arm} has no interval (a duration with a single seed)"
    found = f"the asymptote of {arm} is not identified, E in "
    found += f"[{asymptote.low:.3f}, {asymptote.high:.3f}] nats: "
    if asymptote.low <= _AT_BOUND:
        return f"{found}it reaches the bound at 0"
    return f"{found}wider than the losses' own range of {fit.loss_range:.3f}"


def _percentiles(value: float, resampled: Floats) -> Interval:
    if len(resampled) == 0:
        return Interval(value, math.nan, math.nan)
    low, high = np.quantile(resampled, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Interval(value, float(low), float(high))
