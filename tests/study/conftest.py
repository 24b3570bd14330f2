"""A simulated study: what records would load from disk, with effects planted on purpose."""

import json
from collections.abc import Callable
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from study.analysis.results import Results
from study.records import StudyFolder

STEPS = 40  # optimizer steps per epoch
RATE = 1e-3


def _arms(num_tasks: int, dynamic: tuple[str, ...]) -> list[dict]:
    grid = [(i / 10, 1 - i / 10) for i in range(11)] if num_tasks == 2 else [tuple([1 / num_tasks] * num_tasks)]
    if num_tasks == 3:
        grid += [(0.8, 0.1, 0.1), (0.1, 0.8, 0.1), (0.1, 0.1, 0.8)]
    static = [
        {
            "arm": "static-" + "-".join(f"{w:.3g}" for w in weights),
            "label": "static " + "/".join(f"{w:.3g}" for w in weights),
            "strategy": "static",
            "family": "static grid",
            "options": {},
            "is_static": True,
            "static_weights": weights,
            "may_be_clock": False,
        }
        for weights in grid
    ]
    moving = [
        {
            "arm": name,
            "label": name,
            "strategy": name,
            "family": name,
            "options": {},
            "is_static": False,
            "static_weights": None,
            "may_be_clock": name == "softmax",
        }
        for name in dynamic
    ]
    return static + moving


def _trajectory(arm: dict, tasks: int, epochs: int, noise: float) -> np.ndarray:
    """Weights (E, T) of an arm: softmax is the clock, uncertainty drifts, gradnorm settles."""
    if arm["static_weights"]:
        return np.tile(np.array(arm["static_weights"]), (epochs, 1))
    epoch = np.arange(1, epochs + 1)
    goal = {"softmax": -2 * RATE * STEPS * epoch, "uncertainty": 0.1 * epoch}.get(
        arm["strategy"], 0.7 * np.ones(epochs)
    )
    logits = np.zeros((epochs, tasks))
    logits[:, 0] = goal + noise * epoch / epochs * (arm["strategy"] != "softmax")
    weights = np.exp(logits)
    return weights / weights.sum(1, keepdims=True)


def simulate_study(
    num_tasks: int = 2,
    num_seeds: int = 5,
    num_epochs: int = 10,
    dynamic: tuple[str, ...] = ("softmax", "uncertainty", "gradnorm"),
    effects: dict[str, float] | None = None,
    noise: float = 0.01,
) -> Results:
    """Build a study in which loss i falls with the weight on it; ``effects`` adds to an arm's losses."""
    names, kinds = ("emotion", "gender", "valence")[:num_tasks], ("classification", "classification", "regression")
    chance, floor = np.array([1.386, 0.693, 1.0])[:num_tasks], np.array([0.62, 0.12, 0.45])[:num_tasks]
    generator = np.random.default_rng(0)
    shift = generator.normal(0, 0.05, size=(num_seeds, num_tasks))  # what a seed does to all arms alike
    arms, rows, trials = _arms(num_tasks, dynamic), [], []
    for arm in arms:
        for seed in range(num_seeds):
            name = f"{arm['arm']}-seed{seed}"
            trials.append(
                {
                    "trial": name,
                    "arm": arm["arm"],
                    "seed": seed,
                    "status": "finished",
                    "error": None,
                    "seconds": 20.0 + seed,
                }
            )
            weights = _trajectory(arm, num_tasks, num_epochs, generator.normal(0, 0.2))
            for epoch in range(1, num_epochs + 1):
                weight = weights[:epoch].mean(0)
                reached = floor + (chance - floor) * np.exp(-epoch * (0.1 + 1.2 * np.sqrt(weight)) * (weight > 0) / 2)
                loss = reached + (shift[seed] + (effects or {}).get(arm["arm"], 0.0)) * (weight > 0)
                loss = loss + generator.normal(0, noise, num_tasks)
                rows.append(
                    _row(name, arm, seed, epoch, "epoch", names, kinds, loss, chance, weights[epoch - 1], generator)
                )
            final = dict(rows[-1], kind="final")
            for key in [k for k in final if k.startswith("valid/")]:
                final[key.replace("valid/", "test/")] = final[key] + generator.normal(0, noise / 2)
            final["test/joint_nll"] = float(np.mean([final[f"test/nll/{n}"] for n in names]))
            rows.append(final)
    return Results(
        study="weighting-1a2b3c4d",
        title="Static grid against dynamic loss weights for emotion and gender",
        arms=pd.DataFrame(arms),
        trials=pd.DataFrame(trials),
        rows=pd.DataFrame(rows),
        tasks=names,
        task_kinds=dict(zip(names, kinds, strict=False)),
        num_classes={name: c for name, c in (("emotion", 4), ("gender", 2)) if name in names},
        control={1: "static-1", 2: "static-0.5-0.5", 3: "static-0.333-0.333-0.333"}[num_tasks],
        reference_weights=dict.fromkeys(names, 1 / num_tasks),
        facts={
            "corpus": "synthetic, 960 utterances, hash 0123456789ab",
            "split": "speaker_disjoint: train 576 utterances of 15 speakers, valid 192 of 5, test 192 of 5",
            "learning_rate": f"{RATE:g}",
            "command": "study run weighting",
            "git commit": "0123456",
        },
    )


