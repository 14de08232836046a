#include "core/checkpoint/model_form.h"

#include "core/base/error.h"
#include "core/graph/graph.h"

namespace kumiki {
namespace {

constexpr size_t kNone = ~size_t{0};

// What went wrong inside a plugin's call; the graph service's own error says more than the status.
void check_call(km_status status, const std::string& title, const std::string& what) {
  if (const std::string text = take_service_error(); !text.empty()) throw Error(title, what + ": " + text);
  check(status, title, what);
}

} // namespace

ModelForm::ModelForm(Registry& registry, const Config& config) {
  host_.set_service(KM_GRAPH_SERVICE, graph_service());
  const ComponentUse use = config.model();
  const Component& component = registry.find("model", use.name);
  title_ = component.title();
  table_ = table_of<km_model>(component, "model", KM_MODEL_VERSION);
  const OptionValues options(component, use.options);
  check_call(table_.open(host_.abi(), options.get(), &self_), title_, "open");
}

ModelForm::~ModelForm() { table_.close(self_); }

km_model_shape ModelForm::shape(int64_t vocabulary, int64_t sequence) const {
  km_model_shape shape{};
  shape.struct_size = sizeof shape;
  shape.mode = KM_MODE_TRAIN;
  shape.batch = 1;
  shape.tokens = sequence;
  shape.vocabulary = vocabulary;
  shape.sequence = sequence;
  return shape;
}

std::vector<StoredTensor> ModelForm::build(int64_t vocabulary, int64_t sequence, size_t* first_of_vocabulary) const {
  Graph graph(KM_MODE_TRAIN);
  const km_model_shape wanted = shape(vocabulary, sequence);
  const std::pair<const char*, uint32_t> inputs[] = {{"tokens", KM_I32}, {"targets", KM_I32}};
  for (const auto& [name, dtype] : inputs) graph.declare_input(name, {dtype, {1, sequence}});
  check_call(table_.build(self_, &wanted, to_abi(&graph)), title_, "build");
  std::vector<StoredTensor> parameters;
  *first_of_vocabulary = kNone;
  for (ValueId id : graph.parameters()) {
    const Value& value = graph.value(id);
    if (value.role == KM_ROLE_VOCABULARY && *first_of_vocabulary == kNone) *first_of_vocabulary = parameters.size();
    parameters.push_back({value.name, value.type.dtype, value.type.shape});
  }
  return parameters;
}

std::vector<StoredTensor> ModelForm::parameters(int64_t vocabulary, int64_t sequence) const {
  size_t ignored = 0;
  return build(vocabulary, sequence, &ignored);
}

int64_t ModelForm::vocabulary_of(const CheckpointReader& reader, int64_t sequence) const {
  size_t first = kNone;
  const std::vector<StoredTensor> parameters = build(0, sequence, &first);
  const StoredTensor* stored = first == kNone ? nullptr : reader.find(parameters[first].name);
  return stored && !stored->shape.empty() ? stored->shape[0] : 0;
}

ModelForm::HuggingFace ModelForm::describe(int64_t vocabulary, int64_t sequence) const {
  if (!table_.describe)
    throw Error(title_, "has no Hugging Face form", "choose another model, or complete its `describe`");
  HuggingFace form;
  km_model_text text{};
  text.struct_size = sizeof text;
  text.sink = &form;
  text.row = [](void* sink, const km_model_row* row) {
    static_cast<HuggingFace*>(sink)->rows.push_back(
        {row->ours, row->theirs, row->how == KM_MAP_TRANSPOSE, row->part, row->parts, row->dim});
  };
  text.config = [](void* sink, const char* json) { static_cast<HuggingFace*>(sink)->config_json = json; };
  const km_model_shape wanted = shape(vocabulary, sequence);
  check_call(table_.describe(self_, &wanted, &text), title_, "describe");
  return form;
}

std::string model_table_from_config(Registry& registry, const std::string& config_json) {
  registry.load_all();
  Host host;
  std::string reasons;
  for (const Component* component : registry.components()) {
    if (component->kind != "model") continue;
    const km_model table = table_of<km_model>(*component, "model", KM_MODEL_VERSION);
    if (!table.from_config) continue;
    std::string toml(65536, '\0');
    const km_status status = table.from_config(host.abi(), config_json.c_str(), toml.data(), toml.size());
    if (status == KM_OK) return toml.substr(0, toml.find('\0'));
    const std::string reason = Host::take_error();
    if (status != KM_UNSUPPORTED) throw Error(component->title(), reason);
    reasons += "\n  " + component->title() + ": " + reason;
  }
  throw Error("config.json", "no model component knows this architecture" + reasons,
              "see `kumiki plugin list` for the models that are there");
}

} // namespace kumiki
