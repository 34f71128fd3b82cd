#!/usr/bin/env python3
"""Exports small models with the attributes of FQ-ViT's original code, made of NumPy arrays:

    fqvit_model.py EXAMPLES VIT SWIN

EXAMPLES is the folder of export_fqvit.py, VIT and SWIN are the files to write.  Every quantizer has a scale and a zero
point of its own, and the files are compared with them, name by name.  Refusals are tried, too.  Exit status 77: there
is no NumPy.
"""

import itertools
import json
import sys
from types import SimpleNamespace as Module

try:
    import numpy as np
except ModuleNotFoundError:
    sys.exit(77)

sys.path.insert(0, sys.argv[1])
from export_fqvit import ExportError, export  # noqa: E402

WIDTH, HEADS, HIDDEN, PATCH, SIDE, CLASSES, WINDOW = 12, 2, 20, 4, 12, 7, 3
random = np.random.default_rng(3)
uint8, int8, uint4 = Module(bits=8, signed=False), Module(bits=8, signed=True), Module(bits=4, signed=False)


class GELU:
    approximate = "none"


def numbers(*shape):
    return random.uniform(-1, 1, shape).astype(np.float32)


quantizers = itertools.count()


def activation(factors=1.0):
    """A quantizer whose scale and zero point no other has."""
    number = next(quantizers)
    scale = np.float32(0.01 + 0.0003 * number) * np.asarray(factors, np.float32)
    return Module(bit_type=uint8, quantizer=Module(scale=scale, zero_point=np.asarray((90.0 + number) % 256)))


def stream(width=WIDTH):
    factors = 2.0 ** random.integers(0, 4, width)
    factors[random.integers(width)] = 1
    return activation(factors)


def layer(*shape):
    weight = numbers(*shape)
    scale = np.abs(weight).reshape(shape[0], -1).max(axis=1) / np.float32(127.5)
    return Module(weight=weight, bias=numbers(shape[0]), bit_type=int8,
                  quantizer=Module(scale=scale, zero_point=np.zeros(shape[0], np.int64)))


def norm(width=WIDTH):
    return Module(weight=1 + numbers(width) / 2, bias=numbers(width), mode="int", eps=1e-6)


def perceptron(width):
    return Module(fc1=layer(HIDDEN, width), act=GELU(), qact1=activation(), fc2=layer(width, HIDDEN),
                  qact2=activation())


def block(width=WIDTH, **attention):
    parts = {"num_heads": HEADS, "scale": (width / HEADS) ** -0.5, "qkv": layer(3 * width, width),
             "proj": layer(width, width), "qact1": activation(), "qact2": activation(), "qact3": activation(),
             "qact_attn1": activation(), "log_int_softmax": Module(log_i_softmax=True, bit_type=uint4)}
    return Module(norm1=norm(width), qact1=activation(), attn=Module(**(parts | attention)), qact2=stream(width),
                  norm2=norm(width), qact3=activation(), mlp=perceptron(width), qact4=stream(width))


def swin_block(width):
    return block(width, qact4=activation(), qact_table=activation(),
                 relative_position_bias_table=numbers((2 * WINDOW - 1) ** 2, HEADS))


class Blocks(list):
    """Its elements are attributes, too, as those of torch's ModuleList."""

    def __getattr__(self, name):
        return self[int(name)]


