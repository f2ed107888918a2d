"""YOLOClient against a FastAPI service that keeps what it was sent: every form of picture, every error, every host."""

from __future__ import annotations

import base64
import io
import json
import shutil
import socket
from pathlib import Path
from typing import Any, Callable

import cv2
import numpy as np
import PIL.Image
import pytest
from fastapi import FastAPI, HTTPException, Request, Response
from pydantic import BaseModel
from support import RunScript, Serve

import service_clients.yolo_detection.client
from service_clients._axon import AxonProtocolError, AxonServerError, AxonTypeError, AxonValueError, Service
from service_clients.yolo_detection.client import YOLOClient

RGB = np.random.default_rng(7).integers(0, 256, (40, 60, 3), dtype=np.uint8)
BGR = RGB[:, :, ::-1]
JPEG = cv2.imencode(".jpg", BGR)[1].tobytes()
PNG = cv2.imencode(".png", BGR)[1].tobytes()
TEXT = base64.b64encode(JPEG).decode()
FOUND = {
    "bbox": {"x1": 1.0, "y1": 2.0, "x2": 3.5, "y2": 4.0},
    "confidence": 0.5,
    "class_id": 0,
    "class_name": "täst",
}


class DetectRequest(BaseModel):
    """As the service's own: what is asked of it, and what it takes for granted."""

    image: str
    model: str = "yolov8n"
    conf: float = 0.25
    return_masks: bool = False
    mask_format: str = "polygon"


def decoded(text: str) -> np.ndarray[Any, Any]:
    """The pixels of a base64 picture, as OpenCV has them."""
    data = np.frombuffer(base64.b64decode(text, validate=True), np.uint8)
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_UNCHANGED))


class Recorder:
    """The service, and its last request."""

    def __init__(self) -> None:
        self.app = FastAPI()
        self.requests = 0
        self.body: dict[str, Any] = {}
        self.headers: dict[str, str] = {}
        self.app.get("/health")(lambda: {"status": "ok"})
        self.app.post("/detect")(self.detect)
        self.app.post("/echo")(self.echo)
        self.app.get("/raw")(self.raw)
        self.app.get("/page/health")(lambda: Response("<html>", media_type="text/html"))
        self.app.post("/page/detect")(lambda: {"detections": {"count": 1}})

    async def detect(self, request: Request, wanted: DetectRequest) -> Any:
        self.requests += 1
        self.body = await request.json()
        self.headers = dict(request.headers)
        if wanted.model == "busted":
            raise HTTPException(500, "the GPU is on fire")
        return {
            "detections": [{**FOUND, "mask": None}],
            "model": wanted.model,
            "has_masks": wanted.return_masks,
        }

    async def echo(self, request: Request) -> Response:
        return Response(await request.body(), media_type="application/json")

    def raw(
        self, hex: str = "", times: int = 1, kind: str = "application/json", status: int = 200
    ) -> Response:
        return Response(bytes.fromhex(hex) * times, status, media_type=kind)

    @property
    def pixels(self) -> np.ndarray[Any, Any]:
        """The picture that came, decoded, as OpenCV has it."""
        return decoded(self.body["image"])


@pytest.fixture(scope="module")
def service() -> Recorder:
    return Recorder()


@pytest.fixture(scope="module")
def host(service: Recorder, serve: Serve) -> str:
    return serve(service.app)


@pytest.fixture
def client(host: str) -> Any:
    with YOLOClient(host, timeout=30.0) as client:
        yield client


# ---- the calls -----------------------------------------------------------------------------------


def test_detect_sends_what_the_service_expects_and_gives_the_list(
    client: YOLOClient, service: Recorder
) -> None:
    assert client.detect(JPEG) == [{**FOUND, "mask": None}]
    assert service.body == {"image": TEXT, "model": "yolov8n", "conf": 0.25}
    assert service.headers["content-type"] == "application/json"


def test_detect_full_sends_every_option_and_gives_the_reply(client: YOLOClient, service: Recorder) -> None:
    reply = client.detect_full(JPEG, "yolov8s-seg", 0.5, True, "rle")
    assert reply == {"detections": [{**FOUND, "mask": None}], "model": "yolov8s-seg", "has_masks": True}
    assert service.body == {
        "image": TEXT,
        "model": "yolov8s-seg",
        "conf": 0.5,
        "return_masks": True,
        "mask_format": "rle",
    }


