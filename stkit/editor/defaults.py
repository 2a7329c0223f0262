"""Which weights a domain stands for: the best of those that it prefers and that are there, or its own."""

from __future__ import annotations

import logging

from stkit.contracts.domains import Domain
from stkit.weights import DOWNLOADS, Weights, find_weights, weights_names

logger = logging.getLogger("stkit")


def default_weights(domain: Domain) -> Weights:
    """The first of the domain's preferred weights that are there with an inverter, or else its default ones.

    The latter says in one line how to get the former. Raises UnknownNameError, WeightsError.
    """
    names, hints = weights_names(), []
    for name in domain.preferred_weights:
        if name in names:
            weights = find_weights(name)
            if weights.domain == domain.name and weights.inverters():
                return weights
            hints.append(f"'{name}' have no inverter, and are used when named: --weights {name}")
        elif name in DOWNLOADS:
            hints.append(f"for better ones: stkit weights download {name} ({DOWNLOADS[name]})")
    found = find_weights(domain.default_weights)
    if hints:
        logger.info("these are the small weights '%s' (%d px); %s", found.name, found.resolution, hints[0])
    return found


__all__ = ["default_weights"]
