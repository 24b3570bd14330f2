"""The corpus as a trial sees it, read once for all trials of a process."""

import functools
import json
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from trainables import networks
from trainables.corpora import Batches, Store, open_place, split_for_tasks, units_of
from trainables.specification import TrialSpecification
from trainables.tasks import Task


class TrialData(NamedTuple):
    """The corpus as a trial sees it.

    Attributes:
        parts: ``train``, ``valid`` and ``test`` -> their batches.
        tested: names of the test utterances, in their order.
        units: task -> mean and deviation of its ratings in training.
        source: name and options of the corpus.
    """

    parts: dict[str, Batches]
    tested: NDArray[np.str_]
    units: dict[str, tuple[float, float]]
    source: dict[str, Any]


def data_of(specification: TrialSpecification) -> TrialData:
    """Return the corpus as a trial sees it; trials in one process share what was read, whatever their networks read."""
    data = _load_data(_data_key(specification))
    modalities, size = specification.network["modalities"], specification.training["batch_size"]
    return data._replace(parts={name: part.reading(modalities, size) for name, part in data.parts.items()})


def _data_key(specification: TrialSpecification) -> str:
    """Return what decides the utterances of a trial, their length and labels; what of them is read comes later."""
    network = specification.network
    seconds = networks.input_settings(network["name"], network["preset"], network["options"]).max_seconds
    values = {name: value for name, value in specification.as_dict().items() if name in ("store", "split", "tasks")}
    soft = bool(specification.training.get("soft_labels"))
    return json.dumps(values | {"max_seconds": seconds, "soft_labels": soft}, sort_keys=True)


@functools.lru_cache(maxsize=2)
def _open(path: str) -> Store:
    return open_place(path)


@functools.lru_cache(maxsize=1)
def _load_data(key: str) -> TrialData:
    """Return the corpus for a key of ``_data_key``, no media read yet; trials that follow in the process reuse it.

    One at a time: a corpus may take as much memory as ``Batches`` allows.
    """
    values = json.loads(key)
    store = _open(values["store"])
    tasks = [Task.from_dict(task) for task in values["tasks"]]
    chosen = values["split"]
    pooled = bool(chosen.get("pooled"))
    split = split_for_tasks(chosen["protocol"], store.table, tasks, chosen["options"], pooled=pooled)
    units = units_of(store, tasks, split.train)
    parts = {
        name: Batches(
            store,
            getattr(split, name),
            tasks,
            (),
            1,
            values["max_seconds"],
            units,
            soft_labels=values["soft_labels"] and name == "train",
        )
        for name in ("train", "valid", "test")
    }
    source = {"name": store.manifest["corpus"], "options": store.manifest["options"]}
    return TrialData(parts, store.table["utterance"].iloc[split.test].to_numpy(dtype=np.str_), units, source)
