#include "eval/energy.h"

#include <algorithm>
#include <fstream>
#include <optional>

#include "eval/gpu_counters.h"

namespace attar {
namespace {

/// The number that a file of sysfs holds; none if it cannot be read.
std::optional<double> number_in(const fs::path& file) {
  std::ifstream in(file);
  double value = 0;
  return in >> value ? std::optional<double>(value) : std::nullopt;
}

}  // namespace

EnergyMeter::EnergyMeter(const fs::path& powercap, std::string nvml) : nvml_(std::move(nvml)) {
  std::vector<fs::path> folders;
  std::error_code error;
  for (fs::directory_iterator it(powercap, error), end; !error && it != end; it.increment(error))
    if (it->path().filename().string().find("rapl:") != std::string::npos) folders.push_back(it->path());
  std::sort(folders.begin(), folders.end());
  for (const fs::path& folder : folders) {
    std::string domain;
    std::ifstream(folder / "name") >> domain;
    // Cores and uncore are parts of their package, psys holds all of them: only what counts once.
    if (!domain.starts_with("package") && domain != "dram") continue;
    const auto range = number_in(folder / "max_energy_range_uj"), now = number_in(folder / "energy_uj");
    if (range && *range > 0 && now) counters_.push_back({domain, folder / "energy_uj", *range, *now});
    else if (no_counters_.empty()) no_counters_ = "the counter of " + domain + " cannot be read (Linux lets only root read energy_uj)";
  }
  // A part of the packages would look like the whole.
  if (!no_counters_.empty()) counters_.clear();
  else if (counters_.empty()) no_counters_ = "this machine shows no RAPL counters";
  reason_ = no_counters_;
}

EnergyMeter::~EnergyMeter() = default;

void EnergyMeter::count_gpus(bool wanted) {
  gpus_ = wanted ? std::make_unique<GpuCounters>(nvml_) : nullptr;
  reason_ = no_counters_;
  if (gpus_ && !gpus_->reason().empty()) reason_ = gpus_->reason();
  else if (gpus_ && !reason_.empty()) reason_ = "without processors: " + reason_;
  start();
}

void EnergyMeter::start() {
  for (Counter& counter : counters_) counter.begin = number_in(counter.file).value_or(counter.begin);
  gpus_begin_ = gpus_ ? gpus_->joules() : std::vector<double>();
}

double EnergyMeter::joules() const {
  if (domains().empty()) return 0;
  double microjoules = 0, sum = 0;
  for (const Counter& counter : counters_) {
    const double used = number_in(counter.file).value_or(counter.begin) - counter.begin;
    microjoules += used < 0 ? used + counter.range : used;
  }
  const std::vector<double> now = gpus_ ? gpus_->joules() : std::vector<double>();
  for (size_t i = 0; i < now.size(); ++i) sum += std::max(0.0, now[i] - gpus_begin_[i]);
  return 1e-6 * microjoules + sum;
}

std::vector<std::string> EnergyMeter::domains() const {
  std::vector<std::string> out;
  if (gpus_ && gpus_->count() == 0) return out;
  for (const Counter& counter : counters_) out.push_back(counter.domain);
  for (size_t i = 0; gpus_ && i < gpus_->count(); ++i) out.push_back("gpu-" + std::to_string(i));
  return out;
}

std::string EnergyMeter::source() const {
  if (domains().empty()) return "";
  if (!gpus_) return "RAPL";
  return counters_.empty() ? "NVML" : "RAPL and NVML";
}

}  // namespace attar
