"""Draws docs/architecture.svg from the table of steps in docs/architecture.md.

Run it after a change of the table: python docs/draw_architecture.py
"""

import re
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

PAGE = Path(__file__).with_name("architecture.md")
PICTURE = Path(__file__).with_name("architecture.svg")
WIDTH, ROW, TOP, BOX = 1000, 46, 60, 300
COLOURS = ("#fde8d7", "#e3eefb", "#e6f4e6", "#f3e8f7", "#fdf3cf")


@dataclass(frozen=True)
class Step:
    """A row of the table."""

    number: str
    thread: str
    """Which process or thread runs it."""
    function: str
    file: str
    """Relative to `streamtag/`."""
    text: str


def steps() -> list[Step]:
    """The rows of the table, in order."""
    row = r"^\| (\d+) \| ([^|]+?) \| `([^`]+)` \| `([^`]+)` \| ([^|]+?) \|$"
    return [Step(*found) for found in re.findall(row, PAGE.read_text(encoding="utf-8"), re.M)]


def text(x: int, y: int, words: str, style: str) -> str:
    return f'<text x="{x}" y="{y}" {style}>{escape(words)}</text>'


def draw() -> str:
    """The picture as SVG: one row a step, one colour a thread."""
    rows = steps()
    threads = list(dict.fromkeys(step.thread for step in rows))
    height = TOP + ROW * len(rows) + 20
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        'font-family="sans-serif" font-size="14">',
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
        text(20, 34, "The way of a block of audio, from ffmpeg to the socket", 'font-size="20"'),
    ]
    for i, step in enumerate(rows):
        y = TOP + ROW * i
        colour = COLOURS[threads.index(step.thread) % len(COLOURS)]
        first = i == 0 or rows[i - 1].thread != step.thread
        parts += [
            f'<rect x="10" y="{y}" width="{WIDTH - 20}" height="{ROW}" fill="{colour}"/>',
            f'<rect x="190" y="{y + 7}" width="{BOX}" height="{ROW - 14}" rx="6" '
            'fill="white" stroke="#555"/>',
            text(200, y + 28, f"{step.number}  {step.function}", 'font-family="monospace"'),
            text(190 + BOX + 20, y + 20, step.text, ""),
            text(190 + BOX + 20, y + 38, step.file, 'fill="#666" font-size="12"'),
        ]
        if first:
            parts.append(text(20, y + 28, step.thread, 'font-weight="bold"'))
        if i:
            parts.append(f'<path d="M340 {y - 7} v12" stroke="#555" stroke-width="2"/>')
    return "\n".join([*parts, "</svg>", ""])


if __name__ == "__main__":
    PICTURE.write_text(draw(), encoding="utf-8")
