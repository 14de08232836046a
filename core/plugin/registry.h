// Registry: loads plugins (.so files) and finds components by kind and name. Plugins stay loaded until the process
// ends. Files are looked for lazily, so that a start loads only what the configuration names. In: folders, files. Out:
// Component. Floor: plugin (stands on config, base, abi).
#pragma once

#include <cstdint>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "core/config/config.h"
#include "core/plugin/host.h"
#include "kumiki/plugin.h"

namespace kumiki {

struct PluginInfo {
  std::string name, version, vendor, licence;
  std::string file; // real path
  uint32_t abi_minor = 0;
};

// A component as the core keeps it: copied out of the plugin, strides honoured. Pointers inside live as long as the
// process.
struct Component {
  std::string kind, name, summary;
  uint32_t interface_version = 0;
  const void* table = nullptr; // km_kernels, km_model, …: read it with table_of
  uint32_t table_size = 0;     // its struct_size
  std::vector<km_option> options;
  const PluginInfo* plugin = nullptr;
  // "kernels generic"
  std::string title() const { return kind + " " + name; }
};

class Registry {
 public:
  // Folders to look in: KUMIKI_PLUGINS (colon-separated, with the folders inside them: tests and builds use it) if it
  // is set, else ../lib/kumiki from the program's own place.
  static std::vector<std::string> default_folders();

  explicit Registry(std::vector<std::string> folders = default_folders());
  // Also loads [plugins].path, and keeps its sha256 pins. Throws Error.
  explicit Registry(const Config& config, std::vector<std::string> folders = default_folders());
  ~Registry();
  Registry(const Registry&) = delete;
  Registry& operator=(const Registry&) = delete;

  // Loads one file now. A relative path is looked for from `base` (empty: the current folder), then in the folders.
  // Throws Error: not found (and where it was looked for), writable by others, no entry symbol, another ABI, a
  // component that is there already (names both files), a pin that does not match. [main]
  void add_file(const std::string& path, const std::string& base = "", const std::string& where = "");
  void pin(const std::string& file_name, const std::string& sha256_hex, const std::string& where = "");

  // The component; loads the plugin if need be: FOLDER/NAME.so, then FOLDER/KIND.so, then all files. Throws Error with
  // "did you mean". Never moves: keep the reference. [main]
  const Component& find(const std::string& kind, const std::string& name);
  // The same for what a configuration names; the Error points at the place in the file.
  const Component& find(const ComponentUse& use);
  // Null where no plugin has it. Throws only where a file that must be read is refused.
  const Component* try_find(const std::string& kind, const std::string& name);
  // Loads every plugin of the folders. A refused one does not stop the others: refusals() has the reasons.
  void load_all();
  const std::vector<std::string>& refusals() const { return refusals_; }

  // All that is loaded, by kind and name.
  std::vector<const Component*> components() const;
  std::vector<const PluginInfo*> plugins() const;
  const std::vector<std::string>& folders() const { return folders_; }

  // For Config::to_toml: loads what it is asked for. Valid as long as this registry.
  OptionLookup option_lookup();

 private:
  struct Loaded;
  void load(const std::string& real_path);
  void load_or_note(const std::string& real_path);
  void refuse_hidden_duplicates(const std::string& real_path);
  std::string explain_missing(const std::string& kind, const std::string& name) const;
  std::vector<std::string> folders_;
  std::map<std::string, std::unique_ptr<Loaded>> loaded_;                                // by real path
  std::map<std::pair<std::string, std::string>, std::unique_ptr<Component>> components_; // by (kind, name)
  std::map<std::string, std::pair<std::string, std::string>> pins_; // file name -> (hex, where it was said)
  std::vector<std::string> refusals_;
  bool all_loaded_ = false;
  Host host_; // for the negotiation
};

// The component's table, copied into a zero-filled struct of the host's size: what the plugin does not have reads as
// null. Throws Error where the kind or the interface version is another. T: km_kernels, km_model, …
void check_interface(const Component& component, const char* kind, uint32_t version);
template <class T>
T table_of(const Component& component, const char* kind, uint32_t version) {
  check_interface(component, kind, version);
  T table;
  std::memset(&table, 0, sizeof(table));
  std::memcpy(&table, component.table, component.table_size < sizeof(T) ? component.table_size : sizeof(T));
  if (table.struct_size > sizeof(T)) table.struct_size = sizeof(T);
  return table;
}
// The same for the table of an ability (its struct_size comes first); all null with struct_size 0 if `ability` is null.
template <class T>
T ability_of(const void* ability) {
  T table;
  std::memset(&table, 0, sizeof(table));
  if (!ability) return table;
  uint32_t size = 0;
  std::memcpy(&size, ability, sizeof(size));
  std::memcpy(&table, ability, size < sizeof(T) ? size : sizeof(T));
  if (table.struct_size > sizeof(T)) table.struct_size = sizeof(T);
  return table;
}

} // namespace kumiki
