// The C interface of intact: C99, for programs in C and for languages that call C. docs/c.md is the introduction.
//
// Functions   Each returns a status. If it is not INTACT_OK, intact_error_message tells the reason, and no output has been
//             written, but that a pointer to a handle has become NULL. Arguments are checked as the C++ functions check
//             theirs. No C++ exception leaves a function.
// Memory      The caller's, of any alignment: for each piece a function tells the bytes. Handles in such memory have
//             nothing to free; they are valid as long as the memory is, and what they were made of if that is said.
//             The memory must not be moved or copied. Running an operation allocates nothing.
// Threads     Const handles may be shared by threads. Each call that runs at the same time needs a workspace of its own.
// Bits        The same as of the C++ functions, on every processor and with every executor. docs/numerics.md has the
//             formulas to the bit.
// Structs     A field that is 0 or NULL is the default that its comment names; those without one must be filled.

#ifndef INTACT_C_INTACT_H
#define INTACT_C_INTACT_H

#include <stddef.h>
#include <stdint.h>

/// Functions of the shared library.
#if defined(__GNUC__)
#define INTACT_API __attribute__((visibility("default")))
#else
#define INTACT_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

// Library

/// How a call ended.
typedef int32_t intact_status;
enum {
  INTACT_OK = 0,
  INTACT_INVALID_ARGUMENT = 1,  ///< an argument breaks the contract: the message names it, its value and the limit
  INTACT_OUT_OF_MEMORY = 2,     ///< the heap has not the memory that building or loading takes
  INTACT_FILE_ERROR = 3,        ///< a file that cannot be read, or that holds no model
  INTACT_NOT_BUILT = 4,         ///< the library was built without the part that this takes
  INTACT_INTERNAL_ERROR = 5     ///< none of these; a defect of the library
};

/// The message of the last call of this thread that failed, or "" if none has: valid until the next one that fails.
INTACT_API const char* intact_error_message(void);

/// The version of the library: major, minor, patch.
INTACT_API intact_status intact_version(int32_t* major, int32_t* minor, int32_t* patch);

/// The instruction set that all operations use, such as "avx2": the best that the library was compiled for and the
/// processor offers, or the one that the environment variable INTACT_ISA names. It is chosen once.
INTACT_API intact_status intact_isa_name(const char** name);

// Matrices

/// The type of a matrix's elements.
typedef int32_t intact_type;
enum {
  INTACT_U8 = 1,
  INTACT_S8 = 2,
  INTACT_U12 = 3,  ///< codes of 12 bits in uint16_t
  INTACT_S16 = 4,
  INTACT_S32 = 5,
  INTACT_F32 = 6,
  INTACT_BF16 = 7,  ///< the upper half of a float32, in uint16_t
  INTACT_U4 = 8,    ///< two codes a byte, the one of the lower column in the low half
  INTACT_S4 = 9     ///< the same, -8..7
};

/// A row-major matrix: element (i, j) is at data[i * stride + j], in elements. Strides are at least the columns, of 4-bit
/// elements even. Data are aligned as their type is, and may be NULL if there are no elements.
typedef struct intact_matrix {
  void* data;  ///< element (0, 0)
  /// Sizes, and the elements from a row to the next.
  ptrdiff_t rows, columns, stride;
  intact_type type;  ///< of the elements
} intact_matrix;

/// The same to be read.
typedef struct intact_const_matrix {
  const void* data;  ///< element (0, 0)
  /// Sizes, and the elements from a row to the next.
  ptrdiff_t rows, columns, stride;
  intact_type type;  ///< of the elements
} intact_const_matrix;

// Threads

/// A part of an operation, which an executor is given.
typedef void (*intact_task)(const void* argument, ptrdiff_t index);

/// Runs an operation's tasks on threads of the caller. Functions that take one take NULL, too: the caller's thread does
/// everything then.
typedef struct intact_executor {
  ptrdiff_t threads;  ///< how many tasks can run at a time, at least 1
  /// Calls task(argument, i) for each i of 0..tasks - 1 once, in any order, on any threads, and returns when all are
  /// done. It must not return otherwise: no exception, no longjmp.
  void (*for_each)(void* context, ptrdiff_t tasks, intact_task task, const void* argument);
  void* context;  ///< is passed on
} intact_executor;

// Weights

/// Weights as codes, one row per output channel, N x K.
typedef struct intact_weights {
  intact_const_matrix codes;  ///< INTACT_S8 or INTACT_S4
  intact_const_matrix
      shifts;       ///< N x ceil(K / group), INTACT_U8, 0..3: the code is shifted left. Only of s4 with a group
  ptrdiff_t group;  ///< columns that share a shift: a multiple of 8, or at least K. 0: codes have no shifts
} intact_weights;

/// Weights in the order in which kernels read them, in memory of the caller's.
typedef struct intact_packed_weights intact_packed_weights;

/// Bytes of memory for packed weights. Of the weights only types and sizes are looked at.
INTACT_API intact_status intact_packed_weights_bytes(const intact_weights* weights, size_t* bytes);

