"""`ray up cluster.yaml` and `ray down` against an imitation of AWS, as far as it goes: no machine answers to ssh."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from study import nodes

pytest.importorskip("moto", reason="moto[ec2,iam] is not installed")
boto3 = pytest.importorskip("boto3", reason="boto3 is not installed")

REPOSITORY = Path(__file__).resolve().parent.parent.parent
RAY = [sys.executable, "-m", "ray.scripts.scripts"]
FIRST_SSH = "Waiting for SSH to become available"

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(240)]


@pytest.fixture(scope="module")
def aws(tmp_path_factory):
    """Set this process up for an AWS without machines, and a home folder with the token; return a client."""
    from moto.server import ThreadedMotoServer

    home = tmp_path_factory.mktemp("home")
    (home / ".ray").mkdir()
    (home / ".ray" / "auth_token").write_text("0" * 32)
    (home / ".ray" / "auth_token").chmod(0o600)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "MOTO_IAM_LOAD_MANAGED_POLICIES": "true",
            "HOME": str(home),
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
            "AWS_EC2_METADATA_DISABLED": "true",
            "RAY_USAGE_STATS_ENABLED": "0",
            "PYTHONWARNINGS": "default",
        }.items():
            patch.setenv(name, value)
        server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        server.start()
        address, port = server.get_host_and_port()
        patch.setenv("AWS_ENDPOINT_URL", f"http://{address}:{port}")
        yield boto3.client("ec2", region_name="us-east-1")
        server.stop()


@pytest.fixture(scope="module")
def file(aws, tmp_path_factory):
    """The shipped file with what its user writes: an image, twice."""
    folder = tmp_path_factory.mktemp("cluster")
    image = aws.describe_images(Owners=["amazon"])["Images"][0]["ImageId"]
    text = (REPOSITORY / "cluster.yaml").read_text().replace("ami-of-your-region", image)
    shutil.copy(REPOSITORY / "pyproject.toml", folder)  # stands for the project, which is not copied anywhere here
    (folder / "cluster.yaml").write_text(text)
    return folder / "cluster.yaml"


@pytest.fixture(scope="module")
def head(aws, file):
    """Start the cluster up to the first word over ssh, and return the head as AWS knows it."""
    log = file.with_name("up.log")
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*RAY, "up", "-y", "--no-config-cache", file.name],
            cwd=file.parent,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        while FIRST_SSH not in log.read_text():
            assert process.poll() is None, log.read_text()
            time.sleep(0.2)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    (instance,) = instances(aws)
    return instance


def instances(aws):
    return [each for group in aws.describe_instances()["Reservations"] for each in group["Instances"]]


def test_the_head_is_the_machine_of_the_file(head, file):
    kind = yaml.safe_load(file.read_text())["available_node_types"]["head"]
    assert (head["InstanceType"], head["ImageId"]) == ("m6i.xlarge", kind["node_config"]["ImageId"])
    tags = {tag["Key"]: tag["Value"] for tag in head["Tags"]}
    assert tags["ray-cluster-name"] == "weighting-study"
    assert tags["ray-user-node-type"] == "head"


def test_its_disk_is_as_large_as_the_file_says(head, aws):
    (disk,) = head["BlockDeviceMappings"]
    (volume,) = aws.describe_volumes(VolumeIds=[disk["Ebs"]["VolumeId"]])["Volumes"]
    assert (volume["Size"], volume["VolumeType"]) == (200, "gp3")


def test_it_may_start_machines_itself(head):
    assert head["IamInstanceProfile"]["Arn"].endswith(":instance-profile/ray-autoscaler-v1")


def test_ssh_alone_is_open_to_the_world(head, aws):
    (group,) = head["SecurityGroups"]
    (rules,) = aws.describe_security_groups(GroupIds=[group["GroupId"]])["SecurityGroups"]
    world = [rule for rule in rules["IpPermissions"] if rule["IpRanges"] or rule["Ipv6Ranges"]]
    inner = [rule for rule in rules["IpPermissions"] if rule not in world]
    assert [(rule["IpProtocol"], rule["FromPort"], rule["ToPort"]) for rule in world] == [("tcp", 22, 22)]
    assert [[pair["GroupId"] for pair in rule["UserIdGroupPairs"]] for rule in inner] == [[group["GroupId"]]]


@pytest.fixture(scope="module")
def prepared(head, file):
    """The file as `ray up` has filled it in, and as the autoscaler on the head reads it."""
    from ray.autoscaler._private.commands import _bootstrap_config
    from ray.autoscaler._private.util import prepare_config

    content = yaml.safe_load(file.read_text())
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(file.parent)
        return _bootstrap_config(prepare_config(content), no_config_cache=True)


def test_trials_may_ask_for_the_gpus_of_workers_that_are_still_to_start(prepared):
    assert nodes.to_come(prepared, workers=0) == [nodes.Machine(cpus=4, gpus=1, count=4, running=False)]


def test_the_autoscaler_starts_a_spot_worker_beside_the_head(prepared, head, aws):
    from ray.autoscaler._private.providers import _get_node_provider

    provider = _get_node_provider(prepared["provider"], prepared["cluster_name"])
    kind = prepared["available_node_types"]["worker"]["node_config"]
    provider.create_node(kind, {"ray-node-type": "worker", "ray-user-node-type": "worker"}, 1)
    (worker,) = [each for each in instances(aws) if each["InstanceId"] != head["InstanceId"]]
    assert (worker["InstanceType"], worker["InstanceLifecycle"]) == ("g5.xlarge", "spot")
    assert (worker["SecurityGroups"], worker["KeyName"]) == (head["SecurityGroups"], head["KeyName"])


def test_the_key_to_it_is_its_owners_alone(head):
    key = Path(os.environ["HOME"], ".ssh", f"{head['KeyName']}.pem")
    assert key.stat().st_mode & 0o777 == 0o600


def test_nothing_is_left_that_costs_money(head, aws, file):
    subprocess.run([*RAY, "down", "-y", file.name], cwd=file.parent, check=True, capture_output=True, timeout=100)
    assert {each["State"]["Name"] for each in instances(aws)} == {"terminated"}
