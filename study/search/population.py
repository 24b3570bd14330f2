"""Schedulers that change hyperparameters during training: PBT and PB2."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from study.errors import DefinitionError
from study.search.bandit import Bandit
from study.search.schedulers import Proposal, Scheduler
from study.search.searchers import generator
from study.search.segments import Block, Method, Parent
from study.search.settings import Search
from study.search.space import Interval

FACTORS = (0.8, 1.2)
"""What a perturbed number is multiplied by: Jaderberg et al. 2017, section 4.1.1."""

_RESAMPLE_CHOICES = 0.25
"""How often PB2 draws a choice anew: that of PBT."""


class Population(Scheduler):
    """Train a population in step; after every interval the worst blocks go on from copies of the best, perturbed.

    A block that copies another one becomes a new configuration, whose seeds begin from the other's checkpoints of
    the same seeds. The result is a schedule of hyperparameters over the epochs rather than a value.

    Args:
        method: whose hyperparameters are changed.
        settings: the section ``search``.
        epochs: of a whole training.
        blocks: those of the method.

    Raises:
        DefinitionError: a population that the budget does not fund, or of unknown size.

    Reference:
        Jaderberg et al., "Population based training of neural networks", 2017, sections 3 and 4.1.1 (truncation).
        https://arxiv.org/abs/1711.09846. To search task weights: Royer et al., NeurIPS 2023.
    """

    def __init__(self, method: Method, settings: Search, epochs: int, blocks: Sequence[Block]) -> None:
        super().__init__(epochs, blocks)
        self.method, self.settings = method, settings
        self.interval: int = settings.option("interval")
        self._size = population_size(settings, epochs)
        self._members: list[Block] = []
        self._planned: list[tuple[int, Proposal]] = []
        self._epoch = 0

    def proposals(self) -> Iterator[Proposal]:
        """Return the first members, then what the next generation still lacks."""
        if len(self._members) < self._size:
            yield Proposal(min(self.interval, self.epochs))
            return
        if not self._planned and all(block.state != "running" for block in self._members):
            self._planned = self._next_generation()
        yield from (proposal for _, proposal in self._planned[:1])

    def started(self, proposal: Proposal, block: Block) -> None:
        """Note who is now a member."""
        super().started(proposal, block)
        if proposal.is_trial:
            self._members.append(block)
        else:
            place, _ = self._planned.pop(0)
            self._members[place] = block

    def absorbed(self, block: Block) -> None:
        """Pause the block until its generation is there."""
        super().absorbed(block)
        if block.state == "running":
            block.state = "waiting"

    def may_retry(self, block: Block) -> bool:
        """Whether no copy of a better block has taken its place."""
        return not self._planned and any(member is block for member in self._members)

    def _next_generation(self) -> list[tuple[int, Proposal]]:
        """Return what each member does next: go on, or go on from another's checkpoint."""
        alive = [block for block in self._members if block.state == "waiting"]
        if not alive:
            return []
        epoch = max(block.epochs for block in alive)
        until = min(self.epochs, epoch + self.interval)
        ranked = sorted(alive, key=lambda block: (block.latest(epoch), block.number))
        count = max(1, int(self._size * self.settings.option("quantile")))
        failed = self._size - len(alive)
        copying = {block.number for block in ranked[max(1, len(ranked) - max(0, count - failed)) :]}
        self.observe(epoch)
        plan: list[tuple[int, Proposal]] = []
        for place, block in enumerate(self._members):
            if block.state == "failed" or block.number in copying:
                random = generator(self.settings.seed, self.method.name, "population", place, epoch)
                donor = ranked[: min(count, max(1, len(ranked) - len(copying)))]
                chosen = donor[int(random.integers(len(donor)))]
                values = self.explore(chosen, epoch, random)
                plan.append((place, Proposal(until, values=values, parent=Parent(chosen.number, epoch))))
            else:
                plan.append((place, Proposal(until, block.number)))
        return plan

    def observe(self, epoch: int) -> None:
        """Take notice of a generation that has reached ``epoch``."""

    def explore(self, donor: Block, epoch: int, random: np.random.Generator) -> dict[str, Any]:  # noqa: ARG002
        """Return the donor's values, each of them perturbed or drawn anew."""
        return {
            name: self.perturbed(donor, name, random, self.settings.option("resample")) for name in self.method.space
        }

    def perturbed(self, donor: Block, name: str, random: np.random.Generator, resample: float) -> Any:  # noqa: ANN401
        """Return one value of the donor perturbed, or drawn anew with the probability ``resample``."""
        dimension, value = self.method.space.dimensions[name], donor.configuration.values[name]
        factor, anew, unit = FACTORS[int(random.integers(2))], random.random(), random.random()
        if anew < resample or value not in dimension:
            return dimension.at(unit)
        return dimension.neighbour(value, factor)


