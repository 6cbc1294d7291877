#pragma once
// A graph without a GPU: what is recorded is the function, and replaying calls it. Inputs, gradients and numbers that a recording must find where they
// lay are thereby tested; what a device makes of it is not.
#include <functional>
#include <memory>

#include "base/check.h"
#include "device/graph.h"

namespace attar {

class HostGraph : public DeviceGraph {
 public:
  explicit HostGraph(bool refuses = false) : refuses_(refuses) {}
  void record(const std::function<void()>& work) override {
    if (refuses_) fail("recording a graph", "work that never waits for the device", "a copy to the host");
    work_ = work;
  }
  void replay() override { work_(); }

 private:
  bool refuses_;
  std::function<void()> work_;
};

inline MakeGraph host_graphs(bool refuses = false) {
  return [refuses] { return std::make_unique<HostGraph>(refuses); };
}

}  // namespace attar
