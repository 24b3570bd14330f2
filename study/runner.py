"""Run trials with Ray Tune, on this machine or on the cluster that is running; the only Tuner."""

import shutil
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from study import interrupt
from study.definition import Resources
from study.errors import StudyError
from study.nodes import Machine, concurrency, fits
from study.observing import Observer
from study.retry import PAUSES_S, Retries, Round

if TYPE_CHECKING:
    from trainables.specification import TrialSpecification


def settled(
    resources: Resources,
    trials: "Sequence[TrialSpecification]",
    machines: Sequence[Machine],
    address: Any = None,  # noqa: ANN401  (see ``trainables.delivery``)
) -> Resources:
    """Return the resources with the share of a GPU decided where that was left to ``auto``.

    One trial of each strategy and network is measured for a few steps, as they differ in what they keep in memory; the
    largest decides for all, so that any of them may lie beside any other.

    Args:
        resources: as the definition has them.
        trials: all that have to run.
        machines: what Ray has, from ``ray_started``.
        address: see ``run_trials``.

    Raises:
        StudyError: a strategy cannot be measured.
    """
    if resources.gpus != "auto":
        return resources
    if not any(machine.gpus for machine in machines):
        return resources.model_copy(update={"gpus": 0.0})
    return resources.model_copy(update={"gpus": _measured_share(resources.cpus, trials, address)})


def _measured_share(cpus: int, trials: "Sequence[TrialSpecification]", address: Any) -> float:  # noqa: ANN401
    import ray

    from trainables.footprint import share
    from trainables.trial import measure_trial

    one_of_each = {f"{trial.strategy['name']} {trial.network}": trial for trial in trials}
    task = ray.remote(num_cpus=cpus, num_gpus=1, max_calls=1)(measure_trial)
    try:
        return share(ray.get([task.remote(trial, address) for trial in one_of_each.values()]))
    except ray.exceptions.RayTaskError as failure:
        reason = " ".join(str(failure.cause).split())[:300]
        raise StudyError(f"the memory that a trial needs cannot be measured: {reason}; set resources.gpus") from failure


def run_trials(
    trials: "Sequence[TrialSpecification]",
    resources: Resources,
    machines: Sequence[Machine],
    observer: Observer,
    scratch: Path,
    *,
    address: Any = None,  # noqa: ANN401  (see ``trainables.delivery``)
    pauses_s: Sequence[float] = PAUSES_S,
) -> bool:
    """Run trials to their end, or until Ctrl-C: then it returns with the trials that ended until then.

    A trial that fails for a reason that may pass is tried again when the others are through: after a pause, on another
    machine if there is one, and with more room if it was memory that it lacked.

    Args:
        trials: what to run, in this order.
        resources: what each may use; ``max_restarts`` is how often it is started again.
        machines: what Ray has, from ``ray_started``.
        observer: told of every start, row and end, in the driver.
        scratch: folder for Tune's own files, emptied before and after.
        address: where machines that do not see this one's folders ask for what they lack; None if there are none.
        pauses_s: seconds before each further round.

    Returns:
        Whether nobody interrupted it.

    Raises:
        StudyError: no trial fits, or Tune itself failed.
    """
    return _run_rounds(Retries(trials, resources, pauses_s), None, machines, observer, scratch, address)


class Feed(Protocol):
    """Makes up trials as it goes, from how those before have ended."""

    def next(self) -> "TrialSpecification | None":
        """Return what to run next; None if there is nothing until another trial ends, or nothing ever."""
        ...


def run_feed(
    feed: Feed,
    resources: Resources,
    machines: Sequence[Machine],
    observer: Observer,
    scratch: Path,
    *,
    address: Any = None,  # noqa: ANN401  (see ``trainables.delivery``)
    pauses_s: Sequence[float] = PAUSES_S,
) -> None:
    """Run what a feed makes up, until it has nothing more or somebody interrupts it; the rest as ``run_trials``.

    A trial is asked for when there is room for it, so that all that has ended until then can be taken into account. A
    trial that failed for a reason that may pass is tried again when nothing else is left to run.

    Raises:
        StudyError: no trial fits, or Tune itself failed.
    """
    _run_rounds(Retries((), resources, pauses_s), feed, machines, observer, scratch, address)


def _run_rounds(
    retries: Retries,
    feed: Feed | None,
    machines: Sequence[Machine],
    observer: Observer,
    scratch: Path,
    address: object,
) -> bool:
    """Return whether nobody interrupted it."""
    current: Round | None = retries.current
    while current is not None:
        at_a_time = concurrency(current.resources, machines)
        told = _Told(retries, observer, at_a_time, feed)
        if not _run_round(current, machines, at_a_time, told, scratch, address):
            return False
        if not (current := retries.next_round(at_a_time)):
            return True
        try:
            time.sleep(current.pause_s)
        except KeyboardInterrupt:
            interrupt.heard()
            return False
    return True