/// Packs weights, once, when a model is loaded. They are not needed afterwards.
///
/// Range:    K <= 2097151.
/// Memory:   at least intact_packed_weights_bytes, as long as *packed is used.
/// Errors:   wrong types, sizes that do not match, shifts above 3, memory that is too small.
/// Aliasing: the memory must not overlap the weights.
INTACT_API intact_status intact_pack_weights(const intact_weights* weights, void* memory, size_t bytes,
                                             const intact_packed_weights** packed);

// Scales

/// Code k is the number (k - zero_point) * scale; with shifts, in channel c, ((k - zero_point) << shift[c]) * scale.
typedef struct intact_scale {
  float scale;           ///< the number of a step
  int32_t zero_point;    ///< the code of 0
  const uint8_t* shift;  ///< one per column, 0..3; NULL: no shifts
  ptrdiff_t channels;    ///< of shift
} intact_scale;

/// codes = clamp(round(x / scale) + zero_point), halves to even, in float32. x is INTACT_F32, codes INTACT_U8, INTACT_S8
/// or INTACT_S16. Source: docs/numerics.md, section 1.
INTACT_API intact_status intact_quantize(const intact_const_matrix* x, const intact_scale* scale,
                                         const intact_matrix* codes);

/// The numbers of codes of these types.
INTACT_API intact_status intact_dequantize(const intact_const_matrix* codes, const intact_scale* scale,
                                           const intact_matrix* x);

/// The scale of a range of values that has 0 in it: scale = (high - low) / 255 and its zero point for INTACT_U8; of
/// INTACT_S8 max(-low, high) / 127.5 and 0. Source: docs/numerics.md, section 1.
INTACT_API intact_status intact_scale_of_range(float low, float high, intact_type type, intact_scale* scale);

/// s8 weights with a scale per output channel of float weights, N x K: scale[n] = max|w[n]| / 127.5. `codes` is N x K of
/// INTACT_S8, or of INTACT_S4 with the divisor 7.5; `scale` has N elements.
INTACT_API intact_status intact_quantize_weights(const intact_const_matrix* weights, const intact_matrix* codes,
                                                 float* scale);

/// A scale per output channel as integers: an accumulator a becomes ((a << left_shift) * multiplier[n] + offset[n]) >>
/// (32 + shift). The offset has the rounding half, the bias and both zero points. Not owned.
typedef struct intact_channel_scale {
  const int32_t* multiplier;  ///< per channel
  const int64_t* offset;      ///< per channel
  ptrdiff_t channels;         ///< of both arrays
  /// Of all channels.
  int32_t shift, left_shift;
} intact_channel_scale;

/// The real function of a linear layer: y[n] = factor[n] * sum_k (x[k] - zero_point) * w[n, k] + addend[n].
typedef struct intact_linear_spec {
  const intact_weights* weights;  ///< N x K
  const double* factor;           ///< per channel: s_x * s_w[n] / s_y
  const double* addend;           ///< per channel: bias[n] / s_y + the zero point of y
  int32_t zero_point;             ///< of x
  intact_type input;              ///< of x: INTACT_U8 or INTACT_S8
} intact_linear_spec;

/// Builds the scale of a linear layer into arrays of N elements, which it refers to. Codes that it gives are the real
/// numbers, rounded to nearest: no accumulator of the layer is a tie.
///
/// Errors: factors that are negative, not finite or too large, for which no such integers exist: the channel is named.
/// Source: docs/numerics.md, section 2.
INTACT_API intact_status intact_build_linear(const intact_linear_spec* spec, int32_t* multiplier, int64_t* offset,
                                             intact_channel_scale* scale);

/// The functions that intact_build_activation knows.
typedef int32_t intact_activation_function;
enum {
  INTACT_GELU = 0,
  INTACT_GELU_TANH = 1,
  INTACT_QUICK_GELU = 2,
  INTACT_SILU = 3,
  INTACT_RELU = 4,
  INTACT_HARD_SWISH = 5
};

/// Codes of an activation table: one for each 12-bit code.
#define INTACT_ACTIVATION_TABLE_SIZE 4096

/// A function between a layer's accumulators and u8 codes.
typedef struct intact_activation_spec {
  intact_activation_function function;  ///< of real numbers
  double low, high;                     ///< the range of the function's inputs
  double output_scale;                  ///< of the u8 codes
  int32_t output_zero_point;            ///< of the u8 codes
} intact_activation_spec;

/// Builds a table of INTACT_ACTIVATION_TABLE_SIZE codes, and the scale of the 12-bit codes that are its input: the layer
/// before it has factor s_x * s_w[n] / *input_scale and addend bias[n] / *input_scale + *input_zero_point.
/// Source: docs/numerics.md, section 7.
INTACT_API intact_status intact_build_activation(const intact_activation_spec* spec, uint8_t* table,
                                                 double* input_scale, double* input_zero_point);

