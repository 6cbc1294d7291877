#include "quant/gptq.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <exception>
#include <mutex>

#include "base/check.h"
#include "base/log.h"
#include "calibrate/gram.h"
#include "calibrate/kept_layers.h"
#include "kernels/block_grid.h"
#include "blocks/blocks_encode.h"

namespace attar {
namespace {

constexpr int64_t kSpan = 256;   ///< columns between updates of all that follow
constexpr int kTeam = 64;        ///< rows side by side
constexpr int kStrip = 32;       ///< columns between updates inside a span
/// What ggml adds to x^2 under the root of a value's weight: this much makes importance alone the weight.
constexpr float kFlatSpread = 1e12f;
constexpr int64_t kSmallTriangle = 64;

/// The inverse of an upper triangular matrix: of its two diagonal halves, and what these make of the block between.
void invert_upper(at::Tensor m) {
  const int64_t n = m.size(0);
  if (n <= kSmallTriangle) {
    m.copy_(at::linalg_solve_triangular(m, at::eye(n, m.options()), true));
    return;
  }
  const int64_t half = n / 2;
  at::Tensor first = m.narrow(0, 0, half).narrow(1, 0, half), last = m.narrow(0, half, n - half).narrow(1, half, n - half);
  at::Tensor between = m.narrow(0, 0, half).narrow(1, half, n - half);
  invert_upper(first);
  invert_upper(last);
  between.copy_(at::mm(at::mm(first, between), last).neg_());
}

/// Rows [first, first + count) of a span of columns, transposed: (span, kTeam) so that a column's rows lie side by side.
struct Team {
  float weights[kSpan * kTeam], errors[kSpan * kTeam];
};

/// weights[j] -= sum over k of errors[k] * u[k, j], for columns j in [from, to) and k in [done, done + count).
__attribute__((target_clones("avx512f", "avx2", "default"))) void push_errors(Team& team, const float* u, int64_t stride, int64_t done, int64_t count,
                                                                              int64_t from, int64_t to) {
  for (int64_t j = from; j < to; ++j) {
    float sum[kTeam];
    for (int r = 0; r < kTeam; ++r) sum[r] = team.weights[j * kTeam + r];
    for (int64_t k = done; k < done + count; ++k) {
      const float share = u[k * stride + j];
      const float* error = team.errors + k * kTeam;
      for (int r = 0; r < kTeam; ++r) sum[r] -= error[r] * share;
    }
    for (int r = 0; r < kTeam; ++r) team.weights[j * kTeam + r] = sum[r];
  }
}

/// The walk over one team's columns of a span.
class TeamRounding {
 public:
  TeamRounding(GgmlType type, const float* u, int64_t stride, const float* importance)
      : type_(type), shape_(grid_shape(type)), bytes_(ggml_type_info(type).bytes), u_(u), stride_(stride), importance_(importance) {}

  /// `u` and importance begin at the span's first column; blocks: the span's first block of row 0, rows `row_bytes` apart.
  void run(Team& team, int count, int64_t span, uint8_t* blocks, int64_t row_bytes) {
    for (int64_t begin = 0; begin < span; begin += shape_.block) {
      choose_scales(team, count, begin);
      for (int64_t column = begin; column < begin + shape_.block; ++column) {
        round_column(team, column, int((column - begin) / shape_.width), int(column - begin));
        const int64_t strip_end = column / kStrip * kStrip + kStrip;
        if (column + 1 < strip_end) push_errors(team, u_, stride_, column, 1, column + 1, std::min(strip_end, span));
        else push_errors(team, u_, stride_, strip_end - kStrip, kStrip, strip_end, span);
      }
      for (int r = 0; r < count; ++r) {
        uint8_t* to = written_ + r * bytes_;
        write_grid_codes(type_, codes_ + r * shape_.block, to);
        std::memcpy(blocks + r * row_bytes + begin / shape_.block * bytes_, to, size_t(bytes_));
      }
    }
  }

