#include "tests/checkpoint/memory_fs.h"

namespace kumiki {
namespace {

using Lock = std::lock_guard<std::recursive_mutex>;

[[noreturn]] void fail(const std::string& path, const std::string& what) {
  Error error(path, what);
  error.exit_code = 6;
  throw error;
}

} // namespace

class MemoryFs::Writer : public FileWriter {
 public:
  Writer(MemoryFs& fs, std::string path, std::shared_ptr<Inode> inode)
      : fs_(fs), path_(std::move(path)), inode_(std::move(inode)) {}
  void write(const void* data, uint64_t bytes) override {
    const Lock lock(fs_.mutex_);
    const bool struck = fs_.strikes(path_);
    const uint64_t room = fs_.capacity_ - std::min(fs_.capacity_, fs_.used());
    const uint64_t written = std::min(room, struck ? bytes / 2 : bytes);
    inode_->data.append(static_cast<const char*>(data), written);
    if (struck) fs_.throw_fault(path_);
    if (written < bytes) fail(path_, "cannot write: No space left on device");
  }
  void sync() override {
    const Lock lock(fs_.mutex_);
    fs_.operation(path_);
    inode_->durable = inode_->data;
  }
  void close() override {
    const Lock lock(fs_.mutex_);
    fs_.operation(path_);
  }

 private:
  MemoryFs& fs_;
  std::string path_;
  std::shared_ptr<Inode> inode_;
};

class MemoryFs::Mapping : public FileMapping {
 public:
  explicit Mapping(std::string data) : data_(std::move(data)) {}
  const std::byte* data() const override {
    return data_.empty() ? nullptr : reinterpret_cast<const std::byte*>(data_.data());
  }
  uint64_t bytes() const override { return data_.size(); }

