#!/usr/bin/env python3
"""Export a model that FQ-ViT's original code has calibrated to a file that intact-deit converts.

    python3 export_fqvit.py MODEL.pt calibrated.safetensors --code FQ-ViT/
    intact-deit convert calibrated.safetensors -o model.intact.safetensors

MODEL.pt is a model saved whole, torch.save(model, "MODEL.pt"), after its calibration: torch needs the original's code
to read it, which --code names, and runs what the file tells it to, so that only files of known origin are safe.  A
state_dict is refused: scales and zero points are plain attributes of the original's quantizers, which no state_dict
holds.

As a module, on a live model:

    from export_fqvit import export
    export(model, "calibrated.safetensors", mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))

Weights, scales, zero points, factors of powers of two and bits are written as they are.  Needs NumPy, and torch to read
MODEL.pt.  docs/calibrated_models.md has the tensors of the file.
"""

import argparse
import math
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))
from export_case import to_array, write_safetensors  # noqa: E402

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class ExportError(Exception):
    """The reason why a model has no file, naming the module."""


def numbers_text(numbers) -> str:
    """Numbers separated by commas; those of NumPy 2 have no repr that is a number."""
    return ",".join(repr(float(number)) for number in numbers)


def child(module, path: str):
    """The module at a path such as "blocks.0.attn.qact1"."""
    for name in path.split("."):
        module = getattr(module, name, None)
        if module is None:
            raise ExportError(f"{path} is missing; the model is not one of FQ-ViT's, or lacks a part that is needed")
    return module


