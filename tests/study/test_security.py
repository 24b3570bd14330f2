"""What comes from strangers runs no code, writes nowhere but in the study home, and says nothing to the terminal."""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

import study
from strategies.errors import StrategyError
from strategies.static import simplex_grid
from strategies.text import printable, redacted
from study import definition, private, records, screen, yaml_text
from study.errors import DefinitionError, StudyError
from study.progress import Display, LineDisplay
from study.records import StudyFolder
from study.report.markdown import plain

ROOT = Path(study.__file__).parent.parent
SOURCES = [path for name in ("study", "trainables", "strategies") for path in sorted((ROOT / name).rglob("*.py"))]
ESCAPE = "\x1b]0;owned\x07\x1b[2J\u202e"


def called(node: ast.Call) -> str:
    return ast.unparse(node.func)


def unsafe(node: ast.Call) -> bool:
    """Whether a call can run what it reads, or give it to a shell."""
    given = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
    name = called(node)
    last = name.rpartition(".")[2]
    if name == "exec" and isinstance(node.args[0], ast.Constant):  # a text of our own
        return False
    return (
        name
        in ("eval", "exec", "os.system", "os.popen", "yaml.load", "yaml.unsafe_load", "yaml.full_load", "__import__")
        or (last == "load" and "torch" in name and given.get("weights_only") != "True")
        or (name.startswith(("np.", "numpy.")) and last == "load" and given.get("allow_pickle") != "False")
        or (
            name.partition(".")[0] in ("pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal")
            and "load" in last
        )
        or given.get("shell", "False") != "False"
        or (last in ("extractall", "unpack_archive") and given.get("filter") != "'data'")
        or last == "read_pickle"
    )


ALLOWED = {("testing.py", "pickle.loads")}
"""The conformance kit reads back what it wrote itself a line before."""


def test_nothing_we_load_can_run_code():
    found = {
        (path.name, called(node), node.lineno)
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and unsafe(node) and (path.name, called(node)) not in ALLOWED
    }
    assert not found


@pytest.mark.parametrize(
    "code",
    [
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "np.load(path, allow_pickle=True)",
        "yaml.load(text, Loader=yaml.Loader)",
        "pickle.loads(content)",
        "subprocess.run(text, shell=True)",
        "archive.extractall(folder)",
        "eval(text)",
    ],
)
def test_the_search_for_unsafe_calls_finds_them(code):
    assert unsafe(ast.parse(code).body[0].value)


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("http://ann:p@ss@host:5000", "http://***@host:5000"),
        ("s3://AKIA:wJalr/XUtn@bucket/x?region=eu", "s3://***@bucket/x?region=eu"),
        ("s3://b/x?secret_key=abc&region=eu", "s3://b/x?secret_key=***&region=eu"),
        ("https://b/x?X-Amz-Signature=abc", "https://b/x?X-Amz-Signature=***"),
        ("(postgresql+psycopg://u:p@h/d) failed; sqlite:////home/a/b.db", None),
        ("http://127.0.0.1:5000 does not answer", "http://127.0.0.1:5000 does not answer"),
        ("study run weighting --set name=a@b.c", "study run weighting --set name=a@b.c"),
    ],
)
def test_addresses_lose_their_secrets_and_nothing_else(text, kept):
    assert redacted(text) == (kept or "(postgresql+psycopg://***@h/d) failed; sqlite:////home/a/b.db")
    assert redacted(redacted(text)) == redacted(text)


def test_text_for_a_terminal_has_no_control_characters_left():
    assert printable(ESCAPE) == r"\x1b]0;owned\x07\x1b[2J\u202e"
    assert printable("Grün ± 3 µs\tx\ny") == "Grün ± 3 µs\tx\ny"
    assert printable("\x9b2J\udc80") == r"\x9b2J\udc80"


