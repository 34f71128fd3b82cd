#!/usr/bin/python3
"""Turns the results of intact-compare into the pictures and tables of docs/performance.md.

Usage: bench/plot.py [RESULT.json ...]; without arguments it reads all of bench/results.
"""

import collections
import json
import math
import pathlib
import sys

import matplotlib

matplotlib.use("svg")
from matplotlib import pyplot

ROOT = pathlib.Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
DOCUMENT = DOCS / "performance.md"
BEGIN = "<!-- measured: written by bench/plot.py -->"
END = "<!-- end of the part that bench/plot.py writes -->"

OURS = "intact"
COLORS = ["#d1495b", "#30638e", "#edae49", "#00798c", "#8d96a3", "#5f0f40"]
ATTENTION = {"attention": "#edae49", "attention: packing": "#f8dfb0", "q * k^T": "#f2c879", "softmax": "#edae49",
             "softmax * v": "#c98a1f"}
PART_COLORS = {"norm1": "#8d96a3", "norm2": "#8d96a3", "qkv": "#30638e", **ATTENTION, "proj + add": "#00798c",
               "fc1 + GELU": "#d1495b", "fc2 + add": "#5f0f40"}
OPERATIONS = [("layernorm", "LayerNorm"), ("log_softmax", "Softmax to log2 codes"), ("activation", "GELU"),
              ("add", "Residual addition")]
ALONE = ""  # the peer of measurements without one


def read(paths):
    """All rows of the files, each with its file's peak and set of shapes; the parts of blocks; and what the files say
    about the machine."""
    rows, parts, machines = [], [], []
    for path in paths:
        result = json.loads(path.read_text())
        if result["failures"]:
            sys.exit(f"{path}: {result['failures'][0]}")
        machines.append((result["machine"], result["compiler"], result["date"][:10]))
        rows += [dict(row, peak_gops=result["peak_gops"], shapes=result["shapes"]) for row in result["rows"]]
        parts += [dict(part, shapes=result["shapes"]) for part in result.get("parts", [])]
    return rows, parts, sorted(set(machines))


def select(rows, **wanted):
    return [row for row in rows if all(row[key] == value for key, value in wanted.items())]


def in_order(rows, key):
    """The different values, in the order of their first appearance."""
    return list(dict.fromkeys(row[key] for row in rows))


def table(header, lines):
    """A Markdown table: the first column to the left, the others, numbers, to the right."""
    rule = ["---"] + ["---:"] * (len(header) - 1)
    return "\n".join("| " + " | ".join(line) + " |" for line in [header, rule, *lines])


def measured(rows):
    return [row for row in rows if row["ratio"] is not None]


def mean_ratio(rows):
    """The geometric mean of all ratios there are."""
    logarithms = [math.log(row["ratio"]) for row in measured(rows)]
    return f"**{math.exp(sum(logarithms) / len(logarithms)):.2f}**" if logarithms else ""


def our_speed(rows):
    """The best median and the best share: ours is measured once with each peer."""
    gops = max(row["ours_gops"] for row in measured(rows))
    share = max(row["peak_share"] for row in measured(rows))
    return f"{gops:.0f} ({100 * share:.0f} %)"


def peer_speed(row):
    if row["ratio"] is None:
        return row["problem"]
    return f"{row['peer_gops']:.0f}; **{row['ratio']:.2f}** ({row['ratio_low']:.2f}-{row['ratio_high']:.2f})"


def speed_table(rows):
    """A line per shape: our speed, and of each peer its speed and how many times faster we are."""
    peers = in_order(rows, "peer")
    lines = []
    for (shape, caches), same in grouped(rows, "shape", "caches").items():
        by_peer = {row["peer"]: row for row in same}
        line = [shape + ("" if caches == "warm" else ", cold"), our_speed(same)]
        lines.append(line + [peer_speed(by_peer[peer]) if peer in by_peer else "" for peer in peers])
    lines.append(["geometric mean", ""] + [mean_ratio(select(rows, peer=peer)) for peer in peers])
    return table(["M x K x N", "ours (of peak)", *peers], lines)


def grouped(rows, *keys):
    groups = collections.defaultdict(list)
    for row in rows:
        groups[tuple(row[key] for key in keys)].append(row)
    return groups


