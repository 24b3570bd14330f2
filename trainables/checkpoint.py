"""Checkpoints on disk: written whole or not at all, read without running code.

A strategy whose state is an object of another package may unpickle that object itself, as ``strategies.torchjd`` does:
resume such a trial from checkpoints of your own only.
"""

import io
import os
from pathlib import Path
from typing import Any

import torch

from trainables.errors import TrainingError

FORMAT = 1
"""Raised whenever a checkpoint written before could no longer be read correctly."""


def save(path: Path, state: dict[str, Any]) -> None:
    """Write ``state`` to ``path`` atomically: a reader sees the old file or the new one, never half of one.

    Raises:
        TrainingError: the file cannot be written, as on a full disk.
    """
    content = io.BytesIO()  # torch reports a full disk as a position in its own container
    torch.save({"format": FORMAT, **state}, content)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            file.write(content.getbuffer())
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as failure:
        raise TrainingError(f"checkpoint {path} cannot be written: {failure.strerror}") from failure
    finally:
        temporary.unlink(missing_ok=True)


def load(path: Path, device: torch.device) -> dict[str, Any]:
    """Return the state written by ``save``, its tensors on ``device``.

    Raises:
        TrainingError: the file is damaged or was written in another format.
    """
    try:
        state: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
    except Exception as failure:
        raise TrainingError(
            f"checkpoint {path} cannot be read ({failure}): delete it to start the trial anew"
        ) from failure
    if state.get("format") != FORMAT:
        raise TrainingError(
            f"checkpoint {path} has format {state.get('format')}, this version reads {FORMAT}: "
            "delete it to start the trial anew"
        )
    return state
