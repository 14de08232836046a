// The component `text`: text files as they are, bytes or SentencePiece tokens.
#include <algorithm>
#include <thread>

#include "dataset.h"
#include "sample_order.h"
#include "split.h"
#include "text_corpus.h"

namespace kumiki::data {
namespace {

class TextDataset : public Dataset {
 public:
  explicit TextDataset(const OpenRequest& request) : sequence_(request.context->sequence) {
    const km_options& options = *request.options;
    const std::string path = km_option_string(&options, "path");
    const auto shares = parse_split(km_option_string(&options, "split"));
    tokenizer_ = open_tokenizer(km_option_string(&options, "tokenizer"));
    const unsigned threads = std::max(1u, std::thread::hardware_concurrency());
    corpus_ = open_text_corpus({path, km_option_string(&options, "cache"), tokenizer_, threads});
    part_ = part_of(shares, request.context->split, corpus_->tokens);
    const int64_t samples = count_samples(part_.end - part_.begin, corpus_->tokens, request, path);
    order_ = SampleOrder(samples, sequence_, request.context->seed, km_option_i64(&options, "shuffle") != 0);
    segments_ = km_option_i64(&options, "segments") != 0;
    path_ = path;
  }

  DatasetInfo info() const override {
    return {tokenizer_->vocabulary(), order_.samples(), order_.samples() * sequence_, segments_};
  }

  void read(int64_t number, int32_t* tokens, int32_t* segments) override {
    const int64_t first = part_.begin + order_.place(number).first_token;
    copy_tokens(corpus_->type, corpus_->data + first * token_width(corpus_->type), first, sequence_ + 1,
                tokenizer_->vocabulary(), path_, tokens);
    if (segments) number_documents(first, segments);
  }

  const Tokenizer* tokenizer() const override { return tokenizer_.get(); }

 private:
  void number_documents(int64_t first, int32_t* segments) const {
    const auto& ends = corpus_->document_ends;
    auto document = std::upper_bound(ends.begin(), ends.end(), first);
    int32_t segment = 0;
    for (int64_t t = 0; t <= sequence_; ++t) {
      if (first + t == *document) ++document, ++segment;
      segments[t] = segment;
    }
  }

  int64_t sequence_;
  std::shared_ptr<const Tokenizer> tokenizer_;
  std::shared_ptr<const TextCorpus> corpus_;
  Part part_{};
  SampleOrder order_;
  bool segments_ = false;
  std::string path_;
};

} // namespace

std::unique_ptr<Dataset> make_text(const OpenRequest& request) { return std::make_unique<TextDataset>(request); }

} // namespace kumiki::data
