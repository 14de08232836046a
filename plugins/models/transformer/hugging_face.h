// What models in this folder share of the Hugging Face form: keys of config.json that may be left out, and the frames of
// km_model::describe and from_config. In: the model, or the text of config.json. Out: rows
// and config.json, or the lines of a [model] table.
#pragma once

#include <cstring>
#include <string>

#include "kumiki/model.h"
#include "nlohmann/json.hpp"
#include "plugins/models/transformer/builder.h"

namespace kumiki::models {

using Json = nlohmann::ordered_json;

// transformers leaves out keys that have their usual value; null means the same.
template <typename T>
T or_usual(const Json& config, const char* key, T usual) {
  const auto found = config.find(key);
  return found == config.end() || found->is_null() ? usual : found->get<T>();
}

// `name = value` in TOML; numbers, booleans and plain strings are written alike in both.
inline std::string toml_line(const char* name, const Json& value) {
  return std::string(name) + " = " + value.dump() + "\n";
}

// km_model::describe: say_rows(model, text) tells the rows, config_of(model, shape) is config.json. Model has host.
template <typename Model, typename SayRows, typename ConfigOf>
km_status describe_model(const Model& model, const km_model_shape& shape, const km_model_text& text, SayRows say_rows,
                         ConfigOf config_of) {
  return guarded(model.host, [&]() -> km_status {
    say_rows(model, text);
    text.config(text.sink, config_of(model, shape).dump(2).c_str());
    return KM_OK;
  });
}

// km_model::from_config for one model_type. refused(config) names what the model cannot do, as config.json calls it (empty:
// nothing); to_toml(config) gives the lines.
template <typename Refused, typename ToToml>
km_status read_config(const km_host* host, const char* json, const char* model_type, Refused refused, ToToml to_toml,
                      char* toml, uint64_t capacity) {
  return guarded(host, [&]() -> km_status {
    std::string lines;
    try {
      const Json config = Json::parse(json);
      const auto type = or_usual<std::string>(config, "model_type", "");
      if (type != model_type)
        return host->fail(host, KM_UNSUPPORTED, "config.json: model_type is \"%s\", not \"%s\"", type.c_str(),
                          model_type);
      if (const std::string what = refused(config); !what.empty())
        return host->fail(host, KM_ERROR_USER, "config.json: %s is not supported for %s: choose a model without it",
                          what.c_str(), model_type);
      lines = to_toml(config);
    } catch (const Json::exception& error) {
      return host->fail(host, KM_ERROR_USER, "config.json: %s: check that the file is whole", error.what());
    }
    if (lines.size() + 1 > capacity)
      return host->fail(host, KM_ERROR_HOST, "the [model] table needs %zu bytes, %zu were given", lines.size() + 1,
                        static_cast<size_t>(capacity));
    std::memcpy(toml, lines.c_str(), lines.size() + 1);
    return KM_OK;
  });
}

} // namespace kumiki::models
