// Parts of one capture become one cache: the shards' files are linked, not written again.
#include <set>

#include "base/check.h"
#include "base/hash.h"
#include "teacher/cache.h"
#include "teacher/cache_files.h"

namespace attar {
namespace {

/// A second name of a file, or a copy where the folders lie on different disks.
void link_or_copy(const fs::path& from, const fs::path& to) {
  std::error_code problem;
  fs::create_hard_link(from, to, problem);
  if (problem) write_file(to, read_file(from));
}

}  // namespace

Json merge_caches(const std::vector<fs::path>& parts, const fs::path& folder) {
  check(!parts.empty(), "merge", "parts of a capture", "none");
  std::vector<CachePlan> plans;
  for (const fs::path& part : parts) {
    const fs::path file = part / "capture.json";
    check(fs::exists(file), part.string(), "a part of a capture", "no capture.json", "made by attar capture --shards A:B");
    plans.push_back(CachePlan::from_json(read_json(file), file.string()));
    const auto faults = identity_difference(plans.back().identity, plans[0].identity, true, part.string());
    if (!faults.empty()) throw Error(faults);
    check(plans.back().rows == plans[0].rows && plans.back().shard_rows == plans[0].shard_rows, "cache " + part.string() + ": rows and rows a shard",
          str(plans[0].rows, ", ", plans[0].shard_rows), str(plans.back().rows, ", ", plans.back().shard_rows));
  }
  const CachePlan& plan = plans[0];
  make_folder(folder);
  std::vector<std::string> missing;
  for (int64_t first = 0; first < plan.rows; first += plan.shard_rows) {
    std::string kept;
    for (const fs::path& part : parts) {
      const fs::path record_place = part / record_file(first), shard = part / shard_file(first);
      if (!fs::exists(record_place)) continue;
      const ShardRecord record = ShardRecord::from_json(read_json(record_place), record_place.string());
      check(record.first == first && record.rows == plan.rows_of(first), record_place.string() + ": rows", str(plan.rows_of(first), " from ", first),
            str(record.rows, " from ", record.first));
      check(fs::exists(shard), shard.string(), "a shard of the part", "nothing", "run the same capture again");
      const std::string found = sha256_file_now(shard);
      check(found == record.sha256, shard.string() + ": SHA-256", record.sha256, found, "the shard is damaged: run the same capture again");
      if (kept.empty()) {
        for (const std::string& name : {shard_file(first), record_file(first)}) {
          if (fs::exists(folder / name) && fs::equivalent(part / name, folder / name)) continue;
          fs::remove(folder / name);
          link_or_copy(part / name, folder / name);
        }
        kept = found;
      }
      check(kept == found, shard.string() + ": SHA-256", kept + " as in another part", found);
    }
    if (kept.empty()) missing.push_back(str(first / plan.shard_rows));
  }
  if (!missing.empty()) {
    fail("parts of the capture", str("all of ", (plan.rows + plan.shard_rows - 1) / plan.shard_rows, " shards"),
         str(missing.size(), " missing, the first number ", missing[0]),
         str("attar capture --shards ", missing[0], ":", std::stoll(missing[0]) + 1, " ..."));
  }
  return CacheWriter(folder, plan.identity, plan.rows, plan.shard_rows).finish();
}

}  // namespace attar
