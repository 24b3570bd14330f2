"""The comparison of the arms of a study: one table, the differences that matter, and what must be said about them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from study.analysis.budgets import cost_adjusted, equal_tuning
from study.analysis.control_arms import control_sentences, control_table
from study.analysis.cost import cost_table
from study.analysis.delta import Delta, delta
from study.analysis.diagnosis import Finding, diagnose
from study.analysis.differences import differences
from study.analysis.front import MOST_SENTENCES, StaticReference, front_sentences, front_table, static_reference
from study.analysis.gradients import gradient_table
from study.analysis.ranks import rank_table
from study.analysis.regret import FrontDistances, front_distances, regret_table
from study.analysis.rescored import Rescored, rescored, sentences
from study.analysis.results import Results
from study.analysis.selection import choices, gaps, reachable, underpowered
from study.analysis.statistics import ALPHA
from study.analysis.summary import (
    HEADLINE,
    arm_ids,
    failures,
    labels,
    metric_columns,
    non_finite,
    planned_seeds,
    require_split,
    roles,
    seed_values,
    single_arms,
    summarise,
    task_metrics,
)


@dataclass(frozen=True)
class Comparison:
    """What a study says about its arms on one split.

    Attributes:
        study: the study's id.
        title: its title.
        split: the split compared on.
        tasks: names of the T tasks.
        headline: task -> the metric people read: ``"uar"``, ``"ccc"`` or ``"macro_f1"``.
        control: id of the control arm.
        labels: arm id -> label.
        table: one row per arm, best joint NLL at the fixed reference weights first: ``rank, arm, label, strategy,
            family, is_static, num_seeds, planned_seeds``; ``{metric}/{task}`` and ``joint_nll``, ``weighted_nll`` (at
            the strategy's own weights; never ranked by), each a mean with ``{name}/low``, ``{name}/high`` and
            ``{name}/half_width`` of its 95 % interval (see ``resampling.mean_interval``);
            ``weight/{task}`` at the end of training; ``difference`` of the joint NLL to the control with
            ``difference/low``, ``difference/high``, ``difference/num_seeds``, ``p``, ``holm_p``, ``t_p``,
            ``t_holm_p``, ``hedges_g``, ``improved``; ``verdict`` (see ``verdict``); ``role``; ``step_ms``. NaN where
            there is nothing, such as an interval of one seed. Arms that judge others have no rank.
        tested: arms in the family of tests against the control: every dynamic arm, every arm with a network of its own,
            and the static grid as one method,
            by its arm best on validation.
        differences: paired differences of the joint NLL of every arm to the control, see ``differences``.
        static: the best static arm and the oracle; None without static arms that finished.
        front: the plane of per-task NLLs, see ``front_table``.
        controls: arms held against those they are made of, see ``control_table``.
        cost: see ``cost_table``.
        rescored: validation losses of every arm at the weights of every arm; None where all have the same.
        failures: trials that did not finish.
        findings: sentences about the data and the arms.
        num_finished: trials that finished.
        num_trials: trials planned.
        num_seeds: seeds planned.
        results: what was compared. What only a report shows is computed from it when somebody asks.
    """

    study: str
    title: str
    split: str
    tasks: tuple[str, ...]
    headline: dict[str, str]
    control: str
    labels: dict[str, str]
    table: pd.DataFrame
    tested: tuple[str, ...]
    differences: pd.DataFrame
    static: StaticReference | None
    front: pd.DataFrame
    controls: pd.DataFrame
    cost: pd.DataFrame
    rescored: Rescored | None
    failures: pd.DataFrame
    findings: tuple[Finding, ...]
    num_finished: int
    num_trials: int
    num_seeds: int
    results: Results = field(repr=False)

    @cached_property
    def distances(self) -> FrontDistances | None:
        """Distances of the methods to the front of the grid; None without a grid that has results."""
        return front_distances(self.results, self.split)

    @cached_property
    def regret(self) -> pd.DataFrame:
        """Regret of the methods against the grid, metric by metric, see ``regret_table``."""
        return regret_table(self.results, self.split, self.static)

    @cached_property
    def delta(self) -> Delta:
        """Gains over single tasks."""
        return delta(self.results, self.split)

    @cached_property
    def ranks(self) -> pd.DataFrame:
        """Mean ranks of the tested arms and the control, see ``rank_table``."""
        return rank_table(self.results, self.split, list(dict.fromkeys([self.control, *self.tested])))

    @cached_property
    def budgets(self) -> pd.DataFrame:
        """The comparison at equal epochs and equal training time, see ``cost_adjusted``."""
        return cost_adjusted(self.results, self.tested)

    @cached_property
    def equal_tuning(self) -> pd.DataFrame:
        """Methods at equal numbers of configurations tried, see ``budgets.equal_tuning``; empty without a search."""
        return equal_tuning(self.results)

    @cached_property
    def gradients(self) -> pd.DataFrame:
        """How the tasks' gradients stand to each other, see ``gradient_table``."""
        return gradient_table(self.results)

    @property
    def notes(self) -> list[str]:
        """The sentences of all findings."""
        return [finding.text for finding in self.findings]


def compare(results: Results, split: str = "test") -> Comparison:
    """Compare the arms of a study by their joint NLL at fixed weights, seed by seed against the control.

    Args:
        results: the study.
        split: ``"test"``, or ``"valid"`` while the test split shall stay untouched.

    Raises:
        StudyError: unknown split, no trial has rows of it, or the control is not an arm.
    """
    require_split(results, split)
    criterion = seed_values(results, f"{split}/joint_nll")
    static = static_reference(results, split)
    tested = _tested(results, static)
    others = [arm for arm in arm_ids(results) if arm != results.control]
    against_control = differences(criterion, others, results.control, tested)
    cost, front = cost_table(results), front_table(results, split)
    findings = [
        *_data_findings(results, split, against_control, tested),
        *(Finding("front", text) for text in front_sentences(results, front, split)),
        *diagnose(results, split),
    ]
    at_others = rescored(results)
    if at_others is not None:
        findings += [Finding("rescored", text, (arm,)) for arm, text in sentences(results, at_others, MOST_SENTENCES)]
    controls = control_table(results, split)
    findings += [Finding("control", text, (arm,)) for arm, text in control_sentences(results, controls)]
    return Comparison(
        study=results.study,
        title=results.title,
        split=split,
        tasks=results.tasks,
        headline={task: HEADLINE[results.task_kinds[task]] for task in results.tasks},
        control=results.control,
        labels=labels(results),
        table=_table(results, split, against_control, cost),
        tested=tuple(tested),
        differences=against_control,
        static=static,
        front=front,
        controls=controls,
        cost=cost,
        rescored=at_others,
        failures=failures(results),
        findings=tuple(findings),
        num_finished=int((results.trials["status"] == "finished").sum()),
        num_trials=len(results.trials),
        num_seeds=len(planned_seeds(results)),
        results=results,
    )


def verdict(difference: Mapping[Any, Any]) -> str:
    """Return what a paired difference of a loss shows, in one word.

    ``"better"`` or ``"worse"``: the paired t-test against the control, Holm-corrected, is below .05. ``"hint"``: only
    the plain 95 % interval leaves out zero. ``"unclear"``: not even that. Empty for an arm that is not tested (a point
    of the grid other than its best on validation) or has no interval.

    The t-test decides and not Wilcoxon's, which five seeds leave no chance to reach .05; both are shown.
    """
    if np.isnan(difference["t_holm_p"]):
        return ""
    if difference["t_holm_p"] <= ALPHA:
        return "better" if difference["mean"] < 0 else "worse"
    return "unclear" if difference["low"] <= 0 <= difference["high"] else "hint"


def _tested(results: Results, static: StaticReference | None) -> list[str]:
    grid = [static.best] if static else []
    return [arm for arm in [*grid, *single_arms(results)] if arm != results.control]


def _table(results: Results, split: str, against_control: pd.DataFrame, cost: pd.DataFrame) -> pd.DataFrame:
    criterion = summarise(results, f"{split}/joint_nll")
    table = results.arms[["arm", "label", "strategy", "family", "is_static"]].reset_index(drop=True)
    table["num_seeds"] = [len(criterion[arm].values) for arm in table["arm"]]
    table["planned_seeds"] = [len(summary.values) + len(summary.missing) for summary in criterion.values()]
    columns = {column: column.removeprefix(f"{split}/") for column in metric_columns(results, split)}
    columns |= {f"weight/{task}": f"weight/{task}" for task in results.tasks}
    for column, name in columns.items():
        summaries = summarise(results, column).values()
        table[name] = [np.nan if one.mean is None else one.mean for one in summaries]
        intervals = [one.interval for one in summaries]
        for end in ("low", "high", "half_width"):
            table[f"{name}/{end}"] = [np.nan if interval is None else getattr(interval, end) for interval in intervals]
    table = table.merge(_difference_columns(against_control), on="arm", how="left")
    table["step_ms"] = cost["step_ms"].to_numpy()
    table["role"] = list(roles(results).values())
    table.insert(0, "rank", table["joint_nll"].where(table["role"] == "").rank(method="min"))
    return table.sort_values(["rank", "joint_nll"], kind="stable", na_position="last").reset_index(drop=True)


_SHOWN = ["p", "holm_p", "t_p", "t_holm_p", "hedges_g", "improved"]


def _difference_columns(table: pd.DataFrame) -> pd.DataFrame:
    names = {
        "mean": "difference",
        "low": "difference/low",
        "high": "difference/high",
        "num_seeds": "difference/num_seeds",
    }
    chosen = table.rename(columns=names)[["arm", *names.values(), *_SHOWN]]
    chosen["verdict"] = [verdict(row) for row in table.to_dict("records")]
    return chosen


def _data_findings(results: Results, split: str, against: pd.DataFrame, tested: list[str]) -> list[Finding]:
    """Say what is missing, what is not finite, and what so few seeds can show at all."""
    names = labels(results)
    return [
        *_failed(results),
        *_missing(results, against),
        *_not_finite(results, split),
        *reachable(results, tested),
        *underpowered(against, tested, names[results.control]),
        *choices(results, split),
        *gaps(results, split),
    ]


def _failed(results: Results) -> list[Finding]:
    unfinished = failures(results)
    if unfinished.empty:
        return []
    counts = unfinished["status"].value_counts().sort_index()
    told = ", ".join(f"{count} {status}" for status, count in counts.items())
    text = (
        f"{len(unfinished)} of {len(results.trials)} trials have no result ({told}); they are listed under failures."
        + (" An arm's seed counts once all its folds have finished." if results.num_folds > 1 else "")
    )
    return [Finding("failed", text, tuple(dict.fromkeys(str(arm) for arm in unfinished["arm"])))]


def _missing(results: Results, against: pd.DataFrame) -> list[Finding]:
    names, planned = labels(results), len(planned_seeds(results))
    found = []
    for row in against.to_dict("records"):
        arm, count = str(row["arm"]), int(row["num_seeds"])
        if count < planned:
            seeds = str(row["missing"]).replace(" ", ", ")
            compared = (
                f"compared with {names[results.control]} on {count} common seeds of {planned}"
                if count
                else (f"not compared with {names[results.control]}: no common seed of {planned}")
            )
            found.append(Finding("missing", f"{names[arm]} is {compared} (missing: {seeds}).", (arm,)))
    return found


def _not_finite(results: Results, split: str) -> list[Finding]:
    columns = [f"{split}/{metric}/{task}" for task in results.tasks for metric in task_metrics(results, task)]
    bad = non_finite(results, [*columns, f"{split}/joint_nll", f"{split}/weighted_nll"])
    names = labels(results)
    return [
        Finding(
            "not_finite",
            f"{names[str(arm)]} finished seed {seed} with values that are not finite ({', '.join(group['metric'])}): "
            "they are left out of its means.",
            (str(arm),),
        )
        for (arm, seed), group in bad.groupby(["arm", "seed"], sort=False)
    ]
