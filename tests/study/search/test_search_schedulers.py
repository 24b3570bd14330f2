import math

import pytest

from study.search.campaign import Campaign, Method
from study.search.settings import Search
from study.search.space import Interval, Space

SPACE = Space({"x": Interval(0, 1)})


def campaign(scheduler, epochs, trials, seeds=1, parallel=4, seed=0, **options):
    search = Search(
        searcher="random",
        scheduler=scheduler,
        budget={"trials": trials},
        seeds=seeds,
        parallel=parallel,
        seed=seed,
        options=options,
    )
    return Campaign([Method("m", SPACE)], search, epochs)


def fading(segment):
    """The loss falls towards that of the configuration."""
    x = segment.configuration.values["x"]
    return [{"valid/joint_nll": (x - 0.3) ** 2 + 1 / epoch} for epoch in range(segment.first + 1, segment.until + 1)]


def lengths(played):
    return sorted((block.epochs for block in played.blocks("m")), reverse=True)


@pytest.mark.parametrize("seed", range(5))
def test_asha_reaches_the_same_best_with_at_most_40_percent_of_the_epochs(seed, play):
    whole, halving = (campaign(scheduler, 9, 27, seed=seed) for scheduler in ("none", "asha"))
    play(whole, fading)
    play(halving, fading)
    assert halving.chosen() == whole.chosen()
    assert halving.ledger()["m"]["epochs"] <= 0.4 * whole.ledger()["m"]["epochs"]


def test_successive_halving_promotes_a_third_of_those_on_each_rung(play):
    def ranked(segment):
        return [{"valid/joint_nll": float(segment.configuration.number)}] * (segment.until - segment.first)

    played = campaign("asha", 9, 9, reduction=3)
    play(played, ranked)
    assert [block.epochs for block in played.blocks("m")] == [9, 3, 3, 1, 1, 1, 1, 1, 1]


def test_the_leader_is_trained_to_the_end_even_if_no_rung_fills(play):
    played = campaign("asha", 9, 2)
    play(played, fading)
    assert lengths(played) == [9, 1]


def test_hyperband_has_the_brackets_of_the_paper(play):
    played = campaign("hyperband", 9, 9 + 5 + 3)
    play(played, fading)
    # bracket 2: 9 blocks at 1, 3 at 3, 1 at 9; bracket 1: 5 at 3, 1 at 9; bracket 0: 3 at 9
    assert lengths(played) == [9] * 5 + [3] * 6 + [1] * 6


def test_the_median_rule_ends_what_is_worse_than_the_running_means_of_the_others(play):
    def flat(segment):
        return [{"valid/joint_nll": float(segment.configuration.number)}] * (segment.until - segment.first)

    played = campaign("median", 4, 5, parallel=1, blocks=3)
    play(played, flat)
    assert [block.epochs for block in played.blocks("m")] == [4, 4, 4, 1, 1]


@pytest.mark.parametrize(("test", "seeds", "epochs"), [("t", 4, 1), ("wilcoxon", 6, 1), ("wilcoxon", 5, None)])
def test_a_block_is_ended_by_a_paired_test_over_its_seeds(test, seeds, epochs, play):
    def shifted(segment):  # the seeds differ far more than the configurations do
        level = 10.0 * (segment.seed % 3) + 0.1 * segment.configuration.number + 0.001 * segment.seed % 0.003
        return [{"valid/joint_nll": level}] * (segment.until - segment.first)

    if epochs is None:
        with pytest.raises(ValueError, match=r"p is never below 0\.0625"):
            campaign("paired", 4, 2, seeds=seeds, test=test)
        return
    played = campaign("paired", 4, 2, seeds=seeds, parallel=1, test=test)
    play(played, shifted)
    assert [block.epochs for block in played.blocks("m")] == [4, epochs]


def test_one_bad_seed_ends_no_block(play):
    def unlucky(segment):
        bad = segment.configuration.number > 0 and segment.seed == 1001
        jitter = 0.01 * math.sin(segment.seed * (1 + segment.configuration.number))
        return [{"valid/joint_nll": 1.0 + 5.0 * bad + jitter}] * (segment.until - segment.first)

    played = campaign("paired", 4, 4, seeds=4, parallel=2)
    play(played, unlucky)
    assert lengths(played) == [4, 4, 4, 4]


def moving():
    """A training whose best x is 0.2 in its first half and 0.8 in its second; progress is in the checkpoint."""
    reached = {}

    def rows(segment):
        begin = segment.parent_trial or segment.trial
        progress = reached[begin, segment.first, segment.seed] if segment.first else 0.0
        made = []
        for epoch in range(segment.first, segment.until):
            optimum = 0.2 if epoch < 10 else 0.8
            progress += max(0.0, 1 - abs(segment.configuration.values["x"] - optimum) / 0.3)
            made.append({"valid/joint_nll": 20 - progress})
            reached[segment.trial, epoch + 1, segment.seed] = progress
        return made

    return rows


@pytest.mark.parametrize("scheduler", ["pbt", "pb2"])
@pytest.mark.parametrize("seed", range(3))
def test_a_population_finds_a_schedule_that_no_constant_value_reaches(scheduler, seed, play):
    played = campaign(scheduler, 20, 12, seeds=2, seed=seed, interval=2)
    handed = play(played, moving(), machines=5)
    chosen = played.chosen()["m"]
    assert played.blocks("m")[chosen.number].loss() < 20 - 10  # the best constant makes all progress in one half
    schedule = played.schedule(chosen)
    assert [stage.first for stage in schedule] == [0, *(stage.until for stage in schedule[:-1])]
    assert (schedule[-1].until, schedule[-1].values) == (20, chosen.values)
    assert schedule[0].values["x"] < 0.5 < schedule[-1].values["x"]
    assert sum(segment.until - segment.first for segment in handed) == 12 * 20 * 2
    for segment in handed:
        if segment.parent is not None:
            assert segment.first == segment.parent.epoch
            assert segment.parent.epoch % 2 == 0  # copies begin where all members have a checkpoint


def test_a_block_that_fails_is_replaced_by_a_copy_of_a_good_one(play):
    played = campaign("pbt", 20, 4, interval=5)
    play(played, moving(), fails=lambda segment: "lost" if segment.configuration.number == 2 else None)
    assert sum(block.state == "full" for block in played.blocks("m")) == 4
    assert played.blocks("m")[2].state == "failed"
