import json
import os
import re
import subprocess
import sys

import pytest
from rich.console import Console

import strategies
from strategies.testing import CHECKS
from study import cli

FAST = ["--set", "corpus.options={num_speakers: 12, utterances_per_speaker: 8}", "--set", "training.epochs=1"]


PLUGIN = """
from strategies import Strategy
from strategies.options import Range

class Powers(Strategy):
    summary = "powers"
{}
    def __init__(self, num_tasks, *, power=1):
        super().__init__(num_tasks)
        self.power = power

    def weights(self, losses):
        return (1 + losses.detach()) ** self.power
"""


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    """Return a function that installs a strategy: its name, and lines of the class."""
    monkeypatch.syspath_prepend(tmp_path)

    def install(name, lines, group="study.strategies"):
        (tmp_path / f"plugin_{name}.py").write_text(PLUGIN.format(lines))
        monkeypatch.delitem(sys.modules, f"plugin_{name}", raising=False)
        info = tmp_path / f"plugin_{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: plugin-{name}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[{group}]\n{name} = plugin_{name}:Powers\n")

    return install


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
        "predict",
        "export",
        "ui",
        "strategies",
        "new",
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


def test_the_table_of_strategies_says_what_each_is_and_no_row_is_folded_when_piped(capsys):
    code, out, err = call(capsys, "strategies")
    header, _, *rows = [line for line in out.splitlines() if line.strip()]
    assert (code, err) == (0, "")
    assert header.split() == ["strategy", "kind", "passes", "weights", "tunes", "paper", "same", "as"]
    assert [row.split()[0] for row in rows] == strategies.names()
    assert "…" not in out


@pytest.mark.parametrize("width", [60, 100, 120])
def test_a_table_is_folded_between_words_and_no_name_is_cut(capsys, monkeypatch, width):
    from study.screen import printing

    rows = [
        ["uncertainty_plus", "2018", "1 / (2 sigma^2), free", "temperature, entropy, learning_rate", "-"],
        ["imtl_g", "2021", "sum 1, may be negative", "-", "T=2: nash_mtl, fairgrad, config, aligned_mtl"],
        ["gradnorm", "2018", "1 backward + (T - 1) partial backwards", "alpha, learning_rate", "any T: another"],
    ]
    monkeypatch.setattr(printing, "_console", lambda: Console(width=width))
    printing.print_table(["strategy", "year", "weights", "tunes", "same as"], rows, words=["weights"])
    out = capsys.readouterr().out
    assert {word for row in rows for cell in row for word in cell.split()} <= set(out.split())
    assert width == 60 or max(map(len, out.splitlines())) <= width


def test_one_strategy_is_shown_in_full(capsys):
    described = strategies.describe("gradnorm")
    code, out, err = call(capsys, "strategies", "gradnorm")
    assert (code, err) == (0, "")
    assert described.reference in out
    assert "option alpha = 1.5" in out
    assert "1.5 as in the paper's experiments on NYUv2" in " ".join(out.split())
    assert re.search(f"^kind +{described.kind}$", out, re.MULTILINE)
    assert "Args:" not in out
    assert ":math:" not in out
    assert call(capsys, "strategies", "show", "gradnorm")[1] == out
    for arguments in (("gradnorm", "--json"), ("--json", "gradnorm")):
        shown = json.loads(call(capsys, "strategies", *arguments)[1])
        assert (shown["name"], shown["passes"]) == ("gradnorm", described.passes)


def test_a_required_option_and_a_range_to_search_are_shown(capsys, plugin):
    plugin("searched", "    tunable = {'power': Range(0.1, 10, log=True)}\n")
    assert "option weights (must be given)" in call(capsys, "strategies", "static")[1]
    assert "option power = 1   worth searching: 0.1..10 (log)" in call(capsys, "strategies", "searched")[1]
    row = next(line for line in call(capsys, "strategies")[1].splitlines() if line.startswith(" searched"))
    assert row.split()[-3:] == ["power", "-", "-"]
    assert call(capsys, "strategies")[1].endswith("plug-ins: searched (from plugin-searched)\n")


def test_broken_and_clashing_plug_ins_get_a_line_each_and_the_others_are_listed(capsys, plugin):
    plugin("broken", "    1 / 0\n")
    plugin("equal", "")
    code, out, err = call(capsys, "strategies")
    listed = {line.split()[0] for line in out.splitlines() if line.strip()}
    assert code == 0
    assert {"equal", "gradnorm"} <= listed
    assert "broken" not in listed
    assert len(err.splitlines()) == 2
    assert all(line.startswith("study: strategy '") for line in err.splitlines())
    code, _, err = call(capsys, "plan", "weighting", "--set", "arms=[{strategy: equal}, {strategy: softmax}]")
    assert code == 0
    assert re.match(
        r"study: strategy 'equal' is registered by weighting-study .* and by plugin-equal .*first is used", err
    )
    assert call(capsys, "plan", "weighting")[2] == ""
    code, _, err = call(capsys, "strategies", "broken")
    assert code == 2
    assert "cannot be loaded: ZeroDivisionError: division by zero" in err


