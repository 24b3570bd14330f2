import json
import re
import tomllib
from pathlib import Path

import pytest
import yaml

from study.cluster import file as files
from study.errors import StudyError

REPOSITORY = Path(__file__).resolve().parent.parent.parent
SHIPPED = ["cluster.yaml", "clusters/on_premise.yaml", "clusters/gcp.yaml"]

LOCAL = """
cluster_name: mine
provider: {type: local, head_ip: 10.0.0.1, worker_ips: [10.0.0.2]}
auth: {ssh_user: me, ssh_private_key: KEY}
file_mounts: {~/.ray/auth_token: TOKEN}
"""


@pytest.fixture
def write(tmp_path):
    """Return a function that writes a cluster file with words of LOCAL replaced; key and token are there."""
    (tmp_path / "key").touch()
    (tmp_path / "token").touch(0o600)

    def replaced(**changes):
        text = LOCAL.replace("KEY", str(tmp_path / "key")).replace("TOKEN", str(tmp_path / "token"))
        for old, new in changes.items():
            assert old in text
            text = text.replace(old, new)
        (tmp_path / "c.yaml").write_text(text)
        return tmp_path / "c.yaml"

    return replaced


def bad(findings):
    return {finding.subject: finding.detail for finding in findings if not finding.well}


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_cluster_files_say_nothing_wrong(name):
    assert files.read(REPOSITORY / name).name == "weighting-study"


@pytest.mark.parametrize("name", SHIPPED)
def test_ray_itself_accepts_the_shipped_cluster_files(name):
    from ray.autoscaler._private.util import prepare_config, validate_config

    content = yaml.safe_load((REPOSITORY / name).read_text())
    prepared = prepare_config(content)
    validate_config(prepared)
    assert prepared["head_node_type"] in prepared["available_node_types"]


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_clusters_ask_for_the_token_and_show_no_dashboard(name):
    content = files.read(REPOSITORY / name).content
    assert content["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token"
    for role in ("head_start_ray_commands", "worker_start_ray_commands"):
        (start,) = [command for command in content[role] if "ray start" in command]
        assert "RAY_AUTH_MODE=token" in start
    head = " ".join(content["head_start_ray_commands"])
    assert "--include-dashboard=false" in head
    assert "study head start" in head
    assert "0.0.0.0" not in head


INSTALLS = re.compile(r"pip install (?:-q )?-c (\S+)/constraints\.txt -e '?\1'?\[cluster\]'")


@pytest.mark.parametrize("name", [*SHIPPED, "clusters/kuberay.yaml"])
def test_every_machine_gets_the_project_with_what_the_tracking_server_needs(name):
    text = (REPOSITORY / name).read_text()
    if name in SHIPPED:
        text = "\n".join(yaml.safe_load(text)["setup_commands"])
    assert len(INSTALLS.findall(text)) == 1


def test_the_extra_of_the_cluster_files_brings_what_the_head_needs():
    extra = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["optional-dependencies"]["cluster"]
    assert {re.split("[<>=]", each)[0] for each in extra} >= {"mlflow[auth]", "boto3", "psycopg[binary]"}


def test_machines_of_ones_own_are_started_by_the_first_autoscaler():
    """The second one, Ray's default, starts one worker of a local cluster and no other."""
    head = files.read(REPOSITORY / "clusters/on_premise.yaml").content["head_start_ray_commands"]
    assert "RAY_enable_autoscaler_v2=0 ray start --head" in " ".join(" ".join(head).split())


def test_the_kuberay_manifest_is_a_ray_cluster_with_a_token_and_a_gpu_for_each_worker():
    claim, cluster = yaml.safe_load_all((REPOSITORY / "clusters/kuberay.yaml").read_text())
    assert (cluster["apiVersion"], cluster["kind"]) == ("ray.io/v1", "RayCluster")
    spec = cluster["spec"]
    assert spec["authOptions"] == {"mode": "token"}
    assert f"ray[tune]>={spec['rayVersion'].removesuffix('.0')}" in (REPOSITORY / "pyproject.toml").read_text()
    head = spec["headGroupSpec"]
    assert head["serviceType"] == "ClusterIP"
    assert head["template"]["spec"]["volumes"][0]["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
    (workers,) = spec["workerGroupSpecs"]
    assert workers["minReplicas"] <= workers["replicas"] <= workers["maxReplicas"]
    for group, container in ((head, "ray-head"), (workers, "ray-worker")):
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())
        (found,) = group["template"]["spec"]["containers"]
        assert found["name"] == container
        assert found["resources"]["limits"] == found["resources"]["requests"]
    assert found["resources"]["limits"]["nvidia.com/gpu"] == "1"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cluster_name": "cluster_nmae"}, r"unknown key 'cluster_nmae' .*did you mean 'cluster_name'\?"),
        ({"worker_ips": "worker_ip"}, r"provider: unknown key 'worker_ip' .*did you mean 'worker_ips'\?"),
        ({"[10.0.0.2]": "10.0.0.2"}, r"provider.worker_ips: '10.0.0.2' is not of type 'array'"),
        ({"head_ip: 10.0.0.1, ": ""}, r"provider.head_ip is missing"),
        ({"ssh_user": "ssh_usr"}, r"auth: .*'ssh_usr' was unexpected"),
        ({"type: local": "type: 3"}, r"provider.type: 3 is not of type 'string'"),
        ({"provider:": "provider: !!python/object/apply:os.system ["}, r"is not YAML"),
    ],
)
def test_a_mistake_in_a_cluster_file_is_one_line(write, changes, message):
    with pytest.raises(StudyError, match=message) as refusal:
        files.read(write(**changes))
    assert "\n" not in str(refusal.value)


