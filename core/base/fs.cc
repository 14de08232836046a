#include "core/base/fs.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>
#include <cerrno>
#include <cstring>

#include <algorithm>

namespace kumiki {
namespace {

constexpr int kSystemExitCode = 6;

[[noreturn]] void fail(const std::string& path, const std::string& what, int error) {
  std::string remedy;
  if (error == ENOSPC || error == EDQUOT)
    remedy = "free some space, or choose another folder with --set run.output=FOLDER";
  if (error == EACCES || error == EPERM || error == EROFS) remedy = "check the owner and the permissions of the folder";
  Error out(path, what + ": " + std::strerror(error), remedy);
  out.exit_code = kSystemExitCode;
  throw out;
}

class Descriptor {
 public:
  Descriptor(const std::string& path, int flags, const char* what)
      : fd_(::open(path.c_str(), flags | O_CLOEXEC, 0666)) {
    if (fd_ < 0) fail(path, what, errno);
  }
  ~Descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return fd_; }
  int release() {
    const int fd = fd_;
    fd_ = -1;
    return fd;
  }

 private:
  int fd_;
};

class RealWriter : public FileWriter {
 public:
  explicit RealWriter(const std::string& path)
      : path_(path), file_(path, O_WRONLY | O_CREAT | O_TRUNC, "cannot create the file") {}

  void write(const void* data, uint64_t bytes) override {
    const char* at = static_cast<const char*>(data);
    while (bytes > 0) {
      const size_t piece = static_cast<size_t>(std::min<uint64_t>(bytes, uint64_t{1} << 30)); // Linux stops at 2 GiB
      const ssize_t written = ::write(file_.get(), at, piece);
      if (written < 0 && errno == EINTR) continue;
      if (written < 0) fail(path_, "cannot write", errno);
      at += written;
      bytes -= static_cast<uint64_t>(written);
    }
  }
  void sync() override {
    if (::fsync(file_.get()) != 0) fail(path_, "cannot write to the disk (fsync)", errno);
  }
  void close() override {
    const int fd = file_.release();
    if (fd >= 0 && ::close(fd) != 0) fail(path_, "cannot close after writing", errno);
  }

 private:
  std::string path_;
  Descriptor file_;
};

uint64_t size_of(int fd, const std::string& path) {
  struct stat info;
  if (::fstat(fd, &info) != 0) fail(path, "cannot look at the file", errno);
  if (S_ISDIR(info.st_mode)) fail(path, "cannot read", EISDIR);
  return static_cast<uint64_t>(info.st_size);
}

class RealMapping : public FileMapping {
 public:
  explicit RealMapping(const std::string& path) {
    const Descriptor file(path, O_RDONLY, "cannot open the file");
    bytes_ = size_of(file.get(), path);
    if (bytes_ == 0) return; // mmap refuses empty ranges
    data_ = ::mmap(nullptr, bytes_, PROT_READ, MAP_PRIVATE, file.get(), 0);
    if (data_ == MAP_FAILED) fail(path, "cannot map the file", errno);
  }
  ~RealMapping() override {
    if (bytes_ > 0) ::munmap(data_, bytes_);
  }
  RealMapping(const RealMapping&) = delete;
  RealMapping& operator=(const RealMapping&) = delete;
  const std::byte* data() const override { return static_cast<const std::byte*>(data_); }
  uint64_t bytes() const override { return bytes_; }

 private:
  void* data_ = nullptr;
  uint64_t bytes_ = 0;
};

class RealFs : public Fs {
 public:
  std::unique_ptr<FileWriter> create(const std::string& path) override { return std::make_unique<RealWriter>(path); }
  std::unique_ptr<FileMapping> map(const std::string& path) override { return std::make_unique<RealMapping>(path); }

