"""A search as a user runs it: real Ray, real MLflow, real training, and a driver that is killed in the middle."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest
import torch

from study import corpus_job, records, tuning
from study.definition import load
from study.plan import make_plan
from study.progress import Display
from study.records import StudyFolder
from trainables import corpora
from trainables.session import Session

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]

SHORT = {  # scheduler -> how often seeds of configurations are trained, and what makes that few
    "none": (6, ["search.budget.trials=3", "search.parallel=1", "arms=[{strategy: equal}, {strategy: gradnorm}]"]),
    "pbt": (
        6,
        [
            "search.scheduler=pbt",
            "search.searcher=random",
            "search.budget.trials=2",
            "search.options={population: 2, quantile: 0.5}",
            "training.epochs=3",
            "arms=[{strategy: equal}]",
        ],
    ),
}
TINY = [
    "corpus.options={num_speakers: 12, utterances_per_speaker: 8}",
    "network.modalities=[video]",
    "training.epochs=2",
    "search.seeds=1",
    "seeds=1",
]


class Home:
    """A study home and the command line that uses it."""

    def __init__(self, folder, cache, settings):
        self.folder, self.settings = folder, settings
        self.environment = {**os.environ, "STUDY_HOME": str(folder), "STUDY_CACHE": cache, "OMP_NUM_THREADS": "1"}
        self.environment["STUDY_CHECKPOINT_SECONDS"] = "0"

    def start(self):
        overrides = [part for setting in self.settings for part in ("--set", setting)]
        command = [sys.executable, "-m", "study.cli", "run", "tuned_weighting", *overrides]
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen(command, env=self.environment, text=True, start_new_session=True, **pipes)

    @property
    def study(self):
        (found,) = self.folder.glob("tuned_weighting-*")
        return StudyFolder(found)

    def told(self):
        """What became of every segment, without what depends on the clock."""
        files = list(self.folder.glob("tuned_weighting-*/tuning/history.jsonl"))
        lines = [json.loads(line) for line in files[0].read_text().splitlines()] if files else []
        return told(lines)

    def start_and_kill(self, after):
        """Kill the driver once so many segments were told; return what was told."""
        process = self.start()
        deadline = time.monotonic() + 400
        while len(self.told()) < after:
            assert process.poll() is None, process.communicate()[1]
            assert time.monotonic() < deadline
            time.sleep(0.05)
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        return self.told()

    def finish(self):
        """Go on to the end; return what was told and what was printed."""
        process = self.start()
        out, err = process.communicate(timeout=450)
        assert process.returncode == 0, err
        return self.told(), out

    def trained(self):
        """Trial -> the epochs that were trained, one by one."""
        found = {}
        for path in self.folder.glob("tuned_weighting-*/tuning/rows/*.jsonl"):
            events = [json.loads(line) for line in path.read_text().splitlines() if line.endswith("}")]
            found[path.stem] = [event["row"]["epoch"] for event in events if event["event"] == "row"]
        return found


def told(lines):
    return {
        (line["method"], line["configuration"], line["seed"], line["until"]): line["values"]
        for line in lines
        if line["event"] == "told"
    }


def undisturbed(tmp_path, cache, settings):
    """Run the same search here, one segment after the other, without Ray and without a kill."""
    definition = load("tuned_weighting", settings)
    corpus = corpora.create(definition.corpus.name, **definition.corpus.options)
    os.environ["STUDY_CACHE"] = cache
    store = corpus_job.prepare_store(definition, corpus, Display(None))
    folder = StudyFolder(tmp_path / "undisturbed")
    folder.create()
    tuner = tuning.Tuner(make_plan(definition, corpus), corpus, folder, str(store.path))
    while (trial := tuner.next()) is not None:
        tuner.trial_started(trial)
        for row in Session(trial, torch.device("cpu")).run():
            tuner.trial_reported(trial, row)
        tuner.trial_ended(trial, None)
    assert tuner.campaign.done
    return told(tuner.campaign.history())


def test_a_search_whose_driver_is_killed_ends_with_the_same_configurations_and_results(
    tmp_path, tmp_path_factory, monkeypatch
):
    cache = str(tmp_path_factory.getbasetemp() / "cache")
    monkeypatch.setenv("STUDY_CACHE", cache)
    torch.set_num_threads(1)
    segments, settings = SHORT["none"]
    home = Home(tmp_path / "studies", cache, [*TINY, *settings])
    before = home.start_and_kill(2)
    assert 2 <= len(before) < segments

    after, out = home.finish()
    assert {key: after[key] for key in before} == before
    assert after == undisturbed(tmp_path, cache, home.settings)
    finished = {f"{method}-c{number:03d}-seed{seed}" for method, number, seed, _ in before}
    assert {trial: home.trained()[trial] for trial in finished} == {trial: [1, 2] for trial in finished}

    assert re.search(r"gradnorm +1 ", out)
    report = (home.study.report / "report.md").read_text()
    for text in ("## Tuning", "chosen values", "with fresh seeds"):
        assert text in report
    assert (home.study.report / "figures" / "tuning.png").stat().st_size > 500
    assert not home.study.tuning.checkpoints.exists()
    assert mlflow_tags(home.folder) == {("tuning", "FINISHED"): 6, ("", "FINISHED"): 3}
    arms = home.study.read_lock()["arms"]
    assert all(1e-4 < arm["training"]["learning_rate"] < 1e-1 for arm in arms)
    assert not any(name.startswith("test/") for name in rows_of_tuning(home.study))


def test_a_population_whose_driver_is_killed_ends_with_the_same_members_and_results(
    tmp_path, tmp_path_factory, monkeypatch
):
    cache = str(tmp_path_factory.getbasetemp() / "cache")
    monkeypatch.setenv("STUDY_CACHE", cache)
    torch.set_num_threads(1)
    segments, settings = SHORT["pbt"]
    home = Home(tmp_path / "studies", cache, [*TINY, *settings])
    before = home.start_and_kill(3)  # in the second generation, of which one member begins from the other's checkpoint
    assert 3 <= len(before) < segments
    after, _ = home.finish()
    assert after == undisturbed(tmp_path, cache, home.settings)
    assert len(after) == segments
    heirs = {number for _, number, _, _ in after if number >= 2}
    assert heirs
    changes = home.study.read_lock()["arms"][0].get("changes", [])
    assert len(changes) == len(records.load_tuning(home.study).methods[0].stages) - 1
    assert mlflow_tags(home.folder) == {("tuning", "FINISHED"): 2 + len(heirs), ("", "FINISHED"): 2}
    endings = tags_of(home.folder, "ending")
    assert endings.count("trained to the end") == 2
    assert sum(ending.startswith("stopped by the scheduler after epoch") for ending in endings) == len(heirs)


def tags_of(folder, name):
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    runs = client.search_runs([client.get_experiment_by_name("tuned_weighting").experiment_id])
    return [run.data.tags[name] for run in runs if name in run.data.tags]


def mlflow_tags(folder):
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    runs = client.search_runs([client.get_experiment_by_name("tuned_weighting").experiment_id])
    counts = {}
    for run in runs:
        key = run.data.tags.get("phase", ""), run.info.status
        counts[key] = counts.get(key, 0) + 1
    return counts


def rows_of_tuning(study):
    lines = [line for path in study.tuning.rows.glob("*.jsonl") for line in path.read_text().splitlines()]
    return {name for line in lines for name in json.loads(line).get("row", {})}
