"""
openpi - policy client

Asks an openpi policy server for robot actions, in place of `openpi_client.websocket_client_policy`: same
constructor, same methods, and deadlines, reconnects, stats(), close() and `with` besides.

Usage:
    import numpy as np
    from service_clients.openpi.client import WebsocketClientPolicy

    with WebsocketClientPolicy(host="127.0.0.1", port=8000) as policy:
        print(policy.get_server_metadata())
        observation = {
            "observation/image": np.zeros((224, 224, 3), np.uint8),
            "observation/wrist_image": np.zeros((224, 224, 3), np.uint8),
            "observation/state": np.zeros(8, np.float32),
            "prompt": "pick up the cup",
        }
        reply = policy.infer(observation)
        actions = reply["actions"]                          # (horizon, dim), the caller's own
        print(reply.timing)                                 # where the time of this call went
        print(policy.stats().verdict)                       # and where it goes usually

What the keys and shapes must be is the policy's business; its metadata may say. Values that travel: numpy
arrays and scalars of bool, integers, floats, fixed-width text, and dict, list, tuple, str, bytes, bool, int,
float, None. Arrays are sent from where they lie, whatever their strides.

Everything raised is a RuntimeError: no connection (also a ConnectionError), a deadline that passed (also a
TimeoutError), credentials refused (also a PermissionError), an observation that does not travel (also a
ValueError, naming the key), and "Error in inference server:" with the server's traceback. The client stays
usable after each of them: call infer() again, with a new observation. The reply to a call that failed is discarded
when it comes, never returned to a later call; a lost connection is opened again by the next call.

Servers that speak openpi's protocol with other words (RoboArena, vllm-omni, webpolicy) are recognised, or named
with dialect=.
"""

from __future__ import annotations

from typing import Sequence

from service_clients._axon import PolicyClient


class WebsocketClientPolicy(PolicyClient):
    """A session with an openpi policy server. Threads may share it: they take turns."""

    def __init__(
        self,
        host: str = "0.0.0.0",
        port: int | None = None,
        api_key: str | None = None,
        *,
        hosts: Sequence[str] | None = None,
        dialect: str = "auto",
        connect_timeout: float | None = 60.0,
        infer_timeout: float | None = 60.0,
        grace: float | None = None,
        reconnect: bool = True,
        resend: bool = False,
        metadata_may_change: bool = False,
        compress: str | None = None,
        record: str | None = None,
        ca_file: str | None = None,
    ) -> None:
        """Connects, waiting for a server that is not up yet, and receives its metadata.

        Args:
            host: name or address ("0.0.0.0" is this machine), or a whole "ws://" or "wss://" URL.
            port: default that of the URL, or 8000 for a bare host.
            api_key: sent as "Authorization: Api-Key <api_key>".
            hosts: servers of the same policy, as `host` or "host:port", tried in order; `host`, where it is given
                too, comes first. When one is lost, the next call goes on to one that is there.
            dialect: "openpi", "webpolicy", "roboarena", "vllm-omni"; "auto" finds out.
            connect_timeout: seconds until the metadata is here; None: 10; math.inf waits for ever.
            infer_timeout: seconds for one call of infer(), a reconnect in it included; None: 60; likewise.
            grace: seconds after its deadline that a late reply is waited for, by the calls that follow, before the
                connection is replaced; None: 10.
            reconnect: False: a lost connection stays lost.
            resend: send an observation once more whose connection broke before its reply began; the server may
                then act on it twice.
            metadata_may_change: after a reconnect take a server that says other things of itself than before.
            compress: "jpeg" (lossy) or "png": how uint8 images (height, width, 3) are sent to a server that says that it
                decodes this, as axon's does; to any other they go as they are.
            record: every message is written to this file, for `python -m service_clients.openpi.replay`; one that
                exists is replaced.
            ca_file: PEM of the authorities to trust for wss; default the system's.

        Raises:
            RuntimeError: see the module's docstring.
        """
        super().__init__(
            host,
            port,
            hosts,
            api_key=api_key,
            dialect=dialect,
            connect_timeout=connect_timeout,
            infer_timeout=infer_timeout,
            grace=grace,
            reconnect=reconnect,
            resend=resend,
            metadata_may_change=metadata_may_change,
            compress=compress,
            record=record,
            ca_file=ca_file,
        )
