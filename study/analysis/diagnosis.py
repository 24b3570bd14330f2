"""What went wrong or means little, said in one sentence each, with the numbers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from study.analysis.results import Results
from study.analysis.summary import dynamic_arms, epoch_rows, labels, seed_values, summarise
from study.errors import StudyError

COLLAPSED_BELOW = 0.05
"""A weight below this share of the uniform weight 1/T counts as collapsed: the task is practically not trained."""
CLOCK_DEVIATION = 0.02
"""Largest root mean square distance from the clock, in weight, that counts as following it."""
CLOCK_TRAVEL = 0.05
"""Smallest distance the weight must travel before calling it a clock means anything."""
SATURATED_ABOVE = 0.99
"""An unweighted average recall above this for every arm leaves nothing to compare."""


@dataclass(frozen=True)
class Finding:
    """One sentence about a study.

    Attributes:
        kind: collapse, clock, twins, saturation, chance, power, missing, not_finite, failed, static or front.
        text: the sentence.
        arms: ids of the arms it is about.
    """

    kind: str
    text: str
    arms: tuple[str, ...] = ()


@dataclass(frozen=True)
class ClockFit:
    r"""How well a weight follows :math:`\mathrm{sigmoid}(\pm 2 \eta t)`.

    Attributes:
        direction: 1 if the weight grows, -1 if it shrinks.
        deviation: root mean square distance between the weight and the clock.
        travel: largest distance of the weight from 1/2.
        rate_ratio: the fitted rate over :math:`2 \eta`; 1 is the clock.
    """

    direction: int
    deviation: float
    travel: float
    rate_ratio: float

    @property
    def is_clock(self) -> bool:
        """Whether the weight moved and the clock explains it."""
        return self.travel >= CLOCK_TRAVEL and self.deviation <= CLOCK_DEVIATION


def clock_fit(weights: Sequence[float], steps: Sequence[float], learning_rate: float) -> ClockFit:
    r"""Compare one of two softmax weights with the trajectory that the optimizer alone would give it.

    Adam moves a logit by about :math:`\eta` a step while its gradient keeps its sign. The two logits of a softmax over
    two tasks move apart, so a weight whose gradient never changes sign follows :math:`\mathrm{sigmoid}(\pm 2 \eta t)`
    whatever the losses are.

    Args:
        weights: the weight ``(E,)`` at E moments, between 0 and 1.
        steps: optimizer steps done at those moments ``(E,)``.
        learning_rate: learning rate of the logits.

    >>> steps = np.arange(0, 1000, 100)
    >>> fit = clock_fit(1 / (1 + np.exp(2 * 0.001 * steps)), steps, learning_rate=0.001)
    >>> fit.direction, round(fit.deviation, 6), round(fit.rate_ratio, 6), fit.is_clock
    (-1, 0.0, 1.0, True)

    Raises:
        StudyError: the lengths differ, nothing is given, or a weight is not between 0 and 1.
    """
    weight, step = np.asarray(weights, dtype=float), np.asarray(steps, dtype=float)
    if weight.shape != step.shape or not weight.size:
        raise StudyError(f"a clock fit needs as many weights as steps, got {weight.size} and {step.size}")
    if not ((weight >= 0) & (weight <= 1)).all():
        raise StudyError("a clock fit needs weights between 0 and 1")
    direction = 1 if weight.mean() >= 0.5 else -1
    clock = 1 / (1 + np.exp(-direction * 2 * learning_rate * step))
    inside = np.clip(weight, 1e-12, 1 - 1e-12)
    logits = np.log(inside / (1 - inside))
    expected = direction * 2 * learning_rate * step
    scale = float(expected @ expected)
    return ClockFit(
        direction,
        float(np.sqrt(np.mean((weight - clock) ** 2))),
        float(np.abs(weight - 0.5).max()),
        float(expected @ logits) / scale if scale else 0.0,
    )


def diagnose(results: Results, split: str) -> list[Finding]:
    """Return everything that the numbers say about the arms themselves, in a fixed order."""
    checks = [collapses(results), clocks(results), twins(results), saturations(results, split), chances(results, split)]
    return [finding for found in checks for finding in found]


def collapses(results: Results) -> list[Finding]:
    """Find dynamic arms that end with a task's weight below 5 % of the uniform weight."""
    names, uniform = labels(results), 1 / len(results.tasks)
    found = []
    for task in results.tasks:
        ends = seed_values(results, f"weight/{task}")
        for arm in dynamic_arms(results):
            values = ends.loc[arm].dropna()
            low = int(np.count_nonzero(values.to_numpy(dtype=float) < COLLAPSED_BELOW * uniform))
            if low:
                text = (
                    f"{names[arm]} collapsed: it ends with a weight of {values.mean():.2g} on {task} (uniform is "
                    f"{uniform:.2g}), below {COLLAPSED_BELOW:.0%} of uniform in {low} of {len(values)} seeds."
                )
                found.append(Finding("collapse", text, (arm,)))
    return found


