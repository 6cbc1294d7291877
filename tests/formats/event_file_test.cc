#include "formats/event_file.h"

#include <gtest/gtest.h>

#include <cstring>

namespace attar {
namespace {

std::string hex(const std::string& bytes) {
  std::string out;
  for (const char c : bytes) {
    char two[3];
    snprintf(two, sizeof two, "%02x", static_cast<unsigned char>(c));
    out += two;
  }
  return out;
}

TEST(EventFile, Crc32cIsThatOfItsStandard) {
  // RFC 3720, B.4, and the usual check value.
  const auto of = [](const std::string& text) { return crc32c({reinterpret_cast<const uint8_t*>(text.data()), text.size()}); };
  EXPECT_EQ(of("123456789"), 0xE3069283u);
  EXPECT_EQ(of(std::string(32, '\0')), 0x8A9136AAu);
  EXPECT_EQ(of(std::string(32, '\xff')), 0x62A8AB43u);
  EXPECT_EQ(of(""), 0u);
}

TEST(EventFile, RecordIsLengthSumContentSum) {
  // Event {wall_time: 1.5, step: 7, summary {value {tag: "loss", simple_value: 0.25}}}, written out by hand.
  const std::string content =
      hex(std::string("\x09") + std::string("\0\0\0\0\0\0\xf8\x3f", 8)) + "1007" + "2a0d" + "0a0b" + "0a046c6f7373" + "150000803e";
  const std::string record = event_record(1.5, 7, {{"loss", 0.25}});
  ASSERT_EQ(record.size(), 12u + content.size() / 2 + 4);
  EXPECT_EQ(hex(record.substr(0, 8)), "1a00000000000000");
  EXPECT_EQ(hex(record.substr(12, content.size() / 2)), content);
  const auto masked = [](const std::string& bytes) {
    const uint32_t crc = crc32c({reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()});
    return static_cast<uint32_t>((crc >> 15 | crc << 17) + 0xA282EAD8u);
  };
  uint32_t of_length = 0, of_content = 0;
  std::memcpy(&of_length, record.data() + 8, 4);
  std::memcpy(&of_content, record.data() + record.size() - 4, 4);
  EXPECT_EQ(of_length, masked(record.substr(0, 8)));
  EXPECT_EQ(of_content, masked(record.substr(12, content.size() / 2)));
  EXPECT_NE(event_file_head(1.5).find("brain.Event:2"), std::string::npos);
}

}  // namespace
}  // namespace attar
