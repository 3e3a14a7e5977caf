"""A Mandelbrot picture in tiles: `mandelbrot.py tile N` renders one, `mandelbrot.py join` makes one PNG of them.

Only the standard library, so that it runs everywhere.
"""

import struct
import sys
import zlib
from pathlib import Path

TILES = 25  # per side
TILE = 24  # pixels per side of a tile
ITERATIONS = 80
LEFT, TOP, WIDTH = -2.2, 1.5, 3.0
TILES_FOLDER = Path("tiles")


def tile(number: int) -> None:
    """Render one tile as rows of grey values."""
    row, column = divmod(number, TILES)
    step = WIDTH / (TILES * TILE)
    pixels = bytearray()
    for y in range(row * TILE, (row + 1) * TILE):
        for x in range(column * TILE, (column + 1) * TILE):
            pixels.append(escape(complex(LEFT + x * step, TOP - y * step)))
    TILES_FOLDER.mkdir(exist_ok=True)
    (TILES_FOLDER / f"{number}.grey").write_bytes(pixels)


def escape(c: complex) -> int:
    z = 0j
    for count in range(ITERATIONS):
        z = z * z + c
        if abs(z) > 2:
            return 255 - count * 255 // ITERATIONS
    return 0


def join() -> None:
    """Put all tiles together into mandelbrot.png (grey, 8 bits)."""
    side = TILES * TILE
    tiles = [(TILES_FOLDER / f"{number}.grey").read_bytes() for number in range(TILES * TILES)]
    rows = bytearray()
    for y in range(side):
        rows.append(0)  # filter type of the row: none
        for column in range(TILES):
            start = (y % TILE) * TILE
            rows += tiles[(y // TILE) * TILES + column][start : start + TILE]
    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(bytes(rows))), (b"IEND", b"")]
    with open("mandelbrot.png", "wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n")
        for kind, data in chunks:
            file.write(struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)))


if __name__ == "__main__":
    if sys.argv[1] == "tile":
        tile(int(sys.argv[2]))
    else:
        join()
