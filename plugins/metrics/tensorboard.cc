// The component `tensorboard`: event files under runs/NAME/tensorboard/. Each start of the run writes a new file; one
// that goes on from a checkpoint begins with a START event, by which TensorBoard forgets the steps that are done again.
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <chrono>
#include <filesystem>
#include <string_view>
#include <vector>

#include "event_record.h"
#include "output_file.h"
#include "sink.h"

namespace kumiki::metrics {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kLead = "events.out.tfevents.";

double wall_time() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

// TensorBoard reads files in the order of their names, which begin with the second of their making: a second that is
// taken (a quick restart, a clock that went back) moves on.
int64_t free_second(const std::string& folder) {
  auto second = static_cast<int64_t>(wall_time());
  for (const fs::directory_entry& entry : fs::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    int64_t taken = 0;
    if (name.compare(0, kLead.size(), kLead) == 0 &&
        std::from_chars(name.data() + kLead.size(), name.data() + name.size(), taken).ec == std::errc())
      second = std::max(second, taken + 1);
  }
  return second;
}

std::string new_path(const std::string& folder) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) throw Failure(KM_ERROR_SYSTEM, folder + ": cannot be made: " + error.message());
  std::array<char, 256> host{};
  if (gethostname(host.data(), host.size() - 1) != 0) host[0] = '\0';
  std::string digits = std::to_string(free_second(folder));
  digits.insert(0, digits.size() < 10 ? 10 - digits.size() : 0, '0');
  std::string path = folder;
  path.append("/").append(kLead).append(digits).append(".").append(host[0] ? host.data() : "host");
  return path.append(".").append(std::to_string(getpid())).append(".0");
}

class TensorBoard : public Sink {
 public:
  explicit TensorBoard(const km_run_info& run) : file_(new_path(std::string(run.folder) + "/tensorboard"), true) {
    const double now = wall_time();
    file_.write(framed(version_event(now)));
    if (run.first_step > 1) file_.write(framed(start_event(now, run.first_step)));
  }

  void step(const km_metric* metrics, uint32_t count) override {
    scalars_.clear();
    for (uint32_t i = 0; i < count; ++i)
      if (!km_same_text(metrics[i].key, "step"))
        scalars_.emplace_back(metrics[i].key, static_cast<float>(metrics[i].value));
    const auto step = static_cast<int64_t>(value_of(metrics, count, "step", 0));
    file_.write(framed(scalars_event(wall_time(), step, scalars_)));
  }

  void event(int64_t, const std::string&, const std::string&) override {} // the files hold scalars only

 private:
  OutputFile file_;
  std::vector<std::pair<std::string_view, float>> scalars_;
};

} // namespace

std::unique_ptr<Sink> make_tensorboard(const km_options&, const km_run_info& run) {
  return std::make_unique<TensorBoard>(run);
}

} // namespace kumiki::metrics
