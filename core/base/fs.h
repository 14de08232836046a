// Fs: every access of checkpoints to files goes through this interface, so that tests can wrap it and inject faults (a
// full disk, a torn write, a kill between two calls). The real one is POSIX. All functions throw Error with exit code 6
// that names the path; all are [any]. Floor: base.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "core/base/error.h"

namespace kumiki {

// A file that is being written, from its beginning. Destroying it closes it without a sync.
class FileWriter {
 public:
  virtual ~FileWriter() = default;
  virtual void write(const void* data, uint64_t bytes) = 0; // all of it, at the end
  virtual void sync() = 0;                                  // returns when the contents are on the disk
  virtual void close() = 0;                                 // an error of an earlier write may show only here
};

// A file's contents, read only, as long as the object lives.
class FileMapping {
 public:
  virtual ~FileMapping() = default;
  virtual const std::byte* data() const = 0; // null if bytes() is 0
  virtual uint64_t bytes() const = 0;
};

class Fs {
 public:
  virtual ~Fs() = default;
  virtual std::unique_ptr<FileWriter> create(const std::string& path) = 0; // makes it, or empties what is there
  virtual std::unique_ptr<FileMapping> map(const std::string& path) = 0;
  virtual std::string read(const std::string& path) = 0; // the whole file
  virtual bool exists(const std::string& path) = 0;
  virtual bool is_folder(const std::string& path) = 0;
  virtual uint64_t file_bytes(const std::string& path) = 0;
  virtual uint64_t free_bytes(const std::string& path) = 0;                // of the file system that holds path
  virtual std::vector<std::string> list(const std::string& folder) = 0;    // names, sorted, without "." and ".."
  virtual void make_folders(const std::string& path) = 0;                  // with its parents; no error if it is there
  virtual void rename(const std::string& from, const std::string& to) = 0; // atomic; replaces a file
  virtual void remove(const std::string& path) = 0;                        // with all that is in it; no error if absent
  virtual void sync_folder(const std::string& path) = 0;                   // makes creations and renames in it durable
};

Fs& real_fs();

// Writes a small file in one go that is never seen half: PATH.new, sync, rename, sync of the folder.
void write_file(Fs& fs, const std::string& path, const std::string& contents);

} // namespace kumiki
