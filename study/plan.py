"""From a definition to arms, seeds and trials: what would run, checked before anything runs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import pandas as pd
from pydantic import ValidationError

from strategies.errors import UserError, unknown
from study import definition as definitions
from study import methods, waves
from study.analysis.delta import SINGLE_TASK
from study.arms import Arm, compared_arms, control_arm, distinct, modalities_of, own_network, single_arm, tuned_arms
from study.definition import Definition
from study.errors import DefinitionError
from study.search.campaign import Campaign, Method, Stage
from study.search.settings import Search
from trainables import networks
from trainables.corpora import Corpus, Split, check_protocol, split_for_tasks
from trainables.corpora.base import check_texts
from trainables.corpora.folds import chosen_folds, count_folds, fold_splits
from trainables.session import build_network
from trainables.specification import TrialSpecification
from trainables.tasks import Task, metric_names


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
    if definition.search is None:
        arms = compared_arms(definition, tasks, corpus)
    else:
        arms = tuned_arms(definition, tasks, corpus, chosen)
    modalities = modalities_of(definition.network, corpus, "network")
    control = control_arm(definition.control, arms)
    judging = waves.control_arms(definition.controls, tasks, arms, control)
    plan = Plan(definition, distinct([*arms, *judging]), tasks, modalities, control, folds)
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


def configured_arm(plan: Plan, corpus: Corpus, method: str, values: Mapping[str, Any]) -> Arm:
    """Return a method with values of its hyperparameters.

    Raises:
        UserError: it cannot be built with them.
    """
    entry = methods.entries(plan.definition, len(plan.tasks))[method]
    try:
        arm = methods.configured(entry, values)
        return single_arm(arm, plan.tasks, own_network(plan.definition, arm, corpus))
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


def _rehearse(plan: Plan) -> None:
    """Build every network once without memory, so that what cannot be built fails here and not on a cluster."""
    own = [arm.network for arm in plan.arms if arm.network is not None]
    with networks.without_memory():
        for settings in (plan.network(), *own):
            build_network(settings, plan.tasks)
