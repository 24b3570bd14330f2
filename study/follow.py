"""Follow a study that another process runs: the same display as that process has, fed from the rows on disk.

What happens to a study is a sequence of events, plain dictionaries, so that they can come from this machine's disk
(``events``) or from another machine, as JSON text sequences (RFC 7464: a record separator, JSON, a line feed), and are
shown by the same code (``show``).
"""

import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import count, takewhile
from pathlib import Path
from typing import Any

from study import driver, records
from study.arms import Arm
from study.observing import Observer
from study.progress import Board, Display
from study.records import StudyFolder
from study.search.campaign import is_line
from study.search.segments import split_name
from study.search.settings import Search
from study.tuning_board import FollowedBoard
from study.validation import is_event
from trainables.specification import TrialSpecification

Event = dict[str, Any]

RECORD = "\x1e"
"""What stands in front of an event on a line; no other text has it."""
_POLL_S = 0.5


class Tail:
    """What was added to a file since the last look, in whole lines."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0

    def lines(self) -> list[str]:
        """Return the new lines; a line that is still being written waits for the next look."""
        try:
            if self._path.stat().st_size < self._offset:  # written anew
                self._offset = 0
            with self._path.open("rb") as file:
                file.seek(self._offset)
                content = file.read()
        except OSError:
            return []
        whole = content[: content.rfind(b"\n") + 1]
        self._offset += len(whole)
        return whole.decode("utf-8", errors="replace").splitlines()


def events(folder: StudyFolder, poll_s: float = _POLL_S) -> Iterator[Event]:
    """Yield what has happened in a study and what happens, until the process that runs it ends.

    First ``study`` (what it consists of), then ``start``, ``row`` and ``end`` of trials, among them ``now`` where the
    past ends, and ``warning``; last ``over``. A study that nobody runs is told to its end as well. Where
    hyperparameters are being searched, the same of the tuning phase comes before: ``tuning``, the lines of its history,
    its trials and ``now``.
    """
    log = Tail(folder.path / driver.LOG)
    while (runs := driver.running(folder) is not None) and not _is_described(folder):
        yield from _warnings(log)
        time.sleep(poll_s)
    if not folder.lock.is_file():
        yield _over(folder)
        return
    begun = _begun(folder)
    if not _is_tuned(folder, lock := folder.read_lock()):
        yield from _tuning_events(folder, lock, log, begun, poll_s)
    lock = folder.read_lock()
    yield _study(folder.name, lock)
    tails = {trial["trial"]: Tail(folder.rows / f"{trial['trial']}.jsonl") for trial in lock["trials"]}
    yield from _happened(tails, begun)
    yield {"event": "now"}
    while runs:
        runs = driver.running(folder) is not None  # looked at first: what it wrote last is then still read
        yield from _warnings(log)
        yield from _happened(tails, begun)
        if runs:
            time.sleep(poll_s)
    yield _over(folder)


def _tuning_events(
    folder: StudyFolder, lock: Mapping[str, Any], log: Tail, begun: float, poll_s: float
) -> Iterator[Event]:
    """Yield what has happened and what happens in the tuning phase, until it is over or nobody runs it."""
    yield _tuning(folder.name, lock)
    history = Tail(folder.tuning.path / "history.jsonl")
    tails: dict[str, Tail] = {}
    is_over = False
    for number in count():
        runs = driver.running(folder) is not None  # looked at first, as what was written last is then still read
        is_over = _is_tuned(folder, lock) or not runs
        yield from _warnings(log)
        yield from filter(is_line, map(_parsed, history.lines()))
        tails |= {
            path.stem: Tail(path) for path in sorted(folder.tuning.rows.glob("*.jsonl")) if path.stem not in tails
        }
        yield from _happened(tails, begun)
        if number == 0:
            yield {"event": "now"}
        if is_over:
            return
        time.sleep(poll_s)


def _is_tuned(folder: StudyFolder, lock: Mapping[str, Any]) -> bool:
    """Tell whether a study has no search or its search is over; what is tried again makes the history newer."""
    if lock["definition"].get("search") is None:
        return True
    summary, history = folder.tuning.path / "tuning.json", folder.tuning.path / "history.jsonl"
    try:
        written = summary.stat().st_mtime_ns >= history.stat().st_mtime_ns
        return written and bool(json.loads(summary.read_text(encoding="utf-8"))["done"])
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _tuning(name: str, lock: Mapping[str, Any]) -> Event:
    definition = lock["definition"]
    untuned = {arm.get("name") or arm.get("strategy") for arm in definition["arms"] if arm.get("tuned") is False}
    methods = [arm["arm"] for arm in lock["arms"] if not arm.get("role") and arm["arm"] not in untuned]
    told = {"search": definition["search"], "epochs": definition["training"]["epochs"], "methods": methods}
    return {"event": "tuning", "study": name, **told}


def _parsed(line: str) -> Any:  # noqa: ANN401  (whatever stands there)
    try:
        return json.loads(line)
    except ValueError:
        return None


def _is_described(folder: StudyFolder) -> bool:
    """Tell whether the lock is that of the run that goes on: it is written once the corpus is prepared."""
    try:
        return folder.lock.stat().st_mtime >= (folder.path / ".driver").stat().st_mtime
    except OSError:
        return False


def _study(name: str, lock: Mapping[str, Any]) -> Event:
    trials = [{"fold": None, **trial} for trial in lock["trials"]]
    arms = [{key: arm[key] for key in ("arm", "label", "strategy", "family")} for arm in lock["arms"]]
    epochs = lock["definition"]["training"]["epochs"]
    return {"event": "study", "study": name, "arms": arms, "trials": trials, "epochs": epochs}


def _happened(tails: Mapping[str, Tail], begun: float) -> Iterator[Event]:
    for trial, tail in tails.items():
        for line in tail.lines():
            event = _event(trial, line, begun)
            if event:
                yield event


def _event(trial: str, line: str, begun: float) -> Event | None:
    """Return what a line of a trial's rows tells a follower, or None; a start of an earlier run is none any more."""
    try:
        content = json.loads(line)
    except json.JSONDecodeError:  # torn by a kill
        return None
    kind = content["event"] if is_event(content) and "event" in content else None
    if kind == "row":
        row = content["row"]
        return {"event": "row", "trial": trial, "epoch": row["epoch"], "joint_nll": row.get("valid/joint_nll")}
    if kind == "end":
        failed = content.get("status") == "failed"
        return {"event": "end", "trial": trial, "error": content.get("error", "unknown") if failed else None}
    return {"event": "start", "trial": trial} if kind == "start" and content["time"] >= begun - 1 else None


