"""What went wrong or means little, said in one sentence each, with the numbers."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, product, takewhile

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from study.analysis.clock import ClockFit, clock_fit, clock_weight, rate_sums
from study.analysis.results import Results
from study.analysis.summary import arm_epochs, dynamic_arms, epoch_rows, labels, seed_values, summarise

COLLAPSED_BELOW = 0.05
"""A weight that stays below this share of the uniform weight 1/T for a whole epoch counts as collapsed: the task is
practically not trained."""
WARM_UP_EPOCHS = 2
"""Epochs that a method may need before it differs from equal weights: dynamic weight averaging compares two."""
SATURATED_ABOVE = 0.99
"""An unweighted average recall, or a concordance, above this for every arm leaves nothing to compare."""


@dataclass(frozen=True)
class Finding:
    """One sentence about a study.

    Attributes:
        kind: leak, collapse, clock, twins, saturation, chance, power, underpowered, choice, gap, missing, not_finite,
            failed, static, front, rescored or control.
        text: the sentence.
        arms: ids of the arms it is about.
    """

    kind: str
    text: str
    arms: tuple[str, ...] = ()


def diagnose(results: Results, split: str) -> list[Finding]:
    """Return everything that the numbers say about the arms themselves, in a fixed order."""
    checks = [
        leaks(results),
        collapses(results),
        clocks(results),
        twins(results),
        saturations(results, split),
        chances(results, split),
    ]
    return [finding for found in checks for finding in found]


def leaks(results: Results) -> list[Finding]:
    """Say that test speakers are in training, where the study's split warns of it."""
    warning = results.facts.get("warning")
    return [Finding("leak", f"{warning}.")] if warning else []


def collapses(results: Results) -> list[Finding]:
    """Find dynamic arms under which a task's weight stayed below 5 % of the uniform weight for a whole epoch.

    Whole: the largest weight the task had at any step of the epoch is below. Rows without ``largest_weight`` are judged
    by the weight at the end of the epoch.
    """
    found = []
    for task, arm in product(results.tasks, dynamic_arms(results)):
        rows = arm_epochs(results, arm)
        largest = _column(rows, f"largest_weight/{task}").fillna(_column(rows, f"weight/{task}"))
        collapsed = largest < COLLAPSED_BELOW / len(results.tasks)
        if collapsed.any():
            found.append(Finding("collapse", _collapse_text(results, arm, task, rows, collapsed), (arm,)))
    return found


def _collapse_text(results: Results, arm: str, task: str, rows: pd.DataFrame, collapsed: pd.Series) -> str:
    epochs = rows.loc[collapsed].groupby("seed")["epoch"]
    end = seed_values(results, f"weight/{task}").T[arm].mean()
    return (
        f"{labels(results)[arm]} collapsed: its weight on {task} stays below {COLLAPSED_BELOW:.0%} of uniform "
        f"({1 / len(results.tasks):.2g}) for whole epochs in {len(epochs)} of {rows['seed'].nunique()} seeds, first in "
        f"epoch {int(epochs.min().min())}, for {epochs.count().mean():.3g} epochs on average"
        + (f"; at the end of training it is {end:.2g}." if np.isfinite(end) else ".")
    )


def _column(rows: pd.DataFrame, name: str) -> pd.Series:
    return rows.get(name, pd.Series(np.nan, index=rows.index)).astype(float)


def clocks(results: Results) -> list[Finding]:
    """Find arms over two tasks whose weight follows the optimizer's steps and not the losses.

    Only arms whose strategy says that it may be a clock, with rows that tell the learning rate of its parameters: of a
    study that was run before both were recorded, no clock is claimed.
    """
    if len(results.tasks) != 2:
        return []
    task, names, found = results.tasks[0], labels(results), []
    for arm in _possible_clocks(results):
        fits = _clock_fits(results, arm, task)
        clocked = [fit for fit in fits if fit.is_clock]
        if clocked:
            deviation = max(fit.deviation for fit in clocked)
            ratio = float(np.mean([fit.rate_ratio for fit in clocked]))
            text = (
                f"{names[arm]} is a clock in {len(clocked)} of {len(fits)} seeds: its weight on {task} follows "
                f"{_clock_formula(results, arm)} within {deviation:.3f} (root mean square; fitted rate "
                f"{ratio:.2f} of the clock's), so it is set by how long training lasts and hardly by the losses."
            )
            found.append(Finding("clock", text, (arm,)))
    return found