def test_a_network_and_a_corpus_keep_their_names_too(capsys, plugin):
    plugin("chae", "", group="study.networks")
    plugin("synthetic", "", group="study.corpora")
    code, out, err = call(capsys, "plan", "weighting", "--json")
    assert (code, json.loads(out)["trials"]) == (0, "70")
    assert [line.partition(" is registered by weighting-study")[0] for line in err.splitlines()] == [
        "study: network 'chae'",
        "study: corpus 'synthetic'",
    ]


def test_checking_a_class_prints_a_line_for_every_check_and_a_verdict(capsys, tmp_path, monkeypatch):
    (tmp_path / "here.py").write_text(PLUGIN.format("    print('loud')\n"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "here", raising=False)
    code, out, err = call(capsys, "strategies", "check", "here:Powers")
    lines = out.splitlines()
    assert code == 0, out + err
    assert "loud" not in out
    assert re.fullmatch(r"here:Powers keeps the contract of a strategy: \d+ ok(, \d+ not applicable)?", lines[-1])
    assert "ok      resumes exactly" in lines
    assert len(lines) == len(CHECKS) + 2

    code, out, err = call(capsys, "strategies", "check", "here:Powers", "--option", "power=200")
    assert code == 1
    assert re.search(r"^FAILED  survives degenerate losses: .*no finite value$", out, re.MULTILINE)
    assert re.search(r"breaks the contract of a strategy: \d+ ok, \d+ failed", out)
    assert "survives degenerate losses: Losses that are zero, equal" in err
    verdicts = json.loads(call(capsys, "strategies", "check", "here:Powers", "--json")[1])
    assert {"check", "outcome", "reason", "proves"} == set(verdicts[0])
    assert call(capsys, "strategies", "check", "gradnorm", "--option", "alpha=0.5")[0] == 0


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
    (
        "plan",
        "weighting",
        "--set",
        "control=nobody",
        "--set",
        "arms=[strategy: softmax]",
    ): r"control: unknown arm 'nobody' \(known: softmax\)",
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
        "tasks=[emotion, valense]",
    ): r"unknown label of corpus synthetic 'valense' \(known: arousal, .*\); did you mean 'valence'\?",
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
    ("strategies", "check", "sofmax"): r"unknown strategy 'sofmax' .*did you mean 'softmax'\?; a class of your own is",
    ("strategies", "check", "nowhere.at.all:Mine"): r"there is no module 'nowhere' here",
    ("strategies", "check", "strategies.static:EqualWeigthing"): r"has no class .*did you mean 'EqualWeighting'\?",
    (
        "strategies",
        "check",
        "study.errors:StudyError",
    ): r"is <class .*>, which is not a subclass of strategies.Strategy",
    ("strategies", "check", "gradnorm", "--option", "alhpa=1"): r"unknown option .*'alhpa' .*did you mean 'alpha'\?",
    ("strategies", "check", "gradnorm", "--option", "alpha"): r"--option alpha: expected KEY=VALUE, such as --option",
    ("strategies", "check", "gradnorm", "--option", "alpha=-1"): r"GradNorm cannot be built: option 'alpha' is -1",
    ("new", "strategy", "gradnorm"): r"there is a strategy 'gradnorm' already, from weighting-study",
    ("new", "strategy", "My-Method"): r"'My-Method' cannot be the name of a strategy: .*did you mean 'my_method'\?",
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


def test_networks_are_listed_with_their_parameters_and_shown_with_their_options(capsys):
    code, out, _ = call(capsys, "networks", "--json")
    listed = {entry["network"]: entry for entry in json.loads(out)}
    assert code == 0
    assert listed["chae"]["parameters"]["paper"] == 34_111_254
    assert listed["chae"]["modalities"] == ["audio", "video"]
    code, out, _ = call(capsys, "networks", "chae")
    assert code == 0
    assert "preset paper  34,111,254 parameters" in out
    assert "option lstm = torch" in out


def test_a_summary_counts_a_convolution_by_fft_as_what_it_replaces_and_as_what_it_does(capsys):
    code, out, _ = call(capsys, "networks", "chae", "--preset", "paper", "--modality", "audio", "--summary")
    assert code == 0
    (row,) = [line.split() for line in out.splitlines() if "audio.conv2" in line]
    assert row[-5:] == ["6,400,040", "307.200", "G", "733.411", "M"]
    code, out, _ = call(capsys, "networks", "chae", "--summary", "--option", "lstm=peephole", "--json")
    assert code == 0
    assert [layer["kind"] for layer in json.loads(out)["layers"] if layer["name"] == "lstm.1"] == ["PeepholeLayer"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["chay"], r"unknown network 'chay' .*did you mean 'chae'\?"),
        (["chae", "--summary", "--preset", "papr"], r"'papr' \(known: .*\); did you mean 'paper'\?"),
        (["chae", "--summary", "--modality", "vidio"], r"'vidio' .*did you mean 'video'\?"),
        (["chae", "--summary", "--option", "lsm=torch"], r"'lsm' .*did you mean 'lstm'\?"),
        (["chae", "--summary", "--depth", "0"], "--depth is 0, but at least 1"),
        (["--summary"], "study networks NAME --summary"),
        (["chae", "--preset", "paper"], "go with --summary"),
    ],
)
def test_a_network_that_cannot_be_shown_is_one_line(capsys, arguments, message):
    code, out, err = call(capsys, "networks", *arguments)
    assert (code, out) == (2, "")
    assert re.fullmatch(f"study: .*{message}.*\n", err)
