#include "text_files.h"

#include <sys/stat.h>
#include <zlib.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <memory>

#include "boundary.h"
#include "mapped_file.h"
#include "utf8.h"

namespace kumiki::data {
namespace {

namespace fs = std::filesystem;

TextFile describe(const std::string& path) {
  struct stat status {};
  if (stat(path.c_str(), &status) != 0) fail_user("%s: cannot be read: %s", path.c_str(), std::strerror(errno));
  return {path, status.st_size, status.st_mtim.tv_sec * 1'000'000'000 + status.st_mtim.tv_nsec};
}

bool hidden(const fs::path& path) { return path.filename().string().front() == '.'; }

void list_folder(const std::string& folder, std::vector<TextFile>& files) {
  std::error_code error;
  fs::recursive_directory_iterator at(folder, fs::directory_options::follow_directory_symlink, error);
  for (const fs::recursive_directory_iterator end; !error && at != end; at.increment(error)) {
    if (hidden(at->path())) {
      if (at->is_directory(error)) at.disable_recursion_pending();
    } else if (at->is_regular_file(error)) {
      files.push_back(describe(at->path().string()));
    }
    if (error) break;
  }
  if (error) fail_user("%s: cannot be listed: %s", folder.c_str(), error.message().c_str());
}

std::string unpack(const std::string& path) {
  const std::unique_ptr<gzFile_s, int (*)(gzFile)> file(gzopen(path.c_str(), "rb"), gzclose);
  if (!file) fail_user("%s: cannot be opened: %s", path.c_str(), std::strerror(errno));
  gzbuffer(file.get(), 1u << 17);
  std::string text;
  std::vector<char> block(1u << 18);
  int got = 0;
  while ((got = gzread(file.get(), block.data(), static_cast<unsigned>(block.size()))) > 0)
    text.append(block.data(), static_cast<size_t>(got));
  int code = Z_OK;
  const char* const why = gzerror(file.get(), &code);
  if (got < 0 || code != Z_OK) fail_user("%s: is damaged after %zu bytes of text: %s", path.c_str(), text.size(), why);
  return text;
}

bool packed(const std::string& path) { return path.size() > 3 && path.compare(path.size() - 3, 3, ".gz") == 0; }

} // namespace

std::vector<TextFile> list_text_files(const std::string& path) {
  std::vector<TextFile> files;
  std::error_code error;
  if (!fs::is_directory(path, error)) {
    files.push_back(describe(path));
  } else {
    list_folder(path, files);
    std::sort(files.begin(), files.end(), [](const TextFile& a, const TextFile& b) { return a.path < b.path; });
    if (files.empty()) fail_user("%s: there is no file in this folder", path.c_str());
  }
  return files;
}

std::string read_text(const TextFile& file) {
  std::string text;
  if (packed(file.path)) {
    text = unpack(file.path);
  } else {
    const MappedFile mapped(file.path);
    text.assign(reinterpret_cast<const char*>(mapped.data()), static_cast<size_t>(mapped.bytes()));
  }
  if (const int64_t bad = valid_utf8(text); bad != static_cast<int64_t>(text.size()))
    fail_user("%s: is not valid UTF-8 at byte %lld (value 0x%02x): convert it, e.g. with iconv, or take it out",
              file.path.c_str(), static_cast<long long>(bad),
              static_cast<unsigned char>(text[static_cast<size_t>(bad)]));
  return text;
}

} // namespace kumiki::data
