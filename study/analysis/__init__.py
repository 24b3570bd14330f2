"""Rows of a study -> tables, intervals, tests and findings; pure: pandas, numpy and scipy only."""

from study.analysis.comparison import Comparison, compare
from study.analysis.results import Results
from study.analysis.summary import metric_table

__all__ = ["Comparison", "Results", "compare", "metric_table"]
