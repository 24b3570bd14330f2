"""What a definition may say, how it is loaded, and what identifies it."""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from decimal import Decimal
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import BeforeValidator, Field, ValidationError, field_validator, model_validator

from strategies.errors import suggestion, unknown
from strategies.text import redacted, shortened
from study import yaml_text
from study.controls import Controls
from study.errors import DefinitionError
from study.overriding import overridden
from study.parts import Part
from study.search.settings import Search

NAME = r"^[a-z0-9][a-z0-9_-]*$"
"""Names become folder names: lower-case letters, digits, ``_`` and ``-``."""

LONGEST_NAME = 100
"""A file system allows 255 characters; a trial's file has its arm's name and some more."""

GRID_FAMILY = "static grid"
"""The method that all arms with fixed weights and the study's own network count as."""

MOST_SEEDS = 10_000
"""More than anybody trains; keeps a typing error from filling the memory."""

LARGEST_SEED = 2**32 - 1
"""What the generators of NumPy and PyTorch all take."""

CHOSEN_FROM = ("per_corpus", "protocol", "protocols")
"""Parts whose settings are in their places once a definition is loaded."""
_NOT_IDENTITY = {"title", "resources", "seeds", *CHOSEN_FROM}
"""Parts of a definition that change no number of a trial; more seeds extend a study instead of making another."""


class Corpus(Part):
    """Which corpus is studied, and where it lies."""

    name: str = "synthetic"
    root: str | None = Field(default=None, description="folder of the corpus; the built-in one needs none")
    options: dict[str, Any] = Field(default_factory=dict)
    max_skipped: float = Field(default=0.02, ge=0, le=1, description="largest share of unreadable utterances")

    @field_validator("root")
    @classmethod
    def _without_secrets(cls, root: str | None) -> str | None:
        if root is not None and redacted(root) != root:
            raise ValueError(
                "it holds a password or a key, which a definition is no place for: leave it out and set "
                "the variables that the storage reads, such as AWS_ACCESS_KEY_ID, or its own settings file"
            )
        return root


def _fold_numbers(value: object) -> object:
    """Check what ``split.folds`` may be, and sort the numbers: in which order folds are written changes no result."""
    if value is None or value == "all":
        return value
    numbers = list(value) if isinstance(value, list | tuple) else []
    if not numbers or any(isinstance(fold, bool) or not isinstance(fold, int) or fold < 0 for fold in numbers):
        raise ValueError("expected all, or a list of the numbers of folds, counted from 0, such as [0, 1, 2]")
    _refuse_repeats("folds", numbers)
    return sorted(numbers)


class Split(Part):
    """How the corpus is divided into training, validation and test speakers."""

    protocol: str = "speaker_disjoint"
    options: dict[str, Any] = Field(default_factory=dict)
    folds: Annotated[Literal["all"] | tuple[int, ...] | None, BeforeValidator(_fold_numbers)] = Field(
        default=None, description="folds that are tested as one pool; None: one trial for every arm and seed"
    )


class Network(Part):
    """Which network is trained, at which size, on which modalities."""

    name: str = "chae"
    preset: str = "small"
    modalities: tuple[str, ...] | None = Field(default=None, description="None: all that network and corpus share")
    options: dict[str, Any] = Field(default_factory=dict)


class ArmNetwork(Part):
    """What of the network is an arm's own; what is left out is as in the study, the options one by one."""

    name: str | None = None
    preset: str | None = None
    modalities: tuple[str, ...] | None = None
    options: dict[str, Any] = Field(default_factory=dict)


class Training(Part):
    """How every trial is trained; see ``trainables.loop.TrainingSettings`` for each setting's meaning."""

    epochs: int = Field(default=10, ge=1)
    batch_size: int = Field(default=16, ge=1)
    accumulation: int = Field(default=1, ge=1)
    optimizer: Literal["adam", "adamw", "sgd"] = "adam"
    learning_rate: float = Field(default=1e-4, gt=0)
    weight_decay: float = Field(default=0.0, ge=0)
    clip_norm: float | None = Field(default=1.0, gt=0)
    clip_strategy: bool = Field(default=False, description="clip the strategy's own parameters with the network's")
    schedule: Literal["constant", "step", "cosine"] = "constant"
    step_epochs: int = Field(default=10, ge=1)
    gamma: float = Field(default=0.1, gt=0)
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    class_weights: bool = False
    soft_labels: bool = Field(default=False, description="train on the votes of the annotators where there are any")
    diagnose_every: int | None = Field(default=None, ge=0, description="steps; None: once an epoch, 0: never")


