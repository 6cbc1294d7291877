#include "stages/fixed_batch.h"

#include <ATen/ATen.h>

#include "base/check.h"
#include "model/attention_plan.h"
#include "teacher/capture.h"

namespace attar {
namespace {

constexpr int64_t kWidthStep = 16;  ///< a cache's ids a position are filled up to a multiple of it

/// Positions with a label, ascending, and as many of the others as make all but one a row.
at::Tensor rows_with_room(const at::Tensor& labels, int64_t rows) {
  const at::Tensor valid = labels.ne(-100), there = valid.nonzero().squeeze(1), others = valid.logical_not().nonzero().squeeze(1);
  const int64_t room = std::max<int64_t>(labels.size(0) - rows - there.size(0), 0);
  return at::cat({there, others.slice(0, 0, room)});
}

at::Tensor widened(const at::Tensor& table, int64_t empty) {
  const int64_t width = table.size(1);
  return at::constant_pad_nd(table, {0, (width + kWidthStep - 1) / kWidthStep * kWidthStep - width}, empty);
}

/// Takes the plan's tensors into `inputs` and leaves marks in their place.
AttentionPlan split_plan(AttentionPlan plan, const std::string& who, NamedTensors& inputs) {
  each_tensor(plan, [&](const std::string& name, at::Tensor& tensor) {
    if (!tensor.defined()) return;
    inputs[who + name] = tensor;
    tensor = at::empty({0});
  });
  return plan;
}

std::shared_ptr<const AttentionPlan> joined_plan(AttentionPlan plan, const std::string& who, const NamedTensors& inputs) {
  each_tensor(plan, [&](const std::string& name, at::Tensor& tensor) {
    if (tensor.defined()) tensor = inputs.at(who + name);
  });
  return std::make_shared<const AttentionPlan>(std::move(plan));
}

at::Tensor input_or_none(const NamedTensors& inputs, const char* name) {
  const auto found = inputs.find(name);
  return found == inputs.end() ? at::Tensor() : found->second;
}

}  // namespace

DistillLoss states_loss(const Decoder& student, const at::Tensor& hidden, const LogitTargets& targets, const at::Tensor& labels,
                        const at::Tensor& position_weights, const LossWeights& weights, int64_t vocab, const at::Tensor& rows) {
  at::Tensor states = hidden.reshape({-1, hidden.size(-1)});
  // The output matrix stays float32: its gradient is summed in that, its products are bfloat16's as the states are.
  if (student.autocast_bf16 && states.is_cuda()) states = states.to(at::kBFloat16);
  return distill_loss(states, student.output_weight(), targets, labels, position_weights, weights, student.spec().logit_softcap, vocab, rows);
}

FixedBatch fixed_batch(const FixedLoss& loss, const Batch& batch, const LogitTargets& cached, const at::Tensor& position_weights, double share) {
  const at::Tensor& ids = batch.at("ids");
  const at::Tensor labels = batch.at("labels").reshape({-1});
  check_loss_values(cached, labels, loss.vocab);
  FixedBatch out;
  out.inputs = {{"ids", ids}, {"labels", labels}, {"rows", rows_with_room(labels, ids.size(0))}, {"share", at::scalar_tensor(share, at::kDouble)}};
  if (position_weights.defined()) out.inputs["weights"] = position_weights;
  if (cached.kind == LogitTargets::Kind::dense) out.inputs["log_probs"] = cached.log_probs;
  if (cached.kind == LogitTargets::Kind::sparse) {
    out.inputs["teacher_ids"] = widened(cached.ids, -1), out.inputs["probs"] = widened(cached.probs, 0);
    if (cached.tail.defined()) out.inputs["tail"] = cached.tail;
  }
  const auto plan_of = [&](const Decoder& model, const char* who) {
    AttentionPlan plan = with_room(*model.plan({ids, batch.at("segments"), {}, {}}), ids.size(1));
    out.key += str(who, plan.causal, plan.longest, " ");
    return split_plan(std::move(plan), who, out.inputs);
  };
  const AttentionPlan student_plan = plan_of(*loss.student, "student.");
  const AttentionPlan teacher_plan = loss.teacher ? plan_of(*loss.teacher, "teacher.") : AttentionPlan();
  for (const auto& [name, tensor] : out.inputs) {
    out.key += name;
    for (const int64_t size : tensor.sizes()) out.key += str(" ", size);
    out.key += str(" ", c10::toString(tensor.scalar_type()), "\n");
  }
  out.loss = [loss, student_plan, teacher_plan, kind = cached.kind](const NamedTensors& in) {
    LogitTargets targets;
    if (loss.teacher) {
      targets = live_targets(*loss.teacher, TokenBatch{in.at("ids"), {}, {}, {}, joined_plan(teacher_plan, "teacher.", in)});
    } else {
      targets.kind = kind;
      targets.log_probs = input_or_none(in, "log_probs"), targets.tail = input_or_none(in, "tail");
      targets.ids = input_or_none(in, "teacher_ids"), targets.probs = input_or_none(in, "probs");
    }
    const at::Tensor hidden = loss.student->hidden({in.at("ids"), {}, {}, {}, joined_plan(student_plan, "student.", in)});
    const DistillLoss one = states_loss(*loss.student, hidden, targets, in.at("labels"), input_or_none(in, "weights"), loss.weights, loss.vocab,
                                        in.at("rows"));
    StepLoss step{one.sum, 0, {{"ce", one.terms[1] * in.at("share")}}};
    if (loss.with_teacher) step.sums.push_back({"teacher", one.terms[0] * in.at("share")});
    return step;
  };
  return out;
}

}  // namespace attar
