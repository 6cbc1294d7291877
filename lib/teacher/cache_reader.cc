#include <ATen/ATen.h>

#include <list>
#include <mutex>

#include "teacher/cache.h"
#include "teacher/cache_files.h"
#include "teacher/codec.h"

namespace attar {
namespace {

constexpr int64_t kDecodedBytes = int64_t{2} << 30;  ///< decoded shards kept in memory; the last one used always is

}  // namespace

struct CacheReader::State {
  fs::path folder;
  CacheManifest manifest;
  TeacherCodec codec;
  std::mutex mutex;
  std::vector<std::shared_ptr<const EncodedRows>> decoded;
  std::list<int64_t> used;  ///< shards in memory, last used first
  int64_t bytes = 0;

  std::shared_ptr<const EncodedRows> shard(int64_t number) {
    const std::lock_guard lock(mutex);
    std::shared_ptr<const EncodedRows>& place = decoded[static_cast<size_t>(number)];
    if (place) {
      used.remove(number);
    } else {
      const ShardRecord& record = manifest.shards[static_cast<size_t>(number)];
      const fs::path file = folder / record.file;
      auto rows = std::make_shared<EncodedRows>(codec.unpack(read_shard(file, record.sha256), record.rows, file.string()));
      check(rows->positions() == record.positions, file.string() + ": positions", str(record.positions), str(rows->positions()));
      bytes += rows->bytes();
      place = std::move(rows);
    }
    used.push_front(number);
    const auto kept = place;
    while (bytes > kDecodedBytes && used.size() > 1) {
      bytes -= decoded[static_cast<size_t>(used.back())]->bytes();
      decoded[static_cast<size_t>(used.back())].reset();
      used.pop_back();
    }
    return kept;
  }
};

CacheReader::CacheReader(fs::path folder) {
  CacheManifest manifest = CacheManifest::read(folder);
  const TeacherCodec codec(manifest.plan.identity);
  state_.reset(new State{std::move(folder), std::move(manifest), codec});
  state_->decoded.resize(state_->manifest.shards.size());
  for (const ShardRecord& shard : state_->manifest.shards) {
    const fs::path file = state_->folder / shard.file;
    if (!fs::exists(file)) fail(file.string(), "a shard of the cache", "nothing", "run the same capture again");
  }
}

CacheReader::~CacheReader() = default;
const CacheIdentity& CacheReader::identity() const { return state_->manifest.plan.identity; }
const Json& CacheReader::statistics() const { return state_->manifest.statistics; }
int64_t CacheReader::rows() const { return state_->manifest.plan.rows; }

void CacheReader::check_identity(const CacheIdentity& wanted) const {
  const auto faults = identity_difference(identity(), wanted, false, state_->folder.string());
  if (!faults.empty()) throw Error(faults);
}

LogitTargets CacheReader::targets(const Batch& batch) const {
  State& s = *state_;
  const at::Tensor numbers = batch.at("rows").to(at::kLong).contiguous(), labels = batch.at("labels").to(at::kLong).contiguous();
  const int64_t B = labels.size(0), T = labels.size(1), V = s.codec.vocab();
  // Where each row's positions lie, and the widest of them.
  struct Place {
    std::shared_ptr<const EncodedRows> shard;
    int64_t begin = 0, count = 0;
  };
  std::vector<Place> places;
  int64_t width = 1;
  for (int64_t b = 0; b < B; ++b) {
    const int64_t row = numbers.data_ptr<int64_t>()[b], shard_rows = s.manifest.plan.shard_rows;
    check(row >= 0 && row < rows(), "cache " + s.folder.string() + ": row", str("0 to ", rows() - 1), str(row),
          "the cache was captured over other data");
    Place place{s.shard(row / shard_rows)};
    place.begin = place.shard->row_begin[static_cast<size_t>(row % shard_rows)];
    place.count = place.shard->row_begin[static_cast<size_t>(row % shard_rows) + 1] - place.begin;
    if (!s.codec.full()) {
      for (int64_t p = 0; p < place.count; ++p) width = std::max(width, s.codec.width(*place.shard, place.begin + p));
    }
    places.push_back(std::move(place));
  }
  LogitTargets out;
  out.kind = s.codec.full() ? LogitTargets::Kind::dense : LogitTargets::Kind::sparse;
  if (s.codec.full()) {
    out.log_probs = at::zeros({B * T, V}, at::kHalf);
  } else {
    out.ids = at::full({B * T, width}, -1, at::kInt);
    out.probs = at::zeros({B * T, width}, at::kFloat);
    if (!s.codec.sampled()) out.tail = at::zeros({B * T}, at::kFloat);
  }
  for (int64_t b = 0; b < B; ++b) {
    const Place& place = places[static_cast<size_t>(b)];
    const int64_t* label = labels.data_ptr<int64_t>() + b * T;
    int64_t p = 0;
    for (int64_t t = 0; t < T; ++t) {
      if (label[t] == -100) continue;
      if (p < place.count) {
        const int64_t n = b * T + t;
        if (s.codec.full()) {
          const uint16_t* from = place.shard->log_probs.data() + (place.begin + p) * V;
          std::copy(from, from + V, reinterpret_cast<uint16_t*>(out.log_probs.data_ptr<at::Half>()) + n * V);
        } else {
          int32_t* ids = out.ids.data_ptr<int32_t>() + n * width;
          const float tail = s.codec.decode(*place.shard, place.begin + p, ids, out.probs.data_ptr<float>() + n * width);
          if (out.tail.defined()) out.tail.data_ptr<float>()[n] = tail;
        }
      }
      ++p;
    }
    if (p != place.count) {
      fail(str("cache ", s.folder.string(), ": learned positions of row ", numbers.data_ptr<int64_t>()[b]), str(p, " as in the batch"),
           str(place.count), "the cache was captured over other rows");
    }
  }
  return out;
}

void CacheReader::add_hidden(Batch& batch) const {
  State& s = *state_;
  const at::Tensor numbers = batch.at("rows").to(at::kLong).contiguous(), labels = batch.at("labels").to(at::kLong).contiguous();
  const int64_t B = labels.size(0), T = labels.size(1), shard_rows = s.manifest.plan.shard_rows;
  for (const int64_t layer : s.codec.hidden_layers()) {
    at::Tensor out;
    for (int64_t b = 0; b < B; ++b) {
      const int64_t row = numbers.const_data_ptr<int64_t>()[b];
      check(row >= 0 && row < rows(), "cache " + s.folder.string() + ": row", str("0 to ", rows() - 1), str(row),
            "the cache was captured over other data");
      const auto shard = s.shard(row / shard_rows);
      const int64_t D = shard->hidden_width, begin = shard->row_begin[static_cast<size_t>(row % shard_rows)],
                    end = shard->row_begin[static_cast<size_t>(row % shard_rows) + 1];
      if (begin == end) continue;
      if (!out.defined()) out = at::zeros({B * T, D}, at::kHalf);
      check(out.size(1) == D, "cache " + s.folder.string() + ": width of hidden states", str(out.size(1)), str(D));
      const at::Tensor places = labels[b].ne(-100).nonzero().squeeze(1);
      check(places.size(0) == end - begin, str("cache ", s.folder.string(), ": learned positions of row ", row),
            str(places.size(0), " as in the batch"), str(end - begin), "the cache was captured over other rows");
      auto* bits = const_cast<uint16_t*>(shard->hidden.at(layer).data()) + begin * D;
      out.index_copy_(0, places + b * T, at::from_blob(bits, {end - begin, D}, at::kHalf));
    }
    batch.columns[str("teacher_hidden_", layer)] = out.defined() ? out : at::zeros({B * T, 1}, at::kHalf);
  }
}

at::Tensor CacheReader::entropies(const Batch& batch) const {
  State& s = *state_;
  const at::Tensor numbers = batch.at("rows").to(at::kLong).contiguous(), labels = batch.at("labels").to(at::kLong).contiguous();
  const int64_t B = labels.size(0), T = labels.size(1), shard_rows = s.manifest.plan.shard_rows;
  at::Tensor out = at::zeros({B * T}, at::kFloat);
  for (int64_t b = 0; b < B; ++b) {
    const int64_t row = numbers.const_data_ptr<int64_t>()[b];
    check(row >= 0 && row < rows(), "cache " + s.folder.string() + ": row", str("0 to ", rows() - 1), str(row),
          "the cache was captured over other data");
    const auto shard = s.shard(row / shard_rows);
    auto p = static_cast<size_t>(shard->row_begin[static_cast<size_t>(row % shard_rows)]);
    const auto end = static_cast<size_t>(shard->row_begin[static_cast<size_t>(row % shard_rows) + 1]);
    for (int64_t n = b * T; n < (b + 1) * T && p < end; ++n)
      if (labels.const_data_ptr<int64_t>()[n] != -100) out.data_ptr<float>()[n] = from_half_bits(shard->entropy[p++]);
  }
  return out;
}

std::vector<double> CacheReader::row_losses() const {
  State& s = *state_;
  std::vector<double> out;
  for (size_t number = 0; number < s.manifest.shards.size(); ++number) {
    const auto shard = s.shard(static_cast<int64_t>(number));
    const bool said = !s.codec.sampled() && !s.codec.full();
    for (size_t row = 0; row + 1 < shard->row_begin.size(); ++row) {
      double sum = 0;
      int64_t known = 0;
      for (auto p = static_cast<size_t>(shard->row_begin[row]); p < static_cast<size_t>(shard->row_begin[row + 1]); ++p) {
        const float log_prob = from_half_bits(shard->label_log_prob[p]);
        // A server's position of which it said nothing: all mass outside the ids, and no loss.
        if (said && log_prob == 0 && from_half_bits(shard->tail[p]) == 1) continue;
        sum -= log_prob;
        ++known;
      }
      out.push_back(known > 0 ? sum / static_cast<double>(known) : 0);
    }
  }
  return out;
}

bool is_cache(const fs::path& folder) {
  if (fs::is_regular_file(folder / "capture.json")) return true;
  if (!fs::is_regular_file(folder / "manifest.json")) return false;
  try {
    const Json manifest = read_json(folder / "manifest.json");
    return manifest.is_object() && (manifest.value("kind", "") == "teacher_cache" || manifest.value("kind", "") == "capture");
  } catch (const std::exception&) {
    return false;
  }
}

}  // namespace attar
