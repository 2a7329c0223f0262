"""Speed of the frozen networks beside their `ref` twins: `python -m benchmarks.inference [--openvino DIR] ...`.

Weights are random, batch 1. The paths of a network run in turn, round after round, so that a busy machine slows
all of them; a time is the median over rounds, a speed-up the median of the rounds' ratios. With `--threads 1` the
time is the processor's, which neighbours hardly change. Memory is what a run adds to the process at its peak, PSNR
that of the output against the twin's, with the twin's range as the peak.
"""

from __future__ import annotations

import argparse
import ctypes
import dataclasses
import json
import math
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from stkit.models.inference import freeze_style_transformer
from stkit.models.mobile_stylegan import MobileStyleGAN
from stkit.models.shapes import MobileStyleGANConfig, StyleGAN2Config
from stkit.models.style_transformer import StyleTransformer, StyleTransformerConfig
from stkit.models.stylegan2 import StyleGAN2

Paths = Mapping[str, Callable[[], Tensor]]
"""Ways to the same output: the twin under "ref", then the fast ones by their dtype."""

_DTYPES = (torch.float32, torch.bfloat16)
_OPENVINO = "OpenVINO"


@dataclass(frozen=True)
class Row:
    """One path of one network. `speedup` is over the twin; `peak_mib` is None where the system does not tell."""

    network: str
    path: str
    seconds: float
    speedup: float
    peak_mib: float | None
    psnr: float


def generator_paths(config: StyleGAN2Config) -> Paths:
    """From w_plus [1, num_ws, w_dim] to an image, constant noise."""
    torch.manual_seed(0)
    generator = StyleGAN2(config).eval()
    for conv in generator.synthesis.convs:
        nn.init.constant_(conv.get_parameter("noise_strength"), 0.1)
    network = generator.synthesis
    with torch.no_grad():
        w_plus = generator.map(torch.randn(1, config.z_dim))
    frozen = {_name(dtype): generator.freeze(dtype) for dtype in _DTYPES}
    fast = {name: lambda model=model: model.synthesize(w_plus) for name, model in frozen.items()}
    return {"ref": lambda: network(network.styles(w_plus), ref=True), **fast}


def inverter_paths(config: StyleTransformerConfig) -> Paths:
    """From an image [1, 3, R, R] to w_plus."""
    torch.manual_seed(0)
    model = StyleTransformer(config).eval()
    image = torch.rand(1, 3, config.input_resolution, config.input_resolution) * 2 - 1
    frozen = {_name(dtype): freeze_style_transformer(model, dtype) for dtype in _DTYPES}
    fast = {name: lambda model=model: model(image) for name, model in frozen.items()}
    return {"ref": lambda: model(image, ref=True), **fast}


def mobile_paths(openvino: Path | None) -> Paths:
    """From w_plus [1, num_ws, w_dim] to an image, constant noise; OpenVINO on the network in that folder as well."""
    generator, w_plus = _mobile()
    network = generator.synthesis
    frozen = {_name(dtype): generator.freeze(dtype) for dtype in _DTYPES}
    fast = {name: lambda model=model: model.synthesize(w_plus) for name, model in frozen.items()}
    rival = {_OPENVINO: openvino_path(openvino, w_plus[:, 0])} if openvino else {}
    return {"ref": lambda: network(network.styles(w_plus), "const", torch.float32, ref=True), **rival, **fast}


