"""The run as a picture: an SVG of a terminal, drawn by rich from the lines that were shown."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

from demo.screen import Line, Look

WIDTH = 104
STYLES = {
    Look.PLAIN: "",
    Look.TITLE: "bold",
    Look.FAINT: "dim",
    Look.GOOD: "bold green",
    Look.BAD: "bold red",
    Look.LIVE: "cyan",
}
# rich's own template without the web fonts: a picture inside a page may not load them.
TEMPLATE = """\
<svg class="rich-terminal" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<style>
.{unique_id}-matrix {{ font-family: ui-monospace, Menlo, Consolas, 'DejaVu Sans Mono', monospace;
  font-size: {char_height}px; line-height: {line_height}px; font-variant-east-asian: full-width; }}
.{unique_id}-title {{ font-size: 18px; font-weight: bold; font-family: sans-serif; }}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal"><rect x="0" y="0" width="{terminal_width}" height="{terminal_height}"/></clipPath>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""


def write(path: Path, lines: Sequence[Line]) -> None:
    """Draw the lines; what does not fit the width is cut."""
    console = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    for line in lines:
        console.print(Text(line.text, style=STYLES[line.look]), no_wrap=True, overflow="ellipsis", crop=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = console.export_svg(title="make demo", theme=MONOKAI, code_format=TEMPLATE, unique_id="demo")
    path.write_text("\n".join(line.rstrip() for line in picture.splitlines()) + "\n", encoding="utf-8")
