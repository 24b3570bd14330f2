"""Studies of several corpora ranked together: statistics against scipy and Demšar (2006), the command, the diagram."""

import json
from dataclasses import replace
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import study
from study.analysis.ranks import critical_difference, friedman, mean_ranks, nemenyi_distance
from study.analysis.several_studies import GRID, methods, rank_studies
from study.cli.entry import main_with
from study.errors import StudyError
from study.report.ranks import rank_figure

DEMSAR = pd.DataFrame(
    {
        "C4.5": [0.763, 0.599, 0.954, 0.628, 0.882, 0.936, 0.661, 0.583, 0.775, 1.0, 0.940, 0.619, 0.972, 0.957],
        "C4.5+m": [0.768, 0.591, 0.971, 0.661, 0.888, 0.931, 0.668, 0.583, 0.838, 1.0, 0.962, 0.666, 0.981, 0.978],
        "C4.5+cf": [0.771, 0.590, 0.968, 0.654, 0.886, 0.916, 0.609, 0.563, 0.866, 1.0, 0.965, 0.614, 0.9751, 0.946],
        "C4.5+m+cf": [0.798, 0.569, 0.967, 0.657, 0.898, 0.931, 0.685, 0.625, 0.875, 1.0, 0.962, 0.669, 0.975, 0.970],
    }
).T
"""Areas under the curve of four classifiers on 14 data sets, Demšar 2006, table 6; two tie there but for rounding."""


def test_the_worked_example_of_demsar_comes_out():
    assert mean_ranks(-DEMSAR).round(3).tolist() == [3.143, 2.0, 2.893, 1.964]
    found = friedman(-DEMSAR)
    ties = 1 - (3 * (2**3 - 2) + (4**3 - 4)) / (14 * 4 * (4**2 - 1))  # the paper does not correct for them
    chi_square = found.statistic * ties
    assert chi_square == pytest.approx(9.28, abs=0.005)
    assert 13 * chi_square / (14 * 3 - chi_square) == pytest.approx(3.69, abs=0.005)
    assert (found.freedom, found.f_freedom) == (3, (3, 39))
    assert nemenyi_distance(4, 14) == pytest.approx(1.25, abs=0.005)
    assert nemenyi_distance(4, 14, alpha=0.10) == pytest.approx(1.12, abs=0.005)


@pytest.mark.parametrize(("count", "critical"), [(2, 1.960), (3, 2.343), (5, 2.728), (10, 3.164)])
def test_nemenyis_distance_has_the_critical_values_of_the_table(count, critical):
    assert nemenyi_distance(count, 1) / np.sqrt(count * (count + 1) / 6) == pytest.approx(critical, abs=1e-3)


def test_friedman_is_scipys_with_ties_and_without():
    for values in (-DEMSAR, pd.DataFrame(np.random.default_rng(0).normal(size=(5, 12)))):
        expected = stats.friedmanchisquare(*values.to_numpy())
        found = friedman(values)
        assert (found.statistic, found.p) == pytest.approx((expected.statistic, expected.pvalue))
        assert found.f_p == pytest.approx(stats.f.sf(found.f, *found.f_freedom))


def test_shuffled_ranks_give_the_exact_p_of_few_corpora():
    agreed = pd.DataFrame({corpus: [1.0, 2.0, 3.0] for corpus in range(3)})
    found = friedman(agreed)
    assert found.shuffled_p == pytest.approx((1 / 6) ** 2, abs=0.004)  # any one order, shared by all
    assert (found.f, found.f_p) == (np.inf, 0.0)
    tied = friedman(agreed * 0)
    assert (tied.statistic, tied.p, tied.f_p, tied.shuffled_p) == (0.0, 1.0, 1.0, 1.0)
    for values in (agreed[[0]], agreed.iloc[:1], agreed.assign(gap=np.nan)):
        with pytest.raises(StudyError, match="2 methods and 2 blocks without gaps"):
            friedman(values)


def on_corpora(simulate, count, **options):
    """Studies of one seed block each, gradnorm better everywhere, softmax worse, with some noise of the corpus."""
    found = []
    for corpus in range(count):
        noise = np.random.default_rng(corpus).normal(0, 0.002, 2)
        effects = {"gradnorm": -0.3 + noise[0], "softmax": 0.3 + noise[1]}
        found.append(simulate(num_epochs=1, num_seeds=2, effects=effects, **options))
    return found


def test_a_corpus_is_a_block_and_the_grid_is_one_method_by_the_arm_that_validation_chose(simulate):
    studies = on_corpora(simulate, 3)
    assert list(methods(studies[0])) == ["static 0.5/0.5", "softmax", "uncertainty", "gradnorm", GRID]
    found = rank_studies(studies, ["a", "b", "c"])
    table = found.table.set_index("method")
    assert found.table["method"].iloc[0] == "gradnorm"
    assert (table.at["gradnorm", "rank"], table.at["softmax", "rank"], table.at["gradnorm", "better"]) == (1, 5, 3)
    finals = studies[1].rows[(studies[1].rows["kind"] == "final") & (studies[1].rows["arm"] == "gradnorm")]
    assert table.at["gradnorm", "value/b"] == pytest.approx(finals["test/joint_nll"].mean())
    assert table.at["gradnorm", "p"] == 0.25
    assert np.isnan(table.at["static 0.5/0.5", "holm_p"])
    by_recall = rank_studies(studies, ["a", "b", "c"], "test/uar/emotion").table.set_index("method")
    assert by_recall.at["gradnorm", "rank"] == 1


