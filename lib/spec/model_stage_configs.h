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

struct CodecConfig {
  std::string kind = "sampled";
  int64_t samples = 50, k = 50;
  std::vector<int64_t> hidden_layers;
  template <class Visitor> void fields(Visitor&& field) {
    field("kind", kind, "sampled (draws from the teacher, unbiased), top_k (with the tail's mass) or full (fp16)");
    field("samples", samples, "sampled: draws a token");
    field("k", k, "top_k: ids kept a token");
    field("hidden_layers", hidden_layers, "layers, counted from 1, whose outputs are kept too (fp16), for losses on hidden states");
  }
};

/// A teacher behind an HTTP server; read when the teacher is an address.
struct ServerConfig {
  std::string model, api = "auto", key_env;
  int64_t concurrency = 8, attempts = 6;
  double timeout = 300;
  template <class Visitor> void fields(Visitor&& field) {
    field("model", model, "name of the model as the server lists it; empty: the only one that it has");
    field("api", api, "vllm (prompt_logprobs), echo (completions with echo and logprobs), llama (llama.cpp's server, a request a position), or auto");
    field("key_env", key_env, "name of the environment variable that holds the server's key");
    field("concurrency", concurrency, "requests at once");
    field("attempts", attempts, "tries of one request, with growing waits between them");
    field("timeout", timeout, "seconds for one answer");
  }
};

struct CaptureConfig {
  std::string teacher, tokens, import_file, shards;
  std::vector<std::string> merge;
  DataConfig data;
  CodecConfig codec;
  ServerConfig server;
  double temperature = 1.0;
  int64_t batch = 32, shard_rows = 512;
  template <class Visitor> void fields(Visitor&& field) {
    field("teacher", teacher, "a stage, a checkpoint, or a server's address (http://host:port)");
    field("tokens", tokens, "tokenizer: a stage or a path; empty: the teacher's own");
    field("import", import_file, "instead of a teacher: another tool's logits, .npz or .h5 (docs/teacher_cache.md)");
    field("merge", merge, "instead of a teacher: parts of one capture, stages or paths, made with shards");
    field("shards", shards, "A:B: only these shards, counted from 0, B left out; a part to be merged");
    field("data", data, "text to run over; must be the student's");
    field("codec", codec, "what is kept of each distribution");
    field("server", server, "the teacher's server");
    field("temperature", temperature, "softening of the teacher's distribution before it is kept");
    field("batch", batch, "rows a forward pass");
    field("shard_rows", shard_rows, "rows a shard: what a killed capture loses at most");
  }
};

struct PruneConfig {
  std::string model;
  double ffn = 1.0, heads = 1.0, kv_heads = 1.0, hidden = 1.0, depth = 1.0;
  bool per_layer = false;
  int64_t parameters = 0;
  std::string criterion = "activation", depth_by = "influence";
  int64_t protect = 1, vocabulary = 0;
  DataConfig data;
  int64_t calibration_rows = 512;
  int64_t multiple = 32;
  template <class Visitor> void fields(Visitor&& field) {
    field("model", model, "a stage or a checkpoint");
    field("ffn", ffn, "share of FFN channels to keep in every layer");
    field("heads", heads, "share of query heads to keep in every kv group; 1 at least stays");
    field("kv_heads", kv_heads, "share of kv heads to keep, each with its query heads");
    field("hidden", hidden, "share of hidden channels to keep: embedding, norms and all that reads or writes them");
    field("depth", depth, "share of layers to keep; a contiguous block goes");
    field("vocabulary", vocabulary, "N: only tokens that the data holds N times or more stay, with bytes, specials and what leads to them; 0: all stay");
    field("per_layer", per_layer, "ffn and kv_heads: layers share the total by importance instead of evenly (GGUF arrays; not every reader loads them)");
    field("parameters", parameters, "instead of ffn: largest number of parameters of the result; 0: not used");
    field("criterion", criterion, "activation (mean over positions, L2 over rows), taylor (gradient times weight), magnitude or random");
    field("depth_by", depth_by, "influence (1 - cosine of a layer's input and output) or loss (with the block removed)");
    field("protect", protect, "layers at each end that depth pruning leaves alone");
    field("data", data, "calibration text");
    field("calibration_rows", calibration_rows, "rows of it");
    field("multiple", multiple, "FFN and hidden sizes are rounded to multiples of this, so that quantized blocks fit");
  }
};

}  // namespace attar
