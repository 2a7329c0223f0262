"""Latent codes of other programs: imported, edited and morphed as they are, or refused with what is there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from stkit.checkpoints.codes import read_codes
from stkit.errors import LatentsError
from stkit.latents.latents import load_latents
from stkit.weights import Weights
from tests.cli.harness import Cli, error_line
from tests.foreign import save

CODES = torch.arange(2 * 6 * 32, dtype=torch.float32).reshape(2, 6, 32) / 100
ONE = CODES[:1]


FILES: dict[str, tuple[Any, torch.Tensor]] = {
    "projected_w.npz": ({"w": ONE.numpy()}, ONE),
    "e4e.pt": (CODES, CODES),
    "pti.pt": (torch.nn.Parameter(ONE), ONE),
    "double.npy": (CODES.double().numpy(), CODES),
    "alone.npy": (ONE[0].numpy(), ONE),
    "w.npy": (CODES[:, 0].numpy(), CODES[:, 0]),
    "one-w.pt": (CODES[0, 0], CODES[:1, 0]),
    "nvidia-w.npz": ({"w": CODES[:1, :1].numpy()}, CODES[:1, 0]),
    "flat.npy": (CODES.flatten(1).numpy(), CODES),
    "nested.npy": (ONE[None].numpy(), ONE),
    "named.pt": ({"latent": ONE, "loss": 0.1, "noise": [torch.ones(4)]}, ONE),
    "listed.pt": ([CODES[0], CODES[1]], CODES),
    "restyle.npy": ({"a.jpg": [ONE[0].numpy() * 0, CODES[0].numpy()], "b.jpg": [CODES[0].numpy(), CODES[1].numpy()]},
                    CODES),
    "rosinality.pt": ({"a.jpg": {"img": torch.ones(3, 16, 16), "latent": CODES[0], "noise": [torch.ones(1, 1, 4, 4)]},
                       "b.jpg": {"img": torch.ones(3, 16, 16), "latent": CODES[1], "noise": []}}, CODES),
    "rosinality-older.pt": ({"noises": [torch.ones(1, 1, 4, 4)], "a.jpg": {"latent": CODES[0]}}, ONE),
    "theirs.safetensors": ({"w": CODES}, CODES),
    "anything.npz": ({"my_code": ONE.numpy()}, ONE),
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_codes_of_other_programs(name: str, tmp_path: Path, tiny_weights: Weights) -> None:
    data, expected = FILES[name]
    latents = read_codes(save(tmp_path / name, data), tiny_weights)
    torch.testing.assert_close(latents.codes, expected.detach())
    assert latents.generator == tiny_weights.space
    assert {row.weights for row in latents.provenance} == {tiny_weights.name}


def test_photos_that_are_named_are_known(tmp_path: Path, tiny_weights: Weights) -> None:
    for name in ("restyle.npy", "rosinality.pt"):
        latents = read_codes(save(tmp_path / name, FILES[name][0]), tiny_weights)
        assert [row.photo for row in latents.provenance] == ["a.jpg", "b.jpg"]


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("executed"),)


REFUSED: dict[str, tuple[Any, str]] = {
    "large.npz": ({"w": np.zeros((1, 18, 512), np.float32)},
                  "18 layers of width 512, but weights 'tiny' have 6 layers of width 32"),
    "width.pt": (torch.zeros(1, 6, 512), "6 layers of width 512, but"),
    "names.npz": ({"age": np.zeros((2, 3)), "sex": np.array(["a"])},
                  r"but age \(2, 3\), sex; codes are arrays of floats like"),
    "numbers.pt": (torch.ones(6, 32, dtype=torch.int64), r"one array of shape \(6, 32\) of int64"),
    "complex.npy": (np.ones((1, 6, 32), np.complex64), "of complex64; codes are arrays of floats like"),
    "nan.pt": (torch.full((1, 6, 32), torch.nan), "not finite"),
    "module.pt": (torch.nn.Linear(2, 2), "holds no latent codes that stkit knows, but one torch.nn"),
    "empty.npy": (np.zeros((0, 6, 32), np.float32), "no codes but an empty array"),
    "evil.npy": (np.array([Evil()], dtype=object), "would run"),
    "evil.pt": (Evil(), "would run"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_holds_no_codes_is_told(
    name: str, tmp_path: Path, tiny_weights: Weights, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    data, says = REFUSED[name]
    with pytest.raises(LatentsError, match=says) as raised:
        read_codes(save(tmp_path / name, data), tiny_weights)
    assert name in str(raised.value) and "\n" not in str(raised.value)
    assert not Path("executed").exists()


def test_import_edit_and_morph(cli: Cli, tiny_weights: Weights) -> None:
    common = ("--weights", tiny_weights.folder)
    save(Path("projected_w.npz"), {"w": ONE.numpy()})
    save(Path("latents.pt"), CODES)
    result = cli("latents", "import", "latents.pt", *common)
    assert result.code == 0, result.err
    assert load_latents(Path("latents.latents.safetensors")).codes.equal(CODES)
    assert "--overwrite" in error_line(cli("latents", "import", "latents.pt", *common))
    assert cli("latents", "export", "latents.latents.safetensors", "--npz", "own.npz").code == 0
    save(Path("theirs.safetensors"), {"w_plus": ONE})
    for name in ("projected_w.npz", "latents.pt", "own.npz", "latents.latents.safetensors", "theirs.safetensors"):
        result = cli("edit", name, *common, "--edit", "pc1=2", "--out", f"out-{name}")
        assert result.code == 0, result.err
        assert list(Path(f"out-{name}").rglob("*.crop.png")), result.out
    result = cli("morph", "projected_w.npz", "own.npz", *common, "--frames", 4, "--out", "m.gif")
    assert result.code == 0 and Path("m.gif").is_file()


@pytest.mark.parametrize("command", ["edit", "invert"])
@pytest.mark.parametrize("name", ["projected_w.npz", "codes.pt", "codes.npy"])
def test_nobody_is_told_to_save_codes_as_pictures(command: str, name: str, cli: Cli, tiny_weights: Weights) -> None:
    save(Path(name), {"w": np.zeros((1, 3, 7))} if name.endswith("z") else np.zeros((1, 3, 7)))
    edit = ("--edit", "pc1=1") if command == "edit" else ()
    line = error_line(cli(command, name, "--weights", tiny_weights.folder, *edit))
    Path("codes.json").write_text("[[1.5, 2]]")
    assert "JPEG" not in error_line(cli("invert", "codes.json", "--weights", tiny_weights.folder))
    assert "JPEG" not in line and name in line
    assert ("3 layers of width 7" if command == "edit" else "stkit latents import") in line
