"""What a search costs beside the training: 1,000 trials of a trainable that does nothing, and Ray Tune bare.

``python benchmarks/search_overhead.py [--trials 1000]`` runs, in one process and one Ray, a TPE search as a study runs
it (tuner, board, rows and history on the disk) and the same number of trials of bare
Ray Tune with ``OptunaSearch``: the same sampler over the same space, reused actors, one report a trial, as many trials
at a time. Neither writes to MLflow. It prints seconds, their ratio, milliseconds that the driver spends in the search
for a result and how many of them are Optuna's, the median of the first and the last quarter, and how much memory the
driver had at half time and at the end.
"""

import argparse
import json
import resource
import tempfile
import time
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import Any

import ray
from optuna.study import Study
from ray import tune
from ray.tune.search.optuna import OptunaSearch

from study.definition import Resources, validate
from study.observing import Observer, Observers
from study.plan import make_plan
from study.ray_start import ray_started
from study.recorder import Recorder
from study.records import StudyFolder
from study.runner import run_feed
from study.search.bayesian import KnownSpaceTPE
from study.tuning import Tuner
from trainables import corpora
from trainables import trial as adapter
from trainables.specification import TrialSpecification

RATE, DECAY = "training.learning_rate", "training.weight_decay"
SPACE = {RATE: {"low": 1e-4, "high": 1e-2, "log": True}, DECAY: {"low": 0.0, "high": 0.1}}


def loss(rate: float, decay: float) -> float:
    """Return a loss with one optimum."""
    return abs(rate - 1e-3) + abs(decay - 0.03)


def trivial(config: dict[str, Any], address: object = None) -> None:  # noqa: ARG001  (the adapter's signature)
    """Report one epoch without training it."""
    training = config["trial"]["training"]
    value = loss(training["learning_rate"], training["weight_decay"])
    tune.report({"row": [{"kind": "epoch", "epoch": 1, "step": 1, "valid/joint_nll": value}]})


class Clock:
    """Adds up the time spent in some functions."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def watch(self, owner: Any, name: str) -> None:  # noqa: ANN401  (any object with a method of that name)
        """Count the time of a method from now on."""
        inner = getattr(owner, name)

        def timed(*arguments: Any, **options: Any) -> Any:  # noqa: ANN401
            start = time.perf_counter()
            try:
                return inner(*arguments, **options)
            finally:
                self.seconds += time.perf_counter() - start

        setattr(owner, name, timed)


class Watched(Observer):
    """A tuner with what belongs to it, as feed and observer; notes the time that the driver spends in it."""

    def __init__(self, tuner: Tuner) -> None:
        self._tuner, self._observers = tuner, Observers(Recorder(tuner.folder), tuner, tuner.board())
        self.optuna = Clock()
        for name in ("ask", "tell"):
            self.optuna.watch(Study, name)
        self.spent = [0.0]
        self.memory: list[int] = []

    def next(self) -> TrialSpecification | None:
        """Return the next trial."""
        start = time.perf_counter()
        trial = self._tuner.next()
        self.spent[-1] += time.perf_counter() - start
        return trial

    def trial_started(self, trial: TrialSpecification) -> None:
        """Tell all."""
        start = time.perf_counter()
        self._observers.trial_started(trial)
        self.spent[-1] += time.perf_counter() - start

    def trial_reported(self, trial: TrialSpecification, row: Any) -> None:  # noqa: ANN401
        """Tell all."""
        start = time.perf_counter()
        self._observers.trial_reported(trial, row)
        self.spent[-1] += time.perf_counter() - start

    def trial_ended(self, trial: TrialSpecification, failure: dict[str, str] | None) -> None:
        """Tell all."""
        start = time.perf_counter()
        self._observers.trial_ended(trial, failure)
        self.spent[-1] += time.perf_counter() - start
        self.spent.append(0.0)
        self.memory.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)


def tuner_of(trials: int, folder: StudyFolder) -> Tuner:
    """Return the tuner of a study with one method."""
    search = {"budget": {"trials": trials}, "searcher": "tpe", "space": SPACE}
    content = {"name": "overhead", "arms": [{"strategy": "equal"}], "training": {"epochs": 1}, "search": search}
    corpus = corpora.create("synthetic")
    return Tuner(make_plan(validate(content, "benchmark"), corpus), corpus, folder, "store")


def ours(tuner: Tuner, machines: Any) -> tuple[float, Watched]:  # noqa: ANN401
    """Run the search of a study; return its seconds and what was noted."""
    watched = Watched(tuner)
    start = time.perf_counter()
    run_feed(watched, Resources(gpus=0.0), machines, watched, tuner.folder.path / "ray")
    if not tuner.campaign.done:
        raise SystemExit("the search did not end")
    return time.perf_counter() - start, watched


def bare(tuner: Tuner, trials: int, folder: Path, at_a_time: int) -> float:
    """Run bare Ray Tune with the same sampler over the same space; return its seconds."""
    (method,) = tuner.methods
    distributions = method.space.distributions()

    def trainable(config: dict[str, Any]) -> None:
        tune.report({"loss": loss(config[RATE], config[DECAY])})

    start = time.perf_counter()
    tune.Tuner(
        tune.with_resources(trainable, {"CPU": 1}),
        tune_config=tune.TuneConfig(
            search_alg=OptunaSearch(distributions, "loss", "min", sampler=KnownSpaceTPE(distributions, 0)),
            num_samples=trials,
            max_concurrent_trials=at_a_time,
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(name="bare", storage_path=str(folder), verbose=0),
    ).fit()
    return time.perf_counter() - start


def main() -> None:
    """Print the comparison as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=1000)
    trials = parser.parse_args().trials
    adapter.run_trial = trivial
    with tempfile.TemporaryDirectory() as scratch:
        folder = StudyFolder(Path(scratch) / "overhead-12345678")
        folder.create()
        tuner = tuner_of(trials, folder)
        with ray_started(None, folder.log) as machines:
            at_a_time = int(sum(machine.cpus for machine in machines))
            ray.get([ray.remote(lambda: None).remote() for _ in range(at_a_time)])
            seconds, watched = ours(tuner, machines)
            in_optuna = watched.optuna.seconds
            of_tune = bare(tuner, trials, Path(scratch), at_a_time)
    quarter = max(1, trials // 4)
    told = SimpleNamespace(
        trials=trials,
        seconds=round(seconds, 1),
        bare_ray_tune_seconds=round(of_tune, 1),
        ratio=round(seconds / of_tune, 2),
        search_ms_per_result=round(1000 * sum(watched.spent) / trials, 2),
        of_which_optuna=round(1000 * in_optuna / trials, 2),
        first_quarter_ms=round(1000 * median(watched.spent[:quarter]), 2),
        last_quarter_ms=round(1000 * median(watched.spent[-1 - quarter : -1]), 2),
        memory_mb_at_half=watched.memory[trials // 2],
        memory_mb_at_end=watched.memory[-1],
    )
    print(json.dumps(vars(told), indent=1))


if __name__ == "__main__":
    main()
