"""The reference block of the Style Transformer paper (Hu et al., CVPR 2022): an attribute from w_plus to w_plus."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from stkit.plugin import load_trained, require_names

if TYPE_CHECKING:
    from stkit.plugin import Weights


@dataclass(frozen=True)
class ReferenceBlockConfig:
    """Shape of a reference block; the defaults but for the attributes are the paper's.

    Without `offset` the block gives the edited code itself, as the paper's released code does.
    """

    attributes: tuple[str, ...]
    num_ws: int = 18
    w_dim: int = 512
    heads: int = 4
    feedforward: int = 1024
    dropout: float = 0.1
    offset: bool = True

    def __post_init__(self) -> None:
        require_names(self.attributes)

    @classmethod
    def for_codes(cls, attributes: tuple[str, ...], num_ws: int, w_dim: int) -> ReferenceBlockConfig:
        """The paper's shape for codes of another size: feed-forward width 2 w_dim."""
        return cls(attributes, num_ws, w_dim, feedforward=2 * w_dim)

    @classmethod
    def from_dict(cls, config: Mapping[str, Any]) -> ReferenceBlockConfig:
        """From JSON, where tuples have become lists."""
        return cls(**{**config, "attributes": tuple(config["attributes"])})


class ReferenceBlock(nn.Module):
    """One decoder layer of the Style Transformer: self-attention over the source code's layers, then
    cross-attention with the source as query and the reference as key and value.

    It gives the offset from the source, as in the paper, through a last linear layer that starts at zero.
    What is learned for each attribute is a token for every layer, added to the source; the reference gets
    one for its layers too. Codes are centred by `code_mean` [num_ws, w_dim] and divided by `code_std`.
    """

    code_mean: Tensor
    code_std: Tensor

    def __init__(self, config: ReferenceBlockConfig) -> None:
        super().__init__()
        self.config = config
        shape = (config.num_ws, config.w_dim)
        # As large as the codes: small tokens take much longer to be told apart.
        self.attribute = nn.Parameter(torch.randn(len(config.attributes), *shape))
        self.position = nn.Parameter(torch.randn(shape))
        self.layer = nn.TransformerDecoderLayer(
            config.w_dim, config.heads, config.feedforward, config.dropout, batch_first=True
        )
        self.output = nn.Linear(config.w_dim, config.w_dim)
        nn.init.zeros_(self.output.weight)
        nn.init.zeros_(self.output.bias)
        self.register_buffer("code_mean", torch.zeros(shape))
        self.register_buffer("code_std", torch.ones(()))

    def forward(self, source: Tensor, reference: Tensor, index: Tensor) -> Tensor:
        """w_plus [B, num_ws, w_dim] of `source` with attribute number `index` [B] of `reference`, both w_plus."""
        query = (source - self.code_mean) / self.code_std + self.attribute[index]
        memory = (reference - self.code_mean) / self.code_std + self.position
        start = source if self.config.offset else self.code_mean
        return start + self.code_std * self.output(self.layer(query, memory))


def load_reference_block(weights: Weights, device: torch.device | str = "cpu") -> ReferenceBlock:
    """The reference block of `weights`, in eval mode. Raises WeightsError as `load_trained` does."""

    def build(config: Mapping[str, Any]) -> ReferenceBlock:
        return ReferenceBlock(ReferenceBlockConfig.from_dict(config))

    return load_trained(weights, "reference", "reference-block", "--images PHOTOS", build, device)


__all__ = ["ReferenceBlock", "ReferenceBlockConfig", "load_reference_block"]
