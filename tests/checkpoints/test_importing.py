"""Checkpoints into weights and out again, in Python and by the commands."""

from __future__ import annotations

import json
import os
import pickle
import resource
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from stkit.checkpoints.exporting import export_weights
from stkit.checkpoints.importing import Chosen, import_weights, remove_weights
from stkit.errors import OutputError, StkitError, UsageError, WeightsError
from stkit.models.registry import load_generator
from stkit.models.shapes import StyleGAN2Config
from stkit.models.style_transformer import load_style_transformer
from stkit.tensors import load_tensors
from stkit.weights import Weights, load_header, user_folder, verify_weights, weights_names
from tests.checkpoints.writers import (
    make_generator,
    make_psp_encoder,
    make_style_transformer,
    rosinality_state,
    write_framework,
    write_nvidia,
    write_rosinality,
    write_style_transformer,
)


def test_an_imported_generator_is_ready_for_use(tmp_path: Path) -> None:
    generator = make_generator()
    weights = import_weights(write_nvidia(tmp_path / "a.pkl", generator), "mine", Chosen(licence="CC0"))
    assert weights.folder == user_folder() / "mine"
    assert set(verify_weights(weights).values()) == {"ok"}
    assert (weights.domain, weights.alignment.kind, weights.header.licence) == ("faces", "points", "CC0")
    assert weights.header.notes["imported from"] == "a.pkl"
    w_plus = torch.randn(2, 6, 64)
    with torch.inference_mode():
        assert torch.equal(load_generator(weights).synthesize(w_plus), generator.synthesize(w_plus))


@pytest.mark.parametrize(
    ("size", "alignment", "kind"), [(256, None, "ffhq"), (256, "domain", "points"), (16, "ffhq", "ffhq")]
)
def test_alignment_is_ffhq_for_large_faces_or_as_asked(
    size: int, alignment: str | None, kind: str, tmp_path: Path
) -> None:
    generator = make_generator(config=StyleGAN2Config(size, 8, 8, 2, channel_base=1024, channel_max=4))
    weights = import_weights(write_rosinality(tmp_path / "a.pt", generator), "mine", Chosen(alignment=alignment))
    assert weights.alignment.kind == kind


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("format_name", ["rosinality", "nvidia-state", "safetensors"])
def test_export_then_import_is_bit_equal(format_name: str, half: bool, tmp_path: Path) -> None:
    weights = import_weights(write_rosinality(tmp_path / "a.pt", make_generator()), "first", Chosen(half=half))
    path = export_weights(weights, format_name, tmp_path / "out")
    again = import_weights(path, "second")
    assert again.fingerprint == weights.fingerprint
    _, tensors = load_tensors(again.path("generator"))
    assert {value.dtype for value in tensors.values()} == {torch.float16 if half else torch.float32}


def test_both_parts_of_a_style_transformer(tmp_path: Path) -> None:
    model, generator = make_style_transformer(), make_generator()
    path = write_style_transformer(tmp_path / "a.pt", model, generator)
    weights = import_weights(path, "st")
    assert weights.kinds() == ["generator", "inverter"]
    photos = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        assert torch.equal(load_style_transformer(weights)(photos), model(photos))
    own = import_weights(path, "own", generator=str(write_rosinality(tmp_path / "g.pt", generator)))
    assert torch.equal(load_generator(own).mapping(torch.ones(24)), generator.mapping(torch.ones(24)))
    assert own.fingerprint != weights.fingerprint


def test_parts_join_weights_that_have_their_generator(tmp_path: Path) -> None:
    generator = make_generator()
    first = import_weights(write_nvidia(tmp_path / "g.pkl", generator), "mine")
    state = make_psp_encoder(progressive=True).state_dict()
    average, opts = state.pop("latent_avg"), {"encoder_type": "Encoder4Editing"}
    for conv in generator.synthesis.convs:  # another drawing of the noise is the same generator
        conv.get_buffer("noise_const").normal_()
    weights = import_weights(write_framework(tmp_path / "e.pt", state, generator, opts, average), "mine")
    assert weights.kinds() == ["generator", "inverter"]
    assert load_header(weights.path("inverter")).generator == first.fingerprint == weights.fingerprint
    with pytest.raises(UsageError, match="have all that"):
        import_weights(tmp_path / "e.pt", "mine")
    opts["encoder_type"] = "GradualStyleEncoder"
    plain = write_framework(tmp_path / "p.pt", make_psp_encoder().state_dict(), generator, opts, average)
    with pytest.raises(WeightsError, match="1 unexpected: latent_avg"):
        import_weights(plain, "mine")
    write_framework(plain, state, generator, opts, average)
    assert import_weights(plain, "mine").inverters() == {"e4e": "inverter", "psp": "inverter-psp"}
    opts["encoder_type"] = "Encoder4Editing"
    import_weights(write_nvidia(tmp_path / "h.pkl", make_generator(seed=5)), "other")
    with pytest.raises(WeightsError, match="different generators: .* tensors differ, synthesis.const first"):
        import_weights(tmp_path / "e.pt", "other")
    with pytest.raises(WeightsError, match="different generators"):
        import_weights(tmp_path / "e.pt", "third", generator=str(tmp_path / "h.pkl"))
    write_framework(tmp_path / "alone.pt", state, None, opts, average)
    with pytest.raises(UsageError, match="holds no generator .e4e inverter.*--generator FILE"):
        import_weights(tmp_path / "alone.pt", "third")
    assert "third" not in weights_names()
    assert import_weights(tmp_path / "alone.pt", "third", generator="mine").kinds() == ["generator", "inverter"]


