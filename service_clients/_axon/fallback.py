"""HTTP services without the native core: slower, on urllib, and nothing else.

Used where the core cannot be loaded: no wheel for this processor, no cffi. Perception goes on, with a warning;
policies say what is missing. The results are those of the core. What is no picture, URL or timeout is refused
before it is sent, as there; options out of their range are left to the service to refuse. A sandbox that blocks urllib blocks this as well.
"""

from __future__ import annotations

import base64
import binascii
import http.client
import io
import json
import math
import os
import struct
import urllib.error
import urllib.parse
import urllib.request
import warnings
import zlib
from typing import TYPE_CHECKING, Any, ClassVar, Mapping, NoReturn, TypeVar

from service_clients._axon.errors import (
    AxonAuthError,
    AxonCanceled,
    AxonConnectionError,
    AxonError,
    AxonFileError,
    AxonFileNotFound,
    AxonProtocolError,
    AxonServerError,
    AxonTimeout,
    AxonTooBig,
    AxonTypeError,
    AxonValueError,
)
from service_clients._axon.plain import configured_host, flat_numbers

if TYPE_CHECKING:
    import numpy

__all__ = [
    "Policy",
    "Service",
    "ServiceClient",
    "Simulator",
    "Stream",
    "Subscription",
    "deliver_picture",
    "explicit",
    "numbers",
    "read_message",
    "warn",
]

__version__ = "0 (no native core)"

_MAX_REPLY = 256 << 20
# How JPEG, PNG, .npy, WebP, BMP, TIFF and GIF files begin.
_PICTURE_FILES = (b"\xff\xd8\xff", b"\x89PNG\r\n", b"\x93NUMPY", b"RIFF", b"BM", b"II*\0", b"MM\0*", b"GIF8")
_LOCAL = urllib.request.build_opener(urllib.request.ProxyHandler({}))
_Client = TypeVar("_Client", bound="ServiceClient")


def warn(missing: ImportError) -> None:
    """Says once that the core is missing, and why."""
    warnings.warn(
        f"axon's native core cannot be loaded ({missing}); services are called through urllib, slower, and "
        "there are no policies",
        RuntimeWarning,
        stacklevel=3,
    )


def explicit(number: float, name: str) -> float:
    """A number of 0 or more."""
    try:
        value = float(number)
    except (TypeError, ValueError):
        raise AxonTypeError(f"{name} is {number!r:.80}, not a number") from None
    if value < 0:
        raise AxonValueError(f"{name} is {value:g}, less than 0")
    return value


numbers = flat_numbers

# not "pip install axon": in the package index that name is somebody else's
_NEEDS_CORE = (
    "need axon's native core, which cannot be loaded here: pip install the wheel of axon, or its sources"
)


class Policy:
    """Policies need the native core."""

    def __init__(self, *_arguments: Any, **_options: Any) -> NoReturn:
        raise AxonError("policies " + _NEEDS_CORE)


class Simulator:
    """Simulators need the native core, too."""

    def __init__(self, *_arguments: Any, **_options: Any) -> NoReturn:
        raise AxonError("simulators " + _NEEDS_CORE)


class Stream:
    """Streams need the native core."""

    def __init__(self, *_arguments: Any, **_options: Any) -> NoReturn:
        raise AxonError("streams " + _NEEDS_CORE)


class Subscription(Stream):
    """Nor are there subscriptions without streams."""


def read_message(_text: Any) -> NoReturn:
    """Messages are read by the native core."""
    raise AxonError("messages " + _NEEDS_CORE)


# ---- pictures --------------------------------------------------------------------------------


def _picture(image: Any, name: str, color: str | None, as_npy: bool) -> str:
    """A picture, in any form that the clients take, as base64 of a picture file."""
    if color not in (None, "rgb", "bgr"):
        raise AxonValueError(f'color is {color!r}, not "rgb" or "bgr"')
    if isinstance(image, (bytes, bytearray, memoryview)):
        return _base64(_file_bytes(bytes(image), name))
    if isinstance(image, str) and not os.path.exists(image):
        return _checked_base64(image, name)
    if isinstance(image, (str, os.PathLike)):
        return _base64(_file_bytes(_file(image, name), name))
    if hasattr(image, "save") and hasattr(image, "mode"):
        file = io.BytesIO()
        image.save(file, "PNG")
        return _base64(file.getvalue())
    if hasattr(type(image), "__array_interface__") or hasattr(type(image), "__array__"):
        return _base64(_pixels(image, name, color, as_npy))
    raise AxonTypeError(
        f"{name}: {type(image).__name__} is no picture; give file bytes, a path, base64 text, an array or a PIL image"
    )


