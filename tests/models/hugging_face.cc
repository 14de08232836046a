#include "tests/models/hugging_face.h"

#include <cstring>
#include <fstream>
#include <sstream>
#include <stdexcept>

namespace kumiki::test {
namespace {

void add_row(void* sink, const km_model_row* row) {
  static_cast<Description*>(sink)->rows.push_back({row->ours, row->theirs, row->how, row->part, row->parts, row->dim});
}
void add_config(void* sink, const char* json) { static_cast<Description*>(sink)->config += json; }

Tensor part_of(const Tensor& whole, int32_t part, int32_t parts, int32_t dim) {
  Tensor out = whole;
  const auto axis = static_cast<size_t>(dim);
  out.shape.at(axis) /= parts;
  int64_t inner = 1, outer = 1;
  for (size_t i = 0; i < whole.shape.size(); ++i) (i < axis ? outer : inner) *= whole.shape[i];
  const int64_t length = inner / parts;
  out.elements.clear();
  for (int64_t i = 0; i < outer; ++i) {
    const auto begin = whole.elements.begin() + i * inner + part * length;
    out.elements.insert(out.elements.end(), begin, begin + length);
  }
  return out;
}

Tensor transposed(const Tensor& in) {
  const int64_t rows = in.shape.at(0), columns = in.shape.at(1);
  Tensor out = {{columns, rows}, std::vector<float>(in.elements.size())};
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t j = 0; j < columns; ++j)
      out.elements[static_cast<size_t>(j * rows + i)] = in.elements[static_cast<size_t>(i * columns + j)];
  return out;
}

} // namespace

std::string read_text(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw std::runtime_error("cannot open " + path);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

Tensors read_safetensors(const std::string& path) {
  const std::string bytes = read_text(path);
  uint64_t length = 0;
  std::memcpy(&length, bytes.data(), sizeof length);
  Tensors out;
  const auto header = nlohmann::json::parse(bytes.substr(sizeof length, length));
  for (const auto& [name, entry] : header.items()) {
    if (name == "__metadata__") continue;
    const auto offsets = entry.at("data_offsets").get<std::vector<uint64_t>>();
    Tensor& tensor = out[name];
    tensor.shape = entry.at("shape").get<std::vector<int64_t>>();
    tensor.elements.resize((offsets.at(1) - offsets.at(0)) / sizeof(float));
    const char* data = bytes.data() + sizeof length + length + offsets.at(0);
    std::memcpy(tensor.elements.data(), data, offsets.at(1) - offsets.at(0));
  }
  return out;
}

std::map<std::string, std::string> options_from_config(const Component& any_instance, const std::string& json) {
  char toml[4096];
  const auto& table = any_instance.table<km_model>();
  if (table.from_config(Component::host(), json.c_str(), toml, sizeof toml) != KM_OK)
    throw std::runtime_error(Component::take_error());
  std::map<std::string, std::string> out;
  std::istringstream lines(toml);
  for (std::string line; std::getline(lines, line);) {
    const size_t equals = line.find(" = ");
    if (line.rfind("#", 0) == 0 || equals == std::string::npos || line.substr(0, equals) == "use") continue;
    out[line.substr(0, equals)] = line.substr(equals + 3);
  }
  return out;
}

Description describe(const Component& model, const ModelShape& shape) {
  Description out;
  const km_model_text text = {sizeof text, 0, add_row, add_config, &out};
  const km_model_shape abi = abi_shape(KM_MODE_TRAIN, shape);
  if (model.table<km_model>().describe(model.self(), &abi, &text) != KM_OK)
    throw std::runtime_error(Component::take_error());
  return out;
}

Tensors to_ours(const Description& description, const Tensors& theirs) {
  Tensors out;
  for (const Description::Row& row : description.rows) {
    Tensor tensor = part_of(theirs.at(row.theirs), row.part, row.parts, row.dim);
    out[row.ours] = row.how == KM_MAP_TRANSPOSE ? transposed(tensor) : tensor;
  }
  return out;
}

} // namespace kumiki::test
