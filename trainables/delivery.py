"""What a trial needs and leaves on machines that do not see the study's folders: it travels through Ray.

The driver's machine has the store and keeps the checkpoints. A courier there, one actor for all trials, hands out
pieces of the store's files and takes in checkpoints. A machine that sees the driver's folders, over a shared file
system or because it is the same, never asks it.
"""

import hashlib
import os
import platform
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from trainables.corpora import default_cache
from trainables.corpora.copies import keep_copy
from trainables.corpora.store import FILES, MANIFEST
from trainables.errors import MachineError, TrainingError
from trainables.specification import TrialSpecification

PIECE_BYTES = 32 * 2**20
"""Bytes that travel at a time: enough that latency does not count, little enough for any machine's memory."""
_PREFIX = "checkpoints-"
_AT_A_TIME = 16
"""Requests the courier serves at a time."""


@dataclass(frozen=True)
class Address:
    """How a worker finds what the driver's machine has; plain values and Ray's handle, so that it travels.

    Attributes:
        courier: the actor on the driver's machine.
        token: path of a file in the study's folder; who reads ``secret`` in it sees the same folder.
        secret: what the file says.
        manifest: SHA-256 of the manifest of the store; empty if the store is named by a URL.
        versions: of this project and of PyTorch on the driver's machine; a trial runs with no others.
    """

    courier: Any
    token: str
    secret: str
    manifest: str
    versions: Mapping[str, str]


class Courier:
    """Hands out the files of one store and keeps the checkpoints of one study; runs as an actor.

    It reads and writes nothing else, whatever it is asked for.

    Args:
        store: folder of the store; None if every machine makes a copy of its own from a URL.
        checkpoints: folder of the study's checkpoints; one folder for each trial.
        trials: names of the study's trials; None where a search makes them up as it goes.
    """

    def __init__(self, store: str | None, checkpoints: str, trials: Sequence[str] | None) -> None:
        self._store = None if store is None else Path(store)
        self._checkpoints = Path(checkpoints)
        self._trials = None if trials is None else frozenset(trials)

    def manifest(self) -> bytes:
        """Return the manifest of the store."""
        return self._file(MANIFEST).read_bytes()

    def piece(self, name: str, start: int) -> bytes:
        """Return at most ``PIECE_BYTES`` of a file of the store; nothing after its end."""
        with self._file(name).open("rb") as file:
            file.seek(start)
            return file.read(PIECE_BYTES)

    def keep(self, trial: str, files: dict[str, bytes]) -> None:
        """Write checkpoint files of a trial, each whole or not at all, in the order given."""
        folder = self._folder(trial)
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            path = folder / _plain(name)
            temporary = path.with_name(f".{path.name}.{os.getpid()}-{hashlib.sha256(content).hexdigest()[:8]}")
            try:
                with temporary.open("wb") as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
                temporary.replace(path)
            finally:
                temporary.unlink(missing_ok=True)

    def kept(self, trial: str) -> dict[str, bytes]:
        """Return the checkpoint files of a trial."""
        folder = self._folder(trial)
        if not folder.is_dir():
            return {}
        paths = [path for path in folder.iterdir() if path.is_file() and not path.name.startswith(".")]
        return {path.name: path.read_bytes() for path in paths}

    def _file(self, name: str) -> Path:
        if self._store is None or name not in FILES:
            raise FileNotFoundError(f"there is no file {name!r} to hand out")
        return self._store / name

    def _folder(self, trial: str) -> Path:
        if self._trials is not None and trial not in self._trials:
            raise FileNotFoundError(f"there is no trial {trial!r}")
        return self._checkpoints / _plain(trial)


def _plain(name: str) -> str:
    if Path(name).name != name or name.startswith("."):
        raise FileNotFoundError(f"{name!r} is no name of a checkpoint")
    return name


@contextmanager
def couriers(store: str | None, checkpoints: Path, trials: Sequence[str] | None) -> Iterator[Address]:
    """Keep a courier on this machine, the driver's, and yield its address for trials.

    Args:
        store: folder of the store on this machine; None if it is named by a URL.
        checkpoints: folder of the study's checkpoints.
        trials: names of the study's trials; None where a search makes them up as it goes.
    """
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    options = {"num_cpus": 0, "max_concurrency": _AT_A_TIME, "scheduling_strategy": here}
    named = None if trials is None else list(trials)
    courier = ray.remote(Courier).options(**options).remote(store, str(checkpoints), named)
    token, secret = checkpoints / ".seen-by", os.urandom(16).hex()
    token.write_text(secret, encoding="utf-8")
    manifest = "" if store is None else hashlib.sha256((Path(store) / MANIFEST).read_bytes()).hexdigest()
    try:
        yield Address(courier, str(token), secret, manifest, versions())
    finally:
        token.unlink(missing_ok=True)
        ray.kill(courier)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Place:
    """Where a trial finds its store and leaves its checkpoints on this machine.

    Attributes:
        specification: the trial with the paths of this machine.
        saved: to be called after checkpoints were written.
    """

    specification: TrialSpecification
    saved: Callable[[], None]


