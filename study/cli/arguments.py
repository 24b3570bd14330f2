"""Arguments and options that several commands share, and what is made of them."""

from pathlib import Path
from typing import Annotated, Any

import typer

from strategies.errors import UserError

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


def definition_of(name: str, overrides: list[str] | None, corpus: str | None, root: Path | None) -> Any:  # noqa: ANN401
    """Return the definition of a name or file, with what the options of a command change in it."""
    from study import definition

    extra = [f"corpus.name={corpus}"] if corpus else []
    extra += [f"corpus.root={root}"] if root else []
    return definition.load(name, [*extra, *(overrides or [])])


def home_of(given: Path | None) -> Path:
    """Return the folder of all studies."""
    from study.records import study_home

    return study_home(given)


def output_of(as_json: bool, as_csv: bool) -> str:
    """Return what results are printed as: ``text``, ``json`` or ``csv``."""
    if as_json and as_csv:
        raise UserError("--json and --csv print the same: choose one")
    return "json" if as_json else "csv" if as_csv else "text"
