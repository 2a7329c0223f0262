"""InterFaceGAN finds planted directions, projects others out, says how sure it is, and refuses what cannot work."""

from __future__ import annotations

import csv
import dataclasses
import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image
from stkit_interfacegan import group
from stkit_interfacegan.fit_command import run as fit_command
from stkit_interfacegan.fitting import fit_direction, fit_normal, held_out_accuracy, project_out, wilson_interval
from torch import Tensor

from stkit.contracts.scoring import Scorer
from stkit.datasets.codes import LabelledCodes
from stkit.datasets.labels import AttributeSpec, load_labels
from stkit.editor.editor import Editor
from stkit.errors import LabelsError, UnknownNameError, UsageError, WeightsError
from stkit.jobs.labelled import labelled_photos, labelled_samples, require_classes, two_classes
from stkit.latents.directions import Direction, coordinates, find_direction, load_direction, own_folder
from stkit.models.registry import load_generator, sample_w
from stkit.options import LatentSpace, LayerRange, Options
from stkit.plugins import load_plugins
from stkit.testing import make_tiny_weights, run_stkit
from stkit.weights import Weights, cache_folder

CPU = torch.device("cpu")


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


class Brightness(Scorer[Options]):
    """The mean of an image; half of the images have no `rare`."""

    name = "brightness"
    description = "how bright an image is"
    calls = 0

    def score(self, images: Tensor, options: Options) -> dict[str, np.ndarray]:
        Brightness.calls += 1
        mean = images.double().mean((1, 2, 3)).numpy()
        return {"brightness": mean, "rare": np.where(mean > 0, mean, np.nan), "same": np.ones(len(mean))}


def plant(weights: Weights, truth: Tensor) -> None:
    """Let the brightness of the generator's images be linear in w along `truth`, and w be normal."""
    generator = load_generator(weights)
    generator.mapping = torch.nn.Identity()  # type: ignore[assignment]
    for name, value in generator.synthesis.named_parameters():
        if name.endswith("affine.weight"):
            value.data.zero_()
        elif name.startswith("to_rgbs") and name.endswith("weight"):
            value.data.abs_().mul_(0.02)
    last = generator.synthesis.get_parameter("to_rgbs.2.affine.weight")
    last.data.copy_(truth.expand(len(last), -1))
    generator.synthesis.get_parameter("convs.4.bias").data.fill_(1.0)


@pytest.fixture
def editor(tmp_path: Path) -> Editor:
    registry = dataclasses.replace(load_plugins(), scorers={"brightness": Brightness()})
    return Editor(make_tiny_weights(tmp_path / "tiny"), registry, CPU)


def test_the_planted_direction_is_found_from_samples(editor: Editor) -> None:
    truth = torch.nn.functional.normalize(random(32, seed=3), dim=0)
    plant(editor.weights, truth)
    steps: list[tuple[int, int]] = []
    data = labelled_samples(editor, "brightness", 600, ["brightness"], on_progress=lambda *step: steps.append(step))
    assert steps[0] == (16, 600) and steps[-1] == (600, 600) and steps == sorted(steps)
    fit = fit_direction(editor.weights, data, "bright")
    assert coordinates(truth[None], fit.direction.vector).item() >= 0.9  # half of the samples mix w of two or three
    assert fit.projected.value > 0.9
    calls = Brightness.calls
    again = labelled_samples(editor, "brightness", 600, ["brightness"])
    assert Brightness.calls == calls, "the scores were not cached"
    assert torch.equal(again.values, data.values)


def test_scores_that_cannot_be_fitted(editor: Editor) -> None:
    with pytest.raises(LabelsError, match=r"'same' .* constant: 100 rows .* 1 for all"):
        labelled_samples(editor, "brightness", 100, ["same"])
    with pytest.raises(UnknownNameError, match="did you mean brightness"):
        labelled_samples(editor, "brightness", 100, ["brightnes"])
    with pytest.raises(UnknownNameError, match="no scorer named 'x'"):
        labelled_samples(editor, "x", 100, ["brightness"])


