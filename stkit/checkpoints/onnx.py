"""Generators and inverters as ONNX graphs (extra `stkit[onnx]`)."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import logging
import warnings
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from stkit.errors import MissingPackageError, UsageError
from stkit.models.generators import Generator
from stkit.models.psp_encoders import Architecture, load_psp_encoder
from stkit.models.registry import load_generator
from stkit.models.style_transformer import load_style_transformer
from stkit.weights import Weights, load_header


class _Synthesis(nn.Module):
    """w_plus to images, fixed noise."""

    def __init__(self, generator: Generator) -> None:
        super().__init__()
        self.generator = generator

    def forward(self, x: Tensor) -> Tensor:
        return self.generator.synthesize(x)


def export_onnx(weights: Weights, kind: str, path: Path) -> None:
    """Write a part of `weights` as a graph of any batch size: `w_plus` to `image`, or `photo` to `w_plus`.

    The tensors are those of `Generator.synthesize` with fixed noise, and of the inverters' `forward`. The
    header of the part stands in the graph's metadata under "stkit". Raises UsageError for parts that are
    no single network, MissingPackageError, WeightsError.
    """
    model, shape, names = _model(weights, kind)
    if not all(importlib.util.find_spec(name) for name in ("onnx", "onnxscript")):
        raise MissingPackageError("ONNX export needs two more packages; install them with: pip install 'stkit[onnx]'")
    logs = [logging.getLogger(name) for name in ("onnxscript", "torch.onnx")]
    levels = [log.level for log in logs]
    with warnings.catch_warnings():
        # torch's exporter warns of its own internals, differently in each version.
        warnings.simplefilter("ignore", FutureWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        for log in logs:
            log.setLevel(logging.ERROR)
        try:
            program = torch.onnx.export(
                model.eval(),
                (torch.randn(2, *shape),),
                input_names=[names[0]],
                output_names=[names[1]],
                dynamic_shapes=({0: torch.export.Dim("batch")},),
                dynamo=True,
                verbose=False,
            )
        finally:
            for log, level in zip(logs, levels, strict=True):
                log.setLevel(level)
    assert program is not None
    program.model.metadata_props["stkit"] = header_json(weights, kind)
    program.save(str(path))


def _model(weights: Weights, kind: str) -> tuple[nn.Module, tuple[int, ...], tuple[str, str]]:
    if kind == "generator":
        return _Synthesis(load_generator(weights)), (weights.num_ws, weights.w_dim), ("w_plus", "image")
    architecture = load_header(weights.path(kind)).architecture
    if architecture == "style-transformer":  # of one architecture, weights have one inverter
        transformer = load_style_transformer(weights)
        return transformer, (3, *[transformer.config.input_resolution] * 2), ("photo", "w_plus")
    if architecture in ("psp", "e4e"):
        encoder = load_psp_encoder(weights, cast("Architecture", architecture))
        return encoder, (3, *[encoder.config.input_resolution] * 2), ("photo", "w_plus")
    raise UsageError(f"the {kind} ({architecture}) is no single network from photo to codes; export it as safetensors")


def header_json(weights: Weights, kind: str) -> str:
    """The header of a part as JSON, for formats that can carry it."""
    header = load_header(weights.path(kind))
    return json.dumps({**dataclasses.asdict(header), "alignment": header.alignment.to_dict()}, sort_keys=True)


__all__ = ["export_onnx", "header_json"]
