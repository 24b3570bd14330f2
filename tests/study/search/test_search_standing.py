import math
from statistics import median

import pytest
from hypothesis import given
from hypothesis import strategies as st

from study.search.campaign import Campaign
from study.search.segments import Block, Configuration
from study.search.settings import Objective, Search
from study.search.standing import Standing

VALUES = st.lists(st.sampled_from([0.0, 1.0, 2.0, 3.0, math.inf]), min_size=2, max_size=9)


def blocks_of(values):
    objective = (Objective(metric="joint_nll", direction="minimize"),)
    return [Block(Configuration("m", number, {"x": value}), objective) for number, value in enumerate(values)]


@given(VALUES, st.sets(st.integers(0, 8)))
def test_standing_is_that_of_blocks_sorted_anew(values, removed):
    standing = Standing(lambda block, epoch: epoch * block.configuration.values["x"])
    blocks = blocks_of(values)
    for block in [*blocks, *blocks]:  # twice counts once
        standing.add(block, 2)
    for block in blocks:
        if block.number in removed:
            standing.remove(block)
    kept = [block for block in blocks if block.number not in removed]
    expected = sorted(kept, key=lambda block: (block.configuration.values["x"], block.number))
    assert list(standing.ordered(2)) == [block.number for block in expected]
    assert standing.count(2) == len(kept)
    assert standing.count(1) == 0
    for rank, block in enumerate(expected):
        assert standing.rank(block, 2) == rank
        others = [2 * other.configuration.values["x"] for other in kept if other is not block]
        if others:
            assert standing.median_of_others(block, 2) == median(others)


@pytest.mark.parametrize("scheduler", ["asha", "hyperband", "median", "paired"])
def test_a_decision_looks_at_no_more_blocks_in_a_long_search(scheduler, methods, play, monkeypatch):
    """Else a search of n configurations would cost in the order of n squared."""

    def looks(trials):
        count = 0

        def counting(inner):
            def counted(block, epoch=None):
                nonlocal count
                count += 1
                return inner(block, epoch)

            return counted

        for name in ("loss", "running_mean"):
            monkeypatch.setattr(Block, name, counting(getattr(Block, name)))
        search = Search(searcher="random", scheduler=scheduler, seeds=2, budget={"trials": trials})
        told = len(play(Campaign(methods[:1], search, 9), machines=1))
        monkeypatch.undo()
        return count / told

    assert looks(400) < 1.3 * looks(50) + 1
