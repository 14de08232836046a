#include "tests/comm/host.h"

#include <dlfcn.h>
#include <cstdio>
#include <cstdlib>

#include <filesystem>
#include <stdexcept>

#include "tests/support/plain_host.h"

namespace kumiki::test {
namespace {

void log(const km_host*, uint32_t, const char* text) { std::fprintf(stderr, "%s\n", text); }

constexpr km_host kHost = {sizeof(km_host), KM_ABI_MAJOR,  KM_ABI_MINOR, KM_ABI_MINOR, plain_fail, log,
                           plain_allocate,  plain_release, no_service};

} // namespace

const km_host* test_host() { return &kHost; }
std::string last_error() { return plain_error; }

CommPlugin::CommPlugin(const std::string& file, const std::string& component,
                       const std::map<std::string, std::string>& given) {
  // As the core loads it: what the plugin stands on does not become global.
  void* const library = dlopen(std::filesystem::absolute(file).c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!library) throw std::runtime_error(dlerror());
  const auto entry = reinterpret_cast<km_plugin_entry>(dlsym(library, KM_PLUGIN_SYMBOL));
  const km_plugin* const plugin = entry ? entry(test_host()) : nullptr;
  if (!plugin) throw std::runtime_error(file + " is no plugin");
  const km_component* found = nullptr;
  for (uint32_t i = 0; i < plugin->component_count; ++i) {
    const km_component& each = plugin->components[i];
    if (std::string(each.kind) == "comm" && component == each.name) found = &each;
  }
  if (!found) throw std::runtime_error(file + " has no component comm " + component);
  table_ = static_cast<const km_comm*>(found->table);
  size_t used = 0;
  texts_.reserve(found->option_count);
  for (uint32_t i = 0; i < found->option_count; ++i) {
    const km_option& option = found->options[i];
    const auto own = given.find(option.name);
    const bool is_given = own != given.end();
    used += is_given;
    texts_.push_back(is_given ? own->second : option.default_text ? option.default_text : "");
    km_option_value value{};
    value.name = option.name;
    value.type = option.type;
    value.given = is_given;
    value.string = texts_.back().c_str();
    value.i64 = texts_.back() == "true" ? 1 : std::atoll(texts_.back().c_str());
    value.f64 = std::atof(texts_.back().c_str());
    values_.push_back(value);
  }
  if (used != given.size()) throw std::runtime_error("comm " + component + " has not all the options given");
  options_ = {sizeof(km_options), static_cast<uint32_t>(values_.size()), values_.data()};
}

} // namespace kumiki::test
