#include "token_cache.h"

#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>

#include "boundary.h"

namespace kumiki::data {
namespace {

namespace fs = std::filesystem;

constexpr char kMagic[9] = "KMTOKENS";
constexpr uint64_t kVersion = 1;

struct Header {
  char magic[8];
  uint64_t version, key, token_bytes, tokens, documents;
};

// Tokens of a corpus are unsigned, of the least width that holds the vocabulary.
TokenType type_of(uint64_t width) {
  return width == 1 ? TokenType::kU8 : width == 2 ? TokenType::kU16 : TokenType::kU32;
}

} // namespace

std::string cache_path(const std::string& folder, uint64_t key) {
  std::array<char, 32> name{};
  std::snprintf(name.data(), name.size(), "%016llx.tokens", static_cast<unsigned long long>(key));
  return (fs::path(folder) / name.data()).string();
}

bool read_cache(const std::string& path, uint64_t key, TextCorpus& corpus) {
  std::error_code error;
  if (!fs::is_regular_file(path, error)) return false;
  MappedFile file(path);
  Header header;
  if (file.bytes() < static_cast<int64_t>(sizeof header)) return false;
  std::memcpy(&header, file.data(), sizeof header);
  const auto left = static_cast<uint64_t>(file.bytes()) - sizeof header;
  const bool known = std::memcmp(header.magic, kMagic, sizeof header.magic) == 0 && header.version == kVersion &&
                     header.key == key &&
                     (header.token_bytes == 1 || header.token_bytes == 2 || header.token_bytes == 4);
  if (!known || header.documents > left / 8 || (left - header.documents * 8) / header.token_bytes != header.tokens)
    return false;
  corpus.type = type_of(header.token_bytes);
  corpus.tokens = static_cast<int64_t>(header.tokens);
  corpus.document_ends.resize(header.documents);
  std::memcpy(corpus.document_ends.data(), file.data() + sizeof header, header.documents * 8);
  corpus.data = file.data() + sizeof header + header.documents * 8;
  corpus.cached = std::move(file);
  return true;
}

void write_cache(const std::string& path, uint64_t key, const TextCorpus& corpus) {
  std::error_code error;
  fs::create_directories(fs::path(path).parent_path(), error);
  if (error) fail_user("%s: cannot be made: %s", fs::path(path).parent_path().c_str(), error.message().c_str());
  const std::string beside = path + "." + std::to_string(getpid());
  std::FILE* const file = std::fopen(beside.c_str(), "wb");
  if (!file) fail_user("%s: cannot be written: %s", beside.c_str(), std::strerror(errno));
  Header header{
      {}, kVersion, key, token_width(corpus.type), static_cast<uint64_t>(corpus.tokens), corpus.document_ends.size()};
  std::memcpy(header.magic, kMagic, sizeof header.magic);
  const auto put = [file](const void* bytes, size_t count) {
    return count == 0 || std::fwrite(bytes, count, 1, file) == 1;
  };
  bool good = put(&header, sizeof header) && put(corpus.document_ends.data(), corpus.document_ends.size() * 8) &&
              put(corpus.data, static_cast<size_t>(corpus.tokens) * token_width(corpus.type));
  good = std::fflush(file) == 0 && good;
  const int why = errno;
  good = std::fclose(file) == 0 && good;
  if (good && std::rename(beside.c_str(), path.c_str()) == 0) return;
  const int reason = good ? errno : why;
  std::remove(beside.c_str());
  fail_system("%s: the cache cannot be written: %s", path.c_str(), std::strerror(reason));
}

} // namespace kumiki::data
