#include "tests/data/component_host.h"

#include <dlfcn.h>
#include <stdlib.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <stdexcept>

#include "tests/support/plain_host.h"

namespace kumiki::test {
namespace {

void log(const km_host* host, uint32_t, const char* text) {
  const auto* const handle = reinterpret_cast<const ComponentHost::Handle*>(host);
  const_cast<ComponentHost::Handle*>(handle)->lines.emplace_back(text);
}

} // namespace

ComponentHost::ComponentHost() {
  handle_.host = {sizeof(km_host), KM_ABI_MAJOR,  KM_ABI_MINOR, KM_ABI_MINOR, plain_fail, log,
                  plain_allocate,  plain_release, no_service};
}

std::string ComponentHost::last_error() { return plain_error; }

const km_component& load_component(const ComponentHost& host, const std::string& path, const std::string& kind,
                                   const std::string& name) {
  void* const library = dlopen(std::filesystem::absolute(path).c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!library) throw std::runtime_error(dlerror());
  const auto entry = reinterpret_cast<km_plugin_entry>(dlsym(library, KM_PLUGIN_SYMBOL));
  if (!entry) throw std::runtime_error(path + " has no " KM_PLUGIN_SYMBOL);
  const km_plugin* const plugin = entry(host.table());
  if (!plugin) throw std::runtime_error(ComponentHost::last_error());
  for (uint32_t i = 0; i < plugin->component_count; ++i)
    if (kind == plugin->components[i].kind && name == plugin->components[i].name) return plugin->components[i];
  throw std::runtime_error(path + " has no component " + kind + " " + name);
}

Options::Options(const km_component& component, const std::map<std::string, std::string>& given) {
  size_t used = 0;
  for (uint32_t i = 0; i < component.option_count; ++i) {
    const km_option& option = component.options[i];
    const auto found = given.find(option.name);
    const bool is_given = found != given.end();
    used += is_given;
    const std::string& text = texts_.emplace_back(is_given              ? found->second
                                                  : option.default_text ? option.default_text
                                                                        : "");
    km_option_value value{};
    value.name = option.name;
    value.type = option.type;
    value.given = is_given;
    value.string = text.c_str();
    value.i64 = text == "true" ? 1 : std::atoll(text.c_str());
    value.f64 = std::atof(text.c_str());
    values_.push_back(value);
  }
  if (used != given.size()) throw std::runtime_error(std::string("unknown option of ") + component.name);
  options_ = {sizeof(km_options), static_cast<uint32_t>(values_.size()), values_.data()};
}

TemporaryFolder::TemporaryFolder() {
  const char* const base = std::getenv("TEST_TMPDIR");
  std::string pattern = std::string(base ? base : "/tmp") + "/kumiki_test_XXXXXX";
  if (!mkdtemp(pattern.data())) throw std::runtime_error("no temporary folder at " + pattern);
  path_ = pattern;
}

TemporaryFolder::~TemporaryFolder() { std::filesystem::remove_all(path_); }

std::string TemporaryFolder::write(const std::string& name, const std::string& bytes) const {
  const std::string path = path_ + "/" + name;
  std::filesystem::create_directories(std::filesystem::path(path).parent_path());
  std::ofstream(path, std::ios::binary) << bytes;
  return path;
}

std::string read_file(const std::string& path) {
  std::ostringstream text;
  text << std::ifstream(path, std::ios::binary).rdbuf();
  return text.str();
}

} // namespace kumiki::test
