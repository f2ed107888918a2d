"""
webpolicy - policy client

Asks a webpolicy server for robot actions, in place of `webpolicy.client`: same constructor, same methods, and
deadlines, reconnects, reset() with a payload, stats(), close() and `with` besides.

Usage:
    import numpy as np
    from service_clients.webpolicy.client import Client

    with Client(host="127.0.0.1", port=8100) as policy:
        print(policy.get_server_metadata())
        policy.reset({"task": "pick up the cup"})           # an episode begins; the payload may be left out
        observation = {
            "image": np.zeros((224, 224, 3), np.uint8),
            "state": np.zeros(8, np.float32),
        }
        reply = policy.step(observation)
        actions = reply["actions"]                          # what the policy calls them; the caller's own
        print(reply.timing)                                 # where the time of this call went
        print(policy.stats().verdict)                       # and where it goes usually

What the keys and shapes must be is the policy's business; its metadata may say. Values that travel: numpy
arrays and scalars of bool, integers, floats, fixed-width text, and dict, list, tuple, str, bytes, bool, int,
float, None. Arrays are sent from where they lie, whatever their strides.

Everything raised is a RuntimeError: no connection (also a ConnectionError), a deadline that passed (also a
TimeoutError), credentials refused (also a PermissionError), an observation that does not travel (also a
ValueError, naming the key), and "Error in inference server:" with the server's traceback. The client stays
usable after each of them: call step() again, with a new observation. The reply to a call that failed is discarded
when it comes, never returned to a later call; a lost connection is opened again by the next call, and the last
reset() said again first.

Replies of old servers, the bare actions, are understood too. Servers that know neither reset nor step take
dialect="openpi".
"""

from __future__ import annotations

from typing import Sequence

from service_clients._axon import PolicyClient

_PORT = 8000


class Client(PolicyClient):
    """A session with a webpolicy server. Threads may share it: they take turns."""

    def __init__(
        self,
        host: str = "0.0.0.0",
        port: int = _PORT,
        *,
        api_key: str | None = None,
        hosts: Sequence[str] | None = None,
        dialect: str = "webpolicy",
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
            host: name or address ("0.0.0.0" is this machine), "host:port", or a whole "ws://" or "wss://" URL.
            port: of a bare host; a URL says its own.
            api_key: sent as "Authorization: Api-Key <api_key>".
            hosts: servers of the same policy, as `host` or "host:port", tried in order; `host`, where it is given
                too, comes first. When one is lost, the next call goes on to one that is there.
            dialect: "webpolicy", "openpi", "roboarena", "vllm-omni"; "auto" finds out.
            connect_timeout: seconds until the metadata is here; None: 10; math.inf waits for ever.
            infer_timeout: seconds for one call of step(), a reconnect in it included; None: 60; likewise.
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
            usual_port=_PORT,
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
