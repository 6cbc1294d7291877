#pragma once
#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <string_view>
#include <vector>

namespace attar {

/// What a thread remembers of words that tokenizers have met: one slot per hash, the latest word wins.
class WordCache {
 public:
  /// A number for each user of the cache, so that they never meet each other's words.
  static uint64_t new_serial() {
    static std::atomic<uint64_t> serials{0};
    return ++serials;
  }

  /// Appends the ids of `word`, from the cache or from `encode(word, out)`.
  template <class Encode>
  static void encode(uint64_t serial, std::string_view word, std::vector<int32_t>& out, Encode&& encode) {
    if (word.size() > kMaxWord) return encode(word, out);
    static thread_local std::vector<Slot> slots(kSlots);
    Slot& slot = slots[hash(word, serial) & (kSlots - 1)];
    if (slot.serial == serial && slot.word_size == word.size() && std::memcmp(slot.word, word.data(), word.size()) == 0) {
      out.insert(out.end(), slot.ids, slot.ids + slot.id_count);
      return;
    }
    const size_t before = out.size();
    encode(word, out);
    const size_t count = out.size() - before;
    if (count > kMaxIds) return;
    slot.serial = serial;
    slot.word_size = static_cast<uint8_t>(word.size());
    slot.id_count = static_cast<uint8_t>(count);
    std::memcpy(slot.word, word.data(), word.size());
    std::copy(out.begin() + static_cast<int64_t>(before), out.end(), slot.ids);
  }

  static uint64_t mix(uint64_t value) {
    value ^= value >> 32;
    value *= 0x9E3779B97F4A7C15u;
    return value ^ value >> 29;
  }

 private:
  static constexpr size_t kMaxWord = 30, kMaxIds = 8, kSlots = 1 << 15;
  struct Slot {
    uint64_t serial = 0;
    uint8_t word_size = 0, id_count = 0;
    char word[kMaxWord];
    int32_t ids[kMaxIds];
  };
  static uint64_t hash(std::string_view word, uint64_t serial) {
    uint64_t value = (word.size() + serial * 64) * 0x9E3779B97F4A7C15u, chunk = 0;
    size_t at = 0;
    for (; at + 8 <= word.size(); at += 8) {
      std::memcpy(&chunk, word.data() + at, 8);
      value = mix(value ^ chunk);
    }
    chunk = 0;
    std::memcpy(&chunk, word.data() + at, word.size() - at);
    return mix(mix(value ^ chunk));
  }
};

}  // namespace attar
