"""The same comparison at equal cost: equal epochs, equal training time, equal tuning.

An arm that needs a second backward pass has trained for longer when its last epoch ends. At equal time it has had fewer
epochs. Both are told, on validation, which is the part that is scored after every epoch; the test split is not.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from study.analysis.differences import differences
from study.analysis.results import Results
from study.analysis.summary import labels, planned_seeds, roles, seed_values, trajectories
from study.analysis.tuning import best_of

CRITERION = "valid/joint_nll"


def cost_adjusted(results: Results, tested: Sequence[str]) -> pd.DataFrame:
    """Compare arms at equal epochs and at equal training time, by the lowest validation joint NLL until then.

    Equal epochs: as many as every arm has. Equal time: what the cheapest arm takes for those epochs; an arm whose
    epochs take longer is read off where that time ends, between two epochs in proportion. The time of an arm's epoch is
    the median over all its epochs, evaluation and diagnostics excluded. The lowest value until then is what early
    stopping by the same criterion keeps.

    Args:
        results: the study.
        tested: arms that Holm's correction runs over.

    Returns:
        One row per arm that is compared and budget: ``arm, label, budget`` (``epochs`` or ``seconds``), ``epochs`` (had
        until then), ``seconds`` (of training, median), ``valid/joint_nll`` (mean over seeds), and ``difference, low,
        high, num_seeds, t_p, t_holm_p`` to the control.
    """
    arms = [arm for arm, role in roles(results).items() if not role]
    curves = {arm: curve for arm in arms if (curve := best_so_far(results, arm)) is not None}
    if not curves:
        return pd.DataFrame(columns=_COLUMNS)
    last = min(len(curve) for curve in curves.values())
    seconds = pd.Series({arm: epoch_seconds(results, arm) for arm in curves})
    equal_time = last * seconds.min() / seconds
    tables = [_at(results, curves, "epochs", pd.Series(float(last), index=seconds.index), seconds, tested)]
    if seconds.notna().all() and seconds.min() > 0:
        tables.append(_at(results, curves, "seconds", equal_time, seconds, tested))
    return pd.concat(tables, ignore_index=True)


_COLUMNS = [
    *["arm", "label", "budget", "epochs", "seconds", CRITERION],
    *["difference", "low", "high", "num_seeds", "t_p", "t_holm_p"],
]


def best_so_far(results: Results, arm: str) -> NDArray[np.float64] | None:
    """Return the lowest validation loss up to each epoch, ``(E, S)`` for the planned seeds; None without epoch rows.

    E is the number of epochs of the longest seed; one that ended earlier is NaN from there on.
    """
    rows = results.epochs_of_arms.get(arm)
    if rows is None or CRITERION not in rows.columns:
        return None
    values = trajectories(results, CRITERION, arm).reindex(columns=planned_seeds(results)).to_numpy(dtype=float)
    lowest = np.fmin.accumulate(values, axis=0)
    ended = np.isnan(values)[::-1].cumprod(axis=0, dtype=bool)[::-1]
    return np.where(ended, np.nan, lowest)


def epoch_seconds(results: Results, arm: str) -> float:
    """Return the median training time of an epoch of an arm, in seconds; NaN where it was not measured."""
    rows = results.epochs_of_arms.get(arm)
    if rows is None or "time/epoch_s" not in rows.columns or rows["time/epoch_s"].isna().all():
        return float("nan")
    return float(rows["time/epoch_s"].median())


def value_at(curve: NDArray[np.float64], epochs: float) -> NDArray[np.float64]:
    """Return a curve ``(E, S)`` at a number of epochs that need not be whole, ``(S,)``; NaN before the first one.

    >>> value_at(np.array([[3.0], [1.0]]), 1.5).tolist()
    [2.0]
    """
    if epochs < 1:
        return np.full(curve.shape[1], np.nan)
    low = min(int(epochs), len(curve)) - 1
    high, part = min(low + 1, len(curve) - 1), epochs - int(epochs)
    return np.asarray(curve[low] if part == 0 else (1 - part) * curve[low] + part * curve[high])


def _at(
    results: Results,
    curves: Mapping[str, NDArray[np.float64]],
    budget: str,
    epochs: pd.Series,
    seconds: pd.Series,
    tested: Sequence[str],
) -> pd.DataFrame:
    values = pd.DataFrame(
        [value_at(curve, float(epochs[arm])) for arm, curve in curves.items()],
        index=list(curves),
        columns=planned_seeds(results),
    )
    table = pd.DataFrame({"arm": list(curves), "label": [labels(results)[arm] for arm in curves], "budget": budget})
    table["epochs"], table["seconds"] = epochs.to_numpy(), (epochs * seconds).to_numpy()
    table[CRITERION] = values.mean(axis=1).to_numpy()
    if results.control not in curves:
        return table.reindex(columns=_COLUMNS)
    others = [arm for arm in curves if arm != results.control]
    paired = differences(values, others, results.control, tested).rename(columns={"mean": "difference"})
    wanted = ["arm", "difference", "low", "high", "num_seeds", "t_p", "t_holm_p"]
    return table.merge(paired[wanted], on="arm", how="left")


def equal_tuning(results: Results) -> pd.DataFrame:
    """Compare methods at equal numbers of configurations tried, by what a search of a study has tried.

    The confirmed result of a method is that of its whole budget. What fewer configurations would have given, on average
    over which they are, is read off those that were trained to the end: drawn at random where every method has at least
    three of these, as the average takes them for independent draws, else all, which a searcher that learns makes better
    and better, and a scheduler that stops the bad ones leaves too good.

    Returns:
        One row per method that has any: ``method, label, draws`` (``random`` or ``all``), ``num_trials, equal_trials,
        best_of/{m}`` and ``best`` (see ``at_equal_tuning``; in the direction of the objective), ``left_out``
        (configurations stopped, failed or not drawn at random), ``confirmed`` (the objective on validation with fresh
        seeds). Without rows in a study without a search.
    """
    found = results.tuning
    if found is None:
        return pd.DataFrame(columns=["method", "label"])
    objective = found.search.objective[0]
    random = all(len(method.losses(method.epochs, ("random",))) >= _FEWEST_RANDOM for method in found.methods)
    origins = ("random",) if random else ()
    table = at_equal_tuning({each.method: each.losses(each.epochs, origins).tolist() for each in found.methods})
    sign = 1.0 if objective.direction == "minimize" else -1.0
    values = [name for name in table.columns if name.startswith("best")]
    table[values] = sign * table[values]
    asked = {method.method: len(method.configurations) for method in found.methods}
    table["left_out"] = [asked[name] - count for name, count in zip(table["method"], table["num_trials"], strict=True)]
    confirmed = seed_values(results, objective.column).mean(axis=1)
    table["confirmed"] = [float(confirmed.get(method, np.nan)) for method in table["method"]]
    table.insert(1, "label", [labels(results).get(method, method) for method in table["method"]])
    table.insert(2, "draws", "random" if random else "all")
    return table


_FEWEST_RANDOM = 3
"""Configurations drawn at random that tell something about such draws."""


def at_equal_tuning(tried: Mapping[str, Sequence[float]]) -> pd.DataFrame:
    """Return what each method reaches with the same number of tuning trials, on average over which those are.

    Args:
        tried: method -> validation value of every configuration it was tuned with, smaller being better; those that
            failed left out.

    Returns:
        Columns ``method, num_trials, equal_trials`` (as many as the method with the fewest has), ``best_of/{m}`` for m
        of 1, 2, 4, ... and ``equal_trials``, and ``best`` (of all its own trials). See ``tuning.best_of``; it takes
        configurations for independent draws, which those of a searcher that learns are not.
    """
    known = {method: list(values) for method, values in tried.items() if len(values)}
    equal = min((len(values) for values in known.values()), default=0)
    counts = [m for m in (2**power for power in range(equal.bit_length())) if m < equal] + ([equal] if equal else [])
    curves = {method: best_of(values) for method, values in known.items()}
    return pd.DataFrame(
        [[m, len(v), equal, *(curves[m][n - 1] for n in counts), float(np.min(v))] for m, v in known.items()],
        columns=["method", "num_trials", "equal_trials", *(f"best_of/{n}" for n in counts), "best"],
    )
