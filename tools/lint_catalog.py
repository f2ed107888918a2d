#!/usr/bin/env python3
"""Checks catalogs of services before a robot trusts them; docs/catalog.md gives each rule with its reason.

    python tools/lint_catalog.py catalog.json                             what the file says
    python tools/lint_catalog.py catalog.json --clients service_clients   also the clients it speaks of
    python tools/lint_catalog.py catalog.json --online                    also what client_sdk and the hosts answer

Prints one line per finding, ``ENTRY: rule: what is wrong and what it should be``, and exits 1 when there is any, 0 when
there is none, 2 when a file cannot be read. Nothing is imported or run, and without --online nothing is connected to.
One file, Python 3.8's standard library: it can be copied to where the catalog is.
"""

from __future__ import annotations

import argparse
import ast
import builtins
import datetime
import hashlib
import http.client
import ipaddress
import json
import keyword
import math
import os
import re
import stat
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Iterable, Iterator, Mapping, NamedTuple, Tuple, Union

__all__ = ["RULES", "Finding", "lint"]

RULES = {
    "not-json": "the file is JSON as RFC 8259 has it",
    "duplicate-key": "no object names a key twice",
    "bad-text": "texts hold no control characters and no halves of characters",
    "catalog-shape": "the outside is `updated`, `capabilities` and, if any, `core`",
    "entry-name": "names are a-z, 0-9 and '-', and make a folder that Python can import",
    "missing-field": "every field that the spec requires is there",
    "field-type": "every field is of its type",
    "type": "`type` is model, service, policy, simulator or robot",
    "version": "versions are semantic versions",
    "date": "dates are days of the calendar, YYYY-MM-DD",
    "url": "URLs are https, http, file or relative, and whole",
    "host": "`host` is an http, https, ws, wss or tcp URL with host name and port",
    "duplicate-host": "no two entries share a host and port",
    "endpoint-format": 'endpoints are "VERB /path", each once',
    "endpoint-health": "a service at an http host has GET /health",
    "endpoint-unknown": "the service has every endpoint that its entry names",
    "usage-missing": "`usage` has import, init, example and returns",
    "usage-import": "the import names the folder that the sync makes",
    "usage-init": "init makes an object of the imported class",
    "usage-example": "the example is Python and calls the client",
    "usage-method": "the class has every method that the example calls",
    "usage-argument": "the methods take the arguments that they are called with",
    "sha256": "`sha256` is that of the client",
    "size": "`size` is that of the client, in bytes",
    "client-unreachable": "`client_sdk` leads to the client",
    "client-compiles": "the client is Python that compiles",
    "client-import": "the client imports nothing that the sandbox blocks",
    "client-class": "the client defines the class that the usage imports",
    "client-host": "the class is made with a `host`, or an `address`",
    "client-health": "the class of a service at an http host has health()",
    "client-docstring": "the client's docstring shows the import",
}

# The spec knows model and service; axon's policies, simulators and robot backends are catalog entries as well.
TYPES = ("model", "service", "policy", "simulator", "robot")
TEXTS = (
    "type", "description", "host", "client_sdk", "service_repo", "api_docs", "version", "added_by", "added_at",
)  # fmt: skip
REQUIRED = (*TEXTS, "endpoints", "usage")
USAGE = ("import", "init", "example", "returns")
URLS = ("client_sdk", "service_repo", "api_docs")
BLOCKED = ("requests", "httpx", "http.client", "aiohttp", "grpc", "socket", "ssl", "ctypes", "subprocess")
VERBS = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS")
UNSCHEMED = ("/docs", "/redoc", "/openapi.json")  # FastAPI serves them and leaves them out of its schema

MAX_CATALOG = 64 << 20  # bytes
MAX_DOWNLOAD = 4 << 20  # bytes
MAX_PYTHON = 128 << 10  # bytes; a longer chain of operators overflows the stack of Python 3.8's parser
MAX_NAME = 100  # characters of an entry's name, which a folder must bear
CONNECTIONS = 16

HEADERS = Path(__file__).resolve().parents[1] / "include" / "axon" / "services"

# service_clients._axon.ServiceClient, which axon's own clients inherit from.
BASE_MODULES = ("service_clients._axon", "service_clients._axon.service")
BASE_METHODS = ("__init__", "health", "cancel", "close", "_get", "_post", "_encode_image")
BARE_BASES = ("object", "ABC", "Protocol", "Generic")

_NAME = re.compile(r"[a-z0-9][a-z0-9-]*")
_SEMVER = re.compile(
    r"(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)"
    r"(-(0|[1-9][0-9]*|[0-9]*[A-Za-z-][0-9A-Za-z-]*)(\.(0|[1-9][0-9]*|[0-9]*[A-Za-z-][0-9A-Za-z-]*))*)?"
    r"(\+[0-9A-Za-z-]+(\.[0-9A-Za-z-]+)*)?"
)
_DAY = re.compile(r"([0-9]{4})-([0-9]{2})-([0-9]{2})")
_MOMENT = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})"
    r"(?:[T ]([01][0-9]|2[0-3]):[0-5][0-9]:([0-5][0-9]|60)(\.[0-9]+)?(Z|[+-]([01][0-9]|2[0-3]):?[0-5][0-9])?)?"
)
_URL_TEXT = re.compile(r"(?:[A-Za-z0-9._~:/?#\[\]@!$&'()*+,;=-]|%[0-9A-Fa-f]{2})+")
_HOST_NAME = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_])?")
_ENDPOINT = re.compile(rf"({'|'.join(VERBS)}) (/[^\s?#]*)")
_SHA256 = re.compile(r"[0-9a-fA-F]{64}")
_HTTP_TAG = re.compile(r"^[ \t/*]*@http[ \t]+([A-Z]+)[ \t]+(/\S*)", re.MULTILINE)
_IMPORTED = re.compile(r"\bimport\s+(\w+)\s*$")
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")


