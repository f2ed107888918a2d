"""Builds `service_clients._axon._native`: the C core and its cffi wrapper as one extension module.

cffi parses the public headers as they are, so that nothing is declared twice. CC, CFLAGS, LDFLAGS,
PKG_CONFIG and SAN (sanitizers, as in the Makefile) are honoured. With AXON_ARCHIVE=libaxon.a the C core is
linked from that archive instead of being compiled once more.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import sysconfig
from glob import glob

from cffi import FFI

# What the core stands on: any of these pkg-config names, and the Debian package that brings it.
LIBRARIES = [
    (("libcurl",), "libcurl4-openssl-dev"),
    (("msgpack-c", "msgpack"), "libmsgpack-dev"),
    (("libwebsockets",), "libwebsockets-dev"),
    (("openssl",), "libssl-dev"),
    (("libisal",), "libisal-dev"),
    (("libjpeg",), "libjpeg-dev"),
    (("libpng",), "libpng-dev"),
]

# Ctrl-C: a waiting call asks this function. It takes the GIL only where that is of use: on the main thread,
# which runs Python's signal handlers, and on threads that asked to be called back.
PREAMBLE = """
static _Thread_local int32_t axb_thread_is_watched;
static int32_t axb_look_up(void *user);

static int32_t axb_interrupted(void *user)
{
    return axb_thread_is_watched || gettid() == getpid() ? axb_look_up(user) : 0;
}
static void axb_watch_thread(int32_t watch) { axb_thread_is_watched = watch; }
static void axb_install(void) { axon_set_interrupt(axb_interrupted, NULL); }

/* Sets a key to an array of the dtype and shape of another one, in C order. */
static axon_status axb_set_array(axon_value *map, const char *key, const axon_array *like, const void *data)
{
    axon_value *child = axon_value_array(NULL);
    if (child) {
        memcpy(child->as.array, like, offsetof(axon_array, shape) + (size_t)like->ndim * sizeof *like->shape);
        child->as.array->data = data;
    }
    return axon_value_set(map, key, child);
}

/* An array that can outlive its tree, without a copy: the caller's, to be freed; NULL when this one cannot. */
static axon_array *axb_take_array(const axon_value *value)
{
    return axi_value_take_array((axon_value *)(uintptr_t)value);
}

/* See server_internal.h for the message. */
static void axb_open_request(axon_request *request, axb_request *opened)
{
    opened->value = axon_request_get_value(request);
    opened->is_reset = axon_request_get_kind(request) == AXON_REQUEST_RESET;
    opened->message = axi_request_take_message(request, &opened->length);
}
static void axb_give_message(void *message) { axi_spare_give(message); }

/* The message that a reply lies in, for axb_give_message(); NULL when there is none. */
static char *axb_take_message(axon_value *root, size_t *length)
{
    char *message = axi_value_take_message(root).memory;
    *length = malloc_usable_size(message);
    return message;
}

static axon_status axb_step(axon_simulator *simulator, const axon_value *action, axb_outcome *told, axon_error *err)
{
    axon_status status = axon_simulator_step(simulator, action, &told->outcome, err);
    if (status == AXON_OK) told->message = axb_take_message(told->outcome.reply, &told->length);
    return status;
}

/* Lays out what a step led to, as the list of a StepResult's members; see axi_row_fill(). */
static int64_t axb_fill_step(axi_row *row, const axb_outcome *told, const char *start)
{
    const axon_simulator_outcome *outcome = &told->outcome;
    axon_value members[] = {
        *outcome->observation,
        {.type = AXON_FLOAT, .as.real = outcome->reward},
        {.type = AXON_BOOL, .as.integer = outcome->terminated},
        {.type = AXON_BOOL, .as.integer = outcome->truncated},
        {.type = AXON_MAP},
    };
    if (outcome->info) members[4] = *outcome->info;
    members[0].key = members[4].key = NULL;
    const axon_value list = {.type = AXON_LIST, .as.children = {members, 5, 5}};
    return axi_row_fill(row, &list, start);
}

static void axb_end_step(axon_value *action, axb_outcome *told)
{
    axon_value_free(action);
    axon_value_free(told->outcome.reply);
}

/* axon_simulator_request_reply(), which the fields do not outlive. */
static axon_status axb_reply(axon_simulator_request *request, axon_value *fields, axon_error *err)
{
    axon_status status = axon_simulator_request_reply(request, fields, err);
    axon_value_free(fields);
    return status;
}

/* Python 3.8 does not export it by itself under -fvisibility=hidden. */
__attribute__((visibility("default"))) PyObject *PyInit__native(void);
"""
PREAMBLE_TYPES = """
/* What a step led to, and the message that it lies in. */
typedef struct axb_outcome {
    axon_simulator_outcome outcome;
    char *message;
    size_t length;
} axb_outcome;
/* What a server's request comes with. */
typedef struct axb_request {
    const axon_value *value;
    char *message;
    size_t length;
    int32_t is_reset;
} axb_request;
"""
PREAMBLE_API = """
extern "Python" int32_t axb_look_up(void *user);
extern "Python" axon_status axb_ask_policy(void *user, axon_request_kind kind, const axon_value *value,
                                           axon_value **actions, axon_error *err);
