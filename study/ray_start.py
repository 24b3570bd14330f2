"""Ray for one command: on this machine, begun while the command is still read, or the cluster that is running."""

import logging
import os
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, redirect_stdout, suppress
from pathlib import Path
from typing import Any

from study import interrupt
from study.definition import Resources
from study.errors import StudyError
from study.nodes import Machine, machines
from study.private import loopback_only, protect_token

_ENVIRONMENT = {
    "RAY_AIR_NEW_OUTPUT": "0",  # with verbose=0 the only way to keep Tune off the terminal
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # a trial that changes directory cannot resolve relative paths
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # three loggers a trial that nobody reads; ours are the rows
    "TUNE_GLOBAL_CHECKPOINT_S": "600",  # Tune's own snapshots: we go on from our rows and checkpoints instead
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}
ALLOCATOR = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(2**40),
    "MALLOC_TOP_PAD_": str(2**26),
    "MALLOC_ARENA_MAX": "1",  # a trial is a thread, and the heaps of threads cannot grow as large as a tensor
}
"""Has glibc keep what a trial frees until the trial ends: else every large tensor is new pages, which the system has to
clear first, a fifth of a step on a CPU. It is for processes that begin with it, as those that trials run in."""
_LOCAL_OBJECT_STORE = 128 * 2**20
"""Bytes of shared memory for Ray on one machine; trials exchange nothing but rows."""
_WORKERS = "STUDY_WORKERS"
"""See ``trainables.worker``."""
_KEPT = {"idle_worker_killing_time_threshold_ms": 60_000}
"""Else Ray ends them after a second, as soon as Tune has reserved the CPUs that they were meant for."""
_TUNES = ("DEFAULT_ENV_VARS", "ENV_VARS_TO_PROPAGATE")
"""What Tune wants the processes of trials to be started with."""
_TAKING_BACK_S = 0.1
"""How often signals are taken back from Ray while it starts."""
_WORKERS_S = 15.0
"""Most seconds that the first trials wait for processes that are being started."""


