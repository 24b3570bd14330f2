"""Trained networks in MLflow: one is put there when a person asks for it, and read without running any code of it."""

import hashlib
import logging
from importlib.metadata import version
from pathlib import Path
from typing import Any

from strategies.text import redacted
from study.errors import StudyError
from study.mlflow_runs import TRIAL_TAG
from study.mlflow_store import connect, reason_of
from trainables.checkpoint import BEST

MODEL_TAG, DIGEST_TAG = "study.model", "study.model.sha256"
_FILES = "extra_files"
"""Where MLflow keeps files that go with a model."""


def log(study: str, trial: str, path: Path, uri: str) -> str:
    """Keep the network of a checkpoint as the model of a trial's run, unless it is there already.

    ``mlflow.pytorch.load_model`` gives a ``trainables.prediction.ServedNetwork``, with this project installed. The
    checkpoint lies beside it, which is what ``fetch`` gives.

    Args:
        study: name of the study.
        trial: name of the trial.
        path: its ``best.pt``.
        uri: the tracking store.

    Returns:
        the model's address.

    Raises:
        UserError: the trial has no run, the checkpoint cannot be read, or the tracking store does not answer.
    """
    from trainables.prediction import ServedNetwork, load_model

    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    try:
        client = connect(uri)
        run = _run_of(client, study, trial)
        if run is not None and run.data.tags.get(DIGEST_TAG) == digest:
            return str(run.data.tags[MODEL_TAG])
    except Exception as failure:
        raise StudyError(f"tracking store {redacted(uri)} does not answer: {reason_of(failure)}") from failure
    if run is None:
        raise StudyError(f"trial {trial} has no run in {redacted(uri)}: study sync {study} makes it")
    served = ServedNetwork(load_model(path, _cpu())).eval()
    try:
        address = _logged(served, run.info.run_id, path, uri)
        for tag, value in ((MODEL_TAG, address), (DIGEST_TAG, digest)):
            client.set_tag(run.info.run_id, tag, value)
    except Exception as failure:
        raise StudyError(f"the model cannot be written to {redacted(uri)}: {reason_of(failure)}") from failure
    return address


def _cpu() -> Any:  # noqa: ANN401  (torch is imported late)
    import torch

    return torch.device("cpu")


def _run_of(client: Any, study: str, trial: str) -> Any:  # noqa: ANN401  (MLflow's own)
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    query = f"tags.`study` = '{study}' and tags.`{TRIAL_TAG}` = '{trial}'"
    runs = client.search_runs(experiments, query, max_results=1) if experiments else []
    return runs[0] if runs else None


def _logged(served: Any, run_id: str, path: Path, uri: str) -> str:  # noqa: ANN401
    import mlflow
    from mlflow.models import Model

    logging.getLogger("mlflow").setLevel(logging.ERROR)
    mlflow.set_tracking_uri(uri)
    info = Model.log(
        artifact_path=None,
        flavor=mlflow.pytorch,
        name="model",
        run_id=run_id,
        pytorch_model=served,
        signature=signature_of(served),
        serialization_format="pickle",
        extra_files=[str(path)],
        pip_requirements=[f"{name}=={version(name)}" for name in ("torch", "torchvision", "torchaudio", "numpy")],
    )
    return str(info.model_uri)


def signature_of(served: Any) -> Any:  # noqa: ANN401  (``ServedNetwork`` in, a signature of MLflow out)
    """Return what a served network takes and gives: names, kinds and shapes of its tensors; -1 is any size."""
    import numpy as np
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    size = served.frame_size
    known = {
        "audio": TensorSpec(np.dtype(np.float32), (-1, -1), "audio"),
        "video": TensorSpec(np.dtype(np.uint8), (-1, -1, 3, size, size), "video"),
        "text": TensorSpec(np.dtype(str), (-1,), "text"),
    }
    inputs: list[Any] = [TensorSpec(np.dtype(np.int64), (-1,), "num_frames")]
    inputs += [known[name] for name in served.modalities]
    outputs: list[Any] = [
        TensorSpec(np.dtype(np.float32), (-1,) if task.kind == "regression" else (-1, task.num_outputs), task.name)
        for task in served.tasks
    ]
    return ModelSignature(Schema(inputs), Schema(outputs))


def fetch(address: str, uri: str, folder: Path) -> Path:
    """Return the checkpoint of a model in MLflow, copied into a folder; nothing of the model is unpickled.

    Args:
        address: such as ``models:/m-0123`` or ``runs:/RUN/model``.
        uri: the tracking store.
        folder: where to put it.

    Raises:
        StudyError: there is no such model, or it is none of a study.
    """
    try:
        connect(uri)
        import mlflow
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        mlflow.set_tracking_uri(uri)
        model: Any = get_artifact_repository(address.rstrip("/"))
        found = model.download_artifacts(f"{_FILES}/{BEST}", str(folder))
    except Exception as failure:
        raise StudyError(f"{address} is no model of a study in {redacted(uri)}: {reason_of(failure)}") from failure
    return Path(found)
