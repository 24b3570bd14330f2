import math
import random
from collections.abc import Callable

import pytest

from study.search.campaign import Campaign, Method
from study.search.space import Choice, Interval, Space


def plane(**more):
    """Two ranges, a whole number and a choice of lists: every kind of hyperparameter."""
    return Space(
        {
            "training.learning_rate": Interval(1e-4, 1e-2, log=True),
            "strategy.alpha": Interval(0, 3),
            "strategy.updates": Interval(0, 3, integer=True),
            "strategy.weights": Choice(([0.1, 0.9], [0.5, 0.5])),
            **more,
        }
    )


def planted(segment):
    """Rows of a trial whose optimum is known: learning rate 1e-3, alpha 1, no updates; the seeds differ by noise."""
    values = segment.configuration.values
    alpha = 1.5 if values["strategy.alpha"] is None else values["strategy.alpha"]
    bowl = (alpha - 1) ** 2 + math.log10(values["training.learning_rate"] / 1e-3) ** 2
    noise = random.Random(f"{sorted(values.items())}{segment.seed}")
    return [
        {
            "valid/joint_nll": bowl + 0.2 * values["strategy.updates"] + 1 / (epoch + 1) + 0.01 * noise.random(),
            "valid/uar/emotion": 1 - abs(alpha - 2) / 3,
        }
        for epoch in range(segment.first, segment.until)
    ]


def play(
    campaign: Campaign,
    rows: Callable = planted,
    machines: int = 5,
    order: random.Random | None = None,
    fails: Callable = lambda segment: None,
    most: int | None = None,
):
    """Train what a campaign hands out, told in the order it came or in any; return what was handed out."""
    handed, under_way = [], []
    while not campaign.done and (most is None or len(handed) < most):
        while len(under_way) < machines and (segment := campaign.next()) is not None:
            under_way.append(segment)
            handed.append(segment)
        segment = under_way.pop(order.randrange(len(under_way)) if order else 0)
        failure = fails(segment)
        campaign.tell(segment, [] if failure else rows(segment), failure=failure, seconds=segment.until - segment.first)
    return handed


def events(campaign):
    """What happened, in no order and without times."""
    return sorted(str({k: v for k, v in line.items() if k not in ("at", "seconds")}) for line in campaign.history())


@pytest.fixture(name="play")
def play_fixture():
    return play


@pytest.fixture(name="events")
def events_fixture():
    return events


@pytest.fixture(name="planted")
def planted_fixture():
    return planted


@pytest.fixture
def methods():
    defaults = {"training.learning_rate": 3e-3, "strategy.alpha": None, "strategy.updates": 2}
    return [
        Method("tuned", plane(), defaults | {"strategy.weights": [0.5, 0.5]}),
        Method("static grid", plane(**{"training.weight_decay": Interval(0, 0.1, step=0.01)})),
    ]
