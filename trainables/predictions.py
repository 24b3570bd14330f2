"""What a trained network said of every test utterance, as plain arrays that travel and are kept as one file.

The file is NumPy's ``.npz``, without pickled objects. Its arrays, N utterances in the order of the corpus::

    utterances              (N,)    names
    log_probabilities/TASK  (N, C)  natural logarithm of each class's probability; a task of classification
    values/TASK             (N,)    a task of regression, on the scale of the corpus's own ratings
    logits/TASK             (N, K)  log odds of each class; a task whose classes may be true at once
    thresholds/TASK         (N, K)  log odds above which such a class is a yes, as searched on validation
    labels/TASK             (N,)    index of the class, -1 where there is none; or the rating, NaN where there is none;
                                    of a task whose classes may be true at once (N, K): 1, 0, or NaN
"""

import io
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from trainables.errors import TrainingError

if TYPE_CHECKING:
    from trainables.tasks import Task  # needs PyTorch; whoever only reads does without

Outputs = Mapping[str, tuple[NDArray[np.float32], NDArray[Any]]]
"""Task -> what a network gives ``(N, C)`` and the labels ``(N,)``, or ``(N, C)`` of several that may be true."""

_KINDS = ("log_probabilities", "values", "labels", "logits", "thresholds")


@dataclass(frozen=True)
class Predictions:
    """Predictions and labels of one test part; every task is in ``labels`` and in one of the others.

    Attributes:
        utterances: names, ``(N,)``.
        log_probabilities: task of classification -> natural logarithms of the class probabilities, ``(N, C)``.
        values: task of regression -> predictions on the scale of the corpus's own ratings, ``(N,)``.
        labels: task -> class indices, -1 where missing, or ratings, NaN where missing, ``(N,)``; or answers, 1, 0 or
            NaN where missing, ``(N, K)``.
        logits: multilabel task -> log odds of each class, ``(N, K)``.
        thresholds: multilabel task -> log odds above which a class is a yes, searched on validation, ``(N, K)``; all
            rows of a trial are the same. Nothing where none were searched.
    """

    utterances: NDArray[np.str_]
    log_probabilities: Mapping[str, NDArray[np.floating[Any]]]
    values: Mapping[str, NDArray[np.floating[Any]]]
    labels: Mapping[str, NDArray[Any]]
    logits: Mapping[str, NDArray[np.floating[Any]]] = field(default_factory=dict)
    thresholds: Mapping[str, NDArray[np.floating[Any]]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.utterances)

    def to_bytes(self) -> bytes:
        """Return the content of the file; equal predictions give equal bytes."""
        arrays = {f"{kind}/{task}": array for kind in _KINDS for task, array in getattr(self, kind).items()}
        buffer = io.BytesIO()
        np.savez_compressed(buffer, utterances=self.utterances, **arrays)
        return buffer.getvalue()


def predictions_of(
    tasks: "Sequence[Task]",
    utterances: NDArray[np.str_],
    outputs: Outputs,
    units: Mapping[str, tuple[float, float]],
    thresholds: Mapping[str, NDArray[np.float32]] = MappingProxyType({}),
) -> Predictions:
    """Return the predictions that a network's outputs are.

    Args:
        tasks: what it was trained on.
        utterances: names, ``(N,)``.
        outputs: as ``trainables.loop.evaluate`` returns them.
        units: task of regression -> mean and deviation that its ratings were measured in.
        thresholds: multilabel task -> log odds that were searched on validation, ``(K,)``.
    """
    classified, rated, several = (
        [task.name for task in tasks if task.kind == kind] for kind in ("classification", "regression", "multilabel")
    )
    values = {name: _in_own_units(outputs[name][0][:, 0], units[name]) for name in rated}
    labels = {name: outputs[name][1] for name in (*classified, *several)}
    labels |= {name: _in_own_units(outputs[name][1], units[name]) for name in rated}
    logits = {name: outputs[name][0] for name in several}
    searched = {name: np.tile(odds, (len(utterances), 1)) for name, odds in thresholds.items()}
    chances = {name: _log_softmax(outputs[name][0]) for name in classified}
    return Predictions(utterances, chances, values, labels, logits, searched)


def _log_softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return natural logarithms of the class probabilities, ``(N, C) -> (N, C)``."""
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    found: NDArray[np.float32] = (shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))).astype(np.float32)
    return found


def _in_own_units(numbers: NDArray[Any], units: tuple[float, float]) -> NDArray[np.float32]:
    mean, deviation = units
    return (mean + deviation * numbers.astype(np.float64)).astype(np.float32)


def read_predictions(content: bytes) -> Predictions:
    """Return the predictions in a file's content.

    Raises:
        TrainingError: it is damaged.
    """
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            arrays = dict(file)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as failure:
        raise TrainingError(f"the predictions are damaged ({' '.join(str(failure).split())})") from failure
    if "utterances" not in arrays:
        raise TrainingError("the predictions are damaged (no names of utterances)")
    return Predictions(arrays["utterances"], *(_of_kind(arrays, kind) for kind in _KINDS))


def _of_kind(arrays: Mapping[str, NDArray[Any]], kind: str) -> dict[str, NDArray[Any]]:
    return {name.removeprefix(f"{kind}/"): array for name, array in arrays.items() if name.startswith(f"{kind}/")}
