"""Our YOLO client against a FastAPI service with the contract's pydantic models, which really detects."""

from __future__ import annotations

import base64
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Iterator

import cv2
import numpy as np
import pytest
from peers import harness
from support import Serve

from service_clients._axon import Service
from service_clients.demo import tabletop
from service_clients.demo.checks import overlap_of
from service_clients.demo.detection_server import create_app
from service_clients.demo.detector import BlockDetector, Found
from service_clients.yolo_detection.client import YOLOClient

if TYPE_CHECKING:
    from service_clients.demo.detector import Pixels

REPLY_FIELDS = ["detections", "model", "device", "inference_ms", "image_width", "image_height", "has_masks"]


def take_picture() -> tuple[bytes, dict[str, float]]:
    """The tabletop as a JPEG of 512x512 pixels, and the box that its red block takes up there."""
    world = tabletop.Tabletop(image_size=(512, 512))
    world.load_task("place_red_block")
    world.reset()
    rgb, _ = world.render()
    jpeg = cv2.imencode(".jpg", rgb[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 92])[1].tobytes()
    return jpeg, tabletop.box_of(world, "red")


def decode_with_opencv(data: bytes) -> Pixels:
    """What axon encoded, read by another's decoder."""
    bgr = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if data else None
    if bgr is None:
        raise ValueError("OpenCV knows no such picture")
    return np.asarray(bgr, np.uint8)


JPEG, RED = take_picture()
BGR = harness.decode(JPEG)


class Recorder:
    """Detects with the real detector and keeps the pixels that arrived."""

    def __init__(self) -> None:
        self.detector = BlockDetector()
        self.seen: list[Pixels] = []

    def detect(self, bgr: Pixels, conf: float) -> list[Found]:
        self.seen.append(bgr)
        return self.detector.detect(bgr, conf)


class Moody:
    """Fails or dawdles, by the confidence that is asked for."""

    def detect(self, bgr: Pixels, conf: float) -> list[Found]:
        if conf == 0.5:
            raise MemoryError("the GPU is full")
        if conf == 0.75:
            time.sleep(2.0)
        return []


RECORDER = Recorder()


@pytest.fixture(scope="module")
def host(serve: Serve) -> str:
    return serve(create_app(RECORDER, decode_with_opencv))


@pytest.fixture
def client(host: str) -> Iterator[YOLOClient]:
    with YOLOClient(host=host, timeout=30.0) as client:
        yield client


@pytest.fixture(scope="module")
def moody(serve: Serve) -> str:
    return serve(create_app(Moody(), decode_with_opencv))


def test_health_says_what_really_detects(client: YOLOClient) -> None:
    health = client.health()
    assert list(health) == [
        "status",
        "device",
        "gpu_name",
        "gpu_memory_mb",
        "loaded_models",
        "available_models",
    ]
    assert health["status"] == "ok"
    assert "coloured-blocks" in health["device"]
    assert health["gpu_name"] is None


def test_the_red_block_is_found_where_it_is(client: YOLOClient) -> None:
    reply = client.detect_full(JPEG, conf=0.4)
    assert list(reply) == REPLY_FIELDS
    assert (reply["image_width"], reply["image_height"], reply["has_masks"]) == (512, 512, False)
    names = [found["class_name"] for found in reply["detections"]]
    assert sorted(names) == ["blue block", "goal", "green block", "red block"]
    found = reply["detections"][names.index("red block")]
    assert list(found) == ["bbox", "confidence", "class_id", "class_name", "mask"]
    assert overlap_of(found["bbox"], RED) > 0.85
    assert 0.4 < found["confidence"] < 1.0
    assert (found["class_id"], found["mask"]) == (0, None)


def test_detect_gives_the_detections_alone(client: YOLOClient) -> None:
    assert client.detect(JPEG, conf=0.4) == client.detect_full(JPEG, conf=0.4)["detections"]


