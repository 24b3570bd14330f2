"""What a study's lock keeps from being mixed up: another definition, other data, a lock that somebody has edited."""

import json

import pytest

from study import cli, job

TINY = [
    *("--set", "corpus.options={num_speakers: 12, utterances_per_speaker: 8}"),
    *("--set", "arms=[{strategy: equal}]"),
    *("--set", "seeds=1"),
]


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Return a function that runs a study up to its first trial: it returns the exit code and what is said."""

    def trained(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(job, "_run_locked", trained)

    def command(*arguments):
        with pytest.raises(SystemExit) as ended:
            cli.main_with(["run", "weighting", *TINY, "--home", str(tmp_path), *arguments])
        return ended.value.code, capsys.readouterr().err

    return command


@pytest.fixture
def lock(run, tmp_path):
    assert run()[0] == 130
    (found,) = tmp_path.glob("weighting-*/lock.json")
    return found


def edit(lock, **changes):
    lock.write_text(json.dumps(json.loads(lock.read_text()) | changes))


def test_a_lock_that_was_edited_is_refused_in_one_line_and_nothing_is_touched(run, lock):
    rows = lock.parent / "rows" / "equal-seed0.jsonl"
    rows.write_text('{"event": "start"}\n')
    edit(lock, identity="0" * 64)
    edited = lock.read_bytes()
    code, said = run("--quiet")
    assert code == 2
    assert said == (
        f"study: {lock.parent} holds another study under this name, or its lock.json was edited: move the folder away, "
        "or start anew with --fresh\n"
    )
    assert lock.read_bytes() == edited
    assert rows.exists()
    assert run("--fresh")[0] == 130
    assert json.loads(lock.read_text())["identity"] != "0" * 64
    assert not rows.exists()


def test_a_lock_of_other_data_is_refused(run, lock):
    edit(lock, corpus=json.loads(lock.read_text())["corpus"] | {"content_hash": "f" * 64})
    code, said = run("--quiet")
    assert code == 2
    assert "was run on other data (corpus hash ffffffffffff, now " in said


def test_a_lock_that_is_no_lock_is_refused(run, lock):
    lock.write_text("{")
    code, said = run("--quiet")
    assert code == 2
    assert "has no readable lock.json" in said
    assert said.count("\n") == 1


def test_a_definition_that_was_edited_in_the_folder_is_not_gone_on_with(run, lock, capsys):
    frozen = lock.parent / "definition.yaml"
    frozen.write_text(frozen.read_text().replace("learning_rate: 0.001", "learning_rate: 0.1"))
    with pytest.raises(SystemExit, match="2"):
        cli.main_with(["resume", lock.parent.name, "--home", str(lock.parent.parent)])
    assert f"{frozen} was edited: it describes study weighting-" in capsys.readouterr().err
