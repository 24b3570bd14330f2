import json
import math
import random

import pytest
from scipy import stats

from study.errors import DefinitionError, StudyError
from study.search.campaign import Campaign, Method
from study.search.settings import Search
from study.search.space import Choice, Interval, Space

EPOCHS = 6
COMPANIES = [
    *((searcher, "none") for searcher in ("grid", "random", "qmc", "tpe", "nsga2", "nsga3")),
    *(
        (searcher, scheduler)
        for searcher in ("random", "tpe")
        for scheduler in ("asha", "hyperband", "median", "paired")
    ),
    ("qmc", "pbt"),
    ("random", "pb2"),
]


def settings(searcher="random", scheduler="none", trials=16, **more):
    return Search(searcher=searcher, scheduler=scheduler, **({"budget": {"trials": trials}, "seeds": 2} | more))


def broken(segment):
    """One seed of one configuration fails."""
    return "out of luck" if segment.configuration.number == 4 and segment.seed == 1001 else None


@pytest.mark.parametrize(("searcher", "scheduler"), COMPANIES)
def test_a_search_is_the_same_on_any_number_of_machines_and_after_a_kill_anywhere(
    searcher, scheduler, methods, play, events
):
    search = settings(searcher, scheduler)
    methods = methods[: 1 if searcher == "grid" else 2]
    whole = Campaign(methods, search, EPOCHS)
    play(whole, machines=1, fails=broken)
    lines = json.loads(json.dumps(whole.history()))
    luck = random.Random(f"{searcher}{scheduler}")
    for _ in range(2):
        kept = lines[: luck.randrange(len(lines))]
        again = Campaign.replay(methods, search, EPOCHS, kept)
        assert again.history()[: len(kept)] == kept
        play(again, machines=luck.randrange(1, 9), order=luck, fails=broken)
        assert events(again) == events(whole)
        assert again.chosen() == whole.chosen()


@pytest.mark.parametrize(("searcher", "scheduler"), COMPANIES)
def test_pairing_is_never_broken_and_every_method_pays_the_same(searcher, scheduler, methods, play):
    search = settings(searcher, scheduler, budget={"trials": 16, "epochs": 200})
    methods = methods[: 1 if searcher == "grid" else 2]
    campaign = Campaign(methods, search, EPOCHS)
    handed = play(campaign, machines=7, order=random.Random(1), fails=broken)
    assert len({segment.key for segment in handed}) == len(handed)
    for method in methods:
        blocks = campaign.blocks(method.name)
        for block in blocks:
            own = [s for s in handed if s.configuration == block.configuration]
            spans = {seed: [(s.first, s.until) for s in own if s.seed == seed] for seed in search.seed_numbers}
            if block.state != "failed":
                assert spans[1000] == spans[1001]  # all seeds of a block go on or stop together
        spent = campaign.ledger()[method.name]
        assert spent["trials"] <= 16
        assert spent["epochs"] <= 200
        begun = sum(block.parent is None for block in blocks)
        trained = sum(s.until - s.first for s in handed if s.configuration.method == method.name)
        assert (spent["trials"], spent["epochs"]) == (begun, pytest.approx(trained, abs=EPOCHS))
        assert any(block.state == "full" for block in blocks)
    if searcher != "grid":
        trials = {spent["trials"] for spent in campaign.ledger().values()}
        assert scheduler in ("median", "paired") or len(trials) == 1


def test_methods_take_turns_and_all_seeds_of_a_configuration_come_first(methods, play):
    handed = play(Campaign(methods, settings(trials=2, parallel=1), EPOCHS), machines=1)
    assert [segment.trial for segment in handed[:4]] == [
        "tuned-c000-seed1000",
        "static_grid-c000-seed1000",
        "tuned-c000-seed1001",
        "static_grid-c000-seed1001",
    ]


def test_what_the_definition_says_is_tried_first_then_the_points_of_earlier_studies(methods, play, planted):
    point = methods[0].space.at([0.1, 0.2, 0.3, 0.4])
    method = Method("tuned", methods[0].space, methods[0].defaults, (point,))

    def rows(segment):
        alpha = segment.configuration.values["strategy.alpha"]
        return [{"valid/joint_nll": 0.0 if alpha is None else 1.0 + alpha}] * EPOCHS

    for searcher in ("random", "tpe", "nsga2"):
        campaign = Campaign([method], settings(searcher, trials=4), EPOCHS)
        play(campaign, rows)
        first, second, third, _ = [block.configuration for block in campaign.blocks("tuned")]
        assert (first.values, first.origin) == (method.defaults, "default")  # None is outside of the space
        assert (second.values, second.origin) == (point, "given")
        assert third.origin in ("random", "searcher")
        assert campaign.chosen()["tuned"] == first


