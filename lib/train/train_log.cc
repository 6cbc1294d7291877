#include "train/train_log.h"

#include <chrono>
#include <fstream>

#include "base/check.h"
#include "formats/event_file.h"

namespace attar {
namespace {

double seconds_since_1970() { return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count(); }

double number_at(const Json& line, const char* key) {
  const auto found = line.find(key);
  return found != line.end() && found->is_number() ? found->get<double>() : 0;
}

/// The event of a log's line: its numbers under their names.
std::string event_of(const Json& line) {
  std::vector<std::pair<std::string, double>> scalars;
  for (const auto& [name, value] : line.items())
    if (value.is_number() && name != "step" && name != "time") scalars.push_back({name, value.get<double>()});
  return event_record(number_at(line, "time"), static_cast<int64_t>(number_at(line, "step")), scalars);
}

}  // namespace

TrainLog::TrainLog(const fs::path& folder, int64_t from_step) : log_(folder / "log.jsonl", from_step), events_(folder / kEventFileName) {
  const std::vector<Json> kept = read_run_log(folder / "log.jsonl");
  std::string events = event_file_head(kept.empty() ? seconds_since_1970() : number_at(kept.front(), "time"));
  for (const Json& line : kept)
    if (line.is_object() && line.contains("step")) events += event_of(line);
  write_file(events_, events);
}

void TrainLog::write(Json line) {
  line["time"] = seconds_since_1970();
  log_.write(line);
  std::ofstream out(events_, std::ios::app | std::ios::binary);
  const std::string event = event_of(line);
  out.write(event.data(), static_cast<std::streamsize>(event.size()));
  out.flush();
  check(out.good(), "cannot append to " + events_.string(), "", "", "is the disk full?");
}

}  // namespace attar
