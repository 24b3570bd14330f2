"""What a run costs beside the training itself: starting, recording results, and spreading over machines.

    python benchmarks/run_speed.py start      # to the first training step, and from trial to trial, on two cores
    python benchmarks/run_speed.py driver     # 1,000 trials of 100 results that cost nothing, beside bare Ray Tune
    python benchmarks/run_speed.py nodes      # sleeping trials on three machines with one core each, beside one such

``start`` runs the shipped study for real, two epochs long; its peer imports the same libraries and starts Ray.
``driver`` and ``nodes`` put a trainable of their own in the place of a trial and leave all the rest as it is: rows on
disk, live table, MLflow. The machines of ``nodes`` are Ray nodes of this one: its trials sleep, as if they waited for a
GPU.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

PEER = "import torch, mlflow, ray; ray.init(address='local', include_dashboard=False, log_to_driver=False)"
METRICS = 40
"""Numbers of a row: about as many as a trial of two tasks reports."""


def start(arguments: argparse.Namespace) -> None:
    """Print how long the first training step and the further trials wait."""
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {"STUDY_CACHE": f"{folder}/cache", "OMP_NUM_THREADS": "1"}
        study = [sys.executable, "-m", "study.cli"]
        run = [*study, "run", "weighting", "--quiet", "--set", "training.epochs=2", "--set", "seeds=1"]
        subprocess.run([*run, "--home", f"{folder}/warm"], env=environment, check=True, stdout=subprocess.DEVNULL)
        cold, gaps, peer = [], [], []
        for number in range(arguments.rounds):
            began = time.perf_counter()
            subprocess.run([sys.executable, "-c", PEER], env=environment, check=True, stderr=subprocess.DEVNULL)
            peer.append(time.perf_counter() - began)
            home, began = Path(folder) / str(number), time.time()
            subprocess.run([*run, "--home", str(home)], env=environment, check=True, stdout=subprocess.DEVNULL)
            trials = [trial_times(path) for path in home.glob("*/rows/*.jsonl")]
            cold.append(min(training for _, training in trials) - began)
            gaps += [training - started for started, training in sorted(trials)[2:]]  # the first two start their worker
    print(f"importing the libraries and starting Ray   {min(peer):6.2f} s")
    print(f"study run to the first training step       {min(cold):6.2f} s, {min(cold) / min(peer):.2f} of that", end="")
    print("   (target: 12 s)")
    print(f"a trial to its first training step         {statistics.median(gaps):6.2f} s, median of {len(gaps)}", end="")
    print("   (target: 0.5 s)")


def trial_times(path: Path) -> tuple[float, float]:
    """Return when a trial started, and an upper bound of when its first training step did, in seconds since 1970."""
    events = [json.loads(line) for line in path.read_text().splitlines()]
    started = next(event["time"] for event in events if event["event"] == "start")
    first = next(event for event in events if event["event"] == "row")
    return started, first["time"] - first["row"]["time/epoch_s"]


def reporting(config: dict[str, Any], address: object = None, epochs: int = 100) -> None:  # noqa: ARG001
    """Report the rows of a trial without training, as ``trainables.trial`` does."""
    from ray import tune

    for epoch in range(1, epochs):
        tune.report({"row": [row("epoch", epoch)]})
    tune.report({"row": [row("final", epochs)]})


def reporting_plainly(epochs: int) -> None:
    """Report the same as users of Tune do."""
    from ray import tune

    for epoch in range(1, epochs):
        tune.report(row("epoch", epoch))
    tune.report(row("final", epochs))


def row(kind: str, epoch: int) -> dict[str, Any]:
    """Return a row of usual length."""
    numbers = {f"valid/metric_{number}/task": epoch + number / 7 for number in range(METRICS)}
    return {"kind": kind, "epoch": epoch, "step": 8 * epoch, "valid/joint_nll": 1 / epoch} | numbers


def sleeping(config: dict[str, Any], address: object = None) -> None:  # noqa: ARG001
    """Report one row after a while."""
    from ray import tune

    time.sleep(float(os.environ["SLEEP"]))
    tune.report({"row": [row("final", 1)]})


def specifications(count: int) -> list[Any]:
    """Return so many trials of the shipped study."""
    from study import definition, job

    arms = job.planned(definition.load("weighting"))
    seeds = -(-count // len(arms.arms))
    return job.planned(definition.load("weighting", [f"seeds={seeds}"])).trials()[:count]


def driver(arguments: argparse.Namespace) -> None:
    """Print what the driver takes for each result, beside bare Ray Tune that is reported the same."""
    ours = json.loads(child("--ours", arguments))
    bare = json.loads(child("--bare", arguments))
    results = arguments.trials * arguments.results
    for name, found in (("bare Ray Tune", bare), ("the study's runner", ours)):
        each = 1e3 / results
        print(f"{name:<20} {found['seconds']:7.1f} s  {each * found['seconds']:6.3f} ms a result, of them ", end="")
        print(f"{each * found['cpu']:.3f} ms CPU of the driver; {found['memory_mb']:.0f} MB at most")
    print(f"ratio {ours['seconds'] / bare['seconds']:.2f}; targets: 5 ms a result, under 1000 MB")
    grown = ours["memory_mb"] - ours["memory_mb_at_half"]
    print(f"memory of the driver grew by {grown:.0f} MB over the second half of the results")


def child(which: str, arguments: argparse.Namespace) -> str:
    """Run one candidate in a process of its own and return the line that it prints."""
    command = [sys.executable, __file__, "driver", which]
    command += ["--trials", str(arguments.trials), "--results", str(arguments.results)]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()[-1]


def run_ours(trials: Sequence[Any], results: int, folder: Path, store: Any) -> float:  # noqa: ANN401
    """Run trials that only report, with all that records them; return the most memory in MB at half of the results."""
    from study import definition, job, provenance
    from study.observing import Observer, Observers
    from study.progress import Board, make_display
    from study.ray_start import ray_started
    from study.records import StudyFolder
    from study.runner import run_trials
    from study.tracking import Tracker
    from trainables import trial

    class Halfway(Observer):
        heard, memory_mb = 0, 0.0

        def trial_reported(self, trial: object, row: object) -> None:  # noqa: ARG002
            self.heard += 1
            if 2 * self.heard == len(trials) * results:
                self.memory_mb = most_memory_mb()

    chosen = definition.load("weighting")
    plan = job.planned(chosen)
    study = StudyFolder(folder / chosen.study)
    study.create()
    study.write_text(study.lock, json.dumps(provenance.lock(plan, store)))
    board, half = Board(plan.arms, [*{each.seed for each in trials}], results), Halfway()
    tracker = Tracker(study, f"sqlite:///{folder}/mlflow.db")
    tracker.start()
    trial.run_trial = lambda config, address=None: reporting(config, address, results)
    observers = Observers(job.Recorder(study), board, make_display(quiet=True), tracker, half)
    with ray_started(None, folder / "log") as machines:
        run_trials(trials, chosen.resources, machines, observers, folder / "ray")
    tracker.finish("FINISHED", "", {})
    return half.memory_mb


def run_bare(trials: Sequence[Any], results: int, folder: Path, store: Any) -> float:  # noqa: ANN401, ARG001
    """Report the same with nothing but Ray Tune."""
    from ray import tune

    from study.ray_start import ray_started

    with ray_started(None, folder / "log"):
        tune.Tuner(
            lambda config: reporting_plainly(results),  # noqa: ARG005
            param_space={"trial": tune.grid_search([each.as_dict() for each in trials])},
            tune_config=tune.TuneConfig(reuse_actors=True, max_concurrent_trials=os.cpu_count()),
            run_config=tune.RunConfig(name="trials", storage_path=str(folder / "ray"), verbose=0),
        ).fit()
    return 0.0


def measured(run: Any, arguments: argparse.Namespace) -> None:  # noqa: ANN401
    """Print what one candidate took."""
    from study import corpus_job, definition
    from study.progress import make_display
    from trainables import corpora

    trials, chosen = specifications(arguments.trials), definition.load("weighting")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["STUDY_CACHE"] = f"{folder}/cache"
        store = corpus_job.prepare_store(chosen, corpora.create(chosen.corpus.name), make_display(quiet=True))
        began, before = time.perf_counter(), time.process_time()
        half = run(trials, arguments.results, Path(folder), store)
        found = {"seconds": time.perf_counter() - began, "cpu": time.process_time() - before}
        print(json.dumps(found | {"memory_mb": most_memory_mb(), "memory_mb_at_half": half}))


def most_memory_mb() -> float:
    """Return the most memory this process has held, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def nodes(arguments: argparse.Namespace) -> None:
    """Print how much sooner sleeping trials end on three machines than on one."""
    os.environ["SLEEP"] = str(arguments.sleep)
    seconds = {count: on_machines(count, arguments.trials) for count in (1, 3)}
    for count, taken in seconds.items():
        print(
            f"{count} one-core machines: {taken:6.1f} s for {arguments.trials} trials that sleep {arguments.sleep:g} s"
        )
    print(f"three over one: {seconds[1] / seconds[3]:.2f} x (target: 2.8)")


