"""Commands about what studies have found: tables, reports, proofs, trained networks."""

from pathlib import Path
from typing import Annotated

import typer

from strategies.errors import UserError, unknown
from study import interrupt
from study.cli.apps import RESULTS, app, export_app
from study.cli.arguments import (
    ClusterFile,
    Csv,
    Home,
    Json,
    Quiet,
    RayAddress,
    Root,
    StudyName,
    Tolerance,
    home_of,
    output_of,
)
from study.cli.failures import EXIT_PROBLEMS

JOINT_NLL = "test/joint_nll"


@app.command("list", rich_help_panel=RESULTS)
def list_studies(home: Home = None, as_json: Json = False, as_csv: Csv = False) -> None:
    """List the studies in the study home."""
    from study import screen

    screen.show_studies(home_of(home), output_of(as_json, as_csv))


@app.command(rich_help_panel=RESULTS)
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

    folder, output = records.find(home_of(home), study), output_of(as_json, as_csv)
    if metric is None:
        screen.show_study(folder, output)
    else:
        screen.show_metric(folder, metric, output)


@app.command(rich_help_panel=RESULTS)
def compare(
    studies: Annotated[
        list[str], typer.Argument(metavar="A B [C...]", help="Studies, or the beginnings of their names.")
    ],
    home: Home = None,
    metric: Annotated[str, typer.Option("--metric", help="What to compare.")] = JOINT_NLL,
    figure: Annotated[
        Path | None,
        typer.Option("--figure", metavar="FILE", help="Draw the ranks of three or more: a .png, .pdf or .svg file."),
    ] = None,
    side_by_side: Annotated[
        bool,
        typer.Option("--side-by-side", help="Two studies each by itself, also of other splits; no differences."),
    ] = False,
    as_json: Json = False,
    as_csv: Csv = False,
) -> None:
    """Compare the arms of two studies of the same data, seed by seed, or rank methods over three corpora or more."""
    from study import screen

    if side_by_side:
        if figure is not None or metric != JOINT_NLL:
            raise UserError("--side-by-side shows every metric, in a table: leave out --metric and --figure")
        screen.show_beside(home_of(home), studies, output_of(as_json, as_csv))
    else:
        screen.show_compared(home_of(home), studies, metric, output_of(as_json, as_csv), figure)


@app.command(rich_help_panel=RESULTS)
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
    folder = records.find(home_of(home), study)
    print(write_format(records.load_results(folder), folder.report, format_name))


@app.command(rich_help_panel=RESULTS)
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

    folder = records.find(home_of(home), study)
    launch.use_plugins(folder)
    verdict = verification.verify(folder, trial, make_display(quiet=quiet), tolerance)
    screen.show_verification(verdict, as_json=as_json)
    raise typer.Exit(EXIT_PROBLEMS if verdict.differences else 0)


@app.command(rich_help_panel=RESULTS)
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


@app.command(rich_help_panel=RESULTS)
def sync(study: StudyName, home: Home = None) -> None:
    """Bring MLflow up to what a study has on disk; rebuilds it from nothing if need be."""
    from study import job, records

    print(job.sync(records.find(home_of(home), study)))


@app.command(rich_help_panel=RESULTS)
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

    raise typer.Exit(prediction.predict(model, clips, text or [], transcripts, home_of(home), as_json=as_json))


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

    path = optuna_export.export(records.find(home_of(home), study), out)
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

    prediction.export(study, trial, home_of(home))


@app.command(rich_help_panel=RESULTS)
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
                interrupt.heard()
                raise typer.Exit(0) from None
    serve(home_of(home), port)
