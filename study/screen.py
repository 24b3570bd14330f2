"""What the commands print: results on standard output, what to do next on standard error."""

import json
import math
import re
import shlex
import sys
import textwrap
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

from strategies.options import OptionDescription
from strategies.plugins import PROJECT
from strategies.text import shortened, shown
from study import records
from study.analysis import Comparison, compare, metric_table
from study.errors import StudyError
from study.pairing import Pairing
from study.records import StudyFolder
from study.report import console_table, summary_lines
from study.report.text import number, range_cell, signed

if TYPE_CHECKING:  # these need PyTorch, seconds that showing a study must not pay
    from strategies.examination import Verdict
    from strategies.registry import StrategyDescription
    from study.cluster.session import Tunnel
    from study.doctor import Finding
    from study.job import Outcome
    from study.ranking import Ranking
    from study.verification import Verification

_WIDEST = 10_000
"""Columns to print for when output is not a terminal: a row of a piped table is one line, whatever it holds."""

_LONGEST_WORD = 24
"""A column of a table is as wide as its longest word, and need not be wider than this."""

_NUMBER_STARTS = set("0123456789+-") | {""}


def _console() -> Console:
    console = Console()
    return console if console.is_terminal else Console(width=_WIDEST)


def print_table(
    columns: Sequence[str], rows: Iterable[Sequence[str]], title: str | None = None, words: Collection[str] = ()
) -> None:
    """Print a plain table; columns of numbers are right-aligned, those named in ``words`` never are."""
    columns, rows = [shown(column) for column in columns], [[shown(cell) for cell in row] for row in rows]
    table = Table(
        title=None if title is None else shown(title),
        title_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
        header_style="bold",
    )
    for index, column in enumerate(columns):
        numeric = column not in words and all(row[index][:1] in _NUMBER_STARTS for row in rows)
        longest = max((len(word) for row in [columns, *rows] for word in row[index].split()), default=0)
        width = min(longest, _LONGEST_WORD)  # lines are folded between words, and no name is cut
        table.add_column(column, justify="right" if numeric else "left", no_wrap=index == 0, min_width=width)
    for row in rows:
        table.add_row(*row)
    console = _console()
    narrowest = Measurement.get(console, console.options.update(width=_WIDEST), table).minimum
    console.width = max(console.width, narrowest + 2 * len(columns))  # rich distributes what is short unevenly
    console.print(table, markup=False, highlight=False)


def print_json(content: object) -> None:
    """Print JSON; numbers that are not finite become null."""
    print(json.dumps(_plain(content), indent=1, allow_nan=False))


def _plain(value: Any) -> Any:  # noqa: ANN401
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if hasattr(value, "item"):  # a number of numpy
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def print_lines(lines: Iterable[str]) -> None:
    """Print sentences as they are."""
    for line in lines:
        _console().print(shown(line), markup=False, highlight=False, soft_wrap=True)


def say(*lines: str) -> None:
    """Print on standard error."""
    for line in lines:
        print(shown(line), file=sys.stderr)


def show_outcome(outcome: "Outcome", command: str, cluster: str | None = None) -> int:
    """Print how a run ended, here or on the cluster of a file, and what to do next; return the exit code."""
    if outcome.comparison is not None:
        show_comparison(outcome.comparison)
    if outcome.report is not None:
        say(f"report: {_short(outcome.report)}")
    if outcome.tracking_problem:
        again = "sync" if cluster is None else "resume"  # on a cluster what is left is written there, by a new driver
        say(
            f"not recorded in MLflow ({outcome.tracking_uri}): {outcome.tracking_problem}",
            f"nothing is lost; when it answers again: study {again} {outcome.folder.name}{_on(cluster)}",
        )
    else:
        where = _home_option(outcome.folder.path.parent) if cluster is None else _on(cluster)
        recorded = f"   (recorded in {outcome.tracking_uri})" if outcome.tracking_uri else ""
        say(f"MLflow: study ui{where}{recorded}")
    if outcome.unfinished:
        say(f"interrupted with {outcome.unfinished} trials to go; finished trials are kept. To go on: {command}")
        return 130
    if outcome.failed:
        say(f"{outcome.failed} trials failed, see the table of failures; to run them again: {command} --retry-failed")
    return 1 if outcome.failed or outcome.tracking_problem else 0


def show_detached(study: str, cluster: str | None = None) -> int:
    """Say that a study goes on without anybody looking; return the exit code."""
    where = _on(cluster)
    place = "in its own process" if cluster is None else "on the cluster"
    say(f"the study goes on {place}; study attach {study}{where} follows it; study stop {study}{where} stops it")
    return 130


