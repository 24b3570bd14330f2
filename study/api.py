"""The studies of a home from Python: run one, load one, and its tables as data frames.

The same tables that the commands print and that the report is made of; see ``docs/report.md``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from study import records
from study.analysis import Comparison, Results, compare, metric_table
from study.errors import StudyError

if TYPE_CHECKING:
    import pandas as pd

    from study.ranking import Ranking


@dataclass(frozen=True)
class Study:
    """A study that has been run, at least in part.

    Attributes:
        folder: where it lies.
        results: everything that it has measured: ``arms``, ``trials`` and ``rows`` are data frames.
    """

    folder: Path
    results: Results

    def __repr__(self) -> str:
        finished = int((self.results.trials["status"] == "finished").sum())
        arms, trials = len(self.results.arms), len(self.results.trials)
        return f"<Study {self.name}: {arms} arms, {finished} of {trials} trials finished>"

    @property
    def name(self) -> str:
        """Its name, such as ``weighting-1a2b3c4d``."""
        return self.results.study

    @property
    def rows(self) -> pd.DataFrame:
        """One row per trial and epoch, and a final one, see ``docs/rows.md``."""
        return self.results.rows

    @cached_property
    def comparison(self) -> Comparison:
        """Its arms compared on the test split.

        Raises:
            StudyError: no trial has finished.
        """
        return compare(self.results)

    @cached_property
    def tables(self) -> Mapping[str, pd.DataFrame]:
        """Name -> table of the report: ``comparison``, ``differences``, ``seeds``, ``cost`` and others.

        Raises:
            StudyError: no trial has finished.
        """
        from study.report import tables

        return tables(self.results, self.comparison)

    @property
    def summary(self) -> list[str]:
        """What it shows, in sentences.

        Raises:
            StudyError: no trial has finished.
        """
        from study.report import summary_lines

        return summary_lines(self.comparison)

    def metric(self, name: str) -> pd.DataFrame:
        """Return one metric, such as ``test/uar/emotion``: a row per arm, a column per seed.

        Raises:
            StudyError: no finished trial has it.
        """
        return metric_table(self.results, name)

    def figures(self) -> dict[str, Any]:
        """Return name -> figure of the report, as matplotlib's, in the report's own style.

        Raises:
            StudyError: no trial has finished.
        """
        from study.report.figures import figures
        from study.report.files import styled

        with styled():
            return dict(figures(self.results, self.comparison))


def rank(studies: Sequence[str], metric: str = "test/joint_nll", *, home: str | Path | None = None) -> Ranking:
    """Rank the methods of three studies or more, each of another corpus, as ``study compare A B C`` does.

    Args:
        studies: their names, or the beginnings of these.
        metric: what the methods are ranked by.
        home: folder of all studies; ``STUDY_HOME`` or ``./studies`` by default.

    Raises:
        StudyError: they cannot be ranked together; says why.
    """
    from study import ranking

    folder = records.study_home(None if home is None else Path(home))
    return ranking.rank([records.find(folder, name) for name in studies], metric)


def load_results(study: str | Path, home: str | Path | None = None) -> Study:
    """Return a study by its name, or the beginning of it, or its folder.

    Args:
        study: name or folder.
        home: folder of all studies; ``STUDY_HOME`` or ``./studies`` by default.

    Raises:
        StudyError: there is none, or more than one, or it cannot be read.
    """
    folder = Path(study).expanduser()
    if isinstance(study, Path) or (folder / "lock.json").is_file():
        found = records.StudyFolder(folder.resolve())
    else:
        found = records.find(records.study_home(None if home is None else Path(home)), study)
    return Study(found.path, records.load_results(found))


def run(
    definition: str,
    overrides: Mapping[str, Any] | Sequence[str] = (),
    *,
    home: str | Path | None = None,
    address: str | None = None,
    fresh: bool = False,
    retry_failed: bool = False,
    quiet: bool = True,
) -> Study:
    """Run a study, or go on with it, as ``study run`` does; trials that failed are in ``results.trials``.

    Args:
        definition: a shipped one such as ``"weighting"``, or the path of a ``.yaml`` file.
        overrides: parts of it that are otherwise, ``{"training.epochs": 3, "seeds": 2}`` or ``["training.epochs=3"]``.
        home: folder of all studies; ``STUDY_HOME`` or ``./studies`` by default.
        address: of a running Ray cluster; None starts Ray on this machine.
        fresh: forget what an earlier run of the study has done.
        retry_failed: run trials that failed again.
        quiet: print nothing but warnings.

    Raises:
        UserError: something does not fit; nothing that was computed is lost.
        StudyError: it was interrupted before any trial finished.
    """
    from study import job
    from study.definition import load
    from study.progress import make_display

    texts = (
        [f"{key}={_text(value)}" for key, value in overrides.items()] if isinstance(overrides, Mapping) else overrides
    )
    chosen = load(definition, list(texts))
    place = records.study_home(None if home is None else Path(home))
    outcome = job.run(chosen, place, make_display(quiet=quiet), address=address, fresh=fresh, retry_failed=retry_failed)
    if outcome.comparison is None:
        raise StudyError(f"study {outcome.folder.name}: no trial has finished; run it again to go on")
    return Study(outcome.folder.path, records.load_results(outcome.folder))


def _text(value: object) -> str:
    """Return a value as an override gives it: YAML on one line."""
    import json

    return str(value) if isinstance(value, Path) else json.dumps(value)