class Finding(NamedTuple):
    """One thing that is wrong: printed as ``ENTRY: rule: text``, always one line."""

    entry: str
    rule: str
    text: str

    def __str__(self) -> str:
        return printable(f"{self.entry[:MAX_NAME]}: {self.rule}: {self.text}")


Fault = Tuple[str, str]  # rule and text of a finding
Fetched = Dict[str, Union[bytes, str]]  # by URL: what came, or why nothing did


class Routes(NamedTuple):
    """What a service can be asked, and who says so."""

    routes: frozenset[str]
    source: str


@dataclass
class Entry:
    """One entry of the catalog, with what is known of it besides."""

    name: str
    fields: Mapping[str, Any]
    folder: str | None  # None: the name makes none
    client: Client | None = None
    routes: Routes | None = None

    def text(self, field: str) -> str:
        """A field's text; empty when it has none, which missing-field and field-type tell."""
        value = self.fields.get(field)
        return value if isinstance(value, str) else ""


# ---- words -----------------------------------------------------------------------------------


def printable(text: str) -> str:
    """The text on one line, with what a terminal might act on escaped."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def shown(value: object) -> str:
    """A value as a message shows it: never long, whatever it is."""
    if isinstance(value, str):
        return repr(value if len(value) <= 100 else value[:97] + "...")
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) or (isinstance(value, int) and abs(value) < 1 << 64):
        return repr(value)
    kinds = {dict: "an object", list: "an array", int: "a huge number"}
    return next((word for kind, word in kinds.items() if isinstance(value, kind)), type(value).__name__)


def listed(words: Iterable[str]) -> str:
    return ", ".join(words) or "none"


# ---- reading ---------------------------------------------------------------------------------


class _Object(Dict[str, Any]):
    """A JSON object that remembers which of its keys came twice."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        self.repeated: list[str] = []
        if len(self) != len(pairs):
            seen: set[str] = set()
            for key, _ in pairs:
                if key in seen:
                    self.repeated.append(key)
                seen.add(key)


def read_json(text: bytes | str) -> tuple[Any, list[str]]:
    """The document and the words in it that JSON does not have (NaN); raises ValueError for what is not JSON."""
    strange: list[str] = []

    def constant(word: str) -> None:
        strange.append(word)

    def whole(digits: str) -> int | float:
        return int(digits) if len(digits) < 20 else float(digits)  # int() of a million digits takes minutes

    if isinstance(text, bytes):
        text = text.decode("utf-8")
    try:
        document = json.loads(text, object_pairs_hook=_Object, parse_constant=constant, parse_int=whole)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    return document, strange


def read_bounded(path: Path, limit: int) -> bytes:
    """A file's bytes; raises OSError, also for what is longer than `limit`."""
    with path.open("rb") as file:
        found = file.read(limit + 1)
    if len(found) > limit:
        raise OSError(f"more than {limit} bytes")
    return found


def read_regular(path: Path, limit: int) -> bytes:
    """`read_bounded` for a path that somebody else chose: no device, no pipe that never ends."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError("not a file")
    return read_bounded(path, limit)


def header_routes(folder: str, headers: Path) -> Routes | None:
    """The routes of a service whose header lies in `headers`."""
    path = headers / f"{folder}.h"
    try:
        text = read_regular(path, MAX_DOWNLOAD).decode("utf-8", "replace")
    except (OSError, ValueError):
        return None
    routes = frozenset(route(verb, where) for verb, where in _HTTP_TAG.findall(text))
    return Routes(routes | {"GET /health"}, path.name) if routes else None


def openapi_routes(body: bytes, source: str) -> Routes | None:
    """The routes of an OpenAPI document; None when it is none."""
    try:
        paths = read_json(body)[0]["paths"]
        pairs = [(verb, path) for path, item in paths.items() for verb in item]
        return Routes(frozenset(route(v, p) for v, p in pairs if v.upper() in VERBS), source)
    except (ValueError, TypeError, KeyError, AttributeError):
        return None


def route(verb: str, path: str) -> str:
    """One spelling for "GET /map/{name}" and "get /map/{id}/"."""
    return f"{verb.upper()} {re.sub(r'[{][^}]*[}]', '{}', path).rstrip('/') or '/'}"


# ---- fetching --------------------------------------------------------------------------------


class _Proxies(urllib.request.ProxyHandler):
    """The environment's proxies, but never for loopback and private addresses."""

    def proxy_open(self, req: urllib.request.Request, proxy: str, type: str) -> Any:
        name = urllib.parse.urlsplit(req.full_url).hostname or ""
        try:
            near = ipaddress.ip_address(name).is_private
        except ValueError:
            near = name == "localhost"
        return None if near else super().proxy_open(req, proxy, type)


def opener() -> urllib.request.OpenerDirector:
    """http and https alone: no redirect leads to files or ftp."""
    director = urllib.request.OpenerDirector()
    for handler in (
        _Proxies(),
        urllib.request.UnknownHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPRedirectHandler(),
        urllib.request.HTTPErrorProcessor(),
    ):
        director.add_handler(handler)
    return director


