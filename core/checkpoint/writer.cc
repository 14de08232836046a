#include <atomic>
#include <mutex>
#include <new>
#include <set>
#include <thread>

#include "core/base/clock.h"
#include "core/base/cores.h"
#include "core/base/error.h"
#include "core/base/fs.h"
#include "core/base/threads.h"
#include "core/checkpoint/checkpoint.h"
#include "core/checkpoint/folders.h"
#include "core/checkpoint/save.h"

namespace kumiki {

// The trainer's thread owns everything while no write is under way, the writer's thread while one is (from the start of
// the thread to its join); `done` alone is shared, under the mutex.
struct CheckpointWriter::Work {
  Fs& fs;
  Clock& clock;
  SaveJob job;
  std::unique_ptr<std::byte[]> buffer; // kept from save to save
  uint64_t capacity = 0;
  std::thread thread;
  std::atomic<bool> finished{false};
  std::exception_ptr failure;
  mutable std::mutex mutex;
  SaveReport done;

  void make_room(uint64_t bytes);
  void copy(const std::vector<Slice>& slices);
  void write(SaveReport report);
};

void CheckpointWriter::Work::make_room(uint64_t bytes) {
  if (bytes <= capacity) return;
  buffer.reset();
  capacity = 0;
  try {
    buffer = std::make_unique_for_overwrite<std::byte[]>(bytes);
  } catch (const std::bad_alloc&) {
    Error error(
        "", "no memory for a copy of " + std::to_string(bytes >> 20) + " MiB, which a checkpoint needs on this rank",
        "use more ranks or a higher ZeRO level");
    error.exit_code = 6;
    throw error;
  }
  capacity = bytes;
}

void CheckpointWriter::Work::copy(const std::vector<Slice>& slices) {
  uint64_t bytes = 0;
  for (const Slice& slice : slices) bytes += (slice.bytes + 7) / 8 * 8;
  make_room(bytes);
  std::byte* at = buffer.get();
  job.slice_data.clear();
  for (const Slice& slice : slices) {
    if (slice.fetch) {
      slice.fetch(at);
    } else if (slice.bytes > 0) {
      KM_CHECK(slice.data != nullptr, "data or fetch of " + slice.name);
      std::copy_n(static_cast<const std::byte*>(slice.data), slice.bytes, at);
    }
    job.slice_data.push_back(at);
    at += (slice.bytes + 7) / 8 * 8;
  }
}

void CheckpointWriter::Work::write(SaveReport report) {
  try {
    const double start = clock.seconds();
    run_save(fs, clock, job);
    report.write_seconds = clock.seconds() - start;
    const std::lock_guard<std::mutex> lock(mutex);
    done = report;
  } catch (...) {
    failure = std::current_exception();
  }
  finished.store(true, std::memory_order_release);
}

CheckpointWriter::CheckpointWriter(Fs& fs, Clock& clock, WriterOptions options)
    : work_(new Work{
          .fs = fs, .clock = clock, .job = {}, .buffer = {}, .thread = {}, .failure = {}, .mutex = {}, .done = {}}) {
  KM_CHECK(options.ranks >= 1 && options.rank >= 0 && options.rank < options.ranks, "a rank below ranks");
  work_->job.options = std::move(options);
  if (work_->job.options.rank != 0) return;
  const std::string& folder = work_->job.options.folder;
  fs.make_folders(folder);
  const size_t slash =
      folder.find_last_of('/', folder.empty() || folder.back() != '/' ? std::string::npos : folder.size() - 2);
  fs.sync_folder(slash == std::string::npos ? "." : slash == 0 ? "/" : folder.substr(0, slash));
  remove_leftovers(fs, folder);
}

CheckpointWriter::~CheckpointWriter() {
  if (work_->thread.joinable()) work_->thread.join();
}

void CheckpointWriter::wait() {
  if (work_->thread.joinable()) work_->thread.join();
  if (work_->failure) std::rethrow_exception(std::exchange(work_->failure, nullptr));
}

bool CheckpointWriter::busy() const {
  return work_->thread.joinable() && !work_->finished.load(std::memory_order_acquire);
}

SaveReport CheckpointWriter::report() const {
  const std::lock_guard<std::mutex> lock(work_->mutex);
  return work_->done;
}

void CheckpointWriter::save(const RunState& state, const std::vector<Slice>& slices) {
  wait();
  const double start = work_->clock.seconds();
  SaveJob& job = work_->job;
  job.slices.clear();
  std::set<std::string> keys;
  SaveReport report;
  for (const Slice& slice : slices) {
    job.slices.push_back(describe_slice(slice));
    if (!keys.insert(job.slices.back().key).second) throw Error(job.slices.back().key, "the slice is given twice");
    report.bytes += slice.bytes;
  }
  check_agreement(job.slices);
  work_->copy(slices);
  job.state = state;
  ++job.attempt;
  report.step = state.step;
  report.folder = path_in(job.options.folder, checkpoint_name(state.step));
  report.copy_seconds = work_->clock.seconds() - start;
  work_->finished.store(false, std::memory_order_relaxed);
  work_->thread = start_thread([work = work_.get(), report] {
    run_on_any_core();
    work->write(report);
  });
}

} // namespace kumiki