_SAME_FOR_ALL = ("epochs", "diagnose_every")
"""Training settings that no arm has for itself: who trains longer is not compared."""


class Grid(Part):
    """The static grid: every point of the simplex whose weights are multiples of ``step``."""

    step: Decimal = Field(default=Decimal("0.1"), gt=0, le=1)

    @field_validator("step", mode="before")
    @classmethod
    def _exact(cls, step: object) -> object:
        return Decimal(str(step)) if isinstance(step, float) else step


class GridArms(Part):
    """A family of static arms that counts as one method."""

    grid: Grid


class Arm(Part):
    """One thing compared: a strategy with its options, on the study's network or one of its own."""

    strategy: str
    options: dict[str, Any] = Field(default_factory=dict)
    name: str | None = Field(
        default=None, pattern=NAME, max_length=LONGEST_NAME, description="defaults to the name of the strategy"
    )
    network: ArmNetwork | None = Field(default=None, description="what of the network is this arm's own")
    training: dict[str, Any] = Field(default_factory=dict, description="what of the training is this arm's own")
    tuned: bool = Field(default=True, description="whether a search tunes it; false compares it as it is written")

    @field_validator("training")
    @classmethod
    def _trainable(cls, given: dict[str, Any]) -> dict[str, Any]:
        for name in given:
            if name in _SAME_FOR_ALL:
                raise ValueError(f"{name} is the same for all arms: set training.{name} of the study")
            if name not in Training.model_fields:
                raise ValueError(unknown("training setting", name, [*Training.model_fields]))
        try:
            return Training.model_validate(given).model_dump(mode="json", include=set(given))
        except ValidationError as mistakes:
            raise ValueError(_one_line(mistakes)) from None


class Resources(Part):
    """What one trial may use, and how many run at a time."""

    cpus: int = Field(default=1, ge=1)
    gpus: Literal["auto"] | Annotated[float, Field(ge=0)] = Field(
        default="auto", description="0.25 lets four trials share a GPU; auto: as many as fit in its memory, measured"
    )
    max_concurrent: int | None = Field(default=None, ge=1)
    max_restarts: int = Field(
        default=2, ge=0, description="times a trial is started again: its process was lost, the disk was full, ..."
    )

    @property
    def share(self) -> float:
        """GPUs of one trial; 0 as long as that is left to ``auto``."""
        return 0.0 if self.gpus == "auto" else self.gpus


def _seed_list(value: object) -> object:
    """Turn a number of seeds n into the seeds 0 .. n-1."""
    if isinstance(value, bool) or not isinstance(value, int):
        return value
    if not 1 <= value <= MOST_SEEDS:
        raise ValueError(f"a number of seeds lies between 1 and {MOST_SEEDS}")
    return list(range(value))


def _arm_kind(value: object) -> object:
    """Read an arm by the key it is written with, so that its mistakes are told for that kind alone."""
    if not isinstance(value, Mapping):
        return value
    return (GridArms if "grid" in value else Arm).model_validate(value)


