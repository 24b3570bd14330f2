"""How fast a study's rows reach MLflow, whether all arrive, and what recording costs the driver.

A study of many trials is laid on disk and written by ``study.tracking.sync`` into a new SQLite database and into
PostgreSQL (Debian's package; a server of its own in a temporary folder on a free loopback port). The peer is plain
``MlflowClient.log_batch`` with the same points in the same run: a request a row, as one writes it by hand, and requests
of 1,000 points. Every point is then looked for in the database itself, and a second sync must add none::

    python benchmarks/mlflow_writer.py [--trials 1000 --epochs 100 --metrics 12] [--database sqlite]
    python benchmarks/mlflow_writer.py --driver [--trials 1000 --epochs 100]

``--driver`` sends the results of that many trials through everything that listens to a running study (rows on disk, the
board, MLflow) and prints the time a result takes and the memory of the process. Targets: at most 5 ms, below 1 GB.
"""

import argparse
import contextlib
import json
import os
import pwd
import resource
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

PEER_TRIALS = 10
"""Trials the peers write; their rate does not depend on it."""
AT_A_TIME = 64
"""Trials of the driver's benchmark that run beside each other."""


def row(trial: int, epoch: int, metrics: int) -> dict[str, Any]:
    """Return what a trial reports after an epoch: as many numbers as asked for, all different."""
    numbers = {f"valid/metric{index}": trial + epoch / 1000 + index / 1e6 for index in range(metrics - 2)}
    return {"kind": "epoch", "epoch": epoch, "step": 10 * epoch, "valid/joint_nll": 1.0 / epoch, **numbers}


def lock(trials: int) -> dict[str, Any]:
    """Return the lock of a study with one arm and a seed a trial."""
    definition = {"name": "bench", "corpus": {"name": "synthetic"}, "split": {"protocol": "speaker_disjoint"}}
    definition |= {"network": {"name": "chae"}, "training": {"epochs": 100, "learning_rate": 0.001}, "arms": []}
    arm = {"arm": "softmax", "label": "softmax", "strategy": "softmax", "family": "softmax", "options": {}}
    return {
        "title": "Benchmark",
        "definition": definition,
        "seeds": list(range(trials)),
        "arms": [arm],
        "tasks": [{"name": "emotion"}],
        "trials": [{"trial": f"softmax-seed{seed}", "arm": "softmax", "seed": seed} for seed in range(trials)],
        "control": "softmax",
        "reference_weights": {"emotion": 1.0},
        "corpus": {"name": "synthetic", "root": None, "content_hash": "0" * 64, "num_utterances": 1},
        "versions": {},
        "facts": {},
        "git_commit": "",
    }


def lay_out(path: Path, options: argparse.Namespace, *, with_rows: bool) -> Any:  # noqa: ANN401
    """Return a study's folder, with the rows of all its trials or with none."""
    from study.records import StudyFolder

    folder = StudyFolder(path)
    folder.create()
    folder.write_text(folder.lock, json.dumps(lock(options.trials)))
    folder.write_text(folder.definition, "name: bench\n")
    for trial in range(options.trials if with_rows else 0):
        rows = (row(trial, epoch, options.metrics) for epoch in range(1, options.epochs + 1))
        events = [{"event": "start"}, *({"event": "row", "row": each} for each in rows)]
        events.append({"event": "end", "status": "finished"})
        lines = [json.dumps(event | {"time": 1e9 + number}) for number, event in enumerate(events)]
        (folder.rows / f"softmax-seed{trial}.jsonl").write_text("\n".join(lines) + "\n")
    return folder


@contextlib.contextmanager
def sqlite(folder: Path) -> Iterator[str]:
    """Yield the address of a database that does not exist yet."""
    yield f"sqlite:///{folder / 'mlflow.db'}"


