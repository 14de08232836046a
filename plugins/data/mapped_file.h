// A file mapped for reading. Nothing is read until it is touched, so a file of any size opens at once.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace kumiki::data {

class MappedFile {
 public:
  MappedFile() = default;
  // Throws Failure that names the file: KM_ERROR_USER if it is not there or not a file, KM_ERROR_SYSTEM otherwise.
  // random: tell the kernel that reads jump, so that it does not read ahead.
  explicit MappedFile(const std::string& path, bool random = false);
  ~MappedFile();
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  const std::byte* data() const { return data_; }
  int64_t bytes() const { return bytes_; }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
  const std::byte* data_ = nullptr;
  int64_t bytes_ = 0;
};

} // namespace kumiki::data
