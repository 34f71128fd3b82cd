#!/usr/bin/env python3
"""Tests the tests: whether they notice wrong arithmetic.

Each entry of the table below makes one place of the library wrong: a constant, an operator, a rounding. In a copy of
the tree under the build directory it is applied, the test programs that should notice are built and run, and it is
undone. A mutation that no test notices survives. That shows a missing test.

A mutation that does not compile, or whose original text does not occur exactly once, is an error of this script: when
the library changes, the table changes with it.

    tests/mutate.py                     all of them, in some hours on two cores
    tests/mutate.py --list              what there is
    tests/mutate.py --only 3,7-9        some of them
    tests/mutate.py --jobs 4 --compiler clang++

A test such as gemm_kernel_test@avx2 is compiled for that instruction set, which the processor has to have.

Exit status: 0 if every mutation was noticed, 1 if one survived, 2 if something could not be tried.
"""

import argparse
import collections
import concurrent.futures
import os
import pathlib
import queue
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "support"))
import isas  # noqa: E402

ISA_FLAGS = isas.read("any", "x86")

# file: below include/intact; tests: the programs that should notice, tried in this order until one does.
Mutation = collections.namedtuple("Mutation", "file original replacement tests")


def mutations_of(file, tests, *changes):
    return [Mutation(file, original, replacement, tests.split()) for original, replacement in changes]