def _file_bytes(data: bytes, name: str) -> bytes:
    if not data.startswith(_PICTURE_FILES):
        raise AxonValueError(f"{name}: not a picture: begins with {data[:8].hex(' ') or 'nothing'}")
    return data


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _file(path: Any, name: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        raise AxonFileNotFound(f"{name}: {os.fspath(path)!r}: no such file") from None
    except OSError as error:
        raise AxonFileError(f"{name}: {os.fspath(path)!r}: {error.strerror}") from None


def _checked_base64(text: str, name: str) -> str:
    bare = text.split(",", 1)[1] if text.startswith("data:") and "," in text else text
    bare = "".join(bare.split())
    try:
        data = base64.b64decode(bare + "=" * (-len(bare) % 4), validate=True)
    except (binascii.Error, ValueError):
        data = b""
    if not data.startswith(_PICTURE_FILES):
        raise AxonFileNotFound(f"{name}: {text[:40]!r} is neither a file nor base64 of a picture")
    return _base64(data)


def _pixels(image: Any, name: str, color: str | None, as_npy: bool) -> bytes:
    """An array as a PNG file, or as a .npy file when that is asked for or the pixels are floats."""
    import numpy as np

    array = np.asarray(image)
    if as_npy or array.dtype.kind == "f":
        file = io.BytesIO()
        np.save(file, array, allow_pickle=False)
        return file.getvalue()
    if array.dtype not in (np.uint8, np.uint16) or array.ndim not in (2, 3) or not array.size:
        raise AxonValueError(f"{name}: an array {array.shape} of {array.dtype} is no picture")
    if array.ndim == 3 and array.shape[2] not in (1, 3, 4):
        raise AxonValueError(f"{name}: shape {array.shape}: the last dimension must be 1, 3 or 4 channels")
    channels = array.shape[2] if array.ndim == 3 else 1
    if channels >= 3 and color != "rgb":
        array = array[:, :, [2, 1, 0, 3][:channels]]
    return _png(array, channels)


def _png(array: numpy.ndarray[Any, Any], channels: int) -> bytes:
    """A PNG file without filters, by the format's specification (W3C, PNG, third edition)."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width = array.shape[:2]
    big = array.astype(array.dtype.newbyteorder(">"))
    rows = b"".join(b"\0" + big[y].tobytes() for y in range(height))
    form = {1: 0, 3: 2, 4: 6}[channels]
    head = struct.pack(">IIBBBBB", width, height, 8 * array.dtype.itemsize, form, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(rows, 1))
        + chunk(b"IEND", b"")
    )


def deliver_picture(picture: Any, save_path: Any, as_numpy: bool, as_pil: bool) -> Any:
    """A picture that a service answered with, in the form that the caller asked for; arrays need Pillow here."""
    if not isinstance(picture, bytes):
        raise AxonProtocolError(f"the reply is no picture but {type(picture).__name__}")
    if save_path is not None:
        with open(save_path, "wb") as file:
            file.write(picture)
    if not as_numpy and not as_pil:
        return picture
    from PIL import Image as PilImage

    opened = PilImage.open(io.BytesIO(picture))
    if not as_numpy:
        return opened
    import numpy as np

    return np.array(opened.convert("RGB"))


# ---- HTTP ------------------------------------------------------------------------------------


def _detail(body: bytes) -> str:
    """What a service says of its failure: FastAPI's `detail`, or the first line of its text."""
    try:
        reply = json.loads(body)
    except ValueError:
        return body.decode("utf-8", "replace").strip().split("\n")[0] or "the reply is empty"
    detail = reply.get("detail", reply) if isinstance(reply, dict) else reply
    if not isinstance(detail, list):
        return detail if isinstance(detail, str) else json.dumps(detail)
    return "; ".join(
        f"{'.'.join(map(str, item['loc']))}: {item['msg']}"
        if isinstance(item, dict) and "loc" in item and "msg" in item
        else json.dumps(item)
        for item in detail
    )


class Service:
    """An HTTP service; a connection for each call."""

    def __init__(self, url: str, timeout: float | None = None, **_options: Any) -> None:
        if not isinstance(url, str):
            raise AxonTypeError(f"url is {url!r:.80}, not a str")
        if not url.startswith(("http://", "https://")):
            raise AxonValueError(f"{url!r} is no URL of a service; write http://host:port")
        if not all("!" <= character <= "~" for character in url):
            raise AxonValueError(f"url {url!r}: a space, control or non-ASCII character")
        self._url = url.rstrip("/")
        if isinstance(timeout, (bool, str, bytes)):
            raise AxonTypeError(f"timeout is {timeout!r:.80}, not a number of seconds")
        self._timeout = 60.0 if timeout is None else float(timeout)
        if not self._timeout > 0:
            raise AxonValueError(f"timeout is {timeout}, not a positive number of seconds")
        self._is_closed = False

    @property
    def url(self) -> str:
        """The URL as it was given, without a trailing slash."""
        return self._url

    def get(self, path: str) -> Any:
        """GET `path`: the JSON of the reply, bytes of a reply that is not JSON, None of an empty one."""
        return self._call(path, None)

    def post(self, path: str, body: Any) -> Any:
        """POST `body` as JSON; returns as `get`."""
        try:
            text = json.dumps(body, allow_nan=False).encode()
        except (TypeError, ValueError) as error:
            raise AxonValueError(f"{path}: body: {error}") from None
        return self._call(path, text)

    def health(self) -> Any:
        """GET /health."""
        return self.get("/health")

    def cancel(self) -> None:
        """Does nothing: urllib's calls cannot be ended from outside."""

    def close(self) -> None:
        """Ends the use of this service."""
        self._is_closed = True

    def _call(self, path: str, body: bytes | None) -> Any:
        if self._is_closed:
            raise AxonValueError(f"{self._url}: the service is closed")
        request = urllib.request.Request(self._url + path, body, {"Content-Type": "application/json"})
        seconds = None if math.isinf(self._timeout) else self._timeout
        try:
            with self._opener()(request, timeout=seconds) as reply:
                return self._read(reply, path)
        except urllib.error.HTTPError as error:
            with error:
                text = error.read(1 << 20)
            kind = AxonAuthError if error.code in (401, 403) else AxonServerError
            failure = kind(f"{path} failed (HTTP {error.code}): {_detail(text)}")
            failure.http_status = error.code
            raise failure from None
        except OSError as error:
            raise self._unavailable(error) from None
        except http.client.HTTPException as error:
            raise AxonProtocolError(f"{self._url}{path}: no proper HTTP: {error!r:.200}") from None

    def _opener(self) -> Any:
        """Loopback and private addresses are not asked for through a proxy."""
        host = urllib.parse.urlsplit(self._url).hostname or ""
        near = host.startswith(("127.", "10.", "192.168.", "::1", "fe80", "fd")) or "." not in host
        return _LOCAL.open if near or host.endswith(".local") else urllib.request.urlopen

    def _unavailable(self, error: OSError) -> AxonError:
        reason = getattr(error, "reason", error)
        if isinstance(reason, TimeoutError) or "timed out" in str(reason):
            return AxonTimeout(
                f"Service unavailable at {self._url}: no answer after {self._timeout:g} s (timeout)"
            )
        text = "connection refused" if isinstance(reason, ConnectionRefusedError) else str(reason)
        return AxonConnectionError(f"Service unavailable at {self._url}: {text}")

    def _read(self, reply: Any, path: str) -> Any:
        data: bytes = reply.read(_MAX_REPLY + 1)
        if len(data) > _MAX_REPLY:
            raise AxonTooBig(f"reply of {self._url}{path} is longer than {_MAX_REPLY} bytes")
        if reply.length:
            raise ConnectionError(f"connection lost in mid-reply, {reply.length} bytes short")
        if not data:
            return None
        if "json" not in reply.headers.get("Content-Type", ""):
            return data
        try:
            return json.loads(data)
        except (ValueError, RecursionError) as error:
            raise AxonProtocolError(f"reply of {self._url}{path}: not JSON: {error}") from None


# ---- the clients' base -----------------------------------------------------------------------


class ServiceClient:
    """What the clients of the catalog have in common; see the native one in service.py."""

    _WIRE: ClassVar[Mapping[str, tuple[str, str, Mapping[str, Any]]]] = {}

    def __init__(
        self, host: str | None, timeout: float | None, *, service: str, default_host: str, client_file: str
    ) -> None:
        self.host = Service(host or configured_host(service, client_file) or default_host, timeout).url
        self.timeout = timeout
        self._is_closed = False

    def health(self) -> dict[str, Any]:
        """What the service says of itself."""
        reply = self._get("/health")
        if not isinstance(reply, dict):
            raise AxonProtocolError(f"reply of {self.host}/health is {reply!r:.80}, not a JSON object")
        return reply

    def cancel(self) -> None:
        """Does nothing: urllib's calls cannot be ended from outside."""

    def close(self) -> None:
        """Ends the use of this client."""
        self._is_closed = True

    def __enter__(self: _Client) -> _Client:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.host!r}, timeout={self.timeout!r})"

    def _get(self, endpoint: str) -> Any:
        return self._service().get(endpoint)

    def _post(self, endpoint: str, payload: Mapping[str, Any]) -> Any:
        return self._service().post(endpoint, dict(payload))

    def _encode_image(self, image: Any, color: str | None = None) -> str:
        return _picture(image, "image", color, as_npy=False)

    def _service(self) -> Service:
        if self._is_closed:
            raise AxonCanceled(f"{self.host}: the client is closed")
        return Service(self.host, self.timeout)

    def _call(
        self, method: str, arguments: Mapping[str, Any], color: str | None = None, **options: Any
    ) -> Any:
        """One request, from what `_WIRE` says of the method; see the native `_call`."""
        verb, path, wire = self._WIRE[method]
        pictures = {name for name in arguments if name == "image" or name.endswith("_image")} | {"mask"}
        body: dict[str, Any] = {}
        for name, value in {**arguments, **options}.items():
            if value is None and name not in arguments:
                continue
            if name in pictures:
                value = _picture(value, name, color, name in wire.get("npy", ()))
            body[name] = _plain(value, name, wire)
        body.update(wire.get("fixed", {}))
        query = {name: body.pop(name) for name in wire.get("query", ()) if name in body}
        path += f"?{urllib.parse.urlencode(query)}" if query else ""
        reply = self._get(path) if verb == "GET" else self._post(path, body)
        return self._take(reply, path, wire)

    def _take(self, reply: Any, path: str, wire: Mapping[str, Any]) -> Any:
        member = wire.get("member")
        if member is not None:
            if not isinstance(reply, dict) or member not in reply:
                raise AxonProtocolError(f'reply of {self.host}{path} has no member "{member}"')
            if not isinstance(reply[member], list):
                raise AxonProtocolError(f'reply of {self.host}{path}: "{member}" is no list')
            return reply[member]
        for words, decode in (("arrays", _array), ("bytes", base64.b64decode)):
            for name in wire.get(words, ()):
                if reply.get(name) is None:
                    reply.pop(name, None)
                    continue
                try:
                    reply[name] = decode(reply[name])
                except (TypeError, ValueError, EOFError) as error:
                    raise AxonProtocolError(f"reply: {name}: {error}") from None
        return reply


def _plain(value: Any, name: str, wire: Mapping[str, Any]) -> Any:
    """A value as JSON has it, in the form that the service wants under this name."""
    fields = wire.get("named", {}).get(name)
    if fields is not None:
        if isinstance(value, Mapping):
            if set(value) != set(fields):
                raise AxonValueError(
                    f"{name}: its keys must be {', '.join(fields)}, not {', '.join(map(str, value))}"
                )
            value = [value[field] for field in fields]
        return dict(zip(fields, flat_numbers(value, len(fields), f"{name} ({', '.join(fields)})")))
    columns = wire.get("rows", {}).get(name)
    if columns:
        flat = flat_numbers(value, columns * columns, name)
        return [flat[i : i + columns] for i in range(0, len(flat), columns)]
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, (str, bool)) or not hasattr(value, "__iter__"):
        return value.item() if hasattr(value, "item") else value
    return list(value)


def _array(text: str) -> numpy.ndarray[Any, Any]:
    import numpy as np

    return np.array(np.load(io.BytesIO(base64.b64decode(text)), allow_pickle=False))
