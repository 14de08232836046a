#include "core/checkpoint/safetensors.h"

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>
#include <set>

#include "core/base/error.h"
#include "kumiki/base.h"

namespace kumiki {
namespace {

using nlohmann::json;

constexpr uint64_t kLargestHeader = 100'000'000; // the format's own limit

struct DtypeRow {
  const char* name;
  uint32_t dtype;
  uint64_t bits;
};
constexpr DtypeRow kDtypes[] = {
    {"F32", KM_F32, 32}, {"BF16", KM_BF16, 16}, {"F16", KM_F16, 16}, {"F64", KM_F64, 64}, {"I32", KM_I32, 32},
    {"I64", KM_I64, 64}, {"U8", KM_U8, 8},      {"BOOL", 0, 8},      {"I8", 0, 8},        {"I16", 0, 16},
    {"U16", 0, 16},      {"U32", 0, 32},        {"U64", 0, 64},      {"F8_E5M2", 0, 8},   {"F8_E4M3", 0, 8},
};

const DtypeRow* find_dtype(const std::string& name) {
  for (const DtypeRow& row : kDtypes)
    if (name == row.name) return &row;
  return nullptr;
}

[[noreturn]] void bad(const std::string& where, const std::string& what) {
  Error error(where, "not a good safetensors file: " + what, "fetch or write the file again");
  error.exit_code = 4;
  throw error;
}

// The format forbids repeated names; the parser would keep the last one in silence.
json parse_header(const std::string& where, const char* text, uint64_t length) {
  std::set<std::string> seen;
  std::string repeated;
  bool deep = false;
  const auto callback = [&](int depth, json::parse_event_t event, json& value) {
    if (event == json::parse_event_t::key && depth == 1 && !seen.insert(value.get<std::string>()).second)
      repeated = value.get<std::string>();
    deep = deep || depth > 8;
    return !deep; // what is deeper is dropped as it is read
  };
  json header;
  try {
    header = json::parse(text, text + length, callback);
  } catch (const json::exception& problem) {
    bad(where, std::string("its header is no JSON (") + problem.what() + ")");
  }
  if (deep || !header.is_object()) bad(where, "its header is not a table of tensors");
  if (!repeated.empty()) bad(where, "tensor " + repeated + " is listed twice");
  return header;
}

bool is_count(const json& value) {
  return value.is_number_unsigned() && value.get<uint64_t>() <= static_cast<uint64_t>(INT64_MAX);
}

SafetensorsEntry parse_entry(const std::string& where, const std::string& name, const json& entry) {
  const auto require = [&](bool good, const char* what) {
    if (!good) bad(where, "tensor " + name + ": " + what);
  };
  require(entry.is_object() && entry.contains("dtype") && entry.contains("shape") && entry.contains("data_offsets"),
          "dtype, shape or data_offsets are missing");
  const json& dtype = entry["dtype"];
  const json& shape = entry["shape"];
  const json& offsets = entry["data_offsets"];
  require(dtype.is_string(), "dtype is no string");
  const DtypeRow* row = find_dtype(dtype.get<std::string>());
  require(row != nullptr, "unknown dtype");
  require(shape.is_array() && std::all_of(shape.begin(), shape.end(), is_count), "shape is no list of sizes");
  require(offsets.is_array() && offsets.size() == 2 && is_count(offsets[0]) && is_count(offsets[1]),
          "data_offsets are not two places");
  SafetensorsEntry result;
  result.name = name;
  result.dtype = row->dtype;
  result.dtype_name = row->name;
  result.shape = shape.get<Shape>();
  result.begin = offsets[0].get<uint64_t>();
  result.end = offsets[1].get<uint64_t>();
  const int64_t elements = checked_elements(result.shape);
  uint64_t bytes = 0;
  require(elements >= 0 && !__builtin_mul_overflow(static_cast<uint64_t>(elements), row->bits / 8, &bytes),
          "its shape is too large");
  require(result.begin <= result.end && result.end - result.begin == bytes, "data_offsets do not fit dtype and shape");
  return result;
}

} // namespace

const SafetensorsEntry* SafetensorsHeader::find(const std::string& name) const {
  for (const SafetensorsEntry& entry : tensors)
    if (entry.name == name) return &entry;
  return nullptr;
}

std::string safetensors_dtype(uint32_t dtype) {
  for (const DtypeRow& row : kDtypes)
    if (dtype != 0 && row.dtype == dtype) return row.name;
  return "";
}

uint32_t dtype_from_safetensors(const std::string& name) {
  const DtypeRow* row = find_dtype(name);
  return row ? row->dtype : 0;
}

SafetensorsHeader parse_safetensors(const std::string& where, const void* bytes, uint64_t size) {
  const auto* text = static_cast<const char*>(bytes);
  if (size < 8) bad(where, "it is shorter than its 8-byte header length");
  uint64_t length = 0;
  for (int i = 7; i >= 0; --i) length = length << 8 | static_cast<unsigned char>(text[i]);
  if (length > kLargestHeader) bad(where, "its header length " + std::to_string(length) + " is over 100 MB");
  if (length > size - 8) bad(where, "it ends within its header (cut?)");
  const json header = parse_header(where, text + 8, length);
  SafetensorsHeader result;
  result.data_begin = 8 + length;
  for (const auto& [name, entry] : header.items()) {
    if (name != "__metadata__") {
      result.tensors.push_back(parse_entry(where, name, entry));
      continue;
    }
    if (!entry.is_object()) bad(where, "__metadata__ is no table of strings");
    for (const auto& [key, value] : entry.items()) {
      if (!value.is_string()) bad(where, "__metadata__ is no table of strings");
      result.metadata[key] = value.get<std::string>();
    }
  }
  std::sort(result.tensors.begin(), result.tensors.end(), [](const SafetensorsEntry& a, const SafetensorsEntry& b) {
    return std::tie(a.begin, a.end, a.name) < std::tie(b.begin, b.end, b.name);
  });
  uint64_t reached = 0;
  for (const SafetensorsEntry& entry : result.tensors) {
    if (entry.begin != reached) bad(where, "tensor " + entry.name + " overlaps another or leaves a hole");
    reached = entry.end;
  }
  if (reached != size - result.data_begin)
    bad(where, "its tensors take " + std::to_string(reached) + " bytes, and " +
                   std::to_string(size - result.data_begin) + " are there (cut?)");
  return result;
}

std::string make_safetensors_header(std::vector<SafetensorsEntry>& entries,
                                    const std::map<std::string, std::string>& metadata) {
  nlohmann::ordered_json header = nlohmann::ordered_json::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  uint64_t reached = 0;
  for (SafetensorsEntry& entry : entries) {
    entry.dtype_name = safetensors_dtype(entry.dtype);
    const int64_t elements = checked_elements(entry.shape);
    KM_CHECK(!entry.dtype_name.empty() && elements >= 0, "a type and shape of ours: " + entry.name);
    if (entry.name == "__metadata__" || header.contains(entry.name))
      throw Error(entry.name, "the name is taken in this safetensors file", "give the tensors distinct names");
    entry.begin = reached;
    entry.end = reached + static_cast<uint64_t>(elements) * km_dtype_bytes(entry.dtype);
    reached = entry.end;
    header[entry.name] = {
        {"dtype", entry.dtype_name}, {"shape", entry.shape}, {"data_offsets", {entry.begin, entry.end}}};
  }
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');
  std::string result;
  for (uint64_t i = 0; i < 8; ++i) result += static_cast<char>(text.size() >> (8 * i) & 0xff);
  return result + text;
}

} // namespace kumiki
