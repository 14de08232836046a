// Names, transposes and joined parts between our parameters and a Hugging Face folder.
#include <catch2/catch.hpp>

#include <bit>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "core/base/error.h"
#include "core/checkpoint/huggingface.h"
#include "tests/checkpoint/memory_fs.h"
#include "tests/checkpoint/samples.h"

namespace kumiki {
namespace {

// GPT-2's table for one layer: Conv1D weights are [in, out], query, key and value side by side. The key heads are fewer
// here, so that the parts are not equal.
constexpr int64_t kWidth = 6, kKeyWidth = 4, kVocabulary = 11;

std::vector<ModelRow> gpt_rows() {
  return {
      {"embedding.weight", "transformer.wte.weight"},
      {"layers.0.query.weight", "transformer.h.0.attn.c_attn.weight", true, 0, 3, 1},
      {"layers.0.key.weight", "transformer.h.0.attn.c_attn.weight", true, 1, 3, 1},
      {"layers.0.value.weight", "transformer.h.0.attn.c_attn.weight", true, 2, 3, 1},
      {"layers.0.query.bias", "transformer.h.0.attn.c_attn.bias", false, 0, 3, 0},
      {"layers.0.key.bias", "transformer.h.0.attn.c_attn.bias", false, 1, 3, 0},
      {"layers.0.value.bias", "transformer.h.0.attn.c_attn.bias", false, 2, 3, 0},
      {"layers.0.up.weight", "transformer.h.0.mlp.c_fc.weight", true},
  };
}

std::vector<StoredTensor> gpt_parameters() {
  return {
      {"embedding.weight", KM_F32, {kVocabulary, kWidth}},
      {"layers.0.query.weight", KM_F32, {kWidth, kWidth}},
      {"layers.0.key.weight", KM_F32, {kKeyWidth, kWidth}},
      {"layers.0.value.weight", KM_F32, {kKeyWidth, kWidth}},
      {"layers.0.query.bias", KM_F32, {kWidth}},
      {"layers.0.key.bias", KM_F32, {kKeyWidth}},
      {"layers.0.value.bias", KM_F32, {kKeyWidth}},
      {"layers.0.up.weight", KM_F32, {70, kWidth}},
  };
}

Samples gpt_samples() {
  std::mt19937 random(5);
  Samples samples;
  for (const StoredTensor& tensor : gpt_parameters()) {
    Sample sample{tensor.name, tensor.dtype, tensor.shape, {}};
    std::vector<float> values(static_cast<size_t>(checked_elements(tensor.shape)));
    for (float& value : values) value = std::normal_distribution<float>()(random);
    sample.bytes.resize(values.size() * 4);
    std::memcpy(sample.bytes.data(), values.data(), sample.bytes.size());
    samples.push_back(sample);
  }
  return samples;
}

std::string save(MemoryFs& fs, const std::string& folder, const std::vector<Slice>& slices) {
  ManualClock clock;
  WriterOptions options;
  options.folder = folder;
  CheckpointWriter writer(fs, clock, options);
  writer.save(make_state(0), slices);
  writer.wait();
  return latest_checkpoint(fs, folder);
}

ExportOptions to_folder(const std::string& out) {
  ExportOptions options;
  options.out = out;
  options.config_json = R"({"model_type": "gpt2", "n_embd": 6})";
  return options;
}

std::vector<float> floats_of(const std::string& file, const std::string& name) {
  const SafetensorsHeader header = parse_safetensors("model.safetensors", file.data(), file.size());
  const SafetensorsEntry* entry = header.find(name);
  REQUIRE(entry);
  std::vector<float> values(static_cast<size_t>(checked_elements(entry->shape)));
  to_floats(entry->dtype, file.data() + header.data_begin + entry->begin, static_cast<int64_t>(values.size()),
            values.data());
  return values;
}

// A folder with tensors as Hugging Face has them.
void write_folder(MemoryFs& fs, const std::string& folder, std::vector<SafetensorsEntry> entries) {
  fs.make_folders(folder);
  const std::string header = make_safetensors_header(entries, {});
  write_file(fs, folder + "/model.safetensors", header + std::string(entries.empty() ? 0 : entries.back().end, '\0'));
}

SafetensorsEntry entry_of(const std::string& name, const Shape& shape, uint32_t dtype = KM_F32) {
  SafetensorsEntry entry;
  entry.name = name;
  entry.shape = shape;
  entry.dtype = dtype;
  return entry;
}

} // namespace

TEST_CASE("exported and imported again, a GPT-like model is the same bits") {
  for (uint64_t shard_bytes : {uint64_t{1} << 30, uint64_t{1000}}) {
    MemoryFs fs;
    const Samples samples = gpt_samples();
    Samples with_state = samples;
    with_state.push_back(make_sample("embedding.weight/momentum", KM_F32, {kVocabulary, kWidth}, 3));
    const CheckpointReader saved(fs, save(fs, "one", whole_slices(with_state)));
    write_file(fs, "tokenizer.json", "{\"tokens\": 1}");
    ExportOptions options = to_folder("hf");
    options.shard_bytes = shard_bytes;
    options.tokenizer_files = {"tokenizer.json"};
    CHECK(export_hugging_face(fs, saved, gpt_rows(), options) == 4);
    CHECK(fs.read("hf/tokenizer.json") == "{\"tokens\": 1}");
    CHECK_FALSE(fs.exists("hf.partial"));
    CHECK(fs.exists("hf/model.safetensors.index.json") == (shard_bytes == 1000));
    const HuggingFaceReader reader(fs, "hf", gpt_rows(), gpt_parameters());
    CHECK(reader.passed_over().empty());
    const CheckpointReader back(fs, save(fs, "two", reader.slices()));
    CHECK(holds(back, samples));
    CHECK_THROWS_WITH(export_hugging_face(fs, saved, gpt_rows(), options), Catch::Contains("is not empty"));
  }
}

TEST_CASE("joined and turned tensors lie where transformers looks for them") {
  MemoryFs fs;
  const Samples samples = gpt_samples();
  const CheckpointReader saved(fs, save(fs, "one", whole_slices(samples)));
  export_hugging_face(fs, saved, gpt_rows(), to_folder("hf"));
  const auto config = nlohmann::json::parse(read_hugging_face_config(fs, "hf"));
  CHECK(config["model_type"] == "gpt2");
  CHECK(config["torch_dtype"] == "float32");
  const std::vector<float> joined = floats_of(fs.read("hf/model.safetensors"), "transformer.h.0.attn.c_attn.weight");
  const int64_t columns = kWidth + 2 * kKeyWidth;
  REQUIRE(joined.size() == static_cast<size_t>(kWidth * columns));
  const auto ours = [&](size_t sample, int64_t row, int64_t column) {
    float value;
    std::memcpy(&value, samples[sample].bytes.data() + (row * kWidth + column) * 4, 4);
    return value;
  };
  for (int64_t in = 0; in < kWidth; ++in) {
    for (int64_t out = 0; out < columns; ++out) {
      const float expected = out < kWidth               ? ours(1, out, in)
                             : out < kWidth + kKeyWidth ? ours(2, out - kWidth, in)
                                                        : ours(3, out - kWidth - kKeyWidth, in);
      CHECK(joined[static_cast<size_t>(in * columns + out)] == expected);
    }
  }
}

TEST_CASE("as bf16 each value is the nearest one, ties to even") {
  MemoryFs fs;
  const Samples samples = gpt_samples();
  const CheckpointReader saved(fs, save(fs, "one", whole_slices(samples)));
  ExportOptions options = to_folder("hf");
  options.dtype = KM_BF16;
  export_hugging_face(fs, saved, gpt_rows(), options);
  CHECK(nlohmann::json::parse(read_hugging_face_config(fs, "hf"))["torch_dtype"] == "bfloat16");
  const std::vector<float> values = floats_of(fs.read("hf/model.safetensors"), "transformer.wte.weight");
  for (size_t i = 0; i < values.size(); ++i) {
    float exact;
    std::memcpy(&exact, samples[0].bytes.data() + i * 4, 4);
    CHECK(std::abs(values[i] - exact) <= std::abs(exact) / 256);
  }
  const std::pair<uint32_t, uint16_t> cases[] = {
      {0x3f800000, 0x3f80}, {0x3f808000, 0x3f80}, {0x3f818000, 0x3f82}, {0x3f808001, 0x3f81}, {0x7f7fffff, 0x7f80},
      {0x7f800000, 0x7f80}, {0xff800000, 0xff80}, {0x80000000, 0x8000}, {0x00000001, 0x0000}, {0x7f800001, 0x7fc0},
  };
  for (const auto& [bits, expected] : cases) {
    const float value = std::bit_cast<float>(bits);
    uint16_t rounded;
    from_floats(KM_BF16, &value, 1, &rounded);
    CHECK(rounded == expected);
  }
}

TEST_CASE("halves and bf16 are read exactly") {
  for (uint32_t bits = 0; bits < 65536; ++bits) {
    const uint16_t half = static_cast<uint16_t>(bits);
    float value;
    to_floats(KM_F16, &half, 1, &value);
    const int exponent = half >> 10 & 31, fraction = half & 1023;
    double expected = exponent == 0 ? std::ldexp(fraction, -24) : std::ldexp(1024 + fraction, exponent - 25);
    if (half & 0x8000) expected = -expected;
    if (exponent == 31) {
      const bool good = fraction ? std::isnan(value) : std::isinf(value) && std::signbit(value) == (half >> 15);
      if (!good) FAIL("half " << bits);
    } else if (static_cast<double>(value) != expected || std::signbit(value) != (half >> 15)) {
      FAIL("half " << bits << " is read as " << value);
    }
    to_floats(KM_BF16, &half, 1, &value);
    if (std::bit_cast<uint32_t>(value) != bits << 16) FAIL("bf16 " << bits);
  }
}

TEST_CASE("a folder that does not fit the model is refused, and each tensor that is wrong is named") {
  MemoryFs fs;
  write_folder(fs, "hf",
               {entry_of("transformer.wte.weight", {kVocabulary + 1, kWidth}),
                entry_of("transformer.h.0.attn.c_attn.weight", {kWidth, kWidth + 2 * kKeyWidth}, KM_I32),
                entry_of("transformer.h.0.attn.c_attn.bias", {kWidth + 2 * kKeyWidth}),
                entry_of("transformer.h.1.ln_1.weight", {kWidth})});
  try {
    const HuggingFaceReader reader(fs, "hf", gpt_rows(), gpt_parameters());
    FAIL("it does not fit");
  } catch (const Error& error) {
    const std::string text = error.what();
    CHECK(error.exit_code == 4);
    for (const char* part :
         {"missing: transformer.h.0.mlp.c_fc.weight [6,70]", "transformer.wte.weight (F32[12,6], the model has [11,6])",
          "transformer.h.0.attn.c_attn.weight (I32[6,14]", "unknown to the model: transformer.h.1.ln_1.weight"}) {
      INFO(part);
      CHECK(text.find(part) != std::string::npos);
    }
    CHECK(text.find("c_attn.bias") == std::string::npos);
  }
}

TEST_CASE("names without the first component, old buffers and a stored tied head are taken") {
  MemoryFs fs;
  write_folder(fs, "hf",
               {entry_of("wte.weight", {kVocabulary, kWidth}), entry_of("h.0.attn.c_attn.weight", {kWidth, 14}),
                entry_of("h.0.attn.c_attn.bias", {14}), entry_of("h.0.mlp.c_fc.weight", {kWidth, 70}),
                entry_of("h.0.attn.bias", {1, 1, 4, 4}), entry_of("lm_head.weight", {kVocabulary, kWidth})});
  const HuggingFaceReader reader(fs, "hf", gpt_rows(), gpt_parameters());
  CHECK(reader.passed_over() == std::vector<std::string>{"h.0.attn.bias", "lm_head.weight"});
  CHECK(reader.slices().size() == gpt_rows().size());
}

TEST_CASE("tables that are wrong are refused") {
  std::vector<ModelRow> rows = gpt_rows();
  rows.erase(rows.begin() + 2);
  CHECK_THROWS_WITH(group_rows(rows),
                    Catch::Contains("transformer.h.0.attn.c_attn.weight") && Catch::Contains("parts"));
  rows = gpt_rows();
  rows.push_back(rows[0]);
  CHECK_THROWS_WITH(group_rows(rows), Catch::Contains("two rows"));
  MemoryFs fs;
  const Samples samples = gpt_samples();
  const CheckpointReader saved(fs, save(fs, "one", whole_slices(samples)));
  rows = gpt_rows();
  rows.pop_back();
  CHECK_THROWS_WITH(export_hugging_face(fs, saved, rows, to_folder("hf")),
                    Catch::Contains("layers.0.up.weight has no place"));
  rows = gpt_rows();
  rows.push_back({"norm.weight", "transformer.ln_f.weight"});
  CHECK_THROWS_WITH(export_hugging_face(fs, saved, rows, to_folder("hf")),
                    Catch::Contains("norm.weight is not in the checkpoint"));
  CHECK_FALSE(fs.exists("hf"));
}

TEST_CASE("folders without tensors or configuration say what to do") {
  MemoryFs fs;
  fs.make_folders("hf");
  CHECK_THROWS_WITH(read_hugging_face_config(fs, "hf"), Catch::Contains("holds no config.json"));
  CHECK_THROWS_WITH(HuggingFaceReader(fs, "hf", gpt_rows(), gpt_parameters()),
                    Catch::Contains("holds no model.safetensors"));
  write_file(fs, "hf/pytorch_model.bin", "x");
  CHECK_THROWS_WITH(HuggingFaceReader(fs, "hf", gpt_rows(), gpt_parameters()), Catch::Contains("safe_serialization"));
  write_file(fs, "hf/model.safetensors.index.json", R"({"weight_map": {"a": "../../etc/passwd"}})");
  CHECK_THROWS_WITH(HuggingFaceReader(fs, "hf", gpt_rows(), gpt_parameters()),
                    Catch::Contains("leads out of the folder"));
}

} // namespace kumiki
