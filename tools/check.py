#!/usr/bin/env python3
"""Checks what no compiler checks: names, doors, versions, exported symbols, headers that stand alone.

    tools/check.py            what can be seen in the source files
    tools/check.py build/c    also the libraries that were built there

Prints one line per problem, ``file:line: what is wrong``, and exits 1 when there is any.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

WORD = re.compile(r"\b(?:axon_|AXON_)\w*")
_COMMENT = re.compile(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"', re.DOTALL)
_FUNCTION = re.compile(r"^AXON_API\b[^;]*?\b(\w+)\s*\(", re.MULTILINE)
_MACRO = re.compile(r"^[ \t]*#[ \t]*define[ \t]+(\w+)(\(?)[ \t]*(.*)$", re.MULTILINE)

# Words of api.h that mark declarations; everything else that is defined is an integer.
MARKS = frozenset({"AXON_API", "AXON_BEGIN", "AXON_END"})


def public_headers(root: Path) -> list[Path]:
    """Every public header of the checkout at `root`."""
    return sorted((root / "include" / "axon").rglob("*.h"))


def include_name(root: Path, header: Path) -> str:
    """How a program includes it: ``axon/policy.h``."""
    return header.relative_to(root / "include").as_posix()


def without_comments(text: str) -> str:
    """C source with comments blanked; lines keep their numbers, strings stay."""

    def blank(match: re.Match[str]) -> str:
        found = match.group()
        return found if found.startswith('"') else re.sub(r"[^\n]", " ", found)

    return _COMMENT.sub(blank, text)


def functions(code: str) -> set[str]:
    """The functions that a header without comments declares for export."""
    return set(_FUNCTION.findall(code))


def macros(code: str) -> dict[str, str]:
    """The macros that a header without comments defines, with what they stand for; guards and marks left out."""
    found = {name: value.strip() for name, _, value in _MACRO.findall(code)}
    return {name: value for name, value in found.items() if name not in MARKS and not name.endswith("_H")}


def vocabulary(root: Path) -> set[str]:
    """Every axon_ and AXON_ word that the headers' code, comments aside, brings into the world."""
    return {
        word for header in public_headers(root) for word in WORD.findall(without_comments(header.read_text()))
    }


# One dependency, one door: which files under csrc/ may include which library.
DOORS = {
    r"curl/": "http.c",
    r"libwebsockets\.h": "ws_link.c ws_gate.c",
    r"openssl/": "ws_tls.c",
    r"msgpack": "pack.c",
    r"(jpeglib|jerror)\.h": "image_jpeg.c",
    r"(png\.h|isa-l)": "image_png.c",
}
# What comes with the C library and the compiler, and needs no door.
AT_HOME = re.compile(
    r"(axon|arpa|linux|net|netinet|sys)/.*|immintrin\.h|arm_neon\.h|cpuid\.h|"
    r"(assert|ctype|dirent|endian|errno|fcntl|fenv|float|getopt|inttypes|limits|locale|malloc|math|netdb|poll|pthread|"
    r"sched|semaphore|setjmp|signal|stdarg|stdatomic|stdbool|stddef|stdint|stdio|stdlib|string|strings|time|unistd|"
    r"wchar)\.h"
)
INCLUDE = re.compile(r"^[ \t]*#[ \t]*include[ \t]*[<\"]([^>\"]+)", re.MULTILINE)

# Words that look like the API's and are environment variables; a trailing star stands for any ending.
ENVIRONMENT = ["AXON_LOG", "AXON_HOST_*", "AXON_ARCHIVE"]

VERSION = re.compile(r"\bv?\d+\.\d+\.\d+\b")
TASK_MARK = re.compile(r"\b(TO" r"DO|FIX" r"ME|X" r"XX)\b(?!\(\w+\))")
TEXT = ("*.c", "*.h", "*.in", "*.md", "*.py", "*.pyi", "*.sh", "Makefile", "*.toml")


def files(root: Path, folders: Iterable[str], patterns: Iterable[str] = TEXT) -> Iterator[Path]:
    """The files below `folders` (or the folders themselves, when they are files) whose names match."""
    for folder in folders:
        top = root / folder
        if top.is_file():
            yield top
        for path in sorted(top.rglob("*")):
            if path.is_file() and any(path.match(pattern) for pattern in patterns):
                yield path


def place(root: Path, path: Path, text: str, offset: int) -> str:
    """``file:line`` of an offset in a file's text."""
    return f"{path.relative_to(root)}:{text.count(chr(10), 0, offset) + 1}"


