"""Editing along the eigenvectors of the modulation weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stkit.plugin import Attribute, EditContext, EditingMethod, Options, find_attribute

if TYPE_CHECKING:
    from stkit.plugin import Latents


class SeFa(EditingMethod[Options]):
    """Shen and Zhou, "Closed-Form Factorization of Latent Semantics in GANs", CVPR 2021.

    The directions of w that change the styles of the chosen layers most: eigenvectors of A^T A, A the layers'
    modulation weights. Nothing is sampled or labelled to find them. `--layers` chooses both the weights that are
    factorised and the layers that are edited. Strength 1.0 is one standard deviation of w along the eigenvector.
    """

    name = "sefa"
    description = "eigenvectors of the modulation weights, by layers: eig1, eig2, ... (no labels, closed form)"
    paper = "Shen and Zhou, Closed-Form Factorization of Latent Semantics in GANs, CVPR 2021"

    def attributes(self, context: EditContext) -> list[Attribute]:
        """eig1 (the largest eigenvalue) to the last one kept, of the context's layers."""
        from stkit_sefa.factors import load_factors

        factors = load_factors(context.weights, context.layers)
        where = f"layers {context.layers}" if context.layers else "all layers"
        return [
            Attribute(f"eig{i + 1}", f"eigenvector {i + 1} of {where}, {100 * share:.1f}% of the eigenvalues", safe)
            for i, (share, safe) in enumerate(zip(factors.shares, factors.safe_ranges, strict=True))
        ]

    def edit(self, latents: Latents, options: Options, context: EditContext) -> Latents:
        """w_plus [B, num_ws, w_dim] moved along the eigenvector in the layers it belongs to."""
        from stkit_sefa.factors import load_factors

        attribute = find_attribute(self, context)
        factors = load_factors(context.weights, context.layers)
        index = int(attribute.name.removeprefix("eig")) - 1
        codes = latents.codes.clone()
        layers = context.layer_indices(codes.shape[1])
        codes[:, layers] += context.strength * factors.units[index] * factors.directions[index].to(codes)
        return latents.replace(codes, edit=f"sefa:{attribute.name}={context.strength:+g}")


__all__ = ["SeFa"]
