"""The shipped definitions of published systems from end to end: real Ray and MLflow, a few trials, one epoch."""

import csv
import json
import os
import re
import subprocess
import sys

import av
import numpy as np
import pytest

from study import cli

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

TINY = ["--corpus", "synthetic", "--set", "seeds=1", "--set", "training.epochs=1", "--quiet"]
CORPUS = "corpus.options={{num_speakers: {}, utterances_per_speaker: 8}}"


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("systems")


@pytest.fixture(scope="module")
def run(home, tmp_path_factory):
    """Run a definition in a process of its own; return the folder of the study and what was printed."""
    cache = str(tmp_path_factory.getbasetemp() / "cache")
    environment = {**os.environ, "STUDY_HOME": str(home), "STUDY_CACHE": cache, "OMP_NUM_THREADS": "1"}

    def run_study(name, *overrides):
        sets = [word for override in overrides for word in ("--set", override)]
        command = [sys.executable, "-m", "study.cli", "run", name, *TINY, *sets]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=220, check=False)
        assert done.returncode == 0, done.stderr
        (study,) = home.glob(f"{name}-*")
        return study, done.stdout

    return run_study


@pytest.fixture(scope="module")
def mesm(run):
    """A study of mesm2021: two arms with networks of their own, several emotions at once and gender."""
    arms = "arms=[{name: fe2e, strategy: equal, network: {name: fe2e}}, {name: mesm, strategy: equal}]"
    return run("mesm2021", CORPUS.format(6), arms)


