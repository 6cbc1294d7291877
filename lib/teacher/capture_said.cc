#include <ATen/ATen.h>

#include <mutex>

#include "http/client.h"
#include "teacher/capture.h"
#include "teacher/capture_shards.h"

namespace attar {

std::string RowSegment::name() const { return str("row ", row, ", tokens ", begin, " to ", begin + static_cast<int64_t>(ids.size()) - 1); }

std::vector<RowSegment> segments_of(const TokenRows& rows, int64_t first, int64_t end) {
  std::vector<RowSegment> out;
  for (int64_t row = first; row < end; ++row) {
    const Batch batch = make_batch(rows, {row});
    const at::Tensor ids = batch.at("ids").to(at::kLong).contiguous(), labels = batch.at("labels").to(at::kLong).contiguous(),
                     segments = batch.at("segments").to(at::kInt).contiguous();
    const int64_t* id = ids.const_data_ptr<int64_t>();
    const int64_t* label = labels.const_data_ptr<int64_t>();
    const int32_t* segment = segments.const_data_ptr<int32_t>();
    for (int64_t t = 0, T = ids.size(1); t < T;) {
      RowSegment now;
      now.row = row;
      now.begin = t;
      bool any = false;
      const int32_t number = segment[t];
      for (; t < T && segment[t] == number; ++t) {
        now.ids.push_back(static_cast<int32_t>(id[t]));
        now.wanted.push_back(t > now.begin && label[t - 1] != -100 ? 1 : 0);
        any = any || now.wanted.back();
      }
      if (number >= 0 && any) out.push_back(std::move(now));
    }
  }
  return out;
}

Json capture_said(const AskSegment& ask, const TokenRows& rows, const CacheIdentity& identity, int64_t concurrency, int64_t shard_rows,
                  const fs::path& folder, const ShardRange& range) {
  CaptureShards shards(folder, identity, rows.rows(), shard_rows, range);
  CacheWriter& writer = shards.writer();
  return shards.write([&](int64_t first, int64_t end) {
    const std::vector<RowSegment> segments = segments_of(rows, first, end);
    std::vector<std::vector<SaidPosition>> answers(segments.size());
    std::mutex mutex;
    size_t answered = 0;
    for_each_at_once(static_cast<int64_t>(segments.size()), concurrency, [&](int64_t i) {
      const RowSegment& segment = segments[static_cast<size_t>(i)];
      std::vector<SaidPosition> said = ask(segment);
      check(said.size() == segment.ids.size(), segment.name() + ": positions answered", str(segment.ids.size()), str(said.size()));
      std::vector<SaidPosition> kept;
      for (size_t t = 0; t < said.size(); ++t) {
        if (segment.wanted[t]) kept.push_back(std::move(said[t]));
      }
      answers[static_cast<size_t>(i)] = std::move(kept);
      const std::lock_guard guard(mutex);
      ++answered;
      shards.shard_progress((end - first) * static_cast<int64_t>(answered) / static_cast<int64_t>(segments.size()));
    });
    writer.begin_shard(first);
    for (size_t i = 0; i < segments.size(); ++i) writer.add_said(answers[i], std::vector<int64_t>(answers[i].size(), segments[i].row));
    writer.end_shard();
  });
}

}  // namespace attar
