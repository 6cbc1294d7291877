#include "plan/packed_folder.h"

#include <set>

#include "base/check.h"
#include "base/hash.h"

namespace attar {
namespace {

struct PackedShard {
  std::string file, sha256;
  int64_t rows;
};

/// packed.json; `shards`: what it says of them, or null.
Json read_packed(const fs::path& folder, std::vector<PackedShard>* shards) {
  const std::string name = (folder / "packed.json").string();
  Json said = read_json(folder / "packed.json");
  check(said.is_object() && said.value("kind", Json()) == "attar packed rows" && said.value("version", Json()) == 1, name,
        "packed rows of version 1", to_line(said).substr(0, 60), "pack the text again: attar data pack");
  const Json listed = said.value("shards", Json());
  check(listed.is_array(), name + ": shards", "a list", to_line(listed).substr(0, 60));
  for (size_t i = 0; shards && i < listed.size(); ++i) {
    const std::string where = str(name, ": shard ", i);
    PackedShard shard{get<std::string>(listed[i], "file", where), get<std::string>(listed[i], "sha256", where), get<int64_t>(listed[i], "rows", where)};
    check(fs::path(shard.file).filename() == shard.file && shard.file.starts_with("rows-"), where, "a file name of a shard", shard.file);
    shards->push_back(std::move(shard));
  }
  return said;
}

}  // namespace

Json packed_facts(const fs::path& folder) {
  std::vector<PackedShard> shards;
  Json out = read_packed(folder, &shards);
  out["kind"] = "packed";
  out["path"] = folder.string();
  out["shards"] = shards.size();
  return out;
}

std::vector<Fault> verify_packed(const fs::path& folder) {
  std::vector<PackedShard> shards;
  const Json said = read_packed(folder, &shards);
  std::vector<Fault> faults;
  std::set<std::string> known;
  int64_t rows = 0;
  for (const PackedShard& shard : shards) {
    const fs::path file = folder / shard.file;
    known.insert(shard.file);
    rows += shard.rows;
    if (!fs::is_regular_file(file)) {
      faults.push_back({file.string(), "to be there", "nothing", "pack the text again: attar data pack"});
    } else if (const std::string found = sha256_file(file); found != shard.sha256) {
      faults.push_back({file.string(), "the bytes that were packed, SHA-256 " + shard.sha256.substr(0, 16), found.substr(0, 16),
                        "pack the text again: attar data pack"});
    }
  }
  for (const auto& entry : fs::directory_iterator(folder))
    if (const std::string name = entry.path().filename().string(); name.starts_with("rows-") && !known.count(name))
      faults.push_back({entry.path().string(), "only shards that packed.json names", "another", ""});
  const auto wanted = get<int64_t>(said, "rows", (folder / "packed.json").string());
  if (rows != wanted) faults.push_back({(folder / "packed.json").string() + ": rows", std::to_string(wanted), str(rows, " in its shards"), ""});
  return faults;
}

}  // namespace attar
