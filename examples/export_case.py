#!/usr/bin/env python3
"""Record inputs and outputs of a function as a case that intact-verify reads.

    python3 export_case.py --demo DIR      write four small cases to DIR, computed with NumPy
    intact-verify DIR

As a module:

    from export_case import Case, LINEAR

    case = Case("my_layer", LINEAR)
    case.add_quantizer("qin", codes, scale, zero_point)         # NumPy arrays or PyTorch tensors
    case.add("lin__wcodes", weight_codes, "codes", "one row per output channel")
    case.add("lin__wscale", weight_scales)
    case.add("lin__acc", accumulators, "derived", "sum of (code - zero point) * weight code")
    case.add_quantizer("qout", output_codes, output_scale, output_zero_point)
    case.write("cases")

Needs NumPy only.  docs/verify.md says which tensors each function needs and what is compared with them.
"""

import argparse
import json
from fractions import Fraction
from pathlib import Path

import numpy as np

# Functions as intact-verify knows them.
LINEAR = "QAct -> QLinear -> QAct"
SOFTMAX = "QIntSoftmax.forward(x, scale) with log_i_softmax=True"
LAYERNORM = "QIntLayerNorm.forward mode='int'"
ATTENTION = "Attention.forward"
WEIGHT_CODES = "attention by weight codes"
BLOCK = "Block.forward(x, last_quantizer)"
VISION_TRANSFORMER = "VisionTransformer.forward"

KINDS = {
    "orig": "a float32 value of the recorded program",
    "codes": "an integer code of the recorded program",
    "derived": "computed beside it, exactly",
}
DTYPES = {"bool": "BOOL", "uint8": "U8", "int8": "I8", "int32": "I32", "int64": "I64", "float32": "F32",
          "float64": "F64"}


def to_array(tensor) -> np.ndarray:
    """A NumPy array of a number, a list, an array or a PyTorch tensor, on whatever device it is."""
    if hasattr(tensor, "detach"):
        tensor = tensor.detach().cpu().numpy()
    return np.ascontiguousarray(tensor).reshape(np.shape(tensor))


def write_safetensors(path, tensors: dict[str, np.ndarray], metadata: dict[str, str]) -> None:
    """Writes arrays of the types of DTYPES as a safetensors file."""
    header: dict = {"__metadata__": metadata}
    offset = 0
    for name, tensor in tensors.items():
        header[name] = {"dtype": DTYPES[tensor.dtype.name], "shape": list(tensor.shape),
                        "data_offsets": [offset, offset + tensor.nbytes]}
        offset += tensor.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    data = (t.astype(t.dtype.newbyteorder("<")).tobytes() for t in tensors.values())
    Path(path).write_bytes(len(text).to_bytes(8, "little") + text + b"".join(data))


class Case:
    """Tensors with a kind and a description each, and the metadata of the function that they were recorded from."""

    def __init__(self, name: str, function: str, params: dict | None = None, notes: dict | None = None) -> None:
        self.name, self.function = name, function
        self.params, self.notes = params or {}, notes or {}
        self.tensors: dict[str, np.ndarray] = {}
        self.described: dict[str, dict[str, str]] = {}

    def add(self, name: str, tensor, kind: str = "orig", description: str = "") -> None:
        """Adds a tensor.  Codes are stored as int32, original values as float32, derived ones as they are."""
        if kind not in KINDS:
            raise ValueError(f"tensor {name}: kind is {kind}; it must be one of {', '.join(KINDS)}")
        if name in self.tensors:
            raise ValueError(f"tensor {name} is added twice")
        array = to_array(tensor)
        stored = array if kind == "derived" else array.astype({"orig": np.float32, "codes": np.int32}[kind])
        if kind == "codes" and not np.array_equal(stored, array):
            raise ValueError(f"tensor {name}: the codes are no whole numbers of 32 bits")
        if stored.dtype.name not in DTYPES:
            raise ValueError(f"tensor {name}: dtype is {stored.dtype}; it must be one of {', '.join(DTYPES)}")
        self.tensors[name] = stored
        self.described[name] = {"kind": kind, "desc": description}

    def add_quantizer(self, name: str, codes, scale, zero_point, values=None) -> None:
        """Adds the u8 codes of a quantized tensor; the number of code k is (k - zero_point) * scale.

        scale is one number, or one per channel (the last dimension), powers of two apart.  values are the float32
        tensor that was quantized: with them the quantizer itself is verified.
        """
        self.add(f"{name}__codes", codes, "codes")
        self.add(f"{name}__scale", scale)
        self.add(f"{name}__zp", zero_point, "codes")
        if values is not None:
            self.add(f"{name}__in", values)

    def write(self, folder) -> Path:
        """Writes <folder>/<name>.safetensors."""
        path = Path(folder) / f"{self.name}.safetensors"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_safetensors(path, self.tensors, {
            "case": self.name, "function": self.function, "params": json.dumps(self.params),
            "notes": json.dumps(self.notes), "tensors": json.dumps(self.described)})
        return path


