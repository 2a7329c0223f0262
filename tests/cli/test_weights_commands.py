"""`stkit weights` in process."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from stkit.checkpoints import download
from stkit.weights import cache_folder, user_folder
from tests.checkpoints.server import FileServer
from tests.checkpoints.writers import (
    make_generator,
    make_psp_encoder,
    make_style_transformer,
    write_framework,
    write_nvidia,
    write_rosinality,
    write_style_transformer,
)
from tests.cli.harness import Cli, error_line


def test_from_a_foreign_checkpoint_to_an_edited_photo(cli: Cli, portrait: Path) -> None:
    write_style_transformer(Path("st.pt"), make_style_transformer(), make_generator())
    told = cli("weights", "inspect", "st.pt")
    assert told.code == 0, told.err
    assert "Style Transformer" in told.out
    assert "8, of which 6 give codes" in told.out
    assert "stkit weights import st.pt --name NAME" in told.out
    done = cli("weights", "import", "st.pt", "--name", "mine", "--alignment", "ffhq", "--licence", "test")
    assert done.code == 0, done.err
    assert "generator, inverter; 16 px, faces, aligned by ffhq" in done.out
    assert "mine" in cli("weights", "list").out
    assert "imported from" in cli("weights", "show", "mine").out
    assert cli("weights", "verify", "mine").code == 0
    result = cli("invert", portrait, "--weights", "mine")
    assert result.code == 0, result.err
    with Image.open("out/grace/grace.reconstruction.png") as image:
        assert image.size == (16, 16)


def test_an_imported_encoder_inverts_without_a_flag(cli: Cli, portrait: Path) -> None:
    opts = {"encoder_type": "Encoder4Editing", "output_size": 16, "start_from_latent_avg": True}
    state = make_psp_encoder(progressive=True).state_dict()
    average = state.pop("latent_avg")
    write_framework(Path("e4e.pt"), state, make_generator(), opts, average)
    done = cli("weights", "import", "e4e.pt", "--name", "mine")
    assert done.code == 0, done.err
    result = cli("invert", portrait, "--weights", "mine")
    assert result.code == 0, result.err
    assert json.loads(Path("out/grace/grace.json").read_text())["inverter"] == "e4e"
    folder = cli("invert", "*.jpg", "--weights", "mine", "--out", "many")
    assert folder.code == 0, folder.err
    assert json.loads(Path("many/grace/grace.json").read_text())["inverter"] == "e4e"
    other = cli("invert", portrait, "--weights", "mine", "--inverter", "psp", "--out", "other")
    assert other.code == 1
    assert "they have: e4e; name one of them" in error_line(other)


def test_export_and_remove(cli: Cli) -> None:
    write_rosinality(Path("a.pt"), make_generator())
    assert cli("weights", "import", "a.pt", "--name", "mine", "--half").code == 0
    result = cli("weights", "export", "mine", "--format", "nvidia-state", "--out", "made")
    assert result.code == 0, result.err
    assert result.out.strip() == "made/mine.nvidia.pt"
    again = cli("weights", "export", "mine", "--format", "nvidia-state", "--out", "made")
    assert again.code == 2
    assert "already" in error_line(again)
    assert cli("weights", "remove", "mine", "--yes").code == 0
    assert list(user_folder().iterdir()) == []
    shipped = cli("weights", "remove", "faces", "--yes")
    assert shipped.code == 2
    assert "come with stkit" in error_line(shipped)


def test_inspecting_a_hostile_file_warns_and_runs_nothing(cli: Cli, tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(tmp_path / "canary"),)

    content = torch.load(write_rosinality(Path("a.pt"), make_generator()), weights_only=True)
    torch.save({**content, "args": Evil()}, "a.pt")
    result = cli("weights", "inspect", "a.pt")
    assert result.code == 1
    assert "mkdir" in result.out
    assert "nothing was run here" in result.err
    assert cli("weights", "import", "a.pt", "--name", "mine").code == 1
    assert not (tmp_path / "canary").exists()


def test_files_that_are_no_checkpoints(cli: Cli) -> None:
    Path("page.pt").write_text("<html>Google Drive - Virus scan warning</html>")
    for command in (("inspect", "page.pt"), ("import", "page.pt", "--name", "mine")):
        result = cli("weights", *command)
        assert result.code == 1
        assert "web page" in error_line(result)
    content = torch.load(write_rosinality(Path("a.pt"), make_generator()), weights_only=True)
    for key in ("input.input", "style.1.bias"):
        state = {name: value for name, value in content["g_ema"].items() if name != key}
        torch.save({"g_ema": state}, "part.pt")
        result = cli("weights", "import", "part.pt", "--name", "mine")
        assert result.code == 1
        assert "cannot use part.pt: no" in error_line(result)
        assert "missing" in result.err
        assert key in result.err
    assert not user_folder().exists() or list(user_folder().iterdir()) == []


def test_download_lists_and_imports(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "style-transformer-ffhq" in cli("weights", "download").out
    by_hand = cli("weights", "download", "psp-ffhq")
    assert by_hand.code == 1
    assert "drive.google.com" in error_line(by_hand)

    source = write_nvidia(Path("source.pkl"), make_generator())
    listed = download.load_official()["stylegan2-ffhq-256"]
    with FileServer(source.read_bytes()) as server:
        entry = dataclasses.replace(listed, url=server.url)
        monkeypatch.setattr(download, "load_official", lambda *_: {entry.name: entry})
        server.data = server.data[:-1000]
        damaged = cli("weights", "download", "stylegan2-ffhq-256", "--name", "mine")
        assert damaged.code == 1
        assert "what was fetched is deleted" in damaged.err
        server.data = source.read_bytes()
        result = cli("weights", "download", "stylegan2-ffhq-256", "--name", "mine")
    assert result.code == 0, result.err
    assert [path.name for path in (cache_folder() / "downloads").iterdir() if path.is_dir()] == []
    assert "nobody has verified this file" in result.err
    assert (user_folder() / "mine" / "generator.safetensors").is_file()
    twice = cli("weights", "download", "stylegan2-ffhq-256", "--name", "mine")
    assert twice.code == 2
