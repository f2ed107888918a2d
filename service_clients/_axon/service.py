"""HTTP services: `Service` is one connection, `ServiceClient` what the clients of the catalog are made of."""

from __future__ import annotations

import binascii
import functools
import json
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, ClassVar, Mapping, NamedTuple, TypeVar

from service_clients._axon._ffi import check, ffi, lib, new_error
from service_clients._axon.errors import AxonProtocolError, AxonTypeError
from service_clients._axon.handle import Handle
from service_clients._axon.images import encode_image, open_handle, open_image
from service_clients._axon.options import c_string, fill, milliseconds, numbers, strings, struct_of
from service_clients._axon.plain import configured_host
from service_clients._axon.values import Picture, read, write

if TYPE_CHECKING:
    from service_clients._axon.images import Image

__all__ = ["Service", "ServiceClient"]

_REPLY_OUT = ffi.typeof("axon_value **")
_PICTURE = "struct axon_image *"
_USUAL_PATIENCE = 60.0  # seconds; the C core's default for one call

_Client = TypeVar("_Client", bound="ServiceClient")


class Service(Handle):
    """One kept-alive connection to an HTTP service that speaks JSON with pictures inside.

    Threads may share it: they take turns. It is a context manager.
    """

    _C_CANCEL = lib.axon_service_cancel
    _C_CLOSE = lib.axon_service_close

    def __init__(
        self,
        url: str,
        timeout: float | None = None,
        *,
        connect_timeout: float | None = None,
        bearer_token: str | None = None,
        ca_file: str | None = None,
        max_reply_bytes: int | None = None,
        max_request_bytes: int | None = None,
        tls_insecure: bool = False,
    ) -> None:
        """Makes the handle; nothing is sent yet.

        Args:
            url: "http://host:port" or "https://...", with a path prefix if the service has one.
            timeout: seconds for one whole call, connecting included; default 60.
            connect_timeout: seconds until the TCP and TLS connection stands; default 10.
            bearer_token: sent as "Authorization: Bearer <token>".
            ca_file: PEM of the authorities to trust; default the system's.
            max_reply_bytes: a longer reply is AxonTooBig; default 256 MiB.
            max_request_bytes: a longer body is AxonTooBig, unsent; default 256 MiB.
            tls_insecure: accept any certificate.

        Raises:
            AxonValueError: a URL or option that cannot be, naming it.
        """
        options, _keep = fill(
            "axon_service_options",
            bearer_token=bearer_token,
            ca_file=ca_file,
            timeout_ms=milliseconds(timeout, "timeout"),
            connect_timeout_ms=milliseconds(connect_timeout, "connect_timeout"),
            max_reply_bytes=max_reply_bytes,
            max_request_bytes=max_request_bytes,
            reply_form=lib.AXON_REPLY_TEXT,  # Python's own parser makes objects of it faster than a tree could
            tls_insecure=tls_insecure,
        )
        out, error = ffi.new("axon_service **"), new_error()
        check(lib.axon_service_open(out, c_string(url, "url"), options, error), error)
        super().__init__(out[0], ffi.string(lib.axon_service_url(out[0])).decode())
        self._patience = _USUAL_PATIENCE if timeout is None else float(timeout)

    @property
    def url(self) -> str:
        """The URL as it was given, without a trailing slash."""
        return self._name

    def get(self, path: str) -> Any:
        """GET `path`, "/map?format=json".

        Returns:
            What the JSON of the reply says; bytes of a reply that is not JSON; None of an empty one.

        Raises:
            AxonServerError: the service answered with an error; AxonAuthError: with 401 or 403.
            AxonConnectionError, AxonTimeout, AxonProtocolError, AxonTooBig, AxonCanceled.
        """
        return self.call(lib.axon_service_get, c_string(path, "path"))

    def post(self, path: str, body: Any, images: Mapping[str, Image] | None = None) -> Any:
        """POST `body` as JSON to `path`; returns and raises as `get`.

        Args:
            path: "/detect".
            body: what json.dumps takes; bytes in it become base64 text.
            images: pictures in any form that `Image` names, put into the body, a dict then, as base64 under these keys.

        Raises:
            AxonValueError: what JSON or a picture cannot be, naming the place; nothing was sent.
        """
        keep: list[Any] = []
        with ExitStack() as cleanup:
            if images:
                if not isinstance(body, Mapping):
                    raise AxonTypeError(
                        f"{path}: body is {type(body).__name__}, not a dict that takes pictures"
                    )
                pictures = {
                    key: Picture(cleanup.enter_context(open_image(images[key], key))) for key in images
                }
                tree = write({**body, **pictures}, f"{path}: body", keep)
            else:
                tree = _write_json(body, f"{path}: body", keep)
            cleanup.callback(lib.axon_value_free, tree)
            return self.call(lib.axon_service_post, c_string(path, "path"), tree)

    def health(self) -> Any:
        """GET /health; returns and raises as `get`."""
        return self.call(lib.axon_service_health)

    def call(self, function: Any, *arguments: Any) -> Any:
        """Calls a C function of the form `function(service, *arguments, &reply, err)` and reads its reply."""
        out, error = ffi.new(_REPLY_OUT), new_error()
        service = self._begin(self._patience)
        try:
            status = function(service, *arguments, out, error)
        finally:
            self._end()
        check(status, error)
        try:
            return read(out[0])
        except AxonProtocolError as wrong:
            raise AxonProtocolError(f"reply of {self._name}: {wrong}") from None
        finally:
            lib.axon_value_free(out[0])


