#!/usr/bin/env bash
# sync_catalog.sh - keeps a robot's folder of service clients what the catalog says it is.
#
# Needs bash, curl and python3 (3.8 or later), nothing else; git when the catalog lies in a checkout that has a remote.
# The bash half reads the options and finds out whether anything is to be done at all; the Python half, at the end of
# this file, does it.
set -euo pipefail

usage() {
    cat <<'USAGE'
Usage: sync_catalog.sh [options]

Fetches the catalog and every client it names, checks them, and puts them into SERVICES_DIR/<folder>/client.py with a
service.json beside each; what is wrong is left out, and the last good version stays. Also installs the native core
that the catalog names. Quiet when nothing changed.

  --catalog SOURCE     http(s):// or file:// URL, a file, or a folder with catalog.json in it, which is pulled first
                       when it is a git checkout with a remote (CATALOG_URL, else WISHLIST_DIR)
  --services-dir DIR   where the clients go; the folder that is imported as service_clients (SERVICES_DIR)
  --log FILE           what changed and what failed; 1 MiB, and one older file (SYNC_CATALOG_LOG)
  --dry-run            say what would be done; write nothing
  --once               one run, then exit; the default
  --watch SECONDS      one run after the other, with a pause between them
  --no-prune           keep the clients that left the catalog
  --no-core            leave the native core alone
  --jobs N             transfers at a time (8)
  --timeout SECONDS    for one whole transfer (30)
  --verbose            say what is done, as when standard error is a terminal
  --help               this text

In parentheses: the environment variable that says the same, or the default. Without them the folders are those of the
script in the field: ~/tidybot_uni/backend_wishlist, ~/tidybot_uni/agent_server/service_clients, and a log named
sync_catalog.log beside SERVICES_DIR.

Exit status: 0 all is current; 1 something failed, and standard error and the log say what; 2 wrong usage;
75 another sync of the same folder is running.
USAGE
}

die() {
    printf 'sync_catalog.sh: %s\n' "$1" >&2
    exit 2
}

read_options() {
    catalog=${CATALOG_URL:-${WISHLIST_DIR:-${HOME:-}/tidybot_uni/backend_wishlist}}
    services=${SERVICES_DIR:-${HOME:-}/tidybot_uni/agent_server/service_clients}
    log=${SYNC_CATALOG_LOG:-} dry=0 watch=0 prune=1 core=1 jobs=8 timeout=30 verbose=0
    if [[ -t 2 ]]; then verbose=1; fi

    local option value
    while (($#)); do
        option=$1 && shift
        case $option in
            --dry-run) dry=1 && continue ;;
            --once) watch=0 && continue ;;
            --no-prune) prune=0 && continue ;;
            --no-core) core=0 && continue ;;
            --verbose) verbose=1 && continue ;;
            --help | -h) usage && exit 0 ;;
            --*=*) value=${option#*=} option=${option%%=*} ;;
            *)
                (($#)) || die "$option: needs a value, or is unknown; --help lists the options"
                value=$1 && shift
                ;;
        esac
        case $option in
            --catalog) catalog=$value ;;
            --services-dir) services=$value ;;
            --log) log=$value ;;
            --watch) watch=$value ;;
            --jobs) jobs=$value ;;
            --timeout) timeout=$value ;;
            *) die "$option: unknown; --help lists the options" ;;
        esac
    done
}

