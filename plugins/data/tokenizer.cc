#include "tokenizer.h"

#if __has_include(<sentencepiece_processor.h>)
#define KM_HAVE_SENTENCEPIECE 1
#include <sentencepiece_processor.h>
#else
#define KM_HAVE_SENTENCEPIECE 0
#endif

#include "boundary.h"
#include "mapped_file.h"
#include "mix.h"

namespace kumiki::data {
namespace {

void check_tokens(const int32_t* tokens, size_t count, int64_t vocabulary) {
  for (size_t i = 0; i < count; ++i)
    if (tokens[i] < 0 || tokens[i] >= vocabulary)
      fail_user("token %d is outside of the tokenizer's vocabulary 0 to %lld", tokens[i],
                static_cast<long long>(vocabulary - 1));
}

class ByteTokenizer : public Tokenizer {
 public:
  int64_t vocabulary() const override { return 256; }
  uint64_t hash() const override { return 0; }
  void encode(std::string_view text, std::vector<int32_t>& tokens) const override {
    for (const char c : text) tokens.push_back(static_cast<unsigned char>(c));
  }
  std::string decode(const int32_t* tokens, size_t count) const override {
    check_tokens(tokens, count, 256);
    std::string text;
    for (size_t i = 0; i < count; ++i) text.push_back(static_cast<char>(tokens[i]));
    return text;
  }
  uint32_t token_bytes(int32_t token) const override { return token >= 0 && token < 256 ? 1 : 0; }
  int32_t end_of_document() const override { return -1; }
};

#if KM_HAVE_SENTENCEPIECE
constexpr std::string_view kSpaceSign = "\xe2\x96\x81"; // U+2581, one byte of text: the space

class SentencePieceTokenizer : public Tokenizer {
 public:
  explicit SentencePieceTokenizer(const std::string& path) {
    const MappedFile file(path);
    const std::string_view bytes(reinterpret_cast<const char*>(file.data()), static_cast<size_t>(file.bytes()));
    hash_ = hash_bytes(bytes);
    const auto status = processor_.LoadFromSerializedProto({bytes.data(), bytes.size()});
    if (bytes.empty() || !status.ok())
      fail_user("%s: is not a SentencePiece model: %s", path.c_str(),
                bytes.empty() ? "empty file" : status.ToString().c_str());
    for (int token = 0; token < processor_.GetPieceSize(); ++token) bytes_.push_back(bytes_of(token));
  }
  int64_t vocabulary() const override { return processor_.GetPieceSize(); }
  uint64_t hash() const override { return hash_; }
  void encode(std::string_view text, std::vector<int32_t>& tokens) const override {
    std::vector<int> pieces;
    const auto status = processor_.Encode({text.data(), text.size()}, &pieces);
    if (!status.ok()) throw Failure(KM_ERROR_PLUGIN, "SentencePiece: " + status.ToString());
    tokens.insert(tokens.end(), pieces.begin(), pieces.end());
  }
  std::string decode(const int32_t* tokens, size_t count) const override {
    check_tokens(tokens, count, vocabulary());
    std::string text;
    const auto status = processor_.Decode(std::vector<int>(tokens, tokens + count), &text);
    if (!status.ok()) throw Failure(KM_ERROR_PLUGIN, "SentencePiece: " + status.ToString());
    return text;
  }
  uint32_t token_bytes(int32_t token) const override {
    return token >= 0 && static_cast<size_t>(token) < bytes_.size() ? bytes_[static_cast<size_t>(token)] : 0;
  }
  int32_t end_of_document() const override { return processor_.eos_id(); }

 private:
  uint32_t bytes_of(int token) const {
    if (processor_.IsControl(token) || processor_.IsUnused(token)) return 0;
    if (processor_.IsByte(token)) return 1;
    // An unknown token stands for at least one character; how many bytes it had is lost.
    if (processor_.IsUnknown(token)) return 1;
    const std::string& piece = processor_.IdToPiece(token);
    auto length = static_cast<uint32_t>(piece.size());
    for (size_t at = piece.find(kSpaceSign); at != std::string::npos; at = piece.find(kSpaceSign, at + 1)) length -= 2;
    return length;
  }

  sentencepiece::SentencePieceProcessor processor_;
  std::vector<uint32_t> bytes_;
  uint64_t hash_ = 0;
};
#endif

} // namespace

std::shared_ptr<const Tokenizer> open_tokenizer(const std::string& path) {
  if (path.empty()) return std::make_shared<ByteTokenizer>();
#if KM_HAVE_SENTENCEPIECE
  return std::make_shared<SentencePieceTokenizer>(path);
#else
  fail_user("%s: this build has no SentencePiece: build with libsentencepiece-dev, or tokenize on another machine",
            path.c_str());
#endif
}

} // namespace kumiki::data
