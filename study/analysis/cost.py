"""What each arm costs: time per step, time per trial, peak memory."""

import numpy as np
import pandas as pd

from study.analysis.results import Results
from study.analysis.summary import epoch_rows, final_rows, labels, seed_values


def cost_table(results: Results) -> pd.DataFrame:
    """Return the cost of every arm and its ratio to the control, in plan order.

    A trial's step time is the median over its epochs (the first one also warms caches up), an arm's the mean over its
    trials; memory is the largest peak of any trial. NaN where nothing was measured.

    Returns:
        Columns ``arm, label, step_ms, step_ratio, trial_s, memory_mb, memory_ratio``.
    """
    table = pd.DataFrame({"arm": list(labels(results)), "label": list(labels(results).values())})
    table["step_ms"] = _step_ms(results).mean(axis=1).to_numpy()
    table["step_ratio"] = _ratio(table, "step_ms", results.control)
    finished = results.trials[results.trials["status"] == "finished"]
    seconds = finished.assign(seconds=finished["seconds"].astype(float)).groupby("arm")["seconds"].mean()
    table["trial_s"] = table["arm"].map(seconds).astype(float)
    table["memory_mb"] = seed_values(results, "memory/peak_mb").max(axis=1).to_numpy()
    table["memory_ratio"] = _ratio(table, "memory_mb", results.control)
    return table[["arm", "label", "step_ms", "step_ratio", "trial_s", "memory_mb", "memory_ratio"]]


def _step_ms(results: Results) -> pd.DataFrame:
    epochs, finals = epoch_rows(results), final_rows(results)
    if "time/step_ms" not in epochs.columns or epochs["time/step_ms"].isna().all():
        return seed_values(results, "time/step_ms")
    trials = epochs.groupby(["trial", "arm", "seed"], sort=False)["time/step_ms"]
    medians = trials.median().astype(float).reset_index()
    return seed_values(results, "time/step_ms", medians[medians["trial"].isin(finals["trial"])])


def _ratio(table: pd.DataFrame, column: str, control: str) -> pd.Series:
    base = table.loc[table["arm"] == control, column]
    divisor = float(base.iloc[0]) if len(base) else np.nan
    return table[column] / divisor if divisor > 0 else table[column] * np.nan