class Exporter:
    """Collects the tensors of a file."""

    def __init__(self, model) -> None:
        self.model = model
        self.tensors: dict[str, np.ndarray] = {}
        self.bits: dict[str, int] = {}

    def require(self, holds: bool, what: str) -> None:
        if not holds:
            raise ExportError(what)

    def add(self, name: str, values, dtype=np.float32) -> None:
        self.tensors[name] = to_array(values).astype(dtype)

    def same_bits(self, kind: str, path: str, bit_type) -> None:
        bits = int(bit_type.bits)
        self.require(self.bits.setdefault(kind, bits) == bits,
                     f"{path} has {bits} bits, others of the kind {kind} have {self.bits[kind]}")

    def parameters(self, path: str) -> tuple[np.ndarray, np.ndarray]:
        """The scales and the zero points of a module's quantizer."""
        quantizer = getattr(child(self.model, path), "quantizer", None)
        self.require(quantizer is not None, f"{path} has no quantizer; the model is not one of FQ-ViT's")
        self.require(getattr(quantizer, "scale", None) is not None,
                     f"{path} has no scale: the model has to be calibrated first, the last batch after"
                     " model_open_last_calibrate()")
        return to_array(quantizer.scale).reshape(-1), to_array(quantizer.zero_point).reshape(-1)

    def layer(self, path: str) -> None:
        """A layer's weights with a scale per output channel."""
        module = child(self.model, path)
        scale, zero_points = self.parameters(path)
        self.same_bits("weight_bits", path, module.bit_type)
        self.require(not zero_points.any(), f"{path}: weights have zero points other than 0, which no product here has")
        self.add(path + ".weight", module.weight)
        self.add(path + ".weight_scale", np.broadcast_to(scale, (self.tensors[path + ".weight"].shape[0],)))
        if module.bias is not None:
            self.add(path + ".bias", module.bias)

    def norm(self, path: str) -> float:
        """A LayerNorm; returns its epsilon, which the original's integer one does not have."""
        module = child(self.model, path)
        self.add(path + ".weight", module.weight)
        self.add(path + ".bias", module.bias)
        return 0.0 if module.mode == "int" else float(module.eps)

    def activation(self, tensor: str, path: str) -> None:
        """The quantizer of activations at a path, under the name of the tensor."""
        scale, zero_points = self.parameters(path)
        bit_type = child(self.model, path).bit_type
        self.same_bits("activation_bits", path, bit_type)
        self.require(not bit_type.signed, f"{path} has signed codes; activations are unsigned")
        self.require(len(np.unique(zero_points)) == 1 and float(zero_points[0]).is_integer(),
                     f"{path}: zero points are {zero_points}; one whole number is needed")
        smallest = scale.min()
        factors = scale / smallest
        self.require(np.isin(factors, (1, 2, 4, 8)).all(),
                     f"{path}: scales of channels must be 1, 2, 4 or 8 times the smallest")
        self.add(f"activations.{tensor}.scale", smallest.reshape(()))
        self.add(f"activations.{tensor}.zero_point", np.asarray(zero_points[0]).reshape(()), np.int64)
        if len(scale) > 1:
            self.add(f"activations.{tensor}.shift", np.log2(factors), np.uint8)

    def block(self, path: str, swin: bool) -> float:
        """A block: layers, LayerNorms and quantizers; returns the epsilon."""
        attention = child(self.model, path + ".attn")
        heads = attention.num_heads
        width = to_array(attention.proj.weight).shape[0]
        self.require(math.isclose(attention.scale, (width / heads) ** -0.5, rel_tol=1e-6),
                     f"{path}.attn.scale is {attention.scale}; only 1 / sqrt(channels of a head) is supported")
        softmax = attention.log_int_softmax
        self.require(softmax.log_i_softmax, f"{path}.attn has no Log-Int-Softmax (INT_SOFTMAX)")
        self.same_bits("attention_bits", path + ".attn.log_int_softmax", softmax.bit_type)
        function = child(self.model, path + ".mlp.act")
        self.require(type(function).__name__ == "GELU" and getattr(function, "approximate", "none") == "none",
                     f"{path}.mlp.act is {function}; only GELU is supported")
        epsilon = self.norm(path + ".norm1")
        self.require(self.norm(path + ".norm2") == epsilon, f"{path}: LayerNorms have more than one epsilon")
        for layer in ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2"):
            self.layer(f"{path}.{layer}")
        quantizers = {"norm1": "qact1", "qkv": "attn.qact1", "attention_logits": "attn.qact_attn1",
                      "context": "attn.qact2", "proj": "attn.qact3", "add1": "qact2", "norm2": "qact3",
                      "activation": "mlp.qact1", "fc2": "mlp.qact2", "add2": "qact4"}
        if swin:
            self.add(path + ".attn.relative_position_bias_table", attention.relative_position_bias_table)
            quantizers |= {"position_bias": "attn.qact_table", "biased_logits": "attn.qact2",
                           "context": "attn.qact3", "proj": "attn.qact4"}
        for tensor, quantizer in quantizers.items():
            self.activation(f"{path}.{tensor}", f"{path}.{quantizer}")
        return epsilon

    def input(self, mean: tuple, std: tuple) -> tuple:
        """The quantizer of normalized pixels; returns their mean.

        Where the original has none, pixels are codes, each of 1 / (255 * smallest std), without their mean, whose share
        of the sums goes to the bias.  That is exact where the std of all channels is the same.
        """
        if getattr(self.model, "qact_input", None) is not None:
            self.activation("input", "qact_input")
            return mean
        self.add("activations.input.scale", 1 / (255 * min(std)))
        self.add("activations.input.zero_point", 0, np.int64)
        layer = "patch_embed.proj."
        scale = self.tensors[layer + "weight_scale"][:, None, None, None]
        limit = 2 ** (self.bits["weight_bits"] - 1)
        # In float32, as the original.
        codes = np.clip(np.rint(self.tensors[layer + "weight"] / scale), -limit, limit - 1)
        share = (codes.astype(np.float64) * scale).sum(axis=(2, 3)) @ (np.array(mean) / np.array(std))
        self.add(layer + "bias", self.tensors[layer + "bias"] - share)
        return (0.0,) * len(mean)

    def vit(self) -> float:
        model = self.model
        self.require(not hasattr(model.pre_logits, "fc"), "pre_logits is a layer, which is not supported")
        self.add("cls_token", model.cls_token)
        self.add("pos_embed", model.pos_embed)
        for tensor, quantizer in {"patch": "patch_embed.qact", "embed": "qact_embed", "positions": "qact_pos",
                                  "tokens": "qact1", "norm": "qact2", "logits": "act_out"}.items():
            self.activation(tensor, quantizer)
        epsilons = {self.block(f"blocks.{n}", swin=False) for n in range(len(model.blocks))}
        return self.only(epsilons | {self.norm("norm")})

    def swin(self) -> float:
        model = self.model
        self.require(getattr(model, "absolute_pos_embed", None) is None, "absolute_pos_embed is not supported")
        epsilons = {self.norm("patch_embed.norm"), self.norm("norm")}
        for tensor, quantizer in {"patch": "patch_embed.qact_before_norm", "tokens": "patch_embed.qact",
                                  "norm": "qact2", "pool": "qact3", "logits": "act_out"}.items():
            self.activation(tensor, quantizer)
        for s, layer in enumerate(model.layers):
            epsilons |= {self.block(f"layers.{s}.blocks.{n}", swin=True) for n in range(len(layer.blocks))}
            if layer.downsample is not None:
                merging = f"layers.{s}.downsample"
                epsilons.add(self.norm(merging + ".norm"))
                self.layer(merging + ".reduction")
                self.activation(f"layers.{s}.merge_norm", merging + ".qact1")
                self.activation(f"layers.{s}.merge", merging + ".qact2")
        return self.only(epsilons)

    def only(self, epsilons: set[float]) -> float:
        self.require(len(epsilons) == 1, f"LayerNorms have more than one epsilon: {sorted(epsilons)}")
        return epsilons.pop()