class Definition(Part):
    """What a study is."""

    name: str = Field(pattern=NAME, max_length=LONGEST_NAME)
    title: str = ""
    corpus: Corpus = Corpus()
    split: Split = Split()
    network: Network = Network()
    tasks: tuple[str, ...] = Field(default=("emotion", "gender"), min_length=1)
    reference_weights: dict[str, float] = Field(default_factory=dict, description="empty: uniform")
    training: Training = Training()
    seeds: Annotated[tuple[Annotated[int, Field(ge=0, le=LARGEST_SEED)], ...], BeforeValidator(_seed_list)] = Field(
        default=(0, 1, 2, 3, 4), min_length=1, max_length=MOST_SEEDS
    )
    control: str = "equal"
    arms: tuple[Annotated[GridArms | Arm, BeforeValidator(_arm_kind)], ...] = Field(min_length=1)
    controls: Controls = Field(default=Controls(), description="arms that are there to judge the others by")
    search: Search | None = Field(default=None, description="tune every method first, then compare with fresh seeds")
    resources: Resources = Resources()
    per_corpus: dict[str, dict[str, Any]] = Field(
        default_factory=dict, description="corpus name -> settings that hold for that corpus, overridden by --set"
    )
    protocol: str | None = Field(default=None, description="which of the protocols holds; none: what is said here")
    protocols: dict[str, dict[str, Any]] = Field(
        default_factory=dict, description="name -> settings that hold together, with per_corpus, overridden by --set"
    )

    @model_validator(mode="after")
    def _consistent(self) -> "Definition":
        _refuse_repeats("seeds", self.seeds)
        _refuse_repeats("tasks", self.tasks)
        for name, weight in self.reference_weights.items():
            if name not in self.tasks:
                raise ValueError(unknown("task of reference_weights", name, self.tasks))
            if weight < 0:
                raise ValueError(f"reference_weights.{name} is {weight:g}, but weights are not negative")
        if self.reference_weights and sum(self.reference_weights.values()) <= 0:
            raise ValueError("reference_weights are all 0: at least one task must count")
        if self.controls.effective_lr and self.training.diagnose_every == 0:
            raise ValueError("controls.effective_lr needs the probes that training.diagnose_every: 0 turns off")
        if self.search is not None:
            _refuse_leaks(self.search, self.seeds, self.split)
        return self

    @property
    def reference(self) -> dict[str, float]:
        """Task -> weight of the joint loss that arms are judged by; sums to 1, uniform unless said otherwise."""
        given = self.reference_weights or dict.fromkeys(self.tasks, 1.0)
        total = sum(given.values())
        return {task: given.get(task, 0.0) / total for task in self.tasks}

    @property
    def identity(self) -> str:
        """Hash of everything that decides a number: equal identities give equal results."""
        content = self.model_dump(mode="json", exclude=_NOT_IDENTITY)
        content["corpus"].pop("root")
        content["training"].pop("diagnose_every")
        for setting in ("soft_labels", "clip_strategy"):
            if not content["training"][setting]:
                content["training"].pop(setting)  # studies from before there was this setting keep their names
        for arm in content["arms"]:
            for part in ("network", "training"):
                if not arm.get(part, True):
                    arm.pop(part)
            if arm.get("tuned"):
                arm.pop("tuned")
        if content["search"] is None:
            content.pop("search")
        if self.controls == Controls():
            content.pop("controls")
        if content["split"]["folds"] is None:
            content["split"].pop("folds")
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    @property
    def study(self) -> str:
        """Name of the study this definition makes: its own name and the first digits of its identity."""
        return f"{self.name}-{self.identity[:8]}"

    def as_yaml(self) -> str:
        """Return the definition as YAML that loads back to itself."""
        return yaml.safe_dump(self.model_dump(mode="json", exclude=set(CHOSEN_FROM)), sort_keys=False)


def _refuse_repeats(what: str, values: Sequence[Hashable]) -> None:
    repeated = sorted(str(value) for value, count in Counter(values).items() if count > 1)
    if repeated:
        raise ValueError(f"{what} repeats {', '.join(repeated)}: each may be named once")


def _refuse_leaks(search: Search, seeds: Sequence[int], split: Split) -> None:
    """Refuse a search that sees what it is judged by afterwards."""
    common = sorted(set(search.seed_numbers) & set(seeds))
    if common:
        raise ValueError(f"seeds has {', '.join(map(str, common))}, which search.seeds tunes with: use fresh seeds")
    if split.folds is not None:
        raise ValueError("search and split.folds: an utterance validates in one fold and tests in another; choose one")


