"""The slow work: thumbnails of a picture, made by a worker."""

import os
from pathlib import Path

from PIL import Image, ImageOps, UnidentifiedImageError

from alligator import Gator, current_task

FOLDER = Path(
    os.environ.get("THUMBNAILS_FOLDER") or Path(__file__).resolve().parent.parent / "data"
)
UPLOADS, THUMBNAILS = FOLDER / "uploads", FOLDER / "thumbnails"
for each in (UPLOADS, THUMBNAILS):
    each.mkdir(parents=True, exist_ok=True)

#: The longer side of each thumbnail, in pixels.
SIZES = (1024, 256, 64)

gator = Gator(os.environ.get("THUMBNAILS_QUEUE") or f"sqlite://{FOLDER}/queue.db")

#: What is no picture stays none; a full disk may be empty again when it is tried next.
OPTIONS = {
    "timeout": 60,
    "save_results": 86_400,
    "retries": 2,
    "retry_delay": 5,
    "give_up_on": [UnidentifiedImageError, Image.DecompressionBombError],
}


def make_thumbnails(name: str) -> list[str]:
    """Make all sizes of an upload, and return the names of their files.

    It may run twice: each file is replaced as a whole, so no visitor sees half of one.
    """
    task, made = current_task(), []
    with Image.open(UPLOADS / name) as image:
        picture = ImageOps.exif_transpose(image).convert("RGB")
    for number, size in enumerate(SIZES):
        task.progress(number / len(SIZES), f"{size} pixels")
        picture.thumbnail((size, size))
        target = THUMBNAILS / f"{name}-{size}.jpg"
        partial = target.with_suffix(".partial")
        picture.save(partial, "JPEG", quality=85)
        partial.replace(target)
        made.append(target.name)
    return made