def on_machines(count: int, num_trials: int) -> float:
    """Return the seconds that sleeping trials take on so many Ray nodes of one core."""
    from ray.cluster_utils import Cluster

    from study import definition
    from study.observing import Observer
    from study.ray_start import ray_started
    from study.runner import run_trials
    from trainables import trial

    trial.run_trial = sleeping
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    try:
        for _ in range(count):
            cluster.add_node(num_cpus=1, env_vars={"SLEEP": os.environ["SLEEP"]})
        with tempfile.TemporaryDirectory() as folder, ray_started(cluster.address, Path(folder) / "log") as machines:
            trials, chosen = specifications(num_trials), definition.load("weighting")
            run_trials(trials[:count], chosen.resources, machines, Observer(), Path(folder) / "ray")  # starts workers
            began = time.perf_counter()
            run_trials(trials, chosen.resources, machines, Observer(), Path(folder) / "ray")
            return time.perf_counter() - began
    finally:
        cluster.shutdown()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = parser.add_subparsers(required=True)
    for run, options in (
        (start, {"rounds": 3}),
        (driver, {"trials": 1000, "results": 100}),
        (nodes, {"trials": 60, "sleep": 2.0}),
    ):
        kind = kinds.add_parser(run.__name__, help=run.__doc__)
        for name, default in options.items():
            kind.add_argument(f"--{name}", type=type(default), default=default)
        if run is driver:
            kind.add_argument("--ours", dest="run", action="store_const", const=run_ours, help=argparse.SUPPRESS)
            kind.add_argument("--bare", dest="run", action="store_const", const=run_bare, help=argparse.SUPPRESS)
        kind.set_defaults(measure=run)
    arguments = parser.parse_args()
    if getattr(arguments, "run", None):
        measured(arguments.run, arguments)
    else:
        arguments.measure(arguments)


if __name__ == "__main__":
    main()