def _clock_formula(results: Results, arm: str) -> str:
    rates = arm_epochs(results, arm)["learning_rate/strategy"].dropna().unique()
    return f"sigmoid(2 x {rates[0]:g} x steps)" if len(rates) == 1 else "sigmoid(2 x sum of learning rates)"


def _clock_fits(results: Results, arm: str, task: str) -> list[ClockFit]:
    rows = arm_epochs(results, arm)
    columns = [f"weight/{task}", "step", "learning_rate/strategy"]
    if not set(columns) <= set(rows.columns):
        return []
    complete = (
        trial[columns].to_numpy(dtype=float)
        for _, trial in rows.groupby("trial", sort=False)
        if trial[columns].notna().all(axis=None)
    )
    return [
        clock_fit(weights.clip(0, 1).tolist(), rate_sums(steps, rates).tolist())
        for weights, steps, rates in (values.T for values in complete)
    ]


def clock_path(results: Results, arm: str) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Return epochs and the weight of the first task that a clock would give an arm, in its first complete trial.

    None where the arm's strategy is none that may be a clock, or there are no rows to tell.
    """
    if len(results.tasks) != 2 or arm not in _possible_clocks(results):
        return None
    columns = ["epoch", "step", "learning_rate/strategy", f"weight/{results.tasks[0]}"]
    rows = arm_epochs(results, arm)
    if not set(columns) <= set(rows.columns):
        return None
    for _, trial in rows.groupby("trial", sort=False):
        epochs, steps, rates, weights = trial[columns].to_numpy(dtype=float).T
        if np.isfinite([steps, rates, weights]).all():
            return epochs, clock_weight(rate_sums(steps, rates), 1 if weights.mean() >= 0.5 else -1)
    return None


def _possible_clocks(results: Results) -> list[str]:
    if "may_be_clock" not in results.arms:
        return []
    return [str(arm) for arm in results.arms.loc[results.arms["may_be_clock"].astype(bool), "arm"]]


def twins(results: Results) -> list[Finding]:
    """Find arms whose rows are equal bit for bit in every common seed: one of the two does nothing of its own.

    In every epoch, or from the first one for longer than a method may need to start (``WARM_UP_EPOCHS``): equal rows
    of the first epochs alone are what a method that compares epochs gives, and no fault.
    """
    prints, names = _prints(results), labels(results)
    found = []
    for first, second in combinations(prints, 2):  # few: those that began alike
        common = prints[first].keys() & prints[second].keys()
        spans = [_equal_span(prints[first][seed], prints[second][seed]) for seed in sorted(common)]
        apart = [span for span in spans if span.epochs < span.of]
        if spans and (text := _twin_text(names[first], names[second], min(apart or [max(spans)]), len(common))):
            found.append(Finding("twins", text, (first, second)))
    return found


@dataclass(frozen=True, order=True)
class _Span:
    """For how many epochs two trials were equal from the start, of how many that both have, and the steps of those."""

    epochs: int
    steps: int
    of: int


def _prints(results: Results) -> dict[str, dict[int, list[tuple[bytes, int]]]]:
    """Return arm -> seed -> one (bytes, steps) per epoch, all that was measured on training and validation data.

    Only of arms that some other arm began like.
    """
    rows = epoch_rows(results)
    columns = [c for c in rows.columns if c.startswith(("train/", "valid/")) and not c.endswith("/weighted_nll")]
    arms = _began_alike(results, columns) if columns else []
    prints: dict[str, dict[int, list[tuple[bytes, int]]]] = {arm: {} for arm in arms}
    for arm in arms:
        own = arm_epochs(results, arm)
        steps = _column(own, "step").fillna(0)
        for seed, trial in own.groupby("seed", sort=False):
            values = trial[["epoch", *columns]].to_numpy(dtype=float)
            told = [(row.tobytes(), int(step)) for row, step in zip(values, steps[trial.index], strict=True)]
            prints[arm][int(str(seed))] = told
    return prints


def _began_alike(results: Results, columns: list[str]) -> list[str]:
    """Return the arms whose first epoch equals another's in some seed: no others can be twins."""
    first = epoch_rows(results).drop_duplicates("trial")
    values = first[["seed", "epoch", *columns]].to_numpy(dtype=float)
    alike: dict[bytes, set[str]] = {}
    for arm, row in zip(first["arm"], values, strict=True):
        alike.setdefault(row.tobytes(), set()).add(str(arm))
    twins = {arm for arms in alike.values() if len(arms) > 1 for arm in arms}
    return [arm for arm in labels(results) if arm in twins]