 private:
  void choose_scales(const Team& team, int count, int64_t begin) {
    for (int i = 0; i < shape_.block; ++i)
      for (int r = 0; r < count; ++r) rows_[r * shape_.block + i] = team.weights[(begin + i) * kTeam + r];
    // The rows' blocks one after the other, as if they were of one row: that fills the encoder's lanes.
    const int at_once = int(kRunWeights) / shape_.block;
    for (int r = 0; r < std::min(count, at_once); ++r) std::copy_n(importance_ + begin, shape_.block, tiled_ + r * shape_.block);
    for (int r = 0; r < count; r += at_once)
      encode_run_fastest({type_, rows_ + r * shape_.block, tiled_, kFlatSpread, written_ + r * bytes_, std::min(at_once, count - r)});
    for (int r = 0; r < count; ++r) {
      GridScales scales;
      read_grid_scales(type_, written_ + r * bytes_, scales);
      for (int j = 0; j < shape_.block / shape_.width; ++j)
        if (!std::isfinite(scales.step[j]) || !std::isfinite(scales.low[j]))
          fail("scale of a block", "a magnitude that fp16 holds", "an overflow", "keep this tensor in f32 or bf16");
      for (int j = 0; j < shape_.block / shape_.width; ++j) steps_[j * kTeam + r] = scales.step[j], lows_[j * kTeam + r] = scales.low[j];
    }
    for (int j = 0; j < shape_.block / shape_.width; ++j)
      for (int r = count; r < kTeam; ++r) steps_[j * kTeam + r] = 1, lows_[j * kTeam + r] = 0;
  }

  void round_column(Team& team, int64_t column, int part, int in_block) {
    uint8_t codes[kTeam];
    float values[kTeam];
    const float* w = team.weights + column * kTeam;
    round_to_grid(type_, w, steps_ + part * kTeam, lows_ + part * kTeam, kTeam, codes, values);
    const float inverse = 1 / u_[column * stride_ + column];
    for (int r = 0; r < kTeam; ++r) {
      team.errors[column * kTeam + r] = (w[r] - values[r]) * inverse;
      codes_[r * shape_.block + in_block] = codes[r];
    }
  }

