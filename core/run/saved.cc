#include "core/run/saved.h"

#include "core/base/error.h"

namespace kumiki {
namespace {

std::string shape_text(const Shape& shape) {
  std::string text = "[";
  for (size_t i = 0; i < shape.size(); ++i) text += (i ? ", " : "") + std::to_string(shape[i]);
  return text + "]";
}

} // namespace

std::vector<Slice> leaf_slices(const Store& store) {
  std::vector<Slice> slices;
  for (const Leaf& leaf : store.leaves()) {
    if (!leaf.saved) continue;
    Slice slice;
    slice.name = leaf.name;
    slice.dtype = leaf.type.dtype;
    slice.logical_shape = leaf.type.shape;
    slice.bytes = leaf.type.bytes();
    slice.fetch = [&store, name = leaf.name, bytes = slice.bytes](void* out) {
      store.device().download(out, store.leaf(name), bytes);
    };
    slices.push_back(std::move(slice));
  }
  return slices;
}

void load_leaves(const CheckpointReader& reader, Store& store) {
  std::vector<std::byte> memory;
  for (const Leaf& leaf : store.leaves()) {
    if (!leaf.saved) continue;
    const StoredTensor* stored = reader.find(leaf.name);
    // A checkpoint that was imported has weights and no optimizer state: that begins at zero.
    if (!stored && leaf.kind == ValueKind::kState && reader.state().step == 0) continue;
    std::string wrong;
    if (!stored)
      wrong = "has no tensor " + leaf.name;
    else if (stored->shape != leaf.type.shape)
      wrong = leaf.name + " is " + shape_text(stored->shape) + " there, " + shape_text(leaf.type.shape) +
              " in this configuration";
    if (!wrong.empty()) {
      Error error(reader.folder(), wrong, "the [model] and [optimizer] tables must be those of the run that saved it");
      error.exit_code = 4;
      throw error;
    }
    memory.resize(leaf.type.bytes());
    reader.read(leaf.name, {}, {}, 0, -1, memory.data());
    store.device().upload(store.leaf(leaf.name), memory.data(), memory.size());
  }
}

} // namespace kumiki