MUTATIONS = [
    # Messages without stdio
    *mutations_of(
        "config/format_message.hpp", "format_message_test",
        ("message + size - 1", "message + size"),
        ("number >> 63 != 0", "number >> 62 != 0"),
        ("number = 0 - number", "number = 1 - number"),
        ("number != 0 || count == 0", "number != 0"),
        ("digits[--count]", "digits[count--]"),
    ),

    # Reference operations
    *mutations_of(
        "reference/gemm.hpp", "gemm_test",
        ("k < a.columns; ++k) {\n        sum += std::int64_t{a(m, k)}",
         "k + 1 < a.columns; ++k) {\n        sum += std::int64_t{a(m, k)}"),
        ("std::int64_t sum = 0;\n      for (index_t k = 0; k < a.columns; ++k) {\n        sum += std::int64_t{a(m, k)}",
         "float sum = 0;\n      for (index_t k = 0; k < a.columns; ++k) {\n        sum += std::int64_t{a(m, k)}"),
        ("(std::int64_t{a.codes(m, k)} - a.zero_point)", "(std::int64_t{a.codes(m, k)} - b.zero_point)"),
        ("(std::int64_t{b.codes(n, k)} - b.zero_point)", "(std::int64_t{b.codes(n, k)} + b.zero_point)"),
    ),
    *mutations_of(
        "reference/layernorm.hpp", "operation_kernel_test@avx2",
        ("std::int64_t half = std::int64_t{1} <<", "std::int64_t half = std::int64_t{0} <<"),
        ("(bit_length(variance) + 1) / 2 * 2", "bit_length(variance)"),
        ("((std::int64_t{1} << 61) - 1) / deviation", "(std::int64_t{1} << 61) / deviation"),
        ("static_cast<std::uint64_t>(sum * sum) + p.epsilon", "static_cast<std::uint64_t>(sum * sum) + 1"),
        ("(std::int64_t{codes[c]} - p.zero_point)", "std::int64_t{codes[c]}"),
        ("<< p.shift[std::size_t(c)]", "<< p.shift[0]"),
        ("scaled >> p.output_shift", "scaled >> (p.output_shift - 1)"),
    ),
    *mutations_of(
        "reference/layernorm.hpp", "operation_kernel_test@avx2",
        ("std::int64_t{codes[c]}", "std::int64_t{static_cast<std::uint8_t>(codes[c])}"),
        ("static_cast<std::uint64_t>(value(c) * value(c))", "static_cast<std::uint32_t>(value(c) * value(c))"),
        ("std::int64_t sum = 0;", "std::int32_t sum = 0;"),
        ("6 + (even_length - fraction_bits) / 2", "5 + (even_length - fraction_bits) / 2"),
        ("* one + p.epsilon_fraction", "* one"),
    ),
    *mutations_of(
        "types/layernorm.hpp", "layernorm_test",
        ("layernorm_small_variance_bits = 20", "layernorm_small_variance_bits = 18"),
        ("layernorm_epsilon_fraction_bits = 30", "layernorm_epsilon_fraction_bits = 28"),
    ),
    *mutations_of(
        "reference/layernorm.hpp", "rmsnorm_test operation_kernel_test@avx2",
        ("Kind == normalization::layernorm ? value(c) : 0", "value(c)"),
    ),
    *mutations_of(
        "kernel/layernorm.hpp", "rmsnorm_test operation_kernel_test@avx2",
        ("if (kind == normalization::rmsnorm) {\n      sums.sum = 0;", "if (false) {\n      sums.sum = 0;"),
        ("sums[r].sum = 0;", "sums[r].sum += 0;"),
    ),
    *mutations_of(
        "reference/rmsnorm.hpp", "operation_kernel_test@avx2",
        ("layernorm_row<normalization::rmsnorm>", "layernorm_row<normalization::layernorm>"),
    ),
    *mutations_of(
        "rmsnorm.hpp", "rmsnorm_test",
        ('require_layernorm<Code>("rmsnorm", p, x.columns);', 'require_layernorm<std::uint8_t>("rmsnorm", p, x.columns);'),
        ('"y", y, x.rows, x.columns', '"y", y, y.rows, x.columns'),
    ),
    *mutations_of(
        "build/layernorm.hpp", "layernorm_builder_test",
        ("target.beta.empty() ? 0 :", "target.beta.empty() ? 1 :"),
    ),
    *mutations_of(
        "reference/fq_vit_layernorm.hpp", "fq_vit_layernorm_test",
        ("m.mantissa < 128 &&", "m.mantissa < 64 &&"),
        ("(twice_rest == one && down % 2 != 0)", "twice_rest == one"),
        ("step = 4 * root + 1;", "step = 4 * root;"),
        ("offset += product < 0 ? mean : -mean;", "offset += product < 0 ? -mean : mean;"),
        ("rest = n % d;", "rest = 0;"),
    ),
    *mutations_of(
        "reference/log_softmax.hpp", "operation_kernel_test@avx2",
        ("      largest = std::max<int>(largest, logits(i, j));",
         "      largest = std::max<int>(largest, logits(0, j));"),
        ("Rounding == log2_rounding::round_log", "Rounding != log2_rounding::round_log"),
        ("return sum;", "return sum + 1;"),
    ),
    *mutations_of(
        "types/attention_codes.hpp", "log_softmax_test",
        ("static constexpr int last_code = 15;", "static constexpr int last_code = 14;"),
        ("static constexpr int last_code = 255;", "static constexpr int last_code = 254;"),
    ),
    *mutations_of(
        "types/attention_codes.hpp", "max_softmax_test operation_kernel_test@avx2",
        ("static constexpr int below_largest = 15;", "static constexpr int below_largest = 14;"),
    ),
    *mutations_of(
        "reference/shift_matmul.hpp", "shift_matmul_test",
        ("if (code <= fraction_bits)", "if (code < fraction_bits)"),
        ("(std::int64_t{v(j, c)} - values.zero_point)", "(std::int64_t{v(j, c)} + values.zero_point)"),
        ("(std::int64_t{1} << (fraction_bits - code));", "(std::int64_t{1} << (fraction_bits - 1 - code / 2 * 2));"),
        ("std::int64_t, std::int32_t>", "std::int32_t, std::int32_t>"),
    ),
    *mutations_of(
        "reference/shift_matmul.hpp", "weighted_matmul_test",
        ("return code <= fraction_bits ?", "return code < fraction_bits ?"),
    ),
    *mutations_of(
        "reference/weighted_matmul.hpp", "weighted_matmul_test",
        ("weight_sum += weight(i, j);", "weight_sum = weight(i, j);"),
        ("(std::int64_t{v(j, c)} - values.zero_point)", "std::int64_t{v(j, c)}"),
        ("saturate<std::uint8_t>(scale(sum))", "static_cast<std::uint8_t>(scale(sum))"),
    ),
    *mutations_of(
        "reference/log_sqrt2_matmul.hpp", "log_sqrt2_test",
        ("if (code <= log_sqrt2_largest_code) {", "if (code < log_sqrt2_largest_code) {"),
        ("sums[code % 2] +=", "sums[0] +="),
        ("std::int64_t{odd} * scale.odd_multiplier", "std::int64_t{odd} * scale.even_multiplier"),
        ("(32 - code)) + 1) >> 1);", "(32 - code))) >> 1);"),
    ),
    *mutations_of(
        "build/log_sqrt2.hpp", "log_sqrt2_test",
        ("std::rint(2 * static_cast<double>(d)", "std::rint(static_cast<double>(d)"),
        ("log_sqrt2_largest_code + 1;", "log_sqrt2_largest_code;"),
        ("unit * std::sqrt(0.5)", "unit * 0.5"),
        ("(2 * std::int64_t{zero_point} + 1)", "(2 * std::int64_t{zero_point})"),
    ),
    *mutations_of(
        "build/fold.hpp", "fold_test",
        ("static_cast<double>(beta[c]) * ratio + moved", "static_cast<double>(beta[c]) * ratio"),
        ("static_cast<double>(gamma[c]) * ratio", "static_cast<double>(gamma[c]) / ratio"),
        ("sum -= weight(n, c)", "sum += weight(n, c)"),
    ),
    *mutations_of(
        "kernel/depthwise_conv.hpp", "depthwise_conv_test",
        ("const index_t reach = w.size / 2;", "const index_t reach = 0;"),
        ("simd::broadcast<Isa>(x.zero_point)", "simd::broadcast<Isa>(0)"),
        ("row < grid.height && column >= 0", "row < grid.height"),
        ("left(to[n], 24), 24)", "left(to[n], 23), 23)"),
    ),
    *mutations_of(
        "kernel/unfold.hpp", "unfold_test",
        ("token % across * around.stride - reach", "token % across - reach"),
        ("j < grid.width) {", "j <= grid.width) {"),
        ("fill_rows<Isa>(padding,", "fill_rows<Isa>(std::uint8_t{0},"),
    ),
    *mutations_of(
        "reference/max_softmax.hpp", "operation_kernel_test@avx2",
        ("      largest = std::max<int>(largest, logits(i, j));", "      largest = logits(i, j);"),
        ("table[static_cast<std::size_t>(largest - logits(i, j))]);",
         "table[static_cast<std::size_t>(255 - logits(i, j))]);"),
        ("(largest - logits(i, j))] : masked;", "(largest - logits(i, j))] : 0;"),
    ),
    *mutations_of(
        "reference/activation.hpp", "operation_kernel_test@avx2",
        ("table[codes(i, j)]", "table[codes(i, j) & 2047]"),
    ),
    *mutations_of(
        "reference/log_softmax.hpp", "log_softmax_test",
        ("largest = mask(i, j) ? std::max<int>(largest, logits(i, j)) : largest;",
         "largest = std::max<int>(largest, logits(i, j));"),
        ("return mask(i, j) ? table", "return j >= 0 ? table"),
    ),
    *mutations_of(
        "reference/im2col.hpp", "im2col_test",
        ("top + k / patch.width % patch.height, left + k % patch.width",
         "top + k / patch.height % patch.height, left + k % patch.width"),
        ("p / patches_per_row * patch.height", "p / patches_per_row * patch.width"),
    ),
    *mutations_of(
        "kernel/im2col.hpp", "im2col_test",
        ("to[i] = from[i * stride]", "to[i] = from[i]"),
        ("to[x] = from[x * stride]", "to[x] = from[x]"),
        ("p % patches_per_row * patch", "p % patches_per_row"),
        ("y.data + p * y.stride", "y.data + p * y.columns"),
    ),
    # Windows, mergings and pooling, and the Swin transformer of them
    *mutations_of(
        "kernel/windows.hpp", "windows_test",
        ("window / across * size + grid.shift", "window / across * size - grid.shift + size"),
        ("window % across * size + grid.shift", "window % across * size"),
        ("i < padded_height ? i : i - padded_height", "i < padded_height ? i : i - grid.height"),
        ("left + done - padded_width", "left + done - padded_width + 1"),
        ("exists ? grid.width : padded_width", "padded_width"),
        ("y * grid.width + x : -1", "y * padded_width + x : -1"),
        ("to[i * stride + c] = value", "to[i * stride + c] = 0"),
        ("from_stride == columns && to_stride == columns", "from_stride == columns"),
        ("cut = grid.window - grid.shift", "cut = grid.shift"),
        ("bottom && token / grid.window >= cut", "bottom && token / grid.window > cut"),
        ("right && token % grid.window >= cut", "right && token / grid.window >= cut"),
    ),
    *mutations_of(
        "kernel/patch_merge.hpp", "patch_merge_test",
        ("quarter % 2, left", "quarter / 2, left"),
        ("(width + 1) / 2", "width / 2"),
        ("top < height && left < width", "top < height"),
    ),
    *mutations_of(
        "average_pool.hpp", "average_pool_test",
        ("0x7fffffff / 32768", "0x7fffffff / 32767"),
    ),
    *mutations_of(
        "model/vit.hpp", "vit_kernel_test@avx2",
        ("normalize_rows<Isa>(shape.norm, tokens, p.norm, tokens, run);", ""),
        ("if (const auto* const norm_pre = std::get_if<pre_norm_parameters>(&p.norm_pre)) {\n      normalize_tokens",
         "if (const auto* const norm_pre = std::get_if<pre_norm_parameters>(&p.norm_pre); i == 0) {\n      normalize_tokens"),
        ("average_pool<Isa>(image(i).row_block(shape.prefix_tokens(), shape.patches())",
         "average_pool<Isa>(image(i).row_block(0, shape.patches())"),
        ("normalize_rows<Isa>(shape.norm, image(i).row_block(shape.prefix_tokens(), shape.patches())",
         "normalize_rows<Isa>(shape.norm, image(i).row_block(0, shape.patches())"),
        ("normalize_rows<Isa>(shape.norm, stream.row_block(shape.prefix_tokens(), patches)",
         "normalize_rows<Isa>(shape.norm, stream.row_block(classes, patches)"),
        ("normalize_rows<Isa>(shape.norm, means,", "normalize_rows<Isa>(normalization::layernorm, means,"),
        ("features.column_block(classes * width, width)", "features.column_block(0, width)"),
        ("class_tokens_alone ? 1 : 0", "1"),
    ),
    *mutations_of(
        "model/vit_parameters.hpp", "contract_test",
        ("shape.has_class_features() ? 1 : 0", "0"),
        ('require_at_least("vit", "registers", shape.registers, 0);', ""),
        ("std::holds_alternative<mean_of_normalized>(p.mean) != shape.pools_normalized()", "false"),
        ("std::holds_alternative<mean_of_stream>(p.mean) != of_stream", "false"),
    ),
    *mutations_of(
        "kernel/average_pool.hpp", "average_pool_test",
        ("t < x.rows", "t + 1 < x.rows"),
        ("{.m = 0, .n = c,", "{.m = 0, .n = 0,"),
    ),
    *mutations_of(
        "kernel/rotate.hpp", "rotate_test",
        ("simd::multiply<Isa>(b, sine[j])", "simd::multiply<Isa>(a, sine[j])"),
        ("1 << (rotation_bits - 1)", "(1 << (rotation_bits - 1)) - 1"),
        ("load_row<Isa>(from + half + c, count, second);", "load_row<Isa>(from + c, count, second);"),
        ("p.sine.data + i * p.sine.stride + c", "p.sine.data + c"),
        ("head += 2 * half", "head += 4 * half"),
    ),
    *mutations_of(
        "reference/rotate.hpp", "rotate_test",
        ("a * p.cosine(t, j) - b * p.sine(t, j)", "a * p.cosine(t, j) + b * p.sine(t, j)"),
        ("x.codes(t, head + half + j) - x.zero_point", "x.codes(t, head + half + j)"),
        ("std::int64_t{1} << (rotation_bits - 1)", "std::int64_t{0}"),
    ),
    *mutations_of(
        "rotate.hpp", "rotate_test",
        ('"zero point of x", x.zero_point, 0, 255', '"zero point of x", x.zero_point, 0, 256'),
        ('"rows of cosine", p.cosine.rows, x.codes.rows', '"rows of cosine", x.codes.rows, x.codes.rows'),
        ('"sine", p.sine, p.cosine.rows, p.cosine.columns', '"sine", p.sine, p.cosine.rows, p.sine.columns'),
    ),
    *mutations_of(
        "build/rotation.hpp", "rotate_test",
        ("std::sin(angles(t, j))", "-std::sin(angles(t, j))"),
        ("std::rint(std::ldexp(x, rotation_bits))", "std::floor(std::ldexp(x, rotation_bits))"),
    ),
    *mutations_of(
        "kernel/multiply.hpp", "multiply_test",
        ("b.codes.data + i * b.codes.stride + c", "b.codes.data + i * a.codes.stride"),
        ("simd::subtract<Isa>(factors[j], b_zero_point)", "simd::subtract<Isa>(factors[j], a_zero_point)"),
        ("{.m = i, .n = c,", "{.m = i, .n = 0,"),
    ),
    *mutations_of(
        "reference/multiply.hpp", "multiply_test",
        ("(a.codes(i, c) - a.zero_point)", "(a.codes(i, c) + a.zero_point)"),
        ("(b.codes(i, c) - b.zero_point)", "(b.codes(0, c) - b.zero_point)"),
        ("product, i, c)", "product, i, 0)"),
    ),
    *mutations_of(
        "multiply.hpp", "multiply_test",
        ('"zero point of a", a.zero_point, 0, 255', '"zero point of a", a.zero_point, 0, 256'),
        ('"b", b.codes, a.codes.rows, a.codes.columns', '"b", b.codes, a.codes.rows, b.codes.columns'),
    ),
    *mutations_of(
        "build/scale_spec.hpp", "multiply_test",
        ("a_high = 255 - a_zero_point", "a_high = 254 - a_zero_point"),
        ("std::min(a_low * b_high, a_high * b_low)", "a_low * b_high"),
        ("std::max(a_low * b_low, a_high * b_high)", "a_high * b_high"),
    ),
    *mutations_of(
        "kernel/convert_codes.hpp", "convert_codes_test",
        ("x.data + i * x.stride + c", "x.data + i * x.stride"),
    ),
    *mutations_of(
        "model/window_attention.hpp", "swin_test",
        ("(bottom ? 1U : 0U)", "(bottom ? 2U : 0U)"),
    ),
    *mutations_of(
        "reference/model/window_attention.hpp", "swin_test",
        ("p.position_bias.row_block(head * tokens, tokens), p.add_bias",
         "p.position_bias.row_block(0, tokens), p.add_bias"),
        ("masked ? &window.mask : nullptr", "nullptr"),
    ),
    *mutations_of(
        "model/swin_shape.hpp", "swin_test",
        ("std::min(rows_of(s), columns_of(s))", "std::max(rows_of(s), columns_of(s))"),
        ("size = size / 2 + size % 2", "size = size / 2"),
    ),
    *mutations_of(
        "model/block.hpp", "block_kernel_test@avx2",
        ("normalize_rows<Isa>(norm, stream, p.norm2,", "normalize_rows<Isa>(normalization::layernorm, stream, p.norm2,"),
        ("multiply<Isa>({hidden, p.activation_zero_point}, {up, p.up_zero_point}",
         "multiply<Isa>({hidden, p.up_zero_point}, {up, p.activation_zero_point}"),
        ("if (const auto* const gate = std::get_if<gate_parameters>(&p.mlp.gate)) {",
         "if (const auto* const gate = std::get_if<gate_parameters>(&p.mlp.gate); gate != nullptr && stream.rows == 0) {"),
    ),
    *mutations_of(
        "model/block.hpp", "block_kernel_test@avx2",
        ("head < shape.heads ? norms->q : norms->k", "norms->q"),
        ("head < 2 * shape.heads", "head < shape.heads"),
        ("*shape.qk_norm,", "normalization::layernorm,"),
        ("norms == nullptr || shape.width == 0", "norms == nullptr || qkv.rows < 3"),
        ("(first + i) % shape.tokens", "i % shape.tokens"),
        ("if (position < 0) {", "if (position < 1) {"),
        ("rotate_part(1, p.zero_points.k);", "rotate_part(1, p.zero_points.q);"),
    ),
    *mutations_of(
        "model/attention_parameters.hpp", "contract_test",
        ("(p != nullptr) != shape.qk_norm.has_value()", "false"),
        ('require_layernorm("attention: q_norm", p->q, shape.head_size());', ""),
        ('require_layernorm("attention: k_norm", p->k, shape.head_size());', ""),
        ("(p != nullptr) != shape.rotary_prefix.has_value()", "false"),
        ('"rotary_prefix", *shape.rotary_prefix, 0, shape.tokens', '"rotary_prefix", *shape.rotary_prefix, 0, 6'),
        ('"head size % 2 with rotary positions", shape.head_size() % 2, 0', '"head size % 2 with rotary positions", 0, 0'),
        ('require_shape("attention: rotation", "cosine", p->cosine, rows, pairs);', ""),
        ('require_shape("attention: rotation", "sine", p->sine, rows, pairs);', ""),
    ),
    *mutations_of(
        "reference/model/attention.hpp", "double_reference_test",
        ("kind == normalization::rmsnorm", "kind != normalization::rmsnorm"),
        ("norms->k, shape.heads, k", "norms->q, shape.heads, k"),
        ("x.column_block(head * size, size)", "x.column_block(0, size)"),
    ),
    *mutations_of(
        "reference/model/attention.hpp", "rotary_block_test",
        ("rotate_heads({q, p.zero_points.q}, *angles, *shape.rotary_prefix, q)",
         "rotate_heads({q, p.zero_points.k}, *angles, *shape.rotary_prefix, q)"),
        ("p, y.row_block(prefix, rotated)", "p, y.row_block(0, rotated)"),
        ("rotate_heads({k, p.zero_points.k}, *angles, *shape.rotary_prefix, k)",
         "rotate_heads({q, p.zero_points.k}, *angles, *shape.rotary_prefix, k)"),
    ),
    *mutations_of(
        "reference/model/block.hpp", "double_reference_test",
        ("detail::normalize(norm, stream, p.norm2,", "detail::normalize(normalization::layernorm, stream, p.norm2,"),
    ),
    *mutations_of(
        "reference/model/mlp.hpp", "double_reference_test",
        ("{buffer.activated, p.activation_zero_point}", "{buffer.activated, p.up_zero_point}"),
        ("if (gate != nullptr) {", "if (false) {"),
    ),
    *mutations_of(
        "model/block.hpp", "workspace_test",
        ("gated ? size_product(2, hidden) : hidden", "hidden"),
    ),
    *mutations_of(
        "model/mlp.hpp", "contract_test",
        ("(gate != nullptr) != gated", "false"),
        ('require_linear<Kinds>("mlp: up", gate->up, hidden, width);', ""),
        ('require_scale("mlp: gate.product", gate->product, hidden);', ""),
    ),
    *mutations_of(
        "model/swin.hpp", "swin_test",
        ("static_cast<Code>(p.norm.zero_point), buffer.merged", "0, buffer.merged"),
    ),
    *mutations_of(
        "model/swin_block.hpp", "swin_test",
        ("static_cast<std::uint8_t>(p.norm1_zero_point)", "std::uint8_t{0}"),
    ),
    *mutations_of(
        "model/window_attention.hpp", "swin_kernel_test@avx2",
        ("x.bias.row_block(first, rows)", "x.bias.row_block(0, rows)"),
        ("x.mask.visible.row_block(first, rows)", "x.mask.visible.row_block(0, rows)"),
        ("masks.of(shape.grid, window % windows)", "masks.of(shape.grid, 0)"),
    ),
    *mutations_of(
        "io/real_values.hpp", "load_checkpoint_test",
        ("exponent + 112", "exponent + 113"),
        ("static_cast<float>(fraction), -24", "static_cast<float>(fraction), -25"),
        ("std::uint32_t{bits} << 16", "std::uint32_t{bits} << 15"),
        ("case dtype::f64:\n      return converted(double{}", "case dtype::i64:\n      return converted(double{}"),
    ),
    *mutations_of(
        "io/checkpoint_config.hpp", "checkpoint_config_test",
        ("configured<double>{1 / factor->value", "configured<double>{factor->value"),
        ("to > from || 10 * to < from", "to >= from || 10 * to < from"),
        ("size) / static_cast<double>(resized);", "size) / static_cast<double>(resized + 1);"),
        ("value.get<std::uint64_t>() - 1 >= std::uint64_t{largest}", "value.get<std::uint64_t>() > std::uint64_t{largest}"),
    ),
    *mutations_of(
        "io/file_kind.hpp", "safetensors_hostile_test",
        ("begin.starts_with('c') && remove_name() && remove_name()", "begin.starts_with('c') && remove_name()"),
        ("end == 0 || end == std::string_view::npos", "end == std::string_view::npos"),
        ('begin.find_first_of("pq(") == 0', 'begin.find_first_of("pq(") != 0'),
    ),
    *mutations_of(
        "quantize/part_errors.hpp", "reconstruction_test",
        ("if (!std::isfinite(error.noise)) {\n    return -limit;", "if (!std::isfinite(error.noise)) {\n    return limit;"),
    ),
    *mutations_of(
        "build/recipe.hpp", "recipe_test",
        ("names.u8_full, names.not_normalized", "names.u8_full, names.normalized"),
        ("p.weights == weight_kind::grouped_s4 ? p.weight_group : 1", "p.weights == weight_kind::s4 ? p.weight_group : 1"),
        ("const bool is_wide = p.probabilities == attention_code::u8_full", "const bool is_wide = p.probabilities != attention_code::u8_masked"),
    ),
    *mutations_of(
        "io/json_text.hpp", "recorded_case_test",
        ("enclosing >= json_max_depth", "enclosing > json_max_depth"),
        ("at == event::array_start || at == event::object_start", "at == event::object_start"),
        ("printable_text(value.dump())", "value.dump()"),
    ),
    *mutations_of(
        "io/preprocess.hpp", "preprocess_test",
        ("std::max(1 - std::fabs(x), 0.0)", "std::max(1 - x, 0.0)"),
        ("(kind == interpolation::bicubic ? 2 : 1) * stretch", "(kind == interpolation::bicubic ? 1 : 1) * stretch"),
        ("image.height <= image.width ? shorter", "image.height < image.width ? shorter"),
        ("const double ratio = std::min(", "const double ratio = std::max("),
        ("!preprocessing.squash && size.is_square()", "size.is_square()"),
    ),
    *mutations_of(
        "quantize/model_summary.hpp", "model_summary_test",
        ("4 * tokens * width * width", "3 * tokens * width * width"),
        ("2 * tokens * tokens * width", "tokens * tokens * width"),
        ("layers * tokens * width * hidden", "tokens * width * hidden"),
        ("4 * padded * width(s)", "4 * tokens(s) * width(s)"),
        ("2 * padded * window * width(s)", "2 * padded * padded * width(s)"),
        ("2 * tokens(s) * width(s)", "2 * padded * width(s)"),
        ("tokens(s + 1) * 4 * width(s)", "tokens(s) * 4 * width(s)"),
    ),
    *mutations_of(
        "io/nearest_name.hpp", "checkpoint_names_test",
        ("(a[i] == b[j] ? 0 : 1)", "(a[i] == b[j] ? 0 : 2)"),
        ("row[0] = i + 1;", "row[0] = i;"),
        ("std::min({replaced, row[j] + 1, diagonal + 1})", "std::min({replaced, row[j] + 1, diagonal + 2})"),
    ),
    *mutations_of(
        "io/named_tensors.hpp", "checkpoint_names_test load_checkpoint_test",
        ("shape.front() *= static_cast", "shape.front() += static_cast"),
        ("expected_shape.front() /= static_cast", "expected_shape.front() *= static_cast"),
    ),
    *mutations_of(
        "io/checkpoint_names.hpp", "checkpoint_names_test",
        ("(feature - 1) / 2", "feature / 2"),
        ("if (feature % 2 == 0)", "if (feature % 2 != 0)"),
        ("name.substr(0, common).rfind('.')", "name.rfind('.')"),
    ),
    *mutations_of(
        "quantize/calibrated_reader.hpp", "load_calibrated_test",
        ("return {-9, static_cast<float>(256 - y.zero_point)", "return {-2, static_cast<float>(256 - y.zero_point)"),
        ("static_cast<float>(256 - y.zero_point) * y.scale", "static_cast<float>(y.zero_point) * y.scale"),
        ("if (!(scale > 0) ||", "if (!(scale >= 0) ||"),
        ("zero < 0 || zero > 255", "zero < 0 || zero > 256"),
        ("scale.shift[c] > 3", "scale.shift[c] > 4"),
        ("scale[at / (codes.size() / scale.size())]", "scale[at % scale.size()]"),
        ("== weight_kind::s4 ? s4_codes : s8_codes", "== weight_kind::s4 ? s8_codes : s4_codes"),
        ("codes[at] > range.high", "codes[at] > range.high + 1"),
        ("if (!std::isfinite(scales.fc1.high))", "if (false)"),
    ),
    *mutations_of(
        "quantize/float_model_reader.hpp", "load_checkpoint_test float_vit_test",
        ("layer.bias.tail(width) = matrix(v", "layer.bias.segment(width, width) = matrix(v"),
        ("layer.bias.array() *= gamma.array();", ""),
        ("size >= 1 && size <= model_file_max_size", "size >= 1"),
        ("!separate_biases_ && joint_biases_", "contains(name + \".qkv.bias\")"),
    ),
    *mutations_of(
        "types/key_mask.hpp", "block_kernel_test@avx2",
        ("j <= past + i", "j < past + i"),
        ("j < lengths[", "j <= lengths["),
        ("visible.rows == 1 ? visible : visible.row_block(first, count)", "visible"),
    ),
    *mutations_of(
        "model/attention.hpp", "block_kernel_test@avx2",
        ("encode_rows(codes, x.mask.queries(first, count))", "encode_rows(codes)"),
        ("run.for_each(heads, [&](index_t h) {", "run.for_each(heads - 1, [&](index_t h) {"),
        ("for (index_t i = 0; i <= h; ++i) {", "for (index_t i = 0; i < 1; ++i) {"),
    ),
    *mutations_of(
        "model/attention_parameters.hpp", "contract_test",
        ("full && (of_sum == nullptr || divisor != nullptr)", "full && of_sum == nullptr"),
        ("of_sum == nullptr && divisor == nullptr", "of_sum == nullptr && divisor == nullptr && keys < 0"),
        ("if (p.codes() == attention_code::u4_clipped) [[unlikely]]", "if (p.codes() == attention_code::u8_full) [[unlikely]]"),
        ("mask.visible.rows != 0", "mask.visible.rows > 1"),
    ),
    *mutations_of(
        "build/layer_specs.hpp", "block_test",
        ("q_scale * k_scale", "q_scale * q_scale"),
        ("replace(2, *own.v)", "replace(2, *own.k)"),
    ),
    *mutations_of(
        "quantize/load_swin_checkpoint.hpp", "load_swin_checkpoint_test",
        ("    tokens *= 2;", "    tokens *= 3;"),
        ("return size_product(tokens, shape.patch);", "return size_product(tokens, 4 * shape.patch);"),
        ("if (std::min(rows, columns) < window) {", "if (std::max(rows, columns) < window) {"),
        ("if (shape.of(s).depth == 1) {", "if (shape.of(s).depth == 0) {"),
        ("return std::max(rows, columns) == window", "return std::max(rows, columns) != window"),
        ("rows % window == 0 && columns % window == 0", "rows % window == 0"),
    ),
    *mutations_of(
        "quantize/checkpoint_values.hpp", "load_checkpoint_test load_swin_checkpoint_test",
        ("(values[0] + values[1] + values[2]) / 3}, \"the average", "(values[0] + values[1] + values[2]) / 2}, \"the average"),
        ("key != nullptr && file_.metadata().contains(key)", "key == nullptr && file_.metadata().contains(key)"),
        ("std::ssize(numbers->value) != channels", "std::ssize(numbers->value) == channels"),
    ),
    *mutations_of(
        "quantize/float_swin.hpp", "float_swin_test",
        ("shape.window * shape.window > shift_matmul_max_keys", "shape.window > shift_matmul_max_keys"),
        ("shape.patches() > swin_file_max_tokens || last", "last"),
        ("i / window - j / window, across", "j / window - i / window, across"),
    ),
    *mutations_of(
        "build/scale_spec.hpp", "average_pool_test convert_codes_test",
        ("std::int64_t{zero_point} * tokens,", "std::int64_t{zero_point},"),
        (".correction = zero_point, .range = {0, 255}", ".correction = 0, .range = {0, 255}"),
    ),
    # Kernels beside gemm's
    *mutations_of(
        "kernel/layernorm.hpp", "operation_kernel_test@avx2 layernorm_test",
        ("layernorm_base_shift + half_length", "layernorm_base_shift - 1 + half_length"),
        ("const int half_length = (bit_length(v) + 1) / 2", "const int half_length = bit_length(v) / 2"),
        ("new_half_length = (bit_length(v) + 1) / 2", "new_half_length = bit_length(v) / 2"),
        ("2 * half_length <= layernorm_small", "2 * half_length < layernorm_small"),
        ("if (least_shift <= layernorm", "if (least_shift < layernorm"),
        ("* one + fraction", "* one"),
        ("codes.columns <= layernorm_fast_channels", "codes.columns <= 1000000"),
        ("p.output_shift >= layernorm_fast_output_shift)", "p.output_shift >= 1)"),
    ),
    *mutations_of(
        "simd/moments.hpp", "simd_test@avx2",
        ("powers = _mm_setr_epi8(1, 2, 4, 8,", "powers = _mm_setr_epi8(1, 2, 4, 4,"),
        ("_mm256_srli_epi64(x, 32)", "_mm256_srli_epi64(x, 31)"),
    ),
    *mutations_of(
        "simd/moments.hpp", "simd_test@avx512bw",
        ("_mm512_add_epi64(even, _mm512_srli_epi64(pairs, 32))",
         "_mm512_add_epi64(even, _mm512_srai_epi64(pairs, 32))"),
    ),
    *mutations_of(
        "simd/moments_unshifted.hpp", "simd_test@avx2",
        ("squares_ = Words::add_squares(squares_, values)", "squares_ = Words::add_pairs(squares_, values, values)"),
        ("Words::sum_of_s64(squares_)", "Words::sum_of_u32(squares_)"),
    ),
    *mutations_of(
        "kernel/layernorm.hpp", "operation_kernel_test@avx512bw",
        ("bits |= shift[c]", "bits = shift[c]"),
        ("(count + width - 1) / width * width", "count / width * width"),
    ),
    *mutations_of(
        "simd/inv_sqrt.hpp", "simd_test@avx512bw",
        ("(std::uint64_t{1} << 37) / (2 * t + 1)", "(std::uint64_t{1} << 37) / (2 * t)"),
        ("_mm512_add_epi64(correction, raise)", "correction"),
        ("_mm512_cmpgt_epi64_mask", "_mm512_cmpge_epi64_mask"),
        ("_mm512_set1_epi64((std::int64_t{1} << 61) - 1)", "_mm512_set1_epi64(std::int64_t{1} << 61)"),
        ("_mm512_mask_mov_epi64(quotient, fits, next)", "quotient"),
    ),
    *mutations_of(
        "simd/table_sum.hpp", "simd_test@avx512vnni",
        ("std::int64_t{0x80008000} * added", "std::int64_t{0x80008000} * count"),
        ("(__mmask32{1} << (count - j)) - 1", "(__mmask32{1} << (count - j)) - 2"),
    ),
    *mutations_of(
        "simd/table_sum.hpp", "simd_test@avx512vbmi",
        ("_mm256_setr_epi64x(0, 8, 16, 24)", "_mm256_setr_epi64x(0, 8, 8, 24)"),
        ("width > bits ? width - bits : 0", "width > bits + 1 ? width - bits : 0"),
    ),
    *mutations_of(
        "kernel/log_softmax/threshold_octave.hpp", "operation_kernel_test@avx512vbmi",
        ("max_fraction = 0xa8f5", "max_fraction = 0xffff"),
        ("Rounding == log2_rounding::round_log ? 1 : 3", "true ? 1 : 3"),
        ("shift == 0 ? 0 : 1 +", "shift == 0 ? 0 : 0 *"),
        ("(1u << 18) / divisor", "(1u << 17) / divisor"),
    ),
    *mutations_of(
        "simd/octave_search.hpp", "operation_kernel_test@avx512vbmi",
        ("below > 31 || x == 0 ? 31", "below > 31 ? 31"),
        ("octave_[comparable_ - 1] > max_level", "octave_[comparable_ - 1] >= max_level - 2"),
        ("_mm512_kunpackd(close(d + 32), close(d))", "_mm512_kunpackd(close(d), close(d + 32))"),
        ("_mm512_min_epu16(excess[0], excess[1])", "excess[0]"),
        ("_mm512_set1_epi8(max_level + 1)", "_mm512_set1_epi8(max_level - 1)"),
    ),
    *mutations_of(
        "simd/lut12.hpp", "simd_test@avx512vbmi",
        ("after_second = without_lowest_bit(after_first)",
         "after_second = without_lowest_bit(without_lowest_bit(after_first))"),
        ("_mm512_subs_epu8(all, before)", "_mm512_sub_epi8(all, before)"),
        ("_mm512_rol_epi64(smallest, 8)", "_mm512_rol_epi64(smallest, 16)"),
        ("(falls & _mm512_test_epi8_mask(up, up)) | ", ""),
        ("_mm512_test_epi8_mask(upper, _mm512_set1_epi8(8))", "_mm512_test_epi8_mask(upper, _mm512_set1_epi8(4))"),
    ),
    *mutations_of(
        "simd/reduce_16_registers.hpp", "simd_test@avx512vbmi",
        ("_mm512_max_epu8(_mm512_unpacklo_epi16(x, y), _mm512_unpackhi_epi16(x, y))", "_mm512_unpacklo_epi16(x, y)"),
        ("_mm512_shuffle_i64x2(x, y, 0xdd)", "_mm512_shuffle_i64x2(x, y, 0x88)"),
    ),
    *mutations_of(
        "kernel/log_softmax/row_loop.hpp", "operation_kernel_test@avx512vbmi",
        ("short_row = 256", "short_row = 100000"),
        ("short_row = 256", "short_row = 258"),
        ("short_row = 256", "short_row = 257"),
        ("if (sum.sum == 0)", "if (sum.sum == 1)"),
    ),
    *mutations_of(
        "kernel/log_softmax/exp_sum.hpp", "operation_kernel_test@avx512vbmi",
        ("sum_.shift() == 0 && sum_.covers(row.count)", "sum_.covers(row.count)"),
    ),
    *mutations_of(
        "kernel/log_softmax/exp_sum.hpp", "operation_kernel_test@avx2",
        ("max_code - softmax_distances;", "max_code - softmax_distances + 1;"),
    ),
    *mutations_of(
        "kernel/log_softmax/threshold_bisection.hpp", "operation_kernel_test@avx2",
        ("place -= ascending[place] > threshold ? 1 : 0;\n    if", "place -= 1;\n    if"),
        ("if (ascending[place] > threshold) [[unlikely]]", "if (false)"),
        ("bytes::lookup(level_2_, level)", "bytes::lookup(level_4_, level)"),
        ("level_16_, bytes::broadcast(1));\n    }\n    return bytes::max(level, first_level_);",
         "level_16_, bytes::broadcast(1));\n    }\n    return level;"),
    ),
    *mutations_of(
        "kernel/log_softmax/row_loop.hpp", "operation_kernel_test@avx2",
        ("if (!Masked || sum != 0)", "if (!Masked || sum == 0)"),
    ),
    *mutations_of(
        "kernel/shift_matmul.hpp", "shift_matmul_kernel_test@avx2",
        ("return largest < 24;", "return largest <= 24;"),
        ("largest = row_max > largest ? row_max : largest;", "largest = row_max;"),
        ("scratch.corrections[i] = (128 - x.v.codes.zero_point) * sum;", "scratch.corrections[i] = 0;"),
        ("row_tensor_scale(normalization, sum, x.v.codes.zero_point - 128)",
         "row_tensor_scale(normalization, sum, x.v.codes.zero_point - 127)"),
    ),
    *mutations_of(
        "kernel/shift_matmul.hpp", "shift_matmul_kernel_test@scalar",
        ("if (shift < 0) {", "if (shift <= 0) {"),
        ("/ (255 << 15)", "/ (254 << 15)"),
    ),
    *mutations_of(
        "kernel/attention.hpp", "block_kernel_test@avx2",
        ("share * (std::int64_t{1} << logits.left_shift) * logits.multiplier", "share * logits.multiplier"),
        ("if (!logits_fit_offsets(logits, q.columns)) {", "if (false) {"),
        ("correct_rows<Isa>(q, head.key_zero_point, scratch.corrections);",
         "correct_rows<Isa>(q, 128, scratch.corrections);"),
        ("weights_[d] = of_codes->weights[of_codes->table[d]]", "weights_[d] = of_codes->table[d]"),
        ("std::holds_alternative<weights_of_max>(p.weights) || std::holds_alternative<weight_codes_of_max>(p.weights)",
         "std::holds_alternative<weights_of_max>(p.weights)"),
    ),
    *mutations_of(
        "reference/model/attention.hpp", "double_reference_test",
        ("= of.weights[x.codes(i, j)]", "= of.weights[x.codes(i, j) / 2]"),
    ),
    *mutations_of(
        "reference/model/attention.hpp", "swin_test",
        ("of.table, *x.mask, u4::max, x.codes", "of.table, *x.mask, 0, x.codes"),
    ),
    *mutations_of(
        "kernel/activation_product.hpp", "activation_product_test@avx2",
        ("sum - b.zero_point * depth", "sum - 128 * depth"),
        ("(128 - b_zero_point) * sum", "(127 - b_zero_point) * sum"),
        ("word ^ 0x80808080u", "word"),
        ("n = d < block_depth ? blocks : 0", "n = d < block_depth ? blocks : blocks"),
    ),
    *mutations_of(
        "gemm.hpp", "activation_product_test@avx2",
        ("i = products.begin; i < products.end", "i = products.begin; i + 1 < products.end"),
    ),
    *mutations_of(
        "types/row_range.hpp", "operation_kernel_test@avx2",
        ("return end - begin;", "return end;"),
    ),
    *mutations_of(
        "types/matrix_batch.hpp", "activation_product_test@avx2",
        ("first.data + i * distance", "first.data"),
    ),
    *mutations_of(
        "model/linear.hpp", "contract_test",
        ("if (!compiled) [[unlikely]]", "if (false)"),
    ),
    *mutations_of(
        "kernel/combine_slices.hpp", "shift_matmul_kernel_test@avx2",
        ("x[p - 1][j] = simd::add<Isa>(x[p - 1][j], shift::shift_right(x[p][j], 8));", ""),
        ("shift::shift_right(byte, 3)", "shift::shift_right(byte, 2)"),
        ("high[j] = simd::add<Isa>(high[j], shift::shift_right(low[j], 29));", ""),
        ("low[j] = mul_shift::shift_left(low[j], scale.left_shift);", ""),
    ),
    *mutations_of(
        "simd/exponent_slices.hpp", "shift_matmul_kernel_test@avx2",
        ("{128, 64, 32, 16, 8};", "{128, 64, 32, 16, 8, 4};"),
        ("padding * 128)", "padding * 127)"),
        ("registers::broadcast(45)", "registers::broadcast(44)"),
    ),
    *mutations_of(
        "kernel/add.hpp", "operation_kernel_test@avx2",
        ("simd::multiply<Isa>(branch_zero_point, branch_multiplier[j])",
         "simd::multiply<Isa>(branch_zero_point, offset[j])"),
    ),
    *mutations_of(
        "kernel/add.hpp", "operation_kernel_test@avx512vbmi",
        ("c + 1 == channels ? 0 : c + 1", "c + 1 == channels ? 1 : c + 1"),
        ("(first + c) % std::ssize(scale.offset)", "c % std::ssize(scale.offset)"),
        ("all.column_block(first + c, count)", "all.column_block(c, count)"),
        ("&& branch.stride == c", ""),
        ("&& y.stride == c", ""),
        ("stream.stride == c &&", ""),
        ("data + rows.begin * c, pairs", "data, pairs"),
    ),
    *mutations_of(
        "kernel/epilogue.hpp", "operation_kernel_test@avx512vbmi",
        ("store_codes<Isa>(found[r]", "store_codes<Isa>(found[0]"),
    ),
    # Arithmetic
    *mutations_of(
        "arith/integer_math.hpp", "integer_math_test layernorm_test",
        ("root * root - 1 >= n ? 1 : 0", "root * root - 1 > n ? 1 : 0"),
        ("<= 256 * t + 255", "<= 240 * t"),
        ("64 - std::countl_zero(x)", "63 - std::countl_zero(x)"),
    ),
    *mutations_of(
        "arith/integer_math.hpp", "stream_test gemm_test",
        ("static_cast<T>(x < low ? low : x > high ? high : x)",
         "static_cast<T>(x < low ? low : x > high ? high - 1 : x)"),
        ("static_cast<T>(x < low ? low :", "static_cast<T>(x < low ? low + 1 :"),
    ),
    *mutations_of(
        "arith/log2_code.hpp", "log_softmax_test",
        ("a = 2 * sum + e;", "a = 2 * sum;"),
        ("if (a < 4 * e)", "if (a <= 4 * e)"),
        ("if (a <= 6 * e)", "if (a < 6 * e)"),
        ("((3 * e) << distance) > a", "((3 * e) << distance) >= a"),
        ("(middle << 33)", "(middle << 32)"),
        ("below < low * low ? 1 : 0", "below < low * low ? 0 : 0"),
        ("if ((a2.high >> 63) != 0)", "if ((a2.high >> 63) > 1)"),
        ("twice.low < b2.low", "twice.low <= b2.low"),
        ("(e << k) > sum ? 1 : 0", "(e << k) > sum ? 0 : 0"),
    ),
    *mutations_of(
        "arith/log2_code.hpp", "log_softmax_test",
        ("2 * sum / 3 ", "2 * sum / 3 - 1 "),
        ("(2 * sum - 1) / 5", "2 * sum / 5"),
        ("(level - 1)) - 1)", "(level - 1)))"),
        ("? next - 1 : next", "? next : next"),
    ),
    *mutations_of(
        "arith/scale.hpp", "operation_kernel_test@avx2",
        ("stream - scale.stream_zero_point", "stream - scale.branch_zero_point"),
        ("scale.branch_multiplier[channel]", "scale.branch_multiplier[0]"),
        ("sum >> scale.shift", "(sum - 1) >> scale.shift"),
    ),
    *mutations_of(
        "arith/scale.hpp", "gemm_test",
        ("(std::int64_t{1} << scale.left_shift)", "(std::int64_t{1} << scale.left_shift / 2)"),
        (">> (32 + scale.shift)", ">> (31 + scale.shift)"),
    ),
    *mutations_of(
        "arith/scale.hpp", "weighted_matmul_test",
        ("if (weight_sum != 0)", "if (weight_sum > 1)"),
        ("static_cast<std::uint64_t>(weight_sum)), 24);\n      multiplier_",
         "static_cast<std::uint64_t>(weight_sum)), 23);\n      multiplier_"),
        (" + (weight_sum >> 1)) / weight_sum;\n      shift_", ") / weight_sum;\n      shift_"),
        ("(2 * std::int64_t{zero_point_} + 1)", "(2 * std::int64_t{zero_point_})"),
        ("shift_ = 28 + e;", "shift_ = 27 + e;"),
    ),
    *mutations_of(
        "stage/output_stage.hpp", "gemm_test",
        ("::max() >> (8 * sizeof(Out) - Bits)", "::max()"),
        ("const Out y = saturate<Out>(mul_shift(accumulator, scale.channel(n)));",
         "const Out y = saturate<Out>(mul_shift(accumulator, scale.channel(0)));"),
    ),
    *mutations_of(
        "stage/output_stage.hpp", "stream_test",
        ("return stage(accumulator, m, n);", "return stage(accumulator, 0, n);"),
        ("saturate<std::int16_t>(addend(m, n) + ", "static_cast<std::int16_t>(addend(m, n) + "),
        ("addend(m, n) + mul_shift(accumulator, scale.channel(n))",
         "addend(m, n) + saturate<std::int16_t>(mul_shift(accumulator, scale.channel(n)))"),
    ),
    *mutations_of(
        "stage/output_stage.hpp", "shift_matmul_test",
        ("((low * scale.multiplier) >> extra_fraction_bits)", "0"),
    ),
    *mutations_of(
        "stage/compat.hpp", "compat_stage_test",
        ("twice_rest == one && down % 2 != 0", "twice_rest == one"),
        ("twice_rest > one ||", "twice_rest > one + 2 ||"),
        ("((product >> (shift - 1)) + 1)", "(product >> (shift - 1))"),
        ("return std::int64_t{accumulator} + bias", "return accumulator + bias"),
        ("product >= 0 ? std::int64_t{1} << 30 : 1 - (std::int64_t{1} << 30)",
         "product >= 0 ? std::int64_t{1} << 30 : -(std::int64_t{1} << 30)"),
        ("(mask >> 1) + (x < 0 ? 1 : 0)", "(mask >> 1)"),
        ("saturate<std::int32_t>(scale.corrected(accumulator, n) * left)",
         "static_cast<std::int32_t>(scale.corrected(accumulator, n) * left)"),
        ("((corrected + (std::int64_t{1} << (shift - 1)))",
         "((corrected - (corrected < 0 ? 1 : 0) + (std::int64_t{1} << (shift - 1)))"),
        ("std::int64_t{divided(product, power < 0 ? -power : 0)} + scale.zero_point, low, high",
         "std::int64_t{divided(product, power < 0 ? -power : 0)} + scale.zero_point, std::numeric_limits<Out>::min(), high"),
        ("require_between(operation, \"exponent of a channel\", power(n), -31, 30)",
         "require_between(operation, \"exponent of a channel\", power(n), -32, 30)"),
    ),
    *mutations_of(
        "kernel/compat_epilogue.hpp", "compat_stage_kernel_test@avx2",
        ("simd::bit_and<Isa>(shift::right(w, n), simd::broadcast<Isa>(1))", "simd::bit_and<Isa>(w, simd::broadcast<Isa>(1))"),
        ("simd::bit_and<Isa>(even, low_is_zero)", "even"),
        ("simd::subtract<Isa>(p.low, even)", "p.low"),
        ("simd::add<Isa>(p.shifted_31(), p.bit_30())", "p.shifted_31()"),
        ("simd::bit_and<Isa>(x, minus_n), 31)", "x, 31)"),
        ("overflow = simd::bit_or<Isa>(overflow, other_sign);", ""),
        ("simd::bit_or<Isa>(lost, simd::subtract<Isa>(zero, lost))", "lost"),
        ("simd::bit_or<Isa>(unusual, shift_left<Isa>(sum, left, power))", "shift_left<Isa>(sum, left, power)"),
        ("simd::max<Isa>(exponent[j], zero)", "exponent[j]"),
        ("std::int32_t{1} << e", "std::int32_t{2} << e"),
        ("saturate<std::int32_t>(std::int64_t{stage.low} - zero_point)", "stage.low - zero_point"),
        ("if constexpr (sizeof stage.low == sizeof(std::int32_t))", "if constexpr (false)"),
        ("mul_shift::shift_right(sum[j], stage.shift - 1)", "mul_shift::shift_right(sum[j], stage.shift)"),
    ),
    *mutations_of(
        "interop/float_lanes.hpp", "interop_kernel_test@avx2",
        ("rounding_constant = 12582912", "rounding_constant = 8388608"),
        ("return min(max(x, low), high);", "return max(x, low);"),
        ("from = copy;", ""),
    ),
    *mutations_of(
        "interop/float_rounding.hpp", "interop_kernel_test@avx2",
        ("static_cast<float>(stage.low - stage.zero_point)", "static_cast<float>(stage.low)"),
        ("float_of<Isa>(simd::add<Isa>(x[r][j], bias[j]))", "float_of<Isa>(x[r][j])"),
        ("(kernel::nearest_integer(limited) + zero_point)", "(static_cast<int>(limited) + zero_point)"),
    ),
    *mutations_of(
        "interop/float_output.hpp", "interop_kernel_test@avx2",
        ("float_of<Isa>(x[r][j]) * row_scale * scale[j]", "float_of<Isa>(x[r][j]) * (row_scale * scale[j])"),
        ("simd::add<Isa>(simd::add<Isa>(bits, odd), simd::broadcast<Isa>(0x7fff))",
         "simd::add<Isa>(bits, simd::broadcast<Isa>(0x8000))"),
        ("const s32<Isa> odd = simd::bit_and<Isa>(mul_shift::shift_right(bits, 16)", "const s32<Isa> odd = simd::bit_and<Isa>(mul_shift::shift_right(bits, 15)"),
        ("if (!stage.offset.empty()) {", "if (false) {"),
    ),
    *mutations_of(
        "interop/quantize_rows.hpp", "interop_kernel_test@avx2",
        ("largest >= smallest_row_magnitude", "largest > smallest_row_magnitude"),
        ("simd::broadcast<Isa>(0x7fffffff)", "simd::broadcast<Isa>(0x3fffffff)"),
        ("largest = simd::max<Isa>(largest, magnitude);", "largest = magnitude;"),
        (">= infinite_magnitude", "> infinite_magnitude"),
        ("std::is_unsigned_v<Code> ? 128 : 0", "std::is_unsigned_v<Code> ? 127 : 0"),
        ("(x.data + m * x.stride, x.columns) >=", "(x.data, x.columns) >="),
        ("      return m;\n", "      return 0;\n"),
    ),
    *mutations_of(
        "interop/dispatch/operations.hpp", "choice_test",
        ("require_quantize_rows(x, codes, scale);", ""),
        ("if (row < x.rows) [[unlikely]]", "if (false)"),
        ("dispatch_call<dispatched::quantize_rows>(x, codes, scale, executor_ref(run));", ""),
    ),
    *mutations_of(
        "interop/dispatch/interop_select.cpp", "choice_test",
        ("Isas::name == isa ?", "Isas::name != isa ?"),
        ("&interop_dispatch_table_of<Isas>() : found", "&interop_dispatch_table_of<Isas>() : nullptr"),
        ("* found = nullptr;", "* found = &interop_dispatch_table_of<std::tuple_element_t<0, std::tuple<Isas...>>>();"),
    ),
    *mutations_of(
        "stage/row_corrected.hpp", "compat_stage_kernel_test@avx2",
        ("correction[static_cast<std::size_t>(m)]", "correction[0]"),
        ("static_cast<std::int32_t>(sum), m, n", "accumulator, m, n"),
        ("stage.require(operation, rows, channels);", ""),
    ),
    *mutations_of(
        "kernel/row_sums.hpp", "compat_stage_kernel_test@avx2",
        ("sum = -128 * count", "sum = -127 * count"),
        ("count - k < piece ? count - k : piece", "piece"),
        ("a[k + i] + 128", "a[i] + 128"),
    ),
    *mutations_of(
        "build/compat.hpp", "compat_layer_test",
        ("multiplier /= 2;", "multiplier -= 1;"),
        ("exponent < -31", "exponent < -30"),
        ("std::is_unsigned_v<W> ? 128 : 0;", "0;"),
        ("sum += code + row_factor_;", "sum += code;"),
        ("recentering - spec.weight_zero_point;", "spec.weight_zero_point - recentering;"),
        ("spec.weight_scale.size() == 1 ? 0 : channel", "0"),
        ("return static_cast<double>(product) / static_cast<double>(output);", "return static_cast<double>(input) * static_cast<double>(weight) / static_cast<double>(output);"),
        ("std::round(x / output.scale)", "std::nearbyint(x / output.scale)"),
    ),
    *mutations_of(
        "simd/lane_shift.hpp", "compat_stage_kernel_test@sse4_1",
        ("_mm_srli_epi64(n, 32);", "_mm_srli_epi64(n, 31);"),
        ("_MM_SHUFFLE(1, 1, 0, 0)", "_MM_SHUFFLE(1, 0, 0, 0)"),
        ("_MM_SHUFFLE(3, 3, 2, 2)", "_MM_SHUFFLE(3, 2, 2, 2)"),
    ),
    # Weights and views
    *mutations_of(
        "types/grouped_s4.hpp", "grouped_s4_test",
        ("codes(n, k) * (1 << shifts(n, k / group))", "codes(n, k) * (1 << shifts(n, 0))"),
        ("group_count(first_columns, group)", "first_columns / group"),
    ),
    *mutations_of(
        "types/int4.hpp", "int4_test grouped_s4_test",
        ("j % 2 == 0 ? byte & 15 : byte >> 4", "j % 2 != 0 ? byte & 15 : byte >> 4"),
        ("{data, first_rows, first_columns, stride}", "{data, first_rows, first_columns}"),
    ),
    *mutations_of(
        "types/view.hpp", "view_test grouped_s4_test",
        ("{data, first_rows, first_columns, stride}", "{data, first_rows, first_columns}"),
    ),
    # Sizes that 64 bits, or the machine's words, do not hold
    *mutations_of(
        "types/view.hpp", "view_test",
        ("view.columns > most || (view.rows > 1", "(view.rows > 1 && view.columns > most) || (view.rows > 1"),
        ("size_product(index_t a, index_t b) {\n  if (a < 0 || b < 0)", "size_product(index_t a, index_t b) {\n  if (b < 0)"),
        ("b > max_size / a ?", "b > max_size / a + 1 ?"),
        ("? max_size : a * b", "? max_size : index_t{static_cast<std::int32_t>(a * b)}"),
        ("b > max_size - a ? max_size : a + b", "a + b"),
        ("size / group + (size % group != 0 ? 1 : 0)", "(size + group - 1) / group"),
    ),
    *mutations_of(
        "types/workspace.hpp", "workspace_test",
        ("size_product(count, static_cast<index_t>(sizeof(T)))", "count * static_cast<index_t>(sizeof(T))"),
        ("constexpr matrix_view<T> matrix(index_t rows, index_t columns) {\n    return {take<T>(size_product(rows, columns))",
         "constexpr matrix_view<T> matrix(index_t rows, index_t columns) {\n    return {take<T>(rows * columns)"),
        ("INTACT_INLINE matrix_view<T> matrix(index_t rows, index_t columns) {\n    return {take<T>(size_product(rows, columns))",
         "INTACT_INLINE matrix_view<T> matrix(index_t rows, index_t columns) {\n    return {take<T>(rows * columns)"),
        ("bytes < 0 ? max_size : size_sum", "bytes < 0 ? 0 : size_sum"),
        ("mine >= most || more >= most - mine", "mine >= most"),
        ("count) > (left_ - padding) / sizeof(T)", "count) * sizeof(T) > left_ - padding"),
        ("before < task; ++before", "before + 1 < task; ++before"),
    ),
    *mutations_of(
        "io/model_file_checks.hpp", "model_file_hostile_test",
        ("shape.has_class_features() && shape.class_tokens == 0", "false"),
        ("max_size = 1 << 20", "max_size = 1 << 21"),
        ("std::int64_t{shape.height / patch.height} * (shape.image_width / patch.width)",
         "static_cast<std::int32_t>(shape.height / patch.height * (shape.image_width / patch.width))"),
        ("tokens > shift_matmul_max_keys", "tokens > shift_matmul_max_keys + 1"),
        ("width / heads > gemm_max_depth_u8_u8", "width / heads > gemm_max_depth_u8_u8 + 1"),
        ("weights.back() != 0", "weights.front() == 0"),
    ),
    *mutations_of("gemm.hpp", "grouped_s4_test", ("8 << grouped_s4_view::max_shift", "8")),
    # Fused stages
    *mutations_of(
        "stage/fused.hpp", "fused_stage_test",
        ("table[requantize_u12{scale}(accumulator, n)]",
         "table[requantize_u12{scale}(accumulator, n) & 2047]"),
        ("stream(m, n), requantize<std::uint8_t>{scale}(accumulator, n), n)",
         "stream(m, n), requantize<std::int8_t>{scale}(accumulator, n), n)"),
        ("rows[static_cast<std::size_t>(m)]", "rows[0]"),
    ),
    *mutations_of(
        "arith/scale.hpp", "fused_stage_test",
        ("- v_zero_point * weight_sum * multiplier", "+ v_zero_point * weight_sum * multiplier"),
        (".offset = offset * (std::int64_t{1} << left_shift)", ".offset = offset"),
        (".left_shift = left_shift}", ".left_shift = 0}"),
        ("{.offset = half_and_zero_point * (std::int64_t{1} << 31)}", "{}"),
    ),
    *mutations_of("gemm.hpp", "contract_test", ('require_equal("gemm", "columns of w", w.columns, a.columns);', "")),
    # Packed weights
    *mutations_of(
        "kernel/pack.hpp", "pack_test",
        ("(weight(n, i) & 15) | ((weight(n, i + 4) & 15) << 4)", "(weight(n, i + 4) & 15) | ((weight(n, i) & 15) << 4)"),
        ("n < w.rows && k < w.columns ?", "n < w.rows && k <= w.columns - 1 + w.columns % 2 ?"),
        ("shift(n + 16, g) << 2", "shift(n + 32, g) << 2"),
        ("std::int32_t sum = 0;", "std::int32_t sum = 1;"),
        ("sum += w(n, k);", "sum = static_cast<std::int16_t>(sum + w(n, k));"),
    ),
    *mutations_of(
        "types/packed_weights.hpp", "pack_test",
        ("return group_count(columns, step);", "return columns / step + 1;"),
        ("rest >= panel_width ? panel_width : rounded_width(rest)", "rounded_width(rest)"),
        ("shifts[k / group * shift_bytes", "shifts[k / step * shift_bytes"),
        ("place / 16 * 2 & 3", "place / 16 & 3"),
        ("first_columns == columns ? sums : nullptr", "sums"),
        ("step_bytes * steps(packed_columns)", "step_bytes * steps(columns)"),
        ("panel_shift_bytes(packed_columns, group)", "panel_shift_bytes(columns, group)"),
    ),
    *mutations_of(
        "pack.hpp", "pack_test",
        ('"bytes of memory", std::ssize(memory),', '"bytes of memory", std::ssize(memory) + 1,'),
        ("static_cast<std::uintptr_t>(packed_weights_alignment)", "std::uintptr_t{32}"),
        ("w.group % packed_weights<grouped_s4>::step == 0", "w.group % 4 == 0"),
    ),
    # Kernels
    *mutations_of(
        "kernel/gemm.hpp", "gemm_kernel_test@avx2_vnni",
        ("rest[r][k] = done + k < a.columns ?", "rest[r][k] = done + k + 1 < a.columns ?"),
        ("static_cast<A>(-product_dot<Isa, A, Element>::offset)", "A{0}"),
        ("panel.steps(steps, column)", "panel.steps(0, column)"),
        ("(; columns - column > width - simd::lanes<Isa>", "(; columns - column >= width"),
        ("here.columns - column > width - simd::lanes<Isa>", "here.columns - column >= width"),
        ("= w.width(number) * packed::step_bytes;", "packed::panel_width * packed::step_bytes;"),
        ("simd::multiply<isa::scalar>(sum, dot::offset)", "simd::multiply<isa::scalar>(sum, 127)"),
        ("w.sums == nullptr ? sum_of(w, first + n)", "w.sums == nullptr ? 0"),
        ("lanes_[n * parts] = start[first + n];", "lanes_[n * parts] = start[n];"),
        ("const index_t stop = end < (panel + panels) * row_tiles ? end :", "const index_t stop ="),
        ("row_end < rows ? row_end : rows", "row_end"),
        (".begin = first * tile_rows,", ".begin = first * 3,"),
    ),
    *mutations_of(
        "kernel/gemm_output.hpp", "gemm_kernel_test@avx2_vnni",
        ("at.columns < width ? at.columns : width", "width"),
        ("at.columns - column > 3 * lanes", "at.columns - column > 2 * lanes"),
        ("r < rows; r += index_t{Rows}", "r < rows; r += 2 * index_t{Rows}"),
    ),
    *mutations_of(
        "kernel/gemm_tile.hpp", "gemm_kernel_test@avx2_vnni",
        ("next = packed::step / 2;", "next = packed::step / 4;"),
        ("shifts_of_columns(w, w.first / w.group_steps)", "shifts_of_columns(w, 0)"),
        ("w.column + static_cast<index_t>(j) * dot::columns", "static_cast<index_t>(j) * dot::columns"),
    ),
    *mutations_of(
        "kernel/gemm_tile.hpp", "gemm_kernel_test@sse4_1",
        ("w.group_steps - w.first % w.group_steps;", "w.group_steps;"),
        ("together = w.group_steps;\n    }", "}"),
    ),
    *mutations_of(
        "kernel/gemm.hpp", "gemm_kernel_test@sse4_1",
        ("for (; k % step != 0; ++k)", "for (; false; ++k)"),
        ("here.steps(k / packed::step, column)", "here.steps(0, column)"),
        ("tile.load(partial[p][0] + column * parts, stride);", "tile.load(here.start.of(column), 0);"),
        ("if (k + depth == a.columns) {", "if (depth < gemm_chunk) {"),
    ),
    *mutations_of(
        "kernel/epilogue.hpp", "gemm_kernel_test@sse4_1",
        ("if (shift != 0) [[unlikely]] {", "if (false) {"),
        ("mul_shift::shift_left(x[j], scale.left_shift)", "x[j]"),
        ("mul_shift::shift_right(mul_shift::mul_high(x[r][j], factors), scale.shift)", "mul_shift::mul_high(x[r][j], factors)"),
        ("if (at.columns < width) {", "if (false) {"),
        ("clamp_tile<Isa>(x, 0, (1 << Bits) - 1);", "clamp_tile<Isa>(x, 0, 1 << Bits);"),
        ("clamp_tile<Isa>(x, -65536, 65535);", ""),
        ("clamp_tile<Isa>(x, 0, 255);", "clamp_tile<Isa>(x, -1, 255);"),
        ("lanes<Isa>>(codes[r], at.columns,", "lanes<Isa>>(codes[0], at.columns,"),
        ("(at.m + static_cast<index_t>(r)) * stage.addend.stride", "(at.m + static_cast<index_t>(r)) * y.columns"),
        ("simd::subtract<Isa>(stream[j], stream_zero_point)", "simd::subtract<Isa>(stream[j], branch_zero_point)"),
        ("apply_stage(stage, accumulators[j], at.m, at.n + j)", "apply_stage(stage, accumulators[j], 0, at.n + j)"),
        ("corrected.correction.data()[at.m + static_cast<index_t>(r)]", "corrected.correction.data()[at.m]"),
    ),
    # Registers
    *mutations_of(
        "simd/int4.hpp", "simd_test@scalar",
        ("value(w[0] >> 4, shift), value(w[1] >> 4, shift)", "value(w[0] >> 4, shift), value(w[1], shift)"),
        ("w[column % 16] >> column / 16 * 2 & 3", "w[column % 16] >> column / 16 & 3"),
    ),
    *mutations_of(
        "simd/dot4.hpp", "gemm_kernel_test@sse2",
        ("std::is_signed_v<A> ? steps::s8_to_s16(bytes)", "!std::is_signed_v<A> ? steps::s8_to_s16(bytes)"),
    ),
    *mutations_of(
        "simd/dot4.hpp", "simd_test@sse2",
        ("_mm_add_epi32(sum, _mm_madd_epi16(a, w))", "_mm_madd_epi16(a, w)"),
        ("0b11'01'11'01", "0b11'01'01'11"),
    ),
    *mutations_of(
        "simd/int4.hpp", "simd_test@sse2",
        ("_mm_srai_epi16(_mm_slli_epi16(words(w), 12), 12)", "_mm_srli_epi16(_mm_slli_epi16(words(w), 12), 12)"),
        ("_mm_and_si128(moved, _mm_set1_epi16(3))", "moved"),
        ("static_cast<int>(column / 16 * 2)", "static_cast<int>(column / 32 * 2)"),
    ),
    *mutations_of(
        "simd/s4_dot.hpp", "simd_test@sse4_1",
        ("_mm_and_si128(nibbles, _mm_set1_epi8(15))", "nibbles"),
        ("_mm_unpacklo_epi16(powers, powers)", "_mm_unpacklo_epi16(powers, _mm_set1_epi16(1))"),
        ("_mm_cvtsi32_si128(detail::load_bytes<std::int32_t>(w + column % 16))",
         "_mm_cvtsi32_si128(detail::load_bytes<std::int32_t>(w))"),
    ),
    *mutations_of(
        "simd/s4_dot.hpp", "simd_test@avx2",
        ("_mm256_add_epi16(sum, _mm256_maddubs_epi16(a, w))", "_mm256_maddubs_epi16(a, w)"),
        ("return detail::s4_values(_mm256_srli_epi16(load(w), 4));",
         "return detail::s4_values(_mm256_srli_epi16(load(w), 3));"),
        ("_mm256_sllv_epi32(_mm256_set1_epi16(1), detail::shifts_of_8(w, column))",
         "_mm256_sllv_epi32(_mm256_set1_epi32(1), detail::shifts_of_8(w, column))"),
    ),
    *mutations_of(
        "simd/int4.hpp", "simd_test@avx2",
        ("_mm_setr_epi8(0, 1, 2, 3, 4, 5, 6, 7, -8", "_mm_setr_epi8(0, 1, 2, 3, 4, 5, 6, 7, 8"),
        ("bit_of_shifts(column)), _mm256_set1_epi32(3))", "bit_of_shifts(column)), _mm256_set1_epi32(7))"),
    ),
    *mutations_of(
        "simd/s4_dot.hpp", "gemm_kernel_test@avx2",
        ("inline constexpr index_t s4_steps = 4;\nstatic_assert(s4_steps * 2 * (2 * 255 * 8) < 1 << 15);",
         "inline constexpr index_t s4_steps = 5;"),
    ),
    *mutations_of(
        "kernel/gemm.hpp", "gemm_kernel_test@avx2",
        ("channels <= simd::lanes<Isa> && product.a.columns <= gemm_chunk", "product.a.columns <= gemm_chunk"),
        ("channels <= simd::lanes<Isa> && product.a.columns <= gemm_chunk", "channels <= simd::lanes<Isa>"),
        ("finish<Isa>(product.stage, sums, {.m = first, .n = here.first, .columns = here.columns}, product.y);",
         "finish<Isa>(product.stage, sums, {.m = 0, .n = here.first, .columns = here.columns}, product.y);"),
    ),
    *mutations_of(
        "kernel/gemm_tile.hpp", "gemm_kernel_test@avx2",
        ("count < dot::steps ? count : dot::steps", "dot::steps"),
        ("add_steps_in_16_bits(a, stride, 1, w, 0, shifts...);", "add_steps_in_16_bits(a, stride, 2, w, 0, shifts...);"),
        ("multiply_add(partial, a + packed::step / 2, stride,", "multiply_add(partial, a, stride,"),
    ),
    *mutations_of(
        "simd/dot4.hpp", "simd_test@avx2",
        ("_mm256_permute4x64_epi64(mixed, 0b11'01'10'00)", "mixed"),
    ),
    *mutations_of(
        "simd/int4.hpp", "simd_test@avx2_vnni",
        ("_mm256_xor_si256(_mm256_and_si256(nibbles, _mm256_set1_epi8(15)), _mm256_set1_epi8(8))",
         "_mm256_and_si256(nibbles, _mm256_set1_epi8(15))"),
    ),
    *mutations_of(
        "simd/s4_dot.hpp", "simd_test@avx512bw",
        ("_mm512_madd_epi16(partial, powers)", "_mm512_madd_epi16(partial, _mm512_set1_epi16(1))"),
        ("return detail::s4_values(_mm512_loadu_si512(w));",
         "return detail::s4_values(_mm512_srli_epi16(_mm512_loadu_si512(w), 1));"),
    ),
    *mutations_of(
        "simd/dot4.hpp", "simd_test@avx2_vnni",
        ("_mm256_dpbusd_avx_epi32(sum, a, w)", "_mm256_dpbusds_avx_epi32(sum, a, w)"),
    ),
    *mutations_of(
        "simd/dot4.hpp", "simd_test@avx512bw",
        ("_mm512_permutex2var_epi32(first, odd, second)", "_mm512_permutex2var_epi32(first, even, second)"),
    ),
    *mutations_of(
        "simd/int4.hpp", "simd_test@avx512vnni",
        ("return detail::s4_values(_mm512_srli_epi16(load(w), 4));",
         "return detail::s4_values(_mm512_srli_epi16(load(w), 3));"),
        ("and_then_xor = 0x6a", "and_then_xor = 0x80"),
        ("bit_of_shifts(column)), _mm512_set1_epi32(3))", "bit_of_shifts(column)), _mm512_set1_epi32(7))"),
    ),
    *mutations_of(
        "simd/dot4.hpp", "simd_test@avx512vnni",
        ("_mm512_dpbusd_epi32(sum, a, w)", "_mm512_dpbusds_epi32(sum, a, w)"),
    ),
    *mutations_of(
        "kernel/log_softmax/threshold_bisection.hpp", "operation_kernel_test@sse2",
        ("? log2_levels : log2_levels - 1", "? log2_levels - 1 : log2_levels"),
        ("thresholds.last_distance[level]);\n    }", "thresholds.last_distance[level - 1]);\n    }"),
        ("distance, last, bytes::broadcast(1)", "distance, last_distance_[0], bytes::broadcast(1)"),
    ),
    *mutations_of(
        "simd/byte_table.hpp", "simd_test@sse2",
        ("return _mm_cvtsi32_si128(static_cast<int>(low | high << 16));",
         "return _mm_cvtsi32_si128(static_cast<int>(high | low << 16));"),
    ),
    *mutations_of(
        "simd/sse_steps.hpp", "simd_test@sse2",
        ("_mm_add_epi32(x_excess, y_excess)", "y_excess"),
        ("_mm_and_si128(odd, _mm_set_epi32(-1, 0, -1, 0))", "odd"),
        ("return _mm_sub_epi32(_mm_xor_si128(x, sign), sign);", "return _mm_xor_si128(x, sign);"),
        ("_mm_srai_epi16(_mm_unpacklo_epi8(x, x), 8)", "_mm_srli_epi16(_mm_unpacklo_epi8(x, x), 8)"),
        ("_mm_sub_epi32(_mm_andnot_si128(_mm_srai_epi32(x, 31), x), middle)", "_mm_sub_epi32(x, middle)"),
        ("_mm_add_epi16(three_times, one)", "three_times"),
        ("_mm_max_epu8(largest, _mm_srli_si128(largest, 1))", "largest"),
    ),
    *mutations_of(
        "simd/sse_steps.hpp", "simd_test@sse4_1",
        ("odd, 0b11001100)", "odd, 0b11000011)"),
        ("_mm_min_epu8(from_top, _mm_srli_epi16(from_top, 8))", "from_top"),
        ("return _mm_cvtepi16_epi32(x);", "return _mm_cvtepu16_epi32(x);"),
    ),
    *mutations_of(
        "simd/batch.hpp", "simd_test@sse2",
        ("_mm_unpacklo_epi32(_mm_shuffle_epi32(even, 0b10'00), _mm_shuffle_epi32(odd, 0b10'00))",
         "_mm_unpacklo_epi32(_mm_shuffle_epi32(odd, 0b10'00), _mm_shuffle_epi32(even, 0b10'00))"),
    ),
    *mutations_of(
        "simd/exponent_slices.hpp", "simd_test@sse2",
        ("_mm_min_epu8(x, _mm_set1_epi8(44))", "x"),
        ("_mm_slli_epi16(of_bit_0, 2)", "_mm_slli_epi16(of_bit_0, 1)"),
        ("is_not_set(x, 4), of_bits_0_1", "is_not_set(x, 2), of_bits_0_1"),
        ("_mm_and_si128(_mm_srli_epi16(x, 3), _mm_set1_epi8(31))", "_mm_srli_epi16(x, 3)"),
    ),
    *mutations_of(
        "simd/bytes.hpp", "simd_test@sse2",
        ("_mm_or_si128(x, _mm_srli_epi16(x, 4)), _mm_set1_epi16(255)", "x, _mm_set1_epi16(255)"),
        ("_mm_andnot_si128(is_zero, x)", "_mm_andnot_si128(is_zero, y)"),
    ),
    *mutations_of(
        "simd/mul_shift.hpp", "simd_test@sse2",
        ("return mul_high_of_halves(a, _mm_srli_epi64(a, 32), f);",
         "return mul_high_of_halves(a, _mm_srli_epi64(a, 31), f);"),
    ),
    *mutations_of(
        "simd/mul_shift.hpp", "simd_test@avx2",
        ("_mm256_blend_epi32(_mm256_srli_epi64(even, 32), odd, 0b10101010)",
         "_mm256_blend_epi32(_mm256_srli_epi64(even, 32), odd, 0b10101110)"),
        ("_mm256_permute2x128_si256(first, second, 0x31)", "_mm256_permute2x128_si256(first, second, 0x13)"),
    ),
    *mutations_of("simd/mul_shift.hpp", "simd_test@avx512bw", ("0x5555", "0x5551")),
    *mutations_of(
        "simd/narrow.hpp", "simd_test@sse2",
        ("std::is_signed_v<Out> || sizeof(Out) == 1 ? _mm_packs_epi32(x, y)", "true ? _mm_packs_epi32(x, y)"),
        ("static_cast<std::size_t>(count) * sizeof(Out));", "static_cast<std::size_t>(count));"),
    ),
    *mutations_of("simd/narrow.hpp", "simd_test@avx2", ("_mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7)",
                                                        "_mm256_setr_epi32(0, 4, 1, 5, 2, 6, 7, 3)")),
    *mutations_of("simd/narrow.hpp", "simd_test@avx512bw", ("_mm512_setr_epi64(0, 2, 4, 6, 1, 3, 5, 7)",
                                                            "_mm512_setr_epi64(0, 1, 2, 3, 4, 5, 6, 7)")),
    *mutations_of(
        "simd/bytes.hpp", "operation_kernel_test@avx2",
        ("copy_few<Width>(part, to, (count + 1) / 2)", "copy_few<Width>(part, to, count / 2)"),
    ),
    *mutations_of(
        "simd/bytes.hpp", "operation_kernel_test@avx512bw",
        ("first((count + 1) / 2)", "first(count / 2)"),
    ),
    *mutations_of(
        "simd/weighted_sum.hpp", "operation_kernel_test@avx512bw",
        ("half = _mm512_set1_epi32(1 << 15)", "half = _mm512_set1_epi32((1 << 15) - 1)"),
        ("_mm512_add_epi32(second, half));", "second);"),
        ("_mm512_add_epi16(lower, upper)", "_mm512_adds_epi16(lower, upper)"),
        ("four(32), 2), four(48), 3)", "four(48), 2), four(32), 3)"),
    ),
    *mutations_of(
        "simd/weighted_sum.hpp", "operation_kernel_test@avx512vnni",
        ("_mm512_dpwssd_epi32(x, y, z)", "_mm512_dpwssds_epi32(x, y, z)"),
    ),
    *mutations_of(
        "simd/byte_table.hpp", "simd_test@sse4_1",
        ("_mm_adds_epu8(place, _mm_set1_epi8(0x70))", "_mm_adds_epu8(place, _mm_set1_epi8(0x71))"),
    ),
    *mutations_of(
        "simd/byte_table.hpp", "operation_kernel_test@avx2",
        ("_mm256_adds_epu8(place, _mm256_set1_epi8(0x70))", "_mm256_add_epi8(place, _mm256_set1_epi8(0x70))"),
    ),
    *mutations_of(
        "simd/byte_table.hpp", "operation_kernel_test@avx512bw",
        ("_mm512_movepi16_mask(_mm512_slli_epi16(x, 8))", "_mm512_movepi16_mask(_mm512_slli_epi16(x, 9))"),
        ("_mm512_srli_epi16(x, 9)", "_mm512_srli_epi16(x, 8)"),
        ("_mm512_mask_mov_epi8(_mm512_srli_epi16(even, 8), odd_bytes, odd)",
         "_mm512_mask_mov_epi8(even, odd_bytes, odd)"),
    ),
    *mutations_of(
        "simd/byte_table.hpp", "operation_kernel_test@avx512vbmi",
        ("(*this)(x, _mm512_movepi8_mask(x))", "(*this)(x, _mm512_test_epi8_mask(x, _mm512_set1_epi8(64)))"),
        ("_mm512_permutex2var_epi8(parts_[2], x, parts_[3])", "_mm512_permutex2var_epi8(parts_[2], x, parts_[1])"),
    ),
    *mutations_of(
        "simd/lut12.hpp", "operation_kernel_test@avx512vbmi",
        ("_mm512_setr_epi64(0, 2, 4, 6, 1, 3, 5, 7)", "_mm512_setr_epi64(0, 1, 2, 3, 4, 5, 6, 7)"),
        ("bit[0][i] = _mm512_movepi8_mask(lower[i])", "bit[0][i] = _mm512_movepi8_mask(upper)"),
        ("codes.bit[Bits - 8][i]", "codes.bit[Bits - 8][0]"),
        ("b < 4; ++b", "b < 3; ++b"),
    ),
    # Builders
    *mutations_of(
        "build/scale.hpp", "scale_test",
        ("if (!reaches_tie(scale, range, left_shift))", "if (true)"),
        ("right_bits < 64", "right_bits < 32"),
        ("std::ldexp(target.factor, n) / 2.0) + 1.0", "std::ldexp(target.factor, n) / 2.0)"),
        ("addend + std::ldexp(1.0, n - 1)", "addend"),
        ("std::ldexp(1.0, fraction_bits - 1) < two_to_53", "std::ldexp(1.0, fraction_bits - 1) < 4 * two_to_53"),
        ("offset % (std::int64_t{1} << n) == 0 ? offset + 1 : offset", "offset"),
        ("std::ldexp(target.factor, 32 - left_shift)) >= two_to_31", "std::ldexp(target.factor, 32 - left_shift)) > two_to_31"),
    ),
    *mutations_of(
        "build/scale_spec.hpp", "scale_test",
        ("(w < 0 ? highest : lowest) * w", "(w < 0 ? highest : 0) * w"),
        ("(w < 0 ? lowest : highest) * w", "(w < 0 ? 0 : highest) * w"),
    ),
    *mutations_of(
        "build/block_ranges.hpp", "block_test",
        ("coarse.scale / 8,", "coarse.scale / 4,"),
        ("/ 32767, smallest_scale", "/ 32768, smallest_scale"),
        ("channel.high / step) + zero_point <=", "channel.high / step) + zero_point <"),
    ),
    *mutations_of(
        "build/layer_specs.hpp", "block_test",
        ("product / static_cast<double>(y.scale), own.activation.zero_point, own.up.zero_point",
         "product / static_cast<double>(y.scale), own.up.zero_point, own.activation.zero_point"),
    ),
    *mutations_of(
        "build/vit_scales.hpp", "block_test",
        ("shape.gated ? own.gated : own.activation", "own.activation"),
        ("shape.qk_norm ? own.q_norm : own.qkv", "own.qkv"),
        ("shape.qk_norm ? own.k_norm : own.keys()", "own.keys()"),
    ),
    *mutations_of(
        "build/block_memory.hpp", "block_test",
        ("shape.gated ? hidden : 0", "0"),
        ("shape.attention.qk_norm ? shape.attention.head_size() : 0", "0"),
        ("recipe.stream == stream_codes::u8 ? width : 0", "0"),
        ("relative_to_sum ? 0 : softmax_distances", "relative_to_sum ? 0 : 128"),
    ),
    *mutations_of(
        "build/observe_block.hpp", "block_test",
        ("if (kind == normalization::layernorm) {", "if (kind == normalization::rmsnorm) {"),
        ("std::multiplies<>()", "std::plus<>()"),
        ("apply(block_.up, norm2)", "apply(block_.fc1, norm2)"),
        ('normalize_heads("k_norm", block_.k_norm, 1, x)', 'normalize_heads("k_norm", block_.k_norm, 0, x)'),
        ("i - i % shape.tokens", "0"),
        ("[key] / sum", "[key]"),
    ),
    *mutations_of(
        "build/scale_fitter.hpp", "block_test",
        ('fit.norm_input("qkv", own.qkv.scale, size, static_cast<double>(block.epsilon));', ""),
        ('fit.norm_input("keys", (own.k ? *own.k : own.qkv).scale, size, static_cast<double>(block.epsilon));', ""),
        ('fit.norm("k_norm", block.k_norm, own.k_norm);', ""),
    ),
    *mutations_of(
        "build/block_builder.hpp", "block_test",
        ("if (own.v || shape.qk_norm) {", "if (own.v) {"),
        ("unshifted_scale(x, shape.head_size()), y, *shape.qk_norm", "unshifted_scale(x, shape.head_size()), y, block.shape.norm"),
    ),
    *mutations_of(
        "build/scale_fitter.hpp", "build_test",
        ("own.context.scale, least_context_scale(own.values())", "own.context.scale, 2 * least_context_scale(own.values())"),
        ("raised *= 2", "raised *= 4"),
    ),
    *mutations_of(
        "build/scale_fitter.hpp", "extreme_models_test",
        ("{part::queries});", "{part::queries, part::keys, part::values});"),
        ("if (!(largest / 127 <", "if (largest / 127 <"),
        ("    bound_parts(weights, own);\n", ""),
    ),
    *mutations_of(
        "build/scale.hpp", "weighted_matmul_test",
        ("std::max(1.0, std::rint(", "std::max(1.0, std::floor("),
    ),
    *mutations_of(
        "build/add.hpp", "add_scale_test",
        ("while (!free(distance) && !free(-distance))", "while (false)"),
        ("offset + (free(distance) ? distance : -distance)", "offset + distance"),
        ("(std::int64_t{1} << 31) - add_farthest_move", "(std::int64_t{1} << 32)"),
    ),
    *mutations_of(
        "build/layernorm.hpp", "layernorm_builder_test",
        ("static_cast<std::int64_t>(scaled_bias(c)) + (std::int64_t{1} << (output_shift - 1))",
         "static_cast<std::int64_t>(scaled_bias(c))"),
        ("std::max(1.0, std::rint(epsilon))", "std::max(0.0, std::rint(epsilon))"),
        ("std::ldexp(epsilon - whole_epsilon,", "0 * std::ldexp(epsilon - whole_epsilon,"),
        (">= std::ldexp(1.0, 30)) {\n    --output_shift", ">= std::ldexp(1.0, 29)) {\n    --output_shift"),
        ("-reach - 512, reach + 512", "-512.0, 512.0"),
    ),
    *mutations_of(
        "build/table.hpp", "table_test",
        ("-0.6931F", "-0.6932F"),
        ("r * (r + b) + c)) <<", "r * (r - b) + c)) <<"),
        ("((e >> (shift - 1)) + 1) >> 1", "(e >> (shift - 1)) >> 1"),
        ("std::rint(std::ldexp(std::exp(-scale", "std::floor(std::ldexp(std::exp(-scale"),
        ("-std::rint(used_low / table.input.scale)", "-std::floor(used_low / table.input.scale)"),
    ),
    *mutations_of(
        "build/activation_function.hpp", "activation_function_test",
        ("x / std::sqrt(2.0)", "x / std::sqrt(2.1)"),
        ("0.044715 * x * x * x", "0.044715 * x * x"),
        ("weighted_logistic(x, 1.702)", "weighted_logistic(x, 1.7)"),
        ("std::clamp(x + 3, 0.0, 6.0)", "std::clamp(x + 3, 0.0, 7.0)"),
        ("{\"swish\", activation_function::silu}", "{\"swish\", activation_function::hard_swish}"),
    ),
    *mutations_of(
        "quantize/fit_scales.hpp", "vit_variants_test",
        ("std::ldexp(norm.bias[static_cast<index_t>(c)], -y.shift[c])", "norm.bias[static_cast<index_t>(c)]"),
        ("channel_step(norm_pre, c) / static_cast<double>(stream)",
         "static_cast<double>(norm_pre.scale) / static_cast<double>(stream)"),
    ),
    *mutations_of(
        "build/vit_scales.hpp", "vit_variants_test",
        ("return activate(function, x)", "return gelu(x)"),
    ),
    *mutations_of(
        "build/table.hpp", "max_softmax_test",
        ("std::rint(static_cast<double>(d) * scale / std::log(2.0))",
         "std::floor(static_cast<double>(d) * scale / std::log(2.0))"),
        ("code > attention_codes<Format>::largest", "code >= attention_codes<Format>::largest"),
        ("std::rint(255 * std::exp(-scale", "std::floor(255 * std::exp(-scale"),
        ("return std::fabs(other - weight)", "return std::fabs(other - weight + 0.5)"),
        ("std::min_element(weights.begin(), weights.end()", "std::min_element(weights.begin(), weights.end() - 1"),
    ),
    *mutations_of(
        "quantize/weight_code_search.hpp", "weight_code_search_test",
        ("products += 2 * static_cast", "products += static_cast"),
        ("return error / (sum * sum)", "return error / sum"),
        ("now < least", "now > least"),
        ("changed = true;\n        }", "changed = false;\n        }"),
    ),
    *mutations_of(
        "quantize/reconstruction_steps.hpp", "weight_code_search_test",
        ("feature ? class_token_weight : static_cast<float>(step)", "static_cast<float>(step)"),
        ("(v.row(j) - context)", "v.row(j)"),
        ("const float weight = largest * std::sqrt", "const float weight = std::sqrt"),
    ),
    *mutations_of(
        "build/weights.hpp", "quantize_test",
        ("std::nearbyint(clamped)", "std::floor(clamped + 0.5F)"),
        ("static_cast<float>(codes.high - codes.low) / 2", "static_cast<float>(codes.high)"),
        ("std::int64_t{1} << 24", "std::int64_t{1} << 25"),
        ("std::isnan(shifted)", "std::isnan(x)"),
    ),
    *mutations_of(
        "io/safetensors_types.hpp", "safetensors_hostile_test",
        ("elements * bits % 8 != 0", "bits % 2 != 0"),
        ("elements > limit / factor", "elements > limit"),
        ("std::max<std::int64_t>(size, 1)", "std::max<std::int64_t>(size, 0)"),
    ),
    *mutations_of(
        "io/safetensors_header.hpp", "safetensors_hostile_test",
        ("++skipped_levels_ > 125", "++skipped_levels_ > 126"),
        ("c == '\"' && !escaped", "c == '\"'"),
        ("reader.needed > buffer_size", "reader.needed > buffer_size + 1"),
    ),
    *mutations_of(
        "io/replace_file.hpp", "replace_file_test",
        ("(mode >> 3) & mode & 07", "(mode >> 3) & 07"),
        ("file.lock(LOCK_NB)", "file.is_open()"),
        ("path.parent_path() / next", "next"),
        ("replaces_ ? 0600 : 0666", "0666"),
    ),
    # Choices at run time
    *mutations_of(
        "types/executor.hpp", "executor_ref_test",
        ("task * each + (task < rest ? task : rest)", "task * each + task"),
        ("(task < rest ? 1 : 0)", "(task < rest ? 0 : 1)"),
        ("each = units / tasks", "each = (units + 1) / tasks"),
    ),
    *mutations_of(
        "types/executor_ref.hpp", "executor_ref_test",
        ("static_cast<index_t>(run.threads())", "index_t{1}"),
        ("call(task, i); });", "call(task, 0); });"),
        ("run_tasks_(run_, tasks,", "run_tasks_(run_, tasks + 1,"),
    ),
    *mutations_of(
        "executors/std_threads.hpp", "std_threads_test",
        ("int i = 1; i < threads", "int i = 0; i < threads"),
        ("next_ = 0;\n      working_", "next_ = 1;\n      working_"),
        ("\"threads\", threads, 1)", "\"threads\", threads, 0)"),
    ),
    *mutations_of(
        "dispatch/choose.hpp", "choice_test",
        ("each.offered || !offered_only", "each.offered"),
        ("wanted.empty() ? each.offered", "wanted.empty() ? true"),
        ("if (!found->offered)", "if (false)"),
        ("static_cast<std::size_t>(last_ - at_)", "static_cast<std::size_t>(last_ - at_) / 2"),
    ),
    *mutations_of(
        "dispatch/operations.hpp", "choice_test",
        ("require_im2col(image, patch, y);", ""),
        ("require_add(stream, branch, scale, y);", ""),
        ("matrix_view<const std::uint8_t> x, const Stage& stage, matrix_view<typename Stage::output> y) {\n"
         "  require_average_pool(x, stage, y);",
         "matrix_view<const std::uint8_t> x, const Stage& stage, matrix_view<typename Stage::output> y) {"),
        ("require_gemm(a, b, stage, y, memory, run.threads());", ""),
    ),
    *mutations_of(
        "dispatch/models.hpp", "choice_test",
        ("require_block(stream, p, shape, memory, run.threads());", ""),
        ("require_vit(images, p, shape, y, memory, run.threads());", ""),
        ("require_swin_block(stream, p, shape, memory, run.threads());", ""),
    ),
    *mutations_of(
        "build/weights.hpp", "grouped_s4_test",
        ("candidate <= 3", "candidate <= 2"),
        ("percent += 2", "percent += 4"),
        ("largest / 60", "largest / 56"),
    ),
]


