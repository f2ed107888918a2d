"""The checks find what they are for: each is handed a small checkout with one thing wrong."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


def load_check() -> ModuleType:
    spec = importlib.util.spec_from_file_location("check", ROOT / "tools" / "check.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


check = load_check()

HEADER = """
#ifndef AXON_THING_H
#define AXON_THING_H
#include <stdint.h>
#define AXON_BEGIN
#define AXON_END
#define AXON_API
#define AXON_LIMIT 4
/** Opens a thing. */
AXON_API int32_t axon_thing_open(const char *name,
                                 int32_t limit);
#endif
"""

LAZY = "from __future__ import annotations\n"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout in which everything is right."""
    write(tmp_path, "include/axon/thing.h", HEADER)
    write(
        tmp_path,
        "csrc/thing.c",
        "#include <axon/thing.h>\n#include <string.h>\nint32_t axon_thing_open(const char *n, int32_t l) "
        "{ return l < AXON_LIMIT && *n; }\n",
    )
    return tmp_path


def write(root: Path, name: str, text: str) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def problems(root: Path) -> list[str]:
    return [problem for one in check.CHECKS for problem in one(root)]


def test_a_good_checkout_has_no_problems(checkout: Path) -> None:
    assert problems(checkout) == []


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("csrc/thing.c", "/* see axon_thing_shut() and\n   AXON_LIMIT */", "csrc/thing.c:1: no public header has axon_thing_shut"),
        ("docs/wire.md", "one\nAXON_LIMITS\n", "docs/wire.md:2: no public header has AXON_LIMITS"),
        ("service_clients/_axon/a.py", "# axon_open\n", "service_clients/_axon/a.py:1: no public header has axon_open"),
        ("csrc/value.c", "#include <curl/curl.h>\n", "csrc/value.c:1: curl/curl.h is included outside of its door, csrc/http.c"),
        ("csrc/value.c", "\n#include <nanomsg.h>\n", "csrc/value.c:2: nanomsg.h has no door; name one in tools/check.py"),
        ("csrc/tools/axon.c", '#include "internal.h"\n', "csrc/tools/axon.c:1: a tool includes internal.h, which is not public"),
        ("csrc/tools/axon.c", "#include <curl/curl.h>\n", "csrc/tools/axon.c:1: a tool includes curl/curl.h, which is not public"),
        ("tests/c/a.c", "/* TO" "DO: more */\n", "tests/c/a.c:1: TO" "DO without an owner in brackets"),
        ("service_clients/__init__.py", "", "service_clients/__init__.py:1: with this file, clients installed elsewhere vanish"),
        ("setup.py", 'setup(version="1.2.3")\n', "setup.py:1: 1.2.3 belongs into include/axon/api.h"),
        ("pyproject.toml", '[project]\nversion = "1.2.3"\n', "pyproject.toml:2: the version belongs into include/axon/api.h"),
        ("csrc/b.c", "#define AXON_VERSION_MAJOR 3\n", "csrc/b.c:1: the version belongs into include/axon/api.h"),
        ("benchmarks/a.py", LAZY + "Pair = tuple[str, str]\n", "benchmarks/a.py:2: tuple[str, str]: runs from Python 3.9 on; take it from typing"),
        ("tools/a.py", "import queue\nQ = queue.Queue[int]\n", "tools/a.py:2: queue.Queue[int]: runs from Python 3.9 on; take it from typing"),
        ("tests/a.py", "from collections.abc import Callable\nF = Callable[[], int]\n", "tests/a.py:2: Callable[[], int]: runs from Python 3.9 on; take it from typing"),
        ("tests/a.py", "def f(a: list[int]):\n    pass\n", "tests/a.py:1: list[int]: runs from Python 3.9 on; take it from typing"),
        ("setup.py", LAZY + "isinstance(1, int | None)\n", "setup.py:2: int | None: runs from Python 3.10 on; take Union or Optional"),
        ("service_clients/demo/a.py", "import numpy.typing as npt\n", "service_clients/demo/a.py:1: import numpy.typing as npt: numpy 1.17 has no numpy.typing; import it under TYPE_CHECKING"),
    ],
)  # fmt: skip
def test_one_wrong_file_is_named(checkout: Path, name: str, text: str, expected: str) -> None:
    write(checkout, name, text)
    assert expected in problems(checkout)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("csrc/http.c", "#include <curl/curl.h>\n"),
        ("docs/wire.md", "the axon_thing_ calls, AXON_LOG=debug and AXON_HOST_YOLO_DETECTION\n"),
        ("tests/c/a.c", "/* TO" "DO(ada): more */\n"),
        ("tools/a.py", LAZY + "import os\ndef f(a: list[int]) -> str | None:\n    b: dict[str, int] = {}\n    return os.environ['x']\n"),
        ("service_clients/a.py", "if TYPE_CHECKING:\n    import numpy.typing as npt\n    Vector = tuple[int, ...]\n"),
    ],
)  # fmt: skip
def test_what_is_allowed_is_not_complained_of(checkout: Path, name: str, text: str) -> None:
    write(checkout, name, text)
    assert problems(checkout) == []


