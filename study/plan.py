"""From a definition to arms, seeds and trials: what would run, checked before anything runs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

import pandas as pd
from pydantic import ValidationError

from strategies import Strategy, StrategyError
from strategies.errors import UserError, unknown
from study import definition as definitions
from study import methods, waves
from study.analysis.delta import SINGLE_TASK
from study.analysis.effects import detectable
from study.analysis.statistics import ALPHA, seeds_needed, smallest_p
from study.definition import GRID_FAMILY, Definition, GridArms
from study.errors import DefinitionError
from study.search.campaign import Campaign, Method, Stage
from study.search.settings import Search
from trainables import networks
from trainables.corpora import Corpus, Split, check_protocol, is_replication, split_for_tasks
from trainables.corpora.base import check_texts
from trainables.corpora.folds import chosen_folds, count_folds, fold_splits
from trainables.session import TrialSpecification, build_network, build_strategy
from trainables.tasks import Task, metric_names


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


@dataclass(frozen=True)
class Plan:
    """Everything a study will do.

    Attributes:
        definition: what it was made from.
        arms: in the order of the definition, the grid from the last task's end to the first's.
        tasks: with the classes of the corpus.
        modalities: what the network will be fed.
        control: the arm that differences are taken against.
        folds: numbers of the folds that every arm and seed is trained on; None without folds, and for a study over all
            folds until ``with_table`` has counted them.
        methods: what is tuned before the arms are compared; empty without a search.
    """

    definition: Definition
    arms: tuple[Arm, ...]
    tasks: tuple[Task, ...]
    modalities: tuple[str, ...]
    control: str
    folds: tuple[int, ...] | None = None
    methods: tuple[Method, ...] = ()

    @property
    def is_folded(self) -> bool:
        """Whether it is a study over folds."""
        return self.definition.split.folds is not None

    @property
    def num_trials(self) -> int:
        """Number of trials: arms times seeds, times folds in a study over folds."""
        return len(self.arms) * len(self.definition.seeds) * len(self._folds())

    def with_table(self, table: pd.DataFrame) -> "Plan":
        """Return the same plan with the folds of a corpus.

        Raises:
            CorpusError: it has none, or not the ones that the definition asks for, or lacks all transcripts.
        """
        if "text" in self.modalities:
            check_texts(table, f"corpus '{self.definition.corpus.name}'")
        return replace(self, folds=_numbered_folds(self.definition.split, table))

    def splits(self, table: pd.DataFrame) -> list[Split]:
        """Return how the corpus is divided, once for each fold; checked to be trainable and scorable.

        Raises:
            CorpusError: the first thing that does not fit.
        """
        protocol, options = self.definition.split.protocol, self.definition.split.options
        if not self.is_folded:
            return [split_for_tasks(protocol, table, self.tasks, options)]
        return list(fold_splits(protocol, table, self.tasks, options, self.folds or ()).values())

    def _folds(self) -> tuple[int | None, ...]:
        if not self.is_folded:
            return (None,)
        if self.folds is None:
            raise DefinitionError("split.folds: how many folds there are depends on the corpus, which is not known yet")
        return self.folds

    def with_seeds(self, seeds: Sequence[int]) -> "Plan":
        """Return the same plan with more seeds, in order."""
        every = tuple(sorted({*seeds, *self.definition.seeds}))
        return replace(self, definition=self.definition.model_copy(update={"seeds": every}))

    def trials(self, store: str = "", checkpoints: str | None = None) -> list[TrialSpecification]:
        """Return every trial, seed by seed, so that an interrupted study has compared all arms on its first seeds.

        All arms of a fold follow each other, as they share its data.

        Args:
            store: path of the prepared corpus.
            checkpoints: folder of the checkpoints; None for a plan that only counts.
        """
        return [
            self.trial(arm, seed, fold, store, checkpoints)
            for seed in self.definition.seeds
            for fold in self._folds()
            for arm in self.arms
        ]

    def trial(self, arm: Arm, seed: int, fold: int | None, store: str, checkpoints: str | None) -> TrialSpecification:
        """Return one trial of ``trials``."""
        trial = f"{arm.arm}-seed{seed}" + ("" if fold is None else f"-fold{fold}")
        return TrialSpecification(
            trial=trial,
            arm=arm.arm,
            seed=seed,
            store=store,
            split=self._split(fold),
            network=self.network(arm),
            strategy={"name": arm.strategy, "options": arm.options},
            tasks=[task.as_dict() for task in self.tasks],
            training=self.definition.training.model_dump(mode="json") | arm.training,
            reference_weights=self.definition.reference,
            folder=None if checkpoints is None else f"{checkpoints}/{trial}",
            changes=arm.changes,
            loss_scales=arm.loss_scales,
            criterion={arm.of: 1.0} if arm.role == SINGLE_TASK else None,
        )

    def _split(self, fold: int | None) -> dict[str, Any]:
        split = self.definition.split.model_dump(mode="json", include={"protocol", "options"})
        return split if fold is None else {**split, "options": {**split["options"], "fold": fold}, "pooled": True}

    def network(self, arm: Arm | None = None) -> dict[str, Any]:
        """Return the settings of the study's network, or of an arm's, with the modalities decided."""
        if arm is not None and arm.network is not None:
            return arm.network
        return self.definition.network.model_dump(mode="json") | {"modalities": list(self.modalities)}


def make_plan(
    definition: Definition, corpus: Corpus, chosen: Mapping[str, Sequence[Stage]] = MappingProxyType({})
) -> Plan:
    """Return what a definition means for a corpus; every strategy and the network are built once to see that they can.

    Args:
        definition: what to plan.
        corpus: what it is studied on.
        chosen: method -> what a search has chosen for it; methods that are not named have their untuned values.

    Raises:
        UserError: the first thing that does not fit, in one line.
    """
    check_protocol(definition.split.protocol, definition.split.options)
    folds = _numbered_folds(definition.split)
    tasks = _tasks(definition, corpus)
    arms = _arms(definition, tasks, corpus) if definition.search is None else _tuned(definition, tasks, corpus, chosen)
    modalities = _modalities(definition.network, corpus, "network")
    control = _control(definition.control, arms)
    judging = waves.control_arms(definition.controls, tasks, arms, control)
    plan = Plan(definition, _distinct([*arms, *judging]), tasks, modalities, control, folds)
    _rehearse(plan)
    return plan if definition.search is None else replace(plan, methods=_rehearsed(plan, corpus))


def _numbered_folds(split: definitions.Split, table: pd.DataFrame | None = None) -> tuple[int, ...] | None:
    """Return the folds that a definition asks for; None for none, and for all of a corpus that is not known yet."""
    if split.folds is None:
        return None
    count = count_folds(split.protocol, table, split.options)
    if count is not None:
        return chosen_folds(split.folds, count)
    return None if split.folds == "all" else split.folds


def _tasks(definition: Definition, corpus: Corpus) -> tuple[Task, ...]:
    known = [*corpus.classes, *corpus.values, *corpus.multilabels]
    for name in definition.tasks:
        if name not in known:
            raise DefinitionError(f"tasks: {unknown(f'label of corpus {corpus.name}', name, known)}")
    return tuple(_task(name, corpus) for name in definition.tasks)


def _task(name: str, corpus: Corpus) -> Task:
    if name in corpus.values:
        return Task(name, kind="regression")
    if name in corpus.classes:
        return Task(name, tuple(corpus.classes[name]))
    several = corpus.multilabels[name]
    return Task(name, tuple(several), "multilabel", tuple(several.values()))


def _modalities(network: definitions.Network, corpus: Corpus, where: str) -> tuple[str, ...]:
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


def _arm_network(definition: Definition, entry: definitions.Arm, corpus: Corpus) -> dict[str, Any] | None:
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
    modalities = _modalities(chosen, corpus, where)
    wanted, fed = (networks.input_settings(each.name, each.preset, each.options) for each in (chosen, base))
    if wanted != fed:
        raise DefinitionError(f"{where} wants its input as {wanted}, but that of the study as {fed}: these must agree")
    return chosen.model_dump(mode="json") | {"modalities": list(modalities)}


def _arms(definition: Definition, tasks: Sequence[Task], corpus: Corpus) -> tuple[Arm, ...]:
    arms: list[Arm] = []
    for entry in definition.arms:
        if isinstance(entry, GridArms):
            arms += _grid_arms(entry, len(tasks))
        else:
            arms.append(_single_arm(entry, tasks, _arm_network(definition, entry, corpus)))
    seen = {arm.arm for arm in _distinct(arms)}
    if definition.control == "equal" and not any(map(_is_equal, arms)) and "equal" not in seen:
        arms.append(_single_arm(definitions.Arm(strategy="equal"), tasks))  # with three tasks no grid of tenths has it
    return tuple(arms)


def _tuned(
    definition: Definition, tasks: Sequence[Task], corpus: Corpus, chosen: Mapping[str, Sequence[Stage]]
) -> tuple[Arm, ...]:
    """Return one arm for each method, with what a search has chosen for it."""
    arms = []
    for name, entry in methods.entries(definition, len(tasks)).items():
        stages = chosen.get(name, ())
        first = methods.configured(entry, stages[0].values) if stages else entry
        changes = tuple(methods.change(stage.values, stage.first) for stage in stages[1:])
        arm = replace(_single_arm(first, tasks, _arm_network(definition, first, corpus)), family=name, changes=changes)
        if name == methods.STATIC_GRID:
            arm = replace(arm, label=f"static grid {'/'.join(map(str, arm.options['weights']))}")
        arms.append(arm)
    return tuple(arms)


def configured_arm(plan: Plan, corpus: Corpus, method: str, values: Mapping[str, Any]) -> Arm:
    """Return a method with values of its hyperparameters.

    Raises:
        UserError: it cannot be built with them.
    """
    entry = methods.entries(plan.definition, len(plan.tasks))[method]
    try:
        arm = methods.configured(entry, values)
        return _single_arm(arm, plan.tasks, _arm_network(plan.definition, arm, corpus))
    except ValidationError as mistakes:
        first = mistakes.errors(include_url=False)[0]
        reason = str(first["msg"]).removeprefix("Value error, ")
    except UserError as refusal:
        reason = str(refusal)
    hint = "; integer: true searches whole numbers alone" if "valid integer" in reason else ""
    raise DefinitionError(f"search.space: method '{method}' cannot have {dict(values)}: {reason}{hint}")


_WITHIN = 0.37193
"""A place within every range, at which no value is a whole number by chance."""


def _rehearsed(plan: Plan, corpus: Corpus) -> tuple[Method, ...]:
    """Return the methods of a search, each built at the ends of every range and within to see that it can.

    Raises:
        UserError: one cannot, or could not go on from another's checkpoint where the scheduler wants that.
    """
    found = methods.methods(plan.definition, len(plan.tasks))
    search = plan.definition.search or Search()
    Campaign(found, search, plan.definition.training.epochs)  # checks what it is given
    _refuse_unknown_metrics(search, plan.tasks)
    for method in found:
        shapes: dict[str, Any] = {}
        within = method.space.at([_WITHIN] * len(method.space))
        for values in [*methods.corners(method.space), within]:
            arm = configured_arm(plan, corpus, method.name, values)
            network = plan.network(arm)
            if str(network) in shapes:
                continue
            built = _built(method.name, values, network, plan.tasks)
            shapes[str(network)] = {name: tuple(value.shape) for name, value in built.state_dict().items()}
        _refuse_other_shapes(plan.definition, method, list(shapes.values()))
    return tuple(found)


def _built(method: str, values: Mapping[str, Any], network: Mapping[str, Any], tasks: Sequence[Task]) -> Any:  # noqa: ANN401
    """Return the network of a method with values of its hyperparameters, on a device without memory."""
    try:
        with networks.without_memory():
            return build_network(network, tasks)
    except UserError as refusal:
        raise DefinitionError(f"search.space: method '{method}' cannot have {dict(values)}: {refusal}") from None


def _refuse_unknown_metrics(search: Search, tasks: Sequence[Task]) -> None:
    known = ["joint_nll", *(f"{metric}/{task.name}" for task in tasks for metric in metric_names(task))]
    for objective in search.objective:
        if objective.metric not in known:
            raise DefinitionError(f"search.objective: {unknown('metric of the trials', objective.metric, known)}")


def _refuse_other_shapes(definition: Definition, method: Method, shapes: Sequence[object]) -> None:
    """Refuse hyperparameters that a scheduler cannot change in the middle of a training."""
    scheduler = definition.search.scheduler if definition.search is not None else "none"
    if scheduler not in ("pbt", "pb2"):
        return
    fixed = [name for name in method.space if name in ("training.optimizer", "training.batch_size")]
    if any(shape != shapes[0] for shape in shapes[1:]):
        fixed += [name for name in method.space if name.startswith("network.options.")]
    if fixed:
        raise DefinitionError(
            f"search.scheduler {scheduler} goes on from checkpoints of other values, and {', '.join(fixed)} cannot "
            "change in the middle of a training: take it out of search.space, or use scheduler none, asha or hyperband"
        )


def _distinct(arms: Sequence[Arm]) -> tuple[Arm, ...]:
    seen: set[str] = set()
    for arm in arms:
        if arm.arm in seen:
            raise DefinitionError(f"arms: '{arm.arm}' is there twice: give one of them a name of its own (name: ...)")
        seen.add(arm.arm)
    return tuple(arms)


def _is_equal(arm: Arm) -> bool:
    return arm.static_weights is not None and len(set(arm.static_weights)) == 1


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


def _single_arm(entry: definitions.Arm, tasks: Sequence[Task], network: dict[str, Any] | None = None) -> Arm:
    name = entry.name or entry.strategy
    try:
        strategy = build_strategy({"name": entry.strategy, "options": entry.options}, tasks, seed=0)
    except StrategyError as refusal:
        raise DefinitionError(f"arms: {refusal}") from None
    fixed = _fixed_weights(strategy) if strategy.is_static else None
    family = GRID_FAMILY if fixed and network is None and not entry.training else name
    options, training = dict(entry.options), dict(entry.training)
    return Arm(name, name, entry.strategy, options, family, fixed, strategy.may_be_clock, network, training)


def _fixed_weights(strategy: Strategy) -> tuple[float, ...]:
    """Return the weights of a static strategy, without the digits that float32 makes up."""
    import torch

    return tuple(round(weight, 6) for weight in strategy.weights(torch.ones(strategy.num_tasks)).tolist())


def _control(wanted: str, arms: Sequence[Arm]) -> str:
    """Return the arm called ``wanted``; ``equal`` also finds a static arm whose weights are all the same."""
    names = [arm.arm for arm in arms]
    if wanted in names:
        return wanted
    if wanted == "equal":
        for arm in arms:
            if _is_equal(arm):
                return arm.arm
    raise DefinitionError(f"control: {unknown('arm', wanted, names)}")


def _rehearse(plan: Plan) -> None:
    """Build every network once without memory, so that what cannot be built fails here and not on a cluster."""
    own = [arm.network for arm in plan.arms if arm.network is not None]
    with networks.without_memory():
        for settings in (plan.network(), *own):
            build_network(settings, plan.tasks)


def describe(plan: Plan) -> Mapping[str, str]:
    """Return what would run, as lines for a person: what -> how much."""
    definition, training = plan.definition, plan.definition.training
    arms = [f"{family} ({len(labels)})" if len(labels) > 1 else labels[0] for family, labels in _families(plan).items()]
    return {
        "study": definition.study,
        "corpus": definition.corpus.name,
        "network": network_line(plan),
        "split": _split_line(definition.split),
        "tasks": ", ".join(f"{task.name} ({_size(task)})" for task in plan.tasks),
        "arms": f"{len(plan.arms)}: {', '.join(arms)}",
        "seeds": f"{len(definition.seeds)}: {', '.join(map(str, definition.seeds))}",
        **({"folds": _folds_line(plan)} if plan.is_folded else {}),
        **_amounts(plan, training.epochs),
        **_controls_line(plan),
        "smallest p": _power_line(plan),
        **_search_lines(plan),
        "control": plan.control,
    }


def _search_lines(plan: Plan) -> dict[str, str]:
    """Return what is searched first, and how large that is."""
    search, epochs = plan.definition.search, plan.definition.training.epochs
    if search is None:
        return {}
    limits = search.budget.model_dump(exclude_none=True)
    trials = search.budget.trials
    told = ", ".join(f"{value:g} {name.replace('_', ' ')}" for name, value in limits.items())
    metrics = ", ".join(f"{objective.metric} ({objective.direction})" for objective in search.objective)
    lines = {
        "search": f"{search.searcher}, scheduler {search.scheduler}; objective: {metrics} on validation",
        "tuning seeds": f"{search.seeds}: {', '.join(map(str, search.seed_numbers))}",
        "budget": f"the same for each of {len(plan.methods)} methods: {told}",
    }
    if trials is not None:
        every = trials * len(plan.methods)
        lines["tuning"] = (
            f"{every} configurations, {every * search.seeds} trials, "
            f"{'at most ' if len(limits) > 1 or search.scheduler != 'none' else ''}"
            f"{every * search.seeds * epochs} epochs; then the trials above with fresh seeds"
        )
    elif search.budget.epochs is not None:
        lines["tuning"] = (
            f"{search.budget.epochs // (search.seeds * epochs)} configurations of each method trained to the end, or "
            "more where a scheduler stops some; then the trials above with fresh seeds"
        )
    else:
        lines["tuning"] = (
            "as many configurations as the time is good for, then the trials above with fresh seeds; --pilot measures "
            "about how many"
        )
    if search.start_from:
        points = sum(len(method.points) for method in plan.methods)
        lines["starts from"] = f"{', '.join(search.start_from)}: {points} configurations are tried first"
    for method in plan.methods:
        knobs = "; ".join(f"{name} {values}" for name, values in method.space.dimensions.items())
        lines[f"tunes {method.name}"] = f"{len(method.space)}: {knobs}"
    return lines


def network_line(plan: Plan) -> str:
    """Return which network is trained on what, and which arms have one of their own."""
    study = plan.network()
    own = [f"{arm.label} on {_difference(arm.network, study)}" for arm in plan.arms if arm.network is not None]
    told = f"{study['name']}, preset {study['preset']}, {' + '.join(plan.modalities)}"
    return "; ".join([told, *own])


def _difference(network: Mapping[str, Any], study: Mapping[str, Any]) -> str:
    """Return what of an arm's network is not that of the study."""
    told = [str(network[name]) for name in ("name", "preset") if network[name] != study[name]]
    told.append(" + ".join(network["modalities"]))
    changed = [f"{name} {value}" for name, value in network["options"].items() if study["options"].get(name) != value]
    return ", ".join([*told, *changed])