def test_a_confidence_of_zero_is_sent_as_zero(client: YOLOClient, service: Recorder) -> None:
    client.detect(JPEG, conf=0)
    assert service.body["conf"] == 0


def test_health_is_what_the_service_says(client: YOLOClient) -> None:
    assert client.health() == {"status": "ok"}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"conf": -0.1}, r"conf is -0\.1, less than 0"),
        ({"conf": float("nan")}, "conf is nan, not between 0 and 1"),
        ({"conf": 1.5}, r"conf is 1\.5, not between 0 and 1"),
        ({"conf": "high"}, "conf is 'high', not a number"),
        ({"model": 8}, "model is 8, not a str"),
        ({"model": "a\0b"}, "model is .* zero character"),
        ({"mask_format": "svg"}, 'mask_format "svg" is none of: polygon, rle, bitmap'),
        ({"return_masks": "yes"}, "return_masks is 'yes'"),
        ({"color": "hsv"}, 'color is \'hsv\', not "rgb" or "bgr"'),
    ],
)
def test_an_option_that_cannot_be_is_refused_unsent(
    client: YOLOClient, service: Recorder, options: dict[str, Any], said: str
) -> None:
    before = service.requests
    with pytest.raises(ValueError, match=said) as caught:
        client.detect_full(JPEG, **options)
    assert isinstance(caught.value, RuntimeError)
    assert service.requests == before


# ---- pictures ------------------------------------------------------------------------------------


class Quacks:
    """A picture class that is no PIL, with what PIL's have."""

    mode = "RGB"
    size = (60, 40)

    def tobytes(self) -> bytes:
        return RGB.tobytes()


class Tensor:
    def __array__(self, *_: Any, **__: Any) -> Any:
        return BGR


MaskedArray: Any = np.ma.MaskedArray  # numpy has no types for it

READ_ONLY = BGR.copy()
READ_ONLY.flags.writeable = False

SAME_PICTURE: dict[str, Any] = {
    "PNG bytes": PNG,
    "bytearray": bytearray(PNG),
    "memoryview": memoryview(PNG),
    "memoryview with gaps": memoryview(bytes(byte for byte in PNG for _ in range(2)))[::2],
    "base64": base64.b64encode(PNG).decode(),
    "base64 in lines": base64.encodebytes(PNG).decode(),
    "data URI": "data:image/png;base64," + base64.b64encode(PNG).decode(),
    "array": BGR.copy(),
    "array with negative strides": BGR,
    "read-only array": READ_ONLY,
    "Fortran array": np.asfortranarray(BGR),
    "subclass of array": BGR.view(np.recarray),
    "what numpy sees as an array": Tensor(),
    "PIL image": PIL.Image.fromarray(RGB),
    "PIL image from a file": PIL.Image.open(io.BytesIO(PNG)),
    "what quacks like a PIL image": Quacks(),
}


@pytest.mark.parametrize("form", SAME_PICTURE)
def test_every_form_of_a_picture_arrives_as_that_picture(
    client: YOLOClient, service: Recorder, form: str
) -> None:
    client.detect(SAME_PICTURE[form])
    assert np.array_equal(service.pixels, BGR)


def test_paths_are_read_whatever_they_are_called(
    client: YOLOClient, service: Recorder, tmp_path: Path
) -> None:
    path = tmp_path / "bild ä.txt"
    path.write_bytes(PNG)
    for form in (path, str(path)):
        client.detect(form)
        assert base64.b64decode(service.body["image"]) == PNG


def test_rgb_arrays_are_turned_and_files_are_not(client: YOLOClient, service: Recorder) -> None:
    client.detect(RGB, color="rgb")
    assert np.array_equal(service.pixels, BGR)
    client.detect(PNG, color="rgb")
    assert np.array_equal(service.pixels, BGR)


DEPTH = np.arange(12, dtype=np.uint16).reshape(3, 4) * 5000


