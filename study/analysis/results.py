"""What a study left behind, as tables: the input of every analysis and report."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from study.analysis.tuning import Tuning


@dataclass(frozen=True)
class Results:
    """Arms, trials and rows of one study.

    Attributes:
        study: the study's id, such as ``"weighting-1a2b3c4d"``.
        title: its title for people.
        arms: one row per arm in the order of the plan: ``arm`` (id), ``label``, ``strategy``, ``family`` (the method it
            counts as), ``options`` (dict), ``is_static`` (weights fixed for the whole training), ``static_weights``
            (tuple of T floats, or None), ``may_be_clock`` (the strategy's own word that its weights may follow the
            number of steps); of an arm that is there to judge others by also ``role`` (``"single_task"``,
            ``"frozen_mean"``, ``"effective_lr"`` or ``"scale_canary"``), ``of`` (arm or task it is made of) and
            ``scaled`` (the task whose loss a ``scale_canary`` multiplies), else empty.
        trials: one row per trial: ``trial``, ``arm``, ``seed``, ``status`` (finished, failed, interrupted or pending),
            ``error`` (one line or None), ``seconds``; in a study over folds also ``fold``: each trial is one.
        rows: one row per report, in a study over folds one for all folds together (see ``study.analysis.folds``):
            ``trial``, ``arm``, ``seed``, ``epoch``, ``step`` (optimizer steps so far), ``kind``
            (``"epoch"``, or ``"final"``: one per finished trial, at the checkpoint chosen on validation) and metrics
            named ``{split}/{metric}/{task}``, ``{split}/joint_nll``, ``{split}/weighted_nll``, ``weight/{task}`` (sum
            1), ``raw_weight/{task}``, ``gradient/...``, ``time/step_ms`` and the others of ``docs/rows.md``.
        tasks: names of the T tasks.
        task_kinds: task -> ``"classification"``, ``"regression"`` or ``"multilabel"``.
        num_classes: task with classes -> their number.
        control: id of the arm that differences are taken against.
        reference_weights: task -> fixed weight in ``joint_nll``.
        facts: what the reproducibility block prints, in order.
        tuning: what was searched before; None in a study without a search.
    """

    study: str
    title: str
    arms: pd.DataFrame
    trials: pd.DataFrame
    rows: pd.DataFrame
    tasks: tuple[str, ...]
    task_kinds: dict[str, str]
    num_classes: dict[str, int]
    control: str
    reference_weights: dict[str, float]
    facts: dict[str, str]
    tuning: Tuning | None = None

    @property
    def num_folds(self) -> int:
        """Number of folds that the test scores of an arm and seed are pooled over; 1 in a study without folds."""
        return int(self.trials["fold"].nunique()) if "fold" in self.trials else 1

    @property
    def is_comparable(self) -> bool:
        """Whether any arm and seed has come to its end, with all its folds."""
        return "kind" in self.rows and bool((self.rows["kind"] == "final").any())

    @cached_property
    def finals(self) -> pd.DataFrame:
        """The final row of every trial that has one; the newest, should a resumed trial have left two."""
        if "kind" not in self.rows:
            return self.rows
        return self.rows[self.rows["kind"] == "final"].drop_duplicates("trial", keep="last")

    @cached_property
    def epochs(self) -> pd.DataFrame:
        """One row per trial and epoch; the newest, should a resumed trial have reported an epoch twice."""
        if "kind" not in self.rows:
            return self.rows
        epochs = self.rows[self.rows["kind"] == "epoch"]
        if not _in_order(epochs):
            epochs = epochs.drop_duplicates(["trial", "epoch"], keep="last")
            trials, _ = pd.factorize(epochs["trial"])
            epochs = epochs.iloc[np.lexsort((epochs["epoch"].to_numpy(), trials))]
        return epochs

    @cached_property
    def epochs_of_arms(self) -> dict[str, pd.DataFrame]:
        """Arm -> its part of ``epochs``; an arm without any is not there."""
        if "arm" not in self.epochs:
            return {}
        return {str(arm): rows for arm, rows in self.epochs.groupby("arm", sort=False)}

    @cached_property
    def cells(self) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Row and column of every final row in a table of arms (in plan order) and planned seeds (ascending)."""
        return cells(self.finals, [str(arm) for arm in self.arms["arm"]], self.seeds)

    @cached_property
    def known_values(self) -> dict[str, pd.DataFrame]:
        """What ``summary.seed_values`` has read from the final rows before."""
        return {}

    @cached_property
    def labels(self) -> dict[str, str]:
        """Arm -> what a person reads."""
        return {str(arm): str(label) for arm, label in zip(self.arms["arm"], self.arms["label"], strict=True)}

    @cached_property
    def roles(self) -> dict[str, str]:
        """Arm -> what it is there for; empty for an arm that is compared for its own sake."""
        given = self.arms["role"] if "role" in self.arms else [""] * len(self.arms)
        return {str(a): role if isinstance(role, str) else "" for a, role in zip(self.arms["arm"], given, strict=True)}

    @cached_property
    def trained(self) -> dict[str, tuple[float, ...] | None]:
        """Arm -> its fixed weights, or None."""
        pairs = zip(self.arms["arm"], self.arms["static_weights"], strict=True)
        return {str(arm): tuple(weights) if isinstance(weights, tuple | list) else None for arm, weights in pairs}

    @cached_property
    def seeds(self) -> list[int]:
        """Every seed of the plan, ascending."""
        return sorted({int(seed) for seed in self.trials["seed"]})


def _in_order(epochs: pd.DataFrame) -> bool:
    """Whether rows are trial by trial and epoch by epoch, each once, as they are on disk: then nothing is copied."""
    trials, _ = pd.factorize(epochs["trial"])
    steps, ahead = np.diff(trials), np.diff(epochs["epoch"].to_numpy(dtype=np.int64)) > 0
    return bool(((steps > 0) | ((steps == 0) & ahead)).all())


def cells(rows: pd.DataFrame, arms: list[str], seeds: list[int]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return where rows belong in a table of arms and seeds; -1 for a row of none of them."""
    of_arm = pd.Index(arms).get_indexer(pd.Index(rows["arm"].astype(str)))
    return of_arm, pd.Index(seeds).get_indexer(pd.Index(rows["seed"].astype(int)))
