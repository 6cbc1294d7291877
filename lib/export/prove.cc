#include "export/prove.h"

#include <cmath>
#include <cstring>
#include <set>

#include "base/check.h"
#include "blocks/ggml_blocks.h"
#include "export/export.h"
#include "export/gguf_rows.h"
#include "export/pieces.h"
#include "formats/gguf.h"
#include "blocks/ggml_blocks.h"

namespace attar {
namespace {

constexpr size_t kMostFaults = 8;

/// Where row `row` of a parameter stands among its rows in the file: neighbours (2i, 2i+1) hold what stood half a head apart.
int64_t row_in_file(int64_t row, int64_t rows, int64_t heads) {
  if (heads == 0) return row;
  const int64_t head = rows / heads, inside = row % head, half = head / 2;
  return row - inside + (inside < half ? 2 * inside : 2 * (inside - half) + 1);
}

/// Rows of one parameter that are compared together, and where they should stand.
struct ProvenPiece {
  const GgufMapping* mapping;
  const GgufTensor* tensor;
  const uint8_t* from;                   ///< the parameter's first row in the file
  const std::string* name;
  const std::vector<float>* importance;
  int64_t begin, count;
};

/// The piece as the file should hold it, in the parameter's own order.
std::vector<uint8_t> expected_bytes(const StoredModel& model, const ProvenPiece& piece) {
  const GgmlType type = piece.tensor->type;
  const StoredTensor* stored = model.code(*piece.name, type);
  const StoredTensor& weight = model.weight(*piece.name);
  if (!stored && !piece.mapping->add_one && !weight.plus_one && weight.type == type) stored = &weight;
  std::vector<uint8_t> bytes(static_cast<size_t>(piece.count * ggml_row_bytes(type, weight.columns()))), room;
  if (stored) {
    std::memcpy(bytes.data(), stored->rows_together(piece.begin, piece.count, room), bytes.size());
    return bytes;
  }
  std::vector<float> values(static_cast<size_t>(piece.count * weight.columns()));
  weight.values(piece.begin, piece.count, values.data());
  if (piece.mapping->add_one)
    for (float& value : values) value += 1;
  quantize_rows(type, values.data(), bytes.data(), piece.count, weight.columns(), piece.importance ? piece.importance->data() : nullptr);
  return bytes;
}

/// Compares a piece with the file's rows.
Proof prove_piece(const StoredModel& model, const ProvenPiece& piece) {
  const StoredTensor& weight = model.weight(*piece.name);
  const GgmlType type = piece.tensor->type;
  const int64_t rows = weight.rows(), columns = weight.columns(), width = ggml_row_bytes(type, columns), count = piece.count;
  std::vector<uint8_t> gathered;
  const uint8_t* got = piece.from + piece.begin * width;
  if (piece.mapping->permute_heads > 0) {
    gathered.resize(static_cast<size_t>(count * width));
    for (int64_t row = 0; row < count; ++row)
      std::memcpy(gathered.data() + row * width, piece.from + row_in_file(piece.begin + row, rows, piece.mapping->permute_heads) * width,
                  static_cast<size_t>(width));
    got = gathered.data();
  }
  Proof proof;
  const std::vector<uint8_t> expected = expected_bytes(model, piece);
  if (std::memcmp(expected.data(), got, expected.size()) == 0) {
    proof.elements = count * columns;
    return proof;
  }
  // Other bytes may still be the same numbers.
  std::vector<float> wanted(static_cast<size_t>(count * columns)), found(wanted.size());
  const auto numbers = [&](const uint8_t* bytes, std::vector<float>& out) {
    const StoredTensor rows_of{type, {count, columns}, {bytes, expected.size()}};
    rows_of.values(0, count, out.data());
  };
  numbers(expected.data(), wanted);
  numbers(got, found);
  compare_values(*piece.name, wanted.data(), found.data(), count * columns, columns, piece.begin, proof);
  return proof;
}

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

Proof prove_gguf(const fs::path& path, const StoredModel& model, const Imatrix& imatrix) {
  const GgufFile file(path);
  Proof proof;
  std::set<std::string> used;
  const std::vector<GgufMapping> mappings = gguf_mapping(model.spec);
  std::vector<ProvenPiece> pieces;
  for (const GgufMapping& mapping : mappings) {
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
      const int64_t all = model.weight(source).rows(), step = rows.rows_at_a_time();
      for (int64_t begin = 0; begin < all; begin += step)
        pieces.push_back({&mapping, tensor, from, &source, importance, begin, std::min(step, all - begin)});
      from += all * ggml_row_bytes(tensor->type, rows.columns());
    }
  }
  std::vector<Proof> proofs(pieces.size());
  for_all_pieces(static_cast<int64_t>(pieces.size()), [&](int64_t i) {
    const auto at = static_cast<size_t>(i);
    proofs[at] = prove_piece(model, pieces[at]);
    // The last piece of a tensor: its pages are not needed any more.
    if (at + 1 == pieces.size() || pieces[at + 1].tensor != pieces[at].tensor) file.release(*pieces[at].tensor);
  });
  // One fault a parameter: the first.
  const std::string* faulty = nullptr;
  for (size_t i = 0; i < pieces.size(); ++i) {
    proof.elements += proofs[i].elements;
    if (proofs[i].faults.empty() || faulty == pieces[i].name || proof.faults.size() >= kMostFaults) continue;
    faulty = pieces[i].name;
    proof.faults.push_back(proofs[i].faults.front());
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

std::vector<Fault> compare_with_model(const fs::path& path, const StoredModel& model) {
  std::error_code ignored;
  if (path.extension() == ".gguf") return prove_gguf(path, model, imatrix_of(GgufFile(path))).faults;
  if (path.extension() == ".onnx") return prove_onnx(path, model).faults;
  if (fs::is_regular_file(path / "model.onnx", ignored)) return prove_onnx(path / "model.onnx", model).faults;
  if (fs::is_directory(path, ignored)) return prove_hf(path, model).faults;
  fail(path.string(), "a .gguf file, an ONNX folder or a Hugging Face folder", fs::exists(path, ignored) ? "another file" : "nothing");
}

}  // namespace attar
