// A data component, open, for tests: what is read comes back as vectors, errors as text.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "tests/data/component_host.h"

namespace kumiki::test {

struct Sample {
  std::vector<int32_t> tokens, targets, segments;
  bool operator==(const Sample&) const = default;
};

struct Run {
  uint32_t split = KM_SPLIT_TRAIN;
  int64_t sequence = 4;
  int64_t seed = 1;
  int64_t vocabulary = 0;
};

class DataSet {
 public:
  // Where open fails, status() and error() tell.
  DataSet(const std::string& component, const std::map<std::string, std::string>& options, Run run = {})
      : component_(load_component(host_, "plugins/data/data.so", "data", component)),
        table_(*static_cast<const km_data*>(component_.table)),
        sequence_(run.sequence) {
    const Options values(component_, options);
    const km_data_context context{sizeof(km_data_context), run.split, run.sequence, run.seed, run.vocabulary};
    status_ = table_.open(host_.table(), values.get(), &context, &self_);
    if (status_ != KM_OK) error_ = ComponentHost::last_error();
  }
  ~DataSet() {
    if (self_) table_.close(self_);
  }
  DataSet(const DataSet&) = delete;
  DataSet& operator=(const DataSet&) = delete;

  km_status status() const { return status_; }
  const std::string& error() const { return error_; }
  const ComponentHost& host() const { return host_; }

  km_data_info info() const {
    km_data_info info{};
    info.struct_size = sizeof info;
    table_.info(self_, &info);
    return info;
  }

  // Status and error tell where it fails.
  std::vector<Sample> read(int64_t first, int64_t n) {
    const auto size = static_cast<size_t>(n * sequence_);
    std::vector<int32_t> tokens(size), targets(size), segments(size, -7);
    const km_batch batch{sizeof(km_batch), 0, tokens.data(), targets.data(), segments.data()};
    status_ = table_.read(self_, first, n, &batch);
    if (status_ != KM_OK) error_ = ComponentHost::last_error();
    std::vector<Sample> samples;
    for (int64_t i = 0; i < n; ++i) {
      const auto row = [&](const std::vector<int32_t>& all) {
        return std::vector<int32_t>(all.begin() + i * sequence_, all.begin() + (i + 1) * sequence_);
      };
      samples.push_back({row(tokens), row(targets), row(segments)});
    }
    return samples;
  }
  Sample sample(int64_t number) { return read(number, 1).front(); }

  // Null: there is none.
  const km_tokenizer* tokenizer() const {
    return static_cast<const km_tokenizer*>(table_.ability(self_, KM_TOKENIZER_ABILITY));
  }
  void* self() const { return self_; }

 private:
  ComponentHost host_;
  const km_component& component_;
  const km_data& table_;
  int64_t sequence_;
  void* self_ = nullptr;
  km_status status_ = KM_OK;
  std::string error_;
};

} // namespace kumiki::test
