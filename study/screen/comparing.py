"""What studies have found: the arms of one, two side by side, ranks over several."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from strategies.text import shortened
from study import records
from study.analysis import Comparison, compare, metric_table
from study.errors import StudyError
from study.pairing import Pairing
from study.records import StudyFolder
from study.report import console_table, summary_lines
from study.report.text import number, range_cell, signed
from study.screen.printing import print_csv, print_json, print_lines, print_table, records_of, say, show_tables

if TYPE_CHECKING:
    from study.ranking import Ranking


def show_comparison(comparison: Comparison) -> None:
    """Print the comparison: its table and what it says in words."""
    columns, rows = console_table(comparison)
    print_table(columns, rows)
    print_lines(summary_lines(comparison))


def show_study(folder: StudyFolder, output: str) -> None:
    """Print the comparison of a study, as ``text``, ``json`` or ``csv``."""
    comparison = compare(records.load_results(folder))
    if output == "json":
        print_json({"study": folder.name, "arms": records_of(comparison.table), "summary": summary_lines(comparison)})
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
        print_json({"studies": studies, "arms": records_of(found.table()), "lines": list(found.lines())})
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
        print_json({**asdict(pairing), "studies": {**vars(studies), "table": records_of(studies.table)}})
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
