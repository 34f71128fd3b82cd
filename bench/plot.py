#!/usr/bin/python3
"""Turns the results of intact-compare into docs/performance.svg and the tables of docs/performance.md.

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
PICTURE = ROOT / "docs" / "performance.svg"
DOCUMENT = ROOT / "docs" / "performance.md"
BEGIN = "<!-- measured: written by bench/plot.py -->"
END = "<!-- end of what bench/plot.py has written -->"

OURS = "intact"
COLORS = ["#d1495b", "#30638e", "#edae49", "#00798c", "#8d96a3", "#5f0f40"]


def read(paths):
    """All rows of the files, each with its file's peak and set of shapes; and what the files say about the machine."""
    rows, machines = [], []
    for path in paths:
        result = json.loads(path.read_text())
        if result["failures"]:
            sys.exit(f"{path}: {result['failures'][0]}")
        machines.append((result["machine"], result["compiler"], result["date"][:10]))
        rows += [dict(row, peak_gops=result["peak_gops"], shapes=result["shapes"]) for row in result["rows"]]
    return rows, sorted(set(machines))


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


def draw(rows, peak):
    """GOPS per shape: a group of bars, ours first."""
    shapes, peers = in_order(rows, "shape"), in_order(rows, "peer")
    series = {OURS: {s: max(row["ours_gops"] for row in measured(select(rows, shape=s))) for s in shapes}}
    for peer in peers:
        series[peer] = {row["shape"]: row["peer_gops"] for row in measured(select(rows, peer=peer))}

    pyplot.rcParams.update({"svg.hashsalt": "intact", "svg.fonttype": "none", "font.size": 9})
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
    figure.savefig(PICTURE, bbox_inches="tight", facecolor="white", metadata={"Date": None})


def sections(rows, machines):
    """The generated part of the document."""
    native = max(select(rows, op="gemm", weights="int8", threads=1), key=lambda row: row["peak_gops"])["isa"]
    gemm = select(rows, op="gemm", isa=native)
    shown = select(gemm, weights="int8", shapes="table")
    one = select(shown, threads=1)
    draw(select(one, output="u8", caches="warm"), one[0]["peak_gops"])

    text = ["\n".join(f"{machine}; {compiler}; {date}." for machine, compiler, date in machines)]
    text.append(f"Instructions: {native}. Byte dot products alone reach {one[0]['peak_gops']:.0f} GOPS per thread.")
    text.append("![GOPS by shape and library](performance.svg)")
    for threads in in_order(shown, "threads"):
        for output, words in [("u8", "u8 outputs"), ("s32", "s32 outputs")]:
            some = select(shown, threads=threads, output=output)
            text.append(f"### {words}, {threads} thread{'s' if threads > 1 else ''}\n\n{speed_table(some)}")
    counts = select(gemm, weights="int8", threads=1, output="u8", caches="warm", shapes="all")
    for peer in in_order(counts, "peer"):
        text.append(f"### Numbers of rows: our GOPS, and how many times faster than {peer}\n\n"
                    + row_count_table(select(counts, peer=peer)))
    int4 = select(gemm, weights="int4", threads=1, output="u8")
    if int4:
        text.append(f"### 4-bit weights against our own with 8 bits, u8 outputs\n\n{speed_table(int4)}")
    all_isas = select(rows, op="gemm", weights="int8", threads=1, shapes="table")
    text.append(f"### Exactness\n\n{exactness_table(all_isas)}")
    return "\n\n".join(text)


def main():
    paths = [pathlib.Path(path) for path in sys.argv[1:]] or sorted((ROOT / "bench" / "results").glob("*.json"))
    rows, machines = read(paths)
    document = DOCUMENT.read_text()
    before, rest = document.split(BEGIN)
    after = rest.split(END)[1]
    DOCUMENT.write_text(f"{before}{BEGIN}\n\n{sections(rows, machines)}\n\n{END}{after}")


if __name__ == "__main__":
    main()
