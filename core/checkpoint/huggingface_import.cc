#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

#include "core/base/error.h"
#include "core/base/fs.h"
#include "core/base/suggest.h"
#include "core/checkpoint/folders.h"
#include "core/checkpoint/huggingface.h"

namespace kumiki {

struct HuggingFaceReader::File {
  std::string path;
  std::unique_ptr<FileMapping> map;
  SafetensorsHeader header;
};
struct HuggingFaceReader::Source {
  SafetensorsEntry entry;
  const std::byte* data = nullptr;
};

namespace {

using nlohmann::json;

[[noreturn]] void refuse(const std::string& where, const std::string& what, const std::string& remedy = "") {
  Error error(where, what, remedy);
  error.exit_code = 4;
  throw error;
}

constexpr char kConvert[] =
    "save the model as safetensors first: in Python, model.save_pretrained(FOLDER, safe_serialization=True)";

// Names of the files that hold the tensors.
std::vector<std::string> tensor_files(Fs& fs, const std::string& folder) {
  if (fs.exists(path_in(folder, "model.safetensors"))) return {"model.safetensors"};
  const std::string index = path_in(folder, "model.safetensors.index.json");
  if (!fs.exists(index)) {
    const bool old = fs.exists(path_in(folder, "pytorch_model.bin"));
    refuse(folder, old ? "holds pytorch_model.bin, which is Python's pickle" : "holds no model.safetensors", kConvert);
  }
  std::set<std::string> names;
  try {
    const json root = json::parse(fs.read(index));
    for (const auto& [tensor, file] : root.at("weight_map").items()) names.insert(file.get<std::string>());
  } catch (const json::exception& problem) {
    refuse(index, std::string("not as Hugging Face writes it (") + problem.what() + ")");
  }
  for (const std::string& name : names)
    if (name.empty() || name.find('/') != std::string::npos)
      refuse(index, "the file name " + name + " leads out of the folder");
  return {names.begin(), names.end()};
}

// Buffers that older versions stored beside the weights, and a head that the model has tied to its embedding.
bool may_be_passed_over(const std::string& name) {
  for (const char* ending : {".attn.bias", ".attn.masked_bias", ".rotary_emb.inv_freq", "lm_head.weight"})
    if (name.ends_with(ending)) return true;
  return false;
}

bool is_float(uint32_t dtype) { return dtype == KM_F32 || dtype == KM_BF16 || dtype == KM_F16 || dtype == KM_F64; }

// "a, b, c and 9 more"
std::string some_of(const std::vector<std::string>& names) {
  std::string text;
  const size_t shown = std::min<size_t>(names.size(), 6);
  for (size_t i = 0; i < shown; ++i) text += (i ? ", " : "") + names[i];
  return names.size() > shown ? text + " and " + std::to_string(names.size() - shown) + " more" : text;
}

} // namespace

std::string read_hugging_face_config(Fs& fs, const std::string& folder) {
  const std::string path = path_in(folder, "config.json");
  if (!fs.exists(path))
    refuse(folder, "holds no config.json", "give a folder as Hugging Face's save_pretrained writes it");
  return fs.read(path);
}

void HuggingFaceReader::open_files(Fs& fs, const std::string& folder) {
  for (const std::string& name : tensor_files(fs, folder)) {
    auto file = std::make_unique<File>();
    file->path = path_in(folder, name);
    file->map = fs.map(file->path);
    file->header = parse_safetensors(file->path, file->map->data(), file->map->bytes());
    for (const SafetensorsEntry& entry : file->header.tensors) {
      const std::byte* data = file->map->data() + file->header.data_begin + entry.begin;
      if (!sources_.emplace(entry.name, Source{entry, data}).second)
        refuse(file->path, "tensor " + entry.name + " is in another file of the folder too");
    }
    files_.push_back(std::move(file));
  }
}

// Models saved without their head ("h.0…") lack the first component of the names.
const HuggingFaceReader::Source* HuggingFaceReader::find(const std::string& theirs) const {
  auto at = sources_.find(theirs);
  if (at == sources_.end()) at = sources_.find(theirs.substr(theirs.find('.') + 1));
  return at == sources_.end() ? nullptr : &at->second;
}

HuggingFaceReader::HuggingFaceReader(Fs& fs, const std::string& folder, const std::vector<ModelRow>& rows,
                                     const std::vector<StoredTensor>& expected)
    : tensors_(group_rows(rows)) {
  open_files(fs, folder);
  for (const StoredTensor& ours : expected) {
    KM_CHECK(ours.dtype == KM_F32, "float32 parameters: " + ours.name);
    shapes_[ours.name] = ours.shape;
  }
  std::vector<std::string> missing, wrong, unknown;
  std::set<std::string> used, mapped;
  for (const MappedTensor& tensor : tensors_) {
    std::vector<Shape> shapes;
    for (const ModelRow& row : tensor.rows) {
      mapped.insert(row.ours);
      if (!shapes_.count(row.ours))
        throw Error(row.ours, "the model's table names a parameter that the model does not have");
      shapes.push_back(shapes_[row.ours]);
    }
    const Source* source = find(tensor.theirs);
    const Shape shape = their_shape(tensor, shapes);
    if (!source) {
      missing.push_back(tensor.theirs + " " + shape_text(shape));
      continue;
    }
    used.insert(source->entry.name);
    if (source->entry.shape != shape || !is_float(source->entry.dtype))
      wrong.push_back(source->entry.name + " (" + source->entry.dtype_name + shape_text(source->entry.shape) +
                      ", the model has " + shape_text(shape) + ")");
  }
  for (const StoredTensor& ours : expected)
    if (!mapped.count(ours.name)) throw Error(ours.name, "the model's table has no row for this parameter");
  for (const auto& [name, source] : sources_) {
    if (used.count(name)) continue;
    (may_be_passed_over(name) ? passed_over_ : unknown).push_back(name);
  }
  std::string problems;
  const auto report = [&](const char* what, const std::vector<std::string>& names) {
    if (!names.empty()) problems += (problems.empty() ? "" : "; ") + std::string(what) + ": " + some_of(names);
  };
  report("missing", missing);
  report("of another shape or type", wrong);
  report("unknown to the model", unknown);
  if (!problems.empty())
    refuse(folder, "the tensors do not fit the model: " + problems, "see whether config.json belongs to them");
}

HuggingFaceReader::~HuggingFaceReader() = default;

void HuggingFaceReader::fetch(const MappedTensor& tensor, const std::vector<Shape>& shapes, size_t row,
                              float* out) const {
  const Source& source = *find(tensor.theirs);
  const int64_t elements = checked_elements(source.entry.shape);
  if (tensor.rows.size() == 1 && !tensor.rows[0].transpose) {
    to_floats(source.entry.dtype, source.data, elements, out);
    return;
  }
  std::vector<float> theirs(static_cast<size_t>(elements));
  to_floats(source.entry.dtype, source.data, elements, theirs.data());
  take_part(tensor, shapes, row, theirs.data(), out);
}

std::vector<Slice> HuggingFaceReader::slices() const {
  std::vector<Slice> slices;
  for (const MappedTensor& tensor : tensors_) {
    std::vector<Shape> shapes;
    for (const ModelRow& row : tensor.rows) shapes.push_back(shapes_.at(row.ours));
    for (size_t i = 0; i < tensor.rows.size(); ++i) {
      Slice slice;
      slice.name = tensor.rows[i].ours;
      slice.logical_shape = shapes[i];
      slice.bytes = static_cast<uint64_t>(checked_elements(shapes[i])) * 4;
      slice.fetch = [this, &tensor, shapes, i](void* out) { fetch(tensor, shapes, i, static_cast<float*>(out)); };
      slices.push_back(std::move(slice));
    }
  }
  return slices;
}

} // namespace kumiki