// Products with weights

/// y = stage(a * W^T): the stage takes each int32 sum to an output.
///
/// Shapes:    a M x K, weights N x K, y M x N; sizes may be 0.
/// Range:     K <= 65793 (u8 x s8), 131071 (s8 x s8), 1052688 (u8 x s4), 2097151 (s8 x s4), 131586 (u8 x s4 with shifts),
///            262143 (s8 x s4 with shifts): the sums are exact.
/// Errors:    of all functions below: wrong types, sizes that do not match, K over its limit, a stage out of range.
/// Aliasing:  y must not overlap a, the weights or the arrays of the stage.
/// Source:    docs/numerics.md, sections 2, 3 and 14.
typedef struct intact_product {
  intact_const_matrix a;                 ///< INTACT_U8 or INTACT_S8
  const intact_packed_weights* weights;  ///< N x K
  intact_matrix y;                       ///< M x N; each function names its type
} intact_product;

/// The sums themselves: y is INTACT_S32.
INTACT_API intact_status intact_gemm(const intact_product* product, const intact_executor* run);

/// Codes of the output's scale: y is INTACT_U8, INTACT_S8, INTACT_U12, INTACT_S16 or INTACT_S32, to which they are
/// clamped.
INTACT_API intact_status intact_gemm_requantize(const intact_product* product, const intact_channel_scale* scale,
                                                const intact_executor* run);

/// y = table[code], the code being the one of 12 bits: y is INTACT_U8. `table`: INTACT_ACTIVATION_TABLE_SIZE codes.
INTACT_API intact_status intact_gemm_activation(const intact_product* product, const intact_channel_scale* scale,
                                                const uint8_t* table, const intact_executor* run);

// Layers of other runtimes, to the bit: docs/embedding.md tells which bits are promised

/// How a runtime rounds a layer's sums to codes.
typedef int32_t intact_rounding;
enum {
  INTACT_ROUND_FLOAT32 = 0,    ///< ONNX Runtime and PyTorch's fbgemm: one float32 multiplication
  INTACT_ROUND_HALF_EVEN = 1,  ///< the definitions of ONNX and PyTorch: the factor of 31 bits, halves to even
  INTACT_ROUND_SINGLE = 2,     ///< TensorFlow Lite with TFLITE_SINGLE_ROUNDING
  INTACT_ROUND_DOUBLE = 3      ///< TensorFlow Lite's reference kernels, gemmlowp
};

/// Where the factor input scale * weight scale / output scale is rounded.
typedef int32_t intact_factor_rule;
enum {
  INTACT_FACTOR_FLOAT32 = 0,             ///< ONNX and PyTorch: to float32 after each operation
  INTACT_FACTOR_TFLITE_PER_CHANNEL = 1,  ///< in double
  INTACT_FACTOR_TFLITE_PER_TENSOR = 2    ///< the product of both scales in float32, the rest in double
};

/// A quantized layer as the model files of other runtimes describe it.
typedef struct intact_compat_spec {
  intact_const_matrix weights;  ///< N x K: INTACT_S8 or INTACT_U8
  int32_t weight_zero_point;    ///< of all channels
  const float* weight_scale;    ///< of each channel, or one
  ptrdiff_t weight_scales;      ///< N or 1
  const int32_t* bias;          ///< of each channel, in units of input scale * weight scale; NULL: none
  intact_scale input;           ///< without shifts; zero point -128..255
  float output_scale;           ///< above 0
  intact_factor_rule rule;      ///< that of the runtime
} intact_compat_spec;

/// The integers of such a layer. intact_build_compat makes them, in memory of the caller's, into which all pointers lead.
typedef struct intact_compat_layer {
  const intact_packed_weights* weights;  ///< as s8
  ptrdiff_t channels;                    ///< of the following arrays
  const int32_t* bias;                   ///< less the input's zero point times the sum of the weights
  const int32_t* multiplier;             ///< the factor is multiplier * 2^(exponent - 31)
  const int32_t* exponent;               ///< -31..30
  const float* factor;                   ///< the factor in float32
  int32_t row_factor;  ///< not 0: the weights have a zero point, and products need intact_row_sums with this factor
} intact_compat_layer;

/// Bytes of memory for a layer of N output channels and K inputs.
INTACT_API intact_status intact_compat_layer_bytes(ptrdiff_t channels, ptrdiff_t inputs, size_t* bytes);

/// Errors: sizes that do not match, scales that are not above 0 and finite, zero points beyond the type of their codes,
///         factors of 2^30 and more, a bias beyond int32 after the correction; memory that is too small.
INTACT_API intact_status intact_build_compat(const intact_compat_spec* spec, void* memory, size_t bytes,
                                             intact_compat_layer* layer);

/// How a product's sums become codes.
typedef struct intact_compat_stage {
  intact_rounding rounding;       ///< that of the runtime
  int32_t zero_point;             ///< of the output
  int32_t low, high;              ///< codes are clamped to them: a fused ReLU. Equal: all codes of the output's type
  const int32_t* row_correction;  ///< of each row of a, from intact_row_sums; NULL: none
} intact_compat_stage;

