"""The main job from end to end: prepare, run, record, compare, report."""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pandas as pd

from strategies import registry as strategy_registry
from strategies.plugins import Registry
from study import provenance, records, tracking
from study.analysis import Comparison, compare
from study.definition import Arm, Definition
from study.errors import StudyError
from study.plan import Plan, make_plan
from study.progress import Board, Display
from study.records import StudyFolder
from study.report import summary_lines, write_report
from study.runner import Observer, concurrency, ray_started, run_trials
from study.tracking import Tracker, default_uri
from trainables import corpora, networks
from trainables.batch import InputSettings
from trainables.corpora import Corpus, Finding, Store
from trainables.corpora import registry as corpus_registry
from trainables.networks import registry as network_registry
from trainables.session import Row, TrialSpecification


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


class Recorder:
    """Appends what happens to trials to the study's rows; an observer."""

    def __init__(self, folder: StudyFolder) -> None:
        self._folder = folder

    def trial_started(self, trial: TrialSpecification) -> None:
        """Record the start."""
        self._folder.append(trial.trial, {"event": "start", "arm": trial.arm, "seed": trial.seed})

    def trial_reported(self, trial: TrialSpecification, row: Row) -> None:
        """Record a row."""
        self._folder.append(trial.trial, {"event": "row", "row": row})

    def trial_ended(self, trial: TrialSpecification, failure: dict[str, str] | None) -> None:
        """Record the end."""
        outcome = {"status": "failed", **failure} if failure else {"status": "finished"}
        self._folder.append(trial.trial, {"event": "end", **outcome})


class Observers:
    """Tells several observers, in order: what is on disk comes first."""

    def __init__(self, *observers: Observer) -> None:
        self._observers = observers

    def trial_started(self, trial: TrialSpecification) -> None:
        """Tell all."""
        for observer in self._observers:
            observer.trial_started(trial)

    def trial_reported(self, trial: TrialSpecification, row: Row) -> None:
        """Tell all."""
        for observer in self._observers:
            observer.trial_reported(trial, row)

    def trial_ended(self, trial: TrialSpecification, failure: dict[str, str] | None) -> None:
        """Tell all."""
        for observer in self._observers:
            observer.trial_ended(trial, failure)


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
    folder.create()
    with folder.locked():
        if fresh:
            _forget(folder)
        store = prepare_store(definition, corpus, display)
        split = corpora.split_for_tasks(definition.split.protocol, store.table, plan.tasks, definition.split.options)
        if split.warning:
            display.warn(split.warning)
        _write_lock(folder, plan, store)
        return _run_locked(plan, folder, store, display, address=address, retry_failed=retry_failed)


def name_clashes(definition: Definition) -> list[str]:
    """Return one line for each name of a definition that a plug-in registers as well: the project's own is used."""
    used: list[tuple[Registry[Any], list[str]]] = [
        (strategy_registry.REGISTRY, [arm.strategy if isinstance(arm, Arm) else "static" for arm in definition.arms]),
        (network_registry.REGISTRY, [definition.network.name]),
        (corpus_registry.REGISTRY, [definition.corpus.name]),
    ]
    return [
        line
        for registry, names in used
        for name, line in registry.clashes().items()
        if name in names and name in registry.names()
    ]


def _run_locked(
    plan: Plan, folder: StudyFolder, store: Store, display: Display, *, address: str | None, retry_failed: bool
) -> Outcome:
    place = plan.definition.corpus.root
    shared = place if place is not None and corpora.is_url(place) else str(store.path)  # each machine makes its copy
    trials = plan.trials(shared, str(folder.checkpoints))
    board = Board(plan.arms, plan.definition.seeds, plan.definition.training.epochs)
    waiting = _waiting(trials, folder, board, retry_failed=retry_failed)
    uri = default_uri(folder.path.parent)
    display.say(f"study {folder.name}: {len(waiting)} of {len(trials)} trials to run, in {folder.path}")
    tracker = Tracker(folder, uri)
    tracker.start()
    if waiting:
        with ray_started(address, folder.log) as cluster, display.showing(board):
            board.start_clock(concurrency(plan.definition.resources, cluster))
            observers = Observers(Recorder(folder), board, display, tracker)
            run_trials(waiting, plan.definition.resources, cluster, observers, folder.path / "ray")
    return _conclude(plan, folder, tracker, uri, display)


def _conclude(plan: Plan, folder: StudyFolder, tracker: Tracker, uri: str, display: Display) -> Outcome:
    results = records.load_results(folder)
    asked = results.trials[results.trials["seed"].isin(plan.definition.seeds)]["status"]
    failed = int((asked == "failed").sum())
    unfinished = int(asked.isin(["interrupted", "pending"]).sum())
    comparison, report = None, None
    if (results.trials["status"] == "finished").any():
        display.say("comparing and writing the report")
        comparison = compare(results)
        report = write_report(results, folder.report)
    status = "KILLED" if unfinished else "FINISHED"
    problem = tracker.finish(status, parent_note(comparison), headline(comparison))
    return Outcome(folder, comparison, report, failed, unfinished, uri, problem)


