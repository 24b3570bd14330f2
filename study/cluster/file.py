"""The cluster file of `ray up`: read safely, with the typing errors that Ray itself lets pass."""

import json
import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from strategies.errors import unknown
from study import yaml_text
from study.doctor import Finding
from study.errors import StudyError

TOKEN = "~/.ray/auth_token"
"""Where every machine of a cluster keeps the token that its Ray asks for."""
MAKE_TOKEN = "ray get-auth-token --generate; chmod 600 ~/.ray/auth_token"

_ANY_PROVIDER = {
    "type",
    "use_internal_ips",
    "cache_stopped_nodes",
    "disable_node_updaters",
    "disable_launch_config_check",
    "foreground_node_launch",
    "worker_liveness_check",
    "worker_rpc_drain",
}
_PROVIDERS = {
    "local": {"head_ip", "worker_ips", "external_head_ip", "coordinator_address"},
    "aws": {"region", "availability_zone", "security_group", "key_pair", "aws_credentials", "cloudwatch"},
    "gcp": {"region", "availability_zone", "project_id", "gcp_credentials"},
}
"""Provider -> keys that Ray's code for it reads; other providers are not looked at."""
_MANIFEST = re.compile(r"^kind:\s*RayCluster\s*$", re.MULTILINE)
_IMAGE = re.compile(r"ami-[0-9a-f]{8,17}|resolve:ssm:.+|latest_dlami", re.IGNORECASE)


@dataclass(frozen=True)
class ClusterFile:
    """A cluster file that says nothing it may not say.

    Attributes:
        path: where it lies.
        content: what it says.
    """

    path: Path
    content: Mapping[str, Any]

    @property
    def name(self) -> str:
        """Name of the cluster."""
        return str(self.content["cluster_name"])

    @property
    def provider(self) -> str:
        """What kind of machines it has: ``local``, ``aws``, ``gcp`` or another that Ray knows."""
        return str(self.content["provider"]["type"])

    @property
    def nodes(self) -> int:
        """How many machines are up once it has started, the head included; the autoscaler may add more."""
        if self.provider == "local":
            workers = len(self.content["provider"].get("worker_ips") or ())
            return 1 + min(workers, int(self.content.get("min_workers", workers)))
        kinds = self.content.get("available_node_types") or {}
        head = self.content.get("head_node_type")
        return 1 + sum(int(kind.get("min_workers", 0)) for name, kind in kinds.items() if name != head)


def read(path: Path) -> ClusterFile:
    """Return a cluster file.

    Raises:
        StudyError: it cannot be read, or says something that it may not say; the first mistake, in one line.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as failure:
        reason = failure.strerror if isinstance(failure, OSError) else "it is not text"
        raise StudyError(f"cluster file {path} cannot be read: {reason}") from failure
    if _MANIFEST.search(text):
        raise StudyError(f"{path} is a manifest for Kubernetes: start it with kubectl apply, as its first lines say")
    try:
        content = yaml_text.parse(text)
    except ValueError as mistake:
        raise StudyError(f"cluster file {path} is not YAML: {mistake}") from None
    if not isinstance(content, dict):
        raise StudyError(f"cluster file {path} is not a cluster file: expected keys such as cluster_name and provider")
    _refuse_mistakes(path, content)
    return ClusterFile(path, content)


def _refuse_mistakes(path: Path, content: Mapping[str, Any]) -> None:
    schema = _schema()
    _refuse_unknown(path, "", content, {*schema["properties"], "min_workers"})
    provider = content.get("provider")
    if isinstance(provider, dict) and provider.get("type") in _PROVIDERS:
        _refuse_unknown(path, "provider: ", provider, _PROVIDERS[provider["type"]] | _ANY_PROVIDER)
    _refuse_against_schema(path, content, schema)
    if provider == {**content["provider"], "type": "local"} and "coordinator_address" not in content["provider"]:
        for key in ("head_ip", "worker_ips"):
            if not content["provider"].get(key):
                raise StudyError(f"cluster file {path}: provider.{key} is missing: the addresses of your machines")


def _refuse_unknown(path: Path, where: str, content: Mapping[str, Any], known: set[str]) -> None:
    for key in content:
        if key not in known:
            raise StudyError(f"cluster file {path}: {where}{unknown('key', str(key), known)}")


def _refuse_against_schema(path: Path, content: Mapping[str, Any], schema: Mapping[str, Any]) -> None:
    """Hold a file against Ray's own schema, which `ray up` does too, but tells in a page."""
    import jsonschema

    plain = {key: value for key, value in content.items() if key != "min_workers"}  # Ray takes it out beforehand
    mistakes = jsonschema.Draft7Validator(schema).iter_errors(plain)
    for mistake in sorted(mistakes, key=lambda mistake: [str(part) for part in mistake.absolute_path]):
        where = ".".join(str(part) for part in mistake.absolute_path)
        raise StudyError(f"cluster file {path}: {f'{where}: ' if where else ''}{mistake.message[:200]}")


