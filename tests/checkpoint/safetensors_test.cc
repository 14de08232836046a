// The format is exact, and no bytes whatsoever make the reader look outside a file.
#include <catch2/catch.hpp>

#include <cstring>
#include <random>

#include "core/base/error.h"
#include "core/checkpoint/safetensors.h"
#include "kumiki/base.h"

namespace kumiki {
namespace {

std::string file_with(const std::string& header, uint64_t data_bytes) {
  std::string file;
  for (uint64_t i = 0; i < 8; ++i) file += static_cast<char>(header.size() >> (8 * i) & 0xff);
  return file + header + std::string(data_bytes, 'd');
}

SafetensorsHeader parse(const std::string& file) {
  return parse_safetensors("x.safetensors", file.data(), file.size());
}

// Everything that the caller will rely on.
void check_inside(const SafetensorsHeader& header, uint64_t size) {
  REQUIRE(header.data_begin <= size);
  for (const SafetensorsEntry& entry : header.tensors) {
    REQUIRE(entry.begin <= entry.end);
    REQUIRE(entry.end <= size - header.data_begin);
    REQUIRE(checked_elements(entry.shape) >= 0);
  }
}

std::vector<SafetensorsEntry> some_entries() {
  std::vector<SafetensorsEntry> entries(3);
  entries[0].name = "a";
  entries[0].dtype = KM_F32;
  entries[0].shape = {2, 3};
  entries[1].name = "b \"quoted\" 重み";
  entries[1].dtype = KM_BF16;
  entries[1].shape = {};
  entries[2].name = "c";
  entries[2].dtype = KM_I64;
  entries[2].shape = {0, 7};
  return entries;
}

} // namespace

TEST_CASE("a header is written byte for byte as the format says") {
  std::vector<SafetensorsEntry> entries(1);
  entries[0].name = "w";
  entries[0].dtype = KM_F32;
  entries[0].shape = {2, 2};
  const std::string header = make_safetensors_header(entries, {{"format", "pt"}});
  const std::string json =
      "{\"__metadata__\":{\"format\":\"pt\"},\"w\":{\"dtype\":\"F32\",\"shape\":[2,2],\"data_offsets\":[0,16]}}";
  const std::string padded = json + std::string((8 - json.size() % 8) % 8, ' ');
  CHECK(header == std::string(1, static_cast<char>(padded.size())) + std::string(7, '\0') + padded);
  CHECK(header.size() % 8 == 0);
}

TEST_CASE("what is written is read back") {
  std::vector<SafetensorsEntry> entries = some_entries();
  const std::string file = make_safetensors_header(entries, {{"k", "v"}}) + std::string(26, 'x');
  const SafetensorsHeader header = parse(file);
  CHECK(header.metadata == std::map<std::string, std::string>{{"k", "v"}});
  REQUIRE(header.tensors.size() == 3);
  for (const SafetensorsEntry& entry : entries) {
    const SafetensorsEntry* found = header.find(entry.name);
    REQUIRE(found);
    CHECK(found->dtype == entry.dtype);
    CHECK(found->shape == entry.shape);
    CHECK(found->begin == entry.begin);
    CHECK(found->end == entry.end);
  }
  CHECK(header.find("d") == nullptr);
  CHECK(header.data_begin + 26 == file.size());
}

TEST_CASE("types that kumiki does not have are listed, not refused") {
  const SafetensorsHeader header = parse(file_with(R"({"mask":{"dtype":"BOOL","shape":[3],"data_offsets":[0,3]}})", 3));
  REQUIRE(header.tensors.size() == 1);
  CHECK(header.tensors[0].dtype == 0);
  CHECK(header.tensors[0].dtype_name == "BOOL");
}

TEST_CASE("hostile headers are refused with a sentence") {
  const std::string deep_list(100000, '[');
  const std::pair<std::string, const char*> cases[] = {
      {"", "shorter than its 8-byte"},
      {"1234567", "shorter than its 8-byte"},
      {std::string(8, '\xff'), "over 100 MB"},
      {std::string("\x10\0\0\0\0\0\0\0{}", 10), "ends within its header"},
      {file_with("", 0), "no JSON"},
      {file_with("[]", 0), "not a table"},
      {file_with("{\"a\":1}", 0), "are missing"},
      {file_with(deep_list, 0), ""},
      {file_with("{\"a\":" + deep_list, 0), ""},
      {file_with(R"({"a":{"dtype":"F99","shape":[1],"data_offsets":[0,4]}})", 4), "unknown dtype"},
      {file_with(R"({"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}})", 4), "no list of sizes"},
      {file_with(R"({"a":{"dtype":"F32","shape":[1.5],"data_offsets":[0,4]}})", 4), "no list of sizes"},
      {file_with(R"({"a":{"dtype":"F32","shape":[4294967296,4294967296,16],"data_offsets":[0,0]}})", 0), "too large"},
      {file_with(R"({"a":{"dtype":"F32","shape":[4611686018427387904],"data_offsets":[0,0]}})", 0), "too large"},
      {file_with(R"({"a":{"dtype":"F32","shape":[18446744073709551615],"data_offsets":[0,4]}})", 4),
       "no list of sizes"},
      {file_with(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}})", 4), "do not fit"},
      {file_with(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,8]}})", 8), "do not fit"},
      {file_with(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4,8]}})", 4), "not two places"},
      {file_with(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})", 8), "overlaps another or leaves a hole"},
      {file_with(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})", 3), "cut?"},
      {file_with(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})", 5), "cut?"},
      {file_with(R"({"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},)"
                 R"("a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})",
                 1),
       "listed twice"},
      {file_with(R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},)"
                 R"("b":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}})",
                 3),
       "overlaps"},
      {file_with(R"({"__metadata__":{"a":1}})", 0), "no table of strings"},
      {file_with(R"({"__metadata__":[]})", 0), "no table of strings"},
      {file_with("{\"\xff\xfe\":1}", 0), "no JSON"},
  };
  for (const auto& [file, reason] : cases) {
    INFO(file.substr(0, 120));
    CHECK_THROWS_WITH(parse(file),
                      Catch::Contains("x.safetensors: not a good safetensors file") && Catch::Contains(reason));
  }
}

TEST_CASE("random damage to a good file is refused or leaves every entry inside the file") {
  const uint32_t seed = 99;
  std::mt19937 random(seed);
  std::vector<SafetensorsEntry> entries = some_entries();
  const std::string good = make_safetensors_header(entries, {{"k", "v"}}) + std::string(26, 'x');
  const std::string alphabet = "{}[]\",:0123456789-eE.\\u \xff";
  int accepted = 0;
  for (int round = 0; round < 20000; ++round) {
    INFO("seed " << seed << ", round " << round);
    std::string file = good;
    for (uint32_t changes = 1 + random() % 4; changes > 0; --changes) {
      const size_t place = random() % file.size();
      switch (random() % 4) {
        case 0: file[place] = static_cast<char>(random()); break;
        case 1: file[place] = alphabet[random() % alphabet.size()]; break;
        case 2: file.erase(place, 1 + random() % 8); break;
        default: file.insert(place, 1, alphabet[random() % alphabet.size()]); break;
      }
      if (file.empty()) break;
    }
    try {
      check_inside(parse(file), file.size());
      ++accepted;
    } catch (const Error& error) {
      CHECK(error.exit_code == 4);
    }
  }
  CHECK(accepted > 0); // changes of data and of names are none of the format's business
}

} // namespace kumiki
