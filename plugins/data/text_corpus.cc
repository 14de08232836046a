#include "text_corpus.h"

#include <cstring>
#include <map>
#include <mutex>

#include "boundary.h"
#include "mix.h"
#include "parallel_jobs.h"
#include "token_cache.h"

namespace kumiki::data {
namespace {

// A document is tokenized in pieces of about this size, cut behind a line's end, so that one large file keeps all
// threads busy and SentencePiece's memory stays bounded.
constexpr size_t kPieceBytes = 1u << 20;

struct Piece {
  size_t file;
  std::string_view text;
  std::vector<int32_t> tokens;
};

uint64_t key_of(const std::vector<TextFile>& files, const Tokenizer& tokenizer) {
  uint64_t key = mix(kPieceBytes, tokenizer.hash(), static_cast<uint64_t>(tokenizer.vocabulary()));
  for (const TextFile& file : files)
    key = mix(key, hash_bytes(file.path), static_cast<uint64_t>(file.bytes), static_cast<uint64_t>(file.modified));
  return key;
}

// The end of the piece that begins at `begin`: behind the last newline within reach, else between two characters.
size_t piece_end(std::string_view text, size_t begin) {
  if (text.size() - begin <= kPieceBytes) return text.size();
  const size_t limit = begin + kPieceBytes;
  if (const size_t line = text.rfind('\n', limit - 1); line != std::string_view::npos && line >= begin) return line + 1;
  size_t end = limit;
  while ((static_cast<unsigned char>(text[end]) & 0xc0) == 0x80) --end;
  return end;
}

std::vector<Piece> cut(const std::vector<std::string>& texts) {
  std::vector<Piece> pieces;
  for (size_t file = 0; file < texts.size(); ++file) {
    const std::string_view text = texts[file];
    for (size_t begin = 0; begin < text.size();) {
      const size_t end = piece_end(text, begin);
      pieces.push_back({file, text.substr(begin, end - begin), {}});
      begin = end;
    }
  }
  return pieces;
}

template <typename Stored>
void append(const std::vector<int32_t>& tokens, std::vector<std::byte>& memory) {
  const size_t begin = memory.size();
  memory.resize(begin + tokens.size() * sizeof(Stored));
  std::byte* at = memory.data() + begin;
  for (const int32_t token : tokens) {
    const auto stored = static_cast<Stored>(token);
    std::memcpy(at, &stored, sizeof stored);
    at += sizeof stored;
  }
}

void append(TextCorpus& corpus, const std::vector<int32_t>& tokens) {
  switch (token_width(corpus.type)) {
    case 1: append<uint8_t>(tokens, corpus.memory); break;
    case 2: append<uint16_t>(tokens, corpus.memory); break;
    default: append<uint32_t>(tokens, corpus.memory); break;
  }
  corpus.tokens += static_cast<int64_t>(tokens.size());
}

void tokenize(const std::vector<TextFile>& files, const CorpusRequest& request, TextCorpus& corpus) {
  std::vector<std::string> texts(files.size());
  run_jobs(files.size(), request.threads, [&](size_t i) { texts[i] = read_text(files[i]); });
  std::vector<Piece> pieces = cut(texts);
  run_jobs(pieces.size(), request.threads,
           [&](size_t i) { request.tokenizer->encode(pieces[i].text, pieces[i].tokens); });
  const int64_t vocabulary = request.tokenizer->vocabulary();
  corpus.type = vocabulary <= 256 ? TokenType::kU8 : vocabulary <= 65536 ? TokenType::kU16 : TokenType::kU32;
  const int32_t end = request.tokenizer->end_of_document();
  size_t piece = 0;
  while (piece < pieces.size()) {
    const size_t file = pieces[piece].file;
    for (; piece < pieces.size() && pieces[piece].file == file; ++piece) {
      append(corpus, pieces[piece].tokens);
      pieces[piece].tokens = {};
    }
    if (end >= 0) append(corpus, {end});
    corpus.document_ends.push_back(corpus.tokens);
  }
  corpus.data = corpus.memory.data();
}

std::shared_ptr<const TextCorpus> make_corpus(const std::vector<TextFile>& files, const CorpusRequest& request,
                                              uint64_t key) {
  auto corpus = std::make_shared<TextCorpus>();
  const std::string cache = request.cache.empty() ? "" : cache_path(request.cache, key);
  if (!cache.empty() && read_cache(cache, key, *corpus)) return corpus;
  tokenize(files, request, *corpus);
  if (corpus->tokens == 0) fail_user("%s: there is no text in it", request.path.c_str());
  if (!cache.empty()) write_cache(cache, key, *corpus);
  return corpus;
}

} // namespace

std::shared_ptr<const TextCorpus> open_text_corpus(const CorpusRequest& request) {
  static std::mutex mutex;
  static std::map<uint64_t, std::weak_ptr<const TextCorpus>> open_ones;
  const std::vector<TextFile> files = list_text_files(request.path);
  const uint64_t key = key_of(files, *request.tokenizer);
  // Held while the corpus is made: whoever asks for the same one meanwhile waits for it.
  const std::lock_guard<std::mutex> lock(mutex);
  std::weak_ptr<const TextCorpus>& known = open_ones[key];
  std::shared_ptr<const TextCorpus> corpus = known.lock();
  if (!corpus) known = corpus = make_corpus(files, request, key);
  return corpus;
}

} // namespace kumiki::data
