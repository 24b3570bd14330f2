"""The table of methods that are the same: what is declared is so, both ways, and nothing is missing at T = 2."""

import itertools

import pytest
import torch

import strategies
from strategies.toys import linear_steps

NAMES = [name for name in strategies.names() if name != "torchjd"]  # it is whatever aggregator it is given
DECLARED = [(name, other, when) for name in NAMES for other, when in strategies.load(name).coincides.items()]
BALANCING = [name for name in NAMES if strategies.load(name).kind != "loss"]


def directions(name, num_tasks, seed, steps):
    """Return the first steps of a method, ``(steps, 8)``, for random gradients of different length."""
    generator = torch.Generator().manual_seed(seed)
    lengths = 10 ** torch.rand(steps, num_tasks, 1, generator=generator)
    rows = torch.randn(steps, num_tasks, 8, generator=generator)
    gradients = lengths * (rows - 0.7 * rows.mean(dim=1, keepdim=True))  # in part opposed
    losses = 0.5 + 2 * torch.rand(steps, num_tasks, generator=generator)
    strategy = strategies.create(name, num_tasks, **strategies.load(name).example_options(num_tasks))
    # two examples, so that a method that samples has one for each half
    found = linear_steps(strategy, list(gradients), list(losses), num_examples=2)
    return torch.stack([each.direction for each in found])


def cosines(name, other, num_tasks, seed, steps=1):
    """Return the cosine of the two methods' directions at each step."""
    pair = [directions(each, num_tasks, seed, steps).double() for each in (name, other)]
    return torch.cosine_similarity(*pair, dim=1)


def test_there_is_something_to_prove():
    assert ("imtl_g", "config", "any T, in direction") in DECLARED
    assert ("pcgrad", "upgrad", "T=2, twice as long") in DECLARED


@pytest.mark.parametrize(("name", "other", "when"), DECLARED)
def test_methods_declared_to_coincide_take_the_same_direction(name, other, when):
    for num_tasks, seed in itertools.product((2, 3, 5) if when.startswith("any T") else (2,), range(5)):
        assert cosines(name, other, num_tasks, seed) > 1 - 1e-5, f"T={num_tasks}, seed {seed}"


@pytest.mark.parametrize(("name", "other", "when"), DECLARED)
def test_the_other_method_says_the_same(name, other, when):
    back = strategies.load(other).coincides.get(name, "")
    assert back.startswith("any T" if when.startswith("any T") else "T=2")


@pytest.mark.parametrize(("name", "other"), [(name, other) for name, other, when in DECLARED if when[:3] == "T=2"])
def test_what_coincides_for_two_tasks_only_differs_for_three(name, other):
    assert any(cosines(name, other, 3, seed) < 0.9999 for seed in range(10))


def test_what_is_declared_is_transitive_for_two_tasks():
    declared = {(name, other) for name, other, _ in DECLARED}
    for (one, two), (again, three) in itertools.product(declared, declared):
        if two == again and one != three:
            assert (one, three) in declared, f"{one} = {two} = {three}"


def test_no_other_two_gradient_methods_are_the_same_for_two_tasks():
    declared = {frozenset((name, other)) for name, other, _ in DECLARED}
    # 12 steps, since some start alike and part later, as gradvac from pcgrad and db_mtl from config
    found = {name: directions(name, 2, 0, 12).double() for name in BALANCING}
    for one, other in itertools.combinations(BALANCING, 2):
        if frozenset((one, other)) not in declared:
            lowest = torch.cosine_similarity(found[one], found[other], dim=1).min()
            assert lowest < 0.9999, f"{one} and {other} take the same steps: declare it in 'coincides'"


@pytest.mark.parametrize("seed", range(5))
def test_half_of_pcgrad_is_upgrad_for_two_tasks(seed):
    torch.testing.assert_close(
        directions("upgrad", 2, seed, 4) * 2, directions("pcgrad", 2, seed, 4), rtol=1e-4, atol=1e-4
    )
