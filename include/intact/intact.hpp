#pragma once

// Everything but the float world of adapt/: the operations, and the models composed of them.

#include "intact/activation.hpp"
#include "intact/add.hpp"
#include "intact/arith/parity_stage.hpp"
#include "intact/average_pool.hpp"
#include "intact/compatibility_layernorm.hpp"
#include "intact/config/version.hpp"
#include "intact/gemm.hpp"
#include "intact/im2col.hpp"
#include "intact/layernorm.hpp"
#include "intact/log_softmax.hpp"
#include "intact/max_softmax.hpp"
#include "intact/merge_patches.hpp"
#include "intact/model/fused_vit.hpp"
#include "intact/model/swin.hpp"
#include "intact/model/vit.hpp"
#include "intact/pack.hpp"
#include "intact/requantize_codes.hpp"
#include "intact/shift_matmul.hpp"
#include "intact/weighted_matmul.hpp"
#include "intact/windows.hpp"
