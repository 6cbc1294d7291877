#include "prune/masks.h"

#include <ATen/ATen.h>

#include <cstring>

#include "base/check.h"
#include "base/log.h"
#include "calibrate/gram.h"
#include "calibrate/kept_layers.h"
#include "calibrate/layer_walk.h"
#include "formats/safetensors.h"
#include "prune/mask_rules.h"

namespace attar {
namespace {

constexpr const char* kMasksKind = "attar masks";
constexpr const char* kMasksFile = "masks.safetensors";
constexpr const char* kAliveEnd = ".alive";
constexpr int64_t kMostOf = 64;  ///< a group lies inside a block of 128 columns

/// (out, in) bool -> (out, ceil(in / 8)) uint8, the first weight in the lowest bit.
at::Tensor packed_bits(const at::Tensor& alive) {
  const at::Tensor from = alive.contiguous();
  const int64_t rows = from.size(0), columns = from.size(1), bytes = (columns + 7) / 8;
  at::Tensor out = at::zeros({rows, bytes}, at::kByte);
  const bool* bit = from.const_data_ptr<bool>();
  uint8_t* byte = out.data_ptr<uint8_t>();
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t c = 0; c < columns; ++c)
      if (bit[r * columns + c]) byte[r * bytes + c / 8] |= static_cast<uint8_t>(1u << (c % 8));
  return out;
}

at::Tensor unpacked_bits(const uint8_t* byte, int64_t rows, int64_t columns) {
  at::Tensor out = at::empty({rows, columns}, at::kBool);
  bool* bit = out.data_ptr<bool>();
  const int64_t bytes = (columns + 7) / 8;
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t c = 0; c < columns; ++c) bit[r * columns + c] = (byte[r * bytes + c / 8] >> (c % 8)) & 1;
  return out;
}

int64_t living(const Masks& masks) {
  int64_t count = 0;
  for (const auto& [name, alive] : masks.alive) count += alive.sum().item<int64_t>();
  return count;
}

at::Tensor by_magnitude(const at::Tensor& weight, const MaskPattern& pattern) {
  const at::Tensor scores = weight.abs();
  return pattern.of ? highest_of_groups(scores, pattern.zeros, pattern.of) : highest_of_matrix(scores, pattern.share);
}

at::Tensor by_wanda(const at::Tensor& weight, const at::Tensor& squares, const MaskPattern& pattern) {
  const at::Tensor scores = weight.to(at::kDouble).abs() * squares.sqrt();
  return pattern.of ? highest_of_groups(scores, pattern.zeros, pattern.of) : highest_of_rows(scores, pattern.share);
}

void check_widths(const ModelSpec& spec, const MaskPattern& pattern, const std::string& text) {
  for (const ParameterInfo& p : parameters_of(spec))
    if (is_linear_weight(p.name) && pattern.of > 0)
      check(p.shape[1] % pattern.of == 0, "pattern " + text, str("rows that ", pattern.of, " divides"), str(p.name, " with ", p.shape[1], " inputs"),
            "use a share (0.5), or another m");
}

void put(Checkpoint& model, Masks& masks, const std::string& name, const at::Tensor& weight, const at::Tensor& alive) {
  model.weights[name] = weight.masked_fill(alive.logical_not(), 0);
  masks.alive[name] = alive;
}

/// Everything that a layer's masks follow from, as text.
std::string inputs_of_masks(const Checkpoint& model, const PruneConfig& config, const TokenRows& rows) {
  return str(config.method, " ", config.pattern, " ", config.damping, " ", config.calibration_rows, " ", rows.fingerprint, " ",
             checkpoint_fingerprint(model));
}

at::Tensor hessian_of(LayerWalk& walk, const std::string& name, ProcessGroup& group) {
  std::optional<GramSum> sum;
  walk.show(name, [&](const at::Tensor& x) {
    if (!sum) sum.emplace(x.size(1));
    sum->add(x);
  });
  return sum->take(group);
}

