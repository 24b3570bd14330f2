"""What a definition may ask for beside its arms, to judge them by: single tasks, frozen means, step lengths, scales."""

from typing import Literal

from pydantic import Field, field_validator

from study.parts import Part

Chosen = Literal["all"] | tuple[str, ...]
"""Names of arms, or all of those that a control makes sense for."""


class ScaleCanary(Part):
    """Arms that are run again with the loss of one task multiplied."""

    task: str
    factor: float = Field(default=10.0, gt=0)
    arms: Chosen = Field(default="all", description="all: the control and every arm whose weights move")

    @field_validator("factor")
    @classmethod
    def _changes(cls, factor: float) -> float:
        if factor == 1:
            raise ValueError("a factor of 1 changes nothing")
        return factor


class Controls(Part):
    """Arms that are there to judge others by; each is trained with every seed of the study."""

    single_task: bool = Field(default=False, description="one arm for each task that trains it alone, for Delta-m")
    frozen_mean: Chosen = Field(default=(), description="arms run again with their mean weights, seed by seed")
    effective_lr: Chosen = Field(default=(), description="arms whose mean step length equal weights are run with")
    scale_canary: ScaleCanary | None = Field(default=None, description="arms run again with one loss multiplied")