def export(model, path, mean=IMAGENET_MEAN, std=IMAGENET_STD) -> None:
    """Writes the file of a calibrated model.  mean and std are those of the pixels, 0 to 1, that it was calibrated on.

    Raises ExportError, naming the module, where the model has no integers here.
    """
    if isinstance(model, dict):
        raise ExportError("this is a state_dict, or a dictionary of one. Scales and zero points are plain attributes of"
                          " the original's quantizers, which a state_dict does not hold: save the calibrated model"
                          " whole, torch.save(model, file)")
    exporter = Exporter(model)
    swin = hasattr(model, "layers")
    exporter.require(swin or hasattr(model, "blocks"), f"{type(model).__name__} is not one of FQ-ViT's models")
    exporter.layer("patch_embed.proj")
    mean = exporter.input(mean, std)
    epsilon = exporter.swin() if swin else exporter.vit()
    exporter.layer("head")
    metadata = {"format": "intact-calibrated-swin" if swin else "intact-calibrated-vit", "version": "1",
                "ln_eps": repr(epsilon), "mean": numbers_text(mean), "std": numbers_text(std)}
    metadata |= {kind: str(bits) for kind, bits in exporter.bits.items()}
    if swin:
        sides = set(model.patch_embed.img_size)
        exporter.require(len(sides) == 1, f"images of {model.patch_embed.img_size} pixels are not square")
        metadata["img_size"] = str(sides.pop())
    else:
        metadata["heads"] = str(model.blocks[0].attn.num_heads)
    write_safetensors(path, exporter.tensors, metadata)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a model saved whole by torch.save")
    parser.add_argument("output", help="the file to write")
    parser.add_argument("--code", metavar="DIR", help="the folder of the original's code, which has models/")
    parser.add_argument("--mean", type=float, nargs=3, default=IMAGENET_MEAN, help="of pixels from 0 to 1 [ImageNet's]")
    parser.add_argument("--std", type=float, nargs=3, default=IMAGENET_STD, help="their deviation [ImageNet's]")
    arguments = parser.parse_args()
    if arguments.code:
        sys.path.insert(0, arguments.code)
    import inspect  # pylint: disable=import-outside-toplevel

    import torch  # pylint: disable=import-outside-toplevel

    whole = {"weights_only": False} if "weights_only" in inspect.signature(torch.load).parameters else {}
    try:
        export(torch.load(arguments.model, map_location="cpu", **whole), arguments.output, tuple(arguments.mean),
               tuple(arguments.std))
    except ModuleNotFoundError as error:
        sys.exit(f"{arguments.model}: the module {error.name} is missing; --code names the original's folder")
    except ExportError as error:
        sys.exit(f"{arguments.model}: {error}")


if __name__ == "__main__":
    main()
