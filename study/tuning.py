"""The tuning phase of a study: the campaign of its search, run with Ray, kept on disk, and gone on with after a kill.

It lies in the folder ``tuning`` of the study, as rows and checkpoints of its own, with ``history.jsonl``: one line for
every configuration that was asked for and every segment that was told, flushed to the disk before anything follows from
it. ``tuning.json`` is what reports read.
"""

import json
import os
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from strategies.text import redacted
from study.analysis.tuning import Tuning
from study.errors import StudyError
from study.methods import corners
from study.mlflow_tuning import TuningWriter
from study.observing import Observer
from study.plan import Plan, configured_arm
from study.records import TUNING, StudyFolder
from study.search.campaign import Campaign, Configuration, Method, Segment, Stage
from study.search.segments import split_name, trial_name
from study.search.settings import Search
from study.tracking import Tracker
from study.tuning_board import CampaignBoard
from trainables.corpora import Corpus
from trainables.rows import Row
from trainables.specification import TrialSpecification

_BREEDING = ("pbt", "pb2")
"""Schedulers that begin configurations from checkpoints of others."""


class History:
    """The lines of a campaign on disk, in order; one that a kill tore ends them."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._written = 0

    def read(self) -> list[dict[str, Any]]:
        """Return the whole lines, and cut off what follows them."""
        content = self._path.read_bytes() if self._path.exists() else b""
        lines: list[dict[str, Any]] = []
        good = 0
        for raw in content.splitlines(keepends=True):
            line = _parsed(raw)
            if line is None:
                break
            lines.append(line)
            good += len(raw)
        if good < len(content):
            with self._path.open("r+b") as file:
                file.truncate(good)
        self._written = len(lines)
        return lines

    def write(self, campaign: Campaign) -> None:
        """Add what is new in a campaign.

        Raises:
            StudyError: the disk takes no more.
        """
        new = campaign.history(self._written)
        if not new:
            return
        try:
            with self._path.open("ab") as file:
                file.write("".join(json.dumps(line) + "\n" for line in new).encode())
                file.flush()
                os.fsync(file.fileno())
        except OSError as failure:
            raise StudyError(
                f"{self._path} cannot be written: {failure.strerror}; mend that, and the same command goes on"
            ) from failure
        self._written += len(new)


def _parsed(raw: bytes) -> dict[str, Any] | None:
    try:
        line = json.loads(raw)
    except ValueError:
        return None
    return line if raw.endswith(b"\n") and isinstance(line, dict) and "event" in line else None


@dataclass
class _Open:
    """A segment that is handed out and not told yet."""

    segment: Segment
    rows: dict[int, Row] = field(default_factory=dict)
    seconds: float = 0.0
    started: float = 0.0


class Tuner(Observer):
    """Turns the segments of a campaign into trials and tells it how they ended; a feed and an observer.

    Args:
        plan: of the study.
        corpus: that it is studied on.
        folder: of the study.
        store: path of the prepared corpus.
    """

    def __init__(self, plan: Plan, corpus: Corpus, folder: StudyFolder, store: str) -> None:
        self.folder = folder.tuning
        self.folder.create()
        self._plan, self._corpus, self._store = plan, corpus, store
        self._history = History(self.folder.path / "history.jsonl")
        search = plan.definition.search
        self._search = Search() if search is None else search
        epochs = plan.definition.training.epochs
        self.campaign = Campaign.replay(plan.methods, self._search, epochs, self._history.read())
        self._history.write(self.campaign)
        self._open: dict[str, _Open] = {}
        self._names = [method.name for method in plan.methods]

    @property
    def methods(self) -> Sequence[Method]:
        """What is tuned."""
        return self._plan.methods

    def retry(self) -> int:
        """Try again what has failed, and return how many configurations that are."""
        count = self.campaign.retry(heirs=not self.campaign.done)
        self._history.write(self.campaign)
        return count

    def next(self) -> TrialSpecification | None:
        """Return the next segment as a trial."""
        segment = self.campaign.next()
        if segment is None:
            return None
        trial = self.specification(segment)
        self._open[trial.trial] = _Open(segment)
        return trial

    def specification(self, segment: Segment) -> TrialSpecification:
        """Return a segment as a trial, which looks at validation alone and takes no time for diagnoses."""
        configuration = segment.configuration
        arm = configured_arm(self._plan, self._corpus, configuration.method, configuration.values)
        trial = self._plan.trial(arm, segment.seed, None, self._store, None)
        donor = self._donor(segment)
        return replace(
            trial,
            trial=segment.trial,
            arm=configuration.method,
            training={**trial.training, "diagnose_every": 0},
            folder=str(self.folder.checkpoints / segment.trial),
            first=segment.first,
            until=segment.until,
            parent=donor,
        )

    def _donor(self, segment: Segment) -> str | None:
        """Return the checkpoint that a trial begins from, should it have none of its own."""
        blocks = self.campaign.blocks(segment.configuration.method)
        number = segment.configuration.number
        parent = blocks[number].parent if number < len(blocks) else None
        if parent is None:
            return None
        return f"{trial_name(segment.configuration.method, parent.configuration, segment.seed)}/epoch-{parent.epoch}.pt"

    def examples(self) -> list[TrialSpecification]:
        """Return one trial of each method, to be measured."""
        configurations = [
            Configuration(method.name, 0, method.defaults or corners(method.space)[0]) for method in self._plan.methods
        ]
        seed, epochs = self._search.seed_numbers[0], self._plan.definition.training.epochs
        return [self.specification(Segment(each, seed, 0, epochs)) for each in configurations]

    def trial_started(self, trial: TrialSpecification) -> None:
        """Start its clock."""
        self._open[trial.trial].started = time.monotonic()

    def trial_reported(self, trial: TrialSpecification, row: Row) -> None:
        """Keep the row for the campaign."""
        self._open[trial.trial].rows[int(row["epoch"])] = row

    def trial_postponed(self, trial: TrialSpecification, failure: dict[str, str]) -> None:  # noqa: ARG002
        """Stop its clock."""
        under_way = self._open[trial.trial]
        under_way.seconds += time.monotonic() - under_way.started

    def trial_ended(self, trial: TrialSpecification, failure: dict[str, str] | None) -> None:
        """Tell the campaign, and have that on the disk before anything follows from it."""
        ended = self._open.pop(trial.trial)
        segment = ended.segment
        seconds = ended.seconds + time.monotonic() - ended.started
        rows = [ended.rows[epoch] for epoch in range(segment.first + 1, segment.until + 1) if epoch in ended.rows]
        if not failure:
            self._keep(segment)
        self.campaign.tell(segment, rows, failure=failure["error"] if failure else None, seconds=seconds)
        self._history.write(self.campaign)
        if failure or segment.until >= self._plan.definition.training.epochs:
            self._drop(segment)

    def _keep(self, segment: Segment) -> None:
        """Keep the checkpoint at the end of a segment where another configuration may begin from it."""
        folder = self.folder.checkpoints / segment.trial
        if self._search.scheduler in _BREEDING and (folder / "last.pt").exists():
            kept = folder / f"epoch-{segment.until}.pt"
            kept.unlink(missing_ok=True)
            os.link(folder / "last.pt", kept)

    def _drop(self, segment: Segment) -> None:
        """Remove checkpoints that nobody goes on from."""
        if self._search.scheduler not in _BREEDING:
            shutil.rmtree(self.folder.checkpoints / segment.trial, ignore_errors=True)

    def describe(self, name: str) -> dict[str, Any] | None:
        """Return what a trial is: method, number of its configuration, seed and values; None if it is none."""
        method, number, _ = split_name(name, self._names) or ("", 0, 0)
        blocks = self.campaign.blocks(method) if method else []
        return described(name, self._names, blocks[number].configuration.values) if number < len(blocks) else None

    def chosen(self) -> dict[str, tuple[Stage, ...]]:
        """Return what the campaign has chosen for each method, with the values it had at each stage of its training."""
        return {name: self.campaign.schedule(found) for name, found in self.campaign.chosen().items()}

    def chosen_trials(self) -> set[str]:
        """Return the names of the trials of the chosen configurations."""
        every = self._search.seed_numbers
        return {Segment(found, seed, 0, 0).trial for found in self.campaign.chosen().values() for seed in every}

    def endings(self) -> dict[str, str]:
        """Return trial -> how its configuration ended, in words."""
        found = [(block, self.campaign.state(block)) for name in self._names for block in self.campaign.blocks(name)]
        return {
            trial_name(block.configuration.method, block.number, seed): ending(state, block.epochs)
            for block, state in found
            for seed in self._search.seed_numbers
        }

    def close(self) -> None:
        """Write what reports read, and remove the checkpoints once nobody will go on from them."""
        content = summary(self.campaign, self._plan.methods, self._search)
        self.folder.write_text(self.folder.path / "tuning.json", json.dumps(content, indent=1))
        if self.campaign.done:
            for trial, epoch in self._stopped():
                self._note(trial, {"event": "stopped", "epoch": epoch})
            shutil.rmtree(self.folder.checkpoints, ignore_errors=True)

    def _stopped(self) -> Iterator[tuple[str, int]]:
        """Yield the trials that the scheduler has stopped, or paused for good, with their epochs."""
        for name in self._names:
            for block in self.campaign.blocks(name):
                if self.campaign.state(block) == "stopped":
                    yield from (
                        (trial_name(name, block.number, seed), block.epochs) for seed in self._search.seed_numbers
                    )

    def _note(self, trial: str, event: Mapping[str, Any]) -> None:
        """Add an event to the rows of a trial that has any, unless it is the last one there."""
        path = self.folder.rows / f"{trial}.jsonl"
        lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
        if lines and not event.items() <= (_parsed(lines[-1]) or {}).items():
            self.folder.append(trial, event)

    def board(self) -> CampaignBoard:
        """Return what a person sees of it."""
        return CampaignBoard(
            arms=(), seeds=(), epochs=self._plan.definition.training.epochs, campaign=self.campaign, search=self._search
        )

    def tracker(self, study: StudyFolder, uri: str) -> Tracker:
        """Return what writes it to MLflow, below the study's own run."""
        self.writer = TuningWriter(study, uri, rows=self.folder, describe=self.describe)
        return Tracker(self.folder, uri, self.writer)


