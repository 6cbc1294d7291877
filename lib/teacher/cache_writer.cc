#include <ATen/ATen.h>

#include <charconv>
#include <optional>

#include "base/hash.h"
#include "base/log.h"
#include "teacher/cache.h"
#include "teacher/cache_files.h"
#include "teacher/codec.h"

namespace attar {

struct CacheWriter::State {
  fs::path folder;
  CachePlan plan;
  TeacherCodec codec;
  std::vector<std::optional<ShardRecord>> shards;
  // The shard being filled.
  int64_t first = -1, next_row = 0;
  bool by_rows = false;  ///< filled by add(), which must name every row
  std::vector<int64_t> positions;  ///< of each row of the shard
  EncodedRows encoded;

  /// A shard that a former run finished, if its bytes are still those.
  std::optional<ShardRecord> finished(int64_t begin) const {
    const fs::path record = folder / record_file(begin), shard = folder / shard_file(begin);
    if (!fs::exists(record) || !fs::exists(shard)) return {};
    try {
      const ShardRecord found = ShardRecord::from_json(read_json(record), record.string());
      if (found.first == begin && found.rows == plan.rows_of(begin) && sha256_file_now(shard) == found.sha256) return found;
      log_warn(shard.string() + " is not what was written: it is captured again");
    } catch (const Error& error) {
      log_warn(std::string(error.what()) + ": the shard is captured again");
    }
    return {};
  }

  /// The number of the next position of `row` among the row's learned positions.
  int64_t place(int64_t row) {
    check(row >= first && row < first + plan.rows_of(first) && row >= next_row, "rows of a shard", str("rising from ", next_row), str(row));
    next_row = row;
    return positions[static_cast<size_t>(row - first)]++;
  }

