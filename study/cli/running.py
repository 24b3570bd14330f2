"""Commands that run studies: here, elsewhere, again, or not yet."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from strategies.errors import UserError
from study import interrupt
from study.cli.apps import RUN, app
from study.cli.arguments import (
    ClusterFile,
    CorpusName,
    DefinitionName,
    Home,
    Json,
    Overrides,
    Quiet,
    RayAddress,
    RetryFailed,
    Root,
    StudyName,
    definition_of,
    home_of,
)
from study.cli.failures import EXIT_PROBLEMS, complain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from study.cluster.session import Session
    from study.job import Outcome


@app.command(rich_help_panel=RUN)
def run(
    definition: DefinitionName,
    home: Home = None,
    overrides: Overrides = None,
    corpus: CorpusName = None,
    root: Root = None,
    address: RayAddress = None,
    cluster: ClusterFile = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Forget what an earlier run of this study has done.")] = False,
    retry_failed: RetryFailed = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with what an earlier run has done, as happens without it.")
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Run a study, or go on with it: train every arm with every seed, record, compare, report."""
    from study import driver, ray_start

    if fresh and resume:
        raise UserError("--fresh forgets what --resume goes on with: choose one")
    chosen, folder = definition_of(definition, overrides, corpus, root), home_of(home)
    if cluster is None and address is None and (fresh or not driver.has_ended(folder / chosen.study)):
        ray_start.begin(len(chosen.arms) * len(chosen.seeds), chosen.resources)
    from study import job, provenance, screen  # after that: Ray starts meanwhile
    from study.progress import make_display

    if cluster is not None:
        flags = [flag for flag, given in (("--fresh", fresh), ("--retry-failed", retry_failed)) if given]
        _on_cluster(cluster, folder, quiet, lambda session: _checked_run(session, chosen, flags))
    outcome = job.run(
        chosen, folder, make_display(quiet=quiet), address=address, fresh=fresh, retry_failed=retry_failed
    )
    raise typer.Exit(screen.show_outcome(outcome, provenance.command()))


def _on_cluster(cluster: Path, home: Path, quiet: bool, action: "Callable[[Session], Outcome]") -> NoReturn:
    """Do something with a study on a cluster, show how it ended, and exit; Ctrl-C leaves the study to itself."""
    from study import provenance, screen
    from study.cluster import file
    from study.cluster.session import Detached, Session
    from study.progress import make_display

    session = Session(file.read(cluster), home, make_display(quiet=quiet))
    try:
        outcome = action(session)
    except KeyboardInterrupt:
        if not session.study:
            raise
        interrupt.heard()
        raise typer.Exit(screen.show_detached(session.study, str(cluster))) from None
    except Detached as lost:
        complain(str(lost))
        raise typer.Exit(EXIT_PROBLEMS) from None
    raise typer.Exit(screen.show_outcome(outcome, _going_on(provenance.command()), cluster=str(cluster)))


def _going_on(command: str) -> str:
    """Return the command that goes on where one has ended: following alone does not."""
    return command.replace("study attach", "study resume", 1)


def _checked_run(session: "Session", chosen: Any, flags: list[str]) -> "Outcome":  # noqa: ANN401
    from study import screen
    from study.cluster.session import validate

    validate(chosen)
    if problems := session.problems():
        screen.show_findings(problems, as_json=False)
        screen.say(f"nothing was started; all that was looked at: study cluster check {session.file.path}")
        raise typer.Exit(EXIT_PROBLEMS)
    return session.run(chosen, flags)


@app.command(rich_help_panel=RUN)
def attach(
    study: StudyName,
    home: Home = None,
    cluster: ClusterFile = None,
    events: Annotated[bool, typer.Option("--events", hidden=True)] = False,
    quiet: Quiet = False,
) -> None:
    """Follow a study that runs elsewhere: in another terminal, or on a cluster; Ctrl-C ends nothing but this."""
    from study import follow, provenance, records, screen
    from study.cluster import launch
    from study.cluster.session import outcome_of
    from study.progress import make_display

    if cluster is not None:
        _on_cluster(cluster, home_of(home), quiet, lambda session: session.attach(study))
    folder = records.find(home_of(home), study)
    if events:
        _tell(launch.told(folder, started=True))
        return
    try:
        over = follow.show(follow.events(folder), make_display(quiet=quiet))
    except KeyboardInterrupt:
        interrupt.heard()
        raise typer.Exit(screen.show_detached(folder.name)) from None
    if over is None:
        raise typer.Exit(EXIT_PROBLEMS)
    if over["lost"]:
        screen.say(f"study: the process that ran it has ended before its time: {over['lost']}")
    raise typer.Exit(screen.show_outcome(outcome_of(folder, over), _going_on(provenance.command())))


