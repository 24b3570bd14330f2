"""What a laptop says of a cluster whose machines answer, but are not as they should be."""

import dataclasses
import json
import re
from pathlib import Path

import pytest

from study import cli, nodes
from study.cluster import check, session
from study.cluster import file as files
from study.cluster.remote import Answer

REPOSITORY = Path(__file__).resolve().parent.parent.parent
HEAD = dataclasses.replace(nodes.this_machine(), host="head", address="10.0.0.1")
WORKER = dataclasses.replace(HEAD, host="worker", address="10.0.0.2", cpus=4.0)

FILE = """
cluster_name: mine
provider: {type: local, head_ip: 10.0.0.1, worker_ips: [10.0.0.2]}
auth: {ssh_user: me, ssh_private_key: KEY}
file_mounts: {~/.ray/auth_token: TOKEN}
head_start_ray_commands: [RAY_enable_autoscaler_v2=0 ray start --head]
"""


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    """Return a function that brings up a cluster whose head answers for the machines it is given; it is a file."""
    (tmp_path / "key").touch()
    (tmp_path / "token").touch(0o600)

    def up(*machines, asked=2):
        class Head:
            def __init__(self, file):
                self.file = file

            def call(self, command, timeout_s):
                assert command.startswith(f"study cluster probe --json --nodes {asked} ")
                told = json.dumps(nodes.as_json(machines, asked), indent=1)
                return Answer(0, ["Welcome to this machine", *told.splitlines()])

        monkeypatch.setattr(check, "Head", Head)
        path = tmp_path / "cluster.yaml"
        text = FILE.replace("KEY", str(tmp_path / "key")).replace("TOKEN", str(tmp_path / "token"))
        path.write_text(text)
        return str(path)

    return up


def call(capsys, *arguments):
    with pytest.raises(SystemExit) as ended:
        cli.main_with(list(arguments))
    told = capsys.readouterr()
    return ended.value.code, told.out + told.err


OTHER = {
    "python": ("3.99.1", "has Python 3.99.1, here it is .*: use the same Python on every machine"),
    "ray": ("2.59.0", "has Ray 2.59.0, here it is .*: install with -c constraints.txt on every machine"),
    "study": ("0.0.9", "has weighting-study 0.0.9, here it is .*: run `ray up` again, which installs this version"),
    "torch": ("2.0.0", "has PyTorch 2.0.0, here it is .*: install with -c constraints.txt on every machine"),
}


@pytest.mark.parametrize("name", OTHER)
def test_a_machine_with_another_version_is_named_with_the_remedy(cluster, capsys, name):
    other, told = OTHER[name]
    file = cluster(HEAD, dataclasses.replace(WORKER, **{name: other}))
    code, said = call(capsys, "cluster", "check", file)
    assert code == 1
    (line,) = [line for line in said.splitlines() if line.startswith("BAD")]
    assert re.search(rf"versions: node worker \(10.0.0.2\) {told}", line)


def test_a_study_is_not_sent_to_such_machines(cluster, capsys, monkeypatch):
    sent = []
    monkeypatch.setattr(session.Session, "run", lambda *_: sent.append(1))
    file = cluster(HEAD, dataclasses.replace(WORKER, study="0.0.9"))
    code, said = call(capsys, "run", "weighting", "--cluster", file)
    assert (code, sent) == (1, [])
    assert "BAD  versions: node worker (10.0.0.2) has weighting-study 0.0.9" in said
    assert f"nothing was started; all that was looked at: study cluster check {file}" in said


def test_machines_like_this_one_are_well(cluster, capsys):
    code, said = call(capsys, "cluster", "check", cluster(HEAD, WORKER))
    assert code == 0, said
    assert "nodes: 2 of 2 have joined" in said
    assert "capacity: 4 CPUs and 0 GPUs now" in said


def test_the_patch_level_of_python_may_differ_from_the_laptops_but_not_between_machines(cluster, capsys):
    other = f"{HEAD.python.rpartition('.')[0]}.99"
    head, worker = (dataclasses.replace(each, python=other) for each in (HEAD, WORKER))
    assert call(capsys, "cluster", "check", cluster(head, worker))[0] == 0
    code, said = call(capsys, "cluster", "check", cluster(head, WORKER))
    assert code == 1
    assert f"has Python {WORKER.python}, here it is {other}" in said


def test_a_machine_that_has_not_joined_is_named(cluster, capsys):
    code, said = call(capsys, "cluster", "check", cluster(HEAD))
    assert code == 1
    assert "1 of 2 have not joined (10.0.0.2): a wrong address or ssh key, or the machine is off" in said


def test_on_aws_a_head_without_boto3_is_the_first_guess_and_the_shipped_file_brings_it():
    shipped = files.read(REPOSITORY / "cluster.yaml")
    without = [command.replace("[cluster]", "") for command in shipped.content["setup_commands"]]
    bare = files.ClusterFile(shipped.path, shipped.content | {"setup_commands": without})
    remedy = "the head cannot start machines: install the project with [cluster], which brings boto3"
    assert check._reasons(bare)[0] == remedy
    assert remedy not in check._reasons(shipped)
