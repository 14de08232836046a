// The component `tokens`: llm.c and nanoGPT files, shards, names that tell the split, bad files.
#include <catch2/catch.hpp>
#include <filesystem>

#include "tests/data/data_set.h"

namespace kumiki::test {
namespace {

template <typename Number>
std::string bytes_of(const std::vector<Number>& numbers) {
  return {reinterpret_cast<const char*>(numbers.data()), numbers.size() * sizeof(Number)};
}

std::vector<int> range(int begin, int end) {
  std::vector<int> numbers;
  for (int i = begin; i < end; ++i) numbers.push_back(i);
  return numbers;
}

template <typename Token>
std::string stored(const std::vector<int>& tokens) {
  return bytes_of(std::vector<Token>(tokens.begin(), tokens.end()));
}

std::string llm_c(const std::vector<int>& tokens, int32_t magic = 20240520, int32_t version = 1) {
  std::vector<int32_t> header(256);
  header[0] = magic;
  header[1] = version;
  header[2] = static_cast<int32_t>(tokens.size());
  return bytes_of(header) + (magic == 20240801 ? stored<uint32_t>(tokens) : stored<uint16_t>(tokens));
}

std::vector<int> stream(DataSet& data) {
  INFO(data.error());
  REQUIRE(data.status() == KM_OK);
  std::vector<int> tokens;
  for (const Sample& sample : data.read(0, data.info().samples))
    tokens.insert(tokens.end(), sample.tokens.begin(), sample.tokens.end());
  INFO(data.error());
  REQUIRE(data.status() == KM_OK);
  tokens.push_back(data.sample(data.info().samples - 1).targets.back());
  return tokens;
}

std::map<std::string, std::string> in_order(const std::string& path) {
  return {{"path", path}, {"split", "1"}, {"shuffle", "false"}};
}

std::string open_error(const std::map<std::string, std::string>& options, Run run = {}) {
  DataSet data("tokens", options, run);
  CHECK(data.status() == KM_ERROR_USER);
  return data.error();
}

} // namespace

TEST_CASE("files of llm.c and nanoGPT give their tokens, told apart by the magic number") {
  const TemporaryFolder folder;
  const std::vector<int> tokens = {0, 1, 50256, 40000, 7, 8, 9};
  DataSet gpt2("tokens", in_order(folder.write("gpt2.bin", llm_c(tokens))), {.sequence = 2});
  CHECK(stream(gpt2) == tokens);
  CHECK(gpt2.info().vocabulary == 50257);
  const std::vector<int> large = {128000, 70000, 5, 6, 7};
  DataSet llama("tokens", in_order(folder.write("llama.bin", llm_c(large, 20240801, 7))), {.sequence = 1});
  CHECK(stream(llama) == large);
  CHECK(llama.info().vocabulary == 128256);
  DataSet nano("tokens", in_order(folder.write("nano.bin", stored<uint16_t>(tokens))),
               {.sequence = 3, .vocabulary = 50304});
  CHECK(stream(nano) == tokens);
  CHECK(nano.info().vocabulary == 50304);
  CHECK(nano.tokenizer() == nullptr);
}

TEST_CASE("shards are one stream in the order of their names, and samples go over their borders") {
  const TemporaryFolder folder;
  folder.write("part_1.bin", llm_c(range(0, 5)));
  folder.write("part_2.bin", llm_c({5}));
  folder.write("part_3.bin", llm_c({}));
  folder.write("part_4.bin", llm_c(range(6, 21)));
  folder.write("readme.txt", "not tokens");
  const std::string path = GENERATE("", "/part_*.bin");
  DataSet data("tokens", in_order(folder.path() + path), {.sequence = 4});
  CHECK(stream(data) == range(0, 21));
}

TEST_CASE("where files are named train and val, the names are the split") {
  const TemporaryFolder folder;
  folder.write("x_train_000.bin", llm_c(range(0, 9)));
  folder.write("x_train_001.bin", llm_c(range(9, 17)));
  folder.write("x_val_000.bin", llm_c(range(100, 109)));
  auto options = in_order(folder.path());
  DataSet train("tokens", options, {.sequence = 4}),
      validation("tokens", options, {.split = KM_SPLIT_VALIDATION, .sequence = 4});
  CHECK(stream(train) == range(0, 17));
  CHECK(stream(validation) == range(100, 109));
  CHECK(open_error(options, {.split = KM_SPLIT_TEST}) ==
        folder.path() + ": no file has \"test\" in its name, for the test part");
}

TEST_CASE("a token that the vocabulary does not have is an error that names file and place") {
  const TemporaryFolder folder;
  const std::string path = folder.write("a.bin", llm_c({1, 2, 3, 50257, 5}));
  DataSet data("tokens", in_order(path), {.sequence = 4});
  data.read(0, 1);
  CHECK(data.status() == KM_ERROR_USER);
  CHECK(data.error() == path +
                            ": token number 3 is outside of the vocabulary 0 to 50256: the file was made with another "
                            "tokenizer, or the option `vocabulary` is too small");
}

TEST_CASE("bad token files are refused in words that name them") {
  const TemporaryFolder folder;
  const std::string whole = llm_c(range(0, 50));
  const auto error_of = [&](const std::string& bytes, const std::string& format = "auto") {
    const std::string path = folder.write("bad.bin", bytes);
    const std::string error = open_error({{"path", path}, {"format", format}, {"vocabulary", "60000"}});
    REQUIRE(error.find(path + ": ") == 0);
    return error.substr(path.size() + 2);
  };
  CHECK(error_of(whole.substr(0, whole.size() - 2)) ==
        "its header says 50 tokens, that is 1124 bytes, but it has 1122: it is cut off or damaged");
  CHECK(error_of(whole.substr(0, 100)) == "is cut off: 100 bytes, the header alone has 1024");
  CHECK(error_of(llm_c(range(0, 50), 20240520, 3)).find("is version 3 of its format, only 1 is known") == 0);
  CHECK(error_of("0123456789", "llmc").find("does not begin with the magic number of llm.c") == 0);
  CHECK(error_of("012345678").find("has 9 bytes, no whole number of 2-byte tokens") == 0);
  CHECK(error_of("") ==
        "the training part has 0 of 0 tokens, and one sample needs 5 (run.sequence + 1): give more data, a "
        "shorter sequence or another `split`");
  const std::string nano = folder.write("nano.bin", stored<uint16_t>(range(0, 50)));
  CHECK(open_error({{"path", nano}}).find("the format does not say how large the vocabulary is") != std::string::npos);
  CHECK(open_error({{"path", folder.path() + "/none.bin"}}) ==
        folder.path() + "/none.bin: cannot be opened: No such file or directory");
  CHECK(open_error({{"path", folder.path() + "/x*.bin"}}) == folder.path() + "/x*.bin: no file matches");
  std::filesystem::create_directory(folder.path() + "/nothing");
  CHECK(open_error({{"path", folder.path() + "/nothing"}}) ==
        folder.path() + "/nothing: there is no file *.bin in this folder");
  folder.write("mixed/1.bin", llm_c(range(0, 9)));
  folder.write("mixed/2.bin", stored<uint16_t>(range(0, 9)));
  CHECK(open_error({{"path", folder.path() + "/mixed"}}).find("are of different formats") != std::string::npos);
}

} // namespace kumiki::test
