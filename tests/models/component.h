// A component of one plugin file, open, for tests that need no registry: loads the .so, finds the component, fills in its
// declared defaults and what the test gives, and opens it with a host that has the graph service and keeps error texts.
#pragma once

#include <map>
#include <string>

#include "core/graph/graph.h"
#include "kumiki/model.h"
#include "kumiki/plugin.h"

namespace kumiki::test {

class Component {
 public:
  // path: as the build lays it out, "plugins/models/transformer/gpt/gpt.so", from the current folder. options: as in TOML, without
  // quotes. Throws std::runtime_error with the plugin's text where something fails.
  Component(const std::string& path, const std::string& kind, const std::map<std::string, std::string>& options = {});
  ~Component();
  Component(const Component&) = delete;
  Component& operator=(const Component&) = delete;

  template <typename Table>
  const Table& table() const {
    return *static_cast<const Table*>(component_->table);
  }
  const km_component& description() const { return *component_; }
  void* self() const { return self_; }
  static const km_host* host();
  // The text of the last host->fail, and clears it.
  static std::string take_error();

 private:
  void* library_ = nullptr;
  const km_component* component_ = nullptr;
  void* self_ = nullptr;
};

// What run.sequence, run.micro_batch and the data say about a test's graph.
struct ModelShape {
  int64_t batch = 2;
  int64_t tokens = 8;
  int64_t vocabulary = 0;
  int64_t capacity = 0;
  int64_t sequence = 0; // 0: tokens
  bool segments = false;
};
// The shape as km_model::build takes it.
km_model_shape abi_shape(uint32_t mode, const ModelShape& shape);
// Declares the inputs and lets the model build into `graph`; throws std::runtime_error with the text of what fails.
void build_model(const Component& model, Graph& graph, const ModelShape& shape);

} // namespace kumiki::test