def parent_note(comparison: Comparison | None) -> str:
    """Return the study's note in MLflow: its summary in plain words."""
    if comparison is None:
        return "No trial has finished."
    return "\n".join(f"- {line}" for line in summary_lines(comparison))


def headline(comparison: Comparison | None) -> dict[str, float]:
    """Return the metrics shown on the study's own MLflow run."""
    if comparison is None:
        return {}
    return {"trials_finished": float(comparison.num_finished), "trials_failed": float(len(comparison.failures))}


def prepare_store(definition: Definition, corpus: Corpus, display: Display) -> Store:
    """Return the corpus in its prepared form, made now unless it is there already.

    Raises:
        CorpusError: the corpus is missing, or more of it is unreadable than the definition allows.
    """
    network = definition.network
    settings = networks.input_settings(network.name, network.preset, network.options)
    if definition.corpus.root is not None and corpora.is_url(definition.corpus.root):
        store = _copied(definition.corpus.root, corpus, settings)
    else:
        root = _root(definition, corpus)
        with display.counting(f"preparing corpus {corpus.name}") as progress:
            store = corpora.prepare(corpus, root, settings, corpora.default_cache(), progress=progress)
    store.check_skipped(definition.corpus.max_skipped)
    for line in store.skipped_lines():
        display.warn(line)
    return store


def _copied(url: str, corpus: Corpus, settings: InputSettings) -> Store:
    """Return this machine's copy of a store in object storage, checked to be what the study wants."""
    store = corpora.open_place(url)
    if otherwise := corpora.difference(store, corpus, settings):
        raise StudyError(f"{url} was prepared otherwise: {otherwise}; prepare the corpus again")
    return store


def _root(definition: Definition, corpus: Corpus) -> Path | None:
    if definition.corpus.root is not None:
        return Path(definition.corpus.root).expanduser()
    if corpus.needs_root:
        raise StudyError(
            f"corpus '{corpus.name}' needs its folder: add --root FOLDER (or corpus.root to the definition)"
        )
    return None


def _forget(folder: StudyFolder) -> None:
    for path in (folder.rows, folder.checkpoints, folder.report):
        shutil.rmtree(path, ignore_errors=True)
    folder.lock.unlink(missing_ok=True)
    folder.create()


def _write_lock(folder: StudyFolder, plan: Plan, store: Store) -> None:
    """Freeze the study: what it is, what it runs on, and every seed that any of its runs was asked for.

    Raises:
        StudyError: an earlier run of this study used other data.
    """
    if folder.lock.exists():
        before = folder.read_lock()["corpus"]["content_hash"]
        if before != store.content_hash:
            raise StudyError(
                f"study {folder.name} was run on other data (corpus hash {before[:12]}, now "
                f"{store.content_hash[:12]}): bring the old corpus back, or start anew with --fresh"
            )
        plan = plan.with_seeds(folder.read_lock()["seeds"])
    folder.write_text(folder.definition, plan.definition.as_yaml())
    folder.write_text(folder.lock, json.dumps(provenance.lock(plan, store), indent=1))


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
        StudyError: the tracking store does not answer.
    """
    results = records.load_results(folder)
    finished = bool((results.trials["status"] == "finished").any())
    comparison = compare(results) if finished else None
    uri = default_uri(folder.path.parent)
    count = tracking.sync(folder, uri, "FINISHED", parent_note(comparison), headline(comparison))
    return f"{count} trials of {folder.name} are recorded in {uri}"


def _corpus(name: str, root: Path | None, options: Mapping[str, Any]) -> tuple[Corpus, Path | None]:
    corpus = corpora.create(name, **options)
    if root is None and corpus.needs_root:
        raise StudyError(f"corpus '{name}' needs its folder: add --root FOLDER")
    return corpus, root


def prepare_corpus(
    name: str,
    root: Path | None,
    network: str,
    preset: str,
    display: Display,
    *,
    out: Path | None = None,
    options: Mapping[str, Any] = MappingProxyType({}),
) -> str:
    """Prepare a corpus for a network, in ``out`` or the user's cache, and return where it is."""
    corpus, folder = _corpus(name, root, options)
    settings = networks.input_settings(network, preset)
    with display.counting(f"preparing corpus {name}") as progress:
        store = corpora.prepare(corpus, folder, settings, out or corpora.default_cache(), progress=progress)
    for line in store.skipped_lines():
        display.warn(line)
    return str(store.path)


def check_corpus(name: str, root: Path | None, options: Mapping[str, Any] = MappingProxyType({})) -> list[Finding]:
    """Return what is missing, unreadable or mislabelled in a corpus."""
    return corpora.check(*_corpus(name, root, options))


def describe_corpus(
    name: str, root: Path | None, options: Mapping[str, Any] = MappingProxyType({})
) -> dict[str, pd.DataFrame]:
    """Return counts of utterances by class, gender and speaker."""
    corpus, folder = _corpus(name, root, options)
    return corpora.stats(corpus, folder)
