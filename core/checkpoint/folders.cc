#include "core/checkpoint/folders.h"

#include <algorithm>
#include <cstdio>
#include <map>

#include "core/base/error.h"
#include "core/checkpoint/checkpoint.h"

namespace kumiki {
namespace {

constexpr char kPartial[] = ".partial";
constexpr char kReplaced[] = ".replaced";
constexpr char kRemoved[] = ".removed";

std::string hidden(const std::string& checkpoints, int64_t step, const char* ending) {
  return path_in(checkpoints, "." + checkpoint_name(step) + ending);
}

// The step of ".step-000000001.removed" for the ending ".removed"; -1: another name.
int64_t hidden_step(const std::string& name, const std::string& ending) {
  if (name.size() <= ending.size() + 1 || name[0] != '.' || !name.ends_with(ending)) return -1;
  return checkpoint_step(name.substr(1, name.size() - 1 - ending.size()));
}

} // namespace

std::string path_in(const std::string& folder, const std::string& name) {
  return folder.empty() || folder.back() == '/' ? folder + name : folder + "/" + name;
}

std::string checkpoint_name(int64_t step) {
  char text[32];
  std::snprintf(text, sizeof text, "step-%09lld", static_cast<long long>(step));
  return text;
}

int64_t checkpoint_step(const std::string& folder_name) {
  const std::string digits = folder_name.starts_with("step-") ? folder_name.substr(5) : "";
  if (digits.empty() || digits.size() > 18 || digits.find_first_not_of("0123456789") != std::string::npos) return -1;
  const int64_t step = std::stoll(digits);
  return checkpoint_name(step) == folder_name ? step : -1;
}

std::string partial_folder(const std::string& checkpoints, int64_t step) { return hidden(checkpoints, step, kPartial); }

std::vector<std::string> list_checkpoints(Fs& fs, const std::string& checkpoints) {
  std::map<int64_t, std::string> by_step;
  if (!fs.is_folder(checkpoints)) return {};
  for (const std::string& name : fs.list(checkpoints)) {
    const std::string path = path_in(checkpoints, name);
    if (!fs.exists(path_in(path, "manifest.json"))) continue;
    const int64_t step = checkpoint_step(name);
    const int64_t replaced = hidden_step(name, kReplaced);
    if (step >= 0) by_step[step] = path;                // takes the place of its .replaced
    if (replaced >= 0) by_step.emplace(replaced, path); // stands only where there is no step-N
  }
  std::vector<std::string> paths;
  for (const auto& [step, path] : by_step) paths.push_back(path);
  return paths;
}

std::string latest_checkpoint(Fs& fs, const std::string& checkpoints) {
  const std::vector<std::string> all = list_checkpoints(fs, checkpoints);
  return all.empty() ? "" : all.back();
}

std::string find_checkpoint(Fs& fs, const std::string& path) {
  if (fs.exists(path_in(path, "manifest.json"))) return path;
  for (const std::string& folder : {path_in(path, "checkpoints"), path}) {
    const std::string latest = latest_checkpoint(fs, folder);
    if (!latest.empty()) return latest;
  }
  Error error(path, "holds no checkpoint", "name a run's folder (runs/NAME) or a folder step-NNNNNNNNN");
  error.exit_code = 4;
  throw error;
}

void remove_leftovers(Fs& fs, const std::string& checkpoints) {
  for (const std::string& name : fs.list(checkpoints)) {
    const std::string path = path_in(checkpoints, name);
    const int64_t replaced = hidden_step(name, kReplaced);
    const std::string whole = replaced >= 0 ? path_in(checkpoints, checkpoint_name(replaced)) : "";
    if (hidden_step(name, kPartial) >= 0 || hidden_step(name, kRemoved) >= 0) {
      fs.remove(path);
    } else if (replaced >= 0 && fs.exists(whole)) {
      fs.remove(path);
    } else if (replaced >= 0) {
      fs.rename(path, whole);
    }
  }
  fs.sync_folder(checkpoints);
}

void publish_checkpoint(Fs& fs, const std::string& checkpoints, int64_t step) {
  const std::string partial = partial_folder(checkpoints, step);
  const std::string whole = path_in(checkpoints, checkpoint_name(step));
  const std::string replaced = hidden(checkpoints, step, kReplaced);
  fs.sync_folder(partial);
  if (!fs.exists(whole)) {
    fs.rename(partial, whole);
    fs.sync_folder(checkpoints);
    return;
  }
  fs.remove(replaced);
  fs.rename(whole, replaced);
  fs.rename(partial, whole); // if this fails, .replaced stands for step-N, and the next start renames it back
  fs.sync_folder(checkpoints);
  fs.remove(replaced);
}

void keep_newest(Fs& fs, const std::string& checkpoints, int64_t keep, int64_t step) {
  std::vector<std::string> all = list_checkpoints(fs, checkpoints);
  if (keep <= 0 || static_cast<int64_t>(all.size()) <= keep) return;
  all.resize(all.size() - static_cast<size_t>(keep));
  std::vector<std::string> removed;
  for (const std::string& path : all) {
    const int64_t old_step = checkpoint_step(path.substr(path.rfind('/') + 1));
    if (old_step < 0 || old_step == step) continue;
    removed.push_back(hidden(checkpoints, old_step, kRemoved));
    fs.remove(removed.back());
    fs.rename(path, removed.back());
  }
  fs.sync_folder(checkpoints);
  for (const std::string& path : removed) fs.remove(path);
}

} // namespace kumiki