def fetch(url: str, timeout: float) -> bytes:
    """What a URL or a path gives; raises OSError, ValueError, HTTPException."""
    if not url.startswith(("http://", "https://")):
        return read_regular(Path(url), MAX_DOWNLOAD)
    deadline = time.monotonic() + timeout
    body = bytearray()
    with opener().open(url, timeout=timeout) as reply:
        for piece in iter(lambda: reply.read1(1 << 16), b""):
            body += piece
            if len(body) > MAX_DOWNLOAD:
                raise OSError(f"more than {MAX_DOWNLOAD} bytes")
            if time.monotonic() > deadline:
                raise OSError(f"not whole after {timeout:g} s")
        if reply.length:
            raise OSError(f"cut off after {len(body)} bytes")
    return bytes(body)


def fetch_all(urls: Iterable[str], timeout: float) -> Fetched:
    """Fetches in parallel, and comes back in bounded time: a reply that drips is left behind in its thread."""
    left = sorted(set(urls), reverse=True)
    wanted = tuple(left)
    results: Fetched = {}

    def work() -> None:
        while True:
            try:
                url = left.pop()
            except IndexError:
                return
            try:
                results[url] = fetch(url, timeout)
            except urllib.error.HTTPError as error:
                results[url] = f"HTTP {error.code}"
            except (OSError, ValueError, http.client.HTTPException) as error:
                results[url] = str(getattr(error, "reason", None) or error) or type(error).__name__

    threads = [threading.Thread(target=work, daemon=True) for _ in range(min(CONNECTIONS, len(wanted)))]
    deadline = time.monotonic() + timeout * (1 + math.ceil(len(wanted) / CONNECTIONS))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    came = dict(results)
    return {url: came.get(url, f"no answer within {timeout:g} s") for url in wanted}


# ---- Python, read and never run --------------------------------------------------------------


def parse(source: bytes | str, name: str) -> ast.Module:
    """The tree of Python source; raises ValueError saying what is wrong with it, with the line."""
    if len(source) > MAX_PYTHON:
        raise ValueError(f"more than {MAX_PYTHON} bytes of Python")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            compile(source, name, "exec", dont_inherit=True)
            return ast.parse(source, name)
    except SyntaxError as error:
        where = f"line {error.lineno}: " if error.lineno else ""
        raise ValueError(f"{where}{error.msg}") from None
    except (RecursionError, MemoryError):
        raise ValueError("nested too deeply") from None


class Methods(NamedTuple):
    """What can be called on an object of a class: a function's definition, or None where only the name is known."""

    found: dict[str, ast.FunctionDef | ast.AsyncFunctionDef | None]
    whole: bool  # False: a base or a decorator that is not seen here may bring more

    def lacks(self, name: str) -> bool:
        return self.whole and name not in self.found and "__getattr__" not in self.found


@dataclass
class Client:
    """The bytes of a client.py, and its tree when it compiles."""

    source: bytes
    tree: ast.Module | None = None
    fault: str = ""

    def __post_init__(self) -> None:
        try:
            self.tree = parse(self.source, "client.py")
        except ValueError as error:
            self.fault = str(error)

    def statements(self) -> Iterator[ast.stmt]:
        """The statements of the module itself, those under its if and try included."""
        waiting: list[ast.AST] = [self.tree] if self.tree else []
        while waiting:
            node = waiting.pop()
            for child in ast.iter_child_nodes(node):
                if isinstance(child, ast.stmt):
                    yield child
                if isinstance(child, (ast.If, ast.Try, ast.With, ast.ExceptHandler)):
                    waiting.append(child)

    def defines(self, name: str) -> bool:
        """Whether the module binds a name; True as well where that cannot be seen."""
        for statement in self.statements():
            if isinstance(statement, (ast.ClassDef, ast.FunctionDef)) and statement.name == name:
                return True
            if isinstance(statement, (ast.Import, ast.ImportFrom)) and any(
                (alias.asname or alias.name) in (name, "*") for alias in statement.names
            ):
                return True
            if isinstance(statement, ast.Assign) and name in bound_names(statement):
                return True
        return False

    def methods(self, class_name: str) -> Methods | None:
        """The methods of a class, inherited ones included; None when it is not defined here."""
        classes = {s.name: s for s in self.statements() if isinstance(s, ast.ClassDef)}
        if class_name not in classes:
            return None
        found: dict[str, ast.FunctionDef | ast.AsyncFunctionDef | None] = {}
        whole = True
        seen: set[str] = set()
        waiting = [class_name]
        while waiting:
            name = waiting.pop(0)
            if name in seen:
                continue
            seen.add(name)
            if name in classes:
                for key, function in own_methods(classes[name]):
                    found.setdefault(key, function)
                waiting += [base_name(base) for base in classes[name].bases]
                whole = whole and not classes[name].keywords and not classes[name].decorator_list
            elif self._is_axons_base(name):
                for key in BASE_METHODS:
                    found.setdefault(key, None)
            else:
                whole = whole and name in BARE_BASES
        return Methods(found, whole)

    def _is_axons_base(self, name: str) -> bool:
        return any(
            isinstance(s, ast.ImportFrom)
            and s.module in BASE_MODULES
            and any(a.name == "ServiceClient" and (a.asname or a.name) == name for a in s.names)
            for s in self.statements()
        )


def base_name(base: ast.expr) -> str:
    """The name of a base, Protocol of Protocol[int]; empty for what is no plain name."""
    while isinstance(base, ast.Subscript):
        base = base.value
    if isinstance(base, ast.Attribute):
        return base.attr if base.attr in BARE_BASES else ""
    return base.id if isinstance(base, ast.Name) else ""


