"""The printer: what it prints, that it prints it twice the same, and what it says of headers that are wrong."""

from __future__ import annotations

import ast
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support import CHECKOUT

GENERATE = [sys.executable, str(CHECKOUT / "tools/generate.py")]
HEADER = "include/axon/services/graspgen.h"
POLICIES = ("openpi", "webpolicy", "physical_ai", "simulator")  # whose clients are written by hand


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*GENERATE, *arguments], capture_output=True, text=True, timeout=60)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The sources that the printer reads, in a place of their own."""
    shutil.copytree(CHECKOUT / "include", tmp_path / "include")
    shutil.copy(CHECKOUT / "pyproject.toml", tmp_path)
    for policy in POLICIES:
        (tmp_path / f"service_clients/{policy}").mkdir(parents=True)
        shutil.copy(CHECKOUT / f"service_clients/{policy}/client.py", tmp_path / f"service_clients/{policy}")
    return tmp_path


def printed(root: Path) -> dict[str, bytes]:
    files = [*root.glob("service_clients/*/client.py"), *root.glob("service_clients/*/service.json")]
    return {str(f.relative_to(root)): f.read_bytes() for f in [*files, root / "catalog.json"]}


def test_what_is_committed_is_what_is_printed() -> None:
    done = run("--check")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_printing_again_gives_the_same_bytes(copy: Path) -> None:
    assert run("--root", str(copy)).returncode == 0
    first = printed(copy)
    shutil.rmtree(copy / "service_clients/graspgen")
    (copy / "catalog.json").unlink()
    assert run("--root", str(copy)).returncode == 0
    assert printed(copy) == first
    assert run("--root", str(copy)).stdout == "", "nothing is written that has not changed"


def test_check_names_what_is_stale_and_writes_nothing(copy: Path) -> None:
    assert run("--root", str(copy)).returncode == 0
    client = copy / "service_clients/yolo_detection/client.py"
    client.write_text("tampered")
    done = run("--root", str(copy), "--check")
    assert done.returncode == 1
    assert done.stderr.startswith("service_clients/yolo_detection/client.py:1: differs")
    assert client.read_text() == "tampered"


def replaced(text: str, old: str, new: str) -> str:
    assert old in text
    return text.replace(old, new, 1)


@pytest.mark.parametrize(
    "old, new, line_of, said",
    [
        (" * @class   GraspGenClient\n", "", "", "no @class"),
        ("@service graspgen 0.1.0", "@service graspgen", "", "@service must be a name and a version"),
        ("@service graspgen", "@service grasp-gen", "", "is not the file's name with hyphens"),
        ("@host    http://127.0.0.1:8002", "@host    127.0.0.1", "", "@host must be http://host:port"),
        ("@added   2026-02-14 steve", "@added   yesterday", "", "@added must begin with a date"),
        ("; default 10 */", " */", "num_grasps;", "num_grasps: its comment must say its default once"),
        (" *  @http    POST /generate\n", "", "/** Proposes grasps, best", "no @http GET or POST /path"),
        (
            "@param   depth_image",
            "@param   deep_image",
            "/** Proposes grasps, best",
            "deep_image is no parameter",
        ),
        (" *  @example grasps = client.generate(depth_bytes, num_grasps=5)\n", "", "", "no @example"),
        ("POST /generate\n", "POST /generate\n *  @options depth\n", "", "@options depth is no member"),
        ("axon_graspgen_generate(", "axon_grasp_generate(", "", "does not begin with axon_graspgen_"),
        ("axon_value **grasps,", "axon_value **grasps", "", "before"),
        ("@stack   get_transforms", "@stack   4 get_transforms", "", "@stack must read"),
    ],
)
def test_a_wrong_header_is_named_with_its_line(
    copy: Path, old: str, new: str, line_of: str, said: str
) -> None:
    header = copy / HEADER
    text = replaced(header.read_text(), old, new)
    header.write_text(text)
    done = run("--root", str(copy))
    assert done.returncode == 1 and said in done.stderr, done.stderr
    place = re.match(rf"{HEADER}:(\d+)", done.stderr)
    assert place, done.stderr
    if line_of:
        lines = text.splitlines()
        assert line_of in lines[int(place.group(1)) - 1]
    assert not (copy / "catalog.json").exists(), "nothing is left half printed"


def test_a_ninth_service_is_one_header(copy: Path) -> None:
    text = (copy / HEADER).read_text()
    for old, new in (("graspgen", "hand_finder"), ("GRASPGEN", "HAND_FINDER"), ("GraspGen", "HandFinder")):
        text = text.replace(old, new)
    (copy / "include/axon/services/hand_finder.h").write_text(
        replaced(text, "@service hand_finder", "@service hand-finder").replace(":8002", ":8010")
    )
    assert run("--root", str(copy)).returncode == 0
    catalog = json.loads((copy / "catalog.json").read_text())["capabilities"]
    assert (
        catalog["hand-finder"]["usage"]["import"]
        == "from service_clients.hand_finder.client import HandFinderClient"
    )
    assert (
        "class HandFinderClient(ServiceClient):"
        in (copy / "service_clients/hand_finder/client.py").read_text()
    )


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (" * @class   Client\n", "", "no @class for webpolicy"),
        (" * @class   WebsocketClientPolicy\n", "", "no @class for openpi"),
        ("@service webpolicy", "@service openpi", "@service openpi is there twice"),
        ("@service openpi 0.1.0", "@class x", "no @service"),
    ],
)
def test_a_policy_client_with_wrong_tags_is_named(copy: Path, old: str, new: str, said: str) -> None:
    header = copy / "include/axon/policy.h"
    header.write_text(replaced(header.read_text(), old, new))
    done = run("--root", str(copy))
    assert (
        done.returncode == 1 and done.stderr.startswith("include/axon/policy.h:1: ") and said in done.stderr
    )


def test_the_catalog_names_the_wheel_that_it_is_given(copy: Path, tmp_path: Path) -> None:
    wheel = tmp_path / "axon-0.1.0-cp38-abi3-linux_x86_64.whl"
    wheel.write_bytes(b"a wheel")
    assert run("--root", str(copy), "--wheel", str(wheel)).returncode == 0
    core = json.loads((copy / "catalog.json").read_text())["core"]
    assert core["wheels"][0]["url"] == wheel.as_uri() and core["wheels"][0]["size"] == 7


# ---- the clients -----------------------------------------------------------------------------

CATALOG: dict[str, dict[str, Any]] = json.loads((CHECKOUT / "catalog.json").read_text())["capabilities"]
PRINTED = sorted(name for name in CATALOG if name not in POLICIES)


@pytest.mark.parametrize("name", PRINTED)
def test_a_client_is_python_of_the_robots_and_imports_only_the_binding(name: str) -> None:
    source = (CHECKOUT / "service_clients" / name.replace("-", "_") / "client.py").read_text()
    tree = ast.parse(source, feature_version=(3, 8))
    imported = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    imported |= {
        alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names
    }
    assert imported <= {"__future__", "typing", "numpy", "service_clients._axon"}
    assert max(len(line) for line in source.splitlines()) <= 112


@pytest.mark.parametrize("name", sorted(CATALOG))
def test_an_entry_has_what_the_field_expects(name: str) -> None:
    entry = CATALOG[name]
    folder = name.replace("-", "_")
    for key in (
        "type",
        "description",
        "host",
        "client_sdk",
        "service_repo",
        "api_docs",
        "version",
    ):
        assert entry[key], key
    assert entry["endpoints"] or entry["host"].startswith("tcp://")  # ZeroMQ has none
    assert entry["usage"].keys() == {"import", "init", "example", "returns"}
    assert entry["usage"]["import"].startswith(f"from service_clients.{folder}.client import ")
    assert json.loads((CHECKOUT / "service_clients" / folder / "service.json").read_text()) == {
        "name": name,
        **entry,
    }