/// y = stage(a * W^T), with the layer's bias and factors: y is INTACT_U8 or INTACT_S8. The product's weights are the
/// layer's, or others that a program has arrays for; with a row correction they are s8.
INTACT_API intact_status intact_gemm_compat(const intact_product* product, const intact_compat_layer* layer,
                                            const intact_compat_stage* stage, const intact_executor* run);

/// sums[m] = factor * sum_k a[m, k]; `sums` has an element for each row.
INTACT_API intact_status intact_row_sums(const intact_const_matrix* a, int32_t factor, int32_t* sums);

/// The codes low and high of a fused activation between two real numbers, such as 0 and 6, or 0 and INFINITY, as
/// TensorFlow Lite computes them. `type`: INTACT_U8 or INTACT_S8.
INTACT_API intact_status intact_fused_activation(const intact_scale* output, float smallest, float largest,
                                                 intact_type type, int32_t* low, int32_t* high);

// Float between layers

/// Codes and a scale for each row of a float matrix, from the row's largest magnitude: scale[m] = max|x[m]| / 127. Codes
/// are INTACT_S8, or INTACT_U8 with the zero point 128. Source: docs/numerics.md, section 14.
INTACT_API intact_status intact_quantize_rows(const intact_const_matrix* x, const intact_matrix* codes, float* scale,
                                              const intact_executor* run);

/// Scales of products of such rows.
typedef struct intact_float_stage {
  const float* row_scale;      ///< of each row
  const float* channel_scale;  ///< of each output channel
  const float* bias;           ///< of each output channel; NULL: none
  const int32_t* offset;       ///< of each output channel, added to the sums; NULL: none
} intact_float_stage;

/// y = (sum + offset[n]) * row_scale[m] * channel_scale[n] + bias[n], each step in float32: y is INTACT_F32 or
/// INTACT_BF16.
INTACT_API intact_status intact_gemm_float(const intact_product* product, const intact_float_stage* stage,
                                           const intact_executor* run);

// Normalization

/// A float LayerNorm or RMSNorm between two quantized tensors.
typedef struct intact_norm_spec {
  ptrdiff_t channels;         ///< of the arrays
  const float* gamma;         ///< per channel
  const float* beta;          ///< of RMSNorm NULL, too: all are 0
  const uint8_t* shift;       ///< of the input's channels, 0..3: code k is ((k - zero point) << shift[c]) * scale
  double epsilon;             ///< added to the variance of real numbers
  double input_scale;         ///< of a code with shift 0
  int32_t input_zero_point;   ///< of s16 codes 0
  double output_scale;        ///< of the u8 codes
  int32_t output_zero_point;  ///< of the u8 codes
} intact_norm_spec;

/// Its integers. Not owned.
typedef struct intact_norm {
  ptrdiff_t channels;    ///< of the arrays
  const uint8_t* shift;  ///< per channel, 0..3
  const int32_t* gain;   ///< per channel
  const int64_t* bias;   ///< per channel
  /// Of the input's codes, and of normalized value * gain + bias.
  int32_t zero_point, output_shift;
  uint64_t epsilon;          ///< in units of the variance of codes
  int64_t epsilon_fraction;  ///< its fraction, of 30 bits
} intact_norm;

/// Builds the integers into arrays of an element for each channel, to which *norm refers, as it does to the shifts.
/// Errors: scales that are not above 0 and finite, gamma or beta that are not finite, values that 64-bit sums do not
///         hold. Source: docs/numerics.md, section 4.
INTACT_API intact_status intact_build_layernorm(const intact_norm_spec* spec, int32_t* gain, int64_t* bias,
                                                intact_norm* norm);
/// The same for RMSNorm, without the mean.
INTACT_API intact_status intact_build_rmsnorm(const intact_norm_spec* spec, int32_t* gain, int64_t* bias,
                                              intact_norm* norm);

/// y = (x - mean) / deviation * gamma + beta, each row by itself; RMSNorm without the mean.
///
/// Shapes:    x T x C of INTACT_U8 or INTACT_S16, y T x C of INTACT_U8; sizes may be 0.
/// Range:     C <= 524288 for u8, 4096 for s16.
/// Exactness: every bit; within one code of infinite precision for ordinary layers.
/// Errors:    wrong types, sizes that do not match, parameters out of range.
/// Aliasing:  u8 y may be x exactly; otherwise they must not overlap.
/// Source:    docs/numerics.md, section 4.
INTACT_API intact_status intact_layernorm(const intact_const_matrix* x, const intact_norm* norm, const intact_matrix* y,
                                          const intact_executor* run);
/// The same without the mean.
INTACT_API intact_status intact_rmsnorm(const intact_const_matrix* x, const intact_norm* norm, const intact_matrix* y,
                                        const intact_executor* run);

// Softmax and attention