void axb_watch_thread(int32_t watch);
void axb_install(void);
axon_status axb_set_array(axon_value *map, const char *key, const axon_array *like, const void *data);
axon_array *axb_take_array(const axon_value *value);
void axb_open_request(axon_request *request, axb_request *opened);
void axb_give_message(void *message);
char *axb_take_message(axon_value *root, size_t *length);
axon_status axb_step(axon_simulator *simulator, const axon_value *action, axb_outcome *told, axon_error *err);
int64_t axb_fill_step(axi_row *row, const axb_outcome *told, const char *start);
void axb_end_step(axon_value *action, axb_outcome *told);
axon_status axb_reply(axon_simulator_request *request, axon_value *fields, axon_error *err);
"""


def headers() -> list[str]:
    """The public headers, each behind those that it includes."""
    ordered: list[str] = []

    def add(path: str) -> None:
        with open(path, encoding="utf-8") as file:
            for included in re.findall(r"^#include <(axon/.+)>", file.read(), flags=re.MULTILINE):
                add(f"include/{included}")
        if path not in ordered:
            ordered.append(path)

    for path in sorted(glob("include/axon/**/*.h", recursive=True)):
        add(path)
    return ordered


def declarations(path: str) -> str:
    """What cffi's parser reads of a header: no comments, no directives but integer #defines."""
    with open(path, encoding="utf-8") as file:
        text = re.sub(r"/\*.*?\*/", " ", file.read(), flags=re.DOTALL)
    numbers = re.findall(r"^#define (AXON_\w+) \(?(-?\d+)\)?\s*$", text, flags=re.MULTILINE)
    text = re.sub(r"^#(.*\\\n)*.*$", "", text, flags=re.MULTILINE)
    text = re.sub(r"\bAXON_(API|BEGIN|END)\b", "", text)
    return "".join(f"#define {name} {value}\n" for name, value in numbers) + text


def pkg_config(*arguments: str) -> list[str]:
    command = shlex.split(os.environ.get("PKG_CONFIG", "pkg-config")) + list(arguments)
    return shlex.split(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def packages() -> list[str]:
    """The pkg-config names of the libraries; ends the build with advice when one is missing."""
    found, missing = [], []
    for names, debian in LIBRARIES:
        for name in names:
            try:
                pkg_config("--exists", name)
            except (OSError, subprocess.CalledProcessError):
                continue
            found.append(name)
            break
        else:
            missing.append(debian)
    if missing:
        sys.exit(
            f"axon: {len(missing)} of the libraries that the C core needs are not to be found by pkg-config.\n"
            f"On Debian or Ubuntu: sudo apt-get install pkg-config {' '.join(missing)}"
        )
    return found


def builder() -> FFI:
    names = packages()
    sanitizers = os.environ.get("SAN")
    sanitize = [f"-fsanitize={sanitizers}", "-fno-sanitize-recover=all"] if sanitizers else []
    archive = os.environ.get("AXON_ARCHIVE")
    ffi = FFI()
    for header in headers():
        ffi.cdef(declarations(header))
    ffi.cdef(declarations("csrc/row.h"))
    ffi.cdef(re.sub(r"/\*.*?\*/", " ", PREAMBLE_TYPES))
    ffi.cdef(PREAMBLE_API)
    includes = "".join(f"#include <{header[len('include/') :]}>\n" for header in headers())
    ffi.set_source(
        "service_clients._axon._native",
        f"#include <malloc.h>\n#include <unistd.h>\n#include <stdbool.h>\n{includes}#include <row.h>\n#include <server_internal.h>\n#include <spare.h>\n#include <value_internal.h>\n{PREAMBLE_TYPES}{PREAMBLE}",
        sources=[] if archive else sorted(glob("csrc/*.c") + glob("csrc/services/*.c")),
        depends=[archive] if archive else headers() + sorted(glob("csrc/**/*.h", recursive=True)),
        extra_objects=[archive] if archive else [],
        include_dirs=["include", "csrc"],
        define_macros=[("_GNU_SOURCE", "1")],
        extra_compile_args=[
            "-std=c17",
            "-fvisibility=hidden",
            "-pthread",
            *sanitize,
            *pkg_config("--cflags", *names),
        ],
        extra_link_args=[*sanitize, "-pthread", *pkg_config("--libs", *names), "-lm"],
        # A free-threaded Python has no stable ABI to build for.
        py_limited_api=not sysconfig.get_config_var("Py_GIL_DISABLED"),
    )
    return ffi


ffibuilder = builder()
