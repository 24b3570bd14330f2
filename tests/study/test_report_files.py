import csv
import hashlib
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import matplotlib
import pytest

from study.analysis import compare
from study.errors import StudyError
from study.report import console_table, summary_lines, write_report
from study.report.markdown import markdown

REPOSITORY = Path(__file__).resolve().parents[2]


def digests(folder):
    return {
        str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.rglob("*") if p.is_file()
    }


@pytest.fixture(scope="module")
def report(simulated, tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    assert write_report(simulated, folder) == folder / "report.html"
    return folder


def test_report_is_the_same_byte_for_byte_whatever_the_user_s_plot_settings(report, simulated, tmp_path):
    with matplotlib.rc_context({"font.size": 20, "axes.facecolor": "red"}):
        write_report(simulated, tmp_path)
    assert digests(tmp_path) == digests(report)


def test_report_has_every_figure_it_shows_for_screen_and_print(report):
    text = (report / "report.md").read_text(encoding="utf-8")
    for stem in ("weights", "joint_loss", "task_plane", "differences"):
        assert f"(figures/{stem}.png)" in text
        assert (report / "figures" / f"{stem}.png").read_bytes().startswith(b"\x89PNG")
        assert b"<svg" in (report / "figures" / f"{stem}.svg").read_bytes()
    assert not [path for path in report.rglob(".*") if path.is_file()]


def test_tables_hold_every_seed(report):
    with (report / "tables" / "seeds.csv").open(encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines))
    assert len(rows) == 70
    assert {row["seed"] for row in rows} == set("01234")
    assert float(rows[0]["test/joint_nll"]) > 0


def test_report_says_in_words_what_differs_and_what_does_not(report):
    text = (report / "report.md").read_text(encoding="utf-8")
    assert "gradnorm is better than static 0.5/0.5: joint NLL -0.052" in text
    assert (
        "No difference from static 0.5/0.5 beyond the noise of 5 seeds: static 0.6/0.4, softmax, uncertainty." in text
    )
    assert "the exact Wilcoxon test cannot give a two-sided p below 0.0625" in text
    assert "| git commit | 0123456 |" in text


def test_study_without_effects_claims_nothing(simulate):
    results = simulate(num_epochs=2, dynamic=("softmax",))
    rows = results.rows.set_index("trial")
    final = rows["kind"] == "final"
    for seed, noise in enumerate([0.01, -0.01, 0.02, -0.02, 0.0]):
        control = rows.loc[final, "test/joint_nll"][f"static-0.5-0.5-seed{seed}"]
        rows.loc[final & (rows.index == f"softmax-seed{seed}"), "test/joint_nll"] = control + noise
        rows.loc[final & (rows.index == f"static-0.5-0.5-seed{seed}"), "valid/joint_nll"] = 0.0
    lines = summary_lines(compare(replace(results, rows=rows.reset_index())))
    assert lines[0] == "No arm differs from static 0.5/0.5 in joint test NLL beyond the noise of 5 seeds."


def test_one_seed_allows_no_claim(simulate):
    lines = summary_lines(compare(simulate(num_seeds=1, num_epochs=2)))
    assert lines[0] == "No claim can be made against static 0.5/0.5: 1 seed cannot give an interval."


def test_failed_trials_are_in_the_report_with_their_error(simulated, without):
    results = without(simulated, "softmax-seed1", error="ValueError: a | b\nc")
    text = markdown(results, compare(results), [])
    assert "| softmax-seed1 | failed | ValueError: a \\| b c |" in text
    assert "| 4 of 5 |" in text


def test_console_table_of_two_tasks_fits_120_columns(simulated):
    columns, rows = console_table(compare(simulated))
    assert columns[:4] == ["arm", "seeds", "emotion NLL", "emotion UAR"]
    assert [row[0] for row in rows][:2] == ["gradnorm", "static 0.6/0.4"]
    assert rows[0][7] == "-0.052±.016*"
    widths = [max(len(row[i]) for row in rows) for i in range(len(columns))]
    assert sum(widths) + 2 * len(columns) <= 120  # headings fold at their spaces, cells must not