/// The kind of attention weights. e is the exponential of a logit, max and sum are those of its row.
typedef int32_t intact_attention_kind;
enum {
  INTACT_LOG2_OF_SUM = 0,  ///< codes k of e / sum = 2^-k: FQ-ViT
  INTACT_LOG2_OF_MAX = 1,  ///< codes k of e / max = 2^-k
  INTACT_WEIGHTS = 2,      ///< u8 weights of e / max
  INTACT_WEIGHT_CODES = 3  ///< 4-bit codes of e / max, which are indices of 16 u8 weights
};

/// How log2 codes below 2^-15 are stored.
typedef int32_t intact_attention_code;
enum {
  INTACT_CODE_U8_MASKED = 0,   ///< u8; code 16, of the weight 0
  INTACT_CODE_U4_CLIPPED = 1,  ///< packed 4 bits; code 15. There is none for a masked key
  INTACT_CODE_U8_FULL = 2      ///< u8; codes up to 254, and 255 of the weight 0. Of INTACT_LOG2_OF_SUM alone
};

/// Where codes of e / sum are rounded up.
typedef int32_t intact_log2_rounding;
enum {
  INTACT_ROUND_RATIO = 0,  ///< at 1.5 times a power of two, as FQ-ViT
  INTACT_ROUND_LOG = 1     ///< at sqrt(2) times
};

/// The exponential of INTACT_LOG2_OF_SUM.
typedef int32_t intact_exponential;
enum {
  INTACT_I_EXP = 0,     ///< I-BERT's polynomial, as FQ-ViT
  INTACT_EXACT_EXP = 1  ///< true exponentials
};

/// Elements of a softmax table: one for each distance to the maximum.
#define INTACT_SOFTMAX_TABLE_SIZE 256
/// Weights that 4-bit codes are indices of.
#define INTACT_CODE_WEIGHTS 16

/// Builds the table of intact_log_softmax, of INTACT_SOFTMAX_TABLE_SIZE elements: exponentials of 0, -1, ... -255 steps
/// of the logits' scale, in a unit of their own, for rows of up to so many keys.
/// Errors: a scale or a number of keys for which there is none; INTACT_I_EXP takes scales below 1.67.
/// Source: docs/numerics.md, section 5.
INTACT_API intact_status intact_build_exponential(float scale, ptrdiff_t keys, intact_exponential kind,
                                                  uint64_t* table);

/// How logits become log2 codes.
typedef struct intact_log_softmax_stage {
  const uint64_t* exponential;      ///< of intact_build_exponential
  intact_attention_code codes;      ///< how codes are stored
  intact_log2_rounding rounding;    ///< where codes are rounded up
  const intact_const_matrix* mask;  ///< INTACT_U8, Tq x Tk or 1 x Tk: 0 is a masked key. NULL: all are visible
} intact_log_softmax_stage;

/// codes = -log2(softmax(logits)), rounded: FQ-ViT's Log-Int-Softmax, without division.
///
/// Shapes:   logits Tq x Tk of INTACT_U8; codes Tq x Tk of INTACT_U8, for INTACT_CODE_U4_CLIPPED of INTACT_U4.
/// Errors:   wrong types, sizes that do not match, a table that is 0, too large or increasing, a mask for packed codes.
/// Aliasing: u8 codes may be the logits exactly; otherwise they must not overlap.
/// Source:   docs/numerics.md, section 5.
INTACT_API intact_status intact_log_softmax(const intact_const_matrix* logits, const intact_log_softmax_stage* stage,
                                            const intact_matrix* codes, const intact_executor* run);

/// Everything that can be chosen about attention and blocks. All 0 is FQ-ViT as published.
typedef struct intact_recipe {
  intact_attention_kind attention;      ///< the kind of attention weights
  intact_attention_code probabilities;  ///< of log2 codes
  intact_exponential exponential;       ///< of INTACT_LOG2_OF_SUM
  intact_log2_rounding rounding;        ///< of INTACT_LOG2_OF_SUM
  int32_t normalize_rows;               ///< 1: each row of attention is divided by the sum of its weights
  int32_t s16_stream;                   ///< 1: the residual stream of a block has s16 codes, not u8
  int32_t pixel_codes;                  ///< of a model, 1: pixels are codes; mean and deviation fold into weights
  int32_t weight_bits;                  ///< of a block or a model: 8 or 4; 0: 8
  ptrdiff_t weight_group;               ///< of 4 bits: columns that share a power of two; 0: none do
} intact_recipe;

/// A scale for a whole tensor: as intact_channel_scale.
typedef struct intact_tensor_scale {
  int64_t offset;  ///< bias, zero points and rounding half
  /// As of intact_channel_scale.
  int32_t multiplier, shift, left_shift;
} intact_tensor_scale;

