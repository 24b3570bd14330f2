"""A study over folds: the tests of an arm and a seed are scored once, on the predictions of all folds together.

The mean of the folds' own scores is another number: a recall over a fold that lacks a class, or a concordance over few
utterances of one speaker, is not what the whole corpus shows. Validation scores, weights, gradients and costs belong to
a training each, and are means over folds.
"""

import math
from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from study.errors import StudyError
from trainables import multilabel
from trainables.predictions import Predictions

_CONSTANT_TARGET = 1e-8
"""Smallest denominator of the concordance, as in ``trainables.tasks.concordance``."""
_MEASURED = ("train/", "valid/")
"""What the columns begin with that are absent from a mean unless every fold has them."""


def score_classes(log_probabilities: NDArray[Any], labels: NDArray[Any]) -> dict[str, float]:
    """Return ``nll, accuracy, uar, macro_f1`` of a task of classification, ``(N, C), (N,)``; -1 is no label.

    The definitions of ``trainables.tasks.score``: the mean recall is over the classes that occur, the mean F1 over
    those that occur or are predicted; NaN where nothing is labelled.

    >>> score_classes(np.log([[0.5, 0.5], [0.25, 0.75]]), np.array([0, 0]))["accuracy"]
    0.5
    """
    present = labels >= 0
    chances, actual = log_probabilities[present].astype(np.float64), labels[present].astype(np.int64)
    if not len(actual):
        return dict.fromkeys(("nll", "accuracy", "uar", "macro_f1"), math.nan)
    classes = chances.shape[1]
    predicted = chances.argmax(axis=1)
    hits = np.bincount(actual[actual == predicted], minlength=classes)
    occurring, guessed = np.bincount(actual, minlength=classes), np.bincount(predicted, minlength=classes)
    occurs, counts = occurring > 0, occurring + guessed > 0
    return {
        "nll": float(-chances[np.arange(len(actual)), actual].mean()),
        "accuracy": float(hits.sum() / len(actual)),
        "uar": float((hits[occurs] / occurring[occurs]).mean()),
        "macro_f1": float((2 * hits[counts] / (occurring + guessed)[counts]).mean()),
    }


def score_values(values: NDArray[Any], labels: NDArray[Any]) -> dict[str, float]:
    """Return ``nll`` (1 - CCC), ``ccc`` and ``mse`` of a task of regression, ``(N,), (N,)``; NaN is no label.

    The definitions of ``trainables.tasks.score``, on the scale of the values; all NaN where nothing is labelled.

    >>> score_values(np.array([1.0, 2.0, 3.0]), np.array([1.0, 2.0, 3.0]))
    {'nll': 0.0, 'ccc': 1.0, 'mse': 0.0}
    """
    present = ~np.isnan(labels)
    given, target = values[present].astype(np.float64), labels[present].astype(np.float64)
    if not len(target):
        return dict.fromkeys(("nll", "ccc", "mse"), math.nan)
    covariance = ((given - given.mean()) * (target - target.mean())).mean()
    spread = given.var() + target.var() + (given.mean() - target.mean()) ** 2
    ccc = float(2.0 * covariance / max(spread, _CONSTANT_TARGET))
    return {"nll": 1.0 - ccc, "ccc": ccc, "mse": float(((given - target) ** 2).mean())}


def pool(parts: Mapping[int, Predictions], of: str) -> Predictions:
    """Return the predictions of all folds as one.

    Args:
        parts: fold -> its test predictions.
        of: whose they are, for the message.

    Raises:
        StudyError: an utterance is tested in two folds.
    """
    first = next(iter(parts.values()))
    utterances = np.concatenate([part.utterances for part in parts.values()])
    if len(np.unique(utterances)) < len(utterances):
        raise StudyError(_tested_twice(parts, of))
    return Predictions(
        utterances,
        {
            task: np.concatenate([part.log_probabilities[task] for part in parts.values()])
            for task in first.log_probabilities
        },
        {task: np.concatenate([part.values[task] for part in parts.values()]) for task in first.values},
        {task: np.concatenate([part.labels[task] for part in parts.values()]) for task in first.labels},
        {task: np.concatenate([part.logits[task] for part in parts.values()]) for task in first.logits},
        {
            task: np.concatenate([part.thresholds[task] for part in parts.values()])
            for task in first.thresholds
            if all(task in part.thresholds for part in parts.values())
        },
    )


def _tested_twice(parts: Mapping[int, Predictions], of: str) -> str:
    seen: dict[str, int] = {}
    for fold, part in parts.items():
        for name in map(str, part.utterances):
            if name in seen:
                return f"{of}: utterance {name} is tested in fold {seen[name]} and in fold {fold}: it would count twice"
            seen[name] = fold
    return ""


