"""What a trial reports: names and numbers of one epoch, or of its end."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trainables import multilabel
from trainables.corpora import Batches
from trainables.predictions import Outputs
from trainables.tasks import MISSING, Task, joint_loss, normalised, score

Row = dict[str, float | int | str]
"""What a trial reports after an epoch."""

_PER_CLASS = ("uar", "macro_f1", "searched_uar", "searched_macro_f1")
"""Metrics that are means over classes."""


@dataclass(frozen=True)
class Scoring:
    """Turns losses and what a network says of a split into the numbers of a row.

    Attributes:
        tasks: in the order of the strategy's weights.
        reference_weights: task -> weight of the joint loss that checkpoints and arms are judged by.
        train: the training part, in one fold of several: a mean over classes is left out where the fold lacks one.
    """

    tasks: Sequence[Task]
    reference_weights: Mapping[str, float]
    train: Batches | None = None

    def scores(self, split: str, outputs: Outputs, weights: Sequence[float]) -> Row:
        """Return every metric of every task on a split, and the joint losses.

        Args:
            split: ``valid`` or ``test``.
            outputs: task -> what the network says and what is true.
            weights: the strategy's, raw, in the order of the tasks.
        """
        found = {task.name: score(task, *outputs[task.name]) for task in self.tasks}
        row = self._named(split, found, outputs)
        return row | self.joint_losses(split, {name: metrics["nll"] for name, metrics in found.items()}, weights)

    def searched(self, split: str, outputs: Outputs, thresholds: Mapping[str, NDArray[np.float32]]) -> Row:
        """Return the metrics of multilabel tasks at thresholds: task -> log odds of each class, ``(K,)``."""
        found = {name: multilabel.scores_at(chosen, *outputs[name]) for name, chosen in thresholds.items()}
        return self._named(split, found, outputs)

    def joint_losses(self, split: str, losses: Mapping[str, float], weights: Sequence[float]) -> Row:
        """Return the joint loss at the reference weights, and at the strategy's own."""
        own = dict(zip(losses, normalised(weights), strict=True))
        return {
            f"{split}/joint_nll": joint_loss(losses, self.reference_weights),
            f"{split}/weighted_nll": joint_loss(losses, own),
        }

    def weights(self, raw: Sequence[float]) -> Row:
        """Return the weights of the strategy, normalised and raw."""
        names = [task.name for task in self.tasks]
        row: Row = {f"weight/{name}": weight for name, weight in zip(names, normalised(raw), strict=True)}
        return row | {f"raw_weight/{name}": weight for name, weight in zip(names, raw, strict=True)}

    def _named(self, split: str, found: Mapping[str, Mapping[str, float]], outputs: Outputs) -> Row:
        return {
            f"{split}/{metric}/{task.name}": value
            for task in self.tasks
            if task.name in found
            for metric, value in found[task.name].items()
            if metric not in _PER_CLASS or self._has_all_classes(task, outputs[task.name][1])
        }

    def _has_all_classes(self, task: Task, labels: NDArray[np.generic]) -> bool:
        """Whether a mean over classes tells something: not where a fold lacks classes that training has."""
        if self.train is None:
            return True
        trained = self.train.labels(task.name)
        if task.kind == "multilabel":
            return multilabel.has_both(labels, trained)
        return bool(np.isin(trained, [*np.unique(labels), MISSING]).all())


def means(rows: Sequence[Row], kind: str) -> Row:
    """Return the mean of every value whose name starts with ``kind`` over the rows that have it."""
    names = dict.fromkeys(name for row in rows for name in row if name.startswith(kind))
    return {name: statistics.fmean(float(row[name]) for row in rows if name in row) for name in names}


def medians(rows: Sequence[Row], *kinds: str) -> Row:
    """Return the median over rows of every value of the first whose name starts with one of ``kinds``."""
    names = [name for name in rows[0] if name.startswith(kinds)]
    return {name: statistics.median(float(row[name]) for row in rows) for name in names}
