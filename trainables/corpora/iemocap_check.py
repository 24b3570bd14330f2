"""What is wrong with the files of IEMOCAP beside what every corpus is checked for."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from trainables.corpora.finding import Finding, few
from trainables.corpora.iemocap_faces import PICTURE
from trainables.corpora.iemocap_files import DIMENSIONS, Evaluation, Evaluations
from trainables.corpora.iemocap_folder import EVALUATIONS, FILMS, SENTENCES, TRANSCRIPTS, Session
from trainables.corpora.iemocap_labels import SESSIONS, external_ratings
from trainables.corpora.media import opened
from trainables.errors import MediaError

_ROUNDING = 0.001
"""How far a mean may be from the ratings: the files have four digits."""


def misnamed_lines(session: Session) -> Iterator[str]:
    """Yield a line for each file of evaluations that is no dialog of the session, and for each damaged utterance."""
    for dialog, path in session.evaluations.items():
        if not session.is_own(dialog):
            yield f"{_where(session, path)} is no dialog of {session.name}: expected such as Ses01F_impro01.txt"
    for path, evaluations in session.read():
        for number, line in evaluations.damaged:
            yield (
                f"{_where(session, path)} line {number} is no utterance of this dialog: {line!r}, expected "
                "[START - END] NAME EMOTION [V, A, D]"
            )


def session_findings(session: Session, *, has_video: bool) -> Iterator[Finding]:
    """Yield what is wrong with one session."""
    found: list[Evaluation] = []
    for path, evaluations in session.read():
        yield from _text_findings(_where(session, path), evaluations)
        found += evaluations.found
    wanted = SESSIONS[session.name]
    if len(found) != wanted:
        message = f"{session.name} has {len(found)} evaluated utterances, published are {wanted}"
        yield Finding("count", session.name, message)
    yield from _unlabelled(session, {evaluation.utterance for evaluation in found})
    if not session.transcripts:
        yield Finding("corpus", session.name, f"{session.name} has no {TRANSCRIPTS}: its utterances have no text")
    yield from _cut(session, found)
    if has_video:
        yield from _sizes(session)


def missing_sessions(sessions: Iterable[Session]) -> Iterator[Finding]:
    """Yield the sessions that are not there at all."""
    there = {session.name for session in sessions}
    if missing := [name for name in SESSIONS if name not in there]:
        yield Finding("corpus", "iemocap", f"there is no {', '.join(missing)}")


def _text_findings(where: str, evaluations: Evaluations) -> Iterator[Finding]:
    for number, line in evaluations.odd:
        yield Finding("label", where, f"{where} line {number} is not understood and does not count: {line!r}")
    if wrong := [evaluation.utterance for evaluation in evaluations.found if not _agrees(evaluation)]:
        message = f"{where}: [V, A, D] are not the means of the external ratings: {few(wrong)}"
        yield Finding("label", where, message)


def _agrees(evaluation: Evaluation) -> bool:
    """Return whether the means are those of the ratings, as far as there are any."""
    ratings = external_ratings(evaluation)
    return all(
        not ratings[name] or abs(sum(ratings[name]) / len(ratings[name]) - mean) < _ROUNDING
        for name, mean in zip(DIMENSIONS, evaluation.means, strict=True)
    )


def _unlabelled(session: Session, labelled: set[str]) -> Iterator[Finding]:
    """Yield a line for recordings of each kind that nobody evaluated."""
    dialogs = {name.rpartition("_")[0] for name in labelled}
    for folder, kind, names in (
        (SENTENCES, "sentences", [name for name in session.sentences if name not in labelled]),
        (FILMS, "films", [name for name in session.films if name not in dialogs]),
    ):
        if names:
            message = f"{session.name}/{folder}: {len(names)} {kind} have no label in {EVALUATIONS}: {few(names)}"
            yield Finding("label", session.name, message)


def _cut(session: Session, found: Iterable[Evaluation]) -> Iterator[Finding]:
    names = [
        evaluation.utterance
        for evaluation in found
        if evaluation.utterance not in session.sentences and evaluation.dialog in session.dialog_sounds
    ]
    if names:
        message = f"{len(names)} utterances of {session.name} have no file in {SENTENCES}"
        yield Finding("media", session.name, f"{message} and are cut from the dialog, with the listener: {few(names)}")


def _sizes(session: Session) -> Iterator[Finding]:
    """Yield the films that are not of the published size; their utterances tell of those that cannot be opened."""
    for path in session.films.values():
        try:
            with opened(path) as container:
                sizes = [
                    (stream.codec_context.width, stream.codec_context.height) for stream in container.streams.video
                ]
        except MediaError:
            continue
        if sizes and sizes[0] != PICTURE:
            width, height = sizes[0]
            message = f"{_where(session, path)} is {width} x {height} and not {PICTURE[0]} x {PICTURE[1]}"
            yield Finding("media", path.stem, f"{message}: where the faces are is scaled")


def _where(session: Session, path: Path) -> str:
    return f"{session.name}/{path.relative_to(session.path).as_posix()}"
