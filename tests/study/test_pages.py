"""The report as a page, as LaTeX and as tables, and the commands that print a study."""

import ast
import html.parser
import json
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import study
from strategies.errors import MOST_KNOWN, unknown
from study import cli, pairing, records
from study.analysis import compare
from study.analysis.rescored import rescored
from study.errors import StudyError
from study.report import FORMATS, latex, note, summary_lines, write_format
from study.report.blocks import MOST_ROWS, Paragraph, Table, bullets, listed, table
from study.report.drawing import BEST, MOST_PANELS, WORST, drawn_arms
from study.report.figures import figures
from study.report.files import styled
from study.report.forest import MOST_BARS, differences_figure, shown_differences
from study.report.html import inlined, render
from study.report.markdown import markdown
from study.report.page import page


class Page(html.parser.HTMLParser):
    """What a page is made of: tags in order, text, ids, and every address that it names."""

    VOID = frozenset({"meta", "br", "link", "img", "input", "hr"})

    def __init__(self, text):
        super().__init__()
        self.open, self.ids, self.addresses, self.words = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        self.ids += [values["id"]] if "id" in values else []
        self.addresses += [values[name] for name in ("href", "src", "xlink:href", "action") if name in values]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in self.VOID:
            self.open.pop()

    def handle_data(self, data):
        self.words.append(data)


def html_of(results):
    """The page without figures, which take seconds to draw."""
    return render(page(results, compare(results), []), {})


@pytest.fixture(scope="module")
def report(simulated, tmp_path_factory):
    return write_format(simulated, tmp_path_factory.mktemp("page"), "html")


@pytest.fixture(scope="module")
def text(report):
    return report.read_text(encoding="utf-8")


def test_the_page_is_well_formed_and_shows_every_section_and_figure(text):
    parsed = Page(text)
    assert not parsed.open
    assert len(parsed.ids) == len(set(parsed.ids))
    for heading in ("What it shows", "Arms", "Weights", "Diagnosis", "Cost", "Protocol", "Reproducibility"):
        assert f"<h2>{heading}</h2>" in text
    assert text.count("<svg") == text.count("<figcaption>") == 5
    told = " ".join(" ".join(parsed.words).split())
    assert "gradnorm is better than static 0.5/0.5: joint NLL -0.052" in told
    assert "git commit" in told


def test_the_page_asks_for_nothing_and_runs_nothing(text):
    parsed = Page(text)
    assert {address for address in parsed.addresses if not address.startswith("#")} == set()
    assert {address[1:] for address in parsed.addresses} <= set(parsed.ids)
    assert "default-src 'none'" in text
    assert not re.search(r"<script|<link|@import|url\((?!#)|\son\w+=", text)


def test_the_page_is_the_same_byte_for_byte(simulated, text, tmp_path):
    assert write_format(simulated, tmp_path, "html").read_text(encoding="utf-8") == text


def test_words_of_strangers_are_words_on_the_page(simulated, without):
    evil = "<script>alert(1)</script> \x1b[31m & \u202e"
    results = replace(without(simulated, "softmax-seed1", error=evil), title=evil)
    text = html_of(results)
    assert "<script" not in text
    assert "&lt;script&gt;" in text
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert not Page(text).open


def test_two_figures_on_a_page_share_no_ids():
    parts = '<path id="{0}p"/><use xlink:href="#{0}p" clip-path="url(#{0}p)"/></svg>'
    svg = '<?xml version="1.0"?>\n<!-- a --><svg height="2pt" width="3pt">' + parts.format("")
    assert inlined(svg, "one") == '<svg aria-hidden="true" style="width:3pt">' + parts.format("one-")


@pytest.mark.parametrize("name", sorted(set(FORMATS) - {"html", "md"}))
def test_every_format_is_written_where_it_says_and_the_same_again(simulated, tmp_path, name):
    first, second = (write_format(simulated, tmp_path / side, name) for side in "ab")
    wanted = {"csv": "csv", "parquet": "parquet", "latex": "tex"}.get(name)
    files = sorted(first.parent.rglob(f"*.{wanted}")) if wanted else [first]
    assert files
    for file in files:
        assert file.read_bytes() == (second.parent / file.relative_to(first.parent)).read_bytes()


