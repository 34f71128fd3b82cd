#!/usr/bin/env python3
"""Exports a small model with the attributes of FQ-ViT's original code, made of NumPy arrays: fqvit_model.py EXAMPLES FILE.

EXAMPLES is the folder of export_fqvit.py.  Refusals are tried, too.  Exit status 77: there is no NumPy.
"""

import sys
from types import SimpleNamespace as Module

try:
    import numpy as np
except ModuleNotFoundError:
    sys.exit(77)

sys.path.insert(0, sys.argv[1])
from export_fqvit import ExportError, export  # noqa: E402

WIDTH, HEADS, HIDDEN, PATCH, SIDE, CLASSES = 12, 2, 20, 4, 12, 7
random = np.random.default_rng(3)
uint8, int8, uint4 = Module(bits=8, signed=False), Module(bits=8, signed=True), Module(bits=4, signed=False)


class GELU:
    approximate = "none"


def numbers(*shape):
    return random.uniform(-1, 1, shape).astype(np.float32)


def activation(factors=None):
    scale = np.float32(0.02) if factors is None else np.float32(0.01) * factors
    return Module(bit_type=uint8, quantizer=Module(scale=np.asarray(scale), zero_point=np.asarray(120.0)))


def stream():
    return activation(2.0 ** random.integers(0, 4, WIDTH))


def layer(*shape):
    weight = numbers(*shape)
    scale = np.abs(weight).reshape(shape[0], -1).max(axis=1) / np.float32(127.5)
    return Module(weight=weight, bias=numbers(shape[0]), bit_type=int8,
                  quantizer=Module(scale=scale, zero_point=np.zeros(shape[0], np.int64)))


def norm():
    return Module(weight=1 + numbers(WIDTH) / 2, bias=numbers(WIDTH), mode="int", eps=1e-6)


def block():
    attention = Module(num_heads=HEADS, scale=(WIDTH / HEADS) ** -0.5, qkv=layer(3 * WIDTH, WIDTH),
                       proj=layer(WIDTH, WIDTH), qact1=activation(), qact2=activation(), qact3=activation(),
                       qact_attn1=activation(), log_int_softmax=Module(log_i_softmax=True, bit_type=uint4))
    mlp = Module(fc1=layer(HIDDEN, WIDTH), act=GELU(), qact1=activation(), fc2=layer(WIDTH, HIDDEN), qact2=activation())
    return Module(norm1=norm(), qact1=activation(), attn=attention, qact2=stream(), norm2=norm(), qact3=activation(),
                  mlp=mlp, qact4=stream())


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
export(vit(qact_input=None), sys.argv[2])  # pixels as codes
export(vit(), sys.argv[2])
