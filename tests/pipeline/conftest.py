"""What several parts share: a Ray cluster of two nodes on this machine, and free ports."""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from two_nodes import STORE_BYTES, TwoNodes

HERE = Path(__file__).parent
IMPORTED = (HERE, HERE / "study", HERE.parents[1])  # a worker finds the tests' modules there


@pytest.fixture(scope="module")
def cluster() -> Iterator[TwoNodes]:
    """A connected cluster, whose nodes come and go."""
    pytest.importorskip("ray", reason="the extra 'ray' is not installed")
    from ray._raylet import Config
    from ray.cluster_utils import Cluster

    from pipeline.study.ray_cluster import connect

    # Ray read the mode when it was imported, and keeps the token as long as this process lives.
    os.environ["RAY_AUTH_MODE"] = "token"
    os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    Config.initialize("")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(map(str, IMPORTED)))
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        quick = {"health_check_period_ms": 500, "health_check_failure_threshold": 2}
        found = Cluster(
            initialize_head=True,
            head_node_args={
                "num_cpus": 0,
                "object_store_memory": STORE_BYTES,
                "include_dashboard": False,
                "_system_config": quick,
            },
        )
        try:
            with connect(found.address, cpus=0):
                yield TwoNodes(found)
        finally:
            found.shutdown()


@pytest.fixture
def nodes(cluster: TwoNodes) -> TwoNodes:
    """The cluster with both of its nodes."""
    cluster.mend()
    return cluster


@pytest.fixture(scope="session")
def free_port() -> Callable[[], int]:
    """Finds a port of this machine that nobody listens on."""

    def find() -> int:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
            return port

    return find
