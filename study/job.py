"""The main job from end to end: prepare, run, record, compare, report."""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pandas as pd

from strategies import registry as strategy_registry
from strategies.plugins import Registry
from strategies.text import redacted
from study import driver, nodes, provenance, records, tracking, waves
from study.analysis import Comparison, compare
from study.definition import Arm, Definition, load
from study.errors import StudyError
from study.observing import Observers
from study.pilot import pilot
from study.plan import Plan, make_plan
from study.progress import Board, Display
from study.ray_start import ray_started
from study.recorder import Recorder
from study.records import StudyFolder
from study.report import checked_figure, note, write_corpus_figure, write_report
from study.runner import run_trials, settled
from study.tracking import Tracker, default_uri
from study.tuning import sync_tuning
from study.tuning_run import tune
from study.warm_start import with_points
from study.workplace import courier, refuse_unfit
from trainables import corpora, networks
from trainables.corpora import Corpus, Finding, Store
from trainables.corpora import registry as corpus_registry
from trainables.corpora.base import read_table
from trainables.corpora.preparing import find_prepared
from trainables.inputs import InputSettings
from trainables.networks import registry as network_registry
from trainables.session import TrialSpecification


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
    table = _table_at_hand(definition, corpus)
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


def _table_at_hand(definition: Definition, corpus: Corpus) -> pd.DataFrame | None:
    """Return the table of a corpus that lies on this machine or needs no folder; else None."""
    if definition.corpus.root is None:
        return None if corpus.needs_root else read_table(corpus, Path())
    root = Path(definition.corpus.root).expanduser()
    if corpora.is_url(definition.corpus.root) or not root.is_dir():
        return None
    store = find_prepared(corpus, root, _input_settings(definition))
    return read_table(corpus, root) if store is None else store.table


def _input_settings(definition: Definition) -> InputSettings:
    network = definition.network
    return networks.input_settings(network.name, network.preset, network.options)


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


def prepare_store(definition: Definition, corpus: Corpus, display: Display) -> Store:
    """Return the corpus in its prepared form, made now unless it is there already.

    Raises:
        CorpusError: the corpus is missing, or more of it is unreadable than the definition allows.
    """
    settings = _input_settings(definition)
    if definition.corpus.root is not None and corpora.is_url(definition.corpus.root):
        store = _copied(definition.corpus.root, corpus, settings)
    else:
        root = _root(definition, corpus)
        with display.counting(f"preparing corpus {corpus.name}") as progress:
            store = corpora.prepare(corpus, root, settings, corpora.default_cache(), progress=progress)
    store.check_skipped(definition.corpus.max_skipped)
    _tell(store, display)
    return store


def _tell(store: Store, display: Display) -> None:
    """Tell what became of the corpus while it was prepared: utterances that are left out, faces that were not found."""
    for line in store.skipped_lines():
        display.warn(line)
    if line := store.faces_line():
        (display.warn if store.num_without_face else display.say)(line)


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
    out: str | None = None,
    options: Mapping[str, Any] = MappingProxyType({}),
) -> str:
    """Prepare a corpus for a network, in ``out`` or the user's cache, and return where it is.

    Where ``out`` is a URL, the store is made in the user's cache and copied there.
    """
    corpus, folder = _corpus(name, root, options)
    settings = networks.input_settings(network, preset)
    url = out if out is not None and corpora.is_url(out) else None
    cache = corpora.default_cache() if out is None or url else Path(out).expanduser()
    with display.counting(f"preparing corpus {name}") as progress:
        store = corpora.prepare(corpus, folder, settings, cache, progress=progress)
    _tell(store, display)
    if url is None:
        return str(store.path)
    display.say(f"copying {store.path.name} to {redacted(url)}")
    return corpora.upload(store, url)


def check_corpus(
    name: str, root: Path | None, display: Display, options: Mapping[str, Any] = MappingProxyType({})
) -> list[Finding]:
    """Return what is missing, unreadable or mislabelled in a corpus."""
    corpus, folder = _corpus(name, root, options)
    with display.counting(f"checking corpus {name}") as progress:
        return corpora.check(corpus, folder, progress=progress)


def describe_corpus(
    name: str,
    root: Path | None,
    display: Display,
    options: Mapping[str, Any] = MappingProxyType({}),
    *,
    figure: Path | None = None,
) -> dict[str, pd.DataFrame]:
    """Return what is in a corpus as tables, and draw it if asked to."""
    corpus, folder = _corpus(name, root, options)
    path = None if figure is None else checked_figure(figure)
    with display.counting(f"reading corpus {name}") as progress:
        description = corpora.describe(corpus, folder, progress=progress)
    if path is not None:
        write_corpus_figure(path, description)
        display.say(f"figure: {path}")
    return description.tables()
