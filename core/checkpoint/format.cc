#include "core/checkpoint/format.h"

#include <cmath>
#include <cstdlib>
#include <nlohmann/json.hpp>

#include "core/base/error.h"
#include "core/base/hash.h"
#include "core/checkpoint/safetensors.h"

namespace kumiki {
namespace {

using json = nlohmann::json;

[[noreturn]] void unreadable(const std::string& where, const std::string& what) {
  Error error(where, what);
  error.exit_code = 4;
  throw error;
}

// Runs `read` on the parsed text; whatever json finds wrong on the way becomes an Error that names the file.
template <typename Read>
auto reading(const std::string& where, const std::string& text, Read read) {
  try {
    const json root = json::parse(text);
    if (root.at("version").get<int64_t>() > kCheckpointVersion)
      unreadable(where, "the checkpoint is of a later version of kumiki (format " +
                            std::to_string(root.at("version").get<int64_t>()) + ")");
    return read(root);
  } catch (const json::exception& problem) {
    unreadable(where, std::string("not what kumiki writes (") + problem.what() + ")");
  }
}

uint64_t from_hex64(const std::string& where, const json& value) {
  const std::string text = value.get<std::string>();
  const uint64_t number = std::strtoull(text.c_str(), nullptr, 16);
  if (hex64(number) != text) unreadable(where, "a checksum has 16 hexadecimal digits");
  return number;
}

// JSON has no NaN and no infinity.
json number_to_json(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value > 0 ? "inf" : "-inf";
  return value;
}
double number_from_json(const json& value) {
  if (!value.is_string()) return value.get<double>();
  return std::strtod(value.get<std::string>().c_str(), nullptr);
}

// Text stays readable; other bytes go as hexadecimal digits.
json bytes_to_json(const std::string& bytes) {
  try {
    const json text = bytes;
    (void)text.dump();
    return text;
  } catch (const json::exception&) {
    static constexpr char kDigits[] = "0123456789abcdef";
    std::string digits;
    for (unsigned char byte : bytes) digits += {kDigits[byte >> 4], kDigits[byte & 15]};
    return json{{"hex", digits}};
  }
}
std::string bytes_from_json(const json& value) {
  if (value.is_string()) return value.get<std::string>();
  const std::string digits = value.at("hex").get<std::string>();
  std::string bytes;
  for (size_t i = 0; i + 1 < digits.size(); i += 2)
    bytes += static_cast<char>(std::strtoul(digits.substr(i, 2).c_str(), nullptr, 16));
  return bytes;
}

json slice_to_json(const StoredSlice& slice) {
  return {{"name", slice.name},
          {"dtype", safetensors_dtype(slice.dtype)},
          {"shape", slice.logical_shape},
          {"box_offset", slice.region.offset},
          {"box_shape", slice.region.shape},
          {"flat", {slice.region.flat_begin, slice.region.flat_end}},
          {"file", slice.file},
          {"key", slice.key}};
}

StoredSlice slice_from_json(const std::string& where, const json& value) {
  StoredSlice slice;
  slice.name = value.at("name").get<std::string>();
  slice.dtype = dtype_from_safetensors(value.at("dtype").get<std::string>());
  slice.logical_shape = value.at("shape").get<Shape>();
  slice.file = value.at("file").get<std::string>();
  slice.key = value.at("key").get<std::string>();
  const json& flat = value.at("flat");
  if (slice.dtype == 0 || flat.at(1).get<int64_t>() < 0) unreadable(where, slice.name + ": bad dtype or flat range");
  slice.region = make_region(where + ": " + slice.name, slice.logical_shape, value.at("box_offset").get<Shape>(),
                             value.at("box_shape").get<Shape>(), flat.at(0).get<int64_t>(), flat.at(1).get<int64_t>());
  return slice;
}

json files_to_json(const std::vector<FileRecord>& files) {
  json table = json::object();
  for (const FileRecord& file : files) table[file.name] = {{"bytes", file.bytes}, {"xxh3", hex64(file.checksum)}};
  return table;
}

std::vector<FileRecord> files_from_json(const std::string& where, const json& table) {
  std::vector<FileRecord> files;
  for (const auto& [name, entry] : table.items()) {
    if (name.empty() || name[0] == '.' || name.find('/') != std::string::npos)
      unreadable(where, "the file name " + name + " leads out of the checkpoint");
    files.push_back({name, entry.at("bytes").get<uint64_t>(), from_hex64(where, entry.at("xxh3"))});
  }
  return files;
}

} // namespace

std::string state_to_json(const RunState& state) {
  json numbers = json::object(), texts = json::object();
  for (const auto& [key, value] : state.numbers) numbers[key] = number_to_json(value);
  for (const auto& [key, value] : state.texts) texts[key] = bytes_to_json(value);
  const json root = {{"version", kCheckpointVersion},
                     {"step", state.step},
                     {"sample", state.sample},
                     {"tokens", state.tokens},
                     {"seed", state.seed},
                     {"kernel_choices", state.kernel_choices},
                     {"numbers", numbers},
                     {"texts", texts},
                     {"config_toml", state.config_toml}};
  return root.dump(1) + "\n";
}

RunState state_from_json(const std::string& where, const std::string& text) {
  return reading(where, text, [&](const json& root) {
    RunState state;
    state.step = root.at("step").get<int64_t>();
    state.sample = root.at("sample").get<int64_t>();
    state.tokens = root.at("tokens").get<int64_t>();
    state.seed = root.at("seed").get<uint64_t>();
    state.config_toml = root.at("config_toml").get<std::string>();
    state.kernel_choices = root.at("kernel_choices").get<std::map<std::string, std::string>>();
    for (const auto& [key, value] : root.at("numbers").items()) state.numbers[key] = number_from_json(value);
    for (const auto& [key, value] : root.at("texts").items()) state.texts[key] = bytes_from_json(value);
    return state;
  });
}

std::string part_to_json(const RankPart& part) {
  json slices = json::array();
  for (const StoredSlice& slice : part.slices) slices.push_back(slice_to_json(slice));
  return json{{"version", kCheckpointVersion},
              {"slices", slices},
              {"files", files_to_json(part.files)},
              {"error", bytes_to_json(part.error)}}
      .dump();
}

RankPart part_from_json(const std::string& where, const std::string& text) {
  return reading(where, text, [&](const json& root) {
    RankPart part;
    for (const json& slice : root.at("slices")) part.slices.push_back(slice_from_json(where, slice));
    part.files = files_from_json(where, root.at("files"));
    part.error = bytes_from_json(root.at("error"));
    return part;
  });
}

void check_agreement(const std::vector<StoredSlice>& slices) {
  std::map<std::string, const StoredSlice*> first;
  for (const StoredSlice& slice : slices) {
    const StoredSlice& other = *first.emplace(slice.name, &slice).first->second;
    if (other.dtype != slice.dtype || other.logical_shape != slice.logical_shape)
      throw Error(slice.name, "two slices of this tensor disagree: " + safetensors_dtype(other.dtype) +
                                  shape_text(other.logical_shape) + " and " + safetensors_dtype(slice.dtype) +
                                  shape_text(slice.logical_shape));
  }
}

std::string index_to_json(const std::vector<StoredSlice>& slices) {
  check_agreement(slices);
  json list = json::array();
  for (const StoredSlice& slice : slices) list.push_back(slice_to_json(slice));
  return json{{"version", kCheckpointVersion}, {"slices", list}}.dump(1) + "\n";
}

std::vector<StoredSlice> index_from_json(const std::string& where, const std::string& text) {
  return reading(where, text, [&](const json& root) {
    std::vector<StoredSlice> slices;
    for (const json& slice : root.at("slices")) slices.push_back(slice_from_json(where, slice));
    check_agreement(slices);
    return slices;
  });
}

std::string manifest_to_json(const std::vector<FileRecord>& files) {
  json root = {{"version", kCheckpointVersion}, {"files", files_to_json(files)}};
  const std::string text = root.dump(1);
  root["manifest_xxh3"] = hex64(xxh3(text));
  return root.dump(1) + "\n";
}

std::vector<FileRecord> manifest_from_json(const std::string& where, const std::string& text) {
  return reading(where, text, [&](const json& root) {
    const std::vector<FileRecord> files = files_from_json(where, root.at("files"));
    if (manifest_to_json(files) != text) unreadable(where, "its checksum does not fit: the file was changed");
    return files;
  });
}

} // namespace kumiki
