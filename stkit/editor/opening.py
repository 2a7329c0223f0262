"""From `--domain`, `--weights` and `--device` to weights and an editor."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stkit.contracts.domains import DEFAULT_DOMAIN
from stkit.editor.defaults import default_weights
from stkit.errors import UsageError
from stkit.plugins import load_plugins
from stkit.weights import Weights, find_weights

if TYPE_CHECKING:
    from stkit.editor.editor import Editor


def open_weights(domain: str | None, weights: str | None) -> Weights:
    """`weights` by name, or the default weights of `domain`. Raises UsageError if both are given and differ."""
    chosen = load_plugins().domain(domain or DEFAULT_DOMAIN)  # a domain that is none is told in any case
    if weights is None:
        return default_weights(chosen)
    found = find_weights(weights)
    _require_domain(found, domain)
    return found


def open_editor(domain: str | None, weights: str | None, device: str) -> Editor:
    """The editor of `weights`, or of the default weights of `domain`; UsageError if both are given and differ."""
    from stkit.editor.editor import load  # torch, which those who want the weights alone need not wait for

    return load(open_weights(domain, weights), device)


def _require_domain(weights: Weights, domain: str | None) -> None:
    if domain is not None and weights.domain != domain:
        raise UsageError(f"weights '{weights.name}' are for {weights.domain}, not {domain}; leave out --domain")


__all__ = ["open_editor", "open_weights"]
