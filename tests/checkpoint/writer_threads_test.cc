// The writer works while the trainer goes on: run under ThreadSanitizer.
#include <catch2/catch.hpp>

#include <condition_variable>
#include <mutex>

#include "core/base/error.h"
#include "tests/checkpoint/memory_fs.h"
#include "tests/checkpoint/samples.h"

namespace kumiki {
namespace {

// A file system whose every file waits at a gate until the test opens it.
class GatedFs : public MemoryFs {
 public:
  std::unique_ptr<FileWriter> create(const std::string& path) override {
    std::unique_lock<std::mutex> lock(mutex_);
    opened_.wait(lock, [&] { return open_; });
    return MemoryFs::create(path);
  }
  void set_open(bool open) {
    const std::lock_guard<std::mutex> lock(mutex_);
    open_ = open;
    opened_.notify_all();
  }

 private:
  std::mutex mutex_;
  std::condition_variable opened_;
  bool open_ = false;
};

} // namespace

TEST_CASE("training may change its tensors as soon as save returns, and the checkpoint has them as they were") {
  GatedFs fs;
  ManualClock clock;
  WriterOptions options;
  options.folder = "checkpoints";
  CheckpointWriter writer(fs, clock, options);
  Samples samples = make_samples(1);
  writer.save(make_state(1), whole_slices(samples));
  CHECK(writer.busy());
  CHECK(writer.report().step == -1);
  for (Sample& sample : samples)
    for (unsigned char& byte : sample.bytes) byte = static_cast<unsigned char>(byte + 1);
  CHECK(list_checkpoints(fs, "checkpoints").empty());
  fs.set_open(true);
  writer.wait();
  CHECK_FALSE(writer.busy());
  CHECK(writer.report().step == 1);
  CHECK(holds(CheckpointReader(fs, latest_checkpoint(fs, "checkpoints")), make_samples(1)));
}

TEST_CASE("many saves one after the other, with a reader of the report beside them") {
  MemoryFs fs;
  ManualClock clock;
  WriterOptions options;
  options.folder = "checkpoints";
  options.keep = 2;
  options.shard_bytes = 64;
  CheckpointWriter writer(fs, clock, options);
  for (uint32_t step = 1; step <= 30; ++step) {
    Samples samples = make_samples(step);
    writer.save(make_state(step), whole_slices(samples));
    CHECK(writer.report().step < static_cast<int64_t>(step) + 1);
    (void)writer.busy();
  }
  writer.wait();
  CHECK(writer.report().step == 30);
  CHECK(holds(CheckpointReader(fs, latest_checkpoint(fs, "checkpoints")), make_samples(30)));
}

TEST_CASE("an error of the writing thread comes out once, on the trainer's thread") {
  MemoryFs fs;
  ManualClock clock;
  WriterOptions options;
  options.folder = "checkpoints";
  CheckpointWriter writer(fs, clock, options);
  const Samples samples = make_samples(1);
  fs.inject(MemoryFs::Fault::kFail, 3);
  writer.save(make_state(1), whole_slices(samples));
  CHECK_THROWS_AS(writer.wait(), Error);
  CHECK_NOTHROW(writer.wait());
  writer.save(make_state(2), whole_slices(samples));
  CHECK_NOTHROW(writer.wait());
}

TEST_CASE("a writer that goes away while it writes finishes the checkpoint") {
  MemoryFs fs;
  ManualClock clock;
  WriterOptions options;
  options.folder = "checkpoints";
  const Samples samples = make_samples(1);
  {
    CheckpointWriter writer(fs, clock, options);
    writer.save(make_state(1), whole_slices(samples));
  }
  CHECK(holds(CheckpointReader(fs, latest_checkpoint(fs, "checkpoints")), samples));
}

} // namespace kumiki
