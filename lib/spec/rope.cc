#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "spec/model_spec.h"

namespace attar {
namespace {

const double kTwoPi = 2 * std::acos(-1.0);

float rounded(double value) { return static_cast<float>(value); }

/// The dimension pair whose wave turns `rotations` times within `context` positions (YaRN, arXiv 2309.00071, section 3.2).
double yarn_dimension(double rotations, double dims, double theta, double context) {
  return dims * std::log(context / (rotations * kTwoPi)) / (2 * std::log(theta));
}

void scale_llama3(const RopeSpec& rope, std::vector<float>& frequency) {
  const double original = static_cast<double>(rope.original_context);
  const double longest = original / rope.low_frequency, shortest = original / rope.high_frequency;
  for (float& f : frequency) {
    const float wave = rounded(kTwoPi) / f;
    if (wave > longest) {
      f = f / rounded(rope.factor);
    } else if (wave >= shortest) {
      const float share = (rounded(original) / wave - rounded(rope.low_frequency)) / rounded(rope.high_frequency - rope.low_frequency);
      f = (1 - share) * f / rounded(rope.factor) + share * f;
    }
  }
}

void scale_yarn(const RopeSpec& rope, int64_t dims, std::vector<float>& frequency) {
  const double width = static_cast<double>(dims), context = static_cast<double>(rope.original_context);
  double low = yarn_dimension(rope.beta_fast, width, rope.theta, context);
  double high = yarn_dimension(rope.beta_slow, width, rope.theta, context);
  if (rope.truncate) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = std::max(low, 0.0);
  high = std::min(high, width - 1);
  if (low == high) high += 0.001;
  for (size_t i = 0; i < frequency.size(); ++i) {
    const float ramp = std::clamp((static_cast<float>(i) - rounded(low)) / rounded(high - low), 0.0f, 1.0f);
    const float kept = 1 - ramp;
    const float base = rounded(1.0 / static_cast<double>(frequency[i]));
    frequency[i] = (1 / (rounded(rope.factor) * base)) * (1 - kept) + frequency[i] * kept;
  }
}

}  // namespace

// Every step rounds to float32 as Hugging Face's own computation does: a frequency of full precision would differ from theirs by
// up to 1e-7 of itself, which a position of many thousands turns into a visible angle.
RopeTable rope_table(const RopeSpec& rope, int64_t dims, int64_t length, int64_t max_context) {
  check(dims > 0 && dims % 2 == 0, "rotary dimensions", "a positive even number", std::to_string(dims));
  std::vector<float> frequency(static_cast<size_t>(dims / 2));
  for (size_t i = 0; i < frequency.size(); ++i) {
    const float power = static_cast<float>(2 * i) / static_cast<float>(dims);
    frequency[i] = 1 / rounded(std::pow(rope.theta, static_cast<double>(power)));
  }
  RopeTable table;
  if (rope.kind == "linear") {
    for (float& f : frequency) f /= rounded(rope.factor);
  } else if (rope.kind == "llama3") {
    check(rope.original_context > 0, "rope kind llama3", "the original context", "none");
    scale_llama3(rope, frequency);
  } else if (rope.kind == "yarn") {
    check(rope.original_context > 0, "rope kind yarn", "the original context", "none");
    scale_yarn(rope, dims, frequency);
    table.magnitude = rope.factor > 1 ? 0.1 * std::log(rope.factor) + 1 : 1;
  } else if (rope.kind == "longrope") {
    check(rope.original_context > 0, "rope kind longrope", "the original context", "none");
    const std::vector<double>& factors = length > rope.original_context ? rope.long_factor : rope.short_factor;
    check(factors.size() == frequency.size(), "factors of rope kind longrope", std::to_string(frequency.size()).c_str(),
          std::to_string(factors.size()));
    for (size_t i = 0; i < frequency.size(); ++i) {
      const float power = static_cast<float>(2 * i) / static_cast<float>(dims);
      frequency[i] = 1 / (rounded(factors[i]) * rounded(std::pow(rope.theta, static_cast<double>(power))));
    }
    const double original = static_cast<double>(rope.original_context), stretch = static_cast<double>(max_context) / original;
    if (stretch > 1) table.magnitude = std::sqrt(1 + std::log(stretch) / std::log(original));
  } else {
    check(rope.kind == "default", "rope kind", "default, linear, llama3, yarn or longrope", rope.kind);
  }
  if (rope.attention_factor > 0 && (rope.kind == "yarn" || rope.kind == "longrope")) table.magnitude = rope.attention_factor;
  table.inverse_frequency.assign(frequency.begin(), frequency.end());
  return table;
}

}  // namespace attar
