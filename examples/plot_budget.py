#!/usr/bin/env python3
"""Draws what `intact-deit budget --json` has written: the error of each kind of quantized tensor, alone."""

import argparse
import json

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("budgets", nargs="+", help="JSON files of intact-deit budget")
    parser.add_argument("-o", "--output", default="budget.svg", help="the drawing: SVG, PNG or PDF")
    arguments = parser.parse_args()

    budgets = []
    for path in arguments.budgets:
        with open(path, encoding="utf-8") as file:
            budgets.append(json.load(file))
    kinds = []
    for budget in budgets:
        kinds += [row["kind"] for row in budget["kinds"] if row["kind"] not in kinds]
    kinds.sort(key="everything".__eq__)

    plt.rcParams["svg.hashsalt"] = "intact"  # the same budgets give the same file
    height = 0.8 / len(budgets)
    figure, axes = plt.subplots(figsize=(8, 0.5 + 0.45 * len(kinds)))
    for number, budget in enumerate(budgets):
        noise = {row["kind"]: 10 ** (-row["sqnr_db"] / 10) for row in budget["kinds"] if row["sqnr_db"] is not None}
        places = [place + (number - (len(budgets) - 1) / 2) * height for place in range(len(kinds))]
        axes.barh(places, [100 * noise.get(kind, 0) for kind in kinds], height, label=budget["profile"])
    axes.set_yticks(range(len(kinds)), kinds)
    axes.invert_yaxis()
    axes.set_xlabel("noise in the logits, per cent of the signal's power")
    axes.legend()
    figure.tight_layout()
    figure.savefig(arguments.output, metadata={"Date": None} if arguments.output.endswith(".svg") else None)


if __name__ == "__main__":
    main()
