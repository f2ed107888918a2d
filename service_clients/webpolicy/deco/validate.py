"""Decorators that check what a policy is given and what it returns: webpolicy.deco.validate.

A model is anything with a classmethod `model_validate(data)` that raises when the data are not as they should
be, as pydantic's models have; pydantic itself is not imported here.
"""

from __future__ import annotations

import functools
import sys
from typing import Any, Callable, TypeVar

__all__ = ["inp", "out", "validate"]

Function = TypeVar("Function", bound=Callable[..., Any])


def inp(struct: Any) -> Callable[[Function], Function]:
    """Checks the dict that a function is given before the function runs, which gets it unchanged.

    The dict is the argument named `x` or `obs`, else the only positional one, else (in a method) the second.

    Args:
        struct: the model.

    Raises (when the function is called):
        what the model raises (pydantic: ValidationError); the errors are printed to stderr before.
        TypeError: there is no such argument.
    """

    def decorate(function: Function) -> Function:
        @functools.wraps(function)
        def checked(*args: Any, **kwargs: Any) -> Any:
            _check(struct, _payload(function, args, kwargs))
            return function(*args, **kwargs)

        return checked  # type: ignore[return-value]

    return decorate


validate = inp  # its first name


def out(struct: Any) -> Callable[[Function], Function]:
    """Checks what a function returns before its caller gets it, unchanged; otherwise as inp()."""

    def decorate(function: Function) -> Function:
        @functools.wraps(function)
        def checked(*args: Any, **kwargs: Any) -> Any:
            result = function(*args, **kwargs)
            _check(struct, result)
            return result

        return checked  # type: ignore[return-value]

    return decorate


def _payload(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    for name in ("x", "obs"):
        if name in kwargs:
            return kwargs[name]
    if not args:
        raise TypeError(f"{getattr(function, '__name__', function)}() was called without a dict to validate")
    return args[0] if len(args) == 1 else args[1]


def _check(struct: Any, payload: Any) -> None:
    try:
        struct.model_validate(payload)
    except Exception as error:
        errors = getattr(error, "errors", None)
        print(errors() if callable(errors) else error, file=sys.stderr)
        raise
