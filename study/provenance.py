"""What it takes to repeat a study: versions, git commit, data, arms, seeds."""

import platform
import shlex
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from study import __version__
from study.plan import Plan
from trainables.corpora import Store, split_for_tasks

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
    return shlex.join(["study", *sys.argv[1:]])


def lock(plan: Plan, store: Store) -> dict[str, Any]:
    """Return the content of a study's lock."""
    definition = plan.definition
    commit = git_commit()
    return {
        "title": definition.title or definition.name,
        "identity": definition.identity,
        "definition": definition.model_dump(mode="json", exclude={"per_corpus"}),
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
            }
            for arm in plan.arms
        ],
        "tasks": [{"name": task.name, "classes": list(task.classes), "kind": task.kind} for task in plan.tasks],
        "trials": [{"trial": trial.trial, "arm": trial.arm, "seed": trial.seed} for trial in plan.trials()],
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


def _facts(plan: Plan, store: Store, commit: str) -> dict[str, str]:
    """Return what the report prints so that a reader can judge and repeat the study."""
    definition, training = plan.definition, plan.definition.training
    split = split_for_tasks(definition.split.protocol, store.table, plan.tasks, definition.split.options)
    sizes = {name: getattr(split, name) for name in ("train", "valid", "test")}
    speakers = {name: store.table["speaker"].iloc[index].nunique() for name, index in sizes.items()}
    return {
        "corpus": f"{definition.corpus.name}, {len(store.table)} utterances, hash {store.content_hash[:12]}",
        "split": f"{definition.split.protocol}: "
        + ", ".join(f"{name} {len(index)} utterances of {speakers[name]} speakers" for name, index in sizes.items()),
        **({"warning": split.warning} if split.warning else {}),
        "network": f"{definition.network.name}, preset {definition.network.preset}, {' + '.join(plan.modalities)}",
        "training": f"{training.epochs} epochs, batch {training.batch_size}, {training.optimizer}, "
        f"learning rate {training.learning_rate:g}, gradient norm clipped at {training.clip_norm}",
        "learning_rate": f"{training.learning_rate:g}",
        "definition": f"{definition.name}, identity {definition.identity[:12]}",
        "command": command(),
        "git commit": commit or "unknown",
        "versions": ", ".join(f"{name} {found}" for name, found in versions().items()),
    }
