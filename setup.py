"""What pyproject.toml cannot say: the version, the native module, the wheel's tag, and a licence for every setuptools."""

from __future__ import annotations

import re
import sysconfig

from setuptools import find_namespace_packages, setup

with open("include/axon/api.h", encoding="utf-8") as header:
    VERSION = re.findall(r"#define AXON_VERSION_(?:MAJOR|MINOR|PATCH) (\d+)", header.read())

# One wheel for every Python from 3.8 on; a free-threaded Python has no stable ABI.
ABI3 = {} if sysconfig.get_config_var("Py_GIL_DISABLED") else {"bdist_wheel": {"py_limited_api": "cp38"}}

setup(
    version=".".join(VERSION),
    license="MIT",
    packages=find_namespace_packages(include=["service_clients", "service_clients.*"]),
    package_data={"": ["*.json", "*.pyi", "py.typed"]},
    cffi_modules=["service_clients/_axon/build.py:ffibuilder"],
    options=ABI3,
    zip_safe=False,
)