# Sources of the library that a test is linked with, and the header that tells them what it has compiled.
LIBRARY_SOURCES = {"choice_test": ["dispatch/select.cpp", "interop/dispatch/interop_select.cpp"]}
FIRST_HEADERS = {"choice_test": "dispatch/choice_tags.hpp"}


class ScriptError(Exception):
    """Something that keeps a mutation from being tried."""


def run(command, **options):
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options)


class Builder:
    """Builds and runs test programs."""

    def __init__(self, compiler, flags, directory):
        self.compiler = compiler
        self.flags = shlex.split(flags)
        self.directory = directory
        self.libraries = self.find_catch2()

    def find_catch2(self):
        """Catch2 2.13 and 3 name their libraries differently."""
        source = self.directory / "empty.cpp"
        source.write_text("")
        for libraries in (["-lCatch2WithMain"], ["-lCatch2Main", "-lCatch2"]):
            command = [self.compiler, *self.flags, str(source), *libraries, "-o", str(self.directory / "empty")]
            if run(command).returncode == 0:
                return libraries
        raise ScriptError("Catch2's library with a main function was not found")

    def build(self, tree, test):
        program = tree / test
        name, _, isa = test.partition("@")
        isa_flags = [f"-DINTACT_TEST_ISA={isa}", *ISA_FLAGS[isa]] if isa else []
        sources = [*(tree / "tests").glob(f"*/{name}.cpp"),
                   *(tree / "include" / "intact" / source for source in LIBRARY_SOURCES.get(name, []))]
        first = ["-include", str(tree / "tests" / FIRST_HEADERS[name])] if name in FIRST_HEADERS else []
        # STATIC_REQUIRE is to fail when the test runs, not when it is compiled.
        command = [self.compiler, "-std=c++20", "-O0", "-w", "-DCATCH_CONFIG_RUNTIME_STATIC_REQUIRE", *self.flags,
                   *isa_flags, f"-I{tree / 'include'}", f"-I{tree / 'tests' / 'support'}",
                   *first, *map(str, sources), *self.libraries, "-pthread", "-o", str(program)]
        built = run(command)
        if built.returncode != 0:
            raise ScriptError(f"{test} does not compile:\n{built.stdout[:2000]}")
        return program


