import json
import os
import subprocess
import sys

import pytest

from study import cli

FAST = ["--set", "corpus.options={num_speakers: 12, utterances_per_speaker: 8}", "--set", "training.epochs=1"]


def call(capsys, *arguments):
    """Run the command line in this process; return exit code, standard output, standard error."""
    with pytest.raises(SystemExit) as ended:
        cli.main_with(list(arguments))
    captured = capsys.readouterr()
    return ended.value.code, captured.out, captured.err


def test_help_is_quick_because_nothing_heavy_is_imported():
    listing = "import sys, study.cli; print(*sorted({name.split('.')[0] for name in sys.modules}))"
    modules = subprocess.run([sys.executable, "-c", listing], check=True, capture_output=True, text=True).stdout.split()
    assert not {"torch", "ray", "mlflow", "pandas", "numpy", "scipy", "matplotlib"} & set(modules)


def test_help_names_every_command(capsys):
    code, out, _ = call(capsys, "--help")
    assert code == 0
    for command in (
        "run",
        "plan",
        "list",
        "show",
        "report",
        "sync",
        "ui",
        "strategies",
        "definitions",
        "corpus",
        "doctor",
    ):
        assert f" {command} " in out


def test_version_is_printed(capsys):
    from study import __version__

    assert call(capsys, "--version") == (0, f"study {__version__}\n", "")


def test_the_plan_counts_what_would_run(capsys):
    code, out, _ = call(capsys, "plan", "weighting", "--json")
    plan = json.loads(out)
    assert code == 0
    assert plan["trials"] == "70"
    assert plan["arms"] == "14: static grid (11), softmax, uncertainty, gradnorm"
    assert plan["control"] == "static-0.5-0.5"


def test_strategies_definitions_and_studies_are_listed(capsys):
    code, out, _ = call(capsys, "strategies", "--json")
    assert code == 0
    assert {"static", "equal", "single_task", "softmax", "uncertainty", "gradnorm"} <= {
        each["name"] for each in json.loads(out)
    }
    assert "softmax" in call(capsys, "strategies")[1]
    assert "https://arxiv.org/abs/1711.02257" in call(capsys, "strategies", "gradnorm")[1]
    assert "weighting" in call(capsys, "definitions")[1].splitlines()
    assert "grid: {step: 0.1}" in call(capsys, "definitions", "weighting")[1]


def test_an_empty_home_has_no_studies(capsys, tmp_path):
    assert call(capsys, "list", "--home", str(tmp_path), "--json") == (0, "[]\n", "")


def test_the_doctor_says_what_it_looked_at(capsys, tmp_path):
    code, out, _ = call(capsys, "doctor", "--home", str(tmp_path), "--json")
    findings = {finding["subject"]: finding for finding in json.loads(out)}
    assert code == 0
    assert {"versions", "media", "devices", "disk", "tracking store"} == set(findings)
    assert "torch 2." in findings["versions"]["detail"]


