"""The arms of a study: what its definition names, made into things that can be trained and compared."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from strategies import Strategy, StrategyError
from strategies.errors import unknown
from study import definition as definitions
from study import methods
from study.definition import GRID_FAMILY, Definition, GridArms
from study.errors import DefinitionError
from study.search.campaign import Stage
from trainables import networks
from trainables.corpora import Corpus
from trainables.session import build_strategy
from trainables.tasks import Task


@dataclass(frozen=True)
class Arm:
    """One thing compared.

    Attributes:
        arm: unique name, also in file names.
        label: what a person reads.
        strategy: name of the strategy.
        options: of the strategy.
        family: the method it counts as; all points of the static grid are one method.
        static_weights: its weights if they never change, else None.
        may_be_clock: whether its strategy says that its weights may follow the number of steps; the diagnosis of a
            study then measures how well that fits.
        network: settings of its own network, modalities decided; None for that of the study.
        training: settings of training that are its own.
        changes: values that hold later in training, see ``TrialSpecification.changes``.
        role: what it is there for, see ``study.analysis.results.Results``; empty for an arm compared for its own sake.
        of: the arm it is made of, or the task it trains alone.
        loss_scales: task -> factor of its loss in training.
    """

    arm: str
    label: str
    strategy: str
    options: dict[str, Any]
    family: str
    static_weights: tuple[float, ...] | None
    may_be_clock: bool = False
    network: dict[str, Any] | None = None
    training: dict[str, Any] = field(default_factory=dict)
    changes: tuple[dict[str, Any], ...] = ()
    role: str = ""
    of: str = ""
    loss_scales: dict[str, float] = field(default_factory=dict)


def compared_arms(definition: Definition, tasks: Sequence[Task], corpus: Corpus) -> tuple[Arm, ...]:
    """Return the arms that a definition names, and the control where it is equal weights and nobody named them.

    Raises:
        DefinitionError: one of them cannot be built.
    """
    arms: list[Arm] = []
    for entry in definition.arms:
        if isinstance(entry, GridArms):
            arms += _grid_arms(entry, len(tasks))
        else:
            arms.append(single_arm(entry, tasks, own_network(definition, entry, corpus)))
    seen = {arm.arm for arm in distinct(arms)}
    if definition.control == "equal" and not any(map(_is_equal, arms)) and "equal" not in seen:
        arms.append(single_arm(definitions.Arm(strategy="equal"), tasks))  # with three tasks no grid of tenths has it
    return tuple(arms)


def tuned_arms(
    definition: Definition, tasks: Sequence[Task], corpus: Corpus, chosen: Mapping[str, Sequence[Stage]]
) -> tuple[Arm, ...]:
    """Return one arm for each method, with what a search has chosen for it."""
    arms = []
    for name, entry in methods.entries(definition, len(tasks)).items():
        stages = chosen.get(name, ())
        first = methods.configured(entry, stages[0].values) if stages else entry
        changes = tuple(methods.change(stage.values, stage.first) for stage in stages[1:])
        arm = replace(single_arm(first, tasks, own_network(definition, first, corpus)), family=name, changes=changes)
        if name == methods.STATIC_GRID:
            arm = replace(arm, label=f"static grid {'/'.join(map(str, arm.options['weights']))}")
        arms.append(arm)
    return tuple(arms)


def single_arm(entry: definitions.Arm, tasks: Sequence[Task], network: dict[str, Any] | None = None) -> Arm:
    """Return what one entry of a definition means, on a network of its own if it has one.

    Raises:
        DefinitionError: its strategy cannot be built.
    """
    name = entry.name or entry.strategy
    try:
        strategy = build_strategy({"name": entry.strategy, "options": entry.options}, tasks, seed=0)
    except StrategyError as refusal:
        raise DefinitionError(f"arms: {refusal}") from None
    fixed = _fixed_weights(strategy) if strategy.is_static else None
    family = GRID_FAMILY if fixed and network is None and not entry.training else name
    options, training = dict(entry.options), dict(entry.training)
    return Arm(name, name, entry.strategy, options, family, fixed, strategy.may_be_clock, network, training)


def own_network(definition: Definition, entry: definitions.Arm, corpus: Corpus) -> dict[str, Any] | None:
    """Return the settings of an arm's own network; None if it has none.

    Raises:
        DefinitionError: it reads what the corpus or the network has not, or wants to be fed otherwise than the study's.
    """
    own, base = entry.network, definition.network
    if own is None:
        return None
    inherited = base if own.name in (None, base.name) else definitions.Network(name=str(own.name), preset=base.preset)
    changes = {name: value for name, value in own.model_dump().items() if value is not None}
    chosen = inherited.model_copy(update=changes | {"options": inherited.options | own.options})
    where = f"arms: {entry.name or entry.strategy}: network"
    modalities = modalities_of(chosen, corpus, where)
    wanted, fed = (networks.input_settings(each.name, each.preset, each.options) for each in (chosen, base))
    if wanted != fed:
        raise DefinitionError(f"{where} wants its input as {wanted}, but that of the study as {fed}: these must agree")
    return chosen.model_dump(mode="json") | {"modalities": list(modalities)}


def modalities_of(network: definitions.Network, corpus: Corpus, where: str) -> tuple[str, ...]:
    """Return what a network will be fed of a corpus, in the order of the network.

    Raises:
        DefinitionError: the corpus lacks what the network needs or the definition (at ``where``) asks for.
    """
    possible = networks.modalities(network.name)
    has = ", ".join(corpus.modalities)
    for modality in networks.load(network.name).needs:
        if modality not in corpus.modalities:
            needs = f"network '{network.name}' needs {modality}"
            raise DefinitionError(f"{needs}, but corpus '{corpus.name}' has none (it has: {has})")
    if network.modalities is None:
        return tuple(modality for modality in possible if modality in corpus.modalities)
    for modality in network.modalities:
        if modality not in possible:
            raise DefinitionError(
                f"{where}.modalities: {unknown(f'modality of network {network.name}', modality, possible)}"
            )
        if modality not in corpus.modalities:
            raise DefinitionError(f"{where}.modalities: corpus '{corpus.name}' has no {modality} (it has: {has})")
    return network.modalities


def _grid_arms(entry: GridArms, num_tasks: int) -> list[Arm]:
    return [
        Arm(
            arm="-".join(["static", *point]),
            label=f"static {'/'.join(point)}",
            strategy="static",
            options={"weights": list(point)},
            family=GRID_FAMILY,
            static_weights=tuple(map(float, point)),
        )
        for point in methods.grid_points(entry, num_tasks)
    ]


def _fixed_weights(strategy: Strategy) -> tuple[float, ...]:
    """Return the weights of a static strategy, without the digits that float32 makes up."""
    import torch

    return tuple(round(weight, 6) for weight in strategy.weights(torch.ones(strategy.num_tasks)).tolist())


def control_arm(wanted: str, arms: Sequence[Arm]) -> str:
    """Return the arm called ``wanted``; ``equal`` also finds a static arm whose weights are all the same."""
    names = [arm.arm for arm in arms]
    if wanted in names:
        return wanted
    if wanted == "equal":
        for arm in arms:
            if _is_equal(arm):
                return arm.arm
    raise DefinitionError(f"control: {unknown('arm', wanted, names)}")


def distinct(arms: Sequence[Arm]) -> tuple[Arm, ...]:
    """Return the arms, all of different names.

    Raises:
        DefinitionError: two have the same.
    """
    seen: set[str] = set()
    for arm in arms:
        if arm.arm in seen:
            raise DefinitionError(f"arms: '{arm.arm}' is there twice: give one of them a name of its own (name: ...)")
        seen.add(arm.arm)
    return tuple(arms)


def _is_equal(arm: Arm) -> bool:
    return arm.static_weights is not None and len(set(arm.static_weights)) == 1