def available_cpus() -> int:
    """Return how many CPUs this process may use: its affinity, limited by the control group's quota."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
    except (OSError, ValueError):
        return allowed
    return allowed if quota == "max" else max(1, min(allowed, int(quota) // int(period)))


class _Early(threading.Thread):
    """Starts Ray on this machine while the driver does something else.

    It lives as long as Ray does: the kernel ends the processes of Ray with the thread that has started them.

    Args:
        at_a_time: how many trials will run at a time.
    """

    def __init__(self, at_a_time: int) -> None:
        super().__init__(name="ray-start", daemon=True)
        self._at_a_time = at_a_time
        self._ended, self._over = threading.Event(), threading.Event()
        self._failure: BaseException | None = None

    def run(self) -> None:
        """Start Ray and wait until it is no longer needed."""
        try:
            if self._at_a_time < available_cpus():
                _init_here()  # not all of its processes will get a trial
            else:
                _init_with_workers()
        except BaseException as failure:  # told by whoever waits
            self._failure = failure
        finally:
            self._ended.set()
        self._over.wait()

    @property
    def has_ended(self) -> bool:
        """Whether it is up, or has failed."""
        return self._ended.is_set()

    def wait(self) -> None:
        """Return once Ray is up.

        Raises:
            BaseException: what has kept it from starting.
        """
        while not self._ended.wait(_TAKING_BACK_S):
            interrupt.take_back()
        if self._failure is not None:
            raise self._failure

    def end(self) -> None:
        """Let the thread end; Ray must have been shut down."""
        self._over.set()
        self.join()


_early: _Early | None = None


def begin(trials: int, resources: Resources) -> None:
    """Start Ray on this machine in the background, for the next ``ray_started(None, ...)``.

    What begins here has to be taken, or ended by ``abandon``, before the process ends.

    Args:
        trials: how many there are to run, at least.
        resources: what each may use.
    """
    global _early  # as there is one Ray in a process
    if _early is None:
        _prepare(None)
        _early = _Early(min(trials, available_cpus() // resources.cpus, resources.max_concurrent or trials))
        _early.start()


def abandon(*, at_once: bool = False) -> bool:
    """End what ``begin`` has begun and nobody has taken; return whether that could be done.

    Args:
        at_once: do not wait for a Ray that is still starting. It ends with this process then, which has to leave by
            ``os._exit``: an import that Ctrl-C has interrupted may hold a lock that the other thread waits for.
    """
    if (early := _take()) is None:
        return True
    if at_once and not early.has_ended:
        return False
    with suppress(Exception):  # it did not start: nothing to end, and nobody who wants to know
        early.wait()
        import ray

        ray.shutdown()
    early.end()
    return True


def _take() -> _Early | None:
    global _early
    early, _early = _early, None
    return early


@contextmanager
def ray_started(address: str | None, log: Path) -> Iterator[list[Machine]]:
    """Start Ray on this machine, or join the cluster at ``address``; yield the machines it has and may get.

    Args:
        address: of a running cluster; None starts Ray here, with as many CPUs as this process may use.
        log: file that Ray's own messages go to.

    Raises:
        StudyError: Ray cannot be reached or started.
    """
    _prepare(address)
    early = None if address else _early
    try:
        with interrupt.kept():
            early.wait() if early else _init_here() if address is None else _join(address)
        if early:
            _take()
    except (ConnectionError, RuntimeError, ValueError, OSError) as failure:
        reason = " ".join(str(failure).split())[:300]
        if address is None:
            raise StudyError(f"Ray cannot be started on this machine: {reason}") from failure
        hint = "is it up, and is this user's ~/.ray/auth_token the cluster's?"
        raise StudyError(f"the Ray cluster at {address} cannot be joined: {reason}; {hint}") from failure
    except SystemExit:  # Ray's own answer to SIGTERM while it starts
        raise KeyboardInterrupt from None
    import ray

    with _logging_to(log), nullcontext() if address else _same_environment():
        try:
            yield machines()
        finally:
            with interrupt.kept():
                ray.shutdown()
            if early:
                early.end()


def _prepare(address: str | None) -> None:
    """Set what Ray and its workers find in their environment."""
    for name, value in (_ENVIRONMENT | ({} if address else ALLOCATOR)).items():
        os.environ.setdefault(name, value)
    if address and _token_exists():
        os.environ.setdefault("RAY_AUTH_MODE", "token")
    protect_token()


def _init_here(**settings: object) -> None:
    with loopback_only():
        import ray

        ray.init(
            address="local",  # without it Ray joins whatever cluster was last started on this machine
            num_cpus=available_cpus(),
            include_dashboard=False,
            object_store_memory=_LOCAL_OBJECT_STORE,
            _system_config={**_KEPT, **settings},
            **_QUIET,
        )


def _init_with_workers() -> None:
    """Start Ray and have the processes that it starts, one for every CPU, import what a trial needs."""
    with tempfile.TemporaryDirectory(prefix="study-", ignore_cleanup_errors=True) as folder:
        os.environ[_WORKERS] = folder
        try:
            _init_here(preload_python_modules=["trainables.worker"])
        finally:
            del os.environ[_WORKERS]
        given_up = time.monotonic() + _WORKERS_S
        while len(os.listdir(folder)) < available_cpus() and time.monotonic() < given_up:
            time.sleep(0.02)


@contextmanager
def _same_environment() -> Iterator[None]:
    """Have Tune ask for no environment of its own: it is inherited here, and processes that are there would not do.

    Where Tune has other names for these, trials start later, and nothing else changes.
    """
    from ray.tune.execution import class_cache

    names = vars(class_cache)
    before = {name: names[name] for name in _TUNES if name in names}
    names.update((name, type(value)()) for name, value in before.items())
    try:
        yield
    finally:
        names.update(before)


def _join(address: str) -> None:
    import ray

    ray.init(address=address, runtime_env=_plugins() | {"env_vars": ALLOCATOR}, **_QUIET)


_QUIET: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}


def _plugins() -> dict[str, Any]:
    """Return what Ray hands to its workers: the plug-ins that a study was sent with from another machine."""
    folder = os.environ.get("STUDY_PLUGINS")
    return {"working_dir": folder} if folder else {}


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
