"""The Style Transformer inverter (Hu et al., "Style Transformer for Image Inversion and Editing", CVPR 2022)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stkit.contracts.shapes import Shape
from stkit.errors import UsageError
from stkit.measure.efficientnet import TAP_CHANNELS, Lite0Trunk
from stkit.models.irse import IRSEBackbone
from stkit.models.mapping import MappingNetwork
from stkit.models.shapes import check_input

if TYPE_CHECKING:
    from stkit.weights import Weights


@dataclass(frozen=True)
class StyleTransformerConfig:
    """Shape of a Style Transformer; the defaults are the paper's. `num_ws` codes of the `num_queries` are used.

    `depths` and `widths` are those of the backbone "ir-se". "lite0" is EfficientNet-lite0, whose batch norms keep
    the statistics that they start with. With `linear_rank` a linear map of that rank, of the pooled features, is added
    to the codes; the paper has none.
    """

    input_resolution: int = 256
    num_ws: int = 18
    num_queries: int = 18
    d_model: int = 512
    heads: int = 4
    feedforward: int = 1024
    dropout: float = 0.1
    mapping_layers: int = 8
    depths: tuple[int, int, int, int] = (3, 4, 14, 3)
    widths: tuple[int, int, int, int] = (64, 128, 256, 512)
    backbone: Literal["ir-se", "lite0"] = "ir-se"
    linear_rank: int = 0

    @property
    def architecture(self) -> str:
        """What the header of a weights file calls it."""
        return "style-transformer"

    @property
    def w_dim(self) -> int:
        """Width of the codes."""
        return self.d_model

    @classmethod
    def small(cls, generator: Shape) -> StyleTransformerConfig:
        """What this project ships, for a generator: 9 units, input at the generator's resolution, at most 256 px."""
        width = generator.w_dim
        return cls(
            input_resolution=min(generator.img_resolution, 256),
            num_ws=generator.num_ws,
            num_queries=generator.num_ws,
            d_model=width,
            feedforward=2 * width,
            dropout=0.0,
            mapping_layers=generator.mapping_layers,
            depths=(2, 2, 3, 2),
            widths=(max(16, width // 8), max(16, width // 4), max(16, width // 2), width),
        )

    @classmethod
    def from_dict(cls, config: Mapping[str, Any]) -> StyleTransformerConfig:
        """From JSON, where tuples have become lists."""
        values: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in config.items()}
        return cls(**values)

    def __post_init__(self) -> None:
        if self.backbone not in ("ir-se", "lite0"):
            raise UsageError(f"a Style Transformer's backbone is ir-se or lite0, not {self.backbone}")
        if self.backbone == "ir-se" and self.widths[-1] != self.d_model:
            raise UsageError(f"the last backbone width {self.widths[-1]} must equal d_model {self.d_model}")
        if self.d_model % self.heads:
            raise UsageError(f"the width {self.d_model} of w is not a multiple of the {self.heads} attention heads")
        if self.num_ws > self.num_queries:
            raise UsageError(f"{self.num_queries} queries cannot give {self.num_ws} codes")
        check_input(self.input_resolution)


class Lite0Backbone(Lite0Trunk):
    """EfficientNet-lite0's stages as a backbone."""

    def forward(self, images: Tensor) -> list[Tensor]:
        """Images [B, 3, H, W] in [-1, 1] to maps of TAP_CHANNELS at 1/4, 1/8, 1/16 and 1/32 of their size."""
        return self.maps(images)


class LinearCodes(nn.Module):
    """A low-rank linear map of the medium and the coarse map, pooled to 4 x 4, to codes.

    Least squares on samples with known codes gives it at once, where the queries need tens of thousands of images to
    find out where to look.
    """

    GRID = 4

    def __init__(self, channels: int, rank: int, num_ws: int, w_dim: int) -> None:
        super().__init__()
        self.down = nn.Linear(channels * self.GRID**2, rank)
        self.up = nn.Linear(rank, num_ws * w_dim)
        self.num_ws = num_ws

    @classmethod
    def pooled(cls, medium: Tensor, coarse: Tensor) -> Tensor:
        """What it sees, float32 [B, channels * 16], of maps [B, ., ., .]."""
        maps = (coarse, medium)
        return torch.cat([F.adaptive_avg_pool2d(each.float(), cls.GRID).flatten(1) for each in maps], 1)

    def forward(self, medium: Tensor, coarse: Tensor) -> Tensor:
        """Maps [B, ., ., .] to float32 [B, num_ws, w_dim]; in float32 under autocast too."""
        with torch.autocast(coarse.device.type, enabled=False):
            return self.up(self.down(self.pooled(medium, coarse))).unflatten(1, (self.num_ws, -1))


class StyleTransformer(nn.Module):
    """Image to w_plus: queries born in W attend to coarse, medium and fine feature maps in turn.

    `latent_avg` [d_model] is added to the output of the last stage.
    """

    latent_avg: Tensor

    def __init__(self, config: StyleTransformerConfig) -> None:
        super().__init__()
        self.config = config
        d_model = config.d_model
        lite0 = config.backbone == "lite0"
        self.backbone = Lite0Backbone() if lite0 else IRSEBackbone(config.depths, config.widths)
        _, fine, medium, coarse = TAP_CHANNELS if lite0 else config.widths
        self.lateral_coarse = nn.Conv2d(coarse, d_model, 1) if lite0 else nn.Identity()
        self.lateral_medium = nn.Conv2d(medium, d_model, 1)
        self.lateral_fine = nn.Conv2d(fine, d_model, 1)
        self.z = nn.Parameter(torch.randn(1, config.num_queries, d_model))
        self.mapping = MappingNetwork(d_model, d_model, config.mapping_layers)
        self.stages = nn.ModuleList(
            nn.TransformerDecoderLayer(d_model, config.heads, config.feedforward, config.dropout, batch_first=True)
            for _ in range(3)
        )
        rank = config.linear_rank
        self.linear = LinearCodes(medium + coarse, rank, config.num_ws, d_model) if rank else None
        self.register_buffer("latent_avg", torch.zeros(d_model))

    def pyramid(self, c1: Tensor, c2: Tensor, c3: Tensor, ref: bool = False) -> list[Tensor]:
        """The backbone's last three maps to the coarse, medium and fine maps, [B, d_model, ., .] each."""
        add = upsample_add_ref if ref else upsample_add
        coarse = self.lateral_coarse(c3)
        medium = add(coarse, self.lateral_medium(c2))
        fine = add(medium, self.lateral_fine(c1))
        return [coarse, medium, fine]

    def queries(self) -> Tensor:
        """The starting points in W, [1, num_queries, d_model]."""
        return self.mapping(self.z)

    def forward(self, x: Tensor, ref: bool = False) -> Tensor:
        """Images [B, 3, H, W] in [-1, 1] to w_plus [B, num_ws, d_model].

        `ref` resizes as the paper's release does: in evaluation mode the oracle of `stkit.models.inference`.
        """
        _, c1, c2, c3 = self.backbone(x)
        codes = self.queries().expand(x.shape[0], -1, -1)
        for stage, feature in zip(self.stages, self.pyramid(c1, c2, c3, ref), strict=True):
            codes = stage(codes, feature.flatten(2).transpose(1, 2))
        return self.w_plus(codes, c2, c3)

    def w_plus(self, codes: Tensor, c2: Tensor, c3: Tensor) -> Tensor:
        """The last stage's codes [B, num_queries, d_model] as w_plus [B, num_ws, d_model], float32."""
        w_plus = (codes.float() + self.latent_avg)[:, : self.config.num_ws]
        return w_plus if self.linear is None else w_plus + self.linear(c2, c3)


def load_style_transformer(weights: Weights, device: torch.device | str = "cpu") -> StyleTransformer:
    """The Style Transformer inverter of `weights`, in eval mode, loaded once for each device. Raises WeightsError."""
    return weights.load(
        weights.inverter_kind("style-transformer"),
        "style-transformer",
        lambda config: StyleTransformer(StyleTransformerConfig.from_dict(config)),
        device,
    )


def upsample_add(coarse: Tensor, fine: Tensor) -> Tensor:
    """`fine` plus `coarse` resized bilinearly with aligned corners, as matrix products: quick to differentiate."""
    rows = _resize_matrix(coarse.shape[2], fine.shape[2]).to(coarse)
    columns = _resize_matrix(coarse.shape[3], fine.shape[3]).to(coarse)
    return fine + torch.einsum("yh,bchw,xw->bcyx", rows, coarse, columns)


def upsample_add_ref(coarse: Tensor, fine: Tensor) -> Tensor:
    """`upsample_add` by plain interpolation."""
    return F.interpolate(coarse, size=fine.shape[2:], mode="bilinear", align_corners=True) + fine


def _resize_matrix(size: int, new_size: int) -> Tensor:
    """[new_size, size]: linear interpolation with aligned corners."""
    position = torch.linspace(0, size - 1, new_size)[:, None]
    return (1 - (position - torch.arange(size)).abs()).clamp(min=0)


__all__ = [
    "LinearCodes",
    "Lite0Backbone",
    "StyleTransformer",
    "StyleTransformerConfig",
    "load_style_transformer",
    "upsample_add",
    "upsample_add_ref",
]
