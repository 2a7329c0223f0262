"""Pictures of anything, without alignment: the centre square of the photo, or of a box."""

from __future__ import annotations

from stkit.plugin import AlignmentTemplate, BoxDomain, Domain, hookimpl


class PlainDomain(BoxDomain):
    """Own data that no other domain aligns, as `stkit train domain` takes it by default."""

    name = "plain"
    description = "anything: the centre square of the photo, or of a box; no detector"
    noun = "subject"
    default_weights = "plain"
    template = AlignmentTemplate("box", 128, ((0.0, 0.0), (128.0, 128.0)))
    resolution = 128
    max_cut = 1.0


@hookimpl
def register_domains() -> list[Domain]:
    return [PlainDomain()]


__all__ = ["PlainDomain", "register_domains"]
