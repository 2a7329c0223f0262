"""`stkit faces`: a domain's subjects in a photo, numbered as `--face` takes them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stkit.cli.common import OutFlag, OverwriteFlag, console, waiting
from stkit.cli.seeing import ShowFlag, show_images
from stkit.contracts.domains import DEFAULT_DOMAIN
from stkit.plugins import load_plugins

COMMAND = "faces"


def run(
    photo: Annotated[Path, typer.Argument(help="A photo.")],
    domain: Annotated[str, typer.Option("--domain", help="What to look for; see `stkit domains`.")] = DEFAULT_DOMAIN,
    out: OutFlag = Path("out"),
    overwrite: OverwriteFlag = False,
    show: ShowFlag = False,
) -> None:
    """Number the faces (or the domain's other subjects) in a photo, largest first; draw them to OUT/PHOTO/."""
    import time

    from stkit.errors import SubjectError
    from stkit.files import write_all
    from stkit.jobs.outputs import photo_base
    from stkit.photo.images import encode_image
    from stkit.photo.reading import load_photo
    from stkit.photo.subjects import draw_subjects

    chosen = load_plugins().domain(domain)
    loaded = load_photo(photo)
    started = time.monotonic()
    with waiting(f"looking for {chosen.noun}s"):
        subjects = chosen.locate(loaded.image)
    seconds = time.monotonic() - started
    if not subjects:
        raise SubjectError(f"no {chosen.noun} found in {photo}; say where it is with `stkit edit --box x,y,w,h`")
    base = photo_base(out, photo, loaded.sha256, overwrite)
    path = base.with_name(f"{base.name}.{chosen.noun}s.jpg")
    picture = draw_subjects(loaded.image, subjects)
    write_all({path: encode_image(picture, path)}, overwrite)
    for number, subject in enumerate(subjects, 1):
        left, top, right, bottom = (round(x) for x in subject.box)
        notes = "; ".join(subject.problems) or "ok"
        place = f"{left},{top},{right - left},{bottom - top}"
        seen = f" ({subject.detector}, score {subject.score:.2f})" if subject.detector else ""
        console.print(f"{chosen.noun} {number}: box {place}{seen}: {notes}")
    console.print(f"searched for {seconds:.1f} s")
    console.print(str(path))
    if show:
        show_images([path])


__all__ = ["COMMAND", "run"]
