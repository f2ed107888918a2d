"""Prints catalog.json, the clients and their service.json from the headers: `make generate`.

    python tools/generate.py            writes what changed, and says what that was
    python tools/generate.py --check    writes nothing; fails when what is there differs from what is printed

What is wrong in a header is named with its line. The same headers always give the same bytes.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import sys
import textwrap
from pathlib import Path
from typing import Dict

from service_headers import (
    Argument,
    HeaderError,
    Method,
    Option,
    Service,
    folded,
    read_comment,
    read_services,
)

Entry = Dict[str, object]

ROOT = Path(__file__).resolve().parents[1]
WIDTH = 110

IMAGE = "const axon_image *"
PICTURE_TEXT = "A picture is any of: JPEG or PNG bytes, a path, a numpy array, base64 text, a PIL image."

# What Python calls an argument of C, and how it hands it over when that needs a word.
PYTHON_TYPES = {
    IMAGE: "Image",
    "const char *": "str",
    "const char * *": "Sequence[str]",
    "double": "float",
    "int32_t": "int",
    "axon_choice": "bool",
    "const double *": "float",
    "double[]": "Sequence[Any]",
    "const double[]": "Sequence[float]",
    "const axon_pose2 *": "Sequence[float] | Mapping[str, float]",
    "const axon_intrinsics *": "Sequence[float] | Mapping[str, float]",
}

# Where the pictures of an example come from.
SOURCES = {
    "frame_bytes": "sensors.get_camera_frame()  # JPEG bytes",
    "rgb_bytes": "sensors.get_camera_frame()  # JPEG bytes",
    "depth_bytes": "sensors.get_depth_frame()  # PNG bytes, 16 bit, in mm",
    "left_bytes": 'open("left.png", "rb").read()',
    "right_bytes": 'open("right.png", "rb").read()',
}


def sentence(text: str) -> str:
    text = text[:1].upper() + text[1:]
    return text if text.endswith((".", "!", "?")) else text + "."


def wrapped(text: str, indent: int, hanging: int = 0) -> str:
    return textwrap.fill(
        text,
        WIDTH,
        initial_indent=" " * indent,
        subsequent_indent=" " * (indent + hanging),
        break_long_words=False,
        break_on_hyphens=False,
    )


# ---- one method ------------------------------------------------------------------------------


def option_type(option: Option) -> str:
    name = PYTHON_TYPES[option.ctype]
    return f"{name} | None" if option.default == "None" else name


def returned_type(method: Method) -> str:
    if method.returns.startswith("list of"):
        return "list[dict[str, Any]]"
    if method.returns.startswith("{"):
        return "dict[str, Any]"
    if method.returns.startswith("bytes") and not method.delivers:
        return "bytes"
    return "Any"


def takes_color(service: Service, method: Method) -> bool:
    return "color" in service.tags and any(a.ctype == IMAGE for a in method.arguments)


def parameters(service: Service, method: Method) -> list[str]:
    listed = ["self"]
    listed += [f"{a.name}: {PYTHON_TYPES[a.ctype]}" for a in method.arguments]
    listed += [f"{o.name}: {option_type(o)} = {o.default}" for o in method.options]
    if method.delivers:
        listed += ["save_path: str | None = None", "as_numpy: bool = False", "as_pil: bool = False"]
    if takes_color(service, method):
        listed += ["*", "color: str | None = None"]
    return listed


def signature(name: str, listed: list[str], returned: str) -> str:
    line = f"    def {name}({', '.join(listed)}) -> {returned}:"
    if len(line) <= WIDTH:
        return line
    inner = ", ".join(listed)
    if len(inner) + 8 <= WIDTH:
        return f"    def {name}(\n        {inner}\n    ) -> {returned}:"
    return f"    def {name}(\n" + "".join(f"        {p},\n" for p in listed) + f"    ) -> {returned}:"


def handed_option(option: Option) -> str:
    number = option.ctype in ("double", "int32_t") and float(option.default) != 0
    if number and option.zero_is_negative:
        return f'explicit({option.name}, "{option.name}")'
    if number:
        return f'given({option.name}, "{option.name}")'
    return option.name


def handed_argument(argument: Argument) -> str:
    if argument.length:
        return f'numbers({argument.name}, {argument.length}, "{argument.name}")'
    return argument.name


def call(service: Service, method: Method) -> str:
    named = [f'"{a.name}": {handed_argument(a)}' for a in method.arguments]
    dictionary = f"{{{', '.join(named)}}}"
    if len(dictionary) + 13 > WIDTH:
        dictionary = "{\n" + "".join(f"                {pair},\n" for pair in named) + "            }"
    parts = [f'"{method.name}"', dictionary]
    if takes_color(service, method):
        standard = service.tag("color")
        parts.append("color" if standard == "bgr" else f'color or "{standard}"')
    parts += [f"{o.name}={handed_option(o)}" for o in method.options]
    line = f"        reply = self._call({', '.join(parts)})"
    if len(line) <= WIDTH:
        return line
    if len(", ".join(parts)) + 12 <= WIDTH and "\n" not in dictionary:
        return f"        reply = self._call(\n            {', '.join(parts)}\n        )"
    return "        reply = self._call(\n" + "".join(f"            {p},\n" for p in parts) + "        )"


def described(service: Service, method: Method) -> str:
    """The docstring's Args."""
    lines = [(a.name, a.text) for a in method.arguments]
    for option in method.options:
        lines.append((option.name, option.text.replace("None: none: ", "None: ") or "whether it comes back"))
    if method.delivers:
        lines.append(("save_path", "a file that the picture is written to as well"))
        lines.append(("as_numpy", "give a uint8 array (height, width, 3), RGB, in place of bytes"))
        lines.append(("as_pil", "give a PIL image in place of bytes"))
    if takes_color(service, method):
        lines.append(("color", f'the channel order of an array, "rgb" or "bgr"; None: "{service.tag("color")}"'))
    if not lines:
        return ""
    shown = "\n".join(wrapped(f"{name}: {sentence(text)}", 12, 4) for name, text in lines)
    return f"        Args:\n{shown}\n\n"