def test_console_table_of_three_tasks_shows_the_metric_people_read(simulate):
    columns, _ = console_table(compare(simulate(num_tasks=3, num_epochs=2)))
    assert columns[2:5] == ["emotion UAR", "gender UAR", "valence CCC"]


@pytest.mark.parametrize(("num_tasks", "figures"), [(1, 4), (3, 5)])
def test_one_and_three_tasks_are_drawn_too(simulate, tmp_path, num_tasks, figures):
    write_report(simulate(num_tasks=num_tasks, num_seeds=2, num_epochs=2), tmp_path)
    assert len(list((tmp_path / "figures").glob("*.png"))) == figures


def test_study_of_static_arms_with_failures_is_reported(simulate, without, tmp_path):
    results = simulate(dynamic=(), num_epochs=2, num_seeds=2)
    results = without(results, "static-0.1-0.9-seed0", "static-0.5-0.5-seed1")
    text = write_report(results, tmp_path).with_name("report.md").read_text(encoding="utf-8")
    assert "figures/weights.png" not in text
    assert "| static-0.1-0.9-seed0 | failed |" in text


def test_folder_that_cannot_be_written_is_named(simulated, tmp_path):
    (tmp_path / "tables").write_text("in the way")
    with pytest.raises(StudyError, match=r"cannot write .*tables"):
        write_report(simulated, tmp_path)


def test_analysis_and_report_import_without_torch_ray_mlflow_and_matplotlib():
    code = (
        "import sys, study.analysis, study.report, study.errors;"
        "print(sorted({'torch', 'ray', 'mlflow', 'matplotlib', 'typer', 'rich'} & set(sys.modules)))"
    )
    assert (
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=REPOSITORY
        ).stdout.strip()
        == "[]"
    )


def only(simulated, arms, *, planned):
    """The simulated study as if nothing but these arms had finished, or had ever been planned."""
    kept = simulated.rows["arm"].isin(arms)
    status = simulated.trials["status"].where(simulated.trials["arm"].isin(arms), "failed")
    half = replace(simulated, rows=simulated.rows[kept], trials=simulated.trials.assign(status=status))
    if not planned:
        return half
    wanted = {name: getattr(half, name) for name in ("arms", "trials")}
    wanted = {name: table[table["arm"].isin(arms)].reset_index(drop=True) for name, table in wanted.items()}
    return replace(half, control=arms[0], **wanted)


@pytest.mark.parametrize("planned", [False, True], ids=["others failed", "no others planned"])
@pytest.mark.parametrize("arms", [["softmax"], ["softmax", "gradnorm"], ["static-0.5-0.5"]], ids=" ".join)
def test_a_report_of_whatever_has_finished_can_be_written(simulated, tmp_path, arms, planned):
    results = only(simulated, arms, planned=planned)
    text = write_report(results, tmp_path).with_name("report.md").read_text(encoding="utf-8")
    columns, rows = console_table(compare(results))
    assert len(rows) >= len(arms)
    assert len(rows[0]) == len(columns)
    assert "## Diagnosis" in text


def test_of_many_arms_those_that_do_not_differ_from_the_grid_share_a_line(simulate):
    dynamic = ("softmax", "uncertainty", "gradnorm", "dwa", "famo", "mgda")
    lines = summary_lines(compare(simulate(dynamic=dynamic, effects={"gradnorm": -0.3, "mgda": 0.3})))
    (alike,) = [line for line in lines if line.startswith("No difference from static") and "(" in line]
    assert {name for name in dynamic if f"{name} (" in alike} == set(dynamic) - {"gradnorm", "mgda"}
    (better,) = [line for line in lines if line.startswith("gradnorm against static")]
    assert better.endswith("better than the tuned static weights.")
