"""The audio and video network of Chae et al. 2018."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from strategies.errors import suggestion
from trainables.batch import SAMPLES_PER_FRAME, Batch, InputSettings
from trainables.errors import NetworkError
from trainables.networks.base import Network
from trainables.networks.fft_conv import FFTConv1d
from trainables.networks.pictures import resnet50, resnet_children, tiny_resnet
from trainables.networks.weights import load_state
from trainables.tasks import Task

AUDIO_MEAN = -4.181317587822257e-05
"""Mean of the published training audio (samples in -1..1)."""
AUDIO_VARIANCE = 0.003423544945266016
"""Variance of the published training audio. The published code divides by it and not by its root."""
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

ACTIVATIONS = ("none", "relu")
AUDIO_NORMS = ("std", "variance", "clip", "none")
VIDEO_NORMS = ("raw", "imagenet")
READOUTS = ("last", "mean")


@dataclass(frozen=True)
class Sizes:
    """What tells the presets apart.

    Attributes:
        filters: filters of both convolutions.
        kernel: taps of the first convolution, at 16 kHz.
        stride: step of the first convolution.
        pool: width of the max-pooling over time.
        long_kernel: taps of the second convolution, at ``16 kHz / (stride * pool)``.
        channel_pool: width of the max-pooling over channels.
        picture: name of the picture network, ``"resnet50"`` or ``"tiny"``.
        hidden: width of the LSTM.
        activation, max_seconds, frame_size: defaults of the preset.
    """

    filters: int
    kernel: int
    stride: int
    pool: int
    long_kernel: int
    channel_pool: int
    picture: str
    hidden: int
    activation: str
    max_seconds: float
    frame_size: int

    @property
    def steps(self) -> int:
        """Steps of the second convolution in a frame of 40 ms."""
        return SAMPLES_PER_FRAME // (self.stride * self.pool)

    @property
    def audio_features(self) -> int:
        """Features that the audio network gives for a frame."""
        return self.steps * (self.filters // self.channel_pool)


PRESETS = {
    "small": Sizes(24, 80, 16, 4, 125, 4, "tiny", 64, "relu", 3.0, 32),
    "paper": Sizes(40, 80, 1, 2, 4000, 10, "resnet50", 256, "none", 6.0, 96),
}
"""``small`` has the kernels of ``paper`` in milliseconds (5 and 500) and decimates to 250 Hz between them."""


class AudioNet(nn.Module):
    """Waveform to one feature vector per frame of 40 ms.

    Convolution over 5 ms, max-pooling over time, convolution over 500 ms, max-pooling over channels; the steps that
    fall into a frame are laid side by side. The published network has no activation function.

    Args:
        sizes: filters, kernels and pools.
        activation: after each convolution: ``"none"`` (published code) or ``"relu"`` (Tzirakis et al. 2017).
        norm: ``"std"`` and ``"variance"`` subtract the mean of the published training audio and divide by its standard
            deviation (as meant) or by its variance (published code); ``"clip"`` scales each utterance to zero mean and
            unit variance; ``"none"`` leaves samples in -1..1.
    """

    def __init__(self, sizes: Sizes, activation: str, norm: str) -> None:
        super().__init__()
        self.sizes = sizes
        self.norm = norm
        self.conv1 = nn.Conv1d(1, sizes.filters, sizes.kernel, stride=sizes.stride)
        sides = (sizes.long_kernel // 2, sizes.long_kernel - sizes.long_kernel // 2 - 1)
        self.conv2 = FFTConv1d(sizes.filters, sizes.filters, sizes.long_kernel, padding=sides)
        self.activation = nn.ReLU() if activation == "relu" else nn.Identity()

    def forward(self, audio: Tensor, num_frames: Tensor) -> Tensor:
        """Return the features of each frame, ``(N, M * 640), (N,) -> (N, M, F)``; frames past the end are undefined."""
        sizes = self.sizes
        signal = normalise(audio, num_frames * SAMPLES_PER_FRAME, self.norm).unsqueeze(1)
        signal = functional.pad(signal, (sizes.kernel // 2, sizes.kernel - sizes.kernel // 2 - 1))
        signal = functional.max_pool1d(self.activation(self.conv1(signal)), sizes.pool)
        # Past its end an utterance must look as it does alone: the long kernel reads zeros there, not the bias.
        signal = signal * valid_steps(num_frames * sizes.steps, signal.shape[-1], signal.device).unsqueeze(1)
        signal = self.activation(self.conv2(signal)).transpose(1, 2)
        return functional.max_pool1d(signal, sizes.channel_pool).reshape(len(audio), -1, sizes.audio_features)


class VideoNet(nn.Module):
    """Face frames to one feature vector per frame.

    Args:
        picture: name of the picture network.
        norm: ``"raw"`` reads pixels in 0..255 (published code), ``"imagenet"`` standardises them.
    """

    def __init__(self, picture: str, norm: str) -> None:
        super().__init__()
        self.norm = norm
        self.extractor, self.num_features = resnet50() if picture == "resnet50" else tiny_resnet()

    def forward(self, video: Tensor, num_frames: Tensor) -> Tensor:
        """Return the features of each frame, ``(N, M, 3, H, W), (N,) -> (N, M, F)``, zeros past the end.

        Frames past the end are not looked at: they would cost time and enter the batch statistics.
        """
        valid = valid_steps(num_frames, video.shape[1], video.device)
        pixels = video[valid].float()
        if self.norm == "imagenet":
            mean, std = pixels.new_tensor(IMAGENET_MEAN), pixels.new_tensor(IMAGENET_STD)
            pixels = (pixels / 255 - mean[:, None, None]) / std[:, None, None]
        found: Tensor = self.extractor(pixels.contiguous(memory_format=torch.channels_last)).mean((2, 3))
        features = found.new_zeros(*valid.shape, self.num_features)
        features[valid] = found
        return features


class ChaeNetwork(Network):
    """End-to-end audio and video network with one linear head per task.

    An audio network reads the waveform and a ResNet the face; their features (audio first) go frame by frame through
    a two-layer LSTM; after dropout, the output at the utterance's last frame is what the heads read. Preset ``paper``
    has the published sizes; ``small`` has the same structure for two CPU cores.

    Args:
        tasks: one head each.
        preset: ``"small"`` or ``"paper"``.
        modalities: ``("audio",)``, ``("video",)`` or both.
        activation: after each audio convolution, ``"none"`` or ``"relu"``; by default none in ``paper`` (as in the
            published code) and relu in ``small`` (as in Tzirakis et al. 2017, where the audio network comes from).
        audio_norm: ``"std"``, ``"variance"``, ``"clip"`` or ``"none"``, see ``AudioNet``.
        video_norm: ``"raw"`` (published code) or ``"imagenet"``.
        dropout: on the LSTM's output; 0.5 in the published code.
        readout: the LSTM's output at the ``"last"`` frame (published code) or its ``"mean"`` over frames.
        pretrained: path of a ResNet-50 ``state_dict`` for the picture network of ``paper``; None starts at random.
        max_seconds: where utterances are cut; by default 6 s in ``paper`` (published code) and 3 s in ``small``.

    Raises:
        NetworkError: an option has a value that it cannot have.

    Reference:
        Chae et al., "End-to-end Multimodal Emotion and Gender Recognition with Dynamic Joint Loss Weights", 2018.
        https://arxiv.org/abs/1809.00758, code at https://github.com/MyungsuChae/IROS2018_ws
    """

    presets: ClassVar[tuple[str, ...]] = tuple(PRESETS)
    modalities: ClassVar[tuple[str, ...]] = ("audio", "video")

    def __init__(
        self,
        tasks: Sequence[Task],
        preset: str,
        modalities: Sequence[str],
        *,
        activation: str | None = None,
        audio_norm: str = "std",
        video_norm: str = "raw",
        dropout: float = 0.5,
        readout: str = "last",
        pretrained: str | None = None,
        max_seconds: float | None = None,
    ) -> None:
        super().__init__()
        sizes = PRESETS[preset]
        self.input_settings(preset, max_seconds=max_seconds)
        self.readout = one_of("readout", readout, READOUTS)
        activation = one_of("activation", activation or sizes.activation, ACTIVATIONS)
        audio_norm = one_of("audio_norm", audio_norm, AUDIO_NORMS)
        video_norm = one_of("video_norm", video_norm, VIDEO_NORMS)
        self.audio = AudioNet(sizes, activation, audio_norm) if "audio" in modalities else None
        self.video = VideoNet(sizes.picture, video_norm) if "video" in modalities else None
        if pretrained is not None:
            self._load_pictures(Path(pretrained))
        num_features = (sizes.audio_features if self.audio else 0) + (self.video.num_features if self.video else 0)
        self.lstm = nn.LSTM(num_features, sizes.hidden, num_layers=2, batch_first=True)
        for name, parameter in self.lstm.named_parameters():
            if name.startswith("weight"):
                nn.init.xavier_normal_(parameter)
        self.dropout = nn.Dropout(fraction("dropout", dropout))
        self.add_heads(sizes.hidden, tasks)

    @classmethod
    def input_settings(cls, preset: str, **options: object) -> InputSettings:
        """Return where utterances are cut and how large a face frame is."""
        sizes = PRESETS[preset]
        seconds = options.get("max_seconds")
        if seconds is None:
            seconds = sizes.max_seconds
        if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0.04 <= seconds < float("inf"):
            raise NetworkError(f"max_seconds is {seconds!r}, but it must be a number of at least 0.04 (one frame)")
        return InputSettings(float(seconds), sizes.frame_size)

    def features(self, batch: Batch) -> Tensor:
        """Return the LSTM's output at each utterance's last frame, after dropout, ``(N, hidden)``.

        The LSTM runs over the padding too: being causal, it gives the same at the last frame as over packed sequences,
        in a fifth of the time on a CPU.

        Raises:
            NetworkError: the batch lacks a modality that the network reads.
        """
        found = []
        if self.audio is not None:
            found.append(self.audio(require("audio", batch.audio), batch.num_frames))
        if self.video is not None:
            found.append(self.video(require("video", batch.video), batch.num_frames))
        sequence: Tensor = self.dropout(self.lstm(torch.cat(found, dim=2))[0])
        lengths = batch.num_frames.to(sequence.device)
        if self.readout == "mean":
            valid = valid_steps(lengths, sequence.shape[1], sequence.device)
            return (sequence * valid.unsqueeze(2)).sum(1) / lengths.unsqueeze(1)
        return sequence[torch.arange(len(lengths), device=sequence.device), lengths - 1]

    def last_shared_layer(self) -> list[nn.Parameter]:
        """Return the parameters of the LSTM's second layer."""
        return [parameter for name, parameter in self.lstm.named_parameters() if name.endswith("_l1")]

    def _load_pictures(self, path: Path) -> None:
        if self.video is None or self.video.num_features != 2048:
            raise NetworkError("option pretrained needs preset 'paper' with the modality video")
        if not path.is_file():
            raise NetworkError(f"option pretrained: there is no file {path}")
        load_state(self.video.extractor, resnet_children(torch.load(path, weights_only=True)), str(path))


