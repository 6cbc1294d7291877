#include "teacher/import_logits.h"

#include <ATen/ATen.h>

#include <cmath>
#include <map>

#include "base/hash.h"
#include "base/log.h"
#include "base/signals.h"
#include "formats/npy.h"
#include "formats/shard.h"

namespace attar {
namespace {

constexpr int64_t kImportChunk = 256;  ///< positions whose logits are made float32 together

struct ImportedArray {
  std::string dtype;  ///< as in formats/shard.h
  std::vector<int64_t> shape;
  std::vector<uint8_t> bytes;
};

/// The arrays of either kind of file.
std::map<std::string, ImportedArray> read_arrays(const fs::path& file) {
  std::map<std::string, ImportedArray> out;
  const std::string ending = file.extension().string();
  if (ending == ".npz") {
    static const std::map<std::string, std::string> names = {{"<f4", "f32"}, {"<f2", "f16"}, {"<i4", "i32"},
                                                             {"<i8", "i64"}, {"|u1", "u8"},  {"<u2", "u16"}};
    for (auto& [name, array] : read_npz(file)) out[name] = {names.at(array.dtype), array.shape, std::move(array.bytes)};
  } else {
    check(ending == ".h5" || ending == ".hdf5", file.string(), ".npz or .h5", "'" + ending + "'", "the layout stands in docs/teacher_cache.md");
    // No hash of it is known: what is checked is that HDF5 sees the bytes that are there.
    for (auto& [name, array] : read_shard(file, sha256_file_now(file))) out[name] = {array.dtype, array.shape, std::move(array.bytes)};
  }
  return out;
}

class ImportedLogits {
 public:
  explicit ImportedLogits(const fs::path& file) : name_(file.string()), arrays_(read_arrays(file)) {
    const std::vector<int64_t> lengths = whole_numbers("lengths", {-1}), ids = whole_numbers("ids", {-1});
    positions_ = static_cast<int64_t>(ids.size());
    int64_t at = 0;
    for (const int64_t length : lengths) {
      check(length >= 1 && length <= positions_ - at, name_ + ": array 'lengths'", str("lengths from 1 that add up to the ", positions_, " ids"),
            str(length));
      sequences_.emplace(std::vector<int32_t>(ids.begin() + at, ids.begin() + at + length), at);
      at += length;
    }
    check(at == positions_, name_ + ": array 'lengths'", str("a sum of ", positions_, ", as there are ids"), str(at));
    const bool full = arrays_.count("logits") > 0, top = arrays_.count("top_ids") > 0;
    check(full != top, name_, "either logits, or top_ids and top_log_probs", full ? "both" : "neither");
    if (full) {
      logits_ = floats("logits", {positions_, -1});
      return;
    }
    top_ids_ = whole_numbers("top_ids", {positions_, -1});
    width_ = arrays_.at("top_ids").shape[1];
    top_log_probs_ = floats("top_log_probs", {positions_, width_}).to(at::kFloat).contiguous();
    if (arrays_.count("label_log_probs")) label_log_probs_ = floats("label_log_probs", {positions_}).to(at::kFloat).contiguous();
    check(width_ >= 1, name_ + ": array 'top_ids'", "1 id a position at least", "none");
  }

  bool full() const { return logits_.defined(); }
  int64_t width() const { return full() ? logits_.size(1) : width_; }
  const std::string& name() const { return name_; }

  /// Where in the file a segment's first token lies.
  int64_t place_of(const RowSegment& segment) const {
    // Sequences that go on behind the segment follow it in the order of their ids.
    const auto found = sequences_.lower_bound(segment.ids);
    const bool there = found != sequences_.end() && found->first.size() >= segment.ids.size() &&
                       std::equal(segment.ids.begin(), segment.ids.end(), found->first.begin());
    if (!there)
      fail(name_ + ": " + segment.name(), "a sequence that begins with these tokens", "none",
           "the file must hold every document as attar tokenizes it; --data.pack false keeps them whole, packing may begin a row amid one");
    return found->second;
  }

  std::vector<SaidPosition> said(const RowSegment& segment, int64_t k) const {
    const int64_t place = place_of(segment);
    std::vector<SaidPosition> out(segment.ids.size());
    for (size_t t = 1; t < segment.ids.size(); ++t) {
      if (!segment.wanted[t]) continue;
      const int64_t n = place + static_cast<int64_t>(t) - 1;
      double mass = 0;
      bool label_found = false;
      for (int64_t i = 0; i < k; ++i) {
        const int64_t id = top_ids_[static_cast<size_t>(n * width_ + i)];
        const double value = top_log_probs_.const_data_ptr<float>()[n * width_ + i];
        check(id >= 0 && id <= INT32_MAX, str(name_, ": array 'top_ids', position ", n), "token ids", str(id));
        out[t].ids.push_back(static_cast<int32_t>(id));
        out[t].log_probs.push_back(value);
        mass += std::exp(value);
        if (id == segment.ids[t]) label_found = true, out[t].label_log_prob = value;
      }
      if (label_log_probs_.defined()) out[t].label_log_prob = label_log_probs_.const_data_ptr<float>()[n];
      else if (!label_found) out[t].label_log_prob = std::min(out[t].log_probs.back(), std::log(std::max(1e-30, 1 - mass)));
    }
    return out;
  }