def clocks(results: Results) -> list[Finding]:
    """Find softmax arms over two tasks whose weight follows the number of steps and not the losses."""
    if len(results.tasks) != 2:
        return []
    task, names, found = results.tasks[0], labels(results), []
    for arm in results.arms.to_dict("records"):
        rate = _learning_rate(results, arm)
        fits = _clock_fits(results, str(arm["arm"]), task, rate) if rate and arm["strategy"] == "softmax" else []
        clocked = [fit for fit in fits if fit.is_clock]
        if clocked:
            deviation = max(fit.deviation for fit in clocked)
            ratio = float(np.mean([fit.rate_ratio for fit in clocked]))
            text = (
                f"{names[str(arm['arm'])]} is a clock in {len(clocked)} of {len(fits)} seeds: its weight on {task} "
                f"follows sigmoid(2 x {rate:g} x steps) within {deviation:.3f} (root mean square; fitted rate "
                f"{ratio:.2f} of the clock's), so it is set by how long training lasts and hardly by the losses."
            )
            found.append(Finding("clock", text, (str(arm["arm"]),)))
    return found


def _clock_fits(results: Results, arm: str, task: str, rate: float) -> list[ClockFit]:
    rows, column = epoch_rows(results), f"weight/{task}"
    if column not in rows.columns or "step" not in rows.columns:
        return []
    rows = rows[rows["arm"] == arm].dropna(subset=[column, "step"])
    return [
        clock_fit(trial[column].clip(0, 1).tolist(), trial["step"].tolist(), rate)
        for _, trial in rows.groupby("trial", sort=False)
    ]


def _learning_rate(results: Results, arm: Mapping[Any, Any]) -> float | None:
    options = arm["options"] if isinstance(arm["options"], dict) else {}
    for told in (options.get("learning_rate"), results.facts.get("learning_rate"), results.facts.get("learning rate")):
        try:
            rate = float(str(told))
        except ValueError:
            continue
        return rate if rate > 0 else None
    return None


def twins(results: Results) -> list[Finding]:
    """Find arms whose rows are equal bit for bit in every epoch of every common seed: one of the two does nothing."""
    rows, names = epoch_rows(results), labels(results)
    columns = [c for c in rows.columns if c.startswith(("train/", "valid/")) and not c.endswith("/weighted_nll")]
    if not columns or rows.empty:
        return []
    prints: dict[str, dict[int, bytes]] = {arm: {} for arm in names}
    for (arm, seed), trial in rows.groupby(["arm", "seed"], sort=False):
        prints[str(arm)][int(str(seed))] = trial[["epoch", *columns]].to_numpy(dtype=float).tobytes()
    found = []
    for index, first in enumerate(prints):
        for second in list(prints)[index + 1 :]:
            common = prints[first].keys() & prints[second].keys()
            if common and all(prints[first][seed] == prints[second][seed] for seed in common):
                text = (
                    f"{names[first]} and {names[second]} are twins: every epoch of their {len(common)} common "
                    f"{'seed' if len(common) == 1 else 'seeds'} is equal bit for bit, so they trained the same network."
                )
                found.append(Finding("twins", text, (first, second)))
    return found


def saturations(results: Results, split: str) -> list[Finding]:
    """Find classification tasks that every arm solves, so that they cannot tell arms apart."""
    found = []
    for task in _classified(results):
        means = seed_values(results, f"{split}/uar/{task}").mean(axis=1).dropna()
        means = means[[arm for arm in means.index if _trains(results, str(arm), task)]]
        if len(means) and (means > SATURATED_ABOVE).all():
            text = (
                f"{task} is saturated: every arm that trains it has an unweighted average recall above "
                f"{SATURATED_ABOVE} (lowest {means.min():.3f}), so it cannot tell the arms apart."
            )
            found.append(Finding("saturation", text, tuple(str(arm) for arm in means.index)))
    return found


_LEARNED = 0.1
"""Share of the way from chance to perfect recall below which nothing worth comparing was learned."""


def chances(results: Results, split: str) -> list[Finding]:
    """Find arms that have learned next to nothing of a classification task they train.

    Next to nothing: the mean unweighted average recall is at most a tenth of the way from 1/C to 1. (Not whether an
    interval reaches 1/C: with two seeds even that of a good arm does, and it would be called untrained.)
    """
    names, found = labels(results), []
    for task in _classified(results):
        chance = 1 / results.num_classes[task]
        enough = chance + _LEARNED * (1 - chance)
        summaries = summarise(results, f"{split}/uar/{task}")
        weak = [
            arm
            for arm, summary in summaries.items()
            if _trains(results, arm, task) and summary.mean is not None and summary.mean <= enough
        ]
        if weak:
            told = ", ".join(f"{names[arm]} ({summaries[arm].mean:.3f})" for arm in weak)
            text = f"{task} is hardly learned beyond chance (recall {chance:.3f}) by: {told}."
            found.append(Finding("chance", text, tuple(weak)))
    return found


def _classified(results: Results) -> list[str]:
    return [task for task in results.tasks if results.task_kinds[task] == "classification"]


def _trains(results: Results, arm: str, task: str) -> bool:
    weights = dict(zip(results.arms["arm"], results.arms["static_weights"], strict=True))[arm]
    return not isinstance(weights, tuple | list) or weights[results.tasks.index(task)] > 0
