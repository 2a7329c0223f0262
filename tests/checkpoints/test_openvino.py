"""OpenVINO's IR: wheels, folders and pairs of files, read strictly; files that are damaged or made to harm."""

from __future__ import annotations

import contextlib
import re
import struct
import time
import zipfile
from pathlib import Path
from random import Random

import pytest
import torch

from stkit.checkpoints.importing import import_weights
from stkit.checkpoints.reading import read_checkpoint
from stkit.checkpoints.recognise import open_checkpoint
from stkit.errors import WeightsError
from stkit.models.registry import load_generator
from stkit.weights import verify_weights
from tests.checkpoints.ir import Writer, make_student, write_folder, write_mapping, write_synthesis, write_wheel


@pytest.fixture(scope="module")
def networks() -> tuple[Writer, Writer]:
    return write_mapping(make_student()), write_synthesis(make_student())


@pytest.fixture
def folder(networks: tuple[Writer, Writer], tmp_path: Path) -> Path:
    return write_folder(tmp_path / "ir", *networks)


def refusal(path: Path) -> str:
    """The line that opening `path` ends with, which takes less than a second."""
    start = time.process_time()
    with pytest.raises(WeightsError) as caught:
        open_checkpoint(path)
    assert time.process_time() - start < 1
    line = str(caught.value)
    assert "\n" not in line and str(path) in line and len(line) < 500
    return line


def test_folders_pairs_and_wheels_give_the_generator(folder: Path, networks: tuple[Writer, Writer]) -> None:
    wheel = write_wheel(folder.parent / "x.whl", *networks)
    state = make_student().state_dict()
    sources = (folder, folder / "SynthesisNetwork.xml", folder / "MappingNetwork.xml", wheel)
    prints = []
    for i, path in enumerate(sources):
        weights = import_weights(path, f"student{i}")
        generator = load_generator(weights)
        for name, value in generator.state_dict().items():
            if name != "w_avg":
                torch.testing.assert_close(value, state[name], rtol=1e-5, atol=1e-6)
        assert (weights.resolution, weights.num_ws, weights.header.architecture) == (32, 8, "mobile-stylegan")
        assert set(verify_weights(weights).values()) == {"ok"}
        prints.append(weights.fingerprint)
    assert len(set(prints)) == 1
    z = torch.randn(4000, 16, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(generator.w_avg, generator.mapping(z).mean(0), rtol=0.1, atol=0.1)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"slope": 0.1}, "the activation's slope of MappingNetwork is not 0.2"),
        ({"epsilon": 1e-5}, "the pixel norm of MappingNetwork"),
        ({"scale": 1.1}, "the scale of a style of SynthesisNetwork"),
        ({"root": 0.5}, "a Haar filter of SynthesisNetwork"),
        ({"swap": True}, "Haar bands in another order"),
        ({"extra": True}, "SynthesisNetwork has 1 constants too many: more"),
    ],
)
def test_networks_that_compute_something_else_are_refused(
    change: dict[str, float], said: str, networks: tuple[Writer, Writer], tmp_path: Path
) -> None:
    mapping, synthesis = networks
    if change.keys() & {"slope", "epsilon"}:
        mapping = write_mapping(make_student(), **change)
    else:
        synthesis = write_synthesis(make_student(), **change)  # type: ignore[arg-type]
    assert said in refusal(write_folder(tmp_path / "other", mapping, synthesis))


@pytest.mark.parametrize("number", [float("inf"), float("nan")])
@pytest.mark.parametrize("name", ["mapping.layers.0.weight", "mapping.layers.1.bias", "noise"])
def test_numbers_that_are_none(name: str, number: float, tmp_path: Path) -> None:
    student = make_student()
    with torch.no_grad():
        value = next(value for key, value in student.state_dict().items() if name in key and value.ndim)
        value.flatten()[0] = number
        value.flatten()[-1] = -number
    path = write_folder(tmp_path / "other", write_mapping(student), write_synthesis(student))
    with pytest.raises(WeightsError, match="not finite numbers"):
        import_weights(path, "other")


@pytest.mark.parametrize("place", [0, 1])
def test_a_graph_that_goes_in_a_circle(place: int, networks: tuple[Writer, Writer], tmp_path: Path) -> None:
    """The last layer, or block, takes what comes out of itself."""
    network = networks[place]
    path = write_folder(tmp_path / "ir", *networks) / f"{network.name}.xml"
    active = re.findall(r'<layer id="(\d+)" name="PReLU', network.xml())
    before, after = (int(active[0]) + 2, int(active[1]) + 2) if place == 0 else (int(active[-3]), int(active[-1]))
    assert f'from-layer="{before}" from-port="2"' in network.xml()
    path.write_text(network.xml().replace(f'from-layer="{before}" from-port', f'from-layer="{after}" from-port'))
    assert "goes in a circle" in refusal(path.parent)


def test_random_damage_ends_in_one_line_or_none(networks: tuple[Writer, Writer], tmp_path: Path) -> None:
    random = Random(0)
    folder = write_folder(tmp_path / "ir", *networks)
    for _ in range(150):
        network = random.choice(networks)
        data = bytearray(network.xml().encode())
        for _ in range(random.randrange(1, 4)):
            at = random.randrange(len(data))
            data[at : at + random.randrange(3)] = bytes(random.choice(b'<>"/=0123456789 azPM') for _ in range(2))
        path = folder / f"{network.name}.xml"
        path.write_bytes(data)
        with contextlib.suppress(WeightsError):
            open_checkpoint(folder)[1].parts[0].convert()
        path.write_text(network.xml())


