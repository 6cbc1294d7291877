#pragma once
#include <optional>
#include <string>

#include "base/files.h"
#include "base/json.h"
#include "dist/process_group.h"
#include "model/checkpoint.h"

namespace attar {

/// What a walk made of the layers that it has finished, in a folder, so that a killed walk need not make them again: one file a layer, whole or
/// absent. Rank 0 writes, every rank reads; between two layers the ranks must have worked together, so that none is a layer ahead.
class KeptLayers {
 public:
  struct Layer {
    StateDict tensors;            ///< by any names; float32, float16, bfloat16, uint8 or bool
    Json facts = Json::object();
  };
  /// `folder` empty: nothing is kept. `what`: everything that the layers follow from; files of anything else are not read.
  KeptLayers(fs::path folder, const std::string& what, ProcessGroup& group);

  /// Nothing, if the layer (from 0) was not finished.
  std::optional<Layer> read(int64_t layer) const;
  void write(int64_t layer, const Layer& made) const;
  /// After a layer: throws Stopped on every rank if a signal came to any of them.
  void stop_if_asked() const;

 private:
  fs::path file(int64_t layer) const;
  fs::path folder_;
  std::string fingerprint_;
  ProcessGroup* group_;
};

}  // namespace attar