def test_no_way_to_the_terminal_lets_control_characters_or_secrets_through(capsys):
    text = f"{ESCAPE} http://ann:hunter2@host"
    screen.say(text)
    screen.print_lines([text])
    screen.print_table([ESCAPE], [[text]], title=None)
    console = LineDisplay(Console(stderr=True))
    console.say(text)
    Display.warn(console, text)
    told = "".join(capsys.readouterr())
    assert told.count("owned") == 6
    assert "hunter2" not in told
    assert not set(told) & {"\x1b", "\x07", "\u202e"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: &a [x, x]\nb: &b [*a, *a]\nc: &c [*b, *b]\n" * 1 + "d: [" + "*c, " * 30_000 + "]", "values, more than"),
        ("a: &a [*a]", "holds itself"),
        ("[" * 5000, "nested too deeply"),
        ("a: !!python/object/apply:os.system [id]", "could not determine a constructor"),
        ("a: 2026-13-45", "month must be in"),
        ("a: " + "9" * 5000, "Exceeds the limit"),
        ("a" * (yaml_text.LONGEST + 1), "characters, more than"),
    ],
)
def test_yaml_that_is_small_on_disk_stays_small(text, message):
    with pytest.raises(ValueError, match=message):
        yaml_text.parse(text)


def test_a_billion_laughs_are_one_line(tmp_path):
    lines = ["l0: &l0 [ha, ha, ha, ha, ha, ha, ha, ha, ha, ha]"]
    lines += [f"l{i}: &l{i} [{', '.join([f'*l{i - 1}'] * 10)}]" for i in range(1, 10)]
    merges = ["m0: &m0 {a: 1}"] + [f"m{i}: &m{i} {{<<: [*m{i - 1}, *m{i - 1}]}}" for i in range(1, 40)]
    for bomb in (lines, merges):
        path = tmp_path / "bomb.yaml"
        path.write_text("\n".join(["name: x", *bomb]))
        with pytest.raises(DefinitionError, match=r"with its aliases written out it has \d+ values, more than 100000"):
            definition.load(str(path))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("name=../../x", "name is '../../x'"),
        ("name=" + "x" * 200, "at most 100 characters"),
        ("arms=[{strategy: equal, name: ../x}]", "name is '../x'"),
        ("seeds=[1267650600228229401496703205376]", "seeds.0 is 126765"),
        ("seeds=1000000000", "between 1 and 10000"),
        (
            "corpus.root=s3://AKIA:wJalrXUtn@bucket/x",
            r"corpus.root is 's3://\*\*\*@bucket/x': it holds a password or a key",
        ),
    ],
)
def test_a_definition_names_no_other_place_and_no_secret_and_asks_for_no_more_than_there_is(override, message):
    with pytest.raises(DefinitionError, match=message) as told:
        definition.load("weighting", [override])
    assert "wJalrXUtn" not in str(told.value)


def test_a_grid_has_a_limit():
    assert len(simplex_grid(3, "0.01")) == 5151
    for num_tasks, step in ((2, "0.00001"), (5, "0.01"), (2, "1e-400000"), (10, "0.1")):
        with pytest.raises(StrategyError, match="10000"):
            simplex_grid(num_tasks, step)


LOCK = {
    "title": "t",
    "definition": {"name": "x"},
    "seeds": [0],
    "arms": [
        {
            "arm": "equal",
            "label": "equal",
            "strategy": "equal",
            "family": "equal",
            "options": {},
            "static_weights": None,
        }
    ],
    "tasks": [{"name": "emotion", "classes": ["a", "b"], "kind": "classification"}],
    "trials": [{"trial": "equal-seed0", "arm": "equal", "seed": 0}],
    "control": "equal",
    "reference_weights": {"emotion": 1.0},
    "corpus": {"name": "synthetic"},
    "versions": {},
    "facts": {},
    "git_commit": "",
}


def sent(home: Path, content: object, name: str = "sent-0") -> StudyFolder:
    """A study that came from somewhere else."""
    folder = StudyFolder(home / name)
    folder.rows.mkdir(parents=True)
    folder.lock.write_text(json.dumps(content))
    return folder


def changed(part: str, key: str, value: object) -> dict:
    return LOCK | {part: [LOCK[part][0] | {key: value}]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            changed("trials", "trial", "../../../etc/passwd"),
            "trial in trials is '../../../etc/passwd', which is no name",
        ),
        (changed("trials", "trial", "a\x1b[2J"), "which is no name"),
        (changed("trials", "arm", "other"), "a trial belongs to the arm 'other', which is not there"),
        (changed("arms", "arm", "x' or '1'='1"), "arm in arms is"),
        (changed("arms", "label", "<script>alert(1)</script>"), "label in arms is '<script>"),
        (changed("tasks", "name", "$\\frac{"), "name in tasks"),
        (LOCK | {"control": ["equal"]}, "it has no control"),
        (LOCK | {"facts": "none"}, "it has no facts"),
        (LOCK | {"arms": ["equal"]}, "arms holds something else than tables"),
        ([LOCK], "it holds no table"),
    ],
)
def test_a_lock_that_no_study_wrote_is_refused_in_one_line(tmp_path, content, message):
    with pytest.raises(StudyError, match=r"study sent-0 has a lock\.json that is none: ") as told:
        records.load_results(sent(tmp_path, content))
    assert message in str(told.value)


