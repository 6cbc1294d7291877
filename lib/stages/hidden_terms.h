#pragma once
#include <map>

#include "spec/train_config.h"
#include "train/trainer.h"

namespace attar {

/// The loss on hidden states of a training: pairs of layers and the projections that are learned with the student.
class HiddenTerms {
 public:
  /// Error if a pair does not read "STUDENT:TEACHER" or names no layer of the student. weight 0: there are none.
  HiddenTerms(const HiddenLossConfig& config, int64_t student_layers);
  bool there() const { return !pairs_.empty(); }
  std::map<int64_t, at::Tensor> student_slots() const;  ///< for Decoder::hidden
  std::map<int64_t, at::Tensor> teacher_slots() const;
  /// Makes the projections (Dt, D) that are wanted, normal with deviation 1 / sqrt(D); same seed, same bits.
  void prepare(int64_t student_width, int64_t teacher_width, uint64_t seed, at::Device device);
  std::vector<TrainParameter> parameters() const;
  /// weight x mean over the pairs of the sum over positions with a label; states (.., width), labels (N).
  at::Tensor loss(const std::map<int64_t, at::Tensor>& student, const std::map<int64_t, at::Tensor>& teacher, const at::Tensor& labels) const;

 private:
  HiddenLossConfig config_;
  std::vector<std::pair<int64_t, int64_t>> pairs_;
  std::vector<at::Tensor> projections_;
};

}  // namespace attar
