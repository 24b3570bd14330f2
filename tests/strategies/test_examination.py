"""Anybody's class can be examined, and whatever is wrong with it is told in words."""

import sys

import pytest

import strategies
from strategies import StrategyError
from strategies.examination import examine, find, importable_from
from strategies.testing import CHECKS, NotApplicable

MODULE = """
import torch
from strategies import Strategy, StrategyError

class Fine(Strategy):
    summary = "all alike"
    def weights(self, losses):
        return torch.ones_like(losses)

class Leaking(Fine):
    def weights(self, losses):
        return losses / losses.detach()

class Crashing(Fine):
    def weights(self, losses):
        return torch.ones_like(losses)[7]

class Refusing(Fine):
    def __init__(self, num_tasks, *, power=1):
        super().__init__(num_tasks)
        if power < 0:
            raise StrategyError(f"option 'power' is {power}, but must not be negative")
        self.power = power

class Needing(Fine):
    def __init__(self, num_tasks, *, power):
        super().__init__(num_tasks)
        self.power = power

class Unwilling(Fine):
    def __init__(self, num_tasks):
        super().__init__(num_tasks)
        raise SystemError("no more\\nmemory")

class Plain:
    pass
"""


@pytest.fixture
def written(tmp_path, monkeypatch):
    """A module of strategies, in a folder that is on nobody's path."""
    (tmp_path / "written.py").write_text(MODULE)
    with importable_from(tmp_path):
        yield "written"
    sys.modules.pop("written", None)


def outcomes(target, **options):
    return {verdict.check: verdict for verdict in examine(find(target), options)}


def test_a_sound_class_passes_every_check_that_applies(written):
    verdicts = outcomes(f"{written}:Fine")
    assert len(verdicts) == len(CHECKS)
    assert "failed" not in {verdict.outcome for verdict in verdicts.values()}
    assert verdicts["resumes exactly"].outcome == "ok"
    assert verdicts["resumes exactly"].proves.startswith("Six steps equal four, a checkpoint through a file")
    assert all(verdict.reason == "" for verdict in verdicts.values() if verdict.outcome == "ok")


@pytest.mark.parametrize("name", ["equal", "softmax"])
def test_a_registered_name_is_a_target_as_well(name):
    assert find(name) is strategies.load(name)


def test_what_fails_is_named_with_its_reason_in_one_line(written):
    verdict = outcomes(f"{written}:Leaking")["gradient is that of the logged weights"]
    assert verdict.outcome == "failed"
    assert "the loss at the logged weights rises at the rate" in verdict.reason
    assert "\n" not in verdict.reason


def test_a_crash_is_a_failed_check_with_its_type_message_and_line(written):
    verdict = outcomes(f"{written}:Crashing")["resumes exactly"]
    line = MODULE.splitlines().index("        return torch.ones_like(losses)[7]") + 1
    assert verdict.outcome == "failed"
    assert verdict.reason.startswith("IndexError: index 7 is out of bounds")
    assert verdict.reason.endswith(f"(written.py, line {line})")


def test_a_class_that_cannot_be_built_fails_its_checks(written):
    verdicts = outcomes(f"{written}:Unwilling")
    assert {verdict.outcome for verdict in verdicts.values()} == {"failed"}
    assert verdicts["pickles"].reason.startswith("SystemError: no more memory (written.py, line ")


def test_a_check_that_does_not_apply_says_why(written, monkeypatch):
    def check_flies(make):
        """It flies.

        High.
        """
        raise NotApplicable("no\nwings")

    def check_is_true(make):
        raise AssertionError

    monkeypatch.setattr("strategies.examination.CHECKS", (check_flies, check_is_true))
    flies, is_true = examine(find(f"{written}:Fine"))
    assert (flies.check, flies.outcome, flies.reason, flies.proves) == (
        "flies",
        "not applicable",
        "no wings",
        "It flies.",
    )
    assert (is_true.outcome, is_true.reason, is_true.proves) == ("failed", "an assertion of its own", "")


def test_options_reach_the_class(written):
    assert outcomes(f"{written}:Refusing", power=2)["options rebuild it"].outcome == "ok"
    assert outcomes(f"{written}:Needing", power=2)["options rebuild it"].outcome == "ok"


@pytest.mark.parametrize(
    ("target", "options", "message"),
    [
        ("written:Fine", {"power": 1}, r"^unknown option of strategy Fine 'power' \(known: none\)$"),
        ("written:Refusing", {"powr": 1}, r"unknown option of strategy Refusing 'powr' .*did you mean 'power'\?$"),
        ("written:Refusing", {"power": -1}, r"^Refusing cannot be built: option 'power' is -1, but must not be"),
        ("written:Needing", {}, r"^Needing needs the option 'power': give it with --option power=VALUE, or let the"),
        (
            "written:Fnie",
            {},
            r"^module 'written' has no class 'Fnie' \(its strategies: Fine, .*\); did you mean 'Fine'\?",
        ),
        ("written:Plain", {}, r"^'written:Plain' is <class 'written.Plain'>, which is not a subclass of strategies"),
        (
            "written:torch",
            {},
            r"^'written:torch' is <module 'torch'.*, which is not a subclass of strategies.Strategy$",
        ),
        (
            "writen:Fine",
            {},
            r"^there is no module 'writen' here or among what is installed$",
        ),
        ("written.part:Fine", {}, r"^there is no module 'written.part' here"),
        ("xml.part.deep:F", {}, "no module 'xml.part' here"),
        ("written:", {}, r"^'written:' is neither a registered name nor written package.module:Class$"),
        ("./written.py:Fine", {}, r"is neither a registered name nor written package.module:Class$"),
        ("gradnrom", {}, r"^unknown strategy 'gradnrom' .*did you mean 'gradnorm'\?; a class of your own is written"),
    ],
)
def test_a_target_or_option_that_cannot_be_is_one_line(written, target, options, message):
    with pytest.raises(StrategyError, match=message) as caught:
        examine(find(target), options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import nowhere_to_be_found", "ModuleNotFoundError: No module named 'nowhere_to_be_found'"),
        ("def (", r"SyntaxError: .* \(faulty.py, line 1\)"),
        ("raise SystemExit('done')", "SystemExit: done"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
    ],
)
def test_a_module_that_cannot_be_imported_says_why(tmp_path, text, message):
    (tmp_path / "faulty.py").write_text(text)
    with (
        importable_from(tmp_path),
        pytest.raises(StrategyError, match=f"^module 'faulty' cannot be imported: {message}$"),
    ):
        find("faulty:Any")


def test_the_path_is_left_as_it_was(tmp_path):
    before = list(sys.path)
    with importable_from(tmp_path):
        assert sys.path[0] == str(tmp_path.resolve())
    assert sys.path == before
