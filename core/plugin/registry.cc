#include "core/plugin/registry.h"

#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <sstream>

#include "core/base/suggest.h"
#include "core/plugin/loader.h"

namespace kumiki {
namespace {

namespace files = std::filesystem;

constexpr const char* kKinds[] = {"model", "kernels", "comm", "parallel", "optimizer", "data", "metrics"};

// A component that another loaded plugin has already.
class DuplicateComponent : public Error {
 public:
  using Error::Error;
};

std::string real_path_of(const std::string& path) {
  std::error_code error;
  const files::path real = files::canonical(path, error);
  return error ? "" : real.string();
}

// The .so files of a folder, sorted. A folder that is not there has none.
std::vector<std::string> plugin_files(const std::string& folder) {
  std::vector<std::string> out;
  std::error_code error;
  for (files::directory_iterator at(folder, error), end; !error && at != end; at.increment(error)) {
    if (at->path().extension() == ".so" && !at->is_directory(error)) out.push_back(at->path().string());
  }
  std::sort(out.begin(), out.end());
  return out;
}

// A folder and the folders inside it, four deep: a build leaves each plugin in a folder of its own.
void add_with_inner_folders(const std::string& folder, int depth, std::vector<std::string>& out) {
  out.push_back(folder);
  if (depth == 0) return;
  std::vector<std::string> inner;
  std::error_code error;
  for (files::directory_iterator at(folder, error), end; !error && at != end; at.increment(error)) {
    const std::string name = at->path().filename().string();
    const bool own = name[0] == '.' || name[0] == '_' || at->path().extension() == ".runfiles"; // the build tool's
    if (!own && at->is_directory(error)) inner.push_back(at->path().string());
  }
  std::sort(inner.begin(), inner.end());
  for (const std::string& path : inner) add_with_inner_folders(path, depth - 1, out);
}

} // namespace

struct Registry::Loaded {
  PluginInfo info;
};

std::vector<std::string> Registry::default_folders() {
  std::vector<std::string> out;
  if (const char* variable = std::getenv("KUMIKI_PLUGINS")) {
    std::istringstream in(variable);
    for (std::string folder; std::getline(in, folder, ':');) {
      if (!folder.empty()) add_with_inner_folders(folder, 4, out);
    }
    return out;
  }
  // readlink, which looks at nothing else: emulators answer for this one name, also where there is no /proc.
  char buffer[4096];
  const ssize_t length = ::readlink("/proc/self/exe", buffer, sizeof buffer);
  const std::string program(buffer, static_cast<size_t>(length > 0 ? length : 0));
  if (!program.empty()) out.push_back((files::path(program).parent_path().parent_path() / "lib" / "kumiki").string());
  return out;
}

Registry::Registry(std::vector<std::string> folders) : folders_(std::move(folders)) {}

Registry::Registry(const Config& config, std::vector<std::string> folders) : Registry(std::move(folders)) {
  const PluginSettings& settings = config.plugins();
  const Table pins = config.table("plugins.sha256");
  for (const auto& [file, hex] : settings.sha256) {
    bool known = false;
    for (const std::string& path : settings.path) known = known || files::path(path).filename() == file;
    for (const std::string& folder : folders_) known = known || files::exists(files::path(folder) / file);
    if (!known) {
      throw pins.key_error(file, "there is no plugin " + file + " to pin",
                           "write the file's name as it stands at the end of [plugins].path");
    }
    pin(file, hex, pins.origin(file));
  }
  for (size_t i = 0; i < settings.path.size(); ++i) add_file(settings.path[i], settings.folder[i], settings.origin[i]);
}

Registry::~Registry() = default;

void Registry::pin(const std::string& file_name, const std::string& sha256_hex, const std::string& where) {
  pins_[file_name] = {sha256_hex, where};
}

void Registry::add_file(const std::string& path, const std::string& base, const std::string& where) {
  std::vector<std::string> candidates = {(files::path(base) / path).lexically_normal().string()};
  if (files::path(path).is_relative()) {
    for (const std::string& folder : folders_)
      candidates.push_back((files::path(folder) / path).lexically_normal().string());
  }
  for (const std::string& candidate : candidates) {
    const std::string real = real_path_of(candidate);
    if (real.empty()) continue;
    load(real);
    refuse_hidden_duplicates(real);
    return;
  }
  std::string looked;
  for (const std::string& candidate : candidates) looked += (looked.empty() ? "" : ", ") + candidate;
  throw Error(where, "there is no plugin file " + path, "looked for " + looked);
}

void Registry::load(const std::string& real_path) {
  if (loaded_.count(real_path)) return;
  const std::string name = files::path(real_path).filename().string();
  const auto pinned = pins_.find(name);
  PluginFile file = load_plugin(real_path, pinned == pins_.end() ? "" : pinned->second.first, host_);
  for (size_t i = 0; i < file.components.size(); ++i) {
    const Component& fresh = file.components[i];
    const auto there = components_.find({fresh.kind, fresh.name});
    std::string other = there == components_.end() ? "" : there->second->plugin->file;
    for (size_t j = 0; j < i; ++j) {
      if (file.components[j].kind == fresh.kind && file.components[j].name == fresh.name) other = real_path;
    }
    if (!other.empty()) {
      throw DuplicateComponent(real_path, "plugin refused: " + fresh.title() + " is also in " + other +
                                              "; remove one of the two, or give one another name");
    }
  }
  auto loaded = std::make_unique<Loaded>(Loaded{file.info});
  for (Component& fresh : file.components) {
    fresh.plugin = &loaded->info;
    const std::pair<std::string, std::string> key(fresh.kind, fresh.name);
    components_[key] = std::make_unique<Component>(std::move(fresh));
  }
  loaded_[real_path] = std::move(loaded);
}

// A file of the folders that nobody asked for: it must not stop the others.
void Registry::load_or_note(const std::string& real_path) {
  try {
    load(real_path);
  } catch (const Error& error) {
    const std::string text = error.what();
    if (std::find(refusals_.begin(), refusals_.end(), text) == refusals_.end()) refusals_.push_back(text);
  }
}

// Files of the folders are read only when they are needed. So that a plugin of the user's that takes a name of the
// tree's is found out all the same, the file of that name is read now.
void Registry::refuse_hidden_duplicates(const std::string& real_path) {
  std::vector<std::string> names;
  for (const auto& [key, component] : components_) {
    if (component->plugin->file == real_path) names.push_back(key.second);
  }
  for (const std::string& name : names) {
    for (const std::string& folder : folders_) {
      const std::string other = real_path_of((files::path(folder) / (name + ".so")).string());
      if (other.empty() || other == real_path) continue;
      try {
        load(other);
      } catch (const DuplicateComponent&) {
        throw;
      } catch (const Error& error) {
        refusals_.emplace_back(error.what());
      }
    }
  }
}

void Registry::load_all() {
  if (all_loaded_) return;
  for (const std::string& folder : folders_) {
    for (const std::string& file : plugin_files(folder)) {
      const std::string real = real_path_of(file);
      if (!real.empty()) load_or_note(real);
    }
  }
  all_loaded_ = true;
}

const Component* Registry::try_find(const std::string& kind, const std::string& name) {
  const std::pair<std::string, std::string> key(kind, name);
  if (const auto found = components_.find(key); found != components_.end()) return found->second.get();
  if (all_loaded_ || name.find('/') != std::string::npos) return nullptr;
  // By the component's name, then by its kind: one file may hold all data components.
  for (const std::string& file : {name + ".so", kind + ".so"}) {
    for (const std::string& folder : folders_) {
      const std::string real = real_path_of((files::path(folder) / file).string());
      if (real.empty()) continue;
      load(real);
      if (const auto found = components_.find(key); found != components_.end()) return found->second.get();
    }
  }
  load_all();
  const auto found = components_.find(key);
  return found == components_.end() ? nullptr : found->second.get();
}

std::string Registry::explain_missing(const std::string& kind, const std::string& name) const {
  bool known_kind = false;
  for (const char* known : kKinds) known_kind = known_kind || kind == known;
  if (!known_kind) return suggestion(kind, {std::begin(kKinds), std::end(kKinds)});
  std::vector<std::string> names;
  for (const auto& [key, component] : components_) {
    if (key.first == kind) names.push_back(key.second);
  }
  std::string out = suggestion(name, names);
  if (names.empty()) {
    out = "no plugin with a " + kind + " component was found; looked in: ";
    for (size_t i = 0; i < folders_.size(); ++i) out += (i ? ", " : "") + folders_[i];
    if (folders_.empty()) out += "no folder";
  }
  for (const std::string& refusal : refusals_) out += "\n  " + refusal;
  return out;
}

const Component& Registry::find(const std::string& kind, const std::string& name) {
  if (const Component* found = try_find(kind, name)) return *found;
  throw Error("", "there is no " + kind + " component \"" + name + "\"", explain_missing(kind, name));
}

const Component& Registry::find(const ComponentUse& use) {
  if (const Component* found = try_find(use.kind, use.name)) return *found;
  throw config_error(use.origin, "there is no " + use.kind + " component \"" + use.name + "\"",
                     explain_missing(use.kind, use.name));
}

std::vector<const Component*> Registry::components() const {
  std::vector<const Component*> out;
  for (const auto& [key, component] : components_) out.push_back(component.get());
  return out;
}

std::vector<const PluginInfo*> Registry::plugins() const {
  std::vector<const PluginInfo*> out;
  for (const auto& [path, loaded] : loaded_) out.push_back(&loaded->info);
  return out;
}

OptionLookup Registry::option_lookup() {
  return [this](const std::string& kind, const std::string& name) -> const std::vector<km_option>* {
    try {
      const Component* component = try_find(kind, name);
      return component ? &component->options : nullptr;
    } catch (const Error&) {
      return nullptr; // printing does not need the plugin; running says what is wrong with it
    }
  };
}

void check_interface(const Component& component, const char* kind, uint32_t version) {
  KM_CHECK(component.kind == kind, component.title() + " is used as " + kind);
  if (component.interface_version == version) return;
  const bool newer = component.interface_version > version;
  throw Error(
      component.plugin ? component.plugin->file : "",
      component.title() + " has version " + std::to_string(component.interface_version) + " of the interface " + kind +
          ", this kumiki speaks version " + std::to_string(version),
      newer ? "use a newer kumiki, or an older plugin" : "build the plugin again with the headers of this kumiki");
}

} // namespace kumiki