def own_methods(
    definition: ast.ClassDef,
) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef | None]]:
    """The functions of a class body, and the names that it assigns."""
    for statement in definition.body:
        if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef)):
            plain = all(base_name(d) in ("staticmethod", "classmethod") for d in statement.decorator_list)
            yield statement.name, statement if plain else None
        elif isinstance(statement, (ast.If, ast.Try, ast.Assign, ast.AnnAssign)):
            for name in bound_names(statement):
                yield name, None


def bound_names(tree: ast.AST) -> set[str]:
    """Every name that some code binds, wherever in it."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.alias):
            names.add((node.asname or node.name).partition(".")[0])
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            names.add(node.name)
        elif isinstance(node, ast.arg):
            names.add(node.arg)
        elif isinstance(node, ast.ExceptHandler) and node.name:
            names.add(node.name)
    return names


def blocked_imports(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """The lines that import what the sandbox blocks, late imports and those by name included."""
    for node in ast.walk(tree):
        modules: list[str] = []
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            modules = [node.module] + [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = getattr(node.func, "attr", getattr(node.func, "id", ""))
            if called in ("__import__", "import_module") and isinstance(node.args[0].value, str):
                modules = [node.args[0].value]
        hit = {b for b in BLOCKED for m in modules if m == b or m.startswith(b + ".")}
        for module in sorted(hit):
            yield getattr(node, "lineno", 0), module


def argument_fault(call: ast.Call, function: ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    """Why a method cannot be called so; empty when it can, or when that cannot be told."""
    taken = function.args
    positional = [a.arg for a in [*getattr(taken, "posonlyargs", []), *taken.args]]
    needed = positional[: len(positional) - len(taken.defaults)]
    needed += [a.arg for a, d in zip(taken.kwonlyargs, taken.kw_defaults) if d is None]
    if not any(base_name(d) == "staticmethod" for d in function.decorator_list):
        needed = [name for name in needed if name not in positional[:1]]
        positional = positional[1:]
    named = [k.arg for k in call.keywords if k.arg]
    allowed = [*positional, *(a.arg for a in taken.kwonlyargs)]
    unknown = [name for name in named if name not in allowed]
    if unknown and not taken.kwarg:
        return f"takes no {unknown[0]}; it takes {listed(allowed)}"
    guessed = any(
        isinstance(a, ast.Starred) or (isinstance(a, ast.Constant) and a.value is Ellipsis) for a in call.args
    )
    if guessed or len(named) < len(call.keywords):
        return ""
    if len(call.args) > len(positional) and not taken.vararg:
        return f"takes {len(positional)} arguments by place, not {len(call.args)}; it takes {listed(allowed)}"
    missing = [name for name in needed if name not in positional[: len(call.args)] and name not in named]
    return f"needs {listed(missing)}" if missing else ""


# ---- the rules: fields -----------------------------------------------------------------------


def check_fields(entry: Entry) -> Iterator[Fault]:
    for field in REQUIRED:
        if field not in entry.fields:
            if field == "usage":
                yield "usage-missing", f"no usage: an object of {listed(USAGE)}, which skill agents copy from"
            else:
                yield "missing-field", f"no {field}, which the spec requires"
    for field in TEXTS:
        value = entry.fields.get(field, "?")
        if not isinstance(value, str):
            yield "field-type", f"{field} is {shown(value)}, not a text"
        elif not value.strip():
            yield "field-type", f"{field} is empty"
    kind = entry.text("type")
    if kind.strip() and kind not in TYPES:
        yield "type", f"type is {shown(kind)}, not one of {listed(TYPES)}"
    version = entry.text("version")
    if version.strip() and not _SEMVER.fullmatch(version):
        yield "version", f"version is {shown(version)}, not a semantic version such as 0.1.0"


def check_dates(entry: Entry) -> Iterator[Fault]:
    for field in ("added_at", "updated_at"):
        value = entry.fields.get(field)
        if field == "updated_at" and value is not None and not isinstance(value, str):
            yield "field-type", f"{field} is {shown(value)}, not a text"
        if entry.text(field).strip() and not is_day(entry.text(field)):
            yield "date", f"{field} is {shown(value)}, not a day of the calendar, YYYY-MM-DD"


def is_day(text: str) -> bool:
    match = _DAY.fullmatch(text)
    try:
        return bool(match and datetime.date(*map(int, match.groups())))
    except ValueError:
        return False


def check_urls(entry: Entry) -> Iterator[Fault]:
    for field in URLS:
        fault = url_fault(entry.text(field)) if entry.text(field).strip() else ""
        if fault:
            yield "url", f"{field} is {shown(entry.text(field))}: {fault}"


def url_fault(text: str) -> str:
    """What is wrong with a URL: https, http, file, or relative to where the catalog lies."""
    if not _URL_TEXT.fullmatch(text):
        return "it holds characters that no URL has"
    try:
        parts = urllib.parse.urlsplit(text)
        _ = parts.port
    except ValueError as error:
        return str(error)
    if parts.scheme in ("http", "https"):
        return "" if parts.hostname and _is_host(parts.hostname) else "it names no host"
    if parts.scheme == "file":
        return "" if parts.path not in ("", "/") else "it names no file"
    if parts.scheme or ":" in text.partition("/")[0]:
        return "not https, http, file or relative"
    return "it names no host and no path" if parts.netloc or not parts.path else ""


def _is_host(name: str) -> bool:
    try:
        return ipaddress.ip_address(name) is not None
    except ValueError:
        return bool(_HOST_NAME.fullmatch(name)) and ".." not in name


def host_of(text: str) -> tuple[str, str, int, str]:
    """Scheme, name, port and path of a `host`; raises ValueError with what is wrong."""
    if not _URL_TEXT.fullmatch(text):
        raise ValueError("it holds characters that no URL has")
    parts = urllib.parse.urlsplit(text)
    if parts.scheme not in ("http", "https", "ws", "wss", "tcp"):
        raise ValueError("it does not begin with http://, https://, ws://, wss:// or tcp://")
    if not parts.hostname or not _is_host(parts.hostname):
        raise ValueError("it names no host")
    if not parts.port:
        raise ValueError("it names no port")
    if parts.username is not None or parts.query or parts.fragment:
        raise ValueError("only scheme, host name, port and path belong there")
    return parts.scheme, parts.hostname, parts.port, parts.path.rstrip("/")


def check_host(entry: Entry) -> Iterator[Fault]:
    text = entry.text("host")
    if not text.strip():
        return
    try:
        host_of(text)
    except ValueError as error:
        yield "host", f"host is {shown(text)}: {error}; it should be like http://127.0.0.1:8000"


def is_http(entry: Entry) -> bool:
    return entry.text("host").startswith(("http://", "https://"))


def check_endpoints(entry: Entry) -> Iterator[Fault]:
    endpoints = entry.fields.get("endpoints")
    if "endpoints" not in entry.fields:
        return
    if not isinstance(endpoints, list):
        yield "field-type", f'endpoints is {shown(endpoints)}, not a list of "VERB /path"'
        return
    seen: set[str] = set()
    for endpoint in endpoints:
        match = _ENDPOINT.fullmatch(endpoint) if isinstance(endpoint, str) else None
        if not match:
            yield "endpoint-format", f'endpoint {shown(endpoint)} is not "VERB /path" such as "POST /detect"'
            continue
        if endpoint in seen:
            yield "endpoint-format", f"endpoint {endpoint} is there twice"
            continue
        seen.add(endpoint)
        known = entry.routes
        if known and route(*match.groups()) not in known.routes and match.group(2) not in UNSCHEMED:
            there = listed(sorted(known.routes))
            yield "endpoint-unknown", f"the service has no {endpoint}; {known.source} has {there}"
    if is_http(entry) and "GET /health" not in seen:
        yield "endpoint-health", "endpoints do not name GET /health, by which agents ask whether it runs"


# ---- the rules: usage ------------------------------------------------------------------------


def check_usage(entry: Entry) -> Iterator[Fault]:
    usage = entry.fields.get("usage")
    if "usage" not in entry.fields:
        return
    if not isinstance(usage, dict):
        yield "field-type", f"usage is {shown(usage)}, not an object of {listed(USAGE)}"
        return
    for part in USAGE:
        value = usage.get(part, "?")
        if part not in usage:
            yield "usage-missing", f"usage has no {part}"
        elif not isinstance(value, str):
            yield "field-type", f"usage.{part} is {shown(value)}, not a text"
        elif not value.strip():
            yield "usage-missing", f"usage.{part} is empty"
    texts = {part: usage[part] if isinstance(usage.get(part), str) else "" for part in USAGE}
    class_name = imported_class(entry)
    if texts["import"].strip() and entry.folder:
        right = f"from service_clients.{entry.folder}.client import {class_name or '<Class>'}"
        if texts["import"] != right:
            yield "usage-import", f"usage.import is {shown(texts['import'])}; the sync makes it {right!r}"
    methods = entry.client.methods(class_name) if entry.client and class_name else None
    variable = ""
    if texts["init"].strip():
        variable, faults = check_init(texts["init"], class_name, methods)
        yield from faults
    if texts["example"].strip():
        yield from check_example(texts["example"], variable, class_name, methods)


def imported_class(entry: Entry) -> str:
    """The class that usage.import names, also where the rest of the line is wrong; empty for none."""
    usage = entry.fields.get("usage")
    line = usage.get("import") if isinstance(usage, dict) else None
    match = _IMPORTED.search(line) if isinstance(line, str) else None
    return match.group(1) if match and match.group(1).isidentifier() else ""


def construction(node: ast.stmt) -> tuple[str, ast.Call] | None:
    """Variable and call of `client = Class(...)`."""
    if not isinstance(node, ast.Assign) or len(node.targets) != 1:
        return None
    target, value = node.targets[0], node.value
    if isinstance(target, ast.Name) and isinstance(value, ast.Call) and isinstance(value.func, ast.Name):
        return target.id, value
    return None


def check_init(text: str, class_name: str, methods: Methods | None) -> tuple[str, list[Fault]]:
    """The variable that init makes, and what is wrong with init."""
    right = f"client = {class_name or '<Class>'}()"
    try:
        body = parse(text, "usage.init").body
    except ValueError as error:
        return "", [("usage-init", f"usage.init is not Python: {error}; it should be like {right!r}")]
    made = construction(body[0]) if len(body) == 1 else None
    if made is None:
        return "", [("usage-init", f"usage.init is {shown(text)}; it should be like {right!r}")]
    variable, call = made
    called = call.func.id if isinstance(call.func, ast.Name) else ""
    if class_name and called != class_name:
        fault = (
            f"usage.init makes {called}, but usage.import imports {class_name}; it should be like {right!r}"
        )
        return variable, [("usage-init", fault)]
    return variable, list(call_faults(call, "__init__", class_name, methods))


def call_faults(call: ast.Call, method: str, words: str, methods: Methods | None) -> Iterator[Fault]:
    function = methods.found.get(method) if methods else None
    fault = argument_fault(call, function) if function else ""
    if fault:
        yield "usage-argument", f"{words}() {fault}"


def check_example(text: str, variable: str, class_name: str, methods: Methods | None) -> Iterator[Fault]:
    try:
        tree = parse(text, "usage.example")
    except ValueError as error:
        yield "usage-example", f"usage.example is not Python: {error}"
        return
    made = [m for m in map(construction, tree.body) if m and getattr(m[1].func, "id", "") == class_name]
    variable = variable or (made[0][0] if made else "client")
    known = bound_names(tree) | set(dir(builtins)) | {variable, class_name}
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    asked = 0
    for call in sorted(calls, key=lambda node: (node.lineno, node.col_offset)):
        root = root_of(call.func)
        if root and root not in known:
            yield (
                "usage-example",
                f"usage.example calls {root}, which nothing defines; the client is {variable}",
            )
        elif isinstance(call.func, ast.Name) and call.func.id == class_name:
            yield from call_faults(call, "__init__", class_name, methods)
        elif (
            isinstance(call.func, ast.Attribute)
            and isinstance(call.func.value, ast.Name)
            and call.func.value.id == variable
        ):
            asked += 1
            name = call.func.attr
            if methods and methods.lacks(name):
                public = [key for key in methods.found if not key.startswith("_")]
                yield "usage-method", f"{class_name} has no {name}(); it has {listed(sorted(public))}"
            yield from call_faults(call, name, f"{variable}.{name}", methods)
    if not asked:
        yield "usage-example", f"usage.example calls no method of {variable}"


def root_of(node: ast.AST) -> str:
    """The name that an expression begins with: a of a.b[0].c(); empty for what begins with none."""
    while isinstance(node, (ast.Attribute, ast.Subscript, ast.Call)):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.id if isinstance(node, ast.Name) else ""


# ---- the rules: the client -------------------------------------------------------------------


def check_bytes(entry: Entry) -> Iterator[Fault]:
    """sha256 and size, which the spec does not require."""
    source = entry.client.source if entry.client else None
    if "sha256" in entry.fields:
        stated = entry.fields["sha256"]
        if not isinstance(stated, str) or not _SHA256.fullmatch(stated):
            yield "sha256", f"sha256 is {shown(stated)}, not 64 hexadecimal digits"
        elif source is not None and hashlib.sha256(source).hexdigest() != stated.lower():
            yield "sha256", f"sha256 is {stated}; the client's is {hashlib.sha256(source).hexdigest()}"
    if "size" in entry.fields:
        size = entry.fields["size"]
        if not isinstance(size, int) or isinstance(size, bool) or size < 1:
            yield "size", f"size is {shown(size)}, not a number of bytes"
        elif source is not None and size != len(source):
            yield "size", f"size is {shown(size)}; the client has {len(source)} bytes"


def check_client(entry: Entry) -> Iterator[Fault]:
    client = entry.client
    if client is None:
        return
    if client.tree is None:
        yield "client-compiles", f"client.py: {client.fault}"
        return
    for line, module in sorted(set(blocked_imports(client.tree))):
        yield "client-import", f"client.py:{line} imports {module}, which the sandbox blocks"
    class_name = imported_class(entry)
    if not class_name:
        return
    if not client.defines(class_name):
        yield "client-class", f"client.py does not define {class_name}, which usage.import imports"
        return
    shown_import = f"from service_clients.{entry.folder}.client import {class_name}"
    if shown_import not in (ast.get_docstring(client.tree) or ""):
        yield "client-docstring", f"client.py's docstring does not show {shown_import!r}"
    methods = client.methods(class_name)
    if methods is None:
        return
    if is_http(entry) and methods.lacks("health"):
        yield "client-health", f"{class_name} has no health(), by which agents ask whether the service runs"
    made = methods.found.get("__init__")
    if methods.lacks("__init__") or (made and not (takes(made, "host") or takes(made, "address"))):
        yield "client-host", f"{class_name}() takes no host"


def takes(function: ast.FunctionDef | ast.AsyncFunctionDef, name: str) -> bool:
    listed_arguments = [*function.args.args, *function.args.kwonlyargs]
    return bool(function.args.kwarg) or any(argument.arg == name for argument in listed_arguments)


CHECKS = (
    check_fields, check_dates, check_urls, check_host, check_endpoints, check_usage, check_bytes, check_client,
)  # fmt: skip


# ---- the rules: the catalog ------------------------------------------------------------------


def check_outside(catalog: Mapping[str, Any]) -> Iterator[Fault]:
    for key in catalog:
        if key not in ("updated", "capabilities", "core"):
            yield "catalog-shape", f"{shown(key)} is none of updated, capabilities, core"
    if "updated" not in catalog:
        yield "catalog-shape", "no updated, the time of the last change"
    else:
        updated = catalog["updated"]
        match = _MOMENT.fullmatch(updated) if isinstance(updated, str) else None
        if not match or not is_day(match.group(1)):
            yield "date", f"updated is {shown(updated)}, not a time of ISO 8601 such as 2026-01-31T12:00:00Z"
    if "core" in catalog:
        yield from check_core(catalog["core"])


def check_core(core: object) -> Iterator[Fault]:
    """The entry of the native wheel: {name, version, wheels: list of {url, sha256, size}}."""
    if not isinstance(core, dict):
        yield "catalog-shape", f"core is {shown(core)}, not an object of name, version, wheels"
        return
    version = core.get("version")
    if not isinstance(version, str) or not _SEMVER.fullmatch(version):
        yield "version", f"core.version is {shown(version)}, not a semantic version such as 0.1.0"
    wheels = core.get("wheels")
    if not isinstance(wheels, list):
        yield "catalog-shape", f"core.wheels is {shown(wheels)}, not a list"
        return
    for number, wheel in enumerate(wheels):
        where = f"core.wheels[{number}]"
        if not isinstance(wheel, dict):
            yield "catalog-shape", f"{where} is {shown(wheel)}, not an object of url, sha256"
            continue
        url, digest = wheel.get("url"), wheel.get("sha256")
        fault = url_fault(url) if isinstance(url, str) else "not a text"
        if fault:
            yield "url", f"{where}.url is {shown(url)}: {fault}"
        if not isinstance(digest, str) or not _SHA256.fullmatch(digest):
            yield "sha256", f"{where}.sha256 is {shown(digest)}, not 64 hexadecimal digits"
        size = wheel.get("size", 1)
        if not isinstance(size, int) or isinstance(size, bool) or size < 1:
            yield "size", f"{where}.size is {shown(size)}, not a number of bytes"


def check_everywhere(catalog: Any) -> Iterator[Finding]:
    """Keys that came twice and texts that no terminal should see, at any depth."""
    waiting: list[tuple[tuple[str, ...], Any]] = [((), catalog)]
    seen: set[int] = set()
    while waiting:
        path, value = waiting.pop()
        inside = len(path) > 1 and path[0] == "capabilities"
        entry, where = (path[1], ".".join(path[2:])) if inside else ("catalog", ".".join(path))
        if isinstance(value, str) and _CONTROL.search(value):
            yield Finding(entry, "bad-text", f"{where or 'it'} holds {shown(_CONTROL.findall(value)[0])}")
        if not isinstance(value, (dict, list)) or id(value) in seen:
            continue
        seen.add(id(value))
        for twice in value.repeated if isinstance(value, _Object) else ():
            if path == ("capabilities",):
                yield Finding(
                    twice, "duplicate-key", "the entry is there twice; the second is what readers see"
                )
            else:
                key_path = f"{where}.{twice}" if where else twice
                yield Finding(entry, "duplicate-key", f"{shown(key_path)} is there twice")
        pairs = value.items() if isinstance(value, dict) else ((str(i), v) for i, v in enumerate(value))
        for key, child in pairs:
            if isinstance(key, str) and _CONTROL.search(key):
                yield Finding(entry, "bad-text", f"key {shown(key)} holds {shown(_CONTROL.findall(key)[0])}")
            if len(path) < 100:  # deeper, nothing is read by anyone
                waiting.append(((*path, str(key)[:MAX_NAME]), child))


def check_name(name: str) -> str:
    """What is wrong with an entry's name; empty when the sync can make a folder of it."""
    if len(name) > MAX_NAME:
        return f"a name of {len(name)} characters; at most {MAX_NAME}"
    if not _NAME.fullmatch(name):
        return "a name is of a-z, 0-9 and '-', and begins with a letter or digit"
    folder = name.replace("-", "_")
    if not folder.isidentifier() or keyword.iskeyword(folder):
        return f"service_clients.{folder} cannot be imported: {folder} is not a name in Python"
    return ""


