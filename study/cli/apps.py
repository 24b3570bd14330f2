"""The command `study` and its groups of commands, which the other modules fill."""

from collections.abc import Callable
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from study.cli.failures import interrupted

RUN, RESULTS, PARTS = "Run", "Results", "What studies are made of"
"""Headings of the help page."""


class _Commands(TyperGroup):
    """Says what becomes of a command that is interrupted; the parser would end it without a word."""

    def make_context(self, *arguments: Any, **options: Any) -> Any:  # noqa: ANN401  (the parser's own types)
        return _told(super().make_context, *arguments, **options)

    def invoke(self, ctx: Any) -> Any:  # noqa: ANN401
        return _told(super().invoke, ctx)


def _told(action: Callable[..., Any], *arguments: Any, **options: Any) -> Any:  # noqa: ANN401
    try:
        return action(*arguments, **options)
    except KeyboardInterrupt:
        raise typer.Exit(interrupted()) from None


app = typer.Typer(
    cls=_Commands,
    name="study",
    help="Fair, distributed studies of how to weight the losses of a multi-task network.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
corpus_app = typer.Typer(help="Prepare, check and describe a corpus.", no_args_is_help=True)
app.add_typer(corpus_app, name="corpus", rich_help_panel=PARTS)


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
app.add_typer(strategies_app, name="strategies", rich_help_panel=PARTS)
cluster_app = typer.Typer(help="Check a cluster that `ray up` has started.", no_args_is_help=True)
app.add_typer(cluster_app, name="cluster", rich_help_panel=RUN)
export_app = typer.Typer(help="Put a trained network, or a search, where others find it.", no_args_is_help=True)
app.add_typer(export_app, name="export", rich_help_panel=RESULTS)
new_app = typer.Typer(help="Start a plug-in of your own.", no_args_is_help=True)
app.add_typer(new_app, name="new", rich_help_panel=PARTS)
head_app = typer.Typer(
    help="The tracking server on the head of a cluster; cluster files call this.", no_args_is_help=True
)
app.add_typer(head_app, name="head", hidden=True)


def _print_version(wanted: bool) -> None:
    if wanted:
        from study import __version__

        print(f"study {__version__}")
        raise typer.Exit


@app.callback()
def _root_options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Fair, distributed studies of how to weight the losses of a multi-task network."""
