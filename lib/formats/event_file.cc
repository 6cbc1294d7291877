#include "formats/event_file.h"

#include <array>
#include <bit>
#include <protozero/pbf_writer.hpp>

namespace attar {
namespace {

static_assert(std::endian::native == std::endian::little);

// Numbers of the messages' fields.
constexpr protozero::pbf_tag_type kEventWallTime = 1, kEventStep = 2, kEventFileVersion = 3, kEventSummary = 5;
constexpr protozero::pbf_tag_type kSummaryValue = 1, kValueTag = 1, kValueSimple = 2;

constexpr std::array<uint32_t, 256> crc32c_table() {
  std::array<uint32_t, 256> table{};
  for (uint32_t i = 0; i < 256; ++i) {
    uint32_t value = i;
    for (int bit = 0; bit < 8; ++bit) value = value >> 1 ^ (value & 1 ? 0x82F63B78u : 0);
    table[i] = value;
  }
  return table;
}

/// A checksum of bytes that hold checksums would be weak: TFRecords store it turned and shifted.
uint32_t masked_crc(std::string_view bytes) {
  const uint32_t crc = crc32c({reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()});
  return std::rotr(crc, 15) + 0xA282EAD8u;
}

template <class T>
std::string number_bytes(T value) {
  return {reinterpret_cast<const char*>(&value), sizeof value};
}

std::string tf_record(const std::string& content) {
  const std::string length = number_bytes<uint64_t>(content.size());
  return length + number_bytes(masked_crc(length)) + content + number_bytes(masked_crc(content));
}

}  // namespace

uint32_t crc32c(std::span<const uint8_t> bytes) {
  static constexpr std::array<uint32_t, 256> kTable = crc32c_table();
  uint32_t value = ~0u;
  for (const uint8_t byte : bytes) value = kTable[(value ^ byte) & 0xFF] ^ value >> 8;
  return ~value;
}

std::string event_file_head(double wall_time) {
  std::string event;
  protozero::pbf_writer writer(event);
  writer.add_double(kEventWallTime, wall_time);
  writer.add_string(kEventFileVersion, "brain.Event:2");
  return tf_record(event);
}

std::string event_record(double wall_time, int64_t step, const std::vector<std::pair<std::string, double>>& scalars) {
  std::string summary, event;
  protozero::pbf_writer values(summary);
  for (const auto& [tag, number] : scalars) {
    std::string value;
    protozero::pbf_writer fields(value);
    fields.add_string(kValueTag, tag);
    fields.add_float(kValueSimple, static_cast<float>(number));
    values.add_message(kSummaryValue, value);
  }
  protozero::pbf_writer writer(event);
  writer.add_double(kEventWallTime, wall_time);
  writer.add_int64(kEventStep, step);
  writer.add_message(kEventSummary, summary);
  return tf_record(event);
}

}  // namespace attar