/// Parameters of attention between its projections. Not owned. Of the tables it has those that its kind needs.
typedef struct intact_attention_parameters {
  ptrdiff_t heads;                ///< number of heads
  intact_tensor_scale logits;     ///< s_q * s_k / sqrt(head size) / s_logits
  intact_attention_kind kind;     ///< of attention weights
  intact_attention_code codes;    ///< how log2 codes are stored
  intact_log2_rounding rounding;  ///< of INTACT_LOG2_OF_SUM
  const uint64_t* exponential;    ///< of INTACT_LOG2_OF_SUM
  const uint8_t* table;           ///< of the others: a code or a weight for each distance to the maximum
  const uint8_t* code_weights;    ///< of INTACT_WEIGHT_CODES
  int32_t normalize_rows;         ///< 1: the context has the divisor, 0: the scale
  intact_tensor_scale context;    ///< s_v / s_context * 2^-15
  int32_t divisor;                ///< round(s_v / s_context * 2^28)
  int32_t divisor_zero_point;     ///< of the context
} intact_attention_parameters;

/// The real function of attention: scales without shifts of u8 codes.
typedef struct intact_attention_spec {
  const intact_recipe* recipe;  ///< its parts that are about attention
  /// Number of heads, and channels of each.
  ptrdiff_t heads, head_size;
  ptrdiff_t keys;  ///< at most
  /// Of the five tensors.
  intact_scale q, k, v, logits, context;
} intact_attention_spec;

/// Bytes of memory for the tables of attention.
INTACT_API intact_status intact_attention_tables_bytes(size_t* bytes);

/// Builds the parameters, with tables in memory of the caller's.
/// Errors: a recipe whose parts exclude each other, scales for which no integers exist.
INTACT_API intact_status intact_build_attention(const intact_attention_spec* spec, void* memory, size_t bytes,
                                                intact_attention_parameters* parameters);

/// Queries, keys and values. Head h has the columns h * size to (h + 1) * size - 1 of each.
typedef struct intact_attention_operands {
  intact_const_matrix q;     ///< Tq x (heads * size), INTACT_U8
  intact_const_matrix k, v;  ///< Tk x (heads * size), INTACT_U8
  /// 0..255.
  int32_t q_zero_point, k_zero_point, v_zero_point;
  const intact_const_matrix* mask;  ///< as of intact_log_softmax_stage
} intact_attention_operands;

/// Scratch memory of a call, of any alignment.
typedef struct intact_workspace {
  void* memory;  ///< the first byte
  size_t bytes;  ///< number of bytes
} intact_workspace;

/// Bytes of workspace of attention, on so many threads.
INTACT_API intact_status intact_attention_workspace_bytes(ptrdiff_t keys, ptrdiff_t heads, ptrdiff_t head_size,
                                                          ptrdiff_t threads, size_t* bytes);

/// y = softmax(q * k^T) * v of each head, in the scales of the parameters: y is Tq x (heads * size) of INTACT_U8.
///
/// Memory:   at least intact_attention_workspace_bytes.
/// Errors:   wrong types, sizes that do not match, parameters out of range, a mask for packed codes.
/// Aliasing: y must not overlap q, k, v, the mask or the workspace.
/// Source:   FQ-ViT, section 3.3; docs/numerics.md, sections 5, 6 and 11.
INTACT_API intact_status intact_attention(const intact_attention_operands* operands,
                                          const intact_attention_parameters* parameters, const intact_matrix* y,
                                          const intact_workspace* workspace, const intact_executor* run);

// A transformer block from float weights

/// Sizes of a block. Its residual streams are (batch * tokens) x width.
typedef struct intact_block_shape {
  /// Tokens of an image, channels of a token, heads, and width of the perceptron.
  ptrdiff_t tokens, width, heads, hidden;
} intact_block_shape;

/// y = x * weight^T + bias: weight N x K without gaps, one row per output channel; bias N.
typedef struct intact_float_linear {
  const float* weight;  ///< N x K
  const float* bias;    ///< N
} intact_float_linear;

/// y = (x - mean) / sqrt(variance + epsilon) * weight + bias.
typedef struct intact_float_norm {
  const float* weight;  ///< gamma, one per channel
  const float* bias;    ///< beta, one per channel
} intact_float_norm;

/// A pre-norm block: x <- x + proj(attention(norm1(x)));  x <- x + fc2(activation(fc1(norm2(x)))). With C = width and H =
/// hidden, qkv is 3C x C, the rows of q, then k, then v, each head after head; proj C x C; fc1 H x C; fc2 C x H.
typedef struct intact_float_block {
  intact_block_shape shape;  ///< sizes
  intact_float_norm norm1;   ///< before attention
  /// The layers before and after attention.
  intact_float_linear qkv, proj;
  intact_float_norm norm2;  ///< before the perceptron
  /// The perceptron's layers.
  intact_float_linear fc1, fc2;
  float epsilon;                          ///< of both norms
  intact_activation_function activation;  ///< between fc1 and fc2
  ptrdiff_t position;                     ///< of the block in its model, for messages
} intact_float_block;

/// The smallest and the largest value of a tensor or a channel.
typedef struct intact_range {
  /// The two ends.
  float low, high;
} intact_range;