def test_random_draws_of_a_shared_hyperparameter_are_those_of_every_method(methods, play):
    campaign = Campaign([Method(m.name, m.space) for m in methods], settings(), EPOCHS)
    play(campaign)
    rates = [[b.configuration.values["training.learning_rate"] for b in campaign.blocks(m.name)] for m in methods]
    assert rates[0] == rates[1]
    assert len(set(rates[0])) == 16


def test_another_seed_of_the_searcher_gives_another_search(methods, play):
    def values(searcher, seed):
        campaign = Campaign(methods[:1], settings(searcher, seed=seed), EPOCHS)
        play(campaign)
        return [block.configuration.values for block in campaign.blocks("tuned")]

    for searcher in ("random", "qmc", "tpe", "nsga2"):
        assert values(searcher, 1) == values(searcher, 1)
        assert values(searcher, 1)[1:] != values(searcher, 2)[1:]


def test_configurations_in_a_history_hold_even_if_the_searcher_would_suggest_others(methods, play):
    first = Campaign(methods[:1], settings("tpe"), EPOCHS)
    other = Campaign.replay(methods[:1], settings("tpe", seed=1), EPOCHS, first.history())
    assert [b.configuration.values for b in other.blocks("tuned")] == [
        b.configuration.values for b in first.blocks("tuned")
    ]


def test_tpe_beats_random_search_on_a_planted_optimum(play):
    space = Space({name: Interval(0, 1) for name in "abc"})

    def rows(segment):
        return [{"valid/joint_nll": sum((value - 0.3) ** 2 for value in segment.configuration.values.values())}]

    def best(searcher, seed):
        campaign = Campaign([Method("m", space)], settings(searcher, trials=30, seeds=1, seed=seed), epochs=1)
        play(campaign, rows)
        return campaign.blocks("m")[campaign.chosen()["m"].number].loss()

    pairs = [(math.log(best("tpe", seed)), math.log(best("random", seed))) for seed in range(20)]
    gain = [drawn - modelled for modelled, drawn in pairs]
    assert stats.wilcoxon(gain, alternative="greater").pvalue < 0.01


def test_a_front_has_exactly_the_configurations_that_none_beats_and_its_pick_has_the_least_joint_loss(play):
    space = Space({"x": Interval(0, 3)})  # Schaffer's problem: every x from 1 to 2 is on the front

    def rows(segment):
        x = segment.configuration.values["x"]
        return [{"valid/nll/a": (x - 1) ** 2, "valid/uar/b": 1 - (x - 2) ** 2, "valid/joint_nll": (x - 1.25) ** 2}]

    for searcher in ("nsga2", "nsga3", "tpe"):
        search = settings(searcher, trials=60, seeds=1, objective=("nll/a", "uar/b"))
        campaign = Campaign([Method("m", space)], search, epochs=1)
        play(campaign, rows)
        every = [block.configuration.values["x"] for block in campaign.blocks("m")]
        front = sorted(configuration.values["x"] for configuration in campaign.front()["m"])
        below, above = [x for x in every if x < 1], [x for x in every if x > 2]
        inside = sorted(x for x in every if 1 <= x <= 2)
        assert set(inside) <= set(front) <= {*inside, max(below), min(above)}
        assert abs(campaign.chosen()["m"].values["x"] - 1.25) == min(abs(x - 1.25) for x in front)
        assert len(inside) > 60 / 3  # more than draws would put there


@pytest.mark.parametrize("scheduler", ["none", "median"])
def test_hours_of_training_and_hours_on_the_wall_end_a_search(scheduler, methods, play, planted):
    now = [0.0]

    def rows(segment):
        now[0] += 600 * (segment.until - segment.first)
        return planted(segment)

    def spent(**budget):
        search = settings(scheduler=scheduler, seeds=1, budget=budget)
        campaign = Campaign(methods[:1], search, EPOCHS, clock=lambda: now[0])
        handed = play(campaign, rows, machines=1)
        return campaign, sum(segment.until - segment.first for segment in handed)

    assert spent(wall_clock_hours=5)[1] == pytest.approx(5 * 6, abs=4 * EPOCHS)
    campaign, epochs = spent(hours=100 / 3600)  # the rows say a second an epoch
    assert 100 - EPOCHS < epochs <= 100
    assert campaign.ledger()["tuned"]["seconds"] == epochs


