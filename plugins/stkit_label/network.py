"""The latent classifier of the Style Transformer paper (Hu et al., CVPR 2022, section 3.4): attributes from w_plus."""

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
class LatentClassifierConfig:
    """Shape of a latent classifier; the defaults but for the attributes are the paper's (9216-2048-512, 512-32-1).

    With `components` the first layer sees so many principal components of the codes instead of all their numbers.
    """

    attributes: tuple[str, ...]
    num_ws: int = 18
    w_dim: int = 512
    widths: tuple[int, ...] = (2048, 512)
    embedding: int = 32
    dropout: float = 0.0
    components: int | None = None

    def __post_init__(self) -> None:
        require_names(self.attributes)

    @classmethod
    def for_codes(
        cls, attributes: tuple[str, ...], num_ws: int, w_dim: int, components: int | None = None
    ) -> LatentClassifierConfig:
        """The paper's shape for codes of another size: hidden widths 4 w_dim and w_dim."""
        return cls(attributes, num_ws, w_dim, widths=(4 * w_dim, w_dim), components=components)

    @classmethod
    def from_dict(cls, config: Mapping[str, Any]) -> LatentClassifierConfig:
        """From JSON, where tuples have become lists."""
        values: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in config.items()}
        return cls(**values)


class LatentClassifier(nn.Module):
    """w_plus to one logit an attribute; the K attributes share all but their last two layers.

    A logit is that of the probability of a 0/1 label or, for a number such as an age, of being above
    its mean (see `stkit_label.training.probabilities`). Codes are centred by `code_mean`
    [num_ws, w_dim] and divided by `code_std`, one number for all entries, so that the gradient with
    respect to the codes keeps its direction. `score_mean`, `score_std` [K] and `score_limits` [K, 2]
    (0.5% and 99.5% quantiles, in standard deviations from the mean) describe the logits of the training
    codes: 1.0 of an edit's strength is one `score_std`. `embedding_std` [K] is the root mean square deviation
    of the entries of each attribute's embedding there. `axes` [components, num_ws * w_dim] are the principal ones of
    the training codes (unit rows), and what lies across them changes no logit.
    """

    code_mean: Tensor
    code_std: Tensor
    score_mean: Tensor
    score_std: Tensor
    score_limits: Tensor
    embedding_std: Tensor
    axes: Tensor

    def __init__(self, config: LatentClassifierConfig) -> None:
        super().__init__()
        self.config = config
        count = len(config.attributes)
        layers: list[nn.Module] = []
        width = config.num_ws * config.w_dim
        if config.components is not None:
            self.register_buffer("axes", torch.zeros(config.components, width))
            width = config.components
        for wide in config.widths:
            layers += [nn.Linear(width, wide), nn.LeakyReLU(0.2), nn.Dropout(config.dropout)]
            width = wide
        self.trunk = nn.Sequential(*layers)
        self.embeddings = nn.Linear(width, count * config.embedding)
        bound = config.embedding**-0.5
        self.head_weight = nn.Parameter(torch.empty(count, config.embedding).uniform_(-bound, bound))
        self.head_bias = nn.Parameter(torch.zeros(count))
        self.register_buffer("code_mean", torch.zeros(config.num_ws, config.w_dim))
        self.register_buffer("code_std", torch.ones(()))
        self.register_buffer("score_mean", torch.zeros(count))
        self.register_buffer("score_std", torch.ones(count))
        self.register_buffer("score_limits", torch.tensor([-3.0, 3.0]).repeat(count, 1))
        self.register_buffer("embedding_std", torch.ones(count))

    def embed(self, codes: Tensor) -> Tensor:
        """The attributes' embeddings [B, K, embedding] of w_plus codes [B, num_ws, w_dim]."""
        seen = ((codes - self.code_mean) / self.code_std).flatten(1)
        if self.config.components is not None:
            seen = seen @ self.axes.T
        return self.embeddings(self.trunk(seen)).unflatten(1, self.head_weight.shape)

    def logits(self, embeddings: Tensor) -> Tensor:
        """The logits [B, K] of embeddings [B, K, embedding]."""
        return (embeddings * self.head_weight).sum(2) + self.head_bias

    def forward(self, codes: Tensor) -> Tensor:
        """The logits [B, K] of w_plus codes [B, num_ws, w_dim]."""
        return self.logits(self.embed(codes))

    def scores(self, codes: Tensor) -> Tensor:
        """The logits [B, K] in standard deviations of the training codes' logits, from their mean."""
        return (self(codes) - self.score_mean) / self.score_std

    @torch.no_grad()
    def standardise_codes(self, codes: Tensor) -> None:
        """Take `code_mean`, `code_std` and `axes` from training codes [N, num_ws, w_dim]."""
        self.code_mean.copy_(codes.mean(0))
        self.code_std.copy_((codes - codes.mean(0)).square().mean().sqrt().clamp(min=1e-6))
        if self.config.components is not None:
            from sklearn.decomposition import PCA

            pca = PCA(self.config.components, svd_solver="randomized", random_state=0)
            self.axes.copy_(torch.from_numpy(pca.fit(codes.flatten(1).cpu().numpy()).components_))

    @torch.no_grad()
    def calibrate(self, codes: Tensor) -> None:
        """Take the figures of logits and embeddings from training codes [N, num_ws, w_dim]; leaves eval mode."""
        self.eval()
        embeddings = torch.cat([self.embed(part) for part in codes.split(256)])
        self.embedding_std.copy_(embeddings.var(0).mean(1).sqrt().clamp(min=1e-3))
        logits = self.logits(embeddings)
        self.score_mean.copy_(logits.mean(0))
        self.score_std.copy_(logits.std(0).clamp(min=1e-3))
        scores = (logits - self.score_mean) / self.score_std
        ends = torch.tensor([0.005, 0.995], device=scores.device)
        self.score_limits.copy_(torch.quantile(scores[:20_000], ends, dim=0).T)


def load_classifier(weights: Weights, device: torch.device | str = "cpu") -> LatentClassifier:
    """The latent classifier of `weights`, in eval mode. Raises WeightsError as `load_trained` does."""

    def build(config: Mapping[str, Any]) -> LatentClassifier:
        return LatentClassifier(LatentClassifierConfig.from_dict(config))

    return load_trained(
        weights, "classifier", "latent-classifier", "--labels LABELS.csv --images PHOTOS", build, device
    )


__all__ = ["LatentClassifier", "LatentClassifierConfig", "load_classifier"]
