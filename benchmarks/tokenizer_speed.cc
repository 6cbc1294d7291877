// Seconds of processor time that attar's tokenizers take; tokenizer_vs_peers.py drives it.
//   tokenizer_speed TOKENIZER FILE [--library]
// Each line of FILE is a text. For each line on standard input all texts are encoded once, on one thread, and "seconds ids checksum" is printed.
// --library: libsentencepiece itself, from the same .model file.
#include <sentencepiece_processor.h>

#include <ctime>
#include <exception>
#include <iomanip>
#include <iostream>
#include <string>
#include <vector>

#include "base/files.h"
#include "tokenizer/tokenizer.h"

namespace attar {
namespace {

double processor_seconds() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

std::vector<std::string> lines_of(const fs::path& file) {
  const std::string text = read_file(file);
  std::vector<std::string> out;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    out.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return out;
}

/// FNV over the ids with the texts' ends: tells whether two sides gave the same.
uint64_t add_ids(uint64_t sum, const std::vector<int32_t>& ids) {
  for (const int32_t id : ids) sum = (sum ^ static_cast<uint32_t>(id)) * 0x100000001B3u;
  return (sum ^ 0xFFFFFFFFu) * 0x100000001B3u;
}

void measure(const std::string& path, const std::string& file, bool library) {
  const std::vector<std::string> texts = lines_of(file);
  sentencepiece::SentencePieceProcessor processor;
  std::shared_ptr<const Tokenizer> tokenizer;
  if (library) processor.LoadOrDie(path);
  else tokenizer = load_tokenizer(path);
  std::vector<std::vector<int32_t>> all(texts.size());
  std::cout << "ready" << std::endl;
  for (std::string line; std::getline(std::cin, line);) {
    const double start = processor_seconds();
    for (size_t i = 0; i < texts.size(); ++i) {
      if (library) all[i] = processor.EncodeAsIds(texts[i]);
      else all[i] = tokenizer->encode(texts[i]);
    }
    const double seconds = processor_seconds() - start;
    uint64_t count = 0, sum = 0xCBF29CE484222325u;
    for (const auto& ids : all) {
      count += ids.size();
      sum = add_ids(sum, ids);
    }
    std::cout << std::setprecision(9) << seconds << ' ' << count << ' ' << sum << std::endl;
  }
}

}  // namespace
}  // namespace attar

int main(int argc, char** argv) {
  if (argc < 3) {
    std::cerr << "tokenizer_speed TOKENIZER FILE [--library]\n";
    return 2;
  }
  try {
    attar::measure(argv[1], argv[2], argc > 3);
  } catch (const std::exception& error) {
    std::cerr << "error: " << error.what() << '\n';
    return 1;
  }
  return 0;
}