def print_method(service: Service, method: Method) -> str:
    returned = returned_type(method)
    lines = [signature(method.name, parameters(service, method), returned)]
    lines.append(wrapped(f'"""{sentence(method.text)}', 8))
    lines.append("")
    lines.append(described(service, method) + "        Returns:\n" + wrapped(sentence(method.returns), 12))
    lines.append('\n        Raises:\n            RuntimeError: see the module\'s docstring.\n        """')
    lines.append(call(service, method))
    if method.delivers:
        lines.append("        return deliver_picture(reply, save_path, as_numpy, as_pil)")
    else:
        ignored = "" if returned == "Any" else "  # type: ignore[no-any-return]"
        lines.append(f"        return reply{ignored}")
    text = "\n".join(lines) + "\n"
    if method.alias:
        text += "\n" + print_alias(service, method)
    return text


def print_alias(service: Service, method: Method) -> str:
    """`@alias name(parameters) = method(arguments) - what it is for`."""
    match = re.fullmatch(r"(\w+)\((.*?)\) = (\w+)\((.*?)\) - (.+)", method.alias)
    if not match or match.group(3) != method.name:
        raise HeaderError(
            f"{service.path}:{method.line}: @alias must read: name(parameters) = {method.name}(arguments) - text"
        )
    name, listed, target, handed, text = match.groups()
    types = {a.name: PYTHON_TYPES[a.ctype] for a in method.arguments}
    typed = ["self"]
    for parameter in listed.split(", "):
        word, _, default = parameter.partition("=")
        if word.startswith("**"):
            typed.append(f"{word}: Any")
        else:
            typed.append(f"{word}: {types.get(word, 'float')}" + (f" = {default}" if default else ""))
    returned = returned_type(method)
    doc = wrapped(f'"""{sentence(text)}"""', 8)
    return f"{signature(name, typed, returned)}\n{doc}\n        return self.{target}({handed})\n"


def print_stack(service: Service) -> str:
    """`@stack name member rows columns - text`: a member of each item of a list, as one array."""
    text = ""
    for words in service.tags.get("stack", []):
        match = re.fullmatch(r"(\w+) (\w+) (\d+) (\d+) - (.+)", " ".join(words.split()))
        if not match:
            raise HeaderError(f"{service.path}:1: @stack must read: name member rows columns - text")
        name, member, rows, columns, doc = match.groups()
        text += f'''
    @staticmethod
    def {name}(found: Sequence[Mapping[str, Any]]) -> numpy.ndarray[Any, Any]:
{wrapped(f'"""{sentence(doc)}"""', 8)}
        return stack(found, "{member}", ({rows}, {columns}))
'''
    return text