def shipped() -> list[str]:
    """Return the names of the definitions that come with the project."""
    folder = resources.files("study") / "definitions"
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def source(name: str) -> tuple[str, str]:
    """Return the text of a definition and where it was read, from a shipped name or a path that ends in ``.yaml``.

    Raises:
        DefinitionError: there is no such definition.
    """
    if name.endswith((".yaml", ".yml")):
        try:
            return Path(name).read_text(encoding="utf-8"), name
        except (OSError, UnicodeDecodeError) as failure:
            raise DefinitionError(f"definition {name} cannot be read: {failure}") from failure
    if name not in shipped():
        raise DefinitionError(f"{unknown('definition', name, shipped())}; a file of your own must end in .yaml")
    return (resources.files("study") / "definitions" / f"{name}.yaml").read_text(
        encoding="utf-8"
    ), f"definition '{name}'"


def load(name: str, overrides: Sequence[str] = ()) -> Definition:
    """Return the definition called ``name`` (or in the file ``name``) with ``a.b=value`` overrides applied.

    Values of overrides are YAML. They win over the settings for the chosen corpus (``per_corpus``), which win over the
    rest of the file; the result is validated like a file.

    Raises:
        DefinitionError: one line that says what, where, and what is allowed.
    """
    text, where = source(name)
    content = _parse(text, where)
    return validate(overridden(content, overrides, Corpus().name, Split().protocol), where)


def validate(content: Mapping[str, Any], where: str) -> Definition:
    """Return the content of a definition as a definition.

    Raises:
        DefinitionError: the first mistake found, in one line.
    """
    try:
        return Definition.model_validate(content)
    except ValidationError as mistakes:
        raise DefinitionError(f"{where}: {_one_line(mistakes)}") from None


def _parse(text: str, where: str) -> dict[str, Any]:
    try:
        content = yaml_text.parse(text)
    except ValueError as mistake:
        raise DefinitionError(f"{where} is not YAML: {mistake}") from None
    if not isinstance(content, dict):
        raise DefinitionError(f"{where} is not a definition: expected keys such as name, arms and seeds")
    return content


def _one_line(mistakes: ValidationError) -> str:
    """Return the first mistake in words, with how many more there are."""
    errors = mistakes.errors(include_url=False)
    first = errors[0]
    path = [str(part) for part in first["loc"] if not str(part).startswith("function-")]
    message = _explain(first, path)
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    return f"{message}{more}"


def _explain(mistake: Any, path: Sequence[str]) -> str:  # noqa: ANN401  (pydantic's own typed dictionary)
    where = ".".join(path)
    if mistake["type"] == "extra_forbidden":
        known = _known_keys(path[:-1])
        parent = f" in {'.'.join(path[:-1])}" if path[:-1] else ""
        return f"unknown key '{shortened(path[-1])}'{parent} (known: {', '.join(known)}){suggestion(path[-1], known)}"
    if mistake["type"] == "missing":
        return f"{where} is missing"
    reason = str(mistake["msg"]).removeprefix("Value error, ")
    reason = reason[0].lower() + reason[1:]
    if not where:
        return reason
    if mistake["type"] == "literal_error":
        reason += suggestion(str(mistake["input"]), re.findall(r"'([^']*)'", reason))
    if isinstance(mistake["input"], Mapping) and path[-1] == "search":  # how its parts go together
        return f"{where}.{reason}" if re.split(r"[.: ]", reason)[0] in Search.model_fields else f"{where}: {reason}"
    return f"{where} is {_shown(mistake['input'])}: {reason}"


def _shown(value: object) -> str:
    text = redacted(repr(value))
    return text if len(text) <= 60 else f"{text[:57]}..."


def _known_keys(path: Sequence[str]) -> list[str]:
    """Return the keys allowed at a place in the definition, following the models down."""
    model: type[Part] = Definition
    for key in path:
        if key == "arms" or key.isdigit():
            model = Arm
        else:
            annotation = model.model_fields[key].annotation if key in model.model_fields else None
            for found in (annotation, *get_args(annotation)):
                model = found if isinstance(found, type) and issubclass(found, Part) else model
    return [*model.model_fields, "grid"] if model is Arm else list(model.model_fields)