@pytest.fixture
def call(home, capsys, monkeypatch):
    """Run a command in this process; return exit code, standard output, standard error."""
    monkeypatch.setenv("STUDY_HOME", str(home))

    def call_here(*arguments):
        with pytest.raises(SystemExit) as ended:
            cli.main_with([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return ended.value.code, captured.out, captured.err

    return call_here


@pytest.fixture
def film(tmp_path):
    """A film of two seconds with a voice."""
    pitch = 2 * np.pi * 150 * np.arange(32_000) / 16_000
    return write_film(tmp_path / "clip.avi", 3_000 * sum(np.cos(k * pitch) / k for k in range(1, 20)))


def write_film(path, samples):
    draws = np.random.default_rng(0)
    with av.open(str(path), "w") as container:
        seen = container.add_stream("mpeg4", rate=25)
        seen.width, seen.height, seen.pix_fmt = 64, 48, "yuv420p"
        heard = container.add_stream("pcm_s16le", rate=16_000, layout="mono")
        for _ in range(50):
            pixels = draws.integers(0, 255, (48, 64, 3), dtype=np.uint8)
            container.mux(seen.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        sound = av.AudioFrame.from_ndarray(samples.astype(np.int16)[None], "s16", "mono")
        sound.sample_rate, sound.pts = 16_000, 0
        for packets in (heard.encode(sound), heard.encode(None), seen.encode(None)):
            container.mux(packets)
    return path


def test_the_sparse_and_the_dense_network_are_compared(mesm):
    study, out = mesm
    assert re.search(r"(?m)^ *fe2e +1 ", out)
    assert re.search(r"(?m)^ *mesm +1 ", out)
    report = (study / "report" / "report.md").read_text()
    assert "accuracy of always no" in report


@pytest.mark.filterwarnings("ignore:.*Any type hint is inferred")  # what MLflow says of itself when it is imported
def test_a_model_is_kept_in_mlflow_once_and_says_of_a_film_what_its_checkpoint_says(
    call, home, mesm, film, monkeypatch
):
    study, _ = mesm
    code, address, err = call("export", "model", study.name, "--trial", "mesm-seed0")
    assert (code, err) == (0, "")
    assert re.fullmatch(r"models:/m-\w+\n", address)
    assert call("export", "model", study.name, "--trial", "mesm-seed0")[:2] == (0, address)
    told = {
        model: call("predict", model, film, "--text", "I am so glad", "--json")
        for model in (address.strip(), f"{study.name}/mesm-seed0", study / "checkpoints" / "mesm-seed0" / "best.pt")
    }
    assert [answer[0] for answer in told.values()] == [0, 0, 0], told
    assert len({out for _, out, _ in told.values()}) == 1
    (entry,) = json.loads(next(iter(told.values()))[1])
    assert set(entry["tasks"]) == {"emotions", "gender"}
    assert sum(entry["tasks"]["gender"]["probabilities"].values()) == pytest.approx(1)

    import mlflow
    import torch

    mlflow.set_tracking_uri(f"sqlite:///{home / 'mlflow.db'}")
    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "true")
    served = mlflow.pytorch.load_model(address.strip())
    signature = mlflow.models.get_model_info(address.strip()).signature
    assert signature.inputs.input_names() == ["num_frames", "text", "audio", "video"]
    assert signature.outputs.input_names() == ["emotions", "gender"]
    video = torch.zeros(1, 25, 3, 48, 48, dtype=torch.uint8)
    with torch.inference_mode():
        found = served(torch.tensor([25]), torch.zeros(1, 16_000), video, ["hello"])
    assert found["gender"].shape == (1, 2)


def test_clips_that_are_no_use_are_told_and_the_others_still_predicted(call, mesm, film, tmp_path):
    study, _ = mesm
    (tmp_path / "note.wav").write_text("no sound")
    with (tmp_path / "said.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["clip", "text"], ["clip.avi", "I am, so glad"], ["note.wav", "hello"]])
    clips = [film, tmp_path / "note.wav"]
    code, out, err = call("predict", f"{study.name}/fe2e-seed0", *clips, "--transcripts", tmp_path / "said.csv")
    assert code == 2
    assert re.fullmatch(r"study: \S+note\.wav cannot be read as sound.*\n", err)
    assert re.search(r"clip\.avi +gender +(female|male) +0\.\d{3} +(female|male) 0\.\d{3}, ", out)
    code, out, err = call("predict", f"{study.name}/fe2e-seed0", film)
    assert (code, out) == (2, "")
    assert err.endswith("clip.avi: the network reads what is said, and no transcript was given\n")


def test_a_clip_without_a_voice_is_predicted_and_told(call, mesm, tmp_path):
    study, _ = mesm
    clip = write_film(tmp_path / "noise.avi", np.random.default_rng(0).normal(0, 2_000, 32_000))
    code, out, err = call("predict", f"{study.name}/fe2e-seed0", clip, "--text", "hello")
    assert code == 2
    assert err == f"study: {clip} has no voice in it: what is said of it means little, unless somebody whispers\n"
    assert re.search(r"noise\.avi +gender +(female|male) ", out)
    (entry,) = json.loads(call("predict", f"{study.name}/fe2e-seed0", clip, "--text", "hello", "--json")[1])
    assert set(entry) == {"clip", "tasks", "problem"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["nothing.pt", "a.wav"],
            "there is no file nothing.pt; a model is a best.pt, STUDY/TRIAL, or an MLflow address",
        ),
        (["mesm2021/mesn-seed0", "a.wav"], r"study mesm2021-\w+: unknown trial 'mesn-seed0'.*'mesm-seed0'"),
        (["models:/m-0", "a.wav"], r"models:/m-0 is no model of a study in sqlite:///\S+mlflow\.db: .*"),
        (["mesm2021/mesm-seed0", "a.wav", "b.wav", "--text", "a"], r"--text is given 1 times for 2 clips: .*"),
    ],
)
def test_a_model_that_is_not_there_is_told_in_one_line(call, mesm, arguments, message):
    code, out, err = call("predict", *arguments)
    assert (code, out) == (2, "")
    assert re.match(f"study: {message}", err), err
    assert err.count("\n") == 1


def test_the_bridge_network_is_trained_over_folds(run):
    arms = "arms=[{strategy: static, options: {weights: [0.34, 0.33, 0.33]}, name: published}]"
    study, out = run("ispas2023", CORPUS.format(4), "split.folds=[0, 1]", arms)
    assert "published" in out
    trials = {path.stem for path in (study / "predictions").iterdir()}
    assert trials == {"published-seed0-fold0", "published-seed0-fold1"}
