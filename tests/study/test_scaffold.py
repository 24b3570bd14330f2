"""A new plug-in package: written, installed, listed, tested and run without touching the project."""

import json
import os
import subprocess
import sys
import tomllib
import venv
from pathlib import Path

import pytest
import yaml

from strategies import examination
from study import definition, scaffold
from study.errors import StudyError

FILES = {"pyproject.toml", "README.md", "compare.yaml", "study_my_method.py", "test_study_my_method.py"}


@pytest.fixture
def package(tmp_path):
    return scaffold.write_strategy("my_method", tmp_path / "new")


def test_the_package_announces_its_strategy(package):
    assert {file.name for file in package.iterdir()} == FILES
    project = tomllib.loads((package / "pyproject.toml").read_text())["project"]
    assert project["name"] == "study-my-method"
    assert project["dependencies"] == ["weighting-study"]
    assert project["entry-points"]["study.strategies"] == {"my_method": "study_my_method:MyMethodWeighting"}


def test_nothing_is_left_to_fill_in(package):
    for file in package.iterdir():
        assert "$" not in file.read_text().replace("$HOME", "")
    compile((package / "study_my_method.py").read_text(), "study_my_method.py", "exec")


def test_its_definition_compares_it_with_equal_weights(package):
    chosen = definition.load(str(package / "compare.yaml"))
    assert [arm.strategy for arm in chosen.arms] == ["equal", "my_method"]
    assert chosen.control == "equal"


def test_the_strategy_keeps_the_contract(package, monkeypatch):
    monkeypatch.delitem(sys.modules, "study_my_method", raising=False)
    with examination.importable_from(package):
        strategy = examination.find("study_my_method:MyMethodWeighting")
        verdicts = examination.examine(strategy)
    assert [verdict for verdict in verdicts if verdict.outcome == "failed"] == []
    assert (strategy.kind, strategy.weight_scale, set(strategy.tunable)) == ("loss", "sum T", {"power"})


@pytest.mark.parametrize(
    ("name", "class_name"), [("a", "AWeighting"), ("log_2", "Log2Weighting"), ("my_weighting", "MyWeighting")]
)
def test_the_class_is_named_after_the_strategy(tmp_path, name, class_name):
    folder = scaffold.write_strategy(name, tmp_path / name)
    assert f"class {class_name}(Strategy):" in (folder / f"study_{name}.py").read_text()


def test_the_folder_is_named_after_the_strategy_unless_said_otherwise(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert scaffold.write_strategy("my_method") == Path("study-my-method")
    assert (tmp_path / "study-my-method" / "study_my_method.py").is_file()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("My-Method", r"^'My-Method' cannot be the name of a strategy: .*; did you mean 'my_method'\?$"),
        ("2fast", r"did you mean 'fast'\?$"),
        ("class", r"'class' cannot be the name of a strategy: .* no word of Python's own$"),
        ("", r"^'' cannot be the name of a strategy"),
        ("../up", r"did you mean 'up'\?$"),
        ("équal", r"cannot be the name of a strategy"),
        ("check", r"`study strategies check` is a command$"),
        ("gradnorm", r"^there is a strategy 'gradnorm' already, from weighting-study"),
    ],
)
def test_a_name_that_cannot_be_used_is_refused(tmp_path, name, message):
    with pytest.raises(StudyError, match=message):
        scaffold.write_strategy(name, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_name_that_two_plug_ins_claim_is_refused(tmp_path, monkeypatch):
    for number in (1, 2):
        info = tmp_path / f"plugin_{number}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: plugin-{number}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[study.strategies]\ntwice = plugin_{number}:Any\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(StudyError, match=r"'twice' is registered by plugin-\d .* and by plugin-\d .*: neither is used"):
        scaffold.write_strategy("twice", tmp_path / "new")


def test_nothing_is_overwritten(tmp_path):
    (tmp_path / "kept").write_text("mine")
    with pytest.raises(StudyError, match="is not empty: name a new folder with --dir; nothing is overwritten"):
        scaffold.write_strategy("my_method", tmp_path)
    with pytest.raises(StudyError, match="kept is a file: name a new folder with --dir"):
        scaffold.write_strategy("my_method", tmp_path / "kept")
    with pytest.raises(StudyError, match="cannot be written: Not a directory"):
        scaffold.write_strategy("my_method", tmp_path / "kept" / "below")
    assert [file.name for file in tmp_path.iterdir()] == ["kept"]


def test_the_readme_names_commands_that_exist(package):
    from typer.main import get_command

    from study.cli import app

    commands = get_command(app).commands
    lines = [line.split() for line in (package / "README.md").read_text().splitlines() if line.startswith("study ")]
    assert len(lines) == 4
    assert {words[1] for words in lines} <= set(commands)
    cluster = (package / "README.md").read_text().split("```yaml\n")[1].split("```")[0]
    assert yaml.safe_load(cluster)["file_mounts"] == {"~/new": "."}


class Environment:
    """A throw-away environment that sees every package of the one the tests run in."""

    def __init__(self, folder: Path) -> None:
        venv.create(folder)
        self.python = str(folder / "bin" / "python")
        (packages,) = folder.glob("lib/python3*/site-packages")
        outer = [path for path in sys.path if path.endswith("site-packages")]
        # As a line of code, so that .pth files there count too: the project itself may be installed by one.
        (packages / "outer.pth").write_text("".join(f"import site; site.addsitedir({path!r})\n" for path in outer))
        self.variables = {**os.environ, "OMP_NUM_THREADS": "1"}

    def call(self, *arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
        command = [self.python, *arguments]
        return subprocess.run(
            command, cwd=folder, env=self.variables, capture_output=True, text=True, timeout=200, check=False
        )


@pytest.mark.slow
@pytest.mark.timeout(280)
def test_a_new_package_is_installed_seen_tested_and_compared(package, tmp_path):
    environment, elsewhere = Environment(tmp_path / "environment"), tmp_path / "elsewhere"
    elsewhere.mkdir()

    quick = ["--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check"]
    installed = environment.call("-m", "pip", "install", *quick, "-e", str(package), folder=elsewhere)
    assert installed.returncode == 0, installed.stderr

    listed = environment.call("-m", "study.cli", "strategies", "--json", folder=elsewhere)
    found = {each["name"]: each for each in json.loads(listed.stdout)}
    assert listed.stderr == ""
    assert found["my_method"]["distribution"] == "study-my-method"
    assert "gradnorm" in found

    tested = environment.call("-m", "pytest", "-q", "-p", "no:cacheprovider", str(package), folder=package)
    assert tested.returncode == 0, tested.stdout

    small = ["--set", "seeds=1", "--set", "training.epochs=1"]
    small += ["--set", "corpus.options={num_speakers: 12, utterances_per_speaker: 8}"]
    run = environment.call("-m", "study.cli", "run", str(package / "compare.yaml"), *small, folder=elsewhere)
    assert run.returncode == 0, run.stderr
    assert "my_method" in run.stdout
    assert "2 of 2 trials to run" in run.stderr