  std::string read(const std::string& path) override {
    const Descriptor file(path, O_RDONLY, "cannot open the file");
    std::string text;
    text.reserve(size_of(file.get(), path));
    char piece[1 << 16];
    for (;;) {
      const ssize_t got = ::read(file.get(), piece, sizeof(piece));
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) fail(path, "cannot read", errno);
      if (got == 0) return text;
      text.append(piece, static_cast<size_t>(got));
    }
  }
  bool exists(const std::string& path) override {
    struct stat info;
    if (::lstat(path.c_str(), &info) == 0) return true;
    if (errno == ENOENT || errno == ENOTDIR) return false;
    fail(path, "cannot look at the file", errno);
  }
  bool is_folder(const std::string& path) override {
    struct stat info;
    if (::stat(path.c_str(), &info) == 0) return S_ISDIR(info.st_mode);
    if (errno == ENOENT || errno == ENOTDIR) return false;
    fail(path, "cannot look at the file", errno);
  }
  uint64_t file_bytes(const std::string& path) override {
    struct stat info;
    if (::stat(path.c_str(), &info) != 0) fail(path, "cannot look at the file", errno);
    return static_cast<uint64_t>(info.st_size);
  }
  uint64_t free_bytes(const std::string& path) override {
    struct statvfs info;
    if (::statvfs(path.c_str(), &info) != 0) fail(path, "cannot ask for free space", errno);
    return static_cast<uint64_t>(info.f_bavail) * info.f_frsize;
  }
  std::vector<std::string> list(const std::string& folder) override {
    DIR* stream = ::opendir(folder.c_str());
    if (!stream) fail(folder, "cannot list the folder", errno);
    const std::unique_ptr<DIR, void (*)(DIR*)> closer(stream, [](DIR* open) { ::closedir(open); });
    std::vector<std::string> names;
    for (errno = 0; const dirent* entry = ::readdir(stream); errno = 0) {
      const std::string name = entry->d_name;
      if (name != "." && name != "..") names.push_back(name);
    }
    if (errno != 0) fail(folder, "cannot list the folder", errno);
    std::sort(names.begin(), names.end());
    return names;
  }
  void make_folders(const std::string& path) override {
    for (size_t end = path.find('/', 1);; end = path.find('/', end + 1)) {
      const std::string part = path.substr(0, end);
      // A racing maker of the same folder is no error, a file in its place is.
      if (::mkdir(part.c_str(), 0777) != 0) {
        const int error = errno;
        if (!is_folder(part)) fail(part, "cannot make the folder", error);
      }
      if (end == std::string::npos) return;
    }
  }
  void rename(const std::string& from, const std::string& to) override {
    if (::rename(from.c_str(), to.c_str()) != 0) fail(from, "cannot rename to " + to, errno);
  }
  void remove(const std::string& path) override {
    struct stat info;
    if (::lstat(path.c_str(), &info) != 0) {
      if (errno == ENOENT || errno == ENOTDIR) return;
      fail(path, "cannot remove", errno);
    }
    if (!S_ISDIR(info.st_mode)) {
      if (::unlink(path.c_str()) != 0 && errno != ENOENT) fail(path, "cannot remove", errno);
      return;
    }
    for (const std::string& name : list(path)) remove(path + "/" + name);
    if (::rmdir(path.c_str()) != 0 && errno != ENOENT) fail(path, "cannot remove the folder", errno);
  }
  void sync_folder(const std::string& path) override {
    const Descriptor folder(path, O_RDONLY | O_DIRECTORY, "cannot open the folder");
    // Some file systems cannot sync a folder and say EINVAL: there is nothing more to do on them.
    if (::fsync(folder.get()) != 0 && errno != EINVAL) fail(path, "cannot write the folder to the disk (fsync)", errno);
  }
};

} // namespace

Fs& real_fs() {
  static RealFs fs;
  return fs;
}

void write_file(Fs& fs, const std::string& path, const std::string& contents) {
  const std::string fresh = path + ".new";
  {
    const std::unique_ptr<FileWriter> file = fs.create(fresh);
    file->write(contents.data(), contents.size());
    file->sync();
    file->close();
  }
  fs.rename(fresh, path);
  const size_t slash = path.rfind('/');
  fs.sync_folder(slash == std::string::npos ? "." : slash == 0 ? "/" : path.substr(0, slash));
}

} // namespace kumiki
