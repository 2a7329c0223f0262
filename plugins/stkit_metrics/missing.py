"""What to say of a package that could not be imported."""

from __future__ import annotations

from stkit.plugin import MissingPackageError


def missing(metric: str, package: str, install: str, error: Exception) -> MissingPackageError:
    """Of `package`, which `install` gives; an unfit torchvision makes `error` a RuntimeError."""
    if isinstance(error, RuntimeError):
        return MissingPackageError(
            f"{metric} needs {package}, which imports torchvision, and the one here is not of this torch's build "
            f"({error}): pip uninstall torchvision, or install torch and torchvision together as pytorch.org has it"
        )
    return MissingPackageError(f"{metric} needs {package}: {install} ({error})")


__all__ = ["missing"]