def described(name: str, methods: Iterable[str], values: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return what a trial is from its name, with its values as exact text; None if it is none.

    >>> described("gradnorm-c001-seed1000", ["gradnorm"], {"strategy.alpha": 0.5})["values"]
    {'strategy.alpha': '0.5'}

    Args:
        name: of the trial.
        methods: names of all methods.
        values: of the hyperparameters of its configuration.
    """
    named = split_name(name, methods)
    if named is None:
        return None
    told = {knob: value if isinstance(value, str) else json.dumps(value) for knob, value in values.items()}
    return {"method": named[0], "configuration": named[1], "seed": named[2], "values": told}


def ending(state: str, epochs: int) -> str:
    """Return how a configuration ended, in words.

    >>> ending("stopped", 3), ending("full", 9)
    ('stopped by the scheduler after epoch 3', 'trained to the end')
    """
    told = {"full": "trained to the end", "stopped": f"stopped by the scheduler after epoch {epochs}"}
    return told.get(state, "paused by the scheduler" if state == "waiting" else state)


def summary(campaign: Campaign, methods: Sequence[Method], search: Search) -> dict[str, Any]:
    """Return a campaign as plain values: what was searched, every configuration with its results, what was chosen."""
    chosen = campaign.chosen()
    return {
        "search": search.model_dump(mode="json"),
        "done": campaign.done,
        "methods": [
            {
                "method": method.name,
                "space": {name: _dimension(dimension) for name, dimension in method.space.dimensions.items()},
                "defaults": dict(method.defaults),
                "spent": campaign.ledger()[method.name],
                "chosen": chosen[method.name].number if method.name in chosen else None,
                "front": [each.number for each in campaign.front()[method.name]],
                "stages": [
                    {"first": stage.first, "until": stage.until, "values": dict(stage.values)}
                    for stage in (campaign.schedule(chosen[method.name]) if method.name in chosen else ())
                ],
                "configurations": list(_configurations(campaign, method.name)),
            }
            for method in methods
        ],
    }


def _dimension(dimension: Any) -> dict[str, Any]:  # noqa: ANN401  (a dimension of either kind)
    """Return a dimension as a definition says it."""
    if hasattr(dimension, "values"):
        return {"choices": list(dimension.values)}
    return {name: value for name, value in vars(dimension).items() if value is not None}


def _configurations(campaign: Campaign, method: str) -> Iterator[dict[str, Any]]:
    for block in campaign.blocks(method):
        measured = bool(block.epochs) and block.state != "failed" and bool(block.curves)
        yield {
            "number": block.number,
            "values": dict(block.configuration.values),
            "origin": block.configuration.origin,
            "state": campaign.state(block),
            "epochs": block.epochs,
            "losses": list(block.means()) if measured else None,
            "by_epoch": [block.loss(epoch) for epoch in range(1, block.epochs + 1)] if measured else [],
            "seconds": block.seconds,
            "failure": block.failure,
        }


def sync_tuning(folder: StudyFolder, tuning: Tuning, uri: str) -> None:
    """Bring the MLflow runs of a tuning phase up to what is on disk.

    Raises:
        StudyError: the tracking store does not answer.
    """
    configurations = {method.method: method.configurations for method in tuning.methods}

    def describe(name: str) -> dict[str, Any] | None:
        method, number, _ = split_name(name, configurations) or ("", 0, 0)
        known = configurations.get(method, ())
        return described(name, configurations, known[number].values) if number < len(known) else None

    chosen = {
        trial_name(method.method, method.chosen, seed)
        for method in tuning.methods
        if method.chosen is not None and tuning.is_done
        for seed in tuning.search.seed_numbers
    }
    endings = {
        trial_name(method.method, each.number, seed): ending(each.state, each.epochs)
        for method in tuning.methods
        for each in method.configurations
        for seed in tuning.search.seed_numbers
    }
    writer = TuningWriter(folder, uri, rows=folder.tuning, describe=describe, chosen=chosen, endings=endings)
    tracker = Tracker(folder.tuning, uri, writer)
    tracker.start()
    if problem := tracker.finish("FINISHED", "", {}):
        raise StudyError(
            f"tracking store {redacted(uri)} cannot be written: {problem}; nothing is lost, try again later"
        )


__all__ = ["TUNING", "History", "Tuner", "summary", "sync_tuning"]
