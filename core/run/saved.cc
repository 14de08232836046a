#include "core/run/saved.h"

#include "core/base/error.h"

namespace kumiki {
namespace {

std::string shape_text(const Shape& shape) {
  std::string text = "[";
  for (size_t i = 0; i < shape.size(); ++i) text += (i ? ", " : "") + std::to_string(shape[i]);
  return text + "]";
}

const Shape& logical_shape(const Leaf& leaf) {
  return leaf.logical_shape.empty() ? leaf.type.shape : leaf.logical_shape;
}

} // namespace

std::vector<Slice> leaf_slices(const Store& store) {
  std::vector<Slice> slices;
  for (const Leaf& leaf : store.leaves()) {
    if (!leaf.saved || !leaf.writes) continue;
    Slice slice;
    slice.name = leaf.stored;
    slice.dtype = leaf.type.dtype;
    slice.logical_shape = logical_shape(leaf);
    slice.box_offset = leaf.box_offset;
    slice.box_shape = leaf.box_shape;
    slice.flat_begin = leaf.flat_begin;
    slice.flat_end = leaf.flat_end;
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
    const StoredTensor* stored = reader.find(leaf.stored);
    // A checkpoint that was imported has weights and no optimizer state: that begins at zero.
    if (!stored && leaf.kind == ValueKind::kState && reader.state().step == 0) continue;
    std::string wrong;
    if (!stored)
      wrong = "has no tensor " + leaf.stored;
    else if (stored->shape != logical_shape(leaf))
      wrong = leaf.stored + " is " + shape_text(stored->shape) + " there, " + shape_text(logical_shape(leaf)) +
              " in this configuration";
    if (!wrong.empty()) {
      Error error(reader.folder(), wrong, "the [model] and [optimizer] tables must be those of the run that saved it");
      error.exit_code = 4;
      throw error;
    }
    memory.resize(leaf.type.bytes());
    reader.read(leaf.stored, leaf.box_offset, leaf.box_shape, leaf.flat_begin, leaf.flat_end, memory.data());
    store.device().upload(store.leaf(leaf.name), memory.data(), memory.size());
  }
}

} // namespace kumiki