class _Told(Observer):
    """Hands out the trials of a round and hears how they end: those that are tried again have not ended yet."""

    def __init__(self, retries: Retries, observer: Observer, at_a_time: int, feed: Feed | None = None) -> None:
        self.observer = observer
        self._retries, self._at_a_time, self._feed = retries, at_a_time, feed
        self.by_name = {trial.trial: trial for trial in retries.current.trials}
        self.open = set(self.by_name) if feed is None else set()
        self._first = deque(retries.current.trials)
        self.is_drained = feed is None

    def hand_out(self) -> "TrialSpecification | None":
        """Return what to run next in a round with a feed, as long as there is room; ``is_drained`` once all is done."""
        if self._feed is None or len(self.open) >= self._at_a_time:
            return None
        trial = self._first.popleft() if self._first else self._feed.next()
        if trial is None:
            self.is_drained = not self.open
            return None
        self.by_name[trial.trial] = trial
        self.open.add(trial.trial)
        return trial

    @property
    def is_over(self) -> bool:
        """Whether all has ended: nobody interrupted it."""
        return self.is_drained and not self.open

    def trial_ended(self, trial: "TrialSpecification", failure: dict[str, str] | None) -> None:
        """Pass it on, or keep the trial for the next round."""
        self.open.discard(trial.trial)
        if failure and self._retries.admit(trial, failure, self._at_a_time):
            self.observer.trial_postponed(trial, failure)
        else:
            self.observer.trial_ended(trial, failure)


def _run_round(
    current: Round, machines: Sequence[Machine], at_a_time: int, told: _Told, scratch: Path, address: object
) -> bool:
    """Run the trials of one round; return whether all of them ended and nobody interrupted it."""
    from ray import tune

    from trainables.trial import run_trial

    resources = current.resources
    shutil.rmtree(scratch, ignore_errors=True)
    trainable = run_trial if address is None else tune.with_parameters(run_trial, address=address)
    space: dict[str, Any] = {"threads": resources.cpus, "gpus": resources.share}
    source: dict[str, Any] = {"max_concurrent_trials": at_a_time}
    if told.is_drained:
        space["trial"] = tune.grid_search([trial.as_dict() for trial in current.trials])
    else:
        source = {"search_alg": _make_searcher(told), "num_samples": -1}  # as many as it has
    tuner = tune.Tuner(
        tune.with_resources(trainable, _room(current, machines)),
        param_space=space,
        tune_config=tune.TuneConfig(
            reuse_actors=True, trial_name_creator=_trial_name, trial_dirname_creator=_folder_name, **source
        ),
        run_config=tune.RunConfig(
            name="trials",
            storage_path=str(scratch),
            verbose=0,
            failure_config=tune.FailureConfig(max_failures=resources.max_restarts),
            callbacks=[_make_callback(told)],
        ),
    )
    try:
        with interrupt.kept():
            tuner.fit()
    except tune.TuneError as failure:
        raise _reason_of(failure) from failure
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return told.is_over


def _reason_of(failure: BaseException) -> StudyError:
    """Return why Tune stopped: what an observer has said, as of a full disk, or else what Tune says."""
    cause: BaseException | None = failure
    while cause is not None:
        if isinstance(cause, StudyError):
            return cause
        cause = cause.__cause__ or cause.__context__
    return StudyError(f"Ray Tune stopped: {' '.join(str(failure).split())[:300]}")


def _room(current: Round, machines: Sequence[Machine]) -> Any:  # noqa: ANN401  (what Tune takes for resources)
    """Return what Tune asks Ray for: the resources of a trial, away from machines it failed on if others hold it."""
    from ray import tune

    resources = current.resources
    bundle = {"CPU": float(resources.cpus), "GPU": resources.share}
    useful = sum(machine.count for machine in machines if fits(resources, machine))
    avoid = {trial: nodes for trial, nodes in current.avoid.items() if len(nodes) < useful}
    if not avoid:
        return tune.PlacementGroupFactory([bundle])

    def place(config: dict[str, Any]) -> Any:  # noqa: ANN401
        nodes = avoid.get(config["trial"]["trial"])
        if not nodes:
            return tune.PlacementGroupFactory([bundle])
        elsewhere = {"ray.io/node-id": f"!in({','.join(sorted(nodes))})"}
        return tune.PlacementGroupFactory([bundle], bundle_label_selector=[elsewhere])

    return place


