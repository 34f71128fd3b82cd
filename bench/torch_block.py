#!/usr/bin/python3
"""A transformer block of PyTorch, run in turns with intact-compare, which starts this program as a process of its own.

Usage: bench/torch_block.py float|int8 BATCH TOKENS WIDTH HEADS HIDDEN THREADS

It makes the block in the ways that PyTorch offers, keeps the fastest and prints a line that names it. Then it reads
numbers of calls, a line each, and answers each with a line: the seconds per call, measured here around the calls alone.

float: float32, eager, and compiled by TorchScript for inference. int8: the linear layers in 8 bits, by the engines for
servers that this PyTorch is built with, static or dynamic; everything else in float32, as its quantized models have it.
"""

import argparse
import os
import sys
import time
import warnings

os.environ["OPENBLAS_NUM_THREADS"] = sys.argv[-1]
warnings.filterwarnings("ignore")

import torch  # noqa: E402: what it is told above it reads when it is imported
from torch import nn  # noqa: E402


class Block(nn.Module):
    """Pre-norm block on a float32 stream."""

    def __init__(self, width, heads, hidden):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.fc1, self.fc2 = nn.Linear(width, hidden), nn.Linear(hidden, width)

    def forward(self, x):
        batch, tokens, width = x.shape
        qkv = self.qkv(self.norm1(x)).reshape(batch, tokens, 3, self.heads, width // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        weights = (q * (width // self.heads) ** -0.5 @ k.transpose(-2, -1)).softmax(-1)
        x = x + self.proj((weights @ v).transpose(1, 2).reshape(batch, tokens, width))
        return x + self.fc2(nn.functional.gelu(self.fc1(self.norm2(x))))


class FloatToFloat(nn.Module):
    """A static 8-bit layer between float32 tensors."""

    def __init__(self, layer):
        super().__init__()
        self.quantize, self.dequantize = torch.quantization.QuantStub(), torch.quantization.DeQuantStub()
        self.layer = layer

    def forward(self, x):
        return self.dequantize(self.layer(self.quantize(x)))


def compiled(block, x):
    return torch.jit.optimize_for_inference(torch.jit.freeze(torch.jit.trace(block, x)))


def dynamic(block, _):
    return torch.quantization.quantize_dynamic(block, {nn.Linear}, dtype=torch.qint8)


def static(block, x):
    for name in ["qkv", "proj", "fc1", "fc2"]:
        setattr(block, name, FloatToFloat(getattr(block, name)))
        layer = getattr(block, name)
        layer.qconfig = torch.quantization.get_default_qconfig("fbgemm")
    prepared = torch.quantization.prepare(block)
    prepared(x)
    return torch.quantization.convert(prepared)


def seconds_per_call(block, x, calls):
    start = time.perf_counter()
    for _ in range(calls):
        block(x)
    return (time.perf_counter() - start) / calls


def candidates(kind):
    """Names, the engine if there is a choice, and functions that turn a block into what is measured."""
    if kind == "float":
        return [("eager", None, lambda block, x: block), ("TorchScript", None, compiled)]
    engines = [engine for engine in torch.backends.quantized.supported_engines if engine not in ("none", "qnnpack")]
    return [(f"{how.__name__}, {engine}", engine, how) for engine in engines for how in (dynamic, static)]


def fastest(arguments, x):
    """The fastest block that works here and its name."""
    best = (float("inf"), None, None)
    for name, engine, convert in candidates(arguments.kind):
        try:
            if engine:
                torch.backends.quantized.engine = engine
            torch.manual_seed(1)
            block = Block(arguments.width, arguments.heads, arguments.hidden).eval()
            expected = block(x)
            made = convert(block, x)
            error = ((made(x) - expected).norm() / (expected - x).norm()).item()
            if not error < 0.2:
                raise RuntimeError(f"its output is off by {error:.2f}")
            seconds_per_call(made, x, 3)
            seconds = min(seconds_per_call(made, x, 1) for _ in range(10))
            best = min(best, (seconds, name, made), key=lambda each: each[0])
        except RuntimeError as error:
            print(f"torch_block.py: {name}: {str(error).splitlines()[0]}", file=sys.stderr)
    return best[1:]


def blas():
    """The library that multiplies float32 matrices: Debian's PyTorch takes whichever is installed as libblas."""
    with open("/proc/self/maps", encoding="ascii") as maps:
        names = {os.path.basename(line.split()[-1]) for line in maps if "blas" in line}
    return " ".join(sorted(names)) or "its own"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", choices=["float", "int8"])
    for name in ["batch", "tokens", "width", "heads", "hidden", "threads"]:
        parser.add_argument(name, type=int)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    with torch.inference_mode():
        x = torch.randn(arguments.batch, arguments.tokens, arguments.width)
        name, block = fastest(arguments, x)
        if block is None:
            sys.exit("torch_block.py: this PyTorch computes no such block")
        print(f"{name}; BLAS: {blas()}", flush=True)
        for line in sys.stdin:
            print(repr(seconds_per_call(block, x, int(line))), flush=True)


if __name__ == "__main__":
    main()
