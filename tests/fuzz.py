"""Real files, damaged at random, through the functions that commands use; `python -m tests.fuzz SECONDS` goes on."""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import io
import os
import random
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from stkit.checkpoints.codes import read_codes
from stkit.checkpoints.directions import read_directions
from stkit.checkpoints.recognise import open_checkpoint
from stkit.datasets.images import ImageFiles
from stkit.datasets.labels import load_labels
from stkit.errors import MissingPackageError, StkitError
from stkit.latents.directions import Direction, load_direction, save_direction
from stkit.latents.latents import Provenance, load_latents, save_latents
from stkit.latents.table import Codes, encode_table
from stkit.options import LatentSpace
from stkit.parquet import import_pyarrow
from stkit.photo.archives import open_archive, read_member
from stkit.photo.reading import knows_heif, load_photo
from stkit.photo.subjects import read_landmarks
from stkit.testing import random_latents
from stkit.weights import Weights, find_weights
from tests.bombs import PICKLES, as_pickle
from tests.checkpoints.ir import make_student, write_folder, write_mapping, write_synthesis
from tests.checkpoints.writers import make_generator, write_nvidia, write_rosinality, write_tf

Read = Callable[[Path], object]

SLOW = 5  # seconds of the processor
HEAVY = 10**9  # bytes beyond the file's own size


def seeds(folder: Path, weights: Weights) -> dict[Path, Read]:
    """Files as they should be, small ones, each with what reads it."""
    generator = make_generator()
    found: dict[Path, Read] = {}

    def add(name: str, read: Read, data: bytes | None = None) -> Path:
        path = folder / name
        if data is not None:
            path.write_bytes(data)
        found[path] = read
        return path

    write_rosinality(add("rosinality.pt", convert), generator)
    write_nvidia(add("nvidia.pkl", convert), generator)
    write_tf(add("tf.pkl", convert), generator)
    for name, body in PICKLES.items():
        if len(data := as_pickle(body())) < 50_000:
            add(f"{name}.pkl", convert, data)
    torch.save({"comp": torch.randn(3, 1, 32), "std": torch.ones(3)}, add("ganspace.pt", read_directions))
    np.save(add("boundary.npy", read_directions), np.ones((1, 32)))
    np.savez(add("codes.npz", lambda path: read_codes(path, weights)), w=np.zeros((1, weights.num_ws, weights.w_dim)))
    vector = torch.nn.functional.normalize(torch.ones(weights.w_dim), dim=0)
    direction = Direction("smile", "planted", vector, LatentSpace.W, weights.fingerprint, 0.5, (-3.0, 3.0))
    save_direction(add("direction-smile.safetensors", load_direction), direction, weights)
    save_latents(random_latents(weights, 2), add("a.latents.safetensors", load_latents))
    (folder / "weights").mkdir()
    add("weights/generator.safetensors", lambda path: find_weights(str(path.parent)),
        weights.path("generator").read_bytes())  # fmt: skip
    add("labels.csv", load_labels, b"file,smile,split\na.jpg,1,train\nb.jpg,0,val\n")
    add("list_attr_celeba.txt", load_labels, b"2\nsmile young\na.jpg 1 -1\nb.jpg -1 1\n")
    add("metadata.jsonl", load_labels, b'{"file_name": "a.jpg", "smile": 1}\n{"file_name": "b.jpg", "smile": 0}\n')
    add("dataset.json", load_labels, b'{"labels": [["a.jpg", 1], ["b.jpg", 0]]}')
    add("landmarks.json", read_landmarks, b"[[10, 20], [30, 20], [15, 40], [25, 40]]")
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (48, 48, 3), np.uint8))
    for suffix, options in (("jpg", {}), ("png", {}), ("webp", {}), ("tif", {"compression": "tiff_lzw"}), ("gif", {})):
        image.save(add(f"photo.{suffix}", load_photo), **options)
    if knows_heif():
        image.save(add("photo.heic", load_photo), quality=50)
    student = make_student()
    networks = write_folder(folder / "ir", write_mapping(student), write_synthesis(student))
    for path in sorted(networks.iterdir()):
        add(f"ir/{path.name}", lambda _: convert(networks))
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("a/x.jpg", "b.jpg"):
            archive.writestr(name, (folder / "photo.jpg").read_bytes())
    add("photos.zip", read_archive, packed.getvalue())
    with contextlib.suppress(MissingPackageError):
        add("photos.parquet", read_archive, image_shard((folder / "photo.jpg").read_bytes()))
        add("labelled.parquet", load_labels, image_shard(b"photo"))
        told = [dataclasses.asdict(Provenance(photo="a.jpg"))]
        codes = [Codes(np.zeros((1, weights.num_ws, weights.w_dim), np.float32), told)]
        facts = {"generator": weights.space, "space": "w_plus", "settings": {}}
        add("a.latents.parquet", load_latents, encode_table([{"photo": "a.jpg"}], codes, facts))
    return found


