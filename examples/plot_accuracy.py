#!/usr/bin/env python3
"""Draws what examples/accuracy.py has measured: accuracy and closeness to the float model against bits."""

import argparse
import json

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

BITS = ["8/8/8", "8/8/4", "4/8/8", "4/8/4"]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", help="results.json of accuracy.py")
    parser.add_argument("-o", "--output", default="accuracy.svg", help="the drawing: SVG, PNG or PDF")
    arguments = parser.parse_args()
    with open(arguments.results, encoding="utf-8") as file:
        results = json.load(file)

    series = {}
    for graph in results["graphs"]:
        profile, bits = graph["name"].split(",")[0].split()
        groups = graph["name"].partition(", ")[2]
        series.setdefault("precise, no groups" if groups == "no groups" else profile, []).append((bits, graph))

    plt.rcParams["svg.hashsalt"] = "intact"  # the same results give the same file
    figure, (agreement, closeness) = plt.subplots(1, 2, figsize=(9, 3.6))
    for name, points in series.items():
        places = [BITS.index(bits) for bits, _ in points]
        for axes, key in [(agreement, "agreement"), (closeness, "sqnr_db")]:
            axes.plot(places, [graph[key] for _, graph in points], "o-", label=name)
    for axes, title in [(agreement, "same class as the float model, per cent"), (closeness, "SQNR of the logits, dB")]:
        axes.set_xticks(range(len(BITS)), BITS)
        axes.set_xlabel("bits of weights/activations/attention")
        axes.set_title(title, fontsize=10)
        axes.grid(alpha=0.3)
    closeness.legend()
    figure.tight_layout()
    figure.savefig(arguments.output, metadata={"Date": None} if arguments.output.endswith(".svg") else None)


if __name__ == "__main__":
    main()
