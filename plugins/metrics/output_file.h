// A file that is appended to record by record: each record is handed to the system in one write, so a killed process
// leaves whole records (but perhaps the last).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace kumiki::metrics {

class OutputFile {
 public:
  // Opens for appending, made if it is not there (new_only: it is an error if it is there). Throws Failure.
  explicit OutputFile(const std::string& path, bool new_only = false);
  ~OutputFile();
  OutputFile(const OutputFile&) = delete;
  OutputFile& operator=(const OutputFile&) = delete;

  const std::string& path() const { return path_; }
  void write(std::string_view record);
  // Cuts the file to its first `bytes`.
  void cut(int64_t bytes);

 private:
  std::string path_;
  int file_ = -1;
};

} // namespace kumiki::metrics
