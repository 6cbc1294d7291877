#pragma once
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <fstream>
#include <map>

#include "base/rng.h"
#include "data_path.h"
#include "model/decoder.h"
#include "teacher/cache.h"

namespace attar {

inline CacheIdentity cache_identity(const std::string& kind, int64_t vocab) {
  CacheIdentity identity;
  identity.teacher = "teacher-1";
  identity.tokenizer = "tokenizer-1";
  identity.data = "data-1";
  identity.rows = "rows-1";
  identity.vocab = vocab;
  identity.seed = 11;
  identity.codec.kind = kind;
  identity.codec.k = 6;
  return identity;
}

/// Logits (count, vocab) of peaked distributions, as a trained teacher gives them.
inline at::Tensor teacher_logits(int64_t count, int64_t vocab, uint64_t stream) {
  at::Tensor out = at::empty({count, vocab}, at::kFloat);
  Rng rng(17, stream);
  for (int64_t i = 0; i < out.numel(); ++i) out.data_ptr<float>()[i] = static_cast<float>(rng.normal() * 3);
  return out;
}

/// A cache of seven rows with 0 to 6 learned positions, three rows a shard.
constexpr int64_t kCaseRows = 7, kCaseShard = 3;
inline std::vector<int64_t> case_positions() { return {4, 0, 6, 1, 3, 0, 2}; }
inline at::Tensor case_labels(int64_t row, int64_t vocab) { return (at::arange(case_positions()[row], at::kLong) * 7 + row) % vocab; }

inline Json write_case(const fs::path& folder, const CacheIdentity& identity) {
  CacheWriter writer(folder, identity, kCaseRows, kCaseShard);
  for (const int64_t first : writer.missing()) {
    writer.begin_shard(first);
    for (int64_t row = first; row < std::min(first + kCaseShard, kCaseRows); ++row) {
      const int64_t count = case_positions()[row];
      writer.add(teacher_logits(count, identity.vocab, row), case_labels(row, identity.vocab), {count});
    }
    writer.end_shard();
  }
  return writer.finish();
}

/// The batch of some of those rows: learned positions lie at odd places of 14.
inline Batch case_batch(const std::vector<int64_t>& rows, int64_t vocab) {
  Batch batch;
  batch.columns["rows"] = at::tensor(rows, at::kLong);
  at::Tensor labels = at::full({static_cast<int64_t>(rows.size()), 14}, -100, at::kLong);
  for (size_t b = 0; b < rows.size(); ++b) {
    const at::Tensor values = case_labels(rows[b], vocab);
    for (int64_t p = 0; p < values.size(0); ++p) labels[b][2 * p + 1] = values[p];
  }
  batch.columns["labels"] = labels;
  return batch;
}

/// A decoder whose distributions are far from flat.
inline Decoder small_teacher(int64_t vocab) {
  ModelSpec spec;
  spec.vocab = vocab;
  spec.hidden = 32;
  spec.head_size = 8;
  spec.context = 64;
  spec.layers.assign(2, LayerSpec{.ffn = 48, .heads = 4, .kv_heads = 2});
  Decoder decoder = Decoder::random(spec, 5);
  for (auto& [name, tensor] : decoder.weights()) {
    if (tensor.dim() == 2) tensor.mul_(8);  // the default initialisation is nearly flat
  }
  return decoder;
}

/// Rows of unlike lengths of which a part is learned.
inline TokenRows small_rows(int64_t rows, int64_t seq, int64_t vocab) {
  TokenRows out;
  out.ids = at::zeros({rows, seq}, at::kInt);
  out.learn = at::zeros({rows, seq}, at::kByte);
  out.segments = at::full({rows, seq}, -1, at::kInt);
  out.lengths = at::zeros({rows}, at::kInt);
  Rng rng(3, 1);
  for (int64_t r = 0; r < rows; ++r) {
    const int64_t length = 6 + rng.below(seq - 6);
    out.lengths[r] = length;
    for (int64_t t = 0; t < length; ++t) {
      out.ids[r][t] = rng.below(vocab);
      out.learn[r][t] = rng.uniform() < 0.4 ? 1 : 0;
      out.segments[r][t] = t < length / 2 ? 0 : 1;
    }
  }
  out.data_hash = "data";
  out.fingerprint = "rows";
  return out;
}

inline std::map<std::string, std::string> folder_bytes_by_name(const fs::path& folder) {
  std::map<std::string, std::string> out;
  for (const auto& entry : fs::directory_iterator(folder)) {
    if (entry.path().filename().string().front() != '.') out[entry.path().filename().string()] = read_file(entry.path());
  }
  return out;
}

inline void flip_bit(const fs::path& file, int64_t offset) {
  std::fstream stream(file, std::ios::in | std::ios::out | std::ios::binary);
  stream.seekg(offset);
  char byte = 0;
  stream.get(byte);
  stream.seekp(offset);
  stream.put(static_cast<char>(byte ^ 0x10));
}

}  // namespace attar