def test_tables_for_programs_hold_the_numbers_of_the_comparison(simulated, tmp_path):
    expected = compare(simulated).table
    content = json.loads(write_format(simulated, tmp_path, "json").read_text(encoding="utf-8"))
    assert [row["joint_nll"] for row in content["tables"]["comparison"]] == pytest.approx(
        expected["joint_nll"].tolist()
    )
    assert content["summary"][0].startswith("gradnorm is better")
    folder = write_format(simulated, tmp_path, "parquet")
    pd.testing.assert_frame_equal(pd.read_parquet(folder / "comparison.parquet"), expected, check_dtype=False)
    assert len(pd.read_parquet(folder / "rows.parquet")) == len(simulated.rows)


def test_a_table_in_latex_is_aligned_and_nothing_in_it_is_a_command():
    shown = Table(("arm_1", "NLL ±"), (("a & b", "-0.5"), ("50 %", "-")), "t", "")
    assert latex.tabular(shown).splitlines() == [
        r"\begin{tabular}{lr}",
        r"\toprule",
        r"arm\_1 & NLL $\pm$ \\",
        r"\midrule",
        r"a \& b & $-$0.5 \\",
        r"50 \% & - \\",
        r"\bottomrule",
        r"\end{tabular}",
    ]
    assert latex.escaped("\\input{x} é \N{SNOWMAN}") == r"\textbackslash{}input\{x\} e [U+2603]"


def test_the_document_of_tables_compiles(simulated, without, tmp_path):
    if shutil.which("pdflatex") is None:
        pytest.skip("no pdflatex: apt-get install texlive-latex-base texlive-latex-recommended")
    results = without(simulated, "softmax-seed1", error=r"ValueError: \foo_1 {50 % of $x^2$} ~ #3 & <é☃>")
    path = write_format(results, tmp_path, "latex")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", path.name]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, errors="replace")
    assert done.returncode == 0, done.stdout[-2000:]
    assert (tmp_path / "report.pdf").stat().st_size > 20_000


def test_long_tables_lists_and_names_are_cut_and_say_where_the_rest_is():
    shown, rest = table(["a"], [[str(i)] for i in range(MOST_ROWS + 5)], "things", "")
    assert isinstance(shown, Table)
    assert len(shown.rows) == MOST_ROWS
    assert rest == Paragraph("5 more rows are in tables/things.csv.")
    (lines,) = bullets(map(str, range(100)))
    assert lines.lines[-1] == "60 more are in tables/findings.csv."
    assert listed(map(str, range(1000))).endswith("11 and 988 others")


def many_arms(simulate, count):
    """A study of that many moving arms with one seed and one epoch."""
    small = simulate(num_epochs=1, num_seeds=1, dynamic=("softmax", "gradnorm"))
    moving = small.arms[small.arms["arm"] == "gradnorm"]
    copies = pd.concat([moving.assign(arm=f"arm{i}", label=f"arm{i}", family=f"arm{i}") for i in range(count)])

    def copied(frame):
        own = frame[frame["arm"] == "gradnorm"]
        parts = [own.assign(arm=f"arm{i}", trial=[f"arm{i}-seed{seed}" for seed in own["seed"]]) for i in range(count)]
        return pd.concat([frame, *parts], ignore_index=True)

    arms = pd.concat([small.arms, copies], ignore_index=True)
    return replace(small, arms=arms, trials=copied(small.trials), rows=copied(small.rows))


@pytest.fixture(scope="module")
def hundreds(simulate):
    """A study of 302 moving arms with long names, and what it shows."""
    results = many_arms(simulate, 300)
    long = results.arms["label"].where(
        ~results.arms["arm"].str.startswith("arm"), results.arms["label"] + " of a long name"
    )
    results = replace(results, arms=results.arms.assign(label=long))
    return results, compare(results)


def test_the_page_of_hundreds_of_arms_stays_readable(hundreds):
    results, comparison = hundreds
    shown = page(results, comparison, [])
    assert (
        max(len(block.rows) for part in shown.sections for block in part.blocks if isinstance(block, Table))
        == MOST_ROWS
    )
    assert "more rows are in tables/comparison.csv" in render(shown, {})
    assert len(note(comparison)) < 8000
    assert len(drawn_arms(results)) == BEST + WORST
    assert len(shown_differences(comparison)) == MOST_BARS


def test_the_note_in_mlflow_has_the_summary_and_the_table(simulated):
    told = note(compare(simulated)).splitlines()
    assert told[0].startswith("- gradnorm is better than static 0.5/0.5")
    assert any(line.startswith("| gradnorm | 5 |") for line in told)
    assert note(None) == "No trial has finished."


