// The manifests of a cache and of an artifact. The checksum of a cache's is made right where it can be, so that what lies behind it is reached.
#include "base/json.h"
#include "fuzz.h"
#include "plan/recipe.h"
#include "teacher/cache_files.h"
#include "teacher/codec.h"

using namespace attar;

namespace {

std::string with_right_checksum(const std::string& text) {
  Json value = parse_json(text, "manifest.json");
  CacheManifest manifest;
  manifest.plan = CachePlan::from_json(value, "manifest.json");
  for (const Json& shard : get<Json>(value, "shards", "manifest.json")) manifest.shards.push_back(ShardRecord::from_json(shard, "manifest.json"));
  manifest.statistics = get<Json>(value, "statistics", "manifest.json");
  value["checksum"] = manifest.to_json()["checksum"];
  return to_line(value);
}

void use_cache(const fs::path& folder) {
  const CacheManifest manifest = CacheManifest::read(folder);
  (void)cache_statistics(manifest.shards);
  expect(identity_difference(manifest.plan.identity, manifest.plan.identity, true, "cache").empty(), "an identity that differs from itself");
  const TeacherCodec codec(manifest.plan.identity);
  for (const ShardRecord& shard : manifest.shards) expect(shard.file.find('/') == std::string::npos, "a shard outside of the folder");
}

}  // namespace

ATTAR_FUZZ_TARGET {
  return fuzz_input(size, 256, [&] {
    const std::string text(fuzz_text(data, size));
    fuzz_file("manifest.json", text);
    std::string right;
    for (const auto& read : {std::function<void()>([] { use_cache(fuzz_folder()); }), std::function<void()>([] {
                               for (const auto& [name, hash] : read_manifest(fuzz_folder()).outputs)
                                 expect(!name.starts_with('/') && name.find("..") != 0, "an output outside of the folder");
                             }),
                             std::function<void()>([] { (void)verify_manifest(fuzz_folder(), true); }),
                             std::function<void()>([&] { right = with_right_checksum(text); })}) {
      try {
        read();
      } catch (const Error&) {
      }
    }
    if (right.empty()) return;
    fuzz_file("manifest.json", right);
    use_cache(fuzz_folder());
  });
}