@contextmanager
def arranged(specification: TrialSpecification, address: Address | None) -> Iterator["Place"]:
    """Yield the ``Place`` of a trial on this machine, with what the driver's machine has kept of it.

    Args:
        specification: the trial with the paths of the driver's machine.
        address: where to ask; None on the driver's machine.

    Raises:
        MachineError: this machine, perhaps started later than the study, has other versions than the driver's.
        CorpusError: the store cannot be copied here.
        TrainingError: a checkpoint cannot be kept on the driver's machine.
    """
    if address is None:
        yield Place(specification, _nothing)
        return
    _refuse_other_versions(address.versions)
    with ExitStack() as leaving:
        store = _store_here(specification.store, address)
        specification = replace(specification, store=store)
        if specification.folder is None or _reads(Path(address.token), address.secret):
            yield Place(specification, _nothing)
            return
        every = Path(leaving.enter_context(tempfile.TemporaryDirectory(prefix=_PREFIX + _owner(), dir=_scratch())))
        folder = every / _plain(specification.trial)
        folder.mkdir()
        for name, content in ray.get(address.courier.kept.remote(specification.trial)).items():
            (folder / _plain(name)).write_bytes(content)
        if specification.parent is not None:
            _fetch_parent(specification.parent, every, address)
        upload = _Upload(address.courier, specification.trial, folder)
        yield Place(replace(specification, folder=str(folder)), upload)


def _fetch_parent(parent: str, every: Path, address: Address) -> None:
    """Copy the checkpoint that a trial begins from to where it lies on the driver's machine, beside the trial's own."""
    trial, _, name = parent.partition("/")
    content = ray.get(address.courier.kept.remote(trial)).get(name)
    if content is not None:  # the trial tells what it lacks
        (every / _plain(trial)).mkdir(exist_ok=True)
        (every / trial / _plain(name)).write_bytes(content)


def versions() -> dict[str, str]:
    """Return the versions here of what decides a trial's numbers."""
    found = {}
    for package in ("weighting-study", "torch"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "none"
    return found


def _refuse_other_versions(wanted: Mapping[str, str]) -> None:
    for package, there in versions().items():
        if there != wanted[package]:
            raise MachineError(
                f"machine {platform.node()} has {package} {there} and the study's machine {wanted[package]}: "
                "install the same on both (`ray up` again)"
            )


def _nothing() -> None:
    return


def _scratch() -> Path:
    """Return where checkpoints lie on a machine beside the stores; what killed trials left there is removed."""
    cache = default_cache()
    cache.mkdir(parents=True, exist_ok=True)
    for folder in cache.glob(f"{_PREFIX}{platform.node()}-*"):
        process = folder.name.removeprefix(f"{_PREFIX}{platform.node()}-").split("-")[0]
        if process.isdigit() and not Path(f"/proc/{process}").exists() and Path("/proc/self").exists():
            shutil.rmtree(folder, ignore_errors=True)
    return cache


def _owner() -> str:
    return f"{platform.node()}-{os.getpid()}-"


def _store_here(store: str, address: Address) -> str:
    """Return where this machine has the store: the same path, or a copy that it makes once."""
    if not address.manifest:
        return store
    manifest = Path(store) / MANIFEST
    if manifest.is_file() and hashlib.sha256(manifest.read_bytes()).hexdigest() == address.manifest:
        return store
    content = ray.get(address.courier.manifest.remote())

    def fetch(name: str, path: Path) -> None:
        with path.open("wb") as file:
            while piece := ray.get(address.courier.piece.remote(name, file.tell())):
                file.write(piece)

    return str(keep_copy(content, f"the store {store} of the study's machine", default_cache(), fetch))


def _reads(token: Path, secret: str) -> bool:
    try:
        return token.read_text(encoding="utf-8") == secret
    except (OSError, UnicodeDecodeError):
        return False


class _Upload:
    """Hands checkpoint files that changed to the courier; the trial goes on when they are on the driver's disk."""

    def __init__(self, courier: Any, trial: str, folder: Path) -> None:  # noqa: ANN401
        self._courier, self._trial, self._folder = courier, trial, folder
        self._known = self._present()

    def _present(self) -> dict[str, tuple[int, int]]:
        found = {}
        for path in self._folder.iterdir():
            if path.is_file() and not path.name.startswith("."):
                state = path.stat()
                found[path.name] = (state.st_mtime_ns, state.st_ino)
        return found

    def __call__(self) -> None:
        present = self._present()
        changed = sorted(
            (name for name, state in present.items() if self._known.get(name) != state),
            key=lambda name: present[name],
        )
        files = {name: (self._folder / name).read_bytes() for name in changed}
        try:
            ray.get(self._courier.keep.remote(self._trial, files))
        except ray.exceptions.RayTaskError as failure:
            reason = " ".join(str(failure.cause).split())
            raise TrainingError(f"checkpoint of {self._trial} cannot be kept: {reason}") from failure
        self._known = present
