"""The tuning phase of a study as an Optuna storage, for its dashboard and for other tools."""

import os
from pathlib import Path

from study import records
from study.analysis.tuning import as_optuna
from study.errors import StudyError
from study.records import StudyFolder


def export(folder: StudyFolder, out: Path | None = None) -> Path:
    """Write an SQLite file that ``optuna-dashboard`` opens, one Optuna study for each method; return its path.

    Objectives are losses there as they were searched: smaller is better, a metric that was maximized is negated.

    Raises:
        StudyError: nothing was searched, or the file cannot be written.
    """
    tuning = records.load_tuning(folder)
    if tuning is None:
        raise StudyError(f"study {folder.name} has searched nothing: it has no section search, or has not begun")
    path = (out or folder.tuning.path / "optuna.db").expanduser()
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    try:
        if not path.parent.is_dir():
            raise StudyError(f"cannot write {path}: there is no folder {path.parent}")
        storage = optuna.storages.RDBStorage(f"sqlite:///{temporary}")
        objectives = [f"{each.metric} ({each.direction})" for each in tuning.search.objective]
        for method in tuning.methods:
            study = optuna.create_study(
                storage=storage, study_name=f"{folder.name} {method.method}", directions=["minimize"] * len(objectives)
            )
            study.set_user_attr("chosen", method.chosen)
            study.set_user_attr("objectives", objectives)
            as_optuna(method, study=study)
        storage.remove_session()
        storage.engine.dispose()
        temporary.replace(path)
    except OSError as failure:
        raise StudyError(f"cannot write {path}: {failure.strerror or failure}") from failure
    finally:
        temporary.unlink(missing_ok=True)
    return path
