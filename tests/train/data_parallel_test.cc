#include <gtest/gtest.h>

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <condition_variable>
#include <mutex>
#include <thread>

#include "train/adamw.h"

namespace attar {
namespace {

/// Ranks that are threads of this test: a collective is a meeting in which all see what all brought.
class Meeting {
 public:
  explicit Meeting(int64_t size) : brought_(static_cast<size_t>(size)) {}
  std::vector<at::Tensor> meet(int64_t rank, const at::Tensor& tensor) {
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait(lock, [&] { return !leaving_; });
    brought_[static_cast<size_t>(rank)] = tensor.detach().clone();
    if (++arrived_ == brought_.size()) leaving_ = true, changed_.notify_all();
    changed_.wait(lock, [&] { return leaving_; });
    std::vector<at::Tensor> all = brought_;
    if (--arrived_ == 0) leaving_ = false, changed_.notify_all();
    return all;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<at::Tensor> brought_;
  size_t arrived_ = 0;
  bool leaving_ = false;
};

class ThreadRank : public ProcessGroup {
 public:
  ThreadRank(Meeting& meeting, int64_t rank, int64_t size) : meeting_(meeting), rank_(rank), size_(size) {}
  int64_t rank() const override { return rank_; }
  int64_t size() const override { return size_; }
  void all_reduce_sum(at::Tensor& tensor) override { tensor.copy_(sum(tensor)); }
  void broadcast(at::Tensor& tensor, int64_t root) override { tensor.copy_(meeting_.meet(rank_, tensor)[static_cast<size_t>(root)]); }
  void barrier() override { meeting_.meet(rank_, at::zeros({1})); }
  std::function<void()> start_reduce_scatter_sum(const at::Tensor& output, const at::Tensor& input) override {
    ++started;
    output.copy_(sum(input).narrow(0, rank_ * output.numel(), output.numel()));
    return [] {};
  }
  void all_gather(const at::Tensor& output, const at::Tensor& input) override { output.copy_(at::cat(meeting_.meet(rank_, input))); }
  int started = 0;

 private:
  at::Tensor sum(const at::Tensor& tensor) {
    at::Tensor out = at::zeros_like(tensor);
    for (const at::Tensor& part : meeting_.meet(rank_, tensor)) out += part;
    return out;
  }
  Meeting& meeting_;
  int64_t rank_, size_;
};

struct Weights {
  at::Tensor a = at::sin(at::arange(15, at::kFloat)).view({3, 5}), b = at::zeros({5}), unused = at::ones({2});
  Weights() {
    for (at::Tensor* tensor : {&a, &b, &unused}) tensor->requires_grad_(true);
  }
  std::vector<TrainParameter> parameters() { return {{"a", a, true}, {"b", b, false}, {"unused", unused, true}}; }
  /// Rows [from, to) of a fixed problem.
  at::Tensor loss(int64_t step, int64_t from, int64_t to) {
    const at::Tensor x = at::cos(at::arange(18, at::kFloat) + static_cast<double>(step)).view({6, 3}).slice(0, from, to);
    return (at::mm(x, a) + b - 1).square().sum();
  }
};

/// Runs `steps` steps in `size` ranks, from and to a snapshot.
Snapshot learn_in(int64_t size, int64_t first, int64_t last, const Snapshot& from, std::vector<int64_t>* held = nullptr, int* started = nullptr) {
  Snapshot out;
  Meeting meeting(size);
  std::vector<std::thread> ranks;
  if (held) held->resize(static_cast<size_t>(size));
  for (int64_t r = 0; r < size; ++r)
    ranks.emplace_back([&, r] {
      ThreadRank group(meeting, r, size);
      Weights weights;
      TrainConfig config;
      AdamW optimizer(weights.parameters(), config, group, 8);
      if (!from.tensors.empty()) optimizer.load(from);
      for (int64_t step = first; step < last; ++step) {
        optimizer.zero();
        const int64_t share = 6 / size, middle = r * share + share / 2;
        weights.loss(step, r * share, middle).backward();
        optimizer.arm();
        weights.loss(step, middle, (r + 1) * share).backward();
        if (started && r == 0 && step == first) *started = group.started;
        optimizer.step(0.05, 30);
      }
      Snapshot mine;
      optimizer.save(mine);
      if (held) (*held)[static_cast<size_t>(r)] = optimizer.held_elements();
      for (auto& [name, tensor] : mine.tensors) tensor = tensor.detach().clone();
      if (r == 0) out = mine;
    });
  for (std::thread& rank : ranks) rank.join();
  return out;
}

double distance(const Snapshot& a, const Snapshot& b) {
  double most = 0;
  EXPECT_EQ(a.tensors.size(), b.tensors.size());
  for (const auto& [name, tensor] : a.tensors) most = std::max(most, (tensor - b.tensors.at(name)).abs().max().item<double>());
  return most;
}

TEST(DataParallel, AnyNumberOfRanksLearnsTheSame) {
  const Snapshot alone = learn_in(1, 0, 6, {});
  for (const int64_t size : {2, 3}) EXPECT_LT(distance(alone, learn_in(size, 0, 6, {})), 1e-5) << size << " ranks";
}

TEST(DataParallel, SnapshotGoesOnInAnotherNumberOfRanks) {
  const Snapshot alone = learn_in(1, 0, 6, {});
  for (const auto& [before, after] : std::vector<std::pair<int64_t, int64_t>>{{2, 3}, {3, 1}, {1, 2}})
    EXPECT_LT(distance(alone, learn_in(after, 3, 6, learn_in(before, 0, 3, {}))), 1e-5) << before << " then " << after;
}

TEST(DataParallel, SameRanksGoOnWithTheSameBits) {
  EXPECT_EQ(distance(learn_in(2, 0, 6, {}), learn_in(2, 3, 6, learn_in(2, 0, 3, {}))), 0);
}

TEST(DataParallel, MomentsAreSharedOutAndBucketsLeaveDuringBackward) {
  std::vector<int64_t> held;
  int started = -1;
  learn_in(2, 0, 1, {}, &held, &started);
  EXPECT_EQ(held[0] + held[1], 2 * 22) << "each element's two moments are held once";
  EXPECT_GT(std::min(held[0], held[1]), 0);
  // The tensor without gradient lies in the first bucket: nothing may leave before it.
  EXPECT_EQ(started, 0);
}

TEST(DataParallel, ABucketLeavesWhenItsGradientsAreThere) {
  Meeting meeting(1);
  class Two : public ThreadRank {
   public:
    using ThreadRank::ThreadRank;
    int64_t size() const override { return 2; }
  } group(meeting, 0, 1);
  at::Tensor early = at::ones({4}).requires_grad_(true), late = at::ones({4}).requires_grad_(true);
  GradientBuckets buckets({early, late}, group, 4);
  ASSERT_EQ(buckets.buckets().size(), 2u);
  buckets.arm();
  late.sum().backward();
  EXPECT_EQ(group.started, 1);
  early.sum().backward();
  EXPECT_EQ(group.started, 2);
  buckets.finish();
  EXPECT_TRUE(at::equal(buckets.buckets()[0].flat, at::ones({4})));
}

}  // namespace
}  // namespace attar