def check_words(root: Path) -> Iterator[str]:
    """Comments and docs name nothing that the headers do not have."""
    known = vocabulary(root)
    allowed = re.compile("|".join(name.replace("*", r"\w*") for name in ENVIRONMENT))
    for path in files(root, ["csrc", "include", "docs", "README.md", "service_clients"]):
        text = path.read_text()
        for match in WORD.finditer(text):
            word = match.group()
            family = word.endswith("_") and any(name.startswith(word) for name in known)
            if word not in known and not family and not allowed.fullmatch(word):
                yield f"{place(root, path, text, match.start())}: no public header has {word}"


def check_macros_used(root: Path) -> Iterator[str]:
    """Every macro of a public header is used somewhere in the core."""
    words = [
        word
        for path in files(root, ["include", "csrc"], ("*.h", "*.c"))
        for word in WORD.findall(without_comments(path.read_text()))
    ]
    for header in public_headers(root):
        for name in macros(without_comments(header.read_text())):
            if words.count(name) < 2:
                yield f"{header.relative_to(root)}:1: {name} is defined and never used"


def check_doors(root: Path) -> Iterator[str]:
    """A library is included by its door alone; the tools stand on the public headers alone."""
    for path in files(root, ["csrc"], ("*.c", "*.h")):
        text = path.read_text()
        is_tool = path.parent.name == "tools"
        for match in INCLUDE.finditer(text):
            name, where = match.group(1), place(root, path, text, match.start())
            door = next((file for library, file in DOORS.items() if re.match(library, name)), None)
            inside = '"' in match.group()
            if is_tool and (inside or door is not None):
                yield f"{where}: a tool includes {name}, which is not public"
            elif door is not None and path.name not in door.split():
                yield f"{where}: {name} is included outside of its door, csrc/{door.replace(' ', ' or csrc/')}"
            elif door is None and not inside and not AT_HOME.fullmatch(name):
                yield f"{where}: {name} has no door; name one in tools/check.py"


def check_task_marks(root: Path) -> Iterator[str]:
    """What is left to do has an owner."""
    folders = [
        "csrc",
        "include",
        "service_clients",
        "tests",
        "tools",
        "benchmarks",
        "docs",
        "README.md",
        "Makefile",
    ]
    for path in files(root, folders):
        text = path.read_text()
        for match in TASK_MARK.finditer(text):
            yield f"{place(root, path, text, match.start())}: {match.group()} without an owner in brackets"


def check_namespace(root: Path) -> Iterator[str]:
    """service_clients stays a namespace package, so that several folders can hold parts of it."""
    if (root / "service_clients" / "__init__.py").exists():
        yield "service_clients/__init__.py:1: with this file, clients installed elsewhere vanish"


def check_version(root: Path) -> Iterator[str]:
    """The version is written in api.h and nowhere else."""
    for name in ("setup.py", "csrc/axon.pc.in", "service_clients/_axon/__init__.py"):
        path = root / name
        text = path.read_text() if path.is_file() else ""
        for match in VERSION.finditer(text):
            yield f"{place(root, path, text, match.start())}: {match.group()} belongs into include/axon/api.h"
    project = root / "pyproject.toml"
    if project.is_file():
        text = project.read_text()
        for match in re.finditer(r"^version\s*=", text, re.MULTILINE):
            yield f"{place(root, project, text, match.start())}: the version belongs into include/axon/api.h"
    for path in files(root, ["include", "csrc"], ("*.h", "*.c")):
        text = path.read_text()
        for match in re.finditer(r"#\s*define\s+AXON_VERSION_", text):
            if path != root / "include" / "axon" / "api.h":
                yield f"{place(root, path, text, match.start())}: the version belongs into include/axon/api.h"


# Classes that take [brackets] from Python 3.9 on only: builtin ones, and those of these modules.
GENERIC = frozenset({"dict", "frozenset", "list", "set", "tuple", "type"})
GENERIC_IN = frozenset({"collections", "collections.abc", "os", "queue", "re", "subprocess", "weakref"})
SCALAR = frozenset({"bool", "bytes", "complex", "float", "int", "object", "str"})
CLASS_NAME = re.compile(r"[A-Z]\w*[a-z]\w*|deque|defaultdict")


def evaluated(node: ast.AST, is_lazy: bool) -> Iterator[ast.AST]:
    """What runs of a syntax tree: not what TYPE_CHECKING keeps for mypy, nor annotations when they are lazy."""
    if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
        return
    yield node
    for field, value in ast.iter_fields(node):
        if not (is_lazy and field in ("annotation", "returns")):
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST):
                    yield from evaluated(child, is_lazy)


