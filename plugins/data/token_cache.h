// The cache file of a tokenized text corpus, named by the hash of all that it depends on, so that it is never out of
// date.
//
//   bytes 0-7 "KMTOKENS" · u64 version 1 · u64 key · u64 bytes of a token · u64 tokens · u64 documents
//   i64 document_ends[documents] · the tokens, unsigned little-endian
#pragma once

#include <cstdint>
#include <string>

#include "text_corpus.h"

namespace kumiki::data {

std::string cache_path(const std::string& folder, uint64_t key);

// False if there is no such file, or it is not whole or not of this key: it is then made again.
bool read_cache(const std::string& path, uint64_t key, TextCorpus& corpus);

// Written beside and renamed: another process sees all of it or nothing. Throws Failure.
void write_cache(const std::string& path, uint64_t key, const TextCorpus& corpus);

} // namespace kumiki::data
