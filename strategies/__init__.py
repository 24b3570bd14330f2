"""Loss-weighting strategies: each turns T task losses into one gradient step.

The names below are imported on first use: ``import strategies.errors`` must not pay for torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from strategies.base import Shared, Strategy, TaskFacts
    from strategies.errors import StrategyError, UserError
    from strategies.registry import StrategyDescription, create, describe, load, names
    from strategies.static import format_weight, simplex_grid

__all__ = [
    "Shared",
    "Strategy",
    "StrategyDescription",
    "StrategyError",
    "TaskFacts",
    "UserError",
    "create",
    "describe",
    "format_weight",
    "load",
    "names",
    "simplex_grid",
]

if not TYPE_CHECKING:  # a type checker reads the imports above; with this function in sight it would accept any name
    _HOMES = {
        "Shared": "strategies.base",
        "Strategy": "strategies.base",
        "TaskFacts": "strategies.base",
        "StrategyError": "strategies.errors",
        "UserError": "strategies.errors",
        "StrategyDescription": "strategies.registry",
        "create": "strategies.registry",
        "describe": "strategies.registry",
        "load": "strategies.registry",
        "names": "strategies.registry",
        "format_weight": "strategies.static",
        "simplex_grid": "strategies.static",
    }

    def __getattr__(name):  # noqa: ANN001, ANN202
        if name not in _HOMES:
            raise AttributeError(f"module 'strategies' has no attribute '{name}'")
        value = globals()[name] = getattr(import_module(_HOMES[name]), name)
        return value

    def __dir__():  # noqa: ANN202
        return sorted({*globals(), *__all__})
