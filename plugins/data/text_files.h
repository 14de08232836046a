// The files of a text corpus: which there are, and their text, unpacked (.gz) and checked to be UTF-8.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace kumiki::data {

struct TextFile {
  std::string path;
  int64_t bytes;    // on disk
  int64_t modified; // nanoseconds since 1970
};

// `path` itself, or all files below it whose names do not begin with a dot, in the order of their paths. Throws Failure
// where there is none.
std::vector<TextFile> list_text_files(const std::string& path);

// The text of one file. Throws Failure that names the file, and the byte (of the unpacked text) where it is not UTF-8.
std::string read_text(const TextFile& file);

} // namespace kumiki::data