@pytest.mark.parametrize(
    ("image", "arrives_as"),
    [
        (BGR[:, :, 0], BGR[:, :, 0]),
        (BGR[:, :, :1], BGR[:, :, 0]),
        (DEPTH, DEPTH),
        (DEPTH.astype(">u2"), DEPTH),
        (PIL.Image.fromarray(RGB[:, :, 0]), RGB[:, :, 0]),
        (PIL.Image.fromarray(DEPTH), DEPTH),
        (PIL.Image.fromarray(RGB).convert("P", palette=PIL.Image.Palette.ADAPTIVE), None),
        (PIL.Image.fromarray(RGB).convert("CMYK"), None),
    ],
    ids=["grey", "grey in three", "depth", "big-endian", "PIL L", "PIL I;16", "PIL P", "PIL CMYK"],
)
def test_other_pixels_arrive_too(client: YOLOClient, service: Recorder, image: Any, arrives_as: Any) -> None:
    client.detect(image)
    if arrives_as is None:  # through RGB, by PIL's own conversion
        arrives_as = np.asarray(image.convert("RGB"))[:, :, ::-1]
    assert np.array_equal(service.pixels, arrives_as)
    assert service.pixels.dtype == arrives_as.dtype


@pytest.mark.parametrize(
    ("image", "kind", "said"),
    [
        (None, TypeError, "image: NoneType is no picture; give file bytes, a path"),
        (7, TypeError, "image: int is no picture"),
        ([[1, 2]], TypeError, "image: list is no picture"),
        (b"", ValueError, "image: no bytes"),
        ("", ValueError, "image: "),
        ("no/such/photo.jpg", FileNotFoundError, 'image: "no/such/photo.jpg" is no file'),
        ("hello world", ValueError, 'image: "hello world" is no file .* no base64'),
        (base64.b64encode(b"no picture").decode(), ValueError, "image: "),
        ("data:image/png,abc", ValueError, "image: .*base64"),
        ("/dev", OSError, 'image "/dev": is a directory'),
        (Path("/no/such/photo.jpg"), FileNotFoundError, 'image "/no/such/photo.jpg": No such file'),
        (Path("/dev"), OSError, 'image "/dev": is a directory'),
        (Path("/dev/null"), OSError, 'image "/dev/null": is not a regular file'),
        (Path("a\0b"), ValueError, "image: path holds a zero character"),
        ("a\0b", ValueError, "image: "),
        (np.zeros((4, 5, 2), np.uint8), ValueError, r"image: shape \(4, 5, 2\)"),
        (
            np.zeros((3, 40, 50), np.uint8),
            ValueError,
            r"image: shape \(3, 40, 50\): the channels must come last",
        ),
        (np.zeros(5, np.uint8), ValueError, r"image: shape \(5,\)"),
        (np.zeros((0, 5), np.uint8), ValueError, r"image: shape \(0, 5\): there are no pixels"),
        (np.zeros((4, 5), np.int64), ValueError, "image: dtype int64"),
        (np.zeros((4, 5), bool), ValueError, "image: dtype bool"),
        (np.zeros((4, 5), object), TypeError, "image: object dtype"),
        (np.zeros((4, 5, 3), np.float32), ValueError, r"image: shape \(4, 5, 3\) of float32"),
        (MaskedArray(RGB, RGB < 9), ValueError, "image: a masked array"),
    ],
    ids=lambda value: repr(value)[:30] if not isinstance(value, (type, str)) else None,
)
def test_what_is_no_picture_is_refused_unsent(
    client: YOLOClient, service: Recorder, image: Any, kind: type[Exception], said: str
) -> None:
    before = service.requests
    with pytest.raises(kind, match=said) as caught:
        client.detect(image)
    assert isinstance(caught.value, RuntimeError)
    assert service.requests == before


# ---- errors --------------------------------------------------------------------------------------


def test_a_validation_error_names_the_field(client: YOLOClient) -> None:
    with pytest.raises(
        RuntimeError, match=r"^/detect failed \(HTTP 422\): body\.image: Field required"
    ) as caught:
        client._post("/detect", {"model": "x"})
    assert isinstance(caught.value, AxonServerError)
    assert caught.value.http_status == 422


def test_a_service_that_fails_says_why(client: YOLOClient) -> None:
    with pytest.raises(RuntimeError, match=r"^/detect failed \(HTTP 500\): the GPU is on fire$"):
        client.detect(JPEG, model="busted")


