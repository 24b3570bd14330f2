"""The audio and video network of Chae et al. 2018."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from trainables.batch import Batch
from trainables.errors import NetworkError
from trainables.inputs import SAMPLES_PER_FRAME, InputSettings
from trainables.networks.base import Network
from trainables.networks.chae_parts import (
    ACTIVATIONS,
    AUDIO_NORMS,
    KERNELS,
    PRESETS,
    VIDEO_NORMS,
    AudioNet,
    VideoNet,
    valid_steps,
)
from trainables.networks.checks import fraction, one_of, require
from trainables.networks.peephole import PeepholeLSTM
from trainables.networks.pictures import RESNETS, resnet_children
from trainables.networks.weights import load_state
from trainables.tasks import Task

READOUTS = ("last", "mean")
LENGTHS = ("variable", "padded")
LSTMS = ("torch", "peephole")


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
        length: ``"variable"``, utterances as long as they are (published code), or ``"padded"``: all are filled up with
            silence and black pictures to ``max_seconds``, which are then part of them.
        kernel: what the audio kernels slide over: the whole ``"clip"`` (published code) or each ``"frame"`` of 40 ms by
            itself (code of Tzirakis et al. 2017).
        lstm: ``"torch"`` (published code) or ``"peephole"``, with peepholes and a clipped cell (Tzirakis et al. 2017).
        resnet: where the ResNet-50 of ``paper`` strides: ``"v1.5"`` (torchvision, published code), ``"v1"`` (He et al.
            2016) or ``"slim"`` (TensorFlow-Slim, Tzirakis et al. 2017), see ``pictures.resnet50``.
        pretrained: path of a ResNet-50 ``state_dict`` for the picture network of ``paper`` (published code:
            torchvision's, trained on ImageNet); None starts at random.
        max_seconds: where utterances are cut; by default 6 s in ``paper`` (published code) and 3 s in ``small``.

    Raises:
        NetworkError: an option has a value that it cannot have.

    Reference:
        Chae et al., "End-to-end Multimodal Emotion and Gender Recognition with Dynamic Joint Loss Weights", 2018.
        https://arxiv.org/abs/1809.00758, code at https://github.com/MyungsuChae/IROS2018_ws
    """

    presets: ClassVar[tuple[str, ...]] = tuple(PRESETS)
    modalities: ClassVar[tuple[str, ...]] = ("audio", "video")
    begins_from: ClassVar[tuple[str, ...]] = ("pretrained",)
    summary = "convolutions over 5 and 500 ms of sound, ResNet of each frame, LSTM"
    reference = (
        "Chae et al., End-to-end Multimodal Emotion and Gender Recognition with Dynamic Joint Loss Weights, 2018, "
        "https://arxiv.org/abs/1809.00758"
    )

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
        length: str = "variable",
        kernel: str = "clip",
        lstm: str = "torch",
        resnet: str = "v1.5",
        pretrained: str | None = None,
        max_seconds: float | None = None,
    ) -> None:
        super().__init__()
        sizes = PRESETS[preset]
        settings = self.input_settings(preset, max_seconds=max_seconds)
        self.readout = one_of("readout", readout, READOUTS)
        self.num_frames = settings.max_frames if one_of("length", length, LENGTHS) == "padded" else None
        activation = one_of("activation", activation or sizes.activation, ACTIVATIONS)
        audio_norm, kernel = one_of("audio_norm", audio_norm, AUDIO_NORMS), one_of("kernel", kernel, KERNELS)
        video_norm, resnet = one_of("video_norm", video_norm, VIDEO_NORMS), one_of("resnet", resnet, RESNETS)
        if resnet != RESNETS[0] and sizes.picture != "resnet50":
            raise NetworkError(f"option resnet is '{resnet}', but preset '{preset}' has no ResNet-50")
        self.audio = AudioNet(sizes, activation, audio_norm, kernel) if "audio" in modalities else None
        self.video = VideoNet(sizes.picture, video_norm, resnet) if "video" in modalities else None
        if pretrained is not None:
            self._load_pictures(Path(pretrained))
        num_features = (sizes.audio_features if self.audio else 0) + (self.video.num_features if self.video else 0)
        self.lstm = make_lstm(one_of("lstm", lstm, LSTMS), num_features, sizes.hidden)
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
        batch = batch if self.num_frames is None else padded(batch, self.num_frames)
        found = []
        if self.audio is not None:
            found.append(self.audio(require("audio", batch.audio), batch.num_frames))
        if self.video is not None:
            found.append(self.video(require("video", batch.video), batch.num_frames))
        output = self.lstm(torch.cat(found, dim=2))
        sequence: Tensor = self.dropout(output[0] if isinstance(output, tuple) else output)
        lengths = batch.num_frames.to(sequence.device)
        if self.readout == "mean":
            valid = valid_steps(lengths, sequence.shape[1], sequence.device)
            return (sequence * valid.unsqueeze(2)).sum(1) / lengths.unsqueeze(1)
        return sequence[torch.arange(len(lengths), device=sequence.device), lengths - 1]

    def last_shared_layer(self) -> list[nn.Parameter]:
        """Return the parameters of the LSTM's second layer."""
        if isinstance(self.lstm, PeepholeLSTM):
            return list(self.lstm[-1].parameters())
        return [parameter for name, parameter in self.lstm.named_parameters() if name.endswith("_l1")]

    def _load_pictures(self, path: Path) -> None:
        if self.video is None or self.video.num_features != 2048:
            raise NetworkError("option pretrained needs preset 'paper' with the modality video")
        if not path.is_file():
            raise NetworkError(f"option pretrained: there is no file {path}")
        load_state(self.video.extractor, resnet_children(torch.load(path, weights_only=True)), str(path))


def make_lstm(kind: str, num_inputs: int, hidden: int) -> nn.Module:
    """Return two layers of an LSTM whose weight matrices start from the normalised initialisation."""
    if kind == "peephole":
        return PeepholeLSTM(num_inputs, hidden, num_layers=2)
    lstm = nn.LSTM(num_inputs, hidden, num_layers=2, batch_first=True)
    for name, parameter in lstm.named_parameters():
        if name.startswith("weight"):
            nn.init.xavier_normal_(parameter)
    return lstm


def padded(batch: Batch, num_frames: int) -> Batch:
    """Return the utterances filled up with silence and black pictures, all ``num_frames`` long."""
    audio, video = batch.audio, batch.video
    if audio is not None:
        audio = functional.pad(audio, (0, num_frames * SAMPLES_PER_FRAME - audio.shape[1]))
    if video is not None:
        video = functional.pad(video, (*(0, 0) * 3, 0, num_frames - video.shape[1]))
    return replace(batch, num_frames=torch.full_like(batch.num_frames, num_frames), audio=audio, video=video)
