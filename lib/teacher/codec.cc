#include "teacher/codec.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "base/rng.h"
#include "kernels/softmax_rows.h"

namespace attar {
namespace {

constexpr int64_t kSearchBlock = 64;  ///< ids whose probabilities are summed together when a draw is looked up
constexpr float kLeastHalf = -65504.0f;

/// Sum of a block in sixteen lanes, which becomes vector code on any processor and gives the same bits on all.
float block_sum(const float* values, int64_t count) {
  float lanes[16] = {};
  int64_t j = 0;
  for (; j + 16 <= count; j += 16)
    for (int64_t lane = 0; lane < 16; ++lane) lanes[lane] += values[j + lane];
  for (; j < count; ++j) lanes[j % 16] += values[j];
  for (int64_t width = 8; width > 0; width /= 2)
    for (int64_t lane = 0; lane < width; ++lane) lanes[lane] += lanes[lane + width];
  return lanes[0];
}

/// Room that the draws of one position after the other use.
struct DrawRoom {
  std::vector<double> points;  ///< in [0, 1), rising: where the distribution is met
  std::vector<int32_t> drawn;
  std::vector<float> sums;  ///< of each block
};

/// Points of independent draws, or of systematic ones (Madow & Madow 1944): one random start and steps of 1 / N, so that an id of probability p is
/// met floor(N p) or ceil(N p) times, N p in the mean.
void draw_points(bool systematic, Rng rng, std::vector<double>& points) {
  if (systematic) {
    const double start = rng.uniform(), steps = static_cast<double>(points.size());
    for (size_t i = 0; i < points.size(); ++i) points[i] = (static_cast<double>(i) + start) / steps;
  } else {
    for (double& point : points) point = rng.uniform();
    std::sort(points.begin(), points.end());
  }
}

/// The ids of probs (n) that the room's points meet, ascending: points in order meet the running sum in order.
void draw_ids(const float* probs, int64_t n, DrawRoom& room) {
  const std::vector<double>& points = room.points;
  double total = 0;
  room.sums.resize(static_cast<size_t>((n + kSearchBlock - 1) / kSearchBlock));
  for (int64_t begin = 0; begin < n; begin += kSearchBlock) {
    const float sum = block_sum(probs + begin, std::min(kSearchBlock, n - begin));
    room.sums[static_cast<size_t>(begin / kSearchBlock)] = sum;
    total += sum;
  }
  double before = 0;
  size_t next = 0;
  int64_t last = 0;  // the last id with any mass: rounding may leave the highest draws beyond the sum
  for (int64_t begin = 0; begin < n && next < points.size(); begin += kSearchBlock) {
    const int64_t end = std::min(n, begin + kSearchBlock);
    const float sum = room.sums[static_cast<size_t>(begin / kSearchBlock)];
    if (sum > 0) last = begin;
    const double after = before + sum;
    if (points[next] * total < after) {
      double running = before;
      int64_t id = begin, mass_id = begin;
      for (; next < points.size() && points[next] * total < after; ++next) {
        const double wanted = points[next] * total;
        while (id < end && running + probs[id] <= wanted) {
          if (probs[id] > 0) mass_id = id;
          running += probs[id++];
        }
        room.drawn[next] = static_cast<int32_t>(id < end ? id : mass_id);
      }
    }
    before = after;
  }
  if (next < points.size()) {
    int64_t id = std::min(n, last + kSearchBlock) - 1;
    while (id > 0 && probs[id] <= 0) --id;
    for (; next < points.size(); ++next) room.drawn[next] = static_cast<int32_t>(id);
  }
}

}  // namespace

uint16_t half_bits(float value) { return c10::Half(value).x; }

void TeacherCodec::encode(at::Tensor logits, double temperature, const at::Tensor& labels, const std::vector<int64_t>& rows,
                          const std::vector<int64_t>& numbers, EncodedRows& out) const {
  const int64_t count = logits.size(0);
  if (count == 0) return;
  check(logits.dim() == 2 && logits.size(1) >= vocab_ && labels.numel() == count && rows.size() == static_cast<size_t>(count),
        "a teacher's logits", str("(positions, at least ", vocab_, ") and a label for each"),
        str("(", count, ", ", logits.size(1), ") and ", labels.numel()));
  at::Tensor x = logits.narrow(1, 0, vocab_);
  const at::Tensor wanted = labels.to(at::kLong).unsqueeze(1);
  check(wanted.min().item<int64_t>() >= 0 && wanted.max().item<int64_t>() < vocab_, "labels of a capture",
        str("ids in [0, ", vocab_, ")"), "another id");
  const at::Tensor label_logits = x.gather(1, wanted).squeeze(1).to(at::kDouble) / temperature;
  const at::Tensor raw = sampled() ? at::Tensor() : x.clone();  // softmax_rows_ overwrites
  const SoftmaxFacts facts = softmax_rows_(x, temperature);
  const at::Tensor label_log_probs = label_logits - facts.log_sum;
  const int32_t* top = facts.top_id.data_ptr<int32_t>();
  for (int64_t p = 0; p < count; ++p) {
    const double entropy = facts.entropy.data_ptr<double>()[p];
    out.entropy.push_back(half_bits(static_cast<float>(entropy)));
    out.label_log_prob.push_back(half_bits(std::max(kLeastHalf, static_cast<float>(label_log_probs.data_ptr<double>()[p]))));
    out.top_id.push_back(top[p]);
    out.entropy_sum += entropy;
  }
  if (sampled()) {
    encode_sampled(x, rows, numbers, out);
  } else if (full()) {
    const at::Tensor kept = ((raw / temperature).sub_(facts.log_sum.to(at::kFloat).unsqueeze(1))).clamp_min_(kLeastHalf).to(at::kHalf).contiguous();
    const auto* bits = reinterpret_cast<const uint16_t*>(kept.data_ptr<at::Half>());
    out.log_probs.insert(out.log_probs.end(), bits, bits + kept.numel());
    out.mass_sum += static_cast<double>(count);
    out.distinct_sum += static_cast<double>(count * vocab_);
  } else {
    encode_top_k(raw, facts.log_sum, temperature, out);
  }
}

void TeacherCodec::encode_sampled(const at::Tensor& probs, const std::vector<int64_t>& rows, const std::vector<int64_t>& numbers,
                                  EncodedRows& out) const {
  const int64_t count = probs.size(0), stride = probs.stride(0), samples = codec_.samples;
  const float* values = probs.data_ptr<float>();
  std::vector<int32_t> drawn(static_cast<size_t>(count * samples));
  const uint64_t stream = stream_of("teacher draws");
  const bool systematic = codec_.draws == "systematic";
#pragma omp parallel num_threads(at::get_num_threads())
  {
    DrawRoom room{std::vector<double>(static_cast<size_t>(samples)), std::vector<int32_t>(static_cast<size_t>(samples)), {}};
#pragma omp for schedule(static)
    for (int64_t p = 0; p < count; ++p) {
      // 256 numbers are set apart for each position, samples are at most 255.
      const Rng rng(seed_, stream + static_cast<uint64_t>(rows[p]), static_cast<uint64_t>(numbers[p]) << 8);
      draw_points(systematic, rng, room.points);
      draw_ids(values + p * stride, vocab_, room);
      std::copy(room.drawn.begin(), room.drawn.end(), drawn.begin() + p * samples);
    }
  }
  for (int64_t p = 0; p < count; ++p) {
    const int32_t* ids = drawn.data() + p * samples;
    int distinct = 0;
    for (int64_t i = 0; i < samples; ++distinct) {
      int64_t end = i;
      while (end < samples && ids[end] == ids[i]) ++end;
      out.ids.push_back(ids[i]);
      out.counts.push_back(static_cast<uint8_t>(end - i));
      out.mass_sum += values[p * stride + ids[i]];
      i = end;
    }
    out.distinct.push_back(static_cast<uint8_t>(distinct));
    out.distinct_sum += distinct;
  }
}

void TeacherCodec::encode_top_k(const at::Tensor& logits, const at::Tensor& log_sum, double temperature, EncodedRows& out) const {
  const auto [values, ids] = logits.topk(codec_.k, 1, true, true);
  const at::Tensor log_probs = (values.to(at::kDouble) / temperature - log_sum.unsqueeze(1)).contiguous(), numbers = ids.contiguous();
  const double* lp = log_probs.data_ptr<double>();
  const int64_t* id = numbers.data_ptr<int64_t>();
  for (int64_t p = 0; p < logits.size(0); ++p) {
    double mass = 0;
    for (int64_t i = 0; i < codec_.k; ++i) {
      out.ids.push_back(static_cast<int32_t>(id[p * codec_.k + i]));
      out.log_probs.push_back(half_bits(std::max(kLeastHalf, std::min(0.0f, static_cast<float>(lp[p * codec_.k + i])))));
      mass += std::exp(lp[p * codec_.k + i]);
    }
    out.tail.push_back(half_bits(static_cast<float>(codec_.k == vocab_ ? 0.0 : std::clamp(1 - mass, 0.0, 1.0))));
    out.mass_sum += std::min(1.0, mass);
    out.distinct_sum += static_cast<double>(codec_.k);
  }
}

}  // namespace attar
