"""Random numbers of a strategy: a function of seed and step alone, and nobody else's."""

import numpy as np
import pytest
import torch

from strategies.draws import Draws


def draws(seed, step):
    made = Draws()
    made.seed, made.step = seed, step
    return made


def numbers(made):
    return [*torch.rand(4, generator=made.torch()).tolist(), *made.numpy().random(4).tolist()]


def test_numbers_are_the_same_however_often_a_step_asks():
    made = draws(3, 7)
    assert numbers(made) == numbers(made) == numbers(draws(3, 7))


def test_every_seed_and_step_has_numbers_of_its_own():
    for kind in (lambda made: torch.rand(1, generator=made.torch()).item(), lambda made: made.numpy().random()):
        found = {kind(draws(seed, step)) for seed in range(20) for step in range(50)}
        assert len(found) > 990  # a float32 may come twice


def test_following_steps_are_not_correlated():
    made, values = Draws(), []
    for _ in range(2000):
        values.append(torch.randn((), generator=made.torch()).item())
        made.advance()
    assert abs(np.corrcoef(values[:-1], values[1:])[0, 1]) < 0.08
    assert np.mean(values) == pytest.approx(0, abs=0.08)
    assert np.std(values) == pytest.approx(1, abs=0.06)


def test_the_global_generators_are_left_alone():
    of_torch, of_numpy = torch.get_rng_state(), np.random.get_state()[1].copy()
    numbers(draws(0, 0))
    assert torch.equal(torch.get_rng_state(), of_torch)
    assert np.array_equal(np.random.get_state()[1], of_numpy)


def test_seed_and_step_come_back_from_a_checkpoint():
    fresh = Draws()
    fresh.load_state_dict(draws(5, 9).state_dict())
    assert numbers(fresh) == numbers(draws(5, 9))
    fresh.advance()
    assert numbers(fresh) == numbers(draws(5, 10))
