#!/usr/bin/env python3
"""Draws block_flow.svg, packed_weights.svg and softmax_codes.svg beside this file: pictures.py [--check]

With --check it writes nothing, and fails if a file differs."""

import math
import pathlib
import sys

OPERATION, TENSOR, SUM, EMPTY = "#dbe7f5", "#fdf0d5", "#e3f1e3", "#f2f2f2"


class Picture:
    def __init__(self, width, height, title):
        self.size, self.title, self.parts = (width, height), title, []

    def text(self, x, y, text, size=13, anchor="middle", weight="normal", color="#1b1b1b"):
        text = text.replace("&", "&amp;").replace("<", "&lt;")
        self.parts.append(f'<text x="{x:g}" y="{y:g}" font-size="{size}" text-anchor="{anchor}" font-weight="{weight}" '
                          f'fill="{color}">{text}</text>')

    def box(self, x, y, width, height, lines, fill, radius=0, size=13):
        self.parts.append(f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="{radius}" '
                          f'fill="{fill}" stroke="#5a6b7f"/>')
        first = y + height / 2 + size * 0.36 - (len(lines) - 1) * size * 0.6
        for i, line in enumerate(lines):
            weight = "bold" if i == 0 and radius else "normal"
            self.text(x + width / 2, first + i * size * 1.2, line, size, weight=weight)

    def line(self, points, arrow=True):
        path = " ".join(f"{x:g},{y:g}" for x, y in points)
        end = ' marker-end="url(#arrow)"' if arrow else ""
        self.parts.append(f'<polyline points="{path}" fill="none" stroke="#33475b" stroke-width="1.5"{end}/>')

    def svg(self):
        width, height = self.size
        return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
                f'font-family="DejaVu Sans, Arial, sans-serif" role="img">\n<title>{self.title}</title>\n'
                '<defs><marker id="arrow" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" '
                'orient="auto-start-reverse"><path d="M0 0L10 5L0 10z" fill="#33475b"/></marker></defs>\n'
                f'<rect width="{width}" height="{height}" fill="#ffffff"/>\n' + "\n".join(self.parts) + "\n</svg>\n")


def block_flow():
    """A row of operations for each half of a block. Below the arrows: the tensors' names and codes."""
    picture = Picture(1120, 430, "Data flow of a block, with the bits of codes, weights and sums")
    halves = [
        (["stream", "u8 PTF"],
         [(["LayerNorm"], "norm1", "u8"), (["linear", "weights s8, s4", "sums s32"], "qkv", "u8"),
          (["q k\u1d40", "sums s32"], "attention_logits", "u8"),
          (["Log softmax", "table of", "256 u64"], "attention", "log2, 4 bits"),
          (["shifts of v", "sums s32"], "context", "u8"), (["linear", "weights s8, s4", "sums s32"], "proj", "u8")],
         ["add1", "u8 PTF"]),
        (["add1", "u8 PTF"],
         [(["LayerNorm"], "norm2", "u8"), (["linear", "weights s8, s4", "sums s32"], "fc1", "12 bits"),
          (["GELU", "table of", "4096 u8"], "activation", "u8"),
          (["linear", "weights s8, s4", "sums s32"], "fc2", "u8")],
         ["add2", "u8 PTF"])]
    for half, (begin, steps, end) in enumerate(halves):
        top = 60 + 210 * half
        middle = top + 35
        picture.box(10, top + 8, 70, 54, begin, TENSOR)
        pitch, x, width = 148, 104, 96
        picture.line([(80, middle), (x, middle)])
        for lines, tensor, codes in steps:
            picture.box(x, top, width, 70, lines, OPERATION, 8, 12)
            picture.line([(x + width, middle), (x + pitch, middle)])
            center = x + width + (pitch - width) / 2
            picture.text(center, top + 92, tensor, 12)
            picture.text(center, top + 108, codes, 12, weight="bold", color="#8a4b00")
            x += pitch
        picture.box(x, top + 13, 44, 44, ["+"], OPERATION, 22, 20)
        picture.line([(45, top + 8), (45, top - 22), (x + 22, top - 22), (x + 22, top + 13)])
        picture.text((45 + x) / 2, top - 28, "residual stream: u8 codes, a power of two per channel (PTF)", 12)
        if half == 0:
            picture.box(x + 8, top + 92, 70, 54, end, TENSOR)
            picture.line([(x + 32, top + 56), (x + 42, top + 92)])
        else:
            picture.box(x + 68, top + 8, 70, 54, end, TENSOR)
            picture.line([(x + 44, middle), (x + 68, middle)])
    picture.text(10, 420, "With 8-bit attention, codes have 8 bits and sums of shifts 64. With an s16 stream, proj and "
                 "fc2 add their sums to it, without codes in between.", 12, "start")
    return picture


