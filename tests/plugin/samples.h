// Where the sample plugins of these tests lie, and copies of them in a folder of a test's own.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <string>

#include "core/base/error.h"
#include "tests/config/temp_folder.h"

namespace kumiki {

inline std::string sample_path(const std::string& name) {
  const char* folder = std::getenv("KUMIKI_SAMPLE_PLUGINS"); // set where the tests run outside of the build tool
  return std::string(folder ? folder : "tests/plugin") + "/" + name + ".so";
}

// Copies sample NAME into the folder as FILE.so (NAME.so if empty), writable by the owner only; gives the path.
inline std::string copy_sample(const TempFolder& folder, const std::string& name, const std::string& file = "") {
  const std::string path = folder / ((file.empty() ? name : file) + ".so");
  std::filesystem::copy_file(sample_path(name), path);
  std::filesystem::permissions(path, std::filesystem::perms(0755));
  return path;
}

template <class Function>
std::string error_text(Function function) {
  try {
    function();
    return "no error";
  } catch (const Error& error) {
    return error.what();
  }
}

} // namespace kumiki