def _schema() -> dict[str, Any]:
    """Return Ray's schema of a cluster file, read beside Ray and without importing it."""
    found = find_spec("ray")
    if found is None or not found.submodule_search_locations:
        raise StudyError("Ray is not installed here: pip install -c constraints.txt -e .")
    file = Path(found.submodule_search_locations[0]) / "autoscaler" / "ray-schema.json"
    return dict(json.loads(file.read_text(encoding="utf-8")))


def examine(file: ClusterFile) -> list[Finding]:
    """Look at all that starting and reaching a cluster rests on and that lies on this machine."""
    described = f"{file.path}: {file.provider}, {file.nodes} machines from the start"
    findings = [Finding("cluster file", True, described), _token(file), *_mounts(file)]
    if file.provider == "aws":
        findings += [_images(file), _aws_credentials()]
    if file.provider == "gcp":
        findings.append(_gcp_credentials(file))
    if (file.content.get("auth") or {}).get("ssh_private_key"):
        findings.append(_key(file))
    return findings


def _local(path: str) -> Path:
    return Path(path).expanduser()


def _token(file: ClusterFile) -> Finding:
    mounts = file.content.get("file_mounts") or {}
    source = next((str(here) for there, here in mounts.items() if str(there).endswith(".ray/auth_token")), None)
    if source is None:
        lacks = f"none: whoever reaches its ports runs code on it; add '{TOKEN}: {TOKEN}' to file_mounts ({MAKE_TOKEN})"
        return Finding("token", False, lacks)
    try:
        mode = stat.S_IMODE(_local(source).stat().st_mode)
    except OSError:
        return Finding("token", False, f"{source} is not there: {MAKE_TOKEN}")
    if mode & 0o077:
        return Finding("token", False, f"{source} can be read by others (mode {mode:o}): chmod 600 {source}")
    return Finding("token", True, f"{source}, readable by you alone")


def _mounts(file: ClusterFile) -> list[Finding]:
    mounts = (file.content.get("file_mounts") or {}).items()
    gone = [str(here) for there, here in mounts if not str(there).endswith(".ray/auth_token") and not _is_there(here)]
    remedy = "run this in the folder that the paths of file_mounts start from"
    return [Finding("file mounts", False, f"not here: {', '.join(gone)}; {remedy}")] if gone else []


def _is_there(path: object) -> bool:
    return _local(str(path)).exists()


def _images(file: ClusterFile) -> Finding:
    for name, kind in (file.content.get("available_node_types") or {}).items():
        image = str((kind.get("node_config") or {}).get("ImageId", ""))
        if not _IMAGE.fullmatch(image):
            found = f"'{image}' is no image" if image else "none, and Ray's own is too old for PyTorch"
            where = f"available_node_types.{name}.node_config.ImageId"
            return Finding("images", False, f"{where}: {found}; cluster.yaml shows how to ask for that of your region")
    return Finding("images", True, "each kind of machine names one")


def _aws_credentials() -> Finding:
    if find_spec("boto3") is None:
        return Finding("credentials", False, "boto3 is missing: pip install boto3")
    import botocore.exceptions
    import botocore.session

    try:
        found = botocore.session.Session().get_credentials()
    except botocore.exceptions.BotoCoreError as failure:
        return Finding("credentials", False, f"AWS credentials cannot be read: {failure}")
    if found is None:
        return Finding("credentials", False, "no AWS credentials: aws configure, or AWS_ACCESS_KEY_ID and its secret")
    return Finding("credentials", True, f"AWS credentials from {found.method}")


def _gcp_credentials(file: ClusterFile) -> Finding:
    if find_spec("googleapiclient") is None:
        return Finding("credentials", False, "missing: pip install google-api-python-client cryptography")
    if not file.content["provider"].get("project_id"):
        return Finding("credentials", False, "provider.project_id: the name of your project is missing")
    given = os.environ.get("GOOGLE_APPLICATION_CREDENTIALS", "~/.config/gcloud/application_default_credentials.json")
    if file.content["provider"].get("gcp_credentials") or _local(given).is_file():
        return Finding("credentials", True, "Google credentials are there")
    return Finding("credentials", False, f"{given} is not there: gcloud auth application-default login")


def _key(file: ClusterFile) -> Finding:
    given = str(file.content["auth"]["ssh_private_key"])
    there = _local(given).is_file()
    remedy = "" if there else " is not there: name the key that opens the machines in auth.ssh_private_key"
    return Finding("ssh key", there, f"{given}{remedy}")
