#include "train/gradient_buckets.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/csrc/autograd/function_hook.h>
#include <torch/csrc/autograd/variable.h>

#include "base/check.h"

namespace attar {

/// Called by autograd when a tensor's gradient is complete.
struct GradientBuckets::Hook : torch::autograd::PostAccumulateGradHook {
  Hook(GradientBuckets* owner, size_t bucket, size_t member) : owner_(owner), bucket_(bucket), member_(member) {}
  void operator()(const at::Tensor&) override { owner_->arrived(bucket_, member_); }
  GradientBuckets* owner_;
  size_t bucket_, member_;
};

GradientBuckets::GradientBuckets(std::vector<at::Tensor> tensors, ProcessGroup& group, int64_t elements)
    : tensors_(std::move(tensors)), group_(group) {
  if (group.size() == 1) return;
  // Backward meets the last layers first.
  int64_t held = 0;
  const auto close = [&] {
    if (buckets_.empty()) return;
    Bucket& bucket = buckets_.back();
    bucket.part = (held + group_.size() - 1) / group_.size();
    bucket.flat = at::zeros({bucket.part * group_.size()}, tensors_[bucket.members[0].tensor].options().requires_grad(false));
    bucket.mine = at::zeros({bucket.part}, bucket.flat.options());
  };
  for (size_t i = tensors_.size(); i-- > 0;) {
    if (buckets_.empty() || held + tensors_[i].numel() > elements) {
      close();
      buckets_.emplace_back();
      held = 0;
    }
    buckets_.back().members.push_back({i, held});
    held += tensors_[i].numel();
  }
  close();
  for (size_t b = 0; b < buckets_.size(); ++b)
    for (size_t m = 0; m < buckets_[b].members.size(); ++m)
      torch::autograd::impl::set_post_acc_grad_hooks(tensors_[buckets_[b].members[m].tensor], std::make_unique<Hook>(this, b, m));
}

GradientBuckets::~GradientBuckets() {
  for (Bucket& bucket : buckets_)
    for (const Member& member : bucket.members) torch::autograd::impl::set_post_acc_grad_hooks(tensors_[member.tensor], nullptr);
}

void GradientBuckets::arm() {
  armed_ = true;
  sent_ = 0;
  for (Bucket& bucket : buckets_) {
    bucket.missing = bucket.members.size();
    bucket.there.assign(bucket.members.size(), false);
  }
}

void GradientBuckets::fill(Bucket& bucket, size_t member) {
  const at::NoGradGuard no_grad;
  const at::Tensor& tensor = tensors_[bucket.members[member].tensor];
  at::Tensor place = bucket.flat.narrow(0, bucket.members[member].begin, tensor.numel()).view(tensor.sizes());
  if (tensor.grad().defined()) place.copy_(tensor.grad());
  else place.zero_();
  if (!bucket.there[member]) --bucket.missing;
  bucket.there[member] = true;
}

void GradientBuckets::arrived(size_t bucket, size_t member) {
  if (!armed_) return;
  check(bucket >= sent_, "a gradient", "to be complete when it is given to the other ranks", "more of it in the same backward");
  fill(buckets_[bucket], member);
  send_ready();
}

void GradientBuckets::send_ready() {
  for (; sent_ < buckets_.size() && buckets_[sent_].missing == 0; ++sent_) {
    Bucket& bucket = buckets_[sent_];
    bucket.wait = group_.start_reduce_scatter_sum(bucket.mine, bucket.flat);
  }
}

void GradientBuckets::finish() {
  for (Bucket& bucket : buckets_)
    for (size_t m = 0; m < bucket.members.size(); ++m)
      if (!bucket.there[m]) fill(bucket, m);
  send_ready();
  for (Bucket& bucket : buckets_) bucket.wait();
  armed_ = false;
}

void GradientBuckets::gather(const std::function<void(size_t tensor, const at::Tensor& elements)>& visit) {
  for (Bucket& bucket : buckets_) {
    group_.all_gather(bucket.flat, bucket.mine);
    for (const Member& member : bucket.members) visit(member.tensor, bucket.flat.narrow(0, member.begin, tensors_[member.tensor].numel()));
  }
}

}  // namespace attar
