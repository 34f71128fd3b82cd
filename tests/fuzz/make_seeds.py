#!/usr/bin/env python3
"""Writes the committed seeds of the fuzzers: make_seeds.py FOLDER. Needs Pillow.

Fuzzers of kernels take any bytes as choices. Those of files make most of their files themselves: they change models,
checkpoints and cases that they have built. Here are images, and beginnings of files of other formats.
"""

import io
import pathlib
import random
import sys

from PIL import Image

OF_CHOICES = ("attention", "elementwise", "gather", "gemm", "normalization", "softmax", "swin", "value_product", "vit")
OTHER_FORMATS = {
    "empty_header": b"\2\0\0\0\0\0\0\0{}",
    "git_lfs": b"version https://git-lfs.github.com/spec/v1\noid sha256:" + 64 * b"a" + b"\nsize 1\n",
    "html": b"\n<!DOCTYPE html>",
    "onnx": b"\x08\x07\x12\x07pytorch",
    "pickle_0": b"ccollections\nOrderedDict\np0\n(tRp1\nVa\np2\nI1\ns.",
    "pickle_2": b"\x80\x02\x8a\x0al\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.",
    "text": b"cats\ndogs\nmice\n",
    "zip": b"PK\x03\x04\0\0\x08\x08",
}


def images():
    """Files of small images, by name."""
    noise = random.Random(1)
    rgb = Image.frombytes("RGB", (9, 5), bytes(noise.randrange(256) for _ in range(9 * 5 * 3)))
    gray16 = Image.frombytes("I;16", (4, 3), bytes(noise.randrange(256) for _ in range(4 * 3 * 2)))
    kinds = {
        "rgb.png": (rgb, {}),
        "rgba.png": (rgb.convert("RGBA"), {}),
        "gray.png": (rgb.convert("L"), {}),
        "bits.png": (rgb.convert("1"), {}),
        "gray16.png": (gray16, {}),
        "palette.png": (rgb.quantize(5), {"bits": 4}),
        "gray.jpg": (rgb.convert("L"), {"quality": 30, "optimize": True}),
        "rgb.jpg": (rgb, {"quality": 30, "optimize": True}),
        "inks.jpg": (rgb.convert("CMYK"), {"quality": 30, "optimize": True}),
        "progressive.jpg": (rgb, {"quality": 30, "progressive": True, "optimize": True}),
    }
    for name, (image, options) in kinds.items():
        file = io.BytesIO()
        image.save(file, {".png": "PNG", ".jpg": "JPEG"}[pathlib.Path(name).suffix], **options)
        yield name, file.getvalue()


def main():
    folder = pathlib.Path(sys.argv[1])
    choices = random.Random(2)
    seeds = {("image", name): content for name, content in images()}
    seeds |= {("safetensors", name): content for name, content in OTHER_FORMATS.items()}
    seeds |= {(fuzzer, str(i)): choices.randbytes(64) for fuzzer in OF_CHOICES for i in range(4)}
    for (fuzzer, name), content in seeds.items():
        (folder / fuzzer).mkdir(parents=True, exist_ok=True)
        (folder / fuzzer / name).write_bytes(content)
    print(f"{len(seeds)} seeds, {sum(map(len, seeds.values()))} bytes")


if __name__ == "__main__":
    main()
