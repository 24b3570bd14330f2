"""The machines of a cluster as a study meets them: are they fit, and how do they get what they do not see."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from study import nodes
from study.errors import StudyError
from study.progress import Display
from study.records import StudyFolder
from trainables import corpora
from trainables.specification import TrialSpecification


def refuse_unfit(found: Sequence[nodes.Node], display: Display) -> None:
    """Refuse a cluster with machines that cannot run a trial, or that have another version of what trials are made of.

    Raises:
        StudyError: with the first of them.
    """
    if told := nodes.differences(found, nodes.this_machine()):
        raise StudyError("; ".join(told[:3]) + (f" (and {len(told) - 3} more)" if len(told) > 3 else ""))
    display.say(
        f"{len(found)} machines: {', '.join(f'{node.host} ({node.cpus:g} CPUs, {node.gpus:g} GPUs)' for node in found)}"
    )


def courier(
    waiting: Sequence[TrialSpecification], folder: StudyFolder, address: str | None, *, named: bool = True
) -> AbstractContextManager[Any]:
    """Return the context in which machines that do not see this one's folders can ask for what they lack.

    Where trials are made up as a search goes, they are not named.
    """
    if address is None:
        return nullcontext()
    from trainables.delivery import couriers

    store = waiting[0].store
    names = [trial.trial for trial in waiting] if named else None
    return couriers(None if corpora.is_url(store) else store, folder.checkpoints, names)