def failed_test(program, timeout):
    """The first test case that fails; None if all pass. Tests run without recorded cases."""
    environment = {name: value for name, value in os.environ.items() if name != "INTACT_CASES_DIR"}
    try:
        result = run([str(program), "--reporter", "xml", "--abort"], timeout=timeout, env=environment)
    except subprocess.TimeoutExpired:
        return f"(did not end within {timeout:.0f} s)"
    if result.returncode == 0:
        return None
    signal_name = f" ({signal.Signals(-result.returncode).name})" if result.returncode < 0 else ""
    try:
        for case in xml.etree.ElementTree.fromstring(result.stdout).iter("TestCase"):
            outcome = case.find("OverallResult")
            if outcome is None or outcome.get("success") == "false":
                return case.get("name") + signal_name
    except xml.etree.ElementTree.ParseError:
        pass
    cases = re.findall(r'<TestCase name="([^"]*)"', result.stdout)
    return (cases[-1] if cases else "") + signal_name


def copy_tree(directory):
    shutil.rmtree(directory, ignore_errors=True)
    for part in ("include", "tests"):
        shutil.copytree(ROOT / part, directory / part, ignore=shutil.ignore_patterns("__pycache__"))


def check_baseline(builder, tree, test):
    """Without mutations a test has to pass. Gives the time that it may take with one."""
    program = builder.build(tree, test)
    start = time.monotonic()
    failed = failed_test(program, 600)
    if failed is not None:
        raise ScriptError(f"{test} fails without any mutation: {failed}")
    return 10 * (time.monotonic() - start) + 30