def packed_weights():
    """The panels of a matrix, and a step of one panel for both widths of codes."""
    picture = Picture(930, 450, "Order of packed weights")
    picture.text(10, 26, "Weights N x K: panels of 64 output channels, the last one as wide as the rest, rounded up to "
                 "16.", 14, "start")
    for panel, (name, width) in enumerate([("panel 0", 260), ("panel 1", 260), ("panel 2: 16 to 64 channels", 200)]):
        left = 10 + 270 * panel
        picture.box(left, 40, width, 96, [], EMPTY)
        picture.text(left + width / 2, 56, name, 12, weight="bold")
        for step in range(3):
            picture.box(left + 8, 64 + 22 * step, width - 16, 18,
                        [f"step {step}: {'k = ' + str(4 * step) + '..' + str(4 * step + 3) if panel == 0 else '...'}"
                         if step < 2 else "..."], OPERATION, 0, 11)
    picture.text(765, 92, "then the s32 sum of", 12, "start")
    picture.text(765, 108, "each channel's weights", 12, "start")

    def row(y, title, bytes_of_channel, shown):
        picture.text(10, y - 10, title, 14, "start")
        x = 10
        for channel in shown:
            if channel is None:
                picture.text(x + 18, y + 28, "...", 16)
                x += 36
                continue
            for byte, text in enumerate(bytes_of_channel):
                picture.box(x + 56 * byte, y, 56, 40, text, TENSOR if byte % 2 == 0 else SUM, 0, 12)
            picture.text(x + 112, y + 56, f"channel {channel}: 4 bytes", 12)
            x += 232
    row(190, "s8, a step of four columns: 256 bytes, read as 64 dot products of four bytes",
        [[f"k{k}"] for k in range(4)], [0, 1, None, 63])
    row(310, "s4, a step of eight columns: 256 bytes, the even group in the low halves, the odd one in the high halves",
        [[f"high k{k + 4}", f"low k{k}"] for k in range(4)], [0, 1, None, 63])
    picture.text(10, 412, "s4 with group factors: the same, and in front of each panel 16 bytes for each group of "
                 "columns, with the shifts", 14, "start")
    picture.text(10, 432, "0..3 of 64 channels, two bits each: byte i has those of the channels i, 16 + i, 32 + i and "
                 "48 + i, lowest first.", 14, "start")
    return picture


def softmax_codes():
    """The codes along an axis of sum / exponential, whose logarithm is the level."""
    picture = Picture(1120, 400, "Codes of Log-Int-Softmax")
    left, octave, last = 190, 50, 18
    place = lambda ratio: left + octave * math.log2(ratio)
    ratio_ends = [1.5, 2.5] + [3 * 2**(k - 1) - 0.5 for k in range(2, last)]
    log_ends = [2**(k + 0.5) for k in range(last)]

    picture.text(10, 26, "A weight e / S of a row becomes the code k of 2^-k. Where a code ends and the next begins:",
                 14, "start")
    picture.text(10, 56, "weight", 12, "start")
    for k in range(0, last + 1, 2):
        picture.text(left + octave * k, 56, "1" if k == 0 else f"2^-{k}", 11)
        picture.line([(left + octave * k, 61), (left + octave * k, 66)], False)

    def strip(y, title, ends, codes, size=12):
        for i, line in enumerate(title):
            picture.text(10, y + 16 + 15 * i, line, 12, "start", "bold" if i == 0 else "normal")
        begin = left
        for end, (code, fill) in zip(ends, codes):
            x = min(place(end), left + octave * last)
            picture.box(begin, y, x - begin, 34, [code], fill, 0, size)
            begin = x
    levels = [(str(k), TENSOR if k % 2 == 0 else SUM) for k in range(last)] + [("", EMPTY)]
    strip(72, ["rounding at 1.5", "(FQ-ViT)"], ratio_ends + [2.0**30], levels)
    strip(116, ["rounding at sqrt 2"], log_ends + [2.0**30], levels)

    picture.text(10, 186, "How levels above 15 are stored:", 14, "start")
    head = levels[:16]
    strip(200, ["zero: u8", "4-bit attention"], ratio_ends[:16] + [2.0**30], head + [("16: weight 0", EMPTY)])
    strip(244, ["clip: u4", "two codes a byte"], ratio_ends[:15] + [2.0**30], levels[:15] + [("15: weight 2^-15", SUM)])
    strip(288, ["wide: u8", "8-bit attention"], ratio_ends[:17] + [2.0**30], levels[:17] + [("17...", SUM)])
    picture.text(10, 356, "Exponentials that are 0 have the code 16, 15 and 255. A product with V shifts by the codes: "
                 "sums of v 2^(15 - k) in 32 bits, with 8-bit codes", 12, "start")
    picture.text(10, 374, "sums of v 2^(44 - k) in 64 bits.", 12, "start")
    return picture


pictures = {"block_flow.svg": block_flow(), "packed_weights.svg": packed_weights(),
            "softmax_codes.svg": softmax_codes()}
folder = pathlib.Path(__file__).parent
differing = [name for name, picture in pictures.items()
             if not (folder / name).exists() or (folder / name).read_text() != picture.svg()]
if "--check" in sys.argv[1:]:
    for name in differing:
        print(f"docs/{name} is not what docs/pictures.py draws")
    sys.exit(1 if differing else 0)
for name, picture in pictures.items():
    (folder / name).write_text(picture.svg())
