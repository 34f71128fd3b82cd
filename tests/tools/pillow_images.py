#!/usr/bin/env python3
"""Image files of many kinds, and what Pillow makes of files: the expected values of deit_image_test.

make FOLDER                           writes PNG and JPEG files
decode FOLDER ANSWERS                 the pixels of every file in RGB: NAME.ppm, or NAME.refused
prepare FOLDER ANSWERS HxW CROP       the same after timm's resizing and cropping
"""

import io
import math
import pathlib
import random
import struct
import sys
import warnings
import zlib

from PIL import Image, __version__

DEPTHS = {0: [1, 2, 4, 8, 16], 2: [8, 16], 3: [1, 2, 4, 8], 4: [8, 16], 6: [8, 16]}
SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
KINDS = {0: "gray", 2: "rgb", 3: "palette", 4: "gray_alpha", 6: "rgba"}
# First column, first row, step of columns, step of rows of each pass of an interlaced image.
PASSES = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
SIGNATURE = b"\x89PNG\r\n\x1a\n"
END = (b"IEND", b"")
LARGEST = 1 << 25  # resized images with more pixels are left out


def chunk(name, data):
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png_file(*chunks):
    return SIGNATURE + b"".join(chunk(*one) for one in chunks)


def header(width, height, depth, kind, interlaced=0):
    return b"IHDR", struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, interlaced)


def filtered_rows(random_bytes, width, height, bits):
    """Any bytes are pixels, under any of the five filters."""
    length = (width * bits + 7) // 8
    return b"".join(random_bytes.choice(b"\0\1\2\3\4").to_bytes(1, "big") + random_bytes.randbytes(length)
                    for _ in range(height if length else 0))


def pixels(random_bytes, width, height, depth, kind, interlaced=0):
    bits = depth * SAMPLES[kind]
    if not interlaced:
        return filtered_rows(random_bytes, width, height, bits)
    return b"".join(filtered_rows(random_bytes, (width - x + step_x - 1) // step_x, (height - y + step_y - 1) // step_y,
                                  bits) for x, y, step_x, step_y in PASSES)


def transparency(random_bytes, depth, kind):
    """A tRNS chunk, where there can be one."""
    if kind == 3:
        return [(b"tRNS", random_bytes.randbytes(1 << depth))]
    return [(b"tRNS", struct.pack(">H", 1) * SAMPLES[kind])] if kind in (0, 2) else []


def png_kinds(write, source):
    for kind, depths in DEPTHS.items():
        for depth in depths:
            palette = [(b"PLTE", source.randbytes(3 << depth))] if kind == 3 else []
            for interlaced in (0, 1):
                for width, height in ((1, 1), (3, 5), (8, 8), (33, 21)):
                    for trns in ([], transparency(source, depth, kind)) if (width, height) == (33, 21) else ([],):
                        data = zlib.compress(pixels(source, width, height, depth, kind, interlaced))
                        name = f"{KINDS[kind]}{depth}_{width}x{height}"
                        name += ("_interlaced" if interlaced else "") + ("_trns" if trns else "")
                        write(name + ".png", png_file(header(width, height, depth, kind, interlaced), *palette, *trns,
                                                      (b"IDAT", data), END))


