"""What a referee asks of a dynamic method: its mean weights frozen, its step length alone, one loss times ten."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from study.analysis.differences import differences
from study.analysis.results import Results
from study.analysis.statistics import ALPHA
from study.analysis.summary import arm_ids, labels, roles, seed_values

FROZEN_MEAN = "frozen_mean"
EFFECTIVE_LR = "effective_lr"
SCALE_CANARY = "scale_canary"
PAIRED_WITH_SOURCE = (FROZEN_MEAN, EFFECTIVE_LR, SCALE_CANARY)
"""Roles of arms that are held against the very arm they are made of."""
MOVED = 0.1
"""Change of a task's share of the step, from 0 to 1, that counts as following the scale of its loss."""


def control_table(results: Results, split: str) -> pd.DataFrame:
    """Hold every control arm against the arm it is made of, by the joint NLL, seed by seed.

    Holm's correction runs over the arms of one role: each role asks one question of several methods.

    Returns:
        Columns ``role, arm, label, of, num_seeds``, ``difference`` (the arm it is made of minus the control arm; of a
        ``scale_canary`` the other way round, what the scale does) with ``low, high, t_p, t_holm_p``, and of a canary
        ``task`` with ``share`` and ``share_scaled``: its share of the step without and with the scale.
    """
    criterion, of_arm, role_of = seed_values(results, f"{split}/joint_nll"), sources(results), roles(results)
    tables = []
    for role in PAIRED_WITH_SOURCE:
        arms = [arm for arm in arm_ids(results) if role_of[arm] == role and of_arm[arm] in criterion.index]
        pairs = [(arm, of_arm[arm]) if role == SCALE_CANARY else (of_arm[arm], arm) for arm in arms]
        values = pd.DataFrame([criterion.loc[one] - criterion.loc[other] for one, other in pairs], index=arms)
        if arms:
            nothing = pd.DataFrame(0.0, index=["nothing"], columns=values.columns)
            found = differences(pd.concat([values, nothing]), arms, "nothing", arms)
            tables.append(found.assign(role=role))
    if not tables:
        return pd.DataFrame(columns=_COLUMNS)
    table = pd.concat(tables, ignore_index=True).rename(columns={"mean": "difference"})
    table["label"], table["of"] = table["arm"].map(labels(results)), table["arm"].map(of_arm)
    canaries = [_canary(results, arm, of_arm[arm]) for arm in table["arm"]]
    return table.join(pd.DataFrame(canaries, columns=_CANARY))[_COLUMNS]


_CANARY = ["task", "share", "share_scaled"]
_COLUMNS = ["role", "arm", "label", "of", "num_seeds", "difference", "low", "high", "t_p", "t_holm_p", *_CANARY]


def sources(results: Results) -> dict[str, str]:
    """Return arm -> the arm it is made of, or the task it trains alone; empty for an arm of its own."""
    given = results.arms["of"] if "of" in results.arms else [""] * len(results.arms)
    return {arm: of if isinstance(of, str) else "" for arm, of in zip(arm_ids(results), given, strict=True)}


def _canary(results: Results, arm: str, of: str) -> list[object]:
    """Return the scaled task and its share of the step, without and with the scale; empty for other roles."""
    if roles(results)[arm] != SCALE_CANARY or "scaled" not in results.arms:
        return [None, np.nan, np.nan]
    task = str(dict(zip(arm_ids(results), results.arms["scaled"], strict=True))[arm])
    share = seed_values(results, f"gradient/share/{task}").mean(axis=1)
    return [task, float(share[of]), float(share[arm])]


def control_sentences(results: Results, table: pd.DataFrame) -> list[tuple[str, str]]:
    """Return ``(arm, sentence)`` for every control arm that has a common seed with the arm it is made of."""
    names = labels(results)
    tell = {FROZEN_MEAN: _frozen, EFFECTIVE_LR: _length, SCALE_CANARY: _scaled}
    known: Sequence[Mapping[Any, Any]] = table[table["difference"].notna()].to_dict("records")
    return [(str(row["arm"]), tell[row["role"]](row, names[row["of"]])) for row in known]


def _amount(row: Mapping[Any, Any]) -> str:
    interval = f" ({row['low']:+.3f} to {row['high']:+.3f})" if np.isfinite(row["low"]) else ""
    return f"joint NLL {row['difference']:+.3f}{interval}"


def _clear(row: Mapping[Any, Any]) -> bool:
    return bool(row["t_holm_p"] <= ALPHA)


def _frozen(row: Mapping[Any, Any], of: str) -> str:
    if not _clear(row):
        end = "no difference beyond the noise from fixed weights, so nothing shows that moving them helps"
    else:
        end = (
            "moving the weights "
            + ("helps" if row["difference"] < 0 else "harms")
            + ", beyond where they are on average"
        )
    return f"{of} against its own mean weights, frozen: {_amount(row)}, {end}."


def _length(row: Mapping[Any, Any], of: str) -> str:
    if not _clear(row):
        end = "no difference beyond the noise, so the length of its steps may be all it does"
    else:
        end = ("better" if row["difference"] < 0 else "worse") + " than the length of its steps explains"
    return f"{of} against equal weights with its mean step length: {_amount(row)}, {end}."


def _scaled(row: Mapping[Any, Any], of: str) -> str:
    change = row["share_scaled"] - row["share"]
    if not np.isfinite(change):
        told = "how its steps change was not measured"
    else:
        moved = "follows the scale" if abs(change) >= MOVED else "does not follow the scale"
        told = f"it {moved}: the task's share of the step goes from {row['share']:.0%} to {row['share_scaled']:.0%}"
    return (
        f"{of} with the loss of {row['task']} scaled: {told}; {_amount(row)}{'' if _clear(row) else ', within noise'}."
    )