def check_hosts(entries: Iterable[Entry]) -> Iterator[Finding]:
    shared: dict[tuple[str, str, int, str], list[str]] = {}
    for entry in entries:
        try:
            shared.setdefault(host_of(entry.text("host")), []).append(entry.name)
        except ValueError:
            continue
    for (scheme, name, port, path), sharing in shared.items():
        first = sorted(sharing)[:4]
        for entry_name in sharing if len(sharing) > 1 else ():
            others = [other for other in first if other != entry_name][:3]
            more = len(sharing) - 1 - len(others)
            words = listed(others) + (f" and {more} more" if more else "")
            yield Finding(
                entry_name, "duplicate-host", f"{scheme}://{name}:{port}{path} is also that of {words}"
            )


# ---- lint ------------------------------------------------------------------------------------


def lint(
    catalog: Any,
    *,
    clients: str | os.PathLike[str] | None = None,
    headers: str | os.PathLike[str] | None = HEADERS,
    online: bool = False,
    timeout: float = 5.0,
    base: str | os.PathLike[str] = ".",
    notes: list[str] | None = None,
) -> list[Finding]:
    """Checks a catalog.

    Args:
        catalog: its JSON text (bytes or str), or what json.loads made of it. Keys that come twice show in text only.
        clients: folder of <folder>/client.py; None: no client is read, unless `online`.
        headers: folder of axon's service headers, whose routes count where OpenAPI was not asked; None: no such folder.
        online: fetch client_sdk where `clients` has no client, and GET openapi.json of every http host.
        timeout: seconds for each of these.
        base: folder that a relative client_sdk starts from.
        notes: what could not be looked at is appended here, one line each.

    Returns:
        What is wrong, sorted by entry and rule; empty when nothing is.
    """
    found: list[Finding] = []
    if isinstance(catalog, (bytes, str)):
        try:
            catalog, strange = read_json(catalog)
        except ValueError as error:
            return [Finding("catalog", "not-json", f"{error}")]
        found += [Finding("catalog", "not-json", f"{word} is not JSON") for word in sorted(set(strange))]
    found += check_everywhere(catalog)
    if not isinstance(catalog, dict):
        return [*found, Finding("catalog", "catalog-shape", f"it is {shown(catalog)}, not an object")]
    found += [Finding("catalog", *fault) for fault in check_outside(catalog)]
    capabilities = catalog.get("capabilities")
    if not isinstance(capabilities, dict):
        problem = f"capabilities is {shown(capabilities)}, not an object of entries by name"
        return sorted({*found, Finding("catalog", "catalog-shape", problem)})
    entries = []
    for name, fields in capabilities.items():
        wrong = check_name(str(name))
        if wrong:
            found.append(Finding(str(name), "entry-name", wrong))
        if not isinstance(fields, dict):
            found.append(Finding(str(name), "catalog-shape", f"it is {shown(fields)}, not an object"))
            continue
        entries.append(Entry(str(name), fields, None if wrong else str(name).replace("-", "_")))
    aside = notes if notes is not None else []
    for entry in entries:
        look_up(entry, clients, headers, aside)
    if online:
        found += look_up_online(entries, timeout, Path(base), aside)
    found += check_hosts(entries)
    found += [Finding(entry.name, *fault) for entry in entries for check in CHECKS for fault in check(entry)]
    return sorted(set(found))


