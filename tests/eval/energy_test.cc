#include "eval/energy.h"

#include <cstdlib>

#include "base/files.h"
#include "data_path.h"
#include "eval/latency.h"
#include "eval/tiny_decoder.h"

namespace attar {
namespace {

/// A folder as sysfs shows one RAPL domain.
void domain_folder(const fs::path& root, const std::string& folder, const std::string& name, const std::string& energy, const std::string& range) {
  fs::create_directories(root / folder);
  write_file(root / folder / "name", name + "\n");
  if (!energy.empty()) write_file(root / folder / "energy_uj", energy + "\n");
  write_file(root / folder / "max_energy_range_uj", range + "\n");
}

TEST(Energy, AddsPackagesAndMemoryOnceAndFollowsACounterRoundItsEnd) {
  const TestFolder root;
  domain_folder(root.path(), "intel-rapl:0", "package-0", "5000000", "10000000");
  domain_folder(root.path(), "intel-rapl:0:0", "core", "1000000", "10000000");
  domain_folder(root.path(), "intel-rapl:0:1", "dram", "9000000", "10000000");
  domain_folder(root.path(), "intel-rapl:1", "psys", "100", "10000000");
  fs::create_directories(root / "intel-rapl");
  EnergyMeter meter(root.path());
  EXPECT_EQ(meter.reason(), "");
  EXPECT_EQ(meter.domains(), (std::vector<std::string>{"package-0", "dram"}));
  meter.start();
  EXPECT_EQ(meter.joules(), 0);
  write_file(root / "intel-rapl:0/energy_uj", "7500000\n");    // 2.5 J
  write_file(root / "intel-rapl:0:0/energy_uj", "9000000\n");  // part of the package
  write_file(root / "intel-rapl:0:1/energy_uj", "500000\n");   // over its end: 1.5 J
  EXPECT_DOUBLE_EQ(meter.joules(), 4.0);
  meter.start();
  EXPECT_EQ(meter.joules(), 0);
}

TEST(Energy, SaysWhyThereIsNone) {
  const TestFolder root;
  EXPECT_NE(EnergyMeter(root.path()).reason().find("no RAPL counters"), std::string::npos);
  EXPECT_NE(EnergyMeter(root / "nothing").reason().find("no RAPL counters"), std::string::npos);
  domain_folder(root.path(), "intel-rapl:0", "package-0", "5", "100");
  domain_folder(root.path(), "intel-rapl:1", "package-1", "", "100");
  EnergyMeter half(root.path());
  EXPECT_NE(half.reason().find("package-1"), std::string::npos);
  EXPECT_TRUE(half.domains().empty());
}

/// The library of fake_nvml.cc, which lies beside the test: `gpus` of them, each using 1.5 J more whenever it is asked.
std::string fake_nvml(const char* gpus) {
  setenv("FAKE_NVML_GPUS", gpus, 1);
  return (fs::read_symlink("/proc/self/exe").parent_path() / "fake_nvml.so").string();
}

TEST(Energy, GpusAreAddedWhereNvmlCountsThem) {
  const TestFolder root;
  domain_folder(root.path(), "intel-rapl:0", "package-0", "5000000", "10000000");
  EnergyMeter meter(root.path(), fake_nvml("2"));
  EXPECT_EQ(meter.source(), "RAPL");
  EXPECT_EQ(meter.domains(), (std::vector<std::string>{"package-0"}));
  meter.count_gpus(true);
  EXPECT_EQ(meter.reason(), "");
  EXPECT_EQ(meter.source(), "RAPL and NVML");
  EXPECT_EQ(meter.domains(), (std::vector<std::string>{"package-0", "gpu-0", "gpu-1"}));
  meter.start();
  write_file(root / "intel-rapl:0/energy_uj", "7500000\n");
  EXPECT_DOUBLE_EQ(meter.joules(), 2.5 + 2 * 1.5);
  meter.count_gpus(false);
  EXPECT_EQ(meter.source(), "RAPL");
  EXPECT_EQ(meter.joules(), 0);
}

TEST(Energy, GpusAloneSayThatProcessorsAreLeftOut) {
  const TestFolder root;
  EnergyMeter meter(root.path(), fake_nvml("1"));
  EXPECT_TRUE(meter.domains().empty());
  meter.count_gpus(true);
  EXPECT_EQ(meter.source(), "NVML");
  EXPECT_EQ(meter.reason(), "without processors: this machine shows no RAPL counters");
  meter.start();
  EXPECT_DOUBLE_EQ(meter.joules(), 1.5);
}

TEST(Energy, WithoutNvmlThereIsNoNumberForAModelOnAGpu) {
  const TestFolder root;
  domain_folder(root.path(), "intel-rapl:0", "package-0", "5000000", "10000000");
  for (const auto& [library, why] : std::vector<std::pair<std::string, std::string>>{
           {"/nowhere/libnvidia-ml.so.1", "is not on this machine"}, {fake_nvml("0"), "NVML shows no GPU"}, {"libc.so.6", "NVML shows no GPU"}}) {
    EnergyMeter meter(root.path(), library);
    meter.count_gpus(true);
    EXPECT_TRUE(meter.domains().empty());
    EXPECT_NE(meter.reason().find(why), std::string::npos) << meter.reason();
    EXPECT_EQ(meter.joules(), 0);
  }
  EnergyMeter broken(root.path(), fake_nvml("-3"));
  broken.count_gpus(true);
  EXPECT_NE(broken.reason().find("GPU 2 cannot be read"), std::string::npos) << broken.reason();
}

TEST(Energy, ATimedRunSaysWhatItUsedOrWhyNot) {
  const Decoder model = tiny_decoder();
  LatencyOptions options;
  options.prompt_tokens = 4, options.new_tokens = 3, options.runs = 2, options.warm_up = 0;
  const TestFolder root;
  EnergyMeter none(root.path());
  EXPECT_EQ(measure_latency(model, options, &none).energy_json().get<std::string>(), "not measured: this machine shows no RAPL counters");
  EXPECT_EQ(measure_latency(model, options).energy_json().get<std::string>(), "not measured");
  domain_folder(root.path(), "intel-rapl:0", "package-0", "5000000", "10000000");
  EnergyMeter meter(root.path());
  const Json found = measure_latency(model, options, &meter).energy_json();
  EXPECT_EQ(found["tokens"], 6);
  EXPECT_EQ(found["joules"], 0.0);
  EXPECT_EQ(found["value"], 0.0);
  EXPECT_EQ(found["domains"], Json::array({"package-0"}));
  EXPECT_EQ(found["source"], "RAPL");
  EXPECT_TRUE(found["left_out"].is_null());
}

}  // namespace
}  // namespace attar
