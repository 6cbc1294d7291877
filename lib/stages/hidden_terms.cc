#include "stages/hidden_terms.h"

#include <ATen/ATen.h>

#include <charconv>
#include <cmath>

#include "base/check.h"
#include "base/rng.h"
#include "distill/distill_loss.h"

namespace attar {
namespace {

/// "3:6" as two numbers above 0.
std::pair<int64_t, int64_t> layer_pair(const std::string& text) {
  std::pair<int64_t, int64_t> out{0, 0};
  const size_t colon = text.find(':');
  const char *begin = text.data(), *end = begin + text.size();
  bool good = colon != std::string::npos;
  if (good) {
    const auto first = std::from_chars(begin, begin + colon, out.first), second = std::from_chars(begin + colon + 1, end, out.second);
    good = first.ec == std::errc() && first.ptr == begin + colon && second.ec == std::errc() && second.ptr == end && out.first > 0 && out.second > 0;
  }
  check(good, "loss.hidden.layers", "pairs STUDENT:TEACHER of layers, counted from 1, as 2:4", text);
  return out;
}

}  // namespace

HiddenTerms::HiddenTerms(const HiddenLossConfig& config, int64_t student_layers) : config_(config) {
  check(std::isfinite(config.weight) && config.weight >= 0, "loss.hidden.weight", "0 or more", std::to_string(config.weight));
  if (config.weight == 0) return;
  check(config.kind == "mse" || config.kind == "cosine", "loss.hidden.kind", "mse or cosine", config.kind);
  check(!config.layers.empty(), "loss.hidden.layers", "at least one pair of layers, as 2:4", "none");
  for (const std::string& text : config.layers) {
    pairs_.push_back(layer_pair(text));
    check(pairs_.back().first <= student_layers, "loss.hidden.layers", str("student's layers from 1 to ", student_layers), text);
  }
}

std::map<int64_t, at::Tensor> HiddenTerms::student_slots() const {
  std::map<int64_t, at::Tensor> out;
  for (const auto& pair : pairs_) out[pair.first];
  return out;
}

std::map<int64_t, at::Tensor> HiddenTerms::teacher_slots() const {
  std::map<int64_t, at::Tensor> out;
  for (const auto& pair : pairs_) out[pair.second];
  return out;
}

void HiddenTerms::prepare(int64_t student_width, int64_t teacher_width, uint64_t seed, at::Device device) {
  projections_.assign(pairs_.size(), at::Tensor());
  if (!config_.project && student_width == teacher_width) return;
  const double deviation = 1 / std::sqrt(static_cast<double>(student_width));
  for (size_t i = 0; i < pairs_.size(); ++i) {
    at::Tensor matrix = at::empty({teacher_width, student_width}, at::kFloat);
    Rng rng(seed, stream_of("projection." + std::to_string(i)));
    for (int64_t k = 0; k < matrix.numel(); ++k) matrix.data_ptr<float>()[k] = static_cast<float>(rng.normal() * deviation);
    projections_[i] = matrix.to(device).requires_grad_(true);
  }
}

std::vector<TrainParameter> HiddenTerms::parameters() const {
  std::vector<TrainParameter> out;
  for (size_t i = 0; i < projections_.size(); ++i)
    if (projections_[i].defined()) out.push_back({"projection." + std::to_string(i), projections_[i], true});
  return out;
}

at::Tensor HiddenTerms::loss(const std::map<int64_t, at::Tensor>& student, const std::map<int64_t, at::Tensor>& teacher,
                             const at::Tensor& labels) const {
  at::Tensor sum;
  for (size_t i = 0; i < pairs_.size(); ++i) {
    const at::Tensor &x = student.at(pairs_[i].first), &y = teacher.at(pairs_[i].second);
    const at::Tensor one = hidden_state_loss(x.reshape({-1, x.size(-1)}), y.reshape({-1, y.size(-1)}), projections_[i], labels, config_.kind);
    sum = sum.defined() ? sum + one : one;
  }
  return sum * (config_.weight / static_cast<double>(pairs_.size()));
}

}  // namespace attar