def test_refused_credentials_are_a_permission_error(client: YOLOClient) -> None:
    with pytest.raises(PermissionError, match=r"HTTP 401\): who\?"):
        client._get(f"/raw?status=401&hex={b'who?'.hex()}&kind=text/plain")


def test_a_service_that_is_not_there_is_unavailable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    with pytest.raises(ConnectionError, match=f"^Service unavailable at {url}: ") as caught:
        YOLOClient(url).health()
    assert isinstance(caught.value, RuntimeError)


def test_a_service_that_says_nothing_is_a_timeout(silent_server: str) -> None:
    client = YOLOClient(f"http://{silent_server}", timeout=0.3)
    with pytest.raises(TimeoutError, match=silent_server):
        client.detect(JPEG)


def test_a_client_recovers_from_an_error(client: YOLOClient) -> None:
    with pytest.raises(RuntimeError, match="422"):
        client._post("/detect", {})
    assert client.detect(JPEG)


def test_a_closed_client_says_so(host: str) -> None:
    client = YOLOClient(host)
    client.health()
    client.close()
    client.close()
    with pytest.raises(ValueError, match="is closed"):
        client.health()


@pytest.mark.parametrize("url", ["", "ftp://127.0.0.1", "127.0.0.1 :80", "http://", "http://a\0b", 5])
def test_a_host_that_cannot_be_is_refused(url: Any) -> None:
    with pytest.raises(ValueError, match=r"url|URL|http"):
        Service(url)
    if url != "":  # which asks for the usual host
        with pytest.raises(ValueError, match="url"):
            YOLOClient(url)


def test_a_host_that_is_refused_leaves_the_client_as_it_was(client: YOLOClient, host: str) -> None:
    with pytest.raises(ValueError, match="url is 5, not a str"):
        client.host = 5  # type: ignore[assignment]
    assert client.host == host
    assert client.health() == {"status": "ok"}


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), True, "60"])
def test_a_timeout_that_cannot_be_is_refused(timeout: Any) -> None:
    with pytest.raises(ValueError, match="timeout is"):
        YOLOClient("http://127.0.0.1:1", timeout=timeout)


# ---- replies -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "kind", "reply"),
    [
        (b"", "application/json", None),
        (b"abc", "text/plain", b"abc"),
        ('[1, 2.5, "ä", null, true]'.encode(), "application/json", [1, 2.5, "ä", None, True]),
        (b"NaN", "application/json", pytest.approx(float("nan"), nan_ok=True)),
    ],
)
def test_replies_come_as_what_they_are(client: YOLOClient, body: bytes, kind: str, reply: Any) -> None:
    assert client._get(f"/raw?hex={body.hex()}&kind={kind}") == reply


@pytest.mark.parametrize(("body", "times"), [(b"{", 1), (b"nothing", 1), (b'"\xff"', 1), (b"[", 100_000)])
def test_a_reply_that_is_no_json_is_the_services_fault(
    client: YOLOClient, host: str, body: bytes, times: int
) -> None:
    with pytest.raises(RuntimeError, match=f"^reply of {host}: not JSON"):
        client._get(f"/raw?hex={body.hex()}&times={times}")


def test_what_answers_health_with_no_json_object_is_no_service(host: str) -> None:
    said = f"^reply of {host}/page/health is b'<html>', not a JSON object"
    with YOLOClient(f"{host}/page") as client, pytest.raises(AxonProtocolError, match=said):
        client.health()


def test_detections_that_are_no_list_are_the_services_fault(host: str) -> None:
    said = f'^reply of {host}/page/detect: "detections" is no list'
    with YOLOClient(f"{host}/page") as client, pytest.raises(AxonProtocolError, match=said):
        client.detect(JPEG)


# ---- for those who extend it ---------------------------------------------------------------------


def test_post_and_get_carry_json_both_ways(client: YOLOClient) -> None:
    body = {"a": [1, 2.5, None, True, "ä\0"], "b": {"c": {}}, "d": (1, 2)}
    assert client._post("/echo", body) == json.loads(json.dumps(body))


def test_bytes_in_a_body_become_base64(client: YOLOClient) -> None:
    assert client._post("/echo", {"image": JPEG, "n": [np.float32(0.5), 3]}) == {"image": TEXT, "n": [0.5, 3]}


