"""A trained network, read from its checkpoint, and what it says of clips that are in no corpus."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from trainables import checkpoint, networks
from trainables.batch import Batch
from trainables.corpora.clips import Clips
from trainables.corpora.decoding import Media
from trainables.errors import TrainingError
from trainables.inputs import SAMPLES_PER_FRAME
from trainables.loop import evaluate
from trainables.networks import Network
from trainables.networks.weights import load_state
from trainables.predictions import Predictions, predictions_of
from trainables.tasks import MISSING, Task

_FULL_SCALE = np.float32(1 / 32768)


@dataclass(frozen=True)
class Answer:
    """What a network says of one clip in one task.

    Attributes:
        task: its name.
        said: the likeliest class; of a task whose classes may be true at once, all that are likelier true than not; a
            rating in the corpus's own units.
        probabilities: class -> its probability; empty for a rating.
    """

    task: str
    said: str | tuple[str, ...] | float
    probabilities: Mapping[str, float]


@dataclass(frozen=True)
class TrainedModel:
    """The chosen network of a trial, ready to be asked.

    Attributes:
        network: in evaluation mode.
        tasks: what it was trained on.
        modalities: what it reads.
        units: task of regression -> mean and deviation that its outputs are measured in.
        clips: what reads files for it.
        device: where it is.
    """

    network: Network
    tasks: tuple[Task, ...]
    modalities: tuple[str, ...]
    units: Mapping[str, tuple[float, float]]
    clips: Clips
    device: torch.device

    def predict(self, path: Path, text: str | None = None) -> list[Answer]:
        """Return what the network says of a file, task by task.

        Args:
            path: a sound file or a film.
            text: what is said in it.

        Raises:
            MediaError: the file cannot be used, see ``Clips.read``.
        """
        return self.answer(self.clips.read(path, text), text)

    def answer(self, media: Media, text: str | None = None) -> list[Answer]:
        """Return what the network says of a clip that ``clips`` has read, task by task."""
        batch = batch_of(media, self.modalities, text, self.tasks)
        outputs = evaluate(self.network, [batch], self.tasks, self.device)
        found = predictions_of(self.tasks, np.array(["clip"]), outputs, self.units)
        return [_answer(task, found) for task in self.tasks]


def load_model(path: Path, device: torch.device | None = None) -> TrainedModel:
    """Return the network in a ``best.pt``; no code in the file is run.

    Raises:
        UserError: the file is no checkpoint or a damaged one, its network does not exist here or has other weights
            (those missing and those left over are named), or was saved before such files told all that is needed.
    """
    device = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
    state = checkpoint.load(path, torch.device("cpu"))
    if lacking := [name for name in ("specification", "network", "units", "corpus") if name not in state]:
        raise TrainingError(
            f"{path} does not tell its {lacking[0]}: it is no {checkpoint.BEST}, or of an older version"
        )
    try:
        return _model(state, f"the weights in {path}", device)
    except (AttributeError, KeyError, TypeError, ValueError) as failure:  # whoever wrote it
        raise TrainingError(f"{path} describes no network: {type(failure).__name__}: {failure}") from failure


def _model(state: Mapping[str, Any], source: str, device: torch.device) -> TrainedModel:
    told = json.loads(state["specification"])
    settings, tasks = told["network"], tuple(map(Task.from_dict, told["tasks"]))
    network = trained_network(settings, tasks)
    load_state(network, state["network"], source)
    units = {name: (float(mean), float(deviation)) for name, (mean, deviation) in state["units"].items()}
    wanted = networks.input_settings(settings["name"], settings["preset"], settings["options"])
    modalities = tuple(settings["modalities"])
    clips = Clips(state["corpus"], modalities, wanted)
    return TrainedModel(network.to(device).eval(), tasks, modalities, units, clips, device)


def trained_network(settings: Mapping[str, Any], tasks: Sequence[Task]) -> Network:
    """Return a trial's network, built without the weights that its training began from."""
    begins = networks.load(settings["name"]).begins_from
    options = {name: value for name, value in settings["options"].items() if name not in begins}
    shape = {name: settings[name] for name in ("preset", "modalities")}
    return networks.create(settings["name"], tasks=tasks, options=options, **shape)