class BanditPopulation(Population):
    """As ``Population``, but numbers are chosen by a Gaussian process over time that predicts the gain of an interval.

    Choices are perturbed as there.

    Reference:
        Parker-Holder et al., "Provably efficient online hyperparameter optimization with population-based bandits",
        NeurIPS 2020, algorithm 1. https://arxiv.org/abs/2002.02518
    """

    def __init__(self, method: Method, settings: Search, epochs: int, blocks: Sequence[Block]) -> None:
        super().__init__(method, settings, epochs, blocks)
        self._numbers = [name for name, dimension in method.space.dimensions.items() if isinstance(dimension, Interval)]
        self._seen: list[tuple[float, list[float], float]] = []
        self._pending: list[list[float]] = []
        self._bandit: Bandit | None = None

    def observe(self, epoch: int) -> None:
        """Note how much each member gained in the last interval."""
        before = epoch - self.interval
        self._pending = []
        for block in self._members:
            if block.state == "waiting" and before > 0 and self.method.space.holds(block.configuration.values):
                gain = block.latest(before) - block.latest(epoch)
                if not math.isfinite(gain):
                    continue
                self._seen.append((epoch / self.interval, self._units(block), gain))

        self._bandit = Bandit(self._seen) if len(self._seen) > 1 and self._numbers else None

    def explore(self, donor: Block, epoch: int, random: np.random.Generator) -> dict[str, Any]:
        """Return numbers from the bandit, perturbed ones while there are too few gains, and perturbed choices."""
        space = self.method.space
        values = {name: self.perturbed(donor, name, random, _RESAMPLE_CHOICES) for name in space}
        if self._bandit is not None:
            units = self._bandit.suggest(epoch / self.interval + 1, self._pending, random)
            self._pending.append(units)
            values |= {name: space.dimensions[name].at(unit) for name, unit in zip(self._numbers, units, strict=True)}
        return values

    def _units(self, block: Block) -> list[float]:
        return [self.method.space.dimensions[name].unit(block.configuration.values[name]) for name in self._numbers]


def population_size(settings: Search, epochs: int) -> int:
    """Return the number of members that are trained side by side.

    Raises:
        DefinitionError: the budget does not fund it, or does not say how many.
    """
    budget, asked = settings.budget, settings.option("population")
    funded = [budget.trials] if budget.trials is not None else []
    if budget.epochs is not None:
        funded.append(budget.epochs // (epochs * settings.seeds))
    most = min(funded, default=None)
    if asked is None and most is None:
        raise DefinitionError(
            f"search.options.population is missing: scheduler {settings.scheduler} cannot tell it from hours"
        )
    size = int(asked or most or 0)
    if most is not None and size > most:
        raise DefinitionError(
            f"search.options.population is {size}, but search.budget funds {most}: use at most {most}, or raise it"
        )
    if size < 2:
        raise DefinitionError(
            f"search.budget: scheduler {settings.scheduler} needs a population of at least 2, and the budget funds "
            f"{size}: raise it, or use another scheduler"
        )
    return size
