#pragma once
// How something is trained: optimizer, schedule, loss.
#include "base/fields.h"

namespace attar {

/// Learning rates of kinds of parameters, as shares of the schedule's.
struct LrScaleConfig {
  double embedding = 1, head = 1, matrices = 1, norms = 1, biases = 1, projections = 1;
  template <class Visitor> void fields(Visitor&& field) {
    field("embedding", embedding, "the embedding, and the head where it is tied to it");
    field("head", head, "the output matrix that is not tied");
    field("matrices", matrices, "linears of the layers, and adapters");
    field("norms", norms, "weights of norms");
    field("biases", biases, "biases");
    field("projections", projections, "projections of losses on hidden states");
  }
};

/// Optimizer, schedule and housekeeping of a training.
struct TrainConfig {
  int64_t steps = 1000, batch = 32, accumulate = 1;
  double lr = 1e-3, min_lr = 0.1, weight_decay = 0.1, beta1 = 0.9, beta2 = 0.95, clip = 1.0;
  std::string schedule = "cosine";
  int64_t warmup = 50;
  double decay = 0.2;
  int64_t eval_every = 0, snapshot_every = 100, log_every = 0;
  std::string precision = "auto", result = "last", cuda_graph = "off";
  bool deterministic = true, recompute_layers = false;
  double ema = 0;
  LrScaleConfig lr_scale;
  template <class Visitor> void fields(Visitor&& field) {
    field("steps", steps, "optimizer steps");
    field("batch", batch, "rows a step, shared out over the ranks, before accumulation");
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
    field("log_every", log_every, "steps between lines of the log: reading the loss waits for the device; 0: 1 on the CPU, 10 on CUDA");
    field("precision", precision, "fp32, bf16 (autocast, fp32 weights) or auto: bf16 on CUDA, fp32 on the CPU");
    field("result", result, "last: the weights after the last step; best: those of the lowest held-out loss");
    field("deterministic", deterministic, "same bytes on every run (CUDA: slower kernels)");
    field("cuda_graph", cuda_graph, "steps of fixed shapes as a recorded CUDA graph: off, auto (where it can be) or on (else refused)");
    field("ema", ema, "result is a moving average of the weights that keeps this share a step, as 0.999; 0: none");
    field("lr_scale", lr_scale, "learning rates of kinds of parameters, as shares of lr");
    field("checkpoint_activations", recompute_layers,
          "keep each layer's input only and compute the layer again going back: less memory, a third more work");
  }
};

/// Low-rank adapters instead of the weights themselves.
struct LoraConfig {
  int64_t rank = 0;
  std::optional<double> alpha;
  std::vector<std::string> targets = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"};
  template <class Visitor> void fields(Visitor&& field) {
    field("rank", rank, "columns of each factor; 0: no adapters, every weight is trained");
    field("alpha", alpha, "the product counts alpha / rank times; absent: twice the rank");
    field("targets", targets, "linears that get one: q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj");
  }
};

/// Loss between outputs of layers.
struct HiddenLossConfig {
  double weight = 0;
  std::string kind = "mse";
  std::vector<std::string> layers;
  bool project = false;
  template <class Visitor> void fields(Visitor&& field) {
    field("weight", weight, "weight of the term, a mean over the pairs; 0: none");
    field("kind", kind, "mse (mean over the width) or cosine (1 - cosine)");
    field("layers", layers, "pairs STUDENT:TEACHER of layers, counted from 1, as [2:4, 4:8]");
    field("project", project, "learn a projection of the student's states even where both are equally wide; where they differ there always is one");
  }
};

/// Terms of the distillation loss and their weights; a term of weight 0 is not computed.
struct LossConfig {
  std::optional<double> kl, ce, rkl, jsd, skl, srkl, tvd;
  double temperature = 1.0, beta = 0.5, lambda = 0.1, prompt_weight = 1.0;
  std::string top_k = "ghost";
  HiddenLossConfig hidden;
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
    field("prompt_weight", prompt_weight, "data.learn all: weight of the prompt's tokens, the answer's being 1");
    field("lambda", lambda, "skl, srkl: share mixed in from the other side");
    field("top_k", top_k, "what a top-k cache's tail is: ghost (one bucket of its own) or dropped (as if the teacher gave the ids alone)");
    field("hidden", hidden, "outputs of layers drawn to the teacher's, beside the terms above");
  }
};

}  // namespace attar
