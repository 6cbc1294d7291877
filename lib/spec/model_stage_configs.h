#pragma once
// Stages that make models smaller: tokenizer, distillation, capture, pruning.
#include "spec/data_config.h"
#include "spec/train_config.h"

namespace attar {

struct TrainTokenizerConfig {
  std::string data;
  int64_t vocab_size = 1024;
  std::string model = "bpe";
  template <class Visitor> void fields(Visitor&& field) {
    field("data", data, "text to learn from: file or folder; empty: the task's training rows");
    field("vocab_size", vocab_size, "number of tokens, 259 (bytes and specials) at least");
    field("model", model, "bpe (every reader agrees on its ids) or unigram");
  }
};

struct DistillConfig {
  std::string model;
  std::string teacher, tokens;
  DataConfig data;
  LossConfig loss;
  TrainConfig train;
  template <class Visitor> void fields(Visitor&& field) {
    field("model", model, "student: configs/models/*.yaml (from nothing), a stage, or a checkpoint");
    field("teacher", teacher, "a stage, a checkpoint or a cache of its logits; empty: plain training");
    field("tokens", tokens, "tokenizer: a stage or a path; empty: the teacher's or the model's own");
    field("data", data, "text to learn from");
    field("loss", loss, "terms and weights");
    field("train", train, "optimizer and schedule");
  }
};

struct CodecConfig {
  std::string kind = "sampled";
  int64_t samples = 50, k = 50;
  template <class Visitor> void fields(Visitor&& field) {
    field("kind", kind, "sampled (draws from the teacher, unbiased), top_k (with the tail's mass) or full (fp16)");
    field("samples", samples, "sampled: draws a token");
    field("k", k, "top_k: ids kept a token");
  }
};

struct CaptureConfig {
  std::string teacher, tokens;
  DataConfig data;
  CodecConfig codec;
  double temperature = 1.0;
  int64_t batch = 32, shard_rows = 512;
  template <class Visitor> void fields(Visitor&& field) {
    field("teacher", teacher, "a stage or a checkpoint");
    field("tokens", tokens, "tokenizer: a stage or a path; empty: the teacher's own");
    field("data", data, "text to run over; must be the student's");
    field("codec", codec, "what is kept of each distribution");
    field("temperature", temperature, "softening of the teacher's distribution before it is kept");
    field("batch", batch, "rows a forward pass");
    field("shard_rows", shard_rows, "rows a shard: what a killed capture loses at most");
  }
};

struct PruneConfig {
  std::string model;
  double ffn = 1.0;
  int64_t parameters = 0;
  std::string criterion = "activation";
  DataConfig data;
  int64_t calibration_rows = 512;
  int64_t multiple = 32;
  template <class Visitor> void fields(Visitor&& field) {
    field("model", model, "a stage or a checkpoint");
    field("ffn", ffn, "share of FFN channels to keep in every layer");
    field("parameters", parameters, "instead of ffn: largest number of parameters of the result; 0: not used");
    field("criterion", criterion, "activation (mean over positions, L2 over rows), magnitude or random");
    field("data", data, "calibration text");
    field("calibration_rows", calibration_rows, "rows of it");
    field("multiple", multiple, "widths are rounded to multiples of this, so that quantized blocks fit");
  }
};

}  // namespace attar
