#include "eval/energy.h"

#include <algorithm>
#include <fstream>
#include <optional>

namespace attar {
namespace {

/// The number that a file of sysfs holds; none if it cannot be read.
std::optional<double> number_in(const fs::path& file) {
  std::ifstream in(file);
  double value = 0;
  return in >> value ? std::optional<double>(value) : std::nullopt;
}

}  // namespace

EnergyMeter::EnergyMeter(const fs::path& powercap) {
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
    else if (reason_.empty()) reason_ = "the counter of " + domain + " cannot be read (Linux lets only root read energy_uj)";
  }
  // A part of the packages would look like the whole.
  if (!reason_.empty()) counters_.clear();
  else if (counters_.empty()) reason_ = "this machine shows no RAPL counters";
}

void EnergyMeter::start() {
  for (Counter& counter : counters_) counter.begin = number_in(counter.file).value_or(counter.begin);
}

double EnergyMeter::joules() const {
  double sum = 0;
  for (const Counter& counter : counters_) {
    const double used = number_in(counter.file).value_or(counter.begin) - counter.begin;
    sum += used < 0 ? used + counter.range : used;
  }
  return 1e-6 * sum;
}

std::vector<std::string> EnergyMeter::domains() const {
  std::vector<std::string> out;
  for (const Counter& counter : counters_) out.push_back(counter.domain);
  return out;
}

}  // namespace attar
