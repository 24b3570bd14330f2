"""The tracking server of a cluster's head: one server, behind a password, with no secret anywhere it can be read."""

import base64
import contextlib
import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from pathlib import Path

import pytest

pytest.importorskip("flask_wtf", reason="mlflow[auth] is not installed")

from study import server, tracking
from study.cli import main_with
from study.errors import StudyError

REPOSITORY = Path(__file__).resolve().parent.parent.parent


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def status(url: str, **headers: str) -> int:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        return opener.open(urllib.request.Request(url, headers=headers), timeout=20).status
    except urllib.error.HTTPError as refusal:
        return refusal.code


@pytest.fixture(scope="module")
def user(tmp_path_factory):
    """A user with a home of their own."""
    with pytest.MonkeyPatch.context() as patch:
        home = tmp_path_factory.mktemp("user")
        patch.setenv("HOME", str(home))
        patch.setenv("MLFLOW_SERVER_DISABLE_SECURITY_MIDDLEWARE", "true")  # must not reach the server
        for name in ("MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", server.BACKEND):
            patch.delenv(name, raising=False)
        yield home


@pytest.fixture(scope="module")
def running(user):
    started = server.start(user / "studies", free_port())
    yield started
    server.stop()


@pytest.fixture
def password(running, user):
    line = (user / ".mlflow/credentials").read_text().splitlines()[2]
    return line.partition(" = ")[2]


def test_it_wants_the_password_and_takes_it(running, password):
    listing = f"{running.uri}/api/2.0/mlflow/experiments/search?max_results=1"
    right, wrong = (base64.b64encode(f"admin:{each}".encode()).decode() for each in (password, "password1234"))
    assert status(listing) == 401
    assert status(listing, Authorization=f"Basic {wrong}") == 401
    assert status(listing, Authorization=f"Basic {right}") == 200


def test_it_answers_to_names_of_this_machine_only(running):
    assert status(f"{running.uri}/", Host="evil.example") == 403
    assert status(f"{running.uri}/", Host=f"127.0.0.1:{running.port}") == 401


def test_it_listens_on_the_loopback_address_only(running):
    found = [line.split()[1] for line in Path("/proc/net/tcp").read_text().splitlines() if " 0A " in line]
    addresses = [address for address in found if int(address.split(":")[1], 16) == running.port]
    assert addresses == [f"0100007F:{running.port:04X}"]


def test_secrets_are_in_files_of_their_owner_and_nowhere_else(running, password, user):
    files = [path for path in user.rglob("*") if path.is_file() and path.name != "lock"]
    holding = {path.name for path in files if password.encode() in path.read_bytes()}
    assert holding == {"credentials"}
    private = [path for path in files if path.parent.name in (".study", ".mlflow")]
    assert len(private) >= 6
    assert {oct(path.stat().st_mode & 0o777) for path in [*private, user / "studies/mlflow.db"]} == {"0o600"}
    assert {oct((user / name).stat().st_mode & 0o777) for name in (".study", ".mlflow")} == {"0o700"}
    key = (user / ".study/server.key").read_text()
    for pid in running.processes():
        arguments = Path(f"/proc/{pid}/cmdline").read_text()
        assert password not in arguments
        assert key not in arguments


def test_a_second_start_is_the_same_server_and_another_home_is_refused(running, user):
    before = running.processes()
    assert server.start(user / "studies", running.port) == running
    assert running.processes() == before
    with pytest.raises(StudyError, match=r"the MLflow server of .*/studies runs already, at port"):
        server.start(user / "others", running.port)


def test_commands_on_the_head_find_it(running, user, capsys):
    assert tracking.default_uri(user / "studies") == running.uri
    assert tracking.default_uri(user / "others").startswith("sqlite")
    lines = (user / ".study/head.env").read_text().splitlines()
    assert f"export MLFLOW_TRACKING_URI={running.uri}" in lines
    assert {"export RAY_ADDRESS=auto", "export RAY_AUTH_MODE=token", f"export STUDY_HOME={user}/studies"} <= set(lines)
    with pytest.raises(SystemExit, match="0"):
        main_with(["head", "status"])
    with pytest.raises(SystemExit, match="0"):
        main_with(["ui", "--home", f"{user}/studies"])
    told = capsys.readouterr()
    assert told.out == f"{running.uri}\n{running.uri}\n"
    assert "~/.mlflow/credentials" in told.err


def test_runs_and_artifacts_go_through_it(running, user, tmp_path):
    from mlflow import MlflowClient

    client = MlflowClient(running.uri)
    experiment = client.create_experiment("through")
    run = client.create_run(experiment).info.run_id
    (tmp_path / "report.md").write_text("all of it")
    client.log_artifact(run, str(tmp_path / "report.md"))
    assert client.get_experiment(experiment).artifact_location.startswith("mlflow-artifacts:")
    assert [path.read_text() for path in (user / "studies/artifacts").rglob("report.md")] == ["all of it"]