check_options() {
    local seconds='^[0-9]{1,5}([.][0-9]{1,3})?$' nothing='^[0.]+$'
    [[ $jobs =~ ^([1-9]|[1-5][0-9]|6[0-4])$ ]] || die "--jobs $jobs: not a number from 1 to 64"
    [[ $timeout =~ $seconds && ! $timeout =~ $nothing ]] || die "--timeout $timeout: not a number of seconds below 100000"
    [[ $watch =~ ^(0|[1-9][0-9]{0,4})$ ]] || die "--watch $watch: not a whole number of seconds below 100000"
    [[ -n $catalog && -n $services ]] || die "the catalog and SERVICES_DIR cannot be empty"
    [[ $catalog$services$log != *[[:cntrl:]]* ]] || die "a path or URL has a control character in it"
    if [[ $catalog != *://* && $catalog != /* ]]; then catalog=$PWD/$catalog; fi
    if [[ $services != /* ]]; then services=$PWD/$services; fi
    while [[ $services == */ && $services != / ]]; do services=${services%/}; done
    log=${log:-${services%/*}/sync_catalog.log}
    settings="prune=$prune core=$core timeout=$timeout $catalog"
}

# True when every file here is what it was after the last good run and every source answers 304. A run leaves behind
# what there is to ask (requests) and to compare (sums). This only reads, so it takes no lock.
is_current() {
    local state=$services/.sync count from answers=
    [[ -r $state/requests && -r $state/sums ]] && command -v sha256sum >/dev/null || return 1
    IFS=' ' read -r _ count from <"$state/requests" || return 1
    [[ $from == "$settings" && $count =~ ^[0-9]+$ ]] || return 1
    sha256sum --check --status -- "$state/sums" 2>/dev/null || return 1
    if ((count)); then
        answers=$(curl -q --silent --parallel --parallel-immediate --parallel-max "$jobs" --config "$state/requests" 2>/dev/null) || return 1
    fi
    ((${#answers} == 4 * count)) && [[ -z ${answers//304 /} ]]
}

sync_once() {
    local load='import sys
lines = open(sys.argv[1], encoding="utf-8").read().split("\n")
first = lines.index(": <<\x27PYTHON\x27") + 1
program = "\n" * first + "\n".join(lines[first : lines.index("PYTHON", first)])
exec(compile(program, sys.argv[1], "exec"))'
    if is_current; then
        if ((verbose)); then printf 'all is current\n' >&2; fi
        exit 0
    fi
    exec python3 -I -c "$load" "$script" "$catalog" "$services" "$log" "$jobs" "$timeout" "$prune" "$core" "$dry" \
        "$verbose" "$settings"
}

main() {
    script=${BASH_SOURCE[0]}
    if [[ $script != /* ]]; then script=$PWD/$script; fi
    read_options "$@"
    check_options
    local tool
    for tool in curl python3; do
        command -v "$tool" >/dev/null || { printf 'sync_catalog.sh: %s is not installed\n' "$tool" >&2 && exit 1; }
    done
    while ((watch)); do
        (sync_once) || true
        sleep "$watch"
    done
    sync_once
}

main "$@"; exit

# Never read by bash, which has left by now: a here-document would need room on the disk that may just be full.
# shellcheck disable=SC2317
: <<'PYTHON'
"""The second half of sync_catalog.sh: fetch, check, write; one failure never stops the rest."""

from __future__ import annotations

import ast
import contextlib
import fcntl
import hashlib
import json
import os
import re
import resource
import shutil
import stat
import subprocess
import sys
import tempfile
import time
import warnings
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, Iterable, Iterator, NamedTuple
from urllib.parse import unquote, urljoin, urlsplit

MARK = "sync_catalog.sh"  # in "sync" of a service.json: this folder is ours to prune
NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,99}")
MAX_CATALOG = 16 << 20
MAX_CLIENT = 1 << 20
MAX_WHEEL = 256 << 20
MAX_UNPACKED = 1 << 30
MAX_LOG = 1 << 20
BUSY = 75

# What the sandbox lets a client import. Of a package that stands here with a dot, only the modules that are named.
ALLOWED = frozenset(
    """__future__ abc array base64 binascii bisect collections concurrent.futures contextlib copy csv cv2 dataclasses
    datetime decimal enum errno fractions functools glob gzip hashlib heapq inspect io itertools json keyword logging
    math numbers numpy operator os pathlib PIL platform pprint queue random re robot_sdk scipy secrets service_clients
    statistics string struct sys textwrap threading time traceback types typing typing_extensions unicodedata urllib
    urllib.error urllib.parse urllib.request uuid warnings weakref zlib""".split()
)
ONLY_NAMED = frozenset(name.split(".")[0] for name in ALLOWED if "." in name)


class Problem(Exception):
    """Why an entry, the catalog or the core stays what it was."""


class Settings(NamedTuple):
    script: str
    catalog: str
    services: Path
    log: Path
    jobs: int
    timeout: float
    prune: bool
    core: bool
    dry: bool
    verbose: bool
    text: str

    @classmethod
    def parse(cls, arguments: list[str]) -> Settings:
        script, catalog, services, log, jobs, timeout, prune, core, dry, verbose, text = arguments
        return cls(
            script,
            catalog,
            Path(services),
            Path(log),
            int(jobs),
            float(timeout),
            prune=prune == "1",
            core=core == "1",
            dry=dry == "1",
            verbose=verbose == "1",
            text=text,
        )

    @property
    def state(self) -> Path:
        return self.services / ".sync"


def shown(text: str) -> str:
    """A name or message from outside, on one line and not endless."""
    return text if len(text) <= 300 and text.isprintable() else ascii(text[:300])


class Report:
    """What the run says: to the log, to standard error, and as its exit status."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.failures = 0
        self.changes = 0

    def failed(self, subject: str, reason: object) -> None:
        self.failures += 1
        line = f"{shown(subject)}: {shown(str(reason))}"
        print(f"sync_catalog.sh: {line}", file=sys.stderr)
        self._log(f"FAILED {line}")

    def changed(self, subject: str, what: str) -> None:
        self.changes += 1
        if self._settings.dry:
            print(f"{subject}: would be {what}")
        else:
            self.note(subject, what)

    def note(self, subject: str, what: str) -> None:
        self.progress(f"{subject}: {what}")
        self._log(f"{subject}: {what}")

    def progress(self, line: str) -> None:
        if self._settings.verbose:
            print(line, file=sys.stderr)

    def _log(self, line: str) -> None:
        if self._settings.dry:
            return
        log = self._settings.log
        try:
            log.parent.mkdir(parents=True, exist_ok=True)
            if log.exists() and log.stat().st_size > MAX_LOG:
                os.replace(log, f"{log}.1")
            with open(log, "a", encoding="utf-8") as file:
                file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {line}\n")
        except OSError as error:
            print(f"sync_catalog.sh: log: {error}", file=sys.stderr)


# --- Writing -----------------------------------------------------------------------------------------------------


def sync_folder(folder: Path) -> None:
    """Makes renames in a folder survive a loss of power."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_synced(path: Path, data: bytes) -> None:
    with open(path, "xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def write_whole(path: Path, data: bytes) -> None:
    """The file is the old one or the new one at every moment, never a part of either."""
    temporary = path.with_name(f".sync-{path.name}.tmp")
    with contextlib.suppress(FileNotFoundError):
        temporary.unlink()
    try:
        write_synced(temporary, data)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    sync_folder(path.parent)


def make_folder(folder: Path) -> None:
    if folder.is_symlink():
        raise Problem(f"{folder} is a symbolic link, which this script leaves alone")
    if not folder.is_dir():
        folder.mkdir()
        sync_folder(folder.parent)


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def read_file(path: Path) -> bytes | None:
    """The file's bytes; None when there is no such file."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


# --- Fetching ----------------------------------------------------------------------------------------------------


class Fetch:
    """One source: what is asked for, and then what came back."""

    def __init__(self, url: str, limit: int, etag: str = "", modified: str = "") -> None:
        self.url = url
        self.limit = limit
        self.etag = etag
        self.modified = modified
        self.path: Path | None = None
        self.error = "no answer"
        self.unchanged = False

    @property
    def remote(self) -> bool:
        return self.url.startswith(("http://", "https://"))

    def body(self) -> bytes:
        if self.error or self.path is None:
            raise Problem(self.error or "the source has sent nothing")
        with open(self.path, "rb") as file:
            data = file.read(self.limit + 1)
        if len(data) > self.limit:
            raise Problem(f"longer than {self.limit} bytes")
        return data

    def request(self, timeout: float, **more: str) -> str:
        """This transfer as curl's configuration."""
        lines = {
            "url": self.url,
            "user-agent": MARK,
            "connect-timeout": str(timeout),
            "max-time": str(timeout),
            "max-filesize": str(self.limit),
            "max-redirs": "5",
            "proto": "=http,https",
            "proto-redir": "=https" if self.url.startswith("https:") else "=http,https",
            **more,
        }
        if self.etag:
            lines["header"] = f"If-None-Match: {self.etag}"
        elif self.modified:
            lines["header"] = f"If-Modified-Since: {self.modified}"
        text = [f"{key} = {quoted(value)}" for key, value in lines.items()]
        return "\n".join(["location", "globoff", *text, ""])


def quoted(value: str) -> str:
    """A word for curl's configuration, in which nothing ends the quotation."""
    if not value.isprintable():
        raise Problem(f"{shown(value)}: a control character where none can be")
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


def resolve(base: str, source: object) -> str:
    """The URL, or the path of a local file, that a catalog read from `base` means."""
    if not isinstance(source, str) or not source:
        raise Problem("client_sdk or url is missing, or is no text")
    if not source.isascii() or not source.isprintable() or " " in source:
        raise Problem(f"{shown(source)}: no URL")
    scheme = urlsplit(source).scheme
    local = not base.startswith(("http://", "https://"))
    if scheme in ("http", "https"):
        return source
    if scheme == "file" and local:
        return unquote(urlsplit(source).path)
    if not scheme and not source.startswith("//"):
        return os.path.join(os.path.dirname(base), unquote(source)) if local else urljoin(base, source)
    raise Problem(f"{source}: a source that a catalog from {'this machine' if local else base} cannot name")


ERRORS = {
    "18": "the body ended early",
    "23": "cannot be written here, or is longer than allowed",
    "63": "longer than allowed",
}


class Fetcher:
    """Many transfers at a time, by one curl."""

    def __init__(self, folder: Path, jobs: int, timeout: float) -> None:
        self._folder = folder
        self._jobs = jobs
        self._timeout = timeout
        self._count = 0

    def fetch(self, fetches: Iterable[Fetch]) -> None:
        """Fills in what came back; every failure is in its Fetch."""
        remote: dict[int, Fetch] = {}
        for fetch in fetches:
            self._count += 1
            if fetch.remote:
                remote[self._count] = fetch
            else:
                fetch.path, fetch.error = Path(fetch.url), ""
        if remote:
            unclear = self._transfer(remote)
            for number, fetch in unclear.items():
                self._transfer({number: fetch})

    def _transfer(self, fetches: dict[int, Fetch]) -> dict[int, Fetch]:
        """One run of curl; returns the transfers that an old curl has said too little about."""
        requests = [self._request(number, fetch) for number, fetch in fetches.items()]
        largest = max(fetch.limit for fetch in fetches.values())
        done = subprocess.run(
            [
                *("curl", "-q", "--silent", "--parallel", "--parallel-immediate"),
                *("--parallel-max", str(self._jobs), "--config", "-"),
            ],
            input="next\n".join(requests).encode(),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            check=False,
            preexec_fn=lambda: limit_files(largest + 1),
            restore_signals=False,  # a file that grows too long fails its own transfer; the signal would end all
        )
        unclear = {}
        for line in done.stdout.decode(errors="replace").splitlines():
            match = re.fullmatch(r"(\d+) (\d+) x(\d*) ?(.*)", line)
            if not match or int(match[1]) not in fetches:
                continue
            number, code = int(match[1]), match[3]
            if not code and len(fetches) > 1 and done.returncode:
                unclear[number] = fetches[number]
            else:
                self._answer(number, fetches[number], match[2], code or str(done.returncode), match[4])
        return unclear

    def _request(self, number: int, fetch: Fetch) -> str:
        say = f"{number} %{{http_code}} x%{{exitcode}} %{{errormsg}}"
        files = {
            "output": str(self._folder / f"{number}.body"),
            "dump-header": str(self._folder / f"{number}.head"),
        }
        return fetch.request(self._timeout, **files) + f'write-out = "{say}\\n"\n'

    def _answer(self, number: int, fetch: Fetch, status: str, code: str, message: str) -> None:
        if code == "28":
            fetch.error = f"no whole answer within {self._timeout:g} s (--timeout)"
        elif code != "0":
            fetch.error = ERRORS.get(code) or message or f"curl's error {code}"
        elif status == "304" and (fetch.etag or fetch.modified):
            fetch.error, fetch.unchanged = "", True
        elif status != "200":
            fetch.error = f"HTTP {status}"
        else:
            fetch.error, fetch.path = "", self._folder / f"{number}.body"
            fetch.path.touch()  # curl makes no file for an empty body
            fetch.etag, fetch.modified = validators(self._folder / f"{number}.head")


def limit_files(size: int) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    soft = size if hard == resource.RLIM_INFINITY else min(size, hard)
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def validators(path: Path) -> tuple[str, str]:
    """ETag and Last-Modified of the last answer in a dump of headers, as far as they can be trusted.

    A Last-Modified that is as young as the answer says nothing: the file may change again within that second
    (RFC 9110, 8.8.2.2).
    """
    text = path.read_bytes().decode("latin-1").replace("\r\n", "\n").rstrip("\n")
    lines = [line.partition(":") for line in text.split("\n\n")[-1].split("\n")[1:]]
    headers = {name.strip().lower(): value.strip() for name, _, value in lines}
    etag, modified = headers.get("etag", ""), headers.get("last-modified", "")
    try:
        age = parsedate_to_datetime(headers["date"]) - parsedate_to_datetime(modified)
        trusted = age.total_seconds() >= 2 and modified.isprintable()
    except (KeyError, TypeError, ValueError, IndexError):
        trusted = False
    return etag if etag.isascii() and etag.isprintable() else "", modified if trusted else ""


# --- The catalog -------------------------------------------------------------------------------------------------


def find_catalog(source: str) -> tuple[str, Path | None]:
    """Where catalog.json is, and the folder that holds it when that was named."""
    if source.startswith(("http://", "https://")):
        return source, None
    if source.startswith("file://"):
        source = unquote(urlsplit(source).path)
    elif "://" in source:
        raise Problem(f"{source}: neither http, https nor file")
    folder = Path(source)
    return (str(folder / "catalog.json"), folder) if folder.is_dir() else (source, None)


def git(folder: Path, *arguments: str, timeout: float) -> str:
    environment = {**os.environ, "GIT_TERMINAL_PROMPT": "0"}
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env=environment,
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise Problem(f"git {arguments[0]}: not done within {timeout:g} s (--timeout)") from None
    except FileNotFoundError:
        raise Problem("the catalog is a git checkout, and git is not installed") from None
    if done.returncode:
        lines = done.stderr.decode(errors="replace").strip().splitlines() or ["failed"]
        raise Problem(f"git {arguments[0]}: {lines[-1]}")
    return done.stdout.decode().strip()


def pull(folder: Path, timeout: float) -> bool:
    """Brings a git checkout that has a remote up to date; True when it is one."""
    if not (folder / ".git").exists():
        return False
    remotes = git(folder, "remote", timeout=timeout).split()
    if not remotes:
        return False
    try:
        git(folder, "rev-parse", "@{upstream}", timeout=timeout)
        tracked: list[str] = []
    except Problem:
        tracked = [remotes[0], git(folder, "rev-parse", "--abbrev-ref", "HEAD", timeout=timeout)]
    git(folder, "pull", "--quiet", "--ff-only", *tracked, timeout=timeout)
    return True


def parse_catalog(data: bytes) -> dict[str, Any]:
    if data.lstrip().startswith(b"<"):
        raise Problem("an HTML page, not a catalog")
    try:
        catalog = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise Problem(f"not JSON: {error}") from None
    if not isinstance(catalog, dict) or not isinstance(catalog.get("capabilities"), dict):
        raise Problem('no object with "capabilities" in it')
    return catalog


# --- One client --------------------------------------------------------------------------------------------------


def check_stated(data: bytes, entry: dict[str, Any]) -> None:
    """Size and sha256, as far as the catalog states them."""
    size, digest = entry.get("size"), entry.get("sha256")
    if digest is not None and not (isinstance(digest, str) and re.fullmatch("[0-9a-fA-F]{64}", digest)):
        raise Problem("the catalog's sha256 is not 64 hexadecimal digits")
    if size is not None and size != len(data):
        raise Problem(f"{len(data)} bytes, and the catalog says {shown(str(size))}")
    if digest is not None and digest.lower() != sha256(data):
        raise Problem(f"sha256 is {sha256(data)}, and the catalog says {digest.lower()}")


def compile_client(data: bytes) -> ast.Module:
    if not data.strip():
        raise Problem("empty")
    if data.lstrip().startswith(b"<"):
        raise Problem("an HTML page, not Python")
    try:
        data.decode("utf-8")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(data)
            compile(tree, "client.py", "exec", dont_inherit=True)
    except UnicodeDecodeError as error:
        raise Problem(f"not UTF-8 at byte {error.start}") from None
    except SyntaxError as error:
        raise Problem(f"client.py:{error.lineno}: does not compile: {error.msg}") from None
    except (ValueError, RecursionError, MemoryError) as error:
        raise Problem(f"does not compile: {error or type(error).__name__}") from None
    return tree


def is_allowed(module: str) -> bool:
    top = module.split(".")[0]
    return module in ALLOWED if top in ONLY_NAMED else top in ALLOWED


def imported(node: ast.AST) -> list[str]:
    """The modules that a statement imports."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        if node.level:
            return ["." * node.level + (node.module or "")]
        module = node.module or ""
        inside = [f"{module}.{alias.name}" for alias in node.names]
        return inside if module in ("urllib", "concurrent") else [module]
    return ["__import__"] if isinstance(node, ast.Name) and node.id == "__import__" else []


def check_imports(tree: ast.Module) -> None:
    for node in ast.walk(tree):
        for module in imported(node):
            if not is_allowed(module):
                raise Problem(f"client.py:{node.lineno}: imports {module}, which the sandbox blocks")  # type: ignore


def defined(body: Iterable[ast.stmt]) -> Iterator[str]:
    """The names that a module binds."""
    for node in body:
        if isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            yield node.name
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            yield from ((alias.asname or alias.name).split(".")[0] for alias in node.names)
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            yield from (
                part.id for part in ast.walk(node) if isinstance(part, ast.Name) and not is_read(part)
            )
        for inner in ("body", "orelse", "handlers", "finalbody"):
            if isinstance(node, (ast.If, ast.Try, ast.With, ast.ExceptHandler)):
                yield from defined(getattr(node, inner, []))


def is_read(name: ast.Name) -> bool:
    return isinstance(name.ctx, ast.Load)


def check_usage(tree: ast.Module, entry: dict[str, Any]) -> None:
    """What usage.import takes from the client must be in it."""
    names = set(defined(tree.body))
    if not names:
        raise Problem("client.py defines nothing")
    usage = entry.get("usage")
    line = usage.get("import") if isinstance(usage, dict) else None
    if line is None:
        return
    try:
        statements = ast.parse(line).body
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError):
        raise Problem(f"usage.import is no Python: {shown(str(line))}") from None
    for statement in statements:
        for alias in statement.names if isinstance(statement, ast.ImportFrom) else []:
            if alias.name not in names and alias.name != "*":
                raise Problem(f"usage.import names {alias.name}, which client.py does not define")


class Client:
    """One entry of the catalog and its folder on the robot."""

    def __init__(self, name: str, entry: Any, catalog: str, services: Path) -> None:
        if not isinstance(entry, dict):
            raise Problem("the entry is no object")
        self.name = name
        self.entry: dict[str, Any] = entry
        self.folder = services / name.replace("-", "_")
        if self.folder.is_symlink():
            raise Problem(f"{self.folder} is a symbolic link, which this script leaves alone")
        self.installed = read_file(self.folder / "client.py")
        self.service_json = read_file(self.folder / "service.json")
        self.fetch = Fetch(resolve(catalog, entry.get("client_sdk")), MAX_CLIENT, *self._validators(catalog))

    def _validators(self, catalog: str) -> tuple[str, str]:
        """What to ask the source with, when what it gave last time is still here and still wanted."""
        sync = marked(self.service_json)
        here = sha256(self.installed) if self.installed is not None else None
        stated = self.entry.get("sha256")
        wanted = stated is None or (isinstance(stated, str) and stated.lower() == here)
        if (
            sync.get("sha256") != here
            or sync.get("url") != resolve(catalog, self.entry["client_sdk"])
            or not wanted
        ):
            return "", ""
        return str(sync.get("etag", "")), str(sync.get("modified", ""))

    def checked(self) -> bytes:
        """The bytes that client.py should have; raises Problem when the source has none that can be used."""
        if self.fetch.unchanged:
            assert self.installed is not None
            data = self.installed
        else:
            data = self.fetch.body()
        check_stated(data, self.entry)
        tree = compile_client(data)
        check_imports(tree)
        check_usage(tree, self.entry)
        return data

    def metadata(self, data: bytes) -> bytes:
        """service.json: the entry, under the keys of the field's, and what the next run asks the source with."""
        sync = {"by": MARK, "url": self.fetch.url, "sha256": sha256(data)}
        if self.fetch.etag:
            sync["etag"] = self.fetch.etag
        if self.fetch.modified:
            sync["modified"] = self.fetch.modified
        content = {"name": self.name, **self.entry, "sync": sync}
        return (json.dumps(content, indent=4) + "\n").encode()

    def install(self, report: Report, dry: bool) -> None:
        data = self.checked()
        metadata = self.metadata(data)
        new_client, new_metadata = data != self.installed, metadata != self.service_json
        if not dry and (new_client or new_metadata):
            existed = self.folder.is_dir()
            make_folder(self.folder)
            try:
                if new_client:
                    write_whole(self.folder / "client.py", data)
                if new_metadata:
                    write_whole(self.folder / "service.json", metadata)
            except OSError:
                if not existed:
                    with contextlib.suppress(OSError):
                        self.folder.rmdir()
                raise
        if new_client:
            what = "updated" if self.installed is not None else "installed"
            report.changed(
                self.name, f"{what}, {len(data)} bytes, version {shown(str(self.entry.get('version')))}"
            )
        elif without_sync(metadata) != without_sync(self.service_json):
            report.changed(self.name, "updated, metadata only")


def parse_object(data: bytes | None) -> dict[str, Any]:
    try:
        content = json.loads(data or b"{}")
    except (ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def without_sync(data: bytes | None) -> dict[str, Any]:
    return {key: value for key, value in parse_object(data).items() if key != "sync"}


def marked(service_json: bytes | None) -> dict[str, Any]:
    """What this script wrote about itself into a service.json; empty when somebody else made it."""
    sync = parse_object(service_json).get("sync")
    return sync if isinstance(sync, dict) and sync.get("by") == MARK else {}


# --- The core ----------------------------------------------------------------------------------------------------


def wheel_fits(name: str) -> bool:
    """Whether a wheel's tags allow it on this Python and this machine."""
    import sysconfig

    parts = name[: -len(".whl")].split("-") if name.endswith(".whl") else []
    if len(parts) not in (5, 6):
        raise Problem(f"{shown(name)}: not the name of a wheel")
    pythons, abis, platforms = (part.split(".") for part in parts[-3:])
    here = f"cp{sys.version_info[0]}{sys.version_info[1]}"
    free_threaded = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
    own_abi = here + ("t" if free_threaded else "")
    oldest = [int(tag[3:]) for tag in pythons if re.fullmatch(r"cp3\d+", tag)]
    stable = "abi3" in abis and not free_threaded and bool(oldest) and min(oldest) <= sys.version_info[1]
    pure = "none" in abis and bool({"py3", "py2.py3", here} & set(pythons))
    return (stable or pure or (here in pythons and own_abi in abis)) and any(map(platform_fits, platforms))


def platform_fits(tag: str) -> bool:
    import sysconfig

    machine = sysconfig.get_platform().split("-", 1)[-1].replace("-", "_").replace(".", "_")
    if tag in ("any", f"linux_{machine}"):
        return True
    old = {"manylinux1": (2, 5), "manylinux2010": (2, 12), "manylinux2014": (2, 17)}
    match = re.fullmatch(r"(manylinux1|manylinux2010|manylinux2014|manylinux_(\d+)_(\d+))_(.+)", tag)
    if not match or match[4] != machine:
        return False
    needed = old.get(match[1]) or (int(match[2]), int(match[3]))
    try:
        libc = re.fullmatch(r"glibc (\d+)\.(\d+).*", os.confstr("CS_GNU_LIBC_VERSION") or "")
    except (ValueError, OSError):
        libc = None
    return libc is not None and (int(libc[1]), int(libc[2])) >= needed


class Core:
    """The native core: SERVICES_DIR/_axon is a link into .sync/core-<sha256>, so that it changes as one."""

    def __init__(self, settings: Settings, catalog: str) -> None:
        self._settings = settings
        self._catalog = catalog
        self._link = settings.services / "_axon"

    def sync(self, core: Any, fetcher: Fetcher, report: Report) -> None:
        wheels = core.get("wheels") if isinstance(core, dict) else None
        if not isinstance(wheels, list) or not all(isinstance(wheel, dict) for wheel in wheels):
            raise Problem("core has no list of wheels")
        if not wheels:
            return
        wheel, whole = self._choose(wheels)
        digest = wheel.get("sha256")
        if not isinstance(digest, str) or not re.fullmatch("[0-9a-fA-F]{64}", digest):
            raise Problem("the catalog states no sha256 of the wheel")
        folder = f"core-{digest.lower()}" + ("" if whole else "-python")
        target = os.path.join(".sync", folder, "service_clients", "_axon")
        if os.path.lexists(self._link) and not self._link.is_symlink():
            raise Problem(
                f"{self._link} was not installed by this script, which leaves it alone; see --no-core"
            )
        if (
            self._link.is_symlink()
            and os.readlink(self._link) == target
            and (self._link / "__init__.py").exists()
        ):
            return
        self._install(wheel, whole, folder, target, fetcher, report)
        report.changed("core", f"installed, version {shown(str(core.get('version')))}")
        if not self._settings.dry:
            self._tell_what_is_missing(whole, report)

    def _choose(self, wheels: list[dict[str, Any]]) -> tuple[dict[str, Any], bool]:
        """The wheel for this machine; when there is none, any one's Python half, which works over urllib."""
        for wheel in wheels:
            url = resolve(self._catalog, wheel.get("url"))
            if wheel_fits(unquote(urlsplit(url).path.rsplit("/", 1)[-1])):
                return wheel, True
        return wheels[0], False

    def _install(
        self, wheel: dict[str, Any], whole: bool, folder: str, target: str, fetcher: Fetcher, report: Report
    ) -> None:
        size = wheel.get("size")
        limit = min(size, MAX_WHEEL) if isinstance(size, int) and size > 0 else MAX_WHEEL
        fetch = Fetch(resolve(self._catalog, wheel.get("url")), limit)
        report.progress(f"core: fetching {fetch.url}")
        fetcher.fetch([fetch])
        data = fetch.body()
        check_stated(data, wheel)
        members = wheel_members(data, whole)
        if self._settings.dry:
            return
        built = Path(tempfile.mkdtemp(prefix="new-", dir=self._settings.state))
        built.chmod(0o755)
        for name, content in members:
            path = built / name
            path.parent.mkdir(parents=True, exist_ok=True)
            write_synced(path, content)
        for path in [built, *(path for path in built.rglob("*") if path.is_dir())]:
            sync_folder(path)
        self._switch(built, self._settings.state / folder, target)

    def _switch(self, built: Path, place: Path, target: str) -> None:
        """Puts the new core in place; the one before stays for those who have it open."""
        before = os.readlink(self._link).split("/")[1:2] if self._link.is_symlink() else []
        shutil.rmtree(place, ignore_errors=True)
        os.rename(built, place)
        sync_folder(place.parent)
        fresh = self._link.with_name(".sync-_axon.tmp")
        with contextlib.suppress(FileNotFoundError):
            fresh.unlink()
        fresh.symlink_to(target)
        os.replace(fresh, self._link)
        sync_folder(self._link.parent)
        for old in self._settings.state.glob("core-*"):
            if old != place and old.name not in before:
                shutil.rmtree(old, ignore_errors=True)

    def _tell_what_is_missing(self, whole: bool, report: Report) -> None:
        if not whole:
            report.note("core", "no wheel fits this machine: HTTP clients work over urllib, policies do not")
            return
        done = subprocess.run(
            ["python3", "-c", "import _cffi_backend"], cwd="/", stderr=subprocess.DEVNULL, check=False
        )
        if done.returncode:
            report.note(
                "core",
                "python3 cannot import _cffi_backend (python3-cffi-backend on Debian): HTTP clients work over urllib, policies do not",
            )


def wheel_members(data: bytes, whole: bool) -> list[tuple[str, bytes]]:
    """The files of the core in a wheel: service_clients/_axon, and the libraries that were packed beside it."""
    import io
    import zipfile
    import zlib

    found: dict[str, bytes] = {}
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            if sum(info.file_size for info in archive.infolist()) > MAX_UNPACKED:
                raise Problem(f"the wheel unpacks to more than {MAX_UNPACKED} bytes")
            for info in archive.infolist():
                parts = info.filename.rstrip("/").split("/")
                linked = stat.S_ISLNK(info.external_attr >> 16)
                if (
                    linked
                    or {"", ".", ".."} & set(parts)
                    or "\\" in info.orig_filename
                    or "\0" in info.orig_filename
                ):
                    raise Problem(f"the wheel has a file {shown(info.orig_filename)} that leads out of it")
                ours = parts[:2] == ["service_clients", "_axon"] or parts[0].endswith(".libs")
                native = parts[0].endswith(".libs") or info.filename.endswith(".so")
                if ours and not info.is_dir() and (whole or not native):
                    found[info.filename] = archive.read(info)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        raise Problem(f"no readable wheel: {error}") from None
    if "service_clients/_axon/__init__.py" not in found:
        raise Problem("the wheel has no service_clients/_axon in it")
    return list(found.items())


# --- The whole run -----------------------------------------------------------------------------------------------


def prune(settings: Settings, wanted: set[str], report: Report) -> None:
    """Removes what this script installed and the catalog no longer has; whatever else lies there stays."""
    for folder in sorted(settings.services.iterdir()):
        if folder.name in wanted or folder.is_symlink() or not folder.is_dir():
            continue
        try:
            if marked(read_file(folder / "service.json")):
                if not settings.dry:
                    remove_client(folder)
                report.changed(folder.name, "removed: no longer in the catalog")
        except OSError as error:
            report.failed(folder.name, error)


def remove_client(folder: Path) -> None:
    shutil.rmtree(folder / "__pycache__", ignore_errors=True)
    (folder / "client.py").unlink()
    package = folder / "__init__.py"
    if package.exists() and not package.stat().st_size:
        package.unlink()
    (folder / "service.json").unlink()
    sync_folder(folder)
    with contextlib.suppress(OSError):
        folder.rmdir()


def clean_up(settings: Settings) -> None:
    """Removes what a run that was killed has left."""
    for path in [*settings.state.glob("new-*"), *settings.state.glob("incoming-*")]:
        shutil.rmtree(path, ignore_errors=True)
    for path in [*settings.services.glob(".sync-*.tmp"), *settings.services.glob("*/.sync-*.tmp")]:
        with contextlib.suppress(OSError):
            path.unlink()


def remember(settings: Settings, fetches: list[Fetch], files: list[Path]) -> None:
    """Leaves what the next run needs to see that nothing changed, if all sources can be asked for that."""
    remote = [fetch for fetch in fetches if fetch.remote]
    local = [Path(fetch.url) for fetch in fetches if not fetch.remote]
    paths = [Path(settings.script), *local, *files]
    if any("\\" in str(path) or not str(path).isprintable() for path in paths):
        return
    if not all(fetch.etag or fetch.modified for fetch in remote):
        return
    sums = "".join(f"{sha256(path.read_bytes())}  {path}\n" for path in paths)
    requests = "next\n".join(
        fetch.request(settings.timeout, output="/dev/null") + 'write-out = "%{http_code} "\n'
        for fetch in remote
    )
    write_whole(settings.state / "sums", sums.encode())
    write_whole(settings.state / "requests", f"# {len(remote)} {settings.text}\n{requests}".encode())


class Sync:
    """One run."""

    def __init__(self, settings: Settings, report: Report, incoming: Path) -> None:
        self._settings = settings
        self._report = report
        self._fetcher = Fetcher(incoming, settings.jobs, settings.timeout)
        self._pulled = False

    def run(self) -> None:
        try:
            place, catalog, source = self._read_catalog()
        except (Problem, OSError) as error:
            self._report.failed("catalog", error)
            return
        if self._settings.core and catalog.get("core") is not None:
            try:
                Core(self._settings, place).sync(catalog["core"], self._fetcher, self._report)
            except (Problem, OSError) as error:
                self._report.failed("core", error)
        clients, wanted = self._clients(catalog["capabilities"], place)
        self._install(clients)
        if self._settings.prune and self._settings.services.is_dir():
            prune(self._settings, wanted, self._report)
        self._report.progress(
            f"{len(wanted)} clients, {self._report.changes} changes, {self._report.failures} failures"
        )
        if not self._report.failures and not self._settings.dry and not self._pulled:
            self._remember(source, clients)

    def _read_catalog(self) -> tuple[str, dict[str, Any], Fetch]:
        place, folder = find_catalog(self._settings.catalog)
        if folder is not None and not self._settings.dry:
            try:
                self._pulled = pull(folder, self._settings.timeout)
            except Problem as error:  # what was pulled last time is still good
                self._report.failed("catalog", error)
        source = Fetch(place, MAX_CATALOG)
        self._report.progress(f"catalog: {place}")
        self._fetcher.fetch([source])
        return place, parse_catalog(source.body()), source

    def _clients(self, capabilities: dict[str, Any], place: str) -> tuple[list[Client], set[str]]:
        clients: list[Client] = []
        wanted: set[str] = set()
        for name, entry in capabilities.items():
            try:
                if not NAME.fullmatch(name):
                    raise Problem("not a name: only a-z, 0-9 and - are, and no more than 100 of them")
                wanted.add(name.replace("-", "_"))
                clients.append(Client(name, entry, place, self._settings.services))
            except (Problem, OSError) as error:
                self._report.failed(name, error)
        return clients, wanted

    def _install(self, clients: list[Client]) -> None:
        self._report.progress(f"fetching {len(clients)} clients")
        self._fetcher.fetch([client.fetch for client in clients])
        for client in clients:
            try:
                client.install(self._report, self._settings.dry)
            except (Problem, OSError) as error:
                self._report.failed(client.name, error)

    def _remember(self, source: Fetch, clients: list[Client]) -> None:
        files = [client.folder / name for client in clients for name in ("client.py", "service.json")]
        axon = self._settings.services / "_axon" / "__init__.py"
        if self._settings.core and axon.exists():
            files.append(axon)
        try:
            remember(self._settings, [source, *(client.fetch for client in clients)], files)
        except (Problem, OSError) as error:
            self._report.failed("state", error)


def lock(settings: Settings) -> int | None:
    """The lock on the folder, held until this process ends; None when another has it."""
    handle = os.open(settings.state / "lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return None
    return handle


def run(settings: Settings, report: Report) -> int:
    if settings.dry:
        with tempfile.TemporaryDirectory(prefix="sync-catalog-") as folder:
            Sync(settings, report, Path(folder)).run()
        return 1 if report.failures else 0
    settings.state.mkdir(parents=True, exist_ok=True)
    if lock(settings) is None:
        report.note("sync", "another one is running, this one does nothing")
        if not settings.verbose:
            print("sync_catalog.sh: another sync is running, this one does nothing", file=sys.stderr)
        return BUSY
    clean_up(settings)
    with contextlib.suppress(FileNotFoundError):
        (settings.state / "requests").unlink()
    incoming = Path(tempfile.mkdtemp(prefix="incoming-", dir=settings.state))
    try:
        Sync(settings, report, incoming).run()
    finally:
        shutil.rmtree(incoming, ignore_errors=True)
    return 1 if report.failures else 0


def main() -> int:
    os.umask(0o022)
    settings = Settings.parse(sys.argv[1:])
    report = Report(settings)
    try:
        return run(settings, report)
    except KeyboardInterrupt:
        return 130
    except OSError as error:
        report.failed("sync", error)
        return 1


sys.exit(main())
PYTHON
