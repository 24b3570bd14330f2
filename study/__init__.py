"""Fair, distributed studies of how to weight the losses of a multi-task network."""

from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from study.api import Study, load_results, rank, run

__all__ = ["Study", "load_results", "rank", "run"]

try:
    __version__ = version("weighting-study")
except PackageNotFoundError:  # a bare checkout, or a worker that was only given a working directory
    __version__ = "0+unknown"


def __getattr__(name: str) -> Any:  # noqa: ANN401  (what ``study.api`` has)
    """Load the Python interface when it is first asked for: the commands start without it."""
    if name in __all__:
        from study import api

        return getattr(api, name)
    raise AttributeError(f"module 'study' has no attribute '{name}'")