# ---- one client ------------------------------------------------------------------------------


def script(service: Service) -> list[str]:
    """The examples of all methods, one after the other, with what they need."""
    examples = [line for method in service.methods for line in method.example.split("\n")]
    text = "\n".join(examples)
    sources = [f"{name} = {source}" for name, source in SOURCES.items() if re.search(rf"\b{name}\b", text)]
    setup = [line for words in service.tags.get("setup", []) for line in words.split("\n")]
    return setup + sources + examples


def print_docstring(service: Service) -> str:
    lines = [f"{service.name} - Python Client SDK", "", wrapped(sentence(service.summary), 0)]
    if service.text:
        lines += ["", wrapped(" ".join(service.text.split()), 0)]
    needs_sensors = any("sensors." in line for line in script(service))
    lines += ["", "Usage (inside robot code execution):"]
    lines += [f"    from service_clients.{service.folder}.client import {service.tag('class')}"]
    if needs_sensors:
        lines += ["    from robot_sdk import sensors"]
    lines += ["", f"    client = {service.tag('class')}()", ""]
    lines += [f"    {line}" for line in script(service)]
    lines += ["", "Methods:"]
    for method in service.methods:
        given = ", ".join(a.name for a in method.arguments)
        options = ", ".join(f"{o.name}={o.default}" for o in method.options)
        head = f"{method.name}({', '.join(filter(None, [given, options]))})"
        lines.append(wrapped(head, 4, 8))
        lines.append(wrapped(sentence(method.text) + " Returns " + method.returns.rstrip(".") + ".", 8))
    if any(a.ctype == IMAGE for m in service.methods for a in m.arguments):
        lines += ["", wrapped(PICTURE_TEXT + color_text(service), 0)]
    env = f"AXON_HOST_{service.folder.upper()}"
    where = (
        f"The service is looked for at the constructor's `host`, else the environment's {env}, else the `host` of "
        f"the service.json beside this file, else {service.tag('host')}."
    )
    raised = (
        'Everything raised is a RuntimeError: "Service unavailable at http://...: ..." (also a ConnectionError), '
        f'"{service.methods[0].endpoint} failed (HTTP 422): ...", a call longer than `timeout` (also a TimeoutError), '
        "an argument that cannot be (also a ValueError; a path that leads nowhere also a FileNotFoundError)."
    )
    lines += ["", wrapped(where, 0), "", wrapped(raised, 0)]
    return '"""\n' + "\n".join(lines) + '\n"""\n'


def color_text(service: Service) -> str:
    text = " Arrays are uint8 (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), or uint16 or float depth (H, W)"
    if "color" in service.tags:
        text += f", and {service.tag('color').upper()} unless color= says otherwise"
    return text + "."


def print_wire(service: Service) -> str:
    """What each method is on the wire: a client without the native core has nobody else to ask."""
    lines = []
    for method in service.methods:
        words = ", ".join(f'"{word}": {as_literal(word, names)}' for word, names in method.wire.items())
        line = f'        "{method.name}": ("{method.verb}", "{method.endpoint}", {{{words}}}),'
        if len(line) > WIDTH:
            parts = [f'                "{word}": {as_literal(word, names)},' for word, names in method.wire.items()]
            head = f'        "{method.name}": (\n            "{method.verb}",\n            "{method.endpoint}",\n'
            line = head + "            {\n" + "\n".join(parts) + "\n            },\n        ),"
        lines.append(line)
    return "    _WIRE: ClassVar[Any] = {  # for robots without the native core\n" + "\n".join(lines) + "\n    }\n"


def as_literal(word: str, names: dict[str, str]) -> str:
    """A word of @wire as Python."""
    if word == "member":
        return json.dumps(next(iter(names)))
    if word == "fixed":
        return str({name: json.loads(value) for name, value in names.items()}).replace("'", '"')
    if word in ("rows", "named"):
        pairs = {name: int(v) if word == "rows" else v.split(",") for name, v in names.items()}
        return json.dumps(pairs)
    return json.dumps(list(names))


