#pragma once
// Configuration of every stage kind: the keys users write in recipes and, flattened, the flags of the tools.
#include "base/fields.h"

namespace attar {

/// What text is read and how rows of token ids are made of it.
struct DataConfig {
  std::string path;                     ///< file or folder; empty: the task's
  std::string kind = "auto";
  std::string text = "text", prompt = "prompt", answer = "answer", messages = "messages";
  std::string learn = "answer";
  int64_t seq = 256;
  bool pack = true;
  int64_t limit = 0;
  template <class Visitor> void fields(Visitor&& field) {
    field("path", path, "file (.jsonl, .csv, .txt, each also .zst) or folder of them; empty: the task's training rows");
    field("kind", kind, "text (documents), answers (prompt and answer fields), chat (messages), or auto");
    field("text", text, "field that holds a document's text");
    field("prompt", prompt, "field that holds the prompt");
    field("answer", answer, "field that holds the answer; only it is learned");
    field("messages", messages, "field that holds a chat; only the assistant's turns are learned");
    field("learn", learn, "answer: loss on the answer's tokens only; all: on the prompt's too");
    field("seq", seq, "T, longest row in tokens");
    field("pack", pack, "fill rows with several documents (attention stays inside each); false: one example a row");
    field("limit", limit, "use only the first so many documents or examples; 0: all");
  }
};

/// Optimizer, schedule and housekeeping of a training.
struct TrainConfig {
  int64_t steps = 1000, batch = 32, accumulate = 1;
  double lr = 1e-3, min_lr = 0.1, weight_decay = 0.1, beta1 = 0.9, beta2 = 0.95, clip = 1.0;
  std::string schedule = "cosine";
  int64_t warmup = 50;
  double decay = 0.2;
  int64_t eval_every = 0, snapshot_every = 100;
  std::string precision = "auto", result = "last";
  bool deterministic = true;
  template <class Visitor> void fields(Visitor&& field) {
    field("steps", steps, "optimizer steps");
    field("batch", batch, "rows a step and rank, before accumulation");
    field("accumulate", accumulate, "batches whose gradients are summed before a step");
    field("lr", lr, "highest learning rate");
    field("min_lr", min_lr, "learning rate at the end, as a share of lr");
    field("schedule", schedule, "cosine, wsd (warm-up, stable, decay) or constant");
    field("warmup", warmup, "steps over which the learning rate rises");
    field("decay", decay, "wsd: share of the steps over which it falls");
    field("weight_decay", weight_decay, "AdamW's; norms, biases and embeddings are left out");
    field("beta1", beta1, "AdamW's first moment");
    field("beta2", beta2, "AdamW's second moment");
    field("clip", clip, "largest global gradient norm; 0: none");
    field("eval_every", eval_every, "steps between evaluations on held-out rows; 0: a tenth of the steps");
    field("snapshot_every", snapshot_every, "steps between snapshots that a killed run resumes from");
    field("precision", precision, "fp32, bf16 (autocast, fp32 weights) or auto: bf16 on CUDA, fp32 on the CPU");
    field("result", result, "last: the weights after the last step; best: those of the lowest held-out loss");
    field("deterministic", deterministic, "same bytes on every run (CUDA: slower kernels)");
  }
};

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

/// Terms of the distillation loss and their weights; a term of weight 0 is not computed.
struct LossConfig {
  std::optional<double> kl, ce, rkl, jsd, skl, srkl, tvd;
  double temperature = 1.0, beta = 0.5, lambda = 0.1;
  template <class Visitor> void fields(Visitor&& field) {
    field("kl", kl, "weight of forward KL(teacher || student); 1 when a teacher is given and no term is named");
    field("ce", ce, "weight of cross-entropy with the data's next token; 1 when there is no teacher");
    field("rkl", rkl, "weight of reverse KL(student || teacher)");
    field("jsd", jsd, "weight of generalised Jensen-Shannon divergence, divided by beta (1 - beta)");
    field("skl", skl, "weight of skewed forward KL");
    field("srkl", srkl, "weight of skewed reverse KL");
    field("tvd", tvd, "weight of total variation");
    field("temperature", temperature, "softens teacher and student; a cache is used at the one it was captured with");
    field("beta", beta, "jsd: weight of the teacher in the mixture");
    field("lambda", lambda, "skl, srkl: share mixed in from the other side");
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

struct QuantConfig {
  std::string model;
  std::string scheme = "q4_0", method = "ptq";
  bool embeddings = true;
  std::string teacher;
  DataConfig data;
  LossConfig loss;
  TrainConfig train;
  QuantConfig() { train.lr = 2e-4; train.steps = 200; train.weight_decay = 0; train.warmup = 10; }
  template <class Visitor> void fields(Visitor&& field) {
    field("model", model, "a stage or a checkpoint");
    field("scheme", scheme, "grid of the file to be written: q4_0 or q8_0");
    field("method", method, "ptq (round once) or qat (fine-tune through the grid, then keep those very codes)");
    field("embeddings", embeddings, "quantize the embedding and the output matrix too");
    field("teacher", teacher, "qat: a stage, a checkpoint or a cache; empty: the model itself before quantization");
    field("data", data, "qat: text to learn from");
    field("loss", loss, "qat: terms and weights");
    field("train", train, "qat: optimizer and schedule");
  }
};

struct ExportConfig {
  std::string model;
  std::string format = "gguf", type;
  bool pure = false, allow_deviation = false, genai = false;
  std::vector<std::string> tensor_type;
  std::string imatrix;
  template <class Visitor> void fields(Visitor&& field) {
    field("model", model, "a stage or a checkpoint");
    field("format", format, "gguf, onnx or hf");
    field("type", type, "gguf: f32, f16, bf16 or llama-quantize's names; onnx: fp32, fp16, int8, int4; empty: the model's own codes");
    field("pure", pure, "one type throughout (gguf)");
    field("tensor_type", tensor_type, "REGEX=TYPE for tensors by name (gguf)");
    field("imatrix", imatrix, "importance matrix, llama.cpp's file (gguf)");
    field("genai", genai, "write the onnxruntime-genai folder too (onnx)");
    field("allow_deviation", allow_deviation, "export a tokenizer whose ids GGUF readers cannot reproduce; says where they differ");
  }
};

struct EvaluateConfig {
  std::vector<std::string> of;
  std::string base;
  std::string text;
  int64_t ctx = 512, text_tokens = 0, task_rows = 0;
  bool latency = true;
  template <class Visitor> void fields(Visitor&& field) {
    field("of", of, "stages or checkpoints to evaluate");
    field("base", base, "stage or checkpoint that KL and agreement are measured against");
    field("text", text, "text for perplexity and KL; empty: the task's held-out rows as text");
    field("ctx", ctx, "tokens a chunk; the second half is scored (llama.cpp's protocol)");
    field("text_tokens", text_tokens, "use only the first so many tokens; 0: all");
    field("task_rows", task_rows, "use only the first so many test rows of the task; 0: all");
    field("latency", latency, "measure tokens/s and time to first token");
  }
};

/// What a gate demands of one number of the report.
struct GateConfig {
  std::optional<double> at_least, at_most;
  template <class Visitor> void fields(Visitor&& field) {
    field("at_least", at_least, "the number must be this or more");
    field("at_most", at_most, "the number must be this or less");
  }
};

/// A task file: what goes in, what must come out, how it is judged.
struct TaskConfig {
  std::string name = "task";
  std::string train, test, valid;
  std::string text = "text", label = "label";
  std::string prompt = "{text}\n";
  std::string answer = "{label}";
  std::vector<std::string> labels;
  std::string metric = "accuracy";
  template <class Visitor> void fields(Visitor&& field) {
    field("name", name, "name of the task in the report");
    field("train", train, "rows to learn from (.jsonl or .csv)");
    field("test", test, "held-out rows, never learned from");
    field("valid", valid, "rows for evaluation during training; empty: a twentieth of the training rows is kept apart");
    field("text", text, "field of the input");
    field("label", label, "field of the right answer");
    field("prompt", prompt, "what the model reads; {field} is replaced by a row's field");
    field("answer", answer, "what the model must write; {label} is replaced");
    field("labels", labels, "every allowed label; empty: those of the training rows");
    field("metric", metric, "accuracy: the label of highest likelihood is the answer");
  }
};

}  // namespace attar
