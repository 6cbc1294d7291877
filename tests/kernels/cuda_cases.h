#pragma once
// Problems for the arithmetic that CPU and CUDA share: one body, run by a team of host threads and by the CUDA part.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <vector>

#include "base/rng.h"
#include "kernels/cuda_part.h"
#include "kernels/linear_loss_parts.h"

namespace attar {

inline std::vector<float> cuda_case_noise(int64_t count, uint64_t stream, double scale = 1) {
  std::vector<float> values(static_cast<size_t>(count));
  Rng rng(11, stream);
  for (float& value : values) value = static_cast<float>(rng.normal() * scale);
  return values;
}

/// Runs the row pass over a job whose pointers are all the host's.
using LossRowsRunner = std::function<void(AttarLossRows&)>;

/// One job with its memory, and what the specification (loss_formulas, float64) says of it.
struct LossRowsCase {
  std::string name;
  AttarLossTerms terms{};
  int64_t rows = 5, vocab = 37, k = 0;
  double softcap = 0, teacher_softcap = 0;
  bool weighted = true, tail = false, repeated = false, whole = false;  ///< ids twice in a row; all ids of the vocabulary
  enum class Teacher { none, live, dense, sparse } teacher = Teacher::none;

  /// Largest differences, each relative to the largest value where that is above 1: the sum over the three values, and the gradient's.
  std::pair<double, double> gaps(const LossRowsRunner& run, bool gradients) const {
    std::vector<float> z = cuda_case_noise(rows * vocab, 1, 3), y, probs, tails(static_cast<size_t>(rows)), row_weights = cuda_case_noise(rows, 3);
    std::vector<int64_t> labels;
    std::vector<int32_t> ids;
    for (int64_t r = 0; r < rows; ++r) labels.push_back((7 * r + 3) % vocab);
    if (teacher == Teacher::live || teacher == Teacher::dense) y = cuda_case_noise(rows * vocab, 2, 3);
    if (teacher == Teacher::dense) {
      at::Tensor view = at::from_blob(y.data(), {rows, vocab});
      view.copy_(view.log_softmax(-1));
      y[1] = -std::numeric_limits<float>::infinity();
    }
    if (teacher == Teacher::sparse) {
      for (int64_t r = 0; r < rows; ++r) {
        float mass = 0;
        for (int64_t i = 0; i < k; ++i) {
          const bool there = whole || (r != 2 && i % 4 != 3);  // row 2 has no ids
          const int64_t id = whole ? i : (labels[static_cast<size_t>(r)] + 2 * i) % vocab;
          ids.push_back(!there ? -1 : repeated && i == 4 ? ids[static_cast<size_t>(r * k)] : static_cast<int32_t>(id));
          probs.push_back(there ? 0.9f / static_cast<float>(k) : 0.0f);
          mass += probs.back();
        }
        tails[static_cast<size_t>(r)] = 1 - mass;
      }
    }
    const auto tensor = [&](auto& values, std::vector<int64_t> shape, at::ScalarType type) {
      return at::from_blob(values.data(), shape, type).clone();
    };
    LossRows expected;
    expected.logits = tensor(z, {rows, vocab}, at::kFloat).to(at::kDouble);
    if (!y.empty()) expected.teacher = tensor(y, {rows, vocab}, at::kFloat).to(at::kDouble);
    if (!ids.empty()) {
      expected.ids = tensor(ids, {rows, k}, at::kInt);
      expected.probs = tensor(probs, {rows, k}, at::kFloat).to(at::kDouble);
      if (tail) expected.tail = tensor(tails, {rows}, at::kFloat).to(at::kDouble);
    }
    expected.labels = tensor(labels, {rows}, at::kLong);
    if (weighted) expected.row_weights = tensor(row_weights, {rows}, at::kFloat).to(at::kDouble);
    expected.live = teacher == Teacher::live;
    expected.softcap = softcap;
    expected.teacher_softcap = teacher_softcap;
    LossWeights w;
    w.kl = terms.kl, w.ce = terms.ce, w.rkl = terms.rkl, w.jsd = terms.jsd, w.skl = terms.skl, w.srkl = terms.srkl, w.tvd = terms.tvd;
    w.temperature = terms.temperature, w.beta = terms.beta, w.lambda = terms.lambda;
    at::Tensor slope;
    const LossValues values = loss_formulas(expected, w, &slope);

    std::vector<double> loss(static_cast<size_t>(rows)), teacher_terms(loss), ce(loss);
    std::vector<float> kept(static_cast<size_t>(rows * k));
    int32_t twice = 0;
    AttarLossRows job{};
    job.rows = rows, job.vocab = vocab, job.k = k;
    job.logits = z.data(), job.logits_stride = vocab;
    job.teacher = y.empty() ? nullptr : y.data(), job.teacher_stride = vocab;
    job.teacher_live = teacher == Teacher::live, job.gradients = gradients;
    job.labels = labels.data(), job.row_weights = weighted ? row_weights.data() : nullptr;
    job.ids = ids.empty() ? nullptr : ids.data(), job.probs = probs.empty() ? nullptr : probs.data();
    job.tail = tail ? tails.data() : nullptr, job.kept = kept.data();
    job.softcap = softcap, job.teacher_softcap = teacher_softcap, job.terms = terms;
    job.loss = loss.data(), job.teacher_terms = teacher_terms.data(), job.cross_entropy = ce.data(), job.twice = &twice;
    run(job);
    EXPECT_EQ(twice, tail && repeated ? 1 : 0);
    const auto gap = [](const at::Tensor& a, const at::Tensor& b) {
      return (a.to(at::kDouble) - b).abs().max().item<double>() / std::max(1.0, b.abs().max().item<double>());
    };
    // Added, not compared: a value that is no number stays one.
    const double of_values = gap(tensor(loss, {rows}, at::kDouble), values.loss) + gap(tensor(teacher_terms, {rows}, at::kDouble), values.teacher) +
                             gap(tensor(ce, {rows}, at::kDouble), values.cross_entropy);
    return {of_values, gradients ? gap(tensor(z, {rows, vocab}, at::kFloat), slope) : 0.0};
  }
};

/// Every term and form of teacher, with and without temperature and soft caps.
inline std::vector<LossRowsCase> loss_rows_cases() {
  using Teacher = LossRowsCase::Teacher;
  std::vector<LossRowsCase> cases;
  const auto add = [&](std::string name, Teacher teacher, AttarLossTerms terms, auto change) {
    if (terms.temperature == 0) terms.temperature = 1;
    LossRowsCase one;
    one.name = std::move(name), one.teacher = teacher, one.terms = terms;
    change(one);
    cases.push_back(one);
  };
  const auto same = [](LossRowsCase&) {};
  const auto capped = [](LossRowsCase& c) { c.softcap = 5, c.teacher_softcap = 4; };
  add("labels", Teacher::none, {.ce = 1}, same);
  add("labels, capped, unweighted", Teacher::none, {.ce = 0.5}, [](LossRowsCase& c) { c.softcap = 5, c.weighted = false; });
  for (const Teacher teacher : {Teacher::live, Teacher::dense}) {
    const std::string form = teacher == Teacher::live ? "live " : "dense ";
    add(form + "kl", teacher, {.kl = 1}, same);
    add(form + "kl and ce at T 3", teacher, {.kl = 0.7, .ce = 0.3, .temperature = 3}, capped);
    add(form + "rkl", teacher, {.rkl = 1}, same);
    add(form + "jsd", teacher, {.jsd = 1, .beta = 0.3}, same);
    add(form + "jsd 0 and kl", teacher, {.kl = 0.5, .jsd = 1, .beta = 0}, same);
    add(form + "jsd 1 and rkl", teacher, {.rkl = 0.5, .jsd = 1, .beta = 1}, same);
    add(form + "skl", teacher, {.skl = 1, .lambda = 0.2}, same);
    add(form + "srkl", teacher, {.srkl = 1, .lambda = 0.2}, same);
    add(form + "tvd", teacher, {.tvd = 1}, same);
    add(form + "everything at T 1.7", teacher,
        {.kl = 0.1, .ce = 0.2, .rkl = 0.3, .jsd = 0.4, .skl = 0.5, .srkl = 0.6, .tvd = 0.7, .temperature = 1.7, .beta = 0.5, .lambda = 0.1}, capped);
  }
  add("wide live", Teacher::live, {.kl = 1, .ce = 1, .temperature = 2}, [](LossRowsCase& c) { c.vocab = 3001, c.rows = 3; });
  const AttarLossTerms mixed{.kl = 0.7, .ce = 0.3, .temperature = 2}, plain{.kl = 1};
  add("sampled", Teacher::sparse, plain, [](LossRowsCase& c) { c.k = 9; });
  add("sampled at T 2, ids twice", Teacher::sparse, mixed, [&](LossRowsCase& c) { c.k = 9, c.repeated = true, capped(c); });
  add("top-k", Teacher::sparse, plain, [](LossRowsCase& c) { c.k = 9, c.tail = true; });
  add("top-k at T 2", Teacher::sparse, mixed, [&](LossRowsCase& c) { c.k = 9, c.tail = true, capped(c); });
  add("top-k of everything", Teacher::sparse, mixed, [](LossRowsCase& c) { c.k = 6, c.vocab = 6, c.tail = true, c.whole = true; });
  return cases;
}

}  // namespace attar