def _folds_line(plan: Plan) -> str:
    if plan.folds is None:
        return "all: how many depends on the corpus; tested as one pool"
    which = "all" if plan.definition.split.folds == "all" else ", ".join(map(str, plan.folds))
    return f"{len(plan.folds)}: {which}; tested as one pool"


def _amounts(plan: Plan, epochs: int) -> dict[str, str]:
    if plan.is_folded and plan.folds is None:
        trials = len(plan.arms) * len(plan.definition.seeds)
        return {"trials": f"{trials} for each fold", "epochs": f"{epochs} a trial, {epochs * trials} for each fold"}
    return {"trials": str(plan.num_trials), "epochs": f"{epochs} a trial, {epochs * plan.num_trials} in all"}


def _controls_line(plan: Plan) -> dict[str, str]:
    """Return how many of the trials are there to judge the others by, and which wait for others."""
    judging = [arm for arm in plan.arms if arm.role]
    if not judging:
        return {}
    each = len(plan.definition.seeds)
    trials = f"{_count(len(judging), 'arm')} of the above, {_count(each * len(judging), 'trial')}"
    later = [arm for arm in judging if arm.role in waves.DERIVED]
    waiting = f"; {len(later)} of these arms are made of others' rows and run after them" if later else ""
    return {"controls": f"{trials}{' for each fold' if plan.is_folded else ''}{waiting}"}


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def num_tests(plan: Plan) -> int:
    """Return the number of tests against the control: one for each method, of which the static grid is one."""
    methods = [arm for arm in plan.arms if not arm.role and arm.arm != plan.control]
    return len({arm.family if arm.family == GRID_FAMILY else arm.arm for arm in methods})


