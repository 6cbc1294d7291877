#include "data/packed.h"

#include <ATen/ATen.h>

#include <cstdio>
#include <cstring>

#include "base/check.h"
#include "base/hash.h"
#include "base/json.h"
#include "formats/shard.h"

namespace attar {
namespace {

constexpr const char* kPackedFile = "packed.json";
constexpr int64_t kPackedVersion = 1;

std::string packed_name(int64_t number) {
  char name[32];
  std::snprintf(name, sizeof name, "rows-%08lld.h5", static_cast<long long>(number));
  return name;
}

struct Column {
  const char* name;
  const char* dtype;
  at::Tensor TokenRows::*table;
  at::ScalarType type;
};
constexpr Column kColumns[] = {{"ids", "i32", &TokenRows::ids, at::kInt},
                               {"learn", "u8", &TokenRows::learn, at::kByte},
                               {"segments", "i32", &TokenRows::segments, at::kInt},
                               {"lengths", "i32", &TokenRows::lengths, at::kInt}};

ShardArray array_of(const at::Tensor& tensor, const char* dtype) {
  const at::Tensor dense = tensor.contiguous();
  ShardArray out{dtype, dense.sizes().vec(), std::vector<uint8_t>(dense.nbytes())};
  std::memcpy(out.bytes.data(), dense.const_data_ptr(), out.bytes.size());
  return out;
}

/// What a shard says of the folder it belongs to and of its own place there.
std::map<std::string, std::string> packed_attributes(const std::string& rows, int64_t first) {
  return {{"kind", "attar packed rows"}, {"version", std::to_string(kPackedVersion)}, {"rows", rows}, {"first_row", std::to_string(first)}};
}

/// Ids, learn marks and lengths that no row can have would be read past their ends later on.
void check_rows(const TokenRows& rows, const std::string& where) {
  const auto lengths = rows.lengths;
  check(lengths.min().item<int>() >= 1 && lengths.max().item<int>() <= rows.seq(), where + ": lengths", str("1 to ", rows.seq()), "others");
  check(rows.ids.min().item<int>() >= 0, where + ": ids", "0 or more", "a negative id");
  check(rows.learn.max().item<int>() <= kLearnPrompt, where + ": learn", str("0 to ", int(kLearnPrompt)), "others");
  check(rows.segments.min().item<int>() >= -1, where + ": segments", "-1 or more", "less");
}

}  // namespace

bool is_packed(const fs::path& path) {
  std::error_code none;
  return fs::is_regular_file(path / kPackedFile, none);
}

void write_packed(const TokenRows& rows, const std::string& tokenizer, const fs::path& folder, int64_t shard_rows) {
  check(shard_rows >= 1, "rows a shard", "1 or more", str(shard_rows));
  check(!is_packed(folder), folder.string(), "a folder without packed rows", kPackedFile, "name another, or remove it");
  make_folder(folder);
  Json shards = Json::array();
  for (int64_t first = 0, number = 0; first < rows.rows(); first += shard_rows, ++number) {
    const int64_t count = std::min(shard_rows, rows.rows() - first);
    std::map<std::string, ShardArray> arrays;
    for (const Column& column : kColumns) arrays[column.name] = array_of((rows.*column.table).narrow(0, first, count), column.dtype);
    const fs::path file = folder / packed_name(number);
    write_shard(file, arrays, packed_attributes(rows.fingerprint, first));
    shards.push_back({{"file", file.filename().string()}, {"rows", count}, {"sha256", sha256_file(file)}});
  }
  write_json(folder / kPackedFile, {{"kind", "attar packed rows"}, {"version", kPackedVersion}, {"tokenizer", tokenizer}, {"seq", rows.seq()},
                                    {"rows", rows.rows()}, {"learned_tokens", rows.learned_tokens()}, {"data_sha256", rows.data_hash},
                                    {"rows_sha256", rows.fingerprint}, {"shards", std::move(shards)}});
}

TokenRows read_packed(const fs::path& folder, const std::string& tokenizer) {
  const std::string name = (folder / kPackedFile).string();
  const Json said = read_json(folder / kPackedFile);
  check(said.is_object() && said.value("kind", Json()) == "attar packed rows" && said.value("version", Json()) == kPackedVersion, name,
        str("packed rows of version ", kPackedVersion), to_line(said).substr(0, 60), "pack the text again: attar data pack");
  const auto made_by = get<std::string>(said, "tokenizer", name);
  check(made_by == tokenizer, name + ": tokenizer", tokenizer.substr(0, 12), made_by.substr(0, 12), "these rows hold another tokenizer's ids");
  const auto seq = get<int64_t>(said, "seq", name), count = get<int64_t>(said, "rows", name);
  check(seq >= 2 && seq <= (int64_t{1} << 24) && count >= 1, name, "seq of 2 to 16777216 and a row at least", str(seq, " and ", count, " rows"));
  const Json& shards = said.contains("shards") ? said.at("shards") : Json::array();
  check(shards.is_array() && !shards.empty(), name + ": shards", "a list of them", "none");
  std::vector<TokenRows> parts;
  int64_t first = 0;
  for (size_t i = 0; i < shards.size(); ++i) {
    const fs::path file = folder / packed_name(static_cast<int64_t>(i));
    const auto rows = get<int64_t>(shards[i], "rows", name);
    check(rows >= 1 && rows <= count - first, name + ": rows of " + file.filename().string(), str("1 to ", count - first), str(rows));
    check(fs::exists(file), file.string(), "a shard of packed rows", "nothing there", "copy the folder whole, or pack the text again");
    const auto arrays = read_shard(file, get<std::string>(shards[i], "sha256", name));
    TokenRows part;
    for (const Column& column : kColumns) {
      const auto found = arrays.find(column.name);
      const std::vector<int64_t> shape = column.table == &TokenRows::lengths ? std::vector<int64_t>{rows} : std::vector<int64_t>{rows, seq};
      check(found != arrays.end() && found->second.dtype == column.dtype && found->second.shape == shape, file.string() + ": " + column.name,
            str(column.dtype, " of ", rows, " rows of ", seq), "something else");
      part.*column.table = at::empty(shape, column.type);
      std::memcpy((part.*column.table).data_ptr(), found->second.bytes.data(), found->second.bytes.size());
    }
    check_rows(part, file.string());
    parts.push_back(std::move(part));
    first += rows;
  }
  check(first == count, name + ": rows", str(count), str(first, " in all shards"));
  TokenRows out;
  for (const Column& column : kColumns) {
    std::vector<at::Tensor> tables;
    for (const TokenRows& part : parts) tables.push_back(part.*column.table);
    out.*column.table = at::cat(tables);
  }
  out.data_hash = get<std::string>(said, "data_sha256", name);
  out.fingerprint = rows_fingerprint(out);
  check(out.fingerprint == get<std::string>(said, "rows_sha256", name), name + ": rows", "those that were packed", "others",
        "shards were exchanged, or packed.json was changed");
  return out;
}

}  // namespace attar
