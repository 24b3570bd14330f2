"""The command line: argv in, one call, print. Heavy imports happen inside the commands."""

import os
import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from strategies.errors import UserError

app = typer.Typer(
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
new_app = typer.Typer(help="Start a plug-in of your own.", no_args_is_help=True)
app.add_typer(new_app, name="new")

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
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but results and warnings.")]


def main() -> NoReturn:
    """Run the command line."""
    main_with(sys.argv[1:])


def main_with(arguments: list[str]) -> NoReturn:
    """Run one command and exit; a mistake of the user is one line on standard error and exit code 2."""
    try:
        code = app(arguments, standalone_mode=False)
    except UserError as mistake:
        code = _complain(str(mistake))
    except typer.Exit as end:
        code = end.exit_code
    except (typer.Abort, KeyboardInterrupt):
        _complain("interrupted; what was finished is kept, and the same command goes on")
        code = EXIT_INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except Exception as failure:
        code = _usage_error(failure)
    sys.exit(code if isinstance(code, int) else 0)


def _complain(message: str) -> int:
    print(f"study: {message}", file=sys.stderr)
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
    address: Annotated[
        str | None,
        typer.Option(help="Address of a running Ray cluster.", envvar="RAY_ADDRESS", show_default="start Ray here"),
    ] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Forget what an earlier run of this study has done.")] = False,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Run trials that failed again.")] = False,
    quiet: Quiet = False,
) -> None:
    """Run a study, or go on with it: train every arm with every seed, record, compare, report."""
    from study import job, provenance, screen
    from study.progress import make_display

    chosen, folder = _definition(definition, overrides, corpus, root), _home(home)
    outcome = job.run(
        chosen, folder, make_display(quiet=quiet), address=address, fresh=fresh, retry_failed=retry_failed
    )
    raise typer.Exit(screen.show_outcome(outcome, provenance.command()))


@app.command()
def plan(
    definition: DefinitionName,
    overrides: Overrides = None,
    corpus: CorpusName = None,
    root: Root = None,
    as_json: Json = False,
) -> None:
    """Show what would run, without running it."""
    from study import job, screen
    from study.plan import describe, make_plan
    from trainables import corpora

    chosen = _definition(definition, overrides, corpus, root)
    screen.say(*(f"study: {line}" for line in job.name_clashes(chosen)))
    made = make_plan(chosen, corpora.create(chosen.corpus.name, **chosen.corpus.options))
    screen.show_mapping(describe(made), as_json=as_json)


@app.command("list")
def list_studies(home: Home = None, as_json: Json = False) -> None:
    """List the studies in the study home."""
    from study import screen

    screen.show_studies(_home(home), as_json=as_json)


@app.command()
def show(
    study: StudyName,
    home: Home = None,
    metric: Annotated[
        str | None, typer.Option("--metric", help="Show one metric seed by seed, such as test/uar/emotion.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show the comparison of a study, or one metric of it seed by seed."""
    from study import records, screen

    folder = records.find(_home(home), study)
    if metric is None:
        screen.show_study(folder, as_json=as_json)
    else:
        screen.show_metric(folder, metric, as_json=as_json)


@app.command()
def report(study: StudyName, home: Home = None) -> None:
    """Write the report of a study again and print where it is."""
    from study import records
    from study.report import write_report

    folder = records.find(_home(home), study)
    print(write_report(records.load_results(folder), folder.report))


@app.command()
def sync(study: StudyName, home: Home = None) -> None:
    """Bring MLflow up to what a study has on disk; rebuilds it from nothing if need be."""
    from study import job, records

    print(job.sync(records.find(_home(home), study)))


@app.command()
def ui(
    home: Home = None,
    port: Annotated[int, typer.Option(help="Port on this machine.", min=1, max=65535)] = 5000,
) -> None:
    """Open the MLflow pages of the study home on this machine; Ctrl-C ends it."""
    from study.tracking import serve

    serve(_home(home), port)


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

    print("\n".join(definition.shipped()) if name is None else definition.source(name)[0].rstrip())


@app.command()
def doctor(home: Home = None, as_json: Json = False) -> None:
    """Check versions, devices, disk and the tracking store."""
    from study import doctor, screen

    raise typer.Exit(screen.show_findings(doctor.examine(_home(home)), as_json=as_json))


@corpus_app.command("prepare")
def corpus_prepare(
    name: Annotated[str, typer.Argument(help="Name of the corpus.")],
    root: Root = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder to keep it in.", show_default="the user's cache folder")
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
) -> None:
    """Look for what is missing, unreadable or mislabelled."""
    from study import definition, job, screen

    findings = job.check_corpus(name, root, definition.parse_options(options or []))
    raise typer.Exit(screen.show_corpus_findings(findings, as_json=as_json))


@corpus_app.command("stats")
def corpus_stats(
    name: Annotated[str, typer.Argument(help="Name of the corpus.")],
    root: Root = None,
    options: CorpusOptions = None,
    as_json: Json = False,
) -> None:
    """Count utterances by class, gender and speaker."""
    from study import definition, job, screen

    screen.show_tables(job.describe_corpus(name, root, definition.parse_options(options or [])), as_json=as_json)


if __name__ == "__main__":
    main()
