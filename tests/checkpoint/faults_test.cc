// Every operation on files fails, or is the last before the process or the machine dies, in turn.
#include <catch2/catch.hpp>

#include "core/base/error.h"
#include "core/checkpoint/folders.h"
#include "tests/checkpoint/memory_fs.h"
#include "tests/checkpoint/samples.h"

namespace kumiki {
namespace {

constexpr char kFolder[] = "runs/test/checkpoints";

WriterOptions small_shards(int64_t keep) {
  WriterOptions options;
  options.folder = kFolder;
  options.keep = keep;
  options.shard_bytes = 100; // several files
  return options;
}

void save_step(MemoryFs& fs, int64_t step, int64_t keep, uint32_t content) {
  ManualClock clock;
  CheckpointWriter writer(fs, clock, small_shards(keep));
  const Samples samples = make_samples(content);
  writer.save(make_state(step), whole_slices(samples));
  writer.wait();
}

// Step and content of the newest checkpoint, verified; (0, 0): there is none. Throws if it is broken.
std::pair<int64_t, uint32_t> newest(MemoryFs& fs, const std::vector<uint32_t>& contents) {
  const std::string path = latest_checkpoint(fs, kFolder);
  if (path.empty()) return {0, 0};
  const CheckpointReader reader(fs, path);
  for (uint32_t content : contents)
    if (holds(reader, make_samples(content))) return {reader.state().step, content};
  throw Error(path, "holds what nobody saved");
}

struct Scene {
  const char* name;
  std::vector<int64_t> before; // steps saved before, content = step
  int64_t step;                // what is saved under faults
  uint32_t content;
  int64_t keep;
};
const Scene kScenes[] = {
    {"the first checkpoint", {}, 1, 1, 0},
    {"a second checkpoint", {1}, 2, 2, 0},
    {"a checkpoint that pushes two out", {1, 2, 3}, 4, 4, 2},
    {"a checkpoint that replaces one of the same step", {1, 2}, 2, 22, 0},
};

void prepare(MemoryFs& fs, const Scene& scene, std::mt19937& random) {
  fs.make_folders(kFolder);
  for (int64_t step : scene.before) save_step(fs, step, 0, static_cast<uint32_t>(step));
  fs.restart(false, random);
}

int64_t count_operations(const Scene& scene) {
  std::mt19937 random(1);
  MemoryFs fs;
  prepare(fs, scene, random);
  fs.inject(MemoryFs::Fault::kNone, -1);
  save_step(fs, scene.step, scene.keep, scene.content);
  return fs.operations();
}

// The old newest or the new one, whole; and a next run cleans up and saves.
void check_aftermath(MemoryFs& fs, const Scene& scene, bool must_be_new) {
  const std::pair<int64_t, uint32_t> old_one =
      scene.before.empty()
          ? std::pair<int64_t, uint32_t>{0, 0}
          : std::pair<int64_t, uint32_t>{scene.before.back(), static_cast<uint32_t>(scene.before.back())};
  const std::pair<int64_t, uint32_t> new_one{scene.step, scene.content};
  const auto found = newest(fs, {old_one.second, new_one.second});
  CHECK((found == new_one || (!must_be_new && found == old_one)));
  for (const std::string& path : list_checkpoints(fs, kFolder)) REQUIRE_NOTHROW(CheckpointReader(fs, path));
  save_step(fs, 9, 0, 9);
  CHECK(newest(fs, {9}) == std::pair<int64_t, uint32_t>{9, 9});
  for (const std::string& name : fs.list(kFolder)) CHECK(checkpoint_step(name) >= 0);
}

} // namespace

TEST_CASE("whichever operation fails, the newest checkpoint is whole, the old or the new one") {
  for (const Scene& scene : kScenes) {
    const int64_t operations = count_operations(scene);
    REQUIRE(operations > 20);
    for (int64_t at = 0; at < operations; ++at) {
      INFO(scene.name << ", operation " << at << " of " << operations);
      std::mt19937 random(1);
      MemoryFs fs;
      prepare(fs, scene, random);
      fs.inject(MemoryFs::Fault::kFail, at);
      bool failed = false;
      try {
        save_step(fs, scene.step, scene.keep, scene.content);
      } catch (const Error& error) {
        failed = true;
        CHECK(error.exit_code == 6);
      }
      CHECK(failed);
      fs.inject(MemoryFs::Fault::kNone, -1);
      check_aftermath(fs, scene, false);
    }
  }
}

TEST_CASE(
    "wherever the process is killed or the power is cut, the newest checkpoint is whole, the old or the new one") {
  for (const Scene& scene : kScenes) {
    const int64_t operations = count_operations(scene);
    for (int64_t at = 0; at < operations; ++at) {
      for (uint32_t seed = 0; seed < 6; ++seed) { // 0: killed; others: power cuts that lose different parts
        INFO(scene.name << ", operation " << at << " of " << operations << ", seed " << seed);
        std::mt19937 random(seed);
        MemoryFs fs;
        prepare(fs, scene, random);
        fs.inject(MemoryFs::Fault::kDie, at);
        bool died = false;
        try {
          save_step(fs, scene.step, scene.keep, scene.content);
        } catch (const ProcessDied&) {
          died = true;
        }
        CHECK(died);
        fs.restart(seed != 0, random);
        check_aftermath(fs, scene, false);
      }
    }
  }
}

TEST_CASE("a checkpoint that was reported survives a power cut right after") {
  for (const Scene& scene : kScenes) {
    for (uint32_t seed = 0; seed < 20; ++seed) {
      INFO(scene.name << ", seed " << seed);
      std::mt19937 random(seed);
      MemoryFs fs;
      prepare(fs, scene, random);
      save_step(fs, scene.step, scene.keep, scene.content);
      fs.restart(true, random);
      check_aftermath(fs, scene, true);
    }
  }
}

TEST_CASE("a full disk is an error of the next call, and the space is given back") {
  MemoryFs fs;
  ManualClock clock;
  CheckpointWriter writer(fs, clock, small_shards(0));
  writer.save(make_state(1), whole_slices(make_samples(1)));
  writer.wait();
  const uint64_t used = fs.used();
  for (uint64_t room = 0; room < used; room += 37) {
    INFO("room for " << room << " bytes");
    fs.set_capacity(used + room);
    writer.save(make_state(2), whole_slices(make_samples(2)));
    try {
      writer.save(make_state(3), whole_slices(make_samples(3)));
      FAIL("the disk was full");
    } catch (const Error& error) {
      CHECK(error.exit_code == 6);
      CHECK(std::string(error.what()).find("No space left") != std::string::npos);
    }
    CHECK(fs.used() == used);
    CHECK(newest(fs, {1}) == std::pair<int64_t, uint32_t>{1, 1});
  }
  fs.set_capacity(~uint64_t{0});
  writer.save(make_state(4), whole_slices(make_samples(4)));
  writer.wait();
  CHECK(newest(fs, {4}) == std::pair<int64_t, uint32_t>{4, 4});
  CHECK(writer.report().step == 4);
}

} // namespace kumiki