at::Tensor squares_of(LayerWalk& walk, const std::string& name, ProcessGroup& group) {
  at::Tensor sums;
  walk.show(name, [&](const at::Tensor& x) {
    const at::Tensor more = at::sum(x.square(), {0}, false, at::kDouble);
    sums = sums.defined() ? sums + more : more;
  });
  group.all_reduce_sum(sums);
  return sums;
}

/// The methods that look at inputs: layer by layer, one statistic of one group of linears at a time.
void mask_by_inputs(Checkpoint& model, Masks& masks, const PruneConfig& config, const MaskPattern& pattern, const TokenRows& rows,
                    ProcessGroup& group, const fs::path& kept) {
  const bool hessians = config.method == "sparsegpt";
  const KeptLayers layers(kept, kept.empty() ? std::string() : inputs_of_masks(model, config, rows), group);
  Decoder decoder(model.spec, model.weights);
  LayerWalk walk(decoder, rows, {.rows = config.calibration_rows}, group);
  Progress progress(config.method, walk.layers(), "layers");
  const auto take = [&](const std::string& name, const at::Tensor& weight, const at::Tensor& alive) {
    put(model, masks, name, weight, alive);
    decoder.weights().at(name) = model.weights.at(name);
  };
  for (; walk.layer() < walk.layers(); walk.advance()) {
    KeptLayers::Layer done;
    const std::optional<KeptLayers::Layer> made = layers.read(walk.layer());
    for (const std::vector<std::string>& names : input_groups(walk.layer())) {
      const at::Tensor sums = made ? at::Tensor() : hessians ? hessian_of(walk, names[0], group) : squares_of(walk, names[0], group);
      for (const std::string& name : names) {
        if (made) {
          take(name, made->tensors.at(name), made->tensors.at(name + kAliveEnd));
          continue;
        }
        at::Tensor weight = model.weights.at(name);
        const at::Tensor alive = hessians ? sparsegpt_mask(weight, sums, pattern, config.damping) : by_wanda(weight, sums, pattern);
        take(name, weight, alive);
        done.tensors[name] = model.weights.at(name), done.tensors[name + kAliveEnd] = alive;
      }
    }
    if (!made) {
      layers.write(walk.layer(), done);
      layers.stop_if_asked();
    }
    progress.update(walk.layer() + 1);
  }
  progress.finish();
}

}  // namespace

MaskPattern parse_mask_pattern(const std::string& text) {
  const auto wrong = [&] { fail("pattern", "a share above 0 and below 1, or n:m (2:4, 4:8)", text); };
  MaskPattern out;
  const size_t colon = text.find(':');
  Node number;
  number.kind = Node::Kind::scalar;
  if (colon == std::string::npos) {
    number.text = text;
    if (!read_scalar(number, out.share) || !(out.share > 0 && out.share < 1)) wrong();
    return out;
  }
  number.text = text.substr(0, colon);
  if (!read_scalar(number, out.zeros)) wrong();
  number.text = text.substr(colon + 1);
  if (!read_scalar(number, out.of)) wrong();
  if (out.zeros <= 0 || out.of <= out.zeros) wrong();
  check(out.of <= kMostOf && 128 % out.of == 0, "pattern", str("an m of 2, 4, 8, ... ", kMostOf), text);
  out.share = static_cast<double>(out.zeros) / static_cast<double>(out.of);
  return out;
}

Masks mask_model(Checkpoint& model, const PruneConfig& config, const TokenRows* rows, ProcessGroup& group, const fs::path& kept) {
  check(config.method == "magnitude" || config.method == "wanda" || config.method == "sparsegpt", "method",
        "structure, magnitude, wanda or sparsegpt", config.method);
  check(config.damping > 0 && config.damping < 1e3, "damping", "above 0", str(config.damping));
  const MaskPattern pattern = parse_mask_pattern(config.pattern);
  check_widths(model.spec, pattern, config.pattern);
  at::NoGradGuard no_grad;
  Masks masks{config.method, config.pattern, {}};
  model.codes.clear();
  if (config.method == "magnitude") {
    for (const ParameterInfo& p : parameters_of(model.spec))
      if (is_linear_weight(p.name)) put(model, masks, p.name, model.weights.at(p.name), by_magnitude(model.weights.at(p.name), pattern));
  } else {
    check(rows, "method " + config.method, "calibration rows", "none", "give data");
    mask_by_inputs(model, masks, config, pattern, *rows, group, kept);
  }
  return masks;
}

