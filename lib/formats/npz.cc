#include <array>

#include "base/check.h"
#include "formats/cursor.h"
#include "formats/npy.h"

namespace attar {
namespace {

constexpr uint32_t kZipEnd = 0x06054b50, kZipEntry = 0x02014b50, kZipLocal = 0x04034b50, kZip64End = 0x06064b50, kZip64Locator = 0x07064b50;
constexpr uint64_t kZipEndBytes = 22;

/// CRC-32 as zip has it: polynomial 0xEDB88320, reflected.
uint32_t zip_crc(std::span<const uint8_t> bytes) {
  static const std::array<uint32_t, 256> table = [] {
    std::array<uint32_t, 256> out{};
    for (uint32_t i = 0; i < 256; ++i) {
      uint32_t value = i;
      for (int bit = 0; bit < 8; ++bit) value = value & 1 ? value >> 1 ^ 0xEDB88320u : value >> 1;
      out[i] = value;
    }
    return out;
  }();
  uint32_t crc = ~0u;
  for (const uint8_t byte : bytes) crc = crc >> 8 ^ table[(crc ^ byte) & 0xFF];
  return ~crc;
}

/// The bytes from `offset` on, which must lie in the file.
ByteCursor zip_at(std::span<const uint8_t> file, uint64_t offset, const std::string& name) {
  if (offset > file.size()) {
    fail(name + ": zip offset", str("inside the file's ", file.size(), " bytes"), std::to_string(offset), "the file is cut short or damaged");
  }
  return ByteCursor(file.subspan(offset), name);
}

void zip_mark(ByteCursor& in, uint32_t mark, const std::string& name) {
  if (in.number<uint32_t>("zip mark") != mark)
    fail(name, "a zip file as numpy.savez writes it", "other bytes", "the file is cut short, damaged or no .npz");
}

}  // namespace

std::map<std::string, NpyArray> read_npz(const fs::path& path) {
  const std::string name = path.string();
  const MappedFile mapped(path);
  const std::span<const uint8_t> file = mapped.bytes();
  if (file.size() < kZipEndBytes) fail(name, "an .npz file", str(file.size(), " bytes"), "the file is cut short or empty");
  ByteCursor end = zip_at(file, file.size() - kZipEndBytes, name);
  zip_mark(end, kZipEnd, name);
  end.bytes(6, "zip end");
  uint64_t count = end.number<uint16_t>("zip entries");
  end.bytes(4, "zip end");
  uint64_t directory = end.number<uint32_t>("zip directory");
  if (directory == 0xFFFFFFFFu || count == 0xFFFFu) {
    ByteCursor locator = zip_at(file, file.size() - std::min<uint64_t>(file.size(), kZipEndBytes + 20), name);
    zip_mark(locator, kZip64Locator, name);
    locator.bytes(4, "zip64 locator");
    ByteCursor wide = zip_at(file, locator.number<uint64_t>("zip64 end"), name);
    zip_mark(wide, kZip64End, name);
    wide.bytes(28, "zip64 end");
    count = wide.number<uint64_t>("zip64 entries");
    wide.bytes(8, "zip64 end");
    directory = wide.number<uint64_t>("zip64 directory");
  }
  if (count > 1000) fail(name + ": arrays", "at most 1000", std::to_string(count));
  std::map<std::string, NpyArray> out;
  ByteCursor in = zip_at(file, directory, name);
  uint64_t total = 0;
  for (uint64_t i = 0; i < count; ++i) {
    zip_mark(in, kZipEntry, name);
    in.bytes(4, "zip entry");
    const auto flags = in.number<uint16_t>("zip flags"), method = in.number<uint16_t>("zip method");
    in.bytes(4, "zip time");
    const auto crc = in.number<uint32_t>("zip crc");
    uint64_t packed = in.number<uint32_t>("zip size"), size = in.number<uint32_t>("zip size");
    const auto name_length = in.number<uint16_t>("zip name"), extra_length = in.number<uint16_t>("zip extra"),
               comment = in.number<uint16_t>("zip comment");
    in.bytes(8, "zip entry");
    uint64_t offset = in.number<uint32_t>("zip offset");
    const auto label = in.bytes(name_length, "zip name");
    std::string entry(reinterpret_cast<const char*>(label.data()), label.size());
    const std::string where = name + ": array '" + shown(entry) + "'";
    ByteCursor extra(in.bytes(extra_length, "zip extra"), where);
    while (extra.left() >= 4) {
      const auto kind = extra.number<uint16_t>("zip extra"), length = extra.number<uint16_t>("zip extra");
      ByteCursor wide(extra.bytes(length, "zip extra"), where);
      if (kind != 1) continue;
      for (uint64_t* value : {&size, &packed, &offset})
        if (*value == 0xFFFFFFFFu) *value = wide.number<uint64_t>("zip64 size");
    }
    in.bytes(comment, "zip comment");
    if (flags & 1) fail(where, "no encryption", "some");
    if (method != 0) fail(where, "stored as it is", "compressed", "write it with numpy.savez, not savez_compressed");
    if (packed != size) fail(where + ": sizes", "equal ones, as it is stored", str(packed, " and ", size));
    ByteCursor local = zip_at(file, offset, where);
    zip_mark(local, kZipLocal, where);
    local.bytes(22, "zip header");
    const auto local_name = local.number<uint16_t>("zip name"), local_extra = local.number<uint16_t>("zip extra");
    local.bytes(uint64_t{local_name} + local_extra, "zip header");
    const auto content = local.bytes(size, "data");
    // Entries that lie over each other would multiply what is read.
    if (size > file.size() || (total += size) > file.size()) fail(where, "arrays no larger than the file", str(total, " bytes"));
    if (zip_crc(content) != crc) fail(where + ": CRC-32", std::to_string(crc), std::to_string(zip_crc(content)), "the file is damaged");
    if (!entry.ends_with(".npy")) fail(where, "a name that ends in .npy", "another");
    entry.resize(entry.size() - 4);
    if (!out.emplace(entry, parse_npy(content, where)).second) fail(where, "arrays with different names", "one twice");
  }
  return out;
}

}  // namespace attar
