"""A trained network asked of files: the same answers as the trial's own, and a line for each file that is no use."""

import sys

import av
import numpy as np
import pandas as pd
import pytest
import soundfile
import torch

from trainables import checkpoint, corpora, networks
from trainables.corpora.base import COLUMNS
from trainables.errors import MediaError, NetworkError, TrainingError
from trainables.prediction import ServedNetwork, batch_of, load_model, trained_network
from trainables.session import Session, build_network
from trainables.specification import TrialSpecification
from trainables.tasks import Task

SPEAKERS, EACH = 6, 4
CORPUS = """
from pathlib import Path
import pandas as pd
from trainables.corpora import Corpus

class Films(Corpus):
    name = "films"
    classes = {"emotion": ("calm", "loud"), "gender": ("female", "male")}
    values = ("valence",)
    modalities = ("audio", "video", "text")

    def __init__(self, *, crop="fixed"):
        self.crop = crop

    def read(self, root):
        return pd.read_json(root / "table.json", dtype={"session": object, "domain": object, "votes": object})
"""


def write_film(path, number, seconds=0.8, *, sound=True):
    """Write a film of noise whose loudness and brightness tell its number."""
    draws = np.random.default_rng(number)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = 64, 48, "yuv420p", 1_000_000
        if sound:
            heard = container.add_stream("pcm_s16le", rate=16_000, layout="mono")
        for _ in range(round(seconds * 25)):
            pixels = draws.integers(0, 100 + 6 * number, (48, 64, 3), dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        if sound:
            samples = draws.normal(0, 400 + 200 * number, round(seconds * 16_000)).astype(np.int16)
            frame = av.AudioFrame.from_ndarray(samples[None], format="s16", layout="mono")
            frame.sample_rate, frame.pts = 16_000, 0
            container.mux(heard.encode(frame))
            container.mux(heard.encode(None))
        container.mux(stream.encode(None))


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    """A folder of films and the name of the corpus that reads it, installed as a plug-in."""
    root, packages = tmp_path_factory.mktemp("films"), tmp_path_factory.mktemp("packages")
    rows = []
    for number in range(SPEAKERS * EACH):
        speaker, turn = divmod(number, EACH)
        name = f"clip{number:02d}"
        write_film(root / f"{name}.avi", number, 0.6 + 0.04 * turn)
        row = {"utterance": name, "speaker": f"s{speaker}", "gender": ("female", "male")[speaker % 2]}
        row |= {"audio": f"{name}.avi", "video": f"{name}.avi", "text": f"utterance {number}"}
        rows.append(row | {"emotion": ("calm", "loud")[turn % 2], "valence": 1.0 + turn + speaker / 10})
    table = pd.DataFrame(rows)
    table[[name for name in COLUMNS if name not in table]] = None
    table.to_json(root / "table.json", orient="records")
    (packages / "films_corpus.py").write_text(CORPUS)
    info = packages / "films-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: films\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[study.corpora]\nfilms = films_corpus:Films\n")
    sys.path.insert(0, str(packages))
    yield root
    sys.path.remove(str(packages))


def train(folder, root, corpus, network, tasks, **options):
    """Train for an epoch; return the trial's checkpoint and its own predictions."""
    name, modalities = network
    chosen = corpora.create(corpus, **options)
    settings = networks.input_settings(name, "small")
    store = corpora.prepare(chosen, root, settings, folder / "cache", workers=1)
    specification = TrialSpecification(
        trial="equal-seed0",
        arm="equal",
        seed=0,
        store=str(store.path),
        split={"protocol": "speaker_disjoint", "options": {"ratios": [2, 1, 1], "seed": 0}},
        network={"name": name, "preset": "small", "modalities": list(modalities), "options": {}},
        strategy={"name": "equal", "options": {}},
        tasks=tasks,
        training={"epochs": 1, "batch_size": 4, "learning_rate": 1e-3},
        reference_weights={task["name"]: 1 / len(tasks) for task in tasks},
        folder=str(folder / "trial"),
    )
    session = Session(specification, torch.device("cpu"))
    for _ in session.run():
        pass
    return folder / "trial" / checkpoint.BEST, session.predictions


TASKS = [
    {"name": "emotion", "classes": ["calm", "loud"], "kind": "classification"},
    {"name": "gender", "classes": ["female", "male"], "kind": "classification"},
    {"name": "valence", "classes": [], "kind": "regression"},
    {
        "name": "emotions",
        "classes": ["calm", "loud"],
        "kind": "multilabel",
        "marks": [["emotion", "calm"], ["emotion", "loud"]],
    },
]


@pytest.fixture(scope="module")
def trained(films, tmp_path_factory):
    """An epoch of FE2E on films with text, in four tasks of all kinds."""
    return train(tmp_path_factory.mktemp("fe2e"), films, "films", ("fe2e", ("text", "audio", "video")), TASKS)


def test_a_file_is_told_what_the_trial_told_of_its_utterance(trained, films):
    path, own = trained
    model = load_model(path, torch.device("cpu"))
    assert len(own) >= 4
    for row, name in enumerate(own.utterances):
        said = {a.task: a for a in model.predict(films / f"{name}.avi", f"utterance {int(name.removeprefix('clip'))}")}
        for task in ("emotion", "gender"):
            expected = np.exp(own.log_probabilities[task][row])
            assert list(said[task].probabilities.values()) == pytest.approx(expected, abs=1e-5)
            assert said[task].said == model.tasks[[t.name for t in model.tasks].index(task)].classes[expected.argmax()]
        assert said["valence"].said == pytest.approx(own.values["valence"][row], abs=1e-4)
        chances = 1 / (1 + np.exp(-own.logits["emotions"][row]))
        assert list(said["emotions"].probabilities.values()) == pytest.approx(chances, abs=1e-5)


