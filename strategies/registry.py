"""The strategies by name: what exists, what each is, and how to build one."""

import inspect
from dataclasses import dataclass
from typing import Any

from strategies.base import Claim, Strategy, StrategyKind
from strategies.errors import StrategyError
from strategies.options import OptionDescription, check_options, describe_options, missing_options, option_names
from strategies.plugins import Registry

__all__ = [
    "GROUP",
    "REGISTRY",
    "OptionDescription",
    "Registry",
    "StrategyDescription",
    "catalogue",
    "check_options",
    "create",
    "describe",
    "load",
    "names",
    "option_names",
]

GROUP = "study.strategies"


@dataclass(frozen=True)
class StrategyDescription:
    """What a person wants to know of a strategy before using it.

    Attributes:
        name: the name it is registered under.
        summary: one line.
        reference: the paper, with equation and url.
        year: of the paper, or None.
        kind: what it looks at: ``loss``, ``gradient norm`` or ``gradient``.
        passes: what a step costs over the forward pass, in words.
        weight_scale: what the weights sum to, or what else fixes their scale.
        coincides: another registered strategy -> when the two are the same method.
        claims: invariances that the conformance kit proves for it.
        text: the whole docstring of the class: formula, notes, defaults and their sources.
        options: its options, in the order of the constructor.
        module: where its class is defined.
        distribution: the installed distribution that registers it.
    """

    name: str
    summary: str
    reference: str
    year: int | None
    kind: StrategyKind
    passes: str
    weight_scale: str
    coincides: dict[str, str]
    claims: tuple[Claim, ...]
    text: str
    options: tuple[OptionDescription, ...]
    module: str
    distribution: str


REGISTRY = Registry(
    "strategy",
    GROUP,
    {
        "static": "strategies.static:StaticWeighting",
        "equal": "strategies.static:EqualWeighting",
        "single_task": "strategies.static:SingleTaskWeighting",
        "frozen": "strategies.frozen:FrozenWeighting",
        "rlw": "strategies.rlw:RandomWeighting",
        "softmax": "strategies.softmax:SoftmaxWeighting",
        "uncertainty": "strategies.uncertainty:UncertaintyWeighting",
        "uncertainty_plus": "strategies.uncertainty_plus:RevisedUncertaintyWeighting",
        "uncertainty_so": "strategies.uncertainty_so:SoftOptimalUncertaintyWeighting",
        "dwa": "strategies.dwa:DynamicWeightAverage",
        "gls": "strategies.gls:GeometricLoss",
        "log": "strategies.log:LogWeighting",
        "imtl_l": "strategies.imtl_l:LossBalance",
        "stch": "strategies.stch:SmoothTchebycheff",
        "famo": "strategies.famo:Famo",
        "gradnorm": "strategies.gradnorm:GradNorm",
        "mgda": "strategies.mgda:MultipleGradientDescent",
        "pcgrad": "strategies.pcgrad:ProjectConflictingGradients",
        "gradvac": "strategies.gradvac:GradientVaccine",
        "graddrop": "strategies.graddrop:GradientSignDropout",
        "cagrad": "strategies.cagrad:ConflictAverse",
        "imtl_g": "strategies.imtl_g:GradientBalance",
        "imtl": "strategies.imtl:ImpartialLearning",
        "nash_mtl": "strategies.nash_mtl:NashBargaining",
        "fairgrad": "strategies.fairgrad:FairResourceAllocation",
        "aligned_mtl": "strategies.aligned_mtl:AlignedGradients",
        "upgrad": "strategies.upgrad:UnconflictingProjection",
        "dualproj": "strategies.dualproj:DualProjection",
        "config": "strategies.config:ConflictFree",
        "sdmgrad": "strategies.sdmgrad:DirectionOriented",
        "modo": "strategies.modo:DoubleSampledDescent",
        "db_mtl": "strategies.db_mtl:DualBalancing",
        "moco": "strategies.moco:GradientCorrection",
        "excess_mtl": "strategies.excess_mtl:ExcessRisk",
        "torchjd": "strategies.torchjd:TorchJDAggregation",
    },
    Strategy,
    StrategyError,
)


def names() -> list[str]:
    """Return the names of all strategies, the project's own first."""
    return REGISTRY.names()


def load(name: str) -> type[Strategy]:
    """Return the class of the strategy called ``name``.

    Raises:
        StrategyError: unknown name, broken plug-in, or an entry that is no strategy.
    """
    return REGISTRY.load(name)


def create(name: str, num_tasks: int, **options: Any) -> Strategy:  # noqa: ANN401  (options are the strategy's own)
    """Build the strategy called ``name`` for ``num_tasks`` tasks.

    >>> create("static", 2, weights=[0.3, 0.7]).describe_options()
    {'weights': [0.3, 0.7]}

    Raises:
        StrategyError: unknown strategy or option, or a value that the strategy refuses.
    """
    strategy = load(name)
    check_options(f"strategy '{name}'", strategy, options, StrategyError)
    if missing := missing_options(strategy, options):
        raise StrategyError(f"strategy '{name}' needs the option '{missing[0]}'")
    try:
        return strategy(num_tasks, **options)
    except StrategyError as refusal:
        raise StrategyError(f"strategy '{name}': {refusal}") from None
    except (TypeError, ValueError) as mismatch:
        raise StrategyError(f"strategy '{name}': {mismatch}") from mismatch


def describe(name: str) -> StrategyDescription:
    """Return what there is to know of the strategy called ``name``.

    >>> [(option.name, option.default) for option in describe("gradnorm").options]
    [('alpha', 1.5), ('initial_loss', 'first'), ('learning_rate', 0.025)]

    Raises:
        StrategyError: unknown name, broken plug-in, or an entry that is no strategy or declares itself wrongly.
    """
    strategy = load(name)
    try:
        return _description(name, strategy)
    except (AttributeError, TypeError, ValueError) as mismatch:
        reason = " ".join(f"{type(mismatch).__name__}: {mismatch}".split())
        raise StrategyError(f"strategy '{name}' cannot be described: {reason}") from mismatch


def catalogue() -> tuple[list[StrategyDescription], list[str]]:
    """Return every strategy that can be used, and one line for each that is broken or whose name clashes."""
    found, problems = [], list(REGISTRY.clashes().values())
    for name in names():
        try:
            found.append(describe(name))
        except StrategyError as problem:
            problems.append(str(problem))
    return found, problems


def _description(name: str, strategy: type[Strategy]) -> StrategyDescription:
    text = inspect.getdoc(strategy) or ""
    return StrategyDescription(
        name=name,
        summary=strategy.summary or text.partition("\n")[0],
        reference=strategy.reference,
        year=strategy.year,
        kind=strategy.kind,
        passes=strategy.passes,
        weight_scale=strategy.weight_scale,
        coincides=dict(strategy.coincides),
        claims=tuple(sorted(strategy.claims)),
        text=text,
        options=tuple(describe_options(strategy)),
        module=strategy.__module__,
        distribution=REGISTRY.distribution(name),
    )
