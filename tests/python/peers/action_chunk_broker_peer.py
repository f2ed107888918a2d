"""openpi's own ActionChunkBroker over openpi's own client: ``python action_chunk_broker_peer.py URL HORIZON CALLS``.

Prints the msgpack list of the actions that it handed out, call n observing {"at": 100 n}. Runs in the peers'
environment.
"""

from __future__ import annotations

import sys

from openpi_client import msgpack_numpy  # type: ignore[import-not-found]
from openpi_client.action_chunk_broker import ActionChunkBroker  # type: ignore[import-not-found]
from openpi_client.websocket_client_policy import WebsocketClientPolicy  # type: ignore[import-not-found]

url, horizon, calls = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
host, _, port = url[len("ws://") :].partition(":")
broker = ActionChunkBroker(WebsocketClientPolicy(host, int(port)), horizon)
given = [broker.infer({"at": 100.0 * call})["actions"] for call in range(calls)]
sys.stdout.buffer.write(msgpack_numpy.packb(given))
