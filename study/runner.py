"""Run trials with Ray Tune, on this machine or on the cluster that is running; the only Tuner."""

import logging
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from study.definition import Resources
from study.errors import StudyError

if TYPE_CHECKING:
    from trainables.session import Row, TrialSpecification


_ENVIRONMENT = {
    "RAY_AIR_NEW_OUTPUT": "0",  # with verbose=0 the only way to keep Tune off the terminal
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # a trial that changes directory cannot resolve relative paths
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # three loggers a trial that nobody reads; ours are the rows
    "TUNE_GLOBAL_CHECKPOINT_S": "600",  # Tune's own snapshots: we go on from our rows and checkpoints instead
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}
_LOCAL_OBJECT_STORE = 128 * 2**20
"""Bytes of shared memory for Ray on one machine; trials exchange nothing but rows."""


class Observer(Protocol):
    """Somebody who is told what happens to trials, in the driver, in order."""

    def trial_started(self, trial: "TrialSpecification") -> None:
        """A trial started, or started again after its process was lost."""

    def trial_reported(self, trial: "TrialSpecification", row: "Row") -> None:
        """A trial reported a row."""

    def trial_ended(self, trial: "TrialSpecification", failure: dict[str, str] | None) -> None:
        """A trial finished, or failed with an ``error`` of one line and a ``traceback``."""