def _equal_span(first: Sequence[tuple[bytes, int]], second: Sequence[tuple[bytes, int]]) -> _Span:
    equal = list(takewhile(lambda pair: pair[0] == pair[1], zip(first, second, strict=False)))
    return _Span(len(equal), equal[-1][0][1] if equal else 0, min(len(first), len(second)))


def _twin_text(first: str, second: str, span: _Span, num_seeds: int) -> str:
    """Return what is to be said of two arms by the seed that told them apart first; nothing if it did soon enough."""
    seeds = "seed" if num_seeds == 1 else "seeds"
    steps = f" ({span.steps} steps)" if span.steps else ""
    if span.epochs == span.of:
        return (
            f"{first} and {second} are twins: every epoch{steps} of their {num_seeds} common {seeds} is equal bit for "
            "bit, so they trained the same network."
        )
    if span.epochs > WARM_UP_EPOCHS:
        return (
            f"{first} and {second} are twins for the first {span.epochs} of {span.of} epochs{steps} of their "
            f"{num_seeds} common {seeds}, bit for bit: only what came later tells them apart."
        )
    return ""


def saturations(results: Results, split: str) -> list[Finding]:
    """Find tasks that every arm solves, so that they cannot tell arms apart."""
    names = {"uar": "an unweighted average recall", "ccc": "a concordance"}
    found = []
    for task in results.tasks:
        metric = "ccc" if results.task_kinds[task] == "regression" else "uar"
        means = seed_values(results, f"{split}/{metric}/{task}").mean(axis=1).dropna()
        means = means[[arm for arm in means.index if _trains(results, str(arm), task)]]
        if len(means) and (means > SATURATED_ABOVE).all():
            text = (
                f"{task} is saturated: every arm that trains it has {names[metric]} above "
                f"{SATURATED_ABOVE} (lowest {means.min():.3f}), so it cannot tell the arms apart."
            )
            found.append(Finding("saturation", text, tuple(str(arm) for arm in means.index)))
    return found


_LEARNED = 0.1
"""Share of the way from chance to perfect recall below which nothing worth comparing was learned."""


def chances(results: Results, split: str) -> list[Finding]:
    """Find arms that have learned next to nothing of a classification task they train.

    Next to nothing: the mean unweighted average recall is at most a tenth of the way from 1/C to 1 (from 1/2 where
    several classes may be true: each is a question of its own). (Not whether an
    interval reaches 1/C: with two seeds even that of a good arm does, and it would be called untrained.)
    """
    names, found = labels(results), []
    for task in _classified(results):
        chance = 0.5 if results.task_kinds[task] == "multilabel" else 1 / results.num_classes[task]
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
    return [task for task in results.tasks if results.task_kinds[task] != "regression"]


def _trains(results: Results, arm: str, task: str) -> bool:
    weights = results.trained[arm]
    return weights is None or weights[results.tasks.index(task)] > 0
