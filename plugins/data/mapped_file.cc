#include "mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "boundary.h"

namespace kumiki::data {

MappedFile::MappedFile(const std::string& path, bool random) : path_(path) {
  const int file = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0) {
    const bool users = errno == ENOENT || errno == EACCES || errno == ENOTDIR || errno == ELOOP;
    throw Failure(users ? KM_ERROR_USER : KM_ERROR_SYSTEM, path + ": cannot be opened: " + std::strerror(errno));
  }
  struct stat status {};
  if (fstat(file, &status) != 0 || !S_ISREG(status.st_mode)) {
    close(file);
    fail_user("%s: is not a file", path.c_str());
  }
  bytes_ = status.st_size;
  if (bytes_ > 0) {
    void* const memory = mmap(nullptr, static_cast<size_t>(bytes_), PROT_READ, MAP_SHARED, file, 0);
    if (memory == MAP_FAILED) {
      const int error = errno;
      close(file);
      fail_system("%s: cannot be mapped (%lld bytes): %s", path.c_str(), static_cast<long long>(bytes_),
                  std::strerror(error));
    }
    if (random) madvise(memory, static_cast<size_t>(bytes_), MADV_RANDOM);
    data_ = static_cast<const std::byte*>(memory);
  }
  close(file);
}

MappedFile::~MappedFile() {
  if (data_) munmap(const_cast<std::byte*>(data_), static_cast<size_t>(bytes_));
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : path_(std::move(other.path_)),
      data_(std::exchange(other.data_, nullptr)),
      bytes_(std::exchange(other.bytes_, 0)) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(data_, other.data_);
  std::swap(bytes_, other.bytes_);
  return *this;
}

} // namespace kumiki::data
