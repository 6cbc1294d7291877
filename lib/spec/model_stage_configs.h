#pragma once
// Stages that make models smaller: tokenizer, distillation, pruning.
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

/// What a student made of configs/models/*.yaml begins with.
struct InitConfig {
  std::string from;
  std::vector<int64_t> layers;
  int64_t every = 0;
  template <class Visitor> void fields(Visitor&& field) {
    field("from", from, "a stage or a checkpoint of the same widths, whose weights the student begins with; empty: random weights");
    field("layers", layers, "its layers, counted from 1, one for each of the student's");
    field("every", every, "instead: every so many-th layer; 0 and no layers: spread evenly");
  }
};

struct DistillConfig {
  std::string model;
  std::string teacher, tokens;
  DataConfig data;
  LossConfig loss;
  TrainConfig train;
  InitConfig init;
  LoraConfig lora;
  template <class Visitor> void fields(Visitor&& field) {
    field("model", model, "student: configs/models/*.yaml (from nothing), a stage, or a checkpoint");
    field("teacher", teacher, "a stage, a checkpoint or a cache of its logits; empty: plain training");
    field("tokens", tokens, "tokenizer: a stage or a path; empty: the teacher's or the model's own");
    field("data", data, "text to learn from");
    field("loss", loss, "terms and weights");
    field("train", train, "optimizer and schedule");
    field("init", init, "weights that a new student begins with");
    field("lora", lora, "train low-rank adapters; the result has them merged, adapter/ has them apart");
  }
};

/// Widths, depth and vocabulary under a limit; one of parameters, bytes and ms_per_token above 0 asks for it.
struct SearchConfig {
  int64_t parameters = 0, bytes = 0;
  double ms_per_token = 0;
  std::string type = "q4_k_m", latency;
  std::vector<std::string> types;
  int64_t type_rows = 8;
  std::vector<double> heads = {1}, kv_heads = {1, 0.5}, hidden = {1, 0.75, 0.5}, depth = {1, 0.75, 0.5};
  std::vector<int64_t> vocabulary;
  int64_t candidates = 32, rows = 64, finalists = 3, recovery_steps = 100, recovery_batch = 16;
  double recovery_lr = 1e-3;
  template <class Visitor> void fields(Visitor&& field) {
    field("parameters", parameters, "limit: parameters of the result; 0: not used");
    field("bytes", bytes, "limit: bytes of the GGUF file of type `type`; 0: not used");
    field("ms_per_token", ms_per_token, "limit: milliseconds a generated token on this machine, by its latency table; 0: not used");
    field("type", type, "type of that file");
    field("types", types, "bytes: instead of type, types that each tensor's is chosen from by measured KL, so that widths and types share the limit");
    field("type_rows", type_rows, "types: calibration rows that this KL is measured on");
    field("latency", latency, "table made by attar bench latency; empty: this machine's own, measured if there is none");
    field("heads", heads, "shares of query heads in a kv group to try");
    field("kv_heads", kv_heads, "shares of kv heads to try");
    field("hidden", hidden, "shares of hidden channels to try");
    field("depth", depth, "shares of layers to try; the FFN is as wide as the limit leaves room for");
    field("vocabulary", vocabulary, "least counts of tokens to try (0: all stay); empty: the stage's vocabulary alone");
    field("candidates", candidates, "most shapes whose loss is measured");
    field("rows", rows, "calibration rows that loss is measured on");
    field("finalists", finalists, "shapes of least loss that are recovered for a few steps; 0 or 1: the least loss decides");
    field("recovery_steps", recovery_steps, "optimizer steps of that recovery, learning from the whole model");
    field("recovery_batch", recovery_batch, "its rows a step");
    field("recovery_lr", recovery_lr, "its highest learning rate");
  }
};

struct PruneConfig {
  std::string model;
  std::string method = "structure", pattern = "0.5";
  double ffn = 1.0, heads = 1.0, kv_heads = 1.0, hidden = 1.0, depth = 1.0;
  bool per_layer = false, merge_heads = false;
  int64_t parameters = 0;
  SearchConfig search;
  double damping = 0.01;
  std::string criterion = "activation", depth_by = "influence";
  int64_t protect = 1, vocabulary = 0;
  DataConfig data;
  std::string calibration;
  int64_t calibration_rows = 512;
  int64_t multiple = 32;
  template <class Visitor> void fields(Visitor&& field) {
    field("model", model, "a stage or a checkpoint");
    field("method", method, "structure (a smaller model), or a mask over single weights: magnitude, wanda or sparsegpt");
    field("pattern", pattern, "masks: share of weights that become zero (0.5), or n:m, n zeros in each m inputs (2:4, 4:8)");
    field("ffn", ffn, "share of FFN channels to keep in every layer");
    field("heads", heads, "share of query heads to keep in every kv group; 1 at least stays");
    field("kv_heads", kv_heads, "share of kv heads to keep, each with its query heads");
    field("hidden", hidden, "share of hidden channels to keep: embedding, norms and all that reads or writes them");
    field("depth", depth, "share of layers to keep; a contiguous block goes");
    field("vocabulary", vocabulary,
          "N: only tokens that the data holds N times or more stay, with bytes, specials and what leads to them; 0: all stay");
    field("per_layer", per_layer,
          "ffn and kv_heads: layers share the total by importance instead of evenly (GGUF arrays; not every reader loads them)");
    field("merge_heads", merge_heads, "what kept heads can give of the removed ones' outputs is added to the output projection (least squares)");
    field("parameters", parameters, "instead of ffn: largest number of parameters of the result; 0: not used");
    field("search", search, "instead of shares: finds them under a limit");
    field("damping", damping, "sparsegpt: share of its mean that is added to the Hessian's diagonal");
    field("criterion", criterion, "activation (mean over positions, L2 over rows), taylor (gradient times weight), magnitude or random");
    field("depth_by", depth_by, "influence (1 - cosine of a layer's input and output) or loss (with the block removed)");
    field("protect", protect, "layers at each end that depth pruning leaves alone");
    field("data", data, "calibration text");
    field("calibration", calibration,
          "instead of a pass over it: the statistics of a calibrate stage of the same model (criterion activation, wanda)");
    field("calibration_rows", calibration_rows, "rows of it");
    field("multiple", multiple, "FFN and hidden sizes are rounded to multiples of this, so that quantized blocks fit");
  }
};

}  // namespace attar