def test_what_is_no_cluster_file_is_named(tmp_path):
    with pytest.raises(StudyError, match=r"cluster file .*gone.yaml cannot be read: No such file"):
        files.read(tmp_path / "gone.yaml")
    (tmp_path / "list.yaml").write_text("[1, 2]")
    with pytest.raises(StudyError, match="is not a cluster file: expected keys such as cluster_name"):
        files.read(tmp_path / "list.yaml")
    with pytest.raises(StudyError, match="is a manifest for Kubernetes: start it with kubectl apply"):
        files.read(REPOSITORY / "clusters/kuberay.yaml")


def test_machines_that_are_up_from_the_start_are_counted(write):
    assert files.read(write()).nodes == 2
    assert files.read(write(file_mounts="min_workers: 0\nfile_mounts")).nodes == 1
    assert files.read(REPOSITORY / "clusters/on_premise.yaml").nodes == 3
    assert files.read(REPOSITORY / "cluster.yaml").nodes == 1


def test_a_file_with_key_and_token_is_well(write):
    assert bad(files.examine(files.read(write()))) == {}


def test_what_a_cluster_needs_here_and_lacks_is_named_with_the_remedy(write, tmp_path):
    file = files.read(write())
    (tmp_path / "token").chmod(0o644)
    assert bad(files.examine(file))["token"].endswith(f"(mode 644): chmod 600 {tmp_path}/token")
    (tmp_path / "token").unlink()
    assert "is not there: ray get-auth-token --generate; chmod 600" in bad(files.examine(file))["token"]
    (tmp_path / "key").unlink()
    assert "is not there: name the key" in bad(files.examine(file))["ssh key"]
    without = files.read(write(file_mounts="rsync_exclude: []\n#"))
    assert "whoever reaches its ports runs code on it" in bad(files.examine(without))["token"]


def test_on_aws_an_image_boto3_and_credentials_are_asked_for(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "find_spec", lambda name: None)
    told = bad(
        [
            *[files._images(files.ClusterFile(tmp_path, yaml.safe_load((REPOSITORY / "cluster.yaml").read_text())))],
            files._aws_credentials(),
        ]
    )
    assert "head.node_config.ImageId: 'ami-of-your-region' is no image" in told["images"]
    assert told["credentials"].startswith("boto3 is missing")


def test_the_schema_is_rays_own():
    assert json.dumps(files._schema()["required"]) == '["cluster_name", "provider"]'
