"""What of a gain in a weighted loss is re-weighting: the network of every arm, scored at the weights of every other.

An arm that is judged by the loss at its own weights gains by moving weight to the easier task, whether or not its
network is any better. Scoring the network of the control, untouched, at the arm's weights shows how much that alone
gives; what is left is the network's own.
"""

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from study.analysis.results import Results
from study.analysis.summary import HEADLINE, arm_ids, dynamic_arms, labels, seed_values

Values = dict[str, NDArray[np.float64]]
"""Arm -> a number for every planned seed and task, ``(seeds, T)``; NaN where there is none."""
SPLIT = "valid"
"""The part that published tables of weighted losses are of, and that networks are chosen on."""
MOST_CROSSED = 100
"""Arms up to which every network is scored at the weights of every arm."""
SAME = 1e-3
"""Weights that differ by less are the same: three decimals are what is shown."""


@dataclass(frozen=True)
class Gain:
    """A gain in the loss at an arm's own weights over that of the control, means over common seeds, in nats.

    Attributes:
        arm: the arm.
        of_control: loss of the control at the control's weights.
        reweighting: by how much it falls at the arm's weights, the network untouched.
        left: by how much the arm's network is below it at the arm's weights.
        fixed: by how much the arm's network is below the control's at the fixed reference weights.
    """

    arm: str
    of_control: float
    reweighting: float
    left: float
    fixed: float

    @property
    def total(self) -> float:
        """The gain as published comparisons report it: each arm at its own weights."""
        return self.reweighting + self.left

    @property
    def share(self) -> float:
        """Share of the gain that is re-weighting; NaN where there is no gain."""
        return self.reweighting / self.total if self.total > 0 else math.nan


@dataclass(frozen=True)
class Rescored:
    """Losses of every arm at the weights of every arm.

    Attributes:
        table: one row per arm in plan order: ``arm, label``, ``weight/{task}`` at the end of training, ``nll/{task}``
            and ``{headline}/{task}`` of the chosen network, ``own`` (the weighted sum of the losses at the arm's own
            weights), ``fixed`` (at the reference weights) and ``at/{arm}`` (at the weights of another arm; of more than
            ``MOST_CROSSED`` arms only at those of the control); means over seeds.
        gains: of every dynamic arm over the control.
    """

    table: pd.DataFrame
    gains: tuple[Gain, ...]


def rescored(results: Results, split: str = SPLIT) -> Rescored | None:
    """Score the chosen network of every arm at the end weights of every other, seed by seed.

    None where there are no losses of the split, or no two arms whose weights differ.
    """
    losses, weights = _values(results, f"{split}/nll"), _values(results, "weight")
    means = np.array([mean for mean in map(_mean, weights.values()) if np.isfinite(mean).all()])
    apart = len(means) > 1 and bool((np.ptp(means, axis=0) > SAME).any())
    if not apart or not any(np.isfinite(each).all(axis=1).any() for each in losses.values()):
        return None
    reference = np.array([results.reference_weights[task] for task in results.tasks])
    table = pd.DataFrame({"arm": list(losses), "label": list(labels(results).values())})
    for name, values in (("weight", weights), ("nll", losses)):
        columns = [f"{name}/{task}" for task in results.tasks]
        table = table.join(pd.DataFrame([_mean(values[arm]) for arm in losses], columns=columns))
    for task, metric in ((task, HEADLINE[results.task_kinds[task]]) for task in results.tasks):
        table[f"{metric}/{task}"] = seed_values(results, f"{split}/{metric}/{task}").mean(axis=1).to_numpy()
    table["own"] = [_mean_loss(losses[arm], weights[arm]) for arm in losses]
    table["fixed"] = [_mean_loss(losses[arm], reference) for arm in losses]
    others = list(weights) if len(weights) <= MOST_CROSSED else [results.control]
    crossed = {f"at/{other}": [_mean_loss(losses[arm], weights[other]) for arm in losses] for other in others}
    table = pd.concat([table, pd.DataFrame(crossed)], axis=1)
    gains = [gain_of(arm, results.control, losses, weights, reference) for arm in dynamic_arms(results)]
    return Rescored(table, tuple(gain for gain in gains if gain.arm != results.control and math.isfinite(gain.total)))


