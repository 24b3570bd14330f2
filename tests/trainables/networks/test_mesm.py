"""FE2E and MESM: shapes and counts as published, what they look at, and that all of them learns."""

import warnings
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch import nn
from torch.nn import functional

from trainables import networks
from trainables.batch import Batch
from trainables.errors import NetworkError
from trainables.networks.mesm import PRESETS, Column, DenseLevels, SparseLevels
from trainables.networks.mesm_inputs import MelChunks, chosen_faces
from trainables.networks.mesm_published import load_published, published_keys
from trainables.tasks import Task, task_loss

CLASSES = ("anger", "excitement", "frustration", "happiness", "neutral", "sadness")
TASKS = [
    Task("emotions", CLASSES, "multilabel", tuple(("emotion", name) for name in CLASSES)),
    Task("gender", ("female", "male")),
]
ALL = ("text", "audio", "video")


def create(name="mesm", modalities=ALL, preset="small", **options):
    torch.manual_seed(0)
    return networks.create(name, preset=preset, modalities=modalities, tasks=TASKS, options=options)


def batch_of(*frames):
    draws = torch.Generator().manual_seed(1)
    count, longest = len(frames), max(frames)
    audio = torch.randn(count, longest * 640, generator=draws) / 10
    video = torch.randint(256, (count, longest, 3, 48, 48), generator=draws, dtype=torch.uint8)
    for row, length in enumerate(frames):
        audio[row, length * 640 :] = 0
        video[row, length:] = 0
    labels = {"emotions": torch.eye(6)[torch.arange(count) % 6], "gender": torch.arange(count) % 2}
    texts = tuple(f"{'well ' * (row % 4)}{row}" for row in range(count))
    return Batch(torch.tensor(frames), labels, audio, video, text=texts)


def alone(batch, row):
    length = int(batch.num_frames[row])
    return Batch(
        batch.num_frames[[row]],
        {},
        batch.audio[[row], : length * 640],
        batch.video[[row], :length],
        text=(batch.text[row],),
    )


def vgg(before, after):
    return sum(9 * channels * after + after + 2 * after for channels in (before, after))


def column_parameters(channels_in, pixels):
    """Parameters of a published column without its text or attention, worked out by hand."""
    low = 25 * channels_in * 64 + 64 + 2 * 64 + 2 * vgg(64, 64)
    high = vgg(64, 128) + vgg(128, 256) + vgg(256, 512)
    flatten = (512 * pixels * 1024 + 1024) + (1024 * 64 + 64)
    layer = 4 * (64 * 64 + 64) + (64 * 2048 + 2048) + (2048 * 64 + 64) + 4 * 64
    return low + high + flatten + 4 * layer + 64


def test_the_columns_of_the_published_size_have_as_many_parameters_as_the_released_code():
    with torch.device("meta"):
        dense, sparse = (create(name, preset="paper") for name in ("fe2e", "mesm"))
    for name, channels, pixels in (("video", 3, 9), ("audio", 1, 16)):
        expected = column_parameters(channels, pixels)
        assert sum(parameter.numel() for parameter in dense.columns[name].parameters()) == expected
        biases = 2 * (128 + 256 + 512)  # of convolutions, which sparse ones have not
        attentions = sum(k * k + k + k + 256 * k for k in (64, 128, 256))
        found = sum(parameter.numel() for parameter in sparse.columns[name].parameters())
        assert found == expected - biases + attentions


@pytest.mark.parametrize(
    ("modality", "levels"),
    [("video", [(24, 24), (12, 12), (6, 6), (3, 3)]), ("audio", [(64, 16), (32, 8), (16, 4), (8, 2)])],
)
def test_levels_have_the_published_shapes(modality, levels):
    sizes = PRESETS["paper"]
    picture = torch.randn(1, *sizes.picture(modality))
    high = SparseLevels(sizes.channels, 8, 0.7, "soft", "auto").eval()
    column = Column(sizes, sizes.picture(modality), high).eval()
    with torch.no_grad():
        low = column.low(picture)
        seen = []
        for level in high.levels:
            level.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].mask.shape[1:]))
        found = high(low, torch.randn(1, 8), torch.zeros(1, dtype=torch.int64))
        dense = DenseLevels(sizes.channels).eval()(low, None, torch.zeros(1))
    assert low.shape == (1, 64, *levels[0])
    assert [tuple(shape) for shape in seen] == levels[:3]
    assert found.shape == dense.shape == (1, 512, *levels[3])


