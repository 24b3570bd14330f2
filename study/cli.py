"""The command line: argv in, one call, print. Heavy imports happen inside the commands."""

import errno
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from strategies.errors import UserError, unknown
from strategies.text import printable, shown
from study import interrupt

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from study.cluster.session import Session
    from study.job import Outcome


class _Commands(TyperGroup):
    """Says what becomes of a command that is interrupted; the parser would end it without a word."""

    def make_context(self, *arguments: Any, **options: Any) -> Any:  # noqa: ANN401  (the parser's own types)
        return _told(super().make_context, *arguments, **options)

    def invoke(self, ctx: Any) -> Any:  # noqa: ANN401
        return _told(super().invoke, ctx)


def _told(action: "Callable[..., Any]", *arguments: Any, **options: Any) -> Any:  # noqa: ANN401
    try:
        return action(*arguments, **options)
    except KeyboardInterrupt:
        raise typer.Exit(_interrupted()) from None


app = typer.Typer(
    cls=_Commands,
    name="study",
    help="Fair, distributed studies of how to weight the losses of a multi-task network.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
corpus_app = typer.Typer(help="Prepare, check and describe a corpus.", no_args_is_help=True)
app.add_typer(corpus_app, name="corpus")


class _NameOrCommand(TyperGroup):
    """Reads `study strategies NAME` as `study strategies show NAME`."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:  # noqa: ANN401  (the parser's own types)
        named = not args[0].startswith("-") and self.get_command(ctx, args[0]) is None
        return super().resolve_command(ctx, ["show", *args] if named else args)


strategies_app = typer.Typer(
    cls=_NameOrCommand,
    help="List the weighting strategies, show one in full, or check one.",
    subcommand_metavar="[NAME] | COMMAND [ARGS]...",
)
app.add_typer(strategies_app, name="strategies")
cluster_app = typer.Typer(help="Check a cluster that `ray up` has started.", no_args_is_help=True)
app.add_typer(cluster_app, name="cluster")
export_app = typer.Typer(help="Put a trained network, or a search, where others find it.", no_args_is_help=True)
app.add_typer(export_app, name="export")
new_app = typer.Typer(help="Start a plug-in of your own.", no_args_is_help=True)
app.add_typer(new_app, name="new")
head_app = typer.Typer(
    help="The tracking server on the head of a cluster; cluster files call this.", no_args_is_help=True
)
app.add_typer(head_app, name="head", hidden=True)

EXIT_PROBLEMS = 1
"""Some trials failed, or a check found problems."""
EXIT_USAGE = 2
"""The command or the definition says something it may not say."""
EXIT_INTERRUPTED = 130

DefinitionName = Annotated[str, typer.Argument(help="A shipped definition, or the path of a .yaml file.")]
StudyName = Annotated[str, typer.Argument(help="A study, or the beginning of its name.")]
Home = Annotated[
    Path | None, typer.Option("--home", help="Folder of all studies.", envvar="STUDY_HOME", show_default="./studies")
]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override the definition; may be repeated.")
]
CorpusName = Annotated[str | None, typer.Option("--corpus", help="Corpus to use instead of the definition's.")]
Root = Annotated[Path | None, typer.Option("--root", help="Folder of the corpus.")]
CorpusOptions = Annotated[
    list[str] | None, typer.Option("--option", metavar="KEY=VALUE", help="Option of the corpus; repeatable.")
]
ClusterFile = Annotated[
    Path | None,
    typer.Option("--cluster", metavar="FILE", help="Do it on the cluster that `ray up FILE` has started."),
]
RayAddress = Annotated[
    str | None,
    typer.Option(
        "--address", help="Address of a running Ray cluster.", envvar="RAY_ADDRESS", show_default="start Ray here"
    ),
]
RetryFailed = Annotated[bool, typer.Option("--retry-failed", help="Run trials that failed again.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Tolerance = Annotated[
    float | None,
    typer.Option(
        "--tolerance", help="Largest difference that counts as the same.", min=0, show_default="0; 0.01 on a GPU"
    ),
]
Csv = Annotated[bool, typer.Option("--csv", help="Print CSV.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but results and warnings.")]


def main() -> NoReturn:
    """Run the command line."""
    interrupt.heed()
    try:
        main_with(sys.argv[1:])
    except KeyboardInterrupt:  # another one, while the first was being told
        interrupt.heard()
        sys.exit(EXIT_INTERRUPTED)


def main_with(arguments: list[str]) -> NoReturn:
    """Run one command and exit; a mistake of the user is one line on standard error and exit code 2."""
    try:
        code = app(arguments, standalone_mode=False)
    except UserError as mistake:
        code = _complain(str(mistake))
    except typer.Exit as end:
        code = end.exit_code
    except (typer.Abort, KeyboardInterrupt):
        code = _interrupted()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except OSError as failure:
        if failure.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        where = f" ({failure.filename})" if failure.filename else ""
        code = _complain(f"the disk is full{where}: make room, and the same command goes on; what was finished is kept")
    except Exception as failure:
        code = _usage_error(failure)
    sys.exit(code if isinstance(code, int) else 0)


def _interrupted() -> int:
    interrupt.heard()
    _complain("interrupted; what was finished is kept, and the same command goes on")
    return EXIT_INTERRUPTED


def _complain(message: str) -> int:
    print(f"study: {shown(message)}", file=sys.stderr)
    return EXIT_USAGE


def _usage_error(failure: Exception) -> int:
    """Show the parser's own complaint; anything else is our bug and keeps its traceback."""
    show = getattr(failure, "show", None)
    if show is None:
        raise failure
    show()
    return int(getattr(failure, "exit_code", EXIT_USAGE))


def _version(wanted: bool) -> None:
    if wanted:
        from study import __version__

        print(f"study {__version__}")
        raise typer.Exit


@app.callback()
def _root_options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """Fair, distributed studies of how to weight the losses of a multi-task network."""


def _definition(name: str, overrides: list[str] | None, corpus: str | None, root: Path | None) -> Any:  # noqa: ANN401
    from study import definition

    extra = [f"corpus.name={corpus}"] if corpus else []
    extra += [f"corpus.root={root}"] if root else []
    return definition.load(name, [*extra, *(overrides or [])])


def _home(given: Path | None) -> Path:
    from study.records import study_home

    return study_home(given)


@app.command()
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
    from study import job, provenance, screen
    from study.progress import make_display

    if fresh and resume:
        raise UserError("--fresh forgets what --resume goes on with: choose one")
    chosen, folder = _definition(definition, overrides, corpus, root), _home(home)
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
        raise typer.Exit(screen.show_detached(session.study, str(cluster))) from None
    except Detached as lost:
        _complain(str(lost))
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


@app.command()
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
        _on_cluster(cluster, _home(home), quiet, lambda session: session.attach(study))
    folder = records.find(_home(home), study)
    if events:
        _tell(launch.told(folder, started=True))
        return
    try:
        over = follow.show(follow.events(folder), make_display(quiet=quiet))
    except KeyboardInterrupt:
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
        folder = records.find(_home(home), resume)
        started = launch.relaunch(folder, flags)
    elif bundle is not None:
        folder, started = launch.launch(bundle, _home(home), flags)
    else:
        raise UserError("launch: name a bundle, or a study with --resume")
    _tell(launch.told(folder, started=started))


@app.command()
def stop(study: StudyName, home: Home = None, cluster: ClusterFile = None) -> None:
    """Stop a study that runs elsewhere as Ctrl-C there would: finished trials are kept, running ones go on later."""
    from study import driver, records, screen

    if cluster is not None:
        from study.cluster import file
        from study.cluster.session import Session
        from study.progress import make_display

        answer = Session(file.read(cluster), _home(home), make_display(quiet=True)).stop(study)
        screen.say(*(line.removeprefix("study: ") for line in answer.lines))
        raise typer.Exit(answer.code)
    folder = records.find(_home(home), study)
    stopped = driver.stop(folder)
    screen.show_stopped(folder, stopped=stopped)


@app.command()
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
        _on_cluster(cluster, _home(home), quiet, lambda session: session.resume(study, flags))
    folder = records.find(_home(home), study)
    launch.use_plugins(folder)
    outcome = job.resume(folder, make_display(quiet=quiet), address=address, retry_failed=retry_failed)
    raise typer.Exit(screen.show_outcome(outcome, provenance.command()))


@app.command()
def plan(
    definition: DefinitionName,
    overrides: Overrides = None,
    corpus: CorpusName = None,
    root: Root = None,
    pilot: Annotated[
        bool, typer.Option("--pilot", help="Train one epoch of each network and strategy, and tell hours and disk.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show what would run, without running it."""
    from study import job, screen
    from study.plan import describe
    from study.progress import make_display

    chosen = _definition(definition, overrides, corpus, root)
    screen.say(*(f"study: {line}" for line in job.name_clashes(chosen)))
    lines = dict(describe(job.planned(chosen)))
    measured = job.piloted(chosen, make_display(quiet=False)) if pilot else {}
    screen.show_mapping(lines | measured, as_json=as_json)


@app.command("list")
def list_studies(home: Home = None, as_json: Json = False, as_csv: Csv = False) -> None:
    """List the studies in the study home."""
    from study import screen

    screen.show_studies(_home(home), _output(as_json, as_csv))


def _output(as_json: bool, as_csv: bool) -> str:
    """Return what results are printed as: ``text``, ``json`` or ``csv``."""
    if as_json and as_csv:
        raise UserError("--json and --csv print the same: choose one")
    return "json" if as_json else "csv" if as_csv else "text"


@app.command()
def show(
    study: StudyName,
    home: Home = None,
    metric: Annotated[
        str | None, typer.Option("--metric", help="Show one metric seed by seed, such as test/uar/emotion.")
    ] = None,
    as_json: Json = False,
    as_csv: Csv = False,
) -> None:
    """Show the comparison of a study, or one metric of it seed by seed."""
    from study import records, screen

    folder, output = records.find(_home(home), study), _output(as_json, as_csv)
    if metric is None:
        screen.show_study(folder, output)
    else:
        screen.show_metric(folder, metric, output)


@app.command()
def compare(
    first: StudyName,
    second: StudyName,
    home: Home = None,
    metric: Annotated[str, typer.Option("--metric", help="What to compare.")] = "test/joint_nll",
    as_json: Json = False,
    as_csv: Csv = False,
) -> None:
    """Compare the arms of two studies of the same data, seed by seed."""
    from study import pairing, records, screen

    folder = _home(home)
    pair = pairing.pair(records.find(folder, first), records.find(folder, second), metric)
    screen.show_pairing(pair, _output(as_json, as_csv))


@app.command()
def report(
    study: StudyName,
    home: Home = None,
    format_name: Annotated[
        str, typer.Option("--format", help="One of html, md, latex, csv, parquet, json.", metavar="FORMAT")
    ] = "html",
) -> None:
    """Write the report of a study and print where it is: one page that opens anywhere, or its tables."""
    from study import records
    from study.report import FORMATS, write_format

    if format_name not in FORMATS:
        raise UserError(unknown("format", format_name, FORMATS))
    folder = records.find(_home(home), study)
    print(write_format(records.load_results(folder), folder.report, format_name))


@app.command()
def verify(
    study: StudyName,
    trial: Annotated[str, typer.Option("--trial", help="Which, such as softmax-seed0.")],
    home: Home = None,
    tolerance: Tolerance = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train a trial again and compare every number with what was recorded; exit code 1 if one is not the same."""
    from study import records, screen, verification
    from study.cluster import launch
    from study.progress import make_display

    folder = records.find(_home(home), study)
    launch.use_plugins(folder)
    verdict = verification.verify(folder, trial, make_display(quiet=quiet), tolerance)
    screen.show_verification(verdict, as_json=as_json)
    raise typer.Exit(EXIT_PROBLEMS if verdict.differences else 0)


@app.command()
def reproduce(
    lock: Annotated[Path, typer.Argument(help="The lock.json of a study, or the folder that holds it.")],
    out: Annotated[Path, typer.Option("--out", help="New study home.")] = Path("reproduced"),
    root: Root = None,
    address: RayAddress = None,
    tolerance: Tolerance = None,
    quiet: Quiet = False,
) -> None:
    """Run a study again from its lock file and compare every row; exit code 1 if one is not the same."""
    from study import reproduction, screen
    from study.progress import make_display

    home = out.expanduser().resolve()
    found = reproduction.reproduce(
        lock.expanduser(), home, make_display(quiet=quiet), root=root, address=address, tolerance=tolerance
    )
    screen.print_lines(found.lines)
    raise typer.Exit(EXIT_PROBLEMS if found.has_rows and not found.is_same else 0)


@app.command()
def sync(study: StudyName, home: Home = None) -> None:
    """Bring MLflow up to what a study has on disk; rebuilds it from nothing if need be."""
    from study import job, records

    print(job.sync(records.find(_home(home), study)))


@app.command()
def predict(
    model: Annotated[str, typer.Argument(help="A best.pt, STUDY/TRIAL, or the address of a model in MLflow.")],
    clips: Annotated[list[Path], typer.Argument(metavar="CLIP...", help="Sound files or films.")],
    text: Annotated[
        list[str] | None, typer.Option("--text", help="What is said; once for each clip, in their order.")
    ] = None,
    transcripts: Annotated[
        Path | None, typer.Option("--transcripts", metavar="FILE", help="CSV file with the columns clip and text.")
    ] = None,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Say what a trained network makes of audio and video files; exit code 2 if one cannot be used."""
    from study import prediction

    raise typer.Exit(prediction.predict(model, clips, text or [], transcripts, _home(home), as_json=as_json))


@export_app.command("optuna")
def export_optuna(
    study: StudyName,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="File to write.", show_default="in the study's folder")
    ] = None,
    home: Home = None,
) -> None:
    """Write the search of a study as an Optuna storage, for optuna-dashboard, and print where it is."""
    from study import optuna_export, records, screen

    path = optuna_export.export(records.find(_home(home), study), out)
    print(path)
    screen.say(f"to look at it: pip install optuna-dashboard; optuna-dashboard sqlite:///{path}")


@export_app.command("model")
def export_model(
    study: StudyName,
    trial: Annotated[str | None, typer.Option("--trial", help="Which.", show_default="the best on validation")] = None,
    home: Home = None,
) -> None:
    """Keep the chosen network of a trial in MLflow's format and print its address."""
    from study import prediction

    prediction.export(study, trial, _home(home))


@app.command()
def ui(
    home: Home = None,
    port: Annotated[int, typer.Option(help="Port on this machine.", min=1, max=65535)] = 5000,
    cluster: ClusterFile = None,
) -> None:
    """Open the MLflow pages of the study home on this machine, or of a cluster; Ctrl-C ends it."""
    from study.tracking import serve

    if cluster is not None:
        from study import screen
        from study.cluster import file
        from study.cluster.session import tunnel

        with tunnel(file.read(cluster), port) as (opened, lines):
            screen.show_tunnel(opened)
            try:
                for _ in lines:
                    pass
            except KeyboardInterrupt:
                raise typer.Exit(0) from None
    serve(_home(home), port)


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


@strategies_app.callback(invoke_without_command=True)
def strategies(context: typer.Context, as_json: Json = False) -> None:
    """List the weighting strategies."""
    context.obj = as_json
    if context.invoked_subcommand is None:
        from study import screen

        screen.show_strategies(as_json=as_json)


@strategies_app.command("show")
def strategies_show(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Name of the strategy.")],
    as_json: Json = False,
) -> None:
    """Show one strategy in full; the word `show` may be left out."""
    from study import screen

    screen.show_strategy(name, as_json=as_json or bool(context.obj))


@strategies_app.command("check")
def strategies_check(
    context: typer.Context,
    target: Annotated[str, typer.Argument(help="package.module:Class, or the name of a strategy.")],
    options: Annotated[
        list[str] | None, typer.Option("--option", metavar="KEY=VALUE", help="Option to build it with; repeatable.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Run the conformance kit on a strategy: does it keep the contract?"""
    from contextlib import redirect_stdout

    from strategies import examination
    from study import definition, screen

    given = definition.parse_options(options or [])
    with examination.importable_from(Path.cwd()), redirect_stdout(sys.stderr):  # what the class prints is no verdict
        verdicts = examination.examine(examination.find(target), given)
    raise typer.Exit(screen.show_verdicts(target, verdicts, as_json=as_json or bool(context.obj)))


@app.command()
def networks(
    name: Annotated[str | None, typer.Argument(help="Show one network.")] = None,
    summary: Annotated[
        bool, typer.Option("--summary", help="Print its layers, their shapes, parameters and multiply-adds.")
    ] = False,
    preset: Annotated[str | None, typer.Option(help="Size to summarise.", show_default="its first")] = None,
    modalities: Annotated[
        list[str] | None, typer.Option("--modality", help="What it reads; repeatable.", show_default="all it can")
    ] = None,
    options: Annotated[
        list[str] | None, typer.Option("--option", metavar="KEY=VALUE", help="Option to build it with; repeatable.")
    ] = None,
    depth: Annotated[int, typer.Option(help="How far down layers are listed one by one.")] = 3,
    as_json: Json = False,
) -> None:
    """List the networks, show one in full, or summarise its layers."""
    from study import definition, network_pages

    if summary and name is None:
        raise UserError("--summary is of one network: study networks NAME --summary")
    if not summary and (preset or modalities or options):
        raise UserError("--preset, --modality and --option go with --summary")
    if name is None:
        network_pages.show_networks(as_json=as_json)
    elif not summary:
        network_pages.show_network(name, as_json=as_json)
    else:
        given = definition.parse_options(options or [])
        network_pages.show_summary(name, preset, modalities, given, depth, as_json=as_json)


@new_app.command("strategy")
def new_strategy(
    name: Annotated[str, typer.Argument(help="Name of the strategy: lower-case letters, digits and _.")],
    folder: Annotated[
        Path | None, typer.Option("--dir", metavar="DIR", help="Folder to write.", show_default="./study-NAME")
    ] = None,
) -> None:
    """Write a small package with a strategy that works, to install and to edit."""
    from study import scaffold, screen

    screen.show_new_package(scaffold.write_strategy(name, folder), name)


@app.command()
def definitions(name: Annotated[str | None, typer.Argument(help="Print one definition.")] = None) -> None:
    """List the shipped definitions, or print one."""
    from study import definition

    print("\n".join(definition.shipped()) if name is None else printable(definition.source(name)[0].rstrip()))


@app.command()
def doctor(home: Home = None, as_json: Json = False) -> None:
    """Check versions, devices, disk and the tracking store."""
    from study import doctor, screen

    raise typer.Exit(screen.show_findings(doctor.examine(_home(home)), as_json=as_json))


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

    print(json.dumps(probe(_home(home), count, timeout), indent=1))


@corpus_app.command("prepare")
def corpus_prepare(
    name: Annotated[str, typer.Argument(help="Name of the corpus.")],
    root: Root = None,
    out: Annotated[
        str | None,
        typer.Option("--out", help="Folder or URL (s3://...) to keep it in.", show_default="the user's cache folder"),
    ] = None,
    preset: Annotated[str, typer.Option(help="Preset of the network that will read it.")] = "small",
    network: Annotated[str, typer.Option(help="The network that will read it.")] = "chae",
    options: CorpusOptions = None,
    quiet: Quiet = False,
) -> None:
    """Prepare a corpus for training and print where it is; `--root` of a study may then be that folder."""
    from study import definition, job
    from study.progress import make_display

    given = definition.parse_options(options or [])
    print(job.prepare_corpus(name, root, network, preset, make_display(quiet=quiet), out=out, options=given))


@corpus_app.command("check")
def corpus_check(
    name: Annotated[str, typer.Argument(help="Name of the corpus.")],
    root: Root = None,
    options: CorpusOptions = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Read every file and tell what is missing, unreadable or mislabelled, also against what was published."""
    from study import definition, job, screen
    from study.progress import make_display

    findings = job.check_corpus(name, root, make_display(quiet=quiet), definition.parse_options(options or []))
    raise typer.Exit(screen.show_corpus_findings(findings, as_json=as_json))


@corpus_app.command("stats")
def corpus_stats(
    name: Annotated[str, typer.Argument(help="Name of the corpus.")],
    root: Root = None,
    options: CorpusOptions = None,
    figure: Annotated[
        Path | None, typer.Option("--figure", metavar="FILE", help="Draw it too: a .png, .pdf or .svg file.")
    ] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Count utterances by class, gender, speaker and session, and measure their durations."""
    from study import definition, job, screen
    from study.progress import make_display

    given, display = definition.parse_options(options or []), make_display(quiet=quiet)
    screen.show_tables(job.describe_corpus(name, root, display, given, figure=figure), as_json=as_json)


ServerPort = Annotated[int, typer.Option(help="Port on the loopback address.", min=1, max=65535)]


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
    started = server.start(_home(home), port, database=database)
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


if __name__ == "__main__":
    main()
