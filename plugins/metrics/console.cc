// The component `console`: one line a step on standard output, and on a terminal a bar below them with the time left.
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>

#include "readable.h"
#include "sink.h"

namespace kumiki::metrics {
namespace {

using Clock = std::chrono::steady_clock;

// Smoothed seconds of a step: a mean of the first steps, then one that forgets slowly, without the first step of the
// process, which also warms up.
class StepTime {
 public:
  void add(double seconds) {
    if (!(seconds > 0)) return;
    ++count_;
    if (count_ <= 2)
      mean_ = seconds;
    else
      mean_ += (seconds - mean_) / static_cast<double>(std::min<int64_t>(count_ - 1, 50));
  }
  double seconds() const { return mean_; }

 private:
  int64_t count_ = 0;
  double mean_ = 0;
};

class Console : public Sink {
 public:
  Console(const km_options& options, const km_run_info& run)
      : every_(std::max<int64_t>(1, km_option_i64(&options, "every"))),
        steps_(run.steps),
        first_step_(run.first_step),
        digits_(static_cast<int>(std::to_string(run.steps).size())),
        last_(Clock::now()) {
    const std::string bar = km_option_string(&options, "bar");
    bar_ = bar == "always" || (bar != "never" && isatty(STDOUT_FILENO));
  }

  ~Console() override { clear_bar(); }

  void step(const km_metric* metrics, uint32_t count) override {
    const auto step = static_cast<int64_t>(value_of(metrics, count, "step", 0));
    const bool evaluation = has(metrics, count, "eval_loss");
    const auto now = Clock::now();
    if (!evaluation) {
      time_.add(value_of(metrics, count, "step_seconds", std::chrono::duration<double>(now - last_).count()));
      done_ = step;
    }
    last_ = now;
    clear_bar();
    if (evaluation || step % every_ == 0 || step == first_step_ || step == steps_)
      print(evaluation ? evaluation_line(step, metrics, count) : step_line(step, metrics, count));
    draw_bar();
  }

  void event(int64_t step, const std::string& kind, const std::string& text) override {
    clear_bar();
    print(head(step) + kind + ": " + text);
    draw_bar();
  }

 private:
  static bool has(const km_metric* metrics, uint32_t count, const char* key) {
    return std::any_of(metrics, metrics + count, [key](const km_metric& m) { return km_same_text(m.key, key); });
  }

  std::string head(int64_t step) const {
    char text[80];
    std::snprintf(text, sizeof text, "step %*lld/%lld  ", digits_, static_cast<long long>(step),
                  static_cast<long long>(steps_));
    return text;
  }

  double seconds_left() const { return static_cast<double>(std::max<int64_t>(0, steps_ - done_)) * time_.seconds(); }

  std::string step_line(int64_t step, const km_metric* metrics, uint32_t count) const {
    std::string line = head(step);
    const auto add = [&](const char* key, const char* format, double scale = 1) {
      if (!has(metrics, count, key)) return;
      char text[64];
      std::snprintf(text, sizeof text, format, value_of(metrics, count, key, NAN) * scale);
      line += text;
    };
    add("loss", "loss %.4f  ");
    add("learning_rate", "lr %.3e  ");
    add("grad_norm", "norm %.3f  ");
    if (has(metrics, count, "tokens_per_second"))
      line += readable_count(value_of(metrics, count, "tokens_per_second", 0)) + " tokens/s  ";
    add("flops_per_second", "%.3f TFLOP/s  ", 1e-12);
    return line + "left " + readable_time(seconds_left());
  }

  std::string evaluation_line(int64_t step, const km_metric* metrics, uint32_t count) const {
    char text[96];
    std::snprintf(text, sizeof text, "eval loss %.4f", value_of(metrics, count, "eval_loss", NAN));
    std::string line = head(step) + text;
    if (has(metrics, count, "eval_bits_per_byte")) {
      std::snprintf(text, sizeof text, "  %.4f bits/byte", value_of(metrics, count, "eval_bits_per_byte", NAN));
      line += text;
    }
    return line;
  }

  static void print(const std::string& line) {
    std::fwrite(line.data(), 1, line.size(), stdout);
    std::fputc('\n', stdout);
    std::fflush(stdout);
  }

  void draw_bar() {
    if (!bar_ || done_ >= steps_) return;
    winsize size{};
    const int columns = ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
    const double share = steps_ > 0 ? static_cast<double>(done_) / static_cast<double>(steps_) : 0;
    char numbers[32];
    std::snprintf(numbers, sizeof numbers, " %5.1f %%  left ", 100 * share);
    const std::string tail = numbers + readable_time(seconds_left());
    const int width = std::clamp(columns - static_cast<int>(tail.size()) - 3, 4, 60);
    const int full = static_cast<int>(share * width);
    std::string bar = "[";
    bar.append(static_cast<size_t>(full), '#').append(static_cast<size_t>(width - full), '.').append("]").append(tail);
    std::fwrite(bar.data(), 1, bar.size(), stdout);
    std::fflush(stdout);
    drawn_ = true;
  }

  void clear_bar() {
    if (!drawn_) return;
    std::fputs("\r\033[K", stdout); // to the line's begin, and erase it
    std::fflush(stdout);
    drawn_ = false;
  }

  int64_t every_;
  int64_t steps_;
  int64_t first_step_;
  int digits_;
  bool bar_ = false;
  bool drawn_ = false;
  int64_t done_ = 0;
  StepTime time_;
  Clock::time_point last_;
};

} // namespace

std::unique_ptr<Sink> make_console(const km_options& options, const km_run_info& run) {
  return std::make_unique<Console>(options, run);
}

} // namespace kumiki::metrics
