// What is saved comes back bit by bit, and folders and files are as the format says.
#include <catch2/catch.hpp>

#include <cmath>
#include <filesystem>
#include <limits>

#include "core/base/error.h"
#include "core/base/fs.h"
#include "core/checkpoint/format.h"
#include "tests/checkpoint/memory_fs.h"
#include "tests/checkpoint/samples.h"

namespace kumiki {
namespace {

WriterOptions options_in(const std::string& folder) {
  WriterOptions options;
  options.folder = folder;
  return options;
}

} // namespace

TEST_CASE("tensors and state come back from a real disk as they were") {
  const std::filesystem::path root =
      std::filesystem::temp_directory_path() / ("kumiki_round_trip_" + std::to_string(::getpid()));
  const std::string folder = (root / "run" / "checkpoints").string();
  {
    CheckpointWriter writer(real_fs(), real_clock(), options_in(folder));
    for (uint32_t step : {1u, 2u}) {
      const Samples samples = make_samples(step);
      writer.save(make_state(step), whole_slices(samples));
    }
    writer.wait();
    CHECK(writer.report().step == 2);
    CHECK(writer.report().folder == folder + "/step-000000002");
    CHECK_FALSE(writer.busy());
  }
  CHECK(list_checkpoints(real_fs(), folder).size() == 2);
  for (uint32_t step : {1u, 2u}) {
    const CheckpointReader reader(real_fs(), folder + "/" + checkpoint_name(step));
    CHECK(holds(reader, make_samples(step)));
    CHECK(reader.state().texts == make_state(step).texts);
  }
  // A checkpoint replaces one of its step.
  {
    CheckpointWriter writer(real_fs(), real_clock(), options_in(folder));
    const Samples samples = make_samples(22);
    writer.save(make_state(2), whole_slices(samples));
    writer.wait();
  }
  CHECK(holds(CheckpointReader(real_fs(), latest_checkpoint(real_fs(), folder)), make_samples(22)));
  CHECK(real_fs().list(folder).size() == 2);
  std::filesystem::remove_all(root);
}

TEST_CASE("every field of the state survives, also what JSON does not have") {
  RunState state = make_state(123456789);
  state.numbers["infinite"] = std::numeric_limits<double>::infinity();
  state.numbers["minus"] = -std::numeric_limits<double>::infinity();
  state.numbers["nan"] = std::nan("");
  state.numbers["least"] = std::numeric_limits<double>::denorm_min();
  state.numbers["zero"] = -0.0;
  state.texts["empty"] = "";
  state.texts["all"] = [] {
    std::string bytes;
    for (int i = 0; i < 256; ++i) bytes += static_cast<char>(i);
    return bytes;
  }();
  const RunState back = state_from_json("state.json", state_to_json(state));
  CHECK(back.step == state.step);
  CHECK(back.sample == state.sample);
  CHECK(back.tokens == state.tokens);
  CHECK(back.seed == state.seed);
  CHECK(back.config_toml == state.config_toml);
  CHECK(back.kernel_choices == state.kernel_choices);
  CHECK(back.texts == state.texts);
  REQUIRE(back.numbers.size() == state.numbers.size());
  for (const auto& [key, value] : state.numbers) {
    INFO(key);
    const double other = back.numbers.at(key);
    CHECK(((std::isnan(value) && std::isnan(other)) || std::memcmp(&value, &other, sizeof value) == 0));
  }
}

TEST_CASE("a state of a later version of the format is refused by name, unknown keys are passed over") {
  std::string text = state_to_json(make_state(1));
  text.insert(text.find('{') + 1, "\"added_later\": [1, 2],");
  CHECK(state_from_json("state.json", text).step == 1);
  text.replace(text.find("\"version\": 1"), 12, "\"version\": 2");
  CHECK_THROWS_WITH(state_from_json("x/state.json", text),
                    Catch::Contains("x/state.json") && Catch::Contains("later version"));
  CHECK_THROWS_WITH(state_from_json("x/state.json", "{\"version\": 1}"), Catch::Contains("x/state.json"));
  CHECK_THROWS_AS(state_from_json("x/state.json", "]"), Error);
}

TEST_CASE("the newest checkpoints stay, as many as keep says") {
  for (int64_t keep : {0, 1, 3}) {
    MemoryFs fs;
    ManualClock clock;
    WriterOptions options = options_in("checkpoints");
    options.keep = keep;
    CheckpointWriter writer(fs, clock, options);
    const Samples samples = make_samples(1);
    for (int64_t step = 10; step <= 50; step += 10) writer.save(make_state(step), whole_slices(samples));
    writer.wait();
    const std::vector<std::string> left = list_checkpoints(fs, "checkpoints");
    CHECK(left.size() == static_cast<size_t>(keep == 0 ? 5 : keep));
    CHECK(left.back() == "checkpoints/step-000000050");
    CHECK(fs.list("checkpoints").size() == left.size());
  }
}

TEST_CASE("going on from an older step does not delete what was just written") {
  MemoryFs fs;
  ManualClock clock;
  WriterOptions options = options_in("checkpoints");
  options.keep = 1;
  CheckpointWriter writer(fs, clock, options);
  const Samples samples = make_samples(1);
  writer.save(make_state(30), whole_slices(samples));
  writer.save(make_state(20), whole_slices(samples));
  writer.wait();
  CHECK(list_checkpoints(fs, "checkpoints").size() == 2);
}

TEST_CASE("parameters and optimizer state lie in files of their own, cut at the shard size") {
  MemoryFs fs;
  ManualClock clock;
  WriterOptions options = options_in("checkpoints");
  options.shard_bytes = 200;
  CheckpointWriter writer(fs, clock, options);
  const Samples samples = make_samples(1);
  writer.save(make_state(1), whole_slices(samples));
  writer.wait();
  CHECK(fs.list("checkpoints/step-000000001") ==
        std::vector<std::string>{"index.json", "manifest.json", "model-00001-of-00002.safetensors",
                                 "model-00002-of-00002.safetensors", "optimizer-00001-of-00001.safetensors",
                                 "state.json"});
}

TEST_CASE("a run's folder, its checkpoints folder and a checkpoint all mean a checkpoint") {
  MemoryFs fs;
  ManualClock clock;
  CheckpointWriter writer(fs, clock, options_in("runs/test/checkpoints"));
  const Samples samples = make_samples(1);
  for (int64_t step : {1, 2}) writer.save(make_state(step), whole_slices(samples));
  writer.wait();
  const std::string newest = "runs/test/checkpoints/step-000000002", older = "runs/test/checkpoints/step-000000001";
  CHECK(find_checkpoint(fs, "runs/test") == newest);
  CHECK(find_checkpoint(fs, "runs/test/checkpoints") == newest);
  CHECK(find_checkpoint(fs, older) == older);
  CHECK_THROWS_WITH(find_checkpoint(fs, "runs/tset"), Catch::Contains("runs/tset: holds no checkpoint"));
}

TEST_CASE("names of checkpoint folders are steps and nothing else") {
  CHECK(checkpoint_name(1000) == "step-000001000");
  CHECK(checkpoint_name(12345678901) == "step-12345678901");
  for (int64_t step : {int64_t{0}, int64_t{7}, int64_t{999999999}, int64_t{12345678901}})
    CHECK(checkpoint_step(checkpoint_name(step)) == step);
  for (const char* name :
       {"step-", "step-1", "step-0000000001", "step--00000001", "stop-000000001", "step-00000000x", ""})
    CHECK(checkpoint_step(name) == -1);
}

TEST_CASE("tensors that are not in host memory are fetched once, during save") {
  MemoryFs fs;
  ManualClock clock;
  CheckpointWriter writer(fs, clock, options_in("checkpoints"));
  const Samples samples = make_samples(3);
  std::vector<Slice> slices = whole_slices(samples);
  int calls = 0;
  for (size_t i = 0; i < slices.size(); ++i) {
    slices[i].data = nullptr;
    slices[i].fetch = [&, i](void* out) {
      ++calls;
      if (!samples[i].bytes.empty()) std::memcpy(out, samples[i].bytes.data(), samples[i].bytes.size());
    };
  }
  writer.save(make_state(3), slices);
  CHECK(calls == static_cast<int>(slices.size()));
  writer.wait();
  CHECK(holds(CheckpointReader(fs, latest_checkpoint(fs, "checkpoints")), samples));
}

} // namespace kumiki
