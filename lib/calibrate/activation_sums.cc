#include "calibrate/activation_sums.h"

#include <ATen/ATen.h>

#include <cmath>
#include <cstring>

#include "base/check.h"
#include "base/json.h"
#include "formats/safetensors.h"

namespace attar {
namespace {

constexpr const char* kPartialKind = "attar activation sums";

/// Sums of |x| and x^2 of the valid positions of one row (T, C). Channels side by side, so wider vectors give the same bits.
__attribute__((target_clones("avx512f", "avx2", "default"))) void add_row(const float* x, const uint8_t* valid, int64_t T, int64_t C, float* absolute,
                                                                          float* square) {
  for (int64_t t = 0; t < T; ++t) {
    if (!valid[t]) continue;
    const float* at = x + t * C;
    for (int64_t c = 0; c < C; ++c) {
      absolute[c] += std::fabs(at[c]);
      square[c] += at[c] * at[c];
    }
  }
}

/// 1 - cosine of two vectors (n).
double angle(const float* a, const float* b, int64_t n) {
  double dot = 0, aa = 0, bb = 0;
  for (int64_t i = 0; i < n; ++i) {
    dot += double(a[i]) * b[i];
    aa += double(a[i]) * a[i];
    bb += double(b[i]) * b[i];
  }
  return 1 - dot / std::sqrt(std::max(aa * bb, 1e-300));
}

at::Tensor plain_floats(const at::Tensor& x) { return x.detach().to(at::kCPU, at::kFloat).contiguous(); }

}  // namespace

at::Tensor& ActivationSums::of(const std::string& name, int64_t size) {
  at::Tensor& sum = sums_[name];
  if (!sum.defined()) sum = at::zeros({size}, at::kDouble);
  assert(sum.numel() == size);
  return sum;
}

void ActivationSums::begin(const at::Tensor& segments) {
  const int64_t B = segments.size(0), T = segments.size(1);
  const at::Tensor dense = segments.to(at::kCPU, at::kInt).contiguous();
  const int32_t* data = dense.const_data_ptr<int32_t>();
  valid_.assign(static_cast<size_t>(B * T), 0);
  lengths_.assign(static_cast<size_t>(B), 0);
  for (int64_t i = 0; i < B * T; ++i)
    if (data[i] >= 0) valid_[static_cast<size_t>(i)] = 1, ++lengths_[static_cast<size_t>(i / T)];
}

void ActivationSums::see(const std::string& name, const at::Tensor& x) {
  if (name.ends_with(".input") || name.ends_with(".output")) return block(name, x);
  if (last_.defined() && last_.is_same(x)) {
    same_[name] = last_name_;
    return;
  }
  last_ = x, last_name_ = name;
  const at::Tensor values = plain_floats(x);
  const int64_t B = values.size(0), T = values.size(1), C = values.size(2);
  const float* data = values.const_data_ptr<float>();
  std::vector<float> absolute(static_cast<size_t>(B * C), 0.0f), square(static_cast<size_t>(B * C), 0.0f);
#pragma omp parallel for schedule(dynamic)
  for (int64_t b = 0; b < B; ++b) add_row(data + b * T * C, valid_.data() + b * T, T, C, absolute.data() + b * C, square.data() + b * C);
  double* magnitudes = of("magnitude." + name, C).data_ptr<double>();
  double* squares = of("square." + name, C).data_ptr<double>();
  for (int64_t b = 0; b < B; ++b) {
    if (lengths_[static_cast<size_t>(b)] == 0) continue;
    const double length = static_cast<double>(lengths_[static_cast<size_t>(b)]);
    for (int64_t c = 0; c < C; ++c) {
      const double mean = double(absolute[static_cast<size_t>(b * C + c)]) / length;
      magnitudes[c] += mean * mean;
      squares[c] += square[static_cast<size_t>(b * C + c)];
    }
  }
}

void ActivationSums::block(const std::string& name, const at::Tensor& x) {
  const at::Tensor values = plain_floats(x);
  const int64_t B = values.size(0), T = values.size(1), D = values.size(2);
  if (name.ends_with(".input")) block_input_ = values;
  const float* data = values.const_data_ptr<float>();
  std::vector<float> absolute(static_cast<size_t>(B * D), 0.0f), square(static_cast<size_t>(B * D), 0.0f);
#pragma omp parallel for schedule(dynamic)
  for (int64_t b = 0; b < B; ++b) add_row(data + b * T * D, valid_.data() + b * T, T, D, absolute.data() + b * D, square.data() + b * D);
  double* squares = of("square.hidden", D).data_ptr<double>();
  for (int64_t b = 0; b < B; ++b)
    for (int64_t c = 0; c < D; ++c) squares[c] += square[static_cast<size_t>(b * D + c)];
  if (name.ends_with(".input")) return;
  assert(block_input_.defined());
  const float* before = block_input_.const_data_ptr<float>();
  std::vector<double> angles(static_cast<size_t>(B * T), 0.0);
#pragma omp parallel for schedule(static)
  for (int64_t i = 0; i < B * T; ++i)
    if (valid_[static_cast<size_t>(i)]) angles[static_cast<size_t>(i)] = angle(before + i * D, data + i * D, D);
  double* influence = of("influence." + name.substr(0, name.size() - std::strlen(".output")), 1).data_ptr<double>();
  for (double a : angles) *influence += a;
}

void ActivationSums::end() {
  last_ = at::Tensor(), block_input_ = at::Tensor();
  int64_t tokens = 0, rows = 0;
  for (int64_t length : lengths_) tokens += length, rows += length > 0;
  *of("tokens", 1).data_ptr<double>() += static_cast<double>(tokens);
  *of("rows", 1).data_ptr<double>() += static_cast<double>(rows);
}

void ActivationSums::save(const fs::path& file, const std::string& fingerprint, int64_t next) const {
  std::vector<SafetensorsWriter::Declared> declared;
  for (const auto& [name, sum] : sums_) declared.push_back({name, Dtype::f64, {sum.numel()}});
  SafetensorsWriter writer(file, declared, {{"kind", kPartialKind}, {"fingerprint", fingerprint}, {"next", std::to_string(next)}});
  for (const auto& [name, sum] : sums_) writer.write(sum.const_data_ptr(), static_cast<size_t>(sum.nbytes()));
  writer.commit();
}

int64_t ActivationSums::load(const fs::path& path, const std::string& fingerprint) {
  if (!fs::exists(path)) return 0;
  const SafetensorsFile file(path);
  const auto said = [&](const char* key) {
    const auto found = file.metadata().find(key);
    return found == file.metadata().end() ? std::string() : found->second;
  };
  if (said("kind") != kPartialKind || said("fingerprint") != fingerprint) return 0;
  for (const auto& [name, entry] : file.tensors()) {
    check(entry.dtype == Dtype::f64 && entry.shape.size() == 1, path.string() + ": '" + name + "'", "a vector of F64", dtype_name(entry.dtype));
    std::memcpy(of(name, entry.shape[0]).data_ptr(), file.bytes(name).data(), file.bytes(name).size());
  }
  return std::stoll(said("next"));
}

}  // namespace attar