def test_a_method_whose_configurations_all_fail_is_given_up_even_if_only_time_limits_it(methods, play):
    campaign = Campaign(methods[:1], settings(budget={"hours": 1}), EPOCHS)
    assert 10 <= len(play(campaign, fails=lambda segment: "no luck")) < 40
    assert campaign.chosen() == {}
    assert {block.failure for block in campaign.blocks("tuned")} == {"no luck"}


def test_an_objective_that_is_no_number_is_a_failure_of_its_configuration(methods, play, planted):
    def rows(segment):
        made = planted(segment)
        return [row | {"valid/joint_nll": math.nan} for row in made] if segment.configuration.number == 1 else made

    campaign = Campaign(methods, settings("tpe"), EPOCHS)
    play(campaign, rows)
    block = campaign.blocks("tuned")[1]
    assert (block.state, block.failure) == ("failed", "valid/joint_nll is not finite")
    assert campaign.chosen()["tuned"].number != 1


def test_a_trial_counts_with_its_epoch_of_the_least_joint_loss_and_a_block_with_the_mean_of_its_seeds(play):
    curves = {1000: ([3, 1, 2], [0.1, 0.2, 0.9]), 1001: ([2, 3, 4], [0.6, 0.7, 0.8])}

    def rows(segment):
        joint, uar = curves[segment.seed]
        return [{"valid/joint_nll": j, "valid/uar/a": u} for j, u in zip(joint, uar, strict=True)]

    campaign = Campaign([Method("m", Space({"x": Interval(0, 1)}))], settings(trials=1, objective="uar/a"), epochs=3)
    play(campaign, rows)
    assert campaign.blocks("m")[0].loss() == pytest.approx(-(0.2 + 0.6) / 2)
    assert campaign.blocks("m")[0].joint_loss() == pytest.approx((1 + 2) / 2)


def test_what_is_told_twice_counts_once(methods, planted):
    campaign = Campaign(methods, settings(), EPOCHS)
    segment = campaign.next()
    campaign.tell(segment, planted(segment))
    before = len(campaign.history())
    campaign.tell(segment, [], failure="late")
    assert len(campaign.history()) == before


def test_a_metric_that_no_trial_reports_and_missing_rows_are_told(methods, planted):
    campaign = Campaign(methods, settings(objective="uar/emotoin"), EPOCHS)
    segment = campaign.next()
    with pytest.raises(DefinitionError, match=r"unknown metric.*'valid/uar/emotoin'.*did you mean 'valid/uar/emotion'"):
        campaign.tell(segment, planted(segment))
    with pytest.raises(StudyError, match="trial tuned-c000-seed1000 reported 5 epochs where 6 were asked for"):
        campaign.tell(segment, planted(segment)[1:])


@pytest.mark.parametrize(
    ("methods", "search", "message"),
    [
        ([], {}, "needs methods of different names, and has: none"),
        ([Method("m", Space({}))], {}, "nothing is searched for method 'm'"),
        ([Method("m", Space({"x": Interval(0, 1)}), points=({"y": 1},))], {}, "unknown hyperparameter 'y'"),
        (None, {"budget": {"epochs": 11}}, "cannot fund one trial per method: 6 epochs with 2 tuning seeds take 12"),
        (None, {"searcher": "grid", "trials": 1}, "at least 2 points, but the budget has 1 trials"),
        (None, {"scheduler": "asha", "options": {"grace": 6}}, "grace is 6, but a training has 6 epochs"),
        (None, {"scheduler": "pbt", "options": {"interval": 9}}, "interval is 9, but a training has 6 epochs"),
        (None, {"scheduler": "pbt", "options": {"population": 17}}, "population is 17, but search.budget funds 16"),
        (None, {"scheduler": "pbt", "trials": 1}, "a population of at least 2, and the budget funds 1"),
        (None, {"scheduler": "pb2", "budget": {"hours": 1}}, "population is missing"),
    ],
)
def test_what_cannot_be_searched_is_refused_before_anything_starts(methods, search, message):
    with pytest.raises(DefinitionError, match=message) as refusal:
        Campaign(
            [Method("m", Space({"x": Choice((1, 2))}))] if methods is None else methods, settings(**search), EPOCHS
        )
    assert "\n" not in str(refusal.value)


# trying again ------------------------------------------------------------------------------------------------------


def unlucky(segment):
    """Some configurations fail as long as it is the first attempt."""
    return "disk full" if segment.attempt == 0 and segment.configuration.number in (0, 3, 4) else None