/// The ranges of a block's tensors over typical inputs.
typedef struct intact_block_ranges {
  intact_range* stream;  ///< that enters the block: of each of `width` channels, as add1 and add2
  intact_range* add1;    ///< the stream after attention
  intact_range* add2;    ///< the stream that leaves the block
  ptrdiff_t width;       ///< elements of the three arrays
  /// The first norm's output, and queries, keys and values.
  intact_range norm1, qkv;
  intact_range attention_logits;  ///< q * k^T / sqrt(head size)
  /// Attention times V, the layer after it, and the second norm's output.
  intact_range context, proj, norm2;
  intact_range fc1;  ///< before the activation
  /// After the activation, and the perceptron's output.
  intact_range activation, fc2;
} intact_block_ranges;

/// Runs the float block in plain loops, in place on residual streams of INTACT_F32, at least one, and writes the ranges of
/// its tensors. The three arrays are the caller's, of `width` elements. The heap is used.
/// Errors: sizes that do not match, numbers that are not finite: the block and the tensor are named.
INTACT_API intact_status intact_observe_block(const intact_float_block* block, const intact_matrix* stream,
                                              intact_block_ranges* ranges);

/// The scales of a block's tensors, on the heap.
typedef struct intact_block_scales intact_block_scales;

/// Makes scales of ranges. docs/numerics.md, section 1, has the formulas.
INTACT_API intact_status intact_calibrate_block(const intact_block_ranges* ranges, const intact_recipe* recipe,
                                                intact_block_scales** scales);

/// Frees scales; NULL is nothing to free.
INTACT_API intact_status intact_free_block_scales(intact_block_scales* scales);

/// The two ends of a block's residual stream. Those of s16 codes have the same scale.
typedef int32_t intact_stream_end;
enum { INTACT_STREAM_ENTERS = 0, INTACT_STREAM_LEAVES = 1 };

/// The scale of the residual stream where it enters or leaves the block. *scale refers to the scales' own shifts, which
/// may change when these do.
INTACT_API intact_status intact_block_stream_scale(const intact_block_scales* scales, intact_stream_end end,
                                                   intact_scale* scale);

/// Sets the scale of the entering stream. The one that leaves a block on u8 codes is the one that enters the next block;
/// all blocks on s16 codes have one, the largest, with the zero point 0 and shifts of 0.
INTACT_API intact_status intact_set_block_stream_scale(intact_block_scales* scales, const intact_scale* scale);

/// Raises those scales for which the block's integers do not exist, as intact_build_block does, and counts them. Blocks on
/// an s16 stream have one scale: a program sets the largest, and calls this for each until none raises it.
INTACT_API intact_status intact_fit_block_scales(const intact_float_block* block, intact_block_scales* scales,
                                                 const intact_recipe* recipe, ptrdiff_t* raised);

/// A block in integers, in memory of the caller's.
typedef struct intact_block intact_block;

/// Bytes of memory for a block.
INTACT_API intact_status intact_block_bytes(const intact_block_shape* shape, const intact_recipe* recipe,
                                            size_t* bytes);

/// Builds a block. Scales that integers do not allow are raised. The float block and the scales are not needed afterwards.
///
/// Memory: at least intact_block_bytes, as long as *built is used. The heap is used meanwhile.
/// Errors: sizes that do not match, numbers that are not finite, scales for which no integers exist, a recipe whose parts
///         exclude each other: the block and the tensor are named. Scales may have been raised.
/// Source: docs/numerics.md, section 9.
INTACT_API intact_status intact_build_block(const intact_float_block* block, intact_block_scales* scales,
                                            const intact_recipe* recipe, const intact_workspace* memory,
                                            const intact_block** built);

/// Bytes of workspace of a call for so many images, on so many threads.
INTACT_API intact_status intact_block_workspace_bytes(const intact_block* block, ptrdiff_t batch, ptrdiff_t threads,
                                                      size_t* bytes);

/// Runs a block, in place on the codes of residual streams, (batch * tokens) x width of INTACT_U8 or, as the recipe says,
/// INTACT_S16. They enter and leave in the scales of intact_block_stream_scale.
///
/// Memory:   at least intact_block_workspace_bytes.
/// Errors:   wrong types, sizes that do not match, a workspace that is too small.
/// Aliasing: the stream must not overlap the workspace or the block.
/// Source:   docs/numerics.md, section 9.
INTACT_API intact_status intact_run_block(const intact_block* block, const intact_matrix* stream,
                                          const intact_workspace* workspace, const intact_executor* run);

// Models in files: safetensors files of docs/model_format.md. A library that was built without INTACT_IO ends these calls
// with INTACT_NOT_BUILT

/// An integer model, on the heap.
typedef struct intact_model intact_model;

/// Loads a model from a file. Every byte is taken as hostile: a file gives a model that is safe to run on any image, or
/// INTACT_FILE_ERROR.
INTACT_API intact_status intact_load_model(const char* path, intact_model** model);

