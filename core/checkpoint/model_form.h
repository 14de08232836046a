// What a model component says of itself outside a run: its parameters (by building its forward graph, without kernels),
// its rows and config.json of the Hugging Face form, and the [model] table that a config.json means. Used by the
// commands that export and import. Floor: checkpoint (stands on graph, plugin, config).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/checkpoint/checkpoint.h"
#include "core/checkpoint/huggingface.h"
#include "core/config/config.h"
#include "core/plugin/host.h"
#include "core/plugin/options.h"
#include "core/plugin/registry.h"
#include "kumiki/model.h"

namespace kumiki {

class ModelForm {
 public:
  // Opens the model that the configuration names. Throws Error. [main]
  ModelForm(Registry& registry, const Config& config);
  ~ModelForm();
  ModelForm(const ModelForm&) = delete;
  ModelForm& operator=(const ModelForm&) = delete;

  // Parameters for this vocabulary (0: the model's own) and run.sequence, in order of declaration.
  std::vector<StoredTensor> parameters(int64_t vocabulary, int64_t sequence) const;
  // Rows of the vocabulary in a checkpoint of this model: what run.data's tokenizer gave, where [model] has no number.
  int64_t vocabulary_of(const CheckpointReader& reader, int64_t sequence) const;

  struct HuggingFace {
    std::vector<ModelRow> rows;
    std::string config_json;
  };
  // Throws Error where the component has no such form.
  HuggingFace describe(int64_t vocabulary, int64_t sequence) const;

 private:
  km_model_shape shape(int64_t vocabulary, int64_t sequence) const;
  std::vector<StoredTensor> build(int64_t vocabulary, int64_t sequence, size_t* first_of_vocabulary) const;
  Host host_;
  km_model table_{};
  void* self_ = nullptr;
  std::string title_;
};

// The lines of a [model] table for a Hugging Face config.json: asks every model component. Throws Error (exit_code 2)
// where none takes it, with what each said.
std::string model_table_from_config(Registry& registry, const std::string& config_json);

} // namespace kumiki