def test_a_seed_that_a_method_lacks_counts_for_none(simulate, without):
    studies = on_corpora(simulate, 3)
    studies[2] = without(studies[2], "gradnorm-seed0")
    assert rank_studies(studies, ["a", "b", "c"]).num_seeds == (2, 2, 1)
    studies[2] = without(studies[2], "gradnorm-seed1")
    with pytest.raises(
        StudyError, match=r"no seed with a finite test/joint_nll of every method \(seeds are missing of gradnorm"
    ):
        rank_studies(studies, ["a", "b", "c"])


@pytest.fixture(scope="module")
def home(simulate, kept, tmp_path_factory):
    """Three studies of three corpora; a fourth of the data of the first; a fifth with another method."""
    home = tmp_path_factory.mktemp("corpora")
    studies = on_corpora(simulate, 3)
    for name, results in zip("abc", studies, strict=True):
        corpus = {"name": name, "root": None, "content_hash": name * 64, "num_utterances": 9}
        kept(results, home, f"{name}-0000000{ord(name) - 96}", corpus=corpus)
    kept(studies[0], home, "again-00000004", corpus={"name": "a", "root": None, "content_hash": "a" * 64})
    other = simulate(num_epochs=1, num_seeds=2, dynamic=("softmax", "gradnorm", "famo"))
    kept(other, home, "other-00000005", corpus={"name": "d", "root": None, "content_hash": "d" * 64})
    return home


def call(capsys, *arguments):
    with pytest.raises(SystemExit) as end:
        main_with([str(argument) for argument in arguments])
    return (end.value.code, *capsys.readouterr())


def test_three_studies_are_ranked_with_what_so_few_corpora_can_show(home, tmp_path, capsys):
    figure = tmp_path / "ranks.svg"
    command = ("compare", "a-", "b-", "c-", "--home", home)
    code, out, err = call(capsys, *command, "--figure", figure)
    assert (code, err) == (0, "")
    heads = [word for corpus in "abc" for word in (corpus, "(rank)")]
    assert out.splitlines()[1].split() == ["method", "mean", "rank", *heads, "better", "Wilcoxon", "p,", "Holm"]
    assert out.splitlines()[3].split()[:2] == ["gradnorm", "1.00"]
    for text in (
        "Mean rank by test/joint_nll over 3 corpora",
        "cannot give a two-sided p below 0.25, so after Holm's correction no method can differ from static 0.5/0.5: "
        "that takes 8 corpora, and 9 to tell every pair apart",
        "Friedman chi-square(4) =",
        "A mean rank depends on which other arms are compared",
    ):
        assert text in out
    assert "gradnorm" in figure.read_text()
    content = json.loads(call(capsys, *command, "--json")[1])
    assert content["groups"] == [[row["method"] for row in content["table"]]]
    assert content["corpora"] == ["a", "b", "c"]
    assert call(capsys, *command, "--csv")[1].startswith("method,rank,value/a,rank/a,value/b")
    assert study.rank(["a-", "b-", "c-"], home=home).table["method"].tolist() == content["groups"][0]


def test_what_cannot_be_ranked_together_is_refused_in_one_line(home, tmp_path, capsys):
    for names, message in (
        (["a-", "b-", "again"], "were run on the same data (a): to rank over corpora name one study of each"),
        (["a-", "b-", "a-"], "a-00000001 is named twice"),
        (["a-", "b-", "other"], "other-00000005 lacks uncertainty; run the same arms"),
        (["a-", "b-", "c-", "--metric", "test/uar/emotio"], "did you mean 'test/uar/emotion'?"),
        (["a-", "b-", "c-", "--metric", "test/weighted_nll"], "unknown metric that methods can be ranked by"),
        (["a-", "b-", "c-", "--figure", "ranks.gif"], "must end in .png, .pdf, .svg"),
        (["a-", "b-"], "study compare A B C"),
        (["a-", "again", "--figure", tmp_path / "ranks.png"], "name three studies or more"),
        (["a-"], "a- alone cannot be compared"),
        (["a-", "b-", "nowhere"], "unknown study 'nowhere'"),
    ):
        code, out, err = call(capsys, "compare", *names, "--home", home)
        assert (code, out) == (2, "")
        assert message in err
        assert err.count("\n") == 1


def test_other_controls_cannot_be_ranked_together(simulate):
    studies = on_corpora(simulate, 3)
    arms = studies[2].arms.assign(
        family=["own" if arm == "static-1-0" else f for arm, f in studies[2].arms[["arm", "family"]].values]
    )
    moved = replace(studies[2], control="static-1-0", arms=arms)
    with pytest.raises(StudyError, match=r"cannot be ranked together|different controls"):
        rank_studies([*studies[:2], moved], ["a", "b", "c"])


def test_names_in_the_diagram_do_not_overlap_and_stay_inside():
    values = pd.DataFrame(np.random.default_rng(0).normal(size=(25, 9)), index=[f"method-{i}" * 4 for i in range(25)])
    figure = rank_figure(critical_difference(values, "corpora"), "test/joint_nll", "method-0" * 4)
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in figure.axes[0].texts]
    assert all(not one.overlaps(other) for one, other in combinations(boxes, 2))
    assert min(box.x0 for box in boxes) >= 0
    assert max(box.x1 for box in boxes) <= figure.bbox.x1
    assert min(box.y0 for box in boxes) >= 0
    assert max(box.y1 for box in boxes) <= figure.bbox.y1


def test_a_study_without_a_result_is_refused_with_how_to_go_on(simulate):
    studies = on_corpora(simulate, 3)
    rows, trials = studies[2].rows, studies[2].trials.assign(status="interrupted")
    studies[2] = replace(studies[2], rows=rows[rows["kind"] == "epoch"], trials=trials)
    with pytest.raises(StudyError, match=r"no test rows to compare.*to go on: study resume weighting-1a2b3c4d"):
        rank_studies(studies, ["a", "b", "c"])
