#include "data/mix_files.h"

#include "base/check.h"
#include "base/rng.h"
#include "base/signals.h"
#include "data/mix.h"
#include "data/row_reader.h"

namespace attar {
namespace {

/// A path's rows one by one, from the first again if asked.
class FileRows {
 public:
  explicit FileRows(const fs::path& path) : path_(path), files_(data_files(path)) {}
  /// False at the end of the last file.
  bool next(Json& row) {
    for (; file_ < files_.size(); ++file_, records_.reset()) {
      if (!records_) records_ = std::make_unique<RecordReader>(files_[file_]);
      if (records_->next(row)) return true;
    }
    return false;
  }
  void again() { file_ = 0, records_.reset(); }
  int64_t count() {
    int64_t rows = 0;
    for (Json row; next(row); ++rows)
      if (rows % 1024 == 0) stop_if_asked();
    again();
    check(rows > 0, path_.string(), "rows of data", "none");
    return rows;
  }

 private:
  fs::path path_;
  std::vector<fs::path> files_;
  size_t file_ = 0;
  std::unique_ptr<RecordReader> records_;
};

}  // namespace

CurationResult mix_files(const std::vector<MixFile>& files, const fs::path& out, const MixFilesOptions& options) {
  check(files.size() >= 2, "a mixture", "two files at least", str(files.size()));
  check(options.rows >= 0, "rows of a mixture", "0 (until a file ends) or more", str(options.rows));
  std::vector<FileRows> parts;
  std::vector<std::optional<double>> weights;
  std::vector<int64_t> counts;
  for (const MixFile& file : files) {
    parts.emplace_back(file.path);
    weights.push_back(file.weight);
    counts.push_back(parts.back().count());
  }
  const std::vector<double> shares = mix_shares(counts, weights, options.temperature);
  // The file that is furthest behind its share comes next; below one row, the seed says who begins.
  std::vector<double> credit;
  for (size_t i = 0; i < parts.size(); ++i) credit.push_back(Rng(options.seed, stream_of("mix"), i).uniform() * shares[i]);
  std::vector<int64_t> taken(parts.size(), 0);
  AtomicFile file(out);
  CurationResult result;
  for (int64_t written = 0; options.rows == 0 || written < options.rows; ++written) {
    if (written % 1024 == 0) stop_if_asked();
    size_t best = 0;
    for (size_t i = 0; i < parts.size(); ++i) {
      credit[i] += shares[i];
      if (credit[i] > credit[best]) best = i;
    }
    Json row;
    if (!parts[best].next(row)) {
      if (options.rows == 0) break;
      parts[best].again();
      check(parts[best].next(row), files[best].path.string(), "the rows that were counted before", "none", "the file changed meanwhile");
    }
    credit[best] -= 1;
    ++taken[best];
    file.write(to_line(row) + "\n");
    ++result.kept;
  }
  file.commit();
  Json by_file = Json::array();
  for (size_t i = 0; i < parts.size(); ++i) {
    result.read += counts[i];
    by_file.push_back({{"path", files[i].path.string()}, {"rows", counts[i]}, {"share", shares[i]}, {"written", taken[i]}});
  }
  result.more = {{"files", std::move(by_file)}};
  return result;
}

}  // namespace attar