def _write_json(body: Any, subject: str, keep: list[Any]) -> Any:
    """The tree of a body: one leaf of text where Python can write it, else node by node, which names what is wrong."""
    try:
        text = json.dumps(body, allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError):
        return write(body, subject, keep)
    keep.append(ffi.from_buffer(text))
    return lib.axon_value_json(keep[-1], len(text))


class ServiceClient:
    """What the clients of the catalog have in common.

    A client adds its methods, each one call of the C function `axon_<service>_<method>`. Threads may share a
    client: they take turns. It is a context manager.
    """

    # Method: verb, endpoint, and the rest of @wire in the service's header. Only fallback.py looks at it.
    _WIRE: ClassVar[Mapping[str, tuple[str, str, Mapping[str, Any]]]] = {}

    def __init__(
        self,
        host: str | None,
        timeout: float | None,
        *,
        service: str,
        default_host: str,
        client_file: str,
    ) -> None:
        """Makes the client; nothing is sent yet.

        Args:
            host: "http://host:port"; None: the environment's AXON_HOST_<SERVICE>, else the `host` of the
                service.json beside the client, else `default_host`.
            timeout: seconds for one whole call; None: 60.
            service: the C name of the service, "yolo_detection".
            default_host: of the service's header.
            client_file: the client's `__file__`.
        """
        self._prefix = f"axon_{service}_"
        self._service = Service(host or configured_host(service, client_file) or default_host, timeout)
        self._host, self._timeout = self._service.url, timeout

    @property
    def host(self) -> str:
        """The URL of the service; setting it opens a new connection at the next call."""
        return self._host

    @host.setter
    def host(self, host: str) -> None:
        self._reopen(host, self._timeout)

    @property
    def timeout(self) -> float | None:
        """Seconds for one whole call, connecting included; it can be set."""
        return self._timeout

    @timeout.setter
    def timeout(self, timeout: float | None) -> None:
        self._reopen(self._host, timeout)

    def _reopen(self, host: str, timeout: float | None) -> None:
        before, self._service = self._service, Service(host, timeout)
        self._host, self._timeout = self._service.url, timeout
        before.close()

    def health(self) -> dict[str, Any]:
        """What the service says of itself.

        Raises:
            AxonConnectionError: "Service unavailable at http://...": it is not running, or not there.
            AxonProtocolError: what answers there is no service of the catalog: its reply is no JSON object.
        """
        reply = self._service.health()
        if not isinstance(reply, dict):
            raise AxonProtocolError(f"reply of {self._host}/health is {reply!r:.80}, not a JSON object")
        return reply

    def cancel(self) -> None:
        """Ends the call that another thread is waiting in with AxonCanceled."""
        self._service.cancel()

    def close(self) -> None:
        """Closes the connection; the client cannot be used any more."""
        self._service.close()

    def __enter__(self: _Client) -> _Client:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._host!r}, timeout={self._timeout!r})"

    def _call(
        self, method: str, arguments: Mapping[str, Any], color: str | None = None, **options: Any
    ) -> Any:
        """Calls the C function of a method.

        Args:
            method: the end of the function's name.
            arguments: what stands between the service and the options, by name, in the function's order.
            color: the channel order of pictures that are arrays; None is the service's own.
            options: the members of the function's options struct; None keeps a default.
        """
        signature = _signature_of(self._prefix + method)
        pictures: list[Any] = []
        keep: list[Any] = []
        try:
            handed: list[Any] = []
            for name, value in arguments.items():
                handed += _as_arguments(signature.kinds[len(handed)], value, name, color, pictures, keep)
            if signature.options is not None and len(handed) < len(signature.kinds):
                for name in signature.pictures:
                    value = options.get(name)
                    if value is not None:
                        pictures.append(open_handle(value, name, None, keep))
                        options[name] = pictures[-1]
                struct, kept = fill(signature.options, **options)
                keep.append(kept)
                handed.append(struct)
            return self._service.call(signature.function, *handed)
        finally:
            for picture in pictures:
                lib.axon_image_close(picture)

    def _get(self, endpoint: str) -> Any:
        """GET an endpoint of the service, "/map?format=json"."""
        return self._service.get(endpoint)

    def _post(self, endpoint: str, payload: Mapping[str, Any]) -> Any:
        """POST a JSON body to an endpoint of the service, "/detect"."""
        return self._service.post(endpoint, payload)

    def _encode_image(self, image: Image, color: str | None = None) -> str:
        """A picture, in any form that the methods take, as base64 of a picture file."""
        return binascii.b2a_base64(encode_image(image, color), newline=False).decode()


