#include "output_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "boundary.h"

namespace kumiki::metrics {

OutputFile::OutputFile(const std::string& path, bool new_only) : path_(path) {
  file_ = open(path.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | (new_only ? O_EXCL : 0), 0666);
  if (file_ < 0) throw Failure(KM_ERROR_SYSTEM, path + ": cannot be written: " + std::strerror(errno));
}

OutputFile::~OutputFile() { close(file_); }

void OutputFile::write(std::string_view record) {
  while (!record.empty()) {
    const ssize_t written = ::write(file_, record.data(), record.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) throw Failure(KM_ERROR_SYSTEM, path_ + ": cannot be written: " + std::strerror(errno));
    record.remove_prefix(static_cast<size_t>(written));
  }
}

void OutputFile::cut(int64_t bytes) {
  if (ftruncate(file_, bytes) != 0)
    throw Failure(KM_ERROR_SYSTEM,
                  path_ + ": cannot be cut to " + std::to_string(bytes) + " bytes: " + std::strerror(errno));
}

} // namespace kumiki::metrics
