"""A study on a cluster, seen from a laptop: run, attach, stop, resume, and MLflow through a tunnel."""

import shlex
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from study import follow, job, provenance, records
from study.analysis import compare
from study.cluster import bundle, relay
from study.cluster.check import check_nodes
from study.cluster.file import ClusterFile, examine
from study.cluster.remote import Answer, ConnectionLost, Head
from study.definition import Definition
from study.doctor import Finding
from study.errors import StudyError
from study.job import Outcome
from study.progress import Display
from study.records import StudyFolder
from study.tracking import refuse_taken

JOINING_S = 60.0
"""Most seconds that `study run --cluster` waits for nodes that are still to join."""


class Detached(StudyError):
    """Nobody follows the study any more; it goes on."""


@dataclass
class Session:
    """One laptop's dealings with one cluster.

    Attributes:
        file: of the cluster.
        home: folder of all studies here, for what is fetched.
        display: what a person sees.
        study: the study, once its name is known.
    """

    file: ClusterFile
    home: Path
    display: Display
    study: str = ""

    def problems(self) -> list[Finding]:
        """Return what speaks against running a study on the cluster now.

        Raises:
            StudyError: the cluster cannot be reached.
        """
        self.display.say(f"checking cluster {self.file.name}")
        local = [finding for finding in examine(self.file) if not finding.well]
        return local or [finding for finding in check_nodes(self.file, JOINING_S) if not finding.well]

    def run(self, definition: Definition, flags: Sequence[str]) -> Outcome:
        """Send a study to the cluster, follow it to its end and fetch what it has found.

        Args:
            definition: what to run; the folder of the corpus is one that the nodes see.
            flags: of `study run`, such as ``["--retry-failed"]``.

        Raises:
            StudyError: it did not start, or cannot be followed.
        """
        self._require_room(definition.study)
        with tempfile.TemporaryDirectory(prefix="study-") as folder:
            archive = Path(folder) / "bundle.tar.gz"
            name = f".study-bundle-{bundle.pack(definition.as_yaml(), archive)}.tar.gz"
            Head(self.file).upload(str(archive), f"~/{name}")
        self.study = definition.study
        return self._follow(f"{_command()} study launch ~/{name} {shlex.join(flags)}")

    def attach(self, study: str) -> Outcome:
        """Follow a study that runs on the cluster, or has run there, and fetch what it has found."""
        return self._follow(f"study attach {shlex.quote(study)} --events")

    def resume(self, study: str, flags: Sequence[str]) -> Outcome:
        """Run a study of the cluster's again from its own folder there, and follow it."""
        return self._follow(f"{_command()} study launch --resume {shlex.quote(study)} {shlex.join(flags)}")

    def stop(self, study: str) -> Answer:
        """Press Ctrl-C for a study on the cluster and return what was said."""
        return Head(self.file).call(f"study stop {shlex.quote(study)}", _STOPPING_S)

    def _follow(self, command: str) -> Outcome:
        lost: ConnectionLost | None = None
        said: list[str] = []
        over: follow.Event | None = None
        with Head(self.file).lines(command) as lines:
            try:
                over = follow.show(self._events(lines, said), self.display)
            except ConnectionLost as failure:
                lost = failure
        if over is None:
            raise self._not_followed(lost, said)
        return self._fetch(over)

    def _events(self, lines: Iterator[str], said: list[str]) -> Iterator[follow.Event]:
        """Yield the events among the lines of the head, and keep what else it says."""
        for line in lines:
            event = follow.decoded(line)
            if event is None:
                said.append(line)
            elif event["event"] == "name":
                self.study = event["study"]
                self._require_room(self.study)
                if not event["started"]:
                    self.display.warn(f"study {self.study} is running there already: this follows it as it is")
            else:
                yield event

    def _not_followed(self, lost: ConnectionLost | None, said: list[str]) -> StudyError:
        if lost is None:  # the last line is the exit code
            return StudyError(f"on the head of cluster {self.file.name}: {Answer(2, said[:-1]).last}")
        if not self.study:
            return lost
        again = f"study attach {self.study} --cluster {shlex.quote(str(self.file.path))}"
        return Detached(f"{lost}; the study goes on there. To follow it again: {again}")

    def _fetch(self, over: follow.Event) -> Outcome:
        folder = StudyFolder(self.home / self.study)
        if over["lost"]:
            self.display.warn(f"the process that ran {self.study} has ended before its time: {over['lost']}")
        self.display.say("fetching what it has found")
        with tempfile.TemporaryDirectory(prefix="study-") as place:
            archive = Path(place) / f"{self.study}.tar.gz"
            Head(self.file).download(over["archive"], str(archive))
            bundle.unpack_results(archive, folder)
        return outcome_of(folder, over)

    def _require_room(self, study: str) -> None:
        """Refuse to put fetched results in the place of a study that was run on this machine.

        Raises:
            StudyError: there is one.
        """
        if Path(study).name != study or not study:
            raise StudyError(f"the head of cluster {self.file.name} names a study {study!r}")
        if (self.home / study / ".driver").exists():
            raise StudyError(
                f"study {study} has been run on this machine, in {self.home}: "
                "name another folder for what the cluster finds with --home"
            )


