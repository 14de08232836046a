// The data sets of this plugin behind the C table km_data: each says what it is and fills one sample; splitting into
// tokens and targets, the tokenizer ability and the ABI boundary are done here once for all.
#pragma once

#include <cstdint>
#include <memory>

#include "boundary.h"
#include "kumiki/data.h"
#include "tokenizer.h"

namespace kumiki::data {

struct DatasetInfo {
  int64_t vocabulary = 0;
  int64_t samples = 0; // of one epoch; 0 = endless
  int64_t tokens = 0;  // of one epoch; 0 = unknown
  bool segments = false;
};

class Dataset {
 public:
  virtual ~Dataset() = default;
  virtual DatasetInfo info() const = 0;
  // Writes the sequence + 1 tokens of a sample. segments: of each of them the number of its document within the sample,
  // from 0; NULL unless info().segments. Throws Failure. One call at a time.
  virtual void read(int64_t number, int32_t* tokens, int32_t* segments) = 0;
  // NULL: there is none. Lives as long as the data set.
  virtual const Tokenizer* tokenizer() const { return nullptr; }
};

// What each component's maker gets.
struct OpenRequest {
  const km_host* host;
  const km_options* options;
  const km_data_context* context;
};
using MakeDataset = std::unique_ptr<Dataset> (*)(const OpenRequest& request);

km_status open_dataset(const km_host* host, const km_options* options, const km_data_context* context, MakeDataset make,
                       void** self);
void close_dataset(void* self);
km_status dataset_info(void* self, km_data_info* info);
km_status dataset_read(void* self, int64_t first, int64_t n, const km_batch* batch);
const void* dataset_ability(void* self, const char* id);

// The table of the component that `make` makes.
template <MakeDataset make>
constexpr km_data dataset_table() {
  constexpr auto open = [](const km_host* host, const km_options* options, const km_data_context* context,
                           void** self) { return open_dataset(host, options, context, make, self); };
  return {sizeof(km_data), 0, open, close_dataset, dataset_info, dataset_read, dataset_ability};
}

// Which vocabulary a data set without a tokenizer has: the option if it is given, else what the format implies (0 =
// nothing), else the model's. Throws Failure where nobody says one.
int64_t choose_vocabulary(int64_t option, int64_t of_format, int64_t of_model, const std::string& path);

// The number of windows in `tokens` tokens; throws Failure that says the numbers if there is none.
int64_t count_samples(int64_t tokens, int64_t all_tokens, const OpenRequest& request, const std::string& path);

std::unique_ptr<Dataset> make_text(const OpenRequest& request);
std::unique_ptr<Dataset> make_synthetic(const OpenRequest& request);
std::unique_ptr<Dataset> make_tokens(const OpenRequest& request);
std::unique_ptr<Dataset> make_megatron(const OpenRequest& request);
std::unique_ptr<Dataset> make_tokenizer(const OpenRequest& request);

} // namespace kumiki::data
