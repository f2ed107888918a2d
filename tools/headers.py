"""Reads the public headers as text: what they declare, and which words they use."""

from __future__ import annotations

import re
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
        word
        for header in public_headers(root)
        for word in WORD.findall(without_comments(header.read_text()))
    }
