#!/usr/bin/env python3
"""Quantizes a float model in several ways with intact-deit, evaluates each, and writes the tables of docs/accuracy.md."""

import argparse
import json
import pathlib
import subprocess

# Name, arguments of `intact-deit quantize`: the graphs with the default method, then other methods.
GRAPHS = [
    ("paper 8/8/8", ["--profile", "paper", "--bits", "8/8/8"]),
    ("paper 8/8/4", ["--profile", "paper", "--bits", "8/8/4"]),
    ("precise 8/8/8", ["--bits", "8/8/8"]),
    ("precise 8/8/4", ["--bits", "8/8/4"]),
    ("precise 8/8/4, codes of weights", ["--bits", "8/8/4", "--attention", "weight-codes"]),
    ("precise 4/8/8, groups of 32", ["--bits", "4/8/8"]),
    ("precise 4/8/4, groups of 32", ["--bits", "4/8/4"]),
    ("precise 4/8/4, no groups", ["--bits", "4/8/4", "--weight-group", "0"]),
]
COMPARED = ["paper 8/8/4", "precise 8/8/8", "precise 8/8/4", "precise 4/8/4, groups of 32"]
METHODS = ["observe", "search", "compensate"]
MEASURES = ["top1", "top5", "agreement", "sqnr_db", "kl"]


def evaluate(arguments, name, options, folder):
    """The result of a model; a model that has been evaluated before is not made again."""
    prepared = ["--prepared"] if arguments.prepared else []
    stem = folder / name.replace("/", "").replace(",", "").replace(" ", "_")
    result = stem.with_suffix(".json")
    if not result.exists():
        model = stem.with_suffix(".safetensors")
        program = [arguments.program]
        subprocess.run(program + ["quantize", "--weights", arguments.weights, "--calibration", arguments.calibration,
                                  "-o", model, *prepared, *options], check=True)
        subprocess.run(program + ["evaluate", "--model", model, "--float", arguments.weights, "--images",
                                  arguments.evaluation, "--json", result, *prepared], check=True)
    return {"name": name, **json.loads(result.read_text(encoding="utf-8"))}


def row(cells):
    return "| " + " | ".join(cells) + " |"


def measures(result):
    return [f"{result['top1']:.2f}", f"{result['top5']:.2f}", f"{result['agreement']:.2f}", f"{result['sqnr_db']:.2f}",
            f"{result['kl']:.4f}"]


def table(first, results):
    lines = [row([first, "top-1", "top-5", "agreement", "SQNR, dB", "KL, nats"]), "|---" * 6 + "|"]
    lines += [row([result["name"], *measures(result)]) for result in results]
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--program", default="intact-deit", help="the program, if it is not on the path")
    parser.add_argument("--weights", required=True, help="float checkpoint")
    parser.add_argument("--calibration", required=True, help="folder of images")
    parser.add_argument("--evaluation", required=True, help="folder of other images, with labels.tsv")
    parser.add_argument("--prepared", action="store_true", help="take images as they are, without resizing")
    parser.add_argument("-o", "--output", default="accuracy", type=pathlib.Path, help="folder of models and results")
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)

    graphs = [evaluate(arguments, name, options, arguments.output) for name, options in GRAPHS]
    in_float = graphs[0]
    methods = []
    for name, options in GRAPHS:
        for method in METHODS if name in COMPARED else []:
            full = name if method == "compensate" else f"{name}, {method}"
            result = evaluate(arguments, full, [*options, "--method", method], arguments.output)
            methods.append({**result, "name": f"{name}, {method}"})

    text = table("weights/activations/attention", graphs)
    text += f"\n\nfloat32: top-1 {in_float['float_top1']:.2f}, top-5 {in_float['float_top5']:.2f}\n\n"
    text += table("method", methods) + "\n"
    (arguments.output / "tables.md").write_text(text, encoding="utf-8")
    results = {"float_top1": in_float["float_top1"],
               "graphs": [{key: result[key] for key in ["name", *MEASURES]} for result in graphs]}
    (arguments.output / "results.json").write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