def test_nothing_is_left_of_an_import_that_failed(tmp_path: Path) -> None:
    state = rosinality_state(make_generator())
    torch.save({"g_ema": {**state, "convs.0.more": torch.zeros(1)}}, tmp_path / "a.pt")
    with pytest.raises(WeightsError):
        import_weights(tmp_path / "a.pt", "mine")
    state["to_rgb1.bias"] = torch.full((1, 3, 1, 1), float("nan"))
    torch.save({"g_ema": state}, tmp_path / "b.pt")
    with pytest.raises(WeightsError, match="not finite"):
        import_weights(tmp_path / "b.pt", "mine")
    assert list(user_folder().iterdir()) == []


def test_float16_that_cannot_hold_a_value_says_so(tmp_path: Path) -> None:
    state = rosinality_state(make_generator())
    state["style.1.weight"][0, 0] = 1e5
    torch.save({"g_ema": state}, tmp_path / "a.pt")
    with pytest.raises(WeightsError, match="without --half"):
        import_weights(tmp_path / "a.pt", "mine", Chosen(half=True))


@pytest.mark.parametrize("name", ["", "../mine", "a/b", ".hidden", "faces", "a" * 65, "a\nb"])
def test_names_cannot_leave_the_folder_or_hide_shipped_weights(name: str, tmp_path: Path) -> None:
    path = write_rosinality(tmp_path / "a.pt", make_generator())
    with pytest.raises(UsageError):
        import_weights(path, name)
    with pytest.raises(StkitError):
        remove_weights(name)


def test_hostile_files_are_not_imported(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(tmp_path / "canary"),)

    (tmp_path / "a.pt").write_bytes(pickle.dumps({"g_ema": rosinality_state(make_generator()), "opts": Evil()}))
    with pytest.raises(WeightsError, match="would run .*mkdir"):
        import_weights(tmp_path / "a.pt", "mine")
    assert not (tmp_path / "canary").exists()


def test_stkits_own_files_keep_their_headers(tiny_weights: Weights, tmp_path: Path) -> None:
    weights = import_weights(tiny_weights.path("generator"), "mine")
    assert weights.header == tiny_weights.header
    joined = import_weights(tiny_weights.path("inverter"), "mine")
    assert joined.kinds() == ["generator", "inverter"]
    header = load_header(joined.path("inverter"))
    assert header.fingerprint == load_header(tiny_weights.path("inverter")).fingerprint
    assert json.loads(json.dumps(header.config)) == load_header(tiny_weights.path("inverter")).config
    other = import_weights(write_rosinality(tmp_path / "a.pt", make_generator()), "other")
    with pytest.raises(WeightsError, match="belongs to generator"):
        import_weights(tiny_weights.path("inverter"), other.name)


def test_what_is_said_of_stkits_own_files_counts(tiny_weights: Weights) -> None:
    path = tiny_weights.path("generator")
    weights = import_weights(path, "mine", Chosen("cars", licence="CC0"))
    assert (weights.domain, weights.alignment.kind, weights.header.licence) == ("cars", "box", "CC0")
    assert weights.fingerprint == tiny_weights.fingerprint
    assert import_weights(path, "framed", Chosen(alignment="ffhq")).alignment.kind == "ffhq"


def test_exports_overwrite_nothing_and_name_what_there_is(tiny_weights: Weights, tmp_path: Path) -> None:
    export_weights(tiny_weights, "safetensors", tmp_path)
    with pytest.raises(UsageError, match="is there already"):
        export_weights(tiny_weights, "safetensors", tmp_path)
    with pytest.raises(UsageError, match="did you mean rosinality"):
        export_weights(tiny_weights, "rosinalty", tmp_path)
    with pytest.raises(UsageError, match="no part of weights 'tiny' named 'invert'"):
        export_weights(tiny_weights, "onnx", tmp_path, "invert")
    with pytest.raises(UsageError, match="is for StyleGAN2 generators; export the inverter as safetensors or onnx"):
        export_weights(tiny_weights, "rosinality", tmp_path, "inverter")
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.safetensors"]


def test_what_a_killed_import_left_is_not_seen_and_goes(tmp_path: Path) -> None:
    path = write_rosinality(tmp_path / "a.pt", make_generator())
    weights = import_weights(path, "mine")
    killed = shutil.copytree(weights.folder, user_folder() / ".other-0123456789ab")
    half_written = weights.folder / ".inverter-0123456789ab.safetensors"
    half_written.write_bytes(b"half")
    assert [name for name in weights_names() if "other" in name] == []
    assert weights.kinds() == ["generator"]
    state = make_psp_encoder().state_dict()
    average = state.pop("latent_avg")
    encoder = write_framework(tmp_path / "psp.pt", state, None, {"encoder_type": "GradualStyleEncoder"}, average)
    assert import_weights(encoder, "mine").kinds() == ["generator", "inverter"]
    assert not Path(killed).exists()
    assert not half_written.exists()


def test_removing(tmp_path: Path) -> None:
    import_weights(write_rosinality(tmp_path / "a.pt", make_generator()), "mine")
    assert remove_weights("mine") == user_folder() / "mine"
    assert list(user_folder().iterdir()) == []
    with pytest.raises(UsageError):
        remove_weights("mine")


@pytest.mark.parametrize("format_name", ["rosinality", "nvidia-state", "safetensors"])
def test_an_export_to_a_full_disk_is_one_line(format_name: str, tiny_weights: Weights, tmp_path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        with pytest.raises(OutputError, match="cannot write"):
            export_weights(tiny_weights, format_name, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not list(tmp_path.iterdir())
