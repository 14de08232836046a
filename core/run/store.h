// The memory of a run on its device: leaves by name (parameters, states, inputs, constants, the block of step scalars),
// shared by all plans, and one arena, as large as the largest plan needs. Floor: run.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "core/plan/plan.h"

namespace kumiki {

class Store {
 public:
  explicit Store(Device& device) : device_(device) {}
  ~Store();
  Store(const Store&) = delete;
  Store& operator=(const Store&) = delete;

  // Makes room for all that the plan names. Leaves of the same name must agree in type; new ones are filled with zeros (states
  // and caches), with their value (constants), or left as they come (parameters, inputs).
  void add(const Plan& plan);
  // After the last add: allocates the arena. Addresses are valid from here on.
  void finish();

  km_address leaf(const std::string& name) const;
  bool has(const std::string& name) const { return blocks_.count(name) != 0; }
  km_address arena() const { return arena_; }
  const std::vector<Leaf>& leaves() const { return leaves_; } // in order of their first naming
  Device& device() const { return device_; }
  void zero(const std::string& name);

 private:
  struct Block {
    km_address address = 0;
    uint64_t bytes = 0;
  };
  Device& device_;
  std::vector<Leaf> leaves_;
  std::map<std::string, Block> blocks_;
  std::map<std::string, Type> types_;
  km_address arena_ = 0;
  uint64_t arena_bytes_ = 0;
};

} // namespace kumiki
