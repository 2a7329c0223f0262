"""Adversarial training of the mapping network alone, on the codes of photos and not on images: minutes on a CPU.

A Gaussian of the codes (`stkit.training.mapping`) also gives what lies between them, such as a car half way between two
poses, and no photo is like that. Here a small network learns to give codes that a critic cannot tell from those of
photos; the synthesis network and the codes stay as they are.
"""

from __future__ import annotations

import copy
import dataclasses
import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stkit.datasets.images import batch_indices
from stkit.errors import UsageError
from stkit.models.mapping import MappingNetwork
from stkit.models.ops import pixel_norm
from stkit.models.stylegan2 import StyleGAN2
from stkit.training.log import save_samples
from stkit.training.loop import Ema, LoopConfig, Stateful, Unchanged, run_loop, run_settings, step_generator
from stkit.training.mapping import compare_codes, linear_layers, moments, set_affine_pair, set_layer

_SLOPE = 0.2  # of the leaky ReLU
_GROUP = 16  # rows of the critic's minibatch standard deviation


@dataclass(frozen=True)
class MappingConfig:
    """The networks and how they are trained.

    `mapping_layers`, 3 or more: the last two are an affine map, those before it are trained as they are.
    `noise`, in mean standard deviations of the codes, is added to what the critic sees, since an inverter's codes of
    few photos are no smooth density. In the second half the learning rates go down to a tenth.
    """

    z_dim: int
    w_dim: int
    mapping_layers: int = 6
    learning_rate: float = 5e-4
    critic_learning_rate: float = 1e-3
    critic_width: int = 512
    r1_gamma: float = 0.1
    noise: float = 0.1
    ema_decay: float = 0.995

    def __post_init__(self) -> None:
        if not 3 <= self.mapping_layers <= 8:
            raise UsageError(f"{self.mapping_layers} layers of a mapping network to train; 3 to 8 are possible")


class CodeMapping(nn.Module):
    """z [B, z_dim] to codes [B, w_dim], the last layer along their principal axes, which evens out their scale."""

    mean: Tensor
    root: Tensor

    def __init__(self, config: MappingConfig, mean: Tensor, root: Tensor) -> None:
        super().__init__()
        sizes = [config.z_dim] + [config.w_dim] * (config.mapping_layers - 2)
        self.hidden = nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise(sizes))
        self.axes = nn.Linear(config.w_dim, config.w_dim)
        self.register_buffer("mean", mean)
        self.register_buffer("root", root)
        for layer in self.hidden:
            assert isinstance(layer, nn.Linear)
            nn.init.kaiming_normal_(layer.weight, _SLOPE)
            nn.init.normal_(layer.bias, std=0.3)
        self._start(config)

    @torch.no_grad()
    def _start(self, config: MappingConfig) -> None:
        """Make the first samples nearly the Gaussian of the codes: the features give z back as well as they can."""
        z = torch.randn(20_000, config.z_dim)
        features = F.pad(self._features(z), (0, 1), value=1.0).double()
        target = F.pad(z, (0, config.w_dim))[:, : config.w_dim].double()
        # torch.linalg.lstsq is not the same, bit for bit, from call to call; this is.
        solution = torch.linalg.solve(features.T @ features, features.T @ target)
        solution = (solution / (features @ solution).std()).float()
        self.axes.weight.copy_(solution[:-1].T)
        self.axes.bias.copy_(solution[-1])

    def _features(self, z: Tensor) -> Tensor:
        x = pixel_norm(z)
        for layer in self.hidden:
            x = F.leaky_relu(layer(x), _SLOPE)
        return x

    def forward(self, z: Tensor) -> Tensor:
        """[B, z_dim] to [B, w_dim]."""
        return self.mean + self.axes(self._features(z)) @ self.root.T

    def network(self) -> MappingNetwork:
        """The same function as a StyleGAN2 mapping network."""
        first = self.hidden[0]
        assert isinstance(first, nn.Linear)
        mapping = MappingNetwork(first.in_features, len(self.mean), len(self.hidden) + 2).to(self.mean.device)
        *layers, last, inverse = linear_layers(mapping)
        for mine, theirs in zip(self.hidden, layers, strict=True):
            assert isinstance(mine, nn.Linear)
            set_layer(theirs, mine.weight, mine.bias)
        set_affine_pair(last, inverse, self.root @ self.axes.weight, self.mean + self.root @ self.axes.bias)
        return mapping


class CodeCritic(nn.Module):
    """Codes [B, w_dim], B a multiple of 16, around 0, to scores [B, 1]: positive means of a photo."""

    def __init__(self, w_dim: int, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(w_dim + 1, width),
            nn.LeakyReLU(_SLOPE),
            nn.Linear(width, width),
            nn.LeakyReLU(_SLOPE),
            nn.Linear(width, 1),
        )

    def forward(self, codes: Tensor) -> Tensor:
        """[B, w_dim] to [B, 1]; the minibatch standard deviation is one more feature (Karras et al. 2018)."""
        spread = codes.unflatten(0, (-1, _GROUP)).std(1).mean(1).repeat_interleave(_GROUP)[:, None]
        return self.layers(torch.cat([codes, spread], 1))


