"""The sections that let a reader judge and repeat a study: protocol, limits, and what it takes to do it again."""

from collections.abc import Sequence

from study.analysis.comparison import Comparison
from study.analysis.results import Results
from study.analysis.statistics import seeds_needed, smallest_p
from study.report.blocks import Bullets, Paragraph, Section, section, table
from study.report.text import plural

_PROTOCOL = ("corpus", "faces", "split", "network", "training", "learning_rate")
"""Facts that say how the study was done; the others say what it takes to repeat it."""


def protocol(results: Results, comparison: Comparison) -> Section:
    """Show how the study was done."""
    rows = [[name.replace("_", " "), results.facts[name]] for name in _PROTOCOL if name in results.facts]
    weights = ", ".join(f"{task} {weight:.3g}" for task, weight in results.reference_weights.items())
    seeds = ", ".join(map(str, results.seeds))
    rows += [
        ["seeds", f"{comparison.num_seeds}, shared by all arms: {seeds}"],
        ["criterion", f"joint NLL at fixed weights ({weights})"],
        ["checkpoint", "the epoch with the lowest criterion on validation; the test split is scored once, with it"],
    ]
    shown = table(["what", "how"], rows, "protocol", "How the study was done.", words=2)
    return section("Protocol", shown)


def how_to_read(comparison: Comparison, num_folds: int = 1) -> Section:
    """Explain the numbers and their limits."""
    seeds, tests = comparison.num_seeds, max(len(comparison.tested), 1)
    smallest, needed = smallest_p(seeds), seeds_needed(tests)
    lines = [
        "NLL is the negative log-likelihood in nats and smaller is better; UAR is the recall averaged over classes, "
        "CCC the concordance correlation coefficient, and larger is better. For a regression task the column NLL "
        "holds its loss, 1 - CCC.",
        "Arms of the same seed share initialisation, data order and augmentation, so their difference is far less "
        "noisy than the arms themselves: intervals of two arms may overlap while their paired difference is clear.",
        'Verdicts come from the paired t-test with Holm\'s correction; "hint" means that only the uncorrected 95 % '
        'interval leaves out zero. "Unclear" does not mean equal: it means that this many seeds cannot tell.',
        f"With {plural(seeds, 'seed')} the exact Wilcoxon test cannot give a two-sided p below {smallest:.4g}; to "
        f"reach .05 after Holm over {plural(tests, 'test')} it takes {needed} seeds.",
        f"Seeds vary initialisation, order and augmentation on {_ground(num_folds)} of one corpus: nothing here speaks "
        "of other corpora.",
    ]
    if num_folds > 1:
        lines.append(
            "An utterance validates in one fold and tests in another: a fold's network is chosen blind to its own test "
            "part, but what is chosen on validation over all folds, such as the best static arm, is not blind to the "
            "pool."
        )
    return section("How to read this", Bullets(tuple(lines)))


def _ground(num_folds: int) -> str:
    return "one split" if num_folds == 1 else f"the same {num_folds} folds"


def reproducibility(results: Results) -> Section:
    """Print the facts that a repetition needs."""
    facts = {name: value for name, value in results.facts.items() if name not in (*_PROTOCOL, "warning")}
    rows: list[Sequence[str]] = [["study", results.study], *([name, value] for name, value in facts.items())]
    text = (
        f"study verify {results.study} --trial TRIAL trains a trial again and compares it row by row; study reproduce "
        "LOCK does so with the whole study, from the lock.json beside this report."
    )
    shown = table(["fact", "value"], rows, "reproducibility", "What it takes to repeat the study.", words=2)
    return section("Reproducibility", shown, Paragraph(text))
