"""Cars: 16:9 pictures inside a square canvas, as StyleGAN2's car models have them (Karras et al. 2020)."""

from __future__ import annotations

from stkit.plugin import AlignmentTemplate, BoxDomain, Domain, hookimpl


class CarsDomain(BoxDomain):
    """One car that fills the photo, or the box that the user gives (shared/data/README.md, cars, step 3)."""

    name = "cars"
    description = "cars, 16:9: the whole photo or a box; no detector"
    noun = "car"
    default_weights = "cars"
    template = AlignmentTemplate("box", 128, ((0.0, 28.0), (128.0, 100.0)))
    resolution = 128
    output_crop = (0.0, 28 / 128, 1.0, 100 / 128)
    max_cut = 0.12


@hookimpl
def register_domains() -> list[Domain]:
    return [CarsDomain()]


__all__ = ["CarsDomain", "register_domains"]
