#include "stages/fixed_batch.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "base/check.h"
#include "data/source.h"
#include "device/device.h"
#include "model/attention_plan.h"
#include "small_model.h"
#include "teacher/capture.h"

namespace attar {
namespace {

constexpr int64_t kFixedVocab = 61;

/// A student, a teacher, rows and what a loss needs of them.
struct FixedProblem {
  Decoder student, teacher;
  TokenRows rows;
  explicit FixedProblem(bool packed)
      : student(decoder(7)), teacher(decoder(8)), rows(random_token_rows(8, 24, kFixedVocab, 3)) {
    student.require_grad(true);
    if (!packed) return;
    cut_row(rows, 2, 15);
    rows.segments[0].slice(0, 9, 24).fill_(1);
    rows.segments[5].slice(0, 4, 20).fill_(1);
    rows.segments[5].slice(0, 20, 24).fill_(2);
    rows.learn[1].slice(0, 0, 11).zero_();
  }
  static Decoder decoder(uint64_t seed) {
    LayerSpec layer{.ffn = 40, .heads = 4, .kv_heads = 2};
    layer.window = seed == 8 ? 6 : 0;
    Checkpoint model = small_model(small_shape(kFixedVocab, 32, 8, 2, layer), seed, 8);
    return Decoder(model.spec, model.weights);
  }
  Batch batch(int64_t first) const { return make_batch(rows, {first, first + 1, first + 2, first + 3}); }
  /// What a cache would say of the batch: nothing where there is no label, ids of another width in each batch.
  LogitTargets cached(const Batch& batch, LogitTargets::Kind kind, bool tail) const {
    const at::NoGradGuard no_grad;
    const at::Tensor hidden = teacher.hidden({batch.at("ids"), batch.at("segments"), {}, {}});
    const at::Tensor labels = batch.at("labels").reshape({-1}), p = at::log_softmax(teacher.logits(hidden).view({labels.size(0), -1}), 1);
    const at::Tensor there = labels.ne(-100).unsqueeze(1);
    LogitTargets out;
    out.kind = kind;
    if (kind == LogitTargets::Kind::dense) out.log_probs = at::where(there, p, 0.0).to(at::kHalf);
    if (kind == LogitTargets::Kind::sparse) {
      auto [probs, ids] = p.exp().topk(batch.at("rows")[0].item<int64_t>() ? 5 : 7, 1);
      out.ids = at::where(there, ids, -1).to(at::kInt), out.probs = at::where(there, probs, 0.0);
      if (tail) out.tail = at::where(there.squeeze(1), 1 - probs.sum(1), 0.0);
    }
    return out;
  }
};

struct Learned {
  at::Tensor sum, ce, teacher;
  std::map<std::string, at::Tensor> gradients;
};

Learned learned_of(FixedProblem& problem, const StepLoss& loss) {
  for (auto& [name, weight] : problem.student.weights()) weight.mutable_grad() = at::Tensor();
  loss.sum.backward();
  Learned out{loss.sum.detach(), loss.sums[0].value, loss.sums.size() > 1 ? loss.sums[1].value : at::Tensor(), {}};
  for (auto& [name, weight] : problem.student.weights()) out.gradients[name] = weight.grad().clone();
  return out;
}

/// As learning does it without recordings.
Learned plain_of(FixedProblem& problem, const Batch& batch, const LogitTargets& cached, const FixedLoss& loss, const at::Tensor& weights,
                 double share) {
  const LogitTargets targets = loss.teacher ? live_targets(*loss.teacher, batch) : cached;
  const at::Tensor hidden = problem.student.hidden({batch.at("ids"), batch.at("segments"), {}, {}});
  const DistillLoss one =
      states_loss(problem.student, hidden, targets, batch.at("labels").reshape({-1}), weights, loss.weights, loss.vocab);
  return learned_of(problem, {one.sum, 0, {{"ce", one.terms[1] * share}, {"teacher", one.terms[0] * share}}});
}

double fixed_gap(const at::Tensor& got, const at::Tensor& expected) {
  return ((got - expected).abs().max() / expected.abs().max().clamp_min(1e-20)).item<double>();
}

/// The loss of one batch's key, with another batch's inputs, equals the plain one: to the bit where every row is full.
TEST(FixedBatch, EqualsThePlainLoss) {
  set_up_machine(1);
  using Kind = LogitTargets::Kind;
  for (const bool packed : {false, true})
    for (const auto& [kind, tail] :
         {std::pair{Kind::none, false}, {Kind::live, false}, {Kind::dense, false}, {Kind::sparse, false}, {Kind::sparse, true}})
      for (const bool weighted : {false, true}) {
        SCOPED_TRACE(str("packed ", packed, ", targets ", static_cast<int>(kind), ", tail ", tail, ", weighted ", weighted));
        FixedProblem problem(packed);
        FixedLoss loss{&problem.student, kind == Kind::live ? &problem.teacher : nullptr, {.kl = 0.7, .ce = 0.3}, kFixedVocab, kind != Kind::none};
        if (kind == Kind::none) loss.weights = {.ce = 1};
        std::string key;
        std::function<StepLoss(const NamedTensors&)> first;
        for (const int64_t row : {0, 4}) {
          const Batch batch = problem.batch(row);
          const double share = row ? 1.25 : 0.75;
          const at::Tensor weights = weighted ? at::arange(96, at::kFloat) / 96 + static_cast<double>(row) : at::Tensor();
          const bool from_cache = kind == Kind::dense || kind == Kind::sparse;
          const LogitTargets cached = from_cache ? problem.cached(batch, kind, tail) : LogitTargets{};
          const FixedBatch fixed = fixed_batch(loss, batch, cached, weights, share);
          if (row == 0) key = fixed.key, first = fixed.loss;
          EXPECT_EQ(fixed.key, key) << "one recording serves both";
          const Learned plain = plain_of(problem, batch, cached, loss, weights, share), got = learned_of(problem, first(fixed.inputs));
          const double room = packed ? 2e-6 : 0;
          EXPECT_LE(fixed_gap(got.sum, plain.sum), room);
          EXPECT_LE(fixed_gap(got.ce, plain.ce), room);
          if (kind != Kind::none) {
            EXPECT_LE(fixed_gap(got.teacher, plain.teacher), room);
          }
          for (const auto& [name, gradient] : plain.gradients) EXPECT_LE(fixed_gap(got.gradients.at(name), gradient), 5 * room) << name;
        }
      }
}

TEST(FixedBatch, PackedRowsByDocumentsHaveRoomForMore) {
  set_up_machine(1);
  FixedProblem problem(true);
  problem.student.by_documents = true;
  const FixedLoss loss{&problem.student, nullptr, {.ce = 1}, kFixedVocab, false};
  const FixedBatch one = fixed_batch(loss, problem.batch(0), {}, {}, 1), other = fixed_batch(loss, problem.batch(4), {}, {}, 1);
  EXPECT_EQ(one.key, other.key) << "rows of two and of three documents";
  EXPECT_FALSE(at::equal(one.inputs.at("student.documents"), other.inputs.at("student.documents")));
  const Learned plain = plain_of(problem, problem.batch(4), {}, loss, {}, 1), got = learned_of(problem, one.loss(other.inputs));
  EXPECT_LE(fixed_gap(got.sum, plain.sum), 1e-6);
  for (const auto& [name, gradient] : plain.gradients) EXPECT_LE(fixed_gap(got.gradients.at(name), gradient), 1e-5) << name;
}

TEST(FixedBatch, RoomThatIsFullStaysAsItIs) {
  AttentionPlan plan;
  plan.documents = at::arange(16, at::kInt), plan.longest = 1;
  EXPECT_TRUE(at::equal(with_room(plan, 15).documents, plan.documents));
  EXPECT_EQ(with_room(plan, 15).longest, 15);
  plan.documents = at::arange(17, at::kInt);
  EXPECT_EQ(with_room(plan, 16).documents.size(0), 32);
  EXPECT_TRUE(with_room(plan, 16).documents.slice(0, 16).eq(16).all().item<bool>());
}

TEST(FixedBatch, WhatTheHostHoldsIsChecked) {
  FixedProblem problem(false);
  const FixedLoss loss{&problem.student, nullptr, {.kl = 1}, kFixedVocab, true};
  const Batch batch = problem.batch(0);
  LogitTargets cached = problem.cached(batch, LogitTargets::Kind::sparse, true);
  cached.ids[3][2] = cached.ids[3][1];
  EXPECT_THROW(fixed_batch(loss, batch, cached, {}, 1), Error) << "an id twice beside a tail";
  FixedLoss narrow = loss;
  narrow.vocab = 20;
  EXPECT_THROW(fixed_batch(narrow, batch, {}, {}, 1), Error) << "labels outside the vocabulary";
}

}  // namespace
}  // namespace attar
