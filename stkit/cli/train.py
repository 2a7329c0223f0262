"""`stkit train NAME`: one command a registered trainer, made of its Config's fields."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import logging
import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Any, get_args, get_type_hints

import pydantic
import typer
from typer.core import TyperCommand

from stkit.cli.common import console, print_table, progress_bar, waiting
from stkit.contracts.training import Trainer, Voice
from stkit.errors import UnknownNameError, UsageError
from stkit.options import split_pairs
from stkit.plugins import Registry

logger = logging.getLogger("stkit")

VOICE = Voice(console.print, progress_bar)
"""The command line's: lines on stdout, bars on stderr."""

Field = dataclasses.Field[Any]
_KEYWORD = inspect.Parameter.KEYWORD_ONLY
_LAST = ("resume", "seed", "device")
_OPTION = Annotated[
    list[str] | None,
    typer.Option("-o", "--option", metavar="KEY=VALUE", help="A setting of the table below; may be repeated."),
]


def group(registry: Registry) -> typer.Typer:
    """The commands of all trainers."""
    app = typer.Typer(
        name="train", help="Train models. Every run can be stopped at any moment and resumed.", no_args_is_help=True
    )
    for trainer in registry.trainers.values():
        app.command(trainer.name, help=trainer.description, cls=_command_class(trainer.Config))(_command(trainer))
    return app


def _command(trainer: Trainer[Any]) -> Callable[..., None]:
    """What trains with the flags that are given."""
    config = trainer.Config
    kinds = get_type_hints(config)
    own = sorted(_fields(config, "argument", "flag"), key=_order)
    settings = _fields(config, "option")

    def run(**given: Any) -> None:
        values = {field.name: given[field.name] for field in own}
        values |= _settings(given["option"] or (), [field.name for field in settings])
        for field in settings:
            if given[field.name] is not None:
                values[field.name] = given[field.name]
                now = f"-o {field.name}={given[field.name]}"
                logger.warning("%s is now `%s`; the flag goes away with the next version", _flag(field), now)
        fields = {field.name: field for field in (*own, *settings)}
        asked = config(**{name: _typed(fields[name], kinds[name], value) for name, value in values.items()})
        with waiting("loading"):
            importlib.import_module("torch")
        trainer.train(asked, VOICE)

    parameters = [_parameter(field, kinds[field.name]) for field in own]
    parameters.append(inspect.Parameter("option", _KEYWORD, default=None, annotation=_OPTION))
    parameters += [_old_flag(field, kinds[field.name]) for field in settings]
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run


def _command_class(config: type) -> type[TyperCommand]:
    """A command whose help ends with the table of its settings."""
    rows = [(field.name, _said(field.default), field.metadata.get("help", "")) for field in _fields(config, "option")]

    class Command(TyperCommand):
        def format_help(self, ctx: Any, formatter: Any) -> None:
            super().format_help(ctx, formatter)
            if rows:
                print_table(("-o KEY", "default", "meaning"), rows)

    return Command


def _fields(config: type, *places: str) -> list[Field]:
    return [field for field in dataclasses.fields(config) if _place(field) in places]


def _place(field: Field) -> str:
    return field.metadata.get("place", "option")


def _order(field: Field) -> tuple[bool, bool, bool]:
    """Arguments first, then what is required, and last what every run has."""
    return _place(field) != "argument", field.default is not dataclasses.MISSING, field.name in _LAST


def _parameter(field: Field, kind: Any) -> inspect.Parameter:
    default = inspect.Parameter.empty if field.default is dataclasses.MISSING else field.default
    argued, help = _place(field) == "argument", field.metadata["help"]
    place = typer.Argument(help=help) if argued else typer.Option(_flag(field), help=help)
    return inspect.Parameter(field.name, _KEYWORD, default=default, annotation=Annotated[_plain(kind), place])


def _old_flag(field: Field, kind: Any) -> inspect.Parameter:
    """A setting as the flag of its own that it was before `-o`, which help leaves out."""
    flag = f"{_flag(field)}/--no-{_flag(field)[2:]}" if kind is bool or bool in get_args(kind) else _flag(field)
    annotation: Any = Annotated[_plain(kind | None), typer.Option(flag, hidden=True)]
    return inspect.Parameter(field.name, _KEYWORD, default=None, annotation=annotation)


def _flag(field: Field) -> str:
    return field.metadata.get("names") or f"--{field.name.replace('_', '-')}"


def _plain(kind: Any) -> Any:
    """The type that typer parses: text where it has none for it."""
    return kind if all(part in (int, float, bool, str, Path, type(None)) for part in get_args(kind) or (kind,)) else str


def _settings(pairs: Iterable[str], known: list[str]) -> dict[str, Any]:
    values = split_pairs(pairs)
    for name in values:
        if name not in known:
            raise UnknownNameError("setting", name, known)
    return values


def _typed(field: Field, kind: Any, value: Any) -> Any:
    """A value as its field's type, within its limits. Raises UsageError."""
    least, most = field.metadata.get("least"), field.metadata.get("most")
    try:
        typed = pydantic.TypeAdapter(kind).validate_python(value)
    except pydantic.ValidationError as error:
        raise UsageError(f"{_named(field)}: {error.errors()[0]['msg']} (got '{value}')") from None
    if isinstance(typed, float) and not math.isfinite(typed):
        raise UsageError(f"{_named(field)} {value} is no finite number; give another one")
    if typed is not None and ((least is not None and typed < least) or (most is not None and typed > most)):
        limits = f"at least {least}" if most is None else f"from {least} to {most}"
        raise UsageError(f"{_named(field)} is {limits} (got {value})")
    return typed


def _named(field: Field) -> str:
    return {"argument": field.name, "flag": _flag(field), "option": f"-o {field.name}"}[_place(field)]


def _said(default: Any) -> str:
    return "" if default is None else f"{default:g}" if isinstance(default, float) else str(default)


__all__ = ["VOICE", "group"]
