"""The tracking server on the head of a cluster: MLflow behind a password, on the loopback address only.

Nobody but users of the head reaches it, through ssh if they are elsewhere; the password keeps out the other users of
the head. The secrets are in files that only their owner reads, and in the environment of the server's processes, which
the system shows to the same user alone; never in an argument or in a log.

Files, all of mode 0600 in folders of mode 0700::

    ~/.study/head.env      what the shell of a command on the head sources: where Ray, the studies and MLflow are
    ~/.study/server.json   the server's mark, port and study home
    ~/.study/server.key    signs MLflow's web forms
    ~/.study/server.log    what it says
    ~/.study/auth.ini      MLflow's settings for passwords
    ~/.study/auth.db       MLflow's users
    ~/.mlflow/credentials  user and password, read by MLflow's own client; kept if it is there already
"""

import base64
import configparser
import contextlib
import fcntl
import json
import os
import secrets
import shlex
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from strategies.text import redacted
from study.errors import StudyError

PORT = 5000
"""MLflow's own default."""
BACKEND = "STUDY_BACKEND_STORE_URI"
"""Environment variable with the address of a database, such as ``postgresql+psycopg://...``; SQLite without it."""
START_S = 120.0
"""Most seconds until the server answers; 11 on an idle machine of two cores."""
STOP_S = 15.0
"""Most seconds it gets to end by itself."""
_MARK = "STUDY_SERVER_MARK"
_AUTH_CACHE_S = 300
"""Seconds for which a password that was right is not hashed again, which takes 0.25 s a request."""
_POLL_S = 0.2
_LOOPBACK = "127.0.0.1"
_SETTINGS = {
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # eight helper processes, 2.7 GB, that nobody needs here
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_UVICORN_OPTS": "--log-level warning",  # a line for every request fills a disk
}


@dataclass(frozen=True)
class Server:
    """A server that was started.

    Attributes:
        mark: what the environment of each of its processes carries and no other's: who may be stopped.
        port: on the loopback address.
        home: folder of the studies it is for.
        backend: where it keeps runs, without secrets.
    """

    mark: str
    port: int
    home: str
    backend: str

    @property
    def uri(self) -> str:
        """Its address on this machine."""
        return f"http://{_LOOPBACK}:{self.port}"

    def processes(self) -> list[int]:
        """Return the ids of its processes, in the order they were started."""
        return [pid for pid in _own_processes() if _has_mark(pid, self.mark)]


def start(home: Path, port: int = PORT, *, database: str | None = None, timeout_s: float = START_S) -> Server:
    """Start the server for a study home, unless it runs already; it goes on when this process and its terminal end.

    Args:
        home: folder of all studies; made if need be.
        port: on the loopback address.
        database: address of the database that keeps the runs; by default the one that ``BACKEND`` names, or SQLite.
        timeout_s: most seconds until it answers.

    Raises:
        StudyError: it runs for another home, port or database, the port is taken, or it does not come up.
    """
    _require_linux()
    given = database or os.environ.get(BACKEND)
    with _held():
        running = find()
        if running is not None and running.processes():
            _refuse_other(running, home, port, given)
        else:
            running = _start(home, port, given)
        try:
            _await_answer(running, timeout_s)
        except StudyError:
            _end(running)
            _clean_log()
            raise
        _write_environment(running)
        return running


def refuse_secret(database: str) -> None:
    """Refuse the address of a database that was given as an argument, which every user of the machine can see.

    Raises:
        StudyError: there is a password or a key in it.
    """
    parts = urllib.parse.urlsplit(database)
    if parts.password is not None or redacted(f"?{parts.query}") != f"?{parts.query}":
        raise StudyError(
            f"--database {redacted(database)}: every user of this machine sees the password in an argument: "
            f"set {BACKEND} to the address instead, or leave the password in ~/.pgpass"
        )


def stop() -> bool:
    """Stop the server if it runs; return whether it did. No other process is touched."""
    with _held():
        running = find()
        return running is not None and _end(running)