def image_shard(photo: bytes) -> bytes:
    """Three photos as data sets keep them, in row groups of two."""
    pa, pq = import_pyarrow()
    data = io.BytesIO()
    values = [{"bytes": photo, "path": f"{row}.jpg"} for row in range(3)]
    pq.write_table(pa.table({"image": values, "label": [0, 1, 1]}), data, row_group_size=2)
    return data.getvalue()


def convert(path: Path) -> None:
    """What `weights inspect` and `import` read."""
    for part in open_checkpoint(path)[1].parts:
        part.convert()


def read_archive(path: Path) -> None:
    """What `train` and `invert` read."""
    problems: list[StkitError] = []
    files = ImageFiles(path)
    for name in files.names:
        try:
            files.read(name)
        except StkitError as error:
            problems.append(error)
    for member in open_archive(path).members:
        read_member(path, member)


def mutate(data: bytes, chance: random.Random) -> bytes:
    """`data` with some bytes changed, cut out, put in twice, or numbers in it made large."""
    changed = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 4, 16))):
        place = (
            chance.randrange(len(changed) + 1)
            if chance.random() < 0.5
            else chance.randrange(min(len(changed), 600) + 1)
        )
        length = chance.choice((1, 1, 2, 4, 8, 64))
        match chance.randrange(6):
            case 0 if place < len(changed):
                changed[place] ^= 1 << chance.randrange(8)
            case 1:
                changed[place : place + length] = chance.randbytes(length)
            case 2:
                del changed[place : place + length]
            case 3:
                changed[place:place] = changed[place : place + length] * chance.choice((1, 2, 50))
            case 4:
                changed[place : place + length] = (
                    chance.choice((b"\xff", b"\x00", b"\x7f", b"9", b"[", b"(", b"}")) * length
                )
            case 5 if chance.random() < 0.2:
                del changed[place:]
    return bytes(changed)


def attempt(path: Path, read: Read, data: bytes) -> str:
    """What is wrong with how `read` takes `data` at `path`; nothing when it reads it, or says what is wrong with it."""
    original = path.read_bytes()
    path.write_bytes(data)
    before = start_of_peak()
    start = time.process_time()
    try:
        read(path)
    except StkitError as error:
        if "\n" in str(error):
            return f"several lines: {str(error)[:200]!r}"
    except Exception as error:
        return f"{type(error).__name__}: {str(error)[:200]}"
    finally:
        path.write_bytes(original)
    took, grown = time.process_time() - start, peak() - before - len(data)
    if grown > HEAVY:
        return f"{grown / 1e6:.0f} MB"
    return f"{took:.1f} seconds" if took > SLOW else ""


def start_of_peak() -> int:
    """Bytes in memory, from which on `peak` counts.

    What the C library keeps of freed memory goes back to the system first: what is taken from it would not count.
    """
    with contextlib.suppress(OSError, AttributeError):  # the trim is glibc's
        ctypes.CDLL(None).malloc_trim(0)
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return peak()


def peak() -> int:
    """The most bytes in memory since `start_of_peak`; 0 where the system does not tell."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return 0
    return 1024 * int(status.partition("VmHWM:")[2].split()[0])


def main(seconds: float, seed: int) -> int:
    """Go on for so many seconds; what fails is kept in out/fuzz, and counted."""
    from stkit.testing import make_tiny_weights

    chance, failed, kept = random.Random(seed), set[str](), Path("out/fuzz")
    end = time.monotonic() + seconds
    with tempfile.TemporaryDirectory() as work:
        os.environ["STKIT_HOME"] = f"{work}/home"
        found = list(seeds(Path(work), make_tiny_weights(Path(work) / "tiny")).items())
        count = 0
        while time.monotonic() < end:
            path, read = chance.choice(found)
            data = mutate(path.read_bytes(), chance)
            wrong, count = attempt(path, read, data), count + 1
            if wrong and wrong not in failed:
                failed.add(wrong)
                kept.mkdir(parents=True, exist_ok=True)
                (kept / f"{len(failed)}-{path.name}").write_bytes(data)
                print(f"{path.name}: {wrong}", flush=True)
    print(f"{count} files, {len(failed)} kinds of failure{f', kept in {kept}' if failed else ''}")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0))