def _on(cluster: str | None) -> str:
    return "" if cluster is None else f" --cluster {shlex.quote(cluster)}"


def show_stopped(folder: StudyFolder, *, stopped: bool) -> None:
    """Say what is left of a study that was stopped."""
    if not stopped:
        say(f"nothing runs study {folder.name}")
        return
    statuses = records.load_statuses(folder) if folder.lock.is_file() else []
    kept = f"{statuses.count('finished')} of {len(statuses)} trials have finished and are kept"
    say(f"study {folder.name} was stopped: {kept}, the others go on where they were: study resume {folder.name}")


def show_tunnel(tunnel: "Tunnel") -> None:
    """Print where MLflow of a cluster is, and who may enter."""
    print_lines([tunnel.url])
    say(f"user {tunnel.user}; the password lies in {tunnel.password_at}; Ctrl-C closes the tunnel")


def _home_option(home: Path) -> str:
    return "" if home == records.study_home(None) else f" --home {_short(home)}"


def _short(path: Path) -> str:
    """Return a path relative to the working folder where that is shorter."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def show_comparison(comparison: Comparison) -> None:
    """Print the comparison: its table and what it says in words."""
    columns, rows = console_table(comparison)
    print_table(columns, rows)
    print_lines(summary_lines(comparison))


def show_study(folder: StudyFolder, output: str) -> None:
    """Print the comparison of a study, as ``text``, ``json`` or ``csv``."""
    comparison = compare(records.load_results(folder))
    if output == "json":
        print_json({"study": folder.name, "arms": _records(comparison.table), "summary": summary_lines(comparison)})
    elif output == "csv":
        print_csv(comparison.table)
    else:
        show_comparison(comparison)


def show_metric(folder: StudyFolder, metric: str, output: str) -> None:
    """Print one metric of a study with every seed."""
    table = metric_table(records.load_results(folder), metric)
    if output == "csv":
        print_csv(table)
    else:
        show_tables({metric: table}, as_json=output == "json")


def print_csv(table: pd.DataFrame) -> None:
    """Print a table as CSV; an empty cell is a missing number."""
    sys.stdout.write(table.to_csv(index=False, lineterminator="\n", float_format="%.10g"))


def show_compared(home: Path, names: Sequence[str], metric: str, output: str, figure: Path | None) -> None:
    """Print two studies side by side, or the ranks of methods over three or more, and draw these if asked to.

    Raises:
        StudyError: they cannot be compared, or the figure cannot be drawn.
    """
    from study import pairing, ranking
    from study.report import checked_figure

    if figure is not None:
        checked_figure(figure)
    if len(names) < 2:
        name = shortened(names[0])
        raise StudyError(f"{name} alone cannot be compared: name two studies of the same data, or three of other data")
    folders = [records.find(home, name) for name in names]
    if len(folders) == 2:
        if figure is not None:
            raise StudyError("--figure draws ranks over corpora: name three studies or more, each of another corpus")
        show_pairing(pairing.pair(folders[0], folders[1], metric), output)
    else:
        show_ranking(ranking.rank(folders, metric), output, figure)


def show_beside(home: Path, names: Sequence[str], output: str) -> None:
    """Print two studies one beside the other, without a difference between them.

    Raises:
        StudyError: not two studies, or not of the same corpus and tasks.
    """
    from study.beside import beside

    if len(names) != 2:
        raise StudyError(f"--side-by-side takes two studies, got {len(names)}")
    first, second = (records.find(home, name) for name in names)
    found = beside(first, second)
    if output == "json":
        studies = [{"study": side.study, "split": side.split} for side in found.sides]
        print_json({"studies": studies, "arms": _records(found.table()), "lines": list(found.lines())})
    elif output == "csv":
        print_csv(found.table())
        say(*found.lines())
    else:
        print_table(*found.rows(), words=("study",))
        print_lines(found.lines())


def show_ranking(ranking: "Ranking", output: str, figure: Path | None = None) -> None:
    """Print the mean ranks of methods over corpora, and draw their critical-difference diagram if asked to."""
    found = ranking.studies
    if figure is not None:
        from study.report.ranks import write_rank_figure

        write_rank_figure(figure, found.diagram, found.metric, found.control)
    if output == "json":
        print_json(ranking.as_dict())
    elif output == "csv":
        print_csv(found.table)
        say(*ranking.lines)
    else:
        each = [f"{corpus} (rank)" for corpus in found.corpora]
        columns = ["method", "mean rank", *each, "better", "Wilcoxon p, Holm"]
        print_table(columns, [ranking_row(row, found.corpora, found.control) for row in found.table.to_dict("records")])
        print_lines(ranking.lines)


def ranking_row(row: Mapping[Any, Any], corpora: Sequence[str], control: str) -> list[str]:
    """Return a row of the table of ranks: values with their ranks, and how the method stands to the control."""
    is_control = row["method"] == control
    return [
        str(row["method"]),
        number(row["rank"], 2),
        *(f"{number(row[f'value/{corpus}'])} ({row[f'rank/{corpus}']:g})" for corpus in corpora),
        "control" if is_control else f"{row['better']} of {len(corpora)}",
        number(row["holm_p"], 4),
    ]


def show_pairing(pairing: Pairing, output: str) -> None:
    """Print two studies side by side: the arms that both have, and in what the studies differ."""
    studies = pairing.studies
    if output == "json":
        print_json({**asdict(pairing), "studies": {**vars(studies), "table": _records(studies.table)}})
        return
    if output == "csv":
        print_csv(studies.table)
        say(*pairing.lines)
        return
    columns = ["arm", "seeds", studies.first, studies.second, "difference", "95 % interval", "t-test p, Holm"]
    rows = [
        [
            str(row["label"]),
            str(row["num_seeds"]),
            *(number(row[name]) for name in ("first", "second")),
            signed(row["difference"]),
            range_cell(row["low"], row["high"]),
            number(row["t_holm_p"], 4),
        ]
        for row in studies.table.to_dict("records")
    ]
    print_table(columns, rows)
    print_lines(pairing.lines)


def show_verification(verdict: "Verification", *, as_json: bool) -> None:
    """Print how a trial did when it was trained again."""
    if as_json:
        print_json({**asdict(verdict), "same": not verdict.differences})
    else:
        print_lines(verdict.lines)


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(name): value for name, value in row.items()} for row in table.to_dict("records")]


def show_studies(home: Path, output: str) -> None:
    """Print the studies of a study home with how far they are, as ``text``, ``json`` or ``csv``."""
    entries = [_study_entry(StudyFolder(home / name)) for name in records.names(home)]
    if output == "json":
        print_json(entries)
    elif output == "csv":
        print_csv(pd.DataFrame(entries, columns=["study", "trials", *records.STATUSES]))
    elif entries:
        print_table(list(entries[0]), [[str(value) for value in entry.values()] for entry in entries])
    else:
        say(f"no studies in {home}")


def _study_entry(folder: StudyFolder) -> dict[str, object]:
    statuses = records.load_statuses(folder)
    counts = {status: statuses.count(status) for status in records.STATUSES}
    return {"study": folder.name, "trials": sum(counts.values()), **counts}


def show_new_package(folder: Path, name: str) -> None:
    """Print where a new package is and what to do with it."""
    print(folder)
    where = _short(folder)
    say(
        f"edit {where}/study_{name}.py, then:",
        f"  pip install -e {where}",
        f"  study strategies {name}",
        f"  study strategies check {name}",
        f"  study run {where}/compare.yaml",
    )


def show_mapping(values: Mapping[str, str], *, as_json: bool) -> None:
    """Print names and values."""
    if as_json:
        print_json(dict(values))
        return
    width = max(map(len, values))
    print_lines(f"{name:<{width}}  {value}" for name, value in values.items())


def show_findings(findings: "Sequence[Finding]", *, as_json: bool) -> int:
    """Print what the doctor found; return the exit code."""
    if as_json:
        print_json([vars(finding) for finding in findings])
    else:
        print_lines(f"{'ok  ' if finding.well else 'BAD '} {finding.subject}: {finding.detail}" for finding in findings)
    return 0 if all(finding.well for finding in findings) else 1


def show_strategies(*, as_json: bool) -> None:
    """Print all strategies in a table; those that cannot be used get a line each on standard error."""
    from strategies import registry

    found, problems = registry.catalogue()
    say(*(f"study: {problem}" for problem in problems))
    if as_json:
        print_json([asdict(each) for each in found])
        return
    columns = ["strategy", "kind", "passes", "weights", "tunes", "paper", "same as"]
    print_table(columns, [_strategy_row(each) for each in found], words=columns)
    plugins = [f"{each.name} (from {each.distribution})" for each in found if each.distribution != PROJECT]
    if plugins:
        print_lines([f"plug-ins: {', '.join(plugins)}"])


def _strategy_row(strategy: "StrategyDescription") -> list[str]:
    tunes = ", ".join(option.name for option in strategy.options if option.search)
    facts = [strategy.kind, strategy.passes, strategy.weight_scale]
    return [strategy.name, *facts, tunes or "-", _paper(strategy), _same_as(strategy.coincides)]


def _paper(strategy: "StrategyDescription") -> str:
    """Return who published it and when, ``Chen et al. 2018``."""
    return "-" if strategy.year is None else f"{strategy.reference.partition(',')[0]} {strategy.year}"


def _same_as(coincides: Mapping[str, str]) -> str:
    """Return what a strategy coincides with, by the number of tasks: ``T=2: config, nash_mtl; any T: mgda``."""
    names: dict[str, list[str]] = {}
    for name, when in coincides.items():
        found = re.match(r"any T|T=\d+", when)
        names.setdefault(found[0] if found else when, []).append(name)
    return "; ".join(f"{when}: {', '.join(each)}" for when, each in names.items()) or "-"


def show_strategy(name: str, *, as_json: bool) -> None:
    """Print one strategy in full: what it does, what it is, and its options."""
    from strategies import registry

    strategy = registry.describe(name)
    if name in (clashes := registry.REGISTRY.clashes()):
        say(f"study: {clashes[name]}")
    if as_json:
        print_json(asdict(strategy))
        return
    print_lines([readable(strategy.text), ""])
    show_mapping({fact: value for fact, value in _facts(strategy).items() if value}, as_json=False)
    print_lines(line for option in strategy.options for line in option_lines(option))


def option_lines(option: OptionDescription) -> list[str]:
    """Return an option in words: its default, what is worth searching, what it means and where the default is from."""
    value = "(must be given)" if option.required else f"= {option.default}"
    search = f"   worth searching: {option.search}" if option.search else ""
    meaning = textwrap.wrap(option.doc, 110, initial_indent="    ", subsequent_indent="    ")
    return ["", f"option {option.name} {value}{search}", *meaning]


def _facts(strategy: "StrategyDescription") -> dict[str, str]:
    return {
        "kind": strategy.kind,
        "passes": strategy.passes,
        "weights": strategy.weight_scale,
        "claims": ", ".join(strategy.claims),
        "same as": "; ".join(f"{name} ({when})" for name, when in strategy.coincides.items()),
        "year": str(strategy.year or ""),
        "paper": strategy.reference,
        "class": f"{strategy.module} ({strategy.distribution})",
    }


def readable(docstring: str) -> str:
    """Return a docstring without the sections that are shown as tables, and without the marks of its formulas."""
    text = re.sub(r"^(?:Args|Raises):\n(?:(?:[ ].*)?(?:\n|\Z))*", "", docstring, flags=re.MULTILINE)
    return re.sub(r":math:`([^`]*)`", r"\1", text).replace(".. math::", "   ").strip()


def show_verdicts(target: str, verdicts: "Sequence[Verdict]", *, as_json: bool) -> int:
    """Print how a strategy did in the conformance kit; return the exit code."""
    failed = [verdict for verdict in verdicts if verdict.outcome == "failed"]
    if as_json:
        print_json([asdict(verdict) for verdict in verdicts])
    else:
        print_lines(_verdict_line(verdict) for verdict in verdicts)
        counts = Counter(verdict.outcome for verdict in verdicts)
        told = [f"{counts[outcome]} {outcome}" for outcome in ("ok", "failed", "not applicable") if counts[outcome]]
        print_lines([f"\n{target} {'breaks' if failed else 'keeps'} the contract of a strategy: {', '.join(told)}"])
        say(*(f"{verdict.check}: {verdict.proves}" for verdict in failed))
    return 1 if failed else 0


def _verdict_line(verdict: "Verdict") -> str:
    mark = {"ok": "ok    ", "failed": "FAILED", "not applicable": "-     "}[verdict.outcome]
    excuse = "not applicable: " if verdict.outcome == "not applicable" else ""
    return f"{mark}  {verdict.check}" + (f": {excuse}{verdict.reason}" if verdict.reason else "")


def show_corpus_findings(findings: Sequence[Any], *, as_json: bool) -> int:
    """Print what is wrong with a corpus; return the exit code: what it was published with is no problem of a copy."""
    known = sum(bool(finding.known) for finding in findings)
    own = len(findings) - known
    if as_json:
        print_json([vars(finding) for finding in findings])
    else:
        print_lines(str(finding) for finding in findings)
        told = f"{own} finding{'s' * (own != 1)}" if own else "nothing wrong was found"
        say(f"{told} (and {known} known of the corpus as published)" if known else told)
    return 1 if own else 0


def show_tables(tables: Mapping[str, pd.DataFrame], *, as_json: bool) -> None:
    """Print tables with their names."""
    if as_json:
        print_json({name: _records(table) for name, table in tables.items()})
        return
    for name, table in tables.items():
        print_table([str(column) for column in table], [[_cell(value) for value in row] for row in table.values], name)


def _cell(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else ""
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {count}" for name, count in value.items()) or "-"
    if isinstance(value, float):
        return "-" if pd.isna(value) else f"{value:.4g}"
    return "-" if value is None else str(value)
