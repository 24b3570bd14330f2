"""What it takes to repeat a study: versions, git commit, data, arms, seeds."""

import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from strategies.text import redacted
from study import __version__
from study.definition import CHOSEN_FROM
from study.plan import Plan
from study.plan_text import network_line
from trainables.corpora import Split, Store
from trainables.specification import TrialSpecification

PACKAGES = ("torch", "torchvision", "torchaudio", "ray", "mlflow", "optuna", "numpy", "pandas", "scipy")
"""Libraries whose versions can change a study's numbers."""


def versions() -> dict[str, str]:
    """Return the versions of Python, this project and the libraries that can change a study's numbers."""
    found = {"python": platform.python_version(), "weighting-study": __version__}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "missing"
    return found


def git_commit() -> str:
    """Return the commit this project was installed from, ``-dirty`` if files differ; empty outside a checkout."""
    folder = Path(__file__).resolve().parent
    commit = _git(folder, "rev-parse", "HEAD")
    tracked = commit and _git(folder, "ls-files", "--error-unmatch", Path(__file__).name)
    if not tracked:
        return ""
    return f"{commit}-dirty" if _git(folder, "status", "--porcelain", "--untracked-files=no") else commit


def _git(folder: Path, *arguments: str) -> str:
    try:
        result = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return result.stdout.strip() if result.returncode == 0 else ""


def command() -> str:
    """Return the command line as a shell reads it, for going on and for the reproducibility block."""
    return redacted(os.environ.get("STUDY_COMMAND") or shlex.join(["study", *sys.argv[1:]]))


def lock(plan: Plan, store: Store) -> dict[str, Any]:
    """Return the content of a study's lock."""
    definition = plan.definition
    commit = git_commit()
    return {
        "title": definition.title or definition.name,
        "identity": definition.identity,
        "definition": definition.model_dump(mode="json", exclude=set(CHOSEN_FROM)),
        "seeds": list(definition.seeds),
        "arms": [
            {
                "arm": arm.arm,
                "label": arm.label,
                "strategy": arm.strategy,
                "family": arm.family,
                "options": arm.options,
                "static_weights": None if arm.static_weights is None else list(arm.static_weights),
                "may_be_clock": arm.may_be_clock,
                **({} if arm.network is None else {"network": arm.network}),
                **({"training": arm.training} if arm.training else {}),
                **({"changes": list(arm.changes)} if arm.changes else {}),
                **({"role": arm.role, "of": arm.of} if arm.role else {}),
                **({"loss_scales": arm.loss_scales} if arm.loss_scales else {}),
            }
            for arm in plan.arms
        ],
        "tasks": [task.as_dict() for task in plan.tasks],
        "trials": [_trial_entry(trial) for trial in plan.trials()],
        "control": plan.control,
        "reference_weights": definition.reference,
        "corpus": {
            "name": definition.corpus.name,
            "root": definition.corpus.root,
            "content_hash": store.content_hash,
            "num_utterances": len(store.table),
        },
        "versions": versions(),
        "git_commit": commit,
        "facts": _facts(plan, store, commit),
    }


EARLIER = "earlier versions"
"""Fact of a study that was gone on with after something was upgraded: what some of its rows were made with."""


def with_earlier(lock: dict[str, Any], before: Mapping[str, Any]) -> dict[str, Any]:
    """Return a lock that also tells of the versions that an earlier run of its study had, where they were others."""
    names = [name for name, found in lock["versions"].items() if before["versions"].get(name, found) != found]
    told = [f"{name} {before['versions'][name]}" for name in names]
    if before["git_commit"] and before["git_commit"] != lock["git_commit"]:
        told.append(f"git commit {before['git_commit'][:12]}")
    known = before["facts"].get(EARLIER, "")
    earlier = "; ".join(dict.fromkeys(part for part in (known, ", ".join(told)) if part))
    return {**lock, "facts": {**lock["facts"], EARLIER: earlier}} if earlier else lock


def _facts(plan: Plan, store: Store, commit: str) -> dict[str, str]:
    """Return what the report prints so that a reader can judge and repeat the study."""
    definition, training = plan.definition, plan.definition.training
    splits = plan.splits(store.table)
    warnings = list(dict.fromkeys(split.warning for split in splits if split.warning))
    parts = _folded_parts if plan.is_folded else _parts
    return {
        "corpus": f"{definition.corpus.name}, {len(store.table)} utterances, hash {store.content_hash[:12]}",
        **({"faces": f"{faces}, by {store.manifest['detector']}"} if (faces := store.faces_line()) else {}),
        "split": f"{definition.split.protocol}: {parts(splits, store.table)}",
        **({"warning": "; ".join(warnings)} if warnings else {}),
        "network": network_line(plan),
        "training": f"{training.epochs} epochs, batch {training.batch_size}, {training.optimizer}, "
        f"learning rate {training.learning_rate:g}, gradient norm clipped at {training.clip_norm}",
        "learning_rate": f"{training.learning_rate:g}",
        "definition": f"{definition.name}, identity {definition.identity[:12]}",
        "command": command(),
        "git commit": commit or "unknown",
        "versions": ", ".join(f"{name} {found}" for name, found in versions().items()),
    }


def _trial_entry(trial: TrialSpecification) -> dict[str, Any]:
    entry: dict[str, Any] = {"trial": trial.trial, "arm": trial.arm, "seed": trial.seed}
    return entry if trial.fold is None else {**entry, "fold": trial.fold}


def _parts(splits: Sequence[Split], table: pd.DataFrame) -> str:
    (split,) = splits
    return ", ".join(f"{name} {_size(getattr(split, name), table)}" for name in ("train", "valid", "test"))


def _size(index: NDArray[np.int64], table: pd.DataFrame) -> str:
    return f"{len(index)} utterances of {table['speaker'].iloc[index].nunique()} speakers"


def _folded_parts(splits: Sequence[Split], table: pd.DataFrame) -> str:
    """Return how large the pool is that all folds are tested as, and how large the parts of a fold are."""
    tested = _size(np.concatenate([split.test for split in splits]), table)
    sizes = {part: [len(getattr(split, part)) for split in splits] for part in ("train", "valid", "test")}
    ranges = ", ".join(f"{part} {_range(counts)}" for part, counts in sizes.items())
    return f"pooled over {len(splits)} folds, which together test {tested}; utterances of a fold: {ranges}"


def _range(counts: Sequence[int]) -> str:
    return str(counts[0]) if min(counts) == max(counts) else f"{min(counts)} to {max(counts)}"
