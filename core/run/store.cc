#include "core/run/store.h"

#include "core/base/error.h"

namespace kumiki {

Store::~Store() {
  for (auto& [name, block] : blocks_) device_.release(block.address, block.bytes);
  if (arena_ != 0) device_.release(arena_, arena_bytes_);
}

void Store::add(const Plan& plan) {
  KM_CHECK(arena_ == 0, "plans are added before finish");
  arena_bytes_ = std::max(arena_bytes_, plan.arena.bytes);
  for (const Leaf& leaf : plan.leaves) {
    if (auto it = types_.find(leaf.name); it != types_.end()) {
      if (!(it->second == leaf.type)) throw Error(leaf.name, "has another type or shape in another graph of this run");
      continue;
    }
    const uint64_t bytes = leaf.type.bytes();
    const km_address address = device_.allocate(bytes);
    blocks_[leaf.name] = {address, bytes};
    types_[leaf.name] = leaf.type;
    leaves_.push_back(leaf);
    if (leaf.kind == ValueKind::kConstant) {
      const float value = static_cast<float>(leaf.constant);
      device_.upload(address, &value, sizeof value);
    } else if (leaf.kind == ValueKind::kState || leaf.kind == ValueKind::kScalar) {
      zero(leaf.name);
    }
  }
}

void Store::zero(const std::string& name) {
  const Block& block = blocks_.at(name);
  if (device_.fill(block.address, 0, block.bytes) != KM_OK || device_.wait() != KM_OK)
    throw Error("device " + device_.name(), "cannot clear memory");
}

void Store::finish() { arena_ = device_.allocate(arena_bytes_); }

km_address Store::leaf(const std::string& name) const {
  const auto it = blocks_.find(name);
  KM_CHECK(it != blocks_.end(), "a leaf named " + name);
  return it->second.address;
}

} // namespace kumiki