# what the commands print -------------------------------------------------------------------------------------------


def call(capsys, *arguments):
    with pytest.raises(SystemExit) as end:
        cli.main_with(list(map(str, arguments)))
    out, err = capsys.readouterr()
    return end.value.code, out, err


def test_show_and_list_print_json_and_csv_on_standard_output(simulated, kept, tmp_path, capsys):
    kept(simulated, tmp_path)
    expected = compare(simulated).table
    code, out, err = call(capsys, "show", "weighting", "--home", tmp_path, "--csv")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].split(",")[:3] == ["rank", "arm", "label"]
    assert len(lines) == 1 + len(expected)
    arms = json.loads(call(capsys, "show", "weighting", "--home", tmp_path, "--json")[1])["arms"]
    assert arms[0]["joint_nll"] == pytest.approx(expected["joint_nll"].iloc[0])
    out = call(capsys, "show", "weighting", "--home", tmp_path, "--metric", "test/uar/emotion", "--csv")[1]
    assert out.splitlines()[0] == "arm,mean,half_width,seed 0,seed 1,seed 2,seed 3,seed 4"
    assert call(capsys, "list", "--home", tmp_path, "--csv")[1].splitlines()[1] == "weighting-1a2b3c4d,70,70,0,0,0"


def test_the_report_is_printed_as_the_path_of_what_to_open(simulated, kept, tmp_path, capsys):
    folder = kept(simulated, tmp_path)
    for name, file in (("latex", "report.tex"), ("json", "report.json"), ("csv", "tables")):
        assert call(capsys, "report", "weighting", "--home", tmp_path, "--format", name)[1].strip() == str(
            folder.report / file
        )


@pytest.fixture
def two(simulate, kept, tmp_path):
    """Two studies that differ in one setting, in the options of gradnorm and by 0.1 in its loss."""
    before = simulate(num_epochs=1, num_seeds=4)
    rows = before.rows.copy()
    rows.loc[rows["arm"] == "gradnorm", "test/joint_nll"] += 0.1
    arms = before.arms.copy()
    arms["options"] = [{"alpha": 2.0} if arm == "gradnorm" else {} for arm in arms["arm"]]
    kept(before, tmp_path, "first-00000001")
    second = kept(replace(before, rows=rows, arms=arms), tmp_path, "second-00000002")
    lock = second.read_lock()
    lock["definition"]["training"]["learning_rate"] = 0.01
    second.write_text(second.lock, json.dumps(lock))
    return tmp_path


def test_two_studies_are_compared_arm_by_arm_and_what_differs_is_said(two, capsys):
    code, out, err = call(capsys, "compare", "first", "second", "--home", two, "--json")
    assert (code, err) == (0, "")
    content = json.loads(out)
    by_arm = {row["arm"]: row for row in content["studies"]["table"]}
    assert by_arm["gradnorm"]["difference"] == pytest.approx(0.1)
    assert by_arm["gradnorm"]["t_holm_p"] < 0.05
    assert by_arm["softmax"]["difference"] == 0
    assert content["settings"] == ["training.learning_rate: 0.001 -> 0.01"]
    assert content["arms"] == ["gradnorm: options.alpha: - -> 2.0"]
    code, out, err = call(capsys, "compare", "first", "second", "--home", two)
    assert "second-00000002 minus first-00000001, test/joint_nll, paired on 4 common seeds" in out
    assert call(capsys, "compare", "first", "second", "--home", two, "--csv")[1].startswith("arm,label,first,second")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"corpus": {"name": "synthetic", "content_hash": "b" * 64}},
            "data of the corpus aaaaaaaaaaaa and bbbbbbbbbbbb",
        ),
        (
            {"reference_weights": {"emotion": 0.9, "gender": 0.1}},
            "reference weights emotion 0.5, gender 0.5 and emotion 0.9",
        ),
        ({"tasks": [{"name": "emotion"}]}, "tasks emotion, gender and emotion"),
        (
            {"definition": {"split": {"protocol": "k_fold", "options": {"fold": 1}}}},
            r"split speaker_disjoint and k_fold \(fold=1",
        ),
    ],
)
def test_studies_that_mean_different_things_are_refused_in_one_line(two, changes, message):
    first, second = (study.load_results(name, two) for name in ("first", "second"))
    locks = [json.loads((one.folder / "lock.json").read_text()) for one in (first, second)]
    with pytest.raises(
        StudyError, match=rf"first-00000001 and second-00000002 cannot be compared: .*{message}"
    ) as refusal:
        pairing.refuse_incomparable(first.name, second.name, locks[0], locks[1] | changes)
    assert "\n" not in str(refusal.value)


