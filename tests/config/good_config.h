// A whole small configuration, the text of the error that one gives, and the place of a word in a text.
#pragma once

#include <string>
#include <vector>

#include "core/config/config.h"

namespace kumiki {

inline const char* const kGood = R"([run]
steps = 100
sequence = 16
[model]
use = "gpt"
layers = 2
[optimizer]
use = "adamw"
beta1 = 0.8
learning_rate = 1e-3
schedule = { use = "cosine", warmup = 10, minimum = 1e-5 }
[[data]]
use = "text"
path = "corpus/a.txt"
[[parallel]]
use = "tensor"
degree = 2
[[parallel]]
use = "data"
[[metrics]]
use = "console"
)";

inline Config good_config(const std::vector<std::string>& sets = {}) { return Config::parse(kGood, "good.toml", sets); }

// The message of the Error that loading gives; "no error" if there is none.
inline std::string error_of(const std::string& text, const std::vector<std::string>& sets = {}) {
  try {
    Config::parse(text, "a.toml", sets);
    return "no error";
  } catch (const Error& error) {
    return error.what();
  }
}

inline bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

} // namespace kumiki