def png_chunks(write, source):
    """Chunks that change nothing, or are wrong."""
    size = (19, 12)
    colors = [(b"gAMA", struct.pack(">I", 45455)), (b"sRGB", b"\0"),
              (b"iCCP", b"profile\0\0" + zlib.compress(source.randbytes(500))),
              (b"cHRM", struct.pack(">8I", 31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000))]
    for kind, depth in ((0, 8), (0, 16), (2, 8), (2, 16), (6, 8), (6, 16), (3, 8)):
        palette = [(b"PLTE", source.randbytes(768))] if kind == 3 else []
        others = [(b"sBIT", b"\5" * (3 if kind == 3 else SAMPLES[kind])), (b"pHYs", struct.pack(">IIB", 9, 5, 0)),
                  (b"tIME", b"\x07\xd0\1\1\1\1\1"), (b"tEXt", b"Comment\0text"), (b"prVt", b"anything"),
                  (b"zTXt", b"Comment\0\0" + zlib.compress(b"text")), (b"iTXt", b"Comment\0\0\0\0\0text"),
                  (b"eXIf", b"MM\0*\0\0\0\x08\0\1\x01\x12\0\3\0\0\0\1\0\6\0\0\0\0\0\0")]
        data = (b"IDAT", zlib.compress(pixels(source, *size, depth, kind)))
        name = f"{KINDS[kind]}{depth}_"
        for one in colors + others:
            write(f"{name}{one[0].decode()}.png", png_file(header(*size, depth, kind), one, *palette, data, END))
        gamma = (b"gAMA", struct.pack(">I", 100000))
        write(name + "linear.png", png_file(header(*size, depth, kind), gamma, *palette, data, END))
        write(name + "late_text.png", png_file(header(*size, depth, kind), *palette, data, others[3], END))

    rows = pixels(source, *size, 8, 2)
    head, data = header(*size, 8, 2), zlib.compress(rows)
    write("suggested_palette.png", png_file(head, (b"PLTE", source.randbytes(48)), (b"IDAT", data), END))
    write("many_parts.png", png_file(head, *[(b"IDAT", data[i:i + 7]) for i in range(0, len(data), 7)], END))
    write("empty_parts.png", png_file(head, (b"IDAT", b""), (b"IDAT", data), (b"IDAT", b""), END))
    write("stored.png", png_file(head, (b"IDAT", zlib.compress(rows, 0)), END))
    small = zlib.compressobj(9, zlib.DEFLATED, 9)
    write("small_window.png", png_file(head, (b"IDAT", small.compress(rows) + small.flush()), END))
    write("too_many_rows.png", png_file(head, (b"IDAT", zlib.compress(rows + rows)), END))
    write("bytes_after_the_end.png", png_file(head, (b"IDAT", data), END) + b"more")
    write("no_end.png", png_file(head, (b"IDAT", data)))
    write("wrong_pixel_checksum.png", png_file(head, (b"IDAT", data), END)[:-14] + b"??" + chunk(*END))
    write("wrong_filter.png", png_file(head, (b"IDAT", zlib.compress(b"\5" + rows[1:])), END))
    write("wrong_stream.png", png_file(head, (b"IDAT", source.randbytes(200)), END))
    animation = [(b"acTL", struct.pack(">II", 2, 0)), (b"fcTL", struct.pack(">IIIIIHHBB", 0, *size, 0, 0, 1, 9, 0, 0))]
    second = [(b"fcTL", struct.pack(">IIIIIHHBB", 1, *size, 0, 0, 1, 9, 0, 0)), (b"fdAT", struct.pack(">I", 2) + data)]
    write("animation.png", png_file(head, *animation, (b"IDAT", data), *second, END))
    for name in (b"IHDR", b"PLTE", b"gAMA", b"tRNS", b"tEXt", b"prVt"):
        chunks = [header(*size, 8, 3), (b"gAMA", struct.pack(">I", 45455)), (b"PLTE", source.randbytes(768)),
                  (b"tRNS", source.randbytes(10)), (b"tEXt", b"Comment\0text"), (b"prVt", b"anything"),
                  (b"IDAT", zlib.compress(pixels(source, *size, 8, 3))), END]
        parts = [chunk(*one) for one in chunks]
        broken = b"".join(part[:-1] + bytes([part[-1] ^ 1]) if one[0] == name else part
                          for one, part in zip(chunks, parts))
        write(f"wrong_checksum_{name.decode()}.png", SIGNATURE + broken)
    for depth, kind in ((16, 3), (4, 2), (1, 6), (3, 0), (8, 5), (8, 1), (32, 0)):
        write(f"no_such_kind_{depth}_{kind}.png", png_file(header(*size, depth, kind), (b"IDAT", data), END))
    for width, height in ((0, 5), (5, 0), (2**31 - 1, 2**31 - 1), (20000, 10000)):
        write(f"size_{width}x{height}.png", png_file(header(width, height, 8, 2), (b"IDAT", data), END))
    if int(__version__.split(".")[0]) < 10:  # later versions take missing entries for black
        write("short_palette.png", png_file(header(*size, 8, 3), (b"PLTE", source.randbytes(30)),
                                            (b"IDAT", zlib.compress(pixels(source, *size, 8, 3))), END))


