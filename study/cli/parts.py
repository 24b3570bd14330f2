"""Commands about what studies are made of: strategies, networks, definitions, this machine."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from strategies.errors import UserError
from strategies.text import printable
from study.cli.apps import PARTS, app, new_app, strategies_app
from study.cli.arguments import Home, Json, home_of


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
    from study import overriding, screen

    given = overriding.parse_options(options or [])
    with examination.importable_from(Path.cwd()), redirect_stdout(sys.stderr):  # what the class prints is no verdict
        verdicts = examination.examine(examination.find(target), given)
    raise typer.Exit(screen.show_verdicts(target, verdicts, as_json=as_json or bool(context.obj)))


@app.command(rich_help_panel=PARTS)
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
    from study import network_pages, overriding

    if summary and name is None:
        raise UserError("--summary is of one network: study networks NAME --summary")
    if not summary and (preset or modalities or options):
        raise UserError("--preset, --modality and --option go with --summary")
    if name is None:
        network_pages.show_networks(as_json=as_json)
    elif not summary:
        network_pages.show_network(name, as_json=as_json)
    else:
        given = overriding.parse_options(options or [])
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


@app.command(rich_help_panel=PARTS)
def definitions(name: Annotated[str | None, typer.Argument(help="Print one definition.")] = None) -> None:
    """List the shipped definitions, or print one."""
    from study import definition

    print("\n".join(definition.shipped()) if name is None else printable(definition.source(name)[0].rstrip()))


@app.command(rich_help_panel=PARTS)
def doctor(home: Home = None, as_json: Json = False) -> None:
    """Check versions, devices, disk and the tracking store."""
    from study import doctor, screen

    raise typer.Exit(screen.show_findings(doctor.examine(home_of(home)), as_json=as_json))
