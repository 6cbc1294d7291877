#pragma once
// Stages in which a teacher speaks: what is kept of its distributions, and what it writes.
#include "spec/data_config.h"

namespace attar {

struct CodecConfig {
  std::string kind = "sampled", draws = "systematic";
  int64_t samples = 50, k = 50;
  std::vector<int64_t> hidden_layers;
  template <class Visitor> void fields(Visitor&& field) {
    field("kind", kind, "sampled (draws from the teacher, unbiased), top_k (with the tail's mass) or full (fp16)");
    field("samples", samples, "sampled: draws a token");
    field("draws", draws, "sampled: systematic (one random start, equal steps through the distribution; quicker) or independent; both unbiased");
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

struct SynthesizeConfig {
  std::string teacher, tokens;
  DataConfig data;
  ServerConfig server;
  int64_t prefix = 32, samples = 1, max_tokens = 256;
  double temperature = 1.0, top_p = 1.0;
  std::string unfinished = "auto";
  int64_t batch = 32, shard_prompts = 256;
  template <class Visitor> void fields(Visitor&& field) {
    field("teacher", teacher, "who writes: a stage, a checkpoint, or a server's address (http://host:port)");
    field("tokens", tokens, "a server's tokenizer: a stage or a path; empty: the teacher's own");
    field("data", data, "prompts: the task's rows, prompt fields, chats (their last answer is written anew), or texts to be continued");
    field("prefix", prefix, "texts: tokens of each that are given, the rest is written");
    field("samples", samples, "texts written for each prompt");
    field("max_tokens", max_tokens, "most new tokens of one text");
    field("temperature", temperature, "1: drawn from the teacher's own distribution; 0: always the likeliest token");
    field("top_p", top_p, "drawn among the likeliest tokens that together have this probability");
    field("server", server, "the teacher's server");
    field("unfinished", unfinished, "texts that max_tokens cuts off: keep, drop, or auto (drop answers, keep continued texts)");
    field("batch", batch, "texts written at once");
    field("shard_prompts", shard_prompts, "prompts a shard: what a killed run loses at most");
  }
};

}  // namespace attar
