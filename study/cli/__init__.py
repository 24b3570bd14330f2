"""The command line: argv in, one call, print. Heavy imports happen inside the commands."""

from study.cli import running, results, parts, corpus, cluster  # noqa: I001  (the order of the help page)
from study.cli.apps import app
from study.cli.entry import main, main_with

__all__ = ["app", "cluster", "corpus", "main", "main_with", "parts", "results", "running"]
