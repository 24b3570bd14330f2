"""The main job from end to end: prepare, run, record, compare, report."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from strategies import registry as strategy_registry
from strategies.plugins import Registry
from strategies.text import redacted
from study import driver, nodes, provenance, records, tracking, waves
from study.analysis import Comparison, compare
from study.corpus_job import prepare_store, table_at_hand
from study.definition import Arm, Definition, load
from study.errors import StudyError
from study.observing import Observers
from study.pilot import pilot
from study.plan import Plan, make_plan
from study.progress import Board, Display
from study.ray_start import ray_started
from study.recorder import Recorder
from study.records import StudyFolder
from study.report import note, write_report
from study.runner import run_trials, settled
from study.tracking import Tracker, default_uri
from study.tuning import sync_tuning
from study.tuning_run import tune
from study.warm_start import with_points
from study.workplace import courier, refuse_unfit
from trainables import corpora
from trainables.corpora import Store
from trainables.corpora import registry as corpus_registry
from trainables.networks import registry as network_registry
from trainables.specification import TrialSpecification


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Attributes:
        folder: the study.
        comparison: of the trials that finished; None if none did.
        report: path of the report; None if there is nothing to report.
        failed: number of failed trials.
        unfinished: number of trials that did not end: the run was interrupted.
        tracking_uri: where the results are recorded.
        tracking_problem: why they could not all be recorded, or None.
    """

    folder: StudyFolder
    comparison: Comparison | None
    report: Path | None
    failed: int
    unfinished: int
    tracking_uri: str
    tracking_problem: str | None


def run(
    definition: Definition,
    home: Path,
    display: Display,
    *,
    address: str | None = None,
    fresh: bool = False,
    retry_failed: bool = False,
) -> Outcome:
    """Run a study to its end, or go on with it: trials that ended are kept.

    Args:
        definition: what to run.
        home: folder of all studies.
        display: what a person sees.
        address: of a Ray cluster; None starts Ray on this machine.
        fresh: forget what an earlier run of the same study has done.
        retry_failed: run the trials that failed again.

    Raises:
        UserError: something does not fit; nothing that was computed is lost.
    """
    for line in name_clashes(definition):
        display.warn(line)
    corpus = corpora.create(definition.corpus.name, **definition.corpus.options)
    plan = make_plan(definition, corpus)
    folder = StudyFolder(home / definition.study)
    plan = with_points(plan, folder, fresh=fresh)
    folder.create()
    with folder.locked():
        if fresh:
            _forget(folder)
        store = prepare_store(definition, corpus, display)
        plan = plan.with_table(store.table)
        for warning in dict.fromkeys(split.warning for split in plan.splits(store.table) if split.warning):
            display.warn(warning)
        _write_lock(folder, plan, store)
        if plan.methods:
            tuned = tune(plan, corpus, folder, _shared_place(plan, store), display, address, retry_failed=retry_failed)
            if tuned is None:
                tracker = Tracker(folder, uri := default_uri(home))
                tracker.start()
                return _conclude(plan, folder, tracker, uri, display)
            plan = tuned
            _write_lock(folder, plan, store)
        return _run_locked(plan, folder, store, display, address=address, retry_failed=retry_failed)


def resume(folder: StudyFolder, display: Display, *, address: str | None = None, retry_failed: bool = False) -> Outcome:
    """Go on with a study from the definition that is frozen in its folder.

    Raises:
        UserError: the definition was edited, or something does not fit.
    """
    definition = load(str(folder.definition))
    if definition.study != folder.name:
        raise StudyError(
            f"{folder.definition} was edited: it describes study {definition.study} now, and can be run as that "
            f"(study run {folder.definition})"
        )
    return run(definition, folder.path.parent, display, address=address, retry_failed=retry_failed)


def planned(definition: Definition) -> Plan:
    """Return what a definition means, its folds counted where that takes no more than a look at the corpus's folder.

    Raises:
        UserError: something does not fit.
    """
    corpus = corpora.create(definition.corpus.name, **definition.corpus.options)
    plan = make_plan(definition, corpus)
    if not plan.is_folded or plan.folds is not None:
        return plan
    table = table_at_hand(definition, corpus)
    return plan if table is None else plan.with_table(table)


def piloted(definition: Definition, display: Display) -> dict[str, str]:
    """Return what a study will take, measured on this machine with one epoch of every distinct training.

    Raises:
        UserError: something does not fit.
    """
    corpus = corpora.create(definition.corpus.name, **definition.corpus.options)
    plan = make_plan(definition, corpus)
    store = prepare_store(definition, corpus, display)
    return pilot(plan.with_table(store.table), corpus, _shared_place(plan, store))


def name_clashes(definition: Definition) -> list[str]:
    """Return one line for each name of a definition that a plug-in registers as well: the project's own is used."""
    used: list[tuple[Registry[Any], list[str]]] = [
        (strategy_registry.REGISTRY, [arm.strategy if isinstance(arm, Arm) else "static" for arm in definition.arms]),
        (network_registry.REGISTRY, _network_names(definition)),
        (corpus_registry.REGISTRY, [definition.corpus.name]),
    ]
    return [
        line
        for registry, names in used
        for name, line in registry.clashes().items()
        if name in names and name in registry.names()
    ]


def _network_names(definition: Definition) -> list[str]:
    own = (arm.network for arm in definition.arms if isinstance(arm, Arm))
    return [definition.network.name, *(network.name for network in own if network is not None and network.name)]


def _shared_place(plan: Plan, store: Store) -> str:
    """Return where trials find the corpus: a URL, of which each machine makes its copy, or a path."""
    place = plan.definition.corpus.root
    return place if place is not None and corpora.is_url(place) else str(store.path)


