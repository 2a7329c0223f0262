"""URLs where a path of this machine is asked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.harness import Cli, error_line


@pytest.mark.parametrize(
    "arguments",
    [
        ("sample", "--out", "s3://bucket/out"),
        ("morph", "a.png", "b.png", "--out", "s3://bucket/out.gif"),
        ("latents", "export", "a.latents.safetensors", "--npz", "s3://bucket/out.npz"),
        ("train", "mapping", "photos", "--init", "faces", "--out", "s3://bucket/out"),
    ],
)
def test_who_writes_to_this_machine_alone_takes_no_url(arguments: tuple[str, ...], cli: Cli) -> None:
    refused = cli(*arguments)
    assert refused.code == 2
    assert error_line(refused) == f"error: {arguments[-2]} {arguments[-1]} is a URL; give a path of this machine"
    assert not list(Path().iterdir())
