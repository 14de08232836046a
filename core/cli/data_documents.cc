#include "core/cli/data_documents.h"

#include <zlib.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "core/base/error.h"

namespace kumiki {
namespace {

namespace fs = std::filesystem;

// The component `text` cuts at the same places, so both give the same tokens.
constexpr size_t kPieceBytes = 1u << 20;

// The end of the first piece of `text`, which is longer than one: behind a line's end, else between two characters.
size_t piece_end(const std::string& text) {
  if (const size_t line = text.rfind('\n', kPieceBytes - 1); line != std::string::npos) return line + 1;
  size_t end = kPieceBytes;
  while (end > 1 && (static_cast<unsigned char>(text[end]) & 0xc0) == 0x80) --end;
  return end;
}

std::vector<std::string> files_below(const std::string& input) {
  std::error_code error;
  if (!fs::is_directory(input, error)) return {input};
  std::vector<std::string> paths;
  fs::recursive_directory_iterator at(input, fs::directory_options::follow_directory_symlink, error);
  for (const fs::recursive_directory_iterator end; !error && at != end; at.increment(error)) {
    const bool hidden = at->path().filename().string().front() == '.';
    if (hidden && at->is_directory(error)) at.disable_recursion_pending();
    if (!hidden && at->is_regular_file(error)) paths.push_back(at->path().string());
  }
  if (error) throw Error(input, "cannot be listed: " + error.message());
  if (paths.empty()) throw Error(input, "there is no file in this folder");
  std::sort(paths.begin(), paths.end());
  return paths;
}

std::string field_of(const std::string& line, const std::string& key, const std::string& where) {
  const nlohmann::json object = nlohmann::json::parse(line, nullptr, false);
  if (!object.is_object())
    throw Error(where, "is not a JSON object", "say --form lines or --form file if it is plain text");
  const auto found = object.find(key);
  if (found == object.end() || !found->is_string())
    throw Error(where, "has no string \"" + key + "\"", "name the field that holds the text with --key");
  return found->get<std::string>();
}

} // namespace

// One file, unpacked.
class DocumentReader::Input {
 public:
  explicit Input(const std::string& path) : path_(path), file_(gzopen(path.c_str(), "rb")) {
    if (!file_) throw Error(path, std::string("cannot be opened: ") + std::strerror(errno));
    gzbuffer(file_, 1u << 17);
  }
  ~Input() { gzclose_r(file_); }
  Input(const Input&) = delete;
  Input& operator=(const Input&) = delete;

  // Reads on until `pending` has more than `bytes`, or the file ends.
  void fill(size_t bytes) {
    while (!ended_ && pending.size() - at <= bytes) {
      pending.erase(0, at);
      at = 0;
      const size_t had = pending.size();
      pending.resize(had + kPieceBytes);
      const int got = gzread(file_, pending.data() + had, static_cast<unsigned>(kPieceBytes));
      pending.resize(had + static_cast<size_t>(std::max(got, 0)));
      int code = Z_OK;
      const char* const why = gzerror(file_, &code);
      if (got < 0 || (code != Z_OK && code != Z_STREAM_END)) throw Error(path_, std::string("is damaged: ") + why);
      ended_ = got == 0;
    }
  }

  bool line(std::string& text) {
    size_t end = std::string::npos;
    for (size_t want = 0;; want = pending.size() - at) {
      fill(want);
      end = pending.find('\n', at + want);
      if (end != std::string::npos || ended_) break;
    }
    if (at == pending.size()) return false;
    const bool whole = end != std::string::npos;
    text.assign(pending, at, whole ? end - at : std::string::npos);
    at = whole ? end + 1 : pending.size();
    if (!text.empty() && text.back() == '\r') text.pop_back();
    ++lines;
    return true;
  }

  int64_t packed_offset() const { return std::max<int64_t>(0, gzoffset(file_)); }
  const std::string& path() const { return path_; }

  std::string pending; // read, and from `at` on not yet given out
  size_t at = 0;
  int64_t given = 0; // bytes of text that were given out
  int64_t lines = 0;
  std::string document; // what is left of a line's document
  std::string where;

 private:
  std::string path_;
  gzFile file_;
  bool ended_ = false;
};

DocumentReader::DocumentReader(const std::vector<std::string>& inputs, DocumentForm form, const std::string& key)
    : form_(form), key_(key) {
  for (const std::string& input : inputs)
    for (const std::string& path : files_below(input)) {
      std::error_code error;
      const auto bytes = static_cast<int64_t>(fs::file_size(path, error));
      if (error) throw Error(path, "cannot be read: " + error.message());
      files_.push_back({path, bytes});
      bytes_ += bytes;
    }
}

DocumentReader::~DocumentReader() = default;

int64_t DocumentReader::bytes_read() const { return bytes_before_ + (input_ ? input_->packed_offset() : 0); }

bool DocumentReader::open_next() {
  if (file_ == files_.size()) return false;
  input_ = std::make_unique<Input>(files_[file_++].path);
  return true;
}

bool DocumentReader::next(TextPiece& piece) {
  while (input_ || open_next()) {
    if (form_ == DocumentForm::kFile ? next_of_file(piece) : next_of_lines(piece)) return true;
    bytes_before_ += files_[file_ - 1].bytes;
    input_.reset();
  }
  return false;
}

bool DocumentReader::next_of_file(TextPiece& piece) {
  Input& input = *input_;
  input.fill(kPieceBytes);
  input.pending.erase(0, input.at);
  input.at = 0;
  if (input.pending.empty()) return false;
  const bool last = input.pending.size() <= kPieceBytes;
  const size_t end = last ? input.pending.size() : piece_end(input.pending);
  piece.text.assign(input.pending, 0, end);
  piece.where = input.path() + (input.given == 0 ? "" : " from byte " + std::to_string(input.given));
  piece.ends_document = last;
  input.at = end;
  input.given += static_cast<int64_t>(end);
  return true;
}

bool DocumentReader::next_of_lines(TextPiece& piece) {
  Input& input = *input_;
  std::string line;
  while (input.document.empty()) {
    if (!input.line(line)) return false;
    if (line.empty()) continue;
    input.where = input.path() + ":" + std::to_string(input.lines);
    input.document = form_ == DocumentForm::kJsonl ? field_of(line, key_, input.where) : line;
  }
  const bool last = input.document.size() <= kPieceBytes;
  const size_t end = last ? input.document.size() : piece_end(input.document);
  piece.text.assign(input.document, 0, end);
  input.document.erase(0, end);
  piece.where = input.where;
  piece.ends_document = last;
  return true;
}

} // namespace kumiki
