#include "teacher/cache_files.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "base/hash.h"

namespace attar {
namespace {

constexpr int64_t kMostCached = int64_t{1} << 48;  ///< rows, positions or bytes: sums of them stay far from overflow

std::string numbered(int64_t first, const char* ending) {
  char name[48];
  std::snprintf(name, sizeof name, "rows-%08lld.%s", static_cast<long long>(first), ending);
  return name;
}

void check_kind(const Json& value, const char* kind, const std::string& name) {
  const auto found = get<std::string>(value, "kind", name);
  check(found == kind, name + ": kind", kind, "'" + found.substr(0, 80) + "'");
  const auto version = get<int64_t>(value, "version", name);
  check(version == kCacheVersion, name + ": version", str(kCacheVersion), str(version), "written by another version of attar");
}

double finite(const Json& value, const char* key, const std::string& name) {
  const auto number = get<double>(value, key, name);
  check(std::isfinite(number) && number >= 0, name + ": key '" + key + "'", "0 or more", str(number));
  return number;
}

}  // namespace

std::string shard_file(int64_t first) { return numbered(first, "h5"); }
std::string record_file(int64_t first) { return numbered(first, "json"); }

Json CacheIdentity::to_json() const {
  Json out;
  out["teacher"] = teacher;
  out["tokenizer"] = tokenizer;
  out["data"] = data;
  out["rows"] = rows;
  out["vocab"] = vocab;
  out["temperature"] = temperature;
  out["seed"] = seed;
  out["codec"]["kind"] = codec.kind;
  if (codec.kind == "sampled") out["codec"]["samples"] = codec.samples;
  if (codec.kind == "sampled" && codec.draws != "independent") out["codec"]["draws"] = codec.draws;  // absent: independent
  if (codec.kind == "top_k") out["codec"]["k"] = codec.k;
  if (!codec.hidden_layers.empty()) out["codec"]["hidden_layers"] = codec.hidden_layers;
  return out;
}

CacheIdentity CacheIdentity::from_json(const Json& value, const std::string& name) {
  CacheIdentity out;
  out.teacher = get<std::string>(value, "teacher", name);
  out.tokenizer = get<std::string>(value, "tokenizer", name);
  out.data = get<std::string>(value, "data", name);
  out.rows = get<std::string>(value, "rows", name);
  out.vocab = get<int64_t>(value, "vocab", name);
  out.temperature = get<double>(value, "temperature", name);
  out.seed = get<uint64_t>(value, "seed", name);
  const auto codec = get<Json>(value, "codec", name);
  out.codec.kind = get<std::string>(codec, "kind", name + ": codec");
  if (out.codec.kind == "sampled") {
    out.codec.samples = get<int64_t>(codec, "samples", name + ": codec");
    out.codec.draws = codec.contains("draws") ? get<std::string>(codec, "draws", name + ": codec") : "independent";
  }
  if (out.codec.kind == "top_k") out.codec.k = get<int64_t>(codec, "k", name + ": codec");
  if (codec.is_object() && codec.contains("hidden_layers")) {
    const auto layers = get<Json>(codec, "hidden_layers", name + ": codec");
    check(layers.is_array() && layers.size() <= 1000, name + ": codec: key 'hidden_layers'", "a list of layers", to_line(layers).substr(0, 80));
    for (const Json& layer : layers) {
      check(json_fits<int64_t>(layer), name + ": codec: key 'hidden_layers'", "whole numbers", to_line(layer).substr(0, 80));
      out.codec.hidden_layers.push_back(layer.get<int64_t>());
    }
  }
  return out;
}

std::vector<Fault> identity_difference(const CacheIdentity& have, const CacheIdentity& wanted, bool whole, const std::string& folder) {
  std::vector<Fault> faults;
  const auto differ = [&](const char* what, const std::string& ours, const std::string& theirs, const char* hint) {
    if (faults.empty() && ours != theirs) faults.push_back({"cache " + folder + ": " + what, theirs, ours, hint});
  };
  const auto text = [&](const char* what, const std::string& ours, const std::string& theirs, const char* hint) {
    if (whole || !theirs.empty()) differ(what, ours.empty() ? "none" : ours, theirs.empty() ? "none" : theirs, hint);
  };
  text("teacher's fingerprint", have.teacher, wanted.teacher, "the cache was captured from another teacher");
  text("tokenizer's fingerprint", have.tokenizer, wanted.tokenizer, "teacher's cache and student must share one tokenizer");
  text("data's fingerprint", have.data, wanted.data, "capture again over this data");
  text("rows' fingerprint", have.rows, wanted.rows, "packing differs: use the data section of the capture (seq, pack, learn, limit)");
  if (whole || wanted.vocab != 0) differ("vocabulary", str(have.vocab), str(wanted.vocab), "teacher and student must share one vocabulary");
  if (whole || wanted.temperature != 0) {
    if (have.temperature != wanted.temperature) {
      differ("temperature", to_line(Json(have.temperature)), to_line(Json(wanted.temperature)),
             "a cache is used at the temperature it was captured with");
    }
  }
  if (whole || !wanted.teacher.empty()) {
    differ("seed", str(have.seed), str(wanted.seed), "the draws would be others");
    differ("codec", to_line(have.to_json()["codec"]), to_line(wanted.to_json()["codec"]), "");
  }
  return faults;
}

Json ShardRecord::to_json() const {
  Json out;
  out["file"] = file;
  out["sha256"] = sha256;
  out["first"] = first;
  out["rows"] = rows;
  out["positions"] = positions;
  out["bytes"] = bytes;
  out["distinct"] = distinct;
  out["kept_mass"] = kept_mass;
  out["entropy"] = entropy;
  return out;
}

ShardRecord ShardRecord::from_json(const Json& value, const std::string& name) {
  ShardRecord out;
  out.file = get<std::string>(value, "file", name);
  out.sha256 = get<std::string>(value, "sha256", name);
  out.first = get<int64_t>(value, "first", name);
  out.rows = get<int64_t>(value, "rows", name);
  out.positions = get<int64_t>(value, "positions", name);
  out.bytes = get<int64_t>(value, "bytes", name);
  out.distinct = finite(value, "distinct", name);
  out.kept_mass = finite(value, "kept_mass", name);
  out.entropy = finite(value, "entropy", name);
  const bool right = out.first >= 0 && out.rows >= 1 && out.positions >= 0 && out.bytes >= 0;
  check(right && std::max({out.first, out.rows, out.positions, out.bytes}) <= kMostCached, name + ": numbers of a shard",
        "none below 0 or above 2^48", to_line(value).substr(0, 200));
  check(out.file == shard_file(out.first), name + ": name of a shard", shard_file(out.first), out.file.substr(0, 80));
  return out;
}

Json CachePlan::to_json() const {
  Json out;
  out["kind"] = "teacher_capture";
  out["version"] = kCacheVersion;
  out["identity"] = identity.to_json();
  out["rows"] = rows;
  out["shard_rows"] = shard_rows;
  return out;
}

CachePlan CachePlan::from_json(const Json& value, const std::string& name) {
  CachePlan out;
  out.identity = CacheIdentity::from_json(get<Json>(value, "identity", name), name);
  out.rows = get<int64_t>(value, "rows", name);
  out.shard_rows = get<int64_t>(value, "shard_rows", name);
  check(std::min(out.rows, out.shard_rows) >= 1 && std::max(out.rows, out.shard_rows) <= kMostCached, name + ": rows and shard_rows", "1 to 2^48",
        str(out.rows, " and ", out.shard_rows));
  return out;
}

Json cache_statistics(const std::vector<ShardRecord>& shards) {
  double positions = 0, bytes = 0, distinct = 0, mass = 0, entropy = 0, rows = 0;
  for (const ShardRecord& shard : shards) {
    rows += static_cast<double>(shard.rows);
    positions += static_cast<double>(shard.positions);
    bytes += static_cast<double>(shard.bytes);
    distinct += shard.distinct;
    mass += shard.kept_mass;
    entropy += shard.entropy;
  }
  const double count = std::max(1.0, positions);
  Json out;
  out["rows"] = static_cast<int64_t>(rows);
  out["tokens"] = static_cast<int64_t>(positions);
  out["bytes"] = static_cast<int64_t>(bytes);
  out["bytes_per_token"] = bytes / count;
  out["distinct_ids"] = distinct / count;
  out["kept_mass"] = mass / count;
  out["entropy"] = entropy / count;
  return out;
}

Json CacheManifest::to_json() const {
  Json out = plan.to_json();
  out["kind"] = "teacher_cache";
  out["shards"] = Json::array();
  for (const ShardRecord& shard : shards) out["shards"].push_back(shard.to_json());
  out["statistics"] = statistics;
  out["checksum"] = sha256(out.dump());
  return out;
}

CacheManifest CacheManifest::read(const fs::path& folder) {
  const fs::path file = folder / "manifest.json";
  const std::string name = file.string();
  if (!fs::exists(file)) {
    const bool begun = fs::exists(folder / "capture.json");
    fail(folder.string(), "a cache of a teacher's logits", begun ? "a capture that is not finished" : "no manifest.json",
         begun ? "run the same capture again: it continues at the next missing shard" : "");
  }
  // As a stage's result the cache's own manifest stands inside the artifact's, under facts.cache.
  Json value = read_json(file);
  if (value.contains("facts") && value["facts"].is_object() && value["facts"].contains("part")) {
    fail(folder.string(), "a whole cache", "a part of one", "merge the parts: attar capture --merge " + folder.string() + " --merge ... --out DIR");
  }
  if (value.contains("facts") && value["facts"].is_object() && value["facts"].contains("cache")) value = Json(value["facts"]["cache"]);
  check_kind(value, "teacher_cache", name);
  CacheManifest out;
  out.plan = CachePlan::from_json(value, name);
  const auto shards = get<Json>(value, "shards", name);
  check(shards.is_array(), name + ": key 'shards'", "a list", to_line(shards).substr(0, 80));
  int64_t next = 0;
  for (const Json& shard : shards) {
    out.shards.push_back(ShardRecord::from_json(shard, name));
    check(out.shards.back().first == next && out.shards.back().rows == out.plan.rows_of(next), name + ": shards",
          str("one that begins at row ", next), shard_file(out.shards.back().first));
    next += out.shards.back().rows;
  }
  check(next == out.plan.rows, name + ": rows of all shards", str(out.plan.rows), str(next));
  out.statistics = get<Json>(value, "statistics", name);
  const auto stated = get<std::string>(value, "checksum", name);
  const auto found = get<std::string>(out.to_json(), "checksum", name);
  check(stated == found, name + ": checksum", found, stated.substr(0, 80), "the manifest was changed after it was written");
  return out;
}

}  // namespace attar
