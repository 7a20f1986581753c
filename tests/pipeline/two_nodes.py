"""A Ray cluster on this machine, whose nodes can be killed and replaced."""

from __future__ import annotations

from typing import Any, Final

STORE_BYTES: Final = 80 << 20  # /dev/shm may be small


class TwoNodes:
    """A cluster of a head without processors, and two nodes with one each, as long as both live.

    The driver is connected to the head, for it must not lose its own node.
    """

    def __init__(self, cluster: Any) -> None:
        self._cluster = cluster

    def mend(self) -> None:
        """Start as many nodes as are missing, and wait until it is seen which are gone."""
        while len(self._cluster.worker_nodes) < 2:
            self.add()
        self._cluster.wait_for_nodes()

    def add(self) -> None:
        """Start a node."""
        self._cluster.add_node(num_cpus=1, object_store_memory=STORE_BYTES)

    def kill(self) -> None:
        """Kill a node and all that runs on it."""
        (node, *_) = self._cluster.worker_nodes
        self._cluster.remove_node(node, allow_graceful=False)
