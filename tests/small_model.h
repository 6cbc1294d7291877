#pragma once
// Small decoders and rows of random ids, for tests of rooms that compute with them.
#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>

#include "data/rows.h"
#include "model/checkpoint.h"
#include "model/decoder.h"

namespace attar {

/// Llama's shape with layers alike.
inline ModelSpec small_shape(int64_t vocab, int64_t hidden, int64_t head_size, int64_t layers, LayerSpec layer, int64_t context = 32) {
  ModelSpec spec;
  spec.vocab = vocab, spec.hidden = hidden, spec.head_size = head_size, spec.context = context;
  spec.layers.assign(static_cast<size_t>(layers), layer);
  return spec;
}

/// Random weights, so large that what is done to them shows in the outputs.
inline Checkpoint small_model(const ModelSpec& spec, uint64_t seed, double matrices = 1, double vectors = 1) {
  Checkpoint model;
  model.spec = spec;
  model.weights = Decoder::random(spec, seed).weights();
  for (auto& [name, tensor] : model.weights) tensor = tensor * (tensor.dim() == 2 ? matrices : vectors);
  return model;
}

/// Rows of ids from 1 to vocab - 1, all of them learned from.
inline TokenRows random_token_rows(int64_t rows, int64_t seq, int64_t vocab, uint64_t seed) {
  TokenRows out;
  at::Generator generator = at::make_generator<at::CPUGeneratorImpl>(seed);
  out.ids = at::randint(1, vocab, {rows, seq}, generator, at::kInt);
  out.learn = at::ones({rows, seq}, at::kByte);
  out.segments = at::zeros({rows, seq}, at::kInt);
  out.lengths = at::full({rows}, seq, at::kInt);
  out.fingerprint = "rows";
  return out;
}

/// The row has `length` tokens; the rest becomes padding.
inline void cut_row(TokenRows& rows, int64_t row, int64_t length) {
  rows.segments[row].slice(0, length).fill_(-1);
  rows.ids[row].slice(0, length).zero_();
  rows.learn[row].slice(0, length).zero_();
  rows.lengths[row] = length;
}

}  // namespace attar