@pytest.fixture
def leaky(two):
    """Two studies of which the second tests on another split, that leaks."""
    second = study.load_results("second", two).folder / "lock.json"
    lock = json.loads(second.read_text())
    lock["definition"]["split"] = {"protocol": "replication_random", "options": {}}
    second.write_text(json.dumps(lock))
    return two


def test_studies_of_two_splits_stand_side_by_side_without_a_difference(leaky, capsys):
    code, out, err = call(capsys, "compare", "first", "second", "--home", leaky)
    assert (code, out) == (2, "")
    assert err.endswith("(each by itself, without a difference: --side-by-side)\n")
    code, out, err = call(capsys, "compare", "first", "second", "--home", leaky, "--side-by-side")
    assert (code, err) == (0, "")
    rows = [re.split(r"\s{2,}", line.strip()) for line in out.splitlines() if line.strip().startswith("gradnorm")]
    assert [row[1] for row in rows] == ["speaker_disjoint", "replication_random"]
    joint = [float(row[7].split("±")[0]) for row in rows]
    assert joint[1] - joint[0] == pytest.approx(0.1, abs=2e-3)
    assert "a number of the one is not to be subtracted from that of the other" in out
    assert "settings that differ: training.learning_rate: 0.001 -> 0.01" in out


def test_side_by_side_has_each_comparison_whole_and_the_loss_at_own_weights(leaky, capsys):
    content = json.loads(call(capsys, "compare", "first", "second", "--home", leaky, "--side-by-side", "--json")[1])
    assert [one["split"] for one in content["studies"]][1] == "replication_random"
    for name in ("first-00000001", "second-00000002"):
        results = records.load_results(records.find(leaky, name))
        own = rescored(results).table.set_index("arm")["own"]
        arms = [row for row in content["arms"] if row["study"] == name]
        assert {row["arm"]: row["own_valid_nll"] for row in arms} == pytest.approx(own.to_dict())
        assert len(arms) == len(compare(results).table)
    lines = call(capsys, "compare", "first", "second", "--home", leaky, "--side-by-side", "--csv")[1].splitlines()
    assert lines[0].startswith("study,split,rank,arm,label")
    assert len(lines) == 1 + len(content["arms"])


def test_side_by_side_is_refused_where_it_means_nothing(leaky, simulate, kept, capsys):
    kept(simulate(num_epochs=1, num_seeds=2, num_tasks=3), leaky, "third-00000003")
    for arguments, message in (
        (("first",), "--side-by-side takes two studies, got 1"),
        (("first", "second", "third"), "--side-by-side takes two studies, got 3"),
        (("first", "third"), "tasks"),
        (("first", "second", "--metric", "test/uar/emotion"), "leave out --metric and --figure"),
        (("first", "second", "--figure", "ranks.pdf"), "leave out --metric and --figure"),
    ):
        code, out, err = call(capsys, "compare", *arguments, "--home", leaky, "--side-by-side")
        assert (code, out) == (2, "")
        assert message in err
        assert err.count("\n") == 1


def test_studies_without_a_common_seed_and_unknown_names_and_metrics_are_refused(simulate, two, kept, capsys):
    results = simulate(num_epochs=1, num_seeds=2)
    others = {name: getattr(results, name).assign(seed=lambda frame: frame["seed"] + 7) for name in ("rows", "trials")}
    kept(replace(results, **others), two, "third-00000003")
    for arguments, message in (
        (("compare", "first", "third"), "no seed in common"),
        (("compare", "first", "first"), "cannot be compared with itself"),
        (("compare", "first", "fourth"), "unknown study 'fourth'"),
        (("compare", "first", "second", "--metric", "test/uar/emotio"), "did you mean 'test/uar/emotion'?"),
        (("compare", "first", "second", "--csv", "--json"), "choose one"),
        (("show", "first", "--metric", "test/ccc/emotion"), "unknown metric"),
        (("report", "first", "--format", "pdf"), "unknown format 'pdf'"),
    ):
        code, out, err = call(capsys, *arguments, "--home", two)
        assert (code, out) == (2, "")
        assert message in err
        assert err.count("\n") == 1