def test_pictures_travel_beside_a_body(host: str) -> None:
    with Service(host) as service:
        sent = service.post("/echo", {"conf": 0.5, "tags": ["a"]}, images={"left": JPEG, "right": BGR})
    assert sent["conf"] == 0.5
    assert sent["left"] == TEXT
    assert np.array_equal(decoded(sent["right"]), BGR)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"a": {"b": float("nan")}}, r'/echo: body "a\.b": '),
        ({"a": [object()]}, r'/echo: body "a\[0\]": object does not travel'),
        ({"a": {1, 2}}, '/echo: body "a": set'),
    ],
)
def test_a_body_that_json_cannot_carry_names_the_place(client: YOLOClient, body: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        client._post("/echo", body)


def test_a_picture_that_is_none_is_named_by_its_member(host: str) -> None:
    with Service(host) as service:
        with pytest.raises(AxonTypeError, match=r"^left: int is no picture"):
            service.post("/echo", {}, images={"left": 5})
        with pytest.raises(AxonTypeError, match=r"/echo: body is list, not a dict"):
            service.post("/echo", [], images={"left": JPEG})
        with pytest.raises(AxonValueError, match=r"^left: shape \(2, 2, 2\)"):
            service.post("/echo", {}, images={"left": np.zeros((2, 2, 2), np.uint8)})


def test_encode_image_gives_base64_of_a_file(client: YOLOClient) -> None:
    assert client._encode_image(JPEG) == TEXT
    assert np.array_equal(decoded(client._encode_image(RGB, "rgb")), BGR)


def test_a_client_can_be_extended_as_the_template_is(host: str) -> None:
    class MyClient(YOLOClient):
        def count(self, image: Any) -> int:
            payload = {"image": self._encode_image(image)}
            return len(self._post("/detect", payload)["detections"])

    assert MyClient(host).count(JPEG) == 1


# ---- where the service is ------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def _no_host_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AXON_HOST_YOLO_DETECTION", raising=False)


def test_the_host_is_the_argument_without_its_slash() -> None:
    assert YOLOClient("http://10.1.2.3:80/prefix/").host == "http://10.1.2.3:80/prefix"


def test_the_environment_names_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AXON_HOST_YOLO_DETECTION", "http://10.1.2.3:4567/")
    assert YOLOClient().host == "http://10.1.2.3:4567"
    assert YOLOClient("http://10.9.9.9:1").host == "http://10.9.9.9:1"
    monkeypatch.setenv("AXON_HOST_YOLO_DETECTION", "")
    assert YOLOClient().host == "http://127.0.0.1:8000"


@pytest.fixture
def synced(tmp_path: Path, run_script: RunScript) -> Callable[[str | None], str]:
    """A robot's synced folder: client.py, and service.json with the given text; the host that comes of it."""
    folder = tmp_path / "service_clients" / "yolo_detection"
    folder.mkdir(parents=True)
    shutil.copy(service_clients.yolo_detection.client.__file__, folder)

    def host(service_json: str | None) -> str:
        if service_json is not None:
            (folder / "service.json").write_text(service_json, encoding="utf-8")
        script = f"""
import sys
sys.path.insert(0, {str(tmp_path)!r})
from service_clients.yolo_detection import client
assert client.__file__ == {str(folder / "client.py")!r}, client.__file__
print(client.YOLOClient().host)
"""
        return run_script(script).stdout.strip()

    return host


def test_the_service_json_beside_the_client_names_the_host(synced: Callable[[str | None], str]) -> None:
    assert synced('{"host": "http://10.1.2.3:4567/"}') == "http://10.1.2.3:4567"
    assert synced('{"host": ""}') == "http://127.0.0.1:8000"
    assert synced("{}") == "http://127.0.0.1:8000"


@pytest.mark.parametrize("text", ["{", '{"host": 5}'])
def test_a_broken_service_json_is_named(synced: Callable[[str | None], str], text: str) -> None:
    with pytest.raises(
        AssertionError, match=r"AxonValueError: .*service\.json: |AxonTypeError: .*service\.json: host is 5"
    ):
        synced(text)


def test_without_a_service_json_the_host_is_the_headers(synced: Callable[[str | None], str]) -> None:
    assert synced(None) == "http://127.0.0.1:8000"
