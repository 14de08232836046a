// The component `megatron`: .bin/.idx pairs. Samples are packed: a sample goes on from one document into the next,
// token by token, over the epoch's order of documents.
#include <algorithm>

#include "dataset.h"
#include "document_order.h"
#include "megatron_index.h"
#include "sample_order.h"
#include "split.h"

namespace kumiki::data {
namespace {

class MegatronDataset : public Dataset {
 public:
  explicit MegatronDataset(const OpenRequest& request)
      : path_(km_option_string(request.options, "path")),
        sequence_(request.context->sequence),
        segments_(km_option_i64(request.options, "segments") != 0),
        index_(path_) {
    const km_options& options = *request.options;
    const bool shuffle = km_option_i64(&options, "shuffle") != 0;
    const int64_t seed = request.context->seed;
    const Part part =
        part_of(parse_split(km_option_string(&options, "split")), request.context->split, index_.documents());
    if (part.begin == part.end)
      fail_user("%s: the %s part has none of the %lld documents: give another `split`", path_.c_str(),
                split_name(request.context->split), static_cast<long long>(index_.documents()));
    documents_ = DocumentOrder(index_, part, seed, shuffle);
    const int64_t samples =
        count_samples(documents_.tokens(), index_.document_begin(index_.documents()), request, path_);
    order_ = SampleOrder(samples, sequence_, seed, shuffle);
    if (const std::string model = km_option_string(&options, "tokenizer"); !model.empty())
      tokenizer_ = open_tokenizer(model);
    vocabulary_ = choose_vocabulary(km_option_i64(&options, "vocabulary"),
                                    tokenizer_                        ? tokenizer_->vocabulary()
                                    : index_.type() == TokenType::kU8 ? 256
                                                                      : 0,
                                    request.context->vocabulary, path_);
  }

  DatasetInfo info() const override { return {vocabulary_, order_.samples(), order_.samples() * sequence_, segments_}; }

  void read(int64_t number, int32_t* tokens, int32_t* segments) override {
    const Place place = order_.place(number);
    documents_.seek(place.epoch, place.first_token);
    int32_t segment = 0;
    for (int64_t left = sequence_ + 1; left > 0;) {
      const Stretch stretch = documents_.next();
      const int64_t count = std::min(left, stretch.end - stretch.begin);
      if (count == 0) continue; // an empty document
      copy_tokens(index_.type(), index_.token(stretch.begin), stretch.begin, count, vocabulary_, index_.bin_path(),
                  tokens);
      tokens += count;
      left -= count;
      if (segments) segments = std::fill_n(segments, count, segment++);
    }
  }

  const Tokenizer* tokenizer() const override { return tokenizer_.get(); }

 private:
  std::string path_;
  int64_t sequence_;
  bool segments_;
  MegatronIndex index_;
  DocumentOrder documents_;
  SampleOrder order_;
  std::shared_ptr<const Tokenizer> tokenizer_;
  int64_t vocabulary_ = 0;
};

} // namespace

std::unique_ptr<Dataset> make_megatron(const OpenRequest& request) {
  return std::make_unique<MegatronDataset>(request);
}

} // namespace kumiki::data
