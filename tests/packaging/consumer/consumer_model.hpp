#pragma once

/// Whether the stored model loads, and computes the logits of the specification.
bool model_is_right();