def _run_locked(
    plan: Plan, folder: StudyFolder, store: Store, display: Display, *, address: str | None, retry_failed: bool
) -> Outcome:
    trials = plan.trials(_shared_place(plan, store), str(folder.checkpoints))
    board = Board(plan.arms, plan.definition.seeds, plan.definition.training.epochs, folds=plan.folds or (None,))
    waiting = _waiting(trials, folder, board, retry_failed=retry_failed)
    uri = default_uri(folder.path.parent)
    display.say(f"study {folder.name}: {len(waiting)} of {len(trials)} trials to run, in {folder.path}")
    tracker = Tracker(folder, uri)
    tracker.start()
    if waiting:
        _run_trials(
            waiting, plan, folder, board, Observers(Recorder(folder), board, display, tracker), display, address
        )
    return _conclude(plan, folder, tracker, uri, display)


def _run_trials(
    waiting: Sequence[TrialSpecification],
    plan: Plan,
    folder: StudyFolder,
    board: Board,
    observers: Observers,
    display: Display,
    address: str | None,
) -> None:
    """Run what has to run on this machine, or on the cluster at ``address`` once its machines have been looked at."""
    with ray_started(address, folder.log) as machines:
        if address is not None:
            refuse_unfit(nodes.look(), display)
        with courier(waiting, folder, address) as at:
            resources = settled(plan.definition.resources, waiting, machines, at)
            if resources.share:
                display.say(f"each trial gets {resources.share:g} of a GPU")
            with display.showing(board):
                board.start_clock(nodes.concurrency(resources, machines))
                run = partial(run_trials, resources=resources, machines=machines, observer=observers, address=at)
                waves.run(waiting, plan.arms, folder, observers, partial(run, scratch=folder.path / "ray"))


def _conclude(plan: Plan, folder: StudyFolder, tracker: Tracker, uri: str, display: Display) -> Outcome:
    results = records.load_results(folder)
    asked = results.trials[results.trials["seed"].isin(plan.definition.seeds)]["status"]
    failed = int((asked == "failed").sum())
    unfinished = int(asked.isin(["interrupted", "pending"]).sum())
    comparison, report = None, None
    if results.is_comparable:
        display.say("comparing and writing the report")
        comparison = compare(results)
        report = write_report(results, folder.report)
    status = "KILLED" if unfinished else "FINISHED"
    problem = tracker.finish(status, note(comparison), headline(comparison))
    driver.write_outcome(folder, failed=failed, unfinished=unfinished, tracking_uri=uri, tracking_problem=problem)
    return Outcome(folder, comparison, report, failed, unfinished, uri, problem)


def headline(comparison: Comparison | None) -> dict[str, float]:
    """Return the metrics shown on the study's own MLflow run."""
    if comparison is None:
        return {}
    return {"trials_finished": float(comparison.num_finished), "trials_failed": float(len(comparison.failures))}


def _forget(folder: StudyFolder) -> None:
    for path in (folder.rows, folder.predictions, folder.checkpoints, folder.report, folder.tuning.path):
        shutil.rmtree(path, ignore_errors=True)
    folder.lock.unlink(missing_ok=True)
    folder.create()


def _write_lock(folder: StudyFolder, plan: Plan, store: Store) -> None:
    """Freeze the study: what it is, what it runs on, and every seed that any of its runs was asked for.

    Raises:
        StudyError: an earlier run of this study used other data, or the folder holds another study.
    """
    if folder.lock.exists():
        if folder.read_lock()["identity"] != plan.definition.identity:
            raise StudyError(
                f"{folder.path} holds another study under this name, or its lock.json was edited: "
                "move the folder away, or start anew with --fresh"
            )
        before = folder.read_lock()["corpus"]["content_hash"]
        if before != store.content_hash:
            raise StudyError(
                f"study {folder.name} was run on other data (corpus hash {before[:12]}, now "
                f"{store.content_hash[:12]}): bring the old corpus back, or start anew with --fresh"
            )
        plan = plan.with_seeds(folder.read_lock()["seeds"])
    lock = provenance.lock(plan, store)
    if folder.lock.exists() and any(folder.rows.iterdir()):
        lock = provenance.with_earlier(lock, folder.read_lock())
    folder.write_text(folder.definition, plan.definition.as_yaml())
    folder.write_text(folder.lock, json.dumps(lock, indent=1))


def _waiting(
    trials: Sequence[TrialSpecification], folder: StudyFolder, board: Board, *, retry_failed: bool
) -> list[TrialSpecification]:
    """Return the trials that have yet to run, and tell the board of those that have not."""
    waiting = []
    for trial in trials:
        record = folder.record(trial.trial)
        if record.status == "finished" or (record.status == "failed" and not retry_failed):
            last = record.rows[-1] if record.rows else {}
            board.found_finished(trial, last.get("valid/joint_nll"), record.status)
        else:
            waiting.append(trial)
    return waiting


def sync(folder: StudyFolder) -> str:
    """Bring MLflow up to what a study has on disk; return what was done, in one line.

    Raises:
        StudyError: the tracking store does not answer, or the study is being run: its driver writes by itself.
    """
    with folder.locked():
        results = records.load_results(folder)
        comparison = compare(results) if results.is_comparable else None
        uri = default_uri(folder.path.parent)
        if results.tuning is not None:
            sync_tuning(folder, results.tuning, uri)
        status = "KILLED" if results.trials["status"].isin(["interrupted", "pending"]).any() else "FINISHED"
        count = tracking.sync(folder, uri, status, note(comparison), headline(comparison))
    return f"{count} trials of {folder.name} are recorded in {redacted(uri)}"