/// The same from memory, which is not needed afterwards. Messages call it `name`.
INTACT_API intact_status intact_load_model_from_memory(const void* data, size_t bytes, const char* name,
                                                       intact_model** model);

/// Frees a model; NULL is nothing to free.
INTACT_API intact_status intact_free_model(intact_model* model);

/// The architecture of a model.
typedef int32_t intact_model_kind;
enum { INTACT_VIT = 0, INTACT_SWIN = 1 };

/// A model's sizes and scales.
typedef struct intact_model_info {
  intact_model_kind kind;             ///< the architecture
  ptrdiff_t channels, height, width;  ///< of its images
  ptrdiff_t classes;                  ///< 0: a model without a head
  ptrdiff_t features;                 ///< of an image; of INTACT_SWIN 0: they are not offered here
  double logits_scale;                ///< a step of the s32 logits in units of the float model's
  double features_scale;              ///< of a model without a head, features are (code - zero point) * scale
  int32_t features_zero_point;        ///< likewise
} intact_model_info;

/// Sizes and scales of a model.
INTACT_API intact_status intact_describe_model(const intact_model* model, intact_model_info* info);

/// An image of u8 samples: sample (c, y, x) is at data[c * channel_stride + y * row_stride + x * pixel_stride].
typedef struct intact_image {
  const uint8_t* data;  ///< sample (0, 0, 0)
  /// Sizes.
  ptrdiff_t channels, height, width;
  /// In samples.
  ptrdiff_t channel_stride, row_stride, pixel_stride;
} intact_image;

/// A batch of images.
typedef struct intact_images {
  const intact_image* image;  ///< the first one
  ptrdiff_t count;            ///< number of images
} intact_images;

/// The outputs of a model with a head: rows are images.
typedef struct intact_logits {
  intact_matrix s32;  ///< images x classes, INTACT_S32: codes with the zero point 0 and 1/256 of the step of u8
  intact_matrix u8;   ///< images x classes, INTACT_U8
} intact_logits;

/// Bytes of workspace of a call for so many images.
INTACT_API intact_status intact_model_workspace_bytes(const intact_model* model, ptrdiff_t images, ptrdiff_t threads,
                                                      size_t* bytes);

/// Classifies images.
///
/// Memory:   at least intact_model_workspace_bytes.
/// Errors:   sizes that do not match, a model without a head, a workspace that is too small.
/// Aliasing: the outputs must not overlap each other, the images or the workspace.
/// Source:   docs/numerics.md, sections 9 and 12.
INTACT_API intact_status intact_run_model(const intact_model* model, const intact_images* images,
                                          const intact_logits* logits, const intact_workspace* workspace,
                                          const intact_executor* run);

/// The features that the head takes, of INTACT_VIT: y is images x features of INTACT_U8. Else as intact_run_model.
INTACT_API intact_status intact_model_features(const intact_model* model, const intact_images* images,
                                               const intact_matrix* y, const intact_workspace* workspace,
                                               const intact_executor* run);

// Models from float weights. A library that was built without INTACT_QUANTIZE ends this call with INTACT_NOT_BUILT

/// A float tensor: row-major, without gaps.
typedef struct intact_tensor {
  const char* name;        ///< as in checkpoints
  intact_type type;        ///< INTACT_F32 or INTACT_BF16
  const ptrdiff_t* shape;  ///< sizes of the dimensions
  ptrdiff_t dimensions;    ///< their number
  const void* data;        ///< the elements
} intact_tensor;

/// A float vision transformer under the names of timm's or Hugging Face's checkpoints.
typedef struct intact_checkpoint {
  const intact_tensor* tensor;            ///< the first one
  ptrdiff_t count;                        ///< number of tensors
  ptrdiff_t heads;                        ///< 0: the width / 64
  float epsilon;                          ///< of every LayerNorm; 0: that of the library whose names the tensors have
  const float* mean;                      ///< of each channel of pixels / 255; NULL: ImageNet's
  const float* deviation;                 ///< likewise
  ptrdiff_t channels;                     ///< of mean and deviation
  intact_activation_function activation;  ///< of the perceptrons
} intact_checkpoint;

/// Observes the float model on images, and makes an integer model of it: weights to nearest, ranges from the smallest to
/// the largest value. `path`: a file that the model is written to as well, in place of one that may exist; NULL: none.
///
/// Memory: the heap, also for copies of all tensors.
/// Errors: INTACT_FILE_ERROR for tensors that are missing or have other shapes than they must, or for a file that cannot
///         be written; numbers that are not finite, no images or images of another size, a recipe whose parts exclude
///         each other.
/// Source: docs/numerics.md, sections 1 and 9.
INTACT_API intact_status intact_quantize_vit(const intact_checkpoint* checkpoint, const intact_images* images,
                                             const intact_recipe* recipe, const char* path, intact_model** model);

#ifdef __cplusplus
}
#endif

#endif  // INTACT_C_INTACT_H