  void append(at::Tensor logits, double temperature, const at::Tensor& labels, const std::vector<int64_t>& rows) {
    std::vector<int64_t> numbers;
    for (const int64_t row : rows) numbers.push_back(place(row));
    codec.encode(std::move(logits), temperature, labels, rows, numbers, encoded);
  }
};

CacheWriter::CacheWriter(fs::path folder, const CacheIdentity& identity, int64_t rows, int64_t shard_rows)
    : state_(new State{std::move(folder), {identity, rows, shard_rows}, TeacherCodec(identity)}) {
  check(rows >= 1, "rows of a capture", "1 or more", str(rows), "the data gave no rows");
  check(shard_rows >= 1, "shard_rows", "1 or more", str(shard_rows));
  make_folder(state_->folder);
  const fs::path plan_file = state_->folder / "capture.json";
  if (fs::exists(plan_file)) {
    const CachePlan begun = CachePlan::from_json(read_json(plan_file), plan_file.string());
    const auto faults = identity_difference(begun.identity, identity, true, state_->folder.string());
    if (!faults.empty()) throw Error(faults);
    check(begun.rows == rows, "cache " + state_->folder.string() + ": rows", str(rows), str(begun.rows));
    check(begun.shard_rows == shard_rows, "cache " + state_->folder.string() + ": rows a shard", str(shard_rows), str(begun.shard_rows),
          "continue with the shard size it was begun with");
  } else {
    write_json(plan_file, state_->plan.to_json());
  }
  for (int64_t first = 0; first < rows; first += shard_rows) state_->shards.push_back(state_->finished(first));
}

CacheWriter::~CacheWriter() = default;

ShardRange ShardRange::parse(const std::string& text) {
  if (text.empty()) return {};
  ShardRange out;
  const size_t colon = text.find(':');
  const auto number = [&](std::string_view part, int64_t& value) {
    const auto [end, problem] = std::from_chars(part.data(), part.data() + part.size(), value);
    return problem == std::errc() && end == part.data() + part.size() && value >= 0;
  };
  const std::string_view words = text;
  const bool read = colon != std::string::npos && number(words.substr(0, colon), out.begin) && number(words.substr(colon + 1), out.end);
  check(read && out.begin < out.end, "shards", "A:B with 0 <= A < B", "'" + text.substr(0, 80) + "'");
  return out;
}

std::vector<int64_t> CacheWriter::missing(const ShardRange& range) const {
  std::vector<int64_t> out;
  const auto count = static_cast<int64_t>(state_->shards.size());
  check(range.begin < count && (range.end <= count || range.end == INT64_MAX), "shards", str("inside 0:", count), str(range.begin, ":", range.end),
        str("the capture has ", state_->plan.rows, " rows, ", state_->plan.shard_rows, " a shard"));
  for (auto i = static_cast<size_t>(range.begin); i < static_cast<size_t>(std::min(range.end, count)); ++i) {
    if (!state_->shards[i]) out.push_back(static_cast<int64_t>(i) * state_->plan.shard_rows);
  }
  return out;
}

int64_t CacheWriter::shard_rows() const { return state_->plan.shard_rows; }

void CacheWriter::begin_shard(int64_t first) {
  State& s = *state_;
  check(first >= 0 && first < s.plan.rows && first % s.plan.shard_rows == 0, "first row of a shard",
        str("a multiple of ", s.plan.shard_rows, " below ", s.plan.rows), str(first));
  s.first = s.next_row = first;
  s.by_rows = false;
  s.positions.assign(static_cast<size_t>(s.plan.rows_of(first)), 0);
  s.encoded = EncodedRows{};
}

void CacheWriter::add(const at::Tensor& log_probs, const at::Tensor& labels, const std::vector<int64_t>& positions_per_row) {
  State& s = *state_;
  check(s.first >= 0, "a shard", "begun", "none");
  std::vector<int64_t> rows;
  int64_t row = s.next_row;
  for (const int64_t count : positions_per_row) rows.insert(rows.end(), static_cast<size_t>(count), row++);
  const int64_t after = s.next_row + static_cast<int64_t>(positions_per_row.size());
  check(static_cast<int64_t>(rows.size()) == log_probs.size(0) && after <= s.first + s.plan.rows_of(s.first), "positions of a shard's rows",
        str(log_probs.size(0), " positions in rows below ", s.first + s.plan.rows_of(s.first)), str(rows.size(), " positions in rows below ", after));
  s.append(log_probs.to(at::kFloat).clone(at::MemoryFormat::Contiguous), 1.0, labels, rows);
  s.next_row = after;
  s.by_rows = true;
}

void CacheWriter::add_logits(at::Tensor logits, const at::Tensor& labels, const std::vector<int64_t>& rows) {
  check(state_->first >= 0, "a shard", "begun", "none");
  state_->append(std::move(logits), state_->plan.identity.temperature, labels, rows);
}

void CacheWriter::add_said(const std::vector<SaidPosition>& positions, const std::vector<int64_t>& rows) {
  State& s = *state_;
  check(s.first >= 0 && positions.size() == rows.size(), "a shard", "begun, and a row for each position",
        str(positions.size(), " and ", rows.size()));
  for (size_t p = 0; p < positions.size(); ++p) {
    const int64_t number = s.place(rows[p]);
    s.codec.encode(positions[p], str("row ", rows[p], ", learned position ", number), s.encoded);
  }
}

void CacheWriter::add_hidden(int64_t layer, const at::Tensor& states) {
  EncodedRows& encoded = state_->encoded;
  check(states.dim() == 2 && (encoded.hidden_width == 0 || states.size(1) == encoded.hidden_width), "hidden states",
        str("(positions, ", encoded.hidden_width, ")"), str(states.dim(), " dimensions"));
  encoded.hidden_width = states.size(1);
  const at::Tensor wide = states.to(at::kCPU, at::kFloat);
  check(wide.isfinite().all().item<bool>(), str("outputs of the teacher's layer ", layer), "finite numbers", "infinity or NaN");
  const at::Tensor kept = wide.clamp(-65504.0, 65504.0).to(at::kHalf).contiguous();
  const auto* bits = reinterpret_cast<const uint16_t*>(kept.const_data_ptr());
  encoded.hidden[layer].insert(encoded.hidden[layer].end(), bits, bits + kept.numel());
}

void CacheWriter::end_shard() {
  State& s = *state_;
  for (const int64_t layer : s.codec.hidden_layers()) {
    const auto have = static_cast<int64_t>(s.encoded.hidden[layer].size());
    check(have == s.encoded.positions() * s.encoded.hidden_width, str("hidden states of layer ", layer), str(s.encoded.positions(), " positions"),
          str(have, " numbers of width ", s.encoded.hidden_width));
  }
  if (!s.codec.hidden_layers().empty()) s.encoded.hidden_width = std::max<int64_t>(s.encoded.hidden_width, 1);
  const int64_t rows = s.plan.rows_of(s.first);
  check(!s.by_rows || s.next_row == s.first + rows, "rows of a shard", str(rows), str(s.next_row - s.first));
  for (const int64_t count : s.positions) s.encoded.row_begin.push_back(s.encoded.row_begin.back() + count);
  ShardRecord record;
  record.file = shard_file(s.first);
  record.first = s.first;
  record.rows = rows;
  record.positions = s.encoded.positions();
  record.distinct = s.encoded.distinct_sum;
  record.kept_mass = s.encoded.mass_sum;
  record.entropy = s.encoded.entropy_sum;
  const CodecConfig& codec = s.plan.identity.codec;
  std::map<std::string, std::string> attributes = {{"kind", "teacher_cache_shard"}, {"version", str(kCacheVersion)}, {"codec", codec.kind},
                                                   {"vocab", str(s.plan.identity.vocab)}, {"first_row", str(s.first)}, {"rows", str(rows)}};
  if (codec.kind == "sampled") attributes["samples"] = str(codec.samples), attributes["draws"] = codec.draws;
  if (codec.kind == "top_k") attributes["k"] = str(codec.k);
  const fs::path place = s.folder / record.file;
  write_shard(place, s.codec.pack(s.encoded), attributes);
  record.sha256 = sha256_file_now(place);
  record.bytes = static_cast<int64_t>(fs::file_size(place));
  write_json(s.folder / record_file(s.first), record.to_json());
  s.shards[static_cast<size_t>(s.first / s.plan.shard_rows)] = record;
  s.first = -1;
  s.encoded = EncodedRows{};
}

Json CacheWriter::statistics() const {
  std::vector<ShardRecord> there;
  for (const auto& shard : state_->shards) {
    if (shard) there.push_back(*shard);
  }
  return cache_statistics(there);
}

Json CacheWriter::finish() {
  State& s = *state_;
  const std::vector<int64_t> left = missing();
  if (!left.empty()) fail("cache " + s.folder.string(), "every shard", str(left.size(), " missing, the first ", shard_file(left.front())));
  CacheManifest manifest;
  manifest.plan = s.plan;
  for (const auto& shard : s.shards) manifest.shards.push_back(*shard);
  manifest.statistics = cache_statistics(manifest.shards);
  write_json(s.folder / "manifest.json", manifest.to_json());
  return manifest.statistics;
}

}  // namespace attar
