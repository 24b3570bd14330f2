"""Weights trained with the released code of Dai et al. 2021, under the names of this project."""

import re
from collections.abc import Mapping, Sequence

from torch import Tensor

from trainables.errors import NetworkError
from trainables.networks.mesm import Fe2eNetwork, PublishedHead
from trainables.networks.weights import load_state

_MODALITIES = {"t": "text", "a": "audio", "v": "video"}
_BLOCK = {"conv1": "0", "bn1": "1", "conv2": "3", "bn2": "4"}
_UPPER = {"6": "0", "8": "1", "10": "2"}
_SPARSE = {"0": "convolutions.0", "1": "norms.0", "2": "convolutions.1", "3": "norms.1"}
_BUFFERS = {"runningMean": "running_mean", "runningVar": "running_var"}
_LEFT_OUT = re.compile(r"mtcnn\..*|.*\.attn_weight_affine\.bias|T\.albert\.embeddings\.position_ids")
"""The face detector, a bias that a softmax does not see, and a buffer of older versions of transformers."""
_TAPS = 9


def load_published(network: Fe2eNetwork, state: Mapping[str, Tensor], task: str = "emotions") -> None:
    """Copy the weights of a model trained with the released code into FE2E or MESM of preset ``paper``.

    =====================================================  ======================================================
    released code (``e2e.py``, ``sparse_e2e.py``)          here, M being video for V and audio for A
    =====================================================  ======================================================
    ``V.0``, ``V.1``, ``V.low_level.0``, ...               ``columns.M.low.0``, ``columns.M.low.1``
    ``V.4.conv1``, ``bn1``, ``conv2``, ``bn2``; ``V.5...`` ``columns.M.low.4.0``, ``1``, ``3``, ``4``; ``low.5...``
    ``V.6``, ``V.8``, ``V.10`` (FE2E)                      ``columns.M.high.levels.0``, ``1``, ``2``
    ``V.attn_layers.I`` (MESM)                             ``columns.M.high.levels.I.attention``
    ``V.sparse_layers.I.0.0`` to ``.3`` (MESM)             ``columns.M.high.levels.I.convolutions``, ``norms``
    ``v_flatten``, ``v_transformer.encoder``               ``columns.M.flatten``, ``columns.M.transformer``
    ``v_transformer.cls_emb.weight``                       ``columns.M.first``
    ``T.albert``                                           ``text.model.trained``
    ``t_out``, ``v_out``, ``a_out``, ``weighted_fusion``   ``heads.TASK.parts``, ``heads.TASK.fusion``
    =====================================================  ======================================================

    The weights of a sparse convolution lie there by tap, in and out, ``(9 C, C')`` or ``(9, 1, C, C')``. The released
    MESM feeds its upper levels sites of other pictures: its weights fit and were trained for that.

    Args:
        network: built with ``head="published"``, and ``text_model`` where it reads text.
        state: ``state_dict`` of the released ``MME2E`` or ``MME2E_Sparse``.
        task: the task whose head it is.

    Raises:
        NetworkError: the head is another one, keys are missing or left over, or a shape differs.
    """
    head = dict(network.heads.items()).get(task)
    if not isinstance(head, PublishedHead):
        raise NetworkError(f"published weights need a network with the task '{task}' and head 'published'")
    modalities = [*(["text"] if network.text is not None else []), *network.columns]
    load_state(network, published_keys(state, modalities, task), "published weights")


def published_keys(state: Mapping[str, Tensor], modalities: Sequence[str], task: str) -> dict[str, Tensor]:
    """Return the released weights under the names of this project, without those of modalities that are not read.

    >>> import torch
    >>> list(published_keys({"v_out.bias": torch.zeros(6), "mtcnn.x": torch.zeros(1)}, ["audio", "video"], "emotions"))
    ['heads.emotions.parts.1.bias']
    """
    found = {}
    for key, value in state.items():
        if _LEFT_OUT.fullmatch(key) or _modality(key) not in (None, *modalities):
            continue
        if key == "weighted_fusion.weight":
            if len(modalities) > 1:
                found[f"heads.{task}.fusion.weight"] = _fused(value, modalities)
            continue
        name = _name(key, modalities, task)
        found[name] = _shaped(name, value)
    return found


def _modality(key: str) -> str | None:
    """Return which modality a released name belongs to; None for the one that belongs to all."""
    match = re.match(r"([TVAtva])[._]", key)
    return None if match is None else _MODALITIES[match[1].lower()]


def _name(key: str, modalities: Sequence[str], task: str) -> str:
    column = f"columns.{_modality(key)}"
    if match := re.fullmatch(r"T\.albert\.(.+)", key):
        return f"text.model.trained.{match[1]}"
    if match := re.fullmatch(r"[tva]_out\.(.+)", key):
        return f"heads.{task}.parts.{modalities.index(str(_modality(key)))}.{match[1]}"
    if re.fullmatch(r"[va]_transformer\.cls_emb\.weight", key):
        return f"{column}.first"
    if match := re.fullmatch(r"[va]_(?:(flatten)|(transformer)\.encoder)\.(.+)", key):
        return f"{column}.{match[1] or match[2]}.{match[3]}"
    if match := re.fullmatch(r"[VA]\.(?:low_level\.)?([01])\.(.+)", key):
        return f"{column}.low.{match[1]}.{match[2]}"
    if match := re.fullmatch(r"[VA]\.(?:low_level\.)?([45])\.(conv1|bn1|conv2|bn2)\.(.+)", key):
        return f"{column}.low.{match[1]}.{_BLOCK[match[2]]}.{match[3]}"
    return _upper_name(key, column)


def _upper_name(key: str, column: str) -> str:
    if match := re.fullmatch(r"[VA]\.(6|8|10)\.(conv1|bn1|conv2|bn2)\.(.+)", key):
        return f"{column}.high.levels.{_UPPER[match[1]]}.{_BLOCK[match[2]]}.{match[3]}"
    if match := re.fullmatch(r"[VA]\.attn_layers\.([012])\.(.+)", key):
        return f"{column}.high.levels.{match[1]}.attention.{match[2]}"
    if match := re.fullmatch(r"[VA]\.sparse_layers\.([012])\.0\.([0-3])\.(.+)", key):
        return f"{column}.high.levels.{match[1]}.{_SPARSE[match[2]]}.{_BUFFERS.get(match[3], match[3])}"
    return key


def _shaped(name: str, value: Tensor) -> Tensor:
    """Return the value in the shape that it has here."""
    if name.endswith(".first"):
        return value.flatten()
    if ".convolutions." in name:
        taps = value.reshape(_TAPS, -1, value.shape[-1])
        return taps.permute(2, 1, 0).reshape(value.shape[-1], -1, 3, 3)
    return value


def _fused(value: Tensor, modalities: Sequence[str]) -> Tensor:
    """Return the number of each modality in our order; there it is text, video, audio."""
    theirs = [modality for modality in ("text", "video", "audio") if modality in modalities]
    if value.shape[-1] != len(theirs):
        return value
    return value[:, [theirs.index(modality) for modality in modalities]]
