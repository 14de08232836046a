// A Hugging Face folder as a test reads it: config.json through the model's from_config, tensors through its describe.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "nlohmann/json.hpp"
#include "tests/models/component.h"
#include "tests/models/interpreter.h"

namespace kumiki::test {

struct Tensor {
  std::vector<int64_t> shape;
  std::vector<float> elements;
};
using Tensors = std::map<std::string, Tensor>;

std::string read_text(const std::string& path);
// All f32 tensors of a safetensors file.
Tensors read_safetensors(const std::string& path);

// What km_model::from_config says, as options without `use`.
std::map<std::string, std::string> options_from_config(const Component& any_instance, const std::string& json);

// What km_model::describe says.
struct Description {
  struct Row {
    std::string ours, theirs;
    uint32_t how;
    int32_t part, parts, dim;
  };
  std::vector<Row> rows;
  std::string config;
};
Description describe(const Component& model, const ModelShape& shape);

// Their tensors under our names and in our shapes.
Tensors to_ours(const Description& description, const Tensors& theirs);

} // namespace kumiki::test
