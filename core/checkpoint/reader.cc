#include <algorithm>
#include <cstring>

#include "core/base/error.h"
#include "core/base/fs.h"
#include "core/base/hash.h"
#include "core/checkpoint/checkpoint.h"
#include "core/checkpoint/folders.h"
#include "core/checkpoint/format.h"
#include "core/checkpoint/safetensors.h"

namespace kumiki {

struct CheckpointReader::File {
  FileRecord record;
  std::unique_ptr<FileMapping> map; // of safetensors files
};

struct CheckpointReader::Piece {
  Region region;
  const std::byte* data = nullptr;
};

namespace {

std::pair<std::string, std::string> split_path(std::string path) {
  while (path.size() > 1 && path.back() == '/') path.pop_back();
  const size_t slash = path.rfind('/');
  if (slash == std::string::npos) return {".", path};
  return {slash == 0 ? "/" : path.substr(0, slash), path.substr(slash + 1)};
}

} // namespace

CheckpointReader::CheckpointReader(Fs& fs, const std::string& folder, bool verify)
    : CheckpointReader(fs, folder, verify, true) {}

CheckpointReader::CheckpointReader(Fs& fs, const std::string& folder, bool verify, bool advise)
    : fs_(fs), folder_(folder), advise_(advise) {
  if (!fs.is_folder(folder)) {
    Error error(folder, "no checkpoint is there", "give a folder like runs/NAME/checkpoints/step-000001000");
    error.exit_code = 4;
    throw error;
  }
  read_manifest();
  if (verify) this->verify();
  const std::string state = "state.json";
  try {
    state_ = state_from_json(path_in(folder_, state), read_checked(state));
    read_index();
  } catch (const Error& problem) {
    if (problem.exit_code != 2) throw;
    broken("index.json", problem.what());
  }
}

CheckpointReader::~CheckpointReader() = default;

void CheckpointReader::broken(const std::string& file, const std::string& what) const {
  const auto [checkpoints, name] = split_path(folder_);
  const int64_t step = checkpoint_step(name);
  std::string good;
  if (advise_ && step >= 0) {
    try {
      good = newest_good_checkpoint(fs_, checkpoints, step);
    } catch (const std::exception&) {
      // The file that is broken is the news; that no other can be looked at is not.
    }
  }
  Error error(path_in(folder_, file), what,
              !good.empty()
                  ? "an earlier checkpoint is good: " + good + "; move the broken folder away and resume from it"
              : step >= 0 ? "no earlier checkpoint beside it is good"
                          : "");
  error.exit_code = 4;
  throw error;
}

void CheckpointReader::read_manifest() {
  const std::string path = path_in(folder_, "manifest.json");
  if (!fs_.exists(path)) broken("manifest.json", "it is missing: the folder is no complete checkpoint");
  std::vector<FileRecord> records;
  try {
    records = manifest_from_json(path, fs_.read(path));
  } catch (const Error& problem) {
    const std::string text = problem.what();
    broken("manifest.json", text.starts_with(path + ": ") ? text.substr(path.size() + 2) : text);
  }
  for (FileRecord& record : records) {
    const std::string file = path_in(folder_, record.name);
    if (!fs_.exists(file)) broken(record.name, "the file is missing");
    const uint64_t bytes = fs_.file_bytes(file);
    if (bytes != record.bytes) {
      broken(record.name, "the file has " + std::to_string(bytes) + " bytes and the checkpoint was written with " +
                              std::to_string(record.bytes) + (bytes < record.bytes ? ": it was cut" : ""));
    }
    auto entry = std::make_unique<File>();
    if (record.name.ends_with(".safetensors")) entry->map = fs_.map(file);
    entry->record = std::move(record);
    files_.push_back(std::move(entry));
  }
  for (const char* needed : {"state.json", "index.json"})
    if (!find_file(needed)) broken("manifest.json", std::string("it does not list ") + needed);
}

const CheckpointReader::File* CheckpointReader::find_file(const std::string& name) const {
  for (const auto& file : files_)
    if (file->record.name == name) return file.get();
  return nullptr;
}

std::string CheckpointReader::read_checked(const std::string& name) const {
  const std::string text = fs_.read(path_in(folder_, name));
  const FileRecord& record = find_file(name)->record;
  if (text.size() != record.bytes || xxh3(text) != record.checksum)
    broken(name, "its checksum does not fit: the file was changed");
  return text;
}

void CheckpointReader::verify() const {
  for (const auto& file : files_) {
    if (!file->map) {
      read_checked(file->record.name);
    } else if (file->map->bytes() != file->record.bytes ||
               xxh3(file->map->data(), file->map->bytes()) != file->record.checksum) {
      broken(file->record.name, "its checksum does not fit: the file was changed");
    }
  }
}

void CheckpointReader::read_index() {
  std::map<std::string, SafetensorsHeader> headers;
  std::map<std::string, std::map<std::string, const SafetensorsEntry*>> entries;
  for (const auto& file : files_) {
    if (!file->map) continue;
    const std::string& name = file->record.name;
    headers[name] = parse_safetensors(path_in(folder_, name), file->map->data(), file->map->bytes());
    for (const SafetensorsEntry& entry : headers[name].tensors) entries[name][entry.name] = &entry;
  }
  for (StoredSlice& slice : index_from_json(path_in(folder_, "index.json"), read_checked("index.json"))) {
    const auto file = entries.find(slice.file);
    if (file == entries.end())
      broken("index.json", "it names the file " + slice.file + ", which is not in the manifest");
    const auto entry = file->second.find(slice.key);
    const uint64_t bytes = static_cast<uint64_t>(slice.region.elements()) * km_dtype_bytes(slice.dtype);
    if (entry == file->second.end() || entry->second->dtype != slice.dtype ||
        entry->second->end - entry->second->begin != bytes)
      broken("index.json", "its slice " + slice.key + " is not as " + slice.file + " has it");
    const std::byte* data = find_file(slice.file)->map->data() + headers[slice.file].data_begin + entry->second->begin;
    auto& pieces = pieces_[slice.name];
    if (pieces.empty()) tensors_.push_back({slice.name, slice.dtype, slice.logical_shape});
    pieces.push_back({std::move(slice.region), data});
  }
  std::sort(tensors_.begin(), tensors_.end(),
            [](const StoredTensor& a, const StoredTensor& b) { return a.name < b.name; });
}

const StoredTensor* CheckpointReader::find(const std::string& name) const {
  const auto at =
      std::lower_bound(tensors_.begin(), tensors_.end(), name,
                       [](const StoredTensor& tensor, const std::string& key) { return tensor.name < key; });
  return at != tensors_.end() && at->name == name ? &*at : nullptr;
}

uint64_t CheckpointReader::bytes() const {
  uint64_t bytes = 0;
  for (const auto& file : files_) bytes += file->record.bytes;
  return bytes;
}

void CheckpointReader::read(const std::string& name, const Shape& box_offset, const Shape& box_shape,
                            int64_t flat_begin, int64_t flat_end, void* out) const {
  const StoredTensor* tensor = find(name);
  if (!tensor) {
    Error error(folder_, "tensor " + name + " is not in the checkpoint",
                "resume with the model and the optimizer that wrote it; kumiki checkpoint inspect lists its tensors");
    error.exit_code = 4;
    throw error;
  }
  const Region wanted = make_region(folder_ + ": " + name, tensor->shape, box_offset, box_shape, flat_begin, flat_end);
  Coverage covered;
  for (const Piece& piece : pieces_.at(name))
    copy_shared(piece.region, piece.data, wanted, out, km_dtype_bytes(tensor->dtype), covered);
  const int64_t gap = covered.first_gap(0, wanted.elements());
  if (gap >= 0) {
    Error error(folder_,
                "element " + std::to_string(wanted.flat_begin + gap) + " of box " + shape_text(wanted.shape) + " at " +
                    shape_text(wanted.offset) + " of tensor " + name + " is not in the checkpoint",
                "its writer left a part out; use another checkpoint");
    error.exit_code = 4;
    throw error;
  }
}

void CheckpointReader::read(const Slice& wanted, void* out) const {
  const StoredTensor* tensor = find(wanted.name);
  if (tensor && (tensor->dtype != wanted.dtype || tensor->shape != wanted.logical_shape)) {
    Error error(folder_,
                "tensor " + wanted.name + " is " + safetensors_dtype(tensor->dtype) + shape_text(tensor->shape) +
                    " in the checkpoint and " + safetensors_dtype(wanted.dtype) + shape_text(wanted.logical_shape) +
                    " in this run",
                "resume with the same [model]; inspect shows the checkpoint's");
    error.exit_code = 4;
    throw error;
  }
  if (tensor) {
    const Region region = make_region(wanted.name, wanted.logical_shape, wanted.box_offset, wanted.box_shape,
                                      wanted.flat_begin, wanted.flat_end);
    KM_CHECK(static_cast<uint64_t>(region.elements()) * km_dtype_bytes(wanted.dtype) == wanted.bytes,
             "bytes of the slice of " + wanted.name);
  }
  read(wanted.name, wanted.box_offset, wanted.box_shape, wanted.flat_begin, wanted.flat_end, out);
}

std::string newest_good_checkpoint(Fs& fs, const std::string& checkpoints, int64_t below) {
  std::vector<std::string> all = list_checkpoints(fs, checkpoints);
  std::reverse(all.begin(), all.end());
  for (const std::string& path : all) {
    std::string name = split_path(path).second;
    if (name[0] == '.') name = name.substr(1, name.rfind('.') - 1);
    if (checkpoint_step(name) >= below) continue;
    try {
      const CheckpointReader reader(fs, path, true, false);
      return path;
    } catch (const Error&) {
      continue; // not this one
    }
  }
  return "";
}

} // namespace kumiki
