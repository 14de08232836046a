// Files that changed behind the trainer's back are found, named, and an earlier checkpoint is offered.
#include <catch2/catch.hpp>

#include "core/base/error.h"
#include "tests/checkpoint/memory_fs.h"
#include "tests/checkpoint/samples.h"

namespace kumiki {
namespace {

void save_steps(MemoryFs& fs, std::initializer_list<int64_t> steps) {
  ManualClock clock;
  WriterOptions options;
  options.folder = "checkpoints";
  options.shard_bytes = 100;
  CheckpointWriter writer(fs, clock, options);
  for (int64_t step : steps) {
    const Samples samples = make_samples(static_cast<uint32_t>(step));
    writer.save(make_state(step), whole_slices(samples));
  }
  writer.wait();
}

std::string error_of(MemoryFs& fs, const std::string& folder) {
  try {
    const CheckpointReader reader(fs, folder);
  } catch (const Error& error) {
    CHECK(error.exit_code == 4);
    return error.what();
  }
  return "";
}

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

} // namespace

TEST_CASE("each flipped bit, and each cut, of each file is found before anything is used") {
  MemoryFs fs;
  save_steps(fs, {1, 2});
  const std::string folder = "checkpoints/step-000000002";
  REQUIRE(fs.list(folder).size() >= 6);
  std::mt19937 random(7);
  for (const std::string& name : fs.list(folder)) {
    std::string& contents = fs.contents(folder + "/" + name);
    const std::string good = contents;
    for (int i = 0; i < 200; ++i) {
      const size_t place = random() % good.size();
      const int bit = static_cast<int>(random() % 8);
      INFO(name << ", byte " << place << ", bit " << bit);
      contents[place] = static_cast<char>(contents[place] ^ 1 << bit);
      const std::string error = error_of(fs, folder);
      CHECK(contains(error, folder + "/" + name));
      CHECK(contains(error, "an earlier checkpoint is good: checkpoints/step-000000001"));
      contents = good;
    }
    for (int i = 0; i < 20; ++i) {
      contents.resize(random() % good.size());
      INFO(name << " cut at " << contents.size());
      CHECK(contains(error_of(fs, folder), folder + "/" + name));
      contents = good + std::string(1 + random() % 9, ' ');
      CHECK(contains(error_of(fs, folder), folder + "/" + name));
      contents = good;
    }
  }
  CHECK(error_of(fs, folder).empty());
}

TEST_CASE("a missing file is named") {
  const std::string folder = "checkpoints/step-000000002";
  MemoryFs whole;
  save_steps(whole, {2});
  for (const std::string& name : whole.list(folder)) {
    MemoryFs fs;
    save_steps(fs, {2});
    fs.remove(folder + "/" + name);
    const std::string error = error_of(fs, folder);
    CHECK(contains(error, folder + "/" + name));
    CHECK(contains(error, "no earlier checkpoint beside it is good"));
  }
}

TEST_CASE("the newest good checkpoint is found behind broken ones") {
  MemoryFs fs;
  save_steps(fs, {1, 2, 3, 4});
  for (int step : {3, 4}) fs.contents("checkpoints/" + checkpoint_name(step) + "/state.json")[5] ^= 1;
  CHECK(newest_good_checkpoint(fs, "checkpoints", 1000) == "checkpoints/step-000000002");
  CHECK(newest_good_checkpoint(fs, "checkpoints", 2) == "checkpoints/step-000000001");
  CHECK(newest_good_checkpoint(fs, "checkpoints", 1).empty());
  CHECK(contains(error_of(fs, "checkpoints/step-000000004"),
                 "an earlier checkpoint is good: checkpoints/step-000000002"));
}

TEST_CASE("a folder that is no checkpoint is an error, and is not listed") {
  MemoryFs fs;
  save_steps(fs, {5});
  fs.make_folders("checkpoints/step-000000006");
  fs.make_folders("checkpoints/step-7");
  fs.make_folders("checkpoints/notes");
  CHECK(list_checkpoints(fs, "checkpoints") == std::vector<std::string>{"checkpoints/step-000000005"});
  CHECK(contains(error_of(fs, "checkpoints/step-000000006"), "manifest.json"));
  CHECK(contains(error_of(fs, "nowhere"), "no checkpoint is there"));
  CHECK(list_checkpoints(fs, "nowhere").empty());
  CHECK(latest_checkpoint(fs, "nowhere").empty());
}

} // namespace kumiki
