#include "shards.h"

#include <glob.h>

#include <algorithm>
#include <filesystem>

#include "boundary.h"

namespace kumiki::data {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kLlmCHeader = 256 * 4;
constexpr int32_t kLlmCMagicGpt2 = 20240520;
constexpr int32_t kLlmCMagicLlama3 = 20240801;

int32_t header_field(const MappedFile& file, int64_t index) {
  int32_t value;
  std::memcpy(&value, file.data() + index * 4, sizeof value);
  return value;
}

bool has_llm_c_magic(const MappedFile& file) {
  if (file.bytes() < 4) return false;
  const int32_t magic = header_field(file, 0);
  return magic == kLlmCMagicGpt2 || magic == kLlmCMagicLlama3;
}

Shard open_llm_c(MappedFile file) {
  const char* const path = file.path().c_str();
  if (!has_llm_c_magic(file))
    fail_user("%s: does not begin with the magic number of llm.c (20240520 or 20240801): is it nanoGPT's format?",
              path);
  if (file.bytes() < kLlmCHeader)
    fail_user("%s: is cut off: %lld bytes, the header alone has %lld", path, static_cast<long long>(file.bytes()),
              static_cast<long long>(kLlmCHeader));
  const bool gpt2 = header_field(file, 0) == kLlmCMagicGpt2;
  const int32_t version = header_field(file, 1), expected = gpt2 ? 1 : 7;
  if (version != expected)
    fail_user("%s: is version %d of its format, only %d is known: write it again with llm.c's scripts", path, version,
              expected);
  const int64_t count = header_field(file, 2);
  const TokenType type = gpt2 ? TokenType::kU16 : TokenType::kU32;
  const int64_t bytes = kLlmCHeader + count * token_width(type);
  if (count < 0 || file.bytes() != bytes)
    fail_user("%s: its header says %lld tokens, that is %lld bytes, but it has %lld: it is cut off or damaged", path,
              static_cast<long long>(count), static_cast<long long>(bytes), static_cast<long long>(file.bytes()));
  const std::byte* const tokens = file.data() + kLlmCHeader;
  return {std::move(file), type, tokens, 0, count, gpt2 ? 50257 : 128256};
}

Shard open_nano_gpt(MappedFile file) {
  if (file.bytes() % 2 != 0)
    fail_user("%s: has %lld bytes, no whole number of 2-byte tokens: it is cut off, or not nanoGPT's format",
              file.path().c_str(), static_cast<long long>(file.bytes()));
  const std::byte* const tokens = file.data();
  const int64_t count = file.bytes() / 2;
  return {std::move(file), TokenType::kU16, tokens, 0, count, 0};
}

std::vector<std::string> matches(const std::string& pattern) {
  glob_t found{};
  std::vector<std::string> paths;
  if (glob(pattern.c_str(), 0, nullptr, &found) == 0) paths.assign(found.gl_pathv, found.gl_pathv + found.gl_pathc);
  globfree(&found);
  return paths;
}

std::vector<std::string> files_of_folder(const std::string& folder) {
  std::vector<std::string> paths;
  std::error_code error;
  for (fs::directory_iterator at(folder, error), end; !error && at != end; at.increment(error))
    if (at->path().extension() == ".bin" && at->is_regular_file(error)) paths.push_back(at->path().string());
  if (error) fail_user("%s: cannot be listed: %s", folder.c_str(), error.message().c_str());
  return paths;
}

} // namespace

std::vector<std::string> list_shards(const std::string& path) {
  std::error_code error;
  std::vector<std::string> paths;
  if (fs::is_directory(path, error)) {
    paths = files_of_folder(path);
    if (paths.empty()) fail_user("%s: there is no file *.bin in this folder", path.c_str());
  } else if (fs::exists(path, error) || path.find_first_of("*?[") == std::string::npos) {
    paths = {path};
  } else {
    paths = matches(path);
    if (paths.empty()) fail_user("%s: no file matches", path.c_str());
  }
  std::sort(paths.begin(), paths.end());
  return paths;
}

std::vector<Shard> open_shards(const std::vector<std::string>& paths, ShardFormat format) {
  std::vector<Shard> shards;
  int64_t first = 0;
  for (const std::string& path : paths) {
    MappedFile file(path, true);
    const bool llm_c = format == ShardFormat::kLlmC || (format == ShardFormat::kAuto && has_llm_c_magic(file));
    shards.push_back(llm_c ? open_llm_c(std::move(file)) : open_nano_gpt(std::move(file)));
    if (shards.back().format_vocabulary != shards.front().format_vocabulary)
      fail_user("%s and %s are of different formats: read them as two data sets", paths.front().c_str(), path.c_str());
    shards.back().first = first;
    first += shards.back().count;
  }
  return shards;
}

} // namespace kumiki::data
