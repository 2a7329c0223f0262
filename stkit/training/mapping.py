"""A mapping network for a generator trained by reconstruction: z ~ N(0, I) is made to cover the codes.

It starts as the Gaussian of the codes, exactly: two leaky ReLU layers undo each other when the second
has the weight -1 / slope, so the last pair of layers can be any affine map and the pairs before it
the identity. Those are then trained until the codes' own distribution comes out (sliced Wasserstein
distance, Bonneel et al. 2015), which cannot take the samples out of the space that the codes span.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from stkit.models import ops
from stkit.models.style_transformer import StyleTransformer
from stkit.models.stylegan2 import Generator, MappingNetwork
from stkit.training.data import ImageSet, batches
from stkit.training.losses import autocast
