"""Is a cluster ready? `ray up` ends well even if no worker ever joins: this waits, and asks each machine."""

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from study import nodes
from study.cluster.file import ClusterFile, examine
from study.cluster.remote import ConnectionLost, Head
from study.doctor import Finding
from study.errors import StudyError
from study.nodes import Node

_REACHING_S = 60.0
"""Seconds beside those for waiting: ssh, the imports, and an answer from every node."""
_NOT_FOUND = 127
"""What a shell says of a command that is not there."""


def check(file: ClusterFile, timeout_s: float) -> list[Finding]:
    """Look at all that a study on a cluster rests on, from the file to the last node.

    Args:
        file: the cluster file.
        timeout_s: most seconds to wait for nodes that are still to join.
    """
    findings = examine(file)
    if not all(finding.well for finding in findings):
        return [*findings, Finding("head", False, "not asked before the rest is well")]
    try:
        findings += check_nodes(file, timeout_s)
    except StudyError as failure:
        findings.append(Finding("head", False, str(failure)))
    return findings


def check_nodes(file: ClusterFile, timeout_s: float) -> list[Finding]:
    """Ask the head for its nodes and compare them with what the file promises and with this machine.

    Raises:
        StudyError: the head cannot be reached, or has no answer.
    """
    command = f"study cluster probe --json --nodes {file.nodes} --timeout {timeout_s:g}"
    answer = Head(file).call(command, timeout_s + _REACHING_S)
    if answer.code == _NOT_FOUND:
        remedy = "install the project in setup_commands and put it on the PATH of a login shell, as cluster.yaml does"
        raise StudyError(f"the head of cluster {file.name} has no command 'study': {remedy}")
    found = _parse(answer.lines)
    if found is None:
        raise ConnectionLost(f"the head of cluster {file.name} has no answer: {answer.last[:300]}")
    known = [Node(**{name: value for name, value in node.items() if name in _FIELDS}) for node in found["nodes"]]
    return [_joined(file, known, int(found["missing"])), *_versions(known), _capacity(known)]


_FIELDS = set(Node.__dataclass_fields__)


def _parse(lines: Sequence[str]) -> Any:  # noqa: ANN401  (JSON)
    """Return the JSON among the lines of a terminal, or None."""
    starts = [index for index, line in enumerate(lines) if line.startswith("{")]
    ends = [index for index, line in enumerate(lines) if line.startswith("}") or line.endswith("}")]
    try:
        content = json.loads("\n".join(lines[starts[0] : ends[-1] + 1]))
    except (IndexError, json.JSONDecodeError):
        return None
    return content if isinstance(content, dict) and "nodes" in content else None


def _joined(file: ClusterFile, known: Sequence[Node], missing: int) -> Finding:
    if not missing:
        return Finding("nodes", True, f"{len(known)} of {file.nodes} have joined")
    addresses = {node.address for node in known}
    workers = [str(each) for each in file.content["provider"].get("worker_ips") or ()]
    absent = [each for each in workers if each not in addresses]
    who = f" ({', '.join(absent)})" if 0 < len(absent) <= missing else ""
    return Finding("nodes", False, f"{missing} of {file.nodes} have not joined{who}: {'; or '.join(_reasons(file))}")


def _reasons(file: ClusterFile) -> list[str]:
    """Return what keeps workers from joining, the likeliest first, with the remedies."""
    reasons = []
    if file.provider == "local" and not _is_first_autoscaler(file):
        reasons.append("the second autoscaler starts one worker: RAY_enable_autoscaler_v2=0 before `ray start --head`")
    if file.provider == "aws" and not _installs_boto3(file):
        reasons.append("the head cannot start machines: install the project with [cluster], which brings boto3")
    if file.provider == "local":
        reasons.append("a wrong address or ssh key, or the machine is off (`ray monitor` shows what failed)")
    else:
        reasons.append("still starting, or the provider has none to give (`ray monitor` shows it)")
    reasons.append("another token in its ~/.ray/auth_token: list it in file_mounts and `ray up` again")
    return reasons


def _installs_boto3(file: ClusterFile) -> bool:
    commands = f"{file.content.get('setup_commands')} {file.content.get('head_setup_commands')}"
    return "boto3" in commands or "[cluster]" in commands


def _is_first_autoscaler(file: ClusterFile) -> bool:
    commands = " ".join(map(str, file.content.get("head_start_ray_commands") or ()))
    return "enable_autoscaler_v2=0" in commands


def _versions(known: Sequence[Node]) -> list[Finding]:
    """Compare the nodes with this machine, and their PyTorch with the head's: trials do not run here."""
    if not known:
        return []
    here, head = nodes.this_machine(), known[0]
    if _minor(here.python) == _minor(head.python):
        here = replace(here, python=head.python)
    told = nodes.differences(known, replace(here, torch=head.torch))
    if told:
        return [Finding("versions", False, line) for line in told]
    return [Finding("versions", True, f"Python {head.python}, Ray {head.ray}, weighting-study {head.study} on each")]


def _minor(version: str) -> str:
    return version.rpartition(".")[0]


def _capacity(known: Sequence[Node]) -> Finding:
    cpus, gpus = sum(node.cpus for node in known), sum(node.gpus for node in known)
    away = [node.host for node in known if node.sees_home is False]
    through = f"; {', '.join(away)}: corpus and checkpoints go through Ray, as no folder is shared" if away else ""
    return Finding("capacity", True, f"{cpus:g} CPUs and {gpus:g} GPUs now{through}")