void save_masks(const Masks& masks, const fs::path& folder) {
  std::vector<SafetensorsWriter::Declared> declared;
  for (const auto& [name, alive] : masks.alive) declared.push_back({name, Dtype::u8, {alive.size(0), (alive.size(1) + 7) / 8}});
  SafetensorsWriter writer(folder / kMasksFile, std::move(declared),
                           {{"kind", kMasksKind}, {"version", "1"}, {"method", masks.method}, {"pattern", masks.pattern}});
  for (const auto& [name, alive] : masks.alive) {
    const at::Tensor bits = packed_bits(alive);
    writer.write(bits.const_data_ptr(), static_cast<size_t>(bits.nbytes()));
  }
  writer.commit();
}

Masks load_masks(const fs::path& folder, const ModelSpec& spec) {
  Masks out;
  const fs::path path = folder / kMasksFile;
  if (!fs::is_directory(folder) || !fs::exists(path)) return out;
  const SafetensorsFile file(path);
  const auto fact = [&](const char* key) {
    const auto found = file.metadata().find(key);
    return found == file.metadata().end() ? std::string() : found->second;
  };
  check(fact("kind") == kMasksKind && fact("version") == "1", path.string(), std::string(kMasksKind) + ", version 1",
        fact("kind") + " " + fact("version"));
  out.method = fact("method"), out.pattern = fact("pattern");
  std::map<std::string, std::vector<int64_t>> shapes;
  for (const ParameterInfo& p : parameters_of(spec))
    if (is_linear_weight(p.name)) shapes[p.name] = p.shape;
  for (const auto& [name, entry] : file.tensors()) {
    const auto shape = shapes.find(name);
    const std::string where = path.string() + ": '" + name + "'";
    check(shape != shapes.end(), where, "a linear of this model", "none of that name", "the masks are another model's");
    const int64_t rows = shape->second[0], columns = shape->second[1];
    check(entry.dtype == Dtype::u8 && entry.shape == std::vector<int64_t>{rows, (columns + 7) / 8}, where, str("bits of ", rows, " x ", columns),
          "another shape", "the masks are another model's");
    out.alive[name] = unpacked_bits(file.bytes(name).data(), rows, columns);
  }
  return out;
}

void apply_masks(const Masks& masks, StateDict& weights) {
  at::NoGradGuard no_grad;
  for (const auto& [name, alive] : masks.alive) {
    at::Tensor& weight = weights.at(name);
    weight.masked_fill_(alive.to(weight.device()).logical_not(), 0);
  }
}

int64_t broken_zeros(const Masks& masks, const StateDict& weights) {
  int64_t count = 0;
  for (const auto& [name, alive] : masks.alive) {
    const at::Tensor weight = weights.at(name).detach().to(at::kCPU);
    count += weight.ne(0).logical_and(alive.logical_not()).sum().item<int64_t>();
  }
  return count;
}

Json mask_facts(const Masks& masks, const ModelSpec& spec) {
  int64_t all = 0;
  for (const auto& [name, alive] : masks.alive) all += alive.numel();
  const int64_t zeros = all - living(masks);
  return {{"method", masks.method}, {"pattern", masks.pattern}, {"file", kMasksFile}, {"zeros", zeros}, {"weights", all},
          {"sparsity", all ? static_cast<double>(zeros) / static_cast<double>(all) : 0.0},
          {"sparsity_of_model", static_cast<double>(zeros) / static_cast<double>(parameter_count(spec))},
          {"note", "zeros are stored like any other weight: GGUF and ONNX files become no smaller and no faster"}};
}

}  // namespace attar
