"""Metrics of a task whose K classes may be true at once, such as the emotions of CMU-MOSEI. Pure functions of arrays.

Each class is a question of its own: a positive logit says yes (a probability above one half), or one above a threshold
that was searched on validation; a metric of the task is the mean over classes. Labels are 1, 0 or NaN where nobody
said; what nobody said does not count.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]

METRICS = ("nll", "uar", "accuracy", "macro_f1", "baseline_accuracy")
"""Names of the metrics, see ``scores``."""
SEARCHED = ("searched_uar", "searched_accuracy", "searched_macro_f1")
"""Names of the metrics at thresholds that were searched on validation, see ``scores_at``."""
CHANCES = np.arange(1, 20) / 20
"""Thresholds that are tried, as in the released code of Dai et al. 2021: 0.05, 0.1, ... 0.95."""


def scores(logits: Floats, labels: Floats) -> dict[str, float]:
    """Return the metrics of one task over a whole split, ``(N, K), (N, K)``; all are NaN when nothing is labelled.

    ``nll``: mean binary cross-entropy in nats, without positive weights. ``uar``: mean over classes of the mean recall
    of yes and no (of those that occur), the balanced accuracy; where both occur it is the weighted accuracy
    ``(TP N / P + TN) / (2 N)`` of Dai et al. 2021. ``accuracy``: mean over classes of the share of right answers, as in
    Dai et al. 2021. ``macro_f1``: mean F1 of the classes that occur or are predicted; 0 where none is.
    ``baseline_accuracy``: the accuracy of an answer that is always no, which says what an accuracy is worth.

    Reference:
        Dai et al., "Multimodal End-to-End Sparse Model for Emotion Recognition", NAACL 2021, section 5.1.
        https://arxiv.org/abs/2103.09666

    >>> found = scores(np.array([[2.0, -1.0], [-2.0, -1.0]]), np.array([[1.0, 0.0], [0.0, 1.0]]))
    >>> found["accuracy"], found["baseline_accuracy"], found["uar"]
    (0.75, 0.5, 0.75)
    """
    told = ~np.isnan(labels)
    asked = told.any(axis=0)  # a class of which nothing is known is no question
    if not asked.any():
        return dict.fromkeys(METRICS, math.nan)
    told, given, truth = told[:, asked], logits[:, asked].astype(np.float64), np.nan_to_num(labels[:, asked])
    yes, said = told & (truth > 0.5), told & (given > 0)
    counts = _Counts(yes & said, told & ~yes & ~said, yes, told & ~yes)
    losses = np.logaddexp(0.0, given) - truth * given
    return {
        "nll": float(losses[told].mean()),
        "uar": float(counts.balanced.mean()),
        "accuracy": float(((counts.hits + counts.rejections) / told.sum(axis=0)).mean()),
        "macro_f1": counts.macro_f1(said.sum(axis=0)),
        "baseline_accuracy": float((counts.negatives / told.sum(axis=0)).mean()),
    }


def best_thresholds(logits: Floats, labels: Floats) -> NDArray[np.float32]:
    """Return for each class the log odds above which yes gives the best F1, ``(N, K), (N, K) -> (K,)``.

    The first of ``CHANCES`` where several are best; one half where nothing is yes, as no F1 then tells them apart. It
    is asked of validation, never of what is to be scored.

    >>> best_thresholds(np.array([[1.0], [0.5], [-1.0]]), np.array([[1.0], [1.0], [0.0]])).round(1)
    array([-0.8], dtype=float32)
    """
    odds = np.log(CHANCES / (1 - CHANCES))
    told = ~np.isnan(labels)
    yes = told & (labels > 0.5)
    said = told & (logits > odds[:, None, None])
    hits, either = (said & yes).sum(axis=1), said.sum(axis=1) + yes.sum(axis=0)
    found = odds[np.argmax(2 * hits / np.maximum(either, 1), axis=0)]
    return np.where(yes.any(axis=0), found, 0.0).astype(np.float32)


def scores_at(thresholds: Floats, logits: Floats, labels: Floats) -> dict[str, float]:
    """Return the metrics ``SEARCHED``: those of ``scores`` if logits above the thresholds say yes.

    Args:
        thresholds: from ``best_thresholds`` on validation, ``(K,)``; or ``(N, K)``, of several parts in one.
        logits: ``(N, K)``.
        labels: ``(N, K)``.
    """
    found = scores(logits - thresholds, labels)
    return {name: found[name.removeprefix("searched_")] for name in SEARCHED}


class _Counts:
    """Right answers and labels by class, from marks ``(N, K)``: yes and right, no and right, is yes, is no."""

    def __init__(self, *marks: NDArray[np.bool_]) -> None:
        self.hits, self.rejections, self.positives, self.negatives = (mark.sum(axis=0) for mark in marks)

    @property
    def balanced(self) -> NDArray[np.float64]:
        """Mean recall of yes and no, of those that occur, ``(K,)``."""
        recalls = _shares(self.hits, self.positives) + _shares(self.rejections, self.negatives)
        return np.asarray(recalls / ((self.positives > 0) + (self.negatives > 0).astype(int)))

    def macro_f1(self, predicted: NDArray[np.int64]) -> float:
        counts = self.positives + predicted > 0
        if not counts.any():
            return 0.0
        return float((2 * self.hits[counts] / (self.positives + predicted)[counts]).mean())


def _shares(parts: NDArray[np.int64], wholes: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return part / whole, 0 where there is no whole."""
    return np.divide(parts, wholes, out=np.zeros(len(parts)), where=wholes > 0)


def positive_weights(labels: Floats) -> NDArray[np.float32]:
    """Return for each class how many answers are no for each that is yes, ``(N, K) -> (K,)``; 1 where none is yes.

    They make yes and no weigh the same in the loss, as in Dai et al. 2021.

    >>> positive_weights(np.array([[1.0, 0.0], [0.0, 0.0], [0.0, np.nan]])).tolist()
    [2.0, 1.0]
    """
    yes, no = (labels == 1).sum(axis=0), (labels == 0).sum(axis=0)
    weights: NDArray[np.float32] = np.divide(no, yes, out=np.ones(labels.shape[1]), where=yes > 0).astype(np.float32)
    return weights


def has_both(labels: NDArray[Any], of: NDArray[Any]) -> bool:
    """Return whether each answer that a class has in ``of`` ``(M, K)`` is in ``labels`` ``(N, K)`` too."""
    return all(bool(((labels == answer).any(axis=0) | ~(of == answer).any(axis=0)).all()) for answer in (0, 1))