def available_cpus() -> int:
    """Return how many CPUs this process may use: its affinity, limited by the control group's quota."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
    except (OSError, ValueError):
        return allowed
    return allowed if quota == "max" else max(1, min(allowed, int(quota) // int(period)))


@contextmanager
def ray_started(address: str | None, log: Path) -> Iterator[dict[str, float]]:
    """Start Ray on this machine, or join the cluster at ``address``; yield what it has, such as ``{"CPU": 2}``.

    Args:
        address: of a running cluster; None starts Ray here, with as many CPUs as this process may use.
        log: file that Ray's own messages go to.

    Raises:
        StudyError: Ray cannot be reached or started.
    """
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    if address and _token_exists():
        os.environ.setdefault("RAY_AUTH_MODE", "token")
    import ray

    here: dict[str, Any] = {
        "address": "local",  # without it Ray joins whatever cluster was last started on this machine
        "num_cpus": available_cpus(),
        "include_dashboard": False,
        "object_store_memory": _LOCAL_OBJECT_STORE,
    }
    try:
        ray.init(
            **({"address": address} if address else here),
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    except (ConnectionError, RuntimeError, ValueError, OSError) as failure:
        reason = " ".join(str(failure).split())[:300]
        if address is None:
            raise StudyError(f"Ray cannot be started on this machine: {reason}") from failure
        hint = "is it up, and is this user's ~/.ray/auth_token the cluster's?"
        raise StudyError(f"the Ray cluster at {address} cannot be joined: {reason}; {hint}") from failure
    with _logging_to(log):
        try:
            yield dict(ray.cluster_resources())  # type: ignore[no-untyped-call]
        finally:
            ray.shutdown()


def _token_exists() -> bool:
    """Tell whether this user has a Ray token: `ray start` then asks for it, but `ray.init` sends it only when told."""
    given = os.environ.get("RAY_AUTH_TOKEN") or os.environ.get("RAY_AUTH_TOKEN_PATH")
    return bool(given) or (Path.home() / ".ray" / "auth_token").is_file()


@contextmanager
def _logging_to(log: Path) -> Iterator[None]:
    """Send what Ray's libraries say to a file instead of the terminal."""
    logger = logging.getLogger("ray")
    for old in list(logger.handlers):
        logger.removeHandler(old)
    handler = logging.FileHandler(log, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logger.addHandler(handler)
    logger.propagate = False
    logger.setLevel(logging.INFO)
    try:
        with redirect_stdout(handler.stream):  # where Ray prints what it has to say about lost workers
            yield
    finally:
        logger.removeHandler(handler)
        handler.close()


def concurrency(resources: Resources, cluster: dict[str, float]) -> int:
    """Return how many trials run at a time.

    Raises:
        StudyError: not even one fits.
    """
    fits = int(cluster.get("CPU", 0) // resources.cpus)
    if resources.gpus:
        fits = min(fits, int(cluster.get("GPU", 0) / resources.gpus + 1e-9))
    if fits < 1:
        has = f"{cluster.get('CPU', 0):g} CPUs and {cluster.get('GPU', 0):g} GPUs"
        raise StudyError(
            f"resources: a trial asks for {resources.cpus} CPUs and {resources.gpus:g} GPUs, but Ray has {has}"
        )
    return min(fits, resources.max_concurrent or fits)


def run_trials(
    trials: "Sequence[TrialSpecification]",
    resources: Resources,
    cluster: dict[str, float],
    observer: Observer,
    scratch: Path,
) -> None:
    """Run trials to their end, or until Ctrl-C: then it returns with the trials that ended until then.

    Args:
        trials: what to run, in this order.
        resources: what each may use.
        cluster: what Ray has, from ``ray_started``.
        observer: told of every start, row and end, in the driver.
        scratch: folder for Tune's own files, emptied before and after.

    Raises:
        StudyError: no trial fits, or Tune itself failed.
    """
    from ray import tune

    from trainables.trial import run_trial

    limit = concurrency(resources, cluster)
    shutil.rmtree(scratch, ignore_errors=True)
    tuner = tune.Tuner(
        tune.with_resources(run_trial, {"cpu": resources.cpus, "gpu": resources.gpus}),
        param_space={"threads": resources.cpus, "trial": tune.grid_search([trial.as_dict() for trial in trials])},
        tune_config=tune.TuneConfig(
            max_concurrent_trials=limit,
            reuse_actors=True,
            trial_name_creator=_trial_name,
            trial_dirname_creator=_trial_name,
        ),
        run_config=tune.RunConfig(
            name="trials",
            storage_path=str(scratch),
            verbose=0,
            failure_config=tune.FailureConfig(max_failures=resources.max_restarts),
            callbacks=[_make_callback(trials, observer)],
        ),
    )
    try:
        tuner.fit()
    except tune.TuneError as failure:
        raise StudyError(f"Ray Tune stopped: {' '.join(str(failure).split())[:300]}") from failure
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _trial_name(trial: Any) -> str:  # noqa: ANN401  (Tune's own trial)
    return str(trial.config["trial"]["trial"])


def _make_callback(trials: "Sequence[TrialSpecification]", observer: Observer) -> Any:  # noqa: ANN401  (needs ray)
    """Return the Tune callback that tells the observer; made here because its base class needs Ray."""
    from ray import tune

    class Messenger(tune.Callback):
        def __init__(self) -> None:
            self.by_name = {trial.trial: trial for trial in trials}
            self.failures: dict[str, dict[str, str]] = {}

        def __reduce__(self) -> tuple[type, tuple[()]]:
            """Tune pickles callbacks to restore them, which nobody asks for here; a thread does not pickle."""
            return tune.Callback, ()

        def specification(self, trial: Any) -> "TrialSpecification":  # noqa: ANN401
            return self.by_name[_trial_name(trial)]

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
            elif "row" in result:
                observer.trial_reported(self.specification(trial), result["row"])

        def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:  # noqa: ANN401, ARG002
            observer.trial_ended(self.specification(trial), self.failures.pop(_trial_name(trial), None))

        def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:  # noqa: ANN401, ARG002
            observer.trial_ended(self.specification(trial), _lost_process(trial))

    return Messenger()


def _lost_process(trial: Any) -> dict[str, str]:  # noqa: ANN401  (Tune's own trial)
    """Return why Tune gave a trial up: its process died more often than it may be started again."""
    error = trial.get_error()
    text = str(error) if error is not None else "no reason was given"
    return {"error": f"the trial's process was lost: {' '.join(text.split())[:200]}", "traceback": text}