def row_count_table(rows):
    """Our GOPS and the ratio to a peer: a line per layer, a column per number of rows."""
    cells = {}
    for row in rows:
        m, layer = row["shape"].split("x", 1)
        cells[layer, int(m)] = row["problem"] or f"{row['ours_gops']:.0f}; **{row['ratio']:.2f}**"
    counts = sorted({m for _, m in cells})
    layers = [layer for layer in dict.fromkeys(layer for layer, _ in cells) if all((layer, m) in cells for m in counts)]
    lines = [[layer] + [cells[layer, m] for m in counts] for layer in layers]
    return table(["K x N"] + [f"M = {m}" for m in counts], lines)


def count(rows, key):
    """The sum of what was counted, out of how many; nothing if nothing was."""
    counted = [row for row in rows if row[key] is not None]
    return f"{sum(row[key] for row in counted)} of {sum(row['outputs'] for row in counted)}" if counted else ""


def exactness_table(rows):
    """Wrong outputs per instruction set and peer, and how the speeds compare."""
    rows = sorted(rows, key=lambda row: row["peak_gops"])
    lines = []
    for (isa, peer), same in grouped(rows, "isa", "peer").items():
        sums, codes = select(same, output="s32"), select(same, output="u8")
        lines.append([isa, peer, count(sums, "peer_wrong"), count(codes, "peer_codes_off"), mean_ratio(same)])
    return table(["instructions", "peer", "its s32 sums that are wrong", "its codes off by more than one",
                  "ratio, geometric mean"], lines)


def microseconds(x):
    return f"{x:.3g}" if x < 1000 else f"{x:.0f}"


def peer_time(row):
    if row["ratio"] is None:
        return row["problem"]
    return f"{microseconds(row['peer_us'])}; **{row['ratio']:.2f}** ({row['ratio_low']:.2f}-{row['ratio_high']:.2f})"


def our_time(rows):
    return microseconds(min(row["ours_us"] for row in rows if row["ours_us"] is not None))


def times_floor(rows):
    """Our best time in units of that of the products alone at their peak."""
    return f"{1 / max(row['peak_share'] for row in rows if row['peak_share'] is not None):.2f}"


def time_table(rows, shape, limited):
    """A line per shape and kind of codes: our microseconds, and of each peer its microseconds and how many times faster
    we are. `limited`: by the products, and compared with that limit."""
    peers = [peer for peer in in_order(rows, "peer") if peer != ALONE]
    lines = []
    for (name, output), same in grouped(rows, "shape", "output").items():
        if not any(row["ours_us"] for row in same):
            continue
        by_peer = {row["peer"]: row for row in same}
        line = [name, output, our_time(same)] + ([times_floor(same)] if limited else [])
        lines.append(line + [peer_time(by_peer[peer]) if peer in by_peer else "" for peer in peers])
    for output in in_order(rows, "output"):
        means = [mean_ratio(select(rows, peer=peer, output=output)) for peer in peers]
        lines.append(["geometric mean", output, ""] + ([""] if limited else []) + means)
    return table([shape, "codes", "ours, µs"] + (["times the limit"] if limited else []) + peers, lines)


def save(figure, name):
    figure.savefig(DOCS / name, bbox_inches="tight", facecolor="white", metadata={"Date": None})
    pyplot.close(figure)


def draw_products(rows, peak):
    """GOPS per shape: a group of bars, ours first."""
    shapes, peers = in_order(rows, "shape"), in_order(rows, "peer")
    series = {OURS: {s: max(row["ours_gops"] for row in measured(select(rows, shape=s))) for s in shapes}}
    for peer in peers:
        series[peer] = {row["shape"]: row["peer_gops"] for row in measured(select(rows, peer=peer))}

    figure, axes = pyplot.subplots(figsize=(11, 4.5), facecolor="white")
    width = 0.84 / len(series)
    for i, (name, speeds) in enumerate(series.items()):
        places = [x - 0.42 + (i + 0.5) * width for x, shape in enumerate(shapes) if shape in speeds]
        axes.bar(places, [speeds[s] for s in shapes if s in speeds], width, label=name, color=COLORS[i % len(COLORS)])
    axes.set_ylim(0, 1.06 * peak)
    axes.axhline(peak, color="black", linewidth=0.8, linestyle="--", label="byte dot products alone")
    axes.set_xticks(range(len(shapes)), [shape.replace("x", " x ") for shape in shapes], rotation=30, ha="right")
    axes.set_ylabel("GOPS (2 M N K / time)")
    axes.set_title("u8 x s8 -> u8, scales per channel, zero points and bias; M x K x N; one thread")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(ncols=len(series) + 1, loc="upper center", bbox_to_anchor=(0.5, -0.32), frameon=False)
    save(figure, "performance.svg")