def test_a_macro_that_nobody_uses_is_found(checkout: Path) -> None:
    write(checkout, "csrc/thing.c", "/* AXON_LIMIT, in a comment, is no use of it */\n")
    assert problems(checkout) == ["include/axon/thing.h:1: AXON_LIMIT is defined and never used"]


@pytest.mark.parametrize(
    ("old", "new", "compiler"),
    [
        ("#include <stdint.h>\n", "", "gcc -std=c99"),
        ("const char *name,", "const char *class,", "g++ -std=c++11"),
        ("AXON_LIMIT 4", 'AXON_LIMIT "four" + 1.5', "clang -std=c99"),
        ("int32_t limit);", "int32_t limit); static inline int f(void) { return 0 }", "clang++ -std=c++11"),
    ],
)
def test_a_header_that_does_not_stand_alone_is_found(
    checkout: Path, old: str, new: str, compiler: str
) -> None:
    write(checkout, "include/axon/thing.h", HEADER.replace(old, new))
    found = list(check.check_headers_alone(checkout))
    assert any(f"not alone under {compiler}:" in problem for problem in found), found


def build_libraries(root: Path, source: str) -> None:
    write(root, "lib.c", source)
    for command in (
        "gcc -shared -fPIC -o libaxon.so lib.c",
        "gcc -c -fPIC -o lib.o lib.c",
        "ar rcs libaxon.a lib.o",
    ):
        subprocess.run(command.split(), cwd=root, check=True)


def test_the_symbols_of_a_good_library_pass(checkout: Path) -> None:
    build_libraries(checkout, "int axon_thing_open(void) { return 0; }")
    assert list(check.check_symbols(checkout, checkout)) == []


def test_symbols_too_many_and_too_few_are_found(checkout: Path) -> None:
    build_libraries(checkout, "int axon_thing_shut(void) { return 0; }\nint helper(void) { return 0; }")
    assert list(check.check_symbols(checkout, checkout)) == [
        "libaxon.so: exports axon_thing_shut, which no header declares",
        "libaxon.so: exports helper, which no header declares",
        "libaxon.so: lacks axon_thing_open, which a header declares",
        "libaxon.a: helper has neither the prefix axon_ nor axi_",
    ]


@pytest.mark.parametrize(
    "body",
    [
        "import pytest\ndef test_it(): pytest.skip('no peer')\n",
        "import pytest\npytest.importorskip('no_such_module')\n",
        "import pytest\n@pytest.mark.skip\ndef test_it(): pass\n",
        "import pytest\n@pytest.mark.xfail\ndef test_it(): assert False\n",
        "import pytest\n@pytest.mark.xfail\ndef test_it(): pass\n",
    ],
)
def test_a_skipped_test_fails_the_run(tmp_path: Path, body: str) -> None:
    shutil.copy(ROOT / "tests" / "conftest.py", tmp_path)
    write(tmp_path, "test_good.py", "def test_good(): pass\n")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)]
    assert subprocess.run(command, cwd=tmp_path, check=False, capture_output=True).returncode == 0
    write(tmp_path, "test_skips.py", body)
    done = subprocess.run(command, cwd=tmp_path, check=False, capture_output=True, text=True)
    assert done.returncode != 0
    assert "counts as a failure" in done.stdout