def try_mutation(builder, tree, mutation, timeouts):
    """The program and the test case that notice a mutation, or None."""
    path = tree / "include" / "intact" / mutation.file
    text = path.read_text()
    if text.count(mutation.original) != 1:
        raise ScriptError(f"{mutation.file} has {text.count(mutation.original)} times: {mutation.original}")
    path.write_text(text.replace(mutation.original, mutation.replacement))
    try:
        for test in mutation.tests:
            if isinstance(timeouts[test], ScriptError):
                raise timeouts[test]
            failed = failed_test(builder.build(tree, test), timeouts[test])
            if failed is not None:
                return f"{test}: {failed}"
        return None
    finally:
        path.write_text(text)


def in_one_line(text):
    return " ".join(text.split())


def describe(number, mutation):
    return (f"{number:3}  {mutation.file}: {in_one_line(mutation.original)}\n"
            f"       -> {in_one_line(mutation.replacement)}")


def selected_numbers(text):
    if text is None:
        return list(range(1, len(MUTATIONS) + 1))
    numbers = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        numbers += range(int(first), int(last or first) + 1)
    if not all(1 <= number <= len(MUTATIONS) for number in numbers):
        raise ScriptError(f"--only is {text}; it must be numbers from 1 to {len(MUTATIONS)}")
    return numbers