def test_a_dense_column_is_the_released_structure_written_plainly():
    """One flat sequence with a pooling after each upper block, in the order of the released code."""
    sizes = PRESETS["small"]
    torch.manual_seed(0)
    column = Column(sizes, sizes.picture("video"), DenseLevels(sizes.channels)).eval()
    plain = [nn.Conv2d(3, 8, 5, padding=2), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2)]
    for number, (before, after) in enumerate(pairwise((8, 8, 8, 16, 32, 64))):
        for channels in (before, after):
            plain += [nn.Conv2d(channels, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU()]
        plain += [nn.MaxPool2d(2)] if number >= 2 else []
    plain = nn.Sequential(*plain).eval()
    own = {**column.low.state_dict(prefix="0."), **column.high.state_dict(prefix="1.")}
    plain.load_state_dict(dict(zip(plain.state_dict(), own.values(), strict=True)))
    faces = torch.randn(2, 3, 48, 48)
    torch.testing.assert_close(column.high(column.low(faces), None, None), plain(faces))


def test_the_spectrogram_is_that_of_torchaudio_for_each_utterance_alone():
    from torchaudio.transforms import MelSpectrogram

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # 128 bands over 201 frequencies: the lowest are empty, as published
        reference = MelSpectrogram(16000, n_fft=400, n_mels=128)
    batch = batch_of(30, 9)
    pieces, counts = MelChunks(128)(batch.audio, batch.num_frames)
    assert counts.tolist() == [4, 1]  # 97 steps and 29
    assert pieces.shape == (5, 1, 128, 32)
    for row, first in ((0, 0), (1, 4)):
        expected = reference(batch.audio[row, : int(batch.num_frames[row]) * 640])
        found = torch.cat(list(pieces[first : first + int(counts[row]), 0]), dim=1)
        torch.testing.assert_close(found[:, : expected.shape[1]], expected, rtol=1e-3, atol=1e-5)
        assert not found[:, expected.shape[1] :].any()


def test_there_is_a_face_every_half_second():
    video = torch.arange(30, dtype=torch.uint8)[None, :, None, None, None].expand(3, 30, 3, 2, 2)
    faces, counts = chosen_faces(video, torch.tensor([30, 12, 13]))
    red = faces[:, 0, 0, 0] * 37 + 159
    assert counts.tolist() == [3, 1, 2]
    assert [round(value) for value in red.tolist()] == [0, 12, 25, 0, 0, 12]


@pytest.mark.parametrize("name", ["fe2e", "mesm"])
@pytest.mark.parametrize("modalities", [ALL, ("audio", "video"), ("text",)])
def test_a_clip_alone_gives_the_same_as_in_a_batch_and_every_parameter_learns(name, modalities):
    network, batch = create(name, modalities), batch_of(30, 12, 38)
    outputs = network(batch)
    sum(task_loss(task, outputs[task.name], batch.labels[task.name]) for task in TASKS).backward()
    gradients = {name: parameter.grad for name, parameter in network.named_parameters()}
    still = [name for name, gradient in gradients.items() if gradient is None or not gradient.any()]
    assert not still
    network.eval()
    with torch.no_grad():
        together = network(batch)
        for row in range(3):
            for task, logits in network(alone(batch, row)).items():
                torch.testing.assert_close(logits[0], together[task][row], rtol=1e-5, atol=1e-5)


def test_sparse_and_masked_dense_convolutions_are_one_network():
    batch = batch_of(26, 15)
    outputs = {}
    for way in ("sparse", "dense"):
        network = create(p=0.5, convolution=way)
        found = network(batch)["emotions"]
        found.sum().backward()
        weight = network.columns["video"].high.levels[0].convolutions[0].weight
        outputs[way] = (found.detach(), weight.grad)
    torch.testing.assert_close(outputs["sparse"], outputs["dense"], rtol=1e-4, atol=1e-5)


def test_a_hard_gate_leaves_the_attention_alone_and_the_others_do_not():
    for gate, learns in (("hard", False), ("soft", True), ("straight_through", True)):
        network = create(gate=gate, p=0.5)
        assert network.columns["audio"].high.levels[1].attention.y_affine.weight.requires_grad is learns


def test_published_heads_add_the_logits_of_modalities_and_are_linear_in_the_features():
    network = create("fe2e", head="published").eval()
    head, features = network.heads["emotions"], torch.randn(5, 48 + 32 + 32)
    weights = head.fusion.weight[0]
    pieces = zip(head.parts, features.split([48, 32, 32], dim=1), strict=True)
    expected = sum(weight * part(piece) for weight, (part, piece) in zip(weights, pieces, strict=True))
    torch.testing.assert_close(network.predict(features)["emotions"], expected)
    shared = {id(parameter) for parameter in network.shared_parameters()}
    assert not any(id(parameter) in shared for parameter in network.heads.parameters())
    single = create("fe2e", ("video",), head="published").heads["gender"]
    assert single.fusion is None
    assert single(torch.randn(2, 32)).shape == (2, 2)


def test_it_learns_sixteen_utterances_by_heart():
    colours = torch.rand(16, 3, 3, 3, generator=torch.Generator().manual_seed(3)) * 255
    faces = functional.interpolate(colours, size=48, mode="bilinear").to(torch.uint8)
    batch = replace(batch_of(*[9] * 16), video=faces.unsqueeze(1).repeat(1, 9, 1, 1, 1))
    network = create(modalities=("text", "video"))
    for module in network.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    for _ in range(300):  # now and then a step makes it worse: it is done once it knows them
        outputs = network(batch)
        losses = [task_loss(task, outputs[task.name], batch.labels[task.name]) for task in TASKS]
        if max(losses).item() < 0.05:
            break
        optimizer.zero_grad()
        sum(losses).backward()
        optimizer.step()
    assert max(losses).item() < 0.05
    assert torch.equal(outputs["emotions"] > 0, batch.labels["emotions"] > 0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"p": 0}, "network 'mesm': p is 0, but it must be a number from 0.001 to 1"),
        ({"p": 1.5}, "p is 1.5"),
        ({"gate": "sft"}, "gate is 'sft', but it must be one of straight_through, soft, hard; did you mean 'soft'"),
        ({"convolution": "fft"}, "convolution is 'fft', but it must be one of auto, sparse, dense"),
        ({"head": "fused"}, "head is 'fused', but it must be one of linear, published"),
    ],
)
def test_options_are_checked(options, message):
    with pytest.raises(NetworkError, match=message):
        create(**options)