def test_a_name_that_two_studies_begin_with_is_refused_with_both(simulate, kept, tmp_path, capsys):
    for name in ("mine-00000001", "mine-00000002"):
        kept(simulate(num_epochs=1, num_seeds=1), tmp_path, name)
    code, _, err = call(capsys, "report", "mine", "--home", tmp_path)
    assert (code, err) == (2, "study: 'mine' may be any of mine-00000001, mine-00000002: name one of them\n")


def test_a_study_without_a_finished_trial_has_no_report_and_says_why(simulated, kept, tmp_path, capsys):
    rows = simulated.rows[simulated.rows["kind"] == "epoch"]
    kept(replace(simulated, rows=rows, trials=simulated.trials.assign(status="interrupted")), tmp_path)
    for command in ("report", "show"):
        code, out, err = call(capsys, command, "weighting", "--home", tmp_path)
        assert (code, out) == (2, "")
        assert "has no test rows to compare" in err
        assert "70 interrupted" in err
    assert call(capsys, "list", "--home", tmp_path, "--csv")[1].splitlines()[1] == "weighting-1a2b3c4d,70,0,0,70,0"


def test_one_seed_missing_numbers_and_other_versions_are_told_in_the_report(simulate):
    results = simulate(num_epochs=2, num_seeds=1)
    rows = results.rows.copy()
    rows.loc[(rows["arm"] == "gradnorm") & (rows["kind"] == "final"), "test/nll/emotion"] = np.inf
    results = replace(results, rows=rows, facts=results.facts | {"earlier versions": "torch 2.13.0"})
    told = markdown(results, compare(results), [])
    assert "No claim can be made" in told
    assert "gradnorm finished seed 0 with values that are not finite" in told
    assert "Not all rows were made with the same versions; some with torch 2.13.0" in told


# the Python interface ----------------------------------------------------------------------------------------------


def test_a_study_is_loaded_by_name_or_folder_with_the_tables_of_the_report(simulated, kept, tmp_path):
    folder = kept(simulated, tmp_path)
    by_name, by_folder = study.load_results("weighting", tmp_path), study.load_results(folder.path)
    assert repr(by_name) == "<Study weighting-1a2b3c4d: 14 arms, 70 of 70 trials finished>"
    pd.testing.assert_frame_equal(by_name.tables["comparison"], by_folder.comparison.table)
    assert by_name.metric("test/uar/emotion").shape == (14, 8)
    assert by_name.summary[0].startswith("gradnorm is better")
    assert set(by_name.figures()) >= {"weights", "task_plane"}
    assert len(by_name.rows) == 770
    with pytest.raises(StudyError, match="unknown study 'other'"):
        study.load_results("other", tmp_path)
    with pytest.raises(AttributeError, match="no attribute 'other'"):
        study.other  # noqa: B018


def test_the_notebook_is_what_its_script_writes_and_was_executed_without_a_trace_of_a_machine():
    docs = Path(__file__).resolve().parents[2] / "docs"
    notebook = json.loads((docs / "study_from_python.ipynb").read_text(encoding="utf-8"))
    script = ast.parse((docs / "make_notebook.py").read_text(encoding="utf-8"))
    (cells,) = [
        ast.literal_eval(each.value)
        for each in script.body
        if isinstance(each, ast.Assign) and isinstance(each.targets[0], ast.Name) and each.targets[0].id == "CELLS"
    ]
    assert [(cell["cell_type"], "".join(cell["source"])) for cell in notebook["cells"]] == list(cells)
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            compile("".join(cell["source"]).replace("%matplotlib", "# "), "cell", "exec")
            assert cell["execution_count"]
            assert all(output["output_type"] != "error" for output in cell["outputs"])
    assert not re.search(r"/(work|tmp|home|root|Users)/", json.dumps(notebook))


def texts_of(figure):
    """The boxes of everything written in a figure's panels and legends, as drawn."""
    figure.draw_without_rendering()
    told = [text for axis in figure.axes if axis.get_visible() for text in axis.texts]
    told += [text for legend in figure.legends for text in legend.get_texts()]
    return [text.get_window_extent() for text in told if text.get_text() and text.get_visible()]


