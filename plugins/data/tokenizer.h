// Text to tokens and back: bytes as they are, or a SentencePiece model. What the ability "kumiki.tokenizer/1" stands
// on.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace kumiki::data {

class Tokenizer {
 public:
  virtual ~Tokenizer() = default;
  virtual int64_t vocabulary() const = 0;
  // A number that changes with the tokenizer: part of the key of the cache.
  virtual uint64_t hash() const = 0;
  // All of these are thread-safe. Text is valid UTF-8; tokens are appended.
  virtual void encode(std::string_view text, std::vector<int32_t>& tokens) const = 0;
  // Tokens outside of the vocabulary are Failure.
  virtual std::string decode(const int32_t* tokens, size_t count) const = 0;
  // Bytes of text that the token stands for; 0 for control tokens and for tokens outside of the vocabulary. The sign of
  // a space that SentencePiece puts before a text counts as a byte.
  virtual uint32_t token_bytes(int32_t token) const = 0;
  // -1: there is none.
  virtual int32_t end_of_document() const = 0;
};

// path: a SentencePiece model; empty = bytes (vocabulary 256). Throws Failure.
std::shared_ptr<const Tokenizer> open_tokenizer(const std::string& path);

} // namespace kumiki::data
