"""Commands about corpora."""

from pathlib import Path
from typing import Annotated

import typer

from study.cli.apps import corpus_app
from study.cli.arguments import CorpusOptions, Json, Quiet, Root


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
    from study import corpus_job, overriding
    from study.progress import make_display

    given = overriding.parse_options(options or [])
    print(corpus_job.prepare_corpus(name, root, network, preset, make_display(quiet=quiet), out=out, options=given))


@corpus_app.command("check")
def corpus_check(
    name: Annotated[str, typer.Argument(help="Name of the corpus.")],
    root: Root = None,
    options: CorpusOptions = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Read every file and tell what is missing, unreadable or mislabelled, also against what was published."""
    from study import corpus_job, overriding, screen
    from study.progress import make_display

    findings = corpus_job.check_corpus(name, root, make_display(quiet=quiet), overriding.parse_options(options or []))
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
    from study import corpus_job, overriding, screen
    from study.progress import make_display

    given, display = overriding.parse_options(options or []), make_display(quiet=quiet)
    screen.show_tables(corpus_job.describe_corpus(name, root, display, given, figure=figure), as_json=as_json)
