"""The copy of a study's rows: equal to the rows, kept up to date, and never trusted beyond them."""

import json

import numpy as np
import pytest

from study import columns
from study.records import StudyFolder


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(columns, "SMALLEST", 0)
    made = StudyFolder(tmp_path / "mine-12345678")
    made.create()
    for trial in ("a", "b"):
        made.append(trial, {"event": "start"})
        made.append(trial, {"event": "row", "row": {"kind": "epoch", "epoch": 1, "x": 0.1}})
        made.append(trial, {"event": "row", "row": {"kind": "final", "epoch": 1, "x": 0.2, "y": float("nan")}})
    return made


TRIALS = [{"trial": "a", "arm": "a", "seed": 0}, {"trial": "b", "arm": "b", "seed": 0}]


def table(folder):
    return columns.frame(TRIALS, folder.columns(["a", "b"]))


def test_the_copy_gives_the_same_table_as_the_rows(folder):
    first = table(folder)
    assert (folder.cache / "rows.npz").is_file()
    assert table(folder).equals(first)
    assert first.columns.tolist() == ["trial", "arm", "seed", "kind", "epoch", "x", "y"]
    assert first["kind"].tolist() == ["epoch", "final"] * 2
    assert first["epoch"].dtype == np.int64


def test_a_trial_that_went_on_is_read_again_and_the_others_are_not(folder, monkeypatch):
    table(folder)
    folder.append("b", {"event": "row", "row": {"kind": "epoch", "epoch": 2, "z": 3}})
    read = []
    record = StudyFolder.record
    monkeypatch.setattr(StudyFolder, "record", lambda self, trial: read.append(trial) or record(self, trial))
    found = table(folder)
    assert read == ["b"]
    assert found.loc[found["trial"] == "b", "z"].tolist()[1] == 3
    assert table(folder).equals(found)
    assert read == ["b"]


def test_a_trial_whose_predictions_are_gone_has_not_finished(folder):
    folder.append("a", {"event": "end", "status": "finished", "predictions": True})
    folder.write_predictions("a", b"...")
    assert folder.columns(["a"])["a"].status == "finished"
    (folder.predictions / "a.npz").unlink()
    assert folder.columns(["a"])["a"].status == "interrupted"


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 torn", b"\x00" * 100])
def test_a_damaged_copy_is_as_good_as_none(folder, content):
    whole = table(folder)
    (folder.cache / "rows.npz").write_bytes(content)
    assert table(folder).equals(whole)


@pytest.mark.parametrize(
    "index",
    [
        {},
        [],
        {
            "version": 1,
            "names": ["x"],
            "shapes": [[5]],
            "trials": [["a", 1, 1, False, "finished", None, None, 0, 1, 0]],
        },
        {
            "version": 1,
            "names": ["x"],
            "shapes": [[0]],
            "trials": [["a", 1, 1, False, "finished", None, None, 0, 9, 0]],
        },
        {"version": 2, "names": [], "shapes": [], "trials": []},
    ],
)
def test_a_made_up_index_is_as_good_as_none(folder, index):
    whole = table(folder)
    made_up = np.frombuffer(json.dumps(index).encode(), dtype=np.uint8)
    np.savez(folder.cache / "rows.npz", values=np.zeros((1, 1)), index=made_up)
    assert table(folder).equals(whole)


def test_a_folder_that_cannot_be_written_is_read_all_the_same(folder):
    folder.cache.write_text("a file where the folder would be")
    assert len(table(folder)) == 4


def test_a_small_study_has_no_copy(tmp_path):
    made = StudyFolder(tmp_path / "mine-12345678")
    made.create()
    made.append("a", {"event": "row", "row": {"kind": "epoch", "epoch": 1, "x": 0.1}})
    made.columns(["a"])
    assert not made.cache.exists()


def test_a_number_too_large_for_a_double_is_infinite():
    names, values, _ = columns.columns_of([{"kind": "epoch", "epoch": 1, "x": 10**400}])
    assert (names, values.tolist()) == (("epoch", "x"), [[1.0], [np.inf]])
