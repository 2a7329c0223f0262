"""Files as other programs leave them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file


def save(path: Path, data: Any) -> Path:
    """`data` by what the file's ending says: numpy's one array or several, or torch's pickle."""
    if path.suffix == ".npy":
        np.save(path, data)
    elif path.suffix == ".npz":
        np.savez(path, **data)
    elif path.suffix == ".safetensors":
        save_file(data, path)
    else:
        torch.save(data, path)
    return path