# ---- the demonstration ----


def quantize(x: np.ndarray) -> tuple[np.ndarray, np.float32, int]:
    """u8 codes of a float32 tensor, with the scale and the zero point of its range."""
    low, high = x.min(), x.max()
    scale = (high - low) / np.float32(255)
    zero_point = int(np.clip(-np.rint(low / scale), 0, 255))
    codes = np.clip(np.rint(x / scale + np.float32(zero_point)), 0, 255).astype(np.int32)
    return codes, scale, zero_point


def quantize_weights(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """s8 codes and a scale per output channel."""
    scale = np.abs(weights).max(axis=1) / np.float32(127.5)
    return np.clip(np.rint(weights / scale[:, None]), -128, 127).astype(np.int32), scale


def linear_case(random: np.random.Generator) -> Case:
    """A fully connected layer between two quantizers, computed in float32 as a fake-quantized model does."""
    x = random.standard_normal((2, 5, 24), dtype=np.float32)
    weights = random.standard_normal((10, 24), dtype=np.float32)
    bias = random.standard_normal(10, dtype=np.float32)

    x_codes, x_scale, x_zero = quantize(x)
    weight_codes, weight_scale = quantize_weights(weights)
    fake_x = (x_codes - x_zero).astype(np.float32) * x_scale
    fake_weights = weight_codes.astype(np.float32) * weight_scale[:, None]
    y = fake_x @ fake_weights.T + bias
    y_codes, y_scale, y_zero = quantize(y)

    case = Case("demo_linear", LINEAR)
    case.add("weight_f32", weights)
    case.add_quantizer("qin", x_codes, x_scale, x_zero, x)
    case.add("lin__wcodes", weight_codes, "codes")
    case.add("lin__wscale", weight_scale)
    case.add("lin__bias", bias)
    case.add("lin__acc", ((x_codes - x_zero) @ weight_codes.T).astype(np.int32), "derived",
             "sum of (code - zero point) * weight code")
    case.add_quantizer("qout", y_codes, y_scale, y_zero, y)
    return case


def exponentials(codes: np.ndarray, scale: np.float32) -> list[int]:
    """I-BERT's integer exponentials of one row of logits, with FQ-ViT's constants and 30 octaves."""
    octave = -int(np.floor(np.float32(-0.6931) / scale))
    b = int(np.floor(np.float32(0.96963238 / 0.35815147) * (np.float32(1) / scale)))
    c = int(np.floor(np.float32(1 / 0.35815147) * (np.float32(1) / (scale * scale))))
    row = []
    for distance in (int(codes.max()) - codes).tolist():
        distance = min(distance, 30 * octave)
        halvings, r = distance // octave, -(distance % octave)
        row.append(max(0, r * (r + b) + c) << (30 - halvings))
    return row


def log2_code(e: int, total: int) -> int:
    """-log2(e / total): the ratio rounded to a whole number, then to a power of two, up from 1.5 times on."""
    ratio = round(Fraction(total, e))  # halves to even
    floor_log2 = ratio.bit_length() - 1
    return floor_log2 + (2 * (ratio - (1 << floor_log2)) >= 1 << floor_log2)


def softmax_case(random: np.random.Generator) -> Case:
    """Rows of Log-Int-Softmax, exactly."""
    scale = np.float32(0.0625)
    codes = random.integers(0, 256, (4, 17))
    rows = [exponentials(row, scale) for row in codes]
    case = Case("demo_softmax", SOFTMAX, {"scale": float(scale)})
    case.add("codes", codes, "codes", "u8 codes of logits")
    case.add("scale", scale.reshape(1))
    case.add("e_exact", np.array(rows, np.int64), "derived", "integer exponentials")
    case.add("S_exact", np.array([[sum(row)] for row in rows], np.int64), "derived", "their sums")
    case.add("q_exact", np.array([[log2_code(e, sum(row)) for e in row] for row in rows], np.int32), "derived",
             "codes before they are clamped")
    return case


def layernorm_case(random: np.random.Generator) -> Case:
    """A LayerNorm of codes with power-of-two factors, in float64."""
    zero_point, out_scale, out_zero_point = 131, 0.03125, 120
    codes = random.integers(0, 256, (6, 48))
    factors = 2 ** random.integers(0, 4, 48)
    weight = random.uniform(0.5, 1.5, 48).astype(np.float32)
    bias = random.uniform(-0.5, 0.5, 48).astype(np.float32)
    x = ((codes - zero_point) * factors).astype(np.float64)
    normalized = (x - x.mean(axis=1, keepdims=True)) / x.std(axis=1, keepdims=True)
    case = Case("demo_layernorm", LAYERNORM, {"in_zero_point": zero_point, "out_scale": out_scale,
                                              "out_zero_point": out_zero_point})
    case.add("codes", codes, "codes", "u8 codes of the input")
    case.add("shift_mask", factors, "codes", "power-of-two factor of each channel")
    case.add("weight", weight)
    case.add("bias", bias)
    case.add("ideal", (normalized * weight + bias) / out_scale, "derived", "in units of the output, without zero point")
    return case


def weight_codes_case(random: np.random.Generator) -> Case:
    """Attention with 4-bit codes relative to the row's maximum, which are indices of 16 u8 weights."""
    logits_scale, v_zero_point, zero_point = 0.0625, 120, 131
    weights = np.array([255, 174, 119, 81, 55, 38, 26, 18, 12, 8, 6, 4, 3, 2, 1, 0])
    exponentials_of_distances = 255 * np.exp(-logits_scale * np.arange(256))
    table = np.abs(exponentials_of_distances[:, None] - weights).argmin(axis=1)
    logits, v = random.integers(0, 256, (5, 17)), random.integers(0, 256, (17, 12))
    codes = table[logits.max(axis=1, keepdims=True) - logits]
    mean = (weights[codes] @ (v - v_zero_point)) / weights[codes].sum(axis=1, keepdims=True)
    context = np.clip(np.rint(mean * (0.03125 / 0.0234375) + zero_point), 0, 255)
    case = Case("demo_weight_codes", WEIGHT_CODES)
    case.add("logits__codes", logits, "codes", "u8 codes")
    case.add("table", table, "codes", "the code of each distance to the maximum")
    case.add("code_weights", weights, "codes", "the weight of each code")
    case.add("attention__codes", codes, "codes", "4-bit codes")
    case.add_quantizer("v", v, np.float32(0.03125), v_zero_point)
    case.add_quantizer("context", context.astype(np.int32), np.float32(0.0234375), zero_point)
    return case


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--demo", metavar="DIR", required=True, help="write four small cases to this folder")
    folder = parser.parse_args().demo
    random = np.random.default_rng(1)
    for case in (linear_case(random), softmax_case(random), layernorm_case(random), weight_codes_case(random)):
        print(case.write(folder))


if __name__ == "__main__":
    main()
