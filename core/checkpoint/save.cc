#include "core/checkpoint/save.h"

#include <cstdio>

#include "core/base/error.h"
#include "core/base/hash.h"
#include "core/checkpoint/folders.h"
#include "core/checkpoint/safetensors.h"

namespace kumiki {
namespace {

uint64_t stored_bytes(const StoredSlice& slice) {
  return static_cast<uint64_t>(slice.region.elements()) * km_dtype_bytes(slice.dtype);
}

bool whole_box(const Region& region) {
  return region.flat_begin == 0 && region.flat_end == checked_elements(region.shape);
}

// Writes a file, syncs it and says its size and checksum.
class CheckedFile {
 public:
  CheckedFile(Fs& fs, const std::string& folder, const std::string& name)
      : file_(fs.create(path_in(folder, name))), record_{name, 0, 0} {}
  void write(const void* data, uint64_t bytes) {
    file_->write(data, bytes);
    hash_.add(data, bytes);
    record_.bytes += bytes;
  }
  FileRecord finish() {
    file_->sync();
    file_->close();
    record_.checksum = hash_.digest();
    return record_;
  }

 private:
  std::unique_ptr<FileWriter> file_;
  Xxh3 hash_;
  FileRecord record_;
};

FileRecord write_text(Fs& fs, const std::string& folder, const std::string& name, const std::string& text) {
  CheckedFile file(fs, folder, name);
  file.write(text.data(), text.size());
  return file.finish();
}

// Parameters and optimizer states go to different files, so that the first can be passed on alone.
std::string kind_of(const StoredSlice& slice) {
  return slice.name.find('/') == std::string::npos ? "model" : "optimizer";
}

// Which slices go into which file, in their order.
std::vector<std::vector<size_t>> pack(const SaveJob& job, const std::string& kind) {
  std::vector<std::vector<size_t>> shards;
  uint64_t filled = 0;
  for (size_t i = 0; i < job.slices.size(); ++i) {
    if (kind_of(job.slices[i]) != kind) continue;
    const uint64_t bytes = stored_bytes(job.slices[i]);
    if (shards.empty() || filled + bytes > job.options.shard_bytes) {
      shards.emplace_back();
      filled = 0;
    }
    shards.back().push_back(i);
    filled += bytes;
  }
  return shards;
}

std::string shard_name(const SaveJob& job, const std::string& kind, size_t number, size_t count) {
  char text[96];
  if (job.options.ranks == 1) {
    std::snprintf(text, sizeof text, "%s-%05zu-of-%05zu.safetensors", kind.c_str(), number, count);
  } else {
    std::snprintf(text, sizeof text, "%s-r%05lld-%05zu-of-%05zu.safetensors", kind.c_str(),
                  static_cast<long long>(job.options.rank), number, count);
  }
  return text;
}

FileRecord write_shard(Fs& fs, SaveJob& job, const std::string& folder, const std::string& name,
                       const std::vector<size_t>& members) {
  std::vector<SafetensorsEntry> entries;
  for (size_t i : members) {
    const StoredSlice& slice = job.slices[i];
    SafetensorsEntry entry;
    entry.name = slice.key;
    entry.dtype = slice.dtype;
    entry.shape = whole_box(slice.region) ? slice.region.shape : Shape{slice.region.elements()};
    entries.push_back(entry);
  }
  const std::string header = make_safetensors_header(entries, {{"format", "pt"}});
  CheckedFile file(fs, folder, name);
  file.write(header.data(), header.size());
  for (size_t i : members) {
    file.write(job.slice_data[i], stored_bytes(job.slices[i]));
    job.slices[i].file = name;
  }
  return file.finish();
}

std::string part_path(const SaveJob& job, const std::string& folder, int64_t rank) {
  char text[64];
  std::snprintf(text, sizeof text, ".part-r%05lld-%06lld.json", static_cast<long long>(rank),
                static_cast<long long>(job.attempt));
  return path_in(folder, text);
}

RankPart write_part(Fs& fs, SaveJob& job, const std::string& folder) {
  RankPart part;
  for (const char* kind : {"model", "optimizer"}) {
    const std::vector<std::vector<size_t>> shards = pack(job, kind);
    for (size_t i = 0; i < shards.size(); ++i)
      part.files.push_back(write_shard(fs, job, folder, shard_name(job, kind, i + 1, shards.size()), shards[i]));
  }
  part.slices = job.slices;
  return part;
}

// Adds the parts of the ranks above 0 as they come in.
void collect_parts(Fs& fs, Clock& clock, const SaveJob& job, const std::string& folder, RankPart& all) {
  const double deadline = clock.seconds() + job.options.patience_seconds;
  for (int64_t rank = 1; rank < job.options.ranks; ++rank) {
    const std::string path = part_path(job, folder, rank);
    while (!fs.exists(path)) {
      if (clock.seconds() > deadline) {
        Error error(folder,
                    "rank " + std::to_string(rank) + " did not write its part within " +
                        std::to_string(static_cast<int64_t>(job.options.patience_seconds)) + " s",
                    "see whether that rank is alive, and whether all ranks see the same file system");
        error.exit_code = 6;
        throw error;
      }
      clock.sleep(0.05);
    }
    const RankPart part = part_from_json(path, fs.read(path));
    if (!part.error.empty()) {
      Error error("", "rank " + std::to_string(rank) + " could not write its part of the checkpoint: " + part.error);
      error.exit_code = 6;
      throw error;
    }
    all.slices.insert(all.slices.end(), part.slices.begin(), part.slices.end());
    all.files.insert(all.files.end(), part.files.begin(), part.files.end());
    fs.remove(path);
  }
}

void save_rank_0(Fs& fs, Clock& clock, SaveJob& job, const std::string& folder) {
  if (job.options.ranks == 1) fs.remove(folder);
  fs.make_folders(folder);
  RankPart all = write_part(fs, job, folder);
  collect_parts(fs, clock, job, folder, all);
  all.files.push_back(write_text(fs, folder, "index.json", index_to_json(all.slices)));
  all.files.push_back(write_text(fs, folder, "state.json", state_to_json(job.state)));
  write_text(fs, folder, "manifest.json", manifest_to_json(all.files));
  publish_checkpoint(fs, job.options.folder, job.state.step);
  keep_newest(fs, job.options.folder, job.options.keep, job.state.step);
}

void save_other_rank(Fs& fs, SaveJob& job, const std::string& folder) {
  RankPart part;
  std::exception_ptr failure;
  try {
    fs.make_folders(folder);
    part = write_part(fs, job, folder);
    fs.sync_folder(folder);
  } catch (const std::exception& problem) {
    failure = std::current_exception();
    part = RankPart{};
    part.error = problem.what();
  }
  try {
    write_file(fs, part_path(job, folder, job.options.rank), part_to_json(part));
  } catch (...) {
    if (!failure) throw;
  }
  if (failure) std::rethrow_exception(failure);
}

} // namespace

StoredSlice describe_slice(const Slice& slice) {
  StoredSlice stored;
  stored.name = slice.name;
  stored.dtype = slice.dtype;
  stored.logical_shape = slice.logical_shape;
  stored.region =
      make_region(slice.name, slice.logical_shape, slice.box_offset, slice.box_shape, slice.flat_begin, slice.flat_end);
  KM_CHECK(km_dtype_bytes(slice.dtype) != 0, "a known dtype: " + slice.name);
  if (slice.bytes != stored_bytes(stored)) {
    throw Error(slice.name, "the slice has " + std::to_string(slice.bytes) + " bytes and its region " +
                                std::to_string(stored_bytes(stored)));
  }
  stored.key = slice.name;
  if (stored.region.shape != slice.logical_shape)
    stored.key += "@" + shape_text(stored.region.offset) + "+" + shape_text(stored.region.shape);
  if (!whole_box(stored.region))
    stored.key += ":" + std::to_string(stored.region.flat_begin) + "-" + std::to_string(stored.region.flat_end);
  return stored;
}

void run_save(Fs& fs, Clock& clock, SaveJob& job) {
  const std::string folder = partial_folder(job.options.folder, job.state.step);
  if (job.options.rank != 0) {
    save_other_rank(fs, job, folder);
    return;
  }
  try {
    save_rank_0(fs, clock, job, folder);
  } catch (...) {
    try {
      fs.remove(folder); // frees a full disk
    } catch (...) {
      // The first error is the one to tell; the next start removes what is left.
    }
    throw;
  }
}

} // namespace kumiki
