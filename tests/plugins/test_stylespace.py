"""Channels of StyleSpace: numbering, ranking, and edits that change one channel and nothing else."""

from __future__ import annotations

import dataclasses
import io
import zipfile
from pathlib import Path

import pytest
import torch
from PIL import Image
from stkit_stylespace.channels import (
    channel_name,
    find_channel,
    load_ranking,
    rank_channels,
    sampled_unit,
    save_ranking,
    style_layers,
    styles_of,
)
from stkit_stylespace.command import run as rank_command
from stkit_stylespace.method import StyleSpace, StyleSpaceOptions

from stkit.contracts.editing import EditContext
from stkit.editor.editor import Editor
from stkit.errors import LatentsError, UsageError, WeightsError
from stkit.latents.directions import own_folder
from stkit.latents.latents import load_latents, save_latents
from stkit.models.registry import load_generator, sample_w
from stkit.models.shapes import StyleGAN2Config
from stkit.models.stylegan2 import StyleGAN2
from stkit.options import LayerRange
from stkit.plugins import load_plugins
from stkit.testing import make_tiny_weights, random_latents
from stkit.weights import Weights
from tests.plugins.test_interfacegan import Brightness, plant

CPU = torch.device("cpu")


def test_layers_are_numbered_as_in_the_paper(tiny_weights: Weights) -> None:
    layers = style_layers(tiny_weights)  # 4x4 conv, ToRGB; 8x8 conv, conv, ToRGB; 16x16 conv, conv, ToRGB
    assert [layer.index for layer in layers] == [0, 2, 3, 5, 6, 1, 4, 7]
    assert [layer.w_layer for layer in layers] == [0, 1, 2, 3, 4, 1, 3, 5]
    widths = [style.shape[1] for style in load_generator(tiny_weights).styles(torch.zeros(1, 6, 32))]
    assert [layer.width for layer in layers] == widths
    for channel in (0, 31, 32, 100, sum(widths) - 1):
        assert find_channel(layers, channel_name(layers, channel)) == channel
    assert find_channel(layers, "smile") is None
    with pytest.raises(UsageError, match="no style layer 8; the layers are 0 to 7"):
        find_channel(layers, "8_0")
    with pytest.raises(UsageError, match="no channel 32; its channels are 0 to 31"):
        find_channel(layers, "2_32")


def test_a_planted_channel_is_ranked_first() -> None:
    random = torch.Generator().manual_seed(0)
    styles = torch.randn(2000, 40, generator=random) * 3 + 7
    positive = torch.arange(2000) < 200
    styles[positive, 17] -= 9.0
    styles[positive, 5] += 5.0
    styles[:, 30] = 1.0  # a channel that never changes
    ranking = rank_channels(styles, positive, count=4)
    assert ranking.channels[:2].tolist() == [17, 5]
    assert ranking.signs[:2].tolist() == [-1, 1]
    assert torch.allclose(ranking.units, styles.std(0)[ranking.channels])
    assert 30 not in rank_channels(styles, positive, count=39).channels


def test_an_edit_changes_one_channel(equipped_weights: Weights) -> None:
    weights = equipped_weights
    editor = Editor(weights, load_plugins(), CPU)
    latents = random_latents(weights, 2)
    context = EditContext(weights, CPU, "3_7", strength=2.0)
    edited = StyleSpace().edit(latents, StyleSpaceOptions(), context)
    assert torch.equal(edited.codes, latents.codes)
    styles = load_generator(weights).styles(latents.codes)
    styles[2] = styles[2].clone()
    styles[2][:, 7] += 2.0 * sampled_unit(weights, 32 * 2 + 7)  # style layer 3 is the third convolution
    with torch.inference_mode():
        expected = load_generator(weights).render(styles)
    images = editor.generate(edited)
    assert torch.allclose(images, expected, atol=1e-4)
    assert not torch.allclose(images, editor.generate(latents), atol=1e-4)
    back = StyleSpace().edit(edited, StyleSpaceOptions(), dataclasses.replace(context, strength=-2.0))
    assert torch.allclose(editor.generate(back), editor.generate(latents), atol=1e-5)
    assert back.provenance[0].edits[-2:] == ("stylespace:3_7=+2", "stylespace:3_7=-2")


def test_offsets_live_through_files_and_other_edits(equipped_weights: Weights, tmp_path: Path) -> None:
    editor = Editor(equipped_weights, load_plugins(), CPU)
    latents = random_latents(equipped_weights, 1)
    edited = editor.edit(latents, "stylespace", "smile", 2.0, options={"rank": 2}).latents
    save_latents(edited, tmp_path / "x.safetensors")
    loaded = load_latents(tmp_path / "x.safetensors")
    assert loaded.style_offsets is not None
    assert edited.style_offsets is not None
    assert torch.equal(loaded.style_offsets, edited.style_offsets)
    after = editor.edit(loaded, "interfacegan", "smile", 1.0).latents
    assert after.style_offsets is not None
    assert torch.equal(after.style_offsets, edited.style_offsets)
    ranking, header = load_ranking(equipped_weights, "smile")
    assert int(edited.style_offsets.abs().argmax()) == int(ranking.channels[1])
    expected = 2.0 * ranking.signs[1] * ranking.units[1]
    assert torch.isclose(edited.style_offsets.sum(), expected, rtol=1e-5)
    assert loaded.provenance[0].edits[-1] == f"stylespace:smile:{header.config['channels'][1]}=+2"


