"""Weights trained elsewhere: loading them strictly, with every misfit named."""

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from trainables.errors import NetworkError


def load_state(module: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Load ``state`` strictly; only the counters that older versions of batch normalisation lack may be missing.

    Raises:
        NetworkError: keys are missing or left over, or a shape differs.
    """
    wanted = module.state_dict()
    missing = [key for key in wanted if key not in state and not key.endswith("num_batches_tracked")]
    unexpected = [key for key in state if key not in wanted]
    differing = [
        f"{key} {tuple(state[key].shape)} instead of {tuple(value.shape)}"
        for key, value in wanted.items()
        if key in state and state[key].shape != value.shape
    ]
    problems = {"missing": missing, "unexpected": unexpected, "of another shape": differing}
    found = [f"{kind}: {shorten(keys)}" for kind, keys in problems.items() if keys]
    if found:
        raise NetworkError(f"{source} do not fit: {'; '.join(found)}")
    module.load_state_dict(dict(state), strict=False)


def shorten(keys: Sequence[str], limit: int = 3) -> str:
    """Return the first few keys and how many more there are.

    >>> shorten(["a", "b", "c", "d"])
    'a, b, c and 1 more'
    """
    more = f" and {len(keys) - limit} more" if len(keys) > limit else ""
    return ", ".join(keys[:limit]) + more
