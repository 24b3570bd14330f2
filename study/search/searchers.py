"""Which values are tried next, without a model: grids, draws and low-discrepancy sequences."""

import zlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from study.errors import DefinitionError
from study.search.segments import Method
from study.search.settings import Search
from study.search.space import Space, Values

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Searcher(Protocol):
    """Suggests configurations; what it suggests follows from its settings and the calls before, and nothing else."""

    origin: str
    """Where its latest suggestion came from, see ``Configuration``."""

    def ask(self, number: int, given: Values | None = None) -> dict[str, Any] | None:
        """Return the values of configuration ``number``; None when there are no more.

        Args:
            number: of the configuration.
            given: values that were decided elsewhere: they are returned, and known from then on.
        """
        ...

    def tell(self, number: int, losses: Sequence[float] | None, epoch: int, complete: bool) -> None:
        """Take notice of a result, which may replace an earlier one of the same configuration.

        Args:
            number: of the configuration.
            losses: the objectives, smaller is better; None for a failure.
            epoch: epochs done.
            complete: whether those are all.
        """
        ...


class Grid:
    """Every point of a grid, in order.

    Args:
        points: the grid.
    """

    origin = "grid"

    def __init__(self, points: Sequence[Values]) -> None:
        self._points = points

    def ask(self, number: int, given: Values | None = None) -> dict[str, Any] | None:
        """Return the next point."""
        if given is not None:
            return dict(given)
        return dict(self._points[number]) if number < len(self._points) else None

    def tell(self, number: int, losses: Sequence[float] | None, epoch: int, complete: bool) -> None:
        """Do nothing: a grid does not look at results."""


class Random:
    """Independent draws.

    Each hyperparameter has draws of its own, which depend on its name and not on the method: configuration 7 of every
    method has the same learning rate, so that methods differ less by luck.

    Args:
        space: where to draw from.
        seed: of the draws.

    Reference:
        Bergstra and Bengio, "Random search for hyper-parameter optimization", JMLR 13, 2012.
    """

    origin = "random"

    def __init__(self, space: Space, seed: int) -> None:
        self._space, self._seed = space, seed

    def ask(self, number: int, given: Values | None = None) -> dict[str, Any] | None:
        """Return a draw."""
        if given is not None:
            return dict(given)
        return self._space.at([generator(self._seed, name, number).random() for name in self._space])

    def tell(self, number: int, losses: Sequence[float] | None, epoch: int, complete: bool) -> None:
        """Do nothing: draws do not look at results."""


class LowDiscrepancy:
    """Scrambled Sobol' points, which cover a space more evenly than draws (quasi-Monte Carlo).

    SciPy's sequence, which is also what Optuna's ``QMCSampler`` uses; that one takes its first point at random, because
    it does not know the space before.

    Args:
        space: what to cover.
        seed: of the scrambling.

    Reference:
        Sobol', "On the distribution of points in a cube and the approximate evaluation of integrals", 1967; scrambling
        by Matousek, J. Complexity 14 (1998), 527-556.
    """

    origin = "random"

    def __init__(self, space: Space, seed: int) -> None:
        self._space, self._seed = space, seed
        self._points: NDArray[np.float64] = np.empty((0, len(space)))

    def ask(self, number: int, given: Values | None = None) -> dict[str, Any] | None:
        """Return the point of that number."""
        from scipy.stats import qmc

        if given is not None:
            return dict(given)
        if number >= len(self._points):  # made anew in powers of two, which is what the sequence is balanced for
            sequence = qmc.Sobol(len(self._space), scramble=True, rng=generator(self._seed, *self._space))
            self._points = sequence.random_base2(max(4, number.bit_length()))
        return self._space.at(self._points[number])

    def tell(self, number: int, losses: Sequence[float] | None, epoch: int, complete: bool) -> None:
        """Do nothing: the sequence does not look at results."""


def generator(seed: int, *names: object) -> np.random.Generator:
    """Return a generator that depends on a seed and on what it is for, and on nothing drawn before."""
    return np.random.default_rng([seed, zlib.crc32("/".join(map(str, names)).encode())])


def _grid(method: Method, settings: Search) -> list[dict[str, Any]]:
    try:
        return method.space.grid(settings.budget.trials)
    except DefinitionError as refusal:
        raise DefinitionError(f"search.searcher grid: method '{method.name}': {refusal}") from None


def make_searcher(method: Method, settings: Search) -> Searcher:
    """Return the searcher that a definition asks for.

    Raises:
        DefinitionError: it cannot search this method's space.
    """
    if settings.searcher == "grid":
        return Grid(_grid(method, settings))
    if settings.searcher == "random":
        return Random(method.space, settings.seed)
    if settings.searcher == "qmc":
        return LowDiscrepancy(method.space, settings.seed)
    from study.search.bayesian import OptunaSearcher

    return OptunaSearcher(method, settings)
