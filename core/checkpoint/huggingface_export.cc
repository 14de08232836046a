#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "core/base/error.h"
#include "core/base/fs.h"
#include "core/checkpoint/folders.h"
#include "core/checkpoint/huggingface.h"

namespace kumiki {
namespace {

using nlohmann::ordered_json;

// One of their tensors with what it is made of.
struct Planned {
  MappedTensor tensor;
  std::vector<Shape> shapes; // of our parts
  SafetensorsEntry entry;
  uint64_t bytes = 0;
};

std::vector<Planned> plan_export(const CheckpointReader& reader, const std::vector<ModelRow>& rows, uint32_t dtype) {
  std::vector<Planned> plan;
  std::map<std::string, bool> mapped;
  for (MappedTensor& tensor : group_rows(rows)) {
    Planned planned;
    for (const ModelRow& row : tensor.rows) {
      const StoredTensor* stored = reader.find(row.ours);
      if (!stored) throw Error(reader.folder(), "the model's parameter " + row.ours + " is not in the checkpoint");
      mapped[row.ours] = true;
      planned.shapes.push_back(stored->shape);
    }
    planned.entry.name = tensor.theirs;
    planned.entry.dtype = dtype;
    planned.entry.shape = their_shape(tensor, planned.shapes);
    planned.bytes = static_cast<uint64_t>(checked_elements(planned.entry.shape)) * km_dtype_bytes(dtype);
    planned.tensor = std::move(tensor);
    plan.push_back(std::move(planned));
  }
  for (const StoredTensor& stored : reader.tensors()) {
    if (stored.name.find('/') == std::string::npos && !mapped.count(stored.name))
      throw Error(reader.folder(), "parameter " + stored.name + " has no place in the model's Hugging Face form",
                  "a parameter that is left out would change the model: complete the model component's `describe`");
  }
  return plan;
}

// Their bytes of one tensor.
std::vector<unsigned char> make_tensor(const CheckpointReader& reader, const Planned& planned) {
  std::vector<std::vector<float>> parts;
  std::vector<const float*> pointers;
  for (size_t i = 0; i < planned.tensor.rows.size(); ++i) {
    const StoredTensor& stored = *reader.find(planned.tensor.rows[i].ours);
    const int64_t elements = checked_elements(stored.shape);
    std::vector<unsigned char> raw(static_cast<size_t>(elements) * km_dtype_bytes(stored.dtype));
    reader.read(stored.name, {}, {}, 0, -1, raw.data());
    parts.emplace_back(static_cast<size_t>(elements));
    to_floats(stored.dtype, raw.data(), elements, parts.back().data());
  }
  for (const std::vector<float>& part : parts) pointers.push_back(part.data());
  const int64_t elements = checked_elements(planned.entry.shape);
  std::vector<float> theirs(static_cast<size_t>(elements));
  join_parts(planned.tensor, planned.shapes, pointers, theirs.data());
  std::vector<unsigned char> bytes(planned.bytes);
  from_floats(planned.entry.dtype, theirs.data(), elements, bytes.data());
  return bytes;
}

void write_shard(Fs& fs, const std::string& path, const CheckpointReader& reader,
                 const std::vector<const Planned*>& members) {
  std::vector<SafetensorsEntry> entries;
  for (const Planned* planned : members) entries.push_back(planned->entry);
  const std::string header = make_safetensors_header(entries, {{"format", "pt"}});
  const std::unique_ptr<FileWriter> file = fs.create(path);
  file->write(header.data(), header.size());
  for (const Planned* planned : members) {
    const std::vector<unsigned char> bytes = make_tensor(reader, *planned);
    file->write(bytes.data(), bytes.size());
  }
  file->sync();
  file->close();
}

void write_tensors(Fs& fs, const std::string& folder, const CheckpointReader& reader, const std::vector<Planned>& plan,
                   uint64_t shard_bytes) {
  std::vector<std::vector<const Planned*>> shards(1);
  uint64_t filled = 0, total = 0;
  for (const Planned& planned : plan) {
    if (filled > 0 && filled + planned.bytes > shard_bytes) {
      shards.emplace_back();
      filled = 0;
    }
    shards.back().push_back(&planned);
    filled += planned.bytes;
    total += planned.bytes;
  }
  if (shards.size() == 1) {
    write_shard(fs, path_in(folder, "model.safetensors"), reader, shards[0]);
    return;
  }
  ordered_json index = {{"metadata", {{"total_size", total}}}, {"weight_map", ordered_json::object()}};
  for (size_t i = 0; i < shards.size(); ++i) {
    char name[64];
    std::snprintf(name, sizeof name, "model-%05zu-of-%05zu.safetensors", i + 1, shards.size());
    write_shard(fs, path_in(folder, name), reader, shards[i]);
    for (const Planned* planned : shards[i]) index["weight_map"][planned->entry.name] = name;
  }
  write_file(fs, path_in(folder, "model.safetensors.index.json"), index.dump(2) + "\n");
}

std::string config_with_dtype(const std::string& text, uint32_t dtype) {
  try {
    ordered_json config = ordered_json::parse(text);
    config["torch_dtype"] = dtype == KM_BF16 ? "bfloat16" : "float32";
    return config.dump(2) + "\n";
  } catch (const nlohmann::json::exception& problem) {
    throw Error("config.json", std::string("the model component gives no good JSON (") + problem.what() + ")");
  }
}

} // namespace

size_t export_hugging_face(Fs& fs, const CheckpointReader& reader, const std::vector<ModelRow>& rows,
                           const ExportOptions& options) {
  std::string out = options.out;
  while (out.size() > 1 && out.back() == '/') out.pop_back();
  if (fs.exists(out) && !(fs.is_folder(out) && fs.list(out).empty()))
    throw Error(out, "is there already and is not empty", "name another folder, or remove it first");
  const std::vector<Planned> plan = plan_export(reader, rows, options.dtype);
  const std::string config = config_with_dtype(options.config_json, options.dtype);
  const std::string partial = out + ".partial";
  fs.remove(partial);
  fs.make_folders(partial);
  write_tensors(fs, partial, reader, plan, options.shard_bytes);
  write_file(fs, path_in(partial, "config.json"), config);
  for (const std::string& path : options.tokenizer_files)
    write_file(fs, path_in(partial, path.substr(path.rfind('/') + 1)), fs.read(path));
  fs.sync_folder(partial);
  fs.remove(out);
  fs.rename(partial, out);
  return plan.size();
}

} // namespace kumiki
