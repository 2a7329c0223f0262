"""What is wrong, in the words of the command line; the page goes on."""

from __future__ import annotations

import html
import inspect
import logging
import re
from collections.abc import Callable
from typing import Any, NoReturn

import gradio as gr
from gradio.context import LocalContext
from gradio.helpers import log_message

from stkit.plugin import StkitError

_FOLDERS = re.compile(r"(?<![\w/\\:.~])(?:[A-Za-z]:)?[/\\](?:[^\s/\\:;,'\"]+[/\\])+")

logger = logging.getLogger("stkit")


class Cancelled(Exception):
    """Somebody does not want it any more."""


def told(function: Callable[..., Any], program: bool = False) -> Callable[..., Any]:
    """`function` with its errors as one line, for the page as HTML, for a `program` as it is."""
    signature = inspect.signature(function)
    fail = _refuse if program else _tell

    if inspect.isgeneratorfunction(inspect.unwrap(getattr(function, "func", function))):

        def run(*args: Any, **kwargs: Any) -> Any:
            try:
                yield from function(*args, **kwargs)
            except Exception as error:
                yield fail(error)
    else:

        def run(*args: Any, **kwargs: Any) -> Any:
            try:
                return function(*args, **kwargs)
            except Exception as error:
                return fail(error)

    run.__signature__ = signature  # type: ignore[attr-defined]
    run.__annotations__ = _types(function)
    run.__name__ = getattr(getattr(function, "func", function), "__name__", "run")
    return run


def _refuse(error: Exception) -> NoReturn:
    raise as_told(error, program=True) from error


def _tell(error: Exception) -> Any:
    """Show the error; the event ends well. After one that fails Gradio forgets what waits for its end: a photo dropped
    while another is found to be damaged would never be opened. What did not queue has no other way than to fail."""
    shown = as_told(error)
    if LocalContext.event_id.get(None) is None:
        raise shown from error
    log_message(shown.message, shown.title, "error", shown.duration)  # as gr.Error shows it
    return gr.skip()


def as_told(error: Exception, program: bool = False) -> gr.Error:
    """The error as the page shows it, until it is closed, or as a program is told it."""
    if isinstance(error, StkitError):
        text = nameless(" ".join(str(error).split()))
    else:
        logger.error("the page met an unexpected error", exc_info=error)
        text = f"unexpected {type(error).__name__} (please report it, with what the terminal shows)"
    return gr.Error(text if program else html.escape(text), duration=None, title="stkit", print_exception=False)


def nameless(text: str) -> str:
    """`text` without the folders of absolute paths: people at a page need not know where files lie on the server."""
    return _FOLDERS.sub("", text)


def _types(function: Callable[..., Any]) -> dict[str, Any]:
    inner = getattr(function, "func", function)
    kinds = {"gr.Request": gr.Request, "gr.SelectData": gr.SelectData}
    return {name: kinds[str(text)] for name, text in inspect.get_annotations(inner).items() if str(text) in kinds}


__all__ = ["Cancelled", "as_told", "nameless", "told"]