def print_client(service: Service) -> str:
    body = "\n".join(print_method(service, method) for method in service.methods) + print_stack(service)
    used = [
        name
        for name in ("ServiceClient", "deliver_picture", "explicit", "given", "numbers", "stack")
        if re.search(rf"\b{name}\(", body) or name == "ServiceClient"
    ]
    abstract = [name for name in ("Mapping", "Sequence") if re.search(rf"\b{name}\[", body)]
    typing = ["TYPE_CHECKING", "Any", "ClassVar"] if re.search(r"\bImage\b|numpy\.", body) else ["Any", "ClassVar"]
    checked = ""
    if "TYPE_CHECKING" in typing:
        imports = ["    import numpy"] if "numpy." in body else []
        imports += ["    from service_clients._axon import Image"] if re.search(r"\bImage\b", body) else []
        checked = "\nif TYPE_CHECKING:\n" + "\n\n".join(imports) + "\n"
    timeout = float(service.tag("timeout").split()[0])
    return f'''{print_docstring(service)}
from __future__ import annotations

from typing import {", ".join(sorted(typing + abstract, key=lambda n: (not n.isupper(), n)))}

from service_clients._axon import {", ".join(used)}
{checked}

class {service.tag("class")}(ServiceClient):
{wrapped(f'"""{sentence(service.summary)}"""', 4)}

{print_wire(service)}
    def __init__(self, host: str | None = None, timeout: float | None = {timeout}) -> None:
        """Makes the client; nothing is sent yet.

        Args:
            host: "http://host:port" of the service; None looks where the module's docstring says.
            timeout: seconds for one whole call, connecting included.
        """
        super().__init__(
            host,
            timeout,
            service="{service.folder}",
            default_host="{service.tag("host")}",
            client_file=__file__,
        )

{body}'''


# ---- the catalog -----------------------------------------------------------------------------


def where_from(root: Path) -> str:
    """Where robots fetch what this repository holds: [tool.axon] base_url in pyproject.toml."""
    match = re.search(r'^base_url = "(\S+)"', (root / "pyproject.toml").read_text(), flags=re.MULTILINE)
    if not match:
        raise HeaderError("pyproject.toml:1: no base_url in [tool.axon]")
    return match.group(1)


def entry_of(tags: dict[str, list[str]], folder: str, client: bytes, base_url: str) -> Entry:
    """The fields that every entry has, in the order of the field's catalog."""
    repository, branch = tags["repo"][0].split()
    added_at, _, added_by = tags["added"][0].partition(" ")
    entry: Entry = {
        "type": tags["type"][0],
        "host": tags["host"][0],
        "client_sdk": f"{base_url}/service_clients/{folder}/client.py",
        "service_repo": f"https://github.com/{repository}",
        "api_docs": f"https://github.com/{repository}/blob/{branch}/README.md",
        "version": tags["service"][0].split()[1],
        "added_by": added_by or "axon",
        "added_at": added_at,
        "updated_at": tags["changed"][0],
        "sha256": hashlib.sha256(client).hexdigest(),
        "size": len(client),
    }
    if "models" in tags:
        entry["models"] = [name.strip() for name in tags["models"][0].split(",")]
    return entry


def service_entry(service: Service, client: str, base_url: str) -> Entry:
    first = service.methods[0]
    entry = entry_of(service.tags, service.folder, client.encode(), base_url)
    endpoints = dict.fromkeys(["GET /health"] + [f"{m.verb} {m.endpoint}" for m in service.methods])
    description = " ".join([sentence(service.summary), *service.text.split()])
    usage = {
        "import": f"from service_clients.{service.folder}.client import {service.tag('class')}",
        "init": f"client = {service.tag('class')}()",
        "example": "\n".join(m.example for m in service.methods),
        "returns": sentence(first.returns),
    }
    return {"description": description, "endpoints": list(endpoints), **entry, "usage": usage}


POLICY_TAGS = (
    "service", "class", "type", "host", "about", "init", "example", "returns", "repo", "added", "changed",
)  # fmt: skip


# Headers whose clients are written by hand: policies, simulators, robots.
HAND_WRITTEN = ("include/axon/policy.h", "include/axon/simulator.h", "include/axon/stream.h")


def policy_entries(root: Path, base_url: str) -> dict[str, Entry]:
    """Those of the clients that are written by hand, from the tags of their headers, by name."""
    entries: dict[str, Entry] = {}
    for path in HAND_WRITTEN:
        if path == HAND_WRITTEN[0] or "@service" in (root / path).read_text(encoding="utf-8"):
            add_entries(root, path, base_url, entries)
    return entries


