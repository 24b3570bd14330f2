"""Is this machine ready for a study? Each finding says what was looked at and whether it is well."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from strategies.text import redacted
from study import provenance, tracking
from study.errors import StudyError
from study.ray_start import available_cpus

_ENOUGH_DISK_GB = 2.0
"""A small study needs less; below this a checkpoint may already fail."""


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        subject: what.
        well: whether a study can run with it.
        detail: what was found, and the remedy if it is not well.
    """

    subject: str
    well: bool
    detail: str


def examine(home: Path) -> list[Finding]:
    """Look at everything a study on this machine rests on."""
    return [_versions(), *(_guarded(look) for look in (_media, _devices)), _disk(home), _tracking(home)]


def _guarded(look: Callable[[], Finding]) -> Finding:
    try:
        return look()
    except (ImportError, OSError, RuntimeError) as failure:
        return Finding(look.__name__.removeprefix("_"), False, f"{type(failure).__name__}: {failure}")


def _versions() -> Finding:
    found = provenance.versions()
    missing = [name for name, version in found.items() if version == "missing"]
    remedy = f"; missing: {', '.join(missing)} (pip install -c constraints.txt -e .)" if missing else ""
    return Finding("versions", not missing, ", ".join(f"{name} {version}" for name, version in found.items()) + remedy)


def _media() -> Finding:
    import soundfile
    import torchaudio  # noqa: F401  (whether it loads with this torch is the question)
    import torchvision  # noqa: F401

    return Finding("media", True, f"torchaudio and torchvision load; libsndfile {soundfile.__libsndfile_version__}")


def _devices() -> Finding:
    import torch

    names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return Finding(
        "devices", True, f"{available_cpus()} CPUs, {len(names)} GPUs{': ' if names else ''}{', '.join(names)}"
    )


def _disk(home: Path) -> Finding:
    place = next(folder for folder in [home, *home.parents] if folder.exists())
    free = shutil.disk_usage(place).free / 1e9
    return Finding("disk", free >= _ENOUGH_DISK_GB, f"{free:.1f} GB free for {home} (needs {_ENOUGH_DISK_GB:.0f})")


def _tracking(home: Path) -> Finding:
    uri = tracking.default_uri(home)
    if uri.startswith("sqlite:///") and not Path(uri.removeprefix("sqlite:///")).exists():
        return Finding("tracking store", True, f"{redacted(uri)} will be made by the first study")
    try:
        tracking.check_reachable(uri)
    except StudyError as failure:
        return Finding("tracking store", False, str(failure))
    return Finding("tracking store", True, f"{redacted(uri)} answers")
