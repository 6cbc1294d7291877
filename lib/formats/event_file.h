#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace attar {

/// TensorBoard's event file in bytes: TFRecords (length, masked CRC32C, content, masked CRC32C; little-endian) that each hold one Event message.
/// Source: tensorflow/core/lib/io/record_writer.h and tensorflow/core/util/event.proto, summary.proto, as fields and numbers.

/// Name that TensorBoard looks for; one file a folder.
inline constexpr const char* kEventFileName = "events.out.tfevents.attar";

/// CRC-32 with Castagnoli's polynomial, as iSCSI has it.
uint32_t crc32c(std::span<const uint8_t> bytes);

/// The record that a file begins with. `wall_time`: seconds since 1970.
std::string event_file_head(double wall_time);

/// One record with the numbers of a step; they become float32, as TensorBoard keeps them.
std::string event_record(double wall_time, int64_t step, const std::vector<std::pair<std::string, double>>& scalars);

}  // namespace attar
