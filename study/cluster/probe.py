"""On the head: what the nodes of the cluster say of themselves, for a laptop that asks over ssh."""

from pathlib import Path
from typing import Any

from study import nodes
from study.ray_start import ray_started


def probe(home: Path, asked: int, timeout_s: float) -> dict[str, Any]:
    """Return what every node is, once as many have joined as were asked for, or when the time is over.

    Args:
        home: the study home on this machine; each node tells whether it sees it.
        asked: nodes there should be, the head included.
        timeout_s: most seconds to wait for those that have not joined.

    Raises:
        StudyError: there is no cluster on this machine.
    """
    home.mkdir(parents=True, exist_ok=True)
    with ray_started("auto", home / "probe.log"):
        nodes.wait_for(asked, timeout_s)
        return nodes.as_json(nodes.look(home), asked)