def test_a_batch_without_text_is_refused():
    with pytest.raises(NetworkError, match="the network reads text, but the batch has no text"):
        create()(Batch(torch.tensor([9]), {}, torch.zeros(1, 5760), torch.zeros(1, 9, 3, 48, 48, dtype=torch.uint8)))


class ReleasedBlock(nn.Module):
    """Two convolutions under the names of the released code."""

    def __init__(self, before, after):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after)
        self.conv2, self.bn2 = nn.Conv2d(after, after, 3, padding=1), nn.BatchNorm2d(after)

    def forward(self, pictures):
        return self.bn2(self.conv2(self.bn1(self.conv1(pictures)).relu())).relu()


class ReleasedTransformer(nn.Module):
    """A Transformer over pictures under the names of the released code, for utterances of one picture."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(64, 4), 4, enable_nested_tensor=False)
        self.cls_emb = nn.Embedding(1, 64)

    def forward(self, found):
        first = self.cls_emb.weight.expand(len(found), 64)
        return self.encoder(torch.stack([first, found]))[0]


def released(sites):
    """The released FE2E without text as plain modules, under its names; ``sites`` of the last level by modality."""
    made = nn.ModuleDict()
    for letter, channels in (("V", 3), ("A", 1)):
        first = [nn.Conv2d(channels, 64, 5, padding=2), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(2)]
        upper = [m for n in (64, 128, 256) for m in (ReleasedBlock(n, 2 * n), nn.MaxPool2d(2))]
        made[letter] = nn.Sequential(*first, ReleasedBlock(64, 64), ReleasedBlock(64, 64), *upper)
        small = letter.lower()
        made[f"{small}_flatten"] = nn.Sequential(nn.Linear(512 * sites[letter], 1024), nn.ReLU(), nn.Linear(1024, 64))
        made[f"{small}_transformer"] = ReleasedTransformer()
        made[f"{small}_out"] = nn.Linear(64, 6)
    made["t_out"], made["weighted_fusion"] = nn.Linear(768, 6), nn.Linear(2, 1, bias=False)
    return made.eval()


def test_weights_of_the_released_dense_network_give_its_logits():
    torch.manual_seed(0)
    network = networks.create(
        "fe2e", preset="paper", modalities=["audio", "video"], tasks=[TASKS[0]], options={"head": "published"}
    ).eval()
    there, task = released({"V": 9, "A": 16}), TASKS[0].name
    load_published(network, there.state_dict(), task)
    faces, pieces = torch.randn(2, 3, 48, 48), torch.rand(2, 1, 128, 32)
    one = torch.ones(2, dtype=torch.int64)
    with torch.no_grad():
        ours = [network.columns["audio"](pieces, one, None), network.columns["video"](faces, one, None)]
        theirs = {
            letter: there[f"{letter}_out"](
                there[f"{letter}_transformer"](there[f"{letter}_flatten"](there[letter.upper()](pictures).flatten(1)))
            )
            for letter, pictures in (("v", faces), ("a", pieces))
        }
        expected = there["weighted_fusion"](torch.stack([theirs["v"], theirs["a"]], dim=-1)).squeeze(-1)
        torch.testing.assert_close(network.predict(torch.cat(ours, 1))[task], expected, rtol=1e-4, atol=1e-5)


def released_sparse_levels():
    """Names and shapes of the upper levels of the released MESM, by hand: SparseConvNet of two versions."""
    state = {}
    for level, (before, after) in enumerate(((64, 128), (128, 256), (256, 512))):
        attention = f"V.attn_layers.{level}"
        state[f"{attention}.channel_affine.weight"] = torch.randn(before, before)
        state[f"{attention}.channel_affine.bias"] = torch.randn(before)
        state[f"{attention}.attn_weight_affine.weight"] = torch.randn(1, before)
        state[f"{attention}.attn_weight_affine.bias"] = torch.randn(1)
        for place, channels in ((0, before), (2, after)):
            shape = (9 * channels, after) if place else (9, 1, channels, after)
            state[f"V.sparse_layers.{level}.0.{place}.weight"] = torch.randn(shape)
            norm = f"V.sparse_layers.{level}.0.{place + 1}"
            state |= {f"{norm}.{name}": torch.randn(after) for name in ("weight", "bias", "runningMean", "runningVar")}
    return state


def test_names_and_shapes_of_the_released_sparse_levels_are_those_of_ours():
    with torch.device("meta"):
        network = networks.create(
            "mesm", preset="paper", modalities=["video"], tasks=[TASKS[0]], options={"head": "published"}
        )
    levels = {key: value for key, value in network.state_dict().items() if ".high." in key}
    state = released_sparse_levels()
    renamed = published_keys(state, ["video"], TASKS[0].name)
    counters = {key for key in levels if key.endswith("num_batches_tracked")}
    assert set(renamed) == set(levels) - counters
    assert {key: value.shape for key, value in renamed.items()} == {key: levels[key].shape for key in renamed}
    taps = state["V.sparse_layers.0.0.2.weight"].view(9, 128, 128)
    assert torch.equal(renamed["columns.video.high.levels.0.convolutions.1.weight"][5, 7, 1, 2], taps[5, 7, 5])


def test_released_weights_that_do_not_fit_are_named():
    with torch.device("meta"):
        network = networks.create(
            "fe2e", preset="paper", modalities=["video"], tasks=[TASKS[0]], options={"head": "published"}
        )
        other = networks.create("fe2e", preset="paper", modalities=["video"], tasks=[TASKS[0]])
    with pytest.raises(NetworkError, match=r"published weights do not fit: missing: columns.video.first, .*V.3.weight"):
        load_published(network, {"V.3.weight": torch.zeros(1), "T.albert.x": torch.zeros(1)}, TASKS[0].name)
    with pytest.raises(NetworkError, match=f"need a network with the task '{TASKS[0].name}' and head 'published'"):
        load_published(other, {}, TASKS[0].name)
