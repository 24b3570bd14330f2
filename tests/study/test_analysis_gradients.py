from dataclasses import replace

import numpy as np
import pytest

from study.analysis import compare
from study.analysis.gradients import gradient_table
from study.report.markdown import markdown
from study.report.writing import tables


def without_probes(results):
    """The study as one that was run with diagnose_every=0."""
    rows = results.rows[[column for column in results.rows if not column.startswith("gradient/")]]
    return replace(results, rows=rows)


def test_gradients_of_an_arm_are_means_over_its_final_rows(simulated):
    table = gradient_table(simulated).set_index("arm")
    finals = simulated.rows[(simulated.rows["kind"] == "final") & (simulated.rows["arm"] == "gradnorm")]
    row = table.loc["gradnorm"]
    assert (row["longest"], row["norm_ratio"], row["conflict"]) == ("gender", 2.0, 0.5)
    assert row["cosine"] == pytest.approx(-0.25)
    assert row["share/gender"] == pytest.approx(finals["gradient/share/gender"].mean())
    assert list(table.index) == list(simulated.arms["arm"])


def test_cosines_of_three_tasks_are_averaged_over_their_pairs(simulate):
    table = gradient_table(simulate(num_tasks=3, num_seeds=2, num_epochs=2))
    assert table["cosine"].tolist() == pytest.approx([(-0.25 - 0.75 - 0.65) / 3] * len(table))
    assert set(table["longest"]) == {"valence"}


def test_one_task_has_a_length_and_no_angle(simulate):
    table = gradient_table(simulate(num_tasks=1, num_seeds=2, num_epochs=2))
    assert set(table["norm_ratio"]) == {1.0}
    assert table["cosine"].isna().all()
    assert table["conflict"].isna().all()


def test_a_task_without_any_gradient_leaves_the_ratio_undefined(simulated):
    rows = simulated.rows.copy()
    rows.loc[rows["arm"] == "softmax", "gradient/norm/emotion"] = 0.0
    row = gradient_table(replace(simulated, rows=rows)).set_index("arm").loc["softmax"]
    assert row["longest"] == "gender"
    assert np.isnan(row["norm_ratio"])


def test_report_shows_gradients_of_the_arms_that_have_them_best_arm_first(simulated):
    rows = simulated.rows.copy()
    gradients = [column for column in rows if column.startswith("gradient/")]
    rows.loc[rows["arm"] == "softmax", gradients] = np.nan
    results = replace(simulated, rows=rows)
    comparison = compare(results)
    section = markdown(results, comparison, []).partition("## Gradients")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| ")]
    assert lines[0] == "| arm | longest gradient | cosine | conflicts | share of emotion | share of gender |"
    assert lines[2].startswith("| gradnorm | gender 2.00x | -0.250 | 50% | ")
    ranked = [str(label) for label in comparison.table["label"] if label != "softmax"]
    assert [line.split(" | ")[0].removeprefix("| ") for line in lines[2:]] == ranked


def test_study_without_probes_is_reported_without_the_section(simulated):
    results = without_probes(simulated)
    comparison = compare(results)
    assert gradient_table(results).empty
    assert "## Gradients" not in markdown(results, comparison, [])
    assert len(tables(simulated, compare(simulated))["gradients"]) == 14
