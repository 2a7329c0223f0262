"""The training: codes of the images and the generator that gives the images for them, together."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from stkit.plugin import (
    Header,
    Stateful,
    Unchanged,
    Voice,
    batch_indices,
    fit_mapping,
    image_sets,
    loop_of,
    origin,
    require_one_process,
    require_room,
    resolve_device,
    run_loop,
    run_notes,
    save_module,
    shape_values,
)
from stkit_alias_free.config import AliasFreeConfig
from stkit_alias_free.generator import AliasFree
from stkit_alias_free.trainer import AliasFreeRecipe


def train_alias_free(recipe: AliasFreeRecipe, voice: Voice) -> bool:
    """Whether weights are in `recipe.out`; False when the run was interrupted. Raises UsageError, StkitError."""
    require_one_process("alias-free")
    require_room(recipe.out, "generator")
    device, loop = resolve_device(recipe.device), loop_of(recipe)
    images, _ = image_sets(recipe.data, recipe.resolution, recipe.domain, voice)
    torch.manual_seed(recipe.seed)
    shape = AliasFreeConfig(recipe.resolution, channels=recipe.channels)
    generator = AliasFree(shape).to(device)
    codes = nn.Embedding(len(images), shape.w_dim, device=device)
    optimizer = torch.optim.Adam([*generator.synthesis.parameters(), *codes.parameters()], recipe.learning_rate)

    def step(number: int) -> Mapping[str, Tensor]:
        rows = batch_indices(len(images), loop.batch, loop.seed, number)
        made = generator.synthesize(generator.broadcast(codes(rows.to(device))))
        loss = (made - images.batch(rows, device)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return {"mse": loss.detach()}

    begun_with = dataclasses.asdict(shape) | {"rate": recipe.learning_rate, "batch": loop.batch, "seed": loop.seed}
    state: dict[str, Stateful] = {"generator": generator, "codes": codes, "optimizer": optimizer}
    state["config"] = Unchanged(begun_with)
    if run_loop(loop, state, step, lambda number: {}) != loop.steps:
        return False
    fit_mapping(generator, codes.weight.detach())
    config, notes = dataclasses.asdict(shape), run_notes(recipe.data, images, loop)
    about = {"shape": shape_values(shape), "notes": notes, **origin(recipe.domain, None, None)}
    save_module(recipe.out, generator, Header("generator", generator.architecture, config, **about))
    voice.say(f"done; use it with --weights {recipe.out}")
    return True
