// Encodes raw fp32 to blocks, or decodes them, so that other programs can be compared with ours:
//   block_bytes TYPE ROWS COLUMNS INPUT OUTPUT [IMPORTANCE] [--decode] [--plain] [--avx2] [--time REPEATS]
// Files are raw little-endian bytes. --time prints the fastest of so many runs in seconds, and the least seconds of processor time.
#include <chrono>
#include <cstdio>
#include <ctime>
#include <fstream>
#include <iostream>
#include <string>
#include <vector>

#include "base/check.h"
#include "formats/ggml_types.h"
#include "blocks/blocks_encode.h"
#include "blocks/ggml_blocks.h"

namespace {

std::vector<char> read_bytes(const std::string& path) {
  std::ifstream in(path, std::ios::binary | std::ios::ate);
  if (!in) attar::fail(path, "a readable file");
  std::vector<char> bytes(size_t(in.tellg()));
  in.seekg(0);
  in.read(bytes.data(), std::streamsize(bytes.size()));
  return bytes;
}

std::vector<float> read_floats(const std::string& path, size_t count) {
  const auto bytes = read_bytes(path);
  if (bytes.size() != count * sizeof(float)) attar::fail(path, std::to_string(count * sizeof(float)) + " bytes", std::to_string(bytes.size()));
  return {reinterpret_cast<const float*>(bytes.data()), reinterpret_cast<const float*>(bytes.data()) + count};
}

void encode_avx2(const attar::BlockRun& given) {
  if (!attar::encode_run_avx2(given)) attar::encode_run_plain(given);
}

int run(const std::vector<std::string>& arguments) {
  std::vector<std::string> words;
  bool decode = false, plain = false, avx2 = false;
  int repeats = 0;
  for (size_t i = 0; i < arguments.size(); ++i) {
    if (arguments[i] == "--decode") decode = true;
    else if (arguments[i] == "--plain") plain = true;
    else if (arguments[i] == "--avx2") avx2 = true;
    else if (arguments[i] == "--time" && i + 1 < arguments.size()) repeats = std::stoi(arguments[++i]);
    else words.push_back(arguments[i]);
  }
  if (words.size() < 5) {
    std::cerr << "usage: block_bytes TYPE ROWS COLUMNS INPUT OUTPUT [IMPORTANCE] [--decode] [--plain] [--avx2] [--time REPEATS]\n";
    return 2;
  }
  const attar::GgmlType type = attar::ggml_type_named(words[0]);
  const int64_t rows = std::stoll(words[1]), columns = std::stoll(words[2]);
  std::vector<float> values(decode ? size_t(rows * columns) : 0), importance;
  std::vector<char> blocks(size_t(rows * attar::ggml_row_bytes(type, columns)));
  if (decode) {
    const auto given = read_bytes(words[3]);
    if (given.size() != blocks.size()) attar::fail(words[3], std::to_string(blocks.size()) + " bytes", std::to_string(given.size()));
    blocks = given;
  } else {
    values = read_floats(words[3], size_t(rows * columns));
  }
  if (words.size() > 5) importance = read_floats(words[5], size_t(columns));
  auto* bytes = reinterpret_cast<uint8_t*>(blocks.data());
  const float* weights = importance.empty() ? nullptr : importance.data();
  double fastest = 1e30, least = 1e30;
  for (int i = 0; i < std::max(repeats, 1); ++i) {
    const auto start = std::chrono::steady_clock::now();
    const std::clock_t ticks = std::clock();
    if (decode) (plain ? attar::dequantize_rows_plain : attar::dequantize_rows)(type, bytes, values.data(), rows, columns);
    else if (avx2) attar::quantize_rows_by(encode_avx2, type, values.data(), bytes, rows, columns, weights);
    else (plain ? attar::quantize_rows_plain : attar::quantize_rows)(type, values.data(), bytes, rows, columns, weights);
    fastest = std::min(fastest, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
    least = std::min(least, double(std::clock() - ticks) / CLOCKS_PER_SEC);
  }
  if (repeats) std::printf("%.9f %.9f\n", fastest, least);
  std::ofstream out(words[4], std::ios::binary);
  if (decode) out.write(reinterpret_cast<const char*>(values.data()), std::streamsize(values.size() * sizeof(float)));
  else out.write(blocks.data(), std::streamsize(blocks.size()));
  return out ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run({argv + 1, argv + argc});
  } catch (const std::exception& error) {
    std::cerr << error.what() << "\n";
    return 1;
  }
}
