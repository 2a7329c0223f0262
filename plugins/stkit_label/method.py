"""Editing along the gradient, or the Hessian's first eigenvector, of the latent classifier."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pydantic

from stkit.plugin import Attribute, EditContext, EditingMethod, Options, UnknownNameError, UsageError, find_attribute

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from torch import Tensor

    from stkit.plugin import Latents, Weights
    from stkit_label.network import LatentClassifier

_LEAST_CORRELATION = 0.5


class LabelOptions(Options):
    """Options of label."""

    order: int = pydantic.Field(
        default=1, ge=1, le=2, description="1: along the gradient; 2: along the first eigenvector of the Hessian"
    )
    steps: int = pydantic.Field(default=8, ge=1, description="small steps, the direction found anew before each")
    hold: str = pydantic.Field(
        default="all", description="attributes to keep: 'all' others, 'none', or names with commas between"
    )
    xi: float = pydantic.Field(
        default=0.1, gt=0, description="order 2: length of the finite difference, as a share of the codes' spread"
    )
    iterations: int = pydantic.Field(default=10, ge=1, description="order 2: power iterations")


class LabelEditing(EditingMethod[LabelOptions]):
    """Hu et al., "Style Transformer for Image Inversion and Editing", CVPR 2022: label-based editing.

    Every photo gets its own path, of small steps that each follow the latent classifier's direction at
    the code reached so far. Strength 1.0 moves the attribute by one standard deviation as far as the classifier
    can tell (see `_unit`); a negative strength goes towards the opposite label.
    """

    name = "label"
    description = "the latent classifier's own direction at each photo, others held (first or second order)"
    paper = "Hu et al., Style Transformer for Image Inversion and Editing, CVPR 2022"
    preference = 1
    Options = LabelOptions

    def attributes(self, context: EditContext) -> list[Attribute]:
        """What the weights' classifier knows. Raises WeightsError when there is none, or it does not fit."""
        from stkit_label.network import load_classifier

        classifier = load_classifier(context.weights)
        found = []
        for name, (low, high) in zip(classifier.config.attributes, classifier.score_limits.tolist(), strict=True):
            correlation = _correlation(context.weights, name)
            words = "" if correlation is None else f", correlation {correlation:.2f} on held-out photos"
            reach = round(min(3.0, (high - low) / _unit(correlation)), 1)
            found.append(Attribute(name, f"as the latent classifier sees it{words}", (-reach, reach)))
        return found

    def files(self, context: EditContext) -> Sequence[Path]:
        """The classifier."""
        return [context.weights.path("classifier")]

    def edit(self, latents: Latents, options: LabelOptions, context: EditContext) -> Latents:
        """w_plus [B, num_ws, w_dim] along each row's own path, in the chosen layers (all by default)."""
        from stkit_label.network import load_classifier

        attribute = find_attribute(self, context)
        classifier = load_classifier(context.weights)
        names = list(classifier.config.attributes)
        index = names.index(attribute.name)
        held = [names.index(name) for name in _held(options.hold, attribute.name, names)]
        layers = context.layer_indices(latents.codes.shape[1])
        codes = latents.codes.clone()
        if context.strength:
            unit = _unit(_correlation(context.weights, attribute.name))
            moved = _walk(classifier, codes, index, unit, held, layers, options, context)
            codes[:, layers] = moved[:, layers].to(codes)
        return latents.replace(codes, edit=f"label:{attribute.name}={context.strength:+g}")


def _walk(
    classifier: LatentClassifier,
    start: Tensor,
    index: int,
    unit_of_strength: float,
    held: list[int],
    layers: list[int],
    options: LabelOptions,
    context: EditContext,
) -> Tensor:
    """The codes at the end of the path, float64 on the CPU.

    Each step goes as far as the logit needs, to first order, for its share of what is still missing; at
    most so far that all steps together could leave one typical distance from the mean code a unit of
    strength, since a flat classifier would ask for any length.
    """
    import copy

    import torch

    from stkit_label.gradients import first_order, logit_gradients, project_out, second_order, unit

    network = copy.deepcopy(classifier).double()
    codes = start.detach().cpu().double()
    chosen = torch.zeros(codes.shape[1], 1, dtype=torch.bool)
    chosen[layers] = True
    spread = float(network.code_std) * (len(layers) * codes.shape[2]) ** 0.5
    limit = abs(context.strength) * spread / options.steps
    goal = network(codes)[:, index] + context.strength * unit_of_strength * network.score_std[index]
    y = torch.full((len(codes),), float(context.strength > 0), dtype=torch.float64)
    random = torch.Generator().manual_seed(context.seed)

    def logits(w: Tensor) -> Tensor:
        """As functions of the chosen layers alone."""
        return network(torch.where(chosen, w, start.to(w)))

    def logit(w: Tensor) -> Tensor:
        return logits(w)[:, index]

    for step in range(options.steps):
        values, gradients = logit_gradients(logits, codes, [index, *held])
        if options.order == 1:
            direction = first_order(logit, codes, y)
        else:
            direction = second_order(logit, codes, y, options.xi * spread, options.iterations, random)
        direction = unit(project_out(direction * chosen, gradients[:, 1:]))
        slope = (gradients[:, 0] * direction).sum((1, 2))
        missing = (goal - values[:, index]) / (options.steps - step)
        length = torch.where(slope == 0, 0.0, missing / slope).clamp(-limit, limit)
        codes = codes + length[:, None, None] * direction
    return codes


def _correlation(weights: Weights, name: str) -> float | None:
    """Pearson's r of the attribute's logit and its label on held-out photos, None where the file does not tell it."""
    from stkit.plugin import load_header, note_number

    return note_number(load_header(weights.path("classifier")).notes, "held_out", name, "correlation")


def _unit(correlation: float | None) -> float:
    """The change of the logit, in its standard deviations, that goes with one standard deviation of the attribute.

    Least squares of the label on the logit has the slope r when both are in standard deviations: where the logit
    grows by one, the attribute grows by r of its own. At most 2: below r = 0.5 the classifier hardly knows the
    attribute. 1 where r is not known.
    """
    return 1.0 if correlation is None else 1 / max(correlation, _LEAST_CORRELATION)


def _held(hold: str, edited: str, names: list[str]) -> list[str]:
    """The attributes to hold. Raises UsageError, UnknownNameError."""
    if hold in ("all", "none"):
        return [name for name in names if hold == "all" and name != edited]
    chosen = [name.strip() for name in hold.split(",")]
    for name in chosen:
        if name not in names:
            raise UnknownNameError("attribute", name, names)
        if name == edited:
            raise UsageError(f"'{name}' cannot be both edited and held; leave it out of hold")
    return chosen


__all__ = ["LabelEditing", "LabelOptions"]