def test_the_normal_lies_where_codes_vary_unless_the_attribute_does_not() -> None:
    """Of two ways to tell the classes apart nearly as well, the one that an edit shows."""
    rng = np.random.default_rng(0)
    spread = np.geomspace(3, 0.03, 200)
    z, fitted = rng.normal(size=(3000, 200)), np.arange(3000) % 5 > 0
    seen = (z[:, :32].sum(1) > 0).astype(float)
    z[:, 150:] += 0.15 * (2 * seen[:, None] - 1)  # a shortcut over many axes, none of which moves an image
    normal = fit_normal(z * spread, seen, fitted)
    assert np.linalg.norm(normal[40:]) < 0.1
    assert held_out_accuracy(z * spread, seen, fitted, normal).value > 0.9
    hidden = (z[:, 180] > 0).astype(float)
    assert abs(fit_normal(z * spread, hidden, fitted)[180]) > 0.9


def test_rare_classes_count_as_much_as_common_ones() -> None:
    classes, normal = np.array([0.0, 1.0] * 50 + [0.0] * 99 + [1.0]), np.array([1.0])
    fitted = np.arange(200) < 100
    share = held_out_accuracy(np.zeros((200, 1)), classes, fitted, normal)  # all on the side of the common class
    assert (share.value, share.chance, share.balanced) == (0.99, 0.99, 0.5)


def planted_codes(space: LatentSpace, noise: float = 0.3) -> tuple[LabelledCodes, Tensor, Tensor]:
    """600 w_plus codes; `a` and `b` are linear in them, their truths have cosine 0.6."""
    shape = (32,) if space is LatentSpace.W else (6, 32)
    a, c = (torch.nn.functional.normalize(random(*shape, seed=s).flatten(), dim=0).reshape(shape) for s in (5, 6))
    c = c - (a * c).sum() * a
    b = 0.6 * a + 0.8 * c / c.norm()
    codes = random(1500, 6, 32)
    labels = torch.stack([coordinates(codes, vector) for vector in (a, b)], 1)
    labels = labels / labels.std(0) + noise * random(1500, 2, seed=9)
    data = LabelledCodes((), ("a", "b"), codes, labels.float(), torch.arange(1500) % 5 == 0)
    return data, a, b


def test_conditional_projection_takes_the_other_attribute_away(tiny_weights: Weights) -> None:
    data, a, b = planted_codes(LatentSpace.W)
    alone = dataclasses.replace(data, attributes=("a",), values=data.values[:, :1])
    plain = fit_direction(tiny_weights, alone, "a").direction
    assert float((plain.vector * a).sum()) >= 0.95
    assert float((plain.vector * b).sum()) > 0.4
    both = fit_direction(tiny_weights, data, "a")
    assert abs(float((both.direction.vector * b).sum())) < 0.15
    assert float((both.direction.vector * a).sum()) > 0.6
    assert both.cosines["b"] == pytest.approx(0.6, abs=0.15)
    assert both.direction.notes["orthogonal to"] == ["b"]
    saved = fit_direction(tiny_weights, alone, "a", others={"b": b.double().numpy()}).direction
    assert abs(float((saved.vector * b).sum())) < 1e-4
    with pytest.raises(UsageError, match="almost the same direction as a"):
        fit_direction(tiny_weights, alone, "x", others={"a": plain.vector.double().numpy()})


def test_w_plus_and_layers(tiny_weights: Weights) -> None:
    data, a, _ = planted_codes(LatentSpace.W_PLUS, noise=0.0)
    alone = dataclasses.replace(data, attributes=("a",), values=data.values[:, :1])
    fit = fit_direction(tiny_weights, alone, "a", LatentSpace.W_PLUS).direction
    assert fit.vector.shape == (6, 32)
    assert float((fit.vector * a).sum()) > 0.9
    part = fit_direction(tiny_weights, alone, "a", LatentSpace.W_PLUS, LayerRange(1, 2)).direction
    assert part.vector[[0, 3, 4, 5]].abs().max() == 0
    assert part.layers == LayerRange(1, 2)


def test_projection_is_orthogonal_to_all() -> None:
    normal, *others = (v / v.norm() for v in random(4, 10, seed=2).double())
    rest = project_out(normal.numpy(), {str(i): v.numpy() for i, v in enumerate(others)})
    assert np.linalg.norm(rest) == pytest.approx(1.0)
    assert all(abs(rest @ v.numpy()) < 1e-10 for v in others)
    assert rest @ normal.numpy() > 0


