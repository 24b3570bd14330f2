"""How the tasks' gradients stand to each other in each arm: lengths, angles, and whose gradient makes up the step."""

import numpy as np
import pandas as pd

from study.analysis.results import Results
from study.analysis.summary import final_rows, labels, seed_values


def gradient_table(results: Results) -> pd.DataFrame:
    """Return what the probes of the gradients found, one row per arm in plan order; no rows if there were none.

    All figures are means over the epochs of a trial, taken by the trial itself, then over the arm's seeds. They are
    measured at the last shared layer; NaN where an arm has nothing.

    Returns:
        Columns ``arm, label, longest`` (task with the longest gradient), ``norm_ratio`` (of the longest gradient to the
        shortest), ``cosine`` (mean over all pairs of tasks), ``conflict`` (share of pairs whose cosine is negative) and
        ``share/{task}`` (of ``w_i |g_i|`` in their sum).
    """
    table = pd.DataFrame({"arm": list(labels(results)), "label": list(labels(results).values())})
    norms = pd.DataFrame({task: _means(results, f"gradient/norm/{task}") for task in results.tasks})
    if norms.isna().all(axis=None):
        return table.iloc[:0]
    measured = norms.notna().any(axis=1)
    table["longest"] = norms[measured].idxmax(axis=1).reindex(norms.index).to_numpy()
    shortest = norms.min(axis=1)
    table["norm_ratio"] = (norms.max(axis=1) / shortest.where(shortest > 0)).to_numpy()
    cosines = [column for column in final_rows(results).columns if column.startswith("gradient/cosine/")]
    pairs = pd.DataFrame({column: _means(results, column) for column in cosines}, index=norms.index)
    table["cosine"] = pairs.mean(axis=1).to_numpy() if cosines else np.nan
    table["conflict"] = _means(results, "gradient/conflict").to_numpy()
    for task in results.tasks:
        table[f"share/{task}"] = _means(results, f"gradient/share/{task}").to_numpy()
    return table


def _means(results: Results, column: str) -> pd.Series:
    return seed_values(results, column).mean(axis=1)