def _power_line(plan: Plan) -> str:
    """Return the smallest p that the seeds can reach, and how many seeds it takes to reach .05 after Holm."""
    seeds, tests = len(plan.definition.seeds), max(num_tests(plan), 1)
    if seeds < 2:
        return "none: one seed gives no interval and no test"
    smallest, needed = smallest_p(seeds), seeds_needed(tests)
    corrected = f", {min(1.0, tests * smallest):.4g} after Holm over {_count(tests, 'test')}" if tests > 1 else ""
    enough = "" if tests * smallest <= ALPHA else f"; to reach {ALPHA:g} takes {needed} seeds"
    effect = detectable(seeds, ALPHA / tests)
    return (
        f"{smallest:.4g} by the exact Wilcoxon test{corrected}{enough}. The paired t-test finds {effect:.2g} standard "
        "deviations of the seeds' differences four times out of five"
    )


def _split_line(split: definitions.Split) -> str:
    options = ", ".join(f"{name}={value}" for name, value in split.options.items())
    leak = "; leaks speakers: published for comparison only" if is_replication(split.protocol) else ""
    return f"{split.protocol}{f' ({options})' if options else ''}{leak}"


def _size(task: Task) -> str:
    if task.kind == "regression":
        return "a number"
    return f"{task.num_outputs} classes{', several at once' if task.kind == 'multilabel' else ''}"


def _families(plan: Plan) -> dict[str, list[str]]:
    families: dict[str, list[str]] = {}
    for arm in plan.arms:
        families.setdefault(arm.family, []).append(arm.label)
    return families