def test_conf_leaves_out_what_is_less_sure(client: YOLOClient) -> None:
    first, second = client.detect(JPEG)[:2]
    confidence = first["confidence"]
    assert second["confidence"] < confidence
    assert client.detect(JPEG, conf=confidence) == [first]
    assert client.detect(JPEG, conf=confidence + 1e-6) == []


PIXELS: dict[str, np.ndarray[Any, Any]] = {
    "whole": BGR,
    "upside down": BGR[::-1],
    "mirrored": BGR[:, ::-1],
    "every second": BGR[::2, ::2],
    "cut out": BGR[40:300, 100:400],
    "grey": cv2.cvtColor(BGR, cv2.COLOR_BGR2GRAY),
    "grey in three dimensions": BGR[:, :, 1:2],
    "one pixel": BGR[:1, :1],
    "odd width": BGR[:, :333],
    "Fortran order": np.asfortranarray(BGR),
    "broadcast": np.broadcast_to(np.uint8(7), (5, 6, 3)),
}


@pytest.mark.parametrize("name", PIXELS)
def test_the_pixels_of_an_array_arrive_as_they_are(client: YOLOClient, name: str) -> None:
    pixels = PIXELS[name]
    client.detect(pixels)
    expected = pixels if pixels.ndim == 3 and pixels.shape[2] == 3 else np.dstack([pixels] * 3)
    assert np.array_equal(RECORDER.seen[-1], expected)


def test_every_way_of_passing_the_picture_gives_the_same(client: YOLOClient, tmp_path: Path) -> None:
    png = cv2.imencode(".png", BGR)[1].tobytes()
    photo, misnamed = tmp_path / "photo.jpg", tmp_path / "photo.gif"
    photo.write_bytes(JPEG)
    misnamed.write_bytes(JPEG)
    text = base64.b64encode(JPEG).decode()
    forms: dict[str, Any] = {
        "bytes": JPEG,
        "bytearray": bytearray(JPEG),
        "memoryview": memoryview(JPEG),
        "path": str(photo),
        "Path": photo,
        "misnamed path": misnamed,
        "base64": text,
        "data URI": f"data:image/jpeg;base64,{text}",
        "PNG bytes": png,
        "array": BGR,
    }
    expected = client.detect(JPEG)
    for form, image in forms.items():
        assert client.detect(image) == expected, form
        assert np.array_equal(RECORDER.seen[-1], BGR), form


@pytest.mark.parametrize("mask_format", ["polygon", "rle", "bitmap"])
def test_masks_come_in_three_forms_that_say_the_same(client: YOLOClient, mask_format: str) -> None:
    reply = client.detect_full(JPEG, model="yolov8n-seg", return_masks=True, mask_format=mask_format)
    assert reply["has_masks"] is True
    assert reply["model"] == "yolov8n-seg"
    found = next(found for found in reply["detections"] if found["class_name"] == "red block")
    mask = decode_mask(found["mask"], mask_format)
    rows, columns = np.nonzero(mask)
    box = found["bbox"]
    assert box["x1"] <= columns.min() <= columns.max() < box["x2"]
    assert box["y1"] <= rows.min() <= rows.max() < box["y2"]
    middle = int((RED["y1"] + RED["y2"]) / 2), int((RED["x1"] + RED["x2"]) / 2)
    assert mask[middle] == 1
    assert 0.3 < mask.sum() / ((box["x2"] - box["x1"]) * (box["y2"] - box["y1"])) < 0.95


def decode_mask(mask: Any, mask_format: str) -> np.ndarray[Any, Any]:
    """A mask of the 512x512 picture as an array of 0 and 1."""
    if mask_format == "polygon":
        filled = np.zeros((512, 512), np.uint8)
        cv2.fillPoly(filled, [np.array(polygon, np.int32) for polygon in mask], 1)
        return filled
    if mask_format == "rle":
        values = np.arange(len(mask["counts"])) % 2
        rle: np.ndarray[Any, Any] = np.repeat(values, mask["counts"]).reshape(mask["size"])
        return rle
    bitmap = harness.decode(base64.b64decode(mask), cv2.IMREAD_UNCHANGED)
    assert set(np.unique(bitmap)) == {0, 255}
    return bitmap // 255


