#pragma once
#include <map>
#include <string>
#include <vector>

#include "base/json.h"

namespace attar {

/// A report as an evaluate stage writes it: two artifacts, a task of three labels, gates, lineage with pruning and an export.
inline Json sample_report() {
  return parse_json(R"json({
  "verdict": "pass", "name": "triage", "base": "teacher",
  "artifacts": {
    "teacher": {"stage": "teacher", "path": "teacher", "bytes": 12690000, "sha256": "aa", "parameters": 3170000, "bits_per_weight": 32.025,
      "perplexity": {"value": 11.92, "stderr": 0.09, "nll": 2.478, "tokens": 2438, "protocol": "chunks of 512"},
      "text": "the task's held-out rows",
      "tasks": {"triage": {"accuracy": {"value": 0.97, "low": 0.95, "high": 0.985, "n": 300}, "brier": {"value": 0.05, "low": 0.04, "high": 0.06,
          "n": 300}}},
      "task_details": {"triage": {"labels": ["refund", "access", "other"], "confusion": [[97, 2, 1], [0, 98, 2], [1, 3, 96]], "f1": [0.98, 0.965,
          0.964],
        "reliability": [{"low": 0.0, "high": 0.5, "confidence": 0.4, "accuracy": 0.375, "n": 8}, {"low": 0.5, "high": 1.0, "confidence": 0.97,
            "accuracy": 0.9863, "n": 292}], "shortened": 0}},
      "latency": {"ttft_s": {"value": 0.0051, "p10": 0.005, "p90": 0.0056, "p99": 0.006}, "tokens_per_s": {"value": 410.5, "p10": 400.25,
          "p90": 420.75},
        "prompt_tokens": 32, "new_tokens": 16, "runs": 5, "warm_up": 1, "threads": 2},
      "memory": {"peak_rss_bytes": 312000000, "rss_before_bytes": 280000000}, "energy": "not measured: no counters",
      "memorization": {"trained": {"value": 0.125, "low": 0.0863, "high": 0.1776, "n": 200}, "held_out": {"value": 0.015, "low": 0.0051, "high": 0.0432, "n": 200},
        "prefix": 16, "length": 24, "short_trained": 3, "short_held_out": 1, "reproduced": [4, 77]}},
    "gguf": {"stage": "gguf", "path": "gguf/model.gguf", "bytes": 402112, "sha256": "bb", "parameters": 500900, "bits_per_weight": 6.4222,
      "kld": {"mean": 0.0789, "stderr": 0.0024, "p50": 0.01, "p90": 0.2, "p99": 0.7, "p999": 1.5, "max": 2.5, "tokens": 2438,
          "protocol": "chunks of 512"},
      "top1_agreement": {"value": 0.899, "stderr": 0.006}, "rms_delta_p": 0.0365,
      "tasks": {"triage": {"accuracy": {"value": 0.95, "low": 0.92, "high": 0.97, "n": 300}}},
      "comparison": {"against": "teacher", "accuracy_difference": {"value": -0.02, "low": -0.041, "high": 0.003, "n": 300}, "mcnemar_p": 0.07}}},
  "gates": [{"path": "gguf.tasks.triage.accuracy", "limit": {"at_least": 0.93}, "value": 0.95, "passed": true}],
  "environment": {"cpu": "a processor", "cores": 2, "memory_bytes": 8331000000, "gpu": "", "attar": "0.1.0"},
  "recipe": {"name": "triage", "seed": 7, "task": {"name": "triage", "prompt": "{text}\n", "text": "text"}, "stages": {"teacher": {"kind": "distill",
      "train": {"lr": 0.002}}}},
  "license": "Apache-2.0", "base_model": "",
  "lineage": {
    "teacher": {"kind": "distill", "key": "1234567890abcdef", "inputs": {"data": "cc"}, "outputs": {"model.safetensors": "dd"},
      "facts": {"steps": 600, "rows": 7600, "learned_tokens": 63211, "training_loss": 0.081, "held_out_loss": 0.0891, "parameters": 3170000},
          "seconds": 112.5},
    "pruned": {"kind": "prune", "key": "k", "inputs": {}, "outputs": {}, "facts": {"parameters": 500900, "parameters_before": 702000,
      "pruned": {"criterion": "activation", "layers": [{"layer": 0, "ffn_before": 384, "ffn": 192, "kept_importance": 0.8125}]}}, "seconds": 2.25},
    "gguf": {"kind": "export", "key": "k2", "inputs": {}, "outputs": {"model.gguf": "bb"}, "facts": {"path": "model.gguf", "format": "gguf",
        "parameters": 500900, "elements_proven": 500900,
      "tensors": [{"name": "token_embd.weight", "type": "q4_0", "shape": [1024, 128], "bytes": 73728}, {"name": "output_norm.weight", "type": "f32",
          "shape": [128], "bytes": 512}],
      "notes": []}, "seconds": 0.5}}
})json",
                    "sample report");
}

/// A training log of 1000 steps with a teacher and held-out losses.
inline std::map<std::string, std::vector<Json>> sample_logs() {
  std::map<std::string, std::vector<Json>> logs;
  for (int step = 1; step <= 1000; ++step) {
    Json line = {{"step", step}, {"loss", 5.0 / step}, {"ce", 5.0 / step}, {"teacher", 3.0 / step}};
    if (step % 100 == 0) line["held_out_loss"] = 5.5 / step, line["held_out_ce"] = 5.5 / step;
    logs["teacher"].push_back(line);
  }
  return logs;
}

}  // namespace attar
