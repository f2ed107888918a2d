"""What ``make install`` puts somewhere is all that a C or C++ program needs, and the README says how."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

C_PROGRAM = """
#include <axon/policy.h>
#include <axon/service.h>
#include <stdio.h>

int main(void)
{
    axon_error err;
    axon_policy *policy = NULL;
    axon_policy_options options = {.size = sizeof options, .connect_once = 1};
    char *json = NULL;
    axon_value *map = axon_value_map();
    axon_value_set(map, "prompt", axon_value_string("pick up the cup", AXON_ZSTRING));
    if (axon_value_to_json(map, &json, NULL, &err) != AXON_OK) return 1;
    printf("%s %s ", axon_version(), json);
    puts(axon_status_name(axon_policy_open(&policy, "ws://127.0.0.1:1", &options, &err)));
    axon_free(json);
    axon_value_free(map);
    return 0;
}
"""
CPP_PROGRAM = """
#include <axon/policy.h>
#include <axon/service.h>
#include <axon/services/yolo_detection.h>
#include <iostream>

int main()
{
    axon_error err{};
    axon_service *service = nullptr;
    if (axon_service_open(&service, "http://127.0.0.1:1", nullptr, &err) != AXON_OK) return 1;
    std::cout << axon_service_url(service) << std::endl;
    axon_service_close(service);
}
"""


def run(*command: str | Path, **environment: str) -> str:
    """What a command prints; the test fails with its errors when it fails."""
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, **environment}, check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}"
    return done.stdout


def version() -> str:
    header = (ROOT / "include/axon/api.h").read_text()
    return ".".join(re.findall(r"define AXON_VERSION_\w+ (\d+)", header))


@pytest.fixture(scope="module")
def prefix(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A place that axon was installed to."""
    where = tmp_path_factory.mktemp("installed")
    run("make", "install", f"PREFIX={where}")
    return where


@pytest.fixture
def pkg_config(prefix: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """pkg-config that knows axon, and nothing of the libraries under it."""
    monkeypatch.setenv("PKG_CONFIG_LIBDIR", str(prefix / "lib/pkgconfig"))
    return prefix


def flags(*wanted: str) -> list[str]:
    return run("pkg-config", *wanted, "axon").split()


def test_a_c_program_needs_pkg_config_alone(pkg_config: Path, tmp_path: Path) -> None:
    source, program = tmp_path / "robot.c", tmp_path / "robot"
    source.write_text(C_PROGRAM)
    run("cc", "-std=c99", "-Wall", "-Werror", source, *flags("--cflags", "--libs"), "-o", program)
    said = run(program, LD_LIBRARY_PATH=str(pkg_config / "lib"))
    assert said == f'{version()} {{"prompt":"pick up the cup"}} AXON_ECONNECT\n'
    assert f"libaxon.so.{version().split('.')[0]}" in run("objdump", "-p", program)


def test_a_cpp_program_needs_pkg_config_alone(pkg_config: Path, tmp_path: Path) -> None:
    source, program = tmp_path / "robot.cpp", tmp_path / "robot"
    source.write_text(CPP_PROGRAM)
    run("c++", "-std=c++11", "-Wall", "-Werror", source, *flags("--cflags", "--libs"), "-o", program)
    assert run(program, LD_LIBRARY_PATH=str(pkg_config / "lib")) == "http://127.0.0.1:1\n"


def test_the_static_library_links_without_the_shared_one(prefix: Path, tmp_path: Path) -> None:
    alone = tmp_path / "alone"
    shutil.copytree(prefix, alone)
    for shared in (alone / "lib").glob("libaxon.so*"):
        shared.unlink()
    pc = alone / "lib/pkgconfig/axon.pc"
    pc.write_text(pc.read_text().replace(str(prefix), str(alone)))
    source, program = tmp_path / "robot.c", tmp_path / "robot"
    source.write_text(C_PROGRAM)
    options = run(
        "pkg-config", "--static", "--cflags", "--libs", "axon", PKG_CONFIG_LIBDIR=str(pc.parent)
    ).split()
    run("cc", source, *options, "-o", program)
    assert run(program).startswith(version())
    assert "libaxon" not in run("objdump", "-p", program)


def test_the_links_lead_to_the_library_of_this_version(prefix: Path) -> None:
    real = prefix / "lib" / f"libaxon.so.{version()}"
    major = version().split(".")[0]
    assert not real.is_symlink()
    for name in ("libaxon.so", f"libaxon.so.{major}"):
        assert (prefix / "lib" / name).resolve() == real
    assert f"libaxon.so.{major}" in re.findall(r"SONAME\s+(\S+)", run("objdump", "-p", real))


def test_exactly_the_public_headers_are_installed(prefix: Path) -> None:
    public = ROOT / "include"
    assert sorted(path.relative_to(prefix / "include") for path in prefix.glob("include/**/*.h")) == sorted(
        path.relative_to(public) for path in public.glob("**/*.h")
    )


def test_the_command_runs_from_where_it_was_installed(prefix: Path) -> None:
    assert run(prefix / "bin/axon", "--version", LD_LIBRARY_PATH="") == f"axon {version()}\n"


def test_destdir_is_where_files_go_and_not_what_they_say(tmp_path: Path) -> None:
    run("make", "install", "PREFIX=/opt/axon", f"DESTDIR={tmp_path}")
    pc = (tmp_path / "opt/axon/lib/pkgconfig/axon.pc").read_text()
    assert "prefix=/opt/axon\n" in pc
    assert f"Version: {version()}\n" in pc
    assert str(tmp_path) not in pc


def blocks(language: str) -> list[str]:
    """The README's code blocks of one language."""
    return re.findall(
        rf"^```{language}\n(.*?)^```", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL
    )


def test_the_readme_s_c_program_builds_as_it_says(pkg_config: Path, tmp_path: Path) -> None:
    (program,) = blocks("c")
    (tmp_path / "robot.c").write_text(program)
    command = next(line for block in blocks("sh") for line in block.splitlines() if line.startswith("cc "))
    subprocess.run(command, shell=True, cwd=tmp_path, check=True)
    done = subprocess.run(
        [tmp_path / "robot"],
        env={"LD_LIBRARY_PATH": str(pkg_config / "lib")},
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1  # nobody listens there
    assert "127.0.0.1:8000" in done.stderr


def test_the_readme_s_python_imports_what_exists() -> None:
    examples = blocks("python")
    assert len(examples) >= 2
    for example in examples:
        for node in ast.parse(example).body:
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                exec(compile(ast.Module([node], []), "README.md", "exec"), {})


def test_the_readme_names_targets_that_make_has() -> None:
    targets = set(re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"`make ([a-z-]+)", (ROOT / "README.md").read_text()))
    assert named - {"help"} == targets - {"lib", "help"}
    assert sorted(re.findall(r"^([a-z-]+) ", run("make", "help"), re.MULTILINE)) == sorted(targets)
