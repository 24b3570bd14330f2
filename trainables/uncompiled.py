"""Optimizers without PyTorch's compiler: two seconds and 200 MB to import, and nothing that a trial uses."""

import inspect
import sys
from collections.abc import Callable
from typing import Any, TypeVar, cast

import torch
from torch.optim import Optimizer

Kind = TypeVar("Kind", bound=Optimizer)
_METHODS = ("add_param_group", "zero_grad", "state_dict", "load_state_dict")
"""PyTorch marks these as nothing to compile when they are first called, for which it imports its compiler."""
_MARK = "__dynamo_disable"
"""Where it keeps what it calls in their place."""


def uncompiled(kind: type[Kind]) -> type[Kind]:
    """Return a kind of optimizer that does the same without importing the compiler, which each step else does.

    A network that was compiled has imported it already: then ``kind`` itself. Where another version of PyTorch than
    2.11 to 2.14 does it otherwise, only the two seconds come back.

    >>> uncompiled(torch.optim.Adam)([torch.zeros(1)], lr=0.5).defaults["lr"]
    0.5
    """
    if "torch._dynamo" in sys.modules:
        return kind
    for name in _METHODS:
        plain = getattr(getattr(Optimizer, name), "__wrapped__", None)
        if plain is not None and not hasattr(plain, _MARK):
            setattr(plain, _MARK, plain)
    return cast("type[Kind]", _with_plain_step(kind))


def _with_plain_step(kind: type[Optimizer]) -> type[Optimizer]:
    plain: Callable[..., Any] = inspect.unwrap(kind.step)

    @torch.no_grad()
    def step(self: Optimizer, closure: Callable[[], float] | None = None) -> Any:  # noqa: ANN401  (as of PyTorch)
        return plain(self, closure)

    return type(kind.__name__, (kind,), {"step": step})
