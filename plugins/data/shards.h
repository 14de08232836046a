// The token files (.bin) of llm.c and nanoGPT, mapped, in the order of their names, read as one stream of tokens.
//
//   llm.c: 256 i32 (magic, version, number of tokens, 0 …), then the tokens. Magic 20240520 version 1: u16 (GPT-2);
//          magic 20240801 version 7: u32 (Llama 3).
//   nanoGPT: u16 tokens and nothing else.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "mapped_file.h"
#include "token_store.h"

namespace kumiki::data {

enum class ShardFormat { kAuto, kLlmC, kNanoGpt };

struct Shard {
  MappedFile file;
  TokenType type;
  const std::byte* tokens;
  int64_t first; // number of its first token in the stream
  int64_t count;
  int64_t format_vocabulary; // what the format implies, 0 = nothing
};

// Files behind `path`: a file, a pattern with * ? [ ], or a folder (its *.bin). In the order of their names, at least
// one; throws Failure.
std::vector<std::string> list_shards(const std::string& path);

// Maps them; touches only their headers. Throws Failure where a file is not what its header says.
std::vector<Shard> open_shards(const std::vector<std::string>& paths, ShardFormat format);

} // namespace kumiki::data
