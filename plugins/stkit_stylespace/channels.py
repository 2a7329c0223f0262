"""The channels of StyleSpace: their numbering, their statistics, and their ranking for an attribute."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stkit.plugin import (
    Header,
    UsageError,
    Weights,
    WeightsError,
    check_direction_name,
    find_direction_files,
    load_generator,
    load_tensors,
    middle_range,
    require_tensors,
    sample_w,
    save_tensors,
)

KIND = "stylespace"
_SAMPLES = 10_000


@dataclass(frozen=True)
class Channels:
    """The channels of a style layer: `index` as the paper counts (4x4 conv, 4x4 ToRGB, 8x8 conv, conv, ToRGB, ...),
    the layer of w_plus that steers it, and its channels, `start` to `start + width`, in the order of
    `Generator.styles`."""

    index: int
    w_layer: int
    start: int
    width: int


@dataclass(frozen=True, eq=False)
class Ranking:
    """The best channels [K] for an attribute, best first: place among all channels, score, sign, one standard
    deviation, and the middle 99% of the labelled codes in standard deviations [K, 2]."""

    channels: Tensor
    scores: Tensor
    signs: Tensor
    units: Tensor
    limits: Tensor


def style_layers(weights: Weights) -> list[Channels]:
    """The channels of all style layers, in the order of `Generator.style_layers`."""
    layers = load_generator(weights).style_layers()
    ends = itertools.accumulate(layer.width for layer in layers)
    return [
        Channels(layer.index, layer.w_index, end - layer.width, layer.width)
        for layer, end in zip(layers, ends, strict=True)
    ]


def layer_of(layers: Sequence[Channels], channel: int) -> Channels:
    """The layer that the channel at place `channel` among all belongs to."""
    return next(layer for layer in layers if layer.start <= channel < layer.start + layer.width)


def channel_name(layers: Sequence[Channels], channel: int) -> str:
    """The paper's name of a channel, like `6_501`: layer and channel in it."""
    layer = layer_of(layers, channel)
    return f"{layer.index}_{channel - layer.start}"


def find_channel(layers: Sequence[Channels], name: str) -> int | None:
    """The place of the channel `6_501`, None when `name` is not of that form. Raises UsageError when there is none."""
    index, sign, number = name.partition("_")
    if not (sign and index.isdecimal() and number.isdecimal()):
        return None
    layer = next((layer for layer in layers if layer.index == int(index)), None)
    if layer is None:
        raise UsageError(f"there is no style layer {index}; the layers are 0 to {max(x.index for x in layers)}")
    if int(number) >= layer.width:
        raise UsageError(f"style layer {index} has no channel {number}; its channels are 0 to {layer.width - 1}")
    return layer.start + int(number)


@torch.inference_mode()
def styles_of(weights: Weights, codes: Tensor) -> Tensor:
    """StyleSpace codes [B, channels of all layers] of w [B, w_dim] or w_plus [B, num_ws, w_dim]."""
    generator = load_generator(weights)
    w_plus = generator.broadcast(codes) if codes.ndim == 2 else codes
    return torch.cat(generator.styles(w_plus), 1).clone()


def sampled_unit(weights: Weights, channel: int) -> float:
    """One standard deviation of a channel over the generator's own samples."""
    stds = weights.keep("stylespace stds", lambda: styles_of(weights, sample_w(weights, _SAMPLES)).std(0))
    return float(stds[channel])


def rank_channels(styles: Tensor, positive: Tensor, count: int = 20) -> Ranking:
    """The channels of `styles` [N, S] in which the `positive` rows (bool [N]) differ most from all rows.

    As in section 5 of the paper: styles are normalised by the mean and standard deviation of the population;
    the score of a channel is |mean| / standard deviation of the positive rows' normalised values.
    """
    styles = styles.double()
    mean, std = styles.mean(0), styles.std(0)
    standard = (styles - mean) / std.clamp(min=1e-9)
    chosen = standard[positive]
    scores = chosen.mean(0).abs() / chosen.std(0).clamp(min=1e-9)
    scores[std < 1e-9] = 0
    order = scores.argsort(descending=True)[:count]
    limits = middle_range(standard[:, order])
    values = (scores[order], chosen.mean(0)[order].sign(), std[order], limits)
    return Ranking(order, *(value.float() for value in values))


def save_ranking(path: Path, name: str, ranking: Ranking, weights: Weights, notes: Mapping[str, Any]) -> None:
    """Write a ranking as a file of `weights`. Raises OutputError, UsageError for a bad name."""
    check_direction_name(name)
    layers = style_layers(weights)
    names = [channel_name(layers, channel) for channel in ranking.channels.tolist()]
    header = weights.part_header(KIND, KIND, {"name": name, "channels": names}, notes)
    save_tensors(path, dataclasses.asdict(ranking), header)


def find_rankings(weights: Weights) -> dict[str, Path]:
    """The attributes that channels were ranked for, and their files."""
    return find_direction_files(weights, KIND)


def load_ranking(weights: Weights, name: str) -> tuple[Ranking, Header]:
    """The ranking for the attribute `name` of `find_rankings`. Raises WeightsError when it does not fit."""
    path = find_rankings(weights)[name]

    def read() -> tuple[Ranking, Header]:
        header, tensors = load_tensors(path)
        weights.require_pictures(header, path)
        total = sum(layer.width for layer in style_layers(weights))
        require_tensors(tensors, {**{name: ["K"] for name in Ranking.__annotations__}, "limits": ["K", 2]}, path)
        ranking = Ranking(**tensors)
        named = header.config.get("channels")
        if not isinstance(named, list) or list(map(type, named)) != [str] * len(ranking.channels):
            raise WeightsError(f"{path} does not name its channels; rank them again")
        if header.architecture != KIND or not 0 <= int(ranking.channels.min()) <= int(ranking.channels.max()) < total:
            raise WeightsError(f"{path} ranks channels that the generator does not have; rank them again")
        return ranking, header

    return weights.keep((KIND, path, path.stat().st_mtime_ns), read)


__all__ = [
    "KIND",
    "Channels",
    "Ranking",
    "channel_name",
    "find_channel",
    "find_rankings",
    "layer_of",
    "load_ranking",
    "rank_channels",
    "sampled_unit",
    "save_ranking",
    "style_layers",
    "styles_of",
]
