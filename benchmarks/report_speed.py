"""Time and memory of `study show`, `study report` and the statistics on a study of 1,000 trials of 100 epochs.

The study is made up: its rows have the columns of a real one. Each command is a process of its own, as a user starts
it; `first` has no copy of the rows to read from, `again` has. Run:

    python benchmarks/report_speed.py [--trials 1000] [--epochs 100] [--arms 1000] [--folds]

Targets: `study show` 2 s, `study report` 20 s and 1 GB, statistics of 20 arms with 10 seeds 1 s.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

TASKS = ("emotion", "gender")
NUM_CLASSES = (4, 2)
NUM_FOLDS = 10
MOVING = ("softmax", "uncertainty", "gradnorm", "dwa", "famo", "mgda", "pcgrad", "cagrad", "rlw")


def arms(count: int) -> list[dict]:
    """Return the entries of arms in a lock: the static grid in steps of 0.1, then dynamic ones."""
    grid = [(i / 10, 1 - i / 10) for i in range(11)]
    found = [
        {
            "arm": f"static-{a:.1f}-{b:.1f}",
            "label": f"static {a:.1f}/{b:.1f}",
            "strategy": "static",
            "family": "static grid",
            "options": {},
            "static_weights": [round(a, 1), round(b, 1)],
            "may_be_clock": False,
        }
        for a, b in grid
    ]
    names = [f"{MOVING[i % len(MOVING)]}{'' if i < len(MOVING) else -(i // len(MOVING))}" for i in range(count - 11)]
    dynamic = {"family": "", "options": {}, "static_weights": None, "may_be_clock": False}
    found += [{**dynamic, "arm": name, "label": name, "strategy": name, "family": name} for name in names]
    return found[:count]


def rows(generator: np.random.Generator, epochs: int, arm: dict) -> list[dict]:
    """Return the rows of a trial, its final one last."""
    weight = arm["static_weights"] or [0.4, 0.6]
    decay = np.exp(-np.arange(1, epochs + 1) / 20)[:, None]
    losses = 0.3 + decay + generator.normal(0, 0.01, (epochs, 2))
    found = [_row(generator, epoch + 1, losses[epoch], weight) for epoch in range(epochs)]
    final = {**found[-1], "kind": "final"}
    final |= {name.replace("valid/", "test/"): value for name, value in final.items() if name.startswith("valid/")}
    return [*found, final]


def _row(generator: np.random.Generator, epoch: int, losses: np.ndarray, weight: list[float]) -> dict:
    row = {"kind": "epoch", "epoch": epoch, "step": 36 * epoch, "learning_rate/network": 0.001}
    for task, loss, share in zip(TASKS, losses.tolist(), weight, strict=True):
        row |= {f"train/nll/{task}": 0.9 * loss, f"valid/nll/{task}": loss}
        row |= {f"valid/{metric}/{task}": 1 - loss / 2 for metric in ("uar", "accuracy", "macro_f1")}
        row |= {f"{kind}/{task}": share for kind in ("weight", "raw_weight", "largest_weight", "mean_weight")}
        row |= {f"gradient/{kind}/{task}": abs(generator.normal()) for kind in ("norm", "effective", "share")}
    row |= {"gradient/cosine/emotion:gender": generator.normal(), "gradient/conflict": 0.5, "weight/entropy": 0.9}
    for split in ("train", "valid"):
        joint = float(losses.mean())
        row |= {f"{split}/joint_nll": joint, f"{split}/weighted_nll": float(losses @ weight)}
    timing = {"time/step_ms": 50 + generator.normal(), "time/epoch_s": 2.0 + 0.1 * generator.normal()}
    return row | timing | {"time/diagnostics_s": 0.05, "memory/peak_mb": 600.0}


def make_study(
    home: Path, num_trials: int, epochs: int, *, folded: bool, num_arms: int = 25, utterances: int = 200
) -> str:
    """Write a study of that many trials into a study home and return its name."""
    from study.records import StudyFolder
    from trainables.predictions import Predictions

    folds = NUM_FOLDS if folded else 1
    seeds = max(1, num_trials // (num_arms * folds))
    entries, generator = arms(num_arms), np.random.default_rng(0)
    folder = StudyFolder(home / "speed-00000000")
    folder.create()
    trials = []
    for seed in range(seeds):
        for fold in range(folds):
            for arm in entries:
                name = f"{arm['arm']}-seed{seed}" + (f"-fold{fold}" if folded else "")
                trials.append({"trial": name, "arm": arm["arm"], "seed": seed, **({"fold": fold} if folded else {})})
                _write_trial(folder, name, rows(generator, epochs, arm))
                if folded:
                    names = np.array([f"fold{fold}-{i}" for i in range(utterances)])
                    chances = {t: _chances(generator, utterances, c) for t, c in zip(TASKS, NUM_CLASSES, strict=True)}
                    labels = {t: generator.integers(0, c, utterances) for t, c in zip(TASKS, NUM_CLASSES, strict=True)}
                    folder.write_predictions(name, Predictions(names, chances, {}, labels).to_bytes())
    folder.write_text(folder.lock, json.dumps(_lock(entries, trials)))
    return folder.name


def _chances(generator: np.random.Generator, count: int, classes: int) -> np.ndarray:
    logits = generator.normal(size=(count, classes))
    return (logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))).astype(np.float32)


def _write_trial(folder: object, name: str, reported: list[dict]) -> None:
    lines = [{"event": "start", "arm": "a", "seed": 0, "time": 0.0}]
    lines += [{"event": "row", "row": row, "time": 2.0 * index} for index, row in enumerate(reported)]
    lines += [{"event": "end", "status": "finished", "time": 2.0 * len(reported)}]
    (folder.rows / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))  # type: ignore[attr-defined]


def _lock(entries: list[dict], trials: list[dict]) -> dict:
    tasks = [
        {"name": task, "classes": [str(index) for index in range(classes)], "kind": "classification"}
        for task, classes in zip(TASKS, NUM_CLASSES, strict=True)
    ]
    return {
        "title": "A study made up to be large",
        "arms": entries,
        "tasks": tasks,
        "trials": trials,
        "control": "static-0.5-0.5",
        "reference_weights": dict.fromkeys(TASKS, 0.5),
        "facts": {"corpus": "made up"},
    }


def timed(command: list[str], environment: dict[str, str]) -> tuple[float, float]:
    """Return seconds and peak memory (MB) of a command; a failing one ends the benchmark."""
    start = time.perf_counter()
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"{' '.join(command)} failed")
    return time.perf_counter() - start, usage.ru_maxrss / 1024


def statistics_seconds() -> float:
    """Return the seconds that the comparison of 20 arms with 10 seeds takes, rows read and one warm-up done."""
    from study.analysis import compare
    from study.records import find as find_study
    from study.records import load_results, study_home

    with tempfile.TemporaryDirectory() as folder:
        home = study_home(Path(folder))
        name = make_study(home, 250, 20, folded=False)
        results = load_results(find_study(home, name))
        chosen = list(results.arms["arm"][:20])
        few = {
            "arms": results.arms[results.arms["arm"].isin(chosen)].reset_index(drop=True),
            "trials": results.trials[results.trials["arm"].isin(chosen)].reset_index(drop=True),
            "rows": results.rows[results.rows["arm"].isin(chosen)].reset_index(drop=True),
        }
        times = []
        for _ in range(4):
            from dataclasses import replace

            fresh = replace(results, **few)
            start = time.perf_counter()
            found = compare(fresh)
            for name in ("distances", "regret", "delta", "ranks", "budgets", "equal_tuning", "gradients"):
                getattr(found, name)  # what is computed when a report asks for it
            times.append(time.perf_counter() - start)
    return min(times[1:])


def main() -> None:
    """Print every time beside its target."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--arms", type=int, default=None, help="25 by default; 1000 with one seed is the most")
    parser.add_argument("--folds", action="store_true", help="20 arms, 5 seeds, 10 folds tested as one pool")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--home", type=Path, default=None, help="make the study here and keep it")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        home = arguments.home or Path(temporary)
        name = "speed-00000000"
        if not (home / name / "lock.json").exists():
            num_arms = arguments.arms or (20 if arguments.folds else 25)
            make_study(home, arguments.trials, arguments.epochs, folded=arguments.folds, num_arms=num_arms)
        size = sum(path.stat().st_size for path in (home / name / "rows").iterdir()) / 2**20
        print(f"{arguments.trials} trials of {arguments.epochs} epochs, {size:.0f} MB of rows")
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "STUDY_HOME": str(home)}
        command = [sys.executable, "-m", "study.cli"]
        print(f"bare start of Python with pandas  {_bare(environment):6.2f} s")
        first = timed([*command, "show", name], environment)
        print(f"study show, first                 {first[0]:6.2f} s  {first[1]:6.0f} MB")
        again = [timed([*command, "show", name], environment) for _ in range(arguments.repeat)]
        print(f"study show, again                 {min(again)[0]:6.2f} s  {min(again)[1]:6.0f} MB   (target: 2 s)")
        report = timed([*command, "report", name], environment)
        page = (home / name / "report" / "report.html").stat().st_size / 2**20
        print(f"study report                      {report[0]:6.2f} s  {report[1]:6.0f} MB   (target: 20 s, 1024 MB)")
        print(f"its page                          {page:6.2f} MB             (target: 10 MB)")
    print(f"statistics of 20 arms x 10 seeds  {statistics_seconds():6.2f} s              (target: 1 s)")


def _bare(environment: dict[str, str]) -> float:
    return min(timed([sys.executable, "-c", "import pandas"], environment)[0] for _ in range(3))


if __name__ == "__main__":
    main()
