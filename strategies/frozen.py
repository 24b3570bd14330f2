"""Weights that another arm learned, replayed: what is left of a method when it can no longer react."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from strategies.base import Strategy, TaskFacts
from strategies.errors import StrategyError, unknown
from strategies.options import checked_choice

Replay = Literal["epochs", "mean"]


class FrozenWeighting(Strategy):
    """Use given weights: those of another trial epoch by epoch, or their mean from the first step to the last.

    If a dynamic method is no better than its own weights frozen, it is not its reacting to the losses that helps. After
    the last epoch of the trajectory its last weights stay.

    Args:
        num_tasks: number of tasks T.
        trajectory: the weights of each epoch, a list of lists of T numbers; or the path of the rows that a trial
            reported (``STUDY/rows/TRIAL.jsonl``), of which ``raw_weight/TASK`` is read, the weights at the end of
            each epoch.
        replay: ``epochs`` follows the trajectory, ``mean`` uses its mean.

    Reference:
        A control, no published method: Kurin et al., "In Defense of the Unitary Scalarization for Deep Multi-Task
        Learning", 2022, argue that such controls are missing. https://arxiv.org/abs/2201.04122

    >>> FrozenWeighting(2, trajectory=[[0.5, 0.5], [0.3, 0.7]], replay="mean").weights(torch.ones(2)).tolist()
    [0.4000000059604645, 0.6000000238418579]

    Raises:
        StrategyError: an empty or ragged trajectory, weights that are negative or not finite, or rows without weights.
    """

    summary = "the weights of another trial, replayed epoch by epoch or as their mean"
    reference = (
        "a control; Kurin et al., In Defense of the Unitary Scalarization, 2022, https://arxiv.org/abs/2201.04122"
    )
    weight_scale = "as given"

    table: Tensor
    epoch: Tensor

    def __init__(
        self, num_tasks: int, *, trajectory: Sequence[Sequence[float]] | str, replay: Replay = "epochs"
    ) -> None:
        super().__init__(num_tasks)
        self.replay = checked_choice("replay", replay, get_args(Replay))
        self.trajectory = trajectory
        rows = None if isinstance(trajectory, str) else _checked(trajectory, num_tasks, "option 'trajectory'")
        self.register_buffer("table", torch.ones(1, num_tasks) if rows is None else rows)
        self.register_buffer("epoch", torch.zeros((), dtype=torch.int64))

    def setup(self, tasks: Sequence[TaskFacts], seed: int) -> None:  # noqa: ARG002
        """Read the weights of the tasks, if the trajectory is a file."""
        if isinstance(self.trajectory, str):
            rows = _read(Path(self.trajectory), [task.name for task in tasks])
            self.table = _checked(rows, self.num_tasks, self.trajectory).to(self.table.device)

    def weights(self, losses: Tensor) -> Tensor:  # noqa: ARG002
        """Return the weights of the epoch, or the mean of all, shape ``(T,)``."""
        if self.replay == "mean":
            return self.table.mean(dim=0)
        return self.table[self.epoch.clamp(max=len(self.table) - 1)]

    def after_epoch(self, mean_losses: Tensor) -> None:  # noqa: ARG002
        """Go on to the weights of the next epoch."""
        self.epoch += 1

    @classmethod
    def example_options(cls, num_tasks: int) -> dict[str, object]:
        """Return two epochs, of which the first is uniform."""
        ramp = [float(index + 1) for index in range(num_tasks)]
        return {"trajectory": [[1 / num_tasks] * num_tasks, [value / sum(ramp) for value in ramp]]}


def _checked(rows: Sequence[Sequence[float]], num_tasks: int, place: str) -> Tensor:
    try:
        table = torch.tensor([[float(weight) for weight in row] for row in rows])
    except (TypeError, ValueError, OverflowError):
        table = torch.zeros(0)
    if table.ndim != 2 or table.shape[1] != num_tasks:
        raise StrategyError(f"{place} must be a list of epochs, each with {num_tasks} weights")
    if not bool(table.isfinite().all()) or bool((table < 0).any()):
        raise StrategyError(f"{place} has a weight that is negative or not finite")
    return table


def _read(path: Path, names: Sequence[str]) -> list[list[float]]:
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as failure:
        raise StrategyError(f"option 'trajectory': {path} cannot be read: {failure.strerror}") from None
    rows = [row for row in map(_row, lines) if row.get("kind") == "epoch"]
    if not rows:
        raise StrategyError(f"option 'trajectory': {path} has no rows of epochs; name the rows of one trial")
    prefix = "raw_weight/"
    known = sorted(key.removeprefix(prefix) for key in rows[0] if key.startswith(prefix))
    for name in names:
        if name not in known:
            raise StrategyError(f"option 'trajectory': {path}: {unknown('task', name, known)}")
    try:
        # By number: an epoch that was interrupted and trained again was reported twice.
        epochs = {row["epoch"]: [row[prefix + name] for name in names] for row in rows}
    except KeyError as missing:
        raise StrategyError(f"option 'trajectory': {path} has a row of an epoch without {missing}") from None
    return list(epochs.values())


def _row(line: str) -> dict[str, Any]:
    try:
        event = json.loads(line)
    except ValueError:
        return {}
    row = event.get("row") if isinstance(event, dict) else None
    return row if isinstance(row, dict) else {}
