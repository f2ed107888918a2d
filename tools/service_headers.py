"""Reads the headers of the services: declarations with pycparser, their comments beside them.

The comments' tags are described in docs/adding_a_service.md. What is wrong is a HeaderError, which begins with
"include/axon/services/x.h:12: ".
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from pycparser import c_ast, c_parser

# What pycparser has to know of the headers that a service header includes.
PROLOGUE = """
typedef unsigned long size_t; typedef int int32_t; typedef long int64_t;
typedef int axon_status; typedef int axon_choice;
typedef struct axon_error axon_error; typedef struct axon_value axon_value;
typedef struct axon_image axon_image; typedef struct axon_service axon_service;
typedef struct axon_intrinsics axon_intrinsics; typedef struct axon_pose2 axon_pose2;
"""
NUMBERS = {"double", "int32_t"}


class HeaderError(Exception):
    """What is wrong in a header: file, line, reason."""


@dataclass
class Option:
    """One member of the options struct."""

    name: str
    ctype: str  # "const char *", "double", "double[9]", "const axon_image *", ...
    text: str  # what the comment says of it, default and rules for C taken out
    default: str  # as Python writes it
    zero_is_negative: bool  # C's zero means the default there, and a negative number means zero
    line: int


@dataclass
class Argument:
    """One argument that a method must be given."""

    name: str
    ctype: str
    text: str
    length: int = 0  # of an array of fixed length


@dataclass
class Method:
    """One function of a service."""

    name: str
    verb: str
    endpoint: str
    text: str
    arguments: list[Argument]
    options: list[Option]
    returns: str
    example: str
    alias: str
    delivers: str
    wire: dict[str, dict[str, str]]
    line: int


@dataclass
class Service:
    """One header."""

    path: str
    folder: str
    summary: str
    text: str
    tags: dict[str, list[str]]
    methods: list[Method] = field(default_factory=list)

    def tag(self, name: str, default: str = "") -> str:
        return self.tags.get(name, [default])[0]

    @property
    def name(self) -> str:
        return self.tag("service").split()[0]

    @property
    def version(self) -> str:
        return self.tag("service").split()[1]


@dataclass
class Comment:
    """A comment's words before its tags, and its tags in order."""

    text: str
    tags: list[tuple[str, str]]
    line: int

    def tag(self, name: str) -> str:
        return next((text for tag, text in self.tags if tag == name), "")

    def all(self, name: str) -> list[str]:
        return [text for tag, text in self.tags if tag == name]


def fail(path: str, line: int, reason: str) -> HeaderError:
    return HeaderError(f"{path}:{line}: {reason}")


def folded(text: str) -> str:
    return " ".join(text.split())


def read_comment(raw: str, line: int) -> Comment:
    """Takes the stars off and splits at the tags; a tag's text runs up to the next tag."""
    lines = [re.sub(r"^\s*\* {0,2}", "", part) for part in raw.strip().split("\n")]
    text = ""
    tags: list[tuple[str, str]] = []
    for part in "\n".join(lines).split("\n@"):
        if not tags and not text and not part.startswith("@"):
            text = part
            continue
        words = part.lstrip("@").split(None, 1)
        tags.append((words[0], words[1].strip() if len(words) > 1 else ""))
    return Comment(text.strip(), tags, line)


def comments_before(source: str) -> dict[str, Comment]:
    """The comment that stands before each function and struct, by the name declared after it."""
    found = {}
    for match in re.finditer(r"/\*\*(?!<)(.*?)\*/\s*([^;{]*)", source, flags=re.DOTALL):
        declared = match.group(2)
        name = re.search(r"struct (\w+)\s*$|(\w+)\s*\(", declared)
        if name:
            line = source.count("\n", 0, match.start()) + 1
            found[name.group(1) or name.group(2)] = read_comment(match.group(1), line)
    return found


def comment_on_member(source: str, struct: str, member: str) -> tuple[str, int]:
    body = re.search(rf"struct {struct} \{{(.*?)\n\}}", source, flags=re.DOTALL)
    pattern = rf"\b{member}(?:\[\d+\])?;\s*/\*\*<(.*?)\*/"
    match = body and re.search(pattern, body.group(1), flags=re.DOTALL)
    if not body or not match:
        return "", 0
    line = source.count("\n", 0, body.start(1) + match.start()) + 1
    return folded(re.sub(r"\n\s*\*", " ", match.group(1))), line


