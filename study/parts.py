"""What every part of a definition has in common."""

from pydantic import BaseModel, ConfigDict


class Part(BaseModel):
    """A part of a definition: unknown keys are refused, values cannot be changed after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
