#include "core/cli/data_writer.h"

#include <unistd.h>

#include <cstring>

#include "core/base/error.h"

namespace kumiki {
namespace {

constexpr size_t kBufferBytes = 1u << 20;
constexpr int64_t kLongestSequence = int64_t{1} << 30;

template <typename Number>
void append(std::vector<char>& out, Number number) {
  const auto* const bytes = reinterpret_cast<const char*>(&number);
  out.insert(out.end(), bytes, bytes + sizeof number);
}

std::string folder_of(const std::string& path) {
  const size_t slash = path.rfind('/');
  return slash == std::string::npos ? "." : slash == 0 ? "/" : path.substr(0, slash);
}

} // namespace

MegatronWriter::MegatronWriter(Fs& fs, const std::string& prefix, int64_t vocabulary)
    : fs_(fs),
      bin_(prefix + ".bin"),
      idx_(prefix + ".idx"),
      beside_(".new." + std::to_string(getpid())),
      width_(vocabulary < 65500 ? 2 : 4) {
  for (const std::string& path : {bin_, idx_})
    if (fs_.exists(path)) throw Error(path, "is there already", "remove it, or name another --output");
  fs_.make_folders(folder_of(bin_));
  file_ = fs_.create(bin_ + beside_);
}

MegatronWriter::~MegatronWriter() {
  if (!file_) return;
  try {
    file_.reset();
    fs_.remove(bin_ + beside_);
    fs_.remove(idx_ + beside_);
  } catch (const Error&) {
    // The error that ended the writing is the one to tell; what is left behind has a name that says what it is.
  }
}

void MegatronWriter::flush() {
  file_->write(buffer_.data(), buffer_.size());
  buffer_.clear();
}

void MegatronWriter::add(const int32_t* tokens, size_t count) {
  for (size_t i = 0; i < count; ++i) {
    if (length_ == kLongestSequence) {
      lengths_.push_back(static_cast<int32_t>(length_));
      length_ = 0;
    }
    ++length_;
    if (width_ == 2)
      append(buffer_, static_cast<uint16_t>(tokens[i]));
    else
      append(buffer_, tokens[i]);
    if (buffer_.size() >= kBufferBytes) flush();
  }
  tokens_ += static_cast<int64_t>(count);
}

void MegatronWriter::end_document() {
  if (length_ == 0) return;
  lengths_.push_back(static_cast<int32_t>(length_));
  document_ends_.push_back(static_cast<int64_t>(lengths_.size()));
  length_ = 0;
}

void MegatronWriter::finish() {
  flush();
  file_->sync();
  file_->close();
  const std::unique_ptr<FileWriter> index = fs_.create(idx_ + beside_);
  const auto put = [&](auto number) {
    append(buffer_, number);
    if (buffer_.size() < kBufferBytes) return;
    index->write(buffer_.data(), buffer_.size());
    buffer_.clear();
  };
  constexpr char kMagic[] = "MMIDIDX\0"; // nine bytes with the closing zero
  for (const char c : kMagic) put(c);
  put(uint64_t{1});                               // version
  put(static_cast<uint8_t>(width_ == 2 ? 8 : 4)); // u16, i32
  put(static_cast<uint64_t>(lengths_.size()));
  put(static_cast<uint64_t>(document_ends_.size() + 1));
  for (const int32_t length : lengths_) put(length);
  int64_t pointer = 0;
  for (const int32_t length : lengths_) {
    put(pointer);
    pointer += length * static_cast<int64_t>(width_);
  }
  put(int64_t{0});
  for (const int64_t end : document_ends_) put(end);
  index->write(buffer_.data(), buffer_.size());
  index->sync();
  index->close();
  fs_.rename(bin_ + beside_, bin_);
  fs_.rename(idx_ + beside_, idx_);
  fs_.sync_folder(folder_of(bin_));
  file_.reset();
}

} // namespace kumiki
