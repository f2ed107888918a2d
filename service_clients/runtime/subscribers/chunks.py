"""Where subscribers learn about chunks: from the policy of the agent, when it counts them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from service_clients.runtime.runtime import Runtime

__all__ = ["chunk_counters"]


def chunk_counters(runtime: Runtime) -> Any:
    """The policy of a runtime's PolicyAgent, where its stats() count `chunks`, as a ChunkEngine's do; else None."""
    policy = getattr(runtime.agent, "policy", None)
    stats = getattr(policy, "stats", None)
    return policy if stats is not None and hasattr(stats(), "chunks") else None
