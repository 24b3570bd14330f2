"""Rows of a study -> tables, intervals, tests and findings; pure: pandas, numpy and scipy only."""

from study.analysis.comparison import Comparison, compare
from study.analysis.results import Results

__all__ = ["Comparison", "Results", "compare"]
