// Encoded rows as the arrays of a shard, and back with every value checked. Without LibTorch: shards are what strangers wrote.
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include "base/check.h"
#include "blocks/ggml_half.h"
#include "teacher/codec.h"

namespace attar {
namespace {

constexpr uint16_t kNoMassBits = 0xFBFF;  ///< -65504, the least half float: stands where an id has no mass

template <class T>
ShardArray shard_array(const char* dtype, std::vector<int64_t> shape, const std::vector<T>& values) {
  ShardArray array{dtype, std::move(shape), std::vector<uint8_t>(values.size() * sizeof(T))};
  if (!values.empty()) std::memcpy(array.bytes.data(), values.data(), array.bytes.size());
  return array;
}

/// Marks what shrinks at little cost: ids, counts and facts by a third; log-probabilities and hidden states hardly, and they are many.
void deflate_small(std::map<std::string, ShardArray>& arrays) {
  for (auto& [name, array] : arrays) array.deflated = name != "log_probs" && !name.starts_with("hidden_");
}

/// The values of an array that must have this dtype and shape; a size of -1 is whatever is there.
template <class T>
std::vector<T> values_of(const std::map<std::string, ShardArray>& arrays, const char* name, const char* dtype, const std::vector<int64_t>& shape,
                         const std::string& file) {
  const auto found = arrays.find(name);
  if (found == arrays.end()) fail(file + ": array '" + name + "'", "to be there", "nothing");
  const ShardArray& array = found->second;
  bool right = array.dtype == dtype && array.shape.size() == shape.size();
  for (size_t i = 0; right && i < shape.size(); ++i) right = shape[i] < 0 || shape[i] == array.shape[i];
  if (!right) fail(file + ": array '" + name + "'", str(dtype, " of the shape that the cache's identity demands"), array.dtype + " of another shape");
  std::vector<T> values(array.bytes.size() / sizeof(T));
  if (!values.empty()) std::memcpy(values.data(), array.bytes.data(), values.size() * sizeof(T));
  return values;
}

void check_ids_inside(const std::vector<int32_t>& ids, int64_t vocab, const char* name, const std::string& file) {
  for (const int32_t id : ids) {
    if (id < 0 || id >= vocab) fail(file + ": array '" + name + "'", str("ids in [0, ", vocab, ")"), str(id));
  }
}

}  // namespace

double excess_of_draws(int64_t parameters, double positions, int64_t draws) {
  return static_cast<double>(parameters) / (2 * std::max(positions, 1.0) * static_cast<double>(draws));
}

float from_half_bits(uint16_t bits) { return fp16_to_fp32(bits); }

int64_t EncodedRows::bytes() const {
  const auto size = [](const auto& values) { return static_cast<int64_t>(values.size() * sizeof(values[0])); };
  int64_t total = size(row_begin) + size(entropy) + size(label_log_prob) + size(top_id) + size(distinct) + size(ids) + size(counts) +
                  size(log_probs) + size(tail) + size(begin);
  for (const auto& [layer, states] : hidden) total += size(states);
  return total;
}

TeacherCodec::TeacherCodec(const CacheIdentity& identity) : codec_(identity.codec), vocab_(identity.vocab), seed_(identity.seed) {
  check(codec_.kind == "sampled" || codec_.kind == "top_k" || codec_.kind == "full", "codec.kind", "sampled, top_k or full", "'" + codec_.kind + "'",
        nearest_hint(codec_.kind, {"sampled", "top_k", "full"}));
  check(vocab_ >= 1 && vocab_ <= int64_t{1} << 30, "a cache's vocabulary", "1 to 2^30 ids", str(vocab_));
  if (sampled()) {
    check(codec_.samples >= 1 && codec_.samples <= 255, "codec.samples", "1 to 255", str(codec_.samples));
    check(codec_.draws == "systematic" || codec_.draws == "independent", "codec.draws", "systematic or independent", "'" + codec_.draws + "'",
          nearest_hint(codec_.draws, {"systematic", "independent"}));
  }
  if (codec_.kind == "top_k") check(codec_.k >= 1 && codec_.k <= vocab_, "codec.k", str("1 to the vocabulary's ", vocab_), str(codec_.k));
  for (size_t i = 0; i < codec_.hidden_layers.size(); ++i) {
    const int64_t layer = codec_.hidden_layers[i];
    check(layer >= 1 && layer <= 100000 && (i == 0 || layer > codec_.hidden_layers[i - 1]), "codec.hidden_layers", "layers from 1, rising",
          str(layer));
  }
  check(std::isfinite(identity.temperature) && identity.temperature > 0, "capture's temperature", "above 0", str(identity.temperature));
  id_bits_ = std::bit_width(static_cast<uint64_t>(vocab_ - 1));
  count_bits_ = std::bit_width(static_cast<uint64_t>(codec_.samples));
}

std::map<std::string, ShardArray> TeacherCodec::pack(const EncodedRows& rows) const {
  const int64_t P = rows.positions(), E = static_cast<int64_t>(rows.ids.size());
  std::map<std::string, ShardArray> arrays;
  const auto put_ids = [&](const char* name, const std::vector<int32_t>& ids, std::vector<int64_t> shape) {
    if (vocab_ > 65536) {
      arrays[name] = shard_array("i32", std::move(shape), ids);
    } else {
      arrays[name] = shard_array("u16", std::move(shape), std::vector<uint16_t>(ids.begin(), ids.end()));
    }
  };
  arrays["row_begin"] = shard_array("i64", {static_cast<int64_t>(rows.row_begin.size())}, rows.row_begin);
  arrays["entropy"] = shard_array("f16", {P}, rows.entropy);
  arrays["label_log_prob"] = shard_array("f16", {P}, rows.label_log_prob);
  put_ids("top_id", rows.top_id, {P});
  for (const auto& [layer, states] : rows.hidden) arrays[str("hidden_", layer)] = shard_array("f16", {P, rows.hidden_width}, states);
  if (sampled()) {
    arrays["distinct"] = shard_array("u8", {P}, rows.distinct);
    if (packed()) {
      std::vector<uint8_t> entries;
      entries.reserve(static_cast<size_t>(E) * 3);
      for (int64_t e = 0; e < E; ++e) {
        const uint32_t entry = static_cast<uint32_t>(rows.ids[e]) | static_cast<uint32_t>(rows.counts[e]) << id_bits_;
        for (int shift = 0; shift < 24; shift += 8) entries.push_back(static_cast<uint8_t>(entry >> shift));
      }
      arrays["entries"] = shard_array("u8", {E, 3}, entries);
    } else {
      put_ids("ids", rows.ids, {E});
      arrays["counts"] = shard_array("u8", {E}, rows.counts);
    }
  } else if (full()) {
    arrays["log_probs"] = shard_array("f16", {P, vocab_}, rows.log_probs);
  } else {
    put_ids("ids", rows.ids, {P, codec_.k});
    arrays["log_probs"] = shard_array("f16", {P, codec_.k}, rows.log_probs);
    arrays["tail"] = shard_array("f16", {P}, rows.tail);
  }
  deflate_small(arrays);
  return arrays;
}

EncodedRows TeacherCodec::unpack(const std::map<std::string, ShardArray>& arrays, int64_t rows, const std::string& name) const {
  EncodedRows out;
  const auto get_ids = [&](const char* key, const std::vector<int64_t>& shape) {
    std::vector<int32_t> ids;
    if (vocab_ > 65536) {
      ids = values_of<int32_t>(arrays, key, "i32", shape, name);
    } else {
      const std::vector<uint16_t> narrow = values_of<uint16_t>(arrays, key, "u16", shape, name);
      ids.assign(narrow.begin(), narrow.end());
    }
    check_ids_inside(ids, vocab_, key, name);
    return ids;
  };
  out.row_begin = values_of<int64_t>(arrays, "row_begin", "i64", {rows + 1}, name);
  bool rising = out.row_begin[0] == 0;
  for (int64_t r = 0; rising && r < rows; ++r) rising = out.row_begin[r + 1] >= out.row_begin[r];
  check(rising, name + ": array 'row_begin'", "numbers that rise from 0", "others");
  const int64_t P = out.row_begin.back();
  out.entropy = values_of<uint16_t>(arrays, "entropy", "f16", {P}, name);
  out.label_log_prob = values_of<uint16_t>(arrays, "label_log_prob", "f16", {P}, name);
  out.top_id = get_ids("top_id", {P});
  for (const int64_t layer : codec_.hidden_layers) {
    const std::string key = str("hidden_", layer);
    std::vector<uint16_t>& states = out.hidden[layer] = values_of<uint16_t>(arrays, key.c_str(), "f16", {P, -1}, name);
    const int64_t width = arrays.at(key).shape[1];
    if (out.hidden_width == 0) out.hidden_width = width;
    check(width >= 1 && width == out.hidden_width, name + ": array '" + key + "'", "one width for all layers", str(width));
    for (const uint16_t bits : states) {
      if ((bits & 0x7C00u) == 0x7C00u) fail(name + ": array '" + key + "'", "finite numbers", "infinity or NaN");
    }
  }
  if (full()) {
    out.log_probs = values_of<uint16_t>(arrays, "log_probs", "f16", {P, vocab_}, name);
    return out;
  }
  if (!sampled()) {
    out.ids = get_ids("ids", {P, codec_.k});
    out.log_probs = values_of<uint16_t>(arrays, "log_probs", "f16", {P, codec_.k}, name);
    out.tail = values_of<uint16_t>(arrays, "tail", "f16", {P}, name);
    for (const uint16_t bits : out.tail) {
      const float tail = from_half_bits(bits);
      if (!(tail >= 0 && tail <= 1)) fail(name + ": array 'tail'", "masses in [0, 1]", str(tail));
    }
    for (const uint16_t bits : out.log_probs) {
      if (!(from_half_bits(bits) <= 0)) fail(name + ": array 'log_probs'", "log-probabilities", "a number above 0 or NaN");
    }
    return out;
  }
  out.distinct = values_of<uint8_t>(arrays, "distinct", "u8", {P}, name);
  out.begin.resize(static_cast<size_t>(P) + 1);
  for (int64_t p = 0; p < P; ++p) out.begin[p + 1] = out.begin[p] + out.distinct[p];
  const int64_t E = out.begin.back();
  if (packed()) {
    const std::vector<uint8_t> entries = values_of<uint8_t>(arrays, "entries", "u8", {E, 3}, name);
    for (int64_t e = 0; e < E; ++e) {
      const uint32_t entry = entries[e * 3] | static_cast<uint32_t>(entries[e * 3 + 1]) << 8 | static_cast<uint32_t>(entries[e * 3 + 2]) << 16;
      out.ids.push_back(static_cast<int32_t>(entry & ((1u << id_bits_) - 1)));
      out.counts.push_back(static_cast<uint8_t>(entry >> id_bits_));
    }
    check_ids_inside(out.ids, vocab_, "entries", name);
  } else {
    out.ids = get_ids("ids", {E});
    out.counts = values_of<uint8_t>(arrays, "counts", "u8", {E}, name);
  }
  for (int64_t p = 0; p < P; ++p) {
    int64_t draws = 0;
    bool right = true;
    for (int64_t e = out.begin[p]; e < out.begin[p + 1]; ++e) {
      draws += out.counts[e];
      right = right && out.counts[e] > 0 && (e == out.begin[p] || out.ids[e] > out.ids[e - 1]);
    }
    if (!right || draws != codec_.samples) {
      fail(str(name, ": draws of position ", p), str(codec_.samples, " over ascending ids"),
           str(draws, right ? "" : ", not ascending or a count of 0"));
    }
  }
  return out;
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
  for (int64_t i = 0; i < codec_.k; ++i) {
    if (rows.log_probs[p * codec_.k + i] == kNoMassBits) ids[i] = -1;  // fewer than k were named
    probs[i] /= sum;
  }
  return from_half_bits(rows.tail[p]) / sum;
}

}  // namespace attar
