#include "formats/sentencepiece_model.h"

#include <cmath>
#include <cstring>
#include <protozero/pbf_reader.hpp>
#include <protozero/pbf_writer.hpp>

#include "base/check.h"
#include "base/utf8.h"

namespace attar {
namespace {

// Field numbers of sentencepiece_model.proto.
enum SpModelField : uint32_t { kSpPieces = 1, kSpTrainer = 2, kSpNormalizer = 3 };
enum SpPieceField : uint32_t { kSpText = 1, kSpScore = 2, kSpType = 3 };
enum SpTrainerField : uint32_t { kSpModelType = 3, kSpVocabSize = 4, kSpByteFallback = 35, kSpUnk = 40, kSpBos = 41, kSpEos = 42, kSpPad = 43 };
enum SpNormalizerField : uint32_t { kSpNormName = 1, kSpCharsmap = 2, kSpDummyPrefix = 3, kSpExtraSpaces = 4, kSpEscapeSpaces = 5 };

SentencePieceModel::Piece parse_piece(protozero::data_view message, const std::string& name, size_t index) {
  SentencePieceModel::Piece piece;
  protozero::pbf_reader reader(message);
  while (reader.next()) {
    if (reader.tag_and_type() == protozero::tag_and_type(kSpText, protozero::pbf_wire_type::length_delimited)) {
      piece.text = reader.get_string();
    } else if (reader.tag_and_type() == protozero::tag_and_type(kSpScore, protozero::pbf_wire_type::fixed32)) {
      piece.score = reader.get_float();
    } else if (reader.tag_and_type() == protozero::tag_and_type(kSpType, protozero::pbf_wire_type::varint)) {
      const int32_t type = reader.get_enum();
      if (type < 1 || type > 6) fail(str(name, ": type of piece ", index), "1 to 6", str(type));
      piece.type = static_cast<SentencePieceModel::Type>(type);
    } else {
      reader.skip();
    }
  }
  if (piece.text.empty()) fail(str(name, ": piece ", index), "a text", "nothing");
  if (!is_utf8(piece.text)) fail(str(name, ": piece ", index), "text in UTF-8", "'" + one_line(piece.text.substr(0, 80)) + "'");
  if (!std::isfinite(piece.score)) fail(str(name, ": score of piece ", index), "a number", str(piece.score));
  return piece;
}

/// An int32 field that later ones of the same number replace.
int32_t int_of(protozero::pbf_reader& reader) { return static_cast<int32_t>(reader.get_int64()); }

void parse_trainer(SentencePieceModel& model, const std::string& name) {
  protozero::pbf_reader reader(model.trainer_spec);
  while (reader.next()) {
    if (reader.wire_type() != protozero::pbf_wire_type::varint) {
      reader.skip();
      continue;
    }
    switch (reader.tag()) {
      case kSpModelType: {
        const int32_t type = int_of(reader);
        if (type < 1 || type > 4) fail(name + ": model_type", "1 (unigram), 2 (bpe), 3 (word) or 4 (char)", str(type));
        model.algorithm = static_cast<SentencePieceModel::Algorithm>(type);
        break;
      }
      case kSpByteFallback: model.byte_fallback = reader.get_bool(); break;
      case kSpUnk: model.unk_id = int_of(reader); break;
      case kSpBos: model.bos_id = int_of(reader); break;
      case kSpEos: model.eos_id = int_of(reader); break;
      case kSpPad: model.pad_id = int_of(reader); break;
      default: reader.skip();
    }
  }
}

void parse_normalizer(SentencePieceModel& model) {
  protozero::pbf_reader reader(model.normalizer_spec);
  while (reader.next()) {
    if (reader.tag_and_type() == protozero::tag_and_type(kSpNormName, protozero::pbf_wire_type::length_delimited)) {
      model.normalizer_name = reader.get_string();
    } else if (reader.tag_and_type() == protozero::tag_and_type(kSpCharsmap, protozero::pbf_wire_type::length_delimited)) {
      model.has_charsmap = reader.get_view().size() > 0;
    } else if (reader.wire_type() == protozero::pbf_wire_type::varint && reader.tag() >= kSpDummyPrefix && reader.tag() <= kSpEscapeSpaces) {
      bool& flag = reader.tag() == kSpDummyPrefix  ? model.add_dummy_prefix
                   : reader.tag() == kSpExtraSpaces ? model.remove_extra_whitespaces
                                                    : model.escape_whitespaces;
      flag = reader.get_bool();
    } else {
      reader.skip();
    }
  }
}

/// The trainer's message with vocab_size replaced where it stands (or added at the end).
std::string with_vocab_size(const std::string& spec, int64_t size) {
  std::string out;
  bool done = false;
  protozero::pbf_reader reader(spec);
  const char* at = spec.data();
  while (reader.next()) {
    const bool is_size = reader.tag_and_type() == protozero::tag_and_type(kSpVocabSize, protozero::pbf_wire_type::varint);
    reader.skip();
    const char* end = reader.data().data();
    if (is_size) {
      if (!done) protozero::pbf_writer(out).add_int32(kSpVocabSize, static_cast<int32_t>(size));
      done = true;
    } else {
      out.append(at, end);
    }
    at = end;
  }
  if (!done) protozero::pbf_writer(out).add_int32(kSpVocabSize, static_cast<int32_t>(size));
  return out;
}

}  // namespace

SentencePieceModel parse_sentencepiece(std::string_view bytes, const std::string& name) {
  SentencePieceModel model;
  try {
    protozero::pbf_reader reader(bytes.data(), bytes.size());
    const char* at = bytes.data();
    while (reader.next()) {
      const bool message = reader.wire_type() == protozero::pbf_wire_type::length_delimited;
      if (message && reader.tag() == kSpPieces) {
        model.pieces.push_back(parse_piece(reader.get_view(), name, model.pieces.size()));
      } else if (message && reader.tag() == kSpTrainer) {
        // A message given twice is the two joined, by protobuf's rule.
        const protozero::data_view view = reader.get_view();
        model.trainer_spec.append(view.data(), view.size());
      } else if (message && reader.tag() == kSpNormalizer) {
        const protozero::data_view view = reader.get_view();
        model.normalizer_spec.append(view.data(), view.size());
      } else {
        reader.skip();
        model.rest.append(at, reader.data().data());
      }
      at = reader.data().data();
    }
    parse_trainer(model, name);
    parse_normalizer(model);
  } catch (const protozero::exception& error) {
    fail(name, "a SentencePiece model", str("a broken protobuf message (", error.what(), ")"), "the file may be cut short; fetch it again");
  }
  if (model.pieces.empty()) fail(name, "a SentencePiece model", "a message without pieces");
  const auto size = static_cast<int64_t>(model.pieces.size());
  for (const auto& [id, what] : {std::pair{model.unk_id, "unk_id"}, {model.bos_id, "bos_id"}, {model.eos_id, "eos_id"}, {model.pad_id, "pad_id"}})
    if (id >= size) fail(str(name, ": ", what), str("below the ", size, " pieces"), str(id));
  return model;
}

std::string write_sentencepiece(const SentencePieceModel& model) {
  std::string out;
  protozero::pbf_writer writer(out);
  for (const auto& piece : model.pieces) {
    protozero::pbf_writer message(writer, kSpPieces);
    message.add_string(kSpText, piece.text);
    message.add_float(kSpScore, piece.score);
    if (piece.type != SentencePieceModel::Type::normal) message.add_enum(kSpType, static_cast<int32_t>(piece.type));
  }
  writer.add_message(kSpTrainer, with_vocab_size(model.trainer_spec, static_cast<int64_t>(model.pieces.size())));
  writer.add_message(kSpNormalizer, model.normalizer_spec);
  out += model.rest;
  return out;
}

}  // namespace attar
