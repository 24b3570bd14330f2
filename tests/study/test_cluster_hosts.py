"""A real cluster: `ray up` over ssh on three hosts in network namespaces, and a study on it from a laptop."""

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from study import records
from study.analysis import compare
from study.records import StudyFolder
from study.report import summary_lines

REPOSITORY = Path(__file__).resolve().parent.parent.parent
HOSTS = REPOSITORY / "benchmarks" / "hosts.py"

DEFINITION = """
name: tiny
corpus: {name: synthetic, options: {num_speakers: 12, utterances_per_speaker: 8}}
training: {epochs: 12}
seeds: 2
arms: [{strategy: equal}, {strategy: local_powers, options: {power: 2}}]
"""

PLUGIN = """
import time

from strategies import Strategy


class Powers(Strategy):
    summary = "powers"

    def __init__(self, num_tasks, *, power=1):
        super().__init__(num_tasks)
        self.power = power

    def weights(self, losses):
        time.sleep(0.15)  # so that the study is still running when it is stopped, however fast the machine
        return losses.detach() ** self.power
"""


def _why_not() -> str:
    specification = importlib.util.spec_from_file_location("hosts", HOSTS)
    hosts = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(hosts)
    return hosts.missing()


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """A definition with a strategy that only the laptop has, and the folder that strategy lies in."""
    folder = tmp_path_factory.mktemp("laptop")
    (folder / "tiny.yaml").write_text(DEFINITION)
    info = folder / "plugins" / "local_powers-1.0.dist-info"
    info.mkdir(parents=True)
    (folder / "plugins" / "local_powers.py").write_text(PLUGIN)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: local-powers\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[study.strategies]\nlocal_powers = local_powers:Powers\n")
    return folder


@pytest.fixture(scope="module")
def said(places):
    """What each command of the scenario said on the laptop."""
    if reason := _why_not():
        pytest.skip(reason)
    result = places / "said.json"
    scenario = [sys.executable, str(Path(__file__).with_name("cluster_scenario.py"))]
    command = [sys.executable, str(HOSTS), "--hosts", "3", "--shared", str(places), "--", *scenario]
    done = subprocess.run(
        [*command, str(result), str(places / "tiny.yaml"), str(places / "plugins")],
        capture_output=True,
        text=True,
        timeout=1500,  # three minutes on a quiet machine
        check=False,
    )
    assert result.exists(), done.stdout + done.stderr
    print(done.stdout)
    return json.loads(result.read_text())


pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1600)]


def _metrics(home):
    """Return every number of a study that does not measure time or memory, by trial."""
    (rows,) = home.glob("tiny-*/rows")
    measured = ("time/", "memory/")
    return {
        file.stem: {
            (event["row"]["kind"], event["row"]["epoch"], name): value
            for event in map(json.loads, file.read_text().splitlines())
            if event["event"] == "row"
            for name, value in event["row"].items()
            if not name.startswith(measured)
        }
        for file in rows.glob("*.jsonl")
    }


def test_a_cluster_that_is_not_up_is_one_line(said):
    assert said["not up"]["code"] == 1
    assert "BAD  head: cluster weighting-study is not up: ray up cluster.yaml" in said["not up"]["text"]


def test_a_machine_with_another_version_is_named_with_the_remedy(said):
    told = r"BAD  versions: node host3 \(10.77.0.13\) has weighting-study 0.0.9, here it is \S+: run `ray up` again"
    assert said["check another version"]["code"] == 1
    assert re.search(told, said["check another version"]["text"])
    assert said["run on another version"]["code"] == 1
    assert re.search(told, said["run on another version"]["text"])
    assert "nothing was started" in said["run on another version"]["text"]
    assert said["check"]["code"] == 0, said["check"]["text"]


def test_ctrl_c_on_the_laptop_leaves_the_study_to_itself(said):
    assert said["run"]["code"] == 130
    assert "the study goes on on the cluster; study attach tiny-" in said["run"]["text"]


def test_attached_again_it_is_followed_until_somebody_stops_it(said):
    assert "was stopped" in said["stop"]["text"]
    assert said["attach"]["code"] == 130
    assert "finished trials are kept. To go on: study resume tiny-" in said["attach"]["text"]


def test_a_stopped_study_resumes_from_its_folder_to_the_numbers_of_one_machine(said, places):
    assert said["resume"]["code"] == 0, said["resume"]["text"]
    environment = os.environ | {"PYTHONPATH": f"{REPOSITORY}{os.pathsep}{places / 'plugins'}"}
    command = ["-m", "study.cli", "run", str(places / "tiny.yaml"), "--home", str(places / "here"), "--quiet"]
    subprocess.run([sys.executable, *command], env=environment, check=True, capture_output=True)
    there, here = _metrics(places / "fetched"), _metrics(places / "here")
    assert sorted(here) == [f"{arm}-seed{seed}" for arm in ("equal", "local_powers") for seed in (0, 1)]
    assert there == here


def test_what_was_fetched_can_be_shown_on_the_laptop(said, places):
    (name,) = records.names(places / "fetched")
    shown = compare(records.load_results(StudyFolder(places / "fetched" / name)))
    assert shown.num_finished == 4
    assert all(line in said["resume"]["text"] for line in summary_lines(shown))
    assert list(places.glob("fetched/tiny-*/report/tables/comparison.csv"))
    assert not list(places.glob("fetched/tiny-*/checkpoints/*"))


def test_mlflow_of_the_cluster_asks_for_a_password_through_the_tunnel(said):
    assert said["without a password"]["code"] == 401
    assert said["ui"]["code"] == 0
    assert said["ui"]["text"].startswith("http://127.0.0.1:5050\n")


def test_the_cluster_goes_down(said):
    assert said["down"]["code"] == 0
