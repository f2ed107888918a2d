# Made by build.py from the public headers, which say what is in here.
from typing import Any

ffi: Any
lib: Any
