#pragma once
#include <cstdint>
#include <limits>
#include <optional>
#include <vector>

#include "formats/cursor.h"
#include "formats/onnx.h"

/// Field numbers of onnx.proto (onnx 1.23) that attar writes and reads.
namespace attar::onnx_field {

enum Model : uint32_t { kIrVersion = 1, kProducer = 2, kProducerVersion = 3, kGraph = 7, kOpsetImport = 8, kModelMetadata = 14 };
enum Opset : uint32_t { kOpsetDomain = 1, kOpsetVersion = 2 };
enum Entry : uint32_t { kEntryKey = 1, kEntryValue = 2 };
enum Graph : uint32_t { kNode = 1, kGraphName = 2, kInitializer = 5, kGraphInput = 11, kGraphOutput = 12, kSparseInitializer = 15 };
enum Node : uint32_t { kNodeInput = 1, kNodeOutput = 2, kNodeName = 3, kNodeOp = 4, kNodeAttribute = 5, kNodeDomain = 7 };
enum Attribute : uint32_t {
  kAttributeName = 1, kAttributeFloat = 2, kAttributeInt = 3, kAttributeString = 4, kAttributeFloats = 7, kAttributeInts = 8, kAttributeType = 20,
};
enum AttributeKind : int32_t { kIsFloat = 1, kIsInt = 2, kIsString = 3, kIsFloats = 6, kIsInts = 7 };
enum Tensor : uint32_t { kDims = 1, kDataType = 2, kTensorName = 8, kRawData = 9, kExternalData = 13, kDataLocation = 14 };
enum Value : uint32_t { kValueName = 1, kValueType = 2 };
enum Type : uint32_t { kTensorType = 1 };
enum TensorType : uint32_t { kElementType = 1, kShape = 2 };
enum Shape : uint32_t { kDim = 1 };
enum Dimension : uint32_t { kDimValue = 1, kDimParam = 2 };

/// Bits of one element, or nothing for types that attar has no use for.
inline std::optional<uint64_t> element_bits(int32_t type) {
  switch (static_cast<OnnxType>(type)) {
    case OnnxType::u4:
    case OnnxType::i4: return 4;
    case OnnxType::u8:
    case OnnxType::i8:
    case OnnxType::boolean: return 8;
    case OnnxType::f16:
    case OnnxType::bf16: return 16;
    case OnnxType::f32:
    case OnnxType::i32: return 32;
    case OnnxType::i64:
    case OnnxType::f64: return 64;
  }
  return std::nullopt;
}

/// Bytes of a tensor; nothing if the type is unknown or the sizes leave int64.
inline std::optional<uint64_t> tensor_bytes(int32_t type, const std::vector<int64_t>& shape) {
  const auto bits = element_bits(type);
  const auto count = shape_product(shape);
  if (!bits || !count || static_cast<uint64_t>(*count) > std::numeric_limits<uint64_t>::max() / 64) return std::nullopt;
  return (static_cast<uint64_t>(*count) * *bits + 7) / 8;
}

}  // namespace attar::onnx_field
