#include "kernels/softmax_rows.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>

#include "base/check.h"
#include "kernels/vector_math.h"

namespace attar {
namespace {

at::Tensor waves(int64_t rows, int64_t vocab) {
  return ((at::arange(rows * vocab, at::kDouble) * 1.37).sin() * 9).to(at::kFloat).reshape({rows, vocab});
}

TEST(SoftmaxRows, EqualsThePlainVersion) {
  for (const int64_t vocab : {1, 15, 64, 5003}) {
    for (const double temperature : {1.0, 1.5}) {
      at::Tensor logits = waves(9, vocab);
      const SoftmaxFacts plain = softmax_facts_plain(logits, temperature);
      const at::Tensor probs = (logits.to(at::kDouble) / temperature).softmax(-1);
      const SoftmaxFacts facts = softmax_rows_(logits, temperature);
      EXPECT_LT((facts.log_sum - plain.log_sum).abs().max().item<double>(), 1e-5);
      EXPECT_LT((facts.entropy - plain.entropy).abs().max().item<double>(), 1e-5);
      EXPECT_TRUE(facts.top_id.equal(plain.top_id));
      EXPECT_LT((logits - probs).abs().max().item<double>(), 1e-6);
    }
  }
}

TEST(SoftmaxRows, RefusesWhatIsNoNumber) {
  for (const float bad : {NAN, INFINITY}) {
    at::Tensor logits = waves(3, 20);
    logits[1][4] = bad;
    EXPECT_THROW(softmax_rows_(logits, 1), Error);
  }
}

TEST(VectorMath, StaysNearTheLibrarys) {
  for (double x = -87; x < 88; x += 0.00713) {
    const float in = static_cast<float>(x);
    EXPECT_LT(std::abs(vector_exp(in) / std::exp(static_cast<double>(in)) - 1), 2e-7) << x;
  }
  EXPECT_EQ(vector_exp(-100.0f), 0);
  EXPECT_EQ(vector_exp(0.0f), 1);
  EXPECT_TRUE(std::isnan(vector_exp(NAN)));
  for (double e = -37; e < 38; e += 0.00317) {
    const float in = static_cast<float>(std::pow(10.0, e));
    const double truth = std::log(static_cast<double>(in));
    EXPECT_LT(std::abs(vector_log(in) - truth), 3e-7 * std::max(0.2, std::abs(truth))) << in;
  }
  for (double x = -30; x < 30; x += 0.0071) {
    const float in = static_cast<float>(x);
    EXPECT_LT(std::abs(vector_tanh(in) - std::tanh(static_cast<double>(in))), 2e-7) << x;
  }
}

}  // namespace
}  // namespace attar
