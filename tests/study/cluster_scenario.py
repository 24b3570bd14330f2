"""What a user does with a cluster, on a laptop beside three hosts; started by test_cluster_hosts.py, not by pytest.

Leaves what each command said, its exit code and its seconds in the file named by the first argument, and what was
fetched in the folder ``fetched`` beside it.
"""

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import yaml

HOSTS = Path(os.environ["STUDY_HOSTS"])
REPOSITORY = Path(__file__).resolve().parent.parent.parent
FIRST_ON_PATH = "/root/installed"
"""Folder that each host has for itself."""
SAID: dict[str, dict] = {}


def main() -> None:
    result, definition, plugins = sys.argv[1:]
    os.chdir(HOSTS)
    os.environ["PYTHONPATH"] = os.pathsep.join([str(REPOSITORY), plugins])
    token = Path.home() / ".ray" / "auth_token"
    token.parent.mkdir(exist_ok=True)
    subprocess.run(["ray", "get-auth-token", "--generate"], check=True, capture_output=True)
    token.chmod(0o600)
    cluster = cluster_file()
    try:
        do("not up", study("cluster", "check", cluster))
        do("up", ["ray", "up", "-y", cluster])
        another_version(cluster, definition)
        scenario(cluster, definition, str(Path(result).with_name("fetched")))
        do("down", ["ray", "down", "-y", cluster])
    finally:
        Path(result).write_text(json.dumps(SAID))


def scenario(cluster: str, definition: str, home: str) -> None:
    on = ["--cluster", cluster, "--home", home]
    with told("run", study("run", definition, *on)) as run:
        wait_for(run, "trials to go")
        run.send_signal(signal.SIGINT)
    name = re.search(r"study (tiny-\w+)", SAID["run"]["text"])[1]
    with told("stop", study("stop", name, *on[:2])):
        do("attach", study("attach", name, *on))
    do("resume", study("resume", name, *on))
    tunnel(cluster)


def another_version(cluster: str, definition: str) -> None:
    """Let one machine have another version of the project until it has been told."""
    on_host3 = ["ssh", "-q", "-i", str(HOSTS / "id"), "-o", "StrictHostKeyChecking=no", "root@10.77.0.13"]
    metadata = "Metadata-Version: 2.1\\nName: weighting-study\\nVersion: 0.0.9\\n"
    place = f"{FIRST_ON_PATH}/weighting_study-0.0.9.dist-info"
    subprocess.run([*on_host3, f"mkdir -p {place}; printf '{metadata}' > {place}/METADATA"], check=True)
    do("check another version", study("cluster", "check", cluster))
    do("run on another version", study("run", definition, "--cluster", cluster, "--home", "nowhere"))
    subprocess.run([*on_host3, f"rm -r {place}"], check=True)
    do("check", study("cluster", "check", cluster))


def cluster_file() -> str:
    """The shipped file with other addresses and another key; the project is there already and is not installed."""
    content = yaml.safe_load((REPOSITORY / "clusters" / "on_premise.yaml").read_text())
    content["provider"] |= {"head_ip": "10.77.0.11", "worker_ips": ["10.77.0.12", "10.77.0.13"]}
    content["auth"] = {"ssh_user": "root", "ssh_private_key": str(HOSTS / "id")}
    content["file_mounts"].pop("~/weighting-study")
    path = content["setup_commands"].pop()
    program = f'#!/bin/sh\\nexec {sys.executable} -m study.cli "$@"\\n'
    content["setup_commands"] = [
        f"mkdir -p ~/study-venv/bin && printf '{program}' > ~/study-venv/bin/study && chmod +x ~/study-venv/bin/study",
        # added to what is there: bash reads this file for Ray's workers too, whose path Ray has set by then
        f"echo 'export PYTHONPATH={FIRST_ON_PATH}:${{PYTHONPATH:+$PYTHONPATH:}}{REPOSITORY} OMP_NUM_THREADS=1' "
        ">> ~/.bashrc",
        path,
    ]
    for role in ("head_start_ray_commands", "worker_start_ray_commands"):
        content[role] = [command.replace("ray start ", "ray start --num-cpus=1 ") for command in content[role]]
    Path("cluster.yaml").write_text(yaml.safe_dump(content))
    return "cluster.yaml"


def study(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "study.cli", *arguments]


class told:
    """Starts a command, and keeps what it says under a name once it has ended."""

    def __init__(self, name: str, command: list[str]) -> None:
        self.name, self.command = name, command

    def __enter__(self) -> subprocess.Popen:
        self.begun = time.monotonic()
        self.log = open(f"{self.name}.log", "w+")
        self.process = subprocess.Popen(self.command, stdout=self.log, stderr=subprocess.STDOUT)
        self.process.log = self.log.name
        return self.process

    def __exit__(self, *failure: object) -> None:
        code = self.process.wait(300)
        seconds = round(time.monotonic() - self.begun, 1)
        SAID[self.name] = {"code": code, "text": Path(self.log.name).read_text(), "seconds": seconds}
        print(self.name, code, seconds, flush=True)


def do(name: str, command: list[str]) -> None:
    with told(name, command):
        pass


def wait_for(process: subprocess.Popen, text: str) -> None:
    deadline = time.monotonic() + 120
    while text not in (said := Path(process.log).read_text()):
        if process.poll() is not None or time.monotonic() > deadline:
            raise SystemExit(f"'{text}' was not said: {said}")
        time.sleep(0.1)


def tunnel(cluster: str) -> None:
    with told("ui", study("ui", "--cluster", cluster, "--port", "5050")) as process:
        wait_for(process, "closes the tunnel")
        try:
            urllib.request.urlopen("http://127.0.0.1:5050/api/2.0/mlflow/experiments/search?max_results=1", timeout=20)
        except urllib.error.HTTPError as refusal:
            SAID["without a password"] = {"code": refusal.code}
        process.send_signal(signal.SIGINT)


if __name__ == "__main__":
    main()
