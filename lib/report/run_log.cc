#include "report/run_log.h"

#include <fstream>

namespace attar {

std::vector<Json> read_run_log(const fs::path& file) {
  std::vector<Json> lines;
  std::ifstream in(file);
  for (std::string line; std::getline(in, line);) {
    if (in.eof()) break;  // without its newline the line is torn
    Json value = Json::parse(line, nullptr, false);
    if (!value.is_discarded()) lines.push_back(std::move(value));
  }
  return lines;
}

RunLog::RunLog(fs::path file, int64_t from_step) : file_(std::move(file)) {
  std::string kept;
  for (const Json& line : read_run_log(file_))
    if (!line.contains("step") || !line["step"].is_number() || line["step"].get<int64_t>() < from_step) kept += to_line(line) + "\n";
  write_file(file_, kept);
}

void RunLog::write(const Json& line) {
  std::ofstream out(file_, std::ios::app | std::ios::binary);
  out << to_line(line) << '\n';
  check(out.good(), "cannot append to " + file_.string(), "", "", "is the disk full?");
}

}  // namespace attar