def _warnings(log: Tail) -> Iterator[Event]:
    prefix = "warning: "
    for line in log.lines():
        if line.startswith(prefix):
            yield {"event": "warning", "text": line.removeprefix(prefix)}


def _over(folder: StudyFolder) -> Event:
    """Return how the last run of a study ended: what it said itself, or what its rows say if it could not."""
    if driver.ended_since(folder, _begun(folder)):
        content = json.loads((folder.path / driver.OUTCOME).read_text(encoding="utf-8"))
        return {"event": "over", "lost": None, **content}
    statuses = records.load_statuses(folder) if folder.lock.is_file() else []
    counts = {"failed": statuses.count("failed"), "unfinished": len([s for s in statuses if s in _UNFINISHED])}
    lost = driver.last_line(folder) if counts["unfinished"] or not statuses else None
    return {"event": "over", "lost": lost, **counts, "tracking_uri": "", "tracking_problem": None}


def _begun(folder: StudyFolder) -> float:
    """Return when the last run of a study began, in seconds since 1970."""
    try:
        return (folder.path / ".driver").stat().st_mtime
    except OSError:
        return 0.0


_UNFINISHED = ("interrupted", "pending")


def encoded(event: Mapping[str, Any]) -> str:
    """Return an event as a line without its line feed.

    >>> decoded(encoded({"event": "now"}))
    {'event': 'now'}
    """
    return RECORD + json.dumps(event)


