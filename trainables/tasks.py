"""Tasks: what a network predicts, how that is scored. Pure functions."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from strategies.base import TaskFacts, TaskKind
from trainables import multilabel

MISSING = -1
"""The class index of an utterance that has no label for a task; regression marks it with NaN."""

_CONSTANT_TARGET = 1e-8
"""Keeps the concordance finite when targets and predictions are constant, as in a batch of one."""


@dataclass(frozen=True)
class Task:
    """One output of the network with its loss.

    Attributes:
        name: such as ``"emotion"``; also the name of its label column in a corpus, but for ``multilabel``.
        classes: names of the classes in the order of their indices; empty for regression.
        kind: classification (negative log-likelihood), regression (1 - concordance correlation) or multilabel (mean
            binary cross-entropy of classes of which several may be true at once).
        marks: of a multilabel task, the column of each class and the value there that says yes, see
            ``Corpus.multilabels``.
    """

    name: str
    classes: tuple[str, ...] = ()
    kind: TaskKind = "classification"
    marks: tuple[tuple[str, str], ...] = ()

    @classmethod
    def from_dict(cls, task: Mapping[str, Any]) -> "Task":
        """Return the task that ``as_dict`` described."""
        marks = tuple((str(column), str(value)) for column, value in task.get("marks", ()))
        return cls(task["name"], tuple(task["classes"]), task["kind"], marks)

    def as_dict(self) -> dict[str, Any]:
        """Return the task as plain values; ``marks`` only where it has any."""
        plain = {"name": self.name, "classes": list(self.classes), "kind": self.kind}
        return plain | ({"marks": [list(mark) for mark in self.marks]} if self.marks else {})

    @property
    def num_outputs(self) -> int:
        """Number of values the network's head gives for this task: C classes, or 1."""
        return 1 if self.kind == "regression" else len(self.classes)

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of a corpus that its labels are made of."""
        return tuple(dict.fromkeys(column for column, _ in self.marks)) or (self.name,)

    @property
    def facts(self) -> TaskFacts:
        """What a strategy may know of this task."""
        chance = {"regression": 1.0, "multilabel": math.log(2)}.get(self.kind) or math.log(len(self.classes))
        return TaskFacts(self.name, self.kind, chance)

    def present(self, labels: Tensor) -> Tensor:
        """Return which utterances have a label, ``(N,)`` or ``(N, K) -> (N,)`` bool; one class of several is enough."""
        if self.kind == "multilabel":
            return ~labels.isnan().all(dim=1)
        return labels != MISSING if self.kind == "classification" else ~labels.isnan()


def task_loss(
    task: Task,
    outputs: Tensor,
    labels: Tensor,
    class_weights: Tensor | None = None,
    soft: Tensor | None = None,
) -> Tensor:
    """Return the task's loss, the mean over the utterances that have a label, ``(N, C), (N,) -> ()``.

    Classification: negative log-likelihood in nats, weighted by class where ``class_weights`` ``(C,)`` is given; with
    ``soft`` ``(N, C)``, the cross-entropy with the shares of the annotators (NaN where there are none).
    Regression: one minus the concordance correlation coefficient.
    Multilabel: mean binary cross-entropy over the answers there are, ``(N, K), (N, K) -> ()``, those that are yes
    weighted by ``class_weights`` ``(K,)`` where given (then its scale depends on them). Without any label the loss is
    0, with a graph.
    """
    if task.kind == "multilabel":
        return _binary_loss(outputs, labels, class_weights)
    if soft is not None:
        told = ~soft.isnan().any(dim=1)
        if not bool(told.any()):
            return outputs.sum() * 0.0
        return functional.cross_entropy(outputs[told], soft[told], weight=class_weights)
    present = task.present(labels)
    if not bool(present.all()):
        outputs, labels = outputs[present], labels[present]
        if len(labels) == 0:
            return outputs.sum() * 0.0
    if task.kind == "regression":
        return 1.0 - concordance(outputs.squeeze(1), labels)
    return functional.cross_entropy(outputs, labels, weight=class_weights)


def _binary_loss(logits: Tensor, labels: Tensor, positive_weights: Tensor | None) -> Tensor:
    told = ~labels.isnan()
    losses = functional.binary_cross_entropy_with_logits(
        logits, labels.nan_to_num(), pos_weight=positive_weights, reduction="none"
    )
    return (losses * told).sum() / told.sum().clamp_min(1)


def concordance(predictions: Tensor, targets: Tensor) -> Tensor:
    r"""Return Lin's concordance correlation coefficient, ``(N,), (N,) -> ()``.

    :math:`\rho_c = 2 s_{xy} / (s_x^2 + s_y^2 + (\bar x - \bar y)^2)`, every moment divided by N, so that a perfect
    prediction of targets that vary gives 1 for any N. Where neither varies and the means agree it is 0.

    >>> concordance(torch.tensor([1.0, 2.0, 3.0, 4.0]), torch.tensor([1.0, 2.0, 3.0, 4.0])).item()
    1.0

    Reference:
        Lin, "A concordance correlation coefficient to evaluate reproducibility", Biometrics 45 (1989), 255-268.
    """
    centred_predictions, centred_targets = predictions - predictions.mean(), targets - targets.mean()
    covariance = (centred_predictions * centred_targets).mean()
    spread = centred_predictions.square().mean() + centred_targets.square().mean()
    distance = (predictions.mean() - targets.mean()).square()
    return 2.0 * covariance / (spread + distance).clamp_min(_CONSTANT_TARGET)


def metric_names(task: Task) -> list[str]:
    """Return the names of what ``score`` returns for a task.

    >>> metric_names(Task("valence", kind="regression"))
    ['nll', 'ccc', 'mse']
    """
    empty = (0, task.num_outputs) if task.kind == "multilabel" else (0,)
    return list(score(task, np.zeros((0, task.num_outputs), dtype=np.float32), np.zeros(empty, dtype=np.int64)))


def score(task: Task, outputs: NDArray[np.float32], labels: NDArray[np.generic]) -> dict[str, float]:
    """Return the metrics of one task over a whole split, ``(N, C), (N,)``; unlabelled utterances do not count.

    Classification: ``nll`` (mean, nats, without class weights), ``accuracy``, ``uar`` (unweighted average recall, the
    mean recall of the classes that occur), ``macro_f1`` (mean F1 of the classes that occur or are predicted).
    Regression: ``nll`` (here the loss, 1 - CCC), ``ccc``, ``mse``. Multilabel: see ``multilabel.scores``. All are NaN
    when nothing is labelled.
    """
    if task.kind == "multilabel":
        return multilabel.scores(outputs, np.asarray(labels, dtype=np.float64))
    logits, targets = torch.from_numpy(np.asarray(outputs)), torch.from_numpy(np.asarray(labels))
    present = task.present(targets)
    logits, targets = logits[present], targets[present]
    if task.kind == "regression":
        return _regression_metrics(logits.squeeze(1).double(), targets.double())
    return _classification_metrics(logits.double(), targets, task.num_outputs)


def _regression_metrics(predictions: Tensor, targets: Tensor) -> dict[str, float]:
    if len(targets) == 0:
        return dict.fromkeys(("nll", "ccc", "mse"), math.nan)
    ccc = concordance(predictions, targets).item()
    return {"nll": 1.0 - ccc, "ccc": ccc, "mse": functional.mse_loss(predictions, targets).item()}


def _classification_metrics(logits: Tensor, targets: Tensor, num_classes: int) -> dict[str, float]:
    if len(targets) == 0:
        return dict.fromkeys(("nll", "accuracy", "uar", "macro_f1"), math.nan)
    predictions = logits.argmax(dim=1)
    confusion = torch.bincount(targets * num_classes + predictions, minlength=num_classes**2)
    confusion = confusion.reshape(num_classes, num_classes).double()
    hits, actual, predicted = confusion.diagonal(), confusion.sum(dim=1), confusion.sum(dim=0)
    occurs, counts = actual > 0, actual + predicted > 0
    return {
        "nll": functional.cross_entropy(logits, targets).item(),
        "accuracy": (hits.sum() / confusion.sum()).item(),
        "uar": (hits[occurs] / actual[occurs]).mean().item(),
        "macro_f1": (2 * hits[counts] / (actual + predicted)[counts]).mean().item(),
    }


def balanced_class_weights(labels: NDArray[np.int64], num_classes: int) -> Tensor:
    """Return weights ``(C,)`` inversely proportional to the frequency of each class; the mean over utterances is 1.

    Args:
        labels: class indices of the training split; -1 where the label is missing.
        num_classes: number of classes C. A class that does not occur gets weight 0.
    """
    counts = np.bincount(labels[labels != MISSING], minlength=num_classes).astype(np.float64)
    occurring = int((counts > 0).sum())
    weights = np.divide(counts.sum(), occurring * counts, out=np.zeros(num_classes), where=counts > 0)
    return torch.from_numpy(weights).float()


def class_weights(task: Task, labels: NDArray[Any]) -> Tensor:
    """Return the weights ``(C,)`` that make up for rare classes of a task, from the labels of the training part."""
    if task.kind == "multilabel":
        return torch.from_numpy(multilabel.positive_weights(labels))
    return balanced_class_weights(labels, task.num_outputs)


def joint_loss(losses: Mapping[str, float], weights: Mapping[str, float]) -> float:
    """Return the weighted sum of per-task losses.

    >>> joint_loss({"emotion": 1.0, "gender": 0.5}, {"emotion": 0.5, "gender": 0.5})
    0.75
    """
    return sum(weights[name] * loss for name, loss in losses.items())


def normalised(weights: Sequence[float]) -> list[float]:
    """Return the weights scaled to sum 1, so that methods with weights on different scales can be compared.

    Negative weights count as 0, as they do for the task heads; where none is positive all are 0.

    >>> normalised([1.0, 3.0]), normalised([2.0, -1.0])
    ([0.25, 0.75], [1.0, 0.0])
    """
    positive = [max(weight, 0.0) for weight in weights]
    total = sum(positive)
    return [weight / total for weight in positive] if total else positive