def scores_of(
    predictions: Predictions, reference: Mapping[str, float], weights: Mapping[str, float]
) -> dict[str, float]:
    """Return the columns ``test/...`` of a row: every metric of every task, and the joint losses.

    Args:
        predictions: of the pool.
        reference: task -> weight in ``test/joint_nll``.
        weights: task -> weight in ``test/weighted_nll``.
    """
    scores = {
        task: score_classes(given, predictions.labels[task]) for task, given in predictions.log_probabilities.items()
    }
    scores |= {task: score_values(given, predictions.labels[task]) for task, given in predictions.values.items()}
    scores |= {task: _score_several(predictions, task) for task in predictions.logits}
    row = {f"test/{metric}/{task}": value for task, metrics in scores.items() for metric, value in metrics.items()}
    row["test/joint_nll"] = sum(reference[task] * metrics["nll"] for task, metrics in scores.items())
    row["test/weighted_nll"] = sum(weights[task] * metrics["nll"] for task, metrics in scores.items())
    return row


def _score_several(predictions: Predictions, task: str) -> dict[str, float]:
    """Return the metrics of a task whose classes may be true at once, also at searched thresholds if there are any."""
    given, labels = predictions.logits[task], predictions.labels[task]
    found = multilabel.scores(given, labels)
    if task in predictions.thresholds:
        found |= multilabel.scores_at(predictions.thresholds[task], given, labels)
    return found


Scores = dict[str, float]
Remember = Callable[[list[str], Mapping[str, float], Callable[[], Scores]], Scores]
"""Trials of a pool, weights in ``test/weighted_nll``, how to score it -> its scores, kept from before or made now."""


def _scored_now(_trials: list[str], _weights: Mapping[str, float], score: Callable[[], Scores]) -> Scores:
    return score()


def pool_rows(
    trials: pd.DataFrame,
    rows: pd.DataFrame,
    reference: Mapping[str, float],
    read: Callable[[str], Predictions],
    remember: Remember = _scored_now,
) -> pd.DataFrame:
    """Return rows with one series for every arm and seed, named ``ARM-seedN``, from those of the folds.

    An arm and seed has a final row if all its folds have finished, and an epoch if all its folds have reported it.

    Args:
        trials: one row per trial: ``trial, arm, seed, fold, status``.
        rows: what the trials reported.
        reference: task -> weight in the joint loss.
        read: trial -> its test predictions.
        remember: what may know the scores of a pool from before.

    Raises:
        StudyError: an utterance is tested in two folds of an arm and a seed.
    """
    if rows.empty:
        return rows
    together = _means(rows.merge(trials[["trial", "fold"]], on="trial"), trials["fold"].nunique())
    own = together[[column for column in together.columns if not column.startswith("test/")]]
    epochs, ends = own[own["kind"] == "epoch"], own[own["kind"] == "final"].to_dict("records")
    means = {(row["arm"], row["seed"]): row for row in ends}
    finals = []
    for (arm, seed), group in trials.groupby(["arm", "seed"], sort=False):
        if not (group["status"] == "finished").all() or (arm, seed) not in means:
            continue
        mean, of = means[arm, seed], f"{arm} with seed {seed}"
        weights = {task: float(mean[f"weight/{task}"]) for task in reference}
        score = partial(_pool_scores, group, read, reference, weights, of)
        row: dict[Any, Any] = {**mean}
        finals.append(row | remember([str(trial) for trial in group["trial"]], weights, score))
    return pd.concat([epochs, pd.DataFrame(finals)], ignore_index=True) if finals else epochs.reset_index(drop=True)


def _pool_of(trials: pd.DataFrame, read: Callable[[str], Predictions], tasks: Collection[str], of: str) -> Predictions:
    parts = {int(fold): read(str(trial)) for fold, trial in zip(trials["fold"], trials["trial"], strict=True)}
    for part in parts.values():
        if set(part.labels) != set(tasks):
            raise StudyError(f"{of}: its predictions are of {', '.join(part.labels)} instead of {', '.join(tasks)}")
    return pool(parts, of)


def _pool_scores(
    trials: pd.DataFrame,
    read: Callable[[str], Predictions],
    reference: Mapping[str, float],
    weights: Mapping[str, float],
    of: str,
) -> Scores:
    return scores_of(_pool_of(trials, read, reference, of), reference, weights)


def _means(rows: pd.DataFrame, num_folds: int) -> pd.DataFrame:
    """Return the mean over folds of every column, one row per arm, seed, kind and epoch that all folds have."""
    chosen = rows["kind"] == "final"
    keyed = rows.assign(position=rows["epoch"].mask(chosen, 0))  # each fold has chosen an epoch of its own
    keyed = keyed.drop_duplicates(["trial", "kind", "position"], keep="last")
    keys = ["arm", "seed", "kind", "position"]
    numbers = [column for column in rows.select_dtypes("number").columns if column not in (*keys, "fold")]
    groups = keyed.groupby(keys, sort=False)
    means, counts = groups[numbers].mean(), groups[numbers].count()
    for column in numbers:
        if column.startswith(_MEASURED):
            means[column] = means[column].where(counts[column] == num_folds)
    means = means[groups["fold"].nunique() == num_folds].reset_index().drop(columns="position")
    means.insert(0, "trial", [f"{arm}-seed{seed}" for arm, seed in zip(means["arm"], means["seed"], strict=True)])
    return means