def ctype_of(node: c_ast.Node) -> tuple[str, int]:
    """A type as text, and the length of an array."""
    if isinstance(node, c_ast.PtrDecl):
        inner, length = ctype_of(node.type)
        return f"{inner} *", length
    if isinstance(node, c_ast.ArrayDecl):
        inner, _ = ctype_of(node.type)
        return f"{inner}[]", int(node.dim.value)
    words = " ".join(node.type.names) if hasattr(node.type, "names") else f"struct {node.type.name}"
    return ("const " if "const" in node.quals else "") + words, 0


def python_default(text: str, ctype: str) -> str:
    """What `default ...` of a comment is in Python."""
    if text in ("AXON_YES", "AXON_NO"):
        return str(text == "AXON_YES")
    if ctype.endswith("[]") and re.fullmatch(r"[-\d., ]+", text):
        return f"({text})"
    if re.fullmatch(r'-?\d+(\.\d+)?|"[^"]*"', text):
        return text
    return "None"  # "none", "the service's own": C knows, and NULL or zero asks for it


def read_option(path: str, source: str, struct: str, declared: c_ast.Decl) -> Option:
    ctype, _ = ctype_of(declared.type)
    text, line = comment_on_member(source, struct, declared.name)
    line = line or declared.coord.line
    parts = [part.strip() for part in text.split(";")]
    defaults = [part[len("default ") :] for part in parts if part.startswith("default ")]
    if len(defaults) != 1:
        raise fail(path, line, f"{declared.name}: its comment must say its default once: `default ...`")
    negative = "a negative one means 0"
    shown = [p for p in parts if p and not p.startswith("default ") and p != negative]
    default = python_default(defaults[0], ctype)
    if default == "None" and defaults[0] != "none":
        shown.append(f"None: {defaults[0]}")
    return Option(declared.name, ctype, "; ".join(shown), default, negative in parts, line)


def read_arguments(path: str, function: c_ast.Decl, comment: Comment) -> tuple[list[Argument], str]:
    """What stands between the service and the options; and the name of the reply."""
    params = function.type.args.params
    types = [ctype_of(p.type) for p in params]
    if types[0][0] != "axon_service *" or [t[0] for t in types[-2:]] != ["axon_value * *", "axon_error *"]:
        raise fail(path, comment.line, f"{function.name}: it must begin with the service and end with reply, err")
    described = {words.split(None, 1)[0]: words.split(None, 1)[1] for words in comment.all("param")}
    known = {p.name for p in params}
    for name in described:
        if name not in known:
            raise fail(path, comment.line, f"{function.name}: @param {name} is no parameter of it")
    arguments = []
    for param, (ctype, length) in zip(params[1:-2], types[1:-2]):
        if ctype.endswith("_options *") or (ctype == "size_t" and param.name.endswith("_count")):
            continue
        if param.name not in described:
            raise fail(path, comment.line, f"{function.name}: no @param {param.name}")
        arguments.append(Argument(param.name, ctype, clean(described[param.name]), length))
    reply = params[-2].name
    if reply not in described:
        raise fail(path, comment.line, f"{function.name}: no @param {reply}")
    return arguments, clean(described[reply])


def clean(text: str) -> str:
    """A description without what only matters in C."""
    parts = [part.strip() for part in folded(text).split(";")]
    c_only = ("read during the call only", "the caller's, free it with axon_value_free()")
    return "; ".join(part for part in parts if part not in c_only)


def read_method(
    path: str, service: Service, function: c_ast.Decl, comment: Comment, options: dict[str, Option]
) -> Method:
    prefix = f"axon_{service.folder}_"
    http = comment.tag("http").split()
    if len(http) != 2 or http[0] not in ("GET", "POST") or not http[1].startswith("/"):
        raise fail(path, comment.line, f"{function.name}: no @http GET or POST /path")
    if not comment.tag("example"):
        raise fail(path, comment.line, f"{function.name}: no @example")
    takes_options = any(ctype_of(p.type)[0].endswith("_options *") for p in function.type.args.params)
    names = [name.strip() for name in comment.tag("options").split(",") if name.strip()]
    for name in names:
        if name not in options:
            raise fail(path, comment.line, f"{function.name}: @options {name} is no member of the options")
    if names and not takes_options:
        raise fail(path, comment.line, f"{function.name}: @options without a parameter for them")
    chosen = [options[n] for n in names] if names else list(options.values()) if takes_options else []
    arguments, returns = read_arguments(path, function, comment)
    return Method(
        name=function.name[len(prefix) :],
        verb=http[0],
        endpoint=http[1],
        text=folded(comment.text),
        arguments=arguments,
        options=chosen,
        returns=returns,
        example=comment.tag("example"),
        alias=folded(comment.tag("alias")),
        delivers=comment.tag("delivers"),
        wire=read_wire(path, comment),
        line=comment.line,
    )