def add_entries(root: Path, path: str, base_url: str, entries: dict[str, Entry]) -> None:
    """Those of one header: each @service begins the tags of one client."""
    head = re.match(r"/\*(.*?)\*/", (root / path).read_text(encoding="utf-8"), flags=re.DOTALL)
    blocks: list[dict[str, list[str]]] = []
    for name, text in read_comment(head.group(1) if head else "", 1).tags:
        if name == "service" or not blocks:
            blocks.append({})
        words = "\n".join(line.strip() for line in text.splitlines()) if name == "example" else folded(text)
        blocks[-1].setdefault(name, []).append(words)
    for tags in blocks or [{}]:
        for needed in POLICY_TAGS:
            if needed not in tags:
                whose = f" for {tags['service'][0].split()[0]}" if "service" in tags else ""
                raise HeaderError(f"{path}:1: no @{needed}{whose}")
        name = tags["service"][0].split()[0]
        if name in entries:
            raise HeaderError(f"{path}:1: @service {name} is there twice")
        entries[name] = policy_entry(root, name.replace("-", "_"), tags, base_url)


def policy_entry(root: Path, folder: str, tags: dict[str, list[str]], base_url: str) -> Entry:
    client = (root / "service_clients" / folder / "client.py").read_bytes()
    usage = {
        "import": f"from service_clients.{folder}.client import {tags['class'][0]}",
        "init": tags["init"][0],
        "example": tags["example"][0],
        "returns": tags["returns"][0],
    }
    entry = entry_of(tags, folder, client, base_url)
    return {"description": tags["about"][0], "endpoints": tags.get("http", []), **entry, "usage": usage}


def core_version(root: Path) -> str:
    text = (root / "include/axon/api.h").read_text(encoding="utf-8")
    return ".".join(re.findall(r"^#define AXON_VERSION_\w+ (\d+)", text, flags=re.MULTILINE))


def wheel_entry(wheel: Path, url: str) -> Entry:
    data = wheel.read_bytes()
    return {"url": url or wheel.resolve().as_uri(), "sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}


def as_json(value: object) -> str:
    return json.dumps(value, indent=4, ensure_ascii=False) + "\n"


def print_all(root: Path, wheels: list[Entry]) -> dict[str, str]:
    """Every generated file, by its path from the root."""
    base_url = where_from(root)
    files: dict[str, str] = {}
    entries: dict[str, Entry] = {}
    for service in read_services(root):
        client = print_client(service)
        entries[service.name] = service_entry(service, client, base_url)
        files[f"service_clients/{service.folder}/client.py"] = client
        files[f"service_clients/{service.folder}/service.json"] = as_json(
            {"name": service.name, **entries[service.name]}
        )
    for name, entry in policy_entries(root, base_url).items():
        entries[name] = entry
        files[f"service_clients/{name.replace('-', '_')}/service.json"] = as_json({"name": name, **entry})
    newest = max(str(entry["updated_at"]) for entry in entries.values())
    catalog = {
        "updated": f"{newest}T00:00:00Z",
        "core": {"name": "axon", "version": core_version(root), "wheels": wheels},
        "capabilities": dict(sorted(entries.items())),
    }
    files["catalog.json"] = as_json(catalog)
    return files


# ---- the command -----------------------------------------------------------------------------


def differing(root: Path, files: dict[str, str]) -> list[str]:
    """The generated files that are not there, or not like this."""
    return [
        path
        for path, text in sorted(files.items())
        if not (root / path).is_file() or (root / path).read_text(encoding="utf-8") != text
    ]


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing, fail when something differs")
    parser.add_argument("--root", type=Path, default=ROOT, help="the checkout; default this one")
    parser.add_argument("--wheel", type=Path, action="append", default=[], help="a wheel of the core to name")
    parser.add_argument("--wheel-url", default="", help="where that wheel will lie; default its file: URL")
    given = parser.parse_args(arguments)
    try:
        files = print_all(given.root, [wheel_entry(wheel, given.wheel_url) for wheel in given.wheel])
    except HeaderError as error:
        print(error, file=sys.stderr)
        return 1
    stale = differing(given.root, files)
    for path in stale:
        if given.check:
            print(f"{path}:1: differs from what the headers say; run make generate", file=sys.stderr)
            continue
        target = given.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(files[path], encoding="utf-8")
        print(f"wrote {path}")
    return 1 if given.check and stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
