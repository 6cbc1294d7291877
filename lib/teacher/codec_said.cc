// Positions as a server or another tool tells them, into codec top_k. Every value is checked: it comes from outside.
#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "teacher/codec.h"

namespace attar {
namespace {

constexpr double kRoundingAboveZero = 1e-4;  ///< what float32 arithmetic may add to a log-probability of 0
constexpr double kRoundingAboveOne = 1e-2;   ///< what rounding may add to a sum of probabilities
constexpr float kLeastKept = -65504.0f;

}  // namespace

void TeacherCodec::encode(const SaidPosition& said, const std::string& name, EncodedRows& out) const {
  check(!sampled() && !full(), "codec of a server's or another tool's log-probabilities", "top_k", codec_.kind, "they name some ids only");
  const size_t count = said.known ? said.ids.size() : 0;
  if (said.known) {
    check(count >= 1 && count <= static_cast<size_t>(codec_.k) && said.log_probs.size() == count, name + ": ids named", str("1 to ", codec_.k),
          str(count, " with ", said.log_probs.size(), " log-probabilities"));
    check(std::isfinite(said.label_log_prob) && said.label_log_prob <= kRoundingAboveZero, name + ": the label's log-probability",
          "a number of at most 0", str(said.label_log_prob));
  }
  double sum = 0;
  for (size_t i = 0; i < count; ++i) {
    const double value = said.log_probs[i];
    if (!std::isfinite(value) || value > kRoundingAboveZero) fail(name + ": log-probability", "a number of at most 0", str(value));
    if (i > 0 && value > said.log_probs[i - 1] + 1e-6)
      fail(name + ": log-probabilities", "by falling value", str(said.log_probs[i - 1], " before ", value));
    if (said.ids[i] < 0 || said.ids[i] >= vocab_)
      fail(name + ": token id", str("in [0, ", vocab_, ")"), str(said.ids[i]), "the ids of another tokenizer");
    const auto here = said.ids.begin() + static_cast<std::ptrdiff_t>(i);
    if (std::find(said.ids.begin(), here, *here) != here)
      fail(name + ": token ids", "different ones", str(said.ids[i], " twice"));
    sum += std::exp(value);
  }
  check(sum <= 1 + kRoundingAboveOne, name + ": probabilities", "a sum of at most 1", str(sum));
  const double shift = sum > 1 ? std::log(sum) : 0, tail = said.known ? (count == static_cast<size_t>(vocab_) ? 0 : std::max(0.0, 1 - sum)) : 1;
  double entropy = said.known && tail > 0 ? -tail * std::log(tail) : 0;
  for (int64_t i = 0; i < codec_.k; ++i) {
    const bool there = i < static_cast<int64_t>(count);
    const double value = there ? std::min(0.0, said.log_probs[static_cast<size_t>(i)] - shift) : kLeastKept;
    // An id that is named keeps a mass, however small; the least half float means that none is named.
    out.ids.push_back(there ? said.ids[static_cast<size_t>(i)] : 0);
    out.log_probs.push_back(half_bits(there ? std::max(kLeastKept / 2, static_cast<float>(value)) : kLeastKept));
    if (there) entropy -= std::exp(value) * value;
  }
  out.entropy.push_back(half_bits(static_cast<float>(entropy)));
  out.label_log_prob.push_back(half_bits(said.known ? std::min(0.0f, std::max(kLeastKept / 2, static_cast<float>(said.label_log_prob))) : 0.0f));
  out.top_id.push_back(count > 0 ? said.ids[0] : 0);
  out.tail.push_back(half_bits(static_cast<float>(tail)));
  out.mass_sum += std::min(1.0, sum);
  out.distinct_sum += static_cast<double>(count);
  out.entropy_sum += entropy;
}

}  // namespace attar
