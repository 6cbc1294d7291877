#pragma once
#include <ATen/core/Tensor.h>

#include "model/checkpoint.h"

namespace attar {

/// Whether the type's values are whole numbers of steps, so that an offset of the rounding means the same everywhere: all block types but
/// iq4_nl and mxfp4.
bool rounding_can_learn(GgmlType type);

/// One weight w whose codes are learned beside the blocks of a solution: an offset in [-0.5, 0.5] of each weight's rounding and, where asked and
/// where a block has its scale (and minimum) in fp16, a factor in [0.5, 1.5] of each:
///   value = step * clamp(round((w + low) / step + offset)) - low,  step and low those of the solution times the factor, as fp16 stores them.
/// Offsets of 0 and factors of 1 give the solution's codes: a weight that it does not round to the nearest level starts on that level's edge.
/// Source: Cheng et al. 2023 (SignRound, arXiv 2309.05516), equations 3 to 6. Same bits for any number of threads.
class LearnedRounding {
 public:
  /// weight (rows, columns), start of its shape and of a type that can learn.
  LearnedRounding(const at::Tensor& weight, QuantizedTensor start, bool scales);

  /// What a reader sees of the codes as they now stand, (rows, columns) float32.
  at::Tensor values();
  /// The codes of the last values(); before those the solution's.
  const QuantizedTensor& codes() const { return codes_; }

  /// Slopes of a loss by offsets and factors, given its slope by the last values(): straight through the rounding, 0 for offsets outside the clip.
  struct Slopes {
    at::Tensor offsets;  ///< (rows, columns)
    at::Tensor factors;  ///< (rows, blocks, 1 or 2); undefined: scales are not learned
  };
  Slopes slopes(const at::Tensor& gradient) const;
  /// Every offset goes `size` levels, every factor as far as moves the grid's last level by that, against the sign of the sum of its slopes so far,
  /// each 0.9 times as heavy as the one after it: what few rows say by chance cancels out (Bernstein et al. 2018, Signum, arXiv 1802.04434).
  void descend(const Slopes& slopes, double size);

  const at::Tensor& offsets() const { return offsets_; }
  const at::Tensor& factors() const { return factors_; }

 private:
  at::Tensor base_, offsets_, factors_, scales_;
  Slopes sums_;
  QuantizedTensor start_, grid_, codes_;
};

}  // namespace attar
