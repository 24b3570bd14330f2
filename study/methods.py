"""What a search tunes: the methods of a definition, each with its hyperparameters, and back from values to arms."""

from collections.abc import Mapping, Sequence
from typing import Any

from strategies import StrategyError, registry, simplex_grid
from strategies.options import describe_options, option_names
from study.definition import Arm, ArmNetwork, Definition, GridArms, Training
from study.errors import DefinitionError
from study.search.assembly import Declared, method_spaces
from study.search.campaign import Method
from study.search.settings import Search
from study.search.space import Choice, Space, Values
from trainables import networks

STATIC_GRID = "static_grid"
"""Name of the method that all points of the static grid are together."""
WEIGHTS = "strategy.weights"
"""What the static grid tunes beside the learning rate."""
_NOT_SEARCHED = ("epochs", "diagnose_every", "precision")
"""Training settings that are not searched: the budget, a diagnosis, the machine's."""


def entries(definition: Definition, num_tasks: int) -> dict[str, Arm]:
    """Return method -> its arm before anything is tuned: the static grid is one method, at its most equal point.

    Raises:
        DefinitionError: two methods have one name.
    """
    found: dict[str, Arm] = {}
    wanted = [_grid_entry(arm, num_tasks) if isinstance(arm, GridArms) else arm for arm in definition.arms]
    if definition.control == "equal" and not any(_name(arm) == "equal" for arm in wanted):
        wanted.append(Arm(strategy="equal"))
    for arm in wanted:
        if _name(arm) in found:
            raise DefinitionError(
                f"arms: '{_name(arm)}' is there twice: give one of them a name of its own (name: ...)"
            )
        found[_name(arm)] = arm
    return found


def _name(arm: Arm) -> str:
    return arm.name or arm.strategy


def _grid_entry(entry: GridArms, num_tasks: int) -> Arm:
    most_equal = min(grid_points(entry, num_tasks), key=lambda point: max(map(float, point)))
    return Arm(strategy="static", name=STATIC_GRID, options={"weights": list(most_equal)})


def grid_points(entry: GridArms, num_tasks: int) -> list[tuple[str, ...]]:
    """Return the weights of every arm of a static grid, as they are written.

    Raises:
        DefinitionError: the step does not divide 1, or makes too many.
    """
    try:
        return [tuple(map(str, point)) for point in simplex_grid(num_tasks, entry.grid.step)]
    except StrategyError as refusal:
        raise DefinitionError(f"arms: grid: {refusal}") from None


def methods(definition: Definition, num_tasks: int) -> list[Method]:
    """Return the methods that a definition searches, each with its space and the values it has without a search.

    Raises:
        DefinitionError: a hyperparameter that nobody has, or a method that is not there.
    """
    arms = {name: arm for name, arm in entries(definition, num_tasks).items() if arm.tuned}
    grids = dict.fromkeys([STATIC_GRID], next((arm for arm in definition.arms if isinstance(arm, GridArms)), None))
    _refuse_settings_of_all(definition.search or Search())
    declared = {name: _declared(arm, grids.get(name), num_tasks) for name, arm in arms.items()}
    spaces = method_spaces(declared, definition.search or Search(), _shared(definition))
    return [Method(name, space, _defaults(definition, arms[name], space)) for name, space in spaces.items()]


def _refuse_settings_of_all(search: Search) -> None:
    for where, dimensions in [
        ("space", search.space),
        *((f"methods.{name}", own) for name, own in search.methods.items()),
    ]:
        for name in _NOT_SEARCHED:
            if f"training.{name}" in dimensions:
                raise DefinitionError(
                    f"search.{where}: training.{name} is the same for all that is compared, and cannot be searched"
                )


def _declared(arm: Arm, grid: GridArms | None, num_tasks: int) -> Declared:
    strategy = registry.load(arm.strategy)
    own = {} if grid is None else {WEIGHTS: Choice(tuple(list(point) for point in grid_points(grid, num_tasks)))}
    return Declared(strategy.tunable, option_names(strategy), tuple(arm.options), own)


def _shared(definition: Definition) -> list[str]:
    """Return the hyperparameters that any method has: settings of training, options of the network."""
    training = [f"training.{name}" for name in Training.model_fields if name not in _NOT_SEARCHED]
    options = option_names(networks.load(definition.network.name))
    return [*training, *(f"network.options.{name}" for name in options)]


def _defaults(definition: Definition, arm: Arm, space: Space) -> dict[str, Any]:
    """Return the values that an arm has without a search; nothing where one of them is not known."""
    training = definition.training.model_dump(mode="json") | arm.training
    network = definition.network.options | (arm.network.options if arm.network is not None else {})
    known = {f"training.{name}": value for name, value in training.items()}
    known |= _option_defaults("strategy.", registry.load(arm.strategy), arm.options)
    known |= _option_defaults("network.options.", networks.load(definition.network.name), network)
    values = {name: known[name] for name in space if known.get(name) is not None}
    return values if len(values) == len(space) else {}


def _option_defaults(prefix: str, target: type, given: Mapping[str, Any]) -> dict[str, Any]:
    options = {option.name: option.default for option in describe_options(target)}
    return {f"{prefix}{name}": value for name, value in (options | dict(given)).items()}


def configured(arm: Arm, values: Values) -> Arm:
    """Return an arm with values of its hyperparameters.

    >>> configured(Arm(strategy="gradnorm"), {"training.learning_rate": 0.01, "strategy.alpha": 0.5}).options
    {'alpha': 0.5}
    """
    training, options, network = (_part(values, part) for part in ("training.", "strategy.", "network.options."))
    own = arm.network
    if network:
        own = ArmNetwork(options=network) if own is None else own.model_copy(update={"options": own.options | network})
    changes = {"training": arm.training | training, "options": arm.options | options, "network": own}
    return Arm.model_validate(arm.model_copy(update=changes).model_dump())


def _part(values: Values, prefix: str) -> dict[str, Any]:
    return {name.removeprefix(prefix): value for name, value in values.items() if name.startswith(prefix)}


def change(values: Values, epoch: int) -> dict[str, Any]:
    """Return values that hold once ``epoch`` epochs are done, see ``TrialSpecification.changes``."""
    return {"epoch": epoch, "training": _part(values, "training."), "options": _part(values, "strategy.")}


def corners(space: Space) -> Sequence[dict[str, Any]]:
    """Return points that touch both ends of every range and every choice, the other values as in the first point.

    >>> from study.search.space import Interval
    >>> space = Space({"training.batch_size": Choice((8, 16, 32)), "strategy.alpha": Interval(0, 3)})
    >>> [list(point.values()) for point in corners(space)]
    [[8, 0.0], [16, 0.0], [32, 0.0], [8, 3.0]]
    """
    axes = {name: dimension.grid(2) for name, dimension in space.dimensions.items()}
    first = {name: axis[0] for name, axis in axes.items()}
    return [first, *({**first, name: value} for name, axis in axes.items() for value in axis[1:])]
