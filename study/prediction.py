"""``study predict``: which model is meant, what it says of clips, and how that is printed."""

import csv
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from strategies.errors import UserError, unknown
from study import records
from study.errors import StudyError
from study.records import StudyFolder
from study.screen import print_json, print_table, say
from trainables import checkpoint
from trainables.prediction import Answer, TrainedModel, load_model
from trainables.voicing import LEAST_SECONDS, voiced_seconds

EXIT_BAD_CLIPS = 2


def predict(
    model: str, clips: Sequence[Path], texts: Sequence[str], transcripts: Path | None, home: Path, *, as_json: bool
) -> int:
    """Print what a model says of clips, and a line on standard error for each that cannot be used or has no voice.

    Args:
        model: a checkpoint, ``STUDY/TRIAL``, or the address of a model in MLflow.
        clips: sound files or films.
        texts: what is said in each of them, in their order; or none.
        transcripts: a CSV file with the columns ``clip`` and ``text``, see ``read_transcripts``.
        home: folder of all studies.
        as_json: print JSON.

    Returns:
        the exit code: 2 if a clip cannot be used, or has no voice in it.

    Raises:
        UserError: the model cannot be used, or there is not one transcript for each clip.
    """
    said = _said(clips, texts, transcripts)
    with found(model, home) as path:
        trained = load_model(path)
    entries = [_entry(trained, clip, text) for clip, text in zip(clips, said, strict=True)]
    problems = [entry["problem"] for entry in entries if "problem" in entry]
    say(*(f"study: {problem}" for problem in problems))
    if as_json:
        print_json(entries)
    elif any("tasks" in entry for entry in entries):
        columns = ["clip", "task", "answer", "probability", "of each class"]
        print_table(columns, [row for entry in entries for row in _rows(entry)], words=("clip", "task", "answer"))
    return EXIT_BAD_CLIPS if problems else 0


def _said(clips: Sequence[Path], texts: Sequence[str], transcripts: Path | None) -> list[str | None]:
    if texts and transcripts is not None:
        raise StudyError("--text and --transcripts say the same: choose one")
    if texts and len(texts) != len(clips):
        raise StudyError(f"--text is given {len(texts)} times for {len(clips)} clips: once for each, in their order")
    if texts:
        return list(texts)
    known = {} if transcripts is None else read_transcripts(transcripts)
    return [known.get(str(clip), known.get(clip.name)) for clip in clips]


def read_transcripts(path: Path) -> dict[str, str]:
    """Return clip -> what is said in it, from a CSV file with these two columns; clips by path or by file name.

    Raises:
        StudyError: the file cannot be read, or lacks a column.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as failure:
        raise StudyError(f"the transcripts {path} cannot be read: {getattr(failure, 'strerror', failure)}") from failure
    for column in ("clip", "text"):
        if lines and column not in lines[0]:
            raise StudyError(f"the transcripts {path} have no column '{column}' (they have: {', '.join(lines[0])})")
    return {line["clip"]: line["text"] or "" for line in lines}


@contextmanager
def found(model: str, home: Path) -> Iterator[Path]:
    """Give the checkpoint that a person means.

    Raises:
        UserError: there is no such file, study, trial or model, or the trial has not finished.
    """
    if Path(model).is_file():
        yield Path(model)
    elif ":/" in model:
        from study.mlflow_models import fetch
        from study.tracking import default_uri

        with tempfile.TemporaryDirectory() as folder:
            yield fetch(model, default_uri(home), Path(folder))
    else:
        yield checkpoint_of(*_named(model, home))


def _named(model: str, home: Path) -> tuple[StudyFolder, str]:
    study, _, trial = model.rstrip("/").rpartition("/")
    if not study or study.startswith((".", "/")):
        raise StudyError(f"there is no file {model}; a model is a {checkpoint.BEST}, STUDY/TRIAL, or an MLflow address")
    return records.find(home, study), trial


def checkpoint_of(folder: StudyFolder, trial: str) -> Path:
    """Return where the chosen network of a trial is.

    Raises:
        StudyError: there is no such trial, or it has none.
    """
    known = [each["trial"] for each in folder.read_lock()["trials"]]
    if trial not in known:
        raise StudyError(f"study {folder.name}: {unknown('trial', trial, known)}")
    path = folder.checkpoints / trial / checkpoint.BEST
    if not path.is_file():
        status = folder.record(trial).status
        why = "its checkpoints were removed, or are on another machine" if status == "finished" else f"it is {status}"
        raise StudyError(f"trial {trial} of study {folder.name} has no {checkpoint.BEST}: {why}")
    return path


def chosen_trial(folder: StudyFolder) -> str:
    """Return the trial with the lowest joint loss on validation.

    Raises:
        StudyError: none has finished.
    """
    lasts = {each["trial"]: folder.record(each["trial"]) for each in folder.read_lock()["trials"]}
    losses = {
        trial: float(record.rows[-1]["valid/joint_nll"])
        for trial, record in lasts.items()
        if record.status == "finished" and record.rows
    }
    if not losses:
        raise StudyError(f"study {folder.name} has no trial that has finished")
    chosen: str = min(losses, key=lambda trial: losses[trial])
    return chosen


def export(study: str, trial: str | None, home: Path) -> None:
    """Keep a trial's chosen network in MLflow, once, and print its address.

    Raises:
        UserError: the trial has no checkpoint or no run in MLflow, or the tracking store does not answer.
    """
    from study.mlflow_models import log
    from study.tracking import default_uri

    folder = records.find(home, study)
    chosen = trial or chosen_trial(folder)
    print(log(folder.name, chosen, checkpoint_of(folder, chosen), default_uri(home)))
    if trial is None:
        say(f"{chosen} has the lowest joint loss on validation; --trial names another")


def _entry(model: TrainedModel, clip: Path, text: str | None) -> dict[str, Any]:
    try:
        media = model.clips.read(clip, text)
        answers = model.answer(media, text)
    except UserError as problem:
        return {"clip": str(clip), "problem": str(problem)}
    entry: dict[str, Any] = {"clip": str(clip), "tasks": {answer.task: _told(answer) for answer in answers}}
    if media.audio is not None and voiced_seconds(media.audio) < LEAST_SECONDS:
        entry["problem"] = f"{clip} has no voice in it: what is said of it means little, unless somebody whispers"
    return entry


def _told(answer: Answer) -> dict[str, Any]:
    return {"answer": answer.said} | ({"probabilities": dict(answer.probabilities)} if answer.probabilities else {})


def _rows(entry: dict[str, Any]) -> list[list[str]]:
    return [[entry["clip"], task, *_cells(told)] for task, told in entry.get("tasks", {}).items()]


def _cells(told: dict[str, Any]) -> list[str]:
    """Return the answer, its probability and those of all classes."""
    answer, chances = told["answer"], told.get("probabilities", {})
    every = ", ".join(f"{name} {chance:.3f}" for name, chance in sorted(chances.items(), key=lambda pair: -pair[1]))
    if isinstance(answer, str):
        return [answer, f"{chances[answer]:.3f}", every]
    if isinstance(answer, float):
        return [f"{answer:.3f}", "-", "-"]
    return [", ".join(answer) or "none", "-", every]
