"""Write the beginnings of a plug-in: a package that works, to install and to edit."""

import keyword
import re
from importlib import resources
from pathlib import Path
from string import Template

from strategies import registry
from study.errors import StudyError

NAME = re.compile(r"[a-z][a-z0-9_]*")
"""Names of strategies that are also names of a module's part and, in a study, of an arm."""

COMMANDS = ("show", "check")
"""What ``study strategies`` reads as a command and not as a name."""

STRATEGY_FILES = {
    "pyproject.toml": "pyproject.toml.tmpl",
    "README.md": "README.md.tmpl",
    "compare.yaml": "compare.yaml.tmpl",
    "$module.py": "strategy.py.tmpl",
    "test_$module.py": "test_strategy.py.tmpl",
}
"""File of the new package -> its template in ``study/templates/strategy``."""


def write_strategy(name: str, folder: Path | None = None) -> Path:
    """Write a package with a strategy called ``name`` and return its folder.

    Args:
        name: lower-case letters, digits and ``_``, not yet the name of a strategy.
        folder: where to write, ``./study-NAME`` by default; new or empty.

    Raises:
        StudyError: a name that cannot be used or is taken, or a folder that holds something or cannot be written.
    """
    _check_name(name)
    target = (folder or Path(f"study-{name.replace('_', '-')}")).expanduser()
    values = _values(name, target)
    _require_empty(target)
    files = {Template(file).substitute(values): _render(template, values) for file, template in STRATEGY_FILES.items()}
    try:
        target.mkdir(parents=True, exist_ok=True)
        for file, text in files.items():
            with (target / file).open("x", encoding="utf-8") as new:
                new.write(text)
    except OSError as failure:
        raise StudyError(f"{target} cannot be written: {failure.strerror or failure}") from failure
    return target


def _check_name(name: str) -> None:
    if not NAME.fullmatch(name) or keyword.iskeyword(name):
        usable = re.sub(r"[^a-z0-9_]+", "_", name.lower()).lstrip("_0123456789").rstrip("_")
        hint = f"; did you mean '{usable}'?" if NAME.fullmatch(usable) and not keyword.iskeyword(usable) else ""
        rule = "lower-case letters, digits and _, a letter first, and no word of Python's own"
        raise StudyError(f"'{name}' cannot be the name of a strategy: it takes {rule}{hint}")
    if name in COMMANDS:
        raise StudyError(f"'{name}' cannot be the name of a strategy: `study strategies {name}` is a command")
    if name in registry.REGISTRY.clashes():
        raise StudyError(registry.REGISTRY.clashes()[name])
    if name in registry.names():
        origin = registry.REGISTRY.distribution(name)
        raise StudyError(f"there is a strategy '{name}' already, from {origin} (all names: study strategies)")


def _require_empty(folder: Path) -> None:
    if folder.is_dir() and any(folder.iterdir()):
        raise StudyError(f"{folder} is not empty: name a new folder with --dir; nothing is overwritten")
    if folder.exists() and not folder.is_dir():
        raise StudyError(f"{folder} is a file: name a new folder with --dir")


def _values(name: str, folder: Path) -> dict[str, str]:
    words = "".join(part.capitalize() for part in name.split("_"))
    return {
        "name": name,
        "class_name": words if words.endswith("Weighting") else f"{words}Weighting",
        "module": f"study_{name}",
        "distribution": f"study-{name.replace('_', '-')}",
        "study": f"compare_{name}",
        "folder": folder.resolve().name,
    }


def _render(template: str, values: dict[str, str]) -> str:
    source = resources.files("study") / "templates" / "strategy" / template
    return Template(source.read_text(encoding="utf-8")).substitute(values)
