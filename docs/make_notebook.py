"""Write and execute ``docs/study_from_python.ipynb``: `python docs/make_notebook.py` (extra `notebook`).

Its study is small enough for a minute; its numbers are those of the machine that ran this last.
"""

import re
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient

PATH = Path(__file__).with_name("study_from_python.ipynb")

CELLS = (
    (
        "markdown",
        "# A study from Python\n\n"
        "`study.run` does what `study run` does, `study.load_results` opens a study that has been run; both give the\n"
        "same tables as the report, as data frames. This one is far too small to show anything: two arms, three\n"
        "seeds, two epochs of a synthetic corpus. Written by `docs/make_notebook.py`.",
    ),
    (
        "code",
        "import study\n\n"
        "mine = study.run(\n"
        '    "weighting",\n'
        "    {\n"
        '        "corpus.options": {"num_speakers": 12, "utterances_per_speaker": 8},\n'
        '        "arms": [{"strategy": "equal"}, {"strategy": "softmax"}],\n'
        '        "training.epochs": 2,\n'
        '        "seeds": 3,\n'
        "    },\n"
        '    home="studies",\n'
        ")\n"
        "mine",
    ),
    ("markdown", "What it shows, in sentences, as at the end of `study run`:"),
    ("code", "for line in mine.summary:\n    print(line)"),
    (
        "markdown",
        "The comparison: a row per arm, best joint loss at the fixed weights first, with the paired difference to the\n"
        "control and the ends of its 95 % interval.",
    ),
    (
        "code",
        'columns = ["label", "num_seeds", "joint_nll", "difference", "difference/low", "difference/high", "verdict"]\n'
        'mine.tables["comparison"][columns].round(4)',
    ),
    ("markdown", "Every table of the report is there, and one metric seed by seed:"),
    ("code", "sorted(mine.tables)"),
    ("code", 'mine.metric("test/uar/emotion").round(3)'),
    ("markdown", "Rows are what trials reported (`docs/rows.md`), one per epoch and a final one, such as the weights:"),
    (
        "code",
        'epochs = mine.rows[mine.rows["kind"] == "epoch"]\n'
        'epochs.pivot_table(index="epoch", columns="arm", values="weight/emotion").round(4)',
    ),
    ("markdown", "Figures are matplotlib's, in the style of the report:"),
    ("code", '%matplotlib inline\nmine.figures()["weights"]'),
    ("markdown", "The same study, opened again by the beginning of its name:"),
    ("code", 'study.load_results("weighting", home="studies")'),
)
"""Kind and content of every cell."""


def build() -> nbformat.NotebookNode:
    """Return the notebook, not executed; equal cells give equal notebooks."""
    make = {"markdown": nbformat.v4.new_markdown_cell, "code": nbformat.v4.new_code_cell}
    cells = [make[kind](text, id=f"cell-{number}") for number, (kind, text) in enumerate(CELLS)]
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    return nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel})


def execute(notebook: nbformat.NotebookNode) -> None:
    """Run every cell in a folder of its own; no path of it and nothing said on standard error is kept."""
    with tempfile.TemporaryDirectory() as folder:
        NotebookClient(notebook, timeout=900, resources={"metadata": {"path": folder}}).execute()
        for cell in notebook.cells:
            cell.metadata.pop("execution", None)
            if cell.cell_type == "code":
                cell["outputs"] = [output for output in cell["outputs"] if _is_kept(output)]
            if re.search(re.escape(folder), str(cell)):
                raise RuntimeError(f"a cell shows a path of this machine: {cell.source[:60]}")
    notebook.metadata.pop("language_info", None)


def _is_kept(output: nbformat.NotebookNode) -> bool:
    """Whether an output shows something and is no message on standard error."""
    html = output.get("data", {}).get("text/html")
    return output.get("name") != "stderr" and (html is None or bool(html.strip()))


def main() -> None:
    """Write the notebook."""
    notebook = build()
    execute(notebook)
    nbformat.write(notebook, PATH)
    print(PATH)


if __name__ == "__main__":
    main()
