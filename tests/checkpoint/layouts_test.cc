// What was saved under one layout is read under any other, bit by bit.
#include <catch2/catch.hpp>

#include "core/base/error.h"
#include "tests/checkpoint/memory_fs.h"
#include "tests/checkpoint/samples.h"

namespace kumiki {
namespace {

Shape random_shape(std::mt19937& random) {
  Shape shape(random() % 4);
  for (int64_t& size : shape) size = 1 + static_cast<int64_t>(random() % 9);
  return shape;
}

// A partition of a tensor as parallel layouts make them: a grid of boxes with uneven cuts, each cut again into flat
// ranges.
std::vector<Region> random_layout(const Shape& shape, std::mt19937& random) {
  std::vector<Region> boxes{{Shape(shape.size(), 0), shape, 0, 0}};
  for (size_t axis = 0; axis < shape.size(); ++axis) {
    if (random() % 2) continue;
    std::vector<Region> finer;
    const int64_t cut = static_cast<int64_t>(random() % static_cast<uint64_t>(shape[axis] + 1));
    for (const Region& box : boxes) {
      Region low = box, high = box;
      low.shape[axis] = cut;
      high.offset[axis] = cut;
      high.shape[axis] = shape[axis] - cut;
      if (cut > 0) finer.push_back(low);
      if (cut < shape[axis]) finer.push_back(high);
    }
    boxes = finer;
  }
  std::vector<Region> regions;
  for (Region box : boxes) {
    const int64_t elements = checked_elements(box.shape);
    const int64_t parts = 1 + static_cast<int64_t>(random() % 3);
    for (int64_t part = 0; part < parts; ++part) {
      box.flat_begin = elements * part / parts;
      box.flat_end = elements * (part + 1) / parts;
      if (box.flat_begin < box.flat_end) regions.push_back(box);
    }
  }
  std::shuffle(regions.begin(), regions.end(), random);
  return regions;
}

// The meaning of a region, element by element.
std::vector<uint32_t> slow_cut(const Shape& shape, const std::vector<uint32_t>& whole, const Region& region) {
  std::vector<uint32_t> out;
  for (int64_t flat = region.flat_begin; flat < region.flat_end; ++flat) {
    int64_t rest = flat, place = 0, stride = 1;
    for (size_t i = shape.size(); i-- > 0;) {
      place += (region.offset[i] + rest % region.shape[i]) * stride;
      rest /= region.shape[i];
      stride *= shape[i];
    }
    out.push_back(whole[static_cast<size_t>(place)]);
  }
  return out;
}

Slice slice_of(const std::string& name, const Shape& shape, const Region& region) {
  Slice slice;
  slice.name = name;
  slice.logical_shape = shape;
  slice.box_offset = region.offset;
  slice.box_shape = region.shape;
  slice.flat_begin = region.flat_begin;
  slice.flat_end = region.flat_end;
  slice.bytes = static_cast<uint64_t>(region.elements()) * 4;
  return slice;
}

WriterOptions options_of(int64_t rank, int64_t ranks) {
  WriterOptions options;
  options.folder = "checkpoints";
  options.shard_bytes = 256;
  options.rank = rank;
  options.ranks = ranks;
  return options;
}

} // namespace

TEST_CASE("tensors saved by 1 to 4 ranks under random layouts are read under other random layouts") {
  const uint32_t seed = 20240611;
  for (uint32_t round = 0; round < 120; ++round) {
    INFO("seed " << seed << ", round " << round);
    std::mt19937 random(seed + round);
    MemoryFs fs;
    const int64_t ranks = 1 + static_cast<int64_t>(random() % 4);
    std::map<std::string, std::pair<Shape, std::vector<uint32_t>>> tensors;
    std::vector<std::vector<Slice>> of_rank(static_cast<size_t>(ranks));
    std::vector<std::vector<uint32_t>> storage;
    storage.reserve(1000);
    for (int i = 0; i < 4; ++i) {
      const std::string name = (i % 2 ? "weight/momentum" : "weight") + std::to_string(i);
      const Shape shape = random_shape(random);
      std::vector<uint32_t> whole(static_cast<size_t>(checked_elements(shape)));
      for (uint32_t& value : whole) value = static_cast<uint32_t>(random());
      tensors[name] = {shape, whole};
      for (const Region& region : random_layout(shape, random)) {
        storage.push_back(slow_cut(shape, whole, region));
        Slice slice = slice_of(name, shape, region);
        slice.data = storage.back().data();
        const size_t owner = random() % static_cast<size_t>(ranks);
        of_rank[owner].push_back(slice);
        if (random() % 4 == 0 && owner != 0) of_rank[0].push_back(slice); // a replica, stored twice
      }
    }
    ManualClock clock;
    std::vector<std::unique_ptr<CheckpointWriter>> writers;
    for (int64_t rank = 0; rank < ranks; ++rank)
      writers.push_back(std::make_unique<CheckpointWriter>(fs, clock, options_of(rank, ranks)));
    for (size_t rank = static_cast<size_t>(ranks); rank-- > 0;) {
      writers[rank]->save(make_state(3), of_rank[rank]);
      writers[rank]->wait();
    }
    const CheckpointReader reader(fs, latest_checkpoint(fs, "checkpoints"));
    REQUIRE(reader.tensors().size() == tensors.size());
    for (const auto& [name, tensor] : tensors) {
      const auto& [shape, whole] = tensor;
      REQUIRE(reader.find(name));
      CHECK(reader.find(name)->shape == shape);
      for (const Region& region : random_layout(shape, random)) {
        std::vector<uint32_t> out(static_cast<size_t>(region.elements()) + 1, 0xdeadbeef);
        reader.read(slice_of(name, shape, region), out.data());
        CHECK(out.back() == 0xdeadbeef);
        out.pop_back();
        CHECK(out == slow_cut(shape, whole, region));
      }
    }
  }
}

TEST_CASE("a part that nobody saved is an error that says which") {
  MemoryFs fs;
  ManualClock clock;
  CheckpointWriter writer(fs, clock, options_of(0, 1));
  const std::vector<float> data(6, 1.0f);
  Slice slice = slice_of("weight", {4, 3}, {{0, 0}, {2, 3}, 0, 6});
  slice.data = data.data();
  writer.save(make_state(1), {slice});
  writer.wait();
  const CheckpointReader reader(fs, latest_checkpoint(fs, "checkpoints"));
  std::vector<float> out(12);
  CHECK_NOTHROW(reader.read("weight", {1, 0}, {1, 3}, 0, -1, out.data()));
  CHECK_THROWS_WITH(reader.read("weight", {}, {}, 0, -1, out.data()),
                    Catch::Contains("element 6 of box [4,3] at [0,0] of tensor weight is not in the checkpoint"));
  CHECK_THROWS_WITH(reader.read("weight", {3, 0}, {2, 3}, 0, -1, out.data()), Catch::Contains("does not lie inside"));
  CHECK_THROWS_WITH(reader.read("wight", {}, {}, 0, -1, out.data()), Catch::Contains("tensor wight is not in"));
  Slice other = slice_of("weight", {5, 3}, {{0, 0}, {1, 3}, 0, 3});
  CHECK_THROWS_WITH(reader.read(other, out.data()),
                    Catch::Contains("F32[4,3] in the checkpoint and F32[5,3] in this run"));
}

TEST_CASE("slices that contradict each other are refused at once") {
  MemoryFs fs;
  ManualClock clock;
  CheckpointWriter writer(fs, clock, options_of(0, 1));
  const std::vector<float> data(12);
  Slice a = slice_of("weight", {4, 3}, {{0, 0}, {2, 3}, 0, 6});
  a.data = data.data();
  Slice b = a;
  CHECK_THROWS_WITH(writer.save(make_state(1), {a, b}), Catch::Contains("given twice"));
  b.box_offset = {2, 0};
  b.logical_shape = {5, 3};
  CHECK_THROWS_WITH(writer.save(make_state(1), {a, b}), Catch::Contains("disagree"));
  b.logical_shape = {4, 3};
  b.bytes = 4;
  CHECK_THROWS_WITH(writer.save(make_state(1), {a, b}), Catch::Contains("4 bytes and its region 24"));
  CHECK(latest_checkpoint(fs, "checkpoints").empty());
}

TEST_CASE("rank 0 waits for the others, and says who did not come or what went wrong there") {
  const std::vector<float> data(6);
  Slice slice = slice_of("weight", {2, 3}, {{0, 0}, {2, 3}, 0, 6});
  slice.data = data.data();
  MemoryFs fs;
  ManualClock clock;
  CheckpointWriter first(fs, clock, options_of(0, 2));
  CheckpointWriter second(fs, clock, options_of(1, 2));
  first.save(make_state(1), {slice});
  CHECK_THROWS_WITH(first.wait(), Catch::Contains("rank 1 did not write its part within 1800 s"));
  CHECK(fs.list("checkpoints").empty());

  second.save(make_state(1), {});
  second.wait();
  fs.inject(MemoryFs::Fault::kFail, 2);
  second.save(make_state(2), {slice});
  CHECK_THROWS_WITH(second.wait(), Catch::Contains("Input/output error"));
  first.save(make_state(2), {slice});
  CHECK_THROWS_WITH(first.wait(),
                    Catch::Contains("rank 1 could not write its part") && Catch::Contains("Input/output"));
  CHECK(latest_checkpoint(fs, "checkpoints").empty());
}

} // namespace kumiki
