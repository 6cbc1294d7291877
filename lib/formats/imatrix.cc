#include "formats/imatrix.h"

#include <cmath>
#include <cstring>

#include "base/check.h"
#include "formats/gguf.h"

namespace attar {
namespace {

constexpr int32_t kLongestName = 1 << 12;

void check_means(const std::vector<float>& means, const std::string& where) {
  if (means.empty()) fail(where, "at least one value", "none");
  for (size_t i = 0; i < means.size(); ++i)
    if (!(means[i] >= 0) || !std::isfinite(means[i])) fail(where, "mean squares: finite, not negative", str(means[i], " at ", i));
}

std::vector<float> imatrix_floats(const GgufFile& file, const GgufTensor& tensor) {
  if (tensor.type != GgmlType::f32) fail(file.path().string() + ": tensor " + tensor.name, "F32", ggml_type_info(tensor.type).name);
  std::vector<float> values(static_cast<size_t>(tensor.elements()));
  const auto bytes = file.bytes(tensor);
  std::memcpy(values.data(), bytes.data(), bytes.size());
  return values;
}

Imatrix imatrix_of_gguf(const fs::path& path) {
  const GgufFile file(path);
  if (file.metadata().text("general.type", "") != "imatrix")
    fail("imatrix " + path.string(), "general.type imatrix", file.metadata().text("general.type", "nothing"));
  Imatrix result;
  result.chunks = file.metadata().integer("imatrix.chunk_count", 0);
  result.chunk_size = file.metadata().integer("imatrix.chunk_size", 0);
  if (const GgufValue* sets = file.metadata().find("imatrix.datasets"))
    if (const auto* names = std::get_if<std::vector<std::string>>(sets); names && !names->empty()) result.dataset = names->front();
  const std::string suffix = ".in_sum2";
  for (const GgufTensor& tensor : file.tensors()) {
    if (!tensor.name.ends_with(suffix)) continue;
    const std::string name = tensor.name.substr(0, tensor.name.size() - suffix.size()), where = "imatrix " + path.string() + ": " + name;
    const GgufTensor* counted = file.find(name + ".counts");
    if (!counted) fail(where, "the tensor " + name + ".counts", "nothing");
    std::vector<float> sums = imatrix_floats(file, tensor);
    const std::vector<float> counts = imatrix_floats(file, *counted);
    if (counts.empty() || sums.size() % counts.size() != 0) fail(where, "sums for each count", str(sums.size(), " sums, ", counts.size(), " counts"));
    const size_t width = sums.size() / counts.size();
    for (size_t i = 0; i < sums.size(); ++i) {
      const float count = counts[i / width];
      sums[i] = count > 0 ? sums[i] / count : 1.0f;  // no input seen: every column alike
    }
    check_means(sums, where);
    result.means[name] = std::move(sums);
  }
  return result;
}

/// The older form: a count, then per tensor its name, a number of calls and the sums.
Imatrix imatrix_of_binary(const fs::path& path, std::span<const uint8_t> bytes) {
  size_t at = 0;
  const std::string what = "imatrix " + path.string();
  const auto take = [&](void* to, size_t size) {
    if (size > bytes.size() - at) fail(what, "llama.cpp's importance matrix (GGUF or its older form)", str("an end at byte ", bytes.size()));
    if (size > 0) std::memcpy(to, bytes.data() + at, size);
    at += size;
  };
  const auto number = [&] {
    int32_t value = 0;
    take(&value, sizeof value);
    return value;
  };
  Imatrix result;
  const int32_t entries = number();
  if (entries < 1) fail(what, "a positive number of tensors", std::to_string(entries));
  for (int32_t i = 0; i < entries; ++i) {
    const int32_t length = number();
    if (length < 1 || length > kLongestName) fail(what, str("a name of 1 to ", kLongestName, " bytes"), std::to_string(length));
    std::string name(static_cast<size_t>(length), '\0');
    take(name.data(), name.size());
    const int32_t calls = number(), count = number();
    if (count < 1 || static_cast<size_t>(count) > (bytes.size() - at) / sizeof(float)) fail(what + ": " + name, "values inside the file",
        std::to_string(count));
    std::vector<float> means(static_cast<size_t>(count));
    take(means.data(), means.size() * sizeof(float));
    if (calls > 0)
      for (float& mean : means) mean /= static_cast<float>(calls);
    check_means(means, what + ": " + name);
    result.means[name] = std::move(means);
  }
  if (at < bytes.size()) {
    result.chunks = number();
    const int32_t length = number();
    if (length < 0 || length > kLongestName) fail(what, "a data set's name", str(length, " bytes"));
    result.dataset.resize(static_cast<size_t>(length));
    take(result.dataset.data(), result.dataset.size());
  }
  return result;
}

}  // namespace

Imatrix read_imatrix(const fs::path& file) {
  const MappedFile mapped(file);
  const auto bytes = mapped.bytes();
  Imatrix result = bytes.size() >= 4 && std::memcmp(bytes.data(), "GGUF", 4) == 0 ? imatrix_of_gguf(file) : imatrix_of_binary(file, bytes);
  if (result.empty()) fail("imatrix " + file.string(), "sums of at least one tensor", "none");
  result.file = file.filename().string();
  return result;
}

void write_imatrix(const Imatrix& imatrix, const fs::path& file) {
  const std::string what = "imatrix " + file.string();
  if (imatrix.empty() || imatrix.tokens < 1) fail(what, "means of at least one tensor, over a token or more", "none");
  GgufMetadata metadata;
  metadata.set("general.type", std::string("imatrix"));
  metadata.set("imatrix.datasets", std::vector<std::string>{imatrix.dataset});
  metadata.set("imatrix.chunk_count", static_cast<uint32_t>(imatrix.chunks));
  metadata.set("imatrix.chunk_size", static_cast<uint32_t>(imatrix.chunk_size));
  std::vector<GgufWriter::Declared> declared;
  for (const auto& [name, means] : imatrix.means) {
    check_means(means, what + ": " + name);
    declared.push_back({name + ".in_sum2", GgmlType::f32, {1, static_cast<int64_t>(means.size())}});
    declared.push_back({name + ".counts", GgmlType::f32, {1, 1}});
  }
  GgufWriter writer(file, metadata, declared);
  const auto count = static_cast<float>(imatrix.tokens);
  for (const auto& [name, means] : imatrix.means) {
    std::vector<float> sums(means.size());
    for (size_t i = 0; i < means.size(); ++i) sums[i] = static_cast<float>(double(means[i]) * double(imatrix.tokens));
    writer.write(sums.data(), sums.size() * sizeof(float));
    writer.write(&count, sizeof count);
  }
  writer.commit();
}

}  // namespace attar