def check_old_python(root: Path) -> Iterator[str]:
    """What runs, runs on Python 3.8 and with numpy 1.17; ruff, mypy and vermin do not see these."""
    for path in files(root, ["service_clients", "tests", "tools", "benchmarks", "setup.py"], ("*.py",)):
        text = path.read_text()
        tree = ast.parse(text)
        imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
        is_lazy = any(node.module == "__future__" for node in imports)
        generic = GENERIC.union(
            alias.name
            for node in imports
            for alias in node.names
            if node.module in GENERIC_IN and CLASS_NAME.fullmatch(alias.name)
        )
        for node in evaluated(tree, is_lazy):
            problem = too_new(node, generic) or too_new_for_numpy(node)
            if problem is not None:
                said = ast.get_source_segment(text, node)
                yield f"{path.relative_to(root)}:{getattr(node, 'lineno', 1)}: {said}: {problem}"


def too_new(node: ast.AST, generic: frozenset[str]) -> str | None:
    """What Python 3.8 has against an expression that runs."""
    if isinstance(node, ast.Subscript) and is_generic(node.value, generic):
        return "runs from Python 3.9 on; take it from typing"
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        for side in (node.left, node.right):
            is_none = isinstance(side, ast.Constant) and side.value is None
            if is_none or is_generic(side, generic | SCALAR):
                return "runs from Python 3.10 on; take Union or Optional"
    return None


def is_generic(node: ast.AST, generic: frozenset[str]) -> bool:
    """Whether an expression names one of these classes: ``list``, ``queue.Queue``."""
    if isinstance(node, ast.Attribute):
        module = getattr(node.value, "id", None)
        return module in GENERIC_IN and CLASS_NAME.fullmatch(node.attr) is not None
    return isinstance(node, ast.Name) and node.id in generic


def too_new_for_numpy(node: ast.AST) -> str | None:
    """What numpy 1.17 has against an import that runs."""
    names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
    if "numpy.typing" in names or (isinstance(node, ast.ImportFrom) and node.module == "numpy.typing"):
        return "numpy 1.17 has no numpy.typing; import it under TYPE_CHECKING"
    return None


LANGUAGES = {
    ".c": (["gcc", "-std=c99"], ["clang", "-std=c99"]),
    ".cpp": (["g++", "-std=c++11"], ["clang++", "-std=c++11"]),
}


def check_headers_alone(root: Path) -> Iterator[str]:
    """Every public header compiles by itself as C99 and as C++11, and its macros are integers."""
    for header in public_headers(root):
        name = include_name(root, header)
        numbers = "".join(f"(long long)({macro}), " for macro in macros(without_comments(header.read_text())))
        source = (
            f"#include <{name}>\n#include <{name}>\n"
            f"extern const long long all[];\nconst long long all[] = {{{numbers}0}};\n"
        )
        for suffix, compilers in LANGUAGES.items():
            for compiler in compilers:
                command = [*compiler, "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-fsyntax-only"]
                command += [f"-I{root / 'include'}", "-x", "c" if suffix == ".c" else "c++", "-"]
                done = subprocess.run(command, check=False, input=source, capture_output=True, text=True)
                if done.returncode != 0:
                    said = next((line for line in done.stderr.splitlines() if "error" in line), done.stderr)
                    yield f"{header.relative_to(root)}:1: not alone under {' '.join(compiler)}: {said}"


def symbols(library: Path, *options: str) -> set[str]:
    """The names that a library defines for others to link to."""
    listing = subprocess.run(
        ["nm", "--defined-only", "--extern-only", "--format=posix", *options, str(library)],
        check=True,
        capture_output=True,
        text=True,
    )
    return {line.split()[0] for line in listing.stdout.splitlines() if len(line.split()) > 1}


def check_symbols(root: Path, build: Path) -> Iterator[str]:
    """libaxon.so exports what the headers declare, no more and no less; libaxon.a litters no namespace."""
    declared = {
        name for header in public_headers(root) for name in functions(without_comments(header.read_text()))
    }
    exported = symbols(build / "libaxon.so", "--dynamic")
    yield from (
        f"libaxon.so: exports {name}, which no header declares" for name in sorted(exported - declared)
    )
    yield from (f"libaxon.so: lacks {name}, which a header declares" for name in sorted(declared - exported))
    for name in sorted(symbols(build / "libaxon.a")):
        if not name.startswith(("axon_", "axi_")):
            yield f"libaxon.a: {name} has neither the prefix axon_ nor axi_"


CHECKS: list[Callable[[Path], Iterator[str]]] = [
    check_words,
    check_macros_used,
    check_doors,
    check_task_marks,
    check_namespace,
    check_version,
    check_old_python,
    check_headers_alone,
]


def main(arguments: list[str]) -> int:
    root = Path(__file__).resolve().parent.parent
    problems = [problem for check in CHECKS for problem in check(root)]
    if arguments:
        problems += check_symbols(root, Path(arguments[0]))
    for problem in problems:
        print(problem)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