@dataclass
class MappingRun:
    """A resumable run: `train()` leaves the averaged CodeMapping in `averaged`.

    `codes` [N, w_dim] are those of training photos, `held_out` [M, w_dim] of others (2 or more), for the
    figures of `compare_codes`.
    The generator is for the sample grids. Raises UsageError for fewer than 20 codes, for codes that are not finite
    and for a batch that is no multiple of 16.
    """

    config: MappingConfig
    loop: LoopConfig
    generator: StyleGAN2
    codes: Tensor
    held_out: Tensor
    output_crop: tuple[float, float, float, float]
    device: torch.device
    model: CodeMapping = field(init=False)
    ema: Ema = field(init=False)

    def __post_init__(self) -> None:
        config = self.config
        if self.loop.batch % _GROUP:
            raise UsageError(f"a batch of {self.loop.batch} is no multiple of {_GROUP}")
        for codes, least in ((self.codes, 20), (self.held_out, 2)):
            if codes.shape[1:] != (config.w_dim,) or len(codes) < least or not torch.isfinite(codes).all():
                raise UsageError(
                    f"the mapping network needs at least {least} finite codes of width {config.w_dim}, got "
                    f"{list(codes.shape)}"
                )
        torch.manual_seed(self.loop.seed)
        mean, root = moments(self.codes.cpu())
        self.model = CodeMapping(config, mean, root).to(self.device)
        self.critic = CodeCritic(config.w_dim, config.critic_width).to(self.device)
        self.codes, self.held_out = self.codes.to(self.device), self.held_out.to(self.device)
        self._scale = self.codes.std(0).mean()
        self.ema = Ema(self.model, copy.deepcopy(self.model), config.ema_decay)
        self.g_optimizer, self.d_optimizer = (
            torch.optim.Adam(network.parameters(), betas=(0.0, 0.99)) for network in (self.model, self.critic)
        )

    @property
    def averaged(self) -> CodeMapping:
        """The averaged network."""
        assert isinstance(self.ema.model, CodeMapping)
        return self.ema.model

    def train(self) -> int:
        """Train to the last step; returns the number of steps done."""
        state: dict[str, Stateful] = {
            "config": Unchanged(run_settings(self.config, self.loop)),
            "model": self.model,
            "critic": self.critic,
            "ema": self.ema,
            "g_optimizer": self.g_optimizer,
            "d_optimizer": self.d_optimizer,
        }
        return run_loop(self.loop, state, self.step, self.sample)

    def step(self, step: int) -> Mapping[str, Tensor]:
        """One step of the critic and one of the mapping network."""
        config = self.config
        slower = 1 - 0.9 * max(0.0, 2 * step / self.loop.steps - 1)
        rates = (self.g_optimizer, config.learning_rate), (self.d_optimizer, config.critic_learning_rate)
        for optimizer, rate in rates:
            optimizer.param_groups[0]["lr"] = rate * slower
        random = step_generator(self.loop, step)
        real = self.codes[batch_indices(len(self.codes), self.loop.batch, self.loop.seed, step).to(self.device)]
        z = torch.randn(self.loop.batch, config.z_dim, generator=random).to(self.device)
        fake = self.model(z)

        seen = self._seen(real).requires_grad_()
        real_scores, fake_scores = self.critic(seen), self.critic(self._seen(fake.detach()))
        (gradient,) = torch.autograd.grad(real_scores.sum(), seen, create_graph=True)
        r1 = gradient.square().sum(1).mean()
        d_loss = F.softplus(-real_scores).mean() + F.softplus(fake_scores).mean()
        self.d_optimizer.zero_grad()
        (d_loss + config.r1_gamma / 2 * r1).backward()
        self.d_optimizer.step()

        g_loss = F.softplus(-self.critic(self._seen(fake))).mean()
        self.g_optimizer.zero_grad()
        g_loss.backward()
        self.g_optimizer.step()
        self.ema.update(self.model, step)
        return {"g_loss": g_loss.detach(), "d_loss": d_loss.detach(), "r1": r1.detach()}

    @torch.no_grad()
    def sample(self, step: int) -> dict[str, float]:
        """Write a grid of 32 samples, always of the same z, and compare samples with the held-out codes."""
        z = torch.randn(4096, self.config.z_dim, generator=torch.Generator().manual_seed(self.loop.seed))
        codes = self.averaged(z.to(self.device))
        w_plus = self.generator.broadcast(codes[:32])
        images = torch.cat([self.generator.synthesize(part) for part in w_plus.split(8)])
        save_samples(self.loop.out, step, images, 8, self.output_crop)
        return {
            f"val_{name}": round(value, 4) for name, value in compare_codes(codes, self.held_out, self.codes).items()
        }

    def _seen(self, codes: Tensor) -> Tensor:
        """`codes` around 0 and in their mean standard deviation, with noise."""
        centred = (codes - self.model.mean) / self._scale
        return centred + self.config.noise * torch.randn_like(centred)


def with_mapping(generator: StyleGAN2, mapping: MappingNetwork) -> StyleGAN2:
    """A copy of `generator` with another mapping network, which may have another number of layers."""
    first = linear_layers(mapping)[0]
    config = dataclasses.replace(
        generator.config, z_dim=first.weight.shape[1], mapping_layers=len(linear_layers(mapping))
    )
    copied = StyleGAN2(config)
    state = {name: value for name, value in generator.state_dict().items() if not name.startswith("mapping.")}
    copied.load_state_dict(state | {f"mapping.{name}": value for name, value in mapping.state_dict().items()})
    return copied


__all__ = ["CodeCritic", "CodeMapping", "MappingConfig", "MappingRun", "with_mapping"]