def jpeg_kinds(write, source):
    picture = Image.frombytes("RGB", (5, 4), source.randbytes(60)).resize((61, 47), Image.BICUBIC)
    for mode in ("L", "RGB", "CMYK"):
        image = picture.convert(mode)
        for options in ({"quality": 100}, {"quality": 75}, {"quality": 5}, {"progressive": True}, {"optimize": True},
                        {"subsampling": 0}, {"subsampling": 1}, {"subsampling": 2},
                        {"subsampling": 2, "progressive": True, "quality": 30}):
            name = "_".join(f"{key}{value}" for key, value in options.items())
            buffer = io.BytesIO()
            image.save(buffer, "JPEG", **options)
            write(f"{mode}_{name}.jpg", buffer.getvalue())
    for size in ((1, 1), (8, 8), (7, 9), (16, 17), (300, 1)):
        buffer = io.BytesIO()
        picture.resize(size).save(buffer, "JPEG", subsampling=2)
        write(f"size_{size[0]}x{size[1]}.jpg", buffer.getvalue())
    orientation = Image.Exif()
    orientation[0x0112] = 6
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", exif=orientation, icc_profile=source.randbytes(300), dpi=(30, 40), quality=90)
    whole = buffer.getvalue()
    write("exif_icc.jpg", whole)
    frame, scan = whole.index(b"\xff\xc0"), whole.index(b"\xff\xda")
    write("bytes_before_the_end.jpg", whole[:-2] + b"\0\0\0" + whole[-2:])
    write("bytes_after_the_end.jpg", whole + b"more" * 30)
    write("bytes_between_segments.jpg", whole[:frame] + b"\0\1\2" + whole[frame:])
    write("fill_bytes.jpg", whole[:frame] + b"\xff\xff\xff" + whole[frame:])
    write("wrong_scan_parameters.jpg", whole[:scan + 11] + b"\0\0" + whole[scan + 13:])
    write("no_end.jpg", whole[:-2])
    write("twelve_bits.jpg", whole[:frame + 4] + b"\x0c" + whole[frame + 5:])
    write("no_rows.jpg", whole[:frame + 5] + b"\0\0" + whole[frame + 7:])
    write("other_component.jpg", whole[:frame + 10] + b"\7" + whole[frame + 11:])
    write("no_scan.jpg", whole[:scan])
    for position in range(scan + 20, len(whole), 97):
        write(f"wrong_byte_{position}.jpg", whole[:position] + b"\x5a" + whole[position + 1:])


def cut_files(write, source):
    size = (19, 12)
    for name, kind, interlaced in (("rgb", 2, 0), ("palette", 3, 1)):
        palette = [(b"PLTE", source.randbytes(768))] if kind == 3 else []
        data = zlib.compress(pixels(source, *size, 8, kind, interlaced))
        whole = png_file(header(*size, 8, kind, interlaced), *palette, (b"IDAT", data), END)
        for length in [*range(0, len(whole) - 40, 23), *range(len(whole) - 40, len(whole))]:
            write(f"cut_{name}_{length:04}.png", whole[:length])
    write("cut_rows.png", png_file(header(*size, 8, 2), (b"IDAT", zlib.compress(pixels(source, 19, 6, 8, 2))), END))
    for progressive in (False, True):
        buffer = io.BytesIO()
        Image.frombytes("RGB", size, source.randbytes(3 * 19 * 12)).save(buffer, "JPEG", progressive=progressive)
        whole = buffer.getvalue()
        for length in [*range(0, len(whole) - 20, 41), *range(len(whole) - 20, len(whole))]:
            write(f"cut_{'progressive' if progressive else 'baseline'}_{length:04}.jpg", whole[:length])


def make(folder):
    source = random.Random(7)

    def write(name, data):
        (folder / name).write_bytes(data)

    png_kinds(write, source)
    png_chunks(write, source)
    jpeg_kinds(write, source)
    cut_files(write, source)


def prepared(image, size, crop):
    """As timm and torchvision do it: the shorter side becomes floor(size / crop), or, for sides that differ, both are
    divided by the smaller ratio to floor(size / crop); then the centre is taken."""
    size_height, size_width = size
    width, height = image.size
    if size_height == size_width:
        shorter = math.floor(size_height / crop)
        width, height = ((shorter, int(shorter * height / width)) if width <= height else
                         (int(shorter * width / height), shorter))
    else:
        ratio = min(height / math.floor(size_height / crop), width / math.floor(size_width / crop))
        height, width = round(height / ratio), round(width / ratio)
    if width * height > LARGEST:
        return None
    left, top = int(round((width - size_width) / 2.0)), int(round((height - size_height) / 2.0))
    return image.resize((width, height), Image.BICUBIC).crop((left, top, left + size_width, top + size_height))


def answer(folder, answers, change):
    warnings.simplefilter("ignore")
    for path in sorted(folder.iterdir()):
        try:
            image = Image.open(path)
            read = image.format in ("PNG", "JPEG", "MPO")
            image = change(image.convert("RGB")) if read else None
        except Exception as error:  # whatever Pillow says
            (answers / (path.name + ".refused")).write_text(str(error), encoding="utf-8")
            continue
        if image is not None:
            text = f"P6\n{image.width} {image.height}\n255\n".encode()
            (answers / (path.name + ".ppm")).write_bytes(text + image.tobytes())
        elif not read:
            (answers / (path.name + ".refused")).write_text("is neither PNG nor JPEG", encoding="utf-8")


def main():
    folders = [pathlib.Path(argument) for argument in sys.argv[2:4]]
    if sys.argv[1] == "make":
        make(folders[0])
    elif sys.argv[1] == "decode":
        answer(*folders, lambda image: image)
    else:
        size, crop = tuple(map(int, sys.argv[4].split("x"))), float(sys.argv[5])
        answer(*folders, lambda image: prepared(image, size, crop))


if __name__ == "__main__":
    main()