def for_each(jobs, trees, items, function):
    """Calls function(tree, item) for all items, each in a tree that no other call uses."""
    free = queue.Queue()
    for tree in trees:
        free.put(tree)

    def call(item):
        tree = free.get()
        try:
            return function(tree, item)
        except ScriptError as error:
            return error
        finally:
            free.put(tree)

    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        yield from zip(items, pool.map(call, items))


def run_all(arguments):
    numbers = selected_numbers(arguments.only)
    directory = pathlib.Path(arguments.build_dir).resolve()
    directory.mkdir(parents=True, exist_ok=True)
    builder = Builder(arguments.compiler, arguments.flags, directory)
    trees = [directory / f"tree{job}" for job in range(arguments.jobs)]
    for tree in trees:
        copy_tree(tree)

    tests = sorted({test for number in numbers for test in MUTATIONS[number - 1].tests})
    timeouts = dict(for_each(arguments.jobs, trees, tests, lambda tree, name: check_baseline(builder, tree, name)))
    survived, errors = 0, 0
    attempt = lambda tree, number: try_mutation(builder, tree, MUTATIONS[number - 1], timeouts)
    for number, result in for_each(arguments.jobs, trees, numbers, attempt):
        print(describe(number, MUTATIONS[number - 1]))
        if isinstance(result, ScriptError):
            errors += 1
            print(f"       ERROR: {result}", flush=True)
        elif result is None:
            survived += 1
            print("       SURVIVED", flush=True)
        else:
            print(f"       {result}", flush=True)
    print(f"{len(numbers)} mutations, {survived} survived, {errors} could not be tried")
    return 2 if errors else 1 if survived else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--list", action="store_true", help="print the mutations and stop")
    parser.add_argument("--only", metavar="N", help="numbers of mutations, such as 3,7-9")
    parser.add_argument("--jobs", type=int, default=1, help="mutations tried at once")
    parser.add_argument("--compiler", default=os.environ.get("CXX", "c++"))
    parser.add_argument("--flags", default="", help="more compiler flags, such as where Catch2, Eigen and nlohmann-json are")
    parser.add_argument("--build-dir", default=str(ROOT / "build" / "mutate"), help="where the copies of the tree go")
    arguments = parser.parse_args()
    if arguments.list:
        for number, mutation in enumerate(MUTATIONS, 1):
            print(describe(number, mutation))
        return 0
    try:
        return run_all(arguments)
    except ScriptError as error:
        print(f"mutate.py: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
