// The component `tokenizer`: a tokenizer without a corpus, for programs that make token files (`kumiki data tokenize`).
#include "dataset.h"

namespace kumiki::data {
namespace {

class TokenizerOnly : public Dataset {
 public:
  explicit TokenizerOnly(const std::string& path) : tokenizer_(open_tokenizer(path)) {}
  DatasetInfo info() const override { return {tokenizer_->vocabulary(), 0, 0, false}; }
  void read(int64_t, int32_t*, int32_t*) override {
    fail_user(
        "[[data]] use = \"tokenizer\" has no samples: it is for `kumiki data tokenize`; use \"text\" or \"megatron\"");
  }
  const Tokenizer* tokenizer() const override { return tokenizer_.get(); }

 private:
  std::shared_ptr<const Tokenizer> tokenizer_;
};

} // namespace

std::unique_ptr<Dataset> make_tokenizer(const OpenRequest& request) {
  return std::make_unique<TokenizerOnly>(km_option_string(request.options, "tokenizer"));
}

} // namespace kumiki::data
