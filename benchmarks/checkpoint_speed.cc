// Times one thing at a time for benchmarks/checkpoints_vs_peers.py; prints wall and processor seconds of each.
//   checkpoint_speed read FOLDER            the folder's safetensors files into memory, by read()
//   checkpoint_speed load FOLDER TYPE       the same folder as a checkpoint; TYPE: f32, bf16, f16 or stored
//   checkpoint_speed serve FOLDER THREADS   answers lines of standard input: "prefill T" and "decode PROMPT NEW"
#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <fcntl.h>
#include <unistd.h>

#include <chrono>
#include <cstring>
#include <ctime>
#include <functional>
#include <iostream>
#include <memory>

#include "base/check.h"
#include "device/device.h"
#include "model/generate.h"

namespace {

void timed(const std::function<void()>& work) {
  const auto begin = std::chrono::steady_clock::now();
  const std::clock_t ticks = std::clock();
  work();
  const double busy = static_cast<double>(std::clock() - ticks) / CLOCKS_PER_SEC;
  std::cout << std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count() << " " << busy << std::endl;
}

/// What any reader does at least: room for the file, and its bytes in it.
void read_whole(const attar::fs::path& file) {
  const size_t size = attar::fs::file_size(file);
  const std::unique_ptr<char, void (*)(void*)> room(static_cast<char*>(std::malloc(size)), std::free);
  const int descriptor = ::open(file.c_str(), O_RDONLY);
  size_t done = 0;
  while (done < size) {
    const ssize_t got = ::read(descriptor, room.get() + done, size - done);
    if (got <= 0) attar::fail("file " + file.string(), "to be readable", "an error");
    done += static_cast<size_t>(got);
  }
  ::close(descriptor);
}

std::vector<int64_t> some_ids(int64_t count, int64_t vocab) {
  std::vector<int64_t> ids;
  for (int64_t i = 0; i < count; ++i) ids.push_back(i * 7919 % vocab);
  return ids;
}

void serve(const attar::Decoder& model) {
  const at::NoGradGuard no_grad;
  const int64_t vocab = model.spec().vocab;
  std::string word;
  while (std::cin >> word) {
    int64_t prompt = 0, fresh = 0;
    std::cin >> prompt;
    if (word == "decode") std::cin >> fresh;
    const std::vector<int64_t> ids = some_ids(prompt, vocab);
    if (word == "prefill") {
      const at::Tensor tokens = at::tensor(at::ArrayRef<int64_t>(ids)).unsqueeze(0);
      timed([&] { model.logits(model.hidden({tokens, {}, {}, {}})); });
    } else {
      attar::GenerateOptions options;
      options.max_tokens = fresh;
      timed([&] { attar::generate(model, std::vector<int32_t>(ids.begin(), ids.end()), options); });
    }
  }
}

void run(const std::vector<std::string>& words) {
  const attar::fs::path folder = words.at(1);
  attar::set_up_machine(words[0] == "serve" ? std::stoll(words.at(2)) : 0);
  attar::LoadOptions options;
  options.tokenizer = false;
  if (words[0] == "read") {
    timed([&] {
      for (const auto& entry : attar::fs::directory_iterator(folder))
        if (entry.path().extension() == ".safetensors") read_whole(entry.path());
    });
  } else if (words[0] == "load") {
    if (words.at(2) == "bf16") options.dtype = at::kBFloat16;
    if (words.at(2) == "f16") options.dtype = at::kHalf;
    options.keep_dtype = words.at(2) == "stored";
    attar::Checkpoint kept;
    timed([&] { kept = attar::load_checkpoint(folder, options); });
  } else {
    attar::Checkpoint model = attar::load_checkpoint(folder, options);
    serve(attar::Decoder(model.spec, std::move(model.weights)));
  }
}

}  // namespace

int main(int argc, char** argv) {
  try {
    run({argv + 1, argv + argc});
  } catch (const std::exception& error) {
    std::cerr << error.what() << "\n";
    return 1;
  }
  return 0;
}
