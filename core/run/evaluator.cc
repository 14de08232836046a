#include "core/run/evaluator.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "core/base/error.h"

namespace kumiki {

void stage_rows(Staging& staging, int32_t micro, const BatchRows& rows, int64_t row, int64_t n, int64_t sequence,
                const TokenShare& share) {
  const int64_t chunk = sequence / (2 * share.degree);
  const auto put = [&](const char* name, const std::vector<int32_t>& from) {
    int32_t* to = staging.input(name, micro);
    if (!to || from.empty()) return;
    if (share.degree == 1) {
      std::memcpy(to, from.data() + row * sequence, static_cast<size_t>(n * sequence) * sizeof(int32_t));
      return;
    }
    for (int64_t r = row; r < row + n; ++r)
      for (const int64_t number : {share.index, 2 * share.degree - 1 - share.index}) {
        std::memcpy(to, from.data() + r * sequence + number * chunk, static_cast<size_t>(chunk) * sizeof(int32_t));
        to += chunk;
      }
  };
  put("tokens", rows.tokens);
  put("targets", rows.targets);
  put("segments", rows.segments);
}

Evaluator::Evaluator(Engine& engine, Store& store, std::unique_ptr<Graph> forward, uint32_t split)
    : engine_(engine), store_(store), graph_(std::move(forward)) {
  make_evaluation_graph(*graph_, engine.chain(), engine.training_options());
  plan_ = make_plan(*graph_, engine.chain(), {}, &engine.strategies());
  store.add(plan_);
  feed_ = std::make_unique<Feed>(engine.host(), engine.registry(), engine.config(), split, engine.vocabulary());
  if (feed_->has_tokenizer() && feed_->tokenizer().token_bytes)
    for (int64_t t = 0; t < feed_->vocabulary(); ++t)
      bytes_of_token_.push_back(feed_->tokenizer().token_bytes(feed_->tokenizer_self(), static_cast<int32_t>(t)));
}

Evaluation Evaluator::run(int64_t batches) {
  if (!executor_) executor_ = std::make_unique<Executor>(plan_, engine_.chain(), store_, engine_.links(plan_));
  const RunSettings& run = engine_.config().run();
  const int64_t samples = feed_->samples();
  // Ranks that read data of their own take turns: micro-batch b · degree + index is theirs.
  const int64_t degree = engine_.strategies().batch_degree(), index = engine_.strategies().batch_index();
  const int64_t whole = samples / run.micro_batch / degree * degree;
  if (samples > 0 && whole == 0)
    throw Error("[run] micro_batch", "the split for evaluation has only " + std::to_string(samples) +
                                         " sequences, fewer than one micro-batch for each rank that reads");
  if (samples > 0 && (batches == 0 || batches > whole)) batches = whole;
  if (batches == 0) throw Error("[run] eval_batches", "the data has no end", "say how many micro-batches");

  batches = std::max(degree, batches / degree * degree);

  double loss = 0, tokens = 0;
  int64_t bytes = 0;
  const std::vector<ScheduleEntry> schedule = make_schedule(plan_, 1, &engine_.strategies());
  BatchRows rows;
  Staging staging(plan_, 1);
  staging.set_all("seed", static_cast<double>(run.seed));
  for (int64_t b = index; b < batches; b += degree) {
    feed_->read(b * run.micro_batch, run.micro_batch, rows);
    stage_rows(staging, 0, rows, 0, run.micro_batch, run.sequence, engine_.strategies().token_share());
    // The weights do not change between the batches, but what the head made lies in memory that a tail may have used.
    if (executor_->run(schedule, staging) != KM_OK)
      throw Error("evaluation", "failed in " + executor_->failed() + ": " + Host::take_error());
    loss += executor_->scalar("loss");
    tokens += executor_->scalar("tokens");
    if (!bytes_of_token_.empty())
      for (int32_t t : rows.targets)
        if (t >= 0) bytes += bytes_of_token_[static_cast<size_t>(t)];
  }
  if (degree > 1 && !bytes_of_token_.empty()) {
    engine_.communicator()->all_reduce(&bytes, 1, KM_REDUCE_SUM);
    bytes /= engine_.strategies().ranks() / degree; // ranks that share their data with others count it too
  }
  Evaluation result;
  result.tokens = static_cast<int64_t>(tokens);
  result.loss = tokens > 0 ? loss / tokens : 0;
  result.bits_per_byte = bytes > 0 ? loss / std::log(2.0) / static_cast<double>(bytes) : 0;
  return result;
}

} // namespace kumiki
