"""The `stkit` command line: one file a command group, torch imported only by the commands that compute."""

from __future__ import annotations

import io
import logging
import sys
from typing import Any

import typer
import typer.main

from stkit.cli import edit, evaluate, faces, invert, latents, morph, report, sample, tables, train, weights
from stkit.cli.common import EDIT, LOOK, MODELS, PLUGINS, TRAIN, NoteHandler, console, print_error
from stkit.cli.flags import require_sound
from stkit.errors import NO_MEMORY, StkitError, is_out_of_memory, reason_of
from stkit.files import printable
from stkit.plugins import PluginInfo, Registry, add_commands, load_plugins

# Typer has click's classes under another name in every second version.
_ClickException: Any = next(base for base in typer.BadParameter.__mro__ if base.__name__ == "ClickException")


def build_app(registry: Registry | None = None) -> typer.Typer:
    """The whole command line, with the commands that the plugins of `registry` add (by default all installed ones)."""
    registry = registry or load_plugins()
    app = typer.Typer(
        name="stkit",
        help="Edit real photographs in the latent space of a GAN.",
        epilog="Add --debug to any command to see the traceback of an error.",
        no_args_is_help=True,
        rich_markup_mode="rich",
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback(invoke_without_command=True)(_root)
    for module in (invert, edit, morph):
        app.command(module.COMMAND, rich_help_panel=EDIT)(module.run)
    for module in (faces, sample, report):
        app.command(module.COMMAND, rich_help_panel=LOOK)(module.run)
    app.add_typer(latents.app, name="latents", rich_help_panel=LOOK)
    app.add_typer(weights.group(), rich_help_panel=MODELS)
    app.command(evaluate.COMMAND, rich_help_panel=MODELS)(evaluate.run)
    app.command(evaluate.OLD_COMMAND, hidden=True)(evaluate.run_old)
    app.add_typer(train.group(registry), rich_help_panel=TRAIN)
    plugins: list[PluginInfo] = []
    for group in tables.groups(lambda: plugins):
        app.add_typer(group, rich_help_panel=PLUGINS)
    plugins += add_commands(app, registry)
    require_sound(app)
    return app


def _root(version: bool = typer.Option(False, "--version", help="Print the version and end.")) -> None:
    if version:
        from stkit import __version__

        print(__version__)
        raise typer.Exit


def main() -> None:
    """Run the command line; errors become one line and an exit code (1, or 2 for wrong usage)."""
    debug = "--debug" in sys.argv
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    logger = logging.getLogger("stkit")
    logger.setLevel(logging.INFO)
    logger.addHandler(NoteHandler())
    try:
        # Standalone, typer would draw a box around the one line of a usage error.
        sys.exit(typer.main.get_command(build_app()).main(arguments, standalone_mode=False))
    except StkitError as error:
        if debug:
            raise
        print_error(str(error))
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        print_error("interrupted")
        sys.exit(130)
    except BrokenPipeError:
        sys.exit(1)
    except Exception as error:
        if isinstance(error, _ClickException):
            shown = io.StringIO()
            error.show(shown)
            print(printable(shown.getvalue()), end="", file=sys.stderr)
            sys.exit(error.exit_code)
        if debug:
            raise
        said = f"unexpected {type(error).__name__}: {reason_of(error)} (please report it, with what --debug shows)"
        print_error(NO_MEMORY if is_out_of_memory(error) else said)
        sys.exit(1)
    finally:
        console.file.flush()


__all__ = ["build_app", "main"]