def look_up(
    entry: Entry,
    clients: str | os.PathLike[str] | None,
    headers: str | os.PathLike[str] | None,
    notes: list[str],
) -> None:
    """What this machine's files know of an entry."""
    if not entry.folder:
        return
    if headers is not None:
        entry.routes = header_routes(entry.folder, Path(headers))
    if clients is not None:
        path = Path(clients) / entry.folder / "client.py"
        try:
            entry.client = Client(read_regular(path, MAX_DOWNLOAD))
        except OSError as error:
            notes.append(f"{entry.name}: {path}: {error.strerror or error}; this client was not checked")


def look_up_online(entries: list[Entry], timeout: float, base: Path, notes: list[str]) -> Iterator[Finding]:
    """What client_sdk and the hosts answer; a host that does not is not a finding."""
    sources: dict[str, str] = {}
    schemas: dict[str, str] = {}
    for entry in entries:
        sdk, host = entry.text("client_sdk"), entry.text("host")
        if entry.client is None and sdk and not url_fault(sdk):
            sources[entry.name] = place(sdk, base)
        if is_http(entry):
            try:
                host_of(host)
                schemas[entry.name] = host.rstrip("/") + "/openapi.json"
            except ValueError:
                continue  # the rule `host` tells
    came = fetch_all([*sources.values(), *schemas.values()], timeout)
    for entry in entries:
        answer = came.get(sources.get(entry.name, ""))
        if isinstance(answer, bytes):
            entry.client = Client(answer)
        elif answer is not None:
            yield Finding(entry.name, "client-unreachable", f"client_sdk {sources[entry.name]}: {answer}")
        url = schemas.get(entry.name, "")
        answer = came.get(url)
        routes = openapi_routes(answer, url) if isinstance(answer, bytes) else None
        if routes:
            entry.routes = routes
        elif answer is not None:
            why = answer if isinstance(answer, str) else "not an OpenAPI document"
            notes.append(f"{entry.name}: {url}: {why}; its endpoints were not compared with the service")


