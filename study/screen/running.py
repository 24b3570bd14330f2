"""How studies stand: one that has ended or goes on elsewhere, and all of a study home."""

import shlex
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from study import records
from study.records import StudyFolder
from study.screen.comparing import show_comparison
from study.screen.printing import print_csv, print_json, print_lines, print_table, say, short_path

if TYPE_CHECKING:  # these need PyTorch, seconds that showing a study must not pay
    from study.cluster.session import Tunnel
    from study.doctor import Finding
    from study.job import Outcome
    from study.verification import Verification


def show_outcome(outcome: "Outcome", command: str, cluster: str | None = None) -> int:
    """Print how a run ended, here or on the cluster of a file, and what to do next; return the exit code."""
    if outcome.comparison is not None:
        show_comparison(outcome.comparison)
    if outcome.report is not None:
        say(f"report: {short_path(outcome.report)}")
    if outcome.tracking_problem:
        again = "sync" if cluster is None else "resume"  # on a cluster what is left is written there, by a new driver
        say(
            f"not recorded in MLflow ({outcome.tracking_uri}): {outcome.tracking_problem}",
            f"nothing is lost; when it answers again: study {again} {outcome.folder.name}{_on(cluster)}",
        )
    else:
        where = _home_option(outcome.folder.path.parent) if cluster is None else _on(cluster)
        recorded = f"   (recorded in {outcome.tracking_uri})" if outcome.tracking_uri else ""
        say(f"MLflow: study ui{where}{recorded}")
    if outcome.unfinished:
        say(f"interrupted with {outcome.unfinished} trials to go; finished trials are kept. To go on: {command}")
        return 130
    if outcome.failed:
        say(f"{outcome.failed} trials failed, see the table of failures; to run them again: {command} --retry-failed")
    return 1 if outcome.failed or outcome.tracking_problem else 0


def show_detached(study: str, cluster: str | None = None) -> int:
    """Say that a study goes on without anybody looking; return the exit code."""
    where = _on(cluster)
    place = "in its own process" if cluster is None else "on the cluster"
    say(f"the study goes on {place}; study attach {study}{where} follows it; study stop {study}{where} stops it")
    return 130


def _on(cluster: str | None) -> str:
    return "" if cluster is None else f" --cluster {shlex.quote(cluster)}"


def show_stopped(folder: StudyFolder, *, stopped: bool) -> None:
    """Say what is left of a study that was stopped."""
    if not stopped:
        say(f"nothing runs study {folder.name}")
        return
    statuses = records.load_statuses(folder) if folder.lock.is_file() else []
    kept = f"{statuses.count('finished')} of {len(statuses)} trials have finished and are kept"
    say(f"study {folder.name} was stopped: {kept}, the others go on where they were: study resume {folder.name}")


def show_tunnel(tunnel: "Tunnel") -> None:
    """Print where MLflow of a cluster is, and who may enter."""
    print_lines([tunnel.url])
    say(f"user {tunnel.user}; the password lies in {tunnel.password_at}; Ctrl-C closes the tunnel")


def _home_option(home: Path) -> str:
    return "" if home == records.study_home(None) else f" --home {short_path(home)}"


def show_findings(findings: "Sequence[Finding]", *, as_json: bool) -> int:
    """Print what the doctor found; return the exit code."""
    if as_json:
        print_json([vars(finding) for finding in findings])
    else:
        print_lines(f"{'ok  ' if finding.well else 'BAD '} {finding.subject}: {finding.detail}" for finding in findings)
    return 0 if all(finding.well for finding in findings) else 1


def show_studies(home: Path, output: str) -> None:
    """Print the studies of a study home with how far they are, as ``text``, ``json`` or ``csv``."""
    entries = [_study_entry(StudyFolder(home / name)) for name in records.names(home)]
    if output == "json":
        print_json(entries)
    elif output == "csv":
        print_csv(pd.DataFrame(entries, columns=["study", "trials", *records.STATUSES]))
    elif entries:
        print_table(list(entries[0]), [[str(value) for value in entry.values()] for entry in entries])
    else:
        say(f"no studies in {home}")


def _study_entry(folder: StudyFolder) -> dict[str, object]:
    statuses = records.load_statuses(folder)
    counts = {status: statuses.count(status) for status in records.STATUSES}
    return {"study": folder.name, "trials": sum(counts.values()), **counts}


def show_verification(verdict: "Verification", *, as_json: bool) -> None:
    """Print how a trial did when it was trained again."""
    if as_json:
        print_json({**asdict(verdict), "same": not verdict.differences})
    else:
        print_lines(verdict.lines)
