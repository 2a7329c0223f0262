"""What the encoders of pSp's family and the Style Transformer share: their file's frame and the IR-SE backbone."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from torch import Tensor

from stkit.checkpoints.generators import complete, generator_part, mean_latent
from stkit.checkpoints.layout import Part, State
from stkit.checkpoints.reading import Checkpoint
from stkit.checkpoints.rosinality import convert_rosinality_generator, infer_rosinality_generator
from stkit.checkpoints.stored import StoredTensor
from stkit.errors import WeightsError

Four = tuple[int, int, int, int]


@dataclass(frozen=True, eq=False)
class Framework:
    """A training checkpoint `{state_dict, opts[, latent_avg]}`, its state by the sub-networks' names."""

    networks: Mapping[str, State]
    opts: Mapping[str, Any]
    latent_avg: StoredTensor | Tensor | None

    @property
    def num_ws(self) -> int:
        """The number of the decoder's styles; 0 without a decoder."""
        return infer_rosinality_generator(self.networks["decoder"]).num_ws if "decoder" in self.networks else 0

    def generator(self) -> Part:
        """The decoder as a part."""
        state = self.networks["decoder"]
        config = infer_rosinality_generator(state)
        return generator_part(config, lambda: convert_rosinality_generator(state, self.latent_avg))

    def average(self) -> Tensor:
        """The average latent [w_dim], from the file or from the decoder's mapping network. Raises WeightsError."""
        if self.latent_avg is not None:
            return mean_latent(self.latent_avg)
        if "decoder" not in self.networks:
            raise WeightsError("the file holds neither an average latent nor a generator to compute it with")
        state = self.networks["decoder"]
        return complete(infer_rosinality_generator(state), convert_rosinality_generator(state))["w_avg"]


def read_framework(checkpoint: Checkpoint) -> Framework | None:
    """The frame that pSp, e4e, ReStyle and the Style Transformer share, or None."""
    content = checkpoint.content
    if not isinstance(content, dict) or not isinstance(content.get("state_dict"), dict):
        return None
    networks: dict[str, dict[str, Any]] = {}
    for key, value in content["state_dict"].items():
        network, _, rest = str(key).partition(".")
        if isinstance(value, StoredTensor) or hasattr(value, "shape"):
            networks.setdefault(network, {})[rest.removeprefix("module.")] = value
    opts = content.get("opts")
    average = content.get("latent_avg", networks.get("latent_avg", {}).get(""))
    return Framework(networks, opts if isinstance(opts, dict) else {}, average)


def infer_backbone(state: State) -> tuple[Four, Four]:
    """Depths and widths of an IR-SE or ResNet backbone `body.N`, whose stages differ in width. Raises WeightsError."""
    widths = {}
    for key, value in state.items():
        if found := re.fullmatch(r"body\.(\d+)\.(?:res_layer\.1|conv1)\.weight", key):
            widths[int(found[1])] = int(value.shape[0])
    stages = [(width, len(list(units))) for width, units in itertools.groupby(widths[i] for i in sorted(widths))]
    if sorted(widths) != list(range(len(widths))) or len(stages) != 4:
        raise WeightsError(f"an encoder whose backbone has {len(stages)} stages; stkit knows IR-SE50 and ResNet-34")
    return cast("Four", tuple(depth for _, depth in stages)), cast("Four", tuple(width for width, _ in stages))


__all__ = ["Framework", "infer_backbone", "read_framework"]
