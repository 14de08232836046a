// The component `tokens`: the .bin files of llm.c and nanoGPT.
#include <algorithm>
#include <filesystem>

#include "dataset.h"
#include "sample_order.h"
#include "shards.h"
#include "split.h"

namespace kumiki::data {
namespace {

ShardFormat format_of(const std::string& name) {
  return name == "llmc" ? ShardFormat::kLlmC : name == "nanogpt" ? ShardFormat::kNanoGpt : ShardFormat::kAuto;
}

bool name_has(const std::string& path, const char* word) {
  return std::filesystem::path(path).filename().string().find(word) != std::string::npos;
}

// The scripts of llm.c and nanoGPT write training and validation as files of their own (…train….bin, …val….bin). Where
// a folder or pattern holds both kinds, the names decide, not `split`.
bool names_tell_split(const std::vector<std::string>& paths) {
  const auto has = [&](const char* word) {
    return std::any_of(paths.begin(), paths.end(), [word](const std::string& path) { return name_has(path, word); });
  };
  return has("train") && has("val");
}

class TokensDataset : public Dataset {
 public:
  explicit TokensDataset(const OpenRequest& request) : sequence_(request.context->sequence) {
    const km_options& options = *request.options;
    const std::string path = km_option_string(&options, "path");
    const uint32_t split = request.context->split;
    std::vector<std::string> paths = list_shards(path);
    const bool by_name = names_tell_split(paths);
    if (by_name) keep(paths, split, path);
    shards_ = open_shards(paths, format_of(km_option_string(&options, "format")));
    const int64_t all = shards_.back().first + shards_.back().count;
    part_ = by_name ? Part{0, all} : part_of(parse_split(km_option_string(&options, "split")), split, all);
    const int64_t samples = count_samples(part_.end - part_.begin, all, request, path);
    order_ = SampleOrder(samples, sequence_, request.context->seed, km_option_i64(&options, "shuffle") != 0);
    if (const std::string model = km_option_string(&options, "tokenizer"); !model.empty())
      tokenizer_ = open_tokenizer(model);
    vocabulary_ = choose_vocabulary(km_option_i64(&options, "vocabulary"),
                                    tokenizer_ ? tokenizer_->vocabulary() : shards_.front().format_vocabulary,
                                    request.context->vocabulary, path);
  }

  DatasetInfo info() const override { return {vocabulary_, order_.samples(), order_.samples() * sequence_, false}; }

  void read(int64_t number, int32_t* tokens, int32_t*) override {
    int64_t first = part_.begin + order_.place(number).first_token;
    int64_t left = sequence_ + 1;
    auto shard = std::upper_bound(shards_.begin(), shards_.end(), first,
                                  [](int64_t token, const Shard& s) { return token < s.first; }) -
                 1;
    for (; left > 0; ++shard) {
      const int64_t within = first - shard->first;
      const int64_t count = std::min(left, shard->count - within);
      copy_tokens(shard->type, shard->tokens + within * token_width(shard->type), within, count, vocabulary_,
                  shard->file.path(), tokens);
      tokens += count;
      first += count;
      left -= count;
    }
  }

  const Tokenizer* tokenizer() const override { return tokenizer_.get(); }

 private:
  static void keep(std::vector<std::string>& paths, uint32_t split, const std::string& path) {
    const char* const word = split == KM_SPLIT_TRAIN ? "train" : split == KM_SPLIT_VALIDATION ? "val" : "test";
    paths.erase(std::remove_if(paths.begin(), paths.end(), [word](const std::string& p) { return !name_has(p, word); }),
                paths.end());
    if (paths.empty())
      fail_user("%s: no file has \"%s\" in its name, for the %s part", path.c_str(), word, split_name(split));
  }

  int64_t sequence_;
  std::vector<Shard> shards_;
  Part part_{};
  SampleOrder order_;
  std::shared_ptr<const Tokenizer> tokenizer_;
  int64_t vocabulary_ = 0;
};

} // namespace

std::unique_ptr<Dataset> make_tokens(const OpenRequest& request) { return std::make_unique<TokensDataset>(request); }

} // namespace kumiki::data
