#include <set>

#include "base/hash.h"
#include "teacher/cache.h"
#include "teacher/cache_files.h"
#include "teacher/codec.h"

namespace attar {

std::vector<Fault> verify_cache(const fs::path& folder) {
  std::vector<Fault> faults;
  const auto attempt = [&](const auto& work) {
    try {
      work();
    } catch (const Error& error) {
      faults.insert(faults.end(), error.faults().begin(), error.faults().end());
    }
  };
  CacheManifest manifest;
  attempt([&] { manifest = CacheManifest::read(folder); });
  if (!faults.empty()) return faults;
  attempt([&] {
    const fs::path file = folder / "capture.json";
    check(fs::exists(file), file.string(), "to be there", "nothing");
    check(read_file(file) == manifest.plan.to_json().dump(2) + "\n", file.string(), "what the manifest says", "another text");
  });
  std::set<std::string> known = {"manifest.json", "capture.json"};
  attempt([&] {
    const TeacherCodec codec(manifest.plan.identity);
    for (const ShardRecord& shard : manifest.shards) {
      known.insert(shard.file);
      known.insert(record_file(shard.first));
      attempt([&] {
        const fs::path file = folder / shard.file, record = folder / record_file(shard.first);
        check(fs::exists(file), file.string(), "a shard of the cache", "nothing", "run the same capture again");
        check(static_cast<int64_t>(fs::file_size(file)) == shard.bytes, file.string() + ": size", str(shard.bytes), str(fs::file_size(file)));
        const EncodedRows rows = codec.unpack(read_shard(file, shard.sha256), shard.rows, file.string());
        check(rows.positions() == shard.positions, file.string() + ": positions", str(shard.positions), str(rows.positions()));
        check(fs::exists(record), record.string(), "to be there", "nothing");
        check(read_file(record) == shard.to_json().dump(2) + "\n", record.string(), "what the manifest says", "another text");
      });
    }
  });
  attempt([&] {
    const std::string stated = to_line(manifest.statistics), found = to_line(cache_statistics(manifest.shards));
    check(stated == found, (folder / "manifest.json").string() + ": statistics", found, stated);
  });
  for (const auto& entry : fs::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    if (!name.ends_with(".h5") || known.count(name)) continue;
    faults.push_back({entry.path().string(), "no shard beside those of the manifest", "one more", ""});
  }
  return faults;
}

}  // namespace attar