def test_wilson_interval() -> None:
    # Newcombe 1998, table I: 81 of 263 gives 0.2553 to 0.3662, and 0 of 20 gives 0 to 0.1611.
    assert wilson_interval(81, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)
    assert wilson_interval(0, 20) == pytest.approx((0.0, 0.1611), abs=1e-4)
    assert wilson_interval(20, 20)[1] == 1.0


def test_classes_are_the_extremes_of_the_fitted_rows() -> None:
    fitted = np.array([True] * 8 + [False] * 3)
    values = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, np.nan, 0.0, 0.45, 9.0])
    expected = [0, 0, np.nan, np.nan, np.nan, 1, 1, np.nan, 0, np.nan, 1]
    np.testing.assert_array_equal(two_classes(values, fitted, 0.25), expected)
    binary = np.array([0, 1, np.nan, 1.0])
    np.testing.assert_array_equal(two_classes(binary, np.full(4, True)), binary)


def test_too_few_of_a_class() -> None:
    require_classes(np.repeat([0.0, 1.0], 10), "smile", "x.csv")
    with pytest.raises(LabelsError, match=r"'smile' of x.csv has 9 positive and 90 negative rows"):
        require_classes(np.repeat([0.0, 1.0], [90, 9]), "smile", "x.csv")
    with pytest.raises(LabelsError, match="no value"):
        require_classes(np.array([np.nan]), "smile", "x.csv")
    scores = np.linspace(0, 1, 30)
    with pytest.raises(LabelsError, match="8 positive and 8 negative .*top and bottom 25% of a score.*larger share"):
        require_classes(scores, "smile", "x.csv")
    require_classes(scores, "smile", "x.csv", 0.4)


@pytest.fixture
def photos(tmp_path: Path) -> tuple[Path, Path]:
    """A zip of 90 flat aligned images and a CSV: `bright` from 0 to 1, `dark` its opposite in words."""
    images, labels = tmp_path / "photos.zip", tmp_path / "labels.csv"
    rows = []
    with zipfile.ZipFile(images, "w") as archive:
        for i in range(90):
            data = io.BytesIO()
            level = (37 * i) % 90
            Image.new("RGB", (16, 16), (60 + level, 60 + level, 90)).save(data, "PNG")
            archive.writestr(f"{i}.png", data.getvalue())
            split = "train" if i < 70 else "val" if i < 85 else "test"
            rows.append((f"{i}.png", split, level / 89, "yes" if level < 45 else "no", 1, 3 if i in (0, 75) else ""))
    with labels.open("w", newline="") as file:
        csv.writer(file).writerows(
            [("file", "split", "bright", "dark", "same", "rare"), *rows, ("x.png", *rows[0][1:])]
        )
    return images, labels


