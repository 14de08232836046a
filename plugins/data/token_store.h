// Tokens as they lie in memory or in a mapped file: 1 to 8 bytes each, little-endian, maybe unaligned; and the check,
// when they are read, that each is one of the vocabulary (an embedding row that does not exist would be read
// otherwise).
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>

#include "boundary.h"

namespace kumiki::data {

enum class TokenType { kU8, kI8, kI16, kU16, kI32, kU32, kI64 };

inline uint32_t token_width(TokenType type) {
  switch (type) {
    case TokenType::kU8:
    case TokenType::kI8: return 1;
    case TokenType::kI16:
    case TokenType::kU16: return 2;
    case TokenType::kI32:
    case TokenType::kU32: return 4;
    case TokenType::kI64: return 8;
  }
  return 0;
}

// Copies `count` tokens of type Stored from `source` to `target`; gives the index of the first that is not in
// 0 … vocabulary-1, or count.
template <typename Stored>
int64_t copy_tokens_as(const std::byte* source, int64_t count, int64_t vocabulary, int32_t* target) {
  int64_t good = 0;
  while (good < count) {
    Stored token;
    std::memcpy(&token, source + good * static_cast<int64_t>(sizeof token), sizeof token);
    const auto wide = static_cast<int64_t>(token);
    if (wide < 0 || wide >= vocabulary) break;
    target[good++] = static_cast<int32_t>(wide);
  }
  return good;
}

// The same by type; throws Failure that names `where` (a file), the place and the token. `first` is the number, in that
// file, of the token at `source`.
inline void copy_tokens(TokenType type, const std::byte* source, int64_t first, int64_t count, int64_t vocabulary,
                        const std::string& where, int32_t* target) {
  int64_t good = count;
  switch (type) {
    case TokenType::kU8: good = copy_tokens_as<uint8_t>(source, count, vocabulary, target); break;
    case TokenType::kI8: good = copy_tokens_as<int8_t>(source, count, vocabulary, target); break;
    case TokenType::kI16: good = copy_tokens_as<int16_t>(source, count, vocabulary, target); break;
    case TokenType::kU16: good = copy_tokens_as<uint16_t>(source, count, vocabulary, target); break;
    case TokenType::kI32: good = copy_tokens_as<int32_t>(source, count, vocabulary, target); break;
    case TokenType::kU32: good = copy_tokens_as<uint32_t>(source, count, vocabulary, target); break;
    case TokenType::kI64: good = copy_tokens_as<int64_t>(source, count, vocabulary, target); break;
  }
  if (good == count) return;
  fail_user(
      "%s: token number %lld is outside of the vocabulary 0 to %lld: the file was made with another tokenizer, or the "
      "option `vocabulary` is too small",
      where.c_str(), static_cast<long long>(first + good), static_cast<long long>(vocabulary - 1));
}

} // namespace kumiki::data
