#!/usr/bin/env python3
"""Draws what `intact-deit attention` has written: what each head's class token attends to, in float and in codes."""

import argparse
import json

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("maps", help="JSON file of intact-deit attention")
    parser.add_argument("-o", "--output", default="attention.svg", help="the drawing: SVG, PNG or PDF")
    arguments = parser.parse_args()
    with open(arguments.maps, encoding="utf-8") as file:
        maps = json.load(file)

    def as_rows(values):
        columns = maps["columns"]
        return [values[first:first + columns] for first in range(0, len(values), columns)]

    plt.rcParams["svg.hashsalt"] = "intact"  # the same maps give the same file
    heads = len(maps["float"])
    figure, axes = plt.subplots(2, heads, figsize=(2.2 * heads + 0.6, 4.8), squeeze=False)
    for head in range(heads):
        largest = max(max(maps["float"][head]), max(maps["integer"][head]))
        for line, kind in enumerate(["float", "integer"]):
            place = axes[line][head]
            place.imshow(as_rows(maps[kind][head]), cmap="viridis", vmin=0, vmax=largest)
            place.set_xticks([])
            place.set_yticks([])
        levels = len(set(maps["codes"][head]))
        axes[0][head].set_title(f"head {head}", fontsize=10)
        axes[1][head].set_xlabel(f"{levels} levels", fontsize=9)
    axes[0][0].set_ylabel("float32")
    axes[1][0].set_ylabel("codes")
    figure.suptitle(f"attention of the class token, block {maps['block']}", fontsize=11)
    figure.tight_layout()
    figure.savefig(arguments.output, metadata={"Date": None} if arguments.output.endswith(".svg") else None)


if __name__ == "__main__":
    main()
