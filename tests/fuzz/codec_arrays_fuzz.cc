// A shard's arrays, as the shard reader gives them: any names, types and shapes, with as many bytes as they say.
// Input: codec, vocabulary, samples or k, rows; then for each array name, dtype, rank, sizes (two bytes each) and its bytes.
#include <cstring>

#include "formats/cursor.h"
#include "fuzz.h"
#include "teacher/codec.h"

using namespace attar;

namespace {

constexpr const char* kNames[] = {"row_begin", "entropy", "label_log_prob", "top_id", "distinct", "ids",
                                  "counts",    "entries", "log_probs",      "tail",   "other"};
struct ItemType {
  const char* name;
  int64_t bytes;
};
constexpr ItemType kTypes[] = {{"u8", 1}, {"u16", 2}, {"i32", 4}, {"i64", 8}, {"f16", 2}, {"f32", 4}};
constexpr int64_t kVocabularies[] = {1, 5, 300, 65536, 65537, 100000, 1 << 24, 1 << 30};

}  // namespace

ATTAR_FUZZ_TARGET {
  return fuzz_input(size, 64, [&] {
    ByteCursor in({data, size}, "arrays");
    CacheIdentity identity;
    const auto byte = [&] { return in.number<uint8_t>("a byte"); };
    identity.codec.kind = std::array{"sampled", "top_k", "full"}[byte() % 3];
    identity.vocab = kVocabularies[byte() % std::size(kVocabularies)];
    identity.codec.samples = identity.codec.k = byte();
    const int64_t rows = byte();
    std::map<std::string, ShardArray> arrays;
    while (in.left() > 0) {
      const char* name = kNames[byte() % std::size(kNames)];
      const ItemType& type = kTypes[byte() % std::size(kTypes)];
      ShardArray array{type.name, {}, {}};
      int64_t bytes = type.bytes;
      for (int rank = byte() % 4; rank > 0; --rank) {
        array.shape.push_back(in.number<uint16_t>("a size"));
        bytes *= array.shape.back();
      }
      const auto values = in.bytes(static_cast<uint64_t>(bytes), "values");
      array.bytes.assign(values.begin(), values.end());
      arrays[name] = std::move(array);
    }
    const TeacherCodec codec(identity);
    const EncodedRows encoded = codec.unpack(arrays, rows, "arrays");
    std::vector<int32_t> ids;
    std::vector<float> probs;
    for (int64_t p = 0; !codec.full() && p < encoded.positions(); ++p) {
      ids.assign(static_cast<size_t>(codec.width(encoded, p)), -1);
      probs.assign(ids.size(), -1);
      const float tail = codec.decode(encoded, p, ids.data(), probs.data());
      expect(!(tail < 0), "a negative tail");
      for (size_t i = 0; i < ids.size(); ++i) {
        expect(ids[i] >= 0 && ids[i] < codec.vocab(), "an id outside the vocabulary");
        expect(probs[i] >= 0 && probs[i] <= 1 && tail <= 1, "no probability");
      }
    }
    for (const auto& [name, array] : codec.pack(encoded))
      expect(arrays.at(name).shape == array.shape && arrays.at(name).bytes == array.bytes, "other arrays after packing again");
  });
}
