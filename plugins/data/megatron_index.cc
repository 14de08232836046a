#include "megatron_index.h"

#include <cstring>
#include <string_view>

#include "boundary.h"

namespace kumiki::data {
namespace {

constexpr char kMagic[] = "MMIDIDX\0"; // nine bytes with the closing zero
constexpr int64_t kMagicBytes = 9;
constexpr int64_t kHeaderBytes = kMagicBytes + 8 + 1 + 8 + 8;
static_assert(sizeof kMagic == kMagicBytes);

std::string stem_of(const std::string& path) {
  for (const std::string_view end : {".bin", ".idx"})
    if (path.size() > end.size() && path.compare(path.size() - end.size(), end.size(), end) == 0)
      return path.substr(0, path.size() - end.size());
  return path;
}

TokenType type_of_code(int code, const std::string& path) {
  switch (code) {
    case 1: return TokenType::kU8;
    case 2: return TokenType::kI8;
    case 3: return TokenType::kI16;
    case 4: return TokenType::kI32;
    case 5: return TokenType::kI64;
    case 8: return TokenType::kU16;
    case 6:
    case 7: fail_user("%s: its tokens are floating-point numbers (type code %d)", path.c_str(), code);
    default: fail_user("%s: unknown type code %d of the tokens: the file is damaged", path.c_str(), code);
  }
}

} // namespace

MegatronIndex::MegatronIndex(const std::string& path)
    : idx_(stem_of(path) + ".idx", true), bin_(stem_of(path) + ".bin", true) {
  check_header();
  check_sizes();
}

int64_t MegatronIndex::load_i64(int64_t offset) const {
  int64_t value;
  std::memcpy(&value, idx_.data() + offset, sizeof value);
  return value;
}

void MegatronIndex::check_header() {
  const char* const path = idx_.path().c_str();
  const auto bytes = static_cast<long long>(idx_.bytes());
  if (bytes < kMagicBytes || std::memcmp(idx_.data(), kMagic, kMagicBytes) != 0)
    fail_user("%s: does not begin with MMIDIDX: it is no index of Megatron-LM", path);
  if (bytes < kHeaderBytes)
    fail_user("%s: is cut off: %lld bytes, the header alone has %lld", path, bytes,
              static_cast<long long>(kHeaderBytes));
  const int64_t version = load_i64(kMagicBytes);
  if (version != 1)
    fail_user("%s: is version %lld of the format, only 1 is known", path, static_cast<long long>(version));
  type_ = type_of_code(static_cast<int>(idx_.data()[kMagicBytes + 8]), idx_.path());
  sequences_ = load_i64(kMagicBytes + 9);
  const int64_t entries = load_i64(kMagicBytes + 17);
  // Compared by division: a damaged count must not overflow.
  const int64_t left = idx_.bytes() - kHeaderBytes;
  const bool fits =
      sequences_ >= 0 && entries >= 1 && sequences_ <= left / 12 && entries <= (left - sequences_ * 12) / 8;
  const int64_t rest = fits ? left - sequences_ * 12 - entries * 8 : 0;
  if (!fits || (rest != 0 && rest != sequences_))
    fail_user(
        "%s: has %lld bytes, which is not what %lld sequences and %lld document entries need: it is cut off or damaged",
        path, bytes, static_cast<long long>(sequences_), static_cast<long long>(entries));
  documents_ = entries - 1;
  if (sequences_ == 0 || documents_ == 0) fail_user("%s: the data set is empty: there is no document in it", path);
  lengths_at_ = kHeaderBytes;
  pointers_at_ = lengths_at_ + sequences_ * 4;
  documents_at_ = pointers_at_ + sequences_ * 8;
}

void MegatronIndex::check_sizes() {
  int32_t last_length;
  std::memcpy(&last_length, idx_.data() + lengths_at_ + (sequences_ - 1) * 4, sizeof last_length);
  const int64_t width = token_width(type_);
  const int64_t last_pointer = load_i64(pointers_at_ + (sequences_ - 1) * 8);
  const bool sound = load_i64(pointers_at_) == 0 && last_length >= 0 && last_pointer >= 0 &&
                     last_pointer % width == 0 && last_pointer <= bin_.bytes();
  if (!sound || last_pointer + last_length * width != bin_.bytes())
    fail_user(
        "%s: its last sequence is %d tokens at byte %lld, but %s has %lld bytes: the two are not a pair, or one is cut "
        "off or damaged",
        idx_.path().c_str(), last_length, static_cast<long long>(last_pointer), bin_.path().c_str(),
        static_cast<long long>(bin_.bytes()));
  tokens_ = bin_.bytes() / width;
  const int64_t first = load_i64(documents_at_), last = load_i64(documents_at_ + documents_ * 8);
  if (first != 0 || last != sequences_)
    fail_user("%s: its documents are sequences %lld to %lld, but there are 0 to %lld: the index is damaged",
              idx_.path().c_str(), static_cast<long long>(first), static_cast<long long>(last),
              static_cast<long long>(sequences_));
}

int64_t MegatronIndex::document_begin(int64_t document) const {
  const int64_t sequence = load_i64(documents_at_ + document * 8);
  if (sequence == sequences_) return tokens_;
  if (sequence < 0 || sequence > sequences_)
    fail_user("%s: document %lld begins with sequence %lld of %lld: the index is damaged", idx_.path().c_str(),
              static_cast<long long>(document), static_cast<long long>(sequence), static_cast<long long>(sequences_));
  const int64_t pointer = load_i64(pointers_at_ + sequence * 8);
  const int64_t width = token_width(type_);
  if (pointer < 0 || pointer > bin_.bytes() || pointer % width != 0)
    fail_user("%s: sequence %lld begins at byte %lld of %lld: the index is damaged", idx_.path().c_str(),
              static_cast<long long>(sequence), static_cast<long long>(pointer), static_cast<long long>(bin_.bytes()));
  return pointer / width;
}

} // namespace kumiki::data
