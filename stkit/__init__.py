"""stkit: edit real photographs in the latent space of a GAN."""

from __future__ import annotations

from stkit.hookspecs import hookimpl

__version__ = "0.1.0"

__all__ = ["__version__", "hookimpl"]
