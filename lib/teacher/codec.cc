#include "teacher/codec.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <bit>
#include <cmath>

#include "base/check.h"
#include "base/rng.h"
#include "kernels/softmax_rows.h"

namespace attar {
namespace {

constexpr int64_t kSearchBlock = 64;  ///< ids whose probabilities are summed together when a draw is looked up
constexpr float kLeastHalf = -65504.0f;

/// Draws `samples` ids from probs (n) with replacement; they come back ascending. Uniform numbers in order meet the running sum in order.
void draw_ids(const float* probs, int64_t n, Rng rng, std::vector<double>& uniforms, std::vector<int32_t>& drawn) {
  for (double& u : uniforms) u = rng.uniform();
  std::sort(uniforms.begin(), uniforms.end());
  double total = 0;
  for (int64_t begin = 0; begin < n; begin += kSearchBlock) {
    const int64_t end = std::min(n, begin + kSearchBlock);
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t j = begin; j < end; ++j) sum += probs[j];
    total += sum;
  }
  double before = 0;
  size_t next = 0;
  int64_t last = 0;  // the last id with any mass: rounding may leave the highest draws beyond the sum
  for (int64_t begin = 0; begin < n && next < uniforms.size(); begin += kSearchBlock) {
    const int64_t end = std::min(n, begin + kSearchBlock);
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t j = begin; j < end; ++j) sum += probs[j];
    if (sum > 0) last = begin;
    const double after = before + sum;
    if (uniforms[next] * total < after) {
      double running = before;
      int64_t id = begin, mass_id = begin;
      for (; next < uniforms.size() && uniforms[next] * total < after; ++next) {
        const double wanted = uniforms[next] * total;
        while (id < end && running + probs[id] <= wanted) {
          if (probs[id] > 0) mass_id = id;
          running += probs[id++];
        }
        drawn[next] = static_cast<int32_t>(id < end ? id : mass_id);
      }
    }
    before = after;
  }
  if (next < uniforms.size()) {
    int64_t id = std::min(n, last + kSearchBlock) - 1;
    while (id > 0 && probs[id] <= 0) --id;
    for (; next < uniforms.size(); ++next) drawn[next] = static_cast<int32_t>(id);
  }
}

}  // namespace

uint16_t half_bits(float value) { return c10::Half(value).x; }
float from_half_bits(uint16_t bits) { return static_cast<float>(c10::Half(bits, c10::Half::from_bits())); }

int64_t EncodedRows::bytes() const {
  const auto size = [](const auto& values) { return static_cast<int64_t>(values.size() * sizeof(values[0])); };
  return size(row_begin) + size(entropy) + size(label_log_prob) + size(top_id) + size(distinct) + size(ids) + size(counts) + size(log_probs) +
         size(tail) + size(begin);
}

TeacherCodec::TeacherCodec(const CacheIdentity& identity) : codec_(identity.codec), vocab_(identity.vocab), seed_(identity.seed) {
  check(codec_.kind == "sampled" || codec_.kind == "top_k" || codec_.kind == "full", "codec.kind", "sampled, top_k or full", "'" + codec_.kind + "'",
        nearest_hint(codec_.kind, {"sampled", "top_k", "full"}));
  check(vocab_ >= 1 && vocab_ <= int64_t{1} << 30, "a cache's vocabulary", "1 to 2^30 ids", str(vocab_));
  if (sampled()) check(codec_.samples >= 1 && codec_.samples <= 255, "codec.samples", "1 to 255", str(codec_.samples));
  if (codec_.kind == "top_k") check(codec_.k >= 1 && codec_.k <= vocab_, "codec.k", str("1 to the vocabulary's ", vocab_), str(codec_.k));
  check(std::isfinite(identity.temperature) && identity.temperature > 0, "capture's temperature", "above 0", str(identity.temperature));
  id_bits_ = std::bit_width(static_cast<uint64_t>(vocab_ - 1));
  count_bits_ = std::bit_width(static_cast<uint64_t>(codec_.samples));
}

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
#pragma omp parallel num_threads(at::get_num_threads())
  {
    std::vector<double> uniforms(static_cast<size_t>(samples));
    std::vector<int32_t> one(static_cast<size_t>(samples));
#pragma omp for schedule(static)
    for (int64_t p = 0; p < count; ++p) {
      // 256 numbers are set apart for each position, samples are at most 255.
      const Rng rng(seed_, stream + static_cast<uint64_t>(rows[p]), static_cast<uint64_t>(numbers[p]) << 8);
      draw_ids(values + p * stride, vocab_, rng, uniforms, one);
      std::copy(one.begin(), one.end(), drawn.begin() + p * samples);
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

int64_t TeacherCodec::width(const EncodedRows& rows, int64_t p) const { return sampled() ? rows.distinct[p] : codec_.k; }

float TeacherCodec::decode(const EncodedRows& rows, int64_t p, int32_t* ids, float* probs) const {
  if (sampled()) {
    const int64_t begin = rows.begin[p], count = rows.distinct[p];
    const float share = 1.0f / static_cast<float>(codec_.samples);
    for (int64_t i = 0; i < count; ++i) {
      ids[i] = rows.ids[begin + i];
      probs[i] = static_cast<float>(rows.counts[begin + i]) * share;
    }
    return 0;
  }
  // Half floats do not sum to one any more: ids and tail are divided by their sum.
  float sum = from_half_bits(rows.tail[p]);
  for (int64_t i = 0; i < codec_.k; ++i) {
    ids[i] = rows.ids[p * codec_.k + i];
    probs[i] = std::exp(from_half_bits(rows.log_probs[p * codec_.k + i]));
    sum += probs[i];
  }
  for (int64_t i = 0; i < codec_.k; ++i) probs[i] /= sum;
  return from_half_bits(rows.tail[p]) / sum;
}

}  // namespace attar
