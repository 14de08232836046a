// MemoryFs: a file system in memory that knows what is on the disk and what only in the cache. Every call that changes
// something is an operation with a number; the test says at which one the call fails, or the process dies, and then
// what a reader finds: after a kill all that was called, after a power cut only what was synced and a random part of
// the rest.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <random>
#include <string>
#include <vector>

#include "core/base/fs.h"

namespace kumiki {

// What flies out of an operation of a process that died: no Error, so that nobody takes it for a failure to report.
struct ProcessDied {};

class MemoryFs : public Fs {
 public:
  enum class Fault { kNone, kFail, kDie };
  MemoryFs();
  // The operation number `at` (from 0) fails once / is the last that the process begins. A write is half done then.
  void inject(Fault fault, int64_t at);
  int64_t operations() const;
  void set_capacity(uint64_t bytes);
  // The machine after the process is gone: a fresh start of it. power_cut: unsynced data and folder entries survive in
  // part.
  void restart(bool power_cut, std::mt19937& random);
  // Changes bytes behind everybody's back.
  std::string& contents(const std::string& path);
  uint64_t used() const;

  std::unique_ptr<FileWriter> create(const std::string& path) override;
  std::unique_ptr<FileMapping> map(const std::string& path) override;
  std::string read(const std::string& path) override;
  bool exists(const std::string& path) override;
  bool is_folder(const std::string& path) override;
  uint64_t file_bytes(const std::string& path) override;
  uint64_t free_bytes(const std::string& path) override;
  std::vector<std::string> list(const std::string& folder) override;
  void make_folders(const std::string& path) override;
  void rename(const std::string& from, const std::string& to) override;
  void remove(const std::string& path) override;
  void sync_folder(const std::string& path) override;

 private:
  struct Inode;
  using Entries = std::map<std::string, std::shared_ptr<Inode>>;
  struct Inode {
    bool folder = false;
    std::string data;           // as the process sees it
    std::string durable;        // as of the last sync
    Entries entries;            // as the process sees them
    Entries synced;             // as of the last sync_folder
    std::vector<Entries> since; // entries after each change since then, in order
  };
  class Writer;
  class Mapping;
  std::shared_ptr<Inode> find(const std::string& path) const; // null: none
  std::shared_ptr<Inode> need(const std::string& path, const char* what) const;
  std::pair<std::shared_ptr<Inode>, std::string> parent(const std::string& path) const;
  static void changed(Inode& folder) { folder.since.push_back(folder.entries); }
  // Counts an operation; true: it is to be half done, then throw_fault().
  bool strikes(const std::string& path);
  [[noreturn]] void throw_fault(const std::string& path);
  void operation(const std::string& path);
  void remove_tree(Inode& folder, const std::string& name, const std::string& path);
  void settle(Inode& inode, bool power_cut, std::mt19937& random);
  static uint64_t used_by(const Inode& inode);

  mutable std::recursive_mutex mutex_;
  std::shared_ptr<Inode> root_;
  Fault fault_ = Fault::kNone;
  int64_t at_ = -1;
  int64_t operations_ = 0;
  bool dead_ = false;
  uint64_t capacity_ = ~uint64_t{0};
};

} // namespace kumiki