def test_every_debian_package_has_its_reason_in_the_readme() -> None:
    lines = (ROOT / "tools" / "debian-packages.txt").read_text().splitlines()
    packages = [line.split()[1] for line in lines if not line.startswith("#")]
    readme = (ROOT / "README.md").read_text()
    assert len(packages) > 10
    assert [package for package in packages if f"`{package}`" not in readme] == []


@pytest.fixture
def bare_machine(tmp_path: Path) -> Path:
    """A checkout's tools on a machine where dpkg knows no package; bin/ is all of its PATH."""
    write(tmp_path, "tests/requirements.txt", "numpy==1\n")
    write(tmp_path, "tests/requirements-peers.txt", "msgpack==1\n")
    shutil.copytree(ROOT / "tools", tmp_path / "tools")
    script(tmp_path, "dpkg-query", "exit 0")
    script(tmp_path, "id", "echo 1000")
    script(
        tmp_path,
        "python",
        'if [ "$2" = venv ]; then mkdir -p "$4/bin" "$4/lib/python3.0/site-packages"; cp "$0" "$4/bin/python"; fi; echo "python $*" >>"$LOG"',
    )
    for tool in ("awk", "bash", "cat", "comm", "cp", "dirname", "env", "mkdir", "sed", "sort"):
        found = shutil.which(tool)
        assert found is not None
        (tmp_path / "bin" / tool).symlink_to(found)
    return tmp_path  # fmt: skip


def script(root: Path, name: str, body: str) -> None:
    write(root, f"bin/{name}", f"#!/bin/sh\n{body}\n")
    (root / "bin" / name).chmod(0o755)


def set_up(machine: Path) -> tuple[int, str, list[str]]:
    """Runs the set-up: its exit status, what it said, and what it called."""
    log = machine / "log"
    log.write_text("")
    environment = {"PATH": str(machine / "bin"), "PYTHON": "python", "LOG": str(log)}
    done = subprocess.run(
        ["bash", "tools/setup.sh", "develop"],
        cwd=machine, env=environment, check=False, capture_output=True, text=True,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr, log.read_text().splitlines()


def test_without_root_and_sudo_the_set_up_says_what_to_install(bare_machine: Path) -> None:
    status, said, called = set_up(bare_machine)
    assert status == 1
    assert "install them as root: apt-get install" in said
    assert "libcurl4-openssl-dev" in said
    assert called == []


def test_the_set_up_installs_what_is_missing_and_is_idle_the_second_time(bare_machine: Path) -> None:
    script(bare_machine, "sudo", 'echo "sudo $*" >>"$LOG"')
    status, said, called = set_up(bare_machine)
    assert status == 0, said
    assert called[0] == "sudo apt-get update -q"
    assert "apt-get install" in called[1]
    assert "libwebsockets-dev" in called[1]
    pip = [line for line in called if "pip install" in line]
    assert [line.split()[-1] for line in pip] == ["tests/requirements.txt", "tests/requirements-peers.txt"]

    names = [
        line.split()[1]
        for line in (bare_machine / "tools/debian-packages.txt").read_text().splitlines()
        if line[0] != "#"
    ]
    script(bare_machine, "dpkg-query", "".join(f"echo installed {name}\n" for name in names))
    status, said, called = set_up(bare_machine)
    assert (status, said) == (0, "")
    assert not [line for line in called if "venv" in line or "pip" in line or "sudo" in line]

    write(bare_machine, "tests/requirements.txt", "numpy==2\n")
    status, said, called = set_up(bare_machine)
    assert "making .venv from tests/requirements.txt" in said
    assert ".venv-peers" not in said
    assert len([line for line in called if "pip install" in line]) == 1
    (checkout,) = bare_machine.glob(".venv/lib/*/site-packages/axon-checkout.pth")
    assert checkout.read_text() == f"{bare_machine}\n"


def test_an_interrupted_set_up_begins_anew(bare_machine: Path) -> None:
    script(bare_machine, "sudo", "exit 0")
    (bare_machine / ".venv").mkdir()  # an environment without its mark: pip had not finished
    status, said, _ = set_up(bare_machine)
    assert status == 0
    assert "making .venv from" in said


def test_a_failing_installation_fails_the_set_up(bare_machine: Path) -> None:
    script(bare_machine, "sudo", "exit 100")
    status, _, called = set_up(bare_machine)
    assert status == 100
    assert called == []
    assert not os.path.exists(bare_machine / ".venv")