def _trial_name(trial: Any) -> str:  # noqa: ANN401  (Tune's own trial)
    return str(trial.config["trial"]["trial"])


def _folder_name(trial: Any) -> str:  # noqa: ANN401  (Tune's own trial)
    """Return the name of Tune's folder of a trial, which is another one for every segment of it."""
    until = trial.config["trial"]["until"]
    return _trial_name(trial) if until is None else f"{_trial_name(trial)}-until{until}"


def _make_searcher(told: _Told) -> Any:  # noqa: ANN401  (needs ray)
    """Return what Tune asks for trials; made here because its base class needs Ray."""
    from ray.tune.search import Searcher

    class Asker(Searcher):
        def __reduce__(self) -> tuple[type, tuple[()]]:
            """Tune pickles searchers to restore them, which nobody asks for here: the feed remembers for itself."""
            return Searcher, ()

        def save(self, checkpoint_path: str) -> None:
            """Save nothing."""

        def set_search_properties(self, *settings: object, **spec: object) -> bool:  # noqa: ARG002
            return True

        def suggest(self, trial_id: str) -> Any:  # noqa: ANN401, ARG002  (configuration, None or a word)
            trial = told.hand_out()
            if trial is not None:
                return {"trial": trial.as_dict()}
            return Searcher.FINISHED if told.is_drained else None

        def on_trial_complete(self, trial_id: str, result: Any = None, error: bool = False) -> None:  # noqa: ANN401
            """Do nothing: the callback tells."""

    return Asker()


def _make_callback(told: _Told) -> Any:  # noqa: ANN401  (needs ray)
    """Return the Tune callback that tells the observer; made here because its base class needs Ray."""
    from ray import tune

    observer = told.observer

    class Messenger(tune.Callback):
        def __init__(self) -> None:
            self.failures: dict[str, dict[str, str]] = {}
            self.idle = Idle()

        def __reduce__(self) -> tuple[type, tuple[()]]:
            """Tune pickles callbacks to restore them, which nobody asks for here; a thread does not pickle."""
            return tune.Callback, ()

        def specification(self, trial: Any) -> "TrialSpecification":  # noqa: ANN401
            return told.by_name[_trial_name(trial)]

        def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:  # noqa: ANN401, ARG002
            if seconds := self.idle.seconds([trial.status for trial in trials]):
                observer.nothing_runs(seconds)

        def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:  # noqa: ANN401, ARG002
            observer.trial_started(self.specification(trial))

        def on_trial_result(
            self,
            iteration: int,  # noqa: ARG002
            trials: list[Any],  # noqa: ARG002
            trial: Any,  # noqa: ANN401
            result: dict[str, Any],
            **info: Any,  # noqa: ANN401, ARG002
        ) -> None:
            if "failure" in result:
                self.failures[_trial_name(trial)] = result["failure"]
            elif "note" in result:
                observer.trial_noted(self.specification(trial), result["note"])
            elif "predictions" in result:
                observer.trial_predicted(self.specification(trial), result["predictions"])
            elif "row" in result:
                observer.trial_reported(self.specification(trial), result["row"][0])

        def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:  # noqa: ANN401, ARG002
            told.trial_ended(self.specification(trial), self.failures.pop(_trial_name(trial), None))

        def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:  # noqa: ANN401, ARG002
            told.trial_ended(self.specification(trial), _lost_process(trial))

    return Messenger()


class Idle:
    """Notices that trials wait and none runs, once.

    Args:
        patience_s: how long that may last; a machine of a cloud is up after some minutes.
    """

    def __init__(self, patience_s: float = 300.0) -> None:
        self._patience_s = patience_s
        self._since: float | None = None
        self._told = False

    def seconds(self, statuses: Sequence[str]) -> float | None:
        """Return for how long nothing has run, the first time that this is too long; else None.

        Args:
            statuses: of all trials of the round, as Tune calls them.
        """
        if "RUNNING" in statuses or "PENDING" not in statuses:
            self._since, self._told = None, False
            return None
        now = time.monotonic()
        self._since = now if self._since is None else self._since
        if self._told or now - self._since < self._patience_s:
            return None
        self._told = True
        return now - self._since


def _lost_process(trial: Any) -> dict[str, str]:  # noqa: ANN401  (Tune's own trial)
    """Return why Tune gave a trial up: its process died more often than it may be started again."""
    from ray.exceptions import OutOfMemoryError

    error = trial.get_error()
    text = str(error) if error is not None else "no reason was given"
    short = "memory" if isinstance(getattr(error, "cause", error), OutOfMemoryError) else "lasting"
    line = f"the trial's process was lost: {' '.join(text.split())[:200]}"
    return {"error": line, "traceback": text, "kind": short}
