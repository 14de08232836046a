#include "core/run/feed.h"

#include <algorithm>

#include "core/base/cores.h"
#include "core/base/error.h"
#include "core/base/threads.h"

namespace kumiki {
namespace {

constexpr int kDataExit = 3;

void check_data(km_status status, const std::string& title, const std::string& what) {
  try {
    check(status, title, what);
  } catch (Error& error) {
    if (status == KM_ERROR_USER) error.exit_code = kDataExit;
    throw;
  }
}

} // namespace

Feed::Feed(Host& host, Registry& registry, const Config& config, uint32_t split, int64_t vocabulary)
    : sequence_(config.run().sequence) {
  for (const ComponentUse& use : config.data()) {
    const Component& component = registry.find("data", use.name);
    const OptionValues options(component, use.options);
    Source source;
    source.title = component.title();
    source.table = table_of<km_data>(component, "data", KM_DATA_VERSION);
    source.weight = use.options.get_f64("weight", 1.0, 0.0);
    const km_data_context context = {sizeof context, split, sequence_, config.run().seed, vocabulary};
    check_data(source.table.open(host.abi(), options.get(), &context, &source.self), source.title, "open");
    sources_.push_back(source);
    km_data_info info{};
    info.struct_size = sizeof info;
    check_data(source.table.info(source.self, &info), source.title, "info");
    sources_.back().samples = info.samples;
    vocabulary_ = std::max(vocabulary_, info.vocabulary);
    segments_ |= info.segments != 0;
    weight_sum_ += source.weight;
    if (!tokenizer_self_ && source.table.ability) {
      if (const void* ability = source.table.ability(source.self, KM_TOKENIZER_ABILITY)) {
        tokenizer_ = ability_of<km_tokenizer>(ability);
        tokenizer_self_ = source.self;
      }
    }
  }
  if (sources_.empty()) {
    throw Error(config.path(), "names no data", "add a table [[data]] with use = \"text\" and path = \"…\"");
  }
  if (weight_sum_ <= 0) throw Error(config.path(), "the weights of [[data]] are all 0");
}

Feed::~Feed() {
  for (Source& source : sources_) source.table.close(source.self);
}

int64_t Feed::samples() const {
  int64_t sum = 0;
  for (const Source& source : sources_) {
    if (source.samples == 0) return 0;
    sum += source.samples;
  }
  return sum;
}

size_t Feed::next_source() {
  size_t best = 0;
  double best_lag = -1;
  for (size_t i = 0; i < sources_.size(); ++i) {
    const double due = sources_[i].weight / weight_sum_ * static_cast<double>(blended_ + 1);
    const double lag = due - static_cast<double>(sources_[i].given);
    if (sources_[i].weight > 0 && (best_lag < 0 || lag > best_lag)) {
      best = i;
      best_lag = std::max(lag, 0.0);
    }
  }
  ++blended_;
  return best;
}

void Feed::read(int64_t first, int64_t n, BatchRows& rows) {
  const size_t elements = static_cast<size_t>(n * sequence_);
  rows.tokens.resize(elements);
  rows.targets.resize(elements);
  rows.segments.resize(segments_ ? elements : 0);
  const auto read_from = [&](Source& source, int64_t from, int64_t count, size_t row) {
    const size_t at = row * static_cast<size_t>(sequence_);
    km_batch batch{};
    batch.struct_size = sizeof batch;
    batch.tokens = rows.tokens.data() + at;
    batch.targets = rows.targets.data() + at;
    batch.segments = segments_ ? rows.segments.data() + at : nullptr;
    check_data(source.table.read(source.self, from, count, &batch), source.title, "read");
  };
  if (sources_.size() == 1) {
    read_from(sources_[0], first, n, 0);
    return;
  }
  if (first < blended_) {
    blended_ = 0;
    for (Source& source : sources_) source.given = 0;
  }
  while (blended_ < first) ++sources_[next_source()].given;
  for (int64_t i = 0; i < n; ++i) {
    Source& source = sources_[next_source()];
    read_from(source, source.given++, 1, static_cast<size_t>(i));
  }
}

// ---- Prefetch ----

Prefetch::Prefetch(Feed& feed, Share share) : feed_(feed), share_(share), thread_(start_thread([this] { work(); })) {}

Prefetch::~Prefetch() {
  {
    std::lock_guard lock(mutex_);
    stop_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void Prefetch::read(int64_t first, int64_t n, BatchRows& rows) {
  if (share_.degree == 1) return feed_.read(first, n, rows);
  rows.tokens.clear();
  rows.targets.clear();
  rows.segments.clear();
  for (int64_t at = share_.rows * share_.index; at < n; at += share_.rows * share_.degree) {
    feed_.read(first + at, share_.rows, part_);
    rows.tokens.insert(rows.tokens.end(), part_.tokens.begin(), part_.tokens.end());
    rows.targets.insert(rows.targets.end(), part_.targets.begin(), part_.targets.end());
    rows.segments.insert(rows.segments.end(), part_.segments.begin(), part_.segments.end());
  }
}

void Prefetch::work() {
  run_on_any_core();
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [this] { return stop_ || (wanted_ && !ready_); });
    if (stop_) return;
    const int64_t first = first_, n = n_;
    BatchRows rows = std::move(rows_);
    lock.unlock();
    std::exception_ptr error;
    try {
      read(first, n, rows);
    } catch (...) {
      error = std::current_exception();
    }
    lock.lock();
    rows_ = std::move(rows);
    error_ = error;
    ready_ = true;
    changed_.notify_all();
  }
}

void Prefetch::ahead(int64_t first, int64_t n) {
  {
    std::lock_guard lock(mutex_);
    KM_CHECK(!wanted_ || ready_, "one batch ahead at a time");
    first_ = first;
    n_ = n;
    wanted_ = true;
    ready_ = false;
  }
  changed_.notify_all();
}

BatchRows Prefetch::get(int64_t first, int64_t n) {
  std::unique_lock lock(mutex_);
  if (wanted_) changed_.wait(lock, [this] { return ready_; });
  const bool match = wanted_ && first_ == first && n_ == n;
  wanted_ = ready_ = false;
  if (match) {
    if (error_) std::rethrow_exception(std::exchange(error_, nullptr));
    return std::move(rows_);
  }
  error_ = nullptr;
  BatchRows rows;
  read(first, n, rows);
  return rows;
}

} // namespace kumiki