def place(url: str, base: Path) -> str:
    """Where to fetch a well-formed URL from: itself, or the path of a file."""
    parts = urllib.parse.urlsplit(url)
    if parts.scheme in ("http", "https"):
        return url
    path = urllib.parse.unquote(parts.path)
    return path if parts.scheme == "file" else str(base / path)


# ---- the command -----------------------------------------------------------------------------


def seconds(text: str) -> float:
    value = float(text)
    if not 0 < value < 3600:
        raise argparse.ArgumentTypeError(f"{text}: seconds, more than 0 and less than 3600")
    return value


def folder(text: str) -> Path:
    if not os.path.isdir(text):
        raise argparse.ArgumentTypeError(f"{text}: not a folder")
    return Path(text)


def arguments() -> argparse.ArgumentParser:
    rules = "\n".join(f"  {name:18} {what}" for name, what in RULES.items())
    parser = argparse.ArgumentParser(
        description="Checks catalogs of services: one line per finding, ENTRY: rule: what is wrong.",
        epilog=f"what holds, by the names of the rules:\n{rules}\n\nexit status: 0 nothing found, 1 findings, "
        "2 a file that cannot be read, or wrong arguments",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("files", nargs="+", metavar="FILE", help="a catalog.json")
    parser.add_argument("--clients", type=folder, metavar="DIR", help="check DIR/<folder>/client.py as well")
    parser.add_argument(
        "--headers",
        type=folder,
        metavar="DIR",
        default=HEADERS if HEADERS.is_dir() else None,
        help="axon's service headers, whose routes endpoints are compared with; default: those of this checkout",
    )
    parser.add_argument(
        "--online", action="store_true", help="fetch client_sdk, and compare endpoints with HOST/openapi.json"
    )
    parser.add_argument("--timeout", type=seconds, metavar="S", default=5.0, help="of one fetch; default 5 s")
    return parser


def main(argv: list[str] | None = None) -> int:
    options = arguments().parse_args(argv)
    status = 0
    for file in options.files:
        try:
            text = read_bounded(Path(file), MAX_CATALOG)
        except (OSError, ValueError) as error:
            print(printable(f"{file}: {getattr(error, 'strerror', None) or error}"), file=sys.stderr)
            status = 2
            continue
        notes: list[str] = []
        found = lint(
            text,
            clients=options.clients,
            headers=options.headers,
            online=options.online,
            timeout=options.timeout,
            base=Path(file).parent,
            notes=notes,
        )
        for note in notes:
            print(printable(f"note: {note}"), file=sys.stderr)
        for finding in found:
            print(printable(f"{file}: ") + str(finding) if len(options.files) > 1 else finding)
        status = max(status, 1 if found else 0)
    return status


def run() -> int:
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        status = main()
        sys.stdout.flush()
    except BrokenPipeError:  # whoever read has seen enough: `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return status


if __name__ == "__main__":
    sys.exit(run())
