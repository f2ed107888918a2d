"""The linter: every rule has a catalog that breaks it, and nothing that is thrown at it makes it fall over."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, Callable

import pytest
from support import CHECKOUT, Serve

TOOL = CHECKOUT / "tools/lint_catalog.py"
FIELD = CHECKOUT / "tests/data/field_catalog.json"
PUBLISHED = CHECKOUT.parent / "shared/data/tidybot_catalog.json"

spec = importlib.util.spec_from_file_location("lint_catalog", TOOL)
assert spec and spec.loader
lint_catalog = importlib.util.module_from_spec(spec)
sys.modules["lint_catalog"] = lint_catalog
spec.loader.exec_module(lint_catalog)

CLIENT = '''"""A cup finder.

    from service_clients.cup_finder.client import CupClient
"""
import json
import urllib.request


class CupClient:
    colour = "red"

    def __init__(self, host: str = "http://127.0.0.1:9000", timeout: float = 60.0):
        self.host = host

    def health(self) -> dict:
        with urllib.request.urlopen(self.host + "/health", timeout=5) as reply:
            return json.loads(reply.read())

    def find(self, image, conf=0.5, *, size=None):
        return []

    @staticmethod
    def sort(cups):
        return cups
'''


def entry(**changes: Any) -> dict[str, Any]:
    """A good entry, with some fields changed; None takes a field away."""
    fields: dict[str, Any] = {
        "type": "model",
        "description": "Finds cups.",
        "host": "http://127.0.0.1:9000",
        "endpoints": ["GET /health", "POST /find"],
        "client_sdk": "https://raw.example.org/cups/client.py",
        "service_repo": "https://git.example.org/cups",
        "api_docs": "docs/cups.md",
        "version": "0.1.0",
        "added_by": "ada",
        "added_at": "2026-02-28",
        "usage": {
            "import": "from service_clients.cup_finder.client import CupClient",
            "init": "client = CupClient()",
            "example": "cups = client.find(frame_bytes, conf=0.4)",
            "returns": "List of cups.",
        },
    }
    fields.update(changes)
    return {key: value for key, value in fields.items() if value is not None}


def usage(**changes: Any) -> dict[str, Any]:
    parts = {**entry()["usage"], **{key.rstrip("_"): value for key, value in changes.items()}}
    return entry(usage={key: value for key, value in parts.items() if value is not None})


def catalog(fields: Any, name: str = "cup-finder", **outside: Any) -> dict[str, Any]:
    return {"updated": "2026-02-28T12:00:00Z", "capabilities": {name: fields}, **outside}


def rules(what: Any, **options: Any) -> list[tuple[str, str]]:
    return [(found.entry, found.rule) for found in lint_catalog.lint(what, **options)]


@pytest.fixture
def clients(tmp_path: Path) -> Callable[..., Path]:
    """Writes a client as the sync would, and gives the folder of clients."""

    def write(source: str | bytes, folder: str = "cup_finder") -> Path:
        path = tmp_path / "service_clients" / folder
        path.mkdir(parents=True, exist_ok=True)
        (path / "client.py").write_bytes(source if isinstance(source, bytes) else source.encode())
        return tmp_path / "service_clients"

    return write


def command(*arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, str(TOOL), *map(str, arguments)]
    return subprocess.run(words, capture_output=True, text=True, timeout=60, **options)


# ---- the catalogs that there are -------------------------------------------------------------


def test_this_repositorys_catalog_has_nothing_wrong() -> None:
    done = command(CHECKOUT / "catalog.json", "--clients", CHECKOUT / "service_clients")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_fields_catalog_has_exactly_the_defects_that_are_known() -> None:
    for file in [FIELD, *([PUBLISHED] if PUBLISHED.exists() else [])]:
        done = command(file)
        assert done.returncode == 1
        assert [tuple(line.split(": ")[:2]) for line in done.stdout.splitlines()] == [
            ("foundation-stereo", "usage-missing"),
            ("graspgen", "usage-missing"),
            ("grounded-sam2", "endpoint-unknown"),
            ("grounded-sam2", "missing-field"),
            ("grounded-sam2", "missing-field"),
            ("grounded-sam2", "missing-field"),
            ("grounded-sam2", "usage-missing"),
            ("lightweight-grasp-net", "usage-import"),
            ("nav-mapping", "usage-missing"),
            ("realsense-slam", "usage-import"),
            ("realsense-slam", "usage-missing"),
            ("yolo-detection", "usage-missing"),
        ], file
        for words in [
            "foundation-stereo: usage-missing: usage has no init",
            "graspgen: usage-missing: usage has no init",
            "nav-mapping: usage-missing: usage has no init",
            "realsense-slam: usage-missing: usage has no init",
            "grounded-sam2: endpoint-unknown: the service has no POST /predict; grounded_sam2.h has GET /health, POST /detect",
            "grounded-sam2: missing-field: no version",
            "grounded-sam2: missing-field: no added_at",
            "grounded-sam2: missing-field: no added_by",
            "grounded-sam2: usage-missing: no usage",
            "yolo-detection: usage-missing: no usage",
            "'from service_clients.lightweight_grasp_net.client import LightweightGraspClient'",
            "'from service_clients.realsense_slam.client import SLAMClient'",
        ]:
            assert words in done.stdout


def test_the_fields_yolo_client_imports_what_the_sandbox_blocks(clients: Callable[..., Path]) -> None:
    folder = clients(CLIENT.replace("import json\n", "import json\nimport requests\n"), "yolo_detection")
    done = command(FIELD, "--clients", folder)
    assert (
        "yolo-detection: client-import: client.py:6 imports requests, which the sandbox blocks\n"
        in done.stdout
    )
    assert "note: graspgen: " in done.stderr
    assert "this client was not checked" in done.stderr


# ---- every rule ------------------------------------------------------------------------------


def test_a_good_entry_has_nothing_wrong(clients: Callable[..., Path]) -> None:
    digest = hashlib.sha256(CLIENT.encode()).hexdigest()
    good = entry(sha256=digest, size=len(CLIENT), updated_at="2026-03-01", models=["cups"])
    assert lint_catalog.lint(catalog(good), clients=clients(CLIENT)) == []


BROKEN = [
    ("type", entry(type="thing"), "type is 'thing', not one of model, service, policy, simulator, robot"),
    ("version", entry(version="1.0"), "version is '1.0', not a semantic version"),
    ("version", entry(version="01.0.0"), "'01.0.0'"),
    ("date", entry(added_at="2026-02-30"), "added_at is '2026-02-30', not a day of the calendar"),
    ("date", entry(added_at="28.2.2026"), "YYYY-MM-DD"),
    ("date", entry(updated_at="2026-2-1"), "updated_at"),
    ("field-type", entry(updated_at=3), "updated_at is 3, not a text"),
    ("field-type", entry(description=7), "description is 7, not a text"),
    ("field-type", entry(added_by=" "), "added_by is empty"),
    ("field-type", entry(endpoints="GET /health"), "endpoints is 'GET /health', not a list"),
    ("field-type", entry(usage=[]), "usage is an array"),
    ("field-type", usage(returns=True), "usage.returns is true, not a text"),
    ("url", entry(client_sdk="ftp://example.org/client.py"), "not https, http, file or relative"),
    ("url", entry(client_sdk="git@example.org:cups.git"), "not https, http, file or relative"),
    ("url", entry(service_repo="https://git.example.org/<org>/cups"), "characters that no URL has"),
    ("url", entry(api_docs="https:///docs"), "names no host"),
    ("url", entry(client_sdk="http://[::1/client.py"), "client_sdk is"),
    ("host", entry(host="http://<backend-ip>:<port>"), "characters that no URL has"),
    ("host", entry(host="http://127.0.0.1"), "it names no port"),
    ("host", entry(host="http://127.0.0.1:99999"), "host is 'http://127.0.0.1:99999'"),
    ("host", entry(host="ftp://127.0.0.1:9000", endpoints=["GET /health"]), "does not begin with http://"),
    ("host", entry(host="http://me:secret@127.0.0.1:9000"), "only scheme, host name, port and path"),
    ("endpoint-format", entry(endpoints=["GET /health", "find"]), "endpoint 'find' is not \"VERB /path\""),
    ("endpoint-format", entry(endpoints=["GET /health", 5]), "endpoint 5"),
    ("endpoint-format", entry(endpoints=["GET /health", "GET /health"]), "GET /health is there twice"),
    ("endpoint-health", entry(endpoints=["POST /find"]), "GET /health"),
    ("usage-missing", entry(usage=None), "no usage"),
    ("usage-missing", usage(init=None), "usage has no init"),
    ("usage-missing", usage(returns=""), "usage.returns is empty"),
    ("usage-import", usage(import_="import cup_finder.client"), "from service_clients.cup_finder.client import"),
    ("usage-import", usage(import_="from service_clients.cup_finder.client import CupClient "), "CupClient '"),
    ("usage-init", usage(init="client = "), "usage.init is not Python: line 1"),
    ("usage-init", usage(init="CupClient()"), "it should be like 'client = CupClient()'"),
    ("usage-init", usage(init="client = PlateClient()"), "makes PlateClient, but usage.import imports CupClient"),
    ("usage-example", usage(example="cups = client.find("), "usage.example is not Python: line 1"),
    ("usage-example", usage(example="cups = []"), "calls no method of client"),
    ("usage-example", usage(example="client.find(b)\nfinder.find(b)"), "calls finder, which nothing defines"),
    ("sha256", entry(sha256="abc"), "sha256 is 'abc', not 64 hexadecimal digits"),
    ("size", entry(size=True), "size is true, not a number of bytes"),
    *(
        ("missing-field", entry(**{field: None}), f"no {field}")
        for field in [
            "type", "description", "client_sdk", "service_repo", "api_docs", "version", "added_by", "added_at", "host",
            "endpoints",
        ]
    ),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "fields", "words"), BROKEN)
def test_an_entry_that_breaks_one_rule_has_one_finding(rule: str, fields: Any, words: str) -> None:
    (found,) = lint_catalog.lint(catalog(fields))
    assert (found.entry, found.rule) == ("cup-finder", rule)
    assert words in found.text


BROKEN_CLIENTS = [
    ("client-compiles", "def (", {}, "client.py: line 1"),
    ("client-compiles", b"\xff\xfe", {}, "client.py"),
    ("client-compiles", CLIENT + "\0", {}, "null"),
    ("client-compiles", "x = " + "(" * 20000, {}, "client.py"),
    ("client-compiles", "#" * (150 << 10), {}, "more than 131072 bytes"),
    ("client-class", CLIENT.replace("class CupClient", "class PlateClient"), {}, "does not define CupClient"),
    ("client-health", CLIENT.replace("def health", "def healthy"), {}, "has no health()"),
    ("client-host", CLIENT.replace("host: str", "url: str").replace("= host", "= url"), {}, "takes no host"),
    ("client-docstring", CLIENT.replace("    from service_clients", "    from clients"), {}, "does not show"),
    (
        "sha256",
        CLIENT,
        {"sha256": "0" * 64},
        "the client's is " + hashlib.sha256(CLIENT.encode()).hexdigest(),
    ),
    ("size", CLIENT, {"size": 3}, f"the client has {len(CLIENT)} bytes"),
]


@pytest.mark.parametrize(("rule", "source", "fields", "words"), BROKEN_CLIENTS)
def test_a_client_that_breaks_one_rule_has_one_finding(
    rule: str, source: Any, fields: dict[str, Any], words: str, clients: Callable[..., Path]
) -> None:
    (found,) = lint_catalog.lint(catalog(entry(**fields)), clients=clients(source))
    assert found.rule == rule
    assert words in found.text


@pytest.mark.parametrize(
    "line",
    [
        "import requests",
        "import requests.adapters",
        "import json, httpx",
        "from http import client",
        "from http.client import HTTPConnection",
        "import http.client as wire",
        "from socket import *",
        "def late():\n    import subprocess",
        "__import__('ctypes')",
        "import importlib\nimportlib.import_module('grpc.aio')",
        "import aiohttp",
        "import ssl",
    ],
)
def test_what_the_sandbox_blocks_is_found_wherever_it_is_imported(
    line: str, clients: Callable[..., Path]
) -> None:
    (found,) = lint_catalog.lint(catalog(entry()), clients=clients(CLIENT + line + "\n"))
    assert found.rule == "client-import"
    number = len(CLIENT.splitlines()) + len(line.splitlines())
    assert found.text.startswith(f"client.py:{number} imports ")


@pytest.mark.parametrize(
    "line", ["import urllib.request", "import http", "from .socket import x", "import sslib"]
)
def test_what_the_sandbox_allows_is_not_found(line: str, clients: Callable[..., Path]) -> None:
    assert lint_catalog.lint(catalog(entry()), clients=clients(CLIENT + line + "\n")) == []


CALLS = [
    ("client.lose(frame)", "usage-method", "CupClient has no lose(); it has colour, find, health, sort"),
    (
        "client.find(frame, colour=1)",
        "usage-argument",
        "client.find() takes no colour; it takes image, conf, size",
    ),
    ("client.find(frame, 0.5, 3)", "usage-argument", "takes 2 arguments by place, not 3"),
    ("client.find()", "usage-argument", "client.find() needs image"),
    ("client.sort()", "usage-argument", "client.sort() needs cups"),
    ("client = CupClient(port=3)\nclient.find(frame)", "usage-argument", "CupClient() takes no port"),
]


@pytest.mark.parametrize(("example", "rule", "words"), CALLS)
def test_the_example_is_compared_with_the_class(
    example: str, rule: str, words: str, clients: Callable[..., Path]
) -> None:
    (found,) = lint_catalog.lint(catalog(usage(example=example)), clients=clients(CLIENT))
    assert found.rule == rule
    assert words in found.text


@pytest.mark.parametrize(
    "example",
    [
        "client.find(frame, ...)",
        "client.find(*pictures, **options)",
        "client.find(conf=0.1, image=frame, size=2)",
        "for cup in client.sort(client.find(frame)):\n    print(cup.items())",
        "from robot_sdk import sensors\nclient.find(sensors.get_camera_frame())",
        "print(client.health()['status'].upper())",
        "best = max(client.find(b), key=lambda cup: cup.score())",
    ],
)
def test_examples_that_run_have_nothing_wrong(example: str, clients: Callable[..., Path]) -> None:
    assert lint_catalog.lint(catalog(usage(example=example)), clients=clients(CLIENT)) == []


@pytest.mark.parametrize("name", ["Cup", "cup_finder", "../../x", "a/b", "con taining spaces", "", "-a", "3d", "class", "a" * 300])  # fmt: skip
def test_a_name_that_makes_no_folder_is_found_and_no_file_of_it_looked_for(name: str, tmp_path: Path) -> None:
    notes: list[str] = []
    found = lint_catalog.lint(catalog(entry(), name), clients=tmp_path, notes=notes)
    assert {f.rule for f in found} == {"entry-name"}
    assert notes == []


def test_hosts_are_found_twice_however_they_are_spelled() -> None:
    both = {
        "cup-finder": entry(host="http://robot.example.org:9000/"),
        "cup-finder-2": {**entry(host="http://Robot.example.org:9000"), "usage": 0},
        "cup-finder-3": {**entry(host="ws://robot.example.org:9000"), "usage": 0},
    }
    found = lint_catalog.lint({**catalog({}), "capabilities": both})
    assert [(f.entry, f.text) for f in found if f.rule == "duplicate-host"] == [
        ("cup-finder", "http://robot.example.org:9000 is also that of cup-finder-2"),
        ("cup-finder-2", "http://robot.example.org:9000 is also that of cup-finder"),
    ]


def test_many_entries_at_one_host_make_short_findings() -> None:
    many = {f"cup-{number:04}": entry(usage=0) for number in range(500)}
    found = lint_catalog.lint({**catalog({}), "capabilities": many})
    (first, *_) = [f for f in found if f.rule == "duplicate-host"]
    assert first.text == "http://127.0.0.1:9000 is also that of cup-0001, cup-0002, cup-0003 and 496 more"


OUTSIDES = [
    ("catalog-shape", {"capabilities": {}}, "no updated"),
    ("catalog-shape", {"updated": "2026-02-18", "capabilities": []}, "capabilities is an array"),
    ("catalog-shape", {"updated": "2026-02-18"}, "capabilities is null"),
    ("catalog-shape", {**catalog(entry()), "services": {}}, "'services' is none of updated, capabilities, core"),
    ("catalog-shape", catalog([]), "it is an array, not an object"),
    ("catalog-shape", [1], "it is an array"),
    ("date", {**catalog(entry()), "updated": "2026-02-30T00:00:00Z"}, "updated is '2026-02-30T00:00:00Z'"),
    ("date", {**catalog(entry()), "updated": "yesterday"}, "ISO 8601"),
    ("date", {**catalog(entry()), "updated": 1.5}, "updated is 1.5"),
    ("catalog-shape", catalog(entry(), core=[]), "core is an array"),
    ("catalog-shape", catalog(entry(), core={"version": "0.1.0"}), "core.wheels is null"),
    ("version", catalog(entry(), core={"wheels": []}), "core.version is null"),
    ("catalog-shape", catalog(entry(), core={"version": "0.1.0", "wheels": [3]}), "core.wheels[0] is 3"),
    ("url", catalog(entry(), core={"version": "0.1.0", "wheels": [{"sha256": "a" * 64}]}), "wheels[0].url is null"),
    ("sha256", catalog(entry(), core={"version": "0.1.0", "wheels": [{"url": "a.whl"}]}), "wheels[0].sha256 is null"),
    ("duplicate-key", '{"updated": "2026-02-18", "updated": "2026-02-18", "capabilities": {}}', "'updated' is there twice"),
    ("bad-text", catalog(entry(description="a\0b")), r"description holds '\x00'"),
    ("not-json", "{", "line 1"),
    ("not-json", b"\xff\xfe{}", "utf-8"),
    ("not-json", b"", "char 0"),
    ("not-json", "[" * 200000, "nested too deeply"),
    ("not-json", b"\xef\xbb\xbf{}", "BOM"),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "what", "words"), OUTSIDES)
def test_a_catalog_that_breaks_one_rule_has_one_finding(rule: str, what: Any, words: str) -> None:
    (found,) = lint_catalog.lint(what)
    assert found.rule == rule
    assert words in found.text


def test_keys_that_come_twice_are_found_where_they_are() -> None:
    text = json.dumps(catalog(entry())).replace('"type": "model"', '"type": "robot", "type": "model"')
    assert [str(f) for f in lint_catalog.lint(text)] == ["cup-finder: duplicate-key: 'type' is there twice"]
    twice = json.dumps(catalog(entry())).replace('{"cup-finder"', '{"cup-finder": 3, "cup-finder"')
    assert rules(twice) == [("cup-finder", "duplicate-key")]


def test_every_rule_is_in_the_docs_and_has_a_test() -> None:
    text = (CHECKOUT / "docs/catalog.md").read_text()
    here = Path(__file__).read_text()
    for rule in lint_catalog.RULES:
        assert f"| `{rule}` |" in text
        assert f'"{rule}"' in here


# ---- hostile files ---------------------------------------------------------------------------

HOSTILE: list[Any] = [
    None, True, 0, -1, 1.5, float("inf"), 10**400, "", " ", "\0", "\ud800", "a\nb", "x" * 100000, [], [[]], {}, {"a": {}},
    "http://[", "http://a:b", "[" * 1000, "-" * 100000 + "1", "if 1:0\n" + "elif 1:0\n" * 14000, "1" + "+1" * 65000,
    "http://\u2100.example.org:80", "//", "\u0662\u0660\u0662\u0666-01-01",
]  # fmt: skip


@pytest.mark.parametrize("value", HOSTILE, ids=lambda value: repr(value)[:20])
def test_no_value_in_any_place_makes_a_traceback(value: Any, clients: Callable[..., Path]) -> None:
    folder = clients(CLIENT)
    for field in [*entry(), "sha256", "size", "updated_at"]:
        for what in (value, [value], {"import": value}):
            found = lint_catalog.lint(catalog(entry(**{field: what})), clients=folder)
            assert all("\n" not in str(f) and len(str(f)) < 1000 for f in found)
    for part in entry()["usage"]:
        lint_catalog.lint(catalog(usage(**{part: value})), clients=folder)
    for what in (value, catalog(value), {"updated": value, "capabilities": value, "core": value}):
        lint_catalog.lint(what)
    lint_catalog.lint(
        catalog(entry(), core={"version": value, "wheels": [value, {"url": value, "size": value}]})
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"\0\0\0", "catalog: not-json: "),
        (b'{"capabilities": {"a": {"size": NaN}}}', "catalog: not-json: NaN is not JSON"),
        (b'{"capabilities": {"a": {"size": 1' + b"0" * 1000000 + b"}}}", "a: size: size is inf"),
        (
            b'{"updated": ' + b"[" * 90 + b"]" * 90 + b', "capabilities": {}}',
            "catalog: date: updated is an array",
        ),
        (b'{"capabilities": {"\\u001b[31m\\ud800": 3}}', "catalog: bad-text: key '\\x1b[31m\\ud800' holds"),
        (b'{"capabilities": {"a": {"description": "x\\u0000y"}}}', "a: bad-text: description holds '\\x00'"),
    ],
)
def test_hostile_files_are_findings(text: bytes, words: str, tmp_path: Path) -> None:
    (tmp_path / "catalog.json").write_bytes(text)
    done = command(
        tmp_path / "catalog.json", env={"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    )
    assert done.returncode == 1
    assert words in done.stdout
    assert done.stderr == ""


# ---- the command -----------------------------------------------------------------------------


def test_a_file_that_cannot_be_read_is_2_and_the_others_are_still_checked(tmp_path: Path) -> None:
    done = command(tmp_path / "none.json", tmp_path, FIELD)
    assert done.returncode == 2
    assert "none.json: No such file or directory\n" in done.stderr
    assert "Is a directory" in done.stderr
    assert f"{FIELD}: yolo-detection: usage-missing" in done.stdout


@pytest.mark.parametrize(
    "words", [[], ["--clients", "no/such/folder", FIELD], ["--timeout", "nan", FIELD], ["--x", FIELD]]
)
def test_wrong_arguments_are_2(words: list[object]) -> None:
    done = command(*words)
    assert done.returncode == 2
    assert "usage: " in done.stderr
    assert "Traceback" not in done.stderr


def test_help_names_every_rule() -> None:
    done = command("--help")
    assert done.returncode == 0
    assert all(f"  {rule} " in done.stdout for rule in lint_catalog.RULES)


def test_make_lint_catalog_fails_with_the_list() -> None:
    done = subprocess.run(
        ["make", "lint-catalog", f"FILE={FIELD}"], cwd=CHECKOUT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode != 0
    assert "yolo-detection: usage-missing: " in done.stdout


# ---- online ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def service(serve: Serve) -> str:
    """A FastAPI service that serves its own client; POST /lose is not among its routes."""
    from fastapi import FastAPI, Response

    app = FastAPI()
    app.get("/health")(lambda: {"status": "ok"})
    app.post("/find")(list)
    app.get("/cups/{name}")(lambda name: name)
    app.get("/client.py")(lambda: Response(CLIENT, media_type="text/x-python"))
    app.get("/page.py")(lambda: Response("<!doctype html><p>moved</p>"))
    return serve(app)


def test_online_compares_endpoints_with_the_services_openapi(service: str) -> None:
    endpoints = ["GET /health", "POST /find", "GET /docs", "GET /cups/{id}", "POST /lose", "GET /find"]
    good = entry(host=service, endpoints=endpoints, client_sdk=f"{service}/client.py")
    notes: list[str] = []
    found = lint_catalog.lint(catalog(good), online=True, notes=notes)
    assert [f.rule for f in found] == ["endpoint-unknown", "endpoint-unknown"]
    assert f"the service has no GET /find; {service}/openapi.json has GET /client.py, " in found[0].text
    assert "the service has no POST /lose; " in found[1].text
    assert notes == []


def test_online_checks_the_client_that_client_sdk_leads_to(service: str, tmp_path: Path) -> None:
    def found(url: str) -> list[tuple[str, str]]:
        fields = entry(host=service, client_sdk=url, sha256=hashlib.sha256(CLIENT.encode()).hexdigest())
        return [(f.rule, f.text) for f in lint_catalog.lint(catalog(fields), online=True, base=tmp_path)]

    (tmp_path / "cups client.py").write_text(CLIENT)
    assert found(f"{service}/client.py") == []
    assert found("cups%20client.py") == []
    assert found((tmp_path / "cups client.py").as_uri()) == []
    assert [rule for rule, _ in found(f"{service}/page.py")] == ["client-compiles", "sha256"]
    assert found(f"{service}/none.py") == [("client-unreachable", f"client_sdk {service}/none.py: HTTP 404")]
    assert [rule for rule, _ in found("file:///dev/zero")] == ["client-unreachable"]
    assert [rule for rule, _ in found("none.py")] == ["client-unreachable"]


FAULTY = [
    (b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n# cut", "cut off after 5 bytes"),
    (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\n# cut", "IncompleteRead"),
    (b"HTTP/1.1 200 OK\r\n\r\n" + b"#" * (5 << 20), "more than 4194304 bytes"),
    (b"HTTP/1.1 302 Found\r\nLocation: file:///etc/hostname\r\nContent-Length: 0\r\n\r\n", "HTTP 302"),
    (b"\0\r\n\r\n", "\\x00"),
    (b"", "closed connection without response"),
]


@pytest.mark.parametrize(("answer", "words"), FAULTY)
def test_a_source_that_breaks_the_rules_is_unreachable(
    answer: bytes, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")  # not for loopback
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer_once() -> None:
            connection, _ = listener.accept()
            with connection, contextlib.suppress(OSError):  # it hangs up on what is too long
                connection.recv(4096)
                connection.sendall(answer)

        threading.Thread(target=answer_once, daemon=True).start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/client.py"
        fields = entry(host="ws://127.0.0.1:9", client_sdk=url)
        (found,) = lint_catalog.lint(catalog(fields), online=True)
    assert found.rule == "client-unreachable"
    assert words in str(found)


def test_a_host_that_does_not_answer_is_a_note_and_no_finding(
    silent_server: str, clients: Callable[..., Path]
) -> None:
    notes: list[str] = []
    fields = entry(host=f"http://{silent_server}")
    assert (
        lint_catalog.lint(catalog(fields), online=True, clients=clients(CLIENT), timeout=0.2, notes=notes)
        == []
    )
    (note,) = notes
    assert "its endpoints were not compared with the service" in note
    unheard = lint_catalog.lint(
        catalog(entry(host="ws://127.0.0.1:9", client_sdk=f"http://{silent_server}/client.py")),
        online=True,
        timeout=0.2,
    )
    assert [f.rule for f in unheard] == ["client-unreachable"]


def test_without_online_nothing_is_connected_to(monkeypatch: pytest.MonkeyPatch, service: str) -> None:
    monkeypatch.setattr(lint_catalog, "fetch", lambda *_: pytest.fail("fetched"))
    assert lint_catalog.lint(catalog(entry(host=service, client_sdk=f"{service}/none.py"))) == []
