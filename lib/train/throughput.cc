#include "train/throughput.h"

#include <cmath>

#include "base/check.h"

namespace attar {

Throughput::Throughput(at::Device device, bool bf16, int64_t ranks) : device_(device), bf16_(bf16), ranks_(ranks) { reset_peak_bytes(device); }

void Throughput::begin() { begun_ = std::chrono::steady_clock::now(); }

void Throughput::end(double tokens, double flops) {
  step_seconds_ = std::chrono::duration<double>(std::chrono::steady_clock::now() - begun_).count();
  step_tokens_ = tokens, step_flops_ = flops;
  tokens_ += tokens, flops_ += flops, seconds_ += step_seconds_;
  // Not before the first step: by then whatever warms up is warm. Again now and then: the machine may have been busy.
  if (flops > 0 && seconds_ >= measure_at_) peak_ = peak_rate(device_, bf16_), measure_at_ = 2 * seconds_;
}

double Throughput::mfu(double flops, double seconds) const {
  return peak_.flops > 0 && seconds > 0 ? flops / seconds / (peak_.flops * static_cast<double>(ranks_)) : 0;
}

void Throughput::add_to(Json& line) const {
  if (step_seconds_ > 0) line["tokens_per_s"] = step_tokens_ / step_seconds_;
  if (peak_.flops > 0) line["mfu"] = mfu(step_flops_, step_seconds_);
  line["peak_bytes"] = peak_bytes(device_);
}

void Throughput::add_to(TrainResult& result) const {
  result.tokens_per_s = seconds_ > 0 ? tokens_ / seconds_ : 0;
  result.mfu = mfu(flops_, seconds_);
  result.peak_flops = peak_.flops * static_cast<double>(ranks_);
  result.peak_flops_from = peak_.from;
  result.peak_bytes = peak_bytes(device_);
}

std::string Throughput::words() const {
  std::string out = seconds_ > 0 ? human_count(tokens_ / seconds_) + " tokens/s, " : "";
  if (peak_.flops > 0) out += str("MFU ", static_cast<int64_t>(std::lround(100 * mfu(flops_, seconds_))), "%, ");
  return out + human_bytes(static_cast<double>(peak_bytes(device_)));
}

}  // namespace attar