def decoded(line: str) -> Event | None:
    """Return the event on a line, or None for any other line."""
    if not line.startswith(RECORD):
        return None
    try:
        content = json.loads(line.removeprefix(RECORD))
    except json.JSONDecodeError:
        return None
    return content if isinstance(content, dict) and "event" in content else None


def show(happening: Iterable[Event], display: Display) -> Event | None:
    """Show events as they come and return the last, ``over``; None if they stop before it."""
    stream = iter(happening)
    for event in stream:
        if event["event"] == "warning":
            display.warn(event["text"])
        elif event["event"] == "tuning":
            over = _show_tuning(event, stream, display)
            if over is not None and over["event"] == "study":
                return _show_trials(over, stream, display)
            return over
        elif event["event"] == "study":
            return _show_trials(event, stream, display)
        elif event["event"] == "over":
            return event
    return None


def _show_tuning(tuning: Event, stream: Iterator[Event], display: Display) -> Event | None:
    """Show the tuning phase and return the event that ends it."""
    search = Search.model_validate(tuning["search"])
    board = FollowedBoard((), (), tuning["epochs"], search=search, methods=tuning["methods"])
    for event in takewhile(lambda event: event["event"] != "now", stream):
        _tell_tuning(event, board, (board,))
    board.start_clock(board.concurrency)
    display.say(f"study {tuning['study']}: tuning {len(tuning['methods'])} methods")
    with display.showing(board):
        for event in stream:
            if event["event"] in ("study", "over"):
                return event
            if event["event"] == "warning":
                display.warn(event["text"])
            _tell_tuning(event, board, (board, display))
    return None


def _tell_tuning(event: Event, board: FollowedBoard, observers: Sequence[Observer]) -> None:
    if is_line(event):
        board.heard(event)
        return
    named = split_name(event.get("trial", ""), board.methods)
    if named is not None:
        trial = TrialSpecification(event["trial"], named[0], named[2], "", {}, {}, {}, (), {}, {})
        _tell(event, {trial.trial: trial}, observers)


def _show_trials(study: Event, stream: Iterator[Event], display: Display) -> Event | None:
    trials = {trial["trial"]: _specification(trial) for trial in study["trials"]}
    board = _board(study)
    for event in takewhile(lambda event: event["event"] != "now", stream):
        _tell(event, trials, (board,))
    board.start_clock(board.concurrency)
    display.say(f"study {study['study']}: {len(trials) - board.ended} of {len(trials)} trials to go")
    with display.showing(board):
        for event in stream:
            if event["event"] == "over":
                return event
            if event["event"] == "warning":
                display.warn(event["text"])
            _tell(event, trials, (board, display))
    return None


def _board(study: Event) -> Board:
    arms = [Arm(**arm, options={}, static_weights=None) for arm in study["arms"]]
    seeds = sorted({trial["seed"] for trial in study["trials"]})
    folds = sorted({trial["fold"] for trial in study["trials"]}, key=lambda fold: -1 if fold is None else fold)
    return Board(arms, seeds, study["epochs"], folds=folds)


def _specification(trial: Mapping[str, Any]) -> TrialSpecification:
    fold = trial["fold"]
    split = {} if fold is None else {"pooled": True, "options": {"fold": fold}}
    return TrialSpecification(trial["trial"], trial["arm"], trial["seed"], "", split, {}, {}, (), {}, {})


def _tell(event: Event, trials: Mapping[str, TrialSpecification], observers: Sequence[Observer]) -> None:
    """Tell the board, and then the display that looks at it, what happened to a trial."""
    trial = trials.get(event.get("trial", ""))
    if trial is None:
        return
    for observer in observers:
        if event["event"] == "start":
            observer.trial_started(trial)
        elif event["event"] == "row" and event["joint_nll"] is not None:
            observer.trial_reported(trial, {"epoch": event["epoch"], "valid/joint_nll": event["joint_nll"]})
        elif event["event"] == "end":
            observer.trial_ended(trial, None if event["error"] is None else {"error": event["error"]})