def test_one_client_serves_many_calls(client: YOLOClient) -> None:
    small = cv2.imencode(".jpg", BGR[::4, ::4])[1].tobytes()
    replies = [client.detect(small) for _ in range(50)]
    assert all(reply == replies[0] for reply in replies)


# ---- what the service refuses --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"conf": 1.5}, "conf is 1.5"),
        ({"conf": float("nan")}, "conf is"),
        ({"mask_format": "oval"}, 'mask_format "oval"'),
    ],
)
def test_what_the_contract_rules_out_is_not_sent(
    client: YOLOClient, options: dict[str, Any], said: str
) -> None:
    seen = len(RECORDER.seen)
    with pytest.raises(ValueError, match=said):
        client.detect_full(JPEG, **options)
    assert len(RECORDER.seen) == seen


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"image": "", "conf": "high"}, "body.conf: "),
        ({"image": "", "mask_format": "oval"}, "body.mask_format: "),
        ({"image": 7, "return_masks": "perhaps"}, "body.image: "),
        ({"image": 7, "return_masks": "perhaps"}, "body.return_masks: "),
        ({}, "body.image: Field required"),
    ],
)
def test_what_pydantic_refuses_is_422_with_its_words(host: str, body: dict[str, Any], said: str) -> None:
    with Service(host) as service, pytest.raises(
        RuntimeError, match=r"/detect failed \(HTTP 422\)"
    ) as caught:
        service.post("/detect", body)
    assert said in str(caught.value)


def test_a_model_that_the_service_does_not_have_is_422_and_named(client: YOLOClient) -> None:
    with pytest.raises(
        RuntimeError, match=r"/detect failed \(HTTP 422\): body.model: Input should be 'yolov8n'"
    ):
        client.detect(JPEG, model="yolov9")


def test_what_the_service_cannot_decode_is_400_with_its_words(client: YOLOClient) -> None:
    broken = b"RIFF\x64\0\0\0WEBPVP8 " + bytes(100)  # of a kind that the client passes on as it is
    with pytest.raises(RuntimeError, match=r"/detect failed \(HTTP 400\).*no picture that can be decoded"):
        client.detect(broken)


def test_masks_of_a_model_without_them_are_400_with_its_words(client: YOLOClient) -> None:
    with pytest.raises(RuntimeError, match=r"HTTP 400.*use a -seg model"):
        client.detect_full(JPEG, return_masks=True)


def test_a_service_that_fails_inside_is_500(moody: str) -> None:
    with YOLOClient(host=moody) as client:
        with pytest.raises(RuntimeError, match=r"/detect failed \(HTTP 500\)"):
            client.detect(JPEG, conf=0.5)
        assert client.detect(JPEG, conf=0.25) == [], "the same client goes on"


def test_a_wrong_address_on_the_right_host_is_404(host: str) -> None:
    with YOLOClient(host=f"{host}/v2") as client:
        with pytest.raises(RuntimeError, match=r"/detect failed \(HTTP 404\).*Not Found"):
            client.detect(JPEG)
        with pytest.raises(RuntimeError, match="HTTP 404"):
            client.health()


def test_a_service_that_dawdles_is_a_timeout_and_the_client_goes_on(moody: str) -> None:
    with YOLOClient(host=moody, timeout=0.4) as client:
        with pytest.raises(TimeoutError):
            client.detect(JPEG, conf=0.75)
        assert client.detect(JPEG, conf=0.25) == []


def test_a_service_that_is_not_there_is_unavailable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    with YOLOClient(host=url, timeout=5.0) as client:
        with pytest.raises(ConnectionError, match=f"Service unavailable at {url}: .*refused"):
            client.detect(JPEG)
        with pytest.raises(ConnectionError, match="Service unavailable at"):
            client.health()