def test_killed_halfway_its_other_processes_are_ended_and_those_of_nobody_else(running, user):
    stranger = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, start_new_session=True)
    try:
        os.kill(running.processes()[0], signal.SIGKILL)
        left = running.processes()
        assert left
        assert server.stop()
        assert not any(
            Path(f"/proc/{pid}/cmdline").exists() and Path(f"/proc/{pid}/cmdline").read_text() for pid in left
        )
        assert not server.stop()
        assert stranger.poll() is None
        assert tracking.default_uri(user / "studies").startswith("sqlite")
    finally:
        stranger.communicate(b"\n")


def test_a_process_with_another_mark_is_left_alone(user):
    environment = os.environ | {"STUDY_SERVER_MARK": "1" * 32}
    stranger = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, env=environment)
    try:
        record = {"mark": "0" * 32, "pid": stranger.pid, "port": 5000, "home": "/x", "backend": "y"}
        (user / ".study/server.json").write_text(json.dumps(record))
        assert not server.stop()
        assert stranger.poll() is None
    finally:
        stranger.communicate(b"\n")


@pytest.mark.parametrize("secret", ["ann:hunter2@127.0.0.1/x", "127.0.0.1/x?password=hunter2"])
def test_a_password_in_an_argument_is_refused_and_not_repeated(capsys, secret):
    with pytest.raises(SystemExit, match="2"):
        main_with(["head", "start", "--database", f"postgresql+psycopg://{secret}"])
    said = capsys.readouterr().err
    assert "set STUDY_BACKEND_STORE_URI to the address instead" in said
    assert "hunter2" not in said


@pytest.fixture
def postgresql():
    """The address of a PostgreSQL server of our own; another user has to reach its folder, which is not below ours."""
    specification = importlib.util.spec_from_file_location("mlflow_writer", REPOSITORY / "benchmarks/mlflow_writer.py")
    benchmark = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(benchmark)
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        try:
            address = stack.enter_context(benchmark.postgresql(Path(folder)))
        except SystemExit as reason:
            pytest.skip(str(reason))
        yield address


@pytest.mark.cluster
def test_runs_are_kept_in_postgresql_and_another_database_is_refused(monkeypatch, tmp_path, postgresql, capsys):
    pytest.importorskip("psycopg", reason="psycopg is not installed")
    import sqlalchemy
    from mlflow import MlflowClient

    monkeypatch.setenv("HOME", str(tmp_path))
    home, port = tmp_path / "studies", free_port()
    start = ["head", "start", "--home", str(home), "--port", str(port)]
    try:
        with pytest.raises(SystemExit, match="0"):
            main_with([*start, "--database", postgresql])
        with pytest.raises(SystemExit, match="2"):
            main_with([*start, "--database", "sqlite:////elsewhere.db"])
        client = MlflowClient(f"http://127.0.0.1:{port}")
        run = client.create_run(client.create_experiment("kept")).info.run_id
        client.log_metric(run, "loss", 0.5)
    finally:
        server.stop()
    told = capsys.readouterr().err
    assert "runs are kept in postgresql+psycopg://***@127.0.0.1" in told
    assert f"the MLflow server of {home} runs already, with postgresql+psycopg://***@" in told
    assert not list(tmp_path.rglob("mlflow.db"))
    engine = sqlalchemy.create_engine(postgresql)
    with engine.connect() as connection:
        assert connection.execute(sqlalchemy.text("SELECT run_uuid, value FROM metrics")).all() == [(run, 0.5)]
    engine.dispose()


def test_a_server_that_ends_says_why_in_one_line(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv(server.BACKEND, "nosuchdatabase://ann:hunter2@127.0.0.1/x")
    with pytest.raises(StudyError, match=r"the MLflow server ended before it answered: .* \(all of it: ") as told:
        server.start(tmp_path / "studies", free_port())
    assert "hunter2" not in str(told.value)
    assert "hunter2" not in (tmp_path / ".study/server.log").read_text()
    assert "\n" not in str(told.value)
    assert server.find() is None


def test_a_taken_port_is_told_before_anything_is_started(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(StudyError, match="is not free"):
            server.start(tmp_path / "studies", taken.getsockname()[1])
    assert server.find() is None


@pytest.mark.parametrize(("seen", "comes_up"), [([[], [7]], True), ([[7], [], [7]], True), ([[7], [], []], False)])
def test_a_process_whose_environment_cannot_be_read_yet_has_not_ended(seen, comes_up, monkeypatch):
    """Seen on a busy machine: the server was said to have ended in the instant in which it began."""
    looks, statuses = iter(seen), iter([401, 200])
    monkeypatch.setattr(server, "_POLL_S", 0.0)
    monkeypatch.setattr(server, "answers", lambda _: next(looks, None) is None)
    monkeypatch.setattr(server, "_status", lambda *_: next(statuses))
    monkeypatch.setattr(server, "_credentials", lambda: ("admin", "secret"))
    monkeypatch.setattr(server, "_last_line", lambda: "it said nothing")
    there = iter(seen)
    monkeypatch.setattr(server.Server, "processes", lambda _: next(there))
    begun = server.Server("mark", 5000, "home", "sqlite://")
    if comes_up:
        server._await_answer(begun, 10.0)
        assert next(statuses, None) is None
    else:
        with pytest.raises(StudyError, match="ended before it answered"):
            server._await_answer(begun, 10.0)
