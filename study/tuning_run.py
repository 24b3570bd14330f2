"""The tuning phase from end to end: its trials are run, recorded and followed, and what was chosen becomes the plan."""

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from typing import Any

from study import nodes, waves
from study.analysis.delta import SINGLE_TASK
from study.arms import Arm
from study.errors import StudyError
from study.observing import Observer, Observers
from study.plan import Plan, make_plan
from study.progress import Board, Display
from study.ray_start import ray_started
from study.recorder import Recorder
from study.records import StudyFolder
from study.runner import run_feed, settled
from study.tracking import Tracker, default_uri
from study.tuning import Tuner
from study.warm_start import keep_points
from study.workplace import courier, refuse_unfit
from trainables.corpora import Corpus

CONFIRMED = "confirmed.json"
"""File in the folder of the tuning phase: the arms that its choices were made into."""

REPLACED = "replaced"
"""Folder in that of the tuning phase: trials of choices that were overtaken."""


def tune(
    plan: Plan,
    corpus: Corpus,
    folder: StudyFolder,
    store: str,
    display: Display,
    address: str | None,
    *,
    retry_failed: bool = False,
) -> Plan | None:
    """Search every method, or go on with it; return the plan of the chosen configurations, None if interrupted.

    Args:
        plan: of the study.
        corpus: that it is studied on.
        folder: of the study.
        store: where trials find the prepared corpus: a path, or a URL.
        display: what a person sees.
        address: of a Ray cluster; None starts Ray on this machine.
        retry_failed: try again the configurations that failed.

    Raises:
        UserError: something does not fit; nothing that was computed is lost.
    """
    keep_points(plan, folder)
    tuner = Tuner(plan, corpus, folder, store)
    campaign = tuner.campaign
    if retry_failed:
        _retry(tuner, plan, corpus, folder, display)
    if not campaign.done:
        display.say(f"study {folder.name}: tuning {len(plan.methods)} methods, in {tuner.folder.path}")
        board = tuner.board()
        observers = Observers(Recorder(tuner.folder), tuner, board, display)
        tracker = tuner.tracker(folder, default_uri(folder.path.parent))
        with reported(tuner, tracker), ray_started(address, folder.log) as machines:
            _feed(tuner, plan, Observers(observers, tracker), board, display, machines, address)
    if not campaign.done:
        return None
    if not (tuner.folder.path / "tuning.json").exists():
        tuner.close()
    tuned, lost = without_failed(_chosen_plan(plan, corpus, tuner), tuner.chosen())
    if lost:
        display.warn(f"every configuration of {', '.join(lost)} failed in tuning: left out of the comparison")
    confirm(tuned, folder, display)
    return tuned


def _chosen_plan(plan: Plan, corpus: Corpus, tuner: Tuner) -> Plan:
    return replace(make_plan(plan.definition, corpus, tuner.chosen()), folds=plan.folds)


def _retry(tuner: Tuner, plan: Plan, corpus: Corpus, folder: StudyFolder, display: Display) -> None:
    """Try again what failed in a search; what was confirmed until then is kept in mind."""
    if tuner.campaign.done and tuner.chosen():
        confirm(_chosen_plan(plan, corpus, tuner), folder, display)
    if count := tuner.retry():
        told = "1 configuration that failed is" if count == 1 else f"{count} configurations that failed are"
        display.say(f"study {folder.name}: {told} tried again in tuning")


def confirm(plan: Plan, folder: StudyFolder, display: Display) -> None:
    """Note what the arms of the second phase are; set aside the trials of those that are others than they were.

    That happens where a configuration that was tried again turns out to be better than the chosen one. What the trials
    gave is moved into ``tuning/replaced``, and arms that are made of their rows begin anew with them.
    """
    path = folder.tuning.path / CONFIRMED
    wanted = {arm.arm: _identity(arm) for arm in plan.arms}
    before = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    changed = {name for name, identity in wanted.items() if before.get(name, identity) != identity}
    changed |= {arm.arm for arm in plan.arms if arm.role in waves.DERIVED and arm.of in changed}
    for name in sorted(changed):
        trials = [trial["trial"] for trial in folder.read_lock()["trials"] if trial["arm"] == name]
        moved = sum(_set_aside(trial, folder) for trial in trials)
        if moved:
            display.warn(
                f"{name} has another configuration than before, or is made of one that has: {moved} trials are trained "
                f"again; what they gave is in {folder.tuning.path / REPLACED}"
            )
    if before != before | wanted:
        folder.write_text(path, json.dumps(before | wanted, indent=1))


def _identity(arm: Arm) -> Any:  # noqa: ANN401  (plain values)
    told = {name: value for name, value in asdict(arm).items() if name != "label"}
    return json.loads(json.dumps(told, sort_keys=True, default=str))


def _set_aside(trial: str, folder: StudyFolder) -> bool:
    """Move what a trial gave out of the study; return whether there was anything."""
    aside = folder.tuning.path / REPLACED
    aside.mkdir(exist_ok=True)
    shutil.rmtree(folder.checkpoints / trial, ignore_errors=True)
    found = [path for path in (folder.rows / f"{trial}.jsonl", folder.predictions / f"{trial}.npz") if path.exists()]
    for path in found:
        path.replace(aside / path.name)
    return bool(found)


def _feed(
    tuner: Tuner,
    plan: Plan,
    observer: Observer,
    board: Board,
    display: Display,
    machines: Sequence[nodes.Machine],
    address: str | None,
) -> None:
    """Run the segments of a search on this machine or on the cluster at ``address``."""
    if address is not None:
        refuse_unfit(nodes.look(), display)
    examples = tuner.examples()
    with courier(examples, tuner.folder, address, named=False) as at:
        resources = settled(plan.definition.resources, examples, machines, at)
        with display.showing(board):
            board.start_clock(nodes.concurrency(resources, machines))
            run_feed(tuner, resources, machines, observer, tuner.folder.path / "ray", address=at)


def without_failed(plan: Plan, chosen: Mapping[str, object]) -> tuple[Plan, list[str]]:
    """Return the plan without the methods of which every configuration failed, and their names.

    Arms that are there to judge such a method go with it.

    Raises:
        StudyError: the control is among them.
    """
    lost = [method.name for method in plan.methods if method.name not in chosen]
    if plan.control in lost:
        raise StudyError(
            f"every configuration of {plan.control}, the control, failed in tuning: see study.log and rows"
        )
    kept = [arm for arm in plan.arms if arm.arm not in lost and (arm.role == SINGLE_TASK or arm.of not in lost)]
    return replace(plan, arms=tuple(kept)), lost


@contextmanager
def reported(tuner: Tuner, tracker: Tracker) -> Iterator[None]:
    """Keep MLflow and the files that reports read up to date while the tuning phase runs, however it ends."""
    tracker.start()
    try:
        yield
    finally:
        tuner.close()
        if tuner.campaign.done:
            tuner.writer.chosen = tuner.chosen_trials()
            tuner.writer.endings = tuner.endings()
        tracker.finish("FINISHED", "", {})
