"""What a search costs beside the training: 1,000 trials of a trainable that does nothing, and Ray Tune bare.

``python benchmarks/search_overhead.py [--trials 1000]`` runs, in one process and one Ray, a TPE search of a campaign
through the project's runner (history flushed to the disk, rows recorded) and the same number of trials of bare Ray Tune
with ``OptunaSearch``, both with reused actors and one report a trial. It prints seconds, their ratio, milliseconds of
the campaign for a result, and how much memory the driver had at half time and at the end.
"""

import argparse
import json
import resource
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import ray
from optuna.samplers import TPESampler
from ray import tune
from ray.tune.search.optuna import OptunaSearch

from study.definition import Resources
from study.job import Recorder
from study.observing import Observer, Observers
from study.records import StudyFolder
from study.runner import ray_started, run_feed
from study.search.campaign import Campaign, Method, Segment
from study.search.settings import Search
from study.search.space import Interval, Space
from study.tuning import History
from trainables import trial as adapter
from trainables.session import TrialSpecification

SPACE = Space({"training.learning_rate": Interval(1e-4, 1e-2, log=True), "strategy.alpha": Interval(0.0, 3.0)})


def loss(values: dict[str, float]) -> float:
    """Return a loss with one optimum."""
    return abs(values["training.learning_rate"] - 1e-3) + abs(values["strategy.alpha"] - 1.0)


def trivial(config: dict[str, Any], address: object = None) -> None:  # noqa: ARG001  (the adapter's signature)
    """Report one epoch without training it."""
    value = loss(config["trial"]["training"])
    tune.report({"row": {"kind": "epoch", "epoch": 1, "step": 1, "valid/joint_nll": value}})


class Feed(Observer):
    """The campaign as a feed, without a study around it; notes the time that the driver spends in it."""

    def __init__(self, campaign: Campaign, folder: StudyFolder) -> None:
        self.campaign = campaign
        self.history = History(folder.path / "history.jsonl")
        self.segments: dict[str, Segment] = {}
        self.rows: dict[str, Any] = {}
        self.seconds = 0.0
        self.memory: list[int] = []

    def next(self) -> TrialSpecification | None:
        """Return the next segment."""
        start = time.perf_counter()
        segment = self.campaign.next()
        self.seconds += time.perf_counter() - start
        if segment is None:
            return None
        self.segments[segment.trial] = segment
        values = dict(segment.configuration.values)
        return TrialSpecification(
            segment.trial, "method", segment.seed, "", {}, {}, {}, [], values, {}, first=0, until=1
        )

    def trial_reported(self, trial: TrialSpecification, row: Any) -> None:  # noqa: ANN401
        """Keep the row."""
        self.rows[trial.trial] = row

    def trial_ended(self, trial: TrialSpecification, failure: dict[str, str] | None) -> None:  # noqa: ARG002
        """Tell the campaign."""
        start = time.perf_counter()
        self.campaign.tell(self.segments.pop(trial.trial), [self.rows.pop(trial.trial)])
        self.history.write(self.campaign)
        self.seconds += time.perf_counter() - start
        self.memory.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)


def ours(trials: int, machines: Any, folder: StudyFolder) -> tuple[float, Feed]:  # noqa: ANN401
    """Run the search of a campaign; return its seconds and the feed."""
    settings = Search.model_validate({"budget": {"trials": trials}, "searcher": "tpe"})
    feed = Feed(Campaign([Method("method", SPACE)], settings, 1), folder)
    start = time.perf_counter()
    run_feed(feed, Resources(gpus=0.0), machines, Observers(Recorder(folder), feed), folder.path / "ray")
    if not feed.campaign.done:
        raise SystemExit("the search did not end")
    return time.perf_counter() - start, feed


def bare(trials: int, folder: Path, at_a_time: int) -> float:
    """Run bare Ray Tune with the same searcher; return its seconds."""
    space = {name: tune.loguniform(1e-4, 1e-2) if "rate" in name else tune.uniform(0.0, 3.0) for name in SPACE}

    def trainable(config: dict[str, Any]) -> None:
        tune.report({"loss": loss(config)})

    start = time.perf_counter()
    tune.Tuner(
        tune.with_resources(trainable, {"CPU": 1}),
        param_space=space,
        tune_config=tune.TuneConfig(
            metric="loss",
            mode="min",
            search_alg=OptunaSearch(sampler=TPESampler(seed=0)),
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
        folder = StudyFolder(Path(scratch) / "study")
        folder.create()
        with ray_started(None, folder.log) as machines:
            at_a_time = int(sum(machine.cpus for machine in machines))
            ray.get([ray.remote(lambda: None).remote() for _ in range(at_a_time)])
            seconds, feed = ours(trials, machines, folder)
            of_tune = bare(trials, Path(scratch), at_a_time)
    told = SimpleNamespace(
        trials=trials,
        seconds=round(seconds, 1),
        bare_ray_tune_seconds=round(of_tune, 1),
        ratio=round(seconds / of_tune, 2),
        campaign_ms_per_result=round(1000 * feed.seconds / trials, 2),
        memory_mb_at_half=feed.memory[trials // 2],
        memory_mb_at_end=feed.memory[-1],
    )
    print(json.dumps(vars(told), indent=1))


if __name__ == "__main__":
    main()
