"""A process that decodes chunks of images: numbers of chunks on stdin, their records on stdout."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np

from ..common import DamagedError
from .decoded_file import ChunkRecord, DecodedFile
from .image_split import ImageSettings
from .stored_images import StoredImages


def decode_chunk(images: StoredImages, file: DecodedFile, chunk: int) -> ChunkRecord:
    """Decode the images of a chunk into the file.

    Raises:
        OSError: the file cannot be written.
    """
    rows = file.rows(chunk)
    pixels = np.zeros((len(rows), *images.settings.shape), np.uint8)
    bad = []
    for place, row in enumerate(rows):
        try:
            pixels[place] = images.load(row)
        except DamagedError as error:
            bad.append((row, error.message, error.hint))
    return ChunkRecord(chunk, file.write(chunk, pixels), tuple(bad))


def main() -> None:
    """Answer until stdin ends, as it does when the process that asks has died.

    The first lines are the settings, the rows of a chunk and the folder; then each is the number of a chunk. An answer
    is the record of a chunk, or ``errno NUMBER`` where the file cannot be written.
    """
    images = StoredImages(ImageSettings.from_json(sys.stdin.readline()))
    step, folder = int(sys.stdin.readline()), Path(sys.stdin.readline().rstrip("\n"))
    file = DecodedFile(folder, len(images), images.settings.shape, step)
    for line in iter(sys.stdin.readline, ""):
        try:
            answer = decode_chunk(images, file, int(line)).to_json()
        except OSError as error:
            answer = f"errno {error.errno}"
        sys.stdout.write(f"{answer}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    try:
        main()
    except BrokenPipeError:  # nobody asks any more
        os._exit(0)  # closing stdout would fail as well
