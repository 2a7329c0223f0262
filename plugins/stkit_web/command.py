"""`stkit web`."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from stkit.plugin import DeviceFlag, DomainFlag, MissingPackageError, UsageError, WeightsFlag, console, open_weights

PASSWORD = "STKIT_WEB_PASSWORD"


def run(
    host: Annotated[
        str, typer.Option("--host", help="Where to listen; others than this computer need the token that is printed.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=1, max=65535, help="The port.")] = 7860,
    no_open: Annotated[bool, typer.Option("--no-open", help="Do not open a browser.")] = False,
    auth: Annotated[
        str | None,
        typer.Option("--auth", metavar="USER", help=f"Ask for this user's password ({PASSWORD}, or typed in now)."),
    ] = None,
    domain: DomainFlag = None,
    weights: WeightsFlag = None,
    device: DeviceFlag = "auto",
) -> None:
    """A page with sliders in the browser: drop a photo, drag, take the picture home. Nothing leaves this computer."""
    import importlib.util

    if importlib.util.find_spec("gradio") is None:
        raise MissingPackageError("the page needs Gradio; run: pip install 'stkit[web]'")
    first = open_weights(domain, weights)  # what is wrong with it is said before Gradio is loaded
    password = None
    if auth is not None:
        password = os.environ.get(PASSWORD) or typer.prompt(f"Password for {auth}", hide_input=True)
        if not password:
            raise UsageError(f"an empty password keeps nobody out; set {PASSWORD}")

    from stkit_web.server import serve

    for line in serve(first, device, host, port, None if auth is None else (auth, str(password)), not no_open):
        console.print(line)
        console.file.flush()  # who starts this in the background reads the address from a pipe


__all__ = ["PASSWORD", "run"]