def _tell(events: "Iterable[dict[str, Any]]") -> None:
    from study import follow

    for event in events:
        print(follow.encoded(event), flush=True)


@app.command(hidden=True)
def launch(
    bundle: Annotated[Path | None, typer.Argument(help="What a laptop has sent.")] = None,
    resume: Annotated[str | None, typer.Option("--resume", help="Study to go on with instead.")] = None,
    home: Home = None,
    fresh: Annotated[bool, typer.Option("--fresh")] = False,
    retry_failed: RetryFailed = False,
) -> None:
    """On the head of a cluster: start a study that goes on without us, and tell what happens to it."""
    from study import records
    from study.cluster import launch

    flags = [flag for flag, given in (("--fresh", fresh), ("--retry-failed", retry_failed)) if given]
    if resume is not None:
        folder = records.find(home_of(home), resume)
        started = launch.relaunch(folder, flags)
    elif bundle is not None:
        folder, started = launch.launch(bundle, home_of(home), flags)
    else:
        raise UserError("launch: name a bundle, or a study with --resume")
    _tell(launch.told(folder, started=started))


@app.command(rich_help_panel=RUN)
def stop(study: StudyName, home: Home = None, cluster: ClusterFile = None) -> None:
    """Stop a study that runs elsewhere as Ctrl-C there would: finished trials are kept, running ones go on later."""
    from study import driver, records, screen

    if cluster is not None:
        from study.cluster import file
        from study.cluster.session import Session
        from study.progress import make_display

        answer = Session(file.read(cluster), home_of(home), make_display(quiet=True)).stop(study)
        screen.say(*(line.removeprefix("study: ") for line in answer.lines))
        raise typer.Exit(answer.code)
    folder = records.find(home_of(home), study)
    stopped = driver.stop(folder)
    screen.show_stopped(folder, stopped=stopped)


@app.command(rich_help_panel=RUN)
def resume(
    study: StudyName,
    home: Home = None,
    address: RayAddress = None,
    cluster: ClusterFile = None,
    retry_failed: RetryFailed = False,
    quiet: Quiet = False,
) -> None:
    """Go on with a study from nothing but its own folder, after whatever ended it."""
    from study import job, provenance, records, screen
    from study.cluster import launch
    from study.progress import make_display

    if cluster is not None:
        flags = ["--retry-failed"] if retry_failed else []
        _on_cluster(cluster, home_of(home), quiet, lambda session: session.resume(study, flags))
    folder = records.find(home_of(home), study)
    launch.use_plugins(folder)
    outcome = job.resume(folder, make_display(quiet=quiet), address=address, retry_failed=retry_failed)
    raise typer.Exit(screen.show_outcome(outcome, provenance.command()))


@app.command(rich_help_panel=RUN)
def plan(
    definition: DefinitionName,
    overrides: Overrides = None,
    corpus: CorpusName = None,
    root: Root = None,
    pilot: Annotated[
        bool, typer.Option("--pilot", help="Train one epoch of each network and strategy, and tell hours and disk.")
    ] = False,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Show what would run, without running it."""
    from study import job, screen
    from study.plan_text import describe
    from study.progress import make_display
    from study.records import StudyFolder
    from study.warm_start import with_points

    chosen = definition_of(definition, overrides, corpus, root)
    screen.say(*(f"study: {line}" for line in job.name_clashes(chosen)))
    planned = with_points(job.planned(chosen), StudyFolder(home_of(home) / chosen.study))
    lines = dict(describe(planned))
    measured = job.piloted(chosen, make_display(quiet=False)) if pilot else {}
    screen.show_mapping(lines | measured, as_json=as_json)
