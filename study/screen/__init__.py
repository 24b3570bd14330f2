"""What the commands print: results on standard output, what to do next on standard error."""

from study.screen.comparing import (
    show_beside,
    show_compared,
    show_metric,
    show_study,
)
from study.screen.parts import (
    option_lines,
    readable,
    show_corpus_findings,
    show_new_package,
    show_strategies,
    show_strategy,
    show_verdicts,
)
from study.screen.printing import (
    print_json,
    print_lines,
    print_table,
    say,
    show_mapping,
    show_tables,
)
from study.screen.running import (
    show_detached,
    show_findings,
    show_outcome,
    show_stopped,
    show_studies,
    show_tunnel,
    show_verification,
)

__all__ = [
    "option_lines",
    "print_json",
    "print_lines",
    "print_table",
    "readable",
    "say",
    "show_beside",
    "show_compared",
    "show_corpus_findings",
    "show_detached",
    "show_findings",
    "show_mapping",
    "show_metric",
    "show_new_package",
    "show_outcome",
    "show_stopped",
    "show_strategies",
    "show_strategy",
    "show_studies",
    "show_study",
    "show_tables",
    "show_tunnel",
    "show_verdicts",
    "show_verification",
]
