#include "dataset.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "split.h"
#include "utf8.h"

namespace kumiki::data {
namespace {

// What `self` points to.
struct Instance {
  const km_host* host;
  int64_t sequence;
  DatasetInfo info;
  std::unique_ptr<Dataset> dataset;
  std::vector<int32_t> tokens;   // of one sample, sequence + 1
  std::vector<int32_t> segments; // the same; empty unless documents are kept apart
};

Instance& instance(void* self) { return *static_cast<Instance*>(self); }

void check_request(const OpenRequest& request) {
  const km_data_context& context = *request.context;
  if (context.sequence < 1)
    throw Failure(KM_ERROR_HOST, "data: a sequence of " + std::to_string(context.sequence) + " tokens");
  if (context.split > KM_SPLIT_TEST) throw Failure(KM_ERROR_HOST, "data: split " + std::to_string(context.split));
}

void split_sample(const Instance& it, const km_batch& batch, int64_t row) {
  const auto sequence = static_cast<size_t>(it.sequence);
  int32_t* const tokens = batch.tokens + row * it.sequence;
  int32_t* const targets = batch.targets + row * it.sequence;
  std::copy_n(it.tokens.data(), sequence, tokens);
  std::copy_n(it.tokens.data() + 1, sequence, targets);
  if (it.info.segments)
    for (size_t t = 0; t < sequence; ++t)
      if (it.segments[t] != it.segments[t + 1]) targets[t] = -1;
  if (!batch.segments) return;
  int32_t* const segments = batch.segments + row * it.sequence;
  if (it.info.segments)
    std::copy_n(it.segments.data(), sequence, segments);
  else
    std::fill_n(segments, sequence, 0);
}

// ---- the ability "kumiki.tokenizer/1" ----
km_status encode(void* self, const char* text, uint64_t bytes, int32_t* tokens, uint64_t capacity, uint64_t* n) {
  return guarded(instance(self).host, [&] {
    const std::string_view view(text, bytes);
    if (const int64_t bad = valid_utf8(view); bad != static_cast<int64_t>(bytes))
      fail_user("the text is not valid UTF-8 at byte %lld", static_cast<long long>(bad));
    std::vector<int32_t> all;
    instance(self).dataset->tokenizer()->encode(view, all);
    std::copy_n(all.data(), std::min<uint64_t>(capacity, all.size()), tokens);
    *n = all.size();
  });
}

km_status decode(void* self, const int32_t* tokens, uint64_t n, char* text, uint64_t capacity, uint64_t* bytes) {
  return guarded(instance(self).host, [&] {
    const std::string all = instance(self).dataset->tokenizer()->decode(tokens, n);
    std::copy_n(all.data(), std::min<uint64_t>(capacity, all.size()), text);
    *bytes = all.size();
  });
}

uint32_t token_bytes(void* self, int32_t token) { return instance(self).dataset->tokenizer()->token_bytes(token); }

int32_t end_of_document(void* self) { return instance(self).dataset->tokenizer()->end_of_document(); }

constexpr km_tokenizer kTokenizer = {sizeof(km_tokenizer), 0, encode, decode, token_bytes, end_of_document};

} // namespace

km_status open_dataset(const km_host* host, const km_options* options, const km_data_context* context, MakeDataset make,
                       void** self) {
  return guarded(host, [&] {
    const OpenRequest request{host, options, context};
    check_request(request);
    auto it = std::make_unique<Instance>();
    it->host = host;
    it->sequence = context->sequence;
    it->dataset = make(request);
    it->info = it->dataset->info();
    if (context->vocabulary > 0 && it->info.vocabulary > context->vocabulary)
      fail_user(
          "the data has tokens 0 to %lld, the model's vocabulary is %lld: raise model.vocabulary, or leave it out",
          static_cast<long long>(it->info.vocabulary - 1), static_cast<long long>(context->vocabulary));
    it->tokens.resize(static_cast<size_t>(context->sequence) + 1);
    if (it->info.segments) it->segments.resize(it->tokens.size());
    *self = it.release();
  });
}

void close_dataset(void* self) { delete static_cast<Instance*>(self); }

km_status dataset_info(void* self, km_data_info* info) {
  const DatasetInfo& known = instance(self).info;
  info->segments = known.segments;
  info->vocabulary = known.vocabulary;
  info->samples = known.samples;
  info->tokens = known.tokens;
  return KM_OK;
}

km_status dataset_read(void* self, int64_t first, int64_t n, const km_batch* batch) {
  Instance& it = instance(self);
  return guarded(it.host, [&] {
    for (int64_t row = 0; row < n; ++row) {
      it.dataset->read(first + row, it.tokens.data(), it.info.segments ? it.segments.data() : nullptr);
      split_sample(it, *batch, row);
    }
  });
}

const void* dataset_ability(void* self, const char* id) {
  return instance(self).dataset->tokenizer() && km_same_text(id, KM_TOKENIZER_ABILITY) ? &kTokenizer : nullptr;
}

int64_t choose_vocabulary(int64_t option, int64_t of_format, int64_t of_model, const std::string& path) {
  const int64_t vocabulary = option > 0 ? option : of_format > 0 ? of_format : of_model;
  if (vocabulary <= 0)
    fail_user(
        "%s: the format does not say how large the vocabulary is: give the option `vocabulary`, or model.vocabulary",
        path.c_str());
  return vocabulary;
}

int64_t count_samples(int64_t tokens, int64_t all_tokens, const OpenRequest& request, const std::string& path) {
  const int64_t sequence = request.context->sequence;
  if (tokens < sequence + 1)
    fail_user(
        "%s: the %s part has %lld of %lld tokens, and one sample needs %lld (run.sequence + 1): give more data, a "
        "shorter sequence or another `split`",
        path.c_str(), split_name(request.context->split), static_cast<long long>(tokens),
        static_cast<long long>(all_tokens), static_cast<long long>(sequence + 1));
  return (tokens - 1) / sequence;
}

} // namespace kumiki::data
