#include "stages/row_order.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>

#include "base/check.h"
#include "base/hash.h"
#include "base/log.h"
#include "data/curriculum.h"
#include "data/mix.h"
#include "formats/npy.h"
#include "teacher/capture.h"

namespace attar {
namespace {

/// What rank 0 kept of an earlier run: (R, 1) float32; undefined if nothing.
at::Tensor kept_losses(const fs::path& file, int64_t rows) {
  if (!fs::exists(file)) return {};
  const NpyArray array = read_npy(file);
  check(array.dtype == "<f4" && array.shape == std::vector<int64_t>{rows, 1}, file.string(), str("losses of ", rows, " rows"), "another array",
        "remove it: the rows are scored again");
  at::Tensor out = at::empty({rows}, at::kFloat);
  std::memcpy(out.data_ptr(), array.bytes.data(), array.bytes.size());
  return out;
}

/// Every rank scores its share; all end with the same numbers, whatever their number.
std::vector<double> row_losses(const StageRun& run, const TokenRows& rows, ProcessGroup& group, const RowLosses& losses) {
  check(static_cast<bool>(losses), "data.filter and data.curriculum by teacher_loss", "a teacher", "none",
        "name a teacher, or take these keys out of this stage's data");
  const fs::path file = run.work / "row_losses.npy";
  const int64_t count = rows.rows();
  at::Tensor all = group.rank() == 0 ? kept_losses(file, count) : at::Tensor();
  at::Tensor found = at::full({1}, all.defined() ? 1.0 : 0.0, at::kFloat);
  group.broadcast(found, 0);
  if (found.item<float>() > 0) {
    if (!all.defined()) all = at::zeros({count}, at::kFloat);
    group.broadcast(all, 0);
  } else {
    const int64_t chunks = (count + kScoredRows - 1) / kScoredRows, each = (chunks + group.size() - 1) / group.size() * kScoredRows;
    const int64_t first = std::min(count, group.rank() * each), end = std::min(count, first + each);
    all = at::zeros({count}, at::kFloat);
    if (first < end) {
      const std::vector<double> own = losses(first, end);
      for (int64_t row = first; row < end; ++row) all.data_ptr<float>()[row] = static_cast<float>(own[static_cast<size_t>(row - first)]);
    }
    group.all_reduce_sum(all);
    if (group.rank() == 0) {
      NpyWriter writer(file, count, 1);
      writer.write(all.const_data_ptr<float>(), count);
      writer.commit();
    }
  }
  std::vector<double> out(all.const_data_ptr<float>(), all.const_data_ptr<float>() + count);
  for (size_t row = 0; row < out.size(); ++row) check(std::isfinite(out[row]), str("the teacher's loss on row ", row), "a number", str(out[row]));
  return out;
}

/// Values that a warm-up sorts by. Error if they say nothing.
std::vector<double> difficulty(const TokenRows& rows, const std::string& by, const std::vector<double>& losses) {
  std::vector<double> values = by == "length" ? document_lengths(rows) : losses;
  const auto [least, most] = std::minmax_element(values.begin(), values.end());
  check(*least < *most, "data.curriculum.by " + by, "rows that differ", "rows that are all alike",
        by == "length" ? "texts cut to full rows have one length: data.pack false, or by teacher_loss" : "");
  return values;
}

}  // namespace

RowOrder row_order(StageRun& run, const TokenRows& rows, const DataConfig& data, const TrainConfig& train, ProcessGroup& group,
                   const RowLosses& losses) {
  static const std::vector<std::string> kinds = {"none", "length", "teacher_loss"};
  const CurriculumConfig& curriculum = data.curriculum;
  if (std::find(kinds.begin(), kinds.end(), curriculum.by) == kinds.end())
    fail("data.curriculum.by", "none, length or teacher_loss", curriculum.by, nearest_hint(curriculum.by, kinds));
  check(curriculum.share >= 0 && curriculum.share <= 1, "data.curriculum.share", "from 0 to 1", str(curriculum.share));
  const bool filters = data.filter.drop_highest != 0 || data.filter.drop_lowest != 0, warms = curriculum.by != "none" && curriculum.share > 0;
  const uint64_t seed = run.seed_of("order");
  RowOrder out;
  if (rows.parts.empty() && !filters && !warms) {
    out.source = std::make_unique<RowSource>(rows, train.batch, seed, true, group.rank(), group.size());
    return out;
  }
  std::vector<double> scores;
  if (filters || (warms && curriculum.by == "teacher_loss")) scores = row_losses(run, rows, group, losses);
  const std::vector<double> values = warms ? difficulty(rows, curriculum.by, scores) : std::vector<double>();

  const std::vector<RowPart> sets = rows.parts.empty() ? std::vector<RowPart>{{"data", rows.rows()}} : rows.parts;
  std::vector<DrawPart> parts;
  std::vector<int64_t> counts;
  std::vector<std::optional<double>> weights;
  Json filtered = Json::array();
  int64_t first = 0, kept = 0;
  for (size_t i = 0; i < sets.size(); ++i) {
    std::vector<int64_t> numbers(static_cast<size_t>(sets[i].rows));
    std::iota(numbers.begin(), numbers.end(), first);
    first += sets[i].rows;
    if (filters) {
      KeptRows stays = keep_by_loss(numbers, scores, data.filter);
      filtered.push_back({{"part", sets[i].name}, {"rows_kept", stays.rows.size()}, {"dropped_highest", stays.dropped_highest},
                          {"dropped_lowest", stays.dropped_lowest}, {"lowest_loss", stays.lowest}, {"highest_loss", stays.highest}});
      log_info(str(run.label, ": ", stays.rows.size(), " of ", numbers.size(), " rows of ", sets[i].name, " kept, teacher's loss ",
                   stays.lowest, " to ", stays.highest));
      numbers = std::move(stays.rows);
    }
    if (warms) numbers = sorted_by(std::move(numbers), values);
    counts.push_back(static_cast<int64_t>(numbers.size()));
    kept += counts.back();
    weights.push_back(i < data.mix.size() ? data.mix[i].weight : std::nullopt);
    parts.push_back({std::move(numbers), 1});
  }
  const std::vector<double> shares = mix_shares(counts, weights, data.mix_temperature);
  Json mixture = Json::array();
  for (size_t i = 0; i < parts.size(); ++i) {
    parts[i].share = shares[i];
    mixture.push_back({{"part", sets[i].name}, {"rows", counts[i]}, {"share", shares[i]}});
  }
  if (!rows.parts.empty()) run.facts["mixture"] = std::move(mixture);
  if (filters) run.facts["filter"] = std::move(filtered), run.facts["rows_kept"] = kept;
  const int64_t warm_steps = warms ? std::llround(curriculum.share * static_cast<double>(train.steps)) : 0;
  if (warms) run.facts["curriculum"] = {{"by", curriculum.by}, {"steps", warm_steps}};

  // The keys themselves are part of the stage's own key; where the data lies does not matter.
  Sha256 hash;
  hash.add(scores.data(), scores.size() * sizeof(double));
  out.fingerprint = hash.hex();
  RowDraws draws(std::move(parts), seed, warm_steps * train.accumulate * train.batch, warms ? curriculum.from : 1);
  out.source = std::make_unique<MixSource>(rows, std::move(draws), train.batch, group.rank(), group.size());
  return out;
}

}  // namespace attar
