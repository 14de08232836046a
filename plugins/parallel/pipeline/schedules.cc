// The lists of one rank. B and W of a micro-batch side by side run as one; only zero_bubble parts them.
#include <algorithm>

#include "pipeline.h"

namespace kumiki::parallel {
namespace {

class List {
 public:
  explicit List(const km_schedule& schedule)
      : s_(schedule),
        micros_(schedule.micro_batches),
        degree_(schedule.degree),
        rank_(schedule.coordinate),
        chunks_(schedule.stages / schedule.degree) {}

  // All micro-batches forward, then all backward (Huang et al. 2019). Evaluation is its first half.
  void gpipe() {
    for (int64_t chunk = 0; chunk < chunks_; ++chunk)
      for (int64_t m = 0; m < micros_; ++m) forward(m, chunk);
    if (!s_.training) return;
    for (int64_t chunk = chunks_; chunk-- > 0;)
      for (int64_t m = 0; m < micros_; ++m) backward(m, chunk), weight(m, chunk);
  }

  // One forward, one backward: at most as many micro-batches are under way as stages lie ahead (Narayanan et al. 2019).
  void one_forward_one_backward() {
    const int64_t ahead = std::min(degree_ - 1 - rank_, micros_);
    for (int64_t m = 0; m < ahead; ++m) forward(m, 0);
    for (int64_t m = 0; m < micros_; ++m) {
      if (ahead + m < micros_) forward(ahead + m, 0);
      backward(m, 0);
      weight(m, 0);
    }
  }

  // As above, but gradients of weights wait, on rank r for r micro-batches, and fill what would be idle time at the
  // end: schedule ZB-H1 of Qi et al. 2023.
  void zero_bubble() {
    const int64_t ahead = std::min(degree_ - 1 - rank_, micros_);
    int64_t weights = 0;
    for (int64_t m = 0; m < ahead; ++m) forward(m, 0);
    for (int64_t m = 0; m < micros_; ++m) {
      if (ahead + m < micros_) forward(ahead + m, 0);
      backward(m, 0);
      if (m + 1 - weights > rank_) weight(weights++, 0);
    }
    while (weights < micros_) weight(weights++, 0);
  }

  // Each rank has several stages and goes through them in rounds of `degree` micro-batches (Narayanan et al. 2021). Fewer
  // are one round, in which each stage waits a little for the last one of the round before.
  void interleaved() {
    struct Step {
      int64_t micro, chunk;
    };
    std::vector<Step> forwards, backwards;
    const int64_t size = std::min(degree_, micros_);
    for (int64_t round = 0; round < micros_; round += size)
      for (int64_t chunk = 0; chunk < chunks_; ++chunk)
        for (int64_t i = 0; i < size; ++i) {
          forwards.push_back({round + i, chunk});
          backwards.push_back({round + i, chunks_ - 1 - chunk});
        }
    const int64_t all = micros_ * chunks_;
    const int64_t ahead = micros_ <= degree_ ? all : std::min(all, (degree_ - 1 - rank_) * 2 + (chunks_ - 1) * degree_);
    const auto at = [](const std::vector<Step>& steps, int64_t i) { return steps[static_cast<size_t>(i)]; };
    for (int64_t i = 0; i < ahead; ++i) forward(at(forwards, i).micro, at(forwards, i).chunk);
    for (int64_t i = 0; i < all; ++i) {
      if (ahead + i < all) forward(at(forwards, ahead + i).micro, at(forwards, ahead + i).chunk);
      const Step step = at(backwards, i);
      backward(step.micro, step.chunk);
      weight(step.micro, step.chunk);
    }
  }

 private:
  void forward(int64_t m, int64_t chunk) { emit(KM_PART_FORWARD, m, chunk); }
  void backward(int64_t m, int64_t chunk) { emit(KM_PART_BACKWARD, m, chunk); }
  void weight(int64_t m, int64_t chunk) { emit(KM_PART_WEIGHT, m, chunk); }
  void emit(uint32_t part, int64_t m, int64_t chunk) {
    s_.emit(&s_, part, static_cast<uint32_t>(chunk * degree_ + rank_), static_cast<uint32_t>(m));
  }

  const km_schedule& s_;
  const int64_t micros_, degree_, rank_, chunks_;
};

} // namespace

void emit_schedule(const PipelineOptions& options, const km_schedule& schedule) {
  List list(schedule);
  if (!schedule.training || options.schedule == "gpipe") {
    list.gpipe();
  } else if (options.schedule == "interleaved") {
    if (schedule.micro_batches > schedule.degree && schedule.micro_batches % schedule.degree)
      fail_user("schedule \"interleaved\" needs micro-batches in a multiple of the degree, " +
                std::to_string(schedule.degree) + ", or fewer, but a step has " +
                std::to_string(schedule.micro_batches) +
                ": change run.global_batch or run.micro_batch, or use \"1f1b\"");
    list.interleaved();
  } else if (options.schedule == "zero_bubble") {
    list.zero_bubble();
  } else {
    list.one_forward_one_backward();
  }
}

} // namespace kumiki::parallel
