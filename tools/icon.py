"""The icon of the extension and of the task: two branches of one road, drawn with nothing but zlib."""

from __future__ import annotations

import struct
import zlib

BLUE, WHITE, YELLOW = (0x1B, 0x4F, 0x9C), (0xFF, 0xFF, 0xFF), (0xFF, 0xD2, 0x4A)
# In units of the side: the road that goes on, and the one that leaves it and is the canary's.
ROAD = ((0.30, 0.15, 0.30, 0.85), WHITE)
CANARY = ((0.30, 0.70, 0.70, 0.30), YELLOW)
STOPS = ((0.30, 0.17, WHITE), (0.30, 0.83, WHITE), (0.70, 0.30, YELLOW))
WIDTH, RADIUS = 0.05, 0.11
SAMPLES = (0.25, 0.75)


def icon(side: int) -> bytes:
    """A PNG of `side` pixels each way."""
    rows = []
    for y in range(side):
        pixels = (_smooth(x, y, side) for x in range(side))
        rows.append(b"\0" + b"".join(bytes(pixel) for pixel in pixels))
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    body = _chunk(b"IHDR", header) + _chunk(b"IDAT", zlib.compress(b"".join(rows), 9)) + _chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _smooth(x: int, y: int, side: int) -> tuple[int, ...]:
    """The mean of a few points of one pixel, so that slopes have no steps."""
    found = [_colour((x + dx) / side, (y + dy) / side) for dx in SAMPLES for dy in SAMPLES]
    return tuple(sum(part) // len(found) for part in zip(*found, strict=True))


def _colour(x: float, y: float) -> tuple[int, int, int]:
    for px, py, colour in STOPS:
        if (x - px) ** 2 + (y - py) ** 2 < RADIUS**2:
            return colour
    for line, colour in (ROAD, CANARY):
        if _distance(x, y, *line) < WIDTH:
            return colour
    return BLUE


def _distance(x: float, y: float, ax: float, ay: float, bx: float, by: float) -> float:
    """From a point to a piece of a line."""
    length = (bx - ax) ** 2 + (by - ay) ** 2
    along = max(0.0, min(1.0, ((x - ax) * (bx - ax) + (y - ay) * (by - ay)) / length))
    return float(((x - ax - along * (bx - ax)) ** 2 + (y - ay - along * (by - ay)) ** 2) ** 0.5)