def step_paths() -> Paths:
    """From w_plus to its gradient, through an image at half size: a step of optimisation without its loss."""
    generator, w_plus = _mobile()
    generator.requires_grad_(False)
    network = generator.synthesis

    def step(dtype: torch.dtype, ref: bool = False) -> Tensor:
        with torch.inference_mode(False), torch.enable_grad():
            codes = w_plus.clone().requires_grad_()
            image = network(network.styles(codes), "const", dtype, network.img_resolution // 2, ref=ref)
            return torch.autograd.grad(image.square().mean(), codes)[0]

    fast = {_name(dtype): lambda dtype=dtype: step(dtype) for dtype in _DTYPES}
    return {"ref": lambda: step(torch.float32, ref=True), **fast}


def _mobile() -> tuple[MobileStyleGAN, Tensor]:
    torch.manual_seed(0)
    generator = MobileStyleGAN(MobileStyleGANConfig()).eval()
    for name, strength in generator.synthesis.named_parameters():
        if name.endswith("noise_strength"):
            nn.init.constant_(strength, 0.1)
    with torch.no_grad():
        return generator, generator.map(torch.randn(1, generator.config.z_dim)).contiguous()


def openvino_path(folder: Path, w: Tensor) -> Callable[[], Tensor]:
    """`SynthesisNetwork.xml` in `folder`, from w [1, w_dim] to an image in float32, on as many threads as torch."""
    import openvino

    settings = {
        "INFERENCE_PRECISION_HINT": "f32",
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "PERFORMANCE_HINT": "LATENCY",
    }
    request = openvino.Core().compile_model(folder / "SynthesisNetwork.xml", "CPU", settings).create_infer_request()
    return lambda: torch.from_numpy(next(iter(request.infer([w.numpy()]).values())))


@torch.inference_mode()
def compare(network: str, paths: Paths, rounds: int) -> list[Row]:
    """Rows of `paths` in their order, after one run of each to warm up."""
    outputs = {name: run() for name, run in paths.items()}
    peaks = {name: _peak_mib(run) for name, run in paths.items()}
    seconds: dict[str, list[float]] = {name: [] for name in paths}
    clock = time.thread_time if torch.get_num_threads() == 1 else time.perf_counter
    for _ in range(rounds):
        for name, run in paths.items():
            start = clock()
            run()
            seconds[name].append(clock() - start)
    ratios = {name: [a / b for a, b in zip(seconds["ref"], seconds[name], strict=True)] for name in paths}
    return [
        Row(
            network,
            name,
            statistics.median(seconds[name]),
            statistics.median(ratios[name]),
            peaks[name],
            math.nan if name == _OPENVINO else _psnr(outputs[name], outputs["ref"]),  # it has other weights
        )
        for name in paths
    ]


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _psnr(got: Tensor, want: Tensor) -> float:
    error = float((got - want).square().mean().sqrt())
    return 20 * math.log10(float(want.max() - want.min()) / error) if error else math.inf


def _peak_mib(run: Callable[[], object]) -> float | None:
    """MiB that `run` adds to this process at its peak, where Linux tells."""
    try:
        ctypes.CDLL(None).malloc_trim(0)  # give back what earlier runs left, or this one would reuse it uncounted
        Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
        before = _status_mib("VmRSS")
    except (OSError, TypeError, AttributeError):
        return None
    run()
    return _status_mib("VmHWM") - before


def _status_mib(key: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(key))


def _table(rows: Sequence[Row], title: str) -> Table:
    table = Table("network", "path", "time", "speed-up", "peak memory", "PSNR", title=title)
    for row in rows:
        memory = "" if row.peak_mib is None else f"{row.peak_mib:.0f} MiB"
        accuracy = "" if row.path in ("ref", _OPENVINO) else f"{row.psnr:.1f} dB"
        table.add_row(row.network, row.path, f"{row.seconds * 1000:.0f} ms", f"{row.speedup:.2f}", memory, accuracy)
        if row.path == _name(_DTYPES[-1]):
            table.add_section()
    return table


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.inference", description="Fast paths beside their twins."
    )
    parser.add_argument("--rounds", type=int, default=7, help="runs of each path (default 7)")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="threads of torch (default: all cores)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows there, too")
    parser.add_argument("--openvino", type=Path, metavar="DIR", help="OpenVINO as well, on the SynthesisNetwork there")
    parser.add_argument("--only", default="", metavar="WORD", help="networks with that in their name")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    networks: dict[str, Callable[[], Paths]] = {
        "generator 256 px": lambda: generator_paths(StyleGAN2Config(256)),
        "generator 1024 px": lambda: generator_paths(StyleGAN2Config(1024)),
        "MobileStyleGAN 1024 px": lambda: mobile_paths(args.openvino),
        "MobileStyleGAN W+ step 512 px": step_paths,
        "inverter 256 px": lambda: inverter_paths(StyleTransformerConfig()),
    }
    rows = [row for name, paths in networks.items() if args.only in name for row in compare(name, paths(), args.rounds)]
    capability = torch.backends.cpu.get_cpu_capability()
    title = (
        f"torch {torch.__version__}, {args.threads} threads, {platform.machine()} {capability}, {args.rounds} rounds"
    )
    Console().print(_table(rows, title))
    if args.json:
        record = {"setting": title, "rows": [dataclasses.asdict(row) for row in rows]}
        args.json.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