  GgmlType type_;
  GridShape shape_;
  int64_t bytes_;
  const float* u_;
  int64_t stride_;
  const float* importance_;
  float rows_[kTeam * 256], tiled_[kRunWeights], steps_[16 * kTeam], lows_[16 * kTeam];
  uint8_t codes_[kTeam * 256], written_[kTeam * 256];
};

/// Rounds columns [first, first + span) of w and leaves their scaled errors, negated, in `errors` (rows, span).
void round_span(const at::Tensor& w, const InverseFactor& factor, GgmlType type, int64_t first, int64_t span, at::Tensor& errors,
                at::Tensor& blocks) {
  const int64_t rows = w.size(0), columns = w.size(1), teams = (rows + kTeam - 1) / kTeam, stride = factor.u.stride(0);
  const GgmlTypeInfo& info = ggml_type_info(type);
  float* weights = w.data_ptr<float>();
  float* out = errors.data_ptr<float>();
  uint8_t* bytes = blocks.data_ptr<uint8_t>();
  const float* u = factor.u.const_data_ptr<float>() + first * stride + first;
  const int64_t row_bytes = blocks.size(1);
  std::exception_ptr failed;
  std::mutex guard;
#pragma omp parallel for schedule(dynamic)
  for (int64_t t = 0; t < teams; ++t) {
    const int64_t row = t * kTeam;
    const int count = int(std::min<int64_t>(kTeam, rows - row));
    try {
      const auto team = std::make_unique<Team>();
      const auto rounding = std::make_unique<TeamRounding>(type, u, stride, factor.importance.data() + first);
      for (int64_t c = 0; c < span; ++c)
        for (int r = 0; r < kTeam; ++r) team->weights[c * kTeam + r] = r < count ? weights[(row + r) * columns + first + c] : 0.0f;
      rounding->run(*team, count, span, bytes + row * row_bytes + first / info.block * info.bytes, row_bytes);
      for (int r = 0; r < count; ++r)
        for (int64_t c = 0; c < span; ++c) out[(row + r) * span + c] = -team->errors[c * kTeam + r];
    } catch (...) {
      const std::lock_guard lock(guard);
      if (!failed) failed = std::current_exception();
    }
  }
  if (failed) std::rethrow_exception(failed);
}

void put_codes(Checkpoint& model, const std::string& name, QuantizedTensor codes) {
  model.weights.at(name) = dequantize_tensor(codes);
  model.codes[name] = std::move(codes);
}

constexpr const char* kScalesEnd = ".scales";

void keep_codes(KeptLayers::Layer& layer, const std::string& name, const QuantizedTensor& codes) {
  layer.tensors[name] = codes.blocks;
  if (codes.scales.defined()) layer.tensors[name + kScalesEnd] = codes.scales;
}

/// The names of the weights.
std::vector<std::string> put_kept_codes(Checkpoint& model, const std::map<std::string, GgmlType>& types, const KeptLayers::Layer& layer) {
  std::vector<std::string> names;
  for (const auto& [name, blocks] : layer.tensors) {
    const auto type = types.find(name);
    if (type == types.end()) continue;
    const auto scales = layer.tensors.find(name + kScalesEnd);
    const at::Tensor of_rows = scales == layer.tensors.end() ? at::Tensor() : scales->second;
    put_codes(model, name, {type->second, model.weights.at(name).sizes().vec(), blocks, of_rows});
    names.push_back(name);
  }
  return names;
}

/// Everything that a layer's codes follow from, as text.
std::string inputs_of_solution(const Checkpoint& model, const std::map<std::string, GgmlType>& types, const TokenRows& rows,
                               const LayerWalkOptions& options, double damping) {
  std::string what = str("gptq ", checkpoint_fingerprint(model), " ", rows.fingerprint, " ", options.rows, " ", options.batch, " ", damping);
  for (const auto& [name, type] : types) what += str(" ", name, " ", ggml_type_info(type).name);
  return what;
}

}  // namespace

InverseFactor inverse_factor(at::Tensor hessian, int64_t tokens, double damping) {
  constexpr int kTries = 3;
  const int64_t n = hessian.size(0);
  InverseFactor out;
  at::Tensor diagonal = hessian.diagonal();
  const at::Tensor means = (diagonal / static_cast<double>(std::max<int64_t>(tokens, 1))).contiguous();
  out.importance.assign(means.const_data_ptr<float>(), means.const_data_ptr<float>() + n);
  // A column that never saw an input still weighs a little, so that a block of such keeps its values.
  double all = 0;
  for (float& mean : out.importance) all += mean = mean > 0 && mean <= std::numeric_limits<float>::max() ? mean : 0.0f;
  const float little = all > 0 ? static_cast<float>(1e-4 * all / static_cast<double>(n)) : 1.0f;
  for (float& mean : out.importance) mean = std::max(mean, little);
  diagonal.masked_fill_(diagonal == 0, 1.0f);
  const double mean = diagonal.mean().item<double>();
  double added = 0;
  for (int attempt = 0; attempt < kTries; ++attempt, damping *= 10) {
    diagonal.add_((damping - added) * mean);
    added = out.damping = damping;
    auto [lower, failed] = at::linalg_cholesky_ex(hessian.flip({0, 1}));
    if (failed.item<int>() != 0 || !at::isfinite(lower.diagonal()).all().item<bool>()) continue;
    out.u = lower.flip({0, 1}).contiguous();
    lower = at::Tensor();
    invert_upper(out.u);
    if (at::isfinite(out.u.diagonal()).all().item<bool>()) return out;
    out.u = at::Tensor();
  }
  return out;
}

QuantizedTensor gptq_tensor(const at::Tensor& weight, const InverseFactor& factor, GgmlType type) {
  const at::Tensor w = weight.detach().to(at::kCPU, at::kFloat).clone(at::MemoryFormat::Contiguous);
  const int64_t rows = w.size(0), columns = w.size(1);
  assert(factor.u.defined() && factor.u.size(0) == columns);
  check(at::isfinite(w).all().item<bool>(), "weight", "finite numbers", "infinity or NaN", "the model is damaged");
  QuantizedTensor out{type, {rows, columns}, at::empty({rows, ggml_row_bytes(type, columns)}, at::kByte)};
  for (int64_t first = 0; first < columns; first += kSpan) {
    const int64_t span = std::min(kSpan, columns - first), after = columns - first - span;
    at::Tensor errors = at::empty({rows, span}, at::kFloat);
    round_span(w, factor, type, first, span, errors, out.blocks);
    if (after > 0) w.narrow(1, first + span, after).addmm_(errors, factor.u.narrow(0, first, span).narrow(1, first + span, after));
  }
  return out;
}

GptqReport gptq_checkpoint(Checkpoint& model, const std::map<std::string, GgmlType>& types, const TokenRows& rows, const LayerWalkOptions& options,
                           double damping, ProcessGroup& group, const fs::path& kept) {
  const std::string embedding = "model.embed_tokens.weight", output = "lm_head.weight";
  GptqReport report;
  const KeptLayers layers(kept, kept.empty() ? std::string() : inputs_of_solution(model, types, rows, options, damping), group);
  if (const auto type = types.find(embedding); type != types.end()) quantize_weight(model, embedding, type->second, {}, Rounding::search);
  Decoder decoder(model.spec, model.weights);
  LayerWalk walk(decoder, rows, options, group);

  const auto round_all = [&](const std::vector<std::string>& names, const std::function<void(GramSum&)>& sum_inputs) {
    std::vector<std::string> wanted;
    for (const std::string& name : names)
      if (types.count(name)) wanted.push_back(name);
    if (wanted.empty()) return;
    GramSum sum(model.weights.at(wanted[0]).size(1));
    sum_inputs(sum);
    const InverseFactor factor = inverse_factor(sum.take(group), walk.tokens(), damping);
    report.highest_damping = std::max(report.highest_damping, factor.damping);
    for (const std::string& name : wanted) {
      const GgmlType type = types.at(name);
      if (!factor.u.defined() || !ggml_type_info(type).quantized) {
        if (!factor.u.defined()) report.rounded.push_back(name);
        quantize_weight(model, name, type, {{name, factor.importance}}, Rounding::search);
      } else {
        try {
          put_codes(model, name, gptq_tensor(model.weights.at(name), factor, type));
        } catch (const Error& error) {
          const Fault& fault = error.faults()[0];
          fail("quantizing '" + name + "': " + fault.what, fault.expected, fault.received, fault.hint);
        }
      }
      decoder.weights().at(name) = model.weights.at(name);
    }
  };

  Progress progress("gptq", walk.layers(), "layers");
  for (; walk.layer() < walk.layers(); walk.advance()) {
    const std::vector<std::vector<std::string>> groups = input_groups(walk.layer());
    if (const std::optional<KeptLayers::Layer> made = layers.read(walk.layer())) {
      for (const std::string& name : put_kept_codes(model, types, *made)) decoder.weights().at(name) = model.weights.at(name);
      for (const Json& name : made->facts.at("rounded")) report.rounded.push_back(name.get<std::string>());
      report.highest_damping = std::max(report.highest_damping, made->facts.at("highest_damping").get<double>());
    } else {
      const size_t rounded = report.rounded.size();
      for (const std::vector<std::string>& names : groups)
        round_all(names, [&](GramSum& sum) { walk.show(names[0], [&](const at::Tensor& x) { sum.add(x); }); });
      KeptLayers::Layer done;
      for (const std::vector<std::string>& names : groups)
        for (const std::string& name : names)
          if (types.count(name)) keep_codes(done, name, model.codes.at(name));
      done.facts = {{"rounded", std::vector<std::string>(report.rounded.begin() + static_cast<int64_t>(rounded), report.rounded.end())},
                    {"highest_damping", report.highest_damping}};
      layers.write(walk.layer(), done);
      layers.stop_if_asked();
    }
    progress.update(walk.layer() + 1);
  }
  progress.finish();
  if (!model.spec.tied)
    round_all({output}, [&](GramSum& sum) {
      for (const LayerWalk::Part& part : walk.parts())
        sum.add(decoder.after_norm(part.states).reshape({-1, part.states.size(-1)}).index({part.valid}));
    });
  return report;
}

}  // namespace attar