def test_layers_leave_other_channels_alone(equipped_weights: Weights, caplog: pytest.LogCaptureFixture) -> None:
    latents = random_latents(equipped_weights, 1)
    context = EditContext(equipped_weights, CPU, "3_7", layers=LayerRange(0, 1))
    edited = StyleSpace().edit(latents, StyleSpaceOptions(), context)
    assert edited.style_offsets is not None
    assert edited.style_offsets.abs().max() == 0
    assert "3_7 is steered by layer 2" in caplog.text


def test_what_does_not_exist(equipped_weights: Weights, tiny_weights: Weights) -> None:
    latents = random_latents(equipped_weights, 1)
    for attribute, message in (("smiel", "did you mean smile"), (None, "there is: smile"), ("9_1", "0 to 7")):
        with pytest.raises(UsageError, match=message):
            StyleSpace().edit(latents, StyleSpaceOptions(), EditContext(equipped_weights, CPU, attribute))
    with pytest.raises(UsageError, match="20 channels are ranked for 'smile'; there is no rank 21"):
        StyleSpace().edit(latents, StyleSpaceOptions(rank=21), EditContext(equipped_weights, CPU, "smile"))
    with pytest.raises(UsageError, match="no channels are ranked for 'smile'.*rank-channels.*LAYER_CHANNEL"):
        StyleSpace().edit(random_latents(tiny_weights, 1), StyleSpaceOptions(), EditContext(tiny_weights, CPU, "smile"))
    assert StyleSpace().attributes(EditContext(tiny_weights, CPU)) == []


def test_a_ranking_of_another_generator_is_refused(tiny_weights: Weights, tmp_path: Path) -> None:
    other = make_tiny_weights(tmp_path / "other", seed=5)
    w = sample_w(other, 100)
    ranking = rank_channels(styles_of(other, w), w[:, 0] > 0)
    save_ranking(own_folder(tiny_weights) / "stylespace-age.safetensors", "age", ranking, other, {})
    assert StyleSpace().attributes(EditContext(tiny_weights, CPU)) == []
    with pytest.raises(WeightsError, match=f"{other.fingerprint[:12]}.*{tiny_weights.fingerprint[:12]}"):
        StyleSpace().attributes(EditContext(tiny_weights, CPU, "age"))


def test_offsets_of_another_generator_are_refused(tiny_weights: Weights) -> None:
    latents = random_latents(tiny_weights, 1)
    wrong = dataclasses.replace(latents, style_offsets=torch.zeros(1, 7))
    with pytest.raises(LatentsError, match="offsets for 7 style channels, and the generator has"):
        Editor(tiny_weights, load_plugins(), CPU).generate(wrong)
    with pytest.raises(LatentsError, match="1 codes but style offsets"):
        dataclasses.replace(latents, style_offsets=torch.zeros(2, 7))
    assert StyleGAN2(StyleGAN2Config(16, 32, 32, 2, 256, 32)).config.num_ws == latents.codes.shape[1]


def test_ranking_from_labelled_photos(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = make_tiny_weights(tmp_path / "tiny")
    rows = ["file,light"]
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        for i in range(40):
            data = io.BytesIO()
            Image.new("RGB", (16, 16), (200 * (i % 2) + i, 90, 90)).save(data, "PNG")
            archive.writestr(f"{i}.png", data.getvalue())
            rows.append(f"{i}.png,{i % 2}")
    (tmp_path / "l.csv").write_text("\n".join(rows))
    common = {"labels": tmp_path / "l.csv", "images": tmp_path / "photos.zip", "weights": str(weights.folder)}
    rank_command(attribute="light", aligned=True, device="cpu", **common)
    ranking, header = load_ranking(weights, "light")
    assert header.config["channels"][0] in capsys.readouterr().out
    assert (header.notes["photos"], header.notes["fitted"], header.notes["labels"]) == (40, 32, "l.csv")
    assert ranking.scores[0] > 2
    with pytest.raises(UsageError, match="--replace"):
        rank_command(attribute="light", aligned=True, device="cpu", **common)
    with pytest.raises(UsageError, match="--samples and --scorer"):
        rank_command(attribute="light", samples=100, **common)


def test_ranking_from_samples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = make_tiny_weights(tmp_path / "tiny")  # of its own: its generator is changed
    registry = dataclasses.replace(load_plugins(), scorers={"brightness": Brightness()})
    editor = Editor(weights, registry, CPU)
    monkeypatch.setattr("stkit_stylespace.command.open_editor", lambda *_: editor)
    plant(weights, torch.nn.functional.normalize(torch.ones(weights.w_dim), dim=0))
    asked = {"samples": 200, "scorer": "brightness", "weights": str(weights.folder)}
    rank_command(attribute="brightness", **asked)
    _, header = load_ranking(weights, "brightness")
    assert (header.notes["samples"], header.notes["scorer"], header.notes["fitted"]) == (200, "brightness", 160)
    # The best channel does what it was ranked for.
    latents = random_latents(weights, 16)
    context = EditContext(weights, CPU, "brightness", strength=3.0)
    edited = StyleSpace().edit(latents, StyleSpaceOptions(), context)
    assert (editor.generate(edited) - editor.generate(latents)).mean() > 0
    with pytest.raises(UsageError, match="without ="):
        rank_command(attribute="brightness=1", name="other", **asked)
