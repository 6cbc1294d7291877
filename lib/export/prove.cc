#include "export/prove.h"

#include <ATen/ATen.h>

#include <cmath>
#include <cstring>
#include <set>

#include "base/check.h"
#include "export/export.h"
#include "export/gguf_rows.h"
#include "formats/gguf.h"
#include "kernels/ggml_blocks.h"

namespace attar {
namespace {

constexpr size_t kMostFaults = 8;

/// Where row `row` of a parameter stands among its rows in the file: neighbours (2i, 2i+1) hold what stood half a head apart.
int64_t row_in_file(int64_t row, int64_t rows, int64_t heads) {
  if (heads == 0) return row;
  const int64_t head = rows / heads, inside = row % head, half = head / 2;
  return row - inside + (inside < half ? 2 * inside : 2 * (inside - half) + 1);
}

/// Rows [begin, begin + count) of a parameter as the file should hold them, in the parameter's own order.
at::Tensor expected_bytes(const Checkpoint& model, const std::string& name, GgmlType type, bool add_one, const std::vector<float>* importance,
                          int64_t begin, int64_t count) {
  const auto code = model.codes.find(name);
  if (code != model.codes.end() && code->second.type == type) return code->second.blocks.narrow(0, begin, count).to(at::kCPU).contiguous();
  const at::Tensor stored = model.weights.at(name).detach().narrow(0, begin, count).to(at::kCPU).contiguous();
  if (!add_one && plain_type(type) == stored.scalar_type()) return stored;
  at::Tensor values = stored.to(at::kFloat);
  if (add_one) values = values + 1;
  if (type == GgmlType::f32) return values;
  const int64_t columns = values.dim() == 2 ? values.size(1) : 1;
  at::Tensor bytes = at::empty({count, ggml_row_bytes(type, columns)}, at::kByte);
  quantize_rows(type, values.const_data_ptr<float>(), bytes.data_ptr<uint8_t>(), count, columns, importance ? importance->data() : nullptr);
  return bytes;
}

/// Compares one parameter with its rows in the file, which begin at `from`.
void prove_part(const Checkpoint& model, const std::string& name, const GgufMapping& mapping, const GgufTensor& tensor, const uint8_t* from,
                const std::vector<float>* importance, Proof& proof) {
  const at::Tensor& weight = model.weights.at(name);
  const int64_t rows = weight.size(0), columns = weight.dim() == 2 ? weight.size(1) : 1, width = ggml_row_bytes(tensor.type, columns);
  const int64_t step = std::max<int64_t>(1, (int64_t{1} << 22) / columns);
  std::vector<uint8_t> gathered;
  for (int64_t begin = 0; begin < rows; begin += step) {
    const int64_t count = std::min(step, rows - begin);
    const uint8_t* got = from + begin * width;
    if (mapping.permute_heads > 0) {
      gathered.resize(static_cast<size_t>(count * width));
      for (int64_t row = 0; row < count; ++row)
        std::memcpy(gathered.data() + row * width, from + row_in_file(begin + row, rows, mapping.permute_heads) * width, static_cast<size_t>(width));
      got = gathered.data();
    }
    const at::Tensor expected = expected_bytes(model, name, tensor.type, mapping.add_one, importance, begin, count);
    if (std::memcmp(expected.const_data_ptr(), got, static_cast<size_t>(count * width)) == 0) {
      proof.elements += count * columns;
      continue;
    }
    // Other bytes may still be the same numbers.
    std::vector<float> wanted(static_cast<size_t>(count * columns)), found(wanted.size());
    dequantize_rows(tensor.type, static_cast<const uint8_t*>(expected.const_data_ptr()), wanted.data(), count, columns);
    dequantize_rows(tensor.type, got, found.data(), count, columns);
    compare_values(name, wanted.data(), found.data(), count * columns, columns, begin, proof);
    if (proof.faults.size() >= kMostFaults) return;
  }
}

std::string shape_text(const std::vector<int64_t>& shape) { return attar::str(at::IntArrayRef(shape)); }

/// The importance matrix that a file says it was made with, if it still lies beside it.
Imatrix imatrix_of(const GgufFile& file) {
  const std::string name = file.metadata().text("quantize.imatrix.file", "");
  if (name.empty()) return {};
  const fs::path beside = file.path().parent_path() / fs::path(name).filename();
  std::error_code ignored;
  if (!fs::is_regular_file(beside, ignored))
    fail("importance matrix " + beside.string(), "to lie beside the file: its codes were chosen with it", "nothing");
  return read_imatrix(beside);
}

}  // namespace

void compare_values(const std::string& tensor, const float* expected, const float* got, int64_t count, int64_t columns, int64_t first_row,
    Proof& proof) {
  for (int64_t i = 0; i < count; ++i) {
    if (expected[i] == got[i] || (std::isnan(expected[i]) && std::isnan(got[i]))) continue;
    char wanted[32], found[32];
    std::snprintf(wanted, sizeof wanted, "%.9g", static_cast<double>(expected[i]));
    std::snprintf(found, sizeof found, "%.9g", static_cast<double>(got[i]));
    proof.faults.push_back({str("tensor ", tensor, " at [", first_row + i / columns, ", ", i % columns, "]"), wanted, found, ""});
    return;
  }
  proof.elements += count;
}

Proof prove_gguf(const fs::path& path, const Checkpoint& model, const Imatrix& imatrix) {
  const GgufFile file(path);
  Proof proof;
  std::set<std::string> used;
  for (const GgufMapping& mapping : gguf_mapping(model.spec)) {
    if (proof.faults.size() >= kMostFaults) return proof;
    used.insert(mapping.gguf);
    const GgufTensor* tensor = file.find(mapping.gguf);
    const GgufRows rows(model, mapping);
    if (!tensor || tensor->shape != rows.shape()) {
      proof.faults.push_back({"tensor " + mapping.gguf, "shape " + shape_text(rows.shape()),
          tensor ? shape_text(tensor->shape) : "no such tensor", ""});
      continue;
    }
    const auto found = imatrix.means.find(mapping.gguf);
    const std::vector<float>* importance =
        found != imatrix.means.end() && static_cast<int64_t>(found->second.size()) == rows.columns() &&
            uses_importance(tensor->type) ? &found->second : nullptr;
    const uint8_t* from = file.bytes(*tensor).data();
    for (const std::string& source : mapping.sources) {
      prove_part(model, source, mapping, *tensor, from, importance, proof);
      from += model.weights.at(source).size(0) * ggml_row_bytes(tensor->type, rows.columns());
    }
    file.release(*tensor);
  }
  for (const ComputedTensor& computed : gguf_rope_tensors(model.spec)) {
    used.insert(computed.name);
    const GgufTensor* tensor = file.find(computed.name);
    const auto count = static_cast<int64_t>(computed.values.size());
    if (!tensor || tensor->type != GgmlType::f32 || tensor->elements() != count) {
      proof.faults.push_back({"tensor " + computed.name, str(count, " numbers of F32"), tensor ? shape_text(tensor->shape) : "no such tensor", ""});
      continue;
    }
    std::vector<float> values(computed.values.size());
    std::memcpy(values.data(), file.bytes(*tensor).data(), values.size() * sizeof(float));
    compare_values(computed.name, computed.values.data(), values.data(), count, count, 0, proof);
  }
  for (const GgufTensor& tensor : file.tensors())
    if (!used.count(tensor.name) && proof.faults.size() < kMostFaults)
      proof.faults.push_back({"tensor " + tensor.name, "no such tensor in this model", shape_text(tensor.shape), ""});
  return proof;
}

void demand_proven(const Proof& proof, const fs::path& written) {
  if (proof.faults.empty()) return;
  std::error_code ignored;
  fs::remove_all(written, ignored);
  std::vector<Fault> faults = proof.faults;
  for (Fault& fault : faults) fault.hint = "the file read back does not equal the model and was not kept";
  throw Error(std::move(faults));
}

std::vector<Fault> compare_with_model(const fs::path& path, const Checkpoint& model) {
  std::error_code ignored;
  if (path.extension() == ".gguf") return prove_gguf(path, model, imatrix_of(GgufFile(path))).faults;
  if (path.extension() == ".onnx") return prove_onnx(path, model).faults;
  if (fs::is_regular_file(path / "model.onnx", ignored)) return prove_onnx(path / "model.onnx", model).faults;
  if (fs::is_directory(path, ignored)) return prove_hf(path, model).faults;
  fail(path.string(), "a .gguf file, an ONNX folder or a Hugging Face folder", fs::exists(path, ignored) ? "another file" : "nothing");
}

}  // namespace attar
