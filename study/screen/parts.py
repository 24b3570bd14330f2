"""What a study is made of: strategies, their check, a new package, corpora."""

import re
import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from strategies.options import OptionDescription
from strategies.plugins import PROJECT
from study.screen.printing import print_json, print_lines, print_table, say, short_path, show_mapping

if TYPE_CHECKING:  # these need PyTorch, seconds that showing a study must not pay
    from strategies.examination import Verdict
    from strategies.registry import StrategyDescription


def show_new_package(folder: Path, name: str) -> None:
    """Print where a new package is and what to do with it."""
    print(folder)
    where = short_path(folder)
    say(
        f"edit {where}/study_{name}.py, then:",
        f"  pip install -e {where}",
        f"  study strategies {name}",
        f"  study strategies check {name}",
        f"  study run {where}/compare.yaml",
    )


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
