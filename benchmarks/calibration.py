"""Whether intervals cover and tests err as often as they say, on simulated studies with planted effects.

A simulated study has a control and four arms over n seeds. A seed shifts all arms alike (standard deviation 1), each
trial adds noise of its own (0.3); one arm differs from the control by nothing, a small or a large effect, in standard
deviations of a paired difference; the others by nothing. The noise is normal, or lognormal: skewed as losses are. Each
is analysed by the functions that make the report. Run:

    python benchmarks/calibration.py [--simulations 2000] [--seeds 3 5 10 20]

Printed, in percent: how often the 95 % intervals of the arm's mean, of its difference to the control and of its share
of seeds won contain the true value; how often any arm without effect is called different after Holm (at most 5 is
right), by the t-test and by Wilcoxon's; how often the planted effect is found. Then the jackknife intervals of the
distance to a front and of the hypervolume gained.
"""

import argparse
import math

import numpy as np
import pandas as pd

from study.analysis.differences import differences
from study.analysis.pareto import distance_behind, exclusive_volume
from study.analysis.resampling import jackknife_interval, mean_interval
from study.analysis.statistics import ALPHA

EFFECTS = {"none": 0.0, "small": 0.5, "large": 2.0}
SHARED, OWN = 1.0, 0.3
PAIRED = OWN * math.sqrt(2)
ARMS = ("equal", "planted", "null-1", "null-2", "null-3")
FRONT = np.array([[1.0, 3.0], [1.4, 2.2], [2.0, 1.6], [2.8, 1.2], [4.0, 1.0]])
REFERENCE = np.array([5.0, 5.0])


def noise(generator: np.random.Generator, kind: str, shape: tuple[int, ...]) -> np.ndarray:
    """Return noise of mean 0 and variance 1."""
    if kind == "normal":
        return generator.normal(size=shape)
    skewed = generator.lognormal(0.0, 0.75, size=shape)
    mean, second = math.exp(0.75**2 / 2), math.exp(2 * 0.75**2)
    return (skewed - mean) / math.sqrt(second - mean**2)


def study_values(generator: np.random.Generator, kind: str, seeds: int, effect: float) -> pd.DataFrame:
    """Return the joint loss of a study, one row per arm and one column per seed."""
    shift = SHARED * noise(generator, kind, (1, seeds))
    values = 10 + shift + OWN * noise(generator, kind, (len(ARMS), seeds))
    values[1] -= effect * PAIRED
    return pd.DataFrame(values, index=list(ARMS), columns=range(seeds))


def contains(low: float, high: float, value: float) -> bool:
    """Return whether an interval contains a value; a missing one does not."""
    return bool(low <= value <= high)


def counted(generator: np.random.Generator, kind: str, seeds: int, effect: float) -> list[bool]:
    """Analyse one study; return what it got right and what it claimed."""
    values = study_values(generator, kind, seeds, effect)
    mean = mean_interval(values.loc["planted"].tolist())
    table = differences(values, ARMS[1:], "equal", ARMS[1:]).set_index("arm")
    planted, nulls = table.loc["planted"], table.loc[list(ARMS[2:] if effect else ARMS[1:])]
    chance = 0.5 * math.erfc(-effect / math.sqrt(2)) if kind == "normal" or not effect else math.nan
    return [
        mean is not None and mean.contains(10 - effect * PAIRED),
        contains(planted["low"], planted["high"], -effect * PAIRED),
        contains(planted["improved/low"], planted["improved/high"], chance),
        bool((nulls["t_holm_p"] <= ALPHA).any()),
        bool((nulls["holm_p"] <= ALPHA).any()),
        bool(planted["t_holm_p"] <= ALPHA),
        bool(planted["holm_p"] <= ALPHA),
    ]


def tests_table(simulations: int, seed_counts: list[int]) -> None:
    """Print coverage, level and power."""
    heads = ["noise", "seeds", "effect", "mean", "difference", "seeds won", "false t", "false W", "found t", "found W"]
    print(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}", flush=True)
    for kind in ("normal", "lognormal"):
        for seeds in seed_counts:
            for name, effect in EFFECTS.items():
                generator = np.random.default_rng([seeds, len(kind), int(10 * effect)])
                shares = np.mean([counted(generator, kind, seeds, effect) for _ in range(simulations)], axis=0) * 100
                cells = [f"{share:.1f}" for share in shares]
                if kind != "normal" and effect:
                    cells[2] = "-"
                if not effect:
                    cells[5:] = ["-", "-"]
                print(f"| {kind} | {seeds} | {name} | {' | '.join(cells)} |", flush=True)


def front_covered(generator: np.random.Generator, seeds: int, point: np.ndarray) -> list[bool]:
    """Measure one method against a front; return whether the intervals contain the true distance and gain."""
    rows = np.concatenate([point[None], FRONT])[None] + SHARED * 0.3 * generator.normal(size=(seeds, 1, 2))
    rows = rows + 0.05 * generator.normal(size=rows.shape)
    distance = jackknife_interval(lambda mean: distance_behind(mean[0], mean[1:]), rows)
    gain = jackknife_interval(lambda mean: exclusive_volume(mean[0], mean[1:], REFERENCE), rows)
    true = distance_behind(point, FRONT), exclusive_volume(point, FRONT, REFERENCE)
    return [one is not None and one.contains(value) for one, value in zip((distance, gain), true, strict=True)]


def front_table(simulations: int, seed_counts: list[int]) -> None:
    """Print the coverage of the intervals of distance and hypervolume gain."""
    points = {"beyond": [1.5, 1.7], "between": [1.7, 1.85], "on a point": [2.0, 1.6], "behind": [2.3, 2.0]}
    print("\n| place | seeds | distance | gain |\n|---|---|---|---|", flush=True)
    for place, point in points.items():
        for seeds in seed_counts:
            generator = np.random.default_rng([seeds, len(place)])
            covered = [front_covered(generator, seeds, np.array(point)) for _ in range(simulations)]
            distance, gain = np.mean(covered, axis=0) * 100
            told = "-" if place in ("behind", "on a point") else f"{gain:.1f}"
            print(f"| {place} | {seeds} | {distance:.1f} | {told} |", flush=True)


def main() -> None:
    """Print both tables; the standard error of a figure of 95 is half a point at 2,000 simulations."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--simulations", type=int, default=2000)
    parser.add_argument("--seeds", type=int, nargs="+", default=[3, 5, 10, 20])
    arguments = parser.parse_args()
    print(f"{arguments.simulations} simulated studies a row")
    tests_table(arguments.simulations, arguments.seeds)
    front_table(arguments.simulations, arguments.seeds)


if __name__ == "__main__":
    main()