_STOPPING_S = 360.0


def _command() -> str:
    """Return the assignment that tells the driver by which command, on this machine, its study was started."""
    return f"STUDY_COMMAND={shlex.quote(provenance.command())}"


def outcome_of(folder: StudyFolder, over: follow.Event) -> Outcome:
    """Return how a study ended from what is on disk of it."""
    comparison = None
    if folder.lock.is_file():
        results = records.load_results(folder)
        comparison = compare(results) if results.is_comparable else None
    report = folder.report / "report.html"
    return Outcome(
        folder,
        comparison,
        report if report.is_file() else None,
        int(over["failed"]),
        int(over["unfinished"]),
        str(over["tracking_uri"]),
        over["tracking_problem"],
    )


def validate(definition: Definition) -> None:
    """Refuse here what would be refused there, before anything is sent.

    Raises:
        UserError: what does not fit; the folder of the corpus is for the nodes to find.
    """
    job.planned(definition)


@dataclass(frozen=True)
class Tunnel:
    """MLflow of a cluster on this machine's loopback address.

    Attributes:
        url: for a browser.
        user: whom MLflow knows.
        password_at: where the password lies; it is never shown.
    """

    url: str
    user: str
    password_at: str


@contextmanager
def tunnel(file: ClusterFile, port: int) -> Iterator[tuple[Tunnel, Iterator[str]]]:
    """Open a tunnel to MLflow on the head; the lines that come with it end when it does.

    Args:
        file: of the cluster.
        port: on the loopback address of this machine.

    Raises:
        StudyError: the cluster is not up, has no MLflow, or the port is taken here.
    """
    head = Head(file)
    asked = head.call(f"echo $MLFLOW_TRACKING_URI; sed -n 's/^mlflow_tracking_username *= *//p' {_CREDENTIALS}")
    address, user = [*asked.lines, "", ""][:2]
    there = address.rpartition(":")[2].rstrip("/")
    if not address.startswith("http://127.0.0.1:") or not there.isdecimal():
        raise StudyError(f"the head of cluster {file.name} runs no MLflow: `study head start` there starts it")
    refuse_taken(port)
    with head.lines(f"study cluster relay {port} {there}", ports=[port]) as lines:
        if (first := next(lines)) != relay.OPEN:
            raise StudyError(f"on the head of cluster {file.name}: {first.removeprefix('study: ')}")
        yield Tunnel(f"http://127.0.0.1:{port}", user, f"{_CREDENTIALS} on the head"), lines


_CREDENTIALS = "~/.mlflow/credentials"