def batch_of(media: Media, modalities: Sequence[str], text: str | None, tasks: Sequence[Task]) -> Batch:
    """Return one clip as a network reads it, without labels."""
    audio = video = None
    frames = 1
    if media.frames is not None:
        frames = len(media.frames)
        video = torch.from_numpy(np.ascontiguousarray(media.frames.transpose(0, 3, 1, 2))).unsqueeze(0)
    if media.audio is not None:
        frames = frames if media.frames is not None else -(-len(media.audio) // SAMPLES_PER_FRAME)
        sound = np.zeros(frames * SAMPLES_PER_FRAME, np.float32)
        sound[: len(media.audio)] = media.audio * _FULL_SCALE
        audio = torch.from_numpy(sound).unsqueeze(0)
    told = (text or "",) if "text" in modalities else None
    return Batch(torch.tensor([frames]), {task.name: _unknown(task) for task in tasks}, audio, video, text=told)


def _unknown(task: Task) -> Tensor:
    """Return the label of an utterance that has none."""
    if task.kind == "classification":
        return torch.tensor([MISSING])
    return torch.full((1, task.num_outputs) if task.kind == "multilabel" else (1,), torch.nan)


def _answer(task: Task, found: Predictions) -> Answer:
    if task.kind == "regression":
        return Answer(task.name, float(found.values[task.name][0]), {})
    if task.kind == "multilabel":
        odds = found.logits[task.name][0].astype(np.float64)
        chances = dict(zip(task.classes, (1 / (1 + np.exp(-odds))).tolist(), strict=True))
        return Answer(task.name, tuple(name for name, chance in chances.items() if chance > 0.5), chances)
    chances = dict(zip(task.classes, np.exp(found.log_probabilities[task.name][0]).tolist(), strict=True))
    return Answer(task.name, max(chances, key=lambda name: chances[name]), chances)


class ServedNetwork(nn.Module):
    """A trained network with tensors in and probabilities out, as it is kept in MLflow.

    Args:
        model: of a trial.

    Attributes:
        tasks: what it answers.
        modalities: what it reads.
        frame_size: height and width of a face.
    """

    def __init__(self, model: TrainedModel) -> None:
        super().__init__()
        self.network = model.network
        self.tasks = model.tasks
        self.modalities = model.modalities
        self.frame_size = model.clips.settings.frame_size
        self.units = dict(model.units)

    def forward(
        self,
        num_frames: Tensor,
        audio: Tensor | None = None,
        video: Tensor | None = None,
        text: Sequence[str] | None = None,
    ) -> dict[str, Tensor]:
        """Return task -> probabilities ``(N, C)``, or ratings in the corpus's own units ``(N,)``.

        Args:
            num_frames: length of each clip in frames of 40 ms, ``(N,)`` int64, at most M.
            audio: samples at 16 kHz in -1..1, ``(N, M * 640)``, zeros after the end.
            video: faces at 25 frames a second in 0..255, ``(N, M, 3, H, W)`` uint8, zeros after the end.
            text: N transcripts.
        """
        batch = Batch(num_frames, {}, audio, video, text=None if text is None else tuple(text))
        outputs = self.network(batch)
        return {task.name: self._told(task, outputs[task.name].float()) for task in self.tasks}

    def _told(self, task: Task, outputs: Tensor) -> Tensor:
        if task.kind == "regression":
            mean, deviation = self.units[task.name]
            return mean + deviation * outputs[:, 0]
        return outputs.sigmoid() if task.kind == "multilabel" else outputs.softmax(dim=1)
