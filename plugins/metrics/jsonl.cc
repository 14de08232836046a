// The component `jsonl`: runs/NAME/metrics.jsonl, one JSON object a line, one line a step or evaluation, keys in the
// order in which they came. A run that goes on from a checkpoint first cuts off what was written of later steps, so the
// file reads as if the run had never stopped.
#include <charconv>
#include <fstream>
#include <string_view>

#include "number_text.h"
#include "output_file.h"
#include "sink.h"

namespace kumiki::metrics {
namespace {

constexpr std::string_view kLead = "{\"step\":";

int64_t step_of(std::string_view line, const std::string& path, int64_t number) {
  int64_t step = 0;
  const bool leads = line.substr(0, kLead.size()) == kLead;
  if (leads && std::from_chars(line.data() + kLead.size(), line.data() + line.size(), step).ec == std::errc())
    return step;
  throw Failure(KM_ERROR_USER, path + ":" + std::to_string(number) +
                                   ": is not a line of this run's metrics; move the file away, or mend the line");
}

// Bytes of the leading lines that are whole and of steps before first_step.
int64_t bytes_to_keep(const std::string& path, int64_t first_step) {
  if (first_step <= 1) return 0;
  std::ifstream file(path, std::ios::binary);
  int64_t keep = 0;
  std::string line;
  for (int64_t number = 1; std::getline(file, line) && !file.eof(); ++number) {
    if (step_of(line, path, number) >= first_step) break;
    keep += static_cast<int64_t>(line.size()) + 1;
  }
  return keep;
}

class JsonLines : public Sink {
 public:
  explicit JsonLines(const km_run_info& run) : file_(std::string(run.folder) + "/metrics.jsonl") {
    file_.cut(bytes_to_keep(file_.path(), run.first_step));
  }

  void step(const km_metric* metrics, uint32_t count) override {
    line_ = '{';
    for (uint32_t i = 0; i < count; ++i) {
      if (i > 0) line_ += ',';
      append_json_text(line_, metrics[i].key);
      line_ += ':';
      append_json_number(line_, metrics[i].value);
    }
    line_ += "}\n";
    file_.write(line_);
  }

  void event(int64_t, const std::string&, const std::string&) override {} // the file holds numbers only

 private:
  OutputFile file_;
  std::string line_;
};

} // namespace

std::unique_ptr<Sink> make_jsonl(const km_options&, const km_run_info& run) { return std::make_unique<JsonLines>(run); }

} // namespace kumiki::metrics