def normalise(audio: Tensor, num_samples: Tensor, norm: str) -> Tensor:
    """Return the samples on another scale, zeros after the end, ``(N, L), (N,) -> (N, L)``; see ``AudioNet``."""
    if norm == "none":
        return audio
    valid = valid_steps(num_samples, audio.shape[1], audio.device)
    if norm == "clip":
        count = num_samples.to(audio.device).unsqueeze(1)
        mean = audio.sum(1, keepdim=True) / count
        variance = ((audio - mean).square() * valid).sum(1, keepdim=True) / count
        return (audio - mean) * valid / variance.sqrt().clamp(min=1e-8)
    scale = AUDIO_VARIANCE if norm == "variance" else AUDIO_VARIANCE**0.5
    return (audio - AUDIO_MEAN) * valid / scale


def valid_steps(lengths: Tensor, num_steps: int, device: torch.device) -> Tensor:
    """Return which steps lie before the end, ``(N,) -> (N, L)`` bool.

    >>> valid_steps(torch.tensor([1, 3]), 3, torch.device("cpu")).tolist()
    [[True, False, False], [True, True, True]]
    """
    return torch.arange(num_steps, device=device) < lengths.to(device).unsqueeze(1)


def require(modality: str, values: Tensor | None) -> Tensor:
    """Return the batch's values of a modality.

    Raises:
        NetworkError: the batch has none.
    """
    if values is None:
        raise NetworkError(f"the network reads {modality}, but the batch has no {modality}")
    return values


def one_of(option: str, value: str, allowed: Sequence[str]) -> str:
    """Return ``value`` if it is allowed.

    Raises:
        NetworkError: with what is allowed and the nearest of it.
    """
    if value not in allowed:
        raise NetworkError(
            f"{option} is '{value}', but it must be one of {', '.join(allowed)}{suggestion(str(value), allowed)}"
        )
    return value


def fraction(option: str, value: float) -> float:
    """Return ``value`` if it is in ``[0, 1)``.

    Raises:
        NetworkError: it is not.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1:
        raise NetworkError(f"{option} is {value!r}, but it must be a number in [0, 1)")
    return value