def test_figures_of_hundreds_of_arms_show_a_chosen_few_by_name_and_say_so(hundreds):
    results, comparison = hundreds
    with styled():
        drawn = figures(results, comparison)
        for name in ("joint_loss", "task_plane"):
            boxes = texts_of(drawn[name])
            assert min(box.x0 for box in boxes) >= 0
            assert max(box.x1 for box in boxes) <= drawn[name].bbox.x1
            assert max(box.y1 for box in boxes) <= drawn[name].bbox.y1
    shown = render(page(results, comparison, list(drawn)), dict.fromkeys(drawn, "<svg></svg>"))
    moving = 300 + 2
    assert f"Of {moving} arms with moving weights the {BEST} best and the {WORST} worst on validation" in shown
    left = len(comparison.differences) - MOST_BARS
    assert f"{left} others, between them, are in tables/differences.csv" in shown
    assert len(drawn_arms(results, MOST_PANELS)) == BEST + WORST


def test_arms_between_the_drawn_ones_leave_a_gap_that_says_how_many(simulate):
    results = many_arms(simulate, 100)
    comparison = compare(results)
    with styled():
        axis = differences_figure(results, comparison).axes[0]
    told = [text.get_text() for text in axis.texts if "between" in text.get_text()]
    assert sum(int(text.split()[0]) for text in told) == len(comparison.differences) - MOST_BARS


def test_a_study_without_a_result_says_what_to_do_about_it(simulated, kept, tmp_path, capsys):
    rows = simulated.rows[simulated.rows["kind"] == "epoch"]
    waiting = replace(simulated, rows=rows, trials=simulated.trials.assign(status="pending"))
    failed = replace(waiting, trials=simulated.trials.assign(status="failed", error="ValueError: no room"))
    for name, results in (("waiting-00000001", waiting), ("failed-00000002", failed)):
        kept(results, tmp_path, name)
    assert "; to go on: study resume waiting-00000001\n" in call(capsys, "show", "waiting", "--home", tmp_path)[2]
    told = call(capsys, "report", "failed", "--home", tmp_path)[2]
    assert "static-0-1-seed0 failed (ValueError: no room); when that is mended: study resume failed-00000002" in told
    assert told.count("\n") == 1


def test_a_control_without_a_finite_loss_is_said_instead_of_that_there_is_nothing_to_compare(simulated):
    rows = simulated.rows.copy()
    rows.loc[(rows["kind"] == "final") & (rows["arm"] == simulated.control), "test/joint_nll"] = np.nan
    first = summary_lines(compare(replace(simulated, rows=rows)))[0]
    assert first.startswith(
        "Nothing can be compared with static 0.5/0.5: no seed has a finite joint test NLL both of it"
    )
    assert first.endswith("softmax, uncertainty or gradnorm.")


LONG = "a" * 400


@pytest.mark.parametrize(
    "arguments",
    [
        ("show", LONG),
        ("show", "weighting", "--metric", LONG),
        ("compare", LONG, "weighting"),
        ("compare", LONG),
        ("verify", "weighting", "--trial", LONG),
        ("report", "weighting", "--format", LONG),
        ("export", "model", "weighting", "--trial", LONG),
        ("predict", LONG, "clip.wav"),
        ("reproduce", LONG),
        ("plan", "weighting", "--set", f"control={LONG}"),
        ("plan", "weighting", "--set", f"{LONG}=3"),
    ],
    ids=lambda arguments: arguments[0],
)
def test_a_name_of_hundreds_of_characters_is_cut_in_one_line(one_epoch, capsys, arguments):
    homeless = arguments[0] in ("plan", "reproduce")
    code, out, err = call(capsys, *arguments, *(() if homeless else ("--home", one_epoch)))
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert LONG[:200] not in err
    assert "(400 characters)" in err


@pytest.fixture(scope="module")
def one_epoch(simulate, kept, tmp_path_factory):
    """A home with a small study."""
    home = tmp_path_factory.mktemp("long")
    kept(simulate(num_epochs=1, num_seeds=1), home)
    return home


def test_of_thousands_of_names_a_line_tells_some_and_how_many_there_are():
    told = unknown("trial", "softmax-seed2099x", [f"softmax-seed{number}" for number in range(100, 2100)])
    assert told.endswith(f" and {2000 - MOST_KNOWN} more); did you mean 'softmax-seed2099'?")
    assert len(told) < 2000
