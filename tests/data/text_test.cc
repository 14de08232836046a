// The component `text`: files, gzip, SentencePiece, documents, the cache, and what it says of bad input.
#include <sys/stat.h>
#include <zlib.h>

#include <catch2/catch.hpp>
#include <filesystem>

#include "tests/data/data_set.h"

namespace kumiki::test {
namespace {

const std::string kModel = "tests/data/golden/tiny.model";

std::string gzip(const std::string& text) {
  const TemporaryFolder folder;
  const std::string path = folder.path() + "/packed";
  const gzFile file = gzopen(path.c_str(), "wb");
  gzwrite(file, text.data(), static_cast<unsigned>(text.size()));
  gzclose(file);
  return read_file(path);
}

// All tokens of a corpus, in order.
std::vector<int32_t> all_tokens(std::map<std::string, std::string> options) {
  options["split"] = "1";
  options["shuffle"] = "false";
  DataSet data("text", options, {.sequence = 1});
  INFO(data.error());
  REQUIRE(data.status() == KM_OK);
  std::vector<int32_t> tokens;
  for (const Sample& sample : data.read(0, data.info().samples)) tokens.push_back(sample.tokens[0]);
  tokens.push_back(data.sample(data.info().samples - 1).targets[0]);
  return tokens;
}

std::string as_text(const std::vector<int32_t>& tokens) { return {tokens.begin(), tokens.end()}; }

std::vector<int32_t> encode(const DataSet& data, const std::string& text) {
  std::vector<int32_t> tokens(1000);
  uint64_t count = 0;
  REQUIRE(data.tokenizer()->encode(data.self(), text.data(), text.size(), tokens.data(), tokens.size(), &count) ==
          KM_OK);
  tokens.resize(count);
  return tokens;
}

std::string decode(const DataSet& data, const std::vector<int32_t>& tokens) {
  std::string text(1000, '\0');
  uint64_t bytes = 0;
  REQUIRE(data.tokenizer()->decode(data.self(), tokens.data(), tokens.size(), text.data(), text.size(), &bytes) ==
          KM_OK);
  text.resize(bytes);
  return text;
}

std::string open_error(std::map<std::string, std::string> options, Run run = {}) {
  DataSet data("text", options, run);
  CHECK(data.status() == KM_ERROR_USER);
  return data.error();
}

} // namespace

TEST_CASE("a folder is read with all below it, in the order of paths, packed files too, hidden ones not") {
  const TemporaryFolder folder;
  folder.write("c.txt", "three");
  folder.write("a/z.txt", "one ");
  folder.write("b.txt.gz", gzip("日本語 ") + gzip("two "));
  folder.write(".hidden", "no");
  folder.write("a/.git/x", "no");
  folder.write("empty.txt", "");
  CHECK(as_text(all_tokens({{"path", folder.path()}})) == "one 日本語 two three");
}

TEST_CASE("a SentencePiece model tokenizes as spm_encode does, with an end-of-document token after each file") {
  const TemporaryFolder folder;
  folder.write("a.txt", "the lazy fox");
  folder.write("b.txt", "吾輩は犬である。");
  // The numbers are what tests/oracle/data_sentencepiece.sh printed.
  const std::vector<int32_t> expected = {262, 289, 292, 283, 312, 279, 2,   289, 347, 359,
                                         307, 234, 141, 175, 303, 332, 320, 302, 2};
  CHECK(all_tokens({{"path", folder.path()}, {"tokenizer", kModel}}) == expected);
}

TEST_CASE("the tokenizer ability gives the text back") {
  const TemporaryFolder folder;
  const std::string path = folder.write("a.txt", "the quick brown fox");
  const std::string model = GENERATE(std::string(), kModel);
  DataSet data("text", {{"path", path}, {"tokenizer", model}});
  REQUIRE(data.tokenizer());
  CHECK(data.info().vocabulary == (model.empty() ? 256 : 360));
  CHECK(data.tokenizer()->end_of_document(data.self()) == (model.empty() ? -1 : 2));
  for (const std::string text : {"a small 猫 🐈", "", "x"}) {
    const std::vector<int32_t> tokens = encode(data, text);
    CHECK(decode(data, tokens) == text);
    uint64_t bytes = 0;
    for (const int32_t token : tokens) bytes += data.tokenizer()->token_bytes(data.self(), token);
    CHECK(bytes == text.size() + (model.empty() || text.empty() ? 0 : 1)); // SentencePiece puts a space before a text
  }
  CHECK(data.tokenizer()->token_bytes(data.self(), 2) == (model.empty() ? 1u : 0u));
  CHECK(data.tokenizer()->token_bytes(data.self(), 100000) == 0);
}

TEST_CASE("encode and decode say how much there is when the room is too small, and refuse what is not text or token") {
  const TemporaryFolder folder;
  DataSet data("text", {{"path", folder.write("a.txt", "hello world")}});
  int32_t tokens[2] = {};
  uint64_t count = 0;
  CHECK(data.tokenizer()->encode(data.self(), "abc", 3, tokens, 2, &count) == KM_OK);
  CHECK(count == 3);
  CHECK(tokens[1] == 'b');
  CHECK(data.tokenizer()->encode(data.self(), "a\xff", 2, tokens, 2, &count) == KM_ERROR_USER);
  const int32_t wrong = 256;
  char text[4];
  CHECK(data.tokenizer()->decode(data.self(), &wrong, 1, text, 4, &count) == KM_ERROR_USER);
  CHECK(ComponentHost::last_error() == "token 256 is outside of the tokenizer's vocabulary 0 to 255");
}

TEST_CASE("segments number the documents within a sample, and no target crosses a border") {
  const TemporaryFolder folder;
  folder.write("1", "aaa");
  folder.write("2", "b");
  folder.write("3", "cccc");
  DataSet data("text", {{"path", folder.path()}, {"split", "1"}, {"shuffle", "false"}, {"segments", "true"}},
               {.sequence = 7});
  REQUIRE(data.info().segments == 1);
  const Sample sample = data.sample(0);
  CHECK(sample.segments == std::vector<int32_t>{0, 0, 0, 1, 2, 2, 2});
  CHECK(sample.targets == std::vector<int32_t>{'a', 'a', -1, -1, 'c', 'c', 'c'});
}

TEST_CASE("a large file is the same tokens as its lines, however it is cut") {
  const TemporaryFolder folder;
  std::string text, line = "the quick brown fox jumps over the lazy dog\n";
  while (text.size() < (5u << 20) / 2) text += line;
  folder.write("a.txt", text);
  CHECK(as_text(all_tokens({{"path", folder.path()}})) == text);
}

TEST_CASE("the cache gives the same tokens, and is made anew when a file has changed") {
  const TemporaryFolder folder;
  const std::string path = folder.write("text/a.txt", "the quick brown fox"), cache = folder.path() + "/cache";
  const std::map<std::string, std::string> options = {
      {"path", folder.path() + "/text"}, {"tokenizer", kModel}, {"cache", cache}};
  const auto files = [&] {
    return std::distance(std::filesystem::directory_iterator(cache), std::filesystem::directory_iterator());
  };
  const std::vector<int32_t> made = all_tokens(options);
  REQUIRE(files() == 1);
  CHECK(all_tokens(options) == made);
  // A cache that is cut off is not believed.
  const std::string file = std::filesystem::directory_iterator(cache)->path();
  std::filesystem::resize_file(file, std::filesystem::file_size(file) - 1);
  CHECK(all_tokens(options) == made);
  // What the cache says is what is read: a token changed there shows.
  std::string bytes = read_file(file);
  bytes[bytes.size() - 4] = 7;
  folder.write("cache/" + std::filesystem::path(file).filename().string(), bytes);
  CHECK_FALSE(all_tokens(options) == made);
  folder.write("text/a.txt", "the slow brown fox");
  CHECK_FALSE(all_tokens(options) == made);
  CHECK(files() == 2);
}

TEST_CASE("text that is not UTF-8 is refused with its file and byte") {
  struct Case {
    std::string bytes;
    int at;
  };
  const std::vector<Case> cases = {{"plain\x80", 5},
                                   {"\xc0\x80", 0},
                                   {"ab\xe0\x80\x80", 2},
                                   {"\xed\xa0\x80", 0},
                                   {"\xf4\x90\x80\x80", 0},
                                   {"12345678\xe3\x81", 8},
                                   {"日本\xff", 6},
                                   {"\xf0\x8f\xbf\xbf", 0},
                                   {"0123456789abcdef\xf5", 16},
                                   {std::string("\xc3(", 2), 0}};
  for (const Case& c : cases) {
    const TemporaryFolder folder;
    folder.write("a_good.txt", "good");
    const std::string path = folder.write("bad.txt", c.bytes);
    const std::string error = open_error({{"path", folder.path()}});
    CHECK(error.find(path + ": is not valid UTF-8 at byte " + std::to_string(c.at) + " ") == 0);
  }
  const TemporaryFolder folder;
  const std::string extremes = "\u00e9\u07ff\u0800\ud7ff\ue000\uffff\U00010000\U0010ffff";
  CHECK(as_text(all_tokens({{"path", folder.write("good", extremes)}})) == extremes);
}

TEST_CASE("bad input is refused in words that name it") {
  const TemporaryFolder folder;
  const std::string path = folder.write("short.txt", "0123456789");
  CHECK(open_error({{"path", path}}, {.sequence = 1024}) ==
        path +
            ": the training part has 10 of 10 tokens, and one sample needs 1025 (run.sequence + 1): give more data, a "
            "shorter sequence or another `split`");
  CHECK(open_error({{"path", path}}, {.split = KM_SPLIT_VALIDATION})
            .find(path + ": the validation part has 0 of 10 tokens") == 0);
  CHECK(open_error({{"path", folder.path() + "/none"}}).find(folder.path() + "/none: cannot be read: No such file") ==
        0);
  CHECK(open_error({{"path", folder.write("empty", "")}}) == folder.path() + "/empty: there is no text in it");
  std::filesystem::create_directory(folder.path() + "/nothing");
  CHECK(open_error({{"path", folder.path() + "/nothing"}}) ==
        folder.path() + "/nothing: there is no file in this folder");
  const std::string packed = gzip(std::string(10000, 'x') + "0123456789");
  CHECK(open_error({{"path", folder.write("cut.gz", packed.substr(0, packed.size() - 6))}})
            .find("/cut.gz: is damaged after") != std::string::npos);
  CHECK(open_error({{"path", path}, {"tokenizer", path}}).find(path + ": is not a SentencePiece model") == 0);
  for (const std::string split : {"", "1,2,3,4", "-1", "a", "1;2", "0,0", "nan", "1,"})
    CHECK(open_error({{"path", path}, {"split", split}}).find("split = \"" + split + "\"") == 0);
  CHECK(open_error({{"path", path}}, {.vocabulary = 100})
            .find("the data has tokens 0 to 255, the model's vocabulary is 100") == 0);
}

} // namespace kumiki::test