def test_a_lock_that_is_nested_without_end_is_refused(tmp_path):
    folder = sent(tmp_path, {})
    folder.lock.write_text("[" * 200_000)
    with pytest.raises(StudyError, match=r"has no readable lock\.json"):
        folder.read_lock()


def test_lines_that_are_no_events_are_passed_over(tmp_path):
    folder = sent(tmp_path, LOCK)
    lines: list[object] = [
        {"event": "start", "time": 1.0},
        {"event": "row", "time": 2.0, "row": {"kind": "epoch", "epoch": 1, "valid/joint_nll": 0.5}},
        {"event": "row", "time": 2.0, "row": {"kind": "epoch", "epoch": [1], "valid/joint_nll": 0.5}},
        {"event": "row", "time": 2.0, "row": {"kind": "epoch", "epoch": 2, "valid/joint_nll": "x"}},
        {"event": "row", "time": "now", "row": {"kind": "epoch", "epoch": 3}},
        {"event": "row", "time": 2.0, "row": "epoch"},
        {"event": "end", "time": 3.0, "status": "failed", "error": ["x"]},
        [1, 2],
    ]
    text = "\n".join(map(json.dumps, lines))
    (folder.rows / "equal-seed0.jsonl").write_text(f"{text}\n{'[' * 100_000}\n")
    record = folder.record("equal-seed0")
    assert [row["epoch"] for row in record.rows] == [1]
    assert record.status == "interrupted"


def test_studies_with_names_that_are_none_are_not_listed(tmp_path):
    sent(tmp_path, LOCK)
    sent(tmp_path, LOCK, "it's \x1b[2J")
    assert records.names(tmp_path) == ["sent-0"]


def test_cells_of_a_report_are_text_and_nothing_else():
    assert plain("<img src=x> [a](javascript:x) p < .05") == r"&lt;img src=x> \[a](javascript:x) p < .05"


def test_the_token_of_ray_is_for_its_owner_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    token = tmp_path / ".ray/auth_token"
    private.protect_token()
    first = token.read_text()
    assert len(first) == 64
    token.chmod(0o644)
    token.parent.chmod(0o755)
    private.protect_token()
    assert token.read_text() == first
    assert [oct(path.stat().st_mode & 0o777) for path in (token.parent, token)] == ["0o700", "0o600"]


LISTENING = """
import os, sys
from pathlib import Path
from study.ray_start import ray_started

def addresses():
    inodes = {}
    for family in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{family}").read_text().splitlines()[1:]:
            parts = line.split()
            if parts[3] == "0A":
                inodes[parts[9]] = parts[1].rpartition(":")[0]
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if b"LISTENING_TEST=1" not in Path(f"/proc/{pid}/environ").read_bytes().split(b"\\0"):
                continue
            for link in Path(f"/proc/{pid}/fd").iterdir():
                inode = os.readlink(link).removeprefix("socket:[").removesuffix("]")
                if inode in inodes:
                    yield inodes[inode]
        except OSError:
            continue

with ray_started(None, Path(sys.argv[1])):
    import ray
    ray.get(ray.remote(lambda: os.getpid()).remote())
    print(*addresses(), os.environ["RAY_AUTH_MODE"], file=sys.__stdout__)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_a_run_on_one_machine_listens_on_the_loopback_address_only_and_asks_for_a_token(tmp_path):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    environment |= {"HOME": str(tmp_path), "LISTENING_TEST": "1"}
    environment["PYTHONPATH"] = str(ROOT)
    command = [sys.executable, "-c", LISTENING, str(tmp_path / "log")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    *found, mode = done.stdout.split()
    assert len(found) >= 4
    assert set(found) <= {"0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000"}
    assert mode == "token"
    assert oct((tmp_path / ".ray/auth_token").stat().st_mode & 0o777) == "0o600"
