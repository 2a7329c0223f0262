"""Commands whose flags are the fields of a frozen dataclass: what Python users give, the command line parses."""

from __future__ import annotations

import dataclasses
import enum
import functools
import inspect
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, get_type_hints

import typer
from typer.models import ArgumentInfo

from stkit.errors import UsageError
from stkit.options import split_pairs
from stkit.remote import as_path, is_remote

_WRITTEN = ("out", "npz", "grid")


def takes(
    config: type, flags: Mapping[str, Any], renamed: Mapping[str, str] | None = None, **defaults: Any
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Make a typer command of a function that takes a `config`, and by keyword the flags that are no fields of it.

    `flags` has the type of each flag, annotated for typer, by its field's name, or by the name that `renamed` says is
    the field's, in the order of `--help`. A flag's default is in `defaults`, or its field's, or the keyword's; one
    without is required. Where the default is None or empty, a flag that is not given is left to the dataclass. The
    texts KEY=VALUE of a field `options` become a dictionary.
    """
    fields = {field.name: field for field in dataclasses.fields(config)}
    homes = {name: (renamed or {}).get(name, name) for name in flags}

    def default_of(name: str, own: Mapping[str, inspect.Parameter]) -> Any:
        if name in defaults:
            return defaults[name]
        if homes[name] not in fields:
            return own[name].default
        field = fields[homes[name]]
        if field.default is dataclasses.MISSING:
            return inspect.Parameter.empty if field.default_factory is dataclasses.MISSING else None
        return None if field.default == () else field.default

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        own = inspect.signature(function).parameters

        @functools.wraps(function)
        def command(**given: Any) -> None:
            if given.get("options"):
                given["options"] = split_pairs(given["options"])
            asked = {}
            for name in [name for name in given if homes[name] in fields]:
                value = given.pop(name)
                if value is not None:
                    asked[homes[name]] = value.value if isinstance(value, enum.Enum) else value
            function(config(**asked), **given)

        kind = inspect.Parameter.KEYWORD_ONLY
        command.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
            [
                inspect.Parameter(name, kind, default=default_of(name, own), annotation=flag)
                for name, flag in flags.items()
            ]
        )
        command.__annotations__ = dict(flags)
        command.__doc__ = "\n\n".join(" ".join(part.split()) for part in (function.__doc__ or "").split("\n\n"))
        return command

    return decorate


def require_sound(app: typer.Typer) -> None:
    """Make all commands of `app` refuse by the flag numbers not finite or too large, negative seeds, URLs to write to.

    `invert` and `edit` alone write to URLs; elsewhere `s3://bucket` would be a folder called `s3:` here.
    """
    for command in app.registered_commands:
        if command.callback is not None:
            command.callback = _sound(command.callback, urls=command.name in ("invert", "edit"))
    for group in app.registered_groups:
        if group.typer_instance is not None:
            require_sound(group.typer_instance)


def _sound(function: Callable[..., Any], urls: bool) -> Callable[..., Any]:
    @functools.wraps(function)
    def command(**given: Any) -> Any:
        for name, value in given.items():
            if name in _WRITTEN and isinstance(value, Path) and is_remote(value) and not urls:
                flag, url = _flag(function, name), as_path(value)
                raise UsageError(f"{flag} {url} is a URL; give a path of this machine")
            if isinstance(value, float) and not math.isfinite(value):
                raise UsageError(f"{_flag(function, name)} {value} is no finite number; give another one")
            if isinstance(value, int) and not -(2**63) <= value < 2**63:
                raise UsageError(f"{_flag(function, name)} {value} is too large; give a number below 2**63")
            if name == "seed" and isinstance(value, int) and value < 0:
                raise UsageError(f"{_flag(function, name)} {value} is negative; seeds are 0 and above")
        return function(**given)

    command.__annotations__ = function.__annotations__  # from Python 3.14 on `wraps` leaves out those that were set
    return command


def _flag(function: Callable[..., Any], name: str) -> str:
    annotated = get_type_hints(function, include_extras=True)[name]
    if any(isinstance(option, ArgumentInfo) for option in getattr(annotated, "__metadata__", ())):
        return name.upper()
    declared = [text for option in getattr(annotated, "__metadata__", ()) for text in option.param_decls or ()]
    return declared[-1] if declared else f"--{name.replace('_', '-')}"


__all__ = ["require_sound", "takes"]