def test_half_a_pair_is_told(folder: Path) -> None:
    (folder / "MappingNetwork.bin").unlink()
    assert "there is no MappingNetwork.xml with its .bin" in refusal(folder)
    assert "there is no MappingNetwork.bin beside" in refusal(folder / "MappingNetwork.xml")
    assert "a folder without an OpenVINO network" in refusal(folder.parent)
    with pytest.raises(WeightsError, match=r"cannot read \S+none.xml: No such file"):
        read_checkpoint(folder / "none.xml")


def test_graphs_of_other_models_are_unknown(tmp_path: Path) -> None:
    other = Writer("detector")
    other.add("Result", other.const([1.0]))
    assert "is no checkpoint that stkit knows (its keys: detector)" in refusal(write_folder(tmp_path / "o", other))


XML = {
    "a document type": ("<net ", "<!DOCTYPE net><net "),
    "entities": ("<net ", '<!DOCTYPE net [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><net '),
    "an external entity": ("<net ", '<!DOCTYPE net [<!ENTITY x SYSTEM "file:///etc/passwd">]><net '),
    "a number": ('size="4"', 'size="-4"'),
    "a huge number": ('size="4"', f'size="{"9" * 5000}"'),
    "an offset outside": ('offset="0"', 'offset="99999999"'),
    "a size": ('size="4"', 'size="8"'),
    "a giant shape": ('shape="16, 16"', 'shape="16, 999999999999"'),
    "many dimensions": ('shape="16, 16"', f'shape="16, 16{", 1" * 5000}"'),
    "a type": ('element_type="f32" shape="16', 'element_type="u1" shape="16'),
    "a layer twice": ('name="ReduceMean_4"', 'name="Power_2"'),
    "a number twice": ('<layer id="2"', '<layer id="1"'),
    "an edge to nowhere": ('to-layer="2"', 'to-layer="222"'),
    "an edge twice": ('to-layer="2" to-port="1"', 'to-layer="2" to-port="0"'),
    "a web page": ("<net ", "<html><net "),
    "an end": ("</edges>", ""),
    "depth": ("<meta_data/>", "<m>" * 10_000),
    "nothing": ("<layer ", "<lair "),
}


@pytest.mark.parametrize("name", XML)
def test_xml_that_is_wrong_or_made_to_harm_is_one_line(name: str, folder: Path) -> None:
    path = folder / "MappingNetwork.xml"
    text = path.read_text()
    assert XML[name][0] in text
    path.write_text(text.replace(*XML[name], 1 if name != "nothing" else -1))
    line = refusal(path)
    if "entit" in name or "document" in name:
        assert "declares a document type or entities" in line


def test_xml_of_other_encodings_and_sizes(folder: Path) -> None:
    path = folder / "MappingNetwork.xml"
    text = path.read_text()
    hidden = text.replace("<net ", "<!DOCTYPE net><net ")
    path.write_bytes(hidden.encode("utf-16"))
    assert "is not UTF-8" in refusal(path)
    path.write_bytes(hidden.replace('"1.0"', '"1.0" encoding="utf-7"').replace("<!D", "+ADwAIQ-D").encode())
    refusal(path)
    path.write_text(text + " " * 2**22)
    assert "takes more than 4,194,304 bytes" in refusal(path)
    path.write_bytes(text.encode("utf-8-sig"))
    open_checkpoint(path)


def test_wheels_that_are_made_to_harm(networks: tuple[Writer, Writer], tmp_path: Path) -> None:
    path = tmp_path / "x.whl"
    mapping, _ = networks
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/MappingNetwork.xml", mapping.xml())
        archive.writestr("a/MappingNetwork.bin", bytes(2**28))
    assert "would unpack to 268,435,456 bytes" in refusal(path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/MappingNetwork.xml", mapping.xml() + " " * 2**27)
        archive.writestr("a/MappingNetwork.bin", b"1")
    assert "takes more than" in refusal(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("../MappingNetwork.xml", mapping.xml())
        archive.writestr("../MappingNetwork.bin", bytes(mapping.numbers))
    assert "leads out of it" in refusal(path)
    with zipfile.ZipFile(path, "w") as archive, pytest.warns(UserWarning, match="Duplicate"):
        for _ in range(2):
            archive.writestr("MappingNetwork.xml", mapping.xml())
            archive.writestr("MappingNetwork.bin", bytes(mapping.numbers))
    assert "two files of one name" in refusal(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.txt", "")
    assert "without an OpenVINO network" in refusal(path)


def test_damaged_wheels(networks: tuple[Writer, Writer], tmp_path: Path) -> None:
    whole = write_wheel(tmp_path / "x.whl", *networks).read_bytes()
    path = tmp_path / "y.whl"
    for size in (0, 3, 30, 1000, len(whole) // 2, len(whole) - 30):
        path.write_bytes(whole[:size])
        refusal(path)
    numbers = re.search(rb"SynthesisNetwork\.bin", whole)
    assert numbers is not None
    at = numbers.end() + 5000
    path.write_bytes(whole[:at] + bytes(64) + whole[at + 64 :])
    assert "damaged" in refusal(path)
    end = whole.rindex(b"PK\5\6")
    path.write_bytes(whole[: end + 12] + struct.pack("<L", 2**30) + whole[end + 16 :])
    assert "list of files is longer" in refusal(path)