class _Signature(NamedTuple):
    """A C function of a service: asked of cffi once, because its answers are made anew each time."""

    function: Any
    kinds: list[tuple[str, Any]]  # name and type of each argument, without the service, &reply and error
    options: str | None  # the struct that is the last of them
    pictures: list[str]  # the members of that struct that are pictures


@functools.lru_cache(maxsize=None)
def _signature_of(name: str) -> _Signature:
    function = getattr(lib, name)
    kinds = [(kind.cname, kind) for kind in ffi.typeof(function).args[1:-2]]
    last = kinds[-1][1] if kinds else None
    if last is None or last.kind != "pointer" or last.item.kind != "struct" or not last.item.fields:
        return _Signature(function, kinds, None, [])
    pictures = [member for member, field in last.item.fields if field.type.cname == _PICTURE]
    return _Signature(function, kinds, last.item.cname, pictures)


def _as_arguments(
    kind: tuple[str, Any], value: Any, name: str, color: str | None, pictures: list[Any], keep: list[Any]
) -> list[Any]:
    """One argument of a method as what C takes for it: a list of strings goes with its length."""
    cname, ctype = kind
    if isinstance(value, ffi.CData):
        return [value]
    if cname == _PICTURE:
        pictures.append(open_handle(value, name, color, keep))
        return pictures[-1:]
    if cname == "char * *":
        array, kept = strings(value, name)
        keep.append(kept)
        return [array, len(kept)]
    if cname == "double":
        return [numbers([value], 1, name)[0]]
    return [struct_of(ctype.item, value, name)]
