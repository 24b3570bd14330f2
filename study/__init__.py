"""Fair, distributed studies of how to weight the losses of a multi-task network."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("weighting-study")
except PackageNotFoundError:  # a bare checkout, or a worker that was only given a working directory
    __version__ = "0+unknown"