  /// Logits (P, V) float32 of positions of the file.
  at::Tensor logits(const std::vector<int64_t>& positions) const {
    at::Tensor out = logits_.index_select(0, at::tensor(positions, at::kLong)).to(at::kFloat);
    const bool numbers = !out.isnan().any().item<bool>() && !out.isposinf().any().item<bool>();
    check(numbers, name_ + ": array 'logits'", "numbers", "NaN or infinity");
    return out;
  }

 private:
  const ImportedArray& array(const char* key, const std::vector<int64_t>& shape, const std::vector<std::string>& dtypes) const {
    const auto found = arrays_.find(key);
    if (found == arrays_.end()) fail(name_ + ": array '" + key + "'", "to be there", "nothing", "the layout stands in docs/teacher_cache.md");
    bool right = std::find(dtypes.begin(), dtypes.end(), found->second.dtype) != dtypes.end() && found->second.shape.size() == shape.size();
    for (size_t i = 0; right && i < shape.size(); ++i) right = shape[i] < 0 || found->second.shape[i] == shape[i];
    if (!right) {
      std::string wanted, have;
      for (size_t i = 0; i < shape.size(); ++i) wanted += (i ? ", " : "") + (shape[i] < 0 ? std::string("any") : str(shape[i]));
      for (const int64_t size : found->second.shape) have += (have.empty() ? "" : ", ") + str(size);
      fail(name_ + ": array '" + key + "'", dtypes[0] + " or " + dtypes[1] + " of shape (" + wanted + ")",
           found->second.dtype + " of shape (" + have + ")");
    }
    return found->second;
  }
  std::vector<int64_t> whole_numbers(const char* key, const std::vector<int64_t>& shape) const {
    const ImportedArray& found = array(key, shape, {"i64", "i32"});
    std::vector<int64_t> out(found.bytes.size() / (found.dtype == "i64" ? 8 : 4));
    for (size_t i = 0; i < out.size(); ++i) {
      int32_t narrow = 0;
      if (found.dtype == "i64") std::memcpy(&out[i], found.bytes.data() + i * 8, 8);
      else std::memcpy(&narrow, found.bytes.data() + i * 4, 4), out[i] = narrow;
    }
    return out;
  }
  at::Tensor floats(const char* key, const std::vector<int64_t>& shape) const {
    const ImportedArray& found = array(key, shape, {"f32", "f16"});
    return at::from_blob(const_cast<uint8_t*>(found.bytes.data()), found.shape, found.dtype == "f16" ? at::kHalf : at::kFloat);
  }

  std::string name_;
  std::map<std::string, ImportedArray> arrays_;
  std::map<std::vector<int32_t>, int64_t> sequences_;  ///< ids -> first position
  std::vector<int64_t> top_ids_;
  at::Tensor top_log_probs_, label_log_probs_, logits_;
  int64_t positions_ = 0, width_ = 0;
};

void import_shard(const ImportedLogits& file, const std::vector<RowSegment>& segments, CacheWriter& writer) {
  std::vector<int64_t> places, labels, rows;
  const auto flush = [&](size_t least) {
    if (places.size() < std::max<size_t>(least, 1)) return;
    writer.add_logits(file.logits(places), at::tensor(labels, at::kLong), rows);
    places.clear(), labels.clear(), rows.clear();
  };
  for (const RowSegment& segment : segments) {
    const int64_t place = file.place_of(segment);
    for (size_t t = 1; t < segment.ids.size(); ++t) {
      if (!segment.wanted[t]) continue;
      places.push_back(place + static_cast<int64_t>(t) - 1);
      labels.push_back(segment.ids[t]);
      rows.push_back(segment.row);
      flush(kImportChunk);
    }
  }
  flush(1);
}

}  // namespace

Json capture_imported(const fs::path& path, const TokenRows& rows, const CacheIdentity& identity, int64_t shard_rows, const fs::path& folder,
                      const ShardRange& range) {
  const ImportedLogits file(path);
  if (!file.full()) {
    const int64_t k = identity.codec.k;
    check(identity.codec.kind == "top_k" && k <= file.width() && identity.temperature == 1, file.name() + ": top_ids",
          str("codec top_k with k at most ", file.width(), " at temperature 1"),
          str(identity.codec.kind, ", k ", k, ", temperature ", identity.temperature));
    return capture_said([&](const RowSegment& segment) { return file.said(segment, k); }, rows, identity, 1, shard_rows, folder, range);
  }
  check(file.width() >= identity.vocab, file.name() + ": logits", str("at least the vocabulary's ", identity.vocab, " a position"),
        str(file.width()));
  const FolderLock lock(folder);
  remove_leftovers(folder);
  CacheWriter writer(folder, identity, rows.rows(), shard_rows);
  for (const int64_t first : writer.missing(range)) {
    stop_if_asked();
    writer.begin_shard(first);
    import_shard(file, segments_of(rows, first, std::min(first + shard_rows, rows.rows())), writer);
    writer.end_shard();
  }
  return range.whole() ? writer.finish() : writer.statistics();
}

}  // namespace attar