@pytest.mark.parametrize(("searcher", "scheduler"), COMPANIES)
def test_what_failed_is_tried_again_and_what_was_suggested_before_stays(searcher, scheduler, methods, play, events):
    search = settings(searcher, scheduler)
    whole = Campaign(methods[:1], search, EPOCHS)
    play(whole, machines=1, fails=unlucky, most=None if scheduler in ("none", "hyperband") else 24)
    before = whole.history()
    failed = [block.number for block in whole.blocks("tuned") if block.state == "failed"]
    spent = whole.ledger()["tuned"]["trials"]
    assert whole.retry() >= 1
    handed = play(whole, machines=1)
    assert {segment.configuration.number for segment in handed if segment.attempt} <= {*failed}
    assert whole.history()[: len(before)] == before
    assert whole.done
    assert not [block for block in whole.blocks("tuned") if block.state == "failed" and scheduler not in ("pbt", "pb2")]
    assert whole.ledger()["tuned"]["trials"] <= max(spent, 16)
    assert any(block.state == "full" for block in whole.blocks("tuned"))
    assert whole.retry() == 0 or scheduler in ("pbt", "pb2")

    lines = json.loads(json.dumps(whole.history()))
    luck = random.Random(f"{searcher}{scheduler}")
    for _ in range(2):
        kept = lines[: luck.randrange(len(before) + 1, len(lines) + 1)]
        again = Campaign.replay(methods[:1], search, EPOCHS, kept)
        play(again, machines=luck.randrange(1, 9), order=luck)
        assert events(again) == events(whole)
        assert again.chosen() == whole.chosen()


def test_only_the_seed_that_failed_is_trained_again_and_it_costs_nothing_of_the_budget(methods, play):
    campaign = Campaign(methods[:1], settings(trials=6), EPOCHS)
    play(campaign, machines=1, fails=broken)
    spent = campaign.ledger()["tuned"]
    assert campaign.retry() == 1
    handed = play(campaign)
    assert [(segment.trial, segment.attempt) for segment in handed] == [("tuned-c004-seed1001", 1)]
    assert campaign.blocks("tuned")[4].state == "full"
    assert campaign.ledger()["tuned"] == spent | {"seconds": spent["seconds"] + EPOCHS}
    assert campaign.retry() == 0


def test_a_seed_whose_numbers_were_none_is_trained_again(methods, play, planted):
    def rows(segment):
        bad = segment.seed == 1001 and segment.attempt == 0 and segment.configuration.number == 1
        return [row | ({"valid/joint_nll": math.nan} if bad else {}) for row in planted(segment)]

    campaign = Campaign(methods[:1], settings(trials=3), EPOCHS)
    play(campaign, rows)
    assert campaign.blocks("tuned")[1].failure == "valid/joint_nll is not finite"
    campaign.retry()
    assert [segment.seed for segment in play(campaign, rows)] == [1001]
    block = campaign.blocks("tuned")[1]
    assert (block.state, block.failure) == ("full", None)
    assert {len(curve["valid/joint_nll"]) for curve in block.curves.values()} == {EPOCHS}


def test_a_member_that_a_copy_has_replaced_is_not_tried_again(methods, play):
    search = settings("random", "pbt", budget={"trials": 8}, options={"population": 4})
    campaign = Campaign(methods[:1], search, EPOCHS)
    play(campaign, fails=lambda segment: "out of luck" if segment.configuration.number == 2 else None)
    assert campaign.blocks("tuned")[2].state == "failed"
    assert campaign.retry() == 0


def test_a_search_of_which_everything_failed_can_be_tried_again(methods, play):
    for scheduler in ("none", "asha", "hyperband", "median", "pbt"):
        campaign = Campaign(methods[:1], settings("random", scheduler, trials=9), EPOCHS)
        play(campaign, fails=lambda _: "no disk")
        assert campaign.chosen() == {}
        assert campaign.retry() > 1
        play(campaign)
        assert campaign.blocks("tuned")[campaign.chosen()["tuned"].number].state == "full"


def test_a_block_that_was_paused_and_never_went_on_is_stopped_in_the_end(methods, play):
    for scheduler in ("asha", "hyperband"):
        campaign = Campaign(methods[:1], settings("random", scheduler, trials=9), EPOCHS)
        play(campaign, machines=1, most=6)
        blocks = campaign.blocks("tuned")
        assert "waiting" in {campaign.state(block) for block in blocks}
        play(campaign)
        assert {campaign.state(block) for block in campaign.blocks("tuned")} == {"full", "stopped"}