def test_sound_is_trimmed_as_the_corpus_was(tmp_path):
    for actor in range(1, 9):
        for emotion in (1, 5):
            path = tmp_path / "ravdess" / f"Actor_{actor:02d}" / f"03-01-{emotion:02d}-01-01-01-{actor:02d}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            voiced = np.random.default_rng(actor).normal(0, 0.02 * emotion, 9_600)
            soundfile.write(path, np.concatenate([np.zeros(4_000), voiced, np.zeros(8_000)]), 16_000)
    tasks = [
        {"name": "emotion", "classes": list(corpora.create("ravdess").classes["emotion"]), "kind": "classification"}
    ]
    path, own = train(tmp_path, tmp_path / "ravdess", "ravdess", ("chae", ("audio",)), tasks)
    model = load_model(path, torch.device("cpu"))
    clips = {clip.stem: clip for clip in tmp_path.glob("ravdess/*/*.wav")}
    for row, name in enumerate(own.utterances):
        (answer,) = model.predict(clips[name])
        expected = np.exp(own.log_probabilities["emotion"][row])
        assert list(answer.probabilities.values()) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("missing", r"clip\.avi is not there"),
        ("folder", r"clip\.avi is a folder, not a file"),
        ("text", r"clip\.avi cannot be read as sound or film: .*"),
        ("empty", r"clip\.avi is empty: it has no bytes"),
        ("silent film", r"clip\.avi has no sound"),
        ("silence", r"clip\.wav is silent: no sample is louder than 4 of 32768"),
        ("sound alone", r"clip\.wav has no picture"),
        ("nothing said", r"clip\.avi: the network reads what is said, and no transcript was given"),
    ],
)
def test_a_file_that_is_no_use_is_told_in_one_line(trained, tmp_path, kind, message):
    path = tmp_path / ("clip.wav" if kind in ("silence", "sound alone") else "clip.avi")
    if kind == "folder":
        path.mkdir()
    elif kind == "text":
        path.write_text("no film at all")
    elif kind == "empty":
        path.touch()
    elif kind in ("silent film", "nothing said"):
        write_film(path, 1, sound=kind == "nothing said")
    elif kind != "missing":
        soundfile.write(path, np.full(8_000, 0.1 * (kind == "sound alone")), 16_000)
    with pytest.raises(MediaError, match=rf"^\S*{message}$"):
        load_model(trained[0]).predict(path, None if kind == "nothing said" else "hello")


def test_a_film_without_a_face_is_no_use_where_faces_were_looked_for(trained, tmp_path, films):
    pytest.importorskip("cv2")
    state = checkpoint.load(trained[0], torch.device("cpu"))
    checkpoint.save(tmp_path / "best.pt", state | {"corpus": {"name": "films", "options": {"crop": "detected"}}})
    with pytest.raises(MediaError, match=r"clip00\.avi shows no face: none was found, as the network's training"):
        load_model(tmp_path / "best.pt").predict(films / "clip00.avi", "hello")


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda state: state["network"].pop("heads.gender.bias"), NetworkError, "missing: heads.gender.bias$"),
        (
            lambda state: state["network"].update({"heads.age.bias": torch.zeros(1)}),
            NetworkError,
            r"the weights in \S*best.pt do not fit: unexpected: heads.age.bias$",
        ),
        (lambda state: state.pop("units"), TrainingError, r"does not tell its units: it is no best.pt, or of an older"),
        (lambda state: state.update(specification="{}"), TrainingError, "describes no network: KeyError: 'network'"),
        (lambda state: state.update(network=7), TrainingError, "describes no network: TypeError"),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_told_with_what_is_missing_and_left_over(
    trained, tmp_path, change, error, message
):
    state = checkpoint.load(trained[0], torch.device("cpu"))
    change(state)
    checkpoint.save(tmp_path / "best.pt", state)
    with pytest.raises(error, match=message):
        load_model(tmp_path / "best.pt")


def test_a_file_of_weights_that_is_no_checkpoint_is_refused(tmp_path):
    torch.save({"heads.emotion.bias": torch.zeros(2)}, tmp_path / "weights.pt")
    with pytest.raises(TrainingError, match=r"weights.pt is damaged, or older than this version"):
        load_model(tmp_path / "weights.pt")


def test_the_weights_that_training_began_from_are_not_needed_to_predict():
    settings = {"name": "chae", "preset": "paper", "modalities": ["video"], "options": {"pretrained": "gone.pth"}}
    with torch.device("meta"):
        with pytest.raises(NetworkError, match=r"there is no file gone\.pth"):
            build_network(settings, [Task.from_dict(TASKS[0])])
        assert trained_network(settings, [Task.from_dict(TASKS[0])]).video is not None


def test_a_served_network_gives_the_same_probabilities_from_tensors(trained, films):
    model = load_model(trained[0], torch.device("cpu"))
    batch = batch_of(model.clips.read(films / "clip03.avi", "utterance 3"), model.modalities, "utterance 3", ())
    with torch.inference_mode():
        given = ServedNetwork(model).eval()(batch.num_frames, batch.audio, batch.video, batch.text)
    for answer in model.predict(films / "clip03.avi", "utterance 3"):
        expected = list(answer.probabilities.values()) or [answer.said]
        assert given[answer.task].flatten().tolist() == pytest.approx(expected, abs=1e-5)