def floor_us(rows, shape, output):
    """The time of a block's products at their peak."""
    row = next(row for row in rows if row["shape"] == shape and row["output"] == output and row["ours_us"])
    return row["ours_us"] * row["ours_gops"] / row["peak_gops"] / row["threads"]


def draw_parts(rows, parts):
    """A bar per block: its operations, in units of the time of its products at their peak."""
    figure, axes = pyplot.subplots(figsize=(11, 0.34 * len(parts) + 1), facecolor="white")
    labels = [f"{part['shape'].replace('x', ' x ')}, {part['output']}" for part in parts]
    left = [0.0] * len(parts)
    names = list(dict.fromkeys(name for part in parts for name in part["names"]))
    for name in names:
        lengths = [dict(zip(part["names"], part["us"])).get(name, 0) / floor_us(rows, part["shape"], part["output"])
                   for part in parts]
        axes.barh(labels, lengths, left=left, label=name, color=PART_COLORS[name])
        left = [x + length for x, length in zip(left, lengths)]
    axes.axvline(1, color="black", linewidth=0.8, linestyle="--")
    axes.invert_yaxis()
    axes.set_xlabel("time, in units of the block's products at the speed of byte dot products alone")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(ncols=(len(names) + 1) // 2, loc="lower center", bbox_to_anchor=(0.5, 1), frameon=False)
    save(figure, "block_parts.svg")


def size(part):
    """Tokens and width of one image; none of a batch."""
    numbers = [int(x) for x in part["shape"].split("x")]
    return tuple(numbers) if len(numbers) == 2 else None


def growth(parts):
    """For two widths and each recipe: numbers of tokens, and what a token costs outside attention and a pair of tokens
    in it, in units of what it costs at 197."""
    one = sorted((part for part in parts if size(part)), key=size)
    for width in [192, 768]:
        for output in in_order(one, "output"):
            same = [part for part in one if size(part)[1] == width and part["output"] == output]
            tokens = [size(part)[0] for part in same]
            attention = [sum(us for name, us in zip(part["names"], part["us"]) if name in ATTENTION) for part in same]
            others = [sum(part["us"]) - inside for part, inside in zip(same, attention)]
            costs = [[x / t for x, t in zip(others, tokens)], [x / t ** 2 for x, t in zip(attention, tokens)]]
            yield width, output, tokens, *[[cost / some[tokens.index(197)] for cost in some] for some in costs]


def growth_table(parts):
    lines = []
    for width, output, tokens, token, pair in growth(parts):
        for count in [1025, 4096]:
            at = tokens.index(count)
            lines.append([f"{width}, {output}", str(count), f"{token[at]:.2f}", f"{pair[at]:.2f}"])
    return table(["width, recipe", "tokens", "a token, outside attention", "a pair of tokens, in attention"], lines)


def draw_scaling(rows, parts):
    """How the time grows: a token outside attention and a pair of tokens in it over the tokens, the whole block over
    the width."""
    figure, (tokens_axes, pairs_axes, width_axes) = pyplot.subplots(1, 3, figsize=(11, 3.2), facecolor="white")
    one = sorted((part for part in parts if size(part)), key=size)
    for color, (width, output, tokens, token, pair) in zip(COLORS, growth(parts)):
        for axes, costs in [(tokens_axes, token), (pairs_axes, pair)]:
            axes.plot(tokens, costs, "o-", markersize=3, color=color, label=f"width {width}, {output}")
    for color, output in zip(COLORS, in_order(one, "output")):
        same = [part for part in one if size(part)[0] == 197 and part["output"] == output]
        width_axes.plot([size(part)[1] for part in same],
                        [sum(part["us"]) / floor_us(rows, part["shape"], output) for part in same],
                        "o-", markersize=3, color=color, label=output)
    counts = [17, 65, 257, 1025, 4096]
    for axes, title, label, ticks in [(tokens_axes, "a token, outside attention", "tokens", counts),
                                      (pairs_axes, "a pair of tokens, in attention", "tokens", counts),
                                      (width_axes, "a block of 197 tokens", "width", [64, 128, 256, 512, 1024])]:
        axes.set(xscale="log", ylim=(0, 1.1 * axes.get_ylim()[1]), xlabel=label, title=title)
        axes.set_xticks(ticks, [str(tick) for tick in ticks])
        axes.minorticks_off()
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize=7)
    tokens_axes.set_ylabel("time, in units of that of 197 tokens")
    width_axes.set_ylabel("time, in units of that of the products")
    figure.tight_layout()
    save(figure, "scaling.svg")