def test_photos_are_inverted_once(
    editor: Editor, photos: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    images, labels = photos
    specs = [AttributeSpec.parse("dark=yes"), AttributeSpec("bright")]
    caplog.set_level("INFO", "stkit")
    data = labelled_photos(editor, load_labels(labels), images, specs, aligned=True)
    assert data.codes.shape == (85, 6, 32)
    assert int(data.val.sum()) == 15
    assert "1 rows of labels.csv have no photo in photos.zip" in caplog.text
    assert "5 photos are of other splits than train and val" in caplog.text
    inverter = editor.registry.inverter("style-transformer")
    monkeypatch.setattr(type(inverter), "invert", lambda *_: pytest.fail("inverted again"))
    again = labelled_photos(editor, load_labels(labels), images, specs[1:], aligned=True, limit=60)
    assert len(again.codes) == 60
    assert {tuple(code.flatten().tolist()) for code in again.codes} <= {tuple(c.flatten().tolist()) for c in data.codes}


def test_labels_mean_in_some_rows_what_they_mean_in_all(editor: Editor, photos: tuple[Path, Path]) -> None:
    """-1 is 0 where a column has 1 too, if only in rows that are not used."""
    splits = ["train"] * 70 + ["val"] * 15 + ["test"] * 5
    rows = [f"{i}.png,{split},{i % 2},{1 if split == 'test' else -1}" for i, split in enumerate(splits)]
    photos[1].write_text("\n".join(["file,split,half,sign", *rows]))
    specs = [AttributeSpec("half"), AttributeSpec("sign")]
    data = labelled_photos(editor, load_labels(photos[1]), photos[0], specs, aligned=True)
    assert len(data.values) == 85 and set(data.values[:, 1].tolist()) == {0.0}


def test_a_choice_of_photos_that_holds_out_none_is_refused(editor: Editor, photos: tuple[Path, Path]) -> None:
    rows = [f"{i}.png,{'val' if i == 89 else 'train'},{i % 2}" for i in range(90)]
    photos[1].write_text("\n".join(["file,split,half", *rows]))
    with pytest.raises(LabelsError, match="none of the 40 photos is held out to measure with; take more than 40"):
        labelled_photos(editor, load_labels(photos[1]), photos[0], [AttributeSpec("half")], aligned=True, limit=40)


def test_an_interrupted_inversion_goes_on(
    editor: Editor, photos: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    images, labels = photos
    inverter = editor.registry.inverter("style-transformer")
    plain, sizes = type(inverter).invert, []

    def invert(self: Any, crops: Tensor, *rest: Any) -> Any:
        sizes.append(len(crops))
        if len(sizes) == 3:
            raise KeyboardInterrupt
        return plain(self, crops, *rest)

    monkeypatch.setattr(type(inverter), "invert", invert)
    with pytest.raises(KeyboardInterrupt):
        labelled_photos(editor, load_labels(labels), images, [AttributeSpec("bright")], aligned=True)
    assert list(cache_folder().rglob("codes/**/*.safetensors"))
    labelled_photos(editor, load_labels(labels), images, [AttributeSpec("bright")], aligned=True)
    assert sum(sizes[3:]) == 85 - sum(sizes[:2])


def test_photos_go_through_the_domain(
    editor: Editor, portrait: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stkit.jobs.labelled.MIN_OF_A_CLASS", 2)
    folder = tmp_path / "photos"
    folder.mkdir()
    for i in range(6):
        with Image.open(portrait) as image:
            image.resize((200 + i, 240)).save(folder / f"{i}.png")
    Image.new("RGB", (60, 60)).save(folder / "nobody.png")
    table = tmp_path / "l.csv"
    rows = [f"{i}.png,{i % 2}" for i in range(6)]
    table.write_text("\n".join(["file,a", *rows, "nobody.png,1"]))
    data = labelled_photos(editor, load_labels(table), folder, [AttributeSpec("a")])
    assert "nobody.png" not in data.names
    assert len(data.names) == 6
    inversion = editor.invert(folder / "3.png")
    assert torch.allclose(data.codes[data.names.index("3.png")], inversion.latents.codes[0], atol=1e-4)


def test_the_command_line(editor: Editor, photos: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    images, labels = photos
    data = ("--labels", labels, "--images", images, "--aligned", "--weights", editor.weights.folder)
    said = run_stkit("fit-direction", *data, "--attribute", "dark=yes", "--name", "darkness")
    assert "held-out accuracy" in said
    assert "of 15 held-out rows" in said
    direction = load_direction(own_folder(editor.weights) / "direction-darkness.safetensors")
    assert direction.notes["labels"] == "labels.csv"
    assert direction.notes["positive"] == "yes"
    assert direction.notes["accuracy"] >= 0.8
    with pytest.raises(UsageError, match="--replace"):
        fit(editor, photos, "dark=yes", name="darkness")
    group.list_all(weights=str(editor.weights.folder))
    assert "darkness" in capsys.readouterr().out
    with pytest.raises(UsageError, match="^give --labels and --images, or --samples and --scorer$"):
        run_stkit("fit-direction", "--attribute", "dark", "--labels", labels)


def fit(editor: Editor, photos: tuple[Path, Path], attribute: str, **changes: Any) -> None:
    images, labels = photos
    weights = str(editor.weights.folder)
    given = {"labels": labels, "images": images, "aligned": True, "weights": weights, "device": "cpu", **changes}
    fit_command(attribute=attribute, **given)


def test_orthogonal_to_columns_and_saved_directions(editor: Editor, photos: tuple[Path, Path]) -> None:
    fit(editor, photos, "bright", name="saved")
    with pytest.raises(UsageError, match="almost the same direction as saved"):
        fit(editor, photos, "bright", orthogonal_to="saved", name="rest")
    with pytest.raises(UnknownNameError, match=r"named 'nothing'"):
        fit(editor, photos, "bright", orthogonal_to="nothing", name="rest")
    with pytest.raises(UsageError, match="is in w, and this fit in w_plus"):
        fit(editor, photos, "bright", orthogonal_to="saved", name="rest", space="w_plus")


@pytest.mark.parametrize(
    ("attribute", "changes", "error", "message"),
    [
        ("bright", {"space": "z"}, UsageError, "not w or w_plus"),
        ("bright", {"name": "../x"}, UsageError, "cannot name"),
        ("bright", {"layers": "2-9"}, UsageError, "layers 0-5"),
        ("bright", {"samples": 100, "scorer": "face-landmarks"}, UsageError, "--labels and --images, or"),
        ("dark=", {}, UsageError, "not like"),
        ("same", {}, LabelsError, "constant: 70 rows to fit, and it is 1 for all"),
        ("rare", {}, LabelsError, "constant: 1 rows to fit, and it is 3 for all"),
        ("brite", {}, UnknownNameError, "no column in labels.csv named 'brite'"),
    ],
)
def test_what_cannot_be_fitted(
    editor: Editor, photos: tuple[Path, Path], attribute: str, changes: dict[str, Any], error: type, message: str
) -> None:
    with pytest.raises(error, match=message):
        fit(editor, photos, attribute, **changes)
    assert not own_folder(editor.weights).exists()


def test_directions_travel(editor: Editor, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = editor.weights
    place: dict[str, Any] = {"weights": str(weights.folder)}
    vector = torch.nn.functional.normalize(random(1, 32), dim=1)
    np.save(tmp_path / "age.npy", vector.double().numpy())
    group.import_(tmp_path / "age.npy", layers="1-4", **place)
    found = find_direction(weights, "age")
    assert isinstance(found, Direction)
    assert torch.allclose(found.vector, vector[0], atol=1e-6)
    assert found.unit == pytest.approx(float((sample_w(weights, 10_000) @ vector[0]).std()), rel=1e-4)
    assert found.layers == LayerRange(1, 4)
    group.show("age", **place)
    assert "imported from age.npy" in capsys.readouterr().out
    with pytest.raises(UsageError, match="--replace"):
        group.import_(tmp_path / "age.npy", **place)
    for suffix in (".npy", ".pt", ".safetensors"):
        file = tmp_path / f"out{suffix}"
        group.export("age", file, **place)
        group.import_(file, name=f"back{suffix[1:]}", **place)
        back = find_direction(weights, f"back{suffix[1:]}")
        assert back is not None
        assert torch.allclose(back.vector, found.vector, atol=1e-6)
        with pytest.raises(UsageError, match="exists"):
            group.export("age", file, **place)
    safetensors.torch.save_file({"direction": vector}, tmp_path / "another.safetensors", {"format": "pt"})
    group.import_(tmp_path / "another.safetensors", layers="1-4", **place)
    another = find_direction(weights, "another")
    assert another is not None and torch.allclose(another.vector, found.vector, atol=1e-6)
    group.remove("age", **place)
    assert find_direction(weights, "age") is None
    with pytest.raises(UnknownNameError, match="no direction named 'age'"):
        group.remove("age", **place)
    with pytest.raises(UnknownNameError):
        group.show("age", **place)


def test_imports_are_held_against_the_weights(editor: Editor, tmp_path: Path) -> None:
    place: dict[str, Any] = {"weights": str(editor.weights.folder)}
    np.save(tmp_path / "wide.npy", np.ones((1, 512)))
    with pytest.raises(WeightsError, match="width 512, but weights 'tiny' have 6 layers of width 32"):
        group.import_(tmp_path / "wide.npy", **place)
    np.save(tmp_path / "deep.npy", np.ones((18, 32)))
    with pytest.raises(WeightsError, match="18 layers of width 32"):
        group.import_(tmp_path / "deep.npy", **place)
    torch.save({"comp": random(7, 1, 32), "mean": random(1, 32), "std": random(7)}, tmp_path / "pca.pt")
    with pytest.raises(UsageError, match="holds 7 directions; choose one with --component"):
        group.import_(tmp_path / "pca.pt", **place)
    with pytest.raises(UsageError, match="no --component 8"):
        group.import_(tmp_path / "pca.pt", component=8, **place)
    group.import_(tmp_path / "pca.pt", component=7, **place)
    assert find_direction(editor.weights, "pca-7") is not None
    with pytest.raises(UsageError, match="there is no file"):
        group.import_(tmp_path / "none.npy", **place)
