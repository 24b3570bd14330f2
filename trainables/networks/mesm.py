"""The end-to-end networks of Dai et al. 2021: FE2E, dense, and MESM, which computes where the text tells it to look."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from trainables.batch import Batch
from trainables.errors import NetworkError
from trainables.inputs import InputSettings
from trainables.networks.attention import GATES, SparseAttention
from trainables.networks.base import Network
from trainables.networks.checks import duration, one_of, require
from trainables.networks.mesm_inputs import CHUNK, MelChunks, chosen_faces
from trainables.networks.sequences import valid_steps
from trainables.networks.sparse import WAYS, SiteNorm, Sites, SubmanifoldConv, max_pool, whole
from trainables.networks.text import ByteEncoder, PretrainedText
from trainables.tasks import Task

HEADS = ("linear", "published")
FACE = 48
"""Height and width of a face, pixels."""


@dataclass(frozen=True)
class Sizes:
    """What tells the presets apart.

    Attributes:
        channels: of the dense low level and of the three levels above it.
        num_mels: bands of the spectrogram.
        hidden: width between a picture's last level and its features.
        width: features of a picture, and of the Transformer over pictures.
        layers, heads, feed_forward: of that Transformer.
        text_width, text_layers: of the text encoder that is trained from scratch.
        max_seconds: default of the preset; the published code cuts nothing but text.
    """

    channels: tuple[int, int, int, int]
    num_mels: int
    hidden: int
    width: int
    layers: int
    heads: int
    feed_forward: int
    text_width: int
    text_layers: int
    max_seconds: float

    def picture(self, modality: str) -> tuple[int, int, int]:
        """Return channels, height and width of what a modality is looked at as."""
        return (3, FACE, FACE) if modality == "video" else (1, self.num_mels, CHUNK)


PRESETS = {
    "small": Sizes((8, 16, 32, 64), 64, 128, 32, 1, 4, 128, 48, 1, 3.0),
    "paper": Sizes((64, 128, 256, 512), 128, 1024, 64, 4, 4, 2048, 256, 4, 10.0),
}
"""``paper`` has the published sizes, but for the text encoder: ALBERT-base is what the option ``text_model`` is for."""


def vgg_block(channels_in: int, channels: int) -> nn.Sequential:
    """Return two 3x3 convolutions, each with batch normalisation and ReLU."""
    layers: list[nn.Module] = []
    for before in (channels_in, channels):
        layers += [nn.Conv2d(before, channels, 3, padding=1), nn.BatchNorm2d(channels), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


def low_level(channels_in: int, channels: int) -> nn.Sequential:
    """Return what both networks begin with: 5x5 convolution, halving, two VGG blocks."""
    first = [nn.Conv2d(channels_in, channels, 5, padding=2), nn.BatchNorm2d(channels), nn.ReLU(inplace=True)]
    blocks = [vgg_block(channels, channels), vgg_block(channels, channels)]
    return nn.Sequential(*first, nn.MaxPool2d(2), *blocks).to(memory_format=torch.channels_last)


class DenseLevels(nn.Module):
    """The three upper levels of FE2E: a VGG block and halving each.

    Args:
        channels: that come in, and of each level.
    """

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        blocks = [vgg_block(before, after) for before, after in pairwise(channels)]
        self.levels = nn.ModuleList(blocks).to(memory_format=torch.channels_last)

    def forward(self, pictures: Tensor, query: Tensor | None, utterances: Tensor) -> Tensor:  # noqa: ARG002
        """Return ``(S, C, H, W) -> (S, C', H / 8, W / 8)``; nobody asks."""
        for level in self.levels:
            pictures = functional.max_pool2d(level(pictures), 2)
        return pictures


class SparseLevel(nn.Module):
    """A level of MESM: attention says where, two submanifold convolutions compute there, halving.

    Args:
        channels_in, channels: features of a site before and after.
        query: features of the text; 0 for none.
        p, gate: see ``SparseAttention``.
        way: see ``SubmanifoldConv``.
    """

    def __init__(self, channels_in: int, channels: int, query: int, p: float, gate: str, way: str) -> None:
        super().__init__()
        self.attention = SparseAttention(channels_in, query, p, gate)
        self.convolutions = nn.ModuleList(SubmanifoldConv(size, channels, way) for size in (channels_in, channels))
        self.norms = nn.ModuleList(SiteNorm(channels) for _ in range(2))

    def forward(self, sites: Sites, query: Tensor | None, utterances: Tensor) -> Sites:
        """Return the sites of the pictures at half their height and width."""
        sites = self.attention(sites, query, utterances)
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            found = convolution(sites)
            sites = found.with_rows(functional.relu_(norm(found.rows)))
        return max_pool(sites)


class SparseLevels(nn.Module):
    """The three upper levels of MESM.

    Args:
        channels: that come in, and of each level.
        query, p, gate, way: see ``SparseLevel``.
    """

    def __init__(self, channels: Sequence[int], query: int, p: float, gate: str, way: str) -> None:
        super().__init__()
        self.levels = nn.ModuleList(
            SparseLevel(before, after, query, p, gate, way) for before, after in pairwise(channels)
        )

    def forward(self, pictures: Tensor, query: Tensor | None, utterances: Tensor) -> Tensor:
        """Return ``(S, C, H, W), (N, query), (S,) -> (S, C', H / 8, W / 8)``, zeros where nothing is active."""
        sites = whole(pictures)
        for level in self.levels:
            sites = level(sites, query, utterances)
        return sites.dense()


class Column(nn.Module):
    """One modality: each picture to a vector, then a Transformer over the pictures of an utterance.

    The Transformer has a learned first step whose output is the result, and no positions: the pictures of an utterance
    are a set, as published.

    Args:
        sizes: widths.
        picture: channels, height and width of a picture.
        levels: the three upper levels.
    """

    def __init__(self, sizes: Sizes, picture: tuple[int, int, int], levels: nn.Module) -> None:
        super().__init__()
        channels, height, width = picture
        self.low = low_level(channels, sizes.channels[0])
        self.high = levels
        features = sizes.channels[-1] * (height // 16) * (width // 16)
        self.flatten = nn.Sequential(nn.Linear(features, sizes.hidden), nn.ReLU(), nn.Linear(sizes.hidden, sizes.width))
        self.first = nn.Parameter(torch.randn(sizes.width))
        layer = nn.TransformerEncoderLayer(sizes.width, sizes.heads, sizes.feed_forward, batch_first=True)
        self.transformer = nn.TransformerEncoder(layer, sizes.layers, enable_nested_tensor=False)

    def forward(self, pictures: Tensor, counts: Tensor, query: Tensor | None) -> Tensor:
        """Return a vector for each utterance, ``(S, C, H, W), (N,), (N, query) -> (N, width)``."""
        counts = counts.to(pictures.device)
        numbers = torch.arange(len(counts), device=counts.device)
        utterances = numbers.repeat_interleave(counts, output_size=len(pictures))
        found = self.flatten(self.high(self.low(pictures), query, utterances).flatten(1))
        valid = valid_steps(counts + 1, int(counts.max()) + 1)
        steps = found.new_zeros(*valid.shape, found.shape[1])
        steps[valid_steps(counts, steps.shape[1])] = found
        # The learned step comes last: without positions its place does not matter, and no copy is needed.
        steps[numbers, counts] = self.first.to(found.dtype)
        seen: Tensor = self.transformer(steps, src_key_padding_mask=~valid)[numbers, counts]
        return seen

    def last_layer(self) -> list[nn.Parameter]:
        """Return the parameters of the last layer of the Transformer."""
        return list(self.transformer.layers[-1].parameters())


class PublishedHead(nn.Module):
    """A linear layer for each modality, and one learned number for each by which its logits are added.

    Args:
        widths: features of each modality.
        num_outputs: C.
    """

    def __init__(self, widths: Sequence[int], num_outputs: int) -> None:
        super().__init__()
        self.widths = list(widths)
        self.parts = nn.ModuleList(nn.Linear(width, num_outputs) for width in widths)
        self.fusion = nn.Linear(len(widths), 1, bias=False) if len(widths) > 1 else None

    def forward(self, features: Tensor) -> Tensor:
        """Return the logits, ``(N, F) -> (N, C)``."""
        pieces = torch.split(features, self.widths, dim=1)
        logits = torch.stack([part(piece) for part, piece in zip(self.parts, pieces, strict=True)], dim=2)
        return logits.squeeze(2) if self.fusion is None else self.fusion(logits).squeeze(2)


class Fe2eNetwork(Network):
    """Text, audio and video from raw data to emotions, all convolutions dense (FE2E).

    A face every 500 ms and pieces of 400 ms of a mel spectrogram each pass a small VGG and become a set of vectors; a
    Transformer makes one vector of each set. The text's vector is the first step of a text encoder. The heads read the
    three vectors side by side.

    What differs from the paper: faces are those of the prepared corpus, cut as its options say, where the paper
    detects them anew in every frame. The text is read by an encoder of bytes that is trained from scratch, unless
    ``text_model`` names a folder with a pretrained one; the paper fine-tunes ALBERT-base, 11,683,584 parameters, with a
    tenth of the learning rate, which here is the same for all of the network. In place of a linear layer for each
    modality whose logits are added, times one learned number for each modality, the heads are linear layers on all
    three vectors: the same functions, without those numbers, which such a layer's weights contain. ``head`` =
    "published" has them.

    Args:
        tasks: what the heads are for.
        preset: which size.
        modalities: what of text, audio and video it reads.
        head: "linear" or "published".
        text_model: folder of a pretrained model of ``transformers``, see ``trainables.networks.text``.
        freeze_text: whether a pretrained model of text is only read.
        max_seconds: utterances are cut after so many seconds; None is the preset's.

    Raises:
        NetworkError: an option has a value that it cannot have.

    Reference:
        Dai et al., "Multimodal End-to-End Sparse Model for Emotion Recognition", NAACL 2021, section 4.
        https://arxiv.org/abs/2103.09666, code at https://github.com/wenliangdai/Multimodal-End2end-Sparse
    """

    presets: ClassVar[tuple[str, ...]] = tuple(PRESETS)
    modalities: ClassVar[tuple[str, ...]] = ("text", "audio", "video")
    summary: ClassVar[str] = "text, mel spectrogram and faces, dense convolutions"
    reference: ClassVar[str] = "Dai et al., Multimodal End-to-End Sparse Model, 2021, https://arxiv.org/abs/2103.09666"

    def __init__(
        self,
        tasks: Sequence[Task],
        preset: str,
        modalities: Sequence[str],
        *,
        head: str = "linear",
        text_model: str | None = None,
        freeze_text: bool = False,
        max_seconds: float | None = None,
    ) -> None:
        super().__init__()
        self.sizes = PRESETS[preset]
        self.input_settings(preset, max_seconds=max_seconds)
        one_of("head", head, HEADS)
        self.text = self._text_encoder(text_model, freeze_text) if "text" in modalities else None
        self.query = self.text.num_features if self.text is not None else 0
        self.mels = MelChunks(self.sizes.num_mels) if "audio" in modalities else None
        seen = [modality for modality in modalities if modality != "text"]
        self.columns = nn.ModuleDict({modality: self._column(modality) for modality in seen})
        widths = [self.query] * (self.text is not None) + [self.sizes.width] * len(seen)
        if head == "published":
            self.heads = nn.ModuleDict({task.name: PublishedHead(widths, task.num_outputs) for task in tasks})
        else:
            self.add_heads(sum(widths), tasks)

    def levels(self) -> nn.Module:
        """Return the three upper levels of a column."""
        return DenseLevels(self.sizes.channels)

    @classmethod
    def input_settings(cls, preset: str, **options: object) -> InputSettings:
        """Return where utterances are cut and how large a face is."""
        return InputSettings(duration(options.get("max_seconds"), PRESETS[preset].max_seconds), FACE)

    @classmethod
    def example_batch(cls, preset: str, modalities: Sequence[str], **options: object) -> Batch:
        """Return one utterance of noise: what a picture keeps of it is scattered, which costs most."""
        batch = super().example_batch(preset, modalities, **options)
        draws = torch.Generator().manual_seed(0)
        audio = None if batch.audio is None else torch.randn(batch.audio.shape, generator=draws) / 10
        video = batch.video
        if video is not None:
            video = torch.randint(256, video.shape, generator=draws, dtype=torch.uint8)
        return replace(batch, audio=audio, video=video)

    def features(self, batch: Batch) -> Tensor:
        """Return the vectors of text, audio and video side by side, ``(N, F)``.

        Raises:
            NetworkError: the batch lacks a modality that the network reads.
        """
        query = None if self.text is None else self._said(batch)
        found = [] if query is None else [query]
        if self.mels is not None:
            found.append(self.columns["audio"](*self.mels(require("audio", batch.audio), batch.num_frames), query))
        if "video" in self.columns:
            faces = chosen_faces(require("video", batch.video), batch.num_frames)
            found.append(self.columns["video"](*faces, query))
        return torch.cat(found, dim=1)

    def last_shared_layer(self) -> list[nn.Parameter]:
        """Return the last layers of the Transformers over pictures and, of text alone, of the text encoder."""
        found = [parameter for column in self.columns.values() for parameter in _column_of(column).last_layer()]
        return found or list(self.text.parameters())[-2:] if self.text is not None else found

    def _said(self, batch: Batch) -> Tensor:
        if self.text is None or batch.text is None:
            raise NetworkError("the network reads text, but the batch has no text")
        steps, _ = self.text(batch.text)
        first: Tensor = steps[:, 0]
        return first

    def _text_encoder(self, folder: str | None, frozen: bool) -> ByteEncoder | PretrainedText:
        if folder is not None:
            return PretrainedText(Path(folder), frozen=frozen, most_tokens=100)
        return ByteEncoder(self.sizes.text_width, layers=self.sizes.text_layers)

    def _column(self, modality: str) -> Column:
        return Column(self.sizes, self.sizes.picture(modality), self.levels())


class MesmNetwork(Fe2eNetwork):
    """FE2E with sparse cross-modal attention (MESM): the text says which parts of a picture are worth computing.

    The upper levels look only at sites that hold a share ``p`` of an attention that the text asks for; see
    ``trainables.networks.attention`` and ``sparse``. Without text the attention asks by itself. The released code keeps
    the attention from learning and mixes up the sites of different pictures; neither is so here, but for the first
    with ``gate`` = "hard", which is there to measure what learning it is worth.

    Args:
        tasks, preset, modalities, head, text_model, freeze_text, max_seconds: see ``Fe2eNetwork``.
        p: the share of attention that is kept: 0.8 in the example of the released code; in the paper 0.7 (Table 3,
            IEMOCAP) and 0.5 (Table 4, CMU-MOSEI).
        gate: "straight_through" (the paper's binary mask, with a gradient as if it were the attention), "soft"
            (features are multiplied by the attention) or "hard" (as released: the attention does not learn).
        convolution: "sparse" computes active sites only, "dense" whole pictures, with the same result; "auto" is
            "sparse".
    """

    summary: ClassVar[str] = "FE2E that computes only where the text makes it look"

    def __init__(
        self,
        tasks: Sequence[Task],
        preset: str,
        modalities: Sequence[str],
        *,
        p: float = 0.8,
        gate: str = "straight_through",
        convolution: str = "auto",
        head: str = "linear",
        text_model: str | None = None,
        freeze_text: bool = False,
        max_seconds: float | None = None,
    ) -> None:
        if isinstance(p, bool) or not isinstance(p, int | float) or not 0.001 <= p <= 1:
            raise NetworkError(f"p is {p!r}, but it must be a number from 0.001 to 1, the share of attention kept")
        self.p, self.gate = float(p), one_of("gate", gate, GATES)
        self.way = one_of("convolution", convolution, WAYS)
        super().__init__(
            tasks,
            preset,
            modalities,
            head=head,
            text_model=text_model,
            freeze_text=freeze_text,
            max_seconds=max_seconds,
        )

    def levels(self) -> nn.Module:
        """Return the three upper levels of a column."""
        return SparseLevels(self.sizes.channels, self.query, self.p, self.gate, self.way)


def _column_of(module: nn.Module) -> Column:
    if not isinstance(module, Column):
        raise TypeError(f"{module} is no column")
    return module