def find() -> Server | None:
    """Return the server that this user started and did not stop, whether it still runs or not; None without one."""
    try:
        content = json.loads((_folder() / "server.json").read_text(encoding="utf-8"))
        return Server(str(content["mark"]), int(content["port"]), str(content["home"]), str(content["backend"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def address_for(home: Path) -> str | None:
    """Return the address of the server that was started for a study home and not stopped, or None."""
    server = find()
    return server.uri if server is not None and server.home == str(home) else None


def answers(server: Server) -> bool:
    """Whether the server is healthy."""
    return _status(f"{server.uri}/health") == 200


def _start(home: Path, port: int, given: str | None) -> Server:
    _refuse_taken(port)
    home.mkdir(parents=True, exist_ok=True)
    backend = given or f"sqlite:///{home / 'mlflow.db'}"
    server = Server(secrets.token_hex(16), port, str(home), redacted(backend))
    environment = _server_environment(server, backend)
    _write_secret("server.json", json.dumps(asdict(server), indent=1))
    log = os.open(_folder() / "server.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with open(log, "wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "mlflow", "server", *_arguments(home, port)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
            cwd=_folder(),
            umask=0o077,
            start_new_session=True,
        )
    process.returncode = 0  # it outlives this process, and nobody waits for it
    return server


def _arguments(home: Path, port: int) -> list[str]:
    """Return what may be seen in the list of processes."""
    return [
        *("--app-name", "basic-auth"),
        *("--host", _LOOPBACK, "--port", str(port), "--workers", "1"),
        *("--artifacts-destination", (home / "artifacts").as_uri()),
    ]


def _server_environment(server: Server, backend: str) -> dict[str, str]:
    user, password = _credentials()
    # MLflow's own variables of whoever starts it could open it to the network or turn off its host check
    inherited = {name: value for name, value in os.environ.items() if name != BACKEND and not name.startswith("MLFLOW")}
    return (
        inherited
        | _SETTINGS
        | {
            _MARK: server.mark,
            "MLFLOW_BACKEND_STORE_URI": backend,
            "MLFLOW_AUTH_CONFIG_PATH": str(_write_secret("auth.ini", _auth_settings())),
            "MLFLOW_AUTH_ADMIN_USERNAME": user,
            "MLFLOW_AUTH_ADMIN_PASSWORD": password,
            "MLFLOW_FLASK_SERVER_SECRET_KEY": _kept_secret("server.key"),
        }
    )


def _auth_settings() -> str:
    return (
        "[mlflow]\n"
        "default_permission = NO_PERMISSIONS\n"
        f"database_uri = sqlite:///{_folder() / 'auth.db'}\n"
        "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n"
        f"auth_cache_ttl_seconds = {_AUTH_CACHE_S}\n"
    )


def _credentials() -> tuple[str, str]:
    """Return user and password from the file that MLflow's client reads; made if they are not there."""
    path = Path.home() / ".mlflow" / "credentials"
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read(path)
    except configparser.Error as mistake:
        raise StudyError(f"{path} is not a file of names and values: {_line(mistake)}") from None
    user = parser.get("mlflow", "mlflow_tracking_username", fallback="")
    password = parser.get("mlflow", "mlflow_tracking_password", fallback="")
    if not (user and password):
        user, password = user or "admin", secrets.token_urlsafe(24)
        content = f"[mlflow]\nmlflow_tracking_username = {user}\nmlflow_tracking_password = {password}\n"
        _write_private(path, content)
    path.chmod(0o600)
    return user, password


def _await_answer(server: Server, timeout_s: float) -> None:
    """Wait until the server is healthy, and check that it wants the password and takes ours.

    Raises:
        StudyError: it ended, or is not healthy in time; with the last line of its log.
    """
    deadline, was_there = time.monotonic() + timeout_s, True
    while not answers(server):
        is_there = bool(server.processes())
        # Gone twice in a row: while a process begins, the system shows its environment, and so its mark, as empty.
        if not (is_there or was_there):
            raise StudyError(f"the MLflow server ended before it answered: {_last_line()}")
        if time.monotonic() > deadline:
            raise StudyError(f"the MLflow server did not answer within {timeout_s:.0f} s: {_last_line()}")
        was_there = is_there
        time.sleep(_POLL_S)
    listing = f"{server.uri}/api/2.0/mlflow/experiments/search?max_results=1"
    if _status(listing) != 401:
        raise StudyError(f"the MLflow server at {server.uri} answers without a password: it was stopped")
    if (code := _status(listing, _credentials())) != 200:
        raise StudyError(
            f"the MLflow server at {server.uri} refuses the password in ~/.mlflow/credentials (it answers {code}): "
            f"delete {_folder() / 'auth.db'} to make its users anew; runs are kept"
        )


def _status(url: str, user: tuple[str, str] | None = None) -> int:
    """Return the HTTP status of an address on this machine; 0 if nobody answers."""
    request = urllib.request.Request(url)
    if user is not None:
        request.add_header("Authorization", "Basic " + base64.b64encode(":".join(user).encode()).decode())
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # never through a proxy
    try:
        with opener.open(request, timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as refusal:
        return refusal.code
    except OSError:
        return 0


def _clean_log() -> None:
    """Take the secrets out of the log: MLflow prints the whole address of a database that it cannot use."""
    with contextlib.suppress(OSError):
        text = (_folder() / "server.log").read_text(encoding="utf-8", errors="replace")
        _write_secret("server.log", redacted(text))


def _last_line() -> str:
    """Return the last line of the log, without secrets."""
    path = _folder() / "server.log"
    try:
        lines = [line for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    except OSError:
        lines = []
    return f"{redacted(lines[-1].strip())[:300] if lines else 'it said nothing'} (all of it: {path})"


def _end(server: Server) -> bool:
    """Ask the server's processes to end, and end those that do not."""
    found = server.processes()
    deadline = time.monotonic() + STOP_S
    for pid in found:
        _signal(pid, server.mark, signal.SIGTERM)
    while (left := server.processes()) and time.monotonic() < deadline:
        time.sleep(_POLL_S)
    for pid in left:
        _signal(pid, server.mark, signal.SIGKILL)
    (_folder() / "server.json").unlink(missing_ok=True)
    return bool(found)


def _signal(pid: int, mark: str, number: signal.Signals) -> None:
    """Send a signal to a process if it carries the mark; its id cannot become another's in between."""
    with contextlib.suppress(ProcessLookupError):
        handle = os.pidfd_open(pid)
        try:
            if _has_mark(pid, mark):
                signal.pidfd_send_signal(handle, number)
        finally:
            os.close(handle)


def _own_processes() -> Iterator[int]:
    """Yield the ids of this user's processes."""
    own = os.getuid()
    for entry in sorted(Path("/proc").glob("[0-9]*"), key=lambda path: int(path.name)):
        with contextlib.suppress(OSError):
            if entry.stat().st_uid == own:
                yield int(entry.name)


def _has_mark(pid: int, mark: str) -> bool:
    try:
        return f"{_MARK}={mark}".encode() in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return False


def _refuse_other(running: Server, home: Path, port: int, given: str | None) -> None:
    end = "end it with `study head stop`"
    if running.home != str(home) or running.port != port:
        raise StudyError(f"the MLflow server of {running.home} runs already, at port {running.port}: {end}")
    if given is not None and running.backend != redacted(given):
        raise StudyError(f"the MLflow server of {running.home} runs already, with {running.backend}: {end}")


def _refuse_taken(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((_LOOPBACK, port))
        except OSError as failure:
            raise StudyError(f"port {port} is not free ({failure.strerror}): choose another with --port") from failure


def _require_linux() -> None:
    if not sys.platform.startswith("linux"):
        raise StudyError(f"the head of a cluster runs Linux, and this is {sys.platform}")


def _write_environment(server: Server) -> None:
    values = {
        "RAY_ADDRESS": "auto",
        "RAY_AUTH_MODE": "token",
        "STUDY_HOME": server.home,
        "MLFLOW_TRACKING_URI": server.uri,
    }
    _write_secret("head.env", _as_shell(values))


def _as_shell(values: Mapping[str, str]) -> str:
    return "".join(f"export {name}={shlex.quote(value)}\n" for name, value in values.items())


def _folder() -> Path:
    return Path.home() / ".study"


@contextlib.contextmanager
def _held() -> Iterator[None]:
    """Hold the server's files for this process; a second start waits for the first."""
    _make_private(_folder())
    with (_folder() / "lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _kept_secret(name: str) -> str:
    path = _folder() / name
    if not path.exists():
        _write_secret(name, secrets.token_hex(32))
    return path.read_text(encoding="ascii")


def _write_secret(name: str, content: str) -> Path:
    return _write_private(_folder() / name, content)


def _write_private(path: Path, content: str) -> Path:
    """Write a file that only its owner may read, from its first byte on; whole or not at all."""
    _make_private(path.parent)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(content)
    return temporary.replace(path)


def _make_private(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)
    except OSError as failure:
        raise StudyError(f"{folder} cannot be written: {failure.strerror or failure}") from failure


def _line(failure: Exception) -> str:
    return " ".join(str(failure).split())