 private:
  std::string data_;
};

MemoryFs::MemoryFs() : root_(std::make_shared<Inode>()) { root_->folder = true; }

void MemoryFs::inject(Fault fault, int64_t at) {
  const Lock lock(mutex_);
  fault_ = fault;
  at_ = at;
  operations_ = 0;
}

int64_t MemoryFs::operations() const {
  const Lock lock(mutex_);
  return operations_;
}

void MemoryFs::set_capacity(uint64_t bytes) {
  const Lock lock(mutex_);
  capacity_ = bytes;
}

bool MemoryFs::strikes(const std::string&) {
  if (dead_) throw ProcessDied{};
  return operations_++ == at_ && fault_ != Fault::kNone;
}

void MemoryFs::throw_fault(const std::string& path) {
  if (fault_ == Fault::kFail) fail(path, "cannot write: Input/output error");
  dead_ = true;
  throw ProcessDied{};
}

void MemoryFs::operation(const std::string& path) {
  if (strikes(path)) throw_fault(path);
}

std::shared_ptr<MemoryFs::Inode> MemoryFs::find(const std::string& path) const {
  std::shared_ptr<Inode> at = root_;
  for (size_t begin = 0; at && begin < path.size();) {
    const size_t end = std::min(path.find('/', begin), path.size());
    const std::string name = path.substr(begin, end - begin);
    begin = end + 1;
    if (name.empty() || name == ".") continue;
    const auto entry = at->entries.find(name);
    at = entry == at->entries.end() ? nullptr : entry->second;
  }
  return at;
}

std::shared_ptr<MemoryFs::Inode> MemoryFs::need(const std::string& path, const char* what) const {
  std::shared_ptr<Inode> inode = find(path);
  if (!inode) fail(path, std::string(what) + ": No such file or directory");
  return inode;
}

std::pair<std::shared_ptr<MemoryFs::Inode>, std::string> MemoryFs::parent(const std::string& path) const {
  const size_t slash = path.rfind('/');
  if (slash == std::string::npos) return {root_, path};
  return {need(path.substr(0, slash), "cannot open the folder"), path.substr(slash + 1)};
}

std::string& MemoryFs::contents(const std::string& path) { return need(path, "cannot open")->data; }

uint64_t MemoryFs::used_by(const Inode& inode) {
  uint64_t bytes = inode.data.size();
  for (const auto& [name, entry] : inode.entries) bytes += used_by(*entry);
  return bytes;
}
uint64_t MemoryFs::used() const {
  const Lock lock(mutex_);
  return used_by(*root_);
}

void MemoryFs::settle(Inode& inode, bool power_cut, std::mt19937& random) {
  if (power_cut && inode.folder && !inode.since.empty()) {
    const size_t kept = std::uniform_int_distribution<size_t>(0, inode.since.size())(random);
    inode.entries = kept == 0 ? inode.synced : inode.since[kept - 1];
  }
  if (power_cut && !inode.folder && inode.data != inode.durable) {
    const size_t kept = std::uniform_int_distribution<size_t>(0, inode.data.size())(random);
    inode.data = inode.data.substr(0, kept);
    if (!inode.data.empty() && random() % 2) inode.data.back() ^= 0x55;
  }
  inode.durable = inode.data;
  inode.synced = inode.entries;
  inode.since.clear();
  for (const auto& [name, entry] : inode.entries) settle(*entry, power_cut, random);
}

void MemoryFs::restart(bool power_cut, std::mt19937& random) {
  const Lock lock(mutex_);
  dead_ = false;
  fault_ = Fault::kNone;
  settle(*root_, power_cut, random);
}

std::unique_ptr<FileWriter> MemoryFs::create(const std::string& path) {
  const Lock lock(mutex_);
  operation(path);
  const auto [folder, name] = parent(path);
  std::shared_ptr<Inode>& entry = folder->entries[name];
  if (!entry) entry = std::make_shared<Inode>();
  if (entry->folder) fail(path, "Is a directory");
  entry->data.clear();
  changed(*folder);
  return std::make_unique<Writer>(*this, path, entry);
}

std::unique_ptr<FileMapping> MemoryFs::map(const std::string& path) { return std::make_unique<Mapping>(read(path)); }

std::string MemoryFs::read(const std::string& path) {
  const Lock lock(mutex_);
  const std::shared_ptr<Inode> inode = need(path, "cannot open the file");
  if (inode->folder) fail(path, "Is a directory");
  return inode->data;
}
bool MemoryFs::exists(const std::string& path) {
  const Lock lock(mutex_);
  return find(path) != nullptr;
}
bool MemoryFs::is_folder(const std::string& path) {
  const Lock lock(mutex_);
  const std::shared_ptr<Inode> inode = find(path);
  return inode && inode->folder;
}
uint64_t MemoryFs::file_bytes(const std::string& path) {
  const Lock lock(mutex_);
  return need(path, "cannot look at the file")->data.size();
}
uint64_t MemoryFs::free_bytes(const std::string&) {
  const Lock lock(mutex_);
  return capacity_ - std::min(capacity_, used());
}
std::vector<std::string> MemoryFs::list(const std::string& path) {
  const Lock lock(mutex_);
  std::vector<std::string> names;
  for (const auto& [name, entry] : need(path, "cannot list the folder")->entries) names.push_back(name);
  return names;
}

void MemoryFs::make_folders(const std::string& path) {
  const Lock lock(mutex_);
  for (size_t end = path.find('/', 1);; end = path.find('/', end + 1)) {
    const std::string part = path.substr(0, end);
    if (!find(part)) {
      operation(part);
      const auto [folder, name] = parent(part);
      folder->entries[name] = std::make_shared<Inode>();
      folder->entries[name]->folder = true;
      changed(*folder);
    }
    if (end == std::string::npos) return;
  }
}

void MemoryFs::rename(const std::string& from, const std::string& to) {
  const Lock lock(mutex_);
  operation(from);
  const std::shared_ptr<Inode> inode = need(from, "cannot rename");
  const std::shared_ptr<Inode> there = find(to);
  if (there && there->folder && !there->entries.empty()) fail(from, "cannot rename to " + to + ": Directory not empty");
  const auto [old_folder, old_name] = parent(from);
  const auto [new_folder, new_name] = parent(to);
  old_folder->entries.erase(old_name);
  new_folder->entries[new_name] = inode;
  changed(*new_folder);
  if (old_folder != new_folder) changed(*old_folder);
}

void MemoryFs::remove_tree(Inode& folder, const std::string& name, const std::string& path) {
  const std::shared_ptr<Inode> inode = folder.entries.at(name);
  const Entries inside = inode->entries;
  for (const auto& [child, entry] : inside) remove_tree(*inode, child, path + "/" + child);
  operation(path);
  folder.entries.erase(name);
  changed(folder);
}

void MemoryFs::remove(const std::string& path) {
  const Lock lock(mutex_);
  if (!find(path)) return;
  const auto [folder, name] = parent(path);
  remove_tree(*folder, name, path);
}

void MemoryFs::sync_folder(const std::string& path) {
  const Lock lock(mutex_);
  operation(path);
  const std::shared_ptr<Inode> folder = need(path, "cannot open the folder");
  folder->synced = folder->entries;
  folder->since.clear();
}

} // namespace kumiki