def test_the_doctor_fails_when_the_tracking_store_is_away(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    code, out, _ = call(capsys, "doctor", "--home", str(tmp_path))
    assert code == 1
    assert "BAD  tracking store: tracking store http://127.0.0.1:9 does not answer" in out


MISTAKES = {
    ("run", "wieghting"): r"unknown definition 'wieghting' \(known: .*\); did you mean 'weighting'\?",
    ("plan", "weighting", "--set", "trainig.epochs=1"): r"unknown key 'trainig' .*did you mean 'training'\?",
    (
        "plan",
        "weighting",
        "--set",
        "training.epochs=0",
    ): r"training.epochs is 0: input should be greater than or equal to 1",
    (
        "plan",
        "weighting",
        "--set",
        "arms=[strategy: gradnrom]",
    ): r"unknown strategy 'gradnrom' .*did you mean 'gradnorm'\?",
    (
        "plan",
        "weighting",
        "--set",
        "arms=[{strategy: gradnorm, options: {aplha: 1}}]",
    ): r"unknown option of strategy 'gradnorm' 'aplha' .*did you mean 'alpha'\?",
    (
        "plan",
        "weighting",
        "--set",
        "arms=[{strategy: gradnorm, options: {alpha: -1}}]",
    ): r"strategy 'gradnorm': .*alpha.*-1",
    (
        "plan",
        "weighting",
        "--set",
        "arms=[{strategy: static, options: {weights: [0.5, 0.6]}}]",
    ): r"strategy 'static': .*1\.1",
    ("plan", "weighting", "--set", "arms=[{strategy: static}]"): r"strategy 'static' needs the option 'weights'",
    ("plan", "weighting", "--set", "arms=[strategy: softmax]"): r"control: unknown arm 'equal' \(known: softmax\)",
    (
        "plan",
        "weighting",
        "--set",
        "arms=[{strategy: equal}, {strategy: equal}]",
    ): r"'equal' is there twice: give one of them a name",
    ("plan", "weighting", "--set", "arms=[grid: {step: 0.3}]"): r"arms: grid: .*0\.3",
    (
        "plan",
        "weighting",
        "--set",
        "tasks=[emotion, valence]",
    ): r"unknown label of corpus synthetic 'valence' \(known: emotion, gender\)",
    ("plan", "weighting", "--corpus", "synthetik"): r"unknown corpus 'synthetik' .*did you mean 'synthetic'\?",
    (
        "plan",
        "weighting",
        "--set",
        "corpus.options={sead: 1}",
    ): r"unknown option of corpus 'synthetic' 'sead' .*did you mean 'seed'\?",
    ("plan", "weighting", "--set", "network.name=chea"): r"unknown network 'chea' .*did you mean 'chae'\?",
    (
        "plan",
        "weighting",
        "--set",
        "network.preset=smal",
    ): r"unknown preset of network 'chae' 'smal' .*did you mean 'small'\?",
    (
        "plan",
        "weighting",
        "--set",
        "network.options={drpout: 0.1}",
    ): r"unknown option of network 'chae' 'drpout' .*did you mean 'dropout'\?",
    (
        "plan",
        "weighting",
        "--corpus",
        "ravdess",
        "--set",
        "network.modalities=[video]",
    ): r"corpus 'ravdess' has no video \(it has: audio\)",
    (
        "plan",
        "weighting",
        "--set",
        "network.modalities=[text]",
    ): r"unknown modality of network chae 'text' \(known: audio, video\)",
    ("run", "weighting", "--corpus", "ravdess"): r"corpus 'ravdess' needs its folder: add --root FOLDER",
    (
        "run",
        "weighting",
        "--corpus",
        "ravdess",
        "--root",
        "nowhere",
    ): r"nowhere is not a folder: expected the folder of RAVDESS",
    (
        "run",
        "weighting",
        *FAST,
        "--set",
        "split.protocol=speaker_disjiont",
    ): r"unknown split protocol 'speaker_disjiont' .*did you mean 'speaker_disjoint'\?",
    (
        "run",
        "weighting",
        *FAST,
        "--set",
        "corpus.options={num_speakers: 4}",
    ): r"needs 3 speakers of each gender, but there are 2 female, 2 male",
    ("show", "nothing"): r"unknown study 'nothing'",
    ("report", "nothing"): r"unknown study 'nothing'",
    ("sync", "nothing"): r"unknown study 'nothing'",
    ("strategies", "sofmax"): r"unknown strategy 'sofmax' .*did you mean 'softmax'\?",
    ("definitions", "weighing"): r"unknown definition 'weighing' .*did you mean 'weighting'\?",
    ("corpus", "prepare", "ravdess"): r"corpus 'ravdess' needs its folder: add --root FOLDER",
    ("corpus", "stats", "ravdes"): r"unknown corpus 'ravdes' .*did you mean 'ravdess'\?",
    ("ui", "--home", "nowhere"): r"there is no .*mlflow.db yet: run a study first",
}


@pytest.mark.parametrize(("arguments", "message"), MISTAKES.items(), ids=" ".join)
def test_a_mistake_is_one_line_on_standard_error_and_exit_code_two(capsys, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    code, out, err = call(capsys, *arguments)
    assert (code, out) == (2, "")
    lines = [line for line in err.splitlines() if line.startswith("study: ")]
    assert len(lines) == 1
    import re

    assert re.search(message, lines[0]), lines[0]


def test_the_parsers_own_complaints_end_with_code_two_as_well(capsys):
    assert call(capsys, "rnu")[0] == 2
    assert call(capsys, "run")[0] == 2
    assert call(capsys, "ui", "--port", "0")[0] == 2


def test_a_home_that_cannot_be_written_is_told_before_anything_is_prepared(capsys, tmp_path):
    (tmp_path / "file").write_text("")
    code, _, err = call(capsys, "run", "weighting", *FAST, "--home", str(tmp_path / "file"))
    assert code == 2
    assert "cannot be written" in err
    assert "--home or STUDY_HOME" in err


def test_a_silent_and_an_unreadable_file_are_named_and_refused_when_they_are_too_many(capsys, tmp_path):
    import numpy as np
    import soundfile

    draws = np.random.default_rng(0)
    for actor in range(1, 7):
        folder = tmp_path / f"Actor_{actor:02d}"
        folder.mkdir()
        for emotion in range(1, 9):
            soundfile.write(folder / f"03-01-{emotion:02d}-01-01-01-{actor:02d}.wav", draws.normal(0, 0.1, 8000), 16000)
    soundfile.write(tmp_path / "Actor_01" / "03-01-03-02-01-01-01.wav", np.zeros(8000), 16000)
    (tmp_path / "Actor_02" / "03-01-03-02-01-01-02.wav").write_text("not sound")
    code, out, err = call(capsys, "corpus", "prepare", "ravdess", "--root", str(tmp_path))
    assert code == 0
    assert os.path.isdir(out.strip())
    assert "03-01-03-02-01-01-01.wav is silent" in err
    assert "03-01-03-02-01-01-02.wav cannot be read as sound" in err
    code, _, err = call(
        capsys, "run", "weighting", "--corpus", "ravdess", "--root", str(tmp_path), "--set", "corpus.max_skipped=0.01"
    )
    assert code == 2
    assert "2 of 50 utterances cannot be used, more than the 1.0% that corpus.max_skipped allows" in err