def _row(trial, arm, seed, epoch, kind, names, kinds, loss, chance, weight, generator) -> dict:
    row = {"trial": trial, "arm": arm["arm"], "seed": seed, "epoch": epoch, "step": STEPS * epoch, "kind": kind}
    for i, task in enumerate(names):
        row[f"train/nll/{task}"], row[f"valid/nll/{task}"] = loss[i] * 0.9, loss[i]
        if kinds[i] == "regression":
            row[f"valid/ccc/{task}"], row[f"valid/mse/{task}"] = 1 - loss[i], loss[i] ** 2
        else:
            recall = 1 - (1 - np.exp(-chance[i])) * np.clip(loss[i] / chance[i], 0, 1) + generator.normal(0, 0.005)
            row |= {f"valid/{m}/{task}": recall for m in ("uar", "accuracy", "macro_f1")}
        row[f"weight/{task}"] = row[f"raw_weight/{task}"] = row[f"largest_weight/{task}"] = weight[i]
        row |= {f"gradient/norm/{task}": 1.0 + i, f"gradient/share/{task}": weight[i] * (1 + i) / _moved(weight)}
    for i, j in combinations(range(len(names)), 2):
        row[f"gradient/cosine/{names[i]}:{names[j]}"] = 0.25 - 0.5 * j + 0.1 * i
        row["gradient/conflict"] = 0.5
    if arm["static_weights"] is None:
        row["learning_rate/strategy"] = RATE
    row["train/joint_nll"], row["valid/joint_nll"] = float(loss.mean() * 0.9), float(loss.mean())
    row["valid/weighted_nll"] = float(loss @ weight)
    slow = {"gradnorm": 1.2}.get(arm["strategy"], 1.0)
    return row | {
        "time/step_ms": 50 * slow + generator.normal(0, 0.5),
        "time/epoch_s": 2 * slow,
        "time/diagnostics_s": 0.05,
        "memory/peak_mb": 300 * slow,
    }


def _moved(weight) -> float:
    """What the tasks' weighted gradients, of lengths 1, 2, ..., add up to."""
    return float(weight @ np.arange(1, len(weight) + 1))


@pytest.fixture(scope="session")
def simulate() -> Callable[..., Results]:
    return simulate_study


@pytest.fixture(scope="session")
def simulated() -> Results:
    """14 arms x 5 seeds x 10 epochs; gradnorm is planted better than every static arm, uncertainty no different."""
    return simulate_study(effects={"gradnorm": -0.05})


@pytest.fixture
def without() -> Callable[..., Results]:
    """Return a study in which trials failed: their rows are partial and their error is kept."""

    def fail(results: Results, *trials: str, error: str = "TrainingError: loss is nan at step 12") -> Results:
        rows = results.rows[
            ~(results.rows["trial"].isin(trials) & ((results.rows["kind"] == "final") | (results.rows["epoch"] > 4)))
        ]
        table = results.trials.copy()
        table.loc[table["trial"].isin(trials), "status"] = "failed"
        table.loc[table["trial"].isin(trials), "error"] = error
        return replace(results, rows=rows, trials=table)

    return fail


def keep(results: Results, home: Path, name: str | None = None, **lock) -> StudyFolder:
    """Write a simulated study to disk as a run leaves it, without predictions and checkpoints."""
    folder = StudyFolder(home / (name or results.study))
    folder.create()
    arms = results.arms.drop(columns="is_static").to_dict("records")
    content = {
        "title": results.title,
        "identity": "1a2b3c4d" * 8,
        "seeds": results.seeds,
        "control": results.control,
        "tasks": [
            {
                "name": task,
                "kind": results.task_kinds[task],
                "classes": [str(i) for i in range(results.num_classes.get(task, 0))],
            }
            for task in results.tasks
        ],
        "reference_weights": results.reference_weights,
        "facts": results.facts,
        "definition": {
            "name": "weighting",
            "corpus": {"name": "synthetic"},
            "split": {"protocol": "speaker_disjoint", "options": {}},
            "network": {"name": "chae", "preset": "small"},
            "training": {"epochs": 10, "learning_rate": 0.001},
        },
        "arms": [{**arm, "static_weights": arm["static_weights"] and list(arm["static_weights"])} for arm in arms],
        "trials": results.trials[["trial", "arm", "seed"]].to_dict("records"),
        "corpus": {"name": "synthetic", "root": None, "content_hash": "a" * 64, "num_utterances": 960},
        "versions": {"torch": "2.14.1"},
        "git_commit": "0123456",
    }
    folder.write_text(folder.lock, json.dumps(content | lock))
    folder.write_text(folder.definition, "name: weighting\n")
    of_trial = dict(iter(results.rows.groupby("trial", sort=False)))
    for trial in results.trials.to_dict("records"):
        _write_trial(folder, trial, of_trial.get(trial["trial"]))
    return folder


def _write_trial(folder: StudyFolder, trial: dict, rows: pd.DataFrame | None) -> None:
    events = [{"event": "start", "arm": trial["arm"], "seed": trial["seed"], "time": 100.0}]
    for row in [] if rows is None else rows.drop(columns=["trial", "arm", "seed"]).to_dict("records"):
        told = {name: value for name, value in row.items() if not (isinstance(value, float) and np.isnan(value))}
        events.append({"event": "row", "row": told, "time": 101.0})
    if trial["status"] != "interrupted":
        failure = {"error": trial["error"], "traceback": trial["error"]} if trial["status"] == "failed" else {}
        events.append({"event": "end", "status": trial["status"], "time": 120.0, **failure})
    text = "".join(json.dumps(event) + "\n" for event in events)
    (folder.rows / f"{trial['trial']}.jsonl").write_text(text)


@pytest.fixture(scope="session")
def kept() -> Callable[..., StudyFolder]:
    return keep
