#include "tests/models/component.h"

#include <dlfcn.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <vector>

#include "kumiki/kernels.h"
#include "kumiki/model.h"
#include "kumiki/optimizer.h"
#include "tests/support/plain_host.h"

namespace kumiki::test {
namespace {

const void* service(const km_host*, const char* id) {
  return std::strcmp(id, KM_GRAPH_SERVICE) == 0 ? graph_service() : nullptr;
}

km_option_value value_of(const km_option& option, const char* text, bool given) {
  km_option_value value = {};
  value.name = option.name;
  value.type = option.type;
  value.given = given;
  value.string = text;
  if (option.type == KM_OPTION_BOOL) value.i64 = std::strcmp(text, "true") == 0;
  if (option.type == KM_OPTION_I64) value.i64 = std::strtoll(text, nullptr, 10);
  if (option.type == KM_OPTION_I64 || option.type == KM_OPTION_F64) value.f64 = std::strtod(text, nullptr);
  return value;
}

// open and close stand at the same place in the tables of models, optimizers and kernels.
static_assert(offsetof(km_model, open) == offsetof(km_kernels, open));
static_assert(offsetof(km_model, close) == offsetof(km_kernels, close));
static_assert(offsetof(km_model, open) == offsetof(km_optimizer, open));
static_assert(offsetof(km_model, close) == offsetof(km_optimizer, close));

} // namespace

const km_host* Component::host() {
  static const km_host host = {sizeof(km_host), KM_ABI_MAJOR,   KM_ABI_MINOR,  KM_ABI_MINOR, plain_fail,
                               no_log,          plain_allocate, plain_release, service};
  return &host;
}

std::string Component::take_error() {
  std::string text = plain_error;
  plain_error.clear();
  return text;
}

Component::Component(const std::string& path, const std::string& kind,
                     const std::map<std::string, std::string>& options) {
  library_ = dlopen(("./" + path).c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library_ == nullptr) throw std::runtime_error(dlerror());
  const auto entry = reinterpret_cast<km_plugin_entry>(dlsym(library_, KM_PLUGIN_SYMBOL));
  const km_plugin* plugin = entry ? entry(host()) : nullptr;
  if (plugin == nullptr) throw std::runtime_error(path + ": " + take_error());
  for (uint32_t i = 0; i < plugin->component_count; ++i)
    if (kind == plugin->components[i].kind) component_ = &plugin->components[i];
  if (component_ == nullptr) throw std::runtime_error(path + " has no component of kind " + kind);
  std::vector<km_option_value> values;
  for (uint32_t i = 0; i < component_->option_count; ++i) {
    const km_option& option = component_->options[i];
    const auto given = options.find(option.name);
    const char* usual = option.default_text ? option.default_text : "";
    values.push_back(value_of(option, given == options.end() ? usual : given->second.c_str(), given != options.end()));
  }
  for (const auto& [name, text] : options) {
    bool known = false;
    for (const km_option_value& value : values) known = known || name == value.name;
    if (!known) throw std::runtime_error(path + " has no option " + name);
  }
  const km_options all = {sizeof(km_options), static_cast<uint32_t>(values.size()), values.data()};
  if (table<km_model>().open(host(), &all, &self_) != KM_OK) {
    dlclose(library_);
    throw std::runtime_error(take_error());
  }
}

Component::~Component() {
  table<km_model>().close(self_);
  dlclose(library_);
}

km_model_shape abi_shape(uint32_t mode, const ModelShape& shape) {
  km_model_shape out = {};
  out.struct_size = sizeof out;
  out.mode = mode;
  out.batch = shape.batch;
  out.tokens = shape.tokens;
  out.capacity = shape.capacity;
  out.vocabulary = shape.vocabulary;
  out.sequence = shape.sequence ? shape.sequence : shape.tokens;
  out.segments = shape.segments;
  return out;
}

void build_model(const Component& model, Graph& graph, const ModelShape& shape) {
  const Type tokens = {KM_I32, {shape.batch, shape.tokens}};
  graph.declare_input("tokens", tokens);
  graph.declare_input("targets", tokens);
  if (shape.segments) graph.declare_input("segments", tokens);
  const km_model_shape abi = abi_shape(graph.mode(), shape);
  const km_status status = model.table<km_model>().build(model.self(), &abi, to_abi(&graph));
  const std::string error = take_service_error();
  if (status != KM_OK) throw std::runtime_error(Component::take_error());
  if (!error.empty()) throw std::runtime_error(error);
  graph.check();
}

} // namespace kumiki::test
