// A text corpus as tokens: all files one after the other, each a document, with the tokenizer's end-of-document token
// after each. Made once by parallel threads, kept in memory or in a cache file, and shared by all who open the same
// corpus in this process (training and validation, ranks that are threads).
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "mapped_file.h"
#include "text_files.h"
#include "token_store.h"
#include "tokenizer.h"

namespace kumiki::data {

struct TextCorpus {
  TokenType type = TokenType::kU8;
  int64_t tokens = 0;
  const std::byte* data = nullptr;    // tokens x token_width(type) bytes: in `memory` or in `cached`
  std::vector<int64_t> document_ends; // the token after each document's last; ascending, empty documents left out
  std::vector<std::byte> memory;
  MappedFile cached;
};

struct CorpusRequest {
  std::string path;
  std::string cache; // folder of the cache; empty = none
  std::shared_ptr<const Tokenizer> tokenizer;
  unsigned threads; // ≥ 1
};

// Throws Failure. The result does not depend on the number of threads.
std::shared_ptr<const TextCorpus> open_text_corpus(const CorpusRequest& request);

} // namespace kumiki::data