def vit(**changes):
    model = {"qact_input": activation(), "patch_embed": Module(proj=layer(WIDTH, 3, PATCH, PATCH), qact=activation()),
             "cls_token": numbers(1, 1, WIDTH), "pos_embed": numbers(1, 1 + (SIDE // PATCH) ** 2, WIDTH),
             "qact_embed": activation(), "qact_pos": activation(), "qact1": stream(), "blocks": Blocks([block(), block()]),
             "norm": norm(), "qact2": activation(), "pre_logits": None, "head": layer(CLASSES, WIDTH),
             "act_out": activation()}
    return Module(**(model | changes))


def swin():
    wide = 2 * WIDTH
    merging = Module(norm=norm(4 * WIDTH), reduction=layer(wide, 4 * WIDTH), qact1=activation(), qact2=stream(wide))
    merging.reduction.bias = None
    stages = [Module(blocks=Blocks([swin_block(WIDTH), swin_block(WIDTH)]), downsample=merging),
              Module(blocks=Blocks([swin_block(wide)]), downsample=None)]
    patches = Module(proj=layer(WIDTH, 3, 2, 2), norm=norm(), qact_before_norm=activation(), qact=activation(),
                     img_size=(SIDE, SIDE))
    return Module(qact_input=activation(), patch_embed=patches, absolute_pos_embed=None, layers=Blocks(stages),
                  norm=norm(wide), qact2=activation(), qact3=activation(), head=layer(CLASSES, wide),
                  act_out=activation())


def read_file(path):
    """The tensors and the metadata of a safetensors file."""
    with open(path, "rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        data = file.read()
    metadata = header.pop("__metadata__")
    types = {"F32": np.float32, "I64": np.int64, "U8": np.uint8}
    return {name: np.frombuffer(data[slice(*entry["data_offsets"])], types[entry["dtype"]]).reshape(entry["shape"])
            for name, entry in header.items()}, metadata


def block_quantizers(block, swin):
    """A block's quantizers by the names of docs/calibrated_models.md."""
    attention, mlp = block.attn, block.mlp
    named = {"norm1": block.qact1, "qkv": attention.qact1, "attention_logits": attention.qact_attn1,
             "context": attention.qact2, "proj": attention.qact3, "add1": block.qact2, "norm2": block.qact3,
             "activation": mlp.qact1, "fc2": mlp.qact2, "add2": block.qact4}
    if swin:
        named |= {"position_bias": attention.qact_table, "biased_logits": attention.qact2, "context": attention.qact3,
                  "proj": attention.qact4}
    return named


def vit_quantizers(model):
    named = {"input": model.qact_input, "patch": model.patch_embed.qact, "embed": model.qact_embed,
             "positions": model.qact_pos, "tokens": model.qact1, "norm": model.qact2, "logits": model.act_out}
    for n, one in enumerate(model.blocks):
        named |= {f"blocks.{n}.{name}": quantizer for name, quantizer in block_quantizers(one, False).items()}
    return named


def swin_quantizers(model):
    named = {"input": model.qact_input, "patch": model.patch_embed.qact_before_norm, "tokens": model.patch_embed.qact,
             "norm": model.qact2, "pool": model.qact3, "logits": model.act_out}
    for s, stage in enumerate(model.layers):
        for n, one in enumerate(stage.blocks):
            named |= {f"layers.{s}.blocks.{n}.{name}": quantizer
                      for name, quantizer in block_quantizers(one, True).items()}
        if stage.downsample is not None:
            named |= {f"layers.{s}.merge_norm": stage.downsample.qact1, f"layers.{s}.merge": stage.downsample.qact2}
    return named


def require_activations(path, named):
    """Compares the activations.* of a file with the quantizers of the model."""
    found = {name: values for name, values in read_file(path)[0].items() if name.startswith("activations.")}
    expected = {}
    for name, module in named.items():
        scale = module.quantizer.scale
        expected[f"activations.{name}.scale"] = scale.min()
        expected[f"activations.{name}.zero_point"] = module.quantizer.zero_point
        if scale.ndim != 0:
            expected[f"activations.{name}.shift"] = [int(round(np.log2(ratio))) for ratio in scale / scale.min()]
    require(found.keys() == expected.keys(), f"{path} has other activations: {found.keys() ^ expected.keys()}")
    for name, values in expected.items():
        require(np.array_equal(found[name], values), f"{path}: {name} is {found[name]}; it must be {values}")


def require_pixel_bias(path, layer, mean, std):
    """Compares the sums of a layer on pixels, of which the file has no mean, with those of normalized pixels."""
    tensors, metadata = read_file(path)
    pixels = random.integers(0, 256, (3, PATCH, PATCH)) / 255
    mean, std = np.array(mean).reshape(3, 1, 1), np.array(std).reshape(3, 1, 1)
    scale = layer.quantizer.scale.astype(np.float64)
    for n in range(WIDTH):
        weight = np.clip(np.rint(layer.weight[n] / layer.quantizer.scale[n]), -128, 127) * scale[n]
        expected = (weight * ((pixels - mean) / std)).sum() + layer.bias[n]
        found = (weight * (pixels / std)).sum() + tensors["patch_embed.proj.bias"][n]
        require(abs(found - expected) < 1e-4, f"{path}: channel {n} of a patch is {found}; it must be {expected}")
    require(metadata["mean"] == "0.0,0.0,0.0", f"{path}: the mean is {metadata['mean']}")
    require(tensors["activations.input.scale"] == np.float32(1 / (255 * std.min())), f"{path}: the scale of pixels")
    require(tensors["activations.input.zero_point"] == 0, f"{path}: the zero point of pixels")


def refusal(model):
    try:
        export(model, sys.argv[2])
    except ExportError as error:
        return str(error)
    return "none"


def require(condition, what):
    if not condition:
        sys.exit(f"fqvit_model.py: {what}")


require("state_dict" in refusal({"blocks.0.norm1.weight": numbers(WIDTH)}), "a state_dict is exported")
not_calibrated = activation()
not_calibrated.quantizer.scale = None
require(refusal(vit(qact_pos=not_calibrated)).startswith("qact_pos has no scale"), "a model without scales is exported")
require(refusal(vit(qact1=activation(np.linspace(1, 2, WIDTH)))).startswith("qact1: scales"), "any factors are exported")


class Number(float):
    """A number whose repr is that of NumPy 2."""

    def __repr__(self):
        return f"np.float64({float(self)!r})"


MEAN, STD = (0.5, 0.4, 0.3), (0.25, 0.25, 0.25)
pixel_codes = vit(qact_input=None)
export(pixel_codes, sys.argv[2], MEAN, STD)
require_pixel_bias(sys.argv[2], pixel_codes.patch_embed.proj, MEAN, STD)
calibrated = vit()
export(calibrated, sys.argv[2], tuple(map(Number, MEAN)), tuple(map(Number, STD)))
require_activations(sys.argv[2], vit_quantizers(calibrated))
written = read_file(sys.argv[2])[1]
require((written["mean"], written["std"]) == ("0.5,0.4,0.3", "0.25,0.25,0.25"), f"metadata is {written}")
calibrated = swin()
export(calibrated, sys.argv[3])
require_activations(sys.argv[3], swin_quantizers(calibrated))
