"""Commands about clusters, and those that their head runs."""

from pathlib import Path
from typing import Annotated

import typer

from study.cli.apps import cluster_app, head_app
from study.cli.arguments import Home, Json, home_of
from study.cli.failures import EXIT_PROBLEMS

ServerPort = Annotated[int, typer.Option(help="Port on the loopback address.", min=1, max=65535)]


@cluster_app.command("check")
def cluster_check(
    file: Annotated[Path, typer.Argument(help="The file given to `ray up`.")],
    timeout: Annotated[float, typer.Option(help="Most seconds to wait for machines that are to join.", min=0)] = 60,
    as_json: Json = False,
) -> None:
    """Check a cluster: its file and credentials here, its head, and versions, GPUs and folders of every machine."""
    from study import screen
    from study.cluster import check
    from study.cluster.file import read

    raise typer.Exit(screen.show_findings(check.check(read(file), timeout), as_json=as_json))


@cluster_app.command("relay", hidden=True)
def cluster_relay(port: int, target: int) -> None:
    """On the head of a cluster: pass connections on from one port of the loopback address to another."""
    from study.cluster.relay import relay

    relay(port, target)


@cluster_app.command("probe", hidden=True)
def cluster_probe(
    home: Home = None,
    count: Annotated[int, typer.Option("--nodes", help="Nodes to wait for, the head included.", min=1)] = 1,
    timeout: Annotated[float, typer.Option(help="Most seconds to wait for them.", min=0)] = 60.0,
    as_json: Json = False,  # noqa: ARG001  (it prints nothing else)
) -> None:
    """Print what every node of the cluster that this machine is the head of says of itself."""
    import json

    from study.cluster.probe import probe

    print(json.dumps(probe(home_of(home), count, timeout), indent=1))


@head_app.command("start")
def head_start(
    home: Home = None,
    port: ServerPort = 5000,
    database: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Database that keeps the runs; one with a password: in STUDY_BACKEND_STORE_URI.",
            show_default="mlflow.db in the folder of all studies",
        ),
    ] = None,
) -> None:
    """Start MLflow behind a password and print its address; it runs until it is stopped."""
    from study import screen, server

    if database is not None:
        server.refuse_secret(database)
    started = server.start(home_of(home), port, database=database)
    print(started.uri)
    screen.say(f"runs are kept in {started.backend}; user and password: ~/.mlflow/credentials")


@head_app.command("stop")
def head_stop() -> None:
    """Stop the server that `study head start` started, and no other process."""
    from study import screen, server

    screen.say("the MLflow server was stopped" if server.stop() else "no MLflow server was running")


@head_app.command("status")
def head_status() -> None:
    """Print the address of the server; exit code 1 if it does not answer."""
    from study import screen, server

    found = server.find()
    if found is None or not server.answers(found):
        screen.say("no MLflow server answers: start it with `study head start`")
        raise typer.Exit(EXIT_PROBLEMS)
    print(found.uri)
