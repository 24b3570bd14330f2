"""Weights trained with the published code of Chae et al. 2018, under the names of this project."""

from collections.abc import Mapping

from torch import Tensor

from trainables.networks.chae import ChaeNetwork
from trainables.networks.weights import load_state

PUBLISHED_PREFIXES = {
    "audionet.": "audio.",
    "videonet.feature_extractor.": "video.extractor.",
    "fc_emo.": "heads.emotion.",
    "fc_sex.": "heads.gender.",
}
"""Beginning of a name there -> beginning of the same name here; the others are the same."""


def load_published(network: ChaeNetwork, state: Mapping[str, Tensor]) -> None:
    """Copy the weights of a model trained with the published code into a network of preset ``paper``.

    ========================================  ===============================
    published code (``model.py``)             here
    ========================================  ===============================
    ``audionet.conv1.*``, ``audionet.conv2.*``  ``audio.conv1.*``, ``audio.conv2.*``
    ``videonet.feature_extractor.*``          ``video.extractor.*``
    ``lstm.*``                                ``lstm.*``
    ``fc_emo.*``                              ``heads.emotion.*``
    ``fc_sex.*``                              ``heads.gender.*``
    ``loss.*``                                left out: the weights of the loss belong to a strategy
    ========================================  ===============================

    The published models read audio divided by its variance: build the network with ``audio_norm="variance"``.

    Args:
        network: with the tasks ``emotion`` (4 classes) and ``gender`` (2 classes) and the modalities of the model.
        state: ``state_dict`` of the published ``MultiNet``.

    Raises:
        NetworkError: keys are missing or left over, or a shape differs.
    """
    load_state(network, published_keys(state), "published weights")


def published_keys(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the published weights under the names of this project, without those of the loss.

    >>> import torch
    >>> list(published_keys({"fc_sex.bias": torch.zeros(2), "loss.weights": torch.zeros(2)}))
    ['heads.gender.bias']
    """
    renamed = {}
    for key, value in state.items():
        prefix = next((old for old in PUBLISHED_PREFIXES if key.startswith(old)), "")
        if not key.startswith("loss."):
            renamed[PUBLISHED_PREFIXES.get(prefix, "") + key.removeprefix(prefix)] = value
    return renamed