@contextlib.contextmanager
def postgresql(folder: Path) -> Iterator[str]:
    """Yield the address of a PostgreSQL server on a free loopback port, which ends with the block."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb")) or [Path(shutil.which("initdb") or "")]
    if not found[-1].is_file():
        raise SystemExit("mlflow_writer: PostgreSQL is not installed (Debian: apt-get install postgresql)")
    programs, data = found[-1].parent, folder / "postgresql"
    data.mkdir()
    runner: list[str] = []
    if os.geteuid() == 0:  # PostgreSQL refuses to be root
        owner = pwd.getpwnam("postgres")
        os.chown(data, owner.pw_uid, owner.pw_gid)
        folder.chmod(0o755)
        runner = ["setpriv", f"--reuid={owner.pw_uid}", f"--regid={owner.pw_gid}", "--clear-groups"]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    quiet: dict[str, Any] = {"check": True, "stdout": subprocess.DEVNULL, "cwd": data}
    subprocess.run([*runner, programs / "initdb", "-D", data, "-U", "postgres", "--auth=trust"], **quiet)
    control = [*runner, programs / "pg_ctl", "-D", data, "-w", "-l", data / "log"]
    subprocess.run([*control, "-o", f"-p {port} -k {data} -h 127.0.0.1", "start"], **quiet)
    try:
        yield f"postgresql+psycopg://postgres@127.0.0.1:{port}/postgres"
    finally:
        subprocess.run([*control, "-m", "immediate", "stop"], **quiet)


def verify(uri: str, options: argparse.Namespace) -> None:
    """Look for every point in the database itself.

    Raises:
        SystemExit: one is missing, or there twice, or has another value.
    """
    import sqlalchemy

    expected = options.trials * options.epochs * options.metrics
    values = sum(
        sum(float(value) for name, value in row(trial, epoch, options.metrics).items() if name not in {"kind", "epoch"})
        for trial in range(options.trials)
        for epoch in range(1, options.epochs + 1)
    )
    engine = sqlalchemy.create_engine(uri)
    with engine.connect() as connection:
        points, keys, total = connection.execute(
            sqlalchemy.text(
                "SELECT (SELECT COUNT(*) FROM metrics), "
                "(SELECT COUNT(*) FROM (SELECT DISTINCT run_uuid, key, step FROM metrics) AS each_point), "
                "(SELECT SUM(value) FROM metrics)"
            )
        ).one()
        statuses = connection.execute(sqlalchemy.text("SELECT status, COUNT(*) FROM runs GROUP BY status")).all()
    engine.dispose()
    runs = {str(status): int(count) for status, count in statuses}
    if (points, keys) != (expected, expected) or abs(total - values) > 1e-6 * abs(values):
        raise SystemExit(
            f"mlflow_writer: {points} points, {keys} different ones, sum {total}: not {expected}, {values}"
        )
    if runs != {"FINISHED": options.trials + 1}:
        raise SystemExit(f"mlflow_writer: runs are {runs}")


def peer(uri: str, options: argparse.Namespace, points: int) -> float:
    """Return the points per second of plain ``log_batch`` with requests of at most so many points."""
    from mlflow import MlflowClient
    from mlflow.entities import Metric

    client = MlflowClient(uri)
    experiment = client.create_experiment(f"peer{points}")
    trials, start = min(PEER_TRIALS, options.trials), time.perf_counter()
    for trial in range(trials):
        run = client.create_run(experiment).info.run_id
        told: list[Metric] = []
        for epoch in range(1, options.epochs + 1):
            numbers = row(trial, epoch, options.metrics)
            told += [Metric(name, float(numbers[name]), epoch, epoch) for name in numbers.keys() - {"kind", "epoch"}]
            if len(told) + options.metrics > points or epoch == options.epochs:
                client.log_batch(run, metrics=told)
                told = []
        client.set_terminated(run)
    return trials * options.epochs * options.metrics / (time.perf_counter() - start)


def measure(name: str, options: argparse.Namespace) -> None:
    """Print one line of the table: a database, the rate of a study, of the peers, and their ratio."""
    from study.tracking import check_reachable, sync

    with tempfile.TemporaryDirectory() as base:
        folder = lay_out(Path(base) / "bench-12345678", options, with_rows=True)
        with {"sqlite": sqlite, "postgresql": postgresql}[name](Path(base)) as uri:
            check_reachable(uri)  # makes the tables
            start = time.perf_counter()
            sync(folder, uri, "FINISHED", "", {})
            seconds = time.perf_counter() - start
            verify(uri, options)
            start = time.perf_counter()
            sync(folder, uri, "FINISHED", "", {})
            again = time.perf_counter() - start
            verify(uri, options)
            by_row, by_thousand = peer(uri, options, options.metrics), peer(uri, options, 1000)
    points = options.trials * options.epochs * options.metrics
    print(
        f"| {name} | {options.trials} x {options.epochs} x {options.metrics} | {points:,} | {seconds:.0f} | "
        f"{points / seconds:,.0f} | {by_row:,.0f} | {by_thousand:,.0f} | {points / seconds / by_row:.2f} | "
        f"{points / seconds / by_thousand:.2f} | {again:.1f} |",
        flush=True,
    )


def drive(options: argparse.Namespace) -> None:
    """Send results through the observers of a run and print what one takes, and the memory of the process."""
    from study.observing import Observers
    from study.progress import Board, make_display
    from study.recorder import Recorder
    from study.tracking import Tracker

    with tempfile.TemporaryDirectory() as base:
        folder = lay_out(Path(base) / "bench-12345678", options, with_rows=False)
        trials = [
            SimpleNamespace(trial=f"softmax-seed{seed}", arm="softmax", seed=seed, fold=None)
            for seed in range(options.trials)
        ]
        board = Board([SimpleNamespace(arm="softmax", label="softmax")], range(options.trials), options.epochs)
        tracker = Tracker(folder, f"sqlite:///{base}/mlflow.db")
        tracker.start()
        observers, taken = Observers(Recorder(folder), board, make_display(quiet=True), tracker), []
        print("| trials ended | ms a result, mean | 99 % | resident MB |\n|---:|---:|---:|---:|")
        for first in range(0, len(trials), AT_A_TIME):
            together = trials[first : first + AT_A_TIME]
            for trial in together:
                observers.trial_started(trial)
            for epoch in range(1, options.epochs + 1):
                for trial in together:
                    result, start = row(trial.seed, epoch, options.metrics), time.perf_counter()
                    observers.trial_reported(trial, result)
                    taken.append(time.perf_counter() - start)
            for trial in together:
                observers.trial_ended(trial, None)
            if first // AT_A_TIME % 4 == 3 or first + AT_A_TIME >= len(trials):
                _print_driver(first + len(together), taken)
                taken = []
        start = time.perf_counter()
        problem = tracker.finish("FINISHED", "", {})
        waited = time.perf_counter() - start
        print(f"\nwritten to the end in {waited:.0f} s more, problem: {problem}, {_resident_mb():.0f} MB at most")


def _print_driver(ended: int, taken: list[float]) -> None:
    ordered = sorted(taken)
    mean, late = 1000 * sum(ordered) / len(ordered), 1000 * ordered[int(0.99 * len(ordered))]
    print(f"| {ended} | {mean:.2f} | {late:.2f} | {_resident_mb():.0f} |", flush=True)


def _resident_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--metrics", type=int, default=12, help="numbers a row, at least 3")
    parser.add_argument("--database", choices=["sqlite", "postgresql"], action="append")
    parser.add_argument("--driver", action="store_true", help="measure the driver instead")
    options = parser.parse_args()
    if min(options.trials, options.epochs) < 1 or options.metrics < 3:
        parser.error("expected at least 1 trial, 1 epoch and 3 numbers")
    if options.driver:
        drive(options)
        return
    print("| database | trials x epochs x metrics | points | s | points/s | a request a row | 1,000 a request "
          "| / a row | / 1,000 | s again |")  # fmt: skip
    print("|---|---|---:|---:|---:|---:|---:|---:|---:|---:|")
    for name in options.database or ["sqlite", "postgresql"]:
        measure(name, options)


if __name__ == "__main__":
    sys.exit(main())