def block_sections(rows, parts):
    """Tables and pictures of attention and whole blocks."""
    text = []
    for op, title, shape in [("attention", "Attention", "heads x tokens x head size"),
                             ("block", "Block", "tokens x width")]:
        for threads in in_order(select(rows, op=op, shapes="table"), "threads"):
            some = select(rows, op=op, shapes="table", threads=threads)
            text.append(f"### {title}, {thread_words(threads)}\n\n{time_table(some, shape, True)}")
    shown = select(parts, op="block", shapes="table", threads=1)
    if shown:
        draw_parts(select(rows, op="block", shapes="table", threads=1), shown)
        text.append("### Parts of a block's time, 1 thread\n\n![Parts of a block](block_parts.svg)")
    grown = select(parts, op="block", shapes="all", threads=1)
    if grown:
        draw_scaling(select(rows, op="block", shapes="all", threads=1), grown)
        text.append("### How the time grows, 1 thread\n\nIn units of the time at 197 tokens:\n\n"
                    + growth_table(grown) + "\n\n![Time over tokens and over width](scaling.svg)")
    return text


def operation_sections(rows):
    text = []
    for op, title in OPERATIONS:
        shape = "rows x keys" if op == "log_softmax" else "rows x channels" if op == "activation" else "tokens x width"
        for threads in in_order(select(rows, op=op, shapes="table"), "threads"):
            some = select(rows, op=op, shapes="table", threads=threads)
            text.append(f"### {title}, {thread_words(threads)}\n\n{time_table(some, shape, False)}")
    return text


def thread_words(threads):
    return f"{threads} thread{'s' if threads > 1 else ''}"


def product_sections(rows):
    """Tables and the picture of gemm."""
    native = max(select(rows, op="gemm", weights="int8", threads=1), key=lambda row: row["peak_gops"])["isa"]
    gemm = select(rows, op="gemm", isa=native)
    shown = select(gemm, weights="int8", shapes="table")
    one = select(shown, threads=1)
    draw_products(select(one, output="u8", caches="warm"), one[0]["peak_gops"])

    text = ["![GOPS by shape and library](performance.svg)"]
    for threads in in_order(shown, "threads"):
        for output, words in [("u8", "u8 outputs"), ("s32", "s32 outputs")]:
            some = select(shown, threads=threads, output=output)
            text.append(f"### {words}, {thread_words(threads)}\n\n{speed_table(some)}")
    counts = select(gemm, weights="int8", threads=1, output="u8", caches="warm", shapes="all")
    for peer in in_order(counts, "peer"):
        text.append(f"### Numbers of rows: our GOPS, and how many times faster than {peer}\n\n"
                    + row_count_table(select(counts, peer=peer)))
    for weights, words in [("int4", "4-bit weights"), ("grouped-int4", "4-bit weights with a power of two per group")]:
        some = select(gemm, weights=weights, threads=1, output="u8")
        if some:
            text.append(f"### {words} against our own with 8 bits, u8 outputs\n\n{speed_table(some)}")
    all_isas = select(rows, op="gemm", weights="int8", threads=1, shapes="table")
    return text + [f"### Exactness\n\n{exactness_table(all_isas)}"]


def sections(rows, parts, machines):
    """The generated part of the document: of what has been measured."""
    pyplot.rcParams.update({"svg.hashsalt": "intact", "svg.fonttype": "none", "font.size": 9})
    native = max(rows, key=lambda row: row["peak_gops"])
    text = ["\n".join(f"{machine}; {compiler}; {date}." for machine, compiler, date in machines)]
    text.append(f"Instructions: {native['isa']}. "
                f"Byte dot products alone reach {native['peak_gops']:.0f} GOPS per thread.")
    text += block_sections(rows, parts)
    text += operation_sections(rows)
    if select(rows, op="gemm", shapes="table"):
        text += product_sections(rows)
    return "\n\n".join(text)


def main():
    paths = [pathlib.Path(path) for path in sys.argv[1:]] or sorted((ROOT / "bench" / "results").glob("*.json"))
    rows, parts, machines = read(paths)
    document = DOCUMENT.read_text()
    before, rest = document.split(BEGIN)
    after = rest.split(END)[1]
    DOCUMENT.write_text(f"{before}{BEGIN}\n\n{sections(rows, parts, machines)}\n\n{END}{after}")


if __name__ == "__main__":
    main()
