#include "core/run/generator.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>

#include "core/base/error.h"
#include "core/base/hash.h"
#include "core/base/philox.h"

namespace kumiki {
namespace {

// The length of the longest prefix that ends with a whole UTF-8 character.
size_t whole_characters(const std::string& text) {
  size_t end = text.size();
  for (size_t back = 1; back <= 3 && back <= text.size(); ++back) {
    const unsigned char c = static_cast<unsigned char>(text[text.size() - back]);
    if ((c & 0xC0) == 0x80) continue; // a following byte
    const size_t need = c >= 0xF0 ? 4 : c >= 0xE0 ? 3 : c >= 0xC0 ? 2 : 1;
    if (need > back) end = text.size() - back;
    break;
  }
  return end;
}

// A token from the logits; `u` in (0, 1) decides.
int32_t draw_token(const std::vector<float>& logits, const GenerateOptions& options, double u) {
  std::vector<int32_t> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  const auto greater = [&](int32_t a, int32_t b) {
    return logits[static_cast<size_t>(a)] != logits[static_cast<size_t>(b)]
               ? logits[static_cast<size_t>(a)] > logits[static_cast<size_t>(b)]
               : a < b;
  };
  size_t keep = options.top_k > 0 ? std::min(order.size(), static_cast<size_t>(options.top_k)) : order.size();
  if (options.temperature <= 0) keep = 1;
  std::partial_sort(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(keep), order.end(), greater);
  if (keep == 1) return order[0];
  const double top = logits[static_cast<size_t>(order[0])];
  std::vector<double> weight(keep);
  double sum = 0;
  for (size_t i = 0; i < keep; ++i) {
    weight[i] = std::exp((logits[static_cast<size_t>(order[i])] - top) / options.temperature);
    sum += weight[i];
  }
  double left = u * sum;
  for (size_t i = 0; i < keep; ++i)
    if ((left -= weight[i]) <= 0) return order[i];
  return order[keep - 1];
}

} // namespace

Generator::Generator(Engine& engine, Store& store)
    : engine_(engine),
      store_(store),
      capacity_(engine.config().run().sequence),
      chunk_(std::min<int64_t>(64, capacity_)) {
  plan(prefill_, KM_MODE_PREFILL, chunk_);
  plan(decode_, KM_MODE_DECODE, 1);
}

void Generator::plan(Mode& mode, uint32_t which, int64_t tokens) {
  mode.graph = engine_.build(engine_.shape(which, 1, tokens, capacity_));
  if (mode.graph->output("logits") == 0) throw Error(engine_.model().title(), "gives no \"logits\" to generate from");
  make_generation_graph(*mode.graph, engine_.chain(), engine_.training_options());
  PlanOptions options;
  options.prepack = false; // packing all weights costs more than the few tokens gain
  mode.plan = make_plan(*mode.graph, engine_.chain(), options, &engine_.strategies());
  store_.add(mode.plan);
}

void Generator::pass(Mode& mode, const int32_t* tokens, int64_t n) {
  if (!mode.executor) {
    mode.executor = std::make_unique<Executor>(mode.plan, engine_.chain(), store_, engine_.links(mode.plan));
    mode.staging = std::make_unique<Staging>(mode.plan, 1);
  }
  if (int32_t* to = mode.staging->input("tokens", 0)) // none on a later stage
    std::memcpy(to, tokens, static_cast<size_t>(n) * sizeof(int32_t));
  mode.staging->set("past", static_cast<double>(past_), 0);
  std::vector<ScheduleEntry> schedule = make_schedule(mode.plan, 1, &engine_.strategies());
  if (ready_ == &mode) schedule.erase(schedule.begin()); // the head has run
  if (mode.executor->run(schedule, *mode.staging) != KM_OK)
    throw Error("generate", "failed in " + mode.executor->failed() + ": " + Host::take_error());
  ready_ = &mode;
  past_ += n;
}

void Generator::feed(const int32_t* tokens, int64_t n) {
  int64_t at = 0;
  for (; n - at >= chunk_; at += chunk_) pass(prefill_, tokens + at, chunk_);
  for (; at < n; ++at) pass(decode_, tokens + at, 1);
  Mode& last = *ready_;
  logits_.resize(static_cast<size_t>(last.plan.output_types.at("logits").elements()));
  last.executor->read_output("logits", logits_.data());
}

const std::vector<float>& Generator::logits_after(const std::vector<int32_t>& tokens) {
  KM_CHECK(!tokens.empty() && static_cast<int64_t>(tokens.size()) <= capacity_, "1 to run.sequence tokens");
  past_ = 0;
  ready_ = nullptr;
  feed(tokens.data(), static_cast<int64_t>(tokens.size()));
  return logits_;
}

std::string Generator::run(const std::string& prompt, const GenerateOptions& options,
                           const std::function<void(const std::string&)>& each) {
  Feed* data = engine_.feed();
  if (!data || !data->has_tokenizer())
    throw Error("generate", "the data of this run has no tokenizer",
                "use = \"text\" has one (bytes, or a SentencePiece model)");
  const km_tokenizer& tokenizer = data->tokenizer();
  void* self = data->tokenizer_self();

  uint64_t n = 0;
  check(tokenizer.encode(self, prompt.data(), prompt.size(), nullptr, 0, &n), "tokenizer", "encode");
  std::vector<int32_t> context(n);
  check(tokenizer.encode(self, prompt.data(), prompt.size(), context.data(), n, &n), "tokenizer", "encode");
  const int32_t end = tokenizer.end_of_document ? tokenizer.end_of_document(self) : -1;
  if (context.empty()) context.push_back(end >= 0 ? end : 0);

  const Philox philox(options.seed, xxh3("generate"));
  std::vector<int32_t> made;
  std::string text, told;
  past_ = 0;
  ready_ = nullptr;
  size_t fed = 0;
  for (int64_t i = 0; i < options.tokens; ++i) {
    if (static_cast<int64_t>(context.size()) > capacity_) {
      context.erase(context.begin(), context.end() - std::max<int64_t>(1, capacity_ / 2));
      past_ = 0;
      fed = 0;
    }
    feed(context.data() + fed, static_cast<int64_t>(context.size() - fed));
    fed = context.size();
    const int32_t token = draw_token(logits_, options, philox.uniform(static_cast<uint64_t>(i)));
    if (token == end) break;
    context.push_back(token);
    made.push_back(token);
    uint64_t bytes = 0;
    check(tokenizer.decode(self, made.data(), made.size(), nullptr, 0, &bytes), "tokenizer", "decode");
    text.resize(bytes);
    check(tokenizer.decode(self, made.data(), made.size(), text.data(), bytes, &bytes), "tokenizer", "decode");
    if (!each) continue;
    const size_t whole = whole_characters(text);
    if (whole > told.size()) {
      each(text.substr(told.size(), whole - told.size()));
      told = text.substr(0, whole);
    }
  }
  return text;
}

} // namespace kumiki