WIRE = ("member", "query", "fixed", "arrays", "bytes", "npy", "rows", "named")


def read_wire(path: str, comment: Comment) -> dict[str, dict[str, str]]:
    """`@wire member=detections named=pose:x,y,theta`: by word, and by name where a word says several."""
    wire: dict[str, dict[str, str]] = {}
    for part in comment.tag("wire").split():
        word, _, rest = part.partition("=")
        if word not in WIRE or not rest:
            raise fail(path, comment.line, f"@wire {part}: it takes {', '.join(WIRE)}, each with =")
        name, _, value = rest.partition(":")
        names = [name] if value else rest.split(",")
        wire.setdefault(word, {}).update(dict.fromkeys(names, value))
    return wire


REQUIRED = ("service", "class", "type", "host", "timeout", "repo", "added", "changed")


def read_head(path: str, source: str) -> Service:
    match = re.match(r"/\*(.*?)\*/", source, flags=re.DOTALL)
    if not match:
        raise fail(path, 1, "it must begin with a comment")
    comment = read_comment(match.group(1), 1)
    first, _, rest = comment.text.partition("\n")
    folder = Path(path).stem
    if not re.match(rf"axon/services/{folder}\.h - .+", first):
        raise fail(path, 1, f'the first line must read "axon/services/{folder}.h - what it is."')
    tags: dict[str, list[str]] = {}
    for name, text in comment.tags:
        tags.setdefault(name, []).append(text)
    for name in REQUIRED:
        if name not in tags:
            raise fail(path, 1, f"no @{name}")
    if not re.fullmatch(r"[a-z0-9-]+ \d+\.\d+\.\d+", tags["service"][0]):
        raise fail(path, 1, "@service must be a name and a version: @service yolo-detection 0.2.0")
    if tags["service"][0].split()[0].replace("-", "_") != folder:
        raise fail(path, 1, f"@service {tags['service'][0]} is not the file's name with hyphens")
    if not re.fullmatch(r"https?://[^/\s]+:\d+", tags["host"][0]):
        raise fail(path, 1, "@host must be http://host:port")
    for name in ("added", "changed"):
        if not re.match(r"\d{4}-\d\d-\d\d( \S+)?$", tags[name][0]):
            raise fail(path, 1, f"@{name} must begin with a date: @{name} 2026-02-13")
    return Service(path, folder, first.partition(" - ")[2], rest.strip(), tags)


def read_service(file: Path, root: Path) -> Service:
    """Reads one header; HeaderError says what is wrong with it."""
    path = str(file.relative_to(root))
    source = file.read_text(encoding="utf-8")
    service = read_head(path, source)
    parser = c_parser.CParser()
    try:
        tree = parser.parse(PROLOGUE + f'# 1 "{path}"\n' + declarations(source), path)
    except c_parser.ParseError as error:
        raise HeaderError(f"{error}") from None
    comments = comments_before(source)
    struct = f"axon_{service.folder}_options"
    options: dict[str, Option] = {}
    for node in tree.ext:
        if isinstance(node, c_ast.Typedef) and node.name == struct:
            members = node.type.type.decls or []
            options = {m.name: read_option(path, source, struct, m) for m in members if m.name != "size"}
    for node in tree.ext:
        if isinstance(node, c_ast.Decl) and isinstance(node.type, c_ast.FuncDecl):
            comment = comments.get(node.name)
            if not node.name.startswith(f"axon_{service.folder}_"):
                raise fail(path, node.coord.line, f"{node.name} does not begin with axon_{service.folder}_")
            if not comment:
                raise fail(path, node.coord.line, f"{node.name} has no comment")
            service.methods.append(read_method(path, service, node, comment, options))
    if not service.methods:
        raise fail(path, 1, "no functions")
    return service


def declarations(source: str) -> str:
    """A header without comments, directives and axon's own words, every line where it was."""
    source = re.sub(r"/\*.*?\*/", lambda c: "\n" * c.group().count("\n"), source, flags=re.DOTALL)
    source = re.sub(r"^#.*$", "", source, flags=re.MULTILINE)
    return re.sub(r"\bAXON_(API|BEGIN|END)\b", "", source)


def read_services(root: Path) -> list[Service]:
    files = sorted((root / "include/axon/services").glob("*.h"))
    return [read_service(file, root) for file in files]
