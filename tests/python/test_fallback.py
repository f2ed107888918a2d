"""Services without the native core: what is wrong is found as it is with the core, before anything is sent."""

from __future__ import annotations

import pytest
from fastapi import FastAPI, Response
from support import RunScript, Serve

WITHOUT_CORE = """
import sys, warnings
sys.modules["service_clients._axon._native"] = None  # what cannot be loaded
warnings.simplefilter("ignore")
import numpy as np
from service_clients.yolo_detection.client import YOLOClient
host, call = sys.argv[1:]
client = YOLOClient(host, timeout=20)
try:
    print(eval(call))
except RuntimeError as error:
    print(type(error).__name__, error)
"""
JPEG = r'b"\xff\xd8\xff\xe0 a picture"'


@pytest.fixture(scope="module")
def host(serve: Serve) -> str:
    app = FastAPI()
    app.get("/health")(lambda: {"status": "ok"})
    app.post("/detect")(lambda: {"detections": []})
    app.get("/page/health")(lambda: Response("<html>", media_type="text/html"))
    app.post("/page/detect")(lambda: {"detections": {"count": 1}})
    return serve(app)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (f"client.detect({JPEG})", "[]"),
        ("client.detect(np.zeros((4, 6, 3), np.uint8))", "[]"),
        ("client.health()", "{'status': 'ok'}"),
        ("client.detect(None)", "AxonTypeError image: NoneType is no picture"),
        ("client.detect(b'')", "AxonValueError image: not a picture: begins with nothing"),
        ("client.detect(b'hello')", "AxonValueError image: not a picture: begins with 68 65 6c 6c 6f"),
        ("client.detect('nope.jpg')", "AxonFileNotFound image: 'nope.jpg' is neither a file nor base64"),
        ("client.detect('aGVsbG8gd29ybGQ=')", "AxonFileNotFound image: 'aGVsbG8gd29ybGQ=' is neither"),
        ("client.detect(np.zeros((4, 6), object))", "AxonValueError image: an array (4, 6) of object"),
        (f"client.detect({JPEG}, color='q')", "AxonValueError color is 'q'"),
        (f"client.detect({JPEG}, conf=float('nan'))", "AxonValueError /detect: body: "),
        ("YOLOClient(5)", "AxonTypeError url is 5, not a str"),
        ("YOLOClient('http://a b')", "AxonValueError url 'http://a b': a space"),
        ("YOLOClient(host, timeout=float('nan'))", "AxonValueError timeout is nan"),
        ("YOLOClient(host, timeout=True)", "AxonTypeError timeout is True"),
        ("YOLOClient(host + '/page').health()", "AxonProtocolError reply of "),
        (f"YOLOClient(host + '/page').detect({JPEG})", "AxonProtocolError reply of "),
    ],
)
def test_what_a_client_without_the_core_says(call: str, said: str, run_script: RunScript, host: str) -> None:
    assert run_script(WITHOUT_CORE, host, call).stdout.startswith(said)


WITHOUT_SESSIONS = """
import sys
sys.modules["service_clients._axon._native"] = None
from service_clients.openpi.client import WebsocketClientPolicy
from service_clients.webpolicy.client import Client
for client in (WebsocketClientPolicy, Client):
    try:
        client("127.0.0.1", 8000)
    except RuntimeError as error:
        print(error)
"""


def test_a_policy_without_the_core_says_what_is_missing(run_script: RunScript) -> None:
    said = "policies need axon's native core, which cannot be loaded here: pip install the wheel of axon, or its sources"
    assert run_script(WITHOUT_SESSIONS).stdout.splitlines() == [said, said]
