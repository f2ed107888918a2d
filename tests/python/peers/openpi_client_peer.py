"""Sends the table of observations with openpi-client.

    python openpi_client_peer.py URL API_KEY [NAME ...]

Writes, as one msgpack message on standard output, {"metadata": ..., "replies": {name: reply}}, packed with
openpi-client's own codec. Runs in the peers' environment.
"""

from __future__ import annotations

import sys

from openpi_client import msgpack_numpy  # type: ignore[import-not-found]
from openpi_client.websocket_client_policy import WebsocketClientPolicy  # type: ignore[import-not-found]
from peers.observations import table

if __name__ == "__main__":
    url, api_key, names = sys.argv[1], sys.argv[2], sys.argv[3:]
    policy = WebsocketClientPolicy(host=url, api_key=api_key or None)
    observations = table()
    replies = {name: policy.infer(observations[name]) for name in names or observations}
    answer = {"metadata": policy.get_server_metadata(), "replies": replies}
    sys.stdout.buffer.write(msgpack_numpy.packb(answer))