def sentences(results: Results, found: Rescored, most: int) -> list[tuple[str, str]]:
    """Return ``(arm, sentence)`` for every gain; of more than ``most``, for those that are mostly re-weighting."""
    gains = found.gains
    if len(gains) > most:
        gains = tuple(gain for gain in gains if gain.share > 0.5)[:most]
    return [(gain.arm, sentence(gain, results)) for gain in gains]


def sentence(gain: Gain, results: Results) -> str:
    """Say what of a gain is re-weighting and what is left at fixed weights."""
    arm, control = labels(results)[gain.arm], labels(results)[results.control]
    reference = "/".join(f"{results.reference_weights[task]:.2g}" for task in results.tasks)
    fixed = f"at the fixed weights ({reference}) its network is {_apart(gain.fixed)} that of {control}"
    if gain.total <= 0:
        own = f"{arm} has no gain in the NLL on validation at its own weights ({-gain.total:+.3f} to {control})"
        return f"{own}; {fixed}."
    own = (
        f"{arm} is {gain.total:.3f} ({gain.total / gain.of_control:.0%}) below {control} in the NLL on validation, "
        "each at its own weights"
    )
    if gain.reweighting <= 0:
        return f"{own}; nothing of that is re-weighting, which alone would cost {-gain.reweighting:.3f}; {fixed}."
    share = "all of that and more" if gain.share > 1 else f"{gain.share:.0%} of that"
    return (
        f"{own}; {share} is re-weighting: the same network of {control}, scored at the weights of {arm}, is "
        f"{gain.reweighting:.3f} lower; {fixed}."
    )


def _apart(fixed: float) -> str:
    return f"{abs(fixed):.3f} {'below' if fixed > 0 else 'above'}"


def gain_of(arm: str, control: str, losses: Values, weights: Values, reference: NDArray[np.float64]) -> Gain:
    """Return what an arm gains over the control, seed by seed; NaN without a common seed.

    The same network, with losses of 2 and 0 nats, at equal weights and at those published for the dynamic arms of Chae
    et al. 2018: 27.5 % less, all of it re-weighting.

    >>> losses = {name: np.array([[2.0, 0.0]]) for name in ("static", "dynamic")}
    >>> weights = {"static": np.array([[0.5, 0.5]]), "dynamic": np.array([[0.3623, 0.6377]])}
    >>> gain = gain_of("dynamic", "static", losses, weights, np.array([0.5, 0.5]))
    >>> round(gain.total / gain.of_control, 4), gain.share, gain.fixed
    (0.2754, 1.0, 0.0)
    """
    sums = np.stack(
        [
            (losses[control] * weights[control]).sum(axis=1),
            (losses[control] * weights[arm]).sum(axis=1),
            (losses[arm] * weights[arm]).sum(axis=1),
            ((losses[control] - losses[arm]) * reference).sum(axis=1),
        ]
    )
    common = sums[:, np.isfinite(sums).all(axis=0)]
    if not common.size:
        return Gain(arm, *[math.nan] * 4)
    of_control, at_arm, own, fixed = (float(mean) for mean in common.mean(axis=1))
    return Gain(arm, of_control, of_control - at_arm, at_arm - own, fixed)


def _values(results: Results, prefix: str) -> Values:
    tables = [seed_values(results, f"{prefix}/{task}") for task in results.tasks]
    return {
        arm: np.stack([table.loc[arm].to_numpy(dtype=float) for table in tables], axis=1) for arm in arm_ids(results)
    }


def _mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean over the seeds that have every task, ``(seeds, T) -> (T,)``."""
    complete = values[np.isfinite(values).all(axis=1)]
    return np.asarray(complete.mean(axis=0)) if len(complete) else np.full(values.shape[1], np.nan)


def _mean_loss(losses: NDArray[np.float64], weights: NDArray[np.float64]) -> float:
    sums = (losses * weights).sum(axis=1)
    finite = sums[np.isfinite(sums)]
    return float(finite.mean()) if len(finite) else math.nan
