import json
import math
import shutil

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from trainables import corpora, networks, session
from trainables.batch import Batch
from trainables.corpora.synthetic import Synthetic
from trainables.errors import NetworkError
from trainables.inputs import SAMPLES_PER_FRAME, InputSettings
from trainables.networks import bridge
from trainables.networks.bridge import Bridge, masking_probability
from trainables.session import Session
from trainables.specification import TrialSpecification
from trainables.tasks import Task, concordance, task_loss

DIMENSIONS = ("valence", "arousal", "dominance")
EMOTION = Task("emotion", ("neutral", "anger", "happiness", "sadness"))
GENDER = Task("gender", ("female", "male"))
TASKS = [EMOTION, *(Task(name, kind="regression") for name in DIMENSIONS), GENDER]
WORDS = ["", "no", "Enough, the train leaves at nine.", "I cannot wait", "oh wow", "the keys", "and then what"]


def create(preset="small", tasks=TASKS, **options):
    return networks.create("bridge", preset=preset, modalities=["text", "audio"], tasks=tasks, options=options)


def utterances(*lengths):
    """As many utterances, of so many frames, with all five labels."""
    generator = torch.Generator().manual_seed(0)
    count, longest = len(lengths), max(lengths)
    audio = torch.zeros(count, longest * SAMPLES_PER_FRAME)
    for row, length in zip(audio, lengths, strict=True):
        row[: length * SAMPLES_PER_FRAME] = 0.1 * torch.randn(length * SAMPLES_PER_FRAME, generator=generator)
    numbers = torch.randn(3, count, generator=generator)
    labels = {"emotion": torch.arange(count) % 4, "gender": torch.arange(count) // 4 % 2}
    labels |= dict(zip(DIMENSIONS, numbers, strict=True))
    text = tuple(f"{WORDS[index % len(WORDS)]} {index // len(WORDS) or ''}".strip() for index in range(count))
    return Batch(torch.tensor(lengths), labels, audio=audio, text=text)


def alone(batch, index):
    length = int(batch.num_frames[index])
    audio = batch.audio[index : index + 1, : length * SAMPLES_PER_FRAME]
    return Batch(batch.num_frames[index : index + 1], {}, audio=audio, text=batch.text[index : index + 1])


def joint_loss(network, batch):
    outputs = network(batch)
    return sum(task_loss(task, outputs[task.name], batch.labels[task.name]) for task in TASKS)


def num_parameters(module):
    return sum(parameter.numel() for parameter in module.parameters())


def test_refinement_and_bridges_of_the_published_size_have_the_parameters_of_the_reproduction():
    with torch.device("meta"):
        network = create("paper", tasks=[EMOTION, *TASKS[1:3]])
    layer = 4 * (1024**2 + 1024) + (1024 * 4096 + 4096) + (4096 * 1024 + 1024) + 4 * 1024
    crossed = 4 * (1024**2 + 1024) + 30 * 1024
    assert num_parameters(network.fusion) == 2 * layer + 2 * crossed == 33_650_688
    assert num_parameters(network.heads) == 6 * 1025
    assert network.fusion.audio_bridge.tokens.shape == (30, 1024)


def test_with_frozen_features_of_the_published_width_nothing_else_is_trained(monkeypatch):
    class Frozen(nn.Module):
        num_features = 1024

    monkeypatch.setattr(bridge, "PretrainedSpeech", lambda *given, **options: Frozen())
    monkeypatch.setattr(bridge, "PretrainedText", lambda *given, **options: Frozen())
    with torch.device("meta"):
        network = create("paper", tasks=[EMOTION, *TASKS[1:3]], speech_weights="a.pth", text_weights="b")
    assert num_parameters(network) == 33_650_688 + 6_150


def test_a_bridge_weighs_the_values_of_one_modality_by_the_keys_of_the_other():
    torch.manual_seed(0)
    crossing = Bridge(8, 1).double()
    asked, answering = torch.randn(2, 1, 5, 8, dtype=torch.float64)
    query, key, value = crossing.attention.in_proj_weight.chunk(3)
    nn.init.normal_(crossing.tokens)
    scores = (crossing.tokens @ query.T) @ (asked[0, :3] @ key.T).T / math.sqrt(8)
    expected = (scores.softmax(dim=1) @ (answering[0, :3] @ value.T)) @ crossing.attention.out_proj.weight.T
    found = crossing(asked, answering, torch.tensor([[True, True, True, False, False]]))
    torch.testing.assert_close(found[0], expected.mean(dim=0))


def test_sound_is_asked_for_text_and_text_for_sound():
    torch.manual_seed(0)
    fusion = create(dropout=0.0).fusion
    seen = {}
    for name in ("audio_bridge", "text_bridge"):
        getattr(fusion, name).register_forward_hook(lambda module, given, output, name=name: seen.update({name: given}))
    audio, text = torch.randn(2, 6, 64), torch.randn(2, 3, 64)
    heard, said = torch.arange(6) < torch.tensor([[6], [4]]), torch.arange(3) < torch.tensor([[2], [3]])
    fused = fusion(audio, heard, text, said)
    (keys, values, valid), (other_keys, other_values, other_valid) = seen["audio_bridge"], seen["text_bridge"]
    assert keys is other_values
    assert values is other_keys
    assert keys.shape == values.shape == (2, 6, 64)
    assert valid.sum(dim=1).tolist() == [6, 4]
    assert other_valid.sum(dim=1).tolist() == [2, 3]
    assert not values[0, 2:].any()
    expected = (fusion.audio_bridge(*seen["audio_bridge"]) + fusion.text_bridge(*seen["text_bridge"])) / 2
    torch.testing.assert_close(fused, expected)


def test_where_either_has_something_the_end_of_the_sound_is_heard_and_else_it_is_not():
    torch.manual_seed(0)
    fusion = create(dropout=0.0).fusion.eval()
    fusion.refine_audio.forward = lambda values, **masks: values  # else every step knows of the end
    audio, text = torch.randn(1, 6, 64), torch.randn(1, 2, 64)
    given = [torch.ones(1, 6, dtype=torch.bool), text, torch.ones(1, 2, dtype=torch.bool)]
    fusion.audio_bridge.forward = lambda *given: torch.zeros(1, 64)
    changed = audio.clone()
    changed[:, 2:] += 1
    assert torch.equal(fusion(audio, *given), fusion(changed, *given))
    fusion.padding = "either"
    assert not torch.allclose(fusion(audio, *given), fusion(changed, *given))


@pytest.mark.parametrize("padding", bridge.PADDINGS)
def test_an_utterance_gives_the_same_alone_and_padded_in_a_batch(padding):
    torch.manual_seed(0)
    network = create(padding=padding).eval()
    batch = utterances(1, 30, 12, 25, 3)
    together = network.features(batch)
    assert together.shape == (5, 64)
    for index in range(5):
        torch.testing.assert_close(together[index], network.features(alone(batch, index))[0], rtol=0, atol=1e-5)


def test_gradients_flow_to_every_parameter():
    torch.manual_seed(0)
    network = create(masking=0.0)
    joint_loss(network, utterances(6, 9, 4, 8)).backward()
    assert [name for name, parameter in network.named_parameters() if not parameter.grad.abs().sum() > 0] == []


def test_it_learns_five_labels_of_sixteen_utterances_by_heart():
    torch.manual_seed(0)
    network = create(masking=0.0, dropout=0.0)
    batch = utterances(*[4 + index % 3 for index in range(16)])
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    for _ in range(80):
        optimizer.zero_grad()
        loss = joint_loss(network, batch)
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.1


def test_both_modalities_are_read():
    torch.manual_seed(0)
    network = create().eval()
    batch = utterances(6, 9)
    before = network.features(batch)
    other_words = Batch(batch.num_frames, {}, audio=batch.audio, text=("yes", "no"))
    other_sound = Batch(batch.num_frames, {}, audio=-0.5 * batch.audio, text=batch.text)
    for other in (other_words, other_sound):
        assert (network.features(other) - before).abs().max() > 1e-3


def test_a_batch_without_text_is_refused():
    with pytest.raises(NetworkError, match=r"^the network reads text, but the batch has no text$"):
        create()(Batch(torch.tensor([2]), {}, audio=torch.zeros(1, 1280)))


def test_the_last_shared_layer_is_that_of_both_bridges():
    network = create()
    features = network.features(utterances(6, 9))
    network.predict(features)["emotion"].sum().backward()
    layer = network.last_shared_layer()
    assert [tuple(parameter.shape) for parameter in layer] == [(64, 64), (64,), (64, 64), (64,)]
    assert all(parameter.grad.abs().sum() > 0 for parameter in layer)


# masking -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("epoch", "expected"), [(0, 0.8), (5, 0.8 * (2 + math.sqrt(2)) / 4), (10, 0.4), (20, 0.0)])
def test_the_probability_of_masking_falls_on_a_cosine(epoch, expected):
    assert masking_probability(0.8, epoch, 20) == pytest.approx(expected)


def test_below_a_tenth_nothing_is_masked():
    angle = math.acos(2 * 0.1 / 0.8 - 1) / math.pi  # where it is 0.1
    assert masking_probability(0.8, math.floor(1000 * angle), 1000) >= 0.1
    assert masking_probability(0.8, math.ceil(1000 * angle), 1000) == 0.0
    assert masking_probability(0.09, 0, 20) == 0.0


def shown_of(network, batch):
    """Which of sound and text the fusion gets to see, ``(2, N)``, in one pass."""
    seen = []
    handle = network.fusion.register_forward_pre_hook(
        lambda module, given: seen.append(torch.stack([given[0].flatten(1).any(1), given[2].flatten(1).any(1)]))
    )
    with torch.no_grad():
        network(batch)
    handle.remove()
    return seen[0]


def test_text_is_masked_more_often_than_sound_and_never_both():
    torch.manual_seed(0)
    network = create(masking=0.8)
    network.begin_epoch(0, 10)
    shown = network._drawn(20_000, torch.device("cpu"))
    assert not (~shown).all(dim=0).any()
    assert (~shown).float().mean(dim=1).tolist() == pytest.approx([0.8 * 0.4, 0.8 * 0.6], abs=0.015)


def test_masking_hides_one_modality_of_some_utterances_in_training_and_none_in_evaluation():
    torch.manual_seed(0)
    network = create(masking=0.8)
    batch = utterances(*[4] * 16)
    network.begin_epoch(0, 10)
    assert 3 < (~shown_of(network, batch)).sum() <= 16
    assert shown_of(network.eval(), batch).all()
    network.train().begin_epoch(9, 10)
    assert shown_of(network, batch).all()  # 0.02 is below a tenth


def test_masking_can_be_drawn_once_an_epoch():
    network = create(masking=0.99, masking_unit="epoch")
    batch = utterances(4, 5, 6)
    seen = set()
    for seed in range(8):
        torch.manual_seed(seed)
        network.begin_epoch(0, 10)
        first, second = shown_of(network, batch), shown_of(network, batch)
        assert torch.equal(first, second)
        assert torch.equal(first, first[:, :1].expand(-1, 3))
        seen.add(tuple(first[:, 0].tolist()))
    assert {(True, False), (False, True)} <= seen


def test_what_is_masked_is_as_if_its_features_were_zero():
    torch.manual_seed(0)
    network = create(masking=0.8, dropout=0.0)
    batch = utterances(6, 6)
    words = Batch(batch.num_frames, {}, audio=batch.audio, text=("no", "on"))
    network._shown = torch.tensor([[True], [False]])
    other = Batch(batch.num_frames, {}, audio=batch.audio, text=("XX", "YY"))
    torch.testing.assert_close(network.features(words), network.features(other), rtol=0, atol=0)
    longer = Batch(batch.num_frames, {}, audio=batch.audio, text=("X" * 9, "YY"))
    assert not torch.equal(network.features(words), network.features(longer))  # where a text ends is still known


# in a trial ----------------------------------------------------------------------------------------------------------


class Gappy(Synthetic):
    """Every fourth utterance has no valence, every fifth no emotion, every sixth no transcript."""

    def read(self, root=None):
        table = super().read(root)
        table.loc[table.index % 4 == 0, "valence"] = np.nan
        table.loc[table.index % 5 == 0, "emotion"] = None
        table.loc[table.index % 6 == 0, "text"] = None
        return table


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    corpus = Gappy(num_speakers=6, utterances_per_speaker=8)
    return corpora.prepare(corpus, None, InputSettings(0.4, 16), tmp_path_factory.mktemp("cache"), workers=1)


@pytest.fixture
def make(store):
    def specification(folder=None, **options):
        return TrialSpecification(
            trial="softmax-seed0",
            arm="softmax",
            seed=0,
            store=str(store.path),
            split={"protocol": "speaker_disjoint", "options": {"ratios": [2, 2, 2], "seed": 0}},
            network={"name": "bridge", "preset": "small", "modalities": ["audio", "text"], "options": options},
            strategy={"name": "softmax", "options": {}},
            tasks=[{"name": task.name, "classes": list(task.classes), "kind": task.kind} for task in TASKS],
            training={"epochs": 3, "batch_size": 8, "learning_rate": 1e-3},
            reference_weights={task.name: 0.2 for task in TASKS},
            folder=None if folder is None else str(folder),
        )

    return specification


def numbers(rows):
    return [{name: value for name, value in row.items() if not name.startswith(("time/", "memory/"))} for row in rows]


def test_five_tasks_with_gaps_are_trained_and_scored_together(make):
    *epochs, final = Session(make()).run()
    assert len(epochs) == 3
    for task in TASKS:
        metric = "uar" if task.kind == "classification" else "ccc"
        assert math.isfinite(final[f"test/{metric}/{task.name}"])
        assert all(row[f"gradient/norm/{task.name}"] > 0 for row in epochs)
    assert sum(final[f"weight/{task.name}"] for task in TASKS) == pytest.approx(1)


@pytest.mark.parametrize("unit", bridge.MASKING_UNITS)
def test_resumed_equals_uninterrupted_bit_for_bit_with_masking(make, tmp_path, monkeypatch, unit):
    monkeypatch.setattr(session, "CHECKPOINT_SECONDS", 0.0)
    running = Session(make(tmp_path / "whole", masking=0.8, masking_unit=unit)).run()
    whole = [next(running)]
    shutil.copytree(tmp_path / "whole", tmp_path / "stopped")
    whole += list(running)
    resumed = Session(make(tmp_path / "stopped", masking=0.8, masking_unit=unit))
    assert resumed.epoch == 1
    assert numbers(resumed.run()) == numbers(whole)


def test_masking_changes_what_is_learned(make):
    plain, masked = (numbers(Session(make(masking=masking)).run())[0] for masking in (0.0, 0.8))
    assert plain["train/joint_nll"] != masked["train/joint_nll"]


def test_a_missing_label_trains_no_task():
    torch.manual_seed(0)
    network = create(masking=0.0, dropout=0.0)
    batch = utterances(4, 5, 6)
    batch.labels["valence"][:] = math.nan
    losses = {task.name: task_loss(task, network(batch)[task.name], batch.labels[task.name]) for task in TASKS}
    assert losses["valence"].item() == 0.0
    losses["valence"].backward()
    assert not any(parameter.grad is not None and parameter.grad.any() for parameter in network.parameters())


def test_a_perfect_prediction_of_four_numbers_has_concordance_one():
    numbers = torch.tensor([0.3, -1.2, 2.0, 0.7], dtype=torch.float64)
    assert concordance(numbers, numbers).item() == 1.0
    assert functional.mse_loss(numbers, numbers) == 0
    assert task_loss(TASKS[1], numbers.unsqueeze(1), numbers).item() == 0.0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"preset": "papper"}, r"^unknown preset of network 'bridge' 'papper' .* did you mean 'paper'\?$"),
        ({"maskin": 0.5}, r"^unknown option of network 'bridge' 'maskin' .* did you mean 'masking'\?$"),
        ({"masking": 1.0}, r"^network 'bridge': masking is 1.0, but it must be a number in \[0, 1\)$"),
        ({"masking_unit": "step"}, r"masking_unit is 'step', but it must be one of utterance, epoch"),
        ({"padding": "key"}, r"padding is 'key', but it must be one of keys, either; did you mean 'keys'\?$"),
        ({"dropout": 2}, r"dropout is 2, but it must be a number in \[0, 1\)$"),
        ({"speech_model": "hubert"}, r"speech_model is 'hubert', but it must be one of hubert_base"),
        ({"speech_weights": "no.pth"}, r"^network 'bridge': there is no file no\.pth with the weights"),
        ({"max_seconds": 0}, r"max_seconds is 0, but it must be a number of at least 0\.04"),
    ],
)
def test_a_mistake_is_told_in_one_line(changes, message):
    with pytest.raises(NetworkError, match=message) as caught:
        create(**changes)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("modality", ["audio", "text"])
def test_one_modality_is_not_enough(modality):
    lacking = {"audio": "text", "text": "audio"}[modality]
    with pytest.raises(NetworkError, match=f"^network 'bridge' needs audio and text, but is given no {lacking}$"):
        networks.create("bridge", preset="small", modalities=[modality], tasks=TASKS)


def test_it_reads_what_its_preset_is_prepared_for():
    assert networks.input_settings("bridge", "small") == networks.input_settings("chae", "small")  # one store for both
    assert networks.input_settings("bridge", "paper").max_seconds == 8.0
    assert json.dumps(networks.presets("bridge")) == '["small", "paper"]'
