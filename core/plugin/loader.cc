#include "core/plugin/loader.h"

#include <dlfcn.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cerrno>
#include <cstddef>
#include <cstring>

#include <algorithm>
#include <filesystem>

#include "core/base/fs.h"
#include "core/base/hash.h"
#include "core/base/log.h"
#include "kumiki/comm.h"
#include "kumiki/data.h"
#include "kumiki/kernels.h"
#include "kumiki/metrics.h"
#include "kumiki/model.h"
#include "kumiki/optimizer.h"
#include "kumiki/parallel.h"

namespace kumiki {
namespace {

// Bytes up to and with FIELD, the last one of the struct in ABI 0.1. These never change.
#define KM_LAYOUT_0_1(type, field) \
  static_cast<uint32_t>(offsetof(type, field) + sizeof(static_cast<type*>(nullptr)->field))

struct TableLayout {
  const char* kind;
  uint32_t bytes;
};
constexpr TableLayout kTables[] = {
    {"model", KM_LAYOUT_0_1(km_model, from_config)},
    {"kernels", KM_LAYOUT_0_1(km_kernels, ability)},
    {"optimizer", KM_LAYOUT_0_1(km_optimizer, update)},
    {"data", KM_LAYOUT_0_1(km_data, ability)},
    {"metrics", KM_LAYOUT_0_1(km_metrics, event)},
    {"comm", KM_LAYOUT_0_1(km_comm, ability)},
    {"parallel", KM_LAYOUT_0_1(km_parallel_strategy, schedule)},
};
constexpr uint32_t kPluginBytes = KM_LAYOUT_0_1(km_plugin, reserved);
constexpr uint32_t kComponentBytes = KM_LAYOUT_0_1(km_component, summary);
constexpr uint32_t kOptionBytes = KM_LAYOUT_0_1(km_option, help);
#if UINTPTR_MAX == UINT64_MAX
static_assert(kPluginBytes == 64 && kComponentBytes == 48 && kOptionBytes == 56,
              "a released layout must stay as it is");
#endif

[[noreturn]] void refuse(const std::string& file, const std::string& why, const std::string& remedy) {
  throw Error(file, "plugin refused: " + why + "; " + remedy);
}

void check_permissions(const std::string& file) {
  struct stat info;
  if (::stat(file.c_str(), &info) != 0) throw Error(file, std::string("plugin refused: ") + std::strerror(errno));
  if (!S_ISREG(info.st_mode)) refuse(file, "it is not a file", "name the .so file");
  if (info.st_mode & S_IWOTH) refuse(file, "everybody may write to the file", "run: chmod o-w " + file);
  const std::string folder = std::filesystem::path(file).parent_path().string();
  struct stat around;
  if (::stat(folder.c_str(), &around) != 0) throw Error(folder, std::string("plugin refused: ") + std::strerror(errno));
  if ((around.st_mode & S_IWOTH) && !(around.st_mode & S_ISVTX)) {
    refuse(file, "everybody may write to its folder", "run: chmod o-w " + folder);
  }
  if (info.st_uid != 0 && info.st_uid != ::geteuid()) {
    log_info("plugin " + file + " belongs to user " + std::to_string(info.st_uid) + ", neither you nor root");
  }
}

void check_pin(const std::string& file, const std::string& pinned) {
  if (pinned.empty()) return;
  const std::unique_ptr<FileMapping> content = real_fs().map(file);
  Sha256 hash;
  hash.add(content->data(), content->bytes());
  const std::string found = hash.hex();
  std::string wanted = pinned;
  std::transform(wanted.begin(), wanted.end(), wanted.begin(),
                 [](char c) { return c >= 'A' && c <= 'F' ? char(c + 32) : c; });
  if (found != wanted) {
    refuse(file, "its SHA-256 is " + found + ", not the pinned " + wanted,
           "check where the file comes from, then correct [plugins].sha256");
  }
}

km_plugin_entry entry_of(void* library, const std::string& file) {
  if (void* symbol = ::dlsym(library, KM_PLUGIN_SYMBOL)) return reinterpret_cast<km_plugin_entry>(symbol);
  for (int major = 0; major < 100; ++major) {
    const std::string other = "kumiki_plugin_v" + std::to_string(major);
    if (::dlsym(library, other.c_str())) {
      refuse(
          file,
          "it was built for ABI " + std::to_string(major) + ", this kumiki speaks ABI " + std::to_string(KM_ABI_MAJOR),
          "use a newer kumiki, or build the plugin for this one");
    }
  }
  refuse(file, "it has no symbol " KM_PLUGIN_SYMBOL, "is it a kumiki plugin? its source needs KM_PLUGIN(...)");
}

std::string text_or_empty(const char* text) { return text ? text : ""; }

// Element i of an array whose elements are `stride` bytes apart, in a zero-filled struct of the host's size.
template <class T>
T element(const T* array, uint32_t i, uint32_t stride) {
  T out;
  std::memset(&out, 0, sizeof(out));
  std::memcpy(&out, reinterpret_cast<const char*>(array) + size_t{i} * stride, std::min<size_t>(stride, sizeof(T)));
  return out;
}

void check_size(const std::string& file, const std::string& what, uint32_t bytes, uint32_t least) {
  if (bytes >= least) return;
  refuse(file, what + " has " + std::to_string(bytes) + " bytes, in ABI 0.1 it has " + std::to_string(least),
         "build the plugin again with the headers of kumiki");
}

Component read_component(const std::string& file, const km_component& from, uint32_t option_size) {
  if (!from.kind || !from.name || !*from.name || !from.table || (from.option_count > 0 && !from.options)) {
    refuse(file, "a component lacks its kind, name, table or options",
           "this is a fault of the plugin: tell its authors");
  }
  Component out;
  out.kind = from.kind;
  out.name = from.name;
  out.summary = text_or_empty(from.summary);
  out.interface_version = from.interface_version;
  out.table = from.table;
  std::memcpy(&out.table_size, from.table, sizeof(out.table_size));
  uint32_t least = sizeof(uint32_t);
  for (const TableLayout& table : kTables) {
    if (out.kind == table.kind) least = table.bytes;
  }
  check_size(file, "the table of " + out.title(), out.table_size, least);
  if (from.option_count > 0) check_size(file, "km_option of " + out.title(), option_size, kOptionBytes);
  for (uint32_t i = 0; i < from.option_count; ++i) {
    out.options.push_back(element(from.options, i, option_size));
    const km_option& row = out.options.back();
    if (!row.name || !*row.name) {
      refuse(file, "an option of " + out.title() + " has no name", "this is a fault of the plugin: tell its authors");
    }
    for (uint32_t j = 0; j < i; ++j) {
      if (km_same_text(out.options[j].name, row.name)) {
        refuse(file, out.title() + " declares option " + row.name + " twice",
               "this is a fault of the plugin: tell its authors");
      }
    }
  }
  return out;
}

PluginFile describe(void* library, const std::string& file, const Host& host) {
  const km_plugin_entry entry = entry_of(library, file);
  Host::take_error();
  const km_plugin* given = entry(host.abi());
  if (!given) {
    const std::string text = Host::take_error();
    throw Error(file, "plugin refused: " + (text.empty() ? "it gave no description of itself and no reason" : text));
  }
  check_size(file, "km_plugin", given->struct_size, kPluginBytes);
  km_plugin plugin;
  std::memset(&plugin, 0, sizeof(plugin));
  std::memcpy(&plugin, given, std::min<size_t>(given->struct_size, sizeof(plugin)));
  // Once more here: not every author negotiates.
  const km_host* self = host.abi();
  if (plugin.abi_minor < self->minor_lowest || plugin.abi_minor > self->minor_highest) {
    refuse(file,
           "it was built for ABI " + std::to_string(self->abi_major) + "." + std::to_string(plugin.abi_minor) +
               ", this kumiki speaks " + std::to_string(self->abi_major) + "." + std::to_string(self->minor_lowest) +
               " to " + std::to_string(self->abi_major) + "." + std::to_string(self->minor_highest),
           "build it again, or use another kumiki");
  }
  if (plugin.component_count > 0) check_size(file, "km_component", plugin.component_size, kComponentBytes);
  PluginFile out;
  out.info = {text_or_empty(plugin.name),
              text_or_empty(plugin.version),
              text_or_empty(plugin.vendor),
              text_or_empty(plugin.licence),
              file,
              plugin.abi_minor};
  for (uint32_t i = 0; i < plugin.component_count; ++i) {
    out.components.push_back(
        read_component(file, element(plugin.components, i, plugin.component_size), plugin.option_size));
  }
  return out;
}

} // namespace

PluginFile load_plugin(const std::string& real_path, const std::string& pinned_sha256, const Host& host) {
  check_permissions(real_path);
  check_pin(real_path, pinned_sha256);
  void* library = ::dlopen(real_path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!library) {
    const char* reason = ::dlerror();
    std::string text = reason ? reason : "no reason given";
    if (text.rfind(real_path + ": ", 0) == 0) text = text.substr(real_path.size() + 2);
    refuse(real_path, "it cannot be loaded: " + text, "install what it needs (`ldd` lists it)");
  }
  try {
    return describe(library, real_path, host);
  } catch (...) {
    ::dlclose(library);
    throw;
  }
}

} // namespace kumiki
